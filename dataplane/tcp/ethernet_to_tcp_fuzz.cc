// Fuzz target: a worker's whole receive path without a worker: frames -> net::Stack -> tcp::Stack -> an application that echoes, and all
// that answers back out to frames. The peers' ARP is answered for them.
//
// The input is a sequence of {2 bytes control, 1 byte time step, frame}. Control: bits 0..10 the frame's length; 15: the numbers in the TCP
// header (or in the segment that an ICMP error quotes) count from what the peer would send next, and where both ports are 0 they are those
// of our last connect(); 14: the port verified the checksums; length 0: bits 11..13 say what the application does. A time step of s is (s &
// 63) ms << 2 * (s >> 6). Oracles: each segment is accepted or counted; the invariants of every connection hold after each step; what
// leaves is a well-formed packet of ours with a right checksum; at the end every mbuf is back.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "dataplane/net/stack.h"
#include "dataplane/net/wire.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/stack.h"

namespace sluice::tcp {
namespace {

constexpr uint32_t kMbufs = 2048, kHeldMax = 256;
constexpr size_t kIpAt = sizeof(net::EthernetHeader), kTcpAt = kIpAt + sizeof(net::Ipv4Header);
constexpr MacAddress kUs{{2, 0, 0, 0, 0, 1}}, kPeer{{2, 0, 0, 0, 0, 0x99}};
enum Action : uint8_t { kConnect, kClose, kAbort, kFinish, kStopReading, kPortKeeps, kWriteMuch, kUnlisten };

class World {
 public:
  explicit World(MbufPool& pool)
      : pool_(pool),
        net_({.interfaces = {{.port = 0, .mac = kUs, .addresses = {*IpPrefix::parse("10.0.0.1/24")}}}, .ports = 1}, 0, neighbours_, pool,
             drops_),
        tcp_({.connections_max = 16,
              .syn_max = 8,
              .time_wait_max = 8,
              .out_of_order_ranges_max = 8,
              .receive_window = 8192,
              .send_buffer = 2 * kWritableLow,
              .retransmits_max = 6,
              .time_wait = 2 * kSec,
              .fin_wait2 = 2 * kSec,
              .linger = 1 * kSec,
              .keepalive_idle = 30 * kSec},
             pool, drops_, {.isn = {1, 2}, .table = {3, 4}, .ports = {5, 6}, .timestamps = {7, 8}}, now_) {
    SLUICE_ASSERT(tcp_.listen({{}, 80}));
  }
  ~World() {
    for (rte_mbuf* m : at_port_) rte_pktmbuf_free(m);
  }

  void run(Bytes input) {
    ByteReader r(input);
    for (unsigned steps = 0; r.left() >= 3 && steps < 200; steps++) {
      const uint16_t control = r.u16();
      const uint8_t step = r.u8();
      const size_t length = std::min<size_t>(control & 0x7ff, 1600);
      pass(Usec{step & 63u} << 2 * (step >> 6));
      if (length == 0) act(Action(control >> 11 & 7));
      else receive(r.take(std::min(length, r.left())), control & 0x8000, control & 0x4000);
      turn();
    }
  }

 private:
  struct Numbers {
    uint32_t seq, ack;  // of the peer's next segment
  };

  // Timers fire when they are due, with output in between, as a worker has it; at most some of them.
  void pass(Usec ms) {
    const Usec end = now_.mono_us + ms * kMs;
    for (unsigned i = 0; i < 32 && tcp_.next_deadline() < end; i++) {
      now_.mono_us = std::max(now_.mono_us + 1, tcp_.next_deadline());
      if (now_.mono_us >= end) break;
      turn();
    }
    now_.mono_us = std::max(end, now_.mono_us);
  }

