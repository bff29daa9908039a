#include "dataplane/tcp/receive_queue.h"

namespace sluice::tcp {
namespace {

// The record of a range, in the private area of its first mbuf. Links inside a range are rte_mbuf::next.
struct Range {
  Counter* account;
  rte_mbuf* next_range;
  rte_mbuf* tail;
  Seq start, end;
};
static_assert(sizeof(Range) <= kMbufPrivateBytes && offsetof(Range, account) == offsetof(MbufPrivate, account));
Range& range_of(rte_mbuf* m) { return *static_cast<Range*>(rte_mbuf_to_priv(m)); }
const Range& range_of(const rte_mbuf* m) { return *static_cast<const Range*>(rte_mbuf_to_priv(const_cast<rte_mbuf*>(m))); }

void trim_front(rte_mbuf* m, uint32_t n) {
  m->data_off = uint16_t(m->data_off + n);
  m->data_len = uint16_t(m->data_len - n);
}

// True when m's bytes now lie behind those of `tail` (m is freed): m is small and there is room.
bool compact(rte_mbuf* tail, rte_mbuf* m) {
  if (m->data_len > ReceiveQueue::kCopyBelow || rte_pktmbuf_tailroom(tail) < m->data_len || rte_mbuf_refcnt_read(tail) != 1) return false;
  std::memcpy(rte_pktmbuf_mtod_offset(tail, uint8_t*, tail->data_len), rte_pktmbuf_mtod(m, uint8_t*), m->data_len);
  tail->data_len = uint16_t(tail->data_len + m->data_len);
  free_mbuf(m);
  return true;
}

}  // namespace

void ReceiveQueue::append_ready(rte_mbuf* m) {
  const uint32_t n = m->data_len;
  if (ready_.tail() != nullptr && compact(ready_.tail(), m)) ready_.grew(n);
  else ready_.append(m);
}

ReceiveQueue::Verdict ReceiveQueue::add(rte_mbuf* m, Seq seq, Seq& rcv_nxt, uint32_t ranges_max, MbufPool& pool) {
  if (seq != rcv_nxt) return add_ahead(m, seq, ranges_max, pool);
  const uint32_t n = m->data_len;
  if (ready_.tail() != nullptr && compact(ready_.tail(), m)) {
    ready_.grew(n);
  } else {
    if (!pool.charge(m)) {
      free_mbuf(m);
      return Verdict::kNoMbuf;
    }
    ready_.append(m);
  }
  rcv_nxt += n;
  // The gap before the first ranges may be closed now; their bytes up to rcv_nxt are duplicates.
  while (first_ != nullptr && range_of(first_).start <= rcv_nxt) {
    rte_mbuf* part = first_;
    const Range r = range_of(part);
    first_ = r.next_range;
    ranges_--;
    Seq at = r.start;
    while (part != nullptr) {
      rte_mbuf* next = part->next;
      const uint32_t bytes = part->data_len;
      ahead_mbufs_--;
      ahead_bytes_ -= bytes;
      const uint32_t old = at < rcv_nxt ? std::min(distance(at, rcv_nxt), bytes) : 0;
      at += bytes;
      if (old == bytes) {
        free_mbuf(part);
      } else {
        trim_front(part, old);
        rcv_nxt += part->data_len;
        append_ready(part);
      }
      part = next;
    }
  }
  return Verdict::kKept;
}

void ReceiveQueue::link(rte_mbuf* before, rte_mbuf* range) {
  if (before == nullptr) first_ = range;
  else range_of(before).next_range = range;
}

rte_mbuf* ReceiveQueue::remove_range(rte_mbuf* range) {
  rte_mbuf* next_range = range_of(range).next_range;
  while (range != nullptr) {
    rte_mbuf* next = range->next;
    ahead_mbufs_--;
    ahead_bytes_ -= range->data_len;
    free_mbuf(range);
    range = next;
  }
  ranges_--;
  return next_range;
}

void ReceiveQueue::append_to(rte_mbuf* range, rte_mbuf* m) {
  Range& r = range_of(range);
  r.end += m->data_len;
  ahead_bytes_ += m->data_len;
  if (compact(r.tail, m)) return;
  m->next = nullptr;
  r.tail->next = m;
  r.tail = m;
  ahead_mbufs_++;
}

ReceiveQueue::Verdict ReceiveQueue::add_ahead(rte_mbuf* m, Seq seq, uint32_t ranges_max, MbufPool& pool) {
  auto refuse = [m](Verdict v) {
    free_mbuf(m);
    return v;
  };
  if (ahead_mbufs_ >= kMbufsMax) return refuse(Verdict::kRangesFull);
  Seq end = seq + m->data_len;
  rte_mbuf *before = nullptr, *r = first_;
  while (r != nullptr && range_of(r).end < seq) before = r, r = range_of(r).next_range;
  if (r != nullptr && range_of(r).start <= seq && end <= range_of(r).end) return refuse(Verdict::kDuplicate);
  const bool extends = r != nullptr && range_of(r).start <= seq;  // seq lies in r, or just behind it
  rte_mbuf* after = extends ? range_of(r).next_range : r;         // the first range that begins behind seq
  const bool touches_after = after != nullptr && range_of(after).start <= end;
  if (!extends && !touches_after && ranges_ >= ranges_max) return refuse(Verdict::kRangesFull);
  if (!pool.charge(m, MbufPool::Kept::kOutOfOrder)) return refuse(Verdict::kNoMbuf);

  // Ranges that lie within the new bytes go; one that begins within them and ends behind keeps its bytes, the new mbuf loses the overlap.
  while (after != nullptr && range_of(after).end <= end) after = remove_range(after);
  const bool joins_after = after != nullptr && range_of(after).start <= end;
  if (joins_after) {
    m->data_len = uint16_t(m->data_len - distance(range_of(after).start, end));
    end = range_of(after).start;
  }
  if (extends) {
    trim_front(m, distance(seq, range_of(r).end));
    range_of(r).next_range = after;
    if (m->data_len == 0) free_mbuf(m);
    else append_to(r, m);
    if (joins_after) {
      Range& a = range_of(after);
      Range& front = range_of(r);
      front.tail->next = after;
      front.tail = a.tail;
      front.end = a.end;
      front.next_range = a.next_range;
      ranges_--;
    }
    return Verdict::kKept;
  }
  ahead_mbufs_++;
  ahead_bytes_ += m->data_len;
  if (joins_after) {
    Range moved = range_of(after);
    m->next = after;
    range_of(m) = {private_of(m).account, moved.next_range, moved.tail, seq, moved.end};
  } else {
    m->next = nullptr;
    range_of(m) = {private_of(m).account, after, m, seq, end};
    ranges_++;
  }
  link(before, m);
  return Verdict::kKept;
}

void ReceiveQueue::clear_out_of_order() {
  while (first_ != nullptr) first_ = remove_range(first_);
}

void ReceiveQueue::clear() {
  ready_.clear();
  clear_out_of_order();
}

void ReceiveQueue::check(Seq rcv_nxt) const {
  uint32_t ranges = 0, mbufs = 0, bytes = 0;
  Seq last = rcv_nxt;
  for (const rte_mbuf* r = first_; r != nullptr; r = range_of(r).next_range) {
    SLUICE_ASSERT(range_of(r).start > last && range_of(r).end > range_of(r).start);
    last = range_of(r).end;
    ranges++;
    uint32_t in_range = 0;
    for (const rte_mbuf* m = r; m != nullptr; m = m->next) {
      in_range += m->data_len;
      mbufs++;
      SLUICE_ASSERT(m->data_len > 0 && (m->next != nullptr || m == range_of(r).tail));
    }
    SLUICE_ASSERT(in_range == distance(range_of(r).start, range_of(r).end));
    bytes += in_range;
  }
  SLUICE_ASSERT(ranges == ranges_ && mbufs == ahead_mbufs_ && bytes == ahead_bytes_);
}

}  // namespace sluice::tcp
