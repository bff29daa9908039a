// Opening: strangers, LISTEN, SYN-RECEIVED, SYN-SENT (RFC 9293 3.10.7.1 to .3), options, initial numbers, ports, and the limits on all of
// it.
#include <set>

#include "dataplane/packet/owner.h"
#include "dataplane/tcp/test_peer.h"

namespace sluice::tcp {
namespace {

using namespace test;

class TcpStranger : public TcpTest {};

TEST_F(TcpStranger, AnAckIsAnsweredByAnRstAtItsAcknowledgmentNumber) {  // RFC 9293 3.10.7.1: <SEQ=SEG.ACK><CTL=RST>
  EXPECT_EQ(arrive({.flags = kAck, .seq = 10, .ack = 777}), "tcp_no_connection");
  EXPECT_EQ(sent(), "R 777");
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .seq = 10, .ack = 777}), "tcp_no_connection");
  EXPECT_EQ(sent(), "R 777");
  EXPECT_EQ(stack().counters().resets_out.get(), 2u);
}

TEST_F(TcpStranger, WithoutAnAckTheRstAcknowledgesWhatCame) {  // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
  our_port = 81;                                               // nobody listens
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 10}), "tcp_not_listening");
  EXPECT_EQ(sent(), "RA 0 ack 11");
  EXPECT_EQ(arrive({.flags = kFin | kPsh, .seq = 10, .payload = "abcd"}), "tcp_no_connection");
  EXPECT_EQ(sent(), "RA 0 ack 15");
}

TEST_F(TcpStranger, AnRstIsNeverAnswered) {
  EXPECT_EQ(arrive({.flags = kRst, .seq = 10}), "tcp_no_connection");
  EXPECT_EQ(arrive({.flags = kRst | kAck, .seq = 10, .ack = 4}), "tcp_no_connection");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpStranger, ASegmentWithoutSynAckAndRstIsSilentlyDroppedWhereSomebodyListens) {  // 3.10.7.2, fourth
  EXPECT_EQ(arrive({.flags = kFin, .seq = 10}), "tcp_bad_flags");
  EXPECT_EQ(arrive({.flags = kNothing, .seq = 10, .payload = "x"}), "tcp_bad_flags");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpStranger, RstsAreLimitedPerSecond) {
  config.rst_per_second = 3;
  for (int i = 0; i < 5; i++) EXPECT_EQ(arrive({.ack = 777}), "tcp_no_connection");
  EXPECT_EQ(sent(), "R 777; R 777; R 777");
  EXPECT_EQ(dropped(Drop::kTcpRstLimited), 2u);
  wait(1 * kSec);
  EXPECT_EQ(arrive({.ack = 777}), "tcp_no_connection");
  EXPECT_EQ(sent(), "R 777");
  EXPECT_EQ(dropped(Drop::kTcpRstLimited), 2u);
}

TEST_F(TcpStranger, ATupleOfAnotherWorkerIsNotAnswered) {
  const OwnerHash owner(2);
  config.owner = &owner;
  for (peer_port = 40'000; owner.owner({{kOurIp, kHttp}, {kPeerIp, peer_port}}) == 0; peer_port++) {
  }
  EXPECT_EQ(arrive({.flags = kSyn}), "tcp_wrong_worker");
  EXPECT_EQ(arrive({.flags = kAck}), "tcp_wrong_worker");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpStranger, WhatDoesNotParseIsCountedByItsReasonAndNotAnswered) {
  Frame f = wire(kPeerPort, kHttp, 1, 2, kAck, 512, {}, "x");
  Frame cut(f.begin(), f.begin() + 19);
  EXPECT_EQ(arrive_bytes(cut), "tcp_truncated");
  Frame offset = f;
  offset[12] = 4 << 4;
  EXPECT_EQ(arrive_bytes(offset), "tcp_bad_data_offset");
  Frame sum = f;
  sum[17] ^= 1;
  EXPECT_EQ(arrive_bytes(sum), "tcp_bad_checksum");
  EXPECT_EQ(arrive_bytes(wire(kPeerPort, kHttp, 1, 2, kAck, 512, {3, 0, 0, 0}, "")), "tcp_bad_options");
  EXPECT_EQ(arrive_bytes(wire(kPeerPort, kHttp, 1, 2, kSyn | kFin, 512, {}, "")), "tcp_bad_flags");
  EXPECT_EQ(sent(), "");
}

