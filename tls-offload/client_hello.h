// ClientHelloPeek: reads a ClientHello without consuming it: is this TLS at all, which server name, which application protocols. Stands
// alone (SNI passthrough terminates nothing), keeps no bytes but the answer, and is bounded: kClientHelloMax bytes of handshake, whatever
// the record sizes. RFC 8446 4.1.2 and 5.1, RFC 6066 3, RFC 7301 3.1. GREASE and unknown extensions are passed over. Pure.
//
// As Envoy's TLS inspector has it, what does not parse as a ClientHello is "not TLS" and may still find a filter chain (with the name that
// was read before the fault; if that chain terminates TLS, the handshake says no). Only where the name itself is at fault nothing is
// believed: kMalformed.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/bytes.h"
#include "dataplane/base/limits.h"

namespace sluice::tls {

constexpr size_t kAlpnMax = 64;  // protocols looked at

enum class HelloStatus : uint8_t { kNeedMore, kNotTls, kComplete, kMalformed, kTooLong };

struct ClientHello {
  std::string server_name;  // lower-cased; empty: none
  std::vector<std::string> alpn;
};

// `spans`: the stream's bytes from its beginning, as far as they have come. Called again with more until the answer is not kNeedMore.
HelloStatus peek_client_hello(std::span<const Bytes> spans, ClientHello& hello);

}  // namespace sluice::tls
