#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>

#include "dataplane/base/rng.h"
#include "dataplane/net/stack.h"
#include "dataplane/net/test_frames.h"
#include "dataplane/packet/checksum.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::net {
namespace {

using namespace test;

const MacAddress kUs{{2, 0, 0, 0, 0, 1}}, kUsVlan{{2, 0, 0, 0, 0, 7}}, kPeer{{2, 0, 0, 0, 0, 0x99}}, kOther{{2, 0, 0, 0, 0, 0x55}};
const MacAddress kBroadcast{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, kNone{};

IpPrefix prefix(const char* text) { return *IpPrefix::parse(text); }

Config config() {
  return {.interfaces = {{.port = 0, .mac = kUs, .addresses = {prefix("10.0.0.1/24"), prefix("10.0.0.5/24")}},
                         {.port = 0, .mac = kUsVlan, .vlan = 7, .addresses = {prefix("10.7.0.1/24")}},
                         {.port = 1, .mac = kUs, .addresses = {prefix("10.1.0.1/16")}}},
          .routes = {{prefix("0.0.0.0/0"), *IpAddress::parse("10.0.0.254")},
                     {prefix("192.168.0.0/16"), *IpAddress::parse("10.0.0.253")},
                     {prefix("192.168.9.0/24"), *IpAddress::parse("10.1.0.9")}},
          .ports = 2};
}

// One worker's stack with its pool; frames go in as bytes and come out as bytes.
class NetTest : public testing::Test {
 protected:
  static constexpr uint32_t kMbufs = 4096;
  static MbufPool make_pool() {
    auto pool = MbufPool::create("net_test", kMbufs, 256, SOCKET_ID_ANY);
    EXPECT_TRUE(pool.has_value()) << pool.error();
    return std::move(*pool);
  }
  void SetUp() override {
    now.mono_us = kSec;
    make(config());
  }
  void make(const Config& c) {
    ASSERT_TRUE(validate(c).has_value()) << validate(c).error();
    stack.reset();
    neighbours = std::make_unique<Neighbours>();
    drops = {};
    stack = std::make_unique<Stack>(c, 0, *neighbours, pool, drops);
  }
  // Every test ends with nothing held: what went in came out or was counted, and the pool is full again.
  void TearDown() override {
    if (!stack) return;
    const auto& c = stack->counters();
    EXPECT_EQ(c.frames_in.get(), c.delivered.get() + c.consumed.get() + input_drops);
    stack.reset();
    EXPECT_EQ(pool.available(), kMbufs);
  }

  rte_mbuf* mbuf(const Frame& f) {
    rte_mbuf* m = rte_pktmbuf_alloc(pool.raw());
    std::copy(f.begin(), f.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(f.size()))));
    return m;
  }
  // Puts a frame in; TCP that comes up is kept as bytes in `delivered`.
  void in(const Frame& f, unsigned port = 0, uint64_t flags = 0) {
    rte_mbuf* m = mbuf(f);
    m->ol_flags = flags;
    L4Packet out[1];
    const uint64_t before = drops.total();
    const unsigned n = stack->input(port, {&m, 1}, now, out);
    input_drops += drops.total() - before;
    if (n == 1) {
      delivered.push_back(Frame(bytes_of(out[0].m).begin(), bytes_of(out[0].m).end()));
      last = out[0];
      rte_pktmbuf_free(out[0].m);
    }
  }
  void expect_drop(Drop why, const Frame& f, unsigned port = 0, uint64_t flags = 0) {
    const uint64_t before = drops.get(why), all = drops.total();
    in(f, port, flags);
    EXPECT_EQ(drops.get(why), before + 1) << name_of(why);
    EXPECT_EQ(drops.total(), all + 1);
  }
  void send(const char* src, const char* dst, const Frame& segment, uint64_t flags = 0) {
    rte_mbuf* m = pool.alloc_control();
    std::copy(segment.begin(), segment.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(segment.size()))));
    m->ol_flags = flags;
    stack->send({m, *IpAddress::parse(src), *IpAddress::parse(dst)}, now);
  }
  std::vector<Frame> out(unsigned port = 0) {
    std::vector<Frame> all;
    rte_mbuf* m = nullptr;
    while (stack->take_frames(port, &m, 1) == 1) {
      all.emplace_back(bytes_of(m).begin(), bytes_of(m).end());
      rte_pktmbuf_free(m);
    }
    return all;
  }
  void pass(Usec time) {
    const Usec end = now.mono_us + time;
    for (; now.mono_us < end; now.mono_us += 50 * kMs) stack->advance(now);
  }
  void settle() {  // past the announcements
    pass(3 * kSec);
    out(0), out(1);
  }
  std::vector<PathError> errors() {
    std::vector<PathError> e(300);
    e.resize(stack->take_errors(e));
    return e;
  }
  // Makes 10.0.0.9 known as `mac`.
  void know(const char* address, MacAddress mac = kPeer) {
    send("10.0.0.1", address, tcp(1, 2, 3));
    in(ethernet(kUs, mac, 0x0806, arp(2, mac, ip(address), kUs, ip("10.0.0.1"))));
    stack->advance(now);
    out();
  }

  Frame segment = tcp(40000, 80, 0x01020304, "hello");
  Frame good = ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 6, segment));

  MbufPool pool = make_pool();
  Now now;
  DropCounters drops;
  uint64_t input_drops = 0;
  std::unique_ptr<Neighbours> neighbours;
  std::unique_ptr<Stack> stack;
  std::vector<Frame> delivered;
  L4Packet last;
};