  void receive(Bytes bytes, bool relative, bool verified) {
    rte_mbuf* m = pool_.alloc_control();
    if (m == nullptr) return;  // all held: the port would have none either
    std::ranges::copy(bytes, rte_pktmbuf_mtod(m, uint8_t*));
    m->data_len = uint16_t(bytes.size());
    m->pkt_len = bytes.size();
    const MutBytes frame = bytes_of(m);
    if (relative && frame.size() >= kTcpAt + sizeof(TcpHeader)) add_numbers(frame.subspan(kIpAt));
    if (verified) m->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD;
    receive(m);
  }
  void receive(rte_mbuf* m) {
    L4Packet out[1];
    if (net_.input(0, {&m, 1}, now_, out) == 0) return;
    const StackCounters& c = tcp_.counters();
    const uint64_t before = c.segments_accepted.get() + drops_.total();
    tcp_.input({out, 1}, now_);
    SLUICE_ASSERT(c.segments_accepted.get() + drops_.total() > before);
    tcp_.check_invariants();
  }
  void add_numbers(MutBytes packet) {
    const MutBytes l4 = packet.subspan(sizeof(net::Ipv4Header));
    if (view_as<net::Ipv4Header>(packet)->protocol == kIpProtocolIcmp) {
      add_quoted_number(l4);
      return;
    }
    TcpHeader& h = *view_as_mut<TcpHeader>(l4);
    if (h.src_port == 0u && h.dst_port == 0u) {
      h.src_port = 443;
      h.dst_port = last_port_;
    }
    const auto n = numbers_.find(key(h.dst_port, h.src_port));
    if (n == numbers_.end()) return;
    h.seq = h.seq + n->second.seq;
    h.ack = h.ack + n->second.ack;
  }
  // An ICMP error quotes the IPv4 header and 8 bytes of a segment of ours.
  void add_quoted_number(MutBytes icmp) {
    constexpr size_t kQuoteAt = sizeof(net::IcmpHeader) + sizeof(net::Ipv4Header);
    if (icmp.size() < kQuoteAt + 8) return;
    Be<uint16_t> ours, theirs;
    Be<uint32_t> seq;
    std::memcpy(&ours, &icmp[kQuoteAt], 2);
    std::memcpy(&theirs, &icmp[kQuoteAt + 2], 2);
    std::memcpy(&seq, &icmp[kQuoteAt + 4], 4);
    const auto n = numbers_.find(key(ours, theirs));
    if (n != numbers_.end()) seq = seq + n->second.ack;
    std::memcpy(&icmp[kQuoteAt + 4], &seq, 4);
    icmp[2] = icmp[3] = 0;
    const uint16_t sum = uint16_t(~checksum_fold(checksum_add(icmp)));
    std::memcpy(&icmp[2], &sum, 2);
  }
  static uint32_t key(uint16_t ours, uint16_t theirs) { return uint32_t(ours) << 16 | theirs; }

