// Ports over devices: bytes in, the same bytes out, for every kind that a machine without a NIC has. Needs root; runs in a namespace of its
// own.
//   drivers_port_test [--hugepages]      the memory mode of EAL (a process has one); with hugepages it adds what it needs and gives it back
#include <gtest/gtest.h>
#include <rte_ip.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <unordered_set>

#include "dataplane/base/rng.h"
#include "dataplane/packet/checksum.h"
#include "drivers/eal.h"
#include "drivers/netdev.h"
#include "drivers/port.h"
#include "drivers/test_wire.h"

namespace sluice::drivers {
namespace {

using test::make_veth;
using test::shell;
using test::Wire;
using Data = std::vector<uint8_t>;
constexpr uint16_t kTestType = 0x88b5;  // IEEE: local experimental
constexpr uint32_t kMbufs = 8192;
std::string skip_reason;

class PortTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!skip_reason.empty()) GTEST_SKIP() << skip_reason;
    auto made = MbufPool::create("ports", kMbufs, 4096, SOCKET_ID_ANY);
    ASSERT_TRUE(made.has_value()) << made.error();
    pool.emplace(std::move(*made));
  }
  void TearDown() override {
    port.reset();
    other.reset();
    if (pool) {
      // AF_XDP of 22.11 does not give back what it had posted when it closes (ports live as long as the process).
      EXPECT_GE(pool->available(), kMbufs - (had_af_xdp ? kRxPosted + 64 : 0)) << "a port keeps mbufs";
    }
    pool.reset();
    shell("ip link del sv0");
  }
  std::unique_ptr<Port> open(const std::string& spec, bool software_only = false) {
    auto p = open_port({.spec = spec, .pools = {&*pool}, .software_only = software_only});
    EXPECT_TRUE(p.has_value()) << p.error();
    had_af_xdp |= p && (*p)->info().device == "net_af_xdp";
    return p ? std::move(*p) : nullptr;
  }
  Data frame(size_t size) {
    Data d(size);
    for (auto& x : d) x = uint8_t(rng.next());
    std::fill(d.begin(), d.begin() + 6, uint8_t{0xff});  // broadcast: every kind of port takes it
    d[6] = 2;
    d[12] = kTestType >> 8, d[13] = kTestType & 0xff;
    return d;
  }
  rte_mbuf* chain(const Data& d, unsigned segments) {
    rte_mbuf* head = nullptr;
    for (unsigned i = 0; i < segments; i++) {
      const size_t from = d.size() * i / segments, to = d.size() * (i + 1) / segments;
      rte_mbuf* m = pool->alloc_control();
      std::copy(d.begin() + long(from), d.begin() + long(to), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(to - from))));
      if (head == nullptr) head = m;
      else rte_pktmbuf_chain(head, m);
    }
    return head;
  }
  static Data bytes(const rte_mbuf* m) { return {rte_pktmbuf_mtod(m, const uint8_t*), rte_pktmbuf_mtod(m, const uint8_t*) + m->data_len}; }

  bool send(Port& p, rte_mbuf* m) {
    for (int i = 0; i < 1000; i++) {
      if (p.tx(0, &m, 1) == 1) return true;
      usleep(100);
    }
    rte_pktmbuf_free(m);
    return false;
  }
  std::optional<Data> receive(Port& p) {
    for (int i = 0; i < 10'000; i++) {
      rte_mbuf* m = nullptr;
      if (p.rx(0, &m, 1) == 1) {
        EXPECT_EQ(m->nb_segs, 1);
        Data d = bytes(m);
        rte_pktmbuf_free(m);
        if (d.size() >= 14 && (d[12] << 8 | d[13]) == kTestType) return d;
      } else usleep(100);
    }
    return std::nullopt;
  }
  // Frames of 1 to 8 segments from the port to `out`, and frames from `in` to the port: the same bytes.
  void compare(Port& p, const std::function<std::optional<Data>()>& out, const std::function<bool(const Data&)>& in) {
    for (unsigned segments = 1; segments <= 8; segments++)
      for (size_t size : {60u, 61u, 128u, 590u, 1513u, 1514u}) {
        SCOPED_TRACE(p.info().name + ", " + std::to_string(segments) + " segments, " + std::to_string(size) + " bytes, seed " +
                     std::to_string(kSeed));
        const Data sent = frame(size);
        rte_mbuf* head = chain(sent, segments < 2 || size / segments >= 14 ? segments : size / 14);
        rte_mbuf_refcnt_update(head, 1);  // TCP still holds it: the port may not change its bytes
        ASSERT_TRUE(send(p, head));
        const auto got = out();
        ASSERT_TRUE(got.has_value()) << "nothing came out";
        EXPECT_EQ(*got, sent);
        EXPECT_EQ(bytes(head), Data(sent.begin(), sent.begin() + head->data_len));
        rte_pktmbuf_free_seg(head);
        const Data back = frame(size);
        ASSERT_TRUE(in(back));
        const auto heard = receive(p);
        ASSERT_TRUE(heard.has_value()) << "nothing came in";
        EXPECT_EQ(*heard, back);
      }
  }
  void compare_with_wire(const std::string& spec, const std::string& netdev, const std::string& device, bool software_only = false) {
    port = open(spec, software_only);
    ASSERT_NE(port, nullptr);
    EXPECT_EQ(port->info().device, device);
    Wire wire(netdev);
    compare(*port, [&] { return wire.receive(kTestType); }, [&](const Data& d) { return wire.send(d); });
    checksums_arrive_good(*port, wire);
    oversize_is_dropped(*port);
    vlan_tags_stay_in_the_bytes(*port, wire);
  }
  void checksums_arrive_good(Port& p, Wire& wire) {
    for (unsigned segments : {1u, 3u}) {
      Data d = frame(54 + 301);
      std::copy(p.info().mac.b.begin(), p.info().mac.b.end(), d.begin() + 6);
      d[12] = 8, d[13] = 0, d[14] = 0x45, d[16] = uint8_t((d.size() - 14) >> 8), d[17] = uint8_t(d.size() - 14);
      d[20] = 0x40, d[21] = 0, d[22] = 64, d[23] = 6, d[24] = d[25] = 0, d[46] = 0x50;
      for (unsigned i = 0; i < 4; i++) d[26 + i] = uint8_t(10 + i), d[30 + i] = uint8_t(20 + i);
      const uint16_t sum = checksum_fold(checksum_pseudo({0x0a0b0c0d}, {0x14151617}, 6, uint16_t(d.size() - 34)));
      std::memcpy(&d[50], &sum, 2);
      rte_mbuf* m = chain(d, segments);
      m->l2_len = 14, m->l3_len = 20, m->l4_len = 20;
      m->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM;
      ASSERT_TRUE(send(p, m));
      auto got = wire.receive(0x0800);
      ASSERT_TRUE(got.has_value());
      auto* ip = reinterpret_cast<rte_ipv4_hdr*>(&(*got)[14]);
      EXPECT_EQ(rte_ipv4_cksum(ip), 0);
      EXPECT_EQ(rte_ipv4_udptcp_cksum_verify(ip, &(*got)[34]), 0);
      EXPECT_TRUE(std::equal(got->begin() + 54, got->end(), d.begin() + 54, d.end()));
    }
  }
  // AF_PACKET's kernel strips the tag on the way in.
  void vlan_tags_stay_in_the_bytes(Port& p, Wire& wire) {
    Data d = frame(200);
    d[12] = 0x81, d[13] = 0x00, d[14] = 0x60, d[15] = 0x07, d[16] = 0x08, d[17] = 0x00;
    ASSERT_TRUE(wire.send(d));
    rte_mbuf* m = nullptr;
    for (int i = 0; i < 1000 && p.rx(0, &m, 1) == 0; i++) usleep(100);
    ASSERT_NE(m, nullptr);
    EXPECT_EQ(bytes(m), d);
    rte_pktmbuf_free(m);
  }
  void oversize_is_dropped(Port& p) {
    const uint64_t before = p.counters(0).drops.get(Drop::kPortOversize);
    ASSERT_TRUE(send(p, chain(frame(1515), 2)));
    EXPECT_EQ(p.counters(0).drops.get(Drop::kPortOversize), before + 1);
  }
  // Each mbuf of the pool, those that the port had posted for receive included, carries one frame to the wire.
  void every_mbuf_reaches(const std::string& spec, const std::string& netdev, uint32_t never_used = 0) {
    port = open(spec);
    ASSERT_NE(port, nullptr);
    Wire wire(netdev);
    std::unordered_set<rte_mbuf*> sent;
    std::vector<rte_mbuf*> held;
    uint32_t arrived = 0;
    const auto carry = [&](rte_mbuf* m) {
      rte_pktmbuf_reset(m);
      m->data_off = kMbufHeadroom;
      Data d = frame(64);
      std::memcpy(&d[14], &arrived, 4);
      std::copy(d.begin(), d.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, 64)));
      rte_mbuf_refcnt_update(m, 1);
      ASSERT_TRUE(send(*port, m));
      sent.insert(m);
      held.push_back(m);
      const auto got = wire.receive(kTestType);
      ASSERT_TRUE(got.has_value()) << "mbuf " << sent.size() << " was lost";
      ASSERT_EQ(*got, d);
      arrived++;
    };
    // What is free: all but a few, for the port receives only while it can refill.
    while (pool->available() > 256) ASSERT_NO_FATAL_FAILURE(carry(pool->alloc_control()));
    // What is posted comes out as received frames, until nothing new does.
    for (uint32_t stale = 0; stale < 2 * kRxPosted;) {
      ASSERT_TRUE(wire.send(frame(64)));
      rte_mbuf* got[8];
      unsigned n = 0;
      for (int i = 0; i < 1000 && n == 0; i++)
        if ((n = port->rx(0, got, 8)) == 0) usleep(10);
      ASSERT_GT(n, 0u);
      for (unsigned i = 0; i < n; i++) {
        stale++;
        if (sent.contains(got[i])) {
          rte_pktmbuf_free(got[i]);
        } else {
          stale = 0;
          ASSERT_NO_FATAL_FAILURE(carry(got[i]));
        }
      }
      for (; pool->available() < 128 && held.size() > 64; held.pop_back()) rte_pktmbuf_free(held.back());
    }
    std::vector<rte_mbuf*> rest;
    while (rte_mbuf* m = pool->alloc_control()) {
      if (sent.contains(m)) rest.push_back(m);
      else ASSERT_NO_FATAL_FAILURE(carry(m));
    }
    EXPECT_GE(sent.size() + never_used, kMbufs);
    std::printf("%s: a frame from %zu of %u mbufs arrived\n", spec.c_str(), sent.size(), kMbufs);
    for (rte_mbuf* m : rest) rte_pktmbuf_free(m);
    for (rte_mbuf* m : held) rte_pktmbuf_free(m);
  }

  // Two memifs of this process, as `port` and `other`. They connect on EAL's interrupt thread; until then nothing is taken.
  void connect_memif() {
    const std::string socket = "/tmp/sluice-memif-" + std::to_string(getpid());
    port = open("memif:role=server,id=0,socket-abstract=no,socket=" + socket);
    other = open("memif:role=client,id=0,socket-abstract=no,socket=" + socket);
    ASSERT_TRUE(port && other);
    const Data hello = frame(64);
    bool connected = false;
    for (int i = 0; i < 100 && !connected; i++) {
      rte_mbuf *m = chain(hello, 1), *got = nullptr;
      if (port->tx(0, &m, 1) == 0) rte_pktmbuf_free(m);
      usleep(50'000);
      while (other->rx(0, &got, 1) == 1) {
        connected = true;
        rte_pktmbuf_free(got);
      }
    }
    ASSERT_TRUE(connected);
    for (rte_mbuf* got = nullptr; other->rx(0, &got, 1) == 1;) rte_pktmbuf_free(got);
  }
  // Each mbuf of the pool carries one frame from `port` to `out`, for ports that post none for receive.
  void every_mbuf_comes_out_at(Port& out) {
    std::unordered_set<rte_mbuf*> sent;
    std::vector<rte_mbuf*> held;
    while (sent.size() < kMbufs) {
      rte_mbuf* m = pool->alloc_control();
      ASSERT_NE(m, nullptr) << "after " << sent.size();
      if (!sent.insert(m).second) {  // sent before: keep it, so that another comes
        held.push_back(m);
        continue;
      }
      for (; pool->available() < 64 && !held.empty(); held.pop_back()) rte_pktmbuf_free(held.back());  // what receives needs some
      const Data d = frame(64);
      std::copy(d.begin(), d.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, 64)));
      ASSERT_TRUE(send(*port, m));
      const auto got = receive(out);
      ASSERT_TRUE(got.has_value()) << "mbuf " << sent.size() << " was lost";
      ASSERT_EQ(*got, d);
    }
    std::printf("%s: a frame from each of %zu mbufs arrived\n", port->info().name.c_str(), sent.size());
    for (rte_mbuf* m : held) rte_pktmbuf_free(m);
  }

  static constexpr uint64_t kSeed = 11;
  Rng rng{kSeed};
  std::optional<MbufPool> pool;
  bool had_af_xdp = false;
  std::unique_ptr<Port> port, other;
};

