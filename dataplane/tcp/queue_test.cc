// The pieces that stand alone: send queue and receive queue against a plain model, RTO and NewReno against the RFCs' numbers, the SYN table
// and TIME-WAIT ring against their clocks.
#include <map>

#include "dataplane/base/rng.h"
#include "dataplane/tcp/new_reno.h"
#include "dataplane/tcp/receive_queue.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/send_queue.h"
#include "dataplane/tcp/syn.h"
#include "dataplane/tcp/test_peer.h"
#include "dataplane/tcp/time_wait.h"

namespace sluice::tcp {
namespace {

using namespace test;

class TcpQueues : public TcpTest {
 protected:
  rte_mbuf* packet(const std::string& bytes) {
    rte_mbuf* m = pool().alloc_control();
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(bytes.size()))));
    return m;
  }
  Chain chain(const std::string& bytes, uint32_t segment = 1000) {
    Chain c;
    EXPECT_TRUE(pool().append_copy(c, as_bytes(bytes), segment));
    return c;
  }
  std::string take(SendQueue& q, uint64_t position, uint32_t bytes, bool* was_copied = nullptr) {
    bool copied = false;
    rte_mbuf* m = q.segment(position, bytes, pool(), copied);
    if (was_copied != nullptr) *was_copied = copied;
    const std::string s(as_text(bytes_of(static_cast<const rte_mbuf*>(m))));
    EXPECT_EQ(m->pkt_len, s.size());
    EXPECT_EQ(m->nb_segs, 1);
    EXPECT_GE(m->data_off, SendQueue::kHeadroomNeeded);
    rte_pktmbuf_free(m);
    return s;
  }
  static std::string text(const Chain& c) {
    std::string s;
    for (const rte_mbuf* m = c.head(); m != nullptr; m = m->next) s += as_text(bytes_of(m));
    return s;
  }
};

// ---- send queue

TEST_F(TcpQueues, ASegmentThatIsOneMbufIsSharedNotCopied) {
  SendQueue q;
  ASSERT_TRUE(q.append(chain(std::string(1000, 'a') + std::string(1000, 'b')), 0, pool()));
  bool copied = true;
  EXPECT_EQ(take(q, 0, 1000, &copied), std::string(1000, 'a'));
  EXPECT_FALSE(copied);
  EXPECT_EQ(take(q, 1000, 1000, &copied), std::string(1000, 'b'));
  EXPECT_FALSE(copied);
  EXPECT_EQ(take(q, 500, 1000, &copied), std::string(500, 'a') + std::string(500, 'b'));
  EXPECT_TRUE(copied);
}

TEST_F(TcpQueues, WhatAPortStillHoldsIsCopiedAndItsHeaderSpaceLeftAlone) {
  SendQueue q;
  ASSERT_TRUE(q.append(chain(std::string(1000, 'a')), 0, pool()));
  bool copied = false;
  rte_mbuf* held = q.segment(0, 1000, pool(), copied);
  std::memset(rte_pktmbuf_prepend(held, 54), 'H', 54);  // as net does
  EXPECT_EQ(take(q, 0, 1000, &copied), std::string(1000, 'a'));
  EXPECT_TRUE(copied);
  rte_pktmbuf_free(held);
  EXPECT_EQ(take(q, 0, 1000, &copied), std::string(1000, 'a'));
  EXPECT_FALSE(copied);
}

TEST_F(TcpQueues, SmallUnsentWritesShareAnMbuf) {
  SendQueue q;
  for (int i = 0; i < 100; i++) ASSERT_TRUE(q.append(chain("0123456789"), 0, pool()));
  EXPECT_EQ(q.segments(), 1u);
  EXPECT_EQ(pool().held(), 1u);
  ASSERT_TRUE(q.append(chain("x"), 1000, pool())) << "sent bytes are immutable";
  EXPECT_EQ(q.segments(), 2u);
}

TEST_F(TcpQueues, AnMbufThatSomebodyElseHoldsIsCopiedIntoTheSendQueue) {
  SendQueue q;
  rte_mbuf* shared = packet("shared");
  rte_mbuf_refcnt_update(shared, 1);
  Chain c;
  c.append(shared);
  ASSERT_TRUE(q.append(std::move(c), 0, pool()));
  std::memcpy(rte_pktmbuf_mtod(shared, char*), "WRITES", 6);
  EXPECT_EQ(take(q, 0, 100), "shared");
  rte_pktmbuf_free(shared);
}

