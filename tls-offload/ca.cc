// A CSR is read in the order of what it costs to refuse it: size, PEM, ASN.1, kind of key, self-signature, attributes, extensions, names.
// Extensions that may be asked for: subjectAltName, basicConstraints, keyUsage, extendedKeyUsage, subjectKeyIdentifier; each at most once.
// Issued: empty subject, so the SAN is critical (RFC 5280 4.2.1.6), key usages of a workload on both ends of mutual TLS.
#include "tls-offload/ca.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <set>

#include "dataplane/base/check.h"
#include "tls-offload/policy_state.h"

namespace sluice::tls {
namespace {

using RequestPtr = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using CrlPtr = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;
using NumberPtr = std::unique_ptr<BIGNUM, Freer<BN_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Freer<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;
struct ExtensionsFreer {
  void operator()(STACK_OF(X509_EXTENSION) * s) const { sk_X509_EXTENSION_pop_free(s, X509_EXTENSION_free); }
};
using ExtensionsPtr = std::unique_ptr<STACK_OF(X509_EXTENSION), ExtensionsFreer>;

using Text = std::expected<std::string, std::string>;
std::unexpected<std::string> no(std::string why) { return std::unexpected(std::move(why)); }
std::unexpected<CaError> refuse(Refusal r, std::string reason) { return std::unexpected(CaError{r, std::move(reason)}); }

std::string openssl_said() {
  const unsigned long e = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = e == 0 ? nullptr : ERR_reason_error_string(e);
  return reason == nullptr ? "OpenSSL gives no reason" : reason;
}

int no_passphrase(char*, int, int, void*) { return -1; }

BioPtr reader(std::string_view s) { return BioPtr(BIO_new_mem_buf(s.data(), int(s.size()))); }

std::string drain(BIO* bio) {
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio, &p);
  return n > 0 ? std::string(p, size_t(n)) : std::string();
}

template <auto Write, class T>
std::string to_pem(T* what) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  SLUICE_ASSERT(bio != nullptr);
  return Write(bio.get(), what) == 1 ? drain(bio.get()) : "";
}
std::string pem_of(const X509* x) { return to_pem<PEM_write_bio_X509>(const_cast<X509*>(x)); }
std::string pem_of_key(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  SLUICE_ASSERT(bio != nullptr);
  return PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1 ? drain(bio.get()) : "";
}

int64_t time_us(const ASN1_TIME* t) {
  tm parts{};
  return ASN1_TIME_to_tm(t, &parts) == 1 ? int64_t(timegm(&parts)) * 1'000'000 : 0;
}
bool set_time(ASN1_TIME* t, int64_t seconds) { return ASN1_TIME_set(t, time_t(seconds)) != nullptr; }

std::string serial_of(const ASN1_INTEGER* n) {
  const NumberPtr number(ASN1_INTEGER_to_BN(n, nullptr));
  char* text = number == nullptr ? nullptr : BN_bn2hex(number.get());
  const std::string out = text == nullptr ? "" : normal_serial(text);
  OPENSSL_free(text);
  return out;
}
// RFC 5280 4.1.2.2: positive, at most 20 bytes, never 0.
bool set_serial(X509* x, SerialBytes bytes) {
  bytes[0] = uint8_t((bytes[0] & 0x7f) | 0x40);
  const NumberPtr n(BN_bin2bn(bytes.data(), int(bytes.size()), nullptr));
  return n != nullptr && BN_to_ASN1_INTEGER(n.get(), X509_get_serialNumber(x)) != nullptr;
}

std::expected<std::vector<X509Ptr>, std::string> read_certificates(std::string_view pem) {
  if (pem.size() > kCaPemBytesMax) return no("is larger than 256 KiB");
  ERR_clear_error();
  const BioPtr bio = reader(pem);
  std::vector<X509Ptr> out;
  while (X509* x = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)) out.emplace_back(x);
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!ended) return no("holds a certificate that does not parse");
  if (out.empty()) return no("holds no certificate");
  return out;
}