TEST_F(PortTest, AfXdpCarriesTheSameBytes) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  compare_with_wire("af_xdp:sv0", "sv1", "net_af_xdp");
}

TEST_F(PortTest, AfPacketCarriesTheSameBytes) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  compare_with_wire("af_packet:sv0", "sv1", "net_af_packet");
}

TEST_F(PortTest, AfPacketCarriesTheSameBytesWithEveryFallbackForced) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  compare_with_wire("af_packet:sv0", "sv1", "net_af_packet", true);
  EXPECT_GT(port->counters(0).linearised.get(), 0u);
}

TEST_F(PortTest, TapCarriesTheSameBytes) {
  port = open("tap:stap0");
  ASSERT_NE(port, nullptr);
  ASSERT_TRUE(shell("sysctl -w net.ipv6.conf.stap0.disable_ipv6=1"));
  port.reset();
  compare_with_wire("tap:stap0", "stap0", "net_tap");
}

TEST_F(PortTest, TapCarriesTheSameBytesWithEveryFallbackForced) { compare_with_wire("tap:stap1", "stap1", "net_tap", true); }

TEST_F(PortTest, MemifCarriesTheSameBytes) {
  connect_memif();
  compare(*port, [&] { return receive(*other); }, [&](const Data& d) { return send(*other, chain(d, 4)); });
  EXPECT_GT(port->counters(0).linearised.get(), 0u);
  oversize_is_dropped(*port);
}

