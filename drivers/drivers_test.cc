// Drivers without devices: offloads, specs, netdev verdicts, the memory link, fan-in/out, impairment. Devices: drivers_port_test.cc (root).
#include <gtest/gtest.h>
#include <rte_ip.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "dataplane/base/rng.h"
#include "dataplane/packet/checksum.h"
#include "drivers/fan_port.h"
#include "drivers/impair_port.h"
#include "drivers/memory_port.h"
#include "drivers/netdev.h"
#include "drivers/offload.h"
#include "drivers/port_spec.h"

namespace sluice::drivers {
namespace {

using Data = std::vector<uint8_t>;
constexpr uint32_t kMbufs = 4096;

class DriversTest : public testing::Test {
 protected:
  static MbufPool make_pool(const char* name) {
    auto pool = MbufPool::create(name, kMbufs, 1024, SOCKET_ID_ANY);
    EXPECT_TRUE(pool.has_value()) << pool.error();
    return std::move(*pool);
  }
  void TearDown() override {
    EXPECT_EQ(a.available(), kMbufs);
    EXPECT_EQ(b.available(), kMbufs);
  }
  // A chain of `segments` mbufs with the bytes of `data`.
  rte_mbuf* chain(const Data& data, unsigned segments, MbufPool& pool) {
    if (data.size() <= 60) segments = 1;
    rte_mbuf* head = nullptr;
    for (unsigned i = 0; i < segments; i++) {
      // The headers stay in the first segment.
      const size_t rest = data.size() > 60 ? data.size() - 60 : 0;
      const size_t from = i == 0 ? 0 : 60 + rest * (i - 1) / (segments - 1);
      const size_t to = segments == 1 ? data.size() : i == 0 ? 60 : 60 + rest * i / (segments - 1);
      rte_mbuf* m = pool.alloc_control();
      std::copy(data.begin() + long(from), data.begin() + long(to), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(to - from))));
      if (head == nullptr) head = m;
      else EXPECT_EQ(rte_pktmbuf_chain(head, m), 0);
    }
    return head;
  }
  static Data bytes(const rte_mbuf* m) {
    Data d;
    for (; m != nullptr; m = m->next)
      d.insert(d.end(), rte_pktmbuf_mtod(m, const uint8_t*), rte_pktmbuf_mtod(m, const uint8_t*) + m->data_len);
    return d;
  }
  // An Ethernet + IPv4 + TCP frame with random payload, checksums as l4.h demands of a sender.
  static Data tcp_frame(Rng& rng, uint32_t payload, FourTuple t = {{Ipv4{0x0a000001}, 80}, {Ipv4{0x0a000002}, 4000}}) {
    Data d(54 + payload);
    for (auto& x : d) x = uint8_t(rng.next());
    d[12] = 8, d[13] = 0, d[14] = 0x45;
    const auto put16 = [&](size_t at, uint32_t v) { d[at] = uint8_t(v >> 8), d[at + 1] = uint8_t(v); };
    put16(16, 40 + payload);
    put16(20, 0x4000);
    d[22] = 64, d[23] = 6;
    put16(24, 0);
    put16(26, t.remote.ip.v4().v >> 16), put16(28, t.remote.ip.v4().v & 0xffff);
    put16(30, t.local.ip.v4().v >> 16), put16(32, t.local.ip.v4().v & 0xffff);
    put16(34, t.remote.port), put16(36, t.local.port);
    d[46] = 0x50;
    const uint16_t sum = checksum_fold(checksum_pseudo(t.remote.ip.v4(), t.local.ip.v4(), 6, uint16_t(20 + payload)));
    std::memcpy(&d[50], &sum, 2);
    return d;
  }
  static void ask_offloads(rte_mbuf* m) {
    m->l2_len = 14, m->l3_len = 20, m->l4_len = 20;
    m->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM;
  }
  // By DPDK's own functions: both checksums hold.
  static void expect_good(const Data& d) {
    Data copy = d;
    auto* ip = reinterpret_cast<rte_ipv4_hdr*>(&copy[14]);
    EXPECT_EQ(rte_ipv4_cksum(ip), 0) << "IPv4 checksum";
    EXPECT_EQ(rte_ipv4_udptcp_cksum_verify(ip, &copy[34]), 0) << "TCP checksum";
  }