class TcpPassiveOpen : public TcpTest {};

TEST_F(TcpPassiveOpen, ASynWithoutOptionsIsAnsweredByMssAlone) {
  accept({});
  EXPECT_EQ(syn_ack.mss, 1460);
  EXPECT_FALSE(syn_ack.scale || syn_ack.stamps);
  EXPECT_EQ(syn_ack.window, 0xffff);
}

TEST_F(TcpPassiveOpen, WithoutAnMssOptionWeSend536ByteSegments) {  // RFC 9293 MUST-15
  const StreamId id = accept({});
  EXPECT_EQ(stack().segment_bytes(id), 536u);
  write(id, std::string(600, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 1 len 536; PA 537 ack 1 len 64");
}

TEST_F(TcpPassiveOpen, ThePeersMssIsAnUpperBoundAndOursNeverLessThan64) {
  const StreamId a = accept(mss(1000));
  EXPECT_EQ(stack().segment_bytes(a), 1000u);
  peer_port++;
  EXPECT_EQ(stack().segment_bytes(accept(mss(9000))), 1460u);
  peer_port++;
  EXPECT_EQ(stack().segment_bytes(accept(mss(1))), 64u);
}

TEST_F(TcpPassiveOpen, OurMssFollowsTheLinksMtu) {
  config.mtu = 600;
  accept(mss(1460));
  EXPECT_EQ(syn_ack.mss, 560);
}

TEST_F(TcpPassiveOpen, OptionsAreAnsweredOnlyWhereThePeerOfferedThem) {  // RFC 7323 1.3, 2.2, 3.2
  arrive({.flags = kSyn, .options = options({mss(1460), scale(5)})});
  sent();
  EXPECT_EQ(seen[0].scale, 3);  // 256 KiB >> 3 is the first that fits 16 bits
  EXPECT_FALSE(seen[0].stamps);
  peer_port++;
  arrive({.flags = kSyn, .options = options({mss(1460), stamps(1234, 0)})});
  sent();
  EXPECT_FALSE(seen[0].scale);
  ASSERT_TRUE(seen[0].stamps);
  EXPECT_EQ(seen[0].stamps->second, 1234u);  // TSecr of a SYN-ACK
}

TEST_F(TcpPassiveOpen, WhatWeDoNotOfferIsNotNegotiated) {
  config.window_scale = config.timestamps = false;
  const StreamId id = accept(options({mss(1460), scale(5), stamps(1)}), 1000);
  EXPECT_FALSE(syn_ack.scale || syn_ack.stamps);
  EXPECT_EQ(stack().snapshot(id)->send_window, 1000u);
  EXPECT_EQ(stack().segment_bytes(id), 1460u);
}

TEST_F(TcpPassiveOpen, WindowsAreScaledFromTheFirstSegmentThatIsNoSyn) {  // RFC 7323 2.2
  const StreamId id = accept(options({mss(1460), scale(5)}), 1000);
  EXPECT_EQ(stack().snapshot(id)->send_window, 1000u << 5);
  EXPECT_EQ(syn_ack.window, 0xffff);
  ASSERT_EQ(arrive({.seq = 1, .ack = 1, .payload = "x"}), "");
  EXPECT_EQ(sent(), "A 1 ack 2");
  EXPECT_EQ(seen[0].window, (256 * 1024 - 1) >> 3);
}

TEST_F(TcpPassiveOpen, TimestampsTake12BytesOfEachSegment) {
  const StreamId id = accept(options({mss(1460), stamps(10)}), 0xffff, options({stamps(11, 0)}));
  EXPECT_EQ(stack().segment_bytes(id), 1448u);
  write(id, "x");
  EXPECT_EQ(sent(), "PA 1 ack 1 len 1");
  ASSERT_TRUE(seen[0].stamps);
  EXPECT_EQ(seen[0].stamps->second, 11u);
}

TEST_F(TcpPassiveOpen, NoConnectionIsMadeBeforeTheFinalAck) {  // RFC 4987 3.4
  arrive({.flags = kSyn});
  EXPECT_EQ(stack().syn_entries(), 1u);
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(sent(), "SA 0 ack 1");
  arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(stack().syn_entries(), 0u);
  EXPECT_EQ(stack().streams(), 1u);
  EXPECT_EQ(events(), kOpened | kWritable);
  EXPECT_EQ(stack().counters().passive_opens.get(), 1u);
}

TEST_F(TcpPassiveOpen, DataOnTheFinalAckIsDelivered) {
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(arrive({.flags = kAck | kPsh, .seq = 1, .ack = 1, .payload = "hello"}), "");
  EXPECT_EQ(sent(), "A 1 ack 6");
  ReadyStream r[1];
  ASSERT_EQ(stack().poll_events(r), 1u);
  EXPECT_EQ(r[0].events, kOpened | kReadable | kWritable);
  EXPECT_EQ(read(r[0].id), "hello");
}

TEST_F(TcpPassiveOpen, DataOnTheSynIsNotKept) {
  EXPECT_EQ(arrive({.flags = kSyn, .payload = "early"}), "");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "early"}), "");
  EXPECT_EQ(read(opened()), "early");
}

