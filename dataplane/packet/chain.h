// Chain: an owning list of mbufs (rte_mbuf linked by `next`, as DPDK sends them), counted in bytes and segments. Move-only; the destructor
// frees what is left. One worker. A Chain never shares an mbuf with another holder unless the producer said so (refcnt > 1).
#pragma once
#include <rte_mbuf.h>

#include <utility>

#include "dataplane/base/bytes.h"
#include "dataplane/base/check.h"
#include "dataplane/base/counters.h"
#include "dataplane/base/limits.h"

namespace sluice {

// The data of one mbuf (not of its chain).
inline Bytes bytes_of(const rte_mbuf* m) { return {rte_pktmbuf_mtod(m, const uint8_t*), m->data_len}; }
inline MutBytes bytes_of(rte_mbuf* m) { return {rte_pktmbuf_mtod(m, uint8_t*), m->data_len}; }

// Each mbuf of our pools carries in its private area the account it is charged to while a holder keeps it (packet/pool.h), or null.
// Whoever ends a hold calls free_mbuf: it discharges the account and drops one reference. A port that still sends the mbuf has its own
// reference.
struct MbufPrivate {
  Counter* account;
};
inline MbufPrivate& private_of(rte_mbuf* m) { return *static_cast<MbufPrivate*>(rte_mbuf_to_priv(m)); }
inline void discharge(rte_mbuf* m) {
  MbufPrivate& p = private_of(m);
  if (p.account != nullptr) {
    p.account->sub();
    p.account = nullptr;
  }
}
inline void free_mbuf(rte_mbuf* m) {
  discharge(m);
  rte_pktmbuf_free_seg(m);
}

class Chain {
 public:
  Chain() = default;
  explicit Chain(rte_mbuf* m) {
    while (m != nullptr) {
      rte_mbuf* next = m->next;
      append(m);
      m = next;
    }
  }
  Chain(Chain&& o) noexcept { swap(o); }
  Chain& operator=(Chain&& o) noexcept {
    clear();
    swap(o);
    return *this;
  }
  ~Chain() { clear(); }

  bool empty() const { return head_ == nullptr; }
  uint32_t bytes() const { return bytes_; }
  uint32_t segments() const { return segments_; }
  rte_mbuf* head() const { return head_; }
  rte_mbuf* tail() const { return tail_; }

  // Takes one mbuf (its own `next` is overwritten).
  void append(rte_mbuf* m) {
    m->next = nullptr;
    if (tail_ != nullptr) tail_->next = m;
    else head_ = m;
    tail_ = m;
    bytes_ += m->data_len;
    segments_++;
  }
  void append(Chain&& o) {
    while (rte_mbuf* m = o.pop_front()) append(m);
  }
  // Gives up the first mbuf, unlinked, or nullptr.
  rte_mbuf* pop_front() {
    rte_mbuf* m = head_;
    if (m == nullptr) return nullptr;
    head_ = m->next;
    if (head_ == nullptr) tail_ = nullptr;
    m->next = nullptr;
    bytes_ -= m->data_len;
    segments_--;
    return m;
  }
  // Frees n bytes from the front; n <= bytes().
  void consume(uint32_t n) {
    SLUICE_ASSERT(n <= bytes_);
    while (n > 0 || (head_ != nullptr && head_->data_len == 0)) {
      if (head_->data_len <= n) {
        n -= head_->data_len;
        free_mbuf(pop_front());
      } else {
        head_->data_off = uint16_t(head_->data_off + n);
        head_->data_len = uint16_t(head_->data_len - n);
        bytes_ -= n;
        n = 0;
      }
    }
  }
  // The tail grew by n bytes in place (the writer moved data_len itself).
  void grew(uint32_t n) { bytes_ += n; }
  void clear() {
    while (rte_mbuf* m = pop_front()) free_mbuf(m);
  }
  // Gives up ownership of the whole list.
  rte_mbuf* release() {
    rte_mbuf* m = head_;
    head_ = tail_ = nullptr;
    bytes_ = segments_ = 0;
    return m;
  }
  void swap(Chain& o) noexcept {
    std::swap(head_, o.head_);
    std::swap(tail_, o.tail_);
    std::swap(bytes_, o.bytes_);
    std::swap(segments_, o.segments_);
  }

 private:
  rte_mbuf *head_ = nullptr, *tail_ = nullptr;
  uint32_t bytes_ = 0, segments_ = 0;
};

}  // namespace sluice
