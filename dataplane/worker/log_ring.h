// LogRing: rendered access-log lines of one worker on their way to the writer thread (ctrl/log). A single-producer single-consumer ring of
// bytes: a record is copied in whole or not at all, nothing is allocated, nobody waits.
//   worker         write(path, line)   false when it does not fit now: the caller counts Drop::kLogRingFull; also counted here (dropped())
//   writer thread  drain(f)            f(path, line) for each record, oldest first; the views are valid during the call only
// Limits: capacity is a power of two, >= 4 KiB; a record larger than a quarter of it is refused (and counted), so one line can never starve
// the rest. Cost: one memcpy and two stores; the writer is not woken, it looks every kLogPollUs.
#pragma once
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "dataplane/base/check.h"

namespace sluice::worker {

constexpr uint32_t kLogRingBytes = 1 << 20;  // per worker: about 2,500 lines of Istio's default format
constexpr uint32_t kLogPollUs = 20'000;

class LogRing {
 public:
  explicit LogRing(uint32_t capacity = kLogRingBytes) : mask_(capacity - 1), bytes_(std::make_unique<char[]>(capacity)) {
    SLUICE_ASSERT(std::has_single_bit(capacity) && capacity >= 4096);
  }
  LogRing(const LogRing&) = delete;

  bool write(std::string_view path, std::string_view line) {
    const uint64_t need = record_bytes(path.size() + line.size());
    if (path.size() > kPathMax || line.size() > UINT32_MAX / 2 || need > capacity() / 4) return drop();
    uint64_t tail = tail_.load(std::memory_order_relaxed);
    const uint64_t to_end = capacity() - (tail & mask_);
    const uint64_t skip = to_end < need ? to_end : 0;  // a record never wraps: what is left of the buffer is skipped
    if (tail + skip + need - head_seen_ > capacity()) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail + skip + need - head_seen_ > capacity()) return drop();
    }
    if (skip != 0) put(tail, {kSkip, 0});
    tail += skip;
    put(tail, {uint32_t(line.size()), uint32_t(path.size())});
    char* at = &bytes_[(tail & mask_) + sizeof(Head)];
    std::memcpy(at, path.data(), path.size());
    std::memcpy(at + path.size(), line.data(), line.size());
    tail_.store(tail + need, std::memory_order_release);
    return true;
  }

  // Hands at most one capacity's worth of records to f, so that a busy worker cannot hold the writer here; returns how many.
  template <class F>
  size_t drain(F&& f) {
    uint64_t head = head_.load(std::memory_order_relaxed);
    const uint64_t tail = tail_.load(std::memory_order_acquire);
    size_t records = 0;
    while (head != tail) {
      Head h;
      std::memcpy(&h, &bytes_[head & mask_], sizeof h);
      if (h.line_bytes == kSkip) {
        head += capacity() - (head & mask_);
      } else {
        const char* at = &bytes_[(head & mask_) + sizeof h];
        f(std::string_view(at, h.path_bytes), std::string_view(at + h.path_bytes, h.line_bytes));
        head += record_bytes(size_t(h.path_bytes) + h.line_bytes);
        records++;
      }
      head_.store(head, std::memory_order_release);
    }
    return records;
  }

  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }
  uint64_t capacity() const { return mask_ + 1; }

 private:
  struct Head {
    uint32_t line_bytes, path_bytes;
  };
  static constexpr uint32_t kSkip = UINT32_MAX;
  static constexpr uint32_t kPathMax = 1024;
  static uint64_t record_bytes(uint64_t payload) { return (sizeof(Head) + payload + 7) & ~uint64_t{7}; }
  void put(uint64_t position, Head h) { std::memcpy(&bytes_[position & mask_], &h, sizeof h); }
  bool drop() {
    dropped_.store(dropped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // one writer
    return false;
  }

  const uint64_t mask_;
  std::unique_ptr<char[]> bytes_;
  alignas(64) std::atomic<uint64_t> tail_{0};  // bytes ever written
  uint64_t head_seen_ = 0;                     // the worker's last sight of head_
  std::atomic<uint64_t> dropped_{0};
  alignas(64) std::atomic<uint64_t> head_{0};  // bytes ever read
};

}  // namespace sluice::worker
