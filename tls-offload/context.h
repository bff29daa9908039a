// ServerPolicy: how we answer TLS on one filter chain: certificates, trust, protocols. Made once by the compiler from configuration and
// secrets, immutable, shared by snapshots and handshake threads. OpenSSL stays behind it.
//
// make() is control-thread code: parses, allocates, and refuses with one line that names the thing and the remedy. What it refuses:
//   no certificate; PEM that does not parse; a key that is not the certificate's; an encrypted key; a certificate that is expired or not
//   yet valid at wall_us; client certificates asked for without a CA; a CA or CRL bundle with nothing in it; unknown suites, curves,
//   versions
// What it narrows silently, because it is always safer: TLS 1.0/1.1 become 1.2; of TLS 1.2 suites only ECDHE with an AEAD are kept (the
// record engine has no others).
//
// Choice of certificate (Envoy's rule): DNS SANs (else CN) equal to the SNI, else a wildcard of one label, else the first configured. RSA
// and ECDSA certificates of one name stand side by side and the client's algorithms choose. Client certificates: verified against
// trusted_ca_pem (any certificate in it is an anchor, also an intermediate) with purpose "client"; an optional certificate that is
// presented must verify. Then: no NUL in any SAN; no URI SAN among denied_uris; exactly one URI SAN, of scheme spiffe, where require_one_spiffe_uri; one SAN must satisfy
// one of san_matchers where there are any. Resumption is off (no tickets, no session cache): every connection proves its certificate.
#pragma once
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tls {

struct PeerInfo;  // terminator.h

enum class ClientCert : uint8_t { kNone, kOptional, kRequired };
enum class SanType : uint8_t { kUri, kDns, kEmail };
enum class TlsVersion : uint8_t { kAuto, k10, k11, k12, k13 };  // kAuto: 1.2 as minimum, 1.3 as maximum

struct CertificatePem {
  std::string cert_chain_pem;   // leaf first
  std::string private_key_pem;  // not encrypted
};

struct ServerPolicyOptions {
  std::vector<CertificatePem> certificates;
  std::string trusted_ca_pem, crl_pem;
  bool crl_leaf_only = false;            // the CRL speaks of leaves; else every certificate of a chain needs a CRL of its issuer
  std::vector<std::string> denied_uris;  // identities that are refused whatever vouches for them
  ClientCert client_cert = ClientCert::kNone;
  bool require_one_spiffe_uri = false;
  std::vector<std::function<bool(SanType, std::string_view)>> san_matchers;  // called on handshake threads: pure
  std::vector<std::string> alpn;                                             // our preference decides; no common one: none is answered
  TlsVersion min_version = TlsVersion::kAuto, max_version = TlsVersion::kAuto;
  std::vector<std::string> cipher_suites;  // of TLS 1.2, OpenSSL's names, "[A|B]" as in Envoy; empty: the default list
  std::vector<std::string> ecdh_curves;    // "X25519", "P-256", "P-384"...; empty: these three
  int64_t wall_us = 0;                     // 0: validity periods are not looked at by make()
};

class ServerPolicy {
 public:
  static std::expected<std::shared_ptr<const ServerPolicy>, std::string> make(const ServerPolicyOptions& options);
  ~ServerPolicy();
  ServerPolicy(const ServerPolicy&) = delete;
  ServerPolicy& operator=(const ServerPolicy&) = delete;

  ClientCert client_cert() const;
  // Whether a peer that another policy let in would be let in by the trusted certificates, the CRL and the denied identities of this one: a
  // connection ends when its own anchor went or it was revoked itself, not when others came or went. Any thread.
  bool still_trusts(const PeerInfo& peer) const;
  // Of our certificates and of the trusted CAs: the earliest end, Unix microseconds.
  int64_t certificates_expire_us() const;

  struct State;  // policy_state.h
  const State& state() const { return *s_; }

 private:
  ServerPolicy();
  std::unique_ptr<State> s_;
};

}  // namespace sluice::tls
