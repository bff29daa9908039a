// Unit tests of base. Seeds are printed by the test that draws them.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/arena.h"
#include "dataplane/base/bytes.h"
#include "dataplane/base/histogram.h"
#include "dataplane/base/json.h"
#include "dataplane/base/limits.h"
#include "dataplane/base/ring.h"
#include "dataplane/base/rng.h"
#include "dataplane/base/siphash.h"
#include "dataplane/base/slab.h"
#include "dataplane/base/timer.h"

namespace sluice {
namespace {

TEST(Json, StringsAreQuotedAndEscaped) {
  EXPECT_EQ(json_quoted("a\"b\\c\n\r\t\x01\x7f\xc3\xa9"), "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u007f\xc3\xa9\"");
}

TEST(Be, KeepsTheWireOrder) {
  const uint8_t wire[] = {0x12, 0x34, 0x56, 0x78};
  Be<uint32_t> v;
  std::memcpy(&v, wire, 4);
  EXPECT_EQ(uint32_t(v), 0x12345678u);
  v = 0xa0b0c0d0;
  EXPECT_EQ(reinterpret_cast<uint8_t*>(&v)[0], 0xa0);
}

TEST(ByteReader, StaysEmptyAfterTheFirstReadPastTheEnd) {
  const uint8_t b[] = {1, 2, 3};
  ByteReader r(b);
  EXPECT_EQ(r.u16(), 0x0102);
  EXPECT_EQ(r.u16(), 0);
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.u8(), 0);  // the third byte is not given out after a failure
}

TEST(Slab, AStaleHandleFindsNothing) {
  Slab<int> slab(2);
  const auto a = slab.alloc(7);
  ASSERT_NE(slab.get(a), nullptr);
  EXPECT_TRUE(slab.free(a));
  EXPECT_EQ(slab.get(a), nullptr);
  const auto b = slab.alloc(8);
  EXPECT_EQ(b.index, a.index);
  EXPECT_EQ(slab.get(a), nullptr);
  EXPECT_FALSE(slab.free(a));
  EXPECT_EQ(*slab.get(b), 8);
  EXPECT_EQ(slab.handle_of(*slab.get(b)), b);
}

TEST(Slab, GivesAnInvalidHandleWhenFull) {
  Slab<int> slab(1);
  EXPECT_TRUE(slab.alloc(1));
  EXPECT_FALSE(slab.alloc(2));
  EXPECT_EQ(slab.live(), 1u);
}

TEST(SpscRing, CarriesEveryValueInOrderBetweenThreads) {
  SpscRing<uint32_t> ring(64);
  constexpr uint32_t kCount = 200'000;
  std::thread producer([&] {
    for (uint32_t i = 0; i < kCount;) i += ring.push(i);
  });
  uint32_t want = 0, v = 0;
  while (want < kCount)
    if (ring.pop(v)) {
      ASSERT_EQ(v, want++);
    }
  producer.join();
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRing, RefusesWhenFull) {
  SpscRing<int> ring(2);
  EXPECT_TRUE(ring.push(1));
  EXPECT_TRUE(ring.push(2));
  EXPECT_FALSE(ring.push(3));
}

TEST(TimerWheel, FiresEachNodeOnceNotBeforeItsDeadlineAndInTickOrder) {
  const uint64_t seed = 20261124;
  SCOPED_TRACE("seed " + std::to_string(seed));
  Rng rng(seed);
  const Usec start = 123'456'789;
  TimerWheel wheel(start);
  std::vector<std::unique_ptr<TimerNode>> nodes;
  for (int i = 0; i < 2000; i++) {
    nodes.push_back(std::make_unique<TimerNode>(0, uint64_t(i)));
    const Usec spans[] = {10 * kMs, 5 * kSec, 3600 * kSec, 30 * 3600 * kSec};
    wheel.arm(*nodes.back(), start + rng.next() % spans[i % 4]);
  }
  for (int i = 0; i < 2000; i += 7) wheel.cancel(*nodes[size_t(i)]);
  size_t fired = 0;
  Usec now = start, last = 0;
  while (wheel.armed() > 0) {
    const Usec next = wheel.next_deadline();
    ASSERT_NE(next, kNever);
    now = std::max(now + 1, next);
    wheel.advance(now, 1000, [&](TimerNode& n) {
      EXPECT_LE(n.deadline, now);
      EXPECT_LE(now - n.deadline, 2 * TimerWheel::kTick);
      EXPECT_GE(n.deadline / TimerWheel::kTick + 2, last / TimerWheel::kTick);
      last = n.deadline;
      fired++;
      EXPECT_NE(n.cookie % 7, 0u);
    });
  }
  EXPECT_EQ(fired, 2000u - 286u);
}

TEST(TimerWheel, AdvanceIsBoundedAndKeepsTheRestDue) {
  TimerWheel wheel(1);
  std::vector<std::unique_ptr<TimerNode>> nodes;
  for (int i = 0; i < 10; i++) {
    nodes.push_back(std::make_unique<TimerNode>(0, 0));
    wheel.arm(*nodes.back(), 5 * kMs);
  }
  EXPECT_EQ(wheel.advance(10 * kMs, 3, [](TimerNode&) {}), 3u);
  EXPECT_LE(wheel.next_deadline(), 10 * kMs) << "nobody may sleep on what is due";
  EXPECT_EQ(wheel.advance(10 * kMs, 100, [](TimerNode&) {}), 7u);
}

TEST(TimerWheel, ANodeMayBeRearmedInItsOwnCallback) {
  TimerWheel wheel(1);
  TimerNode node(0, 0);
  wheel.arm(node, 2 * kMs);
  int fired = 0;
  for (Usec now = kMs; now < 50 * kMs; now += kMs)
    wheel.advance(now, 10, [&](TimerNode& n) {
      if (++fired < 3) wheel.arm(n, now + 5 * kMs);
    });
  EXPECT_EQ(fired, 3);
}

TEST(Histogram, QuantilesAreWithinOneBucket) {
  Histogram h;
  for (uint64_t v = 1; v <= 10'000; v++) h.add(v);
  EXPECT_NEAR(double(h.quantile(0.5)), 5000, 5000 * 0.0625 + 1);
  EXPECT_NEAR(double(h.quantile(0.99)), 9900, 9900 * 0.0625 + 1);
  for (uint64_t v : {uint64_t{0}, uint64_t{17}, uint64_t{123456789}, ~uint64_t{0}}) {
    EXPECT_LE(Histogram::lowest_of(Histogram::bucket_of(v)), v);
    if (Histogram::bucket_of(v) + 1 < Histogram::kBuckets) {
      EXPECT_GT(Histogram::lowest_of(Histogram::bucket_of(v) + 1), v);
    }
  }
}

TEST(SipHash, MatchesTheReferenceVectors) {
  // Aumasson and Bernstein, appendix A: key 00..0f, input 00..0e.
  const SipKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  uint8_t in[15];
  for (uint8_t i = 0; i < 15; i++) in[i] = i;
  EXPECT_EQ(siphash24(key, in), 0xa129ca6149be45e5u);
}

TEST(IpAddress, ParsesOnlyWholeAddresses) {
  EXPECT_EQ(IpAddress::parse("10.1.2.3")->v4().v, 0x0a010203u);
  EXPECT_EQ(IpAddress::parse("2001:db8::1")->to_string(), "2001:db8::1");
  for (const char* bad : {"", "10.1.2", "10.1.2.3.4", "10.1.2.256", "010.1.2.3", "10.1.2.3 ", "::1%lo", "1"})
    EXPECT_FALSE(IpAddress::parse(bad)) << bad;
  EXPECT_FALSE(IpAddress::parse(std::string_view("10.0.0.1\0", 9)));
}

TEST(IpPrefix, ContainsByBitsAndFamily) {
  const auto p = *IpPrefix::parse("10.20.0.0/15");
  EXPECT_TRUE(p.contains(*IpAddress::parse("10.21.255.1")));
  EXPECT_FALSE(p.contains(*IpAddress::parse("10.22.0.1")));
  EXPECT_FALSE(IpPrefix::parse("0.0.0.0/0")->contains(*IpAddress::parse("::1")));
  EXPECT_TRUE(IpPrefix::parse("2001:db8::/33")->contains(*IpAddress::parse("2001:db8:7fff::")));
  EXPECT_FALSE(IpPrefix::parse("2001:db8::/33")->contains(*IpAddress::parse("2001:db8:8000::")));
  for (const char* bad : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "x/8"}) EXPECT_FALSE(IpPrefix::parse(bad)) << bad;
}

TEST(Arena, ReturnsEveryChunkAndRefusesWhenThePoolIsEmpty) {
  ArenaPool pool(2);
  {
    Arena a(pool);
    EXPECT_EQ(a.copy("hello"), "hello");
    EXPECT_NE(a.alloc(4088), nullptr);
    EXPECT_EQ(pool.in_use(), 2u);
    EXPECT_EQ(a.alloc(4088), nullptr);
    EXPECT_NE(a.alloc(10'000), nullptr);
    EXPECT_EQ(pool.oversize.get(), 1u);
  }
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(Drop, EveryReasonHasADistinctName) {
  for (size_t i = 0; i < size_t(Drop::kCount); i++)
    for (size_t j = 0; j < i; j++) EXPECT_NE(kDropNames[i], kDropNames[j]);
}

}  // namespace
}  // namespace sluice