  void act(Action a) {
    StreamId id;
    tcp_.for_each_stream([&](StreamId s, const ConnectionSnapshot& c) {
      if (!c.closed_by_owner) id = s;
    });
    switch (a) {
      case kConnect:
        if (const StreamId s = tcp_.connect({*IpAddress::parse("10.0.0.1"), 0}, {*IpAddress::parse("10.0.0.9"), 443}, 0, now_))
          last_port_ = tcp_.info(s).local.port;
        break;
      case kClose: tcp_.close(id); break;
      case kAbort: tcp_.abort(id); break;
      case kFinish: tcp_.finish(id); break;
      case kStopReading: reading_ = !reading_; break;
      case kPortKeeps: port_keeps_ = !port_keeps_; break;
      case kWriteMuch: write(id, std::min(tcp_.budget(id), 20'000u)); break;
      case kUnlisten:
        if (tcp_.is_listening({{}, 80})) tcp_.unlisten({{}, 80});
        else SLUICE_ASSERT(tcp_.listen({{}, 80}));
        break;
    }
    if (reading_) tcp_.for_each_stream([&](StreamId s, const ConnectionSnapshot&) { to_read_.push_back(s); });
    for (const StreamId s : std::exchange(to_read_, {})) echo(s);
  }
  void write(StreamId id, uint32_t n) {
    static const std::vector<uint8_t> kBytes(32'768, 'e');
    Chain chain;
    if (n > 0 && pool_.append_copy(chain, {kBytes.data(), n}, tcp_.segment_bytes(id))) tcp_.send(id, std::move(chain));
  }
  void echo(StreamId id) {
    for (ReadView v = tcp_.readable(id); v.bytes > 0; v = tcp_.readable(id)) {
      write(id, std::min(v.bytes, tcp_.budget(id)));
      tcp_.consume(id, v.bytes);
    }
  }

  void turn() {
    tcp_.advance(now_);
    ReadyStream ready[8];
    while (const unsigned n = tcp_.poll_events(ready))
      for (unsigned i = 0; i < n; i++) {
        if (reading_ && (ready[i].events & kReadable)) echo(ready[i].id);
        if (ready[i].events & kPeerFinished) tcp_.finish(ready[i].id);
        if (ready[i].events & kClosed) tcp_.abort(ready[i].id);
      }
    L4Packet out[16];
    while (const unsigned n = tcp_.output(out, now_))
      for (unsigned i = 0; i < n; i++) net_.send(std::move(out[i]), now_);
    net_.advance(now_);
    send_frames();
    net::PathError errors[8];
    while (const unsigned n = net_.take_errors(errors))
      for (unsigned i = 0; i < n; i++) {
        if (errors[i].kind == net::PathError::Kind::kFragmentationNeeded)
          tcp_.packet_too_big(errors[i].tuple, errors[i].seq, errors[i].mtu, now_);
        else if (errors[i].kind != net::PathError::Kind::kTimeExceeded) tcp_.unreachable(errors[i].tuple, errors[i].seq, now_);
      }
    tcp_.check_invariants();
  }

  void send_frames() {
    std::vector<std::pair<unsigned, uint32_t>> asked;
    for (rte_mbuf* m = nullptr; net_.take_frames(0, &m, 1) == 1;) {
      std::vector<uint8_t> frame;
      for (const rte_mbuf* part = m; part != nullptr; part = part->next)
        frame.insert(frame.end(), bytes_of(part).begin(), bytes_of(part).end());
      SLUICE_ASSERT(frame.size() == m->pkt_len && frame.size() <= kFrameMax);
      const auto* eth = view_as<net::EthernetHeader>(frame);
      SLUICE_ASSERT(eth != nullptr && eth->src == kUs);
      if (eth->type == net::kTypeIpv4) look_at(m, Bytes(frame).subspan(kIpAt));
      const auto* arp = eth->type == net::kTypeArp ? view_as<net::ArpPacket>(Bytes(frame).subspan(kIpAt)) : nullptr;
      if (arp != nullptr && arp->operation == net::kArpRequest) asked.emplace_back(0, arp->target_ip);
      if (port_keeps_ && at_port_.size() < 256) at_port_.push_back(m);
      else rte_pktmbuf_free(m);
    }
    for (const auto& [interface, address] : asked) answer_arp(address);
  }
  void look_at(const rte_mbuf* m, Bytes packet) {
    const auto* ip = view_as<net::Ipv4Header>(packet);
    SLUICE_ASSERT(ip != nullptr && ip->version_ihl == 0x45 && ip->total_length == uint16_t(packet.size()));
    if (ip->protocol != kIpProtocolTcp) return;
    std::vector<uint8_t> l4(packet.begin() + sizeof(net::Ipv4Header), packet.end());
    SLUICE_ASSERT(m->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM);
    const uint16_t sum = uint16_t(~checksum_fold(checksum_add(l4)));  // the field holds the pseudo-header's
    std::memcpy(&l4[16], &sum, 2);
    SLUICE_ASSERT(checksum_fold(checksum_add(l4, checksum_pseudo({ip->src}, {ip->dst}, kIpProtocolTcp, uint16_t(l4.size())))) == 0xffff);
    const TcpHeader& h = *view_as<TcpHeader>(Bytes(l4));
    const uint32_t header = uint32_t(h.data_offset >> 4) * 4;
    SLUICE_ASSERT(header >= sizeof(TcpHeader) && header <= l4.size() && !(h.flags & ~(kFin | kSyn | kRst | kPsh | kAck)));
    SLUICE_ASSERT(!(h.flags & kRst) || l4.size() == header);
    if (h.flags & kRst) return;
    const uint32_t end = h.seq + uint32_t(l4.size()) - header + (h.flags & kSyn ? 1 : 0) + (h.flags & kFin ? 1 : 0);
    const uint32_t k = key(h.src_port, h.dst_port);
    if (numbers_.size() < 64 || numbers_.contains(k)) numbers_[k] = {h.flags & kAck ? uint32_t(h.ack) : 0, end};
  }
  void answer_arp(uint32_t address) {
    rte_mbuf* m = pool_.alloc_control();
    if (m == nullptr) return;
    struct Reply {
      net::EthernetHeader eth;
      net::ArpPacket arp;
    } reply{{kUs, kPeer, net::kTypeArp}, {uint16_t{1}, net::kTypeIpv4, 6, 4, net::kArpReply, kPeer, address, kUs, uint32_t{0x0a000001}}};
    std::memcpy(rte_pktmbuf_append(m, sizeof reply), &reply, sizeof reply);
    receive(m);
    net_.advance(now_);
    for (rte_mbuf* f = nullptr; net_.take_frames(0, &f, 1) == 1; rte_pktmbuf_free(f)) {
      std::vector<uint8_t> frame(bytes_of(f).begin(), bytes_of(f).end());
      if (f->nb_segs == 1 && view_as<net::EthernetHeader>(frame)->type == net::kTypeIpv4) look_at(f, Bytes(frame).subspan(kIpAt));
    }
  }

  MbufPool& pool_;
  net::Neighbours neighbours_;
  DropCounters drops_;
  Now now_{.mono_us = 1000 * kSec, .wall_us = 0};
  net::Stack net_;
  Stack tcp_;
  std::map<uint32_t, Numbers> numbers_;
  std::vector<StreamId> to_read_;
  std::vector<rte_mbuf*> at_port_;
  uint16_t last_port_ = 0;
  bool reading_ = true, port_keeps_ = false;
};

}  // namespace

int fuzz_ethernet_to_tcp(Bytes input) {
  static auto* const pool = [] {  // never freed: EAL is gone before static objects are
    auto made = MbufPool::create("eth_to_tcp_fuzz", kMbufs, kHeldMax, SOCKET_ID_ANY);
    SLUICE_ASSERT(made.has_value());
    return new MbufPool(std::move(*made));
  }();
  World(*pool).run(input);
  SLUICE_ASSERT(pool->held() == 0 && pool->available() == kMbufs);
  return 0;
}

}  // namespace sluice::tcp

#if defined(SLUICE_FUZZER)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { return sluice::tcp::fuzz_ethernet_to_tcp({data, size}); }
#endif
