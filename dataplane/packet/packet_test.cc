#include <gtest/gtest.h>

#include <numeric>
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
