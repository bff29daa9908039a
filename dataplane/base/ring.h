// SpscRing<T>: one producer thread, one consumer thread, a power-of-two number of slots, never blocks.
//   push(v)  false when full (the producer counts the drop)        pop(v)  false when empty
// T is trivially movable or cheap to move; a slot is destroyed by being overwritten.
#pragma once
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>

#include "dataplane/base/check.h"

namespace sluice {

template <class T>
class SpscRing {
 public:
  explicit SpscRing(uint32_t slots) : mask_(slots - 1), slots_(std::make_unique<T[]>(slots)) { SLUICE_ASSERT(std::has_single_bit(slots)); }
  bool push(T v) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ > mask_) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ > mask_) return false;
    }
    slots_[tail & mask_] = std::move(v);
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool pop(T& v) {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    v = std::move(slots_[head & mask_]);
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  bool empty() const { return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire); }
  uint32_t capacity() const { return mask_ + 1; }

 private:
  const uint32_t mask_;
  std::unique_ptr<T[]> slots_;
  alignas(64) std::atomic<uint32_t> tail_{0};
  uint32_t head_seen_ = 0;  // the producer's last sight of head_
  alignas(64) std::atomic<uint32_t> head_{0};
  uint32_t tail_seen_ = 0;  // the consumer's last sight of tail_
};

}  // namespace sluice