TEST_F(PortTest, RingLoopsBackTheSameBytesInOtherMbufs) {
  port = open("ring:loop");
  ASSERT_NE(port, nullptr);
  for (unsigned segments = 1; segments <= 8; segments++) {
    const Data sent = frame(1000);
    rte_mbuf* m = chain(sent, segments);
    rte_mbuf_refcnt_update(m, 1);
    ASSERT_TRUE(send(*port, m));
    EXPECT_EQ(rte_mbuf_refcnt_read(m), 1) << "the ring may not hand out what TCP holds";
    const auto got = receive(*port);
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(*got, sent);
    rte_pktmbuf_free_seg(m);
  }
}

TEST_F(PortTest, AutoTakesAfXdpHereAndSaysSo) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  port = open("auto:sv0");
  ASSERT_NE(port, nullptr);
  std::printf("auto:sv0 is %s (%s)\n", port->info().device.c_str(), port->info().note.c_str());
  EXPECT_FALSE(port->info().note.empty());
  EXPECT_TRUE(port->info().device == "net_af_xdp" || port->info().device == "net_af_packet");
}

TEST_F(PortTest, AutoFallsBackToAfPacketWithTheReason) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  other = open("net_af_xdp_first,iface=sv0,start_queue=0,queue_count=1");
  if (!other) GTEST_SKIP() << "the kernel gives no AF_XDP here";
  const uint32_t before = pool->available();  // its queue is taken now: the kernel refuses a second socket
  auto p = open_port({.spec = "auto:sv0", .pools = {&*pool}});
  ASSERT_TRUE(p.has_value()) << p.error();
  EXPECT_EQ((*p)->info().device, "net_af_packet");
  EXPECT_NE((*p)->info().note.find("AF_PACKET, for AF_XDP does not open"), std::string::npos) << (*p)->info().note;
  std::printf("%s\n", (*p)->info().note.c_str());
  EXPECT_EQ(pool->available(), before) << "the failed attempt keeps mbufs";
}

