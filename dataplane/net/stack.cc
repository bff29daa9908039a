// Receive: Ethernet -> (VLAN) -> interface -> ARP | IPv4 -> ICMP | TCP. Each step is a function that returns a verdict: consumed, a drop
// reason, or go on. Answers (ARP reply, echo reply) are written into the frame that asked and go back to the MAC it came from, so they need
// no memory, no route and no neighbour. Send: route -> IPv4 header -> neighbour -> Ethernet header -> queue of the port; or a place in the
// waiting list of the next hop.
#include "dataplane/net/stack.h"

#include <algorithm>
#include <array>
#include <vector>

#include "dataplane/net/wire.h"
#include "dataplane/packet/checksum.h"

namespace sluice::net {
namespace {

constexpr unsigned kWaitersMax = 256;  // unresolved next hops at a time, per worker
constexpr Usec kWaitMax = Neighbours::kRequestsMax * Neighbours::kRequestInterval + 100 * kMs;
constexpr Usec kAnnounceInterval = 2 * kSec, kDefendInterval = 10 * kSec;  // RFC 5227 1.1
constexpr unsigned kAnnouncements = 2;
constexpr unsigned kRequestsPerTurn = 32;

// The verdict on a received frame.
struct Verdict {
  enum class What : uint8_t { kDelivered, kConsumed, kAnswered, kDropped } what;
  Drop why = Drop::kCount;
};
constexpr Verdict kDelivered{Verdict::What::kDelivered}, kConsumed{Verdict::What::kConsumed}, kAnswered{Verdict::What::kAnswered};
constexpr Verdict dropped(Drop why) { return {Verdict::What::kDropped, why}; }

// Tokens per second with a burst; time is what the caller says.
class TokenBucket {
 public:
  TokenBucket(uint32_t per_second, uint32_t burst) : per_second_(per_second), most_(uint64_t{burst} * kSec), credit_(most_) {}
  bool take(Now now) {
    if (now.mono_us > last_) {
      credit_ = std::min<uint64_t>(most_, credit_ + std::min<Usec>(now.mono_us - last_, kSec * 60) * per_second_);
      last_ = now.mono_us;
    }
    if (credit_ < kSec) return false;
    credit_ -= kSec;
    return true;
  }

 private:
  uint64_t per_second_, most_, credit_;
  Usec last_ = 0;
};

void set_checksum(uint8_t* field, uint64_t sum) {
  const uint16_t c = uint16_t(~checksum_fold(sum));
  std::memcpy(field, &c, 2);
}
template <class T>
Bytes raw(const T& header) {
  return {reinterpret_cast<const uint8_t*>(&header), sizeof header};
}

uint32_t mask_of(unsigned length) { return length == 0 ? 0 : ~0u << (32 - length); }

}  // namespace

struct Stack::State {
  struct Address {
    Ipv4 ip;
    uint32_t mask;
    unsigned interface;
    unsigned announcements = kAnnouncements;
    Usec announce_at = 0, defended_at = 0;
    Ipv4 broadcast() const { return {ip.v | ~mask}; }
    bool has_broadcast() const { return ~mask > 1; }  // not /31 (RFC 3021) and /32
    bool reaches(Ipv4 a) const { return ((a.v ^ ip.v) & mask) == 0; }
  };
  struct RouteEntry {
    uint32_t prefix, mask;
    unsigned interface;
    Ipv4 gateway;  // 0: connected
    Ipv4 source;
  };
  struct Waiter {  // packets for one unresolved next hop: IPv4 header on, Ethernet not yet
    unsigned interface;
    Ipv4 next_hop;
    Usec since;
    bool told;  // worker 0 knows
    unsigned count;
    std::array<rte_mbuf*, kNeighbourQueueMax> packet;
  };
  struct TxQueue {
    std::vector<rte_mbuf*> frame = std::vector<rte_mbuf*>(kNetQueueMax);
    uint32_t begin = 0, end = 0;
  };

