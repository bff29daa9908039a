// Port: where frames enter and leave. Whatever the device can do, a port presents W queue pairs, one per worker, and frames that look the
// same:
//
//   rx(worker, out, n)  up to n frames, whole and in one segment each, VLAN tag in the bytes; the caller owns them. Checksum verdicts in
//                       ol_flags: GOOD and BAD only where the device proved it, else UNKNOWN (the receiver verifies)
//   tx(worker, f, n)    takes the first k of n frames and returns k; the others stay the caller's (offer them again next turn, or free
//                       them and count kPortTxFull). A taken frame is sent, or dropped and counted here. May change a frame's headers
//                       (checksums), flags and links; never payload bytes, for mbufs may be shared (packet/l4.h)
//   advance(now)        once per turn of worker 0, before rx; only impairment needs it
//
// Fallbacks in software, each counted: IPv4/TCP checksums asked for by ol_flags; cutting of RTE_MBUF_F_TX_TCP_SEG frames; linearisation
// for ports without MULTI_SEGS (into an uncharged mbuf of the worker's pool). Frames above the MTU are dropped (kPortOversize).
//
// Where the device has fewer queues than workers, worker 0 serves it in its own turn, and two SPSC rings per other worker carry frames
// (receive by OwnerHash, packet/owner.h: TCP by its tuple, an ICMP error by the tuple it quotes, everything else worker 0). So every
// worker must call rx() each turn. Where it has W queues, a frame that the NIC gave to the wrong worker is passed on in the same way.
//
// Cost: one virtual call per burst; a copy of each frame that one worker passes to another (a worker keeps mbufs of its own pool only);
// system calls are those of the device (AF_XDP, AF_PACKET, TAP). Thread: open_port and the destructor on the control thread, all workers
// stopped; rx and tx of worker w on worker w's thread only. Errors of open_port: one line, what is wrong and the exact commands that cure
// it.
#pragma once
#include <rte_mbuf.h>

#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/counters.h"
#include "dataplane/base/now.h"
#include "dataplane/packet/owner.h"
#include "dataplane/packet/pool.h"

namespace sluice::drivers {

struct PortCapabilities {
  bool ip_checksum = false, tcp_checksum = false, tso = false, multi_segment = false;  // on transmit
  bool rx_checksum = false;
};

struct PortInfo {
  std::string name;    // the spec: "af_xdp:veth0"
  std::string device;  // "net_af_xdp", "memory", ...
  std::string note;  // what was chosen and why: "auto:veth0 is AF_PACKET: the kernel gives no AF_XDP (...)"; empty when there was no choice
  MacAddress mac;
  uint16_t mtu = kMtu;
  unsigned workers = 1, device_queues = 1;
  PortCapabilities can;  // of the device; what it cannot is done in software
};

// One writer: the worker.
struct alignas(64) PortCounters {
  Counter rx_frames, rx_bytes, tx_frames, tx_bytes;
  Counter tx_refused;                        // frames offered that had to stay with the caller
  Counter checksums, linearised, segmented;  // software fallbacks: frames
  Counter fanned_in, fanned_out;             // frames that came from, went to another worker's queue by ring
  DropCounters drops;
};

class Port {
 public:
  Port(PortInfo info) : info_(std::move(info)), counters_(info_.workers) {}
  virtual ~Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  virtual unsigned rx(unsigned worker, rte_mbuf** out, unsigned n) = 0;
  virtual unsigned tx(unsigned worker, rte_mbuf** frames, unsigned n) = 0;
  virtual void advance(Usec /*now*/) {}

  const PortInfo& info() const { return info_; }
  void note(std::string text) { info_.note = std::move(text); }
  // rx and tx count the device's queue that this worker serves.
  virtual const PortCounters& counters(unsigned worker) const { return counters_[worker]; }

 protected:
  static PortCounters& counters_of(Port& port, unsigned worker) { return const_cast<PortCounters&>(port.counters(worker)); }

  PortInfo info_;
  std::vector<PortCounters> counters_;
};

struct PortOptions {
  // af_xdp:IFACE  af_packet:IFACE  auto:IFACE  tap:NAME  memif:KEY=VALUE,...  ring:NAME (loops back)  any DPDK vdev ("net_null0,size=64")
  // any PCI address
  std::string spec;
  std::optional<MacAddress> mac;  // default: the device's
  uint16_t mtu = kMtu;            // at most kMtu
  std::vector<MbufPool*> pools;   // one per worker; they outlive the port
  OwnerHash owner;                // who gets a received frame when the device has fewer queues than workers
  bool software_only = false;     // use no offload of the device (tests hold every fallback)
  bool unsafe_netdev = false;     // skip the netdev checks (tests only)
};

// A running port. EAL must be up.
std::expected<std::unique_ptr<Port>, std::string> open_port(const PortOptions& options);

}  // namespace sluice::drivers
