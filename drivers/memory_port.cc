#include "drivers/memory_port.h"

#include "dataplane/base/ring.h"
#include "drivers/fan_port.h"
#include "drivers/tx_stage.h"

namespace sluice::drivers {
namespace {

struct Link {
  explicit Link(uint32_t frames) : a_to_b(frames), b_to_a(frames) {}
  ~Link() {
    for (auto* ring : {&a_to_b, &b_to_a})
      for (rte_mbuf* m; ring->pop(m);) rte_pktmbuf_free(m);
  }
  SpscRing<rte_mbuf*> a_to_b, b_to_a;
};

class MemoryPort final : public Port {
 public:
  MemoryPort(PortInfo info, std::shared_ptr<Link> link, SpscRing<rte_mbuf*>& in, SpscRing<rte_mbuf*>& out, MbufPool& pool)
      : Port(std::move(info)), link_(std::move(link)), in_(in), out_(out), pool_(pool), stage_(info_, counters_[0], pool.raw()) {}

  unsigned rx(unsigned, rte_mbuf** out, unsigned n) override {
    if (!stage_.empty()) stage_.flush([&](rte_mbuf** f, unsigned k) { return send(f, k); });
    unsigned got = 0;
    uint64_t bytes = 0;
    while (got < n && got < kRxBurst && !in_.empty()) {
      rte_mbuf* m = rte_pktmbuf_alloc(pool_.raw());
      if (m == nullptr) break;
      rte_mbuf* sent = nullptr;
      in_.pop(sent);
      m->data_off = kMbufHeadroom;
      uint8_t* to = rte_pktmbuf_mtod(m, uint8_t*);
      for (const rte_mbuf* s = sent; s != nullptr; s = s->next) {
        std::memcpy(to, rte_pktmbuf_mtod(s, const uint8_t*), s->data_len);
        to += s->data_len;
      }
      m->data_len = uint16_t(sent->pkt_len);
      m->pkt_len = sent->pkt_len;
      bytes += sent->pkt_len;
      rte_pktmbuf_free(sent);
      out[got++] = m;
    }
    counters_[0].rx_frames.add(got);
    counters_[0].rx_bytes.add(bytes);
    return got;
  }
  unsigned tx(unsigned, rte_mbuf** frames, unsigned n) override {
    return stage_.tx(frames, n, [&](rte_mbuf** f, unsigned k) { return send(f, k); });
  }

 private:
  unsigned send(rte_mbuf** frames, unsigned count) {
    unsigned sent = 0;
    while (sent < count && out_.push(frames[sent])) sent++;
    return sent;
  }

  std::shared_ptr<Link> link_;
  SpscRing<rte_mbuf*>&in_, &out_;
  MbufPool& pool_;
  TxStage stage_;
};

}  // namespace

std::pair<std::unique_ptr<Port>, std::unique_ptr<Port>> memory_link(const MemoryEnd& a, const MemoryEnd& b, uint32_t frames, uint16_t mtu) {
  SLUICE_ASSERT(mtu <= kMtu);  // what a frame's room holds
  auto link = std::make_shared<Link>(frames);
  const auto end = [&](const MemoryEnd& e, SpscRing<rte_mbuf*>& in, SpscRing<rte_mbuf*>& out) {
    PortInfo info{.name = "memory", .device = "memory", .mac = e.mac, .mtu = mtu, .can = {.multi_segment = true}};
    return fan(std::make_unique<MemoryPort>(std::move(info), link, in, out, *e.pools[0]), e.owner, e.pools);
  };
  return {end(a, link->b_to_a, link->a_to_b), end(b, link->a_to_b, link->b_to_a)};
}

}  // namespace sluice::drivers