  State(const Config& config, unsigned worker_, Neighbours& n, MbufPool& p, DropCounters& d)
      : worker(worker_), interfaces(config.interfaces), neighbours(n), pool(p), drops(d), queues(config.ports) {
    for (unsigned i = 0; i < interfaces.size(); i++)
      for (const IpPrefix& a : interfaces[i].addresses) {
        const uint32_t mask = mask_of(a.length);
        addresses.push_back({.ip = a.address.v4(), .mask = mask, .interface = i});
        routes.push_back({a.address.v4().v & mask, mask, i, {0}, a.address.v4()});
      }
    for (const Route& r : config.routes) {
      const uint32_t mask = mask_of(r.prefix.length);
      for (const Address& a : addresses)
        if (a.reaches(r.gateway.v4())) {
          routes.push_back({r.prefix.address.v4().v & mask, mask, a.interface, r.gateway.v4(), a.ip});
          break;
        }
    }
    std::ranges::stable_sort(routes, std::greater<>(), &RouteEntry::mask);  // longest prefix first; equal ones in the order given
    waiters.reserve(kWaitersMax);
  }
  ~State() {
    for (Waiter& w : waiters)
      for (unsigned i = 0; i < w.count; i++) rte_pktmbuf_free(w.packet[i]);
    for (TxQueue& q : queues)
      for (uint32_t i = q.begin; i < q.end; i++) rte_pktmbuf_free(q.frame[i]);
  }

  // ---- receive
  Verdict input_ethernet(unsigned port, rte_mbuf* m, Now now, L4Packet& out);
  Verdict input_arp(unsigned interface, rte_mbuf* m, uint32_t at, Now now);
  Verdict input_ipv4(unsigned interface, rte_mbuf* m, uint32_t at, Now now, L4Packet& out);
  Verdict input_icmp(unsigned interface, rte_mbuf* m, uint32_t l3, Now now);
  Verdict input_icmp_error(Bytes icmp);
  void answer_unreachable(unsigned interface, const rte_mbuf* m, uint32_t l3, uint8_t code, Now now);

  // ---- send
  const RouteEntry* route(Ipv4 destination, std::optional<unsigned> interface) const;
  void send(L4Packet&& packet, Now now);
  void wait(unsigned interface, Ipv4 next_hop, rte_mbuf* m, Now now);
  void queue_to(unsigned interface, const MacAddress& mac, rte_mbuf* m, uint16_t type = kTypeIpv4);
  void push_frame(unsigned port, rte_mbuf* m);
  bool send_arp(unsigned interface, uint16_t operation, Ipv4 sender, Ipv4 target, const MacAddress& target_mac, const MacAddress& to);
  Ipv4 source_on(unsigned interface, Ipv4 target) const;
  void tell(Neighbours::Message m, Now now);
  void drop_out(rte_mbuf* m, Drop why) {
    drops.add(why);
    rte_pktmbuf_free(m);
  }
  void error_of_packet(PathError::Kind kind, const rte_mbuf* m, Ipv4 src, Ipv4 dst, uint32_t tcp_at);
  void push_error(const PathError& e) {
    if (errors_count < errors.size()) errors[errors_count++] = e;
  }
  void advance(Now now);

  const Address* address_of(Ipv4 ip) const {
    for (const Address& a : addresses)
      if (a.ip == ip) return &a;
    return nullptr;
  }

