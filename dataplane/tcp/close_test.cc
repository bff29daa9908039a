// Ends: FIN both ways, half-close, crossing FINs, close() that lingers, abort, TIME-WAIT (RFC 9293 3.6, 3.10.4 to 3.10.8; RFC 6191, 1337).
#include <functional>

#include "dataplane/tcp/test_peer.h"
#include "dataplane/tcp/time_wait.h"

namespace sluice::tcp {
namespace {

using namespace test;

class TcpClose : public TcpTest {
 protected:
  // We finish first, in order, and the stream is given back: TIME-WAIT is ours.
  void into_time_wait(const Frame& syn_options = mss(1460), const Frame& fin_options = {}) {
    const StreamId id = accept(syn_options, 0xffff, fin_options);
    stack().finish(id);
    EXPECT_EQ(sent(), "FA 1 ack 1");
    EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 1, .ack = 2, .options = fin_options}), "");
    EXPECT_EQ(sent(), "A 2 ack 2");
    EXPECT_EQ(events(), kPeerFinished | kReadable | kClosed);
    EXPECT_EQ(stack().info(id).end, StreamEnd::kFinished);
    stack().abort(id);
    EXPECT_EQ(stack().streams(), 0u);
    EXPECT_EQ(stack().time_wait_entries(), 1u);
  }
};

// ---- orderly

TEST_F(TcpClose, ThePeersFinComesAfterItsBytesAndWeMayGoOnSending) {  // RFC 9293 3.6 case 2
  const StreamId id = accept();
  EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 1, .ack = 1, .payload = "bye"}), "");
  EXPECT_EQ(sent(), "A 1 ack 5");
  EXPECT_EQ(events(), kReadable | kPeerFinished);
  EXPECT_TRUE(stack().info(id).peer_finished);
  EXPECT_EQ(state(id), TcpState::kCloseWait);
  EXPECT_EQ(read(id), "bye");
  write(id, "answer");
  EXPECT_EQ(sent(), "PA 1 ack 5 len 6");
  stack().finish(id);
  EXPECT_EQ(sent(), "FA 7 ack 5");
  EXPECT_EQ(state(id), TcpState::kLastAck);
  EXPECT_EQ(arrive({.seq = 5, .ack = 8}), "");
  EXPECT_EQ(events(), kClosed);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kFinished);
  EXPECT_EQ(stack().time_wait_entries(), 0u) << "the side that finished last waits for nothing";
  stack().abort(id);
}

TEST_F(TcpClose, OurFinFollowsOurBytesAndWeMayGoOnReading) {
  const StreamId id = accept(mss(1000));
  write(id, std::string(1500, 'x'));
  stack().finish(id);
  EXPECT_EQ(stack().budget(id), 0u);
  EXPECT_EQ(sent(), "A 1 ack 1 len 1000; FPA 1001 ack 1 len 500");
  arrive({.seq = 1, .ack = 1502});
  EXPECT_EQ(state(id), TcpState::kFinWait2);
  arrive({.seq = 1, .ack = 1502, .payload = "still here"});
  EXPECT_EQ(read(id), "still here");
  EXPECT_EQ(sent(), "A 1502 ack 11");
  wait(3600 * kSec);
  EXPECT_EQ(state(id), TcpState::kFinWait2) << "an owner may read as long as it likes";
  arrive({.flags = kFin | kAck, .seq = 11, .ack = 1502});
  EXPECT_EQ(sent(), "A 1502 ack 12");
  EXPECT_EQ(stack().time_wait_entries(), 1u);
  stack().abort(id);
}

TEST_F(TcpClose, AFinBehindAGapWaitsForTheBytesBeforeIt) {
  const StreamId id = accept();
  EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 5, .ack = 1, .payload = "ef"}), "");
  EXPECT_EQ(sent(), "A 1 ack 1");
  EXPECT_EQ(events(), 0);
  EXPECT_EQ(arrive({.seq = 1, .ack = 1, .payload = "abcd"}), "");
  EXPECT_EQ(events(), kReadable | kPeerFinished);
  EXPECT_EQ(read(id), "abcdef");
  EXPECT_EQ(sent(), "A 1 ack 8");
}

TEST_F(TcpClose, AFinThatComesAgainIsAcknowledgedAgain) {
  accept();
  arrive({.flags = kFin | kAck, .seq = 1, .ack = 1});
  EXPECT_EQ(sent(), "A 1 ack 2");
  EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 1, .ack = 1}), "tcp_duplicate");
  EXPECT_EQ(sent(), "A 1 ack 2");
}

