// Segments of an open connection (RFC 9293 3.10.7.4): acceptance, RST and SYN by RFC 5961, PAWS, data in every order, the receive window,
// delayed ACKs, and each refusal by its name.
#include "dataplane/base/rng.h"
#include "dataplane/tcp/test_peer.h"

namespace sluice::tcp {
namespace {

using namespace test;

class TcpInput : public TcpTest {};

// ---- acceptance, RST, SYN

TEST_F(TcpInput, AnRstOfExactlyTheNextNumberResets) {  // RFC 5961 3.2
  const StreamId id = accept();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 1}), "");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kReset);
  EXPECT_EQ(stack().counters().resets_in.get(), 1u);
  EXPECT_EQ(stack().connections(), 0u);
  stack().abort(id);
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpInput, AnotherRstInTheWindowIsChallenged) {  // RFC 5961 3.2
  const StreamId id = accept();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 2}), "tcp_bad_rst");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(arrive({.flags = kRst | kAck, .seq = 60'000, .ack = 1}), "tcp_bad_rst");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(state(id), TcpState::kEstablished);
  EXPECT_EQ(stack().counters().challenge_acks.get(), 2u);
}

TEST_F(TcpInput, AnRstOutsideTheWindowIsSilentlyDropped) {
  const StreamId id = accept();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 0}), "tcp_bad_rst");
  EXPECT_EQ(arrive({.flags = kRst, .seq = 70'000}), "tcp_bad_rst");
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(state(id), TcpState::kEstablished);
}

TEST_F(TcpInput, AnRstResetsAtAShutWindowTooWithDataInIt) {  // RFC 9293 3.4, MUST-66
  config.receive_window = 4096;
  const StreamId id = accept();
  for (uint32_t at = 1; at < 4097; at += 1024) arrive({.seq = at, .ack = 1, .payload = std::string(1024, 'x')});
  sent();
  EXPECT_EQ(seen.back().window, 0);
  EXPECT_EQ(arrive({.flags = kRst, .seq = 4097, .payload = "why"}), "");
  EXPECT_EQ(stack().info(id).end, StreamEnd::kReset);
  EXPECT_EQ(stack().readable(id).bytes, 4096u) << "what came before it can still be read";
  stack().abort(id);
}

TEST_F(TcpInput, ASynIsChallengedWhereverItLies) {  // RFC 5961 4.2
  const StreamId id = accept();
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 100}), "tcp_bad_flags");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 0}), "tcp_duplicate");  // an old one of this connection
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 1'000'000}), "tcp_out_of_window");  // the peer began anew (RFC 9293 figure 9)
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(state(id), TcpState::kEstablished);
}

TEST_F(TcpInput, ChallengesAreTenASecondAtMost) {  // RFC 5961 7
  accept();
  for (int i = 0; i < 20; i++) {
    arrive({.flags = kRst, .seq = 2});
    EXPECT_EQ(sent(), i < 10 ? "A 1 ack 1" : "");
  }
  wait(1 * kSec);
  arrive({.flags = kRst, .seq = 2});
  EXPECT_EQ(sent(), "A 1 ack 1");
}

TEST_F(TcpInput, ASegmentWithoutAckIsDropped) {  // 3.10.7.4, fifth
  accept();
  EXPECT_EQ(arrive({.flags = kPsh, .seq = 1, .payload = "x"}), "tcp_bad_flags");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpInput, AnAckOfWhatWasNeverSentIsChallengedAndItsDataIgnored) {  // 3.10.7.4, fifth
  const StreamId id = accept();
  EXPECT_EQ(arrive({.seq = 1, .ack = 2, .payload = "x"}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(read(id), "");
}

TEST_F(TcpInput, AnAckOlderThanTheLargestWindowIsChallenged) {  // RFC 5961 5.2
  const StreamId id = accept(mss(1460), 1000);
  for (int i = 0; i < 3; i++) {
    write(id, std::string(1000, 'x'));
    EXPECT_EQ(sent(), "PA " + std::to_string(1 + 1000 * i) + " ack 1 len 1000");
    arrive({.seq = 1, .ack = 1001 + 1000u * uint32_t(i), .window = 1000});
  }
  EXPECT_EQ(arrive({.seq = 1, .ack = 2001, .payload = "a", .window = 1000}), "") << "old, but within the window";
  EXPECT_EQ(sent(), "A 3001 ack 2");
  EXPECT_EQ(arrive({.seq = 2, .ack = 2000, .payload = "b", .window = 1000}), "tcp_bad_ack");
  EXPECT_EQ(sent(), "A 3001 ack 2");
  EXPECT_EQ(read(id), "a");
}

TEST_F(TcpInput, AnOldTimestampIsRefusedAndAnswered) {  // RFC 7323 5.3 R1
  const StreamId id = accept(options({mss(1460), stamps(100)}), 0xffff, options({stamps(100)}));
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "x", .options = options({stamps(99)})}), "tcp_paws");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "x", .options = options({stamps(100)})}), "");
  EXPECT_EQ(sent(), "A 1 ack 2");
  EXPECT_EQ(arrive({.flags = kRst, .seq = 2, .options = options({stamps(1)})}), "") << "an RST needs no timestamp";
  stack().abort(id);
}