  const unsigned worker;
  const std::vector<Interface> interfaces;
  Neighbours& neighbours;
  MbufPool& pool;
  DropCounters& drops;
  std::vector<Address> addresses;
  std::vector<RouteEntry> routes;
  std::vector<Waiter> waiters;
  uint32_t waiting = 0;  // packets in waiters
  std::vector<TxQueue> queues;
  std::array<PathError, kPathErrorsMax> errors;
  uint32_t errors_count = 0;
  TokenBucket echo_bucket{kIcmpPerSecondMax, kIcmpPerSecondMax / 4}, error_bucket{kIcmpPerSecondMax, kIcmpPerSecondMax / 4};
  StackCounters counters;
};

// ----------------------------------------------------------------------------------------------------------------------------------
// receive

Verdict Stack::State::input_ethernet(unsigned port, rte_mbuf* m, Now now, L4Packet& out) {
  const Bytes frame = bytes_of(static_cast<const rte_mbuf*>(m));
  const auto* eth = view_as<EthernetHeader>(frame);
  if (eth == nullptr) return dropped(Drop::kEthTruncated);
  uint16_t type = eth->type;
  uint32_t at = sizeof(EthernetHeader);
  std::optional<uint16_t> vlan;
  if (type == kTypeVlan) {
    const auto* tag = view_as<VlanTag>(frame.subspan(at));
    if (tag == nullptr) return dropped(Drop::kEthTruncated);
    type = tag->type;
    at += sizeof(VlanTag);
    if (const uint16_t id = tag->control & 0xfff; id != 0) vlan = id;  // 802.1Q: id 0 is a priority and no VLAN
  }
  const auto found = std::ranges::find_if(interfaces, [&](const Interface& i) { return i.port == port && i.vlan == vlan; });
  if (found == interfaces.end()) return dropped(Drop::kVlanUnknown);
  const auto interface = unsigned(found - interfaces.begin());
  if (eth->dst != found->mac && !(eth->dst == kBroadcastMac && type == kTypeArp)) return dropped(Drop::kEthNotOurs);
  switch (type) {
    case kTypeIpv4: return input_ipv4(interface, m, at, now, out);
    case kTypeArp: return input_arp(interface, m, at, now);
    case kTypeIpv6: return dropped(Drop::kIpv6);
    default: return dropped(Drop::kEthTypeUnknown);
  }
}

Verdict Stack::State::input_arp(unsigned interface, rte_mbuf* m, uint32_t at, Now now) {
  counters.arp_in.add();
  auto* eth = rte_pktmbuf_mtod(m, EthernetHeader*);
  auto* arp = view_as_mut<ArpPacket>(bytes_of(m).subspan(at));
  if (arp == nullptr || arp->hardware != 1u || arp->protocol != kTypeIpv4 || arp->hardware_bytes != 6 || arp->protocol_bytes != 4 ||
      (arp->operation != kArpRequest && arp->operation != kArpReply))
    return dropped(Drop::kArpMalformed);
  const Ipv4 sender{arp->sender_ip}, target{arp->target_ip};
  if (is_group(arp->sender_mac) || arp->sender_mac == MacAddress{} || sender.v >> 24 == 127 || sender.v >> 28 >= 14)
    return dropped(Drop::kArpMalformed);

  const Interface& i = interfaces[interface];
  for (Address& a : addresses) {
    if (a.interface != interface || a.ip != sender || arp->sender_mac == i.mac) continue;
    // RFC 5227 2.4 (c): somebody else uses our address; say once per interval that it is ours, and keep it.
    counters.address_conflicts.add();
    if (now.mono_us - a.defended_at >= kDefendInterval || a.defended_at == 0) {
      a.defended_at = now.mono_us;
      send_arp(interface, kArpRequest, a.ip, a.ip, MacAddress{}, kBroadcastMac);
    }
    return kConsumed;
  }

  const bool for_us = std::ranges::any_of(addresses, [&](const Address& a) { return a.interface == interface && a.ip == target; });
  if (!for_us && sender != target) return dropped(Drop::kArpNotOurs);
  const bool reply = arp->operation == kArpReply;
  if (sender.v != 0) {  // RFC 5227 2.1.1: a probe says nothing about its sender
    using Kind = Neighbours::Message::Kind;
    const bool to_us = reply && for_us && eth->dst == i.mac;
    tell({to_us ? Kind::kHeardReply : Kind::kHeard, uint8_t(interface), sender, arp->sender_mac}, now);
  }
  if (reply || !for_us) return kConsumed;

  // RFC 826: swap, fill in, send back; in the frame that asked.
  arp->operation = kArpReply;
  arp->target_mac = arp->sender_mac;
  arp->target_ip = sender.v;
  arp->sender_mac = i.mac;
  arp->sender_ip = target.v;
  eth->dst = arp->target_mac;
  eth->src = i.mac;
  rte_pktmbuf_trim(m, uint16_t(m->data_len - at - sizeof(ArpPacket)));
  m->ol_flags = 0;
  counters.arp_out.add();
  push_frame(i.port, m);
  return kAnswered;
}

Verdict Stack::State::input_ipv4(unsigned interface, rte_mbuf* m, uint32_t at, Now now, L4Packet& out) {
  const Bytes packet = bytes_of(static_cast<const rte_mbuf*>(m)).subspan(at);
  const auto* ip = view_as<Ipv4Header>(packet);
  if (ip == nullptr) return dropped(Drop::kIpTruncated);
  if (ip->version_ihl >> 4 != 4) return dropped(Drop::kIpBadVersion);
  const uint32_t header = (ip->version_ihl & 15u) * 4;
  if (header < sizeof(Ipv4Header)) return dropped(Drop::kIpBadHeaderLength);
  if (packet.size() < header) return dropped(Drop::kIpTruncated);
  const uint16_t total = ip->total_length;
  if (total < header || total > packet.size()) return dropped(Drop::kIpBadLength);
  // RFC 1122 3.2.1.2: verify and silently discard.
  const uint64_t verdict = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
  if (verdict == RTE_MBUF_F_RX_IP_CKSUM_BAD ||
      (verdict != RTE_MBUF_F_RX_IP_CKSUM_GOOD && checksum_fold(checksum_add(packet.first(header))) != 0xffff))
    return dropped(Drop::kIpBadChecksum);
  const Ipv4 src{ip->src}, dst{ip->dst};
  const Address* ours = address_of(dst);
  if (ours == nullptr || ours->interface != interface) return dropped(Drop::kIpNotOurs);
  // RFC 1122 3.2.1.3: never a source: this network, loopback, multicast and above, a broadcast, ourselves.
  if (src.v >> 24 == 0 || src.v >> 24 == 127 || src.v >> 28 >= 14 || address_of(src) != nullptr) return dropped(Drop::kIpBadSource);
  for (const Address& a : addresses)
    if (a.has_broadcast() && a.interface == interface && (src == a.broadcast() || src.v == (a.ip.v & a.mask)))
      return dropped(Drop::kIpBadSource);
  if (ip->ttl == 0) return dropped(Drop::kIpTtlZero);
  if (ip->fragment & (kMoreFragments | kFragmentOffset)) return dropped(Drop::kIpFragment);
  if (header > sizeof(Ipv4Header)) return dropped(Drop::kIpOptions);

  rte_pktmbuf_trim(m, uint16_t(packet.size() - total));  // Ethernet's padding
  switch (ip->protocol) {
    case kIpProtocolTcp:
      if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD) return dropped(Drop::kTcpBadChecksum);
      rte_pktmbuf_adj(m, uint16_t(at + header));
      out = {m, src, dst};
      return kDelivered;
    case kIpProtocolIcmp: return input_icmp(interface, m, at, now);
    default:
      answer_unreachable(interface, m, at, ip->protocol == kIpProtocolUdp ? kIcmpPortUnreachable : kIcmpProtocolUnreachable, now);
      return dropped(Drop::kIpProtocolUnknown);
  }
}