TEST_F(TcpPassiveOpen, ASynThatComesAgainIsAnsweredBySameSynAck) {
  arrive({.flags = kSyn});
  EXPECT_EQ(sent(), "SA 0 ack 1");
  const uint32_t iss = our_iss;
  now.mono_us += 100 * kMs;
  EXPECT_EQ(arrive({.flags = kSyn}), "");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(our_iss, iss);
  EXPECT_EQ(stack().syn_entries(), 1u);
}

TEST_F(TcpPassiveOpen, AFinalAckOfAnotherNumberIsAnsweredByAnRstAndTheHandshakeGoesOn) {  // 3.10.7.4, fifth, SYN-RECEIVED
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(arrive({.seq = 1, .ack = 2}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "R 2");
  EXPECT_EQ(arrive({.seq = 1, .ack = 0}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "R 0");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1}), "");
  EXPECT_TRUE(opened());
}

TEST_F(TcpPassiveOpen, OutOfWindowAndWithoutAckAreRefusedWhileOpening) {
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(arrive({.seq = 0, .ack = 1}), "tcp_out_of_window");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(arrive({.seq = 70'000, .ack = 1}), "tcp_out_of_window");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 500}), "tcp_out_of_window");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(arrive({.flags = kFin, .seq = 1}), "tcp_bad_flags");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpPassiveOpen, OnlyAnRstOfExactlyTheNextNumberEndsTheHandshake) {  // RFC 5961 3.2
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 2}), "tcp_bad_rst");
  EXPECT_EQ(stack().syn_entries(), 1u);
  EXPECT_EQ(arrive({.flags = kRst, .seq = 1}), "");
  EXPECT_EQ(stack().syn_entries(), 0u);
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(stack().counters().failed_opens.get(), 1u);
}

TEST_F(TcpPassiveOpen, AnOlderTimestampOnTheFinalAckIsRefused) {  // RFC 7323 5.3 R1: dropped, and answered
  arrive({.flags = kSyn, .options = options({mss(1460), stamps(100)})});
  sent();
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .options = options({stamps(99)})}), "tcp_paws");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .options = options({stamps(100)})}), "");
  EXPECT_TRUE(opened());
}

TEST_F(TcpPassiveOpen, AFinalAckWithoutTheNegotiatedTimestampOpensNothing) {  // RFC 7323 3.2
  arrive({.flags = kSyn, .options = options({mss(1460), stamps(100)})});
  sent();
  EXPECT_EQ(arrive({.seq = 1, .ack = 1}), "tcp_bad_options");
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(stack().syn_entries(), 1u);
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpPassiveOpen, ASynAckIsRepeatedAfter1_2_4_8_16SecondsThenForgotten) {
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(wait(120 * kSec), "1000 SA 0 ack 1; 3000 SA 0 ack 1; 7000 SA 0 ack 1; 15000 SA 0 ack 1; 31000 SA 0 ack 1");
  EXPECT_EQ(stack().syn_entries(), 0u);
}