TEST_F(TcpInput, AConnectionThatWasIdleFor24DaysTakesAnyTimestamp) {  // RFC 7323 5.5
  const StreamId id = accept(options({mss(1460), stamps(100)}), 0xffff, options({stamps(100)}));
  now.mono_us += 25ull * 24 * 3600 * kSec;
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "x", .options = options({stamps(99)})}), "");
  EXPECT_EQ(read(id), "x");
}

TEST_F(TcpInput, ASegmentWithoutTheNegotiatedTimestampIsDropped) {  // RFC 7323 3.2
  accept(options({mss(1460), stamps(100)}), 0xffff, options({stamps(100)}));
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "x"}), "tcp_bad_options");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpInput, TheTimestampEchoedIsThatOfTheSegmentThatMovedTheWindow) {  // RFC 7323 4.3
  accept(options({mss(1460), stamps(100)}), 0xffff, options({stamps(100)}));
  arrive({.seq = 11, .ack = 1, .payload = "late", .options = options({stamps(105)})});  // behind a gap
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(seen[0].stamps->second, 100u);
  arrive({.seq = 1, .ack = 1, .payload = "0123456789", .options = options({stamps(104)})});
  EXPECT_EQ(sent(), "A 1 ack 15");
  EXPECT_EQ(seen[0].stamps->second, 104u);
}

// ---- data

TEST_F(TcpInput, OneAckAnswersABurst) {  // RFC 9293 3.10.7.4, MUST-58, MUST-59
  const StreamId id = accept();
  for (uint32_t i = 0; i < 10; i++) arrive({.seq = 1 + 1000 * i, .ack = 1, .payload = std::string(1000, 'x')});
  EXPECT_EQ(sent(), "A 1 ack 10001");
  EXPECT_EQ(read(id).size(), 10'000u);
}

TEST_F(TcpInput, DataInOrderIsDeliveredAndAcknowledged) {
  const StreamId id = accept();
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "hello "}), "");
  EXPECT_EQ(sent(), "A 1 ack 7");
  EXPECT_EQ(arrive({.seq = 7, .ack = 1, .payload = "world"}), "");
  EXPECT_EQ(sent(), "A 1 ack 12");
  EXPECT_EQ(events(), kReadable);
  EXPECT_EQ(read(id), "hello world");
  EXPECT_EQ(stack().info(id).bytes_in, 11u);
  EXPECT_EQ(pool().held(), 0u);
}

TEST_F(TcpInput, EachSegmentBehindAGapIsAnsweredByItsOwnDuplicateAck) {  // RFC 5681 4.2
  const StreamId id = accept();
  EXPECT_EQ(arrive({.seq = 6, .ack = 1, .payload = "world"}), "");
  EXPECT_EQ(arrive({.seq = 11, .ack = 1, .payload = "!"}), "");
  EXPECT_EQ(sent(), "A 1 ack 1; A 1 ack 1");
  EXPECT_EQ(read(id), "");
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "hello"}), "");
  EXPECT_EQ(sent(), "A 1 ack 12");
  EXPECT_EQ(read(id), "helloworld!");
}

TEST_F(TcpInput, DuplicatesAreAcknowledgedNotDelivered) {
  const StreamId id = accept();
  arrive({.seq = 1, .ack = 1, .payload = "hello"});
  sent();
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "hello"}), "tcp_duplicate");
  EXPECT_EQ(sent(), "A 1 ack 6");
  arrive({.seq = 10, .ack = 1, .payload = "gap"});
  sent();
  EXPECT_EQ(arrive({.seq = 10, .ack = 1, .payload = "gap"}), "tcp_duplicate");
  EXPECT_EQ(sent(), "A 1 ack 6");
  EXPECT_EQ(read(id), "hello");
}

