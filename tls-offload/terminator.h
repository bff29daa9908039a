// What proxy knows of TLS: a StreamLayer that is put on an accepted stream and, once it is open, says who the peer is. The worker joins it
// to the handshake service; a stream that fails ends with kClosed and StreamEnd::kTlsFailed or kTruncated.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/now.h"
#include "dataplane/packet/stream.h"

namespace sluice::tls {

class ServerPolicy;  // context.h

// Plain text, copied from the certificates at the end of the handshake.
struct PeerInfo {
  std::string sni, alpn, version, cipher;  // "TLSv1.3", "TLS_AES_128_GCM_SHA256"
  bool certificate = false;                // presented and verified
  std::string principal;                   // URI SAN, else DNS SAN, else subject
  std::vector<std::string> uri_sans, dns_sans, email_sans;
  std::string subject;  // RFC 2253
  std::string sha256_hex, serial;
  std::string pem_escaped, chain_escaped;  // URL-encoded PEM, as in x-forwarded-client-cert
  std::string local_uri_san;               // of our own certificate
  uint64_t trust_anchor = 0;               // which trusted certificate vouched for it (ServerPolicy::still_trusts)
};

class Terminator : public StreamLayer {
 public:
  // Takes over `lower` (its bytes, its events and its end); bytes that were peeked at are still unread in it. Invalid when there is no
  // room.
  virtual StreamId accept(StreamId lower, std::shared_ptr<const ServerPolicy> policy, const Now& now) = 0;
  virtual const PeerInfo* peer(StreamId) const = 0;    // null before kOpened and for a stale id
  virtual std::string error_text(StreamId) const = 0;  // why it failed, as OpenSSL and Envoy say it
};

}  // namespace sluice::tls
