// A DPDK device. What each PMD of 22.11 cannot do although it says so, or does although it should not, is a line in quirks_of().
#include "drivers/device_port.h"

#include <dlfcn.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <deque>

#include "drivers/eal.h"
#include "drivers/log_capture.h"
#include "drivers/netdev.h"
#include "drivers/offload.h"
#include "drivers/tx_stage.h"

namespace sluice::drivers {
namespace {

struct Quirks {
  bool single_segment = false;           // says or seems to take chains, but does not
  bool own_mbufs_only = false;           // gives sent mbufs to the receiver (net_ring): hand it copies, never what TCP still holds
  bool umem = false;                     // AF_XDP: every mbuf of the pool must lie in the memory it registers
  bool interrupt_thread_closes = false;  // its close() and its handlers on EAL's interrupt thread free the same things
  unsigned queues_max = ~0u;
};

Quirks quirks_of(std::string_view driver) {
  if (driver == "net_af_xdp") return {.single_segment = true, .umem = true};
  if (driver == "net_af_packet")
    return {.queues_max = 1};  // its fanout is the kernel's hash with rollover: a busy queue spills flows to others
  if (driver == "net_memif")
    return {.single_segment = true, .interrupt_thread_closes = true};  // chains are wrong until 40e0e7c0a2 (not in 22.11)
  if (driver == "net_tap") return {.queues_max = 1};                   // its steering needs rte_flow, which most kernels do not give it
  if (driver == "net_ring") return {.own_mbufs_only = true};
  return {};
}

// AF_XDP registers [first chunk rounded down to a page, + populated_size * object size): an mbuf outside is lost silently when it is sent.
std::string umem_refusal(rte_mempool* pool) {
  struct Range {
    uintptr_t low, high;
    uint32_t outside;
  } range;
  const rte_mempool_memhdr* first = STAILQ_FIRST(&pool->mem_list);
  const uint32_t object = pool->header_size + pool->elt_size + pool->trailer_size;
  range.low = reinterpret_cast<uintptr_t>(first->addr) & ~uintptr_t(getpagesize() - 1);
  range.high = reinterpret_cast<uintptr_t>(first->addr) + size_t{pool->populated_size} * object;
  range.outside = 0;
  rte_mempool_obj_iter(
      pool,
      [](rte_mempool* mp, void* opaque, void* obj, unsigned) {
        auto* r = static_cast<Range*>(opaque);
        const auto begin = reinterpret_cast<uintptr_t>(obj) - mp->header_size;
        if (begin < r->low || begin + mp->header_size + mp->elt_size + mp->trailer_size > r->high) r->outside++;
      },
      &range);
  if (range.outside == 0) return {};
  return std::to_string(range.outside) + " of " + std::to_string(pool->populated_size) + " mbufs of pool " + pool->name +
         " lie outside the memory that AF_XDP registers (the pool is in " + std::to_string(pool->nb_mem_chunks) +
         " chunks) and would be lost; give more contiguous memory: `sysctl -w vm.nr_hugepages=1024`, or use af_packet:IFACE";
}

void close_device(uint16_t id) {
  rte_eth_dev_stop(id);
  rte_eth_dev_close(id);
}

void end_device(uint16_t id) {
  rte_eth_dev_info info;
  const bool known = rte_eth_dev_info_get(id, &info) == 0;
  if (known && quirks_of(info.driver_name).interrupt_thread_closes) {
    // A memif whose peer has just gone is torn down by its handler: closed from here at that moment, both free the same interrupt handles
    // (a crash in 1 of 40 runs).
    on_interrupt_thread([id] { close_device(id); });
  } else {
    close_device(id);
  }
  if (known && info.device != nullptr) rte_dev_remove(info.device);
}

class DevicePort final : public Port {
 public:
  DevicePort(PortInfo info, uint16_t id, Quirks quirks, const PortOptions& options)
      : Port(std::move(info)), id_(id), prepare_(info_.can.tcp_checksum || info_.can.tso), pools_(options.pools) {
    for (unsigned q = 0; q < info_.workers; q++) stages_.emplace_back(info_, counters_[q], pools_[q]->raw(), quirks.own_mbufs_only);
  }
  ~DevicePort() override {
    stages_.clear();
    end_device(id_);
  }

  unsigned rx(unsigned worker, rte_mbuf** out, unsigned n) override {
    if (!stages_[worker].empty()) flush(worker);
    PortCounters& c = counters_[worker];
    const unsigned got = rte_eth_rx_burst(id_, uint16_t(worker), out, uint16_t(std::min(n, kRxBurst)));
    unsigned kept = 0;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < got; i++) {
      bytes += out[i]->pkt_len;
      if (rte_mbuf* m = normalise(out[i], worker)) out[kept++] = m;
    }
    c.rx_frames.add(got);
    c.rx_bytes.add(bytes);
    return kept;
  }
  unsigned tx(unsigned worker, rte_mbuf** frames, unsigned n) override {
    return stages_[worker].tx(frames, n, [&](rte_mbuf** f, unsigned k) { return send(worker, f, k); });
  }

