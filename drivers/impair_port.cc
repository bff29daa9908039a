#include "drivers/impair_port.h"

#include <algorithm>

#include "dataplane/base/rng.h"

namespace sluice::drivers {
namespace {

class ImpairPort final : public Port {
 public:
  ImpairPort(std::unique_ptr<Port> inner, const Impairment& how, MbufPool& pool, uint64_t seed)
      : Port(named(inner->info())), inner_(std::move(inner)), how_(how), pool_(pool), rng_(seed) {
    held_.reserve(how.frames_max);
  }
  ~ImpairPort() override {
    for (const Held& h : held_) rte_pktmbuf_free(h.frame);
  }

  unsigned rx(unsigned worker, rte_mbuf** out, unsigned n) override {
    std::array<rte_mbuf*, kRxBurst> in;
    const unsigned got = inner_->rx(worker, in.data(), kRxBurst);
    for (unsigned i = 0; i < got; i++) receive(in[i]);
    unsigned given = 0;
    while (given < n && !held_.empty() && held_.front().due <= now_) {
      std::pop_heap(held_.begin(), held_.end(), std::greater<>());
      out[given++] = held_.back().frame;
      held_.pop_back();
    }
    return given;
  }
  unsigned tx(unsigned worker, rte_mbuf** frames, unsigned n) override { return inner_->tx(worker, frames, n); }
  void advance(Usec now) override {
    now_ = now;
    inner_->advance(now);
  }
  const PortCounters& counters(unsigned worker) const override { return inner_->counters(worker); }

 private:
  struct Held {
    Usec due;
    uint64_t order;  // frames due at the same time keep theirs
    rte_mbuf* frame;
    bool operator>(const Held& o) const { return due != o.due ? due > o.due : order > o.order; }
  };
  static PortInfo named(PortInfo info) {
    SLUICE_ASSERT(info.workers == 1);
    info.name = "impaired " + info.name;
    return info;
  }
  void lose(rte_mbuf* m) {
    counters_of(*inner_, 0).drops.add(Drop::kImpairLoss);
    rte_pktmbuf_free(m);
  }
  void receive(rte_mbuf* m) {
    if (rng_.chance(how_.loss)) return lose(m);
    if (rng_.chance(how_.corrupt) && m->data_len > 0) {
      const uint32_t bit = rng_.below(m->data_len * 8u);
      rte_pktmbuf_mtod(m, uint8_t*)[bit / 8] ^= uint8_t(1u << bit % 8);
      m->ol_flags &= ~(RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_IP_CKSUM_MASK);
    }
    if (rng_.chance(how_.duplicate))
      if (rte_mbuf* twin = rte_pktmbuf_copy(m, pool_.raw(), 0, UINT32_MAX)) hold(twin);
    hold(m);
  }
  void hold(rte_mbuf* m) {
    if (held_.size() >= how_.frames_max) return lose(m);
    Usec due = now_ + how_.delay_us + (how_.jitter_us > 0 ? rng_.below(uint32_t(how_.jitter_us) + 1) : 0);
    if (rng_.chance(how_.reorder)) due += how_.reorder_us;
    else due = last_due_ = std::max(due, last_due_);
    held_.push_back({due, order_++, m});
    std::push_heap(held_.begin(), held_.end(), std::greater<>());
  }

  std::unique_ptr<Port> inner_;
  const Impairment how_;
  MbufPool& pool_;
  Rng rng_;
  Usec now_ = 0, last_due_ = 0;
  uint64_t order_ = 0;
  std::vector<Held> held_;  // a heap, the earliest first
};

}  // namespace

std::unique_ptr<Port> impair(std::unique_ptr<Port> inner, const Impairment& how, MbufPool& pool, uint64_t seed) {
  return std::make_unique<ImpairPort>(std::move(inner), how, pool, seed);
}

}  // namespace sluice::drivers
