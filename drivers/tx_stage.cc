#include "drivers/tx_stage.h"

namespace sluice::drivers {
namespace {
constexpr uint32_t kEthernetBytes = 14, kVlanBytes = 4;
constexpr uint16_t kVlanType = 0x8100;
}  // namespace

void TxStage::stage(rte_mbuf* m) {
  const auto drop = [&](Drop why) {
    counters_->drops.add(why);
    rte_pktmbuf_free(m);
  };
  SLUICE_DCHECK(m->data_len >= kEthernetBytes);
  if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) {
    if (info_->can.tso) {
      frame_[end_++] = m;
      return;
    }
    std::array<rte_mbuf*, kCutsMax> cuts;
    const unsigned n = segment(m, pool_, cuts);
    if (n == 0) return drop(Drop::kPortLinearise);
    counters_->segmented.add();
    for (unsigned i = 0; i < n; i++) finish(cuts[i]);
    return;
  }
  const uint16_t ether_type = *rte_pktmbuf_mtod_offset(m, const Be<uint16_t>*, 12);
  const bool tagged = ether_type == kVlanType;
  if (m->pkt_len > info_->mtu + kEthernetBytes + (tagged ? kVlanBytes : 0)) return drop(Drop::kPortOversize);
  if (copy_all_ || (m->nb_segs > 1 && !info_->can.multi_segment)) {
    rte_mbuf* flat = linearise(m, pool_);
    if (flat == nullptr) return drop(Drop::kPortLinearise);
    counters_->linearised.add();
    m = flat;
  }
  finish(m);
}

void TxStage::finish(rte_mbuf* m) {
  if (m->ol_flags & fill_) {
    fill_checksums(m, fill_);
    counters_->checksums.add();
  }
  frame_[end_++] = m;
}

}  // namespace sluice::drivers
