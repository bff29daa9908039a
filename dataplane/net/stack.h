// net::Stack: Ethernet, 802.1Q, ARP, IPv4 and ICMP of one worker. Frames in, transport packets out, and back. Sans-I/O: time is an
// argument, mbufs are all it touches.
//
//   input(port, frames, now, out)  takes every frame of a burst; what is TCP for us comes back as L4Packets (mbuf data = TCP header,
//                                  padding trimmed); the rest is answered (ARP, ICMP echo: in the frame's own mbuf), consumed, or
//                                  dropped and counted
//   send(packet, now)              route, neighbour, headers; the frame then waits in frames(port), or for its neighbour's address
//                                  (kNeighbourQueueMax each). Always takes ownership. pkt_len and nb_segs of the chain are set by the
//                                  caller; for flags see l4.h (net sets l2_len, l3_len, IPV4, IP_CKSUM)
//   frames(port) / sent(port, k)   the frames ready for a port, oldest first; the worker gives them to Port::tx and says how many it
//                                  took. At most kNetQueueMax wait (kPortTxFull)
//   advance(now)                   once per turn, after tcp's output and before tx: ARP retries, probes, ageing, announcements, rings
//                                  from other workers, what waited for an address
//   take_errors(out)               what happened to sent packets: ICMP errors received, no route, no neighbour. The tuple is as we see
//                                  it (local, remote). The worker hands each to the owner of the tuple, which believes it only if the
//                                  sequence number is in flight (RFC 5927)
//
// Left out: IPv6 and ND (counted, dropped: kIpv6), reassembly (fragments are dropped), forwarding, IP options, multicast, UDP (answered
// port unreachable).
// Several workers: every worker has a Stack; neighbours are shared (neighbours.h): worker 0 resolves and ages, all read. ARP that reaches
// another worker is passed on, so correctness does not depend on where a reply arrives. Each worker answers ARP requests and echo itself.
// Dropped outgoing mbufs are freed with rte_pktmbuf_free: a charge stays with its holder, who has its own reference.
// Host model: strong (RFC 1122 3.3.4.2): a packet is ours only if its destination is an address of the interface it came in on, and leaves
// by the interface of its source address.
// RFCs: 826, 5227 (announce, defend), 791, 792, 894, 1122, 1812 (ICMP limits), 6864 (ID 0 with DF), IEEE 802.1Q.
// Memory: no malloc after construction. Thread: the worker's.
#pragma once
#include <memory>
#include <span>

#include "dataplane/base/counters.h"
#include "dataplane/base/now.h"
#include "dataplane/net/config.h"
#include "dataplane/net/neighbours.h"
#include "dataplane/packet/l4.h"
#include "dataplane/packet/pool.h"

namespace sluice::net {

struct PathError {
  enum class Kind : uint8_t {
    kNoRoute,              // ours: nowhere to send it
    kNoNeighbour,          // ours: nobody answered ARP
    kNetUnreachable,       // ICMP 3/0, 3/6
    kHostUnreachable,      // ICMP 3/1, 3/7 and others of type 3 that are none of these
    kProtocolUnreachable,  // ICMP 3/2
    kPortUnreachable,      // ICMP 3/3
    kFragmentationNeeded,  // ICMP 3/4: mtu
    kProhibited,           // ICMP 3/9, 3/10, 3/13
    kTimeExceeded,         // ICMP 11
  };
  Kind kind;
  FourTuple tuple;   // of the connection the packet belonged to
  uint32_t seq = 0;  // its TCP sequence number
  uint16_t mtu = 0;  // kFragmentationNeeded: of the next hop; 0 if the router did not say
};

// frames_in == delivered + consumed + the drops of input's reasons.
struct StackCounters {
  Counter frames_in, delivered, consumed, packets_out;
  Counter arp_in, arp_out, echo_replies, icmp_errors_in, icmp_errors_out, icmp_errors_limited;
  Counter address_conflicts;  // somebody else claims an address of ours (RFC 5227 2.4)
};

class Stack {
 public:
  // `config` passed validate(). `neighbours` is shared by the stacks of all workers and outlives them. `pool` gives ARP requests their
  // mbufs.
  Stack(const Config& config, unsigned worker, Neighbours& neighbours, MbufPool& pool, DropCounters& drops);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // out.size() >= frames.size(). Returns how many packets were written.
  unsigned input(unsigned port, std::span<rte_mbuf* const> frames, Now now, std::span<L4Packet> out);
  void send(L4Packet&& packet, Now now);

  std::span<rte_mbuf*> frames(unsigned port);
  void sent(unsigned port, unsigned count);
  unsigned take_frames(unsigned port, rte_mbuf** out, unsigned n);  // frames() and sent() in one: the caller owns them

  void advance(Now now);
  unsigned take_errors(std::span<PathError> out);

  // Route questions for an active open.
  std::optional<IpAddress> source_for(const IpAddress& destination) const;  // the address to send from; nullopt: no route
  uint16_t mtu_to(const IpAddress& destination) const;                      // of the interface; 0: no route
  bool is_local(const IpAddress& address) const;

  const StackCounters& counters() const;

  static constexpr uint32_t kPathErrorsMax = 256;  // waiting for take_errors; more are forgotten (they are hints)

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::net
