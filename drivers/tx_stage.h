// TxStage: what stands between a worker's frames and one transmit queue. A frame is taken when it is prepared (cut, linearised, checksums
// filled) and staged; what the queue did not accept stays staged and goes first next time, and nothing more is taken until it is gone. So a
// frame is prepared once, and back-pressure reaches the caller as frames not taken. Inside drivers/ only.
#pragma once
#include <array>

#include "drivers/offload.h"
#include "drivers/port.h"

namespace sluice::drivers {

class TxStage {
 public:
  // copy_all: the queue gives mbufs to somebody else (net_ring), so it gets copies of everything.
  TxStage(const PortInfo& info, PortCounters& counters, rte_mempool* pool, bool copy_all = false)
      : info_(&info), counters_(&counters), pool_(pool), copy_all_(copy_all) {
    if (!info.can.ip_checksum) fill_ |= RTE_MBUF_F_TX_IP_CKSUM;
    if (!info.can.tcp_checksum) fill_ |= RTE_MBUF_F_TX_TCP_CKSUM;
  }
  TxStage(TxStage&& o) = delete;
  ~TxStage() {
    for (unsigned i = begin_; i < end_; i++) rte_pktmbuf_free(frame_[i]);
  }

  // Port::tx. `send(frames, count)` gives at most kTxBurst frames to the queue and returns how many it accepted.
  template <class Send>
  unsigned tx(rte_mbuf** frames, unsigned n, Send&& send) {
    unsigned taken = 0;
    while (flush(send) && taken < n)
      while (taken < n && end_ < kTxBurst) stage(frames[taken++]);
    counters_->tx_refused.add(n - taken);
    return taken;
  }
  // True when nothing is staged any more.
  template <class Send>
  bool flush(Send&& send) {
    while (begin_ < end_) {
      const unsigned count = end_ - begin_ < kTxBurst ? end_ - begin_ : kTxBurst;
      std::array<uint32_t, kTxBurst> length;  // a sent mbuf is no longer ours to look at
      for (unsigned i = 0; i < count; i++) length[i] = frame_[begin_ + i]->pkt_len;
      const unsigned sent = send(&frame_[begin_], count);
      uint64_t bytes = 0;
      for (unsigned i = 0; i < sent; i++) bytes += length[i];
      begin_ += sent;
      counters_->tx_frames.add(sent);
      counters_->tx_bytes.add(bytes);
      if (sent < count) return false;
    }
    begin_ = end_ = 0;
    return true;
  }
  // The first staged frame is one that the queue can never send.
  void drop_first(Drop why) {
    counters_->drops.add(why);
    rte_pktmbuf_free(frame_[begin_++]);
  }
  bool empty() const { return begin_ == end_; }

 private:
  void stage(rte_mbuf* m);
  void finish(rte_mbuf* m);

  const PortInfo* info_;
  PortCounters* counters_;
  rte_mempool* pool_;
  bool copy_all_;
  uint64_t fill_ = 0;  // the checksum flags that are ours to fill
  unsigned begin_ = 0, end_ = 0;
  std::array<rte_mbuf*, kTxBurst + kCutsMax> frame_;  // a frame is staged below kTxBurst and may become kCutsMax
};

}  // namespace sluice::drivers