// "": strong enough and of a kind that we sign and sign with.
std::string weakness(EVP_PKEY* key) {
  if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
    const int bits = EVP_PKEY_get_bits(key);
    if (bits < kRsaBitsMin) return "an RSA key of " + std::to_string(bits) + " bits is too weak; at least 2048, or P-256";
    if (bits > kRsaBitsMax) return "an RSA key of " + std::to_string(bits) + " bits is too large; at most 8192";
    BIGNUM* raw = nullptr;
    const bool has = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &raw) == 1;
    const NumberPtr e(raw);
    if (!has || !BN_is_odd(e.get()) || BN_num_bits(e.get()) < 17 || BN_num_bits(e.get()) > 64)
      return "the RSA key's public exponent must be odd, at least 65537 and at most 64 bits";
    return "";
  }
  if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
    char group[64] = "";
    size_t n = 0;
    int is_explicit = 0;
    (void)EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit);
    if (is_explicit != 0 || EVP_PKEY_get_group_name(key, group, sizeof group, &n) != 1) return "the EC key does not name its curve";
    const std::string_view name(group);
    if (name != SN_X9_62_prime256v1 && name != SN_secp384r1) return "curve " + std::string(name) + " is not accepted; P-256 and P-384 are";
    return "";
  }
  return "this kind of key is not accepted; P-256, P-384, or RSA of 2048 bits and more are";
}

const EVP_MD* digest_for(EVP_PKEY* key) {
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_bits(key) > 256 ? EVP_sha384() : EVP_sha256();
}

// `value` is a constant of ours: configuration syntax never carries a caller's bytes.
template <class Add>
bool add_extension(int nid, const char* value, X509* issuer, X509* subject, Add add) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, subject, nullptr, nullptr, 0);
  X509_EXTENSION* e = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  const bool good = e != nullptr && add(e) == 1;
  X509_EXTENSION_free(e);
  return good;
}
bool add_extension(X509* to, X509* issuer, int nid, const char* value) {
  return add_extension(nid, value, issuer, to, [to](X509_EXTENSION* e) { return X509_add_ext(to, e, -1); });
}

NamesPtr names_with(const std::string& identity) {
  NamesPtr names(GENERAL_NAMES_new());
  GENERAL_NAME* g = GENERAL_NAME_new();
  ASN1_IA5STRING* s = ASN1_IA5STRING_new();
  SLUICE_ASSERT(names != nullptr && g != nullptr && s != nullptr && ASN1_STRING_set(s, identity.data(), int(identity.size())) == 1);
  GENERAL_NAME_set0_value(g, GEN_URI, s);
  sk_GENERAL_NAME_push(names.get(), g);
  return names;
}

std::expected<RequestPtr, CaError> parse_csr(std::string_view pem) {
  if (pem.size() > kCsrBytesMax)
    return refuse(Refusal::kTooLarge, "the CSR has " + std::to_string(pem.size()) + " bytes; at most " + std::to_string(kCsrBytesMax));
  ERR_clear_error();
  const BioPtr bio = reader(pem);
  char *name = nullptr, *header = nullptr;
  unsigned char* data = nullptr;
  long length = 0;
  const bool got = PEM_read_bio(bio.get(), &name, &header, &data, &length) == 1;
  const std::string kind = got ? name : "", headers = got ? header : "";
  const std::string der = got ? std::string(reinterpret_cast<char*>(data), size_t(length)) : "";
  OPENSSL_free(name), OPENSSL_free(header), OPENSSL_free(data);
  ERR_clear_error();
  if (!got) return refuse(Refusal::kMalformed, "the CSR is no PEM; a block BEGIN CERTIFICATE REQUEST is expected");
  if (kind != PEM_STRING_X509_REQ && kind != PEM_STRING_X509_REQ_OLD)
    return refuse(Refusal::kMalformed, "the PEM block is no CERTIFICATE REQUEST");
  if (!headers.empty()) return refuse(Refusal::kMalformed, "the PEM block has headers; a CSR is not encrypted");
  char* rest = nullptr;
  const long left = BIO_get_mem_data(bio.get(), &rest);
  for (long i = 0; i < left; i++)
    if (std::string_view(" \t\r\n").find(rest[i]) == std::string_view::npos)
      return refuse(Refusal::kMalformed, "there is something behind the CSR; send one PEM block");
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const unsigned char* const end = at + der.size();
  RequestPtr r(d2i_X509_REQ(nullptr, &at, long(der.size())));
  ERR_clear_error();
  if (r == nullptr || at != end) return refuse(Refusal::kMalformed, "the CSR does not parse as PKCS #10");
  if (X509_REQ_get_version(r.get()) != 0) return refuse(Refusal::kMalformed, "the CSR's version is not 1");
  return r;
}