// ---- receive: Ethernet and IPv4

TEST_F(NetTest, DeliversTcpWithoutHeadersAndPadding) {
  Frame padded = good;
  padded.resize(padded.size() + 9);
  in(good);
  in(padded);
  ASSERT_EQ(delivered.size(), 2u);
  EXPECT_EQ(delivered[0], segment);
  EXPECT_EQ(delivered[1], segment);
  EXPECT_EQ(last.src, IpAddress(ip("10.0.0.9")));
  EXPECT_EQ(last.dst, IpAddress(ip("10.0.0.1")));
}

TEST_F(NetTest, DeliversOnTheVlanAndOnPriorityTagsButNotAcross) {
  const Frame vlan_packet = ipv4(ip("10.7.0.9"), ip("10.7.0.1"), 6, segment);
  in(ethernet(kUsVlan, kPeer, 0x0800, vlan_packet, 7));
  in(ethernet(kUsVlan, kPeer, 0x0800, vlan_packet, 7 | 5 << 13));  // with a priority
  in(ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 6, segment), 0));
  EXPECT_EQ(delivered.size(), 3u);
  expect_drop(Drop::kIpNotOurs, ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.7.0.9"), ip("10.7.0.1"), 6, segment)));
  expect_drop(Drop::kVlanUnknown, ethernet(kUsVlan, kPeer, 0x0800, vlan_packet, 8));
  EXPECT_EQ(delivered.size(), 3u);
}

TEST_F(NetTest, EveryMalformedFrameIsDroppedForItsOwnReason) {
  const Frame packet = ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 6, segment);
  const auto wrapped = [&](Frame p, bool fix = true) {
    if (fix) fix_ip_checksum(p);
    return ethernet(kUs, kPeer, 0x0800, p);
  };
  const auto changed = [&](std::function<void(Frame&)> f, bool fix = true) {
    Frame p = packet;
    f(p);
    return wrapped(p, fix);
  };
  const auto from = [&](const char* src) { return ethernet(kUs, kPeer, 0x0800, ipv4(ip(src), ip("10.0.0.1"), 6, segment)); };
  const auto to = [&](const char* dst) { return ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip(dst), 6, segment)); };
  const Frame cut_header(good.begin(), good.begin() + 13), cut_ip(good.begin(), good.begin() + 33);
  Frame cut_tag = ethernet(kUs, kPeer, 0x0800, packet, 7);
  cut_tag.resize(17);
  Frame cut_options = ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 6, {}, {1, 1, 1, 0}));
  cut_options.resize(14 + 22);
  Frame one_short = good;
  one_short.pop_back();

  const struct {
    const char* name;
    Drop why;
    Frame frame;
  } rows[] = {
      {"13 bytes", Drop::kEthTruncated, cut_header},
      {"a VLAN tag cut off", Drop::kEthTruncated, cut_tag},
      {"another's MAC", Drop::kEthNotOurs, ethernet(kOther, kPeer, 0x0800, packet)},
      {"IPv4 in a broadcast frame", Drop::kEthNotOurs, ethernet(kBroadcast, kPeer, 0x0800, packet)},
      {"multicast MAC", Drop::kEthNotOurs, ethernet({{1, 0, 0x5e, 0, 0, 1}}, kPeer, 0x0800, packet)},
      {"LLC length", Drop::kEthTypeUnknown, ethernet(kUs, kPeer, 0x0026, packet)},
      {"a tag in a tag", Drop::kEthTypeUnknown, ethernet(kUsVlan, kPeer, 0x8100, packet, 7)},
      {"IPv6", Drop::kIpv6, ethernet(kUs, kPeer, 0x86dd, Frame(40))},
      {"19 bytes of IP", Drop::kIpTruncated, cut_ip},
      {"options beyond the frame", Drop::kIpTruncated, cut_options},
      {"version 6 in an IPv4 frame", Drop::kIpBadVersion, changed([](Frame& p) { p[0] = 0x65; })},
      {"header length 4", Drop::kIpBadHeaderLength, changed([](Frame& p) { p[0] = 0x44; })},
      {"total length below the header", Drop::kIpBadLength, changed([](Frame& p) { set16(p, 2, 19); })},
      {"total length above the frame", Drop::kIpBadLength, one_short},
      {"a flipped bit", Drop::kIpBadChecksum, changed([](Frame& p) { p[8] ^= 1; }, false)},
      {"another host", Drop::kIpNotOurs, to("10.0.0.2")},
      {"our address on another interface", Drop::kIpNotOurs, to("10.1.0.1")},
      {"the subnet's broadcast", Drop::kIpNotOurs, to("10.0.0.255")},
      {"a multicast group", Drop::kIpNotOurs, to("224.0.0.1")},
      {"source 0.0.0.0", Drop::kIpBadSource, from("0.0.0.0")},
      {"source loopback", Drop::kIpBadSource, from("127.0.0.1")},
      {"source multicast", Drop::kIpBadSource, from("224.0.0.1")},
      {"source limited broadcast", Drop::kIpBadSource, from("255.255.255.255")},
      {"source subnet broadcast", Drop::kIpBadSource, from("10.0.0.255")},
      {"source is us (LAND)", Drop::kIpBadSource, from("10.0.0.1")},
      {"source is our other address", Drop::kIpBadSource, from("10.1.0.1")},
      {"TTL 0", Drop::kIpTtlZero, changed([](Frame& p) { p[8] = 0; })},
      {"a first fragment", Drop::kIpFragment, changed([](Frame& p) { set16(p, 6, 0x2000); })},
      {"a last fragment", Drop::kIpFragment, changed([](Frame& p) { set16(p, 6, 0x0001); })},
      {"a tiny overlapping fragment", Drop::kIpFragment, changed([](Frame& p) { set16(p, 6, 0x2001); })},
      {"options", Drop::kIpOptions, ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 6, segment, {1, 1, 1, 0}))},
      {"UDP", Drop::kIpProtocolUnknown, changed([](Frame& p) { p[9] = 17; })},
      {"GRE", Drop::kIpProtocolUnknown, changed([](Frame& p) { p[9] = 47; })},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    expect_drop(row.why, row.frame);
  }
  EXPECT_TRUE(delivered.empty());
}

