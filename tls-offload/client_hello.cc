// Two layers: records (type 22, version 3.x, length) whose payloads are joined into one handshake message, then the message itself. Each
// call reads from the start: a hello is one or two segments, so this is cheaper than keeping state, and nothing can be left half-changed.
#include "tls-offload/client_hello.h"

#include <algorithm>
#include <array>

namespace sluice::tls {
namespace {

constexpr uint8_t kHandshake = 22, kClientHello = 1;
constexpr size_t kRecordMax = 16384 + 320;  // Envoy's library allows what encryption may add
constexpr uint16_t kServerName = 0, kAlpn = 16;

// RFC 6066 3: one host name, not empty, without NUL. Other bytes are the name's own (Envoy matches them too; the access log does not print
// them).
bool host_name(ByteReader list, std::string& out) {
  const uint8_t kind = list.u8();
  const Bytes name = list.take(list.u16());
  if (!list.ok() || list.left() != 0 || kind != 0 || name.empty() || name.size() > 255) return false;
  out.clear();
  for (uint8_t c : name) {
    if (c == 0) return false;
    out += c >= 'A' && c <= 'Z' ? char(c + 32) : char(c);
  }
  return true;
}

bool protocols(ByteReader list, std::vector<std::string>& out) {
  if (list.left() == 0) return false;
  while (list.left() > 0) {
    const Bytes p = list.take(list.u8());
    if (!list.ok() || p.empty()) return false;
    if (out.size() < kAlpnMax) out.emplace_back(as_text(p));
  }
  return true;
}

// The list in an extension that is nothing but one; not ok() where it is more or less.
ByteReader only_list(Bytes extension) {
  ByteReader body(extension);
  ByteReader list(body.take(body.u16()));
  if (!body.ok() || body.left() != 0) list.take(list.left() + 1);
  return list;
}

HelloStatus extensions(ByteReader r, ClientHello& hello) {
  std::vector<uint16_t> types;
  Bytes name, alpn;
  while (r.left() > 0) {
    const uint16_t type = r.u16();
    const Bytes body = r.take(r.u16());
    if (!r.ok()) return HelloStatus::kNotTls;
    types.push_back(type);
    if (type == kServerName) name = body;
    if (type == kAlpn) alpn = body;
  }
  // RFC 8446 4.2: no extension twice.
  std::ranges::sort(types);
  if (std::ranges::adjacent_find(types) != types.end()) return HelloStatus::kNotTls;
  const auto has = [&](uint16_t type) { return std::ranges::binary_search(types, type); };
  if (has(kServerName))
    if (ByteReader list = only_list(name); !list.ok() || !host_name(list, hello.server_name)) return HelloStatus::kMalformed;
  if (has(kAlpn))
    if (ByteReader list = only_list(alpn); !list.ok() || !protocols(list, hello.alpn)) {
      hello.alpn.clear();
      return HelloStatus::kNotTls;
    }
  return HelloStatus::kComplete;
}

HelloStatus message(Bytes m, ClientHello& hello) {
  ByteReader r(m);
  r.u16();     // legacy_version
  r.take(32);  // random
  const uint8_t session = r.u8();
  r.take(session);
  const uint16_t suites = r.u16();
  r.take(suites);
  const uint8_t compressions = r.u8();
  r.take(compressions);
  if (!r.ok() || session > 32 || suites < 2 || suites % 2 != 0 || compressions == 0) return HelloStatus::kNotTls;
  if (r.left() == 0) return HelloStatus::kComplete;  // TLS 1.2 without extensions
  ByteReader e(r.take(r.u16()));
  if (!r.ok() || r.left() != 0) return HelloStatus::kNotTls;
  return extensions(e, hello);
}

}  // namespace

HelloStatus peek_client_hello(std::span<const Bytes> spans, ClientHello& hello) {
  hello = {};
  std::vector<uint8_t>
      joined;  // the handshake message; a hello in one record and one span could be read in place, but this is once per connection
  size_t span = 0, at = 0;
  auto left = [&] {
    size_t n = 0;
    for (size_t i = span; i < spans.size(); i++) n += spans[i].size();
    return n - at;
  };
  auto take = [&](uint8_t* out, size_t n) {
    while (n > 0) {
      const size_t k = std::min(n, spans[span].size() - at);
      std::copy_n(spans[span].data() + at, k, out);
      out += k, n -= k, at += k;
      while (span < spans.size() && at == spans[span].size()) span++, at = 0;
    }
  };
  while (span < spans.size() && spans[span].empty()) span++;
  for (;;) {
    std::array<uint8_t, 5> header;
    const size_t have = std::min<size_t>(left(), header.size());
    if (have == 0) return HelloStatus::kNeedMore;
    take(header.data(), have);
    // "Not TLS" is said as early as it is known.
    if (header[0] != kHandshake || (have > 1 && header[1] != 3)) return HelloStatus::kNotTls;
    if (have < header.size()) return HelloStatus::kNeedMore;
    const size_t length = size_t(header[3]) << 8 | header[4];
    if (length == 0) return HelloStatus::kMalformed;
    if (length > kRecordMax) return HelloStatus::kNotTls;
    if (joined.size() + length > kClientHelloMax + 4) return HelloStatus::kTooLong;
    const size_t got = std::min(length, left()), before = joined.size();
    joined.resize(before + got);
    take(joined.data() + before, got);
    if (joined.size() >= 1 && joined[0] != kClientHello) return HelloStatus::kNotTls;
    if (joined.size() >= 4) {
      const size_t want = size_t(joined[1]) << 16 | size_t(joined[2]) << 8 | joined[3];
      if (want > kClientHelloMax) return HelloStatus::kNotTls;
      if (joined.size() >= want + 4) return message(Bytes(joined).subspan(4, want), hello);
    }
    if (got < length) return HelloStatus::kNeedMore;
  }
}

}  // namespace sluice::tls