// The CSR's one list of extensions; empty when it has none.
std::expected<ExtensionsPtr, CaError> extensions_of(X509_REQ* r) {
  int lists = 0;
  for (int i = 0; i < X509_REQ_get_attr_count(r); i++) {
    const int nid = OBJ_obj2nid(X509_ATTRIBUTE_get0_object(X509_REQ_get_attr(r, i)));
    if (nid == NID_ms_ext_req) return refuse(Refusal::kExtension, "extensions in Microsoft's attribute are not read");
    if (nid == NID_ext_req && (++lists > 1 || X509_ATTRIBUTE_count(X509_REQ_get_attr(r, i)) != 1))
      return refuse(Refusal::kMalformed, "the CSR has more than one list of extensions");
  }
  if (lists == 0) return ExtensionsPtr(sk_X509_EXTENSION_new_null());
  ExtensionsPtr e(X509_REQ_get_extensions(r));
  ERR_clear_error();
  if (e == nullptr) return refuse(Refusal::kMalformed, "the CSR's extensions do not parse");
  return e;
}

std::expected<void, CaError> check_names(GENERAL_NAMES* names, const std::string& identity) {
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME* n = sk_GENERAL_NAME_value(names, i);
    if (n->type != GEN_URI)
      return refuse(Refusal::kNames, "the CSR asks for a subject alternative name that is no URI; only the SPIFFE identity is given");
    const std::string uri(reinterpret_cast<const char*>(ASN1_STRING_get0_data(n->d.ia5)), size_t(ASN1_STRING_length(n->d.ia5)));
    if (!is_spiffe_id(uri)) return refuse(Refusal::kNames, "the CSR asks for a URI that is no SPIFFE identity");
    if (uri != identity) return refuse(Refusal::kIdentity, "the CSR asks for " + uri + ", its caller is " + identity);
    if (i > 0) return refuse(Refusal::kNames, "the CSR names its identity twice");
  }
  return {};
}

std::expected<void, CaError> check_extension(X509_EXTENSION* e, const std::string& identity) {
  const int nid = OBJ_obj2nid(X509_EXTENSION_get_object(e));
  const auto parsed = [&]<class T>(T*) { return static_cast<T*>(X509V3_EXT_d2i(e)); };
  std::expected<void, CaError> ok;
  const auto malformed = [&](const char* what) { ok = refuse(Refusal::kMalformed, std::string(what) + " does not parse"); };
  switch (nid) {
    case NID_subject_alt_name: {
      const NamesPtr names(parsed(static_cast<GENERAL_NAMES*>(nullptr)));
      if (names == nullptr) malformed("subjectAltName");
      else ok = check_names(names.get(), identity);
      break;
    }
    case NID_basic_constraints: {
      BASIC_CONSTRAINTS* b = parsed(static_cast<BASIC_CONSTRAINTS*>(nullptr));
      if (b == nullptr) malformed("basicConstraints");
      else if (b->ca != 0 || b->pathlen != nullptr) ok = refuse(Refusal::kExtension, "the CSR asks for a CA certificate");
      BASIC_CONSTRAINTS_free(b);
      break;
    }
    case NID_key_usage: {
      ASN1_BIT_STRING* bits = parsed(static_cast<ASN1_BIT_STRING*>(nullptr));
      if (bits == nullptr) malformed("keyUsage");
      else
        for (int bit = 0; bit < 8 * ASN1_STRING_length(bits); bit++)  // digitalSignature, keyEncipherment, keyAgreement
          if (bit != 0 && bit != 2 && bit != 4 && ASN1_BIT_STRING_get_bit(bits, bit) != 0)
            ok = refuse(Refusal::kExtension, "the CSR asks for a key usage that a workload does not get (bit " + std::to_string(bit) + ")");
      ASN1_BIT_STRING_free(bits);
      break;
    }
    case NID_ext_key_usage: {
      EXTENDED_KEY_USAGE* uses = parsed(static_cast<EXTENDED_KEY_USAGE*>(nullptr));
      if (uses == nullptr) malformed("extendedKeyUsage");
      for (int i = 0; uses != nullptr && i < sk_ASN1_OBJECT_num(uses); i++) {
        const int use = OBJ_obj2nid(sk_ASN1_OBJECT_value(uses, i));
        if (use != NID_server_auth && use != NID_client_auth)
          ok = refuse(Refusal::kExtension, "the CSR asks for an extended key usage other than serverAuth and clientAuth");
      }
      EXTENDED_KEY_USAGE_free(uses);
      break;
    }
    case NID_subject_key_identifier: break;  // ours is computed
    default: {
      char text[80] = "?";
      OBJ_obj2txt(text, sizeof text, X509_EXTENSION_get_object(e), 1);
      ok = refuse(Refusal::kExtension, std::string("the CSR asks for extension ") + text + ", which is not given");
    }
  }
  ERR_clear_error();
  return ok;
}

