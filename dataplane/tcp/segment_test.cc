// Segments as they lie on the wire: what parses, what is refused and by which name, and that what we write parses to what we meant.
#include "dataplane/tcp/segment.h"

#include "dataplane/tcp/test_peer.h"

namespace sluice::tcp {
namespace {

using namespace test;

std::optional<Options> parsed(const Frame& bytes, bool syn = true) { return parse_options(bytes, syn); }

TEST(TcpOptions, EachKnownOptionOfASynIsRead) {
  const auto o = parsed(options({mss(1400), scale(7), sack_permitted(), stamps(0x01020304, 5)}));
  ASSERT_TRUE(o);
  EXPECT_EQ(o->mss, 1400);
  EXPECT_TRUE(o->has_window_scale);
  EXPECT_EQ(o->window_scale, 7);
  EXPECT_TRUE(o->sack_permitted);
  EXPECT_TRUE(o->has_timestamps);
  EXPECT_EQ(o->ts_value, 0x01020304u);
  EXPECT_EQ(o->ts_echo, 5u);
}

TEST(TcpOptions, MssScaleAndSackPermittedCountOnlyInASyn) {
  const auto o = parsed(options({mss(1400), scale(7), sack_permitted(), stamps(9, 5)}), false);
  ASSERT_TRUE(o);
  EXPECT_EQ(o->mss, 0);
  EXPECT_FALSE(o->has_window_scale);
  EXPECT_FALSE(o->sack_permitted);
  EXPECT_EQ(o->ts_value, 9u);
}

TEST(TcpOptions, UnknownOptionsAreSkippedByTheirLength) {  // RFC 9293 MUST-6
  const auto o = parsed(options({{254, 6, 1, 2, 3, 4}, {253, 2}, mss(1000)}));
  ASSERT_TRUE(o);
  EXPECT_EQ(o->mss, 1000);
}

TEST(TcpOptions, NothingIsReadBehindTheEndOfTheList) {
  const auto o = parsed({1, 0, 2, 4, 5, 220, 9, 0});
  ASSERT_TRUE(o);
  EXPECT_EQ(o->mss, 0);
}

TEST(TcpOptions, ALengthThatCannotBeRefusesTheSegment) {  // RFC 9293 MUST-7
  EXPECT_FALSE(parsed({2, 0, 5, 220}));
  EXPECT_FALSE(parsed({2, 1, 5, 220}));
  EXPECT_FALSE(parsed({1, 1, 1, 8}));   // no length byte
  EXPECT_FALSE(parsed({8, 10, 0, 0}));  // runs past the end
  EXPECT_FALSE(parsed({254, 255, 0, 0}));
  EXPECT_TRUE(parsed({}));
}

TEST(TcpOptions, AKnownOptionOfAnotherLengthIsIgnored) {
  const auto o = parsed(options({{2, 3, 9}, {3, 4, 1, 1}, {4, 3, 0}, {8, 6, 1, 2, 3, 4}}));
  ASSERT_TRUE(o);
  EXPECT_EQ(o->mss, 0);
  EXPECT_FALSE(o->has_window_scale || o->sack_permitted || o->has_timestamps);
}

TEST(TcpOptions, AScaleAbove14CountsAs14) {  // RFC 7323 2.3
  EXPECT_EQ(parsed(options({scale(14)}))->window_scale, 14);
  EXPECT_EQ(parsed(options({scale(15)}))->window_scale, 14);
  EXPECT_EQ(parsed(options({scale(255)}))->window_scale, 14);
}

class TcpSegment : public TcpTest {
 protected:
  // The parser's answer to `bytes`: the drop reason, or "".
  std::string verdict(const Frame& bytes, uint64_t mbuf_flags = 0, const IpAddress& src = kPeerIp) {
    rte_mbuf* m = pool().alloc_control();
    std::copy(bytes.begin(), bytes.end(), rte_pktmbuf_mtod(m, uint8_t*));
    m->data_len = uint16_t(bytes.size());
    m->pkt_len = bytes.size();
    m->ol_flags = mbuf_flags;
    const auto p = parse_segment({m, src, kOurIp});
    if (p) last = *p;
    rte_pktmbuf_free(m);
    return p ? "" : std::string(name_of(p.error()));
  }
  Frame plain(uint8_t flags, const std::string& payload = "") { return wire(1000, 80, 7, 9, flags, 512, {}, payload); }
  ParsedSegment last;
};

TEST_F(TcpSegment, EveryFieldIsRead) {
  ASSERT_EQ(verdict(wire(1000, 80, 0x01020304, 0x05060708, kAck | kPsh, 512, options({stamps(1, 2)}), "hello")), "");
  EXPECT_EQ(last.tuple, (FourTuple{{kOurIp, 80}, {kPeerIp, 1000}}));
  EXPECT_EQ(last.segment.seq.v, 0x01020304u);
  EXPECT_EQ(last.segment.ack.v, 0x05060708u);
  EXPECT_EQ(last.segment.flags, kAck | kPsh);
  EXPECT_EQ(last.segment.window, 512u);
  EXPECT_EQ(last.segment.header_bytes, 32);
  EXPECT_EQ(last.segment.payload_bytes, 5u);
  EXPECT_EQ(last.segment.length(), 5u);
}

TEST_F(TcpSegment, SynAndFinTakeANumberEach) {  // RFC 9293 3.4: SEG.LEN
  ASSERT_EQ(verdict(plain(kSyn)), "");
  EXPECT_EQ(last.segment.length(), 1u);
  ASSERT_EQ(verdict(plain(kFin | kAck, "ab")), "");
  EXPECT_EQ(last.segment.length(), 3u);
  EXPECT_EQ(last.segment.end().v, 10u);
}

TEST_F(TcpSegment, ATruncatedHeaderIsRefused) {
  for (size_t n = 0; n < 20; n++) {
    Frame f = plain(kAck);
    f.resize(n);
    EXPECT_EQ(verdict(f), "tcp_truncated") << n;
  }
}

TEST_F(TcpSegment, ADataOffsetBelow5WordsOrBehindTheEndIsRefused) {
  Frame f = plain(kAck, "abcd");
  for (unsigned words = 0; words < 16; words++) {
    f[12] = uint8_t(words << 4);
    const std::string v = verdict(f, RTE_MBUF_F_RX_L4_CKSUM_GOOD);
    if (words < 5 || words > 6) EXPECT_EQ(v, "tcp_bad_data_offset") << words;
    else EXPECT_NE(v, "tcp_bad_data_offset") << words;
  }
}

TEST_F(TcpSegment, AFlippedBitAnywhereFailsTheChecksum) {  // RFC 9293 MUST-3
  const Frame good = wire(1000, 80, 7, 9, kAck, 512, options({stamps(1, 2)}), "odd");
  for (size_t bit = 0; bit < good.size() * 8; bit++) {
    if (bit / 8 == 12) continue;  // the data offset is looked at first
    Frame f = good;
    f[bit / 8] ^= uint8_t(1 << bit % 8);
    EXPECT_EQ(verdict(f), "tcp_bad_checksum") << "bit " << bit;
  }
  EXPECT_EQ(verdict(good, 0, *IpAddress::parse("10.0.0.9")), "tcp_bad_checksum") << "the pseudo-header counts";
}

TEST_F(TcpSegment, AChecksumThatThePortVerifiedIsTrusted) {
  Frame f = plain(kAck);
  f[16] ^= 1;
  EXPECT_EQ(verdict(f), "tcp_bad_checksum");
  EXPECT_EQ(verdict(f, RTE_MBUF_F_RX_L4_CKSUM_GOOD), "");
  EXPECT_EQ(verdict(f, RTE_MBUF_F_RX_L4_CKSUM_BAD), "tcp_bad_checksum");
  EXPECT_EQ(verdict(f, RTE_MBUF_F_RX_L4_CKSUM_NONE), "tcp_bad_checksum");
}

TEST_F(TcpSegment, BadOptionsAreRefused) { EXPECT_EQ(verdict(wire(1000, 80, 7, 9, kAck, 512, {8, 10, 0, 0}, "")), "tcp_bad_options"); }

TEST_F(TcpSegment, ASynWithFinOrRstIsRefused) {
  EXPECT_EQ(verdict(plain(kSyn | kFin)), "tcp_bad_flags");
  EXPECT_EQ(verdict(plain(kSyn | kRst)), "tcp_bad_flags");
  EXPECT_EQ(verdict(plain(kSyn | kFin | kRst | kPsh | kAck | kUrg)), "tcp_bad_flags");
}

TEST_F(TcpSegment, WhatIsNotIpv4IsRefused) { EXPECT_EQ(verdict(plain(kAck), 0, *IpAddress::parse("2001:db8::1")), "ipv6_not_supported"); }

TEST_F(TcpSegment, WhatWeWriteParsesToWhatWeMeant) {
  for (unsigned mask = 0; mask < 8; mask++) {
    Segment s;
    s.seq = {0xfffffffe};
    s.ack = {77};
    s.flags = mask & 1 ? kSyn | kAck : kAck;
    s.window = 4711;
    if (mask & 1) {
      s.options.mss = 1460;
      s.options.has_window_scale = mask & 2;
      s.options.window_scale = mask & 2 ? 9 : 0;
    }
    s.options.has_timestamps = mask & 4;
    s.options.ts_value = mask & 4 ? 0xa1b2c3d4 : 0;
    s.options.ts_echo = mask & 4 ? 3 : 0;
    rte_mbuf* m = pool().alloc_control();
    std::fill_n(rte_pktmbuf_append(m, 3), 3, 'x');
    write_header(m, {{kOurIp, 80}, {kPeerIp, 1000}}, s);
    EXPECT_EQ(m->data_len, header_bytes(s) + 3);
    m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    const auto p = parse_segment({m, kOurIp, kPeerIp});
    ASSERT_TRUE(p) << mask;
    EXPECT_EQ(p->tuple, (FourTuple{{kPeerIp, 1000}, {kOurIp, 80}}));
    EXPECT_EQ(p->segment.seq, s.seq);
    EXPECT_EQ(p->segment.ack, s.ack);
    EXPECT_EQ(p->segment.flags, s.flags);
    EXPECT_EQ(p->segment.window, s.window);
    EXPECT_EQ(p->segment.payload_bytes, 3u);
    EXPECT_EQ(p->segment.options.mss, s.options.mss);
    EXPECT_EQ(p->segment.options.has_window_scale, s.options.has_window_scale);
    EXPECT_EQ(p->segment.options.window_scale, s.options.window_scale);
    EXPECT_EQ(p->segment.options.has_timestamps, s.options.has_timestamps);
    EXPECT_EQ(p->segment.options.ts_value, s.options.ts_value);
    EXPECT_EQ(p->segment.options.ts_echo, s.options.ts_echo);
    rte_pktmbuf_free(m);
  }
}

}  // namespace
}  // namespace sluice::tcp
