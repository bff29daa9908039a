// ReceiveQueue: what one connection received and its owner has not consumed, in order, and what arrived ahead of a gap. mbufs stay as they
// came, charged to the pool; payloads far smaller than their mbuf are copied together, so that tiny segments cannot drain the pool (at most
// one mbuf for each kCopyBelow bytes, and one more). Owned by its connection.
//
// Ahead of a gap: ranges sorted by sequence number, not overlapping and not touching, each a list of mbufs. A range's record lies in the
// private area of its first mbuf, so it allocates nothing. Every operation is bounded by the number of ranges
// (Config::out_of_order_ranges_max, against crafted reassembly work: CVE-2018-5390), and the mbufs ahead of gaps by kMbufsMax.
#pragma once
#include "dataplane/packet/pool.h"
#include "dataplane/tcp/seq.h"

namespace sluice::tcp {

class ReceiveQueue {
 public:
  enum class Verdict : uint8_t { kKept, kDuplicate, kRangesFull, kNoMbuf };

  ReceiveQueue() = default;
  ReceiveQueue(const ReceiveQueue&) = delete;
  ReceiveQueue& operator=(const ReceiveQueue&) = delete;
  ~ReceiveQueue() { clear(); }

  // Takes m (freed unless kept); its data is the payload that starts at `seq`, seq >= rcv_nxt. In order: appended, and with it what waited
  // for it; rcv_nxt moves. Ahead: kept if there is room.
  Verdict add(rte_mbuf* m, Seq seq, Seq& rcv_nxt, uint32_t ranges_max, MbufPool& pool);
  void clear_out_of_order();
  void clear();

  const Chain& ready() const { return ready_; }
  void consume(uint32_t bytes) { ready_.consume(bytes); }
  uint32_t unread() const { return ready_.bytes(); }
  uint32_t out_of_order_bytes() const { return ahead_bytes_; }
  uint32_t out_of_order_ranges() const { return ranges_; }
  uint32_t out_of_order_mbufs() const { return ahead_mbufs_; }
  // SLUICE_ASSERTs order, disjointness and sums.
  void check(Seq rcv_nxt) const;

  static constexpr uint32_t kCopyBelow = 512, kMbufsMax = 1024;

 private:
  Verdict add_ahead(rte_mbuf* m, Seq seq, uint32_t ranges_max, MbufPool& pool);
  void append_ready(rte_mbuf* m);
  rte_mbuf* remove_range(rte_mbuf* range);  // frees it; gives the next
  void append_to(rte_mbuf* range, rte_mbuf* m);
  void link(rte_mbuf* before, rte_mbuf* range);

  Chain ready_;
  rte_mbuf* first_ = nullptr;  // ranges
  uint32_t ranges_ = 0, ahead_mbufs_ = 0, ahead_bytes_ = 0;
};

}  // namespace sluice::tcp