// The CSR's key, when nothing is wrong with the CSR. Owned by it.
std::expected<EVP_PKEY*, CaError> check_csr(X509_REQ* r, const std::string& identity) {
  EVP_PKEY* key = X509_REQ_get0_pubkey(r);
  if (key == nullptr) {
    ERR_clear_error();
    return refuse(Refusal::kWeakKey, "the CSR's key does not parse, or is of a kind that is not known");
  }
  if (std::string weak = weakness(key); !weak.empty()) return refuse(Refusal::kWeakKey, std::move(weak));
  int digest = NID_undef, unused = NID_undef;
  (void)OBJ_find_sigid_algs(X509_REQ_get_signature_nid(r), &digest, &unused);
  if (digest != NID_sha256 && digest != NID_sha384 && digest != NID_sha512)
    return refuse(Refusal::kBadSignature, "the CSR is not signed with SHA-256, SHA-384 or SHA-512");
  const bool signed_by_itself = X509_REQ_verify(r, key) == 1;
  ERR_clear_error();
  if (!signed_by_itself) return refuse(Refusal::kBadSignature, "the CSR is not signed by its own key");
  auto extensions = extensions_of(r);
  if (!extensions) return std::unexpected(extensions.error());
  std::set<std::string> seen;
  for (int i = 0; i < sk_X509_EXTENSION_num(extensions->get()); i++) {
    X509_EXTENSION* e = sk_X509_EXTENSION_value(extensions->get(), i);
    char oid[80] = "";
    OBJ_obj2txt(oid, sizeof oid, X509_EXTENSION_get_object(e), 1);
    if (!seen.insert(oid).second) return refuse(Refusal::kMalformed, std::string("the CSR has extension ") + oid + " twice");
    if (auto ok = check_extension(e, identity); !ok) return std::unexpected(ok.error());
  }
  return key;
}

// "": `leaf` leads to one of `roots` over `between`.
std::string chain_problem(X509* leaf, const std::vector<X509Ptr>& between, const std::vector<X509Ptr>& roots, int64_t wall_us) {
  const StorePtr store(X509_STORE_new());
  const StoreContextPtr context(X509_STORE_CTX_new());
  STACK_OF(X509)* untrusted = sk_X509_new_null();
  SLUICE_ASSERT(store != nullptr && context != nullptr && untrusted != nullptr);
  for (const X509Ptr& r : roots) X509_STORE_add_cert(store.get(), r.get());
  for (const X509Ptr& b : between) sk_X509_push(untrusted, b.get());
  X509_STORE_CTX_init(context.get(), store.get(), leaf, untrusted);
  X509_VERIFY_PARAM* p = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(p, time_t(wall_us / 1'000'000));
  X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN);
  const bool good = X509_verify_cert(context.get()) == 1;
  const std::string why = good ? "" : X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
  sk_X509_free(untrusted);
  ERR_clear_error();
  return why;
}