TEST_F(TcpClose, DataBehindThePeersOwnFinIsRefused) {  // 3.10.7.4, seventh: should not occur
  const StreamId id = accept();
  arrive({.flags = kFin | kAck, .seq = 1, .ack = 1});
  sent();
  EXPECT_EQ(arrive({.seq = 2, .ack = 1, .payload = "more"}), "tcp_data_after_close");
  EXPECT_EQ(sent(), "A 1 ack 2");
  EXPECT_EQ(read(id), "");
}

TEST_F(TcpClose, CrossingFinsEndInTimeWaitOnBothSides) {  // RFC 9293 3.6 case 3, figure 13
  const StreamId id = accept();
  stack().finish(id);
  EXPECT_EQ(sent(), "FA 1 ack 1");
  arrive({.flags = kFin | kAck, .seq = 1, .ack = 1});
  EXPECT_EQ(state(id), TcpState::kClosing);
  EXPECT_EQ(sent(), "A 2 ack 2");
  EXPECT_EQ(arrive({.seq = 2, .ack = 2}), "");
  EXPECT_EQ(stack().time_wait_entries(), 1u);
  EXPECT_EQ(stack().info(id).end, StreamEnd::kFinished);
  stack().abort(id);
}

TEST_F(TcpClose, ALostFinIsSentAgain) {
  const StreamId id = accept();
  stack().finish(id);
  EXPECT_EQ(sent(), "FA 1 ack 1");
  EXPECT_EQ(wait(700 * kMs), "200 FA 1 ack 1; 600 FA 1 ack 1");
  arrive({.seq = 1, .ack = 2});
  EXPECT_EQ(state(id), TcpState::kFinWait2);
  EXPECT_EQ(wait(10 * kSec), "");
}

TEST_F(TcpClose, AFinPassesAShutWindow) {
  const StreamId id = accept(mss(1000), 1000);
  arrive({.seq = 1, .ack = 1, .payload = "x", .window = 0});
  sent();
  stack().finish(id);
  EXPECT_EQ(sent(), "FA 1 ack 2");
}

// ---- abort, close

TEST_F(TcpClose, AbortSendsAnRstAndFreesEverything) {  // RFC 9293 3.10.5
  const StreamId id = accept();
  arrive({.seq = 1, .ack = 1, .payload = "unread"});
  arrive({.seq = 20, .ack = 1, .payload = "ahead"});
  write(id, std::string(5000, 'x'));
  stack().abort(id);
  EXPECT_EQ(pool().held(), 0u);
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(sent(), "RA 1 ack 7");
  EXPECT_EQ(events(), 0);
  EXPECT_EQ(stack().budget(id), 0u) << "a stale id is harmless";
  stack().finish(id);
  stack().consume(id, 1);
  stack().close(id);
  stack().abort(id);
  EXPECT_EQ(arrive({.seq = 7, .ack = 1}), "tcp_no_connection");
  EXPECT_EQ(sent(), "R 1");
}

TEST_F(TcpClose, CloseDeliversWhatWasSentThenFinishes) {
  const StreamId id = accept();
  write(id, "last words");
  stack().close(id);
  EXPECT_FALSE(stack().snapshot(id)) << "the id is dead";
  EXPECT_EQ(sent(), "FPA 1 ack 1 len 10");
  EXPECT_EQ(wait(300 * kMs), "200 FPA 1 ack 1 len 10");
  arrive({.seq = 1, .ack = 12});
  arrive({.flags = kFin | kAck, .seq = 1, .ack = 12});
  EXPECT_EQ(sent(), "A 12 ack 2");
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(stack().time_wait_entries(), 1u);
  EXPECT_EQ(events(), 0);
}

