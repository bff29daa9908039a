// What a certificate authority and its clients need of OpenSSL, over bytes: the authority's own certificate and key (a root made here, or an
// intermediate from elsewhere), certificates for CSRs, revocation lists; and a client's key, its CSR, and the check of what came back. No
// files, no clock, no policy about who may ask: ctrl/plane/ca_*.h has those. Randomness for serials is an argument (keys are drawn by OpenSSL).
//
// sign() never copies from a CSR: of it only the public key is used. What it says beyond that must be what the caller may have anyway, or the
// CSR is refused: an identity that is not the caller's, any other subject alternative name, a CA flag, key usages of a CA, an extension that
// is not known, a bad or old-fashioned self-signature, a key that is too weak (or so large that verifying it is an attack). The subject is
// ignored, as Istio's CA does. RFC 2986 (PKCS #10), 5280 (certificates and CRLs), SPIFFE X509-SVID.
// Thread: Issuer is immutable and may be shared; functions from any thread.
#pragma once
#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tls {

constexpr size_t kCsrBytesMax = 16 << 10, kCaPemBytesMax = 256 << 10;
constexpr size_t kSpiffeIdBytesMax = 2048;  // SPIFFE-ID 2.3
constexpr int kRsaBitsMin = 2048, kRsaBitsMax = 8192;
constexpr int64_t kClockSkewS = 120;  // a certificate begins so long before now, as Istio's do
constexpr size_t kRevokedMax = 100'000;

enum class Refusal : uint8_t {
  kTooLarge,      // more than kCsrBytesMax
  kMalformed,     // no PEM, not one CSR, trailing bytes, ASN.1 that does not parse
  kBadSignature,  // not signed by its own key, or with a digest older than SHA-256
  kWeakKey,       // RSA below 2048 bits, other curves than P-256 and P-384, other kinds of key
  kExtension,     // asks for a CA certificate, or for an extension that is not ours to give
  kNames,         // a SAN that is no SPIFFE identity, or more than one
  kIdentity,      // another identity than the caller's
  kAuthority,     // not the caller's fault: the authority's own certificate has ended, or OpenSSL failed
};
constexpr size_t kRefusals = 8;
std::string_view name_of(Refusal r);  // "weak_key"
struct CaError {
  Refusal refusal;
  std::string reason;
};

// "spiffe://TRUST-DOMAIN/PATH" as SPIFFE-ID 2 has it: lower-case domain, path segments of [a-zA-Z0-9._-], none of them "." or "..".
bool is_spiffe_id(std::string_view id);

using SerialBytes = std::array<uint8_t, 16>;  // random; 127 bits of it are used
enum class KeyKind : uint8_t { kP256, kRsa2048, kRsa3072 };

struct KeyAndCertificate {
  std::string key_pem, certificate_pem;  // PKCS #8, not encrypted
};
std::expected<KeyAndCertificate, std::string> make_root(const std::string& organization, KeyKind kind, int64_t ttl_s, int64_t wall_us,
                                                        const SerialBytes& serial);

struct AuthorityPem {
  std::string certificate, key;
  std::string chain;  // between the certificate and the root, may be empty; may begin with the certificate itself (Istio's cert-chain.pem)
  std::string root;   // one or more; empty: the certificate is its own root
};

class Issuer {
 public:
  // Refuses: what does not parse; a key of another certificate or too weak; a certificate that is no CA, may not sign, is expired; a chain
  // that does not lead to the root.
  static std::expected<std::shared_ptr<const Issuer>, std::string> make(const AuthorityPem& pem, int64_t wall_us);
  ~Issuer();
  Issuer(const Issuer&) = delete;
  Issuer& operator=(const Issuer&) = delete;

  struct Signed {
    std::vector<std::string> chain;  // PEM: leaf, intermediates; without the root
    std::string serial;              // lower-case hex
    int64_t not_before_us = 0, not_after_us = 0;
  };
  // REQUIRES: is_spiffe_id(identity), ttl_s > 0. The certificate never outlives the authority's.
  std::expected<Signed, CaError> sign(std::string_view csr_pem, const std::string& identity, int64_t ttl_s, int64_t wall_us,
                                      const SerialBytes& serial) const;
  // A list of these serials (hex), good as long as the authority itself: freshness is by push. Error: a serial that is no hex number.
  std::expected<std::string, std::string> revocation_list(const std::vector<std::string>& serials, int64_t number, int64_t wall_us) const;
  // Whether `crl_pem` is ours and lists exactly `serials`.
  bool is_list_of(std::string_view crl_pem, const std::vector<std::string>& serials) const;

  const std::string& root_pem() const { return root_pem_; }  // what a verifier must trust, one PEM block per root
  int64_t not_after_us() const { return not_after_us_; }

 private:
  struct State;
  Issuer();
  std::unique_ptr<State> s_;
  std::string root_pem_;
  int64_t not_after_us_ = 0;
};

// Lower-case hex without leading zeros, from what people paste (upper case, colons, 0x); "": no serial number.
std::string normal_serial(std::string_view text);

// The certificates of a PEM text, each as one clean block, doubles left out. Error: none in it, or one that does not parse.
std::expected<std::vector<std::string>, std::string> split_certificates(std::string_view pem);

// Of the first certificate of a PEM text.
struct CertificateFacts {
  std::string serial;  // as normal_serial
  std::vector<std::string> uri_sans;
  int64_t not_before_us = 0, not_after_us = 0;
};
std::expected<CertificateFacts, std::string> certificate_facts(std::string_view pem);

// ---- the client's side

struct KeyAndCsr {
  std::string key_pem, csr_pem;
};
// A fresh P-256 key and a CSR for `identity` with an empty subject and the identity as critical URI SAN, as Istio's agent sends it.
std::expected<KeyAndCsr, std::string> make_csr(const std::string& identity);

struct IssuedCertificate {
  std::string chain_pem, root_pem;
  std::string first_root_pem;  // of the bundle: the one that signs now
  std::string serial;
  int64_t not_before_us = 0, not_after_us = 0;
  bool operator==(const IssuedCertificate&) const = default;
};
// What CreateCertificate answered: leaf, intermediates, and last the trust bundle. Checked before it is used: the leaf has our key and
// exactly our identity, is valid now, and leads to the bundle.
std::expected<IssuedCertificate, std::string> check_issued(const std::vector<std::string>& chain, const std::string& key_pem,
                                                           const std::string& identity, int64_t wall_us);

}  // namespace sluice::tls