 private:
  // A received frame as the contract says, or nullptr (dropped, counted).
  rte_mbuf* normalise(rte_mbuf* m, unsigned worker) {
    const auto drop = [&](Drop why) {
      counters_[worker].drops.add(why);
      rte_pktmbuf_free(m);
      return nullptr;
    };
    if (m->nb_segs > 1) {
      rte_mbuf* flat = linearise(m, pools_[worker]->raw());
      if (flat == nullptr) return drop(m->pkt_len > MbufPool::data_room() ? Drop::kPortOversize : Drop::kPortLinearise);
      m = flat;
    }
    if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED && rte_vlan_insert(&m) != 0) return drop(Drop::kPortLinearise);
    m->ol_flags &= info_.can.rx_checksum ? RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_IP_CKSUM_MASK : 0;
    return m;
  }

  void flush(unsigned worker) {
    stages_[worker].flush([&](rte_mbuf** f, unsigned k) { return send(worker, f, k); });
  }
  unsigned send(unsigned worker, rte_mbuf** frames, unsigned count) {
    uint16_t ready = uint16_t(count);
    if (prepare_ && (ready = rte_eth_tx_prepare(id_, uint16_t(worker), frames, uint16_t(count))) == 0) {
      stages_[worker].drop_first(Drop::kPortOversize);  // a frame that this NIC cannot send; the next turn goes on behind it
      return 0;
    }
    return rte_eth_tx_burst(id_, uint16_t(worker), frames, ready);
  }

  const uint16_t id_;
  const bool prepare_;
  const std::vector<MbufPool*> pools_;
  std::deque<TxStage> stages_;  // one per queue
};

// libbpf and libxdp, which the AF_XDP driver brings along, write warnings about what they then do without to stderr.
void silence_libbpf() {
  const auto quiet = +[](int, const char*, va_list) { return 0; };
  for (const auto& [library, function] : {std::pair{"libbpf.so.1", "libbpf_set_print"}, std::pair{"libxdp.so.1", "libxdp_set_print"}})
    if (void* loaded = dlopen(library, RTLD_NOLOAD | RTLD_NOW))
      if (void* set = dlsym(loaded, function)) reinterpret_cast<void* (*)(int (*)(int, const char*, va_list))>(set)(quiet);
}

std::unexpected<std::string> refuse(const std::string& port, const std::string& step, int error, const LogCapture& log) {
  const std::string said = log.first();
  std::string cure;
  if (geteuid() != 0) cure = "; run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF";
  return std::unexpected("port " + port + ": " + step + ": " + rte_strerror(error < 0 ? -error : error) +
                         (said.empty() ? "" : " (" + said + ")") + cure);
}

// PMDs that fail on their way up keep mbufs that they had posted (AF_XDP: 2048). While a port opens nobody else takes or gives mbufs, so
// what was free before and is not after a failure goes back to its pool.
class FreeMbufs {
 public:
  explicit FreeMbufs(const std::vector<MbufPool*>& pools) {
    for (MbufPool* p : pools)
      if (std::ranges::none_of(before_, [&](const auto& b) { return b.first == p->raw(); }))
        before_.emplace_back(p->raw(), free_of(p->raw()));
  }
  void restore() const {
    for (const auto& [pool, before] : before_) {
      const std::vector<void*> now = free_of(pool);
      std::vector<void*> lost;
      std::ranges::set_difference(before, now, std::back_inserter(lost));
      for (void* object : lost) {
        auto* m = static_cast<rte_mbuf*>(object);
        rte_mbuf_refcnt_set(m, 1);
        rte_pktmbuf_reset(m);
        rte_mempool_put(pool, object);
      }
    }
  }

 private:
  static std::vector<void*> free_of(rte_mempool* pool) {
    std::vector<void*> all;
    for (void* object = nullptr; rte_mempool_get(pool, &object) == 0;) all.push_back(object);
    for (void* object : all) rte_mempool_put(pool, object);
    std::ranges::sort(all);
    return all;
  }
  std::vector<std::pair<rte_mempool*, std::vector<void*>>> before_;
};

// Undoes a half-made device when an open fails on the way.
struct Probed {
  uint16_t id = RTE_MAX_ETHPORTS;
  ~Probed() {
    if (id != RTE_MAX_ETHPORTS) end_device(id);
  }
  uint16_t release() { return std::exchange(id, uint16_t(RTE_MAX_ETHPORTS)); }
};