TEST_F(PortTest, EveryMbufOfThePoolReachesTheWireByAfXdp) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  every_mbuf_reaches("af_xdp:sv0", "sv1");
}

TEST_F(PortTest, EveryMbufOfThePoolReachesTheWireByAfPacket) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  every_mbuf_reaches("af_packet:sv0", "sv1");
}

// The TAP driver posts a chain as long as its ring and uses only as much of it as a frame needs: the rest never moves.
TEST_F(PortTest, EveryMbufOfThePoolReachesTheWireByTap) { every_mbuf_reaches("tap:stap2", "stap2", kRxRingDesc); }

TEST_F(PortTest, EveryMbufOfThePoolReachesTheOtherMemif) {
  connect_memif();
  every_mbuf_comes_out_at(*other);
}

TEST_F(PortTest, EveryMbufOfThePoolGoesRoundTheRing) {
  port = open("ring:every");
  ASSERT_NE(port, nullptr);
  every_mbuf_comes_out_at(*port);
}

TEST_F(PortTest, TwoWorkersShareTheOneQueueOfAVeth) {
  ASSERT_TRUE(make_veth("sv0", "sv1"));
  auto second = MbufPool::create("ports_1", 2048, 512, SOCKET_ID_ANY);
  ASSERT_TRUE(second.has_value());
  {
    auto p = open_port({.spec = "auto:sv0", .pools = {&*pool, &*second}, .owner = OwnerHash(2)});
    ASSERT_TRUE(p.has_value()) << p.error();
    had_af_xdp |= (*p)->info().device == "net_af_xdp";
    EXPECT_EQ((*p)->info().workers, 2u);
    EXPECT_EQ((*p)->info().device_queues, 1u);
    Wire wire("sv1");
    for (unsigned segments : {1u, 4u}) {
      const Data sent = frame(900);
      rte_mbuf *m = nullptr, *tail = nullptr;
      for (unsigned i = 0; i < segments; i++) {  // from worker 1's pool: AF_XDP copies mbufs that are not its own
        rte_mbuf* part = second->alloc_control();
        std::copy_n(sent.begin() + long(900 / segments * i), 900 / segments,
                    reinterpret_cast<uint8_t*>(rte_pktmbuf_append(part, uint16_t(900 / segments))));
        if (m == nullptr) m = tail = part;
        else rte_pktmbuf_chain(m, part);
      }
      ASSERT_EQ((*p)->tx(1, &m, 1), 1u);
      (*p)->rx(0, &m, 1);  // worker 0's turn
      const auto got = wire.receive(kTestType);
      ASSERT_TRUE(got.has_value());
      EXPECT_EQ(*got, sent);
    }
  }
}

