// TupleTable: four-tuple -> index of an entry, for connections, SYN entries and TIME_WAIT entries alike. Chained: the link lies in the
// entry, so the table is one array of heads and never allocates or resizes. Hashed by SipHash with a boot secret, never by the Toeplitz
// hash of RSS, whose collisions anybody can compute. At most one entry per bucket on average. One thread.
#pragma once
#include <bit>
#include <cstring>
#include <memory>

#include "dataplane/base/address.h"
#include "dataplane/base/check.h"
#include "dataplane/base/siphash.h"

namespace sluice::tcp {

constexpr uint32_t kNoIndex = ~0u;

// A four-tuple in 36 bytes without padding; IPv4 as ::ffff:a.b.c.d.
struct TupleKey {
  std::array<uint8_t, 16> local_ip, remote_ip;
  uint16_t local_port, remote_port;
  friend bool operator==(const TupleKey& a, const TupleKey& b) { return std::memcmp(&a, &b, sizeof(TupleKey)) == 0; }
};
static_assert(sizeof(TupleKey) == 36 && std::has_unique_object_representations_v<TupleKey>);

inline TupleKey key_of(const FourTuple& t) { return {t.local.ip.bytes(), t.remote.ip.bytes(), t.local.port, t.remote.port}; }
inline uint64_t hash_of(const SipKey& secret, const TupleKey& k) {
  return siphash24(secret, {reinterpret_cast<const uint8_t*>(&k), sizeof k});
}

// `Entries` gives `TupleKey& key(index)` and `uint32_t& hash_next(index)` of live entries.
template <class Entries>
class TupleTable {
 public:
  TupleTable(uint32_t entries_max, const SipKey& secret, Entries& entries)
      : entries_(entries), secret_(secret), mask_(std::bit_ceil(entries_max) - 1), heads_(std::make_unique<uint32_t[]>(size_t{mask_} + 1)) {
    std::fill_n(heads_.get(), size_t{mask_} + 1, kNoIndex);
  }
  uint32_t find(const TupleKey& key) const {
    uint32_t i = heads_[bucket(key)];
    while (i != kNoIndex && !(entries_.key(i) == key)) i = entries_.hash_next(i);
    return i;
  }
  // The key must not be there yet.
  void insert(uint32_t index) {
    SLUICE_DCHECK(find(entries_.key(index)) == kNoIndex);
    uint32_t& head = heads_[bucket(entries_.key(index))];
    entries_.hash_next(index) = head;
    head = index;
    size_++;
  }
  void remove(uint32_t index) {
    uint32_t* link = &heads_[bucket(entries_.key(index))];
    while (*link != index) {
      SLUICE_ASSERT(*link != kNoIndex);
      link = &entries_.hash_next(*link);
    }
    *link = entries_.hash_next(index);
    size_--;
  }
  uint32_t size() const { return size_; }

 private:
  uint32_t bucket(const TupleKey& key) const { return uint32_t(hash_of(secret_, key)) & mask_; }
  Entries& entries_;
  SipKey secret_;
  uint32_t mask_, size_ = 0;
  std::unique_ptr<uint32_t[]> heads_;
};

}  // namespace sluice::tcp
