// The CA over gRPC, beside xDS on the same address (ServerOptions::more):
//   istio.v1.auth.IstioCertificateService/CreateCertificate   as unmodified Istio agents call it
//   envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets   the secret ROOTCA, pushed: trusted roots, the one that signs first; the
//       CRL of revoked serials (about leaves only); and, to a Node whose user agent is "sluice", the revoked identities
// Both ask who calls (client certificate, else bearer token). What is refused is logged, at most kRefusalsLoggedPerSecond.
// Thread: push() and the constructor on one; calls on gRPC's.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "ctrl/plane/ca_authority.h"

namespace grpc {
class ServerBuilder;
}

namespace sluice::plane {

constexpr double kRefusalsLoggedPerSecond = 10;
constexpr size_t kSecretStreamsMax = 10'000;

class CaService {
 public:
  using Log = std::function<void(const std::string&)>;
  CaService(CaAuthority& authority, Log log);
  ~CaService();  // after the server that it was given to
  CaService(const CaService&) = delete;
  void add_to(grpc::ServerBuilder& builder);
  void push();  // the authority's state to every stream that does not have it

 private:
  struct State;
  std::unique_ptr<State> s_;
};

// The secret ROOTCA of a state, a serialized envoy.extensions.transport_sockets.tls.v3.Secret.
std::string rootca_secret(const CaState& state, bool with_identities);

}  // namespace sluice::plane