TEST_F(PortTest, ANetdevThatTheKernelAlsoUsesIsRefusedAndTheCommandsCureIt) {
  ASSERT_TRUE(shell("ip link add sv0 type veth peer name sv1") && shell("ip link set sv0 up") && shell("ip link set sv1 up"));
  ASSERT_TRUE(shell("ip addr add 10.98.0.1/24 dev sv0"));
  for (const char* kind : {"af_xdp:sv0", "af_packet:sv0", "auto:sv0"}) {
    const auto p = open_port({.spec = kind, .pools = {&*pool}});
    ASSERT_FALSE(p.has_value()) << kind;
    EXPECT_NE(p.error().find("10.98.0.1/24"), std::string::npos) << p.error();
    EXPECT_EQ(p.error().find('\n'), std::string::npos);
  }
  const std::string error = open_port({.spec = "af_packet:sv0", .pools = {&*pool}}).error();
  const std::string commands = error.substr(error.find("run: ") + 5);
  std::printf("%s\n", error.c_str());
  ASSERT_TRUE(shell(commands)) << commands;
  EXPECT_TRUE(open_port({.spec = "af_packet:sv0", .pools = {&*pool}}).has_value());
}

TEST_F(PortTest, APeerInANamedNamespaceIsSeen) {
  const std::string ns = "net-test-" + std::to_string(getpid());
  ASSERT_TRUE(shell("ip netns add " + ns));
  ASSERT_TRUE(shell("ip link add sv0 type veth peer name sv1 netns " + ns));
  ASSERT_TRUE(shell("ip link set sv0 up"));
  const auto dev = inspect_netdev("sv0");
  const bool cured = shell("sysctl -w net.ipv6.conf.sv0.disable_ipv6=1") && dev &&
                     shell(netdev_refusal(*dev).substr(netdev_refusal(*dev).find("run: ") + 5));
  const auto after = inspect_netdev("sv0");
  shell("ip netns del " + ns);
  ASSERT_TRUE(dev.has_value());
  ASSERT_TRUE(dev->peer.has_value());
  EXPECT_EQ(dev->peer->name, "sv1");
  EXPECT_EQ(dev->peer->netns, ns);
  EXPECT_TRUE(dev->peer->offloads.tx_checksum);
  EXPECT_FALSE(dev->peer->up);
  EXPECT_NE(netdev_refusal(*dev).find("ip netns exec " + ns + " ethtool -K sv1 tx off"), std::string::npos) << netdev_refusal(*dev);
  EXPECT_TRUE(cured);
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(netdev_refusal(*after), "");
}

