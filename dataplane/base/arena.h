// Arena: where an exchange keeps its strings. Chunks come from a per-worker ArenaPool (no malloc on the path) and go back together at
// reset(). A single string larger than a chunk is malloc'ed (counted in the pool: only headers near their limit do that).
//   copy(text)   the text in the arena, or nullopt-like empty data() == nullptr when the pool is empty (caller answers 503 / closes)
// Pointers are stable until reset(). One thread.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "dataplane/base/check.h"
#include "dataplane/base/counters.h"

namespace sluice {

class ArenaPool {
 public:
  static constexpr size_t kChunkBytes = 4096;
  explicit ArenaPool(uint32_t chunks) : limit_(chunks) {}
  ~ArenaPool() {
    while (free_ != nullptr) std::free(std::exchange(free_, free_->next));
  }
  ArenaPool(const ArenaPool&) = delete;
  ArenaPool& operator=(const ArenaPool&) = delete;

  struct Chunk {
    Chunk* next;
    char* bytes() { return reinterpret_cast<char*>(this + 1); }
  };
  static constexpr size_t kRoom = kChunkBytes - sizeof(Chunk);

  Chunk* take() {
    if (Chunk* c = free_) {
      free_ = c->next;
      in_use_.add();
      return c;
    }
    if (in_use_.get() >= limit_) return nullptr;
    in_use_.add();
    return static_cast<Chunk*>(std::malloc(kChunkBytes));  // grows to the limit once, then recycles
  }
  void give(Chunk* c) {
    c->next = free_;
    free_ = c;
    in_use_.sub();
  }
  uint64_t in_use() const { return in_use_.get(); }
  Counter oversize;  // strings that did not fit a chunk

 private:
  const uint32_t limit_;
  Chunk* free_ = nullptr;
  Counter in_use_;
};

class Arena {
 public:
  explicit Arena(ArenaPool& pool) : pool_(&pool) {}
  ~Arena() { reset(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // n bytes aligned to 8, or nullptr when the pool is exhausted.
  void* alloc(size_t n) {
    n = (n + 7) & ~size_t{7};
    if (n > ArenaPool::kRoom) return oversize(n);
    if (n > left_) {
      ArenaPool::Chunk* c = pool_->take();
      if (c == nullptr) return nullptr;
      c->next = chunks_;
      chunks_ = c;
      at_ = c->bytes();
      left_ = ArenaPool::kRoom;
    }
    void* p = at_;
    at_ += n;
    left_ -= n;
    return p;
  }
  std::string_view copy(std::string_view text) {
    if (text.empty()) return {"", 0};
    char* p = static_cast<char*>(alloc(text.size()));
    if (p == nullptr) return {};
    std::memcpy(p, text.data(), text.size());
    return {p, text.size()};
  }
  void reset() {
    while (chunks_ != nullptr) {
      ArenaPool::Chunk* c = chunks_;
      chunks_ = c->next;
      pool_->give(c);
    }
    while (big_ != nullptr) std::free(std::exchange(big_, big_->next));
    at_ = nullptr;
    left_ = 0;
  }

 private:
  void* oversize(size_t n) {
    auto* c = static_cast<ArenaPool::Chunk*>(std::malloc(sizeof(ArenaPool::Chunk) + n));
    if (c == nullptr) return nullptr;
    pool_->oversize.add();
    c->next = big_;
    big_ = c;
    return c->bytes();
  }
  ArenaPool* pool_;
  ArenaPool::Chunk *chunks_ = nullptr, *big_ = nullptr;
  char* at_ = nullptr;
  size_t left_ = 0;
};

}  // namespace sluice
