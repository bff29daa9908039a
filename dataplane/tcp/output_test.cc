// What leaves of an open connection and when: windows, retransmission (RFC 6298), fast retransmit (RFC 5681, 6582, 3042), zero-window
// probes, silly windows, path MTU, keepalive.
#include "dataplane/tcp/test_peer.h"

namespace sluice::tcp {
namespace {

using namespace test;

class TcpOutput : public TcpTest {
 protected:
  static std::string n_segments(uint32_t first, unsigned n, uint32_t bytes, bool push_last) {
    std::string all;
    for (unsigned i = 0; i < n; i++)
      all += (i ? "; " : "") + std::string(push_last && i + 1 == n ? "PA " : "A ") + std::to_string(first + i * bytes) + " ack 1 len " +
             std::to_string(bytes);
    return all;
  }
};

TEST_F(TcpOutput, TheFirstFlightIsTenSegments) {  // RFC 6928
  const StreamId id = accept(mss(1000));
  write(id, std::string(20'000, 'x'));
  EXPECT_EQ(sent(), n_segments(1, 10, 1000, false));
  EXPECT_EQ(stack().snapshot(id)->unsent, 10'000u);
}

TEST_F(TcpOutput, SlowStartGrowsByWhatWasAcknowledged) {  // RFC 5681 3.1, RFC 3465 2.2: L = 2 segments per ACK
  const StreamId id = accept(mss(1000));
  write(id, std::string(40'000, 'x'));
  sent();
  arrive({.seq = 1, .ack = 2001});
  EXPECT_EQ(sent(), n_segments(10'001, 4, 1000, false));
  arrive({.seq = 1, .ack = 10'001});
  EXPECT_EQ(sent(), n_segments(14'001, 10, 1000, false));
}

TEST_F(TcpOutput, ThePeersWindowBounds) {
  const StreamId id = accept(mss(1000), 2500);
  write(id, std::string(4000, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000; A 1001 ack 1 len 1000") << "half a segment is not worth it (3.8.6.2.1)";
  arrive({.seq = 1, .ack = 2001, .window = 2500});
  EXPECT_EQ(sent(), "A 2001 ack 1 len 1000; PA 3001 ack 1 len 1000");
}

TEST_F(TcpOutput, SmallWritesTravelAtOnceAndTogetherWhileTheyWait) {
  const StreamId id = accept(mss(1000));
  write(id, "a");
  EXPECT_EQ(sent(), "PA 1 ack 1 len 1");
  write(id, "b");
  write(id, "c");
  EXPECT_EQ(sent(), "PA 2 ack 1 len 2");
  EXPECT_EQ(seen[0].payload, "bc");
}

TEST_F(TcpOutput, UnacknowledgedBytesTakeTheBudgetAndAnAckGivesItBack) {
  config.send_buffer = 2 * kWritableLow;
  const StreamId id = accept(mss(1000));
  EXPECT_EQ(stack().budget(id), 32'768u);
  write(id, std::string(20'000, 'x'));
  EXPECT_EQ(stack().budget(id), 12'768u);
  sent();
  arrive({.seq = 1, .ack = 2001});
  EXPECT_EQ(events(), 0);
  arrive({.seq = 1, .ack = 8001});
  EXPECT_EQ(events(), kWritable);
  EXPECT_EQ(stack().budget(id), 20'768u);
}

TEST_F(TcpOutput, NothingIsCopiedTheFirstTimeAndWhatAPortHoldsIsCopiedTheSecond) {
  port_keeps = true;
  const StreamId id = accept(mss(1000));
  write(id, std::string(3000, 'x'));
  EXPECT_EQ(sent(), n_segments(1, 3, 1000, true));
  EXPECT_EQ(stack().counters().payload_copied.get(), 0u);
  EXPECT_EQ(wait(250 * kMs), "200 A 1 ack 1 len 1000");
  EXPECT_EQ(stack().counters().payload_copied.get(), 1u);
}

// ---- time

TEST_F(TcpOutput, TheTimerDoublesUntilItsLargestAndOneSegmentGoesEachTime) {  // RFC 6298 5.4, 5.5, 2.5
  config.rto_max = 2 * kSec;
  const StreamId id = accept(mss(1000));
  write(id, std::string(2000, 'x'));
  sent();
  EXPECT_EQ(wait(8 * kSec),
            "200 A 1 ack 1 len 1000; 600 A 1 ack 1 len 1000; 1400 A 1 ack 1 len 1000; 3000 A 1 ack 1 len 1000; 5000 A 1 ack 1 len 1000; "
            "7000 A 1 ack 1 len 1000");
  EXPECT_EQ(stack().snapshot(id)->cwnd, 1000u);  // RFC 5681 3.1: the loss window
  EXPECT_EQ(stack().snapshot(id)->ssthresh, 2000u);
}

TEST_F(TcpOutput, WithoutAnyAnswerTheConnectionEnds) {  // RFC 9293 3.8.3, R2
  config.retransmits_max = 3;
  const StreamId id = accept(mss(1000));
  write(id, "x");
  sent();
  EXPECT_EQ(wait(5 * kSec), "200 PA 1 ack 1 len 1; 600 PA 1 ack 1 len 1; 1400 PA 1 ack 1 len 1; 3000 RA 2 ack 1");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kRetransmitTimeout);
  stack().abort(id);
}

TEST_F(TcpOutput, ByDefaultItEndsAfterMoreThan100Seconds) {  // RFC 9293 SHLD-11
  const StreamId id = accept(mss(1000));
  write(id, "x");
  sent();
  wait(300 * kSec);
  EXPECT_EQ(state(id), TcpState::kEstablished);
  wait(600 * kSec);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kRetransmitTimeout);
  stack().abort(id);
}

TEST_F(TcpOutput, AnAckRestartsTheTimerAndTheLastStopsIt) {  // RFC 6298 5.2, 5.3
  const StreamId id = accept(mss(1000));
  write(id, std::string(2000, 'x'));
  sent();
  EXPECT_EQ(wait(150 * kMs), "");
  arrive({.seq = 1, .ack = 1001});
  EXPECT_EQ(wait(150 * kMs), "");
  arrive({.seq = 1, .ack = 2001});
  EXPECT_EQ(wait(60 * kSec), "");
  EXPECT_EQ(stack().next_deadline(), kNever);
}

TEST_F(TcpOutput, TheTimerFollowsTheRoundTrip) {  // RFC 6298 2.2, 2.3
  const StreamId id = accept(mss(1000));
  for (int i = 0; i < 60; i++) {
    write(id, "x");
    sent();
    EXPECT_EQ(wait(150 * kMs), "");
    arrive({.seq = 1, .ack = uint32_t(i + 2)});
  }
  const auto s = *stack().snapshot(id);
  EXPECT_NEAR(double(s.srtt_us), 150e3, 1e3);
  EXPECT_GE(s.rto_us, 200 * kMs);
  EXPECT_LE(s.rto_us, 210 * kMs);
}

TEST_F(TcpOutput, AfterATimeoutTheBackedOffTimerStaysUntilAFreshSample) {  // RFC 6298 3 (Karn), 5
  // The path became slower than the timer: each ACK comes 500 ms after its segment, the timer says 200 ms. If the ACK of a segment that was
  // sent twice made the timer short again, every segment from now on would be sent twice.
  const StreamId id = accept(mss(1000));
  write(id, "a");
  sent();
  EXPECT_EQ(wait(500 * kMs), "200 PA 1 ack 1 len 1");
  arrive({.seq = 1, .ack = 2});
  write(id, "b");
  sent();
  EXPECT_EQ(wait(350 * kMs), "") << "still 400 ms";
  EXPECT_EQ(wait(150 * kMs), "50 PA 2 ack 1 len 1");
  arrive({.seq = 1, .ack = 3});
  write(id, "c");
  sent();
  EXPECT_EQ(wait(500 * kMs), "") << "800 ms: long enough";
  arrive({.seq = 1, .ack = 4});  // a sample at last
  EXPECT_EQ(stack().snapshot(id)->backoff, 0);
  EXPECT_GT(stack().snapshot(id)->rto_us, 200 * kMs);
  write(id, "d");
  sent();
  EXPECT_EQ(wait(300 * kMs), "");
}

TEST_F(TcpOutput, AnEchoedTimestampIsASampleAlsoAfterATimeout) {  // RFC 7323 4.1
  const StreamId id = accept(options({mss(1000), stamps(1)}), 0xffff, options({stamps(1)}));
  write(id, "a");
  sent();
  const uint32_t first = seen[0].stamps->first;
  EXPECT_EQ(wait(500 * kMs), "200 PA 1 ack 1 len 1");
  arrive({.seq = 1, .ack = 2, .options = options({stamps(2, first)})});  // it was the first that arrived
  EXPECT_EQ(stack().snapshot(id)->backoff, 0);
  EXPECT_GT(stack().snapshot(id)->srtt_us, 50 * kMs);
  write(id, "b");
  sent();
  EXPECT_EQ(wait(500 * kMs), "");
}

TEST_F(TcpOutput, AnEchoThatCannotBeOursIsNoSample) {
  const StreamId id = accept(options({mss(1000), stamps(1)}), 0xffff, options({stamps(1)}));
  write(id, "a");
  sent();
  const uint32_t first = seen[0].stamps->first;
  wait(250 * kMs);
  const Usec srtt = stack().snapshot(id)->srtt_us;
  arrive({.seq = 1, .ack = 2, .options = options({stamps(2, first + 100'000)})});
  EXPECT_EQ(stack().snapshot(id)->srtt_us, srtt);
  EXPECT_EQ(stack().snapshot(id)->backoff, 1);
}

TEST_F(TcpOutput, ARetransmittedSegmentIsNoSample) {  // RFC 6298 3
  const StreamId id = accept(mss(1000));
  write(id, "a");
  sent();
  const Usec srtt = stack().snapshot(id)->srtt_us;
  wait(250 * kMs);
  arrive({.seq = 1, .ack = 2});
  EXPECT_EQ(stack().snapshot(id)->srtt_us, srtt);
}

TEST_F(TcpOutput, SsthreshFallsOncePerLossNotPerTimeout) {  // RFC 5681 3.1
  const StreamId id = accept(mss(1000));
  write(id, std::string(10'000, 'x'));
  sent();
  wait(250 * kMs);
  EXPECT_EQ(stack().snapshot(id)->ssthresh, 5000u);
  wait(2 * kSec);
  EXPECT_EQ(stack().snapshot(id)->ssthresh, 5000u);
}

TEST_F(TcpOutput, AfterATimeoutEverythingGoesAgainInSlowStart) {
  const StreamId id = accept(mss(1000));
  write(id, std::string(5000, 'x'));
  sent();
  EXPECT_EQ(wait(250 * kMs), "200 A 1 ack 1 len 1000");
  arrive({.seq = 1, .ack = 1001});
  EXPECT_EQ(sent(), "A 1001 ack 1 len 1000; A 2001 ack 1 len 1000");
  arrive({.seq = 1, .ack = 5001});  // the rest had arrived
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(stack().snapshot(id)->in_flight, 0u);
}

// ---- duplicates

TEST_F(TcpOutput, ThreeDuplicateAcksSendTheMissingSegmentAtOnce) {  // RFC 5681 3.2
  const StreamId id = accept(mss(1000));
  write(id, std::string(10'000, 'x'));
  sent();
  for (int i = 0; i < 2; i++) {
    arrive({.seq = 1, .ack = 1});
    EXPECT_EQ(sent(), "");
  }
  arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000");
  EXPECT_EQ(stack().snapshot(id)->ssthresh, 5000u);
  EXPECT_EQ(stack().snapshot(id)->cwnd, 8000u);  // ssthresh + 3
  EXPECT_EQ(stack().counters().fast_retransmits.get(), 1u);
}

TEST_F(TcpOutput, TheFirstTwoDuplicatesLetANewSegmentOutEach) {  // RFC 3042
  const StreamId id = accept(mss(1000));
  write(id, std::string(14'000, 'x'));
  sent();
  arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "A 10001 ack 1 len 1000");
  arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "A 11001 ack 1 len 1000");
  arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000");
}

TEST_F(TcpOutput, APartialAckSendsTheNextHoleAndAFullOneEndsTheRecovery) {  // RFC 6582 3.2
  const StreamId id = accept(mss(1000));
  write(id, std::string(10'000, 'x'));
  sent();
  for (int i = 0; i < 3; i++) arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000");
  arrive({.seq = 1, .ack = 4001});
  EXPECT_EQ(sent(), "A 4001 ack 1 len 1000");
  for (int i = 0; i < 3; i++) arrive({.seq = 1, .ack = 4001});
  EXPECT_EQ(sent(), "") << "no second fast retransmit in one recovery";
  arrive({.seq = 1, .ack = 10'001});
  EXPECT_EQ(stack().snapshot(id)->cwnd, 2000u);  // min(ssthresh, in flight + one segment)
  EXPECT_EQ(stack().counters().fast_retransmits.get(), 1u);
}

TEST_F(TcpOutput, WhatIsNoDuplicateAckDoesNotCount) {  // RFC 5681 2: no data, no window update, something in flight
  const StreamId id = accept(mss(1000));
  for (int i = 0; i < 5; i++) arrive({.seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "");
  write(id, std::string(10'000, 'x'));
  sent();
  for (uint16_t i = 0; i < 5; i++) arrive({.seq = 1, .ack = 1, .window = uint16_t(60'000 + i)});
  EXPECT_EQ(sent(), "");
  for (uint32_t i = 0; i < 5; i++) arrive({.seq = 1 + i, .ack = 1, .payload = "d", .window = 60'004});
  EXPECT_EQ(sent(), "A 10001 ack 6");
  EXPECT_EQ(stack().counters().fast_retransmits.get(), 0u);
}

// ---- windows

TEST_F(TcpOutput, AShutWindowIsProbedWithOneByteAndBackingOff) {  // RFC 9293 3.8.6.1, MUST-36, SHLD-29, 30
  config.rto_max = 1 * kSec;
  const StreamId id = accept(mss(1000), 1000);
  write(id, std::string(3000, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000");
  arrive({.seq = 1, .ack = 1001, .window = 0});
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(wait(3 * kSec), "200 A 1001 ack 1 len 1; 600 A 1001 ack 1 len 1; 1400 A 1001 ack 1 len 1; 2400 A 1001 ack 1 len 1");
  EXPECT_EQ(stack().counters().zero_window_probes.get(), 4u);
  EXPECT_EQ(stack().counters().rtos.get(), 0u);
  arrive({.seq = 1, .ack = 1001, .window = 3000});
  EXPECT_EQ(sent(), "A 1001 ack 1 len 1000; PA 2001 ack 1 len 1000") << "the probe's byte goes again with the rest";
}

TEST_F(TcpOutput, TwoSidesThatProbeEachOtherHearEachOther) {  // RFC 9293 A.2: simultaneous window probes
  const StreamId id = accept(mss(1000), 1000);
  write(id, std::string(3000, 'x'));
  sent();
  arrive({.seq = 1, .ack = 1001, .window = 0});
  EXPECT_EQ(wait(250 * kMs), "200 A 1001 ack 1 len 1");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1001, .payload = "p", .window = 0}), "") << "the peer's probe; it took ours, we do not know it yet";
  EXPECT_EQ(sent(), "A 1001 ack 2");
  // The peer refused that ACK, as it lies before what it took from us: it still counts from 1, one too old for us.
  EXPECT_EQ(arrive({.seq = 1, .ack = 1002, .window = 5000}), "");
  EXPECT_EQ(sent(), "A 1002 ack 2 len 999; PA 2001 ack 2 len 1000");
  EXPECT_EQ(arrive({.seq = 1, .ack = 3001, .payload = "p", .window = 5000}), "tcp_duplicate") << "its probe again, with news";
  EXPECT_EQ(sent(), "A 3001 ack 2");
  EXPECT_EQ(stack().snapshot(id)->in_flight, 0u);
  EXPECT_EQ(arrive({.seq = 1, .ack = 3001, .window = 5000}), "tcp_duplicate") << "a keepalive: answered, and says nothing";
  EXPECT_EQ(sent(), "A 3001 ack 2");
}

TEST_F(TcpOutput, APeerThatAnswersProbesMayKeepItsWindowShutForEver) {  // RFC 9293 MUST-37
  config.rto_max = 1 * kSec;
  config.retransmits_max = 3;
  const StreamId id = accept(mss(1000), 1000);
  write(id, std::string(3000, 'x'));
  sent();
  arrive({.seq = 1, .ack = 1001, .window = 0});
  for (int i = 0; i < 100; i++) {
    wait(1 * kSec);
    arrive({.seq = 1, .ack = 1001, .window = 0});
  }
  EXPECT_EQ(state(id), TcpState::kEstablished);
}

TEST_F(TcpOutput, APeerThatIsSilentAtAShutWindowIsGivenUp) {
  config.rto_max = 1 * kSec;
  config.retransmits_max = 3;
  const StreamId id = accept(mss(1000), 1000);
  write(id, std::string(3000, 'x'));
  sent();
  arrive({.seq = 1, .ack = 1001, .window = 0});
  wait(5 * kSec);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kRetransmitTimeout);
  stack().abort(id);
}

TEST_F(TcpOutput, WhatCouldNotLeaveForWantOfAnMbufIsAnOrdinaryLossLater) {
  const StreamId id = accept(mss(1000));
  write(id, std::string(10'000, 'x'));
  port_keeps = true;
  EXPECT_NE(sent(), "");  // the port holds these, so a retransmit needs a fresh mbuf
  arrive({.seq = 1, .ack = 10'001});
  std::vector<rte_mbuf*> all;
  Chain odd;  // shapes that leave only as a copy
  ASSERT_TRUE(pool().append_copy(odd, as_bytes(std::string(9000, 'y')), 1500));
  stack().send(id, std::move(odd));
  while (rte_mbuf* m = pool().alloc_control()) all.push_back(m);
  EXPECT_EQ(sent(), "");
  EXPECT_GT(stack().counters().output_no_mbuf.get(), 0u);
  for (rte_mbuf* m : all) rte_pktmbuf_free(m);
  EXPECT_NE(wait(250 * kMs), "");  // the timer repeats what matters
  arrive({.seq = 1, .ack = 11'001});
  EXPECT_GE(stack().snapshot(id)->in_flight, 4000u);
  for (int i = 0; i < 3; i++) arrive({.seq = 1, .ack = 11'001});
  EXPECT_EQ(stack().counters().fast_retransmits.get(), 1u) << "the window was never shut";
}

TEST_F(TcpOutput, AWindowThatShrinksIsSurvived) {  // RFC 9293 3.8.6, MUST-34
  const StreamId id = accept(mss(1000), 4000);
  write(id, std::string(4000, 'x'));
  sent();
  arrive({.seq = 1, .ack = 1001, .window = 500});  // the edge moved left over what is in flight
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(wait(250 * kMs), "200 A 1001 ack 1 len 1000");
  arrive({.seq = 1, .ack = 4001, .window = 4000});
  EXPECT_EQ(stack().snapshot(id)->in_flight, 0u);
}

TEST_F(TcpOutput, AnOldSegmentDoesNotChangeTheWindow) {  // 3.10.7.4, fifth: SND.WL1, SND.WL2
  const StreamId id = accept(mss(1000), 1000);
  arrive({.seq = 1, .ack = 1, .payload = "abc", .window = 5000});
  EXPECT_EQ(stack().snapshot(id)->send_window, 5000u);
  arrive({.seq = 5, .ack = 1, .payload = "x", .window = 6000});  // behind a gap, but newer
  EXPECT_EQ(stack().snapshot(id)->send_window, 6000u);
  arrive({.seq = 4, .ack = 1, .window = 100});  // older
  EXPECT_EQ(stack().snapshot(id)->send_window, 6000u);
}

TEST_F(TcpOutput, ATinyWindowIsUsedAfterTheOverrideTimeout) {  // RFC 9293 3.8.6.2.1
  const StreamId id = accept(mss(1000), 4000);
  arrive({.seq = 1, .ack = 1, .payload = "w", .window = 10});
  write(id, std::string(50, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 2");
  EXPECT_EQ(wait(300 * kMs), "200 A 1 ack 2 len 10");
}

// ---- path MTU, idle, keepalive

TEST_F(TcpOutput, AnIcmpTooBigShrinksSegmentsAndSendsThemAgain) {  // RFC 1191, 5927
  const StreamId id = accept(mss(1460));
  write(id, std::string(2000, 'x'));
  EXPECT_EQ(sent(), "A 1 ack 1 len 1460; PA 1461 ack 1 len 540");
  const FourTuple tuple{{kOurIp, kHttp}, {kPeerIp, kPeerPort}};
  stack().packet_too_big(tuple, our_iss + 5000, 1000, now);
  EXPECT_EQ(sent(), "") << "no such segment is in flight";
  stack().packet_too_big(tuple, our_iss + 1, 1000, now);
  EXPECT_EQ(sent(), "A 1 ack 1 len 960; A 961 ack 1 len 960; PA 1921 ack 1 len 80");
  EXPECT_EQ(stack().segment_bytes(id), 960u);
  stack().packet_too_big(tuple, our_iss + 1, 68, now);
  EXPECT_EQ(stack().segment_bytes(id), 512u) << "no lower than 552 bytes, whoever asks";
  stack().packet_too_big(tuple, our_iss + 1, 1400, now);
  EXPECT_EQ(stack().segment_bytes(id), 512u) << "never up";
  EXPECT_EQ(read(id), "");
}

TEST_F(TcpOutput, AfterAnIdleTimeTheWindowBeginsAnew) {  // RFC 5681 4.1
  const StreamId id = accept(mss(1000));
  uint32_t acked = 1;
  for (int i = 0; i < 4; i++) {
    write(id, std::string(20'000, 'x'));
    for (sent(); acked < 1 + 20'000u * uint32_t(i + 1); sent()) {
      acked = std::min(acked + 2000, 1 + 20'000u * uint32_t(i + 1));
      arrive({.seq = 1, .ack = acked});
    }
  }
  EXPECT_GT(stack().snapshot(id)->cwnd, 20'000u);
  wait(10 * kSec);
  write(id, std::string(20'000, 'x'));
  EXPECT_EQ(sent(), n_segments(80'001, 10, 1000, false));
}

TEST_F(TcpOutput, KeepaliveIsOffByDefault) {  // RFC 9293 MUST-25
  accept();
  EXPECT_EQ(wait(24ull * 3600 * kSec), "");
}

TEST_F(TcpOutput, KeepaliveIsSilentWhileSomethingIsInFlight) {  // RFC 9293 MUST-26
  config.keepalive_idle = 1 * kSec;
  config.keepalive_interval = 1 * kSec;
  config.keepalive_probes = 1;
  const StreamId id = accept(mss(1000));
  write(id, "x");
  sent();
  EXPECT_EQ(wait(6 * kSec), "200 PA 1 ack 1 len 1; 600 PA 1 ack 1 len 1; 1400 PA 1 ack 1 len 1; 3000 PA 1 ack 1 len 1");
  EXPECT_EQ(state(id), TcpState::kEstablished);
}

TEST_F(TcpOutput, KeepaliveAsksWithAnOldNumberAndEndsADeadConnection) {  // RFC 9293 3.8.4
  config.keepalive_idle = 60 * kSec;
  config.keepalive_probes = 2;
  const StreamId id = accept();
  EXPECT_EQ(wait(60 * kSec + 10 * kMs), "60000 A 0 ack 1");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1}), "");
  EXPECT_EQ(wait(59 * kSec), "") << "an answer restarts it";
  EXPECT_EQ(wait(30 * kSec), "1000 A 0 ack 1; 11000 A 0 ack 1; 21000 RA 1 ack 1");
  EXPECT_EQ(stack().info(id).end, StreamEnd::kRetransmitTimeout);
  stack().abort(id);
}

}  // namespace
}  // namespace sluice::tcp