TEST_F(TcpPassiveOpen, AfterALostSynAckTheTimerBeginsWith3SecondsAndOneSegment) {  // RFC 6298 5.7, RFC 5681 3.1
  arrive({.flags = kSyn, .options = mss(1000)});
  sent();
  EXPECT_EQ(wait(1 * kSec + 2 * kMs), "1000 SA 0 ack 1");
  arrive({.seq = 1, .ack = 1});
  const StreamId id = opened();
  write(id, std::string(5000, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000");
  EXPECT_EQ(wait(4 * kSec), "3000 A 1 ack 1 len 1000");
}

TEST_F(TcpPassiveOpen, AFullSynTableRefusesNewSyns) {
  config.syn_max = 2;
  for (int i = 0; i < 2; i++, peer_port++) EXPECT_EQ(arrive({.flags = kSyn}), "");
  sent();
  EXPECT_EQ(arrive({.flags = kSyn}), "tcp_syn_table_full");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpPassiveOpen, AFullConnectionTableRefusesNewSyns) {
  config.connections_max = 2;
  accept();
  peer_port++;
  EXPECT_EQ(arrive({.flags = kSyn}), "");
  sent();
  peer_port++;
  EXPECT_EQ(arrive({.flags = kSyn}), "tcp_table_full") << "half-open ones count";
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpPassiveOpen, ATableThatFilledDuringTheHandshakeEndsItByRst) {
  config.connections_max = 1;
  arrive({.flags = kSyn});
  sent();
  ASSERT_TRUE(stack().connect({kOurIp, 0}, {kPeerIp, 443}, 0, now));
  EXPECT_EQ(arrive({.seq = 1, .ack = 1}), "tcp_table_full");
  L4Packet out[4];
  ASSERT_EQ(stack().output(out, now), 2u);
  EXPECT_EQ(text(read(out[0].m)), "R 1");
  rte_pktmbuf_free(out[0].m);
  rte_pktmbuf_free(out[1].m);
}

TEST_F(TcpPassiveOpen, AListenerIsExactOrOfEveryAddressAndEndsWithUnlisten) {
  EXPECT_EQ(stack().listen({kOurIp, 0}).error(), ListenError::kPortZero);
  EXPECT_EQ(stack().listen({*IpAddress::parse("2001:db8::1"), 81}).error(), ListenError::kNotIpv4);
  EXPECT_EQ(stack().listen({{}, kHttp}).error(), ListenError::kInUse);
  ASSERT_TRUE(stack().listen({*IpAddress::parse("10.0.0.99"), 81}));
  our_port = 81;
  EXPECT_EQ(arrive({.flags = kSyn}), "tcp_not_listening") << "another address";
  sent();
  ASSERT_TRUE(stack().listen({kOurIp, 81}));
  EXPECT_EQ(arrive({.flags = kSyn}), "");
  stack().unlisten({kOurIp, 81});
  peer_port++;
  EXPECT_EQ(arrive({.flags = kSyn}), "tcp_not_listening");
}

class TcpInitialNumbers : public TcpTest {
 protected:
  uint32_t iss_for(uint16_t port) {
    peer_port = port;
    arrive({.flags = kSyn});
    sent();
    const uint32_t iss = our_iss;
    our_iss = 0;
    arrive({.flags = kRst, .seq = 1});
    return iss;
  }
};

TEST_F(TcpInitialNumbers, OneTuplesNumberMovesWithAClockOf4MicrosecondsAlone) {  // RFC 6528, RFC 9293 MUST-8
  const uint32_t first = iss_for(40'000);
  now.mono_us += 4000;
  EXPECT_EQ(iss_for(40'000), first + 1000);
}

TEST_F(TcpInitialNumbers, TuplesAreFarFromEachOther) {
  std::set<uint32_t> seen_numbers;
  for (uint16_t port = 40'000; port < 40'064; port++) seen_numbers.insert(iss_for(port) >> 12);
  EXPECT_GE(seen_numbers.size(), 63u);
}

TEST_F(TcpInitialNumbers, TheyAreKeyed) {
  const uint32_t mine = iss_for(40'000);
  DropCounters other_drops;
  Secrets other = secrets;
  other.isn = {1, 3};
  Stack second(config, pool(), other_drops, other, now);
  ASSERT_TRUE(second.listen({{}, kHttp}));
  rte_mbuf* m = pool().alloc_control();
  const Frame f = wire(40'000, kHttp, peer_iss, 0, kSyn, 512, {}, "");
  std::copy(f.begin(), f.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(f.size()))));
  const L4Packet p{m, kPeerIp, kOurIp};
  second.input({&p, 1}, now);
  L4Packet out[1];
  ASSERT_EQ(second.output(out, now), 1u);
  EXPECT_NE(read(out[0].m).seq, mine);
  rte_pktmbuf_free(out[0].m);
}

TEST_F(TcpInitialNumbers, TimestampsOfTuplesHaveTheirOwnOffset) {
  std::set<uint32_t> values;
  for (peer_port = 40'000; peer_port < 40'008; peer_port++) {
    arrive({.flags = kSyn, .options = options({stamps(1)})});
    sent();
    values.insert(seen[0].stamps->first);
  }
  EXPECT_EQ(values.size(), 8u);
}

class TcpActiveOpen : public TcpTest {};

TEST_F(TcpActiveOpen, OurSynOffersMssScaleAndTimestamps) {
  begin_connect();
  EXPECT_EQ(seen[0].mss, 1460);
  EXPECT_EQ(seen[0].scale, 3);
  ASSERT_TRUE(seen[0].stamps);
  EXPECT_EQ(seen[0].stamps->second, 0u);
  EXPECT_EQ(seen[0].window, 0xffff);
}

TEST_F(TcpActiveOpen, ASynAckOpensAndIsAcknowledged) {
  const StreamId id = connect();
  EXPECT_EQ(state(id), TcpState::kEstablished);
  EXPECT_EQ(stack().segment_bytes(id), 1460u);
  EXPECT_EQ(stack().counters().active_opens.get(), 1u);
}

TEST_F(TcpActiveOpen, OptionsThatThePeerDoesNotAnswerAreOff) {
  const StreamId id = connect({}, 1000);
  EXPECT_EQ(stack().segment_bytes(id), 536u);
  EXPECT_EQ(stack().snapshot(id)->send_window, 1000u);
  write(id, "x");
  sent();
  EXPECT_FALSE(seen[0].stamps);
}

TEST_F(TcpActiveOpen, OptionsThatThePeerAnswersAreOn) {
  const StreamId id = connect(options({mss(1460), scale(3), stamps(50, 0)}), 1000);
  EXPECT_EQ(stack().segment_bytes(id), 1448u);
  EXPECT_EQ(seen[0].stamps->second, 50u);
  EXPECT_EQ(stack().snapshot(id)->send_window, 1000u) << "the window of a SYN-ACK is never scaled";
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .window = 1000, .options = options({stamps(51)})}), "");
  EXPECT_EQ(stack().snapshot(id)->send_window, 8000u);
}

TEST_F(TcpActiveOpen, AnAckOfSomethingElseIsAnsweredByAnRst) {  // 3.10.7.3, first
  begin_connect();
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 2}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "R 2");
  EXPECT_EQ(arrive({.flags = kAck, .seq = 5, .ack = 0}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "R 0");
  EXPECT_EQ(arrive({.flags = kRst | kAck, .ack = 2}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 1}), "");
  EXPECT_TRUE(opened());
}