TEST_F(TcpClose, AfterCloseDataIsAcknowledgedAndThrownAwayUpToOneWindow) {
  config.receive_window = 4096;
  const StreamId id = accept();
  arrive({.seq = 1, .ack = 1, .payload = std::string(1000, 'u')});
  stack().close(id);
  EXPECT_EQ(pool().held(), 0u);
  EXPECT_EQ(sent(), "FA 1 ack 1001");
  arrive({.seq = 1001, .ack = 2});
  EXPECT_EQ(arrive({.seq = 1001, .ack = 2, .payload = std::string(1400, 'x')}), "tcp_data_after_close");
  EXPECT_EQ(sent(), "A 2 ack 2401");
  EXPECT_EQ(arrive({.seq = 2401, .ack = 2, .payload = std::string(1400, 'x')}), "tcp_data_after_close");
  EXPECT_EQ(sent(), "A 2 ack 3801");
  EXPECT_EQ(arrive({.seq = 3801, .ack = 2, .payload = std::string(1400, 'x')}), "tcp_data_after_close");
  EXPECT_EQ(sent(), "RA 2 ack 5201");
  EXPECT_EQ(stack().streams(), 0u);
}

TEST_F(TcpClose, CloseWithoutProgressEndsByRstAfterTheLingerTime) {
  config.linger = 1 * kSec;
  const StreamId id = accept();
  write(id, "x");
  stack().close(id);
  sent();
  EXPECT_EQ(wait(5 * kSec), "200 FPA 1 ack 1 len 1; 600 FPA 1 ack 1 len 1; 1000 RA 3 ack 1");
  EXPECT_EQ(stack().streams(), 0u);
}

TEST_F(TcpClose, AClosedStreamWaitsForThePeersFinOnlySoLong) {
  config.fin_wait2 = 2 * kSec;
  const StreamId id = accept();
  stack().close(id);
  sent();
  arrive({.seq = 1, .ack = 2});
  EXPECT_EQ(wait(5 * kSec), "2000 RA 2 ack 1");
  EXPECT_EQ(stack().streams(), 0u);
}

TEST_F(TcpClose, CloseOfAStreamThatEndedGivesItBack) {
  const StreamId id = accept();
  arrive({.flags = kRst, .seq = 1});
  stack().close(id);
  EXPECT_EQ(stack().streams(), 0u);
  EXPECT_EQ(events(), 0);
}

TEST_F(TcpClose, AnRstInEveryStateEndsIt) {  // 3.10.7.4, second
  struct Row {
    std::function<void(StreamId)> into;
    TcpState state;
    uint32_t seq;
  };
  const Row rows[] = {
      {[&](StreamId) {}, TcpState::kEstablished, 1},
      {[&](StreamId id) { stack().finish(id); }, TcpState::kFinWait1, 1},
      {[&](StreamId id) { stack().finish(id), sent(), arrive({.seq = 1, .ack = 2}); }, TcpState::kFinWait2, 1},
      {[&](StreamId) { arrive({.flags = kFin | kAck, .seq = 1, .ack = 1}); }, TcpState::kCloseWait, 2},
      {[&](StreamId id) { stack().finish(id), sent(), arrive({.flags = kFin | kAck, .seq = 1, .ack = 1}); }, TcpState::kClosing, 2},
      {[&](StreamId id) { arrive({.flags = kFin | kAck, .seq = 1, .ack = 1}), stack().finish(id), sent(); }, TcpState::kLastAck, 2},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(name_of(row.state));
    peer_port++;
    our_iss = 0;
    const StreamId id = accept();
    row.into(id);
    ASSERT_EQ(state(id), row.state);
    sent();
    EXPECT_EQ(arrive({.flags = kRst, .seq = row.seq}), "");
    EXPECT_EQ(stack().info(id).end, StreamEnd::kReset);
    EXPECT_NE(events() & kClosed, 0);
    stack().abort(id);
    EXPECT_EQ(sent(), "");
    EXPECT_EQ(stack().streams(), 0u);
  }
}

// ---- TIME-WAIT

TEST_F(TcpClose, TimeWaitTakes64BytesAndLastsItsTime) {
  static_assert(sizeof(TimeWaitEntry) == 64);
  into_time_wait();
  wait(59 * kSec);
  EXPECT_EQ(stack().time_wait_entries(), 1u);
  wait(2 * kSec);
  EXPECT_EQ(stack().time_wait_entries(), 0u);
  EXPECT_EQ(stack().next_deadline(), kNever);
}

TEST_F(TcpClose, InTimeWaitAFinThatComesAgainIsAcknowledgedAndTheTimeBeginsAnew) {  // 3.10.7.4, eighth
  into_time_wait();
  wait(50 * kSec);
  EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 1, .ack = 2}), "");
  EXPECT_EQ(sent(), "A 2 ack 2");
  wait(50 * kSec);
  EXPECT_EQ(stack().time_wait_entries(), 1u);
  wait(11 * kSec);
  EXPECT_EQ(stack().time_wait_entries(), 0u);
}