  MbufPool a = make_pool("drivers_a"), b = make_pool("drivers_b");
  static constexpr uint64_t kSeed = 42;
  Rng rng{kSeed};
};

// ---- offloads

TEST_F(DriversTest, FillsChecksumsOfChainsOfAnyShape) {
  for (uint32_t payload : {0u, 1u, 7u, 8u, 9u, 100u, 1459u, 1460u})
    for (unsigned segments : {1u, 2u, 3u, 5u, 8u}) {
      const Data frame = tcp_frame(rng, payload);
      if (segments > 1 && frame.size() < 60 + segments) continue;
      rte_mbuf* m = chain(frame, segments, a);
      ask_offloads(m);
      fill_checksums(m, RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM);
      EXPECT_EQ(m->ol_flags, uint64_t(RTE_MBUF_F_TX_IPV4));
      Data sent = bytes(m);
      expect_good(sent);
      for (size_t at : {24u, 25u, 50u, 51u}) sent[at] = frame[at];
      EXPECT_EQ(sent, frame) << "only the checksums may change";
      rte_pktmbuf_free(m);
    }
}

TEST_F(DriversTest, FillsOnlyWhatThePortDoesNotDo) {
  const Data frame = tcp_frame(rng, 10);
  rte_mbuf* m = chain(frame, 1, a);
  ask_offloads(m);
  fill_checksums(m, RTE_MBUF_F_TX_IP_CKSUM);
  EXPECT_EQ(m->ol_flags, uint64_t(RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM));
  EXPECT_EQ(bytes(m)[50], frame[50]);
  EXPECT_EQ(bytes(m)[51], frame[51]);
  rte_pktmbuf_free(m);
}

TEST_F(DriversTest, LinearisesWithFlagsAndRefusesWhatDoesNotFit) {
  const Data frame = tcp_frame(rng, 1000);
  rte_mbuf* m = chain(frame, 8, a);
  ask_offloads(m);
  rte_mbuf* flat = linearise(m, a.raw());
  ASSERT_NE(flat, nullptr);
  EXPECT_EQ(flat->nb_segs, 1);
  EXPECT_EQ(flat->data_off, kMbufHeadroom);
  EXPECT_EQ(flat->l2_len, 14);
  EXPECT_EQ(flat->ol_flags, uint64_t(RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM));
  EXPECT_EQ(bytes(flat), frame);
  rte_pktmbuf_free(flat);
  m = chain(tcp_frame(rng, 4000), 4, a);
  EXPECT_EQ(linearise(m, a.raw()), nullptr);
  EXPECT_EQ(m->nb_segs, 4);
  rte_pktmbuf_free(m);
}

TEST_F(DriversTest, CutsASegmentationFrameAsAReceiverWouldJoinIt) {
  for (uint32_t payload : {1u, 1448u, 1449u, 14000u, 32000u}) {
    Data frame = tcp_frame(rng, payload);
    frame[47] = 0x01 | 0x08 | 0x10 | 0x80;  // FIN PSH ACK CWR
    rte_mbuf* m = chain(frame, 1 + payload / 1000 + 1, a);
    ask_offloads(m);
    m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
    m->tso_segsz = 1448;
    std::array<rte_mbuf*, kCutsMax> cuts;
    const unsigned n = segment(m, a.raw(), cuts);
    ASSERT_EQ(n, (payload + 1447) / 1448);
    Data joined;
    uint32_t seq = uint32_t(frame[38]) << 24 | frame[39] << 16 | frame[40] << 8 | frame[41];
    for (unsigned i = 0; i < n; i++) {
      EXPECT_EQ(cuts[i]->nb_segs, 1);
      fill_checksums(cuts[i], RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM);
      const Data d = bytes(cuts[i]);
      expect_good(d);
      EXPECT_EQ(d.size() - 14, size_t(d[16] << 8 | d[17]));
      EXPECT_EQ(uint32_t(d[38]) << 24 | d[39] << 16 | d[40] << 8 | d[41], seq);
      EXPECT_EQ(d[47], 0x10 | (i + 1 == n ? 0x09 : 0) | (i == 0 ? 0x80 : 0));
      seq += uint32_t(d.size()) - 54;
      joined.insert(joined.end(), d.begin() + 54, d.end());
      rte_pktmbuf_free(cuts[i]);
    }
    EXPECT_EQ(joined, Data(frame.begin() + 54, frame.end()));
  }
}