Verdict Stack::State::input_icmp(unsigned interface, rte_mbuf* m, uint32_t l3, Now now) {
  const MutBytes message = bytes_of(m).subspan(l3 + sizeof(Ipv4Header));
  auto* icmp = view_as_mut<IcmpHeader>(message);
  if (icmp == nullptr || checksum_fold(checksum_add(message)) != 0xffff) return dropped(Drop::kIcmpMalformed);
  if (icmp->type == kIcmpUnreachable || icmp->type == kIcmpTimeExceeded) return input_icmp_error(message);
  if (icmp->type != kIcmpEcho || icmp->code != 0) return dropped(Drop::kIcmpIgnored);
  if (!echo_bucket.take(now)) return dropped(Drop::kIcmpRateLimited);

  auto* eth = rte_pktmbuf_mtod(m, EthernetHeader*);
  auto* ip = rte_pktmbuf_mtod_offset(m, Ipv4Header*, l3);
  eth->dst = eth->src;
  eth->src = interfaces[interface].mac;
  std::swap(ip->src, ip->dst);
  ip->ttl = kTtl;
  ip->id = 0;
  ip->fragment = kDontFragment;
  std::memset(ip->checksum, 0, 2);
  set_checksum(ip->checksum, checksum_add(raw(*ip)));
  icmp->type = kIcmpEchoReply;
  std::memset(icmp->checksum, 0, 2);
  set_checksum(icmp->checksum, checksum_add(message));
  m->ol_flags = 0;
  counters.echo_replies.add();
  push_frame(interfaces[interface].port, m);
  return kAnswered;
}