KeyPtr make_key(KeyKind kind) {
  switch (kind) {
    case KeyKind::kRsa2048: return KeyPtr(EVP_RSA_gen(2048));
    case KeyKind::kRsa3072: return KeyPtr(EVP_RSA_gen(3072));
    default: return KeyPtr(EVP_EC_gen("P-256"));
  }
}

}  // namespace

std::string_view name_of(Refusal r) {
  constexpr std::string_view kNames[kRefusals] = {"too_large", "malformed", "bad_signature", "weak_key",
                                                  "extension", "names",     "identity",      "authority"};
  return kNames[size_t(r)];
}

bool is_spiffe_id(std::string_view id) {
  constexpr std::string_view kScheme = "spiffe://";
  if (id.size() > kSpiffeIdBytesMax || !id.starts_with(kScheme)) return false;
  id.remove_prefix(kScheme.size());
  const size_t slash = id.find('/');
  const std::string_view domain = id.substr(0, slash);
  if (slash == id.npos || domain.empty() || domain.size() > 255) return false;
  const auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'; };
  if (!std::ranges::all_of(domain, word)) return false;
  for (size_t at = slash + 1; at <= id.size();) {
    const size_t end = std::min(id.find('/', at), id.size());
    const std::string_view segment = id.substr(at, end - at);
    if (segment.empty() || segment == "." || segment == "..") return false;
    if (!std::ranges::all_of(segment, [&](char c) { return word(c) || (c >= 'A' && c <= 'Z'); })) return false;
    at = end + 1;
  }
  return true;
}

std::string normal_serial(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  std::string out;
  for (char c : text) {
    if (c == ':') continue;
    if (c >= 'A' && c <= 'F') c = char(c + 32);
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return "";
    if (out.empty() && c == '0') continue;
    out += c;
  }
  return out.size() > 40 ? "" : out;  // RFC 5280 4.1.2.2: at most 20 bytes
}

std::expected<std::vector<std::string>, std::string> split_certificates(std::string_view pem) {
  const auto list = read_certificates(pem);
  if (!list) return no(list.error());
  std::vector<std::string> out;
  for (const X509Ptr& x : *list)
    if (std::string text = pem_of(x.get()); std::ranges::find(out, text) == out.end()) out.push_back(std::move(text));
  return out;
}

std::expected<CertificateFacts, std::string> certificate_facts(std::string_view pem) {
  const auto list = read_certificates(pem);
  if (!list) return no(list.error());
  X509* x = list->front().get();
  CertificateFacts f{.serial = serial_of(X509_get0_serialNumber(x)),
                     .not_before_us = time_us(X509_get0_notBefore(x)),
                     .not_after_us = time_us(X509_get0_notAfter(x))};
  const NamesPtr names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); i++)
    if (const GENERAL_NAME* n = sk_GENERAL_NAME_value(names.get(), i); n->type == GEN_URI)
      f.uri_sans.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(n->d.ia5)), size_t(ASN1_STRING_length(n->d.ia5)));
  ERR_clear_error();
  return f;
}

std::expected<KeyAndCertificate, std::string> make_root(const std::string& organization, KeyKind kind, int64_t ttl_s, int64_t wall_us,
                                                        const SerialBytes& serial) {
  const KeyPtr key = make_key(kind);
  const X509Ptr x(X509_new());
  if (key == nullptr || x == nullptr) return no(openssl_said());
  const int64_t now_s = wall_us / 1'000'000;
  X509_NAME* name = X509_get_subject_name(x.get());
  const bool good =
      X509_set_version(x.get(), 2) == 1 && set_serial(x.get(), serial) && set_time(X509_getm_notBefore(x.get()), now_s - kClockSkewS) &&
      set_time(X509_getm_notAfter(x.get()), now_s + ttl_s) && X509_set_pubkey(x.get(), key.get()) == 1 &&
      X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(organization.data()),
                                 int(organization.size()), -1, 0) == 1 &&
      X509_set_issuer_name(x.get(), name) == 1 && add_extension(x.get(), x.get(), NID_basic_constraints, "critical,CA:TRUE") &&
      add_extension(x.get(), x.get(), NID_key_usage, "critical,keyCertSign,cRLSign") &&
      add_extension(x.get(), x.get(), NID_subject_key_identifier, "hash") && X509_sign(x.get(), key.get(), digest_for(key.get())) > 0;
  if (!good) return no("the root cannot be made: " + openssl_said());
  return KeyAndCertificate{pem_of_key(key.get()), pem_of(x.get())};
}

