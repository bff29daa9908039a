// Text forms are Envoy's: PEM with "\n +/=" percent-encoded, subject as RFC 2253, SHA-256 of the DER in lower-case hex, serial in
// lower-case hex; principal = first URI SAN, else first DNS SAN, else subject.
#include "tls-offload/identity.h"

#include <openssl/bn.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>

namespace sluice::tls {
namespace {

std::string drain(BIO* bio) {
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio, &p);
  return n > 0 ? std::string(p, size_t(n)) : std::string();
}

std::string escaped_pem(X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || PEM_write_bio_X509(bio.get(), certificate) != 1) return "";
  std::string out;
  for (char c : drain(bio.get())) {
    switch (c) {
      case '\n': out += "%0A"; break;
      case ' ': out += "%20"; break;
      case '+': out += "%2B"; break;
      case '/': out += "%2F"; break;
      case '=': out += "%3D"; break;
      default: out += c;
    }
  }
  return out;
}

std::string hex(Bytes b) {
  std::string out;
  for (uint8_t c : b) out += "0123456789abcdef"[c >> 4], out += "0123456789abcdef"[c & 15];
  return out;
}

std::string subject_text(X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) return "";
  return drain(bio.get());
}

}  // namespace

std::string serial_text(const ASN1_INTEGER* serial) {
  std::string out;
  BIGNUM* n = ASN1_INTEGER_to_BN(serial, nullptr);
  char* text = n == nullptr ? nullptr : BN_bn2hex(n);
  if (text != nullptr) out = text;
  OPENSSL_free(text);
  BN_free(n);
  for (char& c : out) c = c >= 'A' && c <= 'F' ? char(c + 32) : c;
  return out;
}

uint64_t anchor_of(const X509* certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (X509_digest(certificate, EVP_sha256(), digest, &n) != 1) return 1;
  uint64_t out = 0;
  for (int i = 0; i < 8; i++) out = out << 8 | digest[i];
  return out | 1;
}

std::expected<SubjectAltNames, std::string> subject_alt_names(X509* certificate) {
  SubjectAltNames out;
  int critical = 0;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, nullptr));
  if (names == nullptr) {
    if (critical == -1) return out;  // there is none
    return std::unexpected(critical == -2 ? "more than one subject alternative name extension" : "subject alternative names do not parse");
  }
  std::string error;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI && name->type != GEN_DNS && name->type != GEN_EMAIL) continue;
    const ASN1_IA5STRING* s = name->d.ia5;
    const std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)), size_t(ASN1_STRING_length(s)));
    if (text.find('\0') != std::string::npos) error = "a subject alternative name contains a NUL byte";
    (name->type == GEN_URI ? out.uri : name->type == GEN_DNS ? out.dns : out.email).push_back(text);
  }
  GENERAL_NAMES_free(names);
  if (!error.empty()) return std::unexpected(error);
  return out;
}

std::string common_name(X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(const_cast<X509_NAME*>(subject), NID_commonName, -1);
  if (at < 0) return "";
  const ASN1_STRING* s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
  std::string out;
  for (int i = 0; i < ASN1_STRING_length(s); i++) {
    const unsigned char c = ASN1_STRING_get0_data(s)[i];
    if (c <= 0x20 || c >= 0x7f) return "";
    out += c >= 'A' && c <= 'Z' ? char(c + 32) : char(c);
  }
  return out;
}

std::string refuse_peer(X509* leaf, const ServerPolicy::State& policy) {
  const auto names = subject_alt_names(leaf);
  if (!names) return names.error();
  for (const std::string& u : names->uri)
    if (policy.denied_uris.contains(u)) return "the identity " + u + " is revoked";
  if (policy.require_one_spiffe_uri) {
    // SPIFFE X509-SVID 2: exactly one URI SAN, and it is the SPIFFE id. SPIFFE-ID 2.1: a trust domain is not empty.
    if (names->uri.size() != 1)
      return "the certificate has " + std::to_string(names->uri.size()) + " URI SANs, exactly one SPIFFE id is demanded";
    constexpr std::string_view kScheme = "spiffe://";
    const std::string& id = names->uri[0];
    if (!id.starts_with(kScheme) || id.size() == kScheme.size() || id[kScheme.size()] == '/')
      return "the URI SAN of the certificate is not a SPIFFE id";
  }
  if (policy.san_matchers.empty()) return "";
  auto any = [&](SanType type, const std::vector<std::string>& list) {
    for (const std::string& san : list)
      for (const auto& match : policy.san_matchers)
        if (match(type, san)) return true;
    return false;
  };
  if (any(SanType::kUri, names->uri) || any(SanType::kDns, names->dns) || any(SanType::kEmail, names->email)) return "";
  return "SAN matcher: no subject alternative name of the certificate matches";
}

bool describe_peer(X509* leaf, STACK_OF(X509) * chain, PeerInfo& peer) {
  auto names = subject_alt_names(leaf);
  if (!names) return false;
  peer.certificate = true;
  peer.uri_sans = std::move(names->uri);
  peer.dns_sans = std::move(names->dns);
  peer.subject = subject_text(leaf);
  peer.principal = !peer.uri_sans.empty() ? peer.uri_sans[0] : !peer.dns_sans.empty() ? peer.dns_sans[0] : peer.subject;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (X509_digest(leaf, EVP_sha256(), digest, &n) != 1) return false;
  peer.sha256_hex = hex({digest, n});
  peer.serial = serial_text(X509_get0_serialNumber(leaf));
  peer.pem_escaped = escaped_pem(leaf);
  for (int i = 0; chain != nullptr && i < sk_X509_num(chain); i++) peer.chain_escaped += escaped_pem(sk_X509_value(chain, i));
  return !peer.pem_escaped.empty();
}

int64_t not_after_us(X509* certificate) {
  tm t{};
  return ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &t) == 1 ? int64_t(timegm(&t)) * 1'000'000 : 0;
}

}  // namespace sluice::tls