TEST_F(PortTest, WhatCannotBeOpenedIsSaidInOneLine) {
  const auto fault = [&](const char* spec) {
    const auto p = open_port({.spec = spec, .pools = {&*pool}});
    EXPECT_FALSE(p.has_value()) << spec;
    EXPECT_EQ(p.error().find('\n'), std::string::npos) << p.error();
    std::printf("%s\n", p.error().c_str());
    return p.error();
  };
  EXPECT_NE(fault("af_xdp:nowhere").find("does not exist"), std::string::npos);
  EXPECT_NE(fault("0000:ff:1f.7").find("no such PCI network device"), std::string::npos);
  EXPECT_NE(fault("net_nonsense0").find("does not open"), std::string::npos);
  EXPECT_NE(fault("what").find("auto:IFACE"), std::string::npos);
  port = open("ring:twice");
  EXPECT_NE(fault("ring:twice").find("is open already"), std::string::npos);
}

TEST_F(PortTest, TooLittleMemoryIsRefusedWithTheRemedy) {
  const auto big = MbufPool::create("too_big", 4'000'000, 1024, SOCKET_ID_ANY);
  ASSERT_FALSE(big.has_value());
  EXPECT_NE(big.error().find("4000000 mbufs"), std::string::npos);
  EXPECT_NE(big.error().find("vm.nr_hugepages"), std::string::npos) << big.error();
  EXPECT_NE(big.error().find("memory.mbufs"), std::string::npos) << "the key of configs/sluice.yaml";
  const auto pages = Eal::start({.memory = EalMemory::kHugepages, .memory_mib = 1 << 24});
  ASSERT_FALSE(pages.has_value());
  EXPECT_NE(pages.error().find("run `sysctl -w vm.nr_hugepages="), std::string::npos) << pages.error();
  const auto plain = Eal::start({.memory = EalMemory::kNoHuge, .memory_mib = 1 << 24});
  ASSERT_FALSE(plain.has_value());
  EXPECT_NE(plain.error().find("16777216 MiB are needed"), std::string::npos) << plain.error();
  for (const auto& e : {big.error(), pages.error(), plain.error()}) EXPECT_EQ(e.find('\n'), std::string::npos) << e;
  const auto again = Eal::start({.memory_mib = 64});
  ASSERT_FALSE(again.has_value());
  EXPECT_NE(again.error().find("EAL starts once per process"), std::string::npos) << again.error();
}

// Adds hugepages for the run and gives them back.
class Hugepages {
 public:
  explicit Hugepages(unsigned mib) {
    std::ifstream(kPath) >> before_;
    std::ofstream(kPath) << before_ + mib / 2;
    std::ifstream(kPath) >> now_;
    added_ = now_ >= before_ + mib / 2;
  }
  ~Hugepages() { std::ofstream(kPath) << before_; }
  bool added() const { return added_; }

 private:
  static constexpr const char* kPath = "/proc/sys/vm/nr_hugepages";
  unsigned before_ = 0, now_ = 0;
  bool added_ = false;
};

}  // namespace
}  // namespace sluice::drivers

int main(int argc, char** argv) {
  using namespace sluice::drivers;
  testing::InitGoogleTest(&argc, argv);
  const bool hugepages = argc > 1 && std::string(argv[1]) == "--hugepages";
  skip_reason = sluice::test::enter_private_netns();
  std::optional<Hugepages> pages;
  if (skip_reason.empty() && hugepages) {
    pages.emplace(192);
    if (!pages->added()) skip_reason = "the kernel has no 96 free hugepages of 2 MiB to give";
  }
  std::optional<Eal> eal;
  if (skip_reason.empty()) {
    auto started = Eal::start({.memory = hugepages ? EalMemory::kHugepages : EalMemory::kNoHuge, .memory_mib = 128});
    if (!started) {
      std::fprintf(stderr, "%s\n", started.error().c_str());
      return 1;
    }
    std::printf("memory: %s\n", started->summary().c_str());
    eal.emplace(std::move(*started));
  } else {
    std::printf("skipped: %s\n", skip_reason.c_str());
  }
  return RUN_ALL_TESTS();
}