// ---- Issuer

struct Issuer::State {
  X509Ptr certificate;
  KeyPtr key;
  std::vector<std::string> between;  // what a leaf's chain needs besides: the certificate itself and the intermediates above it
  std::string authority_key;         // "keyid" where the certificate has a subject key identifier
};

Issuer::Issuer() : s_(std::make_unique<State>()) {}
Issuer::~Issuer() = default;

std::expected<std::shared_ptr<const Issuer>, std::string> Issuer::make(const AuthorityPem& pem, int64_t wall_us) {
  auto own = read_certificates(pem.certificate);
  if (!own) return no("the CA's certificate " + own.error());
  if (own->size() != 1) return no("the CA's certificate must be one; give what stands above it as its chain");
  std::shared_ptr<Issuer> issuer(new Issuer);
  State& s = *issuer->s_;
  s.certificate = std::move(own->front());
  X509* x = s.certificate.get();
  s.key.reset(PEM_read_bio_PrivateKey(reader(pem.key).get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (s.key == nullptr) return no("the CA's key is no PEM, or is encrypted");
  if (X509_check_private_key(x, s.key.get()) != 1) {
    ERR_clear_error();
    return no("the CA's key is not its certificate's");
  }
  if (const std::string weak = weakness(s.key.get()); !weak.empty()) return no("the CA's key: " + weak);
  if (X509_check_ca(x) != 1) return no("the CA's certificate is no CA certificate (basicConstraints CA:TRUE, keyUsage keyCertSign)");
  issuer->not_after_us_ = time_us(X509_get0_notAfter(x));
  if (issuer->not_after_us_ <= wall_us) return no("the CA's certificate has expired");
  if (time_us(X509_get0_notBefore(x)) > wall_us) return no("the CA's certificate is not valid yet; check the clock");
  const bool is_root = X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0 && X509_self_signed(x, 1) == 1;
  ERR_clear_error();
  std::vector<X509Ptr> between, roots;
  if (!pem.chain.empty()) {
    auto list = read_certificates(pem.chain);
    if (!list) return no("the CA's chain " + list.error());
    between = std::move(*list);
  }
  if (pem.root.empty() && !is_root) return no("the CA's certificate is an intermediate; give the root's certificate with it");
  auto list = read_certificates(pem.root.empty() ? std::string_view(pem.certificate) : std::string_view(pem.root));
  if (!list) return no("the CA's root " + list.error());
  roots = std::move(*list);
  if (const std::string why = chain_problem(x, between, roots, wall_us); !why.empty())
    return no("the CA's certificate does not lead to its root: " + why);
  for (const X509Ptr& r : roots) issuer->root_pem_ += pem_of(r.get());
  const auto is_a_root = [&](X509* c) { return std::ranges::any_of(roots, [&](const X509Ptr& r) { return X509_cmp(r.get(), c) == 0; }); };
  if (!is_a_root(x)) s.between.push_back(pem_of(x));
  for (const X509Ptr& b : between)
    if (X509_cmp(b.get(), x) != 0 && !is_a_root(b.get())) s.between.push_back(pem_of(b.get()));
  if (X509_get0_subject_key_id(x) != nullptr) s.authority_key = "keyid";
  return issuer;
}

std::expected<Issuer::Signed, CaError> Issuer::sign(std::string_view csr_pem, const std::string& identity, int64_t ttl_s, int64_t wall_us,
                                                    const SerialBytes& serial) const {
  SLUICE_ASSERT(is_spiffe_id(identity) && ttl_s > 0);
  const auto request = parse_csr(csr_pem);
  if (!request) return std::unexpected(request.error());
  const auto key = check_csr(request->get(), identity);
  if (!key) return std::unexpected(key.error());
  if (not_after_us_ <= wall_us) return refuse(Refusal::kAuthority, "the CA's own certificate has expired");
  X509* issuer = s_->certificate.get();
  const int64_t from_s = std::max(wall_us / 1'000'000 - kClockSkewS, time_us(X509_get0_notBefore(issuer)) / 1'000'000);
  const int64_t to_s = std::min(wall_us / 1'000'000 + std::min<int64_t>(ttl_s, 1'000'000'000), not_after_us_ / 1'000'000);
  const X509Ptr leaf(X509_new());
  X509* x = leaf.get();
  const NamesPtr names = names_with(identity);
  const bool good = x != nullptr && X509_set_version(x, 2) == 1 && set_serial(x, serial) && set_time(X509_getm_notBefore(x), from_s) &&
                    set_time(X509_getm_notAfter(x), to_s) && X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1 &&
                    X509_set_pubkey(x, *key) == 1 && add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                    add_extension(x, issuer, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
                    add_extension(x, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
                    add_extension(x, issuer, NID_subject_key_identifier, "hash") &&
                    (s_->authority_key.empty() || add_extension(x, issuer, NID_authority_key_identifier, "keyid")) &&
                    X509_add1_ext_i2d(x, NID_subject_alt_name, names.get(), 1, 0) == 1 &&
                    X509_sign(x, s_->key.get(), digest_for(s_->key.get())) > 0;
  if (!good) return refuse(Refusal::kAuthority, "OpenSSL: " + openssl_said());
  Signed out{.chain = {pem_of(x)},
             .serial = serial_of(X509_get0_serialNumber(x)),
             .not_before_us = from_s * 1'000'000,
             .not_after_us = to_s * 1'000'000};
  out.chain.insert(out.chain.end(), s_->between.begin(), s_->between.end());
  return out;
}

std::expected<std::string, std::string> Issuer::revocation_list(const std::vector<std::string>& serials, int64_t number,
                                                                int64_t wall_us) const {
  if (serials.size() > kRevokedMax) return no("more than " + std::to_string(kRevokedMax) + " revoked serials");
  const CrlPtr crl(X509_CRL_new());
  ASN1_TIME* at = ASN1_TIME_new();
  SLUICE_ASSERT(crl != nullptr && at != nullptr);
  const int64_t now_s = wall_us / 1'000'000 - kClockSkewS;
  bool good = X509_CRL_set_version(crl.get(), 1) == 1 &&
              X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(s_->certificate.get())) == 1 && set_time(at, now_s) &&
              X509_CRL_set1_lastUpdate(crl.get(), at) == 1 && set_time(at, not_after_us_ / 1'000'000) &&
              X509_CRL_set1_nextUpdate(crl.get(), at) == 1 && set_time(at, now_s);
  std::string bad;
  for (const std::string& s : serials) {
    BIGNUM* raw = nullptr;
    const std::string hex = normal_serial(s);
    if (hex.empty() || BN_hex2bn(&raw, hex.c_str()) == 0) {
      bad = "'" + s + "' is no serial number in hexadecimal";
      break;
    }
    const NumberPtr n(raw);
    X509_REVOKED* r = X509_REVOKED_new();
    ASN1_INTEGER* serial = BN_to_ASN1_INTEGER(n.get(), nullptr);
    good = good && r != nullptr && serial != nullptr && X509_REVOKED_set_serialNumber(r, serial) == 1 &&
           X509_REVOKED_set_revocationDate(r, at) == 1 && X509_CRL_add0_revoked(crl.get(), r) == 1;
    ASN1_INTEGER_free(serial);
  }
  ASN1_TIME_free(at);
  if (!bad.empty()) return no(bad);
  ASN1_INTEGER* count = ASN1_INTEGER_new();
  good = good && ASN1_INTEGER_set_int64(count, number) == 1 && X509_CRL_add1_ext_i2d(crl.get(), NID_crl_number, count, 0, 0) == 1;
  ASN1_INTEGER_free(count);
  good = good && (s_->authority_key.empty() ||
                  add_extension(NID_authority_key_identifier, "keyid", s_->certificate.get(), nullptr,
                                [&](X509_EXTENSION* e) { return X509_CRL_add_ext(crl.get(), e, -1); }));
  good = good && X509_CRL_sort(crl.get()) == 1 && X509_CRL_sign(crl.get(), s_->key.get(), digest_for(s_->key.get())) > 0;
  if (!good) return no("the revocation list cannot be made: " + openssl_said());
  return to_pem<PEM_write_bio_X509_CRL>(crl.get());
}

bool Issuer::is_list_of(std::string_view crl_pem, const std::vector<std::string>& serials) const {
  const CrlPtr crl(PEM_read_bio_X509_CRL(reader(crl_pem).get(), nullptr, no_passphrase, nullptr));
  const bool ours = crl != nullptr && X509_CRL_verify(crl.get(), s_->key.get()) == 1;
  ERR_clear_error();
  if (!ours) return false;
  std::set<std::string> listed, wanted;
  STACK_OF(X509_REVOKED)* revoked = X509_CRL_get_REVOKED(crl.get());
  for (int i = 0; i < sk_X509_REVOKED_num(revoked); i++)
    listed.insert(serial_of(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i))));
  for (const std::string& s : serials) wanted.insert(normal_serial(s));
  return listed == wanted;
}

// ---- the client's side

std::expected<KeyAndCsr, std::string> make_csr(const std::string& identity) {
  SLUICE_ASSERT(is_spiffe_id(identity));
  const KeyPtr key = make_key(KeyKind::kP256);
  const RequestPtr r(X509_REQ_new());
  if (key == nullptr || r == nullptr) return no(openssl_said());
  const NamesPtr names = names_with(identity);
  const ExtensionsPtr extensions(sk_X509_EXTENSION_new_null());
  X509_EXTENSION* san = X509V3_EXT_i2d(NID_subject_alt_name, 1, names.get());
  SLUICE_ASSERT(extensions != nullptr && san != nullptr);
  sk_X509_EXTENSION_push(extensions.get(), san);
  const bool good = X509_REQ_set_version(r.get(), 0) == 1 && X509_REQ_set_pubkey(r.get(), key.get()) == 1 &&
                    X509_REQ_add_extensions(r.get(), extensions.get()) == 1 && X509_REQ_sign(r.get(), key.get(), EVP_sha256()) > 0;
  if (!good) return no("the CSR cannot be made: " + openssl_said());
  return KeyAndCsr{pem_of_key(key.get()), to_pem<PEM_write_bio_X509_REQ>(r.get())};
}

std::expected<IssuedCertificate, std::string> check_issued(const std::vector<std::string>& chain, const std::string& key_pem,
                                                           const std::string& identity, int64_t wall_us) {
  if (chain.size() < 2) return no("the CA's answer has " + std::to_string(chain.size()) + " certificates; a leaf and a root are needed");
  std::vector<X509Ptr> path;
  IssuedCertificate out;
  for (size_t i = 0; i + 1 < chain.size(); i++) {
    auto list = read_certificates(chain[i]);
    if (!list) return no("certificate " + std::to_string(i + 1) + " of the CA's answer " + list.error());
    for (X509Ptr& x : *list) out.chain_pem += pem_of(x.get()), path.push_back(std::move(x));
  }
  auto roots = read_certificates(chain.back());
  if (!roots) return no("the root of the CA's answer " + roots.error());
  for (const X509Ptr& r : *roots) out.root_pem += pem_of(r.get());
  out.first_root_pem = pem_of(roots->front().get());
  X509* leaf = path.front().get();
  const KeyPtr key(PEM_read_bio_PrivateKey(reader(key_pem).get(), nullptr, no_passphrase, nullptr));
  const bool is_ours = key != nullptr && X509_check_private_key(leaf, key.get()) == 1;
  ERR_clear_error();
  if (!is_ours) return no("the CA's certificate is not for our key");
  const auto facts = certificate_facts(out.chain_pem);
  if (!facts) return no(facts.error());
  if (facts->uri_sans != std::vector{identity})
    return no("the CA's certificate is for " + (facts->uri_sans.empty() ? "nobody" : facts->uri_sans[0]) + ", not for " + identity);
  if (const std::string why = chain_problem(leaf, path, *roots, wall_us); !why.empty())
    return no("the CA's certificate does not lead to its root: " + why);
  out.serial = facts->serial;
  out.not_before_us = facts->not_before_us;
  out.not_after_us = facts->not_after_us;
  return out;
}

}  // namespace sluice::tls