// What a router or host says about a packet of ours. RFC 792: its IP header and 8 bytes follow.
Verdict Stack::State::input_icmp_error(Bytes icmp) {
  ByteReader r(icmp);
  const uint8_t type = r.u8(), code = r.u8();
  r.take(4);
  const uint16_t mtu = r.u16();
  const auto* quoted = view_as<Ipv4Header>(r.rest());
  if (quoted == nullptr || quoted->version_ihl >> 4 != 4 || (quoted->version_ihl & 15) < 5) return dropped(Drop::kIcmpMalformed);
  r.take((quoted->version_ihl & 15u) * 4);
  PathError e{.kind = PathError::Kind::kHostUnreachable};
  e.tuple.local.port = r.u16();
  e.tuple.remote.port = r.u16();
  e.seq = r.u32();
  if (!r.ok()) return dropped(Drop::kIcmpMalformed);
  e.tuple.local.ip = Ipv4{quoted->src};
  e.tuple.remote.ip = Ipv4{quoted->dst};
  if (quoted->protocol != kIpProtocolTcp || (quoted->fragment & kFragmentOffset) || address_of(Ipv4{quoted->src}) == nullptr)
    return dropped(Drop::kIcmpIgnored);
  using Kind = PathError::Kind;
  if (type == kIcmpTimeExceeded) e.kind = Kind::kTimeExceeded;
  else switch (code) {
      case 0:
      case 6: e.kind = Kind::kNetUnreachable; break;
      case 2: e.kind = Kind::kProtocolUnreachable; break;
      case 3: e.kind = Kind::kPortUnreachable; break;
      case 4:
        e.kind = Kind::kFragmentationNeeded;
        e.mtu = mtu;
        break;
      case 9:
      case 10:
      case 13: e.kind = Kind::kProhibited; break;
      default: break;
    }
  counters.icmp_errors_in.add();
  push_error(e);
  return kConsumed;
}

// RFC 1122 3.2.2: never about an ICMP error, a fragment, a broadcast or a source that is no host; input_ipv4 has refused those. RFC
// 1812 4.3.2.3: quote what fits 576 bytes.
void Stack::State::answer_unreachable(unsigned interface, const rte_mbuf* m, uint32_t l3, uint8_t code, Now now) {
  if (!error_bucket.take(now)) {
    counters.icmp_errors_limited.add();
    return;
  }
  rte_mbuf* answer = pool.alloc_control();
  if (answer == nullptr) return;
  const auto* about = rte_pktmbuf_mtod_offset(m, const Ipv4Header*, l3);
  const uint32_t quote = std::min<uint32_t>(m->data_len - l3, 576 - sizeof(Ipv4Header) - sizeof(IcmpHeader));
  const auto bytes = uint16_t(sizeof(Ipv4Header) + sizeof(IcmpHeader) + quote);
  auto* ip = reinterpret_cast<Ipv4Header*>(rte_pktmbuf_append(answer, bytes));
  *ip = {.version_ihl = 0x45,
         .tos = 0,
         .total_length = bytes,
         .id = 0,
         .fragment = kDontFragment,
         .ttl = kTtl,
         .protocol = kIpProtocolIcmp,
         .checksum = {},
         .src = about->dst,
         .dst = about->src};
  set_checksum(ip->checksum, checksum_add(raw(*ip)));
  auto* icmp = reinterpret_cast<IcmpHeader*>(ip + 1);
  *icmp = {.type = kIcmpUnreachable, .code = code, .checksum = {}, .a = 0, .b = 0};
  std::memcpy(icmp + 1, about, quote);
  set_checksum(icmp->checksum, checksum_add({reinterpret_cast<const uint8_t*>(icmp), sizeof(IcmpHeader) + quote}));
  counters.icmp_errors_out.add();
  queue_to(interface, rte_pktmbuf_mtod(m, const EthernetHeader*)->src, answer);
}