TEST_F(NetTest, BelievesThePortsChecksumVerdictOnlyWhereItGivesOne) {
  Frame bad = good;
  bad[14 + 10] ^= 0xff;
  expect_drop(Drop::kIpBadChecksum, bad);
  expect_drop(Drop::kIpBadChecksum, good, 0, RTE_MBUF_F_RX_IP_CKSUM_BAD);
  expect_drop(Drop::kTcpBadChecksum, good, 0, RTE_MBUF_F_RX_L4_CKSUM_BAD);
  in(bad, 0, RTE_MBUF_F_RX_IP_CKSUM_GOOD);
  in(good, 0, RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD);
  EXPECT_EQ(delivered.size(), 2u);
  EXPECT_EQ(last.m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK, uint64_t(RTE_MBUF_F_RX_L4_CKSUM_GOOD));
}

// ---- ICMP

TEST_F(NetTest, AnswersEchoWithTheSameBytesAndRightChecksums) {
  settle();
  for (const std::string& text : {std::string("ping"), std::string("an odd payload!"), std::string(1400, 'x')}) {
    const Frame payload(text.begin(), text.end());
    in(ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.5"), 1, icmp(8, 0, 0xabcd0001, payload))));
    const auto frames = out();
    ASSERT_EQ(frames.size(), 1u);
    const Frame& f = frames[0];
    EXPECT_EQ(f, ethernet(kPeer, kUs, 0x0800, [&] {
                Frame p = ipv4(ip("10.0.0.5"), ip("10.0.0.9"), 1, icmp(0, 0, 0xabcd0001, payload));
                set16(p, 4, 0);
                fix_ip_checksum(p);
                return p;
              }()));
  }
}

TEST_F(NetTest, RefusesBrokenUnwantedAndTooManyIcmp) {
  const auto frame = [&](Frame message) { return ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 1, message)); };
  Frame bad = icmp(8, 0, 1, {});
  bad[2] ^= 1;
  expect_drop(Drop::kIcmpMalformed, frame(bad));
  expect_drop(Drop::kIcmpMalformed, frame({8, 0, 0xf7, 0xff}));
  expect_drop(Drop::kIcmpIgnored, frame(icmp(5, 1, 0x0a000063, Frame(28))));  // redirect
  expect_drop(Drop::kIcmpIgnored, frame(icmp(13, 0, 1, Frame(12))));          // timestamp
  expect_drop(Drop::kIcmpIgnored, frame(icmp(0, 0, 1, {})));                  // reply nobody asked for
  const Frame ping = frame(icmp(8, 0, 1, {}));
  uint32_t answered = 0;
  for (uint32_t i = 0; i < 2 * kIcmpPerSecondMax; i++) {
    in(ping);
    answered += uint32_t(out().size());
  }
  EXPECT_GT(drops.get(Drop::kIcmpRateLimited), 0u);
  EXPECT_LE(answered, kIcmpPerSecondMax / 4);  // the burst; no time passed
  now.mono_us += kSec;
  in(ping);
  EXPECT_EQ(out().size(), 1u);
}

TEST_F(NetTest, AnswersUdpPortUnreachableAndUnknownProtocolsProtocolUnreachable) {
  settle();
  for (const auto& [protocol, code] : {std::pair{17, 3}, std::pair{47, 2}}) {
    const Frame packet = ipv4(ip("10.0.0.9"), ip("10.0.0.1"), uint8_t(protocol), Frame(100, 0x61));
    in(ethernet(kUs, kPeer, 0x0800, packet));
    const auto frames = out();
    ASSERT_EQ(frames.size(), 1u);
    const Frame& f = frames[0];
    EXPECT_EQ(plain_checksum(f, 14, 34), 0);
    EXPECT_EQ(plain_checksum(f, 34, f.size()), 0);
    EXPECT_EQ(f[34], 3);
    EXPECT_EQ(f[35], code);
    EXPECT_EQ(Frame(f.begin() + 42, f.end()), packet);
    EXPECT_EQ(get32(f, 30), ip("10.0.0.9").v);
  }
  EXPECT_EQ(drops.get(Drop::kIpProtocolUnknown), 2u);
}

TEST_F(NetTest, NeverSendsAnErrorAboutAnErrorAFragmentOrABroadcast) {
  settle();
  Frame fragment = ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 17, Frame(100));
  set16(fragment, 6, 0x2000);
  fix_ip_checksum(fragment);
  in(ethernet(kUs, kPeer, 0x0800, fragment));
  in(ethernet(kBroadcast, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.255"), 17, Frame(10))));
  in(ethernet(kBroadcast, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 17, Frame(10))));
  in(ethernet(kUs, kPeer, 0x0800,
              ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 1, icmp(3, 3, 0, ipv4(ip("10.0.0.1"), ip("10.0.0.9"), 17, Frame(8))))));
  EXPECT_TRUE(out().empty());
  const Frame udp = ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.9"), ip("10.0.0.1"), 17, Frame(10)));
  size_t answers = 0;
  for (uint32_t i = 0; i < 2 * kIcmpPerSecondMax; i++) {
    in(udp);
    answers += out().size();
  }
  EXPECT_EQ(answers, kIcmpPerSecondMax / 4);
  EXPECT_EQ(stack->counters().icmp_errors_limited.get(), 2 * kIcmpPerSecondMax - answers);
}

