// Counters: written by one thread without a lock prefix, read by any. A reader sees each value whole, and values of one writer may be a
// moment apart from each other.
#pragma once
#include <array>
#include <cstdint>

#include "dataplane/base/drop.h"

namespace sluice {

class Counter {
 public:
  void add(uint64_t n = 1) { __atomic_store_n(&v_, v_ + n, __ATOMIC_RELAXED); }
  void sub(uint64_t n = 1) { __atomic_store_n(&v_, v_ - n, __ATOMIC_RELAXED); }
  void set(uint64_t n) { __atomic_store_n(&v_, n, __ATOMIC_RELAXED); }
  uint64_t get() const { return __atomic_load_n(&v_, __ATOMIC_RELAXED); }

 private:
  uint64_t v_ = 0;
};

struct DropCounters {
  std::array<Counter, size_t(Drop::kCount)> by_reason;
  void add(Drop d, uint64_t n = 1) { by_reason[size_t(d)].add(n); }
  uint64_t get(Drop d) const { return by_reason[size_t(d)].get(); }
  uint64_t total() const {
    uint64_t sum = 0;
    for (const auto& c : by_reason) sum += c.get();
    return sum;
  }
};

}  // namespace sluice