// -------------------------------------------------------------------------------------------------------------------------------------
// send

const Stack::State::RouteEntry* Stack::State::route(Ipv4 destination, std::optional<unsigned> interface) const {
  for (const RouteEntry& r : routes)
    if (((destination.v ^ r.prefix) & r.mask) == 0 && (!interface || *interface == r.interface)) return &r;
  return nullptr;
}

void Stack::State::error_of_packet(PathError::Kind kind, const rte_mbuf* m, Ipv4 src, Ipv4 dst, uint32_t tcp_at) {
  ByteReader r(bytes_of(m).subspan(tcp_at));
  PathError e{.kind = kind, .tuple = {{src, r.u16()}, {dst, r.u16()}}};
  e.seq = r.u32();
  push_error(e);
}

void Stack::State::send(L4Packet&& packet, Now now) {
  rte_mbuf* m = packet.m;
  SLUICE_DCHECK(m->data_len >= 20 && m->pkt_len >= m->data_len);
  if (!packet.src.is_v4() || !packet.dst.is_v4()) return drop_out(m, Drop::kIpv6);
  const Ipv4 src = packet.src.v4(), dst = packet.dst.v4();
  // RFC 1122 3.3.4.2, strong: a packet leaves by the interface of its source address.
  const Address* from = address_of(src);
  const bool unicast = dst.v >> 24 != 0 && dst.v >> 24 != 127 && dst.v >> 28 < 14 && address_of(dst) == nullptr;
  const RouteEntry* r = from != nullptr && unicast ? route(dst, from->interface) : nullptr;
  if (r == nullptr) {
    error_of_packet(PathError::Kind::kNoRoute, m, src, dst, 0);
    return drop_out(m, Drop::kNoRoute);
  }
  if (m->pkt_len + sizeof(Ipv4Header) > interfaces[r->interface].mtu && !(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG))
    return drop_out(m, Drop::kPortOversize);
  auto* ip = reinterpret_cast<Ipv4Header*>(rte_pktmbuf_prepend(m, sizeof(Ipv4Header)));
  SLUICE_ASSERT(ip != nullptr);  // kMbufHeadroom
  *ip = {.version_ihl = 0x45,
         .tos = 0,
         .total_length = uint16_t(m->pkt_len),
         .id = 0,
         .fragment = kDontFragment,  // RFC 6864 4.1: atomic, so ID 0
         .ttl = kTtl,
         .protocol = kIpProtocolTcp,
         .checksum = {},
         .src = src.v,
         .dst = dst.v};
  m->l3_len = sizeof(Ipv4Header);
  m->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
  counters.packets_out.add();
  const Ipv4 next_hop = r->gateway.v != 0 ? r->gateway : dst;
  if (const auto mac = neighbours.find(r->interface, next_hop)) return queue_to(r->interface, *mac, m);
  wait(r->interface, next_hop, m, now);
}

void Stack::State::wait(unsigned interface, Ipv4 next_hop, rte_mbuf* m, Now now) {
  auto w = std::ranges::find_if(waiters, [&](const Waiter& x) { return x.interface == interface && x.next_hop == next_hop; });
  if (w == waiters.end()) {
    bool told = true;
    if (worker != 0) told = neighbours.tell(worker, {Neighbours::Message::Kind::kResolve, uint8_t(interface), next_hop, {}});
    const auto answer = waiters.size() >= kWaitersMax ? Neighbours::Resolve::kFull
                        : worker == 0                 ? neighbours.resolve(interface, next_hop, now)
                                                      : Neighbours::Resolve::kPending;
    if (answer == Neighbours::Resolve::kFull) return drop_out(m, Drop::kArpTableFull);
    if (answer == Neighbours::Resolve::kAskNow)
      send_arp(interface, kArpRequest, source_on(interface, next_hop), next_hop, MacAddress{}, kBroadcastMac);
    w = waiters.insert(waiters.end(), Waiter{interface, next_hop, now.mono_us, told, 0, {}});
  }
  if (w->count == kNeighbourQueueMax || waiting == kNeighbourQueuedMax) return drop_out(m, Drop::kArpQueueFull);
  w->packet[w->count++] = m;
  waiting++;
}