TEST_F(NetTest, HandsIcmpErrorsUpWithTheTupleAndSequenceOfOurPacket) {
  const auto about = [&](uint8_t type, uint8_t code, uint32_t rest, const char* src = "10.0.0.1", uint8_t protocol = 6) {
    Frame quoted = ipv4(ip(src), ip("93.184.216.34"), protocol, tcp(40001, 443, 0xdeadbeef));
    quoted.resize(28);  // RFC 792: the header and 8 bytes
    return ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.254"), ip("10.0.0.1"), 1, icmp(type, code, rest, quoted)));
  };
  using Kind = PathError::Kind;
  const std::tuple<uint8_t, uint8_t, Kind> rows[] = {{3, 0, Kind::kNetUnreachable},      {3, 1, Kind::kHostUnreachable},
                                                     {3, 2, Kind::kProtocolUnreachable}, {3, 3, Kind::kPortUnreachable},
                                                     {3, 4, Kind::kFragmentationNeeded}, {3, 13, Kind::kProhibited},
                                                     {11, 0, Kind::kTimeExceeded}};
  for (const auto& [type, code, kind] : rows) in(about(type, code, 1400));
  const auto all = errors();
  ASSERT_EQ(all.size(), std::size(rows));
  for (size_t i = 0; i < all.size(); i++) {
    EXPECT_EQ(all[i].kind, std::get<2>(rows[i])) << i;
    EXPECT_EQ(all[i].tuple.local.to_string(), "10.0.0.1:40001");
    EXPECT_EQ(all[i].tuple.remote.to_string(), "93.184.216.34:443");
    EXPECT_EQ(all[i].seq, 0xdeadbeefu);
    EXPECT_EQ(all[i].mtu, all[i].kind == Kind::kFragmentationNeeded ? 1400 : 0);
  }
  expect_drop(Drop::kIcmpIgnored, about(3, 1, 0, "10.0.0.77"));     // not a packet of ours
  expect_drop(Drop::kIcmpIgnored, about(3, 1, 0, "10.0.0.1", 17));  // nor of TCP
  Frame cut = ipv4(ip("10.0.0.1"), ip("93.184.216.34"), 6, Frame(7));
  expect_drop(Drop::kIcmpMalformed, ethernet(kUs, kPeer, 0x0800, ipv4(ip("10.0.0.254"), ip("10.0.0.1"), 1, icmp(3, 1, 0, cut))));
  EXPECT_TRUE(errors().empty());
  for (uint32_t i = 0; i < Stack::kPathErrorsMax + 10; i++) in(about(3, 1, 0));
  EXPECT_EQ(errors().size(), Stack::kPathErrorsMax);  // bounded: they are hints
}

// ---- ARP

TEST_F(NetTest, AnswersArpForEachOfItsAddressesAndNoOther) {
  settle();
  Frame request = ethernet(kBroadcast, kPeer, 0x0806, arp(1, kPeer, ip("10.0.0.9"), kNone, ip("10.0.0.5")));
  request.resize(60);  // Ethernet's padding
  in(request);
  const auto frames = out();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0], ethernet(kPeer, kUs, 0x0806, arp(2, kUs, ip("10.0.0.5"), kPeer, ip("10.0.0.9"))));
  in(ethernet(kBroadcast, kPeer, 0x0806, arp(1, kPeer, ip("0.0.0.0"), kNone, ip("10.0.0.1"))));  // RFC 5227 probe
  EXPECT_EQ(out().size(), 1u);
  expect_drop(Drop::kArpNotOurs, ethernet(kBroadcast, kPeer, 0x0806, arp(1, kPeer, ip("10.0.0.9"), kNone, ip("10.0.0.2"))));
  expect_drop(Drop::kArpNotOurs, ethernet(kBroadcast, kPeer, 0x0806, arp(1, kPeer, ip("10.0.0.9"), kNone, ip("10.7.0.1"))));
  in(ethernet(kBroadcast, kPeer, 0x0806, arp(1, kPeer, ip("10.7.0.9"), kNone, ip("10.7.0.1")), 7));
  const auto tagged = out();
  ASSERT_EQ(tagged.size(), 1u);
  EXPECT_EQ(tagged[0], ethernet(kPeer, kUsVlan, 0x0806, arp(2, kUsVlan, ip("10.7.0.1"), kPeer, ip("10.7.0.9")), 7));
  EXPECT_EQ(neighbours->size(), 0u);  // strangers cannot fill the table
}

