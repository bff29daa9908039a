// The 96-bit input of IPv4 TCP is src, dst, sport, dport in network order. Every set bit i of the input contributes the 32 key bits that
// start at bit i, so the contribution of a whole byte at a fixed place is a table of 256 values and the hash is twelve look-ups.
#include "dataplane/packet/owner.h"

#include <algorithm>

#include "dataplane/base/check.h"

namespace sluice {

const OwnerHash::Key OwnerHash::kDefaultKey = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                                               0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                                               0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

namespace {

uint32_t key_bits(const OwnerHash::Key& key, unsigned bit) {
  uint64_t window = 0;
  for (unsigned i = 0; i < 5; i++) window = window << 8 | key[bit / 8 + i];
  return uint32_t(window >> (8 - bit % 8));
}

uint32_t byte_part(const OwnerHash::Key& key, unsigned place, unsigned value) {
  uint32_t part = 0;
  for (unsigned bit = 0; bit < 8; bit++)
    if (value & (0x80u >> bit)) part ^= key_bits(key, place * 8 + bit);
  return part;
}

}  // namespace

OwnerHash::OwnerHash(unsigned workers, const Key& key) : workers_(workers) {
  SLUICE_ASSERT(workers >= 1 && workers <= kEntries);
  for (unsigned e = 0; e < kEntries; e++) owner_[e] = uint8_t(e % workers);
  static const std::shared_ptr<const Tables> default_tables = make_tables(kDefaultKey);
  tables_ = key == kDefaultKey ? default_tables : make_tables(key);
}

std::shared_ptr<const OwnerHash::Tables> OwnerHash::make_tables(const Key& key) {
  auto t = std::make_shared<Tables>();
  for (unsigned place = 0; place < t->part.size(); place++)
    for (unsigned value = 0; value < 256; value++) t->part[place][value] = byte_part(key, place, value);
  for (uint32_t port = kFirstSourcePort; port <= 65'535; port++)
    t->ports[(t->part[10][port >> 8] ^ t->part[11][port & 0xff]) % kEntries].push_back(uint16_t(port));
  for (const auto& bucket : t->ports) t->most = std::max(t->most, uint32_t(bucket.size()));
  return t;
}

uint32_t OwnerHash::hash(const FourTuple& t) const {
  if (!t.remote.ip.is_v4() || !t.local.ip.is_v4()) return 0;
  const auto& p = tables_->part;
  const uint32_t s = t.remote.ip.v4().v, d = t.local.ip.v4().v;
  return p[0][s >> 24] ^ p[1][s >> 16 & 0xff] ^ p[2][s >> 8 & 0xff] ^ p[3][s & 0xff] ^ p[4][d >> 24] ^ p[5][d >> 16 & 0xff] ^
         p[6][d >> 8 & 0xff] ^ p[7][d & 0xff] ^ p[8][t.remote.port >> 8] ^ p[9][t.remote.port & 0xff] ^ p[10][t.local.port >> 8] ^
         p[11][t.local.port & 0xff];
}

uint16_t OwnerHash::source_port(const FourTuple& t, unsigned worker, uint32_t random, uint32_t attempt) const {
  SLUICE_DCHECK(worker < workers_);
  FourTuple base = t;
  base.local.port = 0;
  const uint32_t h0 = hash(base);
  const uint32_t entries = (kEntries - worker + workers_ - 1) / workers_;  // of this worker
  const uint32_t places = entries * tables_->most;
  if (attempt >= places) return 0;
  const uint32_t at = (random % places + attempt) % places;
  const auto& bucket = tables_->ports[((worker + at % entries * workers_) ^ h0) % kEntries];
  return bucket.empty() ? 0 : bucket[at / entries % bucket.size()];
}

bool OwnerHash::key_is_strong(const Key& key) {
  const auto t = make_tables(key);
  return std::ranges::none_of(t->ports, [](const auto& bucket) { return bucket.empty(); });
}

}  // namespace sluice