TEST_F(DriversTest, DoesNotCutWhatMakesNoSense) {
  rte_mbuf* m = chain(tcp_frame(rng, 3000), 3, a);
  std::array<rte_mbuf*, kCutsMax> cuts;
  EXPECT_EQ(segment(m, a.raw(), cuts), 0u) << "no lengths";
  ask_offloads(m);
  EXPECT_EQ(segment(m, a.raw(), cuts), 0u) << "no segment size";
  m->tso_segsz = 10;
  EXPECT_EQ(segment(m, a.raw(), cuts), 0u) << "300 cuts";
  m->tso_segsz = 1448;
  m->l4_len = 200;
  EXPECT_EQ(segment(m, a.raw(), cuts), 0u) << "headers beyond the first segment";
  rte_pktmbuf_free(m);
}

TEST_F(DriversTest, ChecksumEqualsThePlainLoopAtEveryLengthAndPlace) {
  Data d(300);
  for (auto& x : d) x = uint8_t(rng.next());
  for (size_t from = 0; from < 9; from++)
    for (size_t n = 0; from + n <= d.size(); n++)
      ASSERT_EQ(checksum_fold(checksum_add(Bytes(d).subspan(from, n))), rte_raw_cksum(d.data() + from, n)) << from << " " << n;
  const Data ones(64, 0xff);
  EXPECT_EQ(checksum_fold(checksum_add(ones, ~uint64_t{0} - 5)), checksum_fold(checksum_add(ones, checksum_fold(~uint64_t{0} - 5))));
}

// ---- the memory link

MemoryEnd end(MbufPool& pool) { return {.pools = {&pool}, .mac = {{2, 0, 0, 0, 0, 1}}, .owner = OwnerHash()}; }

TEST_F(DriversTest, MemoryLinkCarriesChainsOfOneToEightSegmentsBothWays) {
  auto [left, right] = memory_link(end(a), end(b));
  for (unsigned segments = 1; segments <= 8; segments++)
    for (uint32_t payload : {100u, 700u, 1460u}) {
      for (auto [from, to, pool] : {std::tuple{left.get(), right.get(), &a}, std::tuple{right.get(), left.get(), &b}}) {
        const Data frame = tcp_frame(rng, payload);
        rte_mbuf* m = chain(frame, segments, *pool);
        ASSERT_EQ(from->tx(0, &m, 1), 1u);
        rte_mbuf* got[4];
        ASSERT_EQ(to->rx(0, got, 4), 1u);
        EXPECT_EQ(got[0]->nb_segs, 1);
        EXPECT_EQ(bytes(got[0]), frame);
        rte_pktmbuf_free(got[0]);
      }
    }
}

TEST_F(DriversTest, MemoryLinkFillsChecksumsCutsAndRefusesOversize) {
  auto [left, right] = memory_link(end(a), end(b));
  rte_mbuf* m = chain(tcp_frame(rng, 1460), 3, a);
  ask_offloads(m);
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  m = chain(tcp_frame(rng, 1461), 3, a);
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  EXPECT_EQ(left->counters(0).drops.get(Drop::kPortOversize), 1u);
  m = chain(tcp_frame(rng, 14480), 12, a);
  ask_offloads(m);
  m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
  m->tso_segsz = 1448;
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  rte_mbuf* got[64];
  const unsigned n = right->rx(0, got, 64);
  ASSERT_EQ(n, 11u);
  for (unsigned i = 0; i < n; i++) {
    expect_good(bytes(got[i]));
    rte_pktmbuf_free(got[i]);
  }
  EXPECT_EQ(left->counters(0).checksums.get(), 11u);
  EXPECT_EQ(left->counters(0).segmented.get(), 1u);
}