TEST_F(NetTest, DropsMalformedArp) {
  const Frame fine = arp(1, kPeer, ip("10.0.0.9"), kNone, ip("10.0.0.1"));
  const auto changed = [&](size_t at, uint8_t value) {
    Frame f = fine;
    f[at] = value;
    return ethernet(kBroadcast, kPeer, 0x0806, f);
  };
  Frame cut = ethernet(kBroadcast, kPeer, 0x0806, fine);
  cut.pop_back();
  expect_drop(Drop::kArpMalformed, cut);
  for (const auto& [at, value] : {std::pair{1, 6}, {2, 0x86}, {4, 8}, {5, 16}, {7, 3}, {7, 0}, {8, 1}, {14, 127}, {14, 224}})
    expect_drop(Drop::kArpMalformed, changed(size_t(at), uint8_t(value)));
  expect_drop(Drop::kArpMalformed, ethernet(kBroadcast, kPeer, 0x0806, arp(1, kNone, ip("10.0.0.9"), kNone, ip("10.0.0.1"))));
}

TEST_F(NetTest, AnnouncesEachAddressTwiceAtStart) {
  stack->advance(now);
  auto first = out();
  const auto second_port = out(1);
  ASSERT_EQ(first.size(), 3u);
  ASSERT_EQ(second_port.size(), 1u);
  EXPECT_EQ(first[0], ethernet(kBroadcast, kUs, 0x0806, arp(1, kUs, ip("10.0.0.1"), kNone, ip("10.0.0.1"))));
  EXPECT_EQ(first[2], ethernet(kBroadcast, kUsVlan, 0x0806, arp(1, kUsVlan, ip("10.7.0.1"), kNone, ip("10.7.0.1")), 7));
  now.mono_us += 1900 * kMs;
  stack->advance(now);
  EXPECT_TRUE(out().empty());
  now.mono_us += 100 * kMs;
  stack->advance(now);
  EXPECT_EQ(out().size(), 3u);
  pass(10 * kSec);
  EXPECT_TRUE(out().empty());
}

TEST_F(NetTest, DefendsItsAddressOncePerIntervalAndCountsTheConflict) {
  settle();
  const Frame claim = ethernet(kBroadcast, kOther, 0x0806, arp(1, kOther, ip("10.0.0.1"), kNone, ip("10.0.0.1")));
  in(claim);
  in(claim);
  EXPECT_EQ(out().size(), 1u);
  EXPECT_EQ(stack->counters().address_conflicts.get(), 2u);
  pass(10 * kSec);
  in(claim);
  EXPECT_EQ(out().size(), 1u);
}

TEST_F(NetTest, ResolvesThenSendsWhatWaitedInOrder) {
  settle();
  for (uint32_t i = 0; i < 3; i++) send("10.0.0.1", "10.0.0.9", tcp(1000, 80, i, "data"), RTE_MBUF_F_TX_TCP_CKSUM);
  auto frames = out();
  ASSERT_EQ(frames.size(), 1u);  // one request, whatever waits
  EXPECT_EQ(frames[0], ethernet(kBroadcast, kUs, 0x0806, arp(1, kUs, ip("10.0.0.1"), kNone, ip("10.0.0.9"))));
  in(ethernet(kUs, kPeer, 0x0806, arp(2, kPeer, ip("10.0.0.9"), kUs, ip("10.0.0.1"))));
  stack->advance(now);
  rte_mbuf* m = nullptr;
  ASSERT_EQ(stack->take_frames(0, &m, 1), 1u);
  EXPECT_EQ(m->l2_len, 14);
  EXPECT_EQ(m->l3_len, 20);
  EXPECT_EQ(m->ol_flags, uint64_t(RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM));
  rte_pktmbuf_free(m);
  frames = out();
  ASSERT_EQ(frames.size(), 2u);
  Frame expected = ethernet(kPeer, kUs, 0x0800, ipv4(ip("10.0.0.1"), ip("10.0.0.9"), 6, tcp(1000, 80, 1, "data")));
  set16(expected, 14 + 4, 0);   // RFC 6864: ID 0
  set16(expected, 14 + 10, 0);  // drivers/ or the port fill it
  EXPECT_EQ(frames[0], expected);
  EXPECT_EQ(get32(frames[1], 14 + 20 + 4), 2u);
  send("10.0.0.1", "10.0.0.9", tcp(1000, 80, 9));
  EXPECT_EQ(out().size(), 1u);  // known now
}

TEST_F(NetTest, GivesUpAfterThreeRequestsAndSaysSo) {
  settle();
  send("10.0.0.1", "10.0.0.9", tcp(1000, 80, 77));
  size_t requests = 0;
  for (int i = 0; i < 80; i++, now.mono_us += 50 * kMs) {
    stack->advance(now);
    requests += out().size();
  }
  EXPECT_EQ(requests, 3u);
  EXPECT_EQ(drops.get(Drop::kArpUnresolved), 1u);
  const auto e = errors();
  ASSERT_EQ(e.size(), 1u);
  EXPECT_EQ(e[0].kind, PathError::Kind::kNoNeighbour);
  EXPECT_EQ(e[0].tuple.local.to_string(), "10.0.0.1:1000");
  EXPECT_EQ(e[0].tuple.remote.to_string(), "10.0.0.9:80");
  EXPECT_EQ(e[0].seq, 77u);
  EXPECT_EQ(neighbours->size(), 0u);
}

TEST_F(NetTest, BoundsWhatWaitsForANeighbourAndForAllTogether) {
  for (uint32_t i = 0; i < kNeighbourQueueMax + 3; i++) send("10.0.0.1", "10.0.0.9", tcp(1, 2, i));
  EXPECT_EQ(drops.get(Drop::kArpQueueFull), 3u);
  for (uint32_t i = 0; i < kNeighbourQueuedMax; i++)
    send("10.1.0.1", IpAddress(Ipv4{ip("10.1.1.0").v + i % 64}).to_string().c_str(), tcp(1, 2, i));
  EXPECT_EQ(drops.get(Drop::kArpQueueFull), 3u + kNeighbourQueueMax);
}

