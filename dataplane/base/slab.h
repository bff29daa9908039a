// Slab<T, Tag>: a fixed number of T, given and taken by handle in O(1), without malloc after construction. One thread.
//   alloc(args...)   constructs a T, or gives an invalid handle when all slots are in use (the caller counts it)
//   get(h)           the T, or nullptr when h is stale or invalid
//   free(h)          destroys it; a stale handle is ignored and reported (false)
//   for_each(f)      f(Handle, T&) over live slots in index order; f may free the slot it is given
// Memory: capacity * (sizeof(T) + 8), reserved at construction; pages are touched on first use.
#pragma once
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "dataplane/base/check.h"
#include "dataplane/base/handle.h"

namespace sluice {

template <class T, class Tag = T>
class Slab {
 public:
  using H = Handle<Tag>;

  explicit Slab(uint32_t capacity) : capacity_(capacity), slots_(static_cast<Slot*>(std::aligned_alloc(kAlign, bytes(capacity)))) {
    SLUICE_ASSERT(slots_ != nullptr && capacity < kLive);
  }
  ~Slab() {
    for_each([this](H h, T&) { free(h); });
    std::free(slots_);
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  template <class... Args>
  H alloc(Args&&... args) {
    uint32_t i = free_head_;
    if (i != kNone) {
      free_head_ = slots_[i].next;
    } else {
      if (touched_ == capacity_) return {};
      i = touched_++;
      slots_[i].generation = 0;
    }
    Slot& s = slots_[i];
    s.generation++;
    if (s.generation == 0) s.generation = 1;
    s.next = kLive;
    new (&s.storage) T(std::forward<Args>(args)...);
    live_++;
    return {i, s.generation};
  }
  T* get(H h) {
    if (h.index >= touched_) return nullptr;
    Slot& s = slots_[h.index];
    return s.next == kLive && s.generation == h.generation ? s.object() : nullptr;
  }
  const T* get(H h) const { return const_cast<Slab*>(this)->get(h); }
  bool free(H h) {
    T* t = get(h);
    if (t == nullptr) return false;
    t->~T();
    slots_[h.index].next = free_head_;
    free_head_ = h.index;
    live_--;
    return true;
  }
  // The live object in a slot, for links by index between objects of one slab; the caller knows that the slot is live.
  T* at(uint32_t index) {
    SLUICE_DCHECK(index < touched_ && slots_[index].next == kLive);
    return slots_[index].object();
  }
  // The handle of a live object that lies in this slab.
  H handle_of(const T& t) const {
    const Slot* s = reinterpret_cast<const Slot*>(reinterpret_cast<const uint8_t*>(&t) - offsetof(Slot, storage));
    SLUICE_DCHECK(s >= slots_ && s < slots_ + touched_ && s->next == kLive);
    return {uint32_t(s - slots_), s->generation};
  }
  template <class F>
  void for_each(F&& f) {
    for (uint32_t i = 0; i < touched_; i++)
      if (slots_[i].next == kLive) f(H{i, slots_[i].generation}, *slots_[i].object());
  }
  uint32_t live() const { return live_; }
  uint32_t capacity() const { return capacity_; }

 private:
  static constexpr uint32_t kNone = ~0u, kLive = ~0u - 1;
  struct Slot {
    alignas(T) unsigned char storage[sizeof(T)];
    uint32_t generation, next;  // next: the free list's link, or kLive
    T* object() { return std::launder(reinterpret_cast<T*>(storage)); }
  };
  static constexpr size_t kAlign = alignof(Slot) < 64 ? 64 : alignof(Slot);
  static size_t bytes(uint32_t n) { return (sizeof(Slot) * size_t{n} + kAlign) / kAlign * kAlign; }

  uint32_t capacity_, touched_ = 0, live_ = 0, free_head_ = kNone;
  Slot* slots_;
};

}  // namespace sluice