TEST_F(TcpActiveOpen, AnRstThatAcknowledgesOurSynRefuses) {  // 3.10.7.3, second
  const StreamId id = begin_connect();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 0}), "tcp_bad_rst");
  EXPECT_EQ(arrive({.flags = kRst | kAck, .ack = 1}), "");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kRefused);
  stack().abort(id);
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(stack().streams(), 0u);
}

TEST_F(TcpActiveOpen, AnAckWithoutSynIsDropped) {  // 3.10.7.3, fifth
  begin_connect();
  EXPECT_EQ(arrive({.flags = kAck, .ack = 1}), "tcp_bad_flags");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpActiveOpen, TheSynIsRepeatedForThreeMinutesBeforeWeGiveUp) {  // RFC 6298 5.5, RFC 9293 MUST-23
  const StreamId id = begin_connect();
  EXPECT_EQ(wait(182 * kSec), "1000 S 0; 3000 S 0; 7000 S 0; 15000 S 0; 31000 S 0; 63000 S 0; 123000 S 0");
  EXPECT_EQ(events(), 0);
  EXPECT_EQ(wait(2 * kSec), "");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kConnectTimeout);
  stack().abort(id);
}

TEST_F(TcpActiveOpen, ASynThatCouldNotLeaveForWantOfAnMbufLeavesLater) {
  peer_port = 443;
  const StreamId id = stack().connect({kOurIp, 0}, {kPeerIp, 443}, 0, now);
  std::vector<rte_mbuf*> all;
  while (rte_mbuf* m = pool().alloc_control()) all.push_back(m);
  EXPECT_EQ(sent(), "");
  for (rte_mbuf* m : all) rte_pktmbuf_free(m);
  EXPECT_EQ(wait(2 * kSec), "1000 S 0");
  stack().abort(id);
}