TEST_F(NetTest, BoundsTheNeighbourTable) {
  for (uint32_t i = 0; i < kNeighboursMax + 8; i++) {
    send("10.1.0.1", IpAddress(Ipv4{ip("10.1.4.0").v + i}).to_string().c_str(), tcp(1, 2, i));
    // Answered ones leave the waiting list, so only the table's own bound is met.
    const Ipv4 who{ip("10.1.4.0").v + i};
    in(ethernet(kUs, kPeer, 0x0806, arp(2, kPeer, who, kUs, ip("10.1.0.1"))), 1);
    stack->advance(now);
    out(1);
  }
  EXPECT_EQ(neighbours->size(), kNeighboursMax);
  EXPECT_EQ(drops.get(Drop::kArpTableFull), 8u);
  EXPECT_EQ(neighbours->refused(), 8u);
  for (uint32_t i = 0; i < kNeighboursMax; i++) EXPECT_TRUE(neighbours->find(2, Ipv4{ip("10.1.4.0").v + i})) << i;
  pass(700 * kSec);  // unused: forgotten (find() above was the last use)
  EXPECT_EQ(neighbours->size(), 0u);
}

TEST_F(NetTest, ProbesByUnicastWhenAgedAndInUseAndKeepsSending) {
  settle();
  know("10.0.0.9");
  Usec probed_at = 0;
  const Usec start = now.mono_us;
  for (; now.mono_us - start < 70 * kSec; now.mono_us += 500 * kMs) {
    send("10.0.0.1", "10.0.0.9", tcp(1, 2, 3));
    stack->advance(now);
    bool sent = false;
    for (const Frame& f : out()) {
      if (get16(f, 12) == 0x0800) sent = true;
      else if (probed_at == 0) {
        probed_at = now.mono_us;
        EXPECT_EQ(f, ethernet(kPeer, kUs, 0x0806, arp(1, kUs, ip("10.0.0.1"), kPeer, ip("10.0.0.9"))));
        in(ethernet(kUs, kPeer, 0x0806, arp(2, kPeer, ip("10.0.0.9"), kUs, ip("10.0.0.1"))));
      } else ADD_FAILURE() << "probed again after it answered";
    }
    EXPECT_TRUE(sent);
  }
  EXPECT_GE(probed_at - start, Neighbours::kReachable);
}

TEST_F(NetTest, ForgetsANeighbourThatNoLongerAnswersAndAsksAnew) {
  settle();
  know("10.0.0.9");
  const Usec start = now.mono_us;
  size_t unicast = 0, broadcast = 0;
  for (; now.mono_us - start < 68 * kSec; now.mono_us += 250 * kMs) {
    send("10.0.0.1", "10.0.0.9", tcp(1, 2, 3));
    stack->advance(now);
    for (const Frame& f : out())
      if (get16(f, 12) == 0x0806) (f[0] == 0xff ? broadcast : unicast)++;
  }
  EXPECT_EQ(unicast, 3u);
  EXPECT_GE(broadcast, 3u);
  EXPECT_FALSE(neighbours->find(0, ip("10.0.0.9")));
}

TEST_F(NetTest, AForgedClaimChangesNothingWhileTheOwnerAnswers) {
  settle();
  know("10.0.0.9");
  for (const Frame& forged : {ethernet(kUs, kOther, 0x0806, arp(2, kOther, ip("10.0.0.9"), kUs, ip("10.0.0.1"))),
                              ethernet(kBroadcast, kOther, 0x0806, arp(1, kOther, ip("10.0.0.9"), kNone, ip("10.0.0.9"))),
                              ethernet(kBroadcast, kOther, 0x0806, arp(1, kOther, ip("10.0.0.9"), kNone, ip("10.0.0.1")))}) {
    in(forged);
    out();
    EXPECT_EQ(neighbours->find(0, ip("10.0.0.9")), kPeer);
    pass(100 * kMs);  // the probe goes to the owner we know
    const auto frames = out();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(frames[0], ethernet(kPeer, kUs, 0x0806, arp(1, kUs, ip("10.0.0.1"), kPeer, ip("10.0.0.9"))));
    in(forged);  // also while we probe
    in(ethernet(kUs, kPeer, 0x0806, arp(2, kPeer, ip("10.0.0.9"), kUs, ip("10.0.0.1"))));
    out();
  }
  pass(10 * kSec);
  EXPECT_TRUE(out().empty());
  EXPECT_EQ(neighbours->find(0, ip("10.0.0.9")), kPeer);
  EXPECT_EQ(neighbours->conflicts(), 6u);
}

TEST_F(NetTest, AGenuineTakeOverIsLearnedInSeconds) {
  settle();
  know("10.0.0.9");
  in(ethernet(kBroadcast, kOther, 0x0806, arp(1, kOther, ip("10.0.0.9"), kNone, ip("10.0.0.9"))));
  const Usec start = now.mono_us;
  while (neighbours->find(0, ip("10.0.0.9")) != kOther && now.mono_us - start < 10 * kSec) {
    send("10.0.0.1", "10.0.0.9", tcp(1, 2, 3));
    stack->advance(now);
    for (const Frame& f : out())
      if (get16(f, 12) == 0x0806 && f[0] == 0xff) in(ethernet(kUs, kOther, 0x0806, arp(2, kOther, ip("10.0.0.9"), kUs, ip("10.0.0.1"))));
    now.mono_us += 50 * kMs;
  }
  EXPECT_EQ(neighbours->find(0, ip("10.0.0.9")), kOther);
  EXPECT_LT(now.mono_us - start, 4 * kSec);
}