std::expected<std::unique_ptr<Port>, std::string> open_steps(const PortSpec& spec, const PortOptions& o) {
  using Kind = PortSpec::Kind;
  LogCapture log;
  const auto workers = unsigned(o.pools.size());
  std::string args = spec.args;
  unsigned queues = workers;
  if (spec.kind == Kind::kAfXdp) {
    const auto dev = inspect_netdev(spec.netdev);
    if (!dev) return std::unexpected("port " + o.spec + ": " + dev.error());
    queues = dev->combined_channels >= workers ? workers : 1;
    silence_libbpf();
    args += ",start_queue=0,queue_count=" + std::to_string(queues);
  }
  if (spec.kind == Kind::kAfPacket) args += ",qpairs=1,qdisc_bypass=1";

  Probed probed;
  if (rte_eth_dev_get_port_by_name(spec.device.c_str(), &probed.id) != 0) {
    probed.id = RTE_MAX_ETHPORTS;
    const bool pci = spec.kind == Kind::kPci;
    if (const int e = rte_eal_hotplug_add(pci ? "pci" : "vdev", spec.device.c_str(), args.c_str()); e != 0)
      return refuse(
          o.spec,
          pci ? "no such PCI network device (bind it to vfio-pci: `dpdk-devbind.py -b vfio-pci " + spec.device + "`)" : "does not open", e,
          log);
    if (rte_eth_dev_get_port_by_name(spec.device.c_str(), &probed.id) != 0) {
      probed.id = RTE_MAX_ETHPORTS;
      return refuse(o.spec, "no DPDK driver took it", ENODEV, log);
    }
  } else if (spec.kind != Kind::kPci) {
    probed.release();
    return std::unexpected("port " + o.spec + ": is open already; give each port once");
  }
  const uint16_t id = probed.id;

  rte_eth_dev_info dev;
  if (const int e = rte_eth_dev_info_get(id, &dev); e != 0) return refuse(o.spec, "device information", e, log);
  const Quirks quirks = quirks_of(dev.driver_name);
  queues = std::min({queues, quirks.queues_max, unsigned(dev.max_rx_queues), unsigned(dev.max_tx_queues)});
  if (queues < workers) queues = 1;
  if (quirks.umem)
    for (unsigned q = 0; q < queues; q++)
      if (const std::string why = umem_refusal(o.pools[q]->raw()); !why.empty()) return std::unexpected("port " + o.spec + ": " + why);

  const auto offers = [](uint64_t capa, uint64_t all) { return (capa & all) == all; };
  PortCapabilities can;
  if (!o.software_only) {
    can.ip_checksum = offers(dev.tx_offload_capa, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
    can.tcp_checksum = offers(dev.tx_offload_capa, RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
    can.multi_segment = offers(dev.tx_offload_capa, RTE_ETH_TX_OFFLOAD_MULTI_SEGS) && !quirks.single_segment;
    can.tso = can.ip_checksum && can.tcp_checksum && can.multi_segment && offers(dev.tx_offload_capa, RTE_ETH_TX_OFFLOAD_TCP_TSO);
    can.rx_checksum = offers(dev.rx_offload_capa, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
  }
  rte_eth_conf conf{};
  conf.txmode.offloads = (can.ip_checksum ? RTE_ETH_TX_OFFLOAD_IPV4_CKSUM : 0) | (can.tcp_checksum ? RTE_ETH_TX_OFFLOAD_TCP_CKSUM : 0) |
                         (can.multi_segment ? RTE_ETH_TX_OFFLOAD_MULTI_SEGS : 0) | (can.tso ? RTE_ETH_TX_OFFLOAD_TCP_TSO : 0);
  conf.rxmode.offloads = can.rx_checksum ? RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM : 0;
  if (queues > 1) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = dev.flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV4_TCP;
  }
  if (const int e = rte_eth_dev_configure(id, uint16_t(queues), uint16_t(queues), &conf); e != 0)
    return refuse(o.spec, "configure", e, log);
  uint16_t rx_desc = kRxRingDesc, tx_desc = kTxRingDesc;
  rte_eth_dev_adjust_nb_rx_tx_desc(id, &rx_desc, &tx_desc);
  for (uint16_t q = 0; q < queues; q++) {
    if (const int e = rte_eth_rx_queue_setup(id, q, rx_desc, SOCKET_ID_ANY, nullptr, o.pools[q]->raw()); e != 0)
      return refuse(o.spec, "receive queue " + std::to_string(q), e, log);
    if (const int e = rte_eth_tx_queue_setup(id, q, tx_desc, SOCKET_ID_ANY, nullptr); e != 0)
      return refuse(o.spec, "transmit queue " + std::to_string(q), e, log);
  }
  rte_eth_dev_set_mtu(id, o.mtu);  // vdevs that refuse have the kernel's; ours is enforced in tx
  if (const int e = rte_eth_dev_start(id); e != 0) return refuse(o.spec, "start", e, log);

  PortInfo info{.name = o.spec, .device = dev.driver_name, .mtu = o.mtu, .workers = queues, .device_queues = queues, .can = can};
  rte_ether_addr mac{};
  rte_eth_macaddr_get(id, &mac);
  std::copy_n(mac.addr_bytes, 6, info.mac.b.begin());
  if (o.mac && *o.mac != info.mac) {
    info.mac = *o.mac;
    rte_eth_promiscuous_enable(id);  // frames for a MAC that the device does not know as its own
  }
  return std::make_unique<DevicePort>(std::move(info), probed.release(), quirks, o);
}

}  // namespace

std::expected<std::unique_ptr<Port>, std::string> open_device(const PortSpec& spec, const PortOptions& options) {
  const FreeMbufs before(options.pools);
  auto port = open_steps(spec, options);
  if (!port) before.restore();
  return port;
}

}  // namespace sluice::drivers