TEST_F(TcpActiveOpen, ATimeoutOfTheCallerEndsItSooner) {
  const StreamId id = begin_connect(250 * kMs);
  EXPECT_EQ(wait(300 * kMs), "");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kConnectTimeout);
  stack().abort(id);
}

TEST_F(TcpActiveOpen, AfterALostSynTheTimerBeginsWith3SecondsAndOneSegment) {  // RFC 6298 5.7, RFC 5681 3.1
  const StreamId id = begin_connect();
  EXPECT_EQ(wait(1 * kSec + 2 * kMs), "1000 S 0");
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 1, .options = mss(1000)}), "");
  EXPECT_EQ(sent(), "A 1 ack 1");
  write(id, std::string(3000, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000");
  EXPECT_EQ(wait(4 * kSec), "3000 A 1 ack 1 len 1000");
}

TEST_F(TcpActiveOpen, BothSidesOpeningAtOnceBecomeOneConnection) {  // RFC 9293 3.5 figure 8, MUST-10
  const StreamId id = begin_connect();
  EXPECT_EQ(arrive({.flags = kSyn, .options = options({mss(1000), scale(1)})}), "");
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(state(id), TcpState::kSynReceived);
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 1, .window = 1000, .options = options({mss(1000), scale(1)})}), "");
  EXPECT_EQ(state(id), TcpState::kEstablished);
  EXPECT_EQ(stack().snapshot(id)->send_window, 1000u) << "the window of a SYN is never scaled";
  EXPECT_EQ(events(), kOpened | kWritable);
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "hello"}), "");
  EXPECT_EQ(read(id), "hello");
}

TEST_F(TcpActiveOpen, ASimultaneousOpenEndsByAnAckTooAndRepeatsItsSynAck) {
  const StreamId id = begin_connect();
  arrive({.flags = kSyn});
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(arrive({.flags = kSyn}), "tcp_duplicate") << "our SYN-ACK was lost";
  EXPECT_EQ(sent(), "SA 0 ack 1");
  EXPECT_EQ(wait(2 * kSec), "1000 SA 0 ack 1");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1}), "");
  EXPECT_EQ(state(id), TcpState::kEstablished);
  EXPECT_EQ(events(), kOpened | kWritable);
}

TEST_F(TcpActiveOpen, AWrongAckDuringASimultaneousOpenIsAnsweredByAnRstAtItsNumber) {  // 3.10.7.4, fifth, SYN-RECEIVED
  const StreamId id = begin_connect();
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(arrive({.seq = 1, .ack = 100}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "R 100");
  EXPECT_EQ(arrive({.seq = 1, .ack = 0}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "R 0");
  EXPECT_EQ(state(id), TcpState::kSynReceived);
}

TEST_F(TcpActiveOpen, AnRstDuringASimultaneousOpenRefuses) {
  const StreamId id = begin_connect();
  arrive({.flags = kSyn});
  sent();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 1}), "");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kRefused);
  stack().abort(id);
}