TEST_F(NetTest, UnsolicitedRepliesTeachNothing) {
  in(ethernet(kUs, kOther, 0x0806, arp(2, kOther, ip("10.0.0.9"), kUs, ip("10.0.0.1"))));
  in(ethernet(kBroadcast, kOther, 0x0806, arp(1, kOther, ip("10.0.0.9"), kNone, ip("10.0.0.9"))));
  EXPECT_EQ(neighbours->size(), 0u);
  send("10.0.0.1", "10.0.0.9", tcp(1, 2, 3));
  in(ethernet(kBroadcast, kOther, 0x0806, arp(1, kOther, ip("10.0.0.9"), kNone, ip("10.0.0.9"))));  // asked, but this is no answer to us
  EXPECT_FALSE(neighbours->find(0, ip("10.0.0.9")));
}

TEST_F(NetTest, AnotherWorkersResolutionAndRepliesGoThroughWorkerZero) {
  Neighbours shared(2);
  DropCounters drops1;
  stack = std::make_unique<Stack>(config(), 0, shared, pool, drops);
  Stack one(config(), 1, shared, pool, drops1);
  settle();
  rte_mbuf* m = pool.alloc_control();
  std::copy(segment.begin(), segment.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(segment.size()))));
  one.send({m, IpAddress(ip("10.0.0.1")), IpAddress(ip("10.0.0.9"))}, now);
  one.advance(now);
  EXPECT_TRUE(one.frames(0).empty());
  pass(50 * kMs);
  ASSERT_EQ(out().size(), 1u);  // worker 0 asked
  m = mbuf(ethernet(kUs, kPeer, 0x0806, arp(2, kPeer, ip("10.0.0.9"), kUs, ip("10.0.0.1"))));
  L4Packet none[1];
  EXPECT_EQ(one.input(0, {&m, 1}, now, none), 0u);  // the reply reached worker 1
  pass(50 * kMs);
  one.advance(now);
  ASSERT_EQ(one.take_frames(0, &m, 1), 1u);
  EXPECT_EQ(Frame(bytes_of(m).begin(), bytes_of(m).begin() + 6), Frame(kPeer.b.begin(), kPeer.b.end()));
  rte_pktmbuf_free(m);
  stack.reset();
}

// ---- send and routes

TEST_F(NetTest, RoutesByTheLongestPrefixOutOfTheSourcesInterface) {
  settle();
  const struct {
    const char *src, *dst;
    unsigned port;
    const char* next_hop;
  } rows[] = {{"10.0.0.1", "10.0.0.77", 0, "10.0.0.77"},    {"10.0.0.5", "8.8.8.8", 0, "10.0.0.254"},
              {"10.0.0.1", "192.168.1.1", 0, "10.0.0.253"}, {"10.1.0.1", "192.168.9.1", 1, "10.1.0.9"},
              {"10.0.0.1", "192.168.9.1", 0, "10.0.0.253"},  // strong host: not out of port 1
              {"10.1.0.1", "10.1.200.1", 1, "10.1.200.1"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.dst);
    make(config());
    settle();
    send(row.src, row.dst, tcp(1, 2, 3));
    const auto frames = out(row.port);
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(get32(frames[0], 14 + 24), ip(row.next_hop).v);
    EXPECT_TRUE(out(1 - row.port).empty());
  }
}

TEST_F(NetTest, RefusesToSendWhereThereIsNoWay) {
  settle();
  for (const auto& [src, dst] : {std::pair{"10.1.0.1", "8.8.8.8"},
                                 {"10.0.0.77", "10.0.0.9"},
                                 {"10.0.0.1", "224.0.0.1"},
                                 {"10.0.0.1", "10.0.0.5"},
                                 {"10.0.0.1", "127.0.0.1"},
                                 {"10.0.0.1", "255.255.255.255"}}) {
    send(src, dst, tcp(5, 6, 7));
    const auto e = errors();
    ASSERT_EQ(e.size(), 1u) << dst;
    EXPECT_EQ(e[0].kind, PathError::Kind::kNoRoute);
    EXPECT_EQ(e[0].seq, 7u);
  }
  EXPECT_EQ(drops.get(Drop::kNoRoute), 6u);
  send("10.0.0.1", "2001:db8::1", tcp(5, 6, 7));
  EXPECT_EQ(drops.get(Drop::kIpv6), 1u);
  send("10.0.0.1", "10.0.0.9", tcp(5, 6, 7, std::string(1461, 'x')));
  EXPECT_EQ(drops.get(Drop::kPortOversize), 1u);
}

TEST_F(NetTest, ChoosesTheSourceOfAnActiveOpen) {
  const auto source = [&](const char* dst) { return stack->source_for(*IpAddress::parse(dst)); };
  EXPECT_EQ(source("10.0.0.9"), IpAddress(ip("10.0.0.1")));
  EXPECT_EQ(source("10.7.0.9"), IpAddress(ip("10.7.0.1")));
  EXPECT_EQ(source("192.168.9.4"), IpAddress(ip("10.1.0.1")));
  EXPECT_EQ(source("1.2.3.4"), IpAddress(ip("10.0.0.1")));
  EXPECT_EQ(source("10.0.0.5"), std::nullopt);
  EXPECT_EQ(source("::1"), std::nullopt);
  EXPECT_EQ(stack->mtu_to(IpAddress(ip("1.2.3.4"))), 1500);
  EXPECT_TRUE(stack->is_local(IpAddress(ip("10.0.0.5"))));
  EXPECT_FALSE(stack->is_local(IpAddress(ip("10.0.0.6"))));
}

