// OwnerHash: which worker owns a connection. The Toeplitz hash of NIC RSS (equal to DPDK's rte_softrss for the same key), in software, so
// that it holds whatever the port can do. Entry e of the 128-entry table belongs to worker e % workers.
//
// Hashed as received: source = remote, destination = local. Toeplitz is linear over XOR, so hash(t) = hash(t with local port 0) ^ the local
// port's own contribution: source ports of an active open are chosen in O(1) such that the reply comes back to the same worker
// (source_port). Never index a table of ours by this hash: its collisions can be computed by anyone.
// Pure and immutable after construction (tables of the default key are shared); any thread.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/base/address.h"

namespace sluice {

class OwnerHash {
 public:
  static constexpr unsigned kKeyBytes = 40, kEntries = 128;
  using Key = std::array<uint8_t, kKeyBytes>;
  static const Key kDefaultKey;  // Microsoft's, what NICs have by default; it reaches every entry

  OwnerHash() : OwnerHash(1) {}
  explicit OwnerHash(unsigned workers, const Key& key = kDefaultKey);

  unsigned workers() const { return workers_; }
  // IPv4 only; an IPv6 tuple is worker 0's until IPv6 has a packet path.
  uint32_t hash(const FourTuple& t) const;
  unsigned owner(const FourTuple& t) const { return owner_of_hash(hash(t)); }
  unsigned owner_of_hash(uint32_t h) const { return owner_[h & (kEntries - 1)]; }

  // A local port >= kFirstSourcePort whose owner is `worker` for `t` (t.local.port is ignored); the caller checks that the tuple is free.
  // attempt 0, 1, 2, ... walks the candidates from a start chosen by `random` (RFC 6056), each at least once; 0 when they are used up.
  // IPv4.
  uint16_t source_port(const FourTuple& t, unsigned worker, uint32_t random, uint32_t attempt) const;

  // True when the ports' contributions reach every entry, i.e. any tuple can be steered to any worker. To be asked of a key from outside;
  // so far there is only kDefaultKey.
  static bool key_is_strong(const Key& key);

  static constexpr uint16_t kFirstSourcePort = 10'000;

 private:
  struct Tables {
    std::array<std::array<uint32_t, 256>, 12> part;     // contribution of each byte of src, dst, sport, dport
    std::array<std::vector<uint16_t>, kEntries> ports;  // source ports by the entry of their contribution
    uint32_t most = 0;                                  // the fullest of them
  };
  static std::shared_ptr<const Tables> make_tables(const Key& key);
  unsigned workers_;
  std::array<uint8_t, kEntries> owner_;
  std::shared_ptr<const Tables> tables_;
};

}  // namespace sluice