void Stack::State::queue_to(unsigned interface, const MacAddress& mac, rte_mbuf* m, uint16_t type) {
  const Interface& i = interfaces[interface];
  if (i.vlan) {
    auto* tag = reinterpret_cast<VlanTag*>(rte_pktmbuf_prepend(m, sizeof(VlanTag)));
    SLUICE_ASSERT(tag != nullptr);
    *tag = {*i.vlan, type};
  }
  auto* eth = reinterpret_cast<EthernetHeader*>(rte_pktmbuf_prepend(m, sizeof(EthernetHeader)));
  SLUICE_ASSERT(eth != nullptr);
  *eth = {mac, i.mac, i.vlan ? kTypeVlan : type};
  m->l2_len = sizeof(EthernetHeader) + (i.vlan ? sizeof(VlanTag) : 0);
  push_frame(i.port, m);
}

void Stack::State::push_frame(unsigned port, rte_mbuf* m) {
  TxQueue& q = queues[port];
  if (q.end == q.frame.size() && q.begin > 0) {
    std::copy(q.frame.begin() + q.begin, q.frame.begin() + q.end, q.frame.begin());
    q.end -= q.begin;
    q.begin = 0;
  }
  if (q.end == q.frame.size()) return drop_out(m, Drop::kPortTxFull);
  q.frame[q.end++] = m;
}

Ipv4 Stack::State::source_on(unsigned interface, Ipv4 target) const {
  Ipv4 any;
  for (const Address& a : addresses)
    if (a.interface == interface) {
      if (a.reaches(target)) return a.ip;
      if (any.v == 0) any = a.ip;
    }
  return any;
}

// False when no mbuf is to be had.
bool Stack::State::send_arp(unsigned interface, uint16_t operation, Ipv4 sender, Ipv4 target, const MacAddress& target_mac,
                            const MacAddress& to) {
  rte_mbuf* m = pool.alloc_control();
  if (m == nullptr) return false;
  auto* arp = reinterpret_cast<ArpPacket*>(rte_pktmbuf_append(m, sizeof(ArpPacket)));
  *arp = {1, kTypeIpv4, 6, 4, operation, interfaces[interface].mac, sender.v, target_mac, target.v};
  counters.arp_out.add();
  queue_to(interface, to, m, kTypeArp);
  return true;
}

// To whom the neighbours belong: worker 0 acts, others pass it on (a message lost to a full ring is asked or heard again).
void Stack::State::tell(Neighbours::Message message, Now now) {
  if (worker == 0) neighbours.heard(message, now);
  else neighbours.tell(worker, message);
}

void Stack::State::advance(Now now) {
  if (worker == 0) {
    std::array<Neighbours::Request, kRequestsPerTurn> requests;
    const unsigned n = neighbours.advance(now, requests);
    for (unsigned i = 0; i < n; i++) {
      const auto& r = requests[i];
      send_arp(r.interface, kArpRequest, source_on(r.interface, r.address), r.address, r.mac.value_or(MacAddress{}),
               r.mac.value_or(kBroadcastMac));
    }
    for (Address& a : addresses)  // RFC 5227 2.3
      if (a.announcements > 0 && now.mono_us >= a.announce_at &&
          send_arp(a.interface, kArpRequest, a.ip, a.ip, MacAddress{}, kBroadcastMac)) {
        a.announcements--;
        a.announce_at = now.mono_us + kAnnounceInterval;
      }
  }
  for (size_t i = 0; i < waiters.size();) {
    Waiter& w = waiters[i];
    const auto mac = neighbours.find(w.interface, w.next_hop);
    const bool late = now.mono_us - w.since >= kWaitMax;
    if (!mac && !late) {
      if (!w.told) w.told = neighbours.tell(worker, {Neighbours::Message::Kind::kResolve, uint8_t(w.interface), w.next_hop, {}});
      i++;
      continue;
    }
    for (unsigned k = 0; k < w.count; k++) {
      rte_mbuf* m = w.packet[k];
      if (mac) {
        queue_to(w.interface, *mac, m);
        continue;
      }
      const auto* ip = rte_pktmbuf_mtod(m, const Ipv4Header*);
      error_of_packet(PathError::Kind::kNoNeighbour, m, Ipv4{ip->src}, Ipv4{ip->dst}, sizeof(Ipv4Header));
      drop_out(m, Drop::kArpUnresolved);
    }
    waiting -= w.count;
    waiters[i] = waiters.back();
    waiters.pop_back();
  }
}

