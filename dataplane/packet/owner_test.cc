#include "dataplane/packet/owner.h"

#include <gtest/gtest.h>
#include <rte_thash.h>

#include <set>

#include "dataplane/base/rng.h"

namespace sluice {
namespace {

FourTuple tuple(const char* remote, uint16_t remote_port, const char* local, uint16_t local_port) {
  return {{*IpAddress::parse(local), local_port}, {*IpAddress::parse(remote), remote_port}};
}

TEST(OwnerHash, EqualsMicrosoftsVectors) {
  const OwnerHash h;
  EXPECT_EQ(h.hash(tuple("66.9.149.187", 2794, "161.142.100.80", 1766)), 0x51ccc178u);
  EXPECT_EQ(h.hash(tuple("199.92.111.2", 14230, "65.69.140.83", 4739)), 0xc626b0eau);
}

TEST(OwnerHash, EqualsDpdksSoftwareRssForRandomTuples) {
  const uint64_t seed = 7;
  Rng rng(seed);
  const OwnerHash h;
  for (int i = 0; i < 2000; i++) {
    const FourTuple t{{Ipv4{uint32_t(rng.next())}, uint16_t(rng.next())}, {Ipv4{uint32_t(rng.next())}, uint16_t(rng.next())}};
    uint32_t words[3] = {t.remote.ip.v4().v, t.local.ip.v4().v, uint32_t(t.remote.port) << 16 | t.local.port};
    ASSERT_EQ(h.hash(t), rte_softrss(words, 3, OwnerHash::kDefaultKey.data())) << "seed " << seed << " round " << i;
  }
}

TEST(OwnerHash, SourcePortsComeBackToTheirWorkerAndAreAllOfItsShare) {
  for (unsigned workers : {1u, 2u, 3u, 16u}) {
    const OwnerHash h(workers);
    FourTuple t = tuple("10.20.0.2", 8080, "10.20.0.1", 0);
    std::set<uint16_t> all;
    for (unsigned w = 0; w < workers; w++) {
      for (uint32_t attempt = 0; uint16_t port = h.source_port(t, w, 12345, attempt); attempt++) {
        ASSERT_GE(port, OwnerHash::kFirstSourcePort);
        t.local.port = port;
        ASSERT_EQ(h.owner(t), w);
        all.insert(port);
      }
    }
    EXPECT_EQ(all.size(), 65'536u - OwnerHash::kFirstSourcePort) << workers;
  }
}

TEST(OwnerHash, RefusesAKeyThatCannotSteer) {
  OwnerHash::Key weak;
  weak.fill(0x05);
  EXPECT_TRUE(OwnerHash::key_is_strong(OwnerHash::kDefaultKey));
  EXPECT_FALSE(OwnerHash::key_is_strong(weak));
}

}  // namespace
}  // namespace sluice
