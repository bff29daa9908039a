// Fuzz target: options and segments from a peer's bytes. The first byte chooses whether the port verified the checksum (bit 0) and whether
// the checksum is made right (bit 1), so that what stands behind it is reached; the rest is the segment.
// Oracles: an own reading of the options gives the same answer; what is accepted obeys the ranges that the stack relies on, and written
// again it parses to the same; what a right checksum leaves refused has another reason.
#include <algorithm>
#include <vector>

#include "dataplane/base/check.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/packet/pool.h"
#include "dataplane/tcp/segment.h"

namespace sluice::tcp {
namespace {

const IpAddress kSrc = *IpAddress::parse("10.0.0.1"), kDst = *IpAddress::parse("10.0.0.2");

bool equal(const Options& a, const Options& b) {
  return a.mss == b.mss && a.has_window_scale == b.has_window_scale && a.window_scale == b.window_scale &&
         a.has_timestamps == b.has_timestamps && a.ts_value == b.ts_value && a.ts_echo == b.ts_echo && a.sack_permitted == b.sack_permitted;
}

// RFC 9293 3.1 and RFC 7323, read with indices and nothing else.
std::optional<Options> plainly_read(Bytes b, bool syn) {
  Options o;
  for (size_t i = 0; i < b.size();) {
    if (b[i] == 0) return o;
    if (b[i] == 1) {
      i++;
      continue;
    }
    if (i + 1 >= b.size() || b[i + 1] < 2 || i + b[i + 1] > b.size()) return std::nullopt;
    const size_t n = b[i + 1];
    auto word = [&](size_t at) { return uint32_t(b[at]) << 24 | uint32_t(b[at + 1]) << 16 | uint32_t(b[at + 2]) << 8 | b[at + 3]; };
    if (b[i] == 2 && n == 4 && syn) o.mss = uint16_t(b[i + 2] << 8 | b[i + 3]);
    if (b[i] == 3 && n == 3 && syn) o.has_window_scale = true, o.window_scale = b[i + 2] > 14 ? 14 : b[i + 2];
    if (b[i] == 4 && n == 2 && syn) o.sack_permitted = true;
    if (b[i] == 8 && n == 10) o.has_timestamps = true, o.ts_value = word(i + 2), o.ts_echo = word(i + 6);
    i += n;
  }
  return o;
}

void check_options(Bytes bytes) {
  for (const bool syn : {false, true}) {
    const auto ours = parse_options(bytes, syn), plain = plainly_read(bytes, syn);
    SLUICE_ASSERT(ours.has_value() == plain.has_value() && (!ours || equal(*ours, *plain)));
  }
}

rte_mbuf* packet(MbufPool& pool, Bytes bytes) {
  rte_mbuf* m = pool.alloc_control();
  SLUICE_ASSERT(m != nullptr);
  std::ranges::copy(bytes, rte_pktmbuf_mtod(m, uint8_t*));
  m->data_len = uint16_t(bytes.size());
  m->pkt_len = bytes.size();
  return m;
}

void check_round_trip(MbufPool& pool, const ParsedSegment& p) {
  Segment s = p.segment;
  s.options.sack_permitted = false;  // never offered
  rte_mbuf* m = packet(pool, {});
  write_header(m, {p.tuple.remote, p.tuple.local}, s);
  SLUICE_ASSERT(m->data_len == header_bytes(s) && m->data_len <= sizeof(TcpHeader) + kOptionBytesMax);
  const uint16_t sum = uint16_t(~checksum_fold(checksum_add(bytes_of(static_cast<const rte_mbuf*>(m)))));
  std::memcpy(rte_pktmbuf_mtod_offset(m, uint8_t*, 16), &sum, 2);
  m->ol_flags = 0;
  const auto again = parse_segment({m, kSrc, kDst});
  SLUICE_ASSERT(again.has_value() && again->tuple == p.tuple && again->segment.seq == s.seq && again->segment.flags == s.flags);
  SLUICE_ASSERT(again->segment.window == s.window && equal(again->segment.options, s.options));
  SLUICE_ASSERT(!s.has(kAck) || again->segment.ack == s.ack);
  rte_pktmbuf_free(m);
}

void run(MbufPool& pool, uint8_t mode, Bytes bytes) {
  check_options(bytes.first(std::min<size_t>(bytes.size(), kOptionBytesMax)));
  rte_mbuf* m = packet(pool, bytes.first(std::min<size_t>(bytes.size(), MbufPool::data_room())));
  const MutBytes whole = bytes_of(m);
  if (mode & 2 && whole.size() >= sizeof(TcpHeader)) {
    whole[16] = whole[17] = 0;
    const uint16_t sum =
        uint16_t(~checksum_fold(checksum_add(whole, checksum_pseudo(kSrc.v4(), kDst.v4(), kIpProtocolTcp, uint16_t(whole.size())))));
    std::memcpy(&whole[16], &sum, 2);
  }
  m->ol_flags = mode & 1 ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : 0;
  const auto p = parse_segment({m, kSrc, kDst});
  if (p) {
    const Segment& s = p->segment;
    SLUICE_ASSERT(s.header_bytes >= sizeof(TcpHeader) && s.header_bytes + s.payload_bytes == whole.size());
    SLUICE_ASSERT(s.options.window_scale <= kWindowScaleMax && !(s.has(kSyn) && s.has(kFin | kRst)));
    SLUICE_ASSERT(p->tuple.local.ip == kDst && p->tuple.remote.ip == kSrc);
    check_options({whole.data() + sizeof(TcpHeader), size_t(s.header_bytes) - sizeof(TcpHeader)});
    check_round_trip(pool, *p);
  } else {
    SLUICE_ASSERT(!(mode & 3) || p.error() != Drop::kTcpBadChecksum);
  }
  rte_pktmbuf_free(m);
}

}  // namespace

int fuzz_segment(Bytes input) {
  constexpr uint32_t kMbufs = 1024;
  static auto* const pool = [] {  // never freed: EAL is gone before static objects are
    auto made = MbufPool::create("segment_fuzz", kMbufs, 64, SOCKET_ID_ANY);
    SLUICE_ASSERT(made.has_value());
    return new MbufPool(std::move(*made));
  }();
  if (!input.empty()) run(*pool, input[0], input.subspan(1));
  SLUICE_ASSERT(pool->available() == kMbufs);
  return 0;
}

}  // namespace sluice::tcp

#if defined(SLUICE_FUZZER)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { return sluice::tcp::fuzz_segment({data, size}); }
#endif
