#include "dataplane/tcp/send_queue.h"

#include <algorithm>

namespace sluice::tcp {
namespace {

// The record in the private area. payload_off counts from buf_addr.
struct Note {
  Counter* account;
  rte_mbuf* next;
  uint64_t position;
  uint16_t payload_off, payload_bytes;
};
static_assert(sizeof(Note) <= kMbufPrivateBytes && offsetof(Note, account) == offsetof(MbufPrivate, account));
Note& note(rte_mbuf* m) { return *static_cast<Note*>(rte_mbuf_to_priv(m)); }
const uint8_t* payload(rte_mbuf* m) { return static_cast<const uint8_t*>(m->buf_addr) + note(m).payload_off; }

rte_mbuf* private_copy(rte_mbuf* m, MbufPool& pool) {
  rte_mbuf* copy = m->data_len <= MbufPool::data_room() ? pool.alloc_held() : nullptr;
  if (copy != nullptr) {
    std::memcpy(rte_pktmbuf_mtod(copy, uint8_t*), rte_pktmbuf_mtod(m, uint8_t*), m->data_len);
    copy->data_len = m->data_len;
  }
  free_mbuf(m);
  return copy;
}

}  // namespace

bool SendQueue::append(Chain&& chain, uint64_t sent_end, MbufPool& pool) {
  while (rte_mbuf* m = chain.pop_front()) {
    if (m->data_len == 0) {
      free_mbuf(m);
      continue;
    }
    if (tail_ != nullptr && m->data_len <= kCopyBelow && note(tail_).position >= sent_end && rte_mbuf_refcnt_read(tail_) == 1) {
      Note& t = note(tail_);
      const uint32_t used = t.payload_off + t.payload_bytes;
      if (used + m->data_len <= tail_->buf_len && t.payload_bytes + m->data_len <= kMtu - 52u) {
        std::memcpy(static_cast<uint8_t*>(tail_->buf_addr) + used, rte_pktmbuf_mtod(m, uint8_t*), m->data_len);
        t.payload_bytes = uint16_t(t.payload_bytes + m->data_len);
        bytes_ += m->data_len;
        free_mbuf(m);
        continue;
      }
    }
    if (rte_mbuf_refcnt_read(m) > 1) m = private_copy(m, pool);
    if (m == nullptr) {
      chain.clear();
      return false;
    }
    note(m) = {private_of(m).account, nullptr, end(), m->data_off, m->data_len};
    if (tail_ != nullptr) note(tail_).next = m;
    else head_ = m;
    tail_ = m;
    bytes_ += m->data_len;
    segments_++;
  }
  return true;
}

void SendQueue::acknowledge(uint64_t position) {
  SLUICE_DCHECK(position >= begin() && position <= end());
  uint32_t n = uint32_t(position - begin_);
  begin_ = position;
  bytes_ -= n;
  while (n > 0) {
    rte_mbuf* m = head_;
    Note& h = note(m);
    if (n < h.payload_bytes) {
      h.payload_off = uint16_t(h.payload_off + n);
      h.payload_bytes = uint16_t(h.payload_bytes - n);
      h.position += n;
      return;
    }
    n -= h.payload_bytes;
    head_ = h.next;
    if (head_ == nullptr) tail_ = nullptr;
    if (hint_ == m) hint_ = nullptr;
    free_mbuf(m);
    segments_--;
  }
}

void SendQueue::clear() {
  while (head_ != nullptr) {
    rte_mbuf* next = note(head_).next;
    free_mbuf(head_);
    head_ = next;
  }
  tail_ = hint_ = nullptr;
  begin_ += bytes_;
  bytes_ = segments_ = 0;
}

rte_mbuf* SendQueue::segment(uint64_t position, uint32_t bytes_max, MbufPool& pool, bool& copied) {
  SLUICE_DCHECK(bytes_max > 0 && position >= begin() && position < end());
  rte_mbuf* m = hint_ != nullptr && note(hint_).position <= position ? hint_ : head_;
  while (note(m).position + note(m).payload_bytes <= position) m = note(m).next;
  hint_ = m;
  const Note& n = note(m);
  const bool whole = n.position == position && n.payload_bytes <= bytes_max;
  const bool worth = n.payload_bytes == bytes_max || n.payload_bytes > kCopyBelow || n.next == nullptr;
  if (whole && worth && rte_mbuf_refcnt_read(m) == 1 && n.payload_off >= kHeadroomNeeded) {
    // Nobody else holds it: header space and descriptor are ours to write again.
    m->data_off = n.payload_off;
    m->data_len = n.payload_bytes;
    m->pkt_len = n.payload_bytes;
    m->next = nullptr;
    m->nb_segs = 1;
    rte_mbuf_refcnt_update(m, 1);
    copied = false;
    return m;
  }
  rte_mbuf* copy = pool.alloc_control();
  if (copy == nullptr) return nullptr;
  copied = true;
  uint8_t* to = rte_pktmbuf_mtod(copy, uint8_t*);
  uint32_t left = std::min<uint32_t>({bytes_max, MbufPool::data_room(), uint32_t(end() - position)});
  copy->data_len = uint16_t(left);
  copy->pkt_len = left;
  for (uint32_t skip = uint32_t(position - n.position); left > 0; m = note(m).next, skip = 0) {
    const uint32_t part = std::min<uint32_t>(left, note(m).payload_bytes - skip);
    std::memcpy(to, payload(m) + skip, part);
    to += part;
    left -= part;
  }
  return copy;
}

}  // namespace sluice::tcp