TEST_F(TcpInput, OverlapsAreTrimmedAtBothEnds) {
  const StreamId id = accept();
  arrive({.seq = 1, .ack = 1, .payload = "abcd"});
  EXPECT_EQ(arrive({.seq = 3, .ack = 1, .payload = "cdef"}), "");  // half old
  arrive({.seq = 9, .ack = 1, .payload = "ij"});
  EXPECT_EQ(arrive({.seq = 5, .ack = 1, .payload = "efghijkl"}), "");  // old in front, over a range, and beyond it
  EXPECT_EQ(read(id), "abcdefghijkl");
  EXPECT_EQ(pool().held(), 0u);
}

TEST_F(TcpInput, DataBehindTheWindowIsCutOff) {
  config.receive_window = 4096;
  const StreamId id = accept();
  for (uint32_t at = 1; at < 4091; at += 1363) arrive({.seq = at, .ack = 1, .payload = std::string(std::min(1363u, 4091 - at), 'x')});
  EXPECT_EQ(arrive({.seq = 4091, .ack = 1, .payload = "123456789"}), "");
  EXPECT_EQ(sent(), "A 1 ack 4097");
  EXPECT_EQ(seen[0].window, 0);
  EXPECT_EQ(read(id), std::string(4090, 'x') + "123456");
}

TEST_F(TcpInput, SegmentsOutsideTheWindowAreAnsweredByAnAck) {  // 3.10.7.4, first
  config.receive_window = 4096;
  accept();
  EXPECT_EQ(arrive({.seq = 4097, .ack = 1, .payload = "x"}), "tcp_out_of_window");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(arrive({.seq = 0, .ack = 1}), "tcp_duplicate") << "a keepalive of the peer";
  EXPECT_EQ(sent(), "A 1 ack 1");
}