TEST_F(TcpClose, InTimeWaitAnRstIsIgnored) {  // RFC 1337
  into_time_wait();
  EXPECT_EQ(arrive({.flags = kRst, .seq = 2}), "tcp_time_wait");
  EXPECT_EQ(arrive({.flags = kRst | kAck, .seq = 2, .ack = 2}), "tcp_time_wait");
  EXPECT_EQ(sent(), "");
  EXPECT_EQ(stack().time_wait_entries(), 1u);
}

TEST_F(TcpClose, InTimeWaitOldDataIsAnsweredByAnAckAndOldAcksAreNot) {
  into_time_wait();
  EXPECT_EQ(arrive({.seq = 1, .ack = 2, .payload = "old"}), "tcp_time_wait");
  EXPECT_EQ(sent(), "A 2 ack 2");
  EXPECT_EQ(arrive({.seq = 2, .ack = 2}), "tcp_time_wait");
  EXPECT_EQ(sent(), "");
}

TEST_F(TcpClose, InTimeWaitANewSynOpensIfItsNumberIsHigher) {  // RFC 9293 3.6.1, MAY-2
  into_time_wait();
  const uint32_t last = our_iss + 2;
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 1}), "tcp_time_wait") << "not higher";
  EXPECT_EQ(sent(), "A 2 ack 2");
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 1000}), "");
  EXPECT_EQ(stack().time_wait_entries(), 0u);
  EXPECT_EQ(stack().counters().time_wait_reused.get(), 1u);
  EXPECT_EQ(sent(), "SA 0 ack 1001");
  EXPECT_GT(int32_t(our_iss - last), 0) << "our number lies behind all that the old connection used";
  EXPECT_EQ(arrive({.seq = 1001, .ack = 1}), "");
  EXPECT_TRUE(opened());
}

TEST_F(TcpClose, InTimeWaitANewerTimestampDecidesWhateverTheNumber) {  // RFC 6191
  into_time_wait(options({mss(1460), stamps(100)}), options({stamps(200)}));
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 1000, .options = options({mss(1460), stamps(150)})}), "tcp_time_wait");
  EXPECT_EQ(sent(), "A 2 ack 2");
  EXPECT_TRUE(seen[0].stamps);
  EXPECT_EQ(seen[0].stamps->second, 200u);
  EXPECT_EQ(arrive({.flags = kSyn, .seq = uint32_t(-1000), .options = options({mss(1460), stamps(201)})}), "");
  EXPECT_EQ(sent(), "SA 0 ack -999");
}

TEST_F(TcpClose, ANewSynThatFindsNoRoomLeavesTimeWaitAsItWas) {
  config.syn_max = 1;
  into_time_wait();
  peer_port++;
  our_iss = 0;
  EXPECT_EQ(arrive({.flags = kSyn}), "");
  sent();
  peer_port--;
  EXPECT_EQ(arrive({.flags = kSyn, .seq = 1000}), "tcp_syn_table_full");
  EXPECT_EQ(stack().time_wait_entries(), 1u);
  EXPECT_EQ(stack().counters().time_wait_reused.get(), 0u);
}

TEST_F(TcpClose, AFullTimeWaitRingLetsTheOldestGoEarly) {
  config.time_wait_max = 2;
  for (int i = 0; i < 3; i++, peer_port++, our_iss = 0) {
    const StreamId id = accept();
    stack().finish(id);
    sent();
    arrive({.flags = kFin | kAck, .seq = 1, .ack = 2});
    sent();
    events();
    stack().abort(id);
  }
  EXPECT_EQ(stack().time_wait_entries(), 2u);
  EXPECT_EQ(stack().counters().time_wait_evicted.get(), 1u);
  peer_port = kPeerPort;
  EXPECT_EQ(arrive({.flags = kFin | kAck, .seq = 1, .ack = 2}), "tcp_no_connection") << "the oldest is forgotten";
}

TEST_F(TcpClose, ATupleInTimeWaitIsNotChosenForAnActiveOpen) {
  into_time_wait();
  EXPECT_FALSE(stack().connect({kOurIp, kHttp}, {kPeerIp, kPeerPort}, 0, now));
  EXPECT_EQ(dropped(Drop::kTcpNoPorts), 1u);
}

}  // namespace
}  // namespace sluice::tcp