TEST_F(TcpActiveOpen, AnUnreachablePeerEndsItOnlyForTheSynInFlight) {  // RFC 5927, RFC 9293 3.9.2.2
  const StreamId id = begin_connect();
  const FourTuple tuple{{kOurIp, our_port}, {kPeerIp, 443}};
  stack().unreachable(tuple, our_iss + 1, now);
  EXPECT_EQ(events(), 0);
  stack().unreachable(tuple, our_iss, now);
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kUnreachable);
  stack().abort(id);
}

TEST_F(TcpActiveOpen, AnOpenConnectionSurvivesUnreachable) {  // RFC 9293 3.9.2.2: a soft error
  const StreamId id = connect();
  stack().unreachable({{kOurIp, our_port}, {kPeerIp, 443}}, our_iss, now);
  EXPECT_EQ(state(id), TcpState::kEstablished);
}

TEST_F(TcpActiveOpen, NoFreePortAndNoSlotAreCounted) {
  config.connections_max = 2;
  ASSERT_TRUE(stack().connect({kOurIp, 5000}, {kPeerIp, 443}, 0, now));
  EXPECT_FALSE(stack().connect({kOurIp, 5000}, {kPeerIp, 443}, 0, now)) << "the tuple is in use";
  EXPECT_EQ(dropped(Drop::kTcpNoPorts), 1u);
  EXPECT_FALSE(stack().connect({kOurIp, 5000}, {kPeerIp, 0}, 0, now));
  EXPECT_FALSE(stack().connect({kOurIp, 0}, {*IpAddress::parse("2001:db8::1"), 443}, 0, now));
  EXPECT_EQ(dropped(Drop::kTcpNoPorts), 3u);
  ASSERT_TRUE(stack().connect({kOurIp, 5001}, {kPeerIp, 443}, 0, now));
  EXPECT_FALSE(stack().connect({kOurIp, 5002}, {kPeerIp, 443}, 0, now));
  EXPECT_EQ(dropped(Drop::kTcpTableFull), 1u);
}

TEST_F(TcpActiveOpen, SourcePortsAreSpreadAndReplyToTheSameWorker) {  // RFC 6056
  const OwnerHash owner(4);
  config.owner = &owner;
  config.worker = 2;
  std::set<uint16_t> ports;
  for (int i = 0; i < 40; i++) {
    const StreamId id = stack().connect({kOurIp, 0}, {kPeerIp, 443}, 0, now);
    ASSERT_TRUE(id);
    const SocketAddress local = stack().info(id).local;
    EXPECT_EQ(owner.owner({local, {kPeerIp, 443}}), 2u);
    EXPECT_GE(local.port, OwnerHash::kFirstSourcePort);
    ports.insert(local.port);
  }
  EXPECT_EQ(ports.size(), 40u);
}

TEST_F(TcpActiveOpen, AFinishBeforeTheAnswerLeavesAsSoonAsItIsOpen) {  // RFC 9293 3.10.4, SYN-SENT: nothing was sent
  const StreamId id = begin_connect();
  stack().finish(id);
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 1, .options = mss(1460)}), "");
  EXPECT_EQ(sent(), "FA 1 ack 1");
  EXPECT_EQ(state(id), TcpState::kFinWait1);
  EXPECT_EQ(events(), kOpened) << "it is not writable any more";
  EXPECT_EQ(arrive({.seq = 1, .ack = 2, .payload = "half a conversation"}), "");
  EXPECT_EQ(state(id), TcpState::kFinWait2);
  EXPECT_EQ(read(id), "half a conversation");
  EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 20, .ack = 2}), "");
  EXPECT_EQ(stack().info(id).end, StreamEnd::kFinished);
  stack().abort(id);
  sent();
}

TEST_F(TcpActiveOpen, AbortAndCloseBeforeTheAnswerAreSilent) {
  stack().abort(begin_connect());
  stack().close(begin_connect());
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 1}), "tcp_no_connection");
  EXPECT_EQ(sent(), "R 1");
}

}  // namespace
}  // namespace sluice::tcp