// Two sides that each hold the other's number for wrong (somebody wrote into both) answer every ACK by an ACK for ever.
TEST_F(TcpInput, EmptySegmentsOutsideTheWindowAreAnsweredTenTimesASecondAtMost) {  // RFC 5961 7
  accept(options({mss(1460), stamps(100)}), 0xffff, options({stamps(100)}));
  for (const Seg& s :
       {Seg{.seq = 0x200'000, .ack = 1, .options = options({stamps(100)})}, Seg{.seq = 1, .ack = 1, .options = options({stamps(9)})}}) {
    now.mono_us += 2 * kSec;
    int answers = 0;
    for (int i = 0; i < 200; i++) {
      EXPECT_NE(arrive(s), "");
      answers += !sent().empty();
    }
    EXPECT_EQ(answers, 10);
    now.mono_us += 1 * kSec;
    arrive(s);
    EXPECT_NE(sent(), "");
  }
}

TEST_F(TcpInput, AShutWindowRefusesDataButTakesItsAck) {  // RFC 9293 3.8.6.1, 3.10.7.4 first
  config.receive_window = 4096;
  const StreamId id = accept();
  for (uint32_t at = 1; at < 4097; at += 1024) arrive({.seq = at, .ack = 1, .payload = std::string(1024, 'x')});
  write(id, "answer");
  EXPECT_EQ(sent(), "PA 1 ack 4097 len 6");
  EXPECT_EQ(arrive({.seq = 4097, .ack = 7, .payload = "z"}), "tcp_receive_full");  // a window probe
  EXPECT_EQ(sent(), "A 7 ack 4097");
  EXPECT_EQ(seen[0].window, 0);
  EXPECT_EQ(stack().snapshot(id)->in_flight, 0u);
  EXPECT_EQ(read(id).size(), 4096u);
  EXPECT_EQ(sent(), "A 7 ack 4097") << "the window update";
  EXPECT_EQ(seen[0].window, 4096);
}

TEST_F(TcpInput, TheWindowOpensInStepsWorthASegment) {  // RFC 9293 3.8.6.2.2, MUST-39
  config.receive_window = 4096;
  const StreamId id = accept(mss(1460));
  for (uint32_t at = 1; at < 4097; at += 1024) arrive({.seq = at, .ack = 1, .payload = std::string(1024, 'x')});
  sent();
  stack().consume(id, 1000);
  EXPECT_EQ(sent(), "") << "not worth a segment";
  stack().consume(id, 1047);
  EXPECT_EQ(sent(), "");
  stack().consume(id, 1);
  EXPECT_EQ(sent(), "A 1 ack 4097") << "half the buffer";
  EXPECT_EQ(seen[0].window, 2048);
}

TEST_F(TcpInput, TheRightEdgeNeverMovesBack) {  // RFC 9293 3.8.6, SHLD-14
  config.receive_window = 8192;
  const StreamId id = accept();
  uint32_t edge = 0;
  Rng rng(7);
  uint32_t next = 1;
  for (int i = 0; i < 200; i++) {
    const uint32_t n = 1 + rng.below(1400);
    const uint32_t before = uint32_t(stack().info(id).bytes_in);
    arrive({.seq = next, .ack = 1, .payload = std::string(n, 'x')});
    next += uint32_t(stack().info(id).bytes_in) - before;
    if (const uint32_t have = stack().readable(id).bytes; have > 0 && rng.chance(0.5)) stack().consume(id, 1 + rng.below(have));
    sent();
    for (const Seen& s : seen) {
      EXPECT_GE(s.ack - peer_iss + s.window, edge);
      edge = s.ack - peer_iss + s.window;
    }
  }
}

TEST_F(TcpInput, RangesBehindGapsAreBounded) {
  config.out_of_order_ranges_max = 3;
  const StreamId id = accept();
  for (uint32_t i = 0; i < 3; i++) EXPECT_EQ(arrive({.seq = 11 + 10 * i, .ack = 1, .payload = "x"}), "");
  EXPECT_EQ(arrive({.seq = 51, .ack = 1, .payload = "x"}), "tcp_out_of_order_full");
  EXPECT_EQ(arrive({.seq = 12, .ack = 1, .payload = "y"}), "") << "a range grows";
  EXPECT_EQ(stack().snapshot(id)->out_of_order, 4u);
  EXPECT_EQ(pool().held(), 3u) << "tiny ones share an mbuf";
}

TEST_F(TcpInput, WithoutAnMbufThePayloadIsDroppedButItsAckCounts) {
  held_max = 8;
  const StreamId id = accept();
  write(id, "xyz");
  EXPECT_EQ(sent(), "PA 1 ack 1 len 3");
  Chain all;
  while (rte_mbuf* m = pool().alloc_held()) all.append(m);
  EXPECT_EQ(arrive({.seq = 11, .ack = 1, .payload = "y"}), "tcp_no_mbuf");
  EXPECT_EQ(sent(), "A 4 ack 1") << "the duplicate ACK still leaves";
  EXPECT_EQ(arrive({.seq = 1, .ack = 3, .payload = "y"}), "tcp_no_mbuf");
  EXPECT_EQ(stack().snapshot(id)->in_flight, 1u);
  EXPECT_EQ(sent(), "A 4 ack 1");
  all.clear();
  EXPECT_EQ(arrive({.seq = 1, .ack = 4, .payload = "y"}), "");
  EXPECT_EQ(read(id), "y");
}

TEST_F(TcpInput, FullSegmentsAreAcknowledgedInPairsAndTheLastAfter25Ms) {  // RFC 9293 3.8.6.3, MUST-40, SHLD-19
  const StreamId id = accept();
  uint32_t next = 1;
  auto full = [&] {
    arrive({.seq = next, .ack = 1, .payload = std::string(1460, 'x')});
    next += 1460;
    read(id);
    return sent();
  };
  for (int i = 0; i < 16; i++) EXPECT_NE(full(), "") << "the first segments are acknowledged at once";
  EXPECT_EQ(full(), "");
  const std::string second = full();
  EXPECT_EQ(second, "A 1 ack " + std::to_string(next));
  EXPECT_EQ(full(), "");
  EXPECT_EQ(wait(100 * kMs), "30 A 1 ack " + std::to_string(next));  // the wheel's tick of 1 ms rounds up
}

TEST_F(TcpInput, AnyOrderOfAnyPiecesGivesTheSameBytes) {
  std::string text;
  for (int i = 0; i < 4000; i++) text += char('a' + i * 7 % 26);
  for (uint64_t seed = 1; seed <= 200; seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    peer_port = uint16_t(40'000 + seed);
    our_iss = 0;
    const StreamId id = accept();
    while (stack().info(id).bytes_in < text.size()) {
      uint32_t at = rng.below(uint32_t(text.size()));
      if (rng.chance(0.2)) at = uint32_t(stack().info(id).bytes_in);
      const uint32_t n = std::min<uint32_t>(1 + rng.below(rng.chance(0.5) ? 20 : 900), uint32_t(text.size()) - at);
      arrive({.seq = 1 + at, .ack = 1, .payload = text.substr(at, n)});
    }
    EXPECT_EQ(read(id), text);
    stack().abort(id);
    sent();
    ASSERT_EQ(pool().held(), 0u);
  }
}

}  // namespace
}  // namespace sluice::tcp