TEST_F(TcpQueues, TheSendQueueGivesAnyRangeInAnyOrder) {
  for (uint64_t seed = 1; seed <= 100; seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    SendQueue q;
    std::string model;  // bytes [0, end)
    uint64_t sent_end = 0;
    for (int step = 0; step < 200; step++) {
      const uint32_t what = rng.below(3);
      if (what == 0 && q.bytes() < 20'000) {
        std::string s(1 + rng.below(rng.chance(0.5) ? 30 : 3000), ' ');
        for (char& ch : s) ch = char('a' + rng.below(26));
        ASSERT_TRUE(q.append(chain(s, 50 + rng.below(1400)), sent_end, pool()));
        model += s;
      } else if (what == 1 && q.bytes() > 0) {
        const uint64_t at = q.begin() + rng.below(q.bytes());
        const uint32_t most = 1 + rng.below(1448);
        const std::string s = take(q, at, most);
        ASSERT_LE(s.size(), most);
        ASSERT_FALSE(s.empty());
        ASSERT_EQ(s, model.substr(at, s.size()));
        sent_end = std::max<uint64_t>(sent_end, at + s.size());
      } else if (what == 2 && q.bytes() > 0) {
        q.acknowledge(q.begin() + rng.below(std::min(q.bytes(), uint32_t(std::max<uint64_t>(sent_end, q.begin()) - q.begin())) + 1));
      }
      ASSERT_EQ(q.end(), model.size());
    }
    q.clear();
    ASSERT_EQ(pool().held(), 0u);
  }
}

// ---- receive queue

