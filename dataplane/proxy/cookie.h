// What a stream's cookie says: whose it is. Kind and handle in 64 bits: generation (32) | kind (4) | index (28).
#pragma once
#include <cstdint>

#include "dataplane/base/handle.h"

namespace sluice::proxy {

// kTls: the stream below a TLS session; the TLS layer sets and reads it. kPair is never a stream's: it tells the user of a pooled
// connection.
enum class CookieKind : uint8_t { kNone, kDownstream, kUpstream, kTls, kPair };

template <class Tag>
uint64_t make_cookie(CookieKind kind, Handle<Tag> h) {
  return uint64_t(h.generation) << 32 | uint64_t(kind) << 28 | h.index;
}
inline CookieKind kind_of(uint64_t cookie) { return CookieKind(cookie >> 28 & 0xf); }
template <class Tag>
Handle<Tag> handle_of(uint64_t cookie) {
  return {uint32_t(cookie & 0x0fff'ffff), uint32_t(cookie >> 32)};
}

}  // namespace sluice::proxy
