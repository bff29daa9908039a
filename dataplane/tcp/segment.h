// A TCP segment as it lies on the wire, and as we speak of it. Parsing checks a peer's bytes and names each refusal; building writes the
// header in front of a payload. Pure functions over bytes and one mbuf. RFC 9293 3.1, 3.2; RFC 7323 (window scale, timestamps).
#pragma once
#include <expected>

#include "dataplane/base/address.h"
#include "dataplane/base/bytes.h"
#include "dataplane/base/drop.h"
#include "dataplane/packet/l4.h"
#include "dataplane/tcp/seq.h"

namespace sluice::tcp {

struct TcpHeader {
  Be<uint16_t> src_port, dst_port;
  Be<uint32_t> seq, ack;
  uint8_t data_offset;  // in 32-bit words, high nibble
  uint8_t flags;
  Be<uint16_t> window;
  uint8_t checksum[2];  // as it lies in memory (packet/checksum.h)
  Be<uint16_t> urgent;
};
static_assert(sizeof(TcpHeader) == 20 && alignof(TcpHeader) == 1);

enum TcpFlag : uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32 };

constexpr uint8_t kWindowScaleMax = 14;  // RFC 7323 2.3
constexpr uint16_t kMssDefault = 536;    // RFC 9293 3.7.1: when the peer names none
// INTERPRETATION(deviate): a floor under the peer's MSS (MUST-16), for fragments per window must stay bounded.
constexpr uint16_t kMssMin = 64;                // what we send at least, whatever the peer names
constexpr uint16_t kHeadersBytes = 20 + 20;     // IPv4 and TCP without options: MSS = MTU - this (RFC 6691)
constexpr uint16_t kTimestampOptionBytes = 12;  // with its two NOPs, as RFC 7323 appendix A lays it out
constexpr uint16_t kOptionBytesMax = 40;

struct Options {
  uint16_t mss = 0;  // 0: absent
  uint8_t window_scale = 0;
  bool has_window_scale = false, has_timestamps = false, sack_permitted = false;
  uint32_t ts_value = 0, ts_echo = 0;
};

// Reads the option bytes of a header. Unknown options are skipped by their length. nullopt: a length of 0 or 1, or one that runs past the
// end. MSS, window scale and SACK-permitted count only when `syn` (RFC 9293 3.2, RFC 7323 2.2); INTERPRETATION(missing): a known kind with
// another length is skipped like an unknown one.
std::optional<Options> parse_options(Bytes options, bool syn);

struct Segment {
  Seq seq, ack;
  uint32_t window = 0;  // as on the wire; scaled by the connection
  uint8_t flags = 0;
  Options options;
  uint16_t header_bytes = 0;
  uint32_t payload_bytes = 0;
  bool has(uint8_t f) const { return flags & f; }
  // RFC 9293's SEG.LEN: SYN and FIN count.
  uint32_t length() const { return payload_bytes + (has(kSyn) ? 1 : 0) + (has(kFin) ? 1 : 0); }
  Seq end() const { return seq + length(); }
};

// Checks length, data offset, checksum (in software unless RTE_MBUF_F_RX_L4_CKSUM_GOOD) and options of a packet whose mbuf is one segment.
// Gives the tuple as we see it (local = destination).
struct ParsedSegment {
  Segment segment;
  FourTuple tuple;
};
std::expected<ParsedSegment, Drop> parse_segment(const L4Packet& packet);

// Writes header and options in front of the payload that m holds (one segment or a chain's first) and asks for the checksum as l4.h says.
// The headroom must hold them: checked by assertion, our own invariant. Padding with NOPs keeps the order of RFC 7323 appendix A.
void write_header(rte_mbuf* m, const FourTuple& tuple, const Segment& s);
// How many bytes write_header will take.
uint16_t header_bytes(const Segment& s);

}  // namespace sluice::tcp