TEST_F(DriversTest, MemoryLinkPushesBackWhenFullAndLosesNothing) {
  auto [left, right] = memory_link(end(a), end(b), 128);
  uint32_t offered = 0, taken = 0;
  for (; offered < 300; offered++) {
    Data frame = tcp_frame(rng, 4);
    std::memcpy(&frame[54], &offered, 4);
    rte_mbuf* m = chain(frame, 1, a);
    if (left->tx(0, &m, 1) == 0) {
      rte_pktmbuf_free(m);
      break;
    }
    taken++;
  }
  EXPECT_GE(taken, 128u);
  EXPECT_LT(taken, 300u);
  EXPECT_EQ(left->counters(0).tx_refused.get(), 1u);
  uint32_t seen = 0;
  rte_mbuf* got[kRxBurst];
  for (int i = 0; i < 10; i++) {
    const unsigned n = right->rx(0, got, kRxBurst);
    for (unsigned k = 0; k < n; k++, seen++) {
      uint32_t number;
      std::memcpy(&number, rte_pktmbuf_mtod_offset(got[k], uint8_t*, 54), 4);
      EXPECT_EQ(number, seen);
      rte_pktmbuf_free(got[k]);
    }
    EXPECT_EQ(left->rx(0, got, kRxBurst), 0u);  // its turn flushes what is staged
  }
  EXPECT_EQ(seen, taken);
}

TEST_F(DriversTest, AFrameWaitsWhileTheReceiverHasNoMbuf) {
  auto [left, right] = memory_link(end(a), end(b));
  std::vector<rte_mbuf*> all;
  while (rte_mbuf* m = b.alloc_control()) all.push_back(m);
  rte_mbuf* m = chain(tcp_frame(rng, 10), 1, a);
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  EXPECT_EQ(right->rx(0, &m, 1), 0u);
  for (rte_mbuf* x : all) rte_pktmbuf_free(x);
  ASSERT_EQ(right->rx(0, &m, 1), 1u);
  rte_pktmbuf_free(m);
}

// ---- several workers

TEST_F(DriversTest, FramesReachTheirOwnerAndWhatIsNoTcpWorkerZero) {
  const OwnerHash owner(3);
  MemoryEnd wide = end(b);
  wide.pools = {&b, &b, &b};
  wide.owner = owner;
  auto [left, right] = memory_link(end(a), wide);
  unsigned per_worker[3] = {};
  const auto give = [&](const Data& frame) {
    rte_mbuf* m = chain(frame, 1, a);
    ASSERT_EQ(left->tx(0, &m, 1), 1u);
  };
  const auto expect_at = [&](unsigned worker) {
    for (unsigned w = 0; w < 3; w++) {
      rte_mbuf* got[4];
      ASSERT_EQ(right->rx(w, got, 4), w == worker ? 1u : 0u) << "worker " << w << " of " << worker;
      if (w == worker) rte_pktmbuf_free(got[0]);
    }
    per_worker[worker]++;
  };
  for (int i = 0; i < 100; i++) {
    const FourTuple t{{Ipv4{0x0a000001}, 80}, {Ipv4{uint32_t(rng.next())}, uint16_t(rng.next())}};
    const Data frame = tcp_frame(rng, 20, t);
    give(frame);
    expect_at(owner.owner(t));
    // An ICMP error quotes what we sent: its owner is the connection's.
    Data error(14 + 20 + 8);
    error[12] = 8, error[14] = 0x45, error[23] = 1, error[34] = 3;
    Data quoted(frame.begin() + 14, frame.begin() + 42);
    for (unsigned k = 0; k < 4; k++) std::swap(quoted[12 + k], quoted[16 + k]);
    for (unsigned k = 0; k < 2; k++) std::swap(quoted[20 + k], quoted[22 + k]);
    error.insert(error.end(), quoted.begin(), quoted.end());
    give(error);
    expect_at(owner.owner(t));
    error[34] = 8;  // echo
    give(error);
    expect_at(0);
  }
  EXPECT_GT(per_worker[1], 20u);
  EXPECT_GT(per_worker[2], 20u);
  Data arp(60);
  arp[12] = 8, arp[13] = 6;
  give(arp);
  expect_at(0);
  Data fragment = tcp_frame(rng, 20, {{Ipv4{0x0a000001}, 80}, {Ipv4{0x0a000002}, 4001}});
  fragment[20] = 0x20;
  give(fragment);
  expect_at(0);
}

