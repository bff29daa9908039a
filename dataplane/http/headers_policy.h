// What a proxy must do to a head, with Envoy's rules as istiod configures them. Pure functions on the message model.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/rng.h"
#include "dataplane/http/message.h"

namespace sluice::http {

// What TLS knows of the peer, as text; views into the connection.
struct ClientCertificate {
  bool presented = false;  // and verified
  std::string_view sha256_hex, subject, pem_escaped, chain_escaped;
  const std::vector<std::string>* uris = nullptr;
  const std::vector<std::string>* dns = nullptr;
  std::string_view local_uri;  // the first URI SAN of our own certificate
};

struct ConnectionFacts {
  SocketAddress local, remote;
  bool tls = false;
  ClientCertificate certificate;
};

enum class ForwardClientCert : uint8_t { kSanitize, kForwardOnly, kAppendForward, kSanitizeSet, kAlwaysForwardOnly };

// The options of http_connection_manager that say what a request tells the origin about its client.
struct ForwardingOptions {
  bool use_remote_address = false;
  uint32_t xff_trusted_hops = 0;
  bool skip_xff_append = false, append_x_forwarded_port = false;
  bool generate_request_id = true, preserve_external_request_id = false;
  ForwardClientCert forward_client_cert = ForwardClientCert::kSanitize;
  bool cert_subject = false, cert_pem = false, cert_chain = false, cert_dns = false, cert_uri = false;  // set_current_client_cert_details
};

// What Envoy holds as one value: a request's repeated fields of those names become one, joined by "," (empty values leave no comma).
void join_repeated(FieldList& fields);

struct UpgradeRequest {
  bool websocket = false;  // Connection: upgrade and Upgrade: websocket
  bool other = false;      // any other protocol but h2c, which is ignored
};
// Reads and tidies Connection and Upgrade. What Connection names goes (RFC 9110 7.6.1; http2-settings only with h2c), with keep-alive,
// proxy-connection, transfer-encoding and te (but "trailers"), and for h2c upgrade and http2-settings. For an upgrade, upgrade and a
// connection that names upgrade (and keep-alive) stay.
// REQUIRES: join_repeated().
UpgradeRequest strip_hop_by_hop_request(FieldList& fields);
void strip_hop_by_hop_response(FieldList& fields);

// x-forwarded-for, x-forwarded-proto, x-envoy-external-address, x-envoy-* of a stranger, referer, x-request-id, x-forwarded-client-cert.
// Returns the trusted client's address.
IpAddress mutate_request(RequestHead& head, const ForwardingOptions& options, const ConnectionFacts& facts, Rng& rng);

std::string uuid(Rng& rng);  // version 4 (RFC 9562)

}  // namespace sluice::http
