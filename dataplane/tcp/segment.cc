// Layout of what we send: MSS (4), NOP + window scale (4), NOP NOP timestamps (12). Nothing else is ever offered, so a header is 20 to 40
// bytes.
#include "dataplane/tcp/segment.h"

#include "dataplane/base/check.h"
#include "dataplane/packet/chain.h"
#include "dataplane/packet/checksum.h"

namespace sluice::tcp {
namespace {

enum OptionKind : uint8_t { kEnd = 0, kNop = 1, kMss = 2, kScale = 3, kSackPermitted = 4, kTimestamps = 8 };

}  // namespace

std::optional<Options> parse_options(Bytes options, bool syn) {
  Options o;
  ByteReader r(options);
  while (r.left() > 0) {
    const uint8_t kind = r.u8();
    if (kind == kEnd) break;
    if (kind == kNop) continue;
    const uint8_t length = r.u8();
    if (!r.ok() || length < 2) return std::nullopt;  // RFC 9293 3.2: a length that cannot be would loop or overrun
    ByteReader body(r.take(length - 2u));
    if (!r.ok()) return std::nullopt;
    if (kind == kMss && length == 4 && syn) {
      o.mss = body.u16();
    } else if (kind == kScale && length == 3 && syn) {
      o.has_window_scale = true;
      o.window_scale = std::min(body.u8(), kWindowScaleMax);  // RFC 7323 2.3: greater values count as 14
    } else if (kind == kSackPermitted && length == 2 && syn) {
      o.sack_permitted = true;
    } else if (kind == kTimestamps && length == 10) {
      o.has_timestamps = true;
      o.ts_value = body.u32();
      o.ts_echo = body.u32();
    }
  }
  return o;
}

std::expected<ParsedSegment, Drop> parse_segment(const L4Packet& packet) {
  const rte_mbuf* m = packet.m;
  const Bytes bytes = bytes_of(m);
  const TcpHeader* h = view_as<TcpHeader>(bytes);
  if (h == nullptr || m->nb_segs != 1) return std::unexpected(Drop::kTcpTruncated);
  const uint16_t header = uint16_t((h->data_offset >> 4) * 4);
  if (header < sizeof(TcpHeader) || header > bytes.size()) return std::unexpected(Drop::kTcpBadOffset);
  if (!packet.src.is_v4() || !packet.dst.is_v4()) return std::unexpected(Drop::kIpv6);
  if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) != RTE_MBUF_F_RX_L4_CKSUM_GOOD) {
    const uint64_t sum = checksum_pseudo(packet.src.v4(), packet.dst.v4(), kIpProtocolTcp, uint16_t(bytes.size()));
    if (checksum_fold(checksum_add(bytes, sum)) != 0xffff) return std::unexpected(Drop::kTcpBadChecksum);
  }
  const auto options = parse_options(bytes.subspan(sizeof(TcpHeader), header - sizeof(TcpHeader)), h->flags & kSyn);
  if (!options) return std::unexpected(Drop::kTcpBadOptions);
  ParsedSegment p;
  p.tuple = {{packet.dst, h->dst_port}, {packet.src, h->src_port}};
  p.segment.seq = {h->seq};
  p.segment.ack = {h->ack};
  p.segment.window = h->window;
  p.segment.flags = h->flags;
  p.segment.options = *options;
  p.segment.header_bytes = header;
  p.segment.payload_bytes = uint32_t(bytes.size()) - header;
  // INTERPRETATION(missing): SYN with FIN, or with RST, is no segment of any conversation; answering would only help a scanner.
  if (p.segment.has(kSyn) && p.segment.has(kFin | kRst)) return std::unexpected(Drop::kTcpBadFlags);
  return p;
}

uint16_t header_bytes(const Segment& s) {
  const Options& o = s.options;
  return uint16_t(sizeof(TcpHeader) + (o.mss != 0 ? 4 : 0) + (o.has_window_scale ? 4 : 0) + (o.has_timestamps ? kTimestampOptionBytes : 0));
}

void write_header(rte_mbuf* m, const FourTuple& tuple, const Segment& s) {
  const uint16_t bytes = header_bytes(s);
  const uint32_t l4_bytes = rte_pktmbuf_pkt_len(m) + bytes;
  uint8_t* p = reinterpret_cast<uint8_t*>(rte_pktmbuf_prepend(m, bytes));
  SLUICE_ASSERT(p != nullptr);
  TcpHeader& h = *reinterpret_cast<TcpHeader*>(p);
  h.src_port = tuple.local.port;
  h.dst_port = tuple.remote.port;
  h.seq = s.seq.v;
  h.ack = s.has(kAck) ? s.ack.v : 0;
  h.data_offset = uint8_t(bytes / 4 << 4);
  h.flags = s.flags;
  h.window = uint16_t(s.window);
  h.urgent = 0;
  uint8_t* option = p + sizeof(TcpHeader);
  auto put = [&option](auto... values) { ((*option++ = uint8_t(values)), ...); };
  auto put32 = [&put](uint32_t v) { put(v >> 24, v >> 16, v >> 8, v); };
  const Options& o = s.options;
  if (o.mss != 0) put(kMss, 4, o.mss >> 8, o.mss);
  if (o.has_window_scale) put(kNop, kScale, 3, o.window_scale);
  if (o.has_timestamps) {
    put(kNop, kNop, kTimestamps, 10);
    put32(o.ts_value);
    put32(o.ts_echo);
  }
  SLUICE_DCHECK(option == p + bytes);
  const uint16_t pseudo = checksum_fold(checksum_pseudo(tuple.local.ip.v4(), tuple.remote.ip.v4(), kIpProtocolTcp, uint16_t(l4_bytes)));
  std::memcpy(h.checksum, &pseudo, sizeof pseudo);
  m->ol_flags = RTE_MBUF_F_TX_TCP_CKSUM;
  m->tx_offload = 0;
  m->l4_len = bytes;
}

}  // namespace sluice::tcp