// -------------------------------------------------------------------------------------------------------------------------------------
// Stack

Stack::Stack(const Config& config, unsigned worker, Neighbours& neighbours, MbufPool& pool, DropCounters& drops)
    : s_(std::make_unique<State>(config, worker, neighbours, pool, drops)) {
  SLUICE_ASSERT(validate(config).has_value());
}
Stack::~Stack() = default;

unsigned Stack::input(unsigned port, std::span<rte_mbuf* const> frames, Now now, std::span<L4Packet> out) {
  SLUICE_ASSERT(out.size() >= frames.size() && port < s_->queues.size());
  unsigned delivered = 0;
  s_->counters.frames_in.add(frames.size());
  for (rte_mbuf* m : frames) {
    SLUICE_DCHECK(m->nb_segs == 1 && rte_mbuf_refcnt_read(m) == 1);
    const Verdict v = s_->input_ethernet(port, m, now, out[delivered]);
    using What = Verdict::What;
    if (v.what == What::kDelivered) delivered++;
    else if (v.what == What::kDropped) s_->drops.add(v.why);
    else s_->counters.consumed.add();
    if (v.what == What::kDropped || v.what == What::kConsumed) rte_pktmbuf_free(m);
  }
  s_->counters.delivered.add(delivered);
  return delivered;
}

void Stack::send(L4Packet&& packet, Now now) { s_->send(std::move(packet), now); }

std::span<rte_mbuf*> Stack::frames(unsigned port) {
  State::TxQueue& q = s_->queues[port];
  return {q.frame.data() + q.begin, q.end - q.begin};
}
void Stack::sent(unsigned port, unsigned count) {
  State::TxQueue& q = s_->queues[port];
  SLUICE_ASSERT(count <= q.end - q.begin);
  q.begin += count;
  if (q.begin == q.end) q.begin = q.end = 0;
}
unsigned Stack::take_frames(unsigned port, rte_mbuf** out, unsigned n) {
  const auto all = frames(port);
  n = std::min<unsigned>(n, unsigned(all.size()));
  std::copy_n(all.begin(), n, out);
  sent(port, n);
  return n;
}

void Stack::advance(Now now) { s_->advance(now); }

unsigned Stack::take_errors(std::span<PathError> out) {
  const unsigned n = unsigned(std::min<size_t>(out.size(), s_->errors_count));
  std::copy_n(s_->errors.begin(), n, out.begin());
  std::copy(s_->errors.begin() + n, s_->errors.begin() + s_->errors_count, s_->errors.begin());
  s_->errors_count -= n;
  return n;
}

std::optional<IpAddress> Stack::source_for(const IpAddress& destination) const {
  if (!destination.is_v4() || is_local(destination)) return std::nullopt;
  const auto* r = s_->route(destination.v4(), std::nullopt);
  if (r == nullptr) return std::nullopt;
  return IpAddress(r->source);
}
uint16_t Stack::mtu_to(const IpAddress& destination) const {
  const auto* r = destination.is_v4() ? s_->route(destination.v4(), std::nullopt) : nullptr;
  return r == nullptr ? uint16_t{0} : s_->interfaces[r->interface].mtu;
}
bool Stack::is_local(const IpAddress& address) const { return address.is_v4() && s_->address_of(address.v4()) != nullptr; }
const StackCounters& Stack::counters() const { return s_->counters; }

}  // namespace sluice::net
