// Fuzz target: Ethernet input of a Stack. The input is a sequence of {2 bytes length, 1 byte time step, frame}; a frame of length 0 sends a
// packet instead. Oracles: every frame is delivered, consumed or counted; what leaves has our MAC as source and a right IPv4 checksum; the
// pool is full again at the end.
#include <rte_eal.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "dataplane/net/stack.h"
#include "dataplane/net/wire.h"
#include "dataplane/packet/checksum.h"

namespace sluice::net {
namespace {

constexpr uint32_t kMbufs = 2048;

Config fuzz_config() {
  return {.interfaces = {{.port = 0,
                          .mac = {{2, 0, 0, 0, 0, 1}},
                          .addresses = {*IpPrefix::parse("10.0.0.1/24"), *IpPrefix::parse("10.0.0.5/24")}},
                         {.port = 0, .mac = {{2, 0, 0, 0, 0, 7}}, .vlan = 7, .addresses = {*IpPrefix::parse("10.7.0.1/24")}}},
          .routes = {{*IpPrefix::parse("0.0.0.0/0"), *IpAddress::parse("10.0.0.254")}},
          .ports = 1};
}

void check_sent(Stack& stack) {
  for (rte_mbuf* m = nullptr; stack.take_frames(0, &m, 1) == 1; rte_pktmbuf_free(m)) {
    const Bytes frame = bytes_of(static_cast<const rte_mbuf*>(m));
    const auto* eth = view_as<EthernetHeader>(frame);
    SLUICE_ASSERT(eth != nullptr && eth->src.b[0] == 2 && !is_group(eth->src));
    const uint32_t at = eth->type == kTypeVlan ? 18 : 14;
    const uint16_t type = at == 18 ? uint16_t(frame[16] << 8 | frame[17]) : uint16_t(eth->type);
    SLUICE_ASSERT(type == kTypeIpv4 || type == kTypeArp);
    if (type == kTypeArp) {
      SLUICE_ASSERT(frame.size() == at + sizeof(ArpPacket));
      continue;
    }
    const auto* ip = view_as<Ipv4Header>(frame.subspan(at));
    SLUICE_ASSERT(ip != nullptr && ip->version_ihl == 0x45 && ip->total_length == uint16_t(frame.size() - at));
    if (!(m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM)) SLUICE_ASSERT(checksum_fold(checksum_add(frame.subspan(at, 20))) == 0xffff);
  }
}

void run(MbufPool& pool, Bytes input) {
  Neighbours neighbours;
  DropCounters drops;
  Now now{.mono_us = kSec};
  {
    Stack stack(fuzz_config(), 0, neighbours, pool, drops);
    uint64_t sends = 0;
    ByteReader r(input);
    while (r.left() >= 3) {
      const size_t length = std::min<size_t>(r.u16(), 1600);
      now.mono_us += uint64_t{r.u8()} * 50 * kMs;
      const Bytes frame = r.take(std::min(length, r.left()));
      rte_mbuf* m = pool.alloc_control();
      SLUICE_ASSERT(m != nullptr);
      if (length == 0) {
        std::fill_n(reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, 20)), 20, uint8_t{0});
        stack.send({m, *IpAddress::parse("10.0.0.1"), IpAddress(Ipv4{0x0a000000u + uint32_t(sends % 300)})}, now);
        sends++;
      } else {
        std::ranges::copy(frame, reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, uint16_t(frame.size()))));
        const auto& c = stack.counters();
        const uint64_t before = drops.total() + c.delivered.get() + c.consumed.get(), frames = c.frames_in.get();
        L4Packet out[1];
        if (stack.input(0, {&m, 1}, now, out) == 1) {
          SLUICE_ASSERT(out[0].src.is_v4() && out[0].dst.is_v4() && stack.is_local(out[0].dst) && !stack.is_local(out[0].src));
          SLUICE_ASSERT(out[0].m->data_len <= frame.size());
          rte_pktmbuf_free(out[0].m);
        }
        SLUICE_ASSERT(c.frames_in.get() == frames + 1 && drops.total() + c.delivered.get() + c.consumed.get() == before + 1);
      }
      stack.advance(now);
      check_sent(stack);
      PathError errors[8];
      stack.take_errors(errors);
    }
  }
  SLUICE_ASSERT(pool.available() == kMbufs && neighbours.size() <= kNeighboursMax);
}

}  // namespace
}  // namespace sluice::net

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const pool = [] {  // never freed: EAL is gone before static objects are
    auto made = sluice::MbufPool::create("ethernet_fuzz", sluice::net::kMbufs, 64, SOCKET_ID_ANY);
    SLUICE_ASSERT(made.has_value());
    return new sluice::MbufPool(std::move(*made));
  }();
  sluice::net::run(*pool, {data, size});
  return 0;
}
