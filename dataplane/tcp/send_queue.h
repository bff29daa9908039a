// SendQueue: the bytes of one connection from snd_una on, in the mbufs they came in. tcp keeps its own record of where the payload lies,
// since a port that sends an mbuf moves data_off and data_len and prepends headers (l4.h); the record and the link to the next mbuf live in
// the mbuf's private area, so queueing allocates nothing. Positions are absolute and 64 bits: byte 0 is the first ever queued. Owned by its
// connection.
//
// Output asks for any range: segment() shares the mbuf without a copy when the range is exactly one mbuf that no port holds any more, else
// copies the range into a fresh one. So odd shapes, a changed MSS, a partly acknowledged mbuf and a retransmit of what a port still holds
// are one case.
#pragma once
#include "dataplane/packet/pool.h"

namespace sluice::tcp {

class SendQueue {
 public:
  SendQueue() = default;
  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;
  ~SendQueue() { clear(); }

  // Takes a chain. A small mbuf is copied into the room of the last one if that was never sent (`sent_end`: position after the last byte
  // ever sent). An mbuf that somebody else references is copied, since its bytes would not be ours alone; false (chain freed) when there is
  // no mbuf for that.
  bool append(Chain&& chain, uint64_t sent_end, MbufPool& pool);
  // Frees bytes before `position`; begin() <= position <= end().
  void acknowledge(uint64_t position);
  void clear();

  uint64_t begin() const { return begin_; }
  uint64_t end() const { return begin_ + bytes_; }
  uint32_t bytes() const { return bytes_; }
  uint32_t segments() const { return segments_; }

  // An mbuf of payload at `position`, at most `bytes_max` (> 0) and as much as one segment should carry, the caller's to free or send (its
  // headroom takes TCP, IP and Ethernet). nullptr: no mbuf. `copied` tells whether it is a copy.
  rte_mbuf* segment(uint64_t position, uint32_t bytes_max, MbufPool& pool, bool& copied);

  static constexpr uint16_t kHeadroomNeeded =
      14 + 4 + 40 + 40;                        // Ethernet, VLAN tag, IPv6, TCP with options (32 of them at most in a data segment)
  static constexpr uint32_t kCopyBelow = 512;  // smaller mbufs are worth copying together

 private:
  rte_mbuf *head_ = nullptr, *tail_ = nullptr;
  rte_mbuf* hint_ = nullptr;  // where the last segment() ended
  uint64_t begin_ = 0;
  uint32_t bytes_ = 0, segments_ = 0;
};

}  // namespace sluice::tcp
