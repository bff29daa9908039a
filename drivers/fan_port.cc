#include "drivers/fan_port.h"

#include "dataplane/base/ring.h"
#include "drivers/offload.h"

namespace sluice::drivers {
namespace {

// The four-tuple of an IPv4 TCP packet as its receiver sees it; false for anything else, fragments included.
bool tuple_of(Bytes ip, FourTuple& t, uint8_t& protocol, Bytes& l4) {
  if (ip.size() < 20 || ip[0] >> 4 != 4) return false;
  const size_t header = size_t(ip[0] & 15) * 4;
  if (header < 20 || ip.size() < header) return false;
  ByteReader r(ip);
  r.take(6);
  if (r.u16() & 0x3fff) return false;  // more fragments, or an offset
  r.take(1);
  protocol = r.u8();
  r.take(2);
  t.remote.ip = Ipv4{r.u32()};
  t.local.ip = Ipv4{r.u32()};
  l4 = ip.subspan(header);
  if (protocol != 6) return true;
  if (l4.size() < 4) return false;
  ByteReader p(l4);
  t.remote.port = p.u16();
  t.local.port = p.u16();
  return true;
}

class FanPort final : public Port {
 public:
  FanPort(std::unique_ptr<Port> inner, const OwnerHash& owner, const std::vector<MbufPool*>& pools)
      : Port(with_workers(inner->info(), unsigned(pools.size()))),
        inner_(std::move(inner)),
        owner_(owner),
        queues_(inner_->info().workers),
        pools_(pools),
        stash_(pools.size()) {
    const unsigned workers = info_.workers;
    for (unsigned i = 0; i < queues_ * workers; i++) rx_rings_.push_back(std::make_unique<Ring>(kFanRing));
    for (unsigned w = queues_; w < workers; w++) tx_rings_.push_back(std::make_unique<Ring>(kFanRing));
  }
  ~FanPort() override {
    for (auto* rings : {&rx_rings_, &tx_rings_})
      for (auto& ring : *rings)
        for (rte_mbuf* m; ring->pop(m);) rte_pktmbuf_free(m);
    for (Stash& s : stash_)
      for (unsigned i = s.begin; i < s.end; i++) rte_pktmbuf_free(s.frame[i]);
  }

  unsigned rx(unsigned worker, rte_mbuf** out, unsigned n) override {
    unsigned kept = 0;
    if (worker < queues_) {
      if (worker == 0) fan_in();
      const unsigned got = inner_->rx(worker, out, n);
      for (unsigned i = 0; i < got; i++) {
        const unsigned to = owner_of_frame(owner_, {rte_pktmbuf_mtod(out[i], const uint8_t*), out[i]->data_len});
        if (to == worker) out[kept++] = out[i];
        else if (ring(worker, to).push(out[i])) mine(worker).fanned_out.add();
        else {
          mine(worker).drops.add(Drop::kFanoutFull);
          rte_pktmbuf_free(out[i]);
        }
      }
    }
    for (unsigned from = 0; from < queues_; from++)
      for (rte_mbuf* m; kept < n && ring(from, worker).pop(m);)
        if ((out[kept] = own(m, worker)) != nullptr) kept++;
    return kept;
  }

  unsigned tx(unsigned worker, rte_mbuf** frames, unsigned n) override {
    if (worker < queues_) return inner_->tx(worker, frames, n);
    unsigned taken = 0;
    while (taken < n && tx_rings_[worker - queues_]->push(frames[taken])) taken++;
    mine(worker).tx_refused.add(n - taken);
    mine(worker).fanned_out.add(taken);
    return taken;
  }
  void advance(Usec now) override { inner_->advance(now); }
  const PortCounters& counters(unsigned worker) const override { return worker < queues_ ? inner_->counters(worker) : counters_[worker]; }

 private:
  using Ring = SpscRing<rte_mbuf*>;
  struct Stash {  // frames out of a worker's transmit ring that the device did not take yet
    unsigned begin = 0, end = 0;
    std::array<rte_mbuf*, kTxBurst> frame;
  };
  static PortInfo with_workers(PortInfo info, unsigned workers) {
    info.workers = workers;
    return info;
  }
  PortCounters& mine(unsigned worker) { return counters_of(*this, worker); }
  Ring& ring(unsigned from, unsigned to) { return *rx_rings_[from * info_.workers + to]; }

  // A frame that another worker passed on, in an mbuf of this worker's pool; nullptr: dropped, counted.
  rte_mbuf* own(rte_mbuf* m, unsigned worker) {
    mine(worker).fanned_in.add();
    if (m->pool == pools_[worker]->raw()) return m;
    rte_mbuf* copy = linearise(m, pools_[worker]->raw());
    if (copy == nullptr) {
      mine(worker).drops.add(Drop::kPortLinearise);
      rte_pktmbuf_free(m);
    }
    return copy;
  }

  // Worker 0: at most one burst from each of the others.
  void fan_in() {
    for (unsigned w = queues_; w < info_.workers; w++) {
      Stash& s = stash_[w];
      if (s.begin == s.end) {
        s.begin = s.end = 0;
        while (s.end < s.frame.size() && tx_rings_[w - queues_]->pop(s.frame[s.end])) s.end++;
      }
      if (s.begin < s.end) s.begin += inner_->tx(0, &s.frame[s.begin], s.end - s.begin);
    }
  }

  std::unique_ptr<Port> inner_;
  const OwnerHash owner_;
  const unsigned queues_;
  const std::vector<MbufPool*> pools_;
  std::vector<std::unique_ptr<Ring>> rx_rings_;  // [queue][worker]
  std::vector<std::unique_ptr<Ring>> tx_rings_;  // of workers without a queue
  std::vector<Stash> stash_;
};

}  // namespace

unsigned owner_of_frame(const OwnerHash& owner, Bytes frame) {
  if (frame.size() < 14) return 0;
  ByteReader r(frame.subspan(12));
  uint16_t type = r.u16();
  if (type == 0x8100) {
    r.take(2);
    type = r.u16();
  }
  FourTuple t, inner;
  uint8_t protocol = 0;
  Bytes l4, rest;
  if (type != 0x0800 || !tuple_of(r.rest(), t, protocol, l4)) return 0;
  if (protocol == 6) return owner.owner(t);
  const bool icmp_error = protocol == 1 && l4.size() >= 8 && (l4[0] == 3 || l4[0] == 11 || l4[0] == 12);
  if (!icmp_error || !tuple_of(l4.subspan(8), inner, protocol, rest) || protocol != 6) return 0;
  std::swap(inner.local, inner.remote);  // it quotes a packet that we sent
  return owner.owner(inner);
}

std::unique_ptr<Port> fan(std::unique_ptr<Port> inner, const OwnerHash& owner, const std::vector<MbufPool*>& pools) {
  const size_t workers = pools.size();
  SLUICE_ASSERT(inner->info().workers == 1 || inner->info().workers == workers);
  SLUICE_ASSERT(workers == 1 || owner.workers() == workers);
  if (workers == 1) return inner;
  return std::make_unique<FanPort>(std::move(inner), owner, pools);
}

}  // namespace sluice::drivers
