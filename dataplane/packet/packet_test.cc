#include <gtest/gtest.h>
#include <rte_lcore.h>

#include <latch>
#include <numeric>
#include <thread>
#include <vector>

#include "dataplane/packet/poison.h"
#include "dataplane/packet/pool.h"

namespace sluice {
namespace {

MbufPool make_pool(uint32_t held_max) {
  auto pool = MbufPool::create("packet_test", 1024, held_max, SOCKET_ID_ANY);
  EXPECT_TRUE(pool.has_value()) << pool.error();
  return std::move(*pool);
}

TEST(MbufPool, ChargesEveryHeldMbufAndIsBackAtZero) {
  MbufPool pool = make_pool(4);
  {
    Chain chain;
    for (int i = 0; i < 4; i++) chain.append(pool.alloc_held());
    EXPECT_EQ(pool.held(), 4u);
    EXPECT_EQ(pool.alloc_held(), nullptr);
    EXPECT_EQ(pool.refused(), 1u);
    rte_mbuf* control = pool.alloc_control();  // control traffic leaves all the same
    ASSERT_NE(control, nullptr);
    free_mbuf(control);
  }
  EXPECT_EQ(pool.held(), 0u);
  EXPECT_EQ(pool.available(), pool.size());
}

// What another lcore frees stays in that lcore's cache, where its owner cannot reach it: main (it opens the ports) and the other workers.
TEST(MbufPool, TheReserveIsThereWhenEverybodyHoldsAllThatHeMay) {
  constexpr uint32_t kPorts = 1, kWorkers = 3;
  constexpr uint32_t kMbufs = mbufs_per_worker(kPorts, kWorkers);
  auto pool = MbufPool::create("reserve_test", kMbufs, kHeldMbufsMax, SOCKET_ID_ANY);
  ASSERT_TRUE(pool.has_value()) << pool.error();
  std::latch registered(kWorkers);
  std::vector<std::thread> others;
  for (uint32_t i = 0; i < kWorkers; i++)
    others.emplace_back([&] {
      EXPECT_EQ(rte_thread_register(), 0);
      registered.arrive_and_wait();  // each has an lcore of its own
      std::vector<rte_mbuf*> some(2 * kMbufCache);
      for (rte_mbuf*& m : some) ASSERT_NE(m = pool->alloc_control(), nullptr);
      for (rte_mbuf* m : some) rte_pktmbuf_free(m);
      registered.wait();
      rte_thread_unregister();
    });
  for (auto& t : others) t.join();

  std::vector<rte_mbuf*> held;
  while (rte_mbuf* m = pool->alloc_held()) held.push_back(m);
  EXPECT_EQ(held.size(), kHeldMbufsMax);
  const uint32_t ports = kPorts * (kRxPosted + kTxRingDesc + 2 * kTxBurst + kNetQueueMax + (kWorkers - 1) * kFanRing);
  for (uint32_t i = 0; i < ports + kRxBurst + kNeighbourQueuedMax; i++) {
    held.push_back(pool->alloc_control());
    ASSERT_NE(held.back(), nullptr) << i;
  }
  for (uint32_t i = 0; i < kControlReserve; i++) {
    held.push_back(pool->alloc_control());
    ASSERT_NE(held.back(), nullptr) << "ACK, RST and ARP must always leave; " << i;
  }
  for (rte_mbuf* m : held) free_mbuf(m);
}

TEST(MbufPool, TheChargeEndsWithTheHolderWhileThePortStillSends) {
  MbufPool pool = make_pool(4);
  rte_mbuf* m = pool.alloc_held();
  rte_mbuf_refcnt_update(m, 1);  // the port's reference
  free_mbuf(m);
  EXPECT_EQ(pool.held(), 0u);
  EXPECT_EQ(pool.available(), pool.size() - 1);
  rte_pktmbuf_free(m);
  EXPECT_EQ(pool.available(), pool.size());
}

TEST(MbufPool, AppendCopyShapesSegmentsAndIsAllOrNothing) {
  MbufPool pool = make_pool(4);
  std::vector<uint8_t> data(2500);
  std::iota(data.begin(), data.end(), uint8_t{0});
  Chain chain;
  ASSERT_TRUE(pool.append_copy(chain, data, 1000));
  EXPECT_EQ(chain.segments(), 3u);
  EXPECT_EQ(chain.bytes(), 2500u);
  EXPECT_FALSE(pool.append_copy(chain, data, 1000));  // needs two more, one is left
  EXPECT_EQ(chain.bytes(), 2500u);
  ASSERT_TRUE(pool.append_copy(chain, Bytes(data).first(500), 1000));  // fills the tail, no new mbuf
  EXPECT_EQ(chain.segments(), 3u);
  EXPECT_EQ(pool.held(), 3u);
  std::vector<uint8_t> got;
  for (rte_mbuf* m = chain.head(); m != nullptr; m = m->next) got.insert(got.end(), bytes_of(m).begin(), bytes_of(m).end());
  data.insert(data.end(), data.begin(), data.begin() + 500);
  EXPECT_EQ(got, data);
  chain.consume(1001);
  EXPECT_EQ(chain.segments(), 2u);
  EXPECT_EQ(bytes_of(chain.head())[0], data[1001]);
}

// Planted on purpose: a sanitizer build that does not see this sees no use after free of packet bytes at all.
TEST(Poison, AUseAfterFreeOfPacketBytesIsSeen) {
  if (!kPoisonFreed) GTEST_SKIP() << "not an AddressSanitizer build (meson setup -Db_sanitize=address)";
  MbufPool pool = make_pool(4);
  rte_mbuf* m = pool.alloc_control();
  volatile uint8_t* byte = rte_pktmbuf_mtod(m, uint8_t*);
  *byte = 1;
  rte_pktmbuf_free(m);
  EXPECT_DEATH(*byte = 2, "use-after-poison");
}

}  // namespace
}  // namespace sluice