// What worker 1 keeps it must not keep of worker 0's mbufs, or many slow uploads there leave worker 0's port without any for its frames.
TEST_F(DriversTest, AFrameOfAnotherWorkersQueueComesInAnMbufOfOnesOwn) {
  auto own = MbufPool::create("drivers_own", kControlReserve + 2 * kRxBurst, 64, SOCKET_ID_ANY);
  ASSERT_TRUE(own.has_value());
  {
    MemoryEnd wide = end(b);
    wide.pools = {&b, &*own};
    wide.owner = OwnerHash(2);
    auto [left, right] = memory_link(end(a), wide);
    FourTuple t{{Ipv4{0x0a000001}, 80}, {Ipv4{0x0a000002}, 1}};
    while (OwnerHash(2).owner(t) != 1) t.remote.port++;
    const Data frame = tcp_frame(rng, 500, t);
    rte_mbuf* got[4];
    const auto pass = [&] {
      rte_mbuf* m = chain(frame, 1, a);
      ASSERT_EQ(left->tx(0, &m, 1), 1u);
      ASSERT_EQ(right->rx(0, got, 4), 0u);
    };
    pass();
    ASSERT_EQ(right->rx(1, got, 4), 1u);
    EXPECT_EQ(got[0]->pool, own->raw());
    EXPECT_EQ(bytes(got[0]), frame);
    EXPECT_EQ(b.available(), kMbufs);
    std::vector<rte_mbuf*> held{got[0]};
    while (rte_mbuf* m = own->alloc_control()) held.push_back(m);
    pass();
    EXPECT_EQ(right->rx(1, got, 4), 0u) << "it has none";
    EXPECT_EQ(right->counters(1).drops.get(Drop::kPortLinearise), 1u);
    EXPECT_EQ(b.available(), kMbufs);
    for (rte_mbuf* m : held) rte_pktmbuf_free(m);
  }
  EXPECT_EQ(own->available(), own->size());
}

TEST_F(DriversTest, OtherWorkersSendThroughWorkerZeroAndFullRingsAreCounted) {
  MemoryEnd wide = end(b);
  wide.pools = {&b, &b};
  wide.owner = OwnerHash(2);
  auto [left, right] = memory_link(end(a), wide, 4096);
  const Data frame = tcp_frame(rng, 20);
  rte_mbuf* m = chain(frame, 4, b);
  ASSERT_EQ(right->tx(1, &m, 1), 1u);
  rte_mbuf* got[kRxBurst];
  EXPECT_EQ(left->rx(0, got, 1), 0u);
  EXPECT_EQ(right->rx(0, got, 1), 0u);  // worker 0's turn carries it out
  ASSERT_EQ(left->rx(0, got, 1), 1u);
  EXPECT_EQ(bytes(got[0]), frame);
  rte_pktmbuf_free(got[0]);
  EXPECT_EQ(right->counters(1).fanned_out.get(), 1u);

  // Worker 1 does not poll: its ring fills, the rest is dropped and counted.
  FourTuple t{{Ipv4{0x0a000001}, 80}, {Ipv4{0x0a000002}, 1}};
  while (OwnerHash(2).owner(t) != 1) t.remote.port++;
  for (int i = 0; i < 1100; i++) {
    m = chain(tcp_frame(rng, 1, t), 1, a);
    ASSERT_EQ(left->tx(0, &m, 1), 1u);
    EXPECT_EQ(right->rx(0, got, kRxBurst), 0u);
  }
  EXPECT_EQ(right->counters(0).drops.get(Drop::kFanoutFull), 1100u - kFanRing);
}