TEST_F(NetTest, BoundsTheFramesThatWaitForThePortAndKeepsTheirOrder) {
  settle();
  know("10.0.0.9");
  for (uint32_t i = 0; i < kNetQueueMax; i++) send("10.0.0.1", "10.0.0.9", tcp(1, 2, i));
  std::deque<uint32_t> seen;
  const auto take = [&](unsigned n) {
    rte_mbuf* m = nullptr;
    for (; n > 0 && stack->take_frames(0, &m, 1) == 1; n--) {
      seen.push_back(get32(Frame(bytes_of(m).begin(), bytes_of(m).end()), 38));
      rte_pktmbuf_free(m);
    }
  };
  take(10);
  for (uint32_t i = 0; i < 12; i++) send("10.0.0.1", "10.0.0.9", tcp(1, 2, kNetQueueMax + i));
  EXPECT_EQ(drops.get(Drop::kPortTxFull), 2u);
  take(kNetQueueMax);
  ASSERT_EQ(seen.size(), kNetQueueMax + 10);
  for (uint32_t i = 0; i < seen.size(); i++) ASSERT_EQ(seen[i], i);
}

TEST_F(NetTest, ADroppedPacketLeavesItsHoldersChargeAlone) {
  rte_mbuf* m = pool.alloc_held();
  rte_pktmbuf_append(m, 20);
  rte_mbuf_refcnt_update(m, 1);  // TCP keeps it until it is acknowledged
  stack->send({m, IpAddress(ip("10.1.0.1")), IpAddress(ip("8.8.8.8"))}, now);
  EXPECT_EQ(drops.get(Drop::kNoRoute), 1u);
  EXPECT_EQ(pool.held(), 1u);
  free_mbuf(m);
  EXPECT_EQ(pool.held(), 0u);
}

// ---- fuzz corpus (ethernet_fuzz.cc has the oracles)

TEST(EthernetFuzz, TheCorpusRunsWithoutAFailure) {
  unsigned files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/ethernet")) {
    SCOPED_TRACE(entry.path().string());
    std::ifstream f(entry.path(), std::ios::binary);
    const Frame bytes{std::istreambuf_iterator<char>(f), {}};
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    files++;
  }
  EXPECT_GE(files, 15u);
}

TEST(EthernetFuzz, MutationsOfTheCorpusKeepTheOracles) {
  const uint64_t seed = 5;
  Rng rng(seed);
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/ethernet")) {
    std::ifstream f(entry.path(), std::ios::binary);
    const Frame bytes{std::istreambuf_iterator<char>(f), {}};
    for (int round = 0; round < 100; round++) {
      SCOPED_TRACE(entry.path().string() + " seed " + std::to_string(seed) + " round " + std::to_string(round));
      Frame mutant = bytes;
      for (uint32_t n = 1 + rng.below(4); n > 0; n--) mutant[rng.below(uint32_t(mutant.size()))] = uint8_t(rng.next());
      LLVMFuzzerTestOneInput(mutant.data(), mutant.size());
    }
  }
}

// ---- configuration

TEST(NetConfig, EachFaultIsNamedWithItsPlace) {
  const auto fault = [](std::function<void(Config&)> change) {
    Config c = config();
    change(c);
    const auto v = validate(c);
    return v ? std::string() : v.error();
  };
  EXPECT_EQ(fault([](Config&) {}), "");
  const struct {
    const char* expect;
    std::function<void(Config&)> change;
  } rows[] = {
      {"no interface", [](Config& c) { c.interfaces.clear(); }},
      {"there is no such port", [](Config& c) { c.interfaces[1].port = 2; }},
      {"is no unicast address", [](Config& c) { c.interfaces[0].mac = kBroadcast; }},
      {"VLAN 4095 is not 1..4094", [](Config& c) { c.interfaces[1].vlan = 4095; }},
      {"MTU 9000", [](Config& c) { c.interfaces[0].mtu = 9000; }},
      {"has no address", [](Config& c) { c.interfaces[0].addresses.clear(); }},
      {"IPv6", [](Config& c) { c.interfaces[0].addresses[0] = prefix("2001:db8::1/64"); }},
      {"no unicast host address", [](Config& c) { c.interfaces[0].addresses[0] = prefix("127.0.0.1/8"); }},
      {"the network's own or its broadcast", [](Config& c) { c.interfaces[0].addresses[0] = prefix("10.0.0.0/24"); }},
      {"must be 1..32", [](Config& c) { c.interfaces[0].addresses[0] = prefix("10.0.0.1/0"); }},
      {"is given twice", [](Config& c) { c.interfaces[2].addresses[0] = prefix("10.0.0.1/16"); }},
      {"same port and VLAN", [](Config& c) { c.interfaces[1].vlan.reset(); }},
      {"in no connected network", [](Config& c) { c.routes[0].gateway = IpAddress(ip("9.9.9.9")); }},
      {"our own address", [](Config& c) { c.routes[0].gateway = IpAddress(ip("10.0.0.5")); }},
      {"more than 256 routes", [](Config& c) { c.routes.resize(257, c.routes[0]); }},
  };
  for (const auto& row : rows) EXPECT_NE(fault(row.change).find(row.expect), std::string::npos) << row.expect << ": " << fault(row.change);
}

}  // namespace
}  // namespace sluice::net