TEST_F(TcpQueues, TinySegmentsInOrderShareAnMbuf) {
  ReceiveQueue q;
  Seq next{0xffff'fff0};
  for (int i = 0; i < 50; i++) EXPECT_EQ(q.add(packet("0123456789"), next, next, 8, pool()), ReceiveQueue::Verdict::kKept);
  EXPECT_EQ(q.unread(), 500u);
  EXPECT_EQ(pool().held(), 1u);
  EXPECT_EQ(next, Seq{0xffff'fff0} + 500);
}

TEST_F(TcpQueues, MbufsAheadOfGapsAreBounded) {
  held_max = 2400;  // half of it may wait out of order
  ReceiveQueue q;
  Seq next{0};
  uint32_t kept = 0;
  for (uint32_t i = 0; i < 1100; i++)
    kept += q.add(packet(std::string(600, 'x')), Seq{100 + 600 * i}, next, 8, pool()) == ReceiveQueue::Verdict::kKept;
  EXPECT_EQ(kept, ReceiveQueue::kMbufsMax);
  q.check(next);
  q.clear();
  EXPECT_EQ(pool().held(), 0u);
}

TEST_F(TcpQueues, TheReceiveQueueOrdersAnyPieces) {
  for (uint64_t seed = 1; seed <= 300; seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    std::string stream(6000, ' ');
    for (char& ch : stream) ch = char('a' + rng.below(26));
    ReceiveQueue q;
    const Seq start{0xffff'f800};
    Seq next = start;
    std::string got;
    const uint32_t ranges_max = 1 + rng.below(8);
    while (got.size() + q.unread() < stream.size()) {
      const uint32_t have = distance(start, next);
      uint32_t at = have + (rng.chance(0.3) ? 0 : rng.below(uint32_t(stream.size()) - have));
      const uint32_t n = std::min<uint32_t>(1 + rng.below(rng.chance(0.5) ? 30 : 1400), uint32_t(stream.size()) - at);
      q.add(packet(stream.substr(at, n)), start + at, next, ranges_max, pool());
      q.check(next);
      ASSERT_LE(q.out_of_order_ranges(), ranges_max);
      if (rng.chance(0.2) && q.unread() > 0) {
        const uint32_t k = 1 + rng.below(q.unread());
        got += text(q.ready()).substr(0, k);
        q.consume(k);
      }
    }
    got += text(q.ready());
    ASSERT_EQ(got, stream);
    ASSERT_EQ(q.out_of_order_bytes(), 0u);
    q.clear();
    ASSERT_EQ(pool().held(), 0u);
  }
}

// ---- RTO, NewReno

TEST(TcpRto, TheFirstSampleAndTheNextFollowTheFormulas) {  // RFC 6298 2.2, 2.3
  RtoEstimator r;
  r.start(1 * kSec);
  r.sample(100 * kMs, 1, 60 * kSec);
  EXPECT_EQ(r.srtt_us, 100 * kMs);
  EXPECT_EQ(r.rttvar_us, 50 * kMs);
  EXPECT_EQ(r.rto_us, 300 * kMs);
  r.sample(180 * kMs, 1, 60 * kSec);
  EXPECT_EQ(r.rttvar_us, 57'500u);  // 3/4 * 50 + 1/4 * |100 - 180|: before srtt moves
  EXPECT_EQ(r.srtt_us, 110 * kMs);
  EXPECT_EQ(r.rto_us, 340 * kMs);
}

TEST(TcpRto, ItIsBoundedBelowAndAboveAndDoubles) {  // 2.4, 2.5, 5.5
  RtoEstimator r;
  r.start(1 * kSec);
  EXPECT_EQ(r.backed_off(3, 60 * kSec), 8 * kSec);
  EXPECT_EQ(r.backed_off(16, 60 * kSec), 60 * kSec);
  EXPECT_EQ(r.backed_off(255, 60 * kSec), 60 * kSec);
  r.sample(0, 200 * kMs, 60 * kSec);
  EXPECT_EQ(r.rto_us, 200 * kMs);
  r.sample(3600 * kSec, 200 * kMs, 60 * kSec);
  EXPECT_EQ(r.rto_us, 60 * kSec);
}

TEST(TcpNewReno, TheInitialWindowIsThatOfRfc6928) {
  EXPECT_EQ(NewReno::initial_window(1460), 14'600u);
  EXPECT_EQ(NewReno::initial_window(536), 5360u);
  EXPECT_EQ(NewReno::initial_window(9000), 18'000u);
}

TEST(TcpNewReno, CongestionAvoidanceGrowsOneSegmentPerWindow) {  // RFC 5681 3.1, RFC 3465 2.1
  NewReno cc;
  cc.start(1000, {0});
  cc.cwnd = 10'000;
  cc.ssthresh = 5000;
  for (uint32_t i = 1; i < 10; i++) cc.on_new_ack({i * 1000}, 1000, 9000, true);
  EXPECT_EQ(cc.cwnd, 10'000u);
  cc.on_new_ack({10'000}, 1000, 9000, true);
  EXPECT_EQ(cc.cwnd, 11'000u);
}

TEST(TcpNewReno, AWindowThatIsNotUsedDoesNotGrow) {  // RFC 7661's reason; RFC 9293 3.8.2
  NewReno cc;
  cc.start(1000, {0});
  const uint32_t before = cc.cwnd;
  for (uint32_t i = 1; i < 100; i++) cc.on_new_ack({i * 1000}, 1000, 0, false);
  EXPECT_EQ(cc.cwnd, before);
}

TEST(TcpNewReno, DuplicatesOfWhatATimeoutSentAgainAreNoNewLoss) {  // RFC 6582 3.2 step 4, 6
  NewReno cc;
  cc.start(1000, {0});
  cc.on_timeout({10'001}, 10'000, true);
  EXPECT_EQ(cc.cwnd, 1000u);
  EXPECT_EQ(cc.ssthresh, 5000u);
  for (int i = 0; i < 5; i++) EXPECT_EQ(cc.on_duplicate({5001}, {10'001}, 5000), NewReno::Action::kNone);
  cc.on_new_ack({12'001}, 7000, 3000, true);
  for (int i = 0; i < 2; i++) EXPECT_EQ(cc.on_duplicate({12'001}, {15'001}, 3000), NewReno::Action::kNone);
  EXPECT_EQ(cc.on_duplicate({12'001}, {15'001}, 3000), NewReno::Action::kRetransmit);
}

TEST(TcpNewReno, ALossAfterGigabytesWithoutOneIsStillSeen) {  // sequence numbers wrap: `recover` may not stay behind
  NewReno cc;
  cc.start(1000, {0});
  Seq una{0};
  for (int i = 0; i < 5; i++) {
    una += 900'000'000;
    cc.on_new_ack(una, 1000, 9000, true);
    cc.on_duplicate(una, una + 10'000, 10'000);
    cc.on_duplicate(una, una + 10'000, 10'000);
    NewReno now = cc;
    EXPECT_EQ(now.on_duplicate(una, una + 10'000, 10'000), NewReno::Action::kRetransmit) << "after 900 MB " << i + 1 << " times";
  }
}

TEST(TcpNewReno, TheLossWindowIsNeverBelowTwoSegments) {  // RFC 5681 (4)
  NewReno cc;
  cc.start(1000, {0});
  cc.on_timeout({1001}, 1000, true);
  EXPECT_EQ(cc.ssthresh, 2000u);
}

// ---- SYN table, TIME-WAIT ring

TupleKey key(uint16_t port) { return key_of({{kOurIp, kHttp}, {kPeerIp, port}}); }

TEST(TcpSynTable, EntriesOfOneClassLeaveInOrderAndTheLastRetryForgets) {
  SynTable t(4, {1, 2}, 1 * kSec, 1);
  SynEntry e;
  e.key = key(1);
  ASSERT_NE(t.add(e, 10 * kSec), nullptr);
  e.key = key(2);
  ASSERT_NE(t.add(e, 10 * kSec + 500 * kMs), nullptr);
  EXPECT_EQ(t.next_deadline(), 11 * kSec);
  std::vector<uint16_t> resent;
  auto expire = [&](Usec now) { return t.expire(now, 10, [&](SynEntry& s) { resent.push_back(s.key.remote_port); }); };
  EXPECT_EQ(expire(11 * kSec), 1u);
  EXPECT_EQ(expire(11 * kSec + 500 * kMs), 1u);
  EXPECT_EQ(resent, (std::vector<uint16_t>{1, 2}));
  EXPECT_EQ(t.next_deadline(), 13 * kSec);
  EXPECT_EQ(expire(20 * kSec), 2u);
  EXPECT_EQ(t.size(), 0u);
  EXPECT_EQ(resent.size(), 2u);
  EXPECT_EQ(t.next_deadline(), kNever);
}

TEST(TcpSynTable, WorkPerTurnIsBounded) {
  SynTable t(100, {1, 2}, 1 * kSec, 1);
  for (uint16_t i = 0; i < 100; i++) {
    SynEntry e;
    e.key = key(i);
    ASSERT_NE(t.add(e, kSec), nullptr);
  }
  SynEntry e;
  e.key = key(200);
  EXPECT_EQ(t.add(e, kSec), nullptr);
  EXPECT_EQ(t.expire(5 * kSec, 30, [](SynEntry&) {}), 30u);
}

TEST(TcpTimeWaitRing, EntriesAreFoundUntilTheirTimeAndDeadSlotsGoWithIt) {
  TimeWait t(4, {1, 2}, 60 * kSec);
  EXPECT_FALSE(t.add(key(1), {10}, {20}, 0, 0, 100 * kSec));
  EXPECT_FALSE(t.add(key(2), {11}, {21}, 0, 0, 110 * kSec));
  ASSERT_NE(t.find(key(1)), nullptr);
  EXPECT_EQ(t.find(key(1))->snd_nxt, Seq{10});
  EXPECT_EQ(t.find(key(3)), nullptr);
  t.restart(t.find(key(1)), 120 * kSec);  // a dead slot stays at the head
  EXPECT_EQ(t.size(), 2u);
  EXPECT_EQ(t.expire(161 * kSec, 10), 1u);
  EXPECT_EQ(t.size(), 2u);
  EXPECT_EQ(t.expire(171 * kSec, 10), 1u);
  EXPECT_EQ(t.find(key(2)), nullptr);
  EXPECT_NE(t.find(key(1)), nullptr);
  EXPECT_EQ(t.expire(181 * kSec, 10), 1u);
  EXPECT_EQ(t.size(), 0u);
  EXPECT_EQ(t.next_deadline(), kNever);
}

TEST(TcpTimeWaitRing, ItSurvivesTheWrapOfItsMillisecondClock) {
  TimeWait t(4, {1, 2}, 60 * kSec);
  const Usec wrap = Usec{1} << 32;
  t.add(key(1), {10}, {20}, 0, 0, wrap * kMs - 1 * kSec);
  EXPECT_EQ(t.expire(wrap * kMs + 30 * kSec, 10), 0u);
  EXPECT_NE(t.find(key(1)), nullptr);
  EXPECT_EQ(t.expire(wrap * kMs + 61 * kSec, 10), 1u);
}

}  // namespace
}  // namespace sluice::tcp