TEST_F(DriversTest, OwnerOfFrameNeverReadsPastTheBytes) {
  const OwnerHash owner(4);
  Data frame = tcp_frame(rng, 40);
  for (size_t n = 0; n <= frame.size(); n++) {
    const Data cut(frame.begin(), frame.begin() + long(n));  // exact allocation: ASan sees a byte too far
    owner_of_frame(owner, cut);
  }
  for (int i = 0; i < 20'000; i++) {
    Data noise(rng.below(90));
    for (auto& x : noise) x = uint8_t(rng.next());
    if (noise.size() > 34) noise[12] = 8, noise[13] = 0, noise[14] = uint8_t(0x40 | rng.below(16)), noise[23] = rng.chance(0.5) ? 6 : 1;
    ASSERT_LT(owner_of_frame(owner, noise), 4u);
  }
}

// ---- impairment

TEST_F(DriversTest, ImpairmentIsDeterministicAndCountsWhatItLoses) {
  std::vector<uint32_t> runs[2];
  for (auto& seen : runs) {
    auto [left, right] = memory_link(end(a), end(b), 4096);
    auto bad = impair(std::move(right),
                      {.loss = 0.1, .duplicate = 0.05, .corrupt = 0.05, .reorder = 0.1, .delay_us = 500, .jitter_us = 300}, b, 9);
    const uint32_t sent = 2000;
    uint32_t out_of_order = 0, latest = 0;
    Usec now = 1000;
    Rng local(1);
    for (uint32_t i = 0; i < sent + 300; i++, now += 100) {
      if (i < sent) {
        Data frame = tcp_frame(local, 60);
        std::fill(frame.begin() + 58, frame.end(), uint8_t{0});
        std::memcpy(&frame[54], &i, 4);
        rte_mbuf* m = chain(frame, 1, a);
        ASSERT_EQ(left->tx(0, &m, 1), 1u);
      }
      bad->advance(now);
      rte_mbuf* got[8];
      const unsigned n = bad->rx(0, got, 8);
      for (unsigned k = 0; k < n; k++) {
        uint32_t number;
        std::memcpy(&number, rte_pktmbuf_mtod_offset(got[k], uint8_t*, 54), 4);
        if (number < latest) out_of_order++;
        latest = std::max(latest, std::min(number, sent));
        seen.push_back(number);
        rte_pktmbuf_free(got[k]);
      }
    }
    const uint64_t lost = bad->counters(0).drops.get(Drop::kImpairLoss);
    EXPECT_NEAR(double(lost), sent * 0.1, 60);
    EXPECT_NEAR(double(seen.size()), double(sent - lost) * 1.05, 60);
    EXPECT_GT(out_of_order, 50u);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_F(DriversTest, ImpairmentDelaysByWhatItSaysAndFreesWhatItHolds) {
  auto [left, right] = memory_link(end(a), end(b));
  auto slow = impair(std::move(right), {.delay_us = 1000}, b, 1);
  slow->advance(5000);
  rte_mbuf* m = chain(tcp_frame(rng, 9), 1, a);
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  EXPECT_EQ(slow->rx(0, &m, 1), 0u);
  slow->advance(5999);
  EXPECT_EQ(slow->rx(0, &m, 1), 0u);
  slow->advance(6000);
  ASSERT_EQ(slow->rx(0, &m, 1), 1u);
  rte_pktmbuf_free(m);
  m = chain(tcp_frame(rng, 9), 1, a);
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  EXPECT_EQ(slow->rx(0, &m, 1), 0u);  // held at the end: TearDown looks
}

TEST_F(DriversTest, ImpairmentFlipsExactlyOneBit) {
  auto [left, right] = memory_link(end(a), end(b));
  auto bad = impair(std::move(right), {.corrupt = 1}, b, 3);
  const Data frame = tcp_frame(rng, 100);
  rte_mbuf* m = chain(frame, 1, a);
  ASSERT_EQ(left->tx(0, &m, 1), 1u);
  ASSERT_EQ(bad->rx(0, &m, 1), 1u);
  const Data got = bytes(m);
  int flipped = 0;
  for (size_t i = 0; i < frame.size(); i++) flipped += std::popcount(uint8_t(got[i] ^ frame[i]));
  EXPECT_EQ(flipped, 1);
  rte_pktmbuf_free(m);
}

// ---- specs and netdevs

TEST(PortSpec, ReadsEveryForm) {
  using Kind = PortSpec::Kind;
  const struct {
    const char* text;
    Kind kind;
    const char *netdev, *device, *args;
  } rows[] = {{"af_xdp:veth0", Kind::kAfXdp, "veth0", "net_af_xdp_veth0", "iface=veth0"},
              {"af_packet:eth0.7", Kind::kAfPacket, "eth0.7", "net_af_packet_eth0.7", "iface=eth0.7"},
              {"auto:gw-client", Kind::kAuto, "gw-client", "", ""},
              {"tap:dtap0", Kind::kTap, "dtap0", "net_tap_dtap0", "iface=dtap0"},
              {"ring:r", Kind::kRing, "", "net_ring_r", ""},
              {"net_null0,size=64", Kind::kVdev, "", "net_null0", "size=64"},
              {"0000:03:00.0", Kind::kPci, "", "0000:03:00.0", ""},
              {"03:00.1,representor=0", Kind::kPci, "", "03:00.1", "representor=0"}};
  for (const auto& row : rows) {
    const auto s = parse_port_spec(row.text);
    ASSERT_TRUE(s.has_value()) << s.error();
    EXPECT_EQ(s->kind, row.kind) << row.text;
    EXPECT_EQ(s->netdev, row.netdev);
    EXPECT_EQ(s->device, row.device);
    EXPECT_EQ(s->args, row.args);
  }
  const auto one = parse_port_spec("memif:role=server,id=0,socket=/run/x"), two = parse_port_spec("memif:role=client,id=0,socket=/run/x");
  ASSERT_TRUE(one && two);
  EXPECT_NE(one->device, two->device);
}

TEST(PortSpec, RefusesTheRestAndSaysWhatToWrite) {
  for (const char* text : {"", "eth0", "af_xdp:", "af_xdp:a-name-that-is-too-long", "af_xdp:a,busy_budget=0", "af_xdp:a b", "af_xdp:../x",
                           "tap:a=b", "xdp:eth0", "memif:id=0", "ring:", "zz:00.0", "0000:03:00.9"}) {
    const auto s = parse_port_spec(text);
    ASSERT_FALSE(s.has_value()) << text;
    EXPECT_NE(s.error().find("auto:IFACE"), std::string::npos) << s.error();
  }
}

TEST(Netdev, IsTakenWhenItIsOursAlone) {
  Netdev dev{.name = "v0", .up = true, .veth = true, .peer = Netdev::Peer{.name = "v1", .up = true}};
  EXPECT_EQ(netdev_refusal(dev), "");
  EXPECT_EQ(netdev_note(dev), "");
  dev.peer.reset();
  EXPECT_NE(netdev_note(dev).find("ethtool -K PEER tx off"), std::string::npos);
}

TEST(Netdev, IsRefusedWithTheCommandsThatCureIt) {
  const Netdev dev{
      .name = "v0",
      .ipv6_enabled = true,
      .gro = true,
      .veth = true,
      .master = "br0",
      .addresses = {"10.0.0.1/24"},
      .peer = Netdev::Peer{.name = "v1", .netns = "client", .up = false, .offloads = {.tx_checksum = true, .tso = true, .gso = true}}};
  EXPECT_EQ(netdev_refusal(dev),
            "the kernel also uses v0: it belongs to br0, has kernel addresses (10.0.0.1/24), has IPv6 in the kernel, merges received "
            "frames, is down, has a veth "
            "peer v1 that leaves checksums or segmentation to hardware that is not there, has a veth peer v1 that is down; run: ip link "
            "set v0 nomaster && ip "
            "addr flush dev v0 && sysctl -w net.ipv6.conf.v0.disable_ipv6=1 && ethtool -K v0 gro off && ip link set v0 up && ip netns exec "
            "client ethtool -K v1 "
            "tx off tso off gso off && ip netns exec client ip link set v1 up");
}

TEST(Netdev, AnInterfaceThatIsNotThereIsNamed) {
  const auto dev = inspect_netdev("no-such-if");
  ASSERT_FALSE(dev.has_value());
  EXPECT_NE(dev.error().find("no-such-if does not exist"), std::string::npos);
}

}  // namespace
}  // namespace sluice::drivers
