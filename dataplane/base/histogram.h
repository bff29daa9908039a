// A log-linear histogram of unsigned values: 16 linear buckets per power of two, so a bucket is at most 6.25 % wide; all of uint64 fits in
// 976 buckets. add() is one bit scan and one relaxed store. One writer; merge and quantile may run on any thread.
#pragma once
#include <array>
#include <bit>
#include <cstdint>

#include "dataplane/base/counters.h"

namespace sluice {

class Histogram {
 public:
  static constexpr unsigned kSubBits = 4, kSub = 1 << kSubBits, kBuckets = (64 - kSubBits + 1) * kSub;

  static constexpr unsigned bucket_of(uint64_t v) {
    if (v < kSub) return unsigned(v);
    const unsigned shift = unsigned(std::bit_width(v)) - 1 - kSubBits;
    return (shift + 1) * kSub + unsigned((v >> shift) & (kSub - 1));
  }
  static constexpr uint64_t lowest_of(unsigned bucket) {
    const unsigned shift = bucket / kSub;
    return shift == 0 ? bucket : uint64_t(kSub + bucket % kSub) << (shift - 1);
  }

  void add(uint64_t v, uint64_t n = 1) {
    bucket_[bucket_of(v)].add(n);
    count_.add(n);
    sum_.add(v * n);
  }
  void merge(const Histogram& o) {
    for (unsigned i = 0; i < kBuckets; i++) bucket_[i].add(o.bucket_[i].get());
    count_.add(o.count());
    sum_.add(o.sum());
  }
  uint64_t count() const { return count_.get(); }
  uint64_t sum() const { return sum_.get(); }
  // Values recorded that are at most the bucket of `v` (for cumulative exposition).
  uint64_t count_at_most(uint64_t v) const {
    uint64_t n = 0;
    for (unsigned i = 0; i <= bucket_of(v); i++) n += bucket_[i].get();
    return n;
  }
  // The lowest value of the bucket in which the q-th value lies; 0 when empty. q in [0, 1].
  uint64_t quantile(double q) const {
    const uint64_t total = count();
    if (total == 0) return 0;
    uint64_t rank = uint64_t(q * double(total - 1)), seen = 0;
    for (unsigned i = 0; i < kBuckets; i++)
      if ((seen += bucket_[i].get()) > rank) return lowest_of(i);
    return lowest_of(kBuckets - 1);
  }

 private:
  std::array<Counter, kBuckets> bucket_;
  Counter count_, sum_;
};

static_assert(Histogram::bucket_of(~uint64_t{0}) == Histogram::kBuckets - 1);
static_assert(Histogram::bucket_of(15) == 15 && Histogram::bucket_of(16) == 16 && Histogram::lowest_of(Histogram::bucket_of(1000)) <= 1000);

}  // namespace sluice
