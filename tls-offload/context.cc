// One SSL_CTX per policy carries what all its handshakes share (suites, groups, trust, callbacks); certificates are put on each SSL in the
// certificate callback, once the SNI is known. The chain is sent as configured: without SSL_MODE_NO_AUTO_CHAIN OpenSSL would build and
// verify it again on every handshake (reference: 150 us).
#include "tls-offload/context.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cctype>

#include "tls-offload/identity.h"

namespace sluice::tls {
namespace {

using Error = std::unexpected<std::string>;

constexpr const char* kSuites12 =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kSuites13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* kGroups = "X25519:P-256:P-384";
// With which a client may prove its certificate: BoringSSL's list, so P-521 and Ed25519 keys are refused as by Envoy; SHA-1 left out.
constexpr const char* kClientSignatures =
    "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:RSA-PSS+SHA512:RSA+SHA512";
constexpr long kCertListMax = 64 * 1024;

BioPtr reader(const std::string& pem) { return BioPtr(BIO_new_mem_buf(pem.data(), int(pem.size()))); }
// An encrypted key would make OpenSSL ask a terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

std::string lower(std::string s) {
  for (char& c : s) c = char(std::tolower(static_cast<unsigned char>(c)));
  return s;
}

std::expected<std::vector<X509Ptr>, std::string> read_certificates(const std::string& pem, const std::string& what) {
  ERR_clear_error();
  std::vector<X509Ptr> out;
  BioPtr bio = reader(pem);
  while (X509* x = PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr)) out.emplace_back(x);
  const unsigned long e = ERR_peek_last_error();
  if (e != 0 && !(ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE))
    return Error(what + ": certificate " + std::to_string(out.size() + 1) + " is not valid PEM: " + take_openssl_errors());
  ERR_clear_error();
  if (out.empty()) return Error(what + ": no certificate in it; expected PEM with BEGIN CERTIFICATE");
  return out;
}

std::string check_validity(X509* x, int64_t wall_us, const std::string& what) {
  if (wall_us == 0) return "";
  const time_t at = time_t(wall_us / 1'000'000);
  auto text = [](const ASN1_TIME* t) {
    BioPtr bio(BIO_new(BIO_s_mem()));
    ASN1_TIME_print(bio.get(), t);
    char* p = nullptr;
    const long n = BIO_get_mem_data(bio.get(), &p);
    return std::string(p, size_t(n));
  };
  if (ASN1_TIME_cmp_time_t(X509_get0_notAfter(x), at) <= 0)
    return what + ": the certificate expired at " + text(X509_get0_notAfter(x)) + "; renew it";
  if (ASN1_TIME_cmp_time_t(X509_get0_notBefore(x), at) > 0)
    return what + ": the certificate is not valid before " + text(X509_get0_notBefore(x)) + "; check the clock";
  return "";
}

std::expected<Certificate, std::string> read_certificate(const CertificatePem& pem, int64_t wall_us, const std::string& what) {
  auto list = read_certificates(pem.cert_chain_pem, what);
  if (!list) return Error(list.error());
  Certificate c;
  c.leaf = std::move(list->front());
  if (std::string bad = check_validity(c.leaf.get(), wall_us, what); !bad.empty()) return Error(bad);
  ERR_clear_error();
  c.key.reset(PEM_read_bio_PrivateKey(reader(pem.private_key_pem).get(), nullptr, no_passphrase, nullptr));
  if (c.key == nullptr) return Error(what + ": the private key is not valid PEM, or is encrypted: " + take_openssl_errors());
  if (X509_check_private_key(c.leaf.get(), c.key.get()) != 1)
    return Error(what + ": the private key does not match the certificate; give the key of the first certificate in the chain");
  c.chain.reset(sk_X509_new_null());
  for (size_t i = 1; i < list->size(); i++) sk_X509_push(c.chain.get(), (*list)[i].release());
  auto names = subject_alt_names(c.leaf.get());
  if (!names) return Error(what + ": " + names.error());
  for (const std::string& n : names->dns) c.names.push_back(lower(n));
  if (c.names.empty())
    if (std::string cn = common_name(c.leaf.get()); !cn.empty()) c.names.push_back(cn);
  if (!names->uri.empty()) c.uri_san = names->uri[0];
  return c;
}

// In the words of PeerInfo::serial.
void note_revoked(X509_CRL* crl, std::set<std::string, std::less<>>& serials) {
  STACK_OF(X509_REVOKED)* revoked = X509_CRL_get_REVOKED(crl);
  for (int i = 0; i < sk_X509_REVOKED_num(revoked); i++)
    serials.insert(serial_text(X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i))));
}

std::string load_trust(SSL_CTX* ctx, const ServerPolicyOptions& o, ServerPolicy::State& s) {
  int64_t& expire_us = s.expire_us;
  std::set<uint64_t>& anchors = s.anchors;
  if (o.trusted_ca_pem.empty()) {
    if (o.client_cert != ClientCert::kNone)
      return "client certificates are asked for but there is no trusted CA to verify them; give trusted_ca";
    return "";
  }
  auto list = read_certificates(o.trusted_ca_pem, "trusted CA");
  if (!list) return list.error();
  X509_STORE* store = SSL_CTX_get_cert_store(ctx);
  for (const X509Ptr& x : *list) {
    expire_us = std::min(expire_us, not_after_us(x.get()));
    anchors.insert(anchor_of(x.get()));
    if (X509_STORE_add_cert(store, x.get()) != 1 || (o.client_cert != ClientCert::kNone && SSL_CTX_add_client_CA(ctx, x.get()) != 1))
      return "trusted CA: " + take_openssl_errors();
  }
  unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;
  if (!o.crl_pem.empty()) {
    BioPtr bio = reader(o.crl_pem);
    int crls = 0;
    while (X509_CRL* crl = PEM_read_bio_X509_CRL(bio.get(), nullptr, no_passphrase, nullptr)) {
      note_revoked(crl, s.revoked_serials);
      const int added = X509_STORE_add_crl(store, crl);
      X509_CRL_free(crl);
      if (added != 1) return "CRL: " + take_openssl_errors();
      crls++;
    }
    // Half a bundle would let in whom the other half revokes.
    if (const unsigned long e = ERR_peek_last_error(); !(ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE))
      return "CRL: revocation list " + std::to_string(crls + 1) + " is not valid PEM: " + take_openssl_errors();
    ERR_clear_error();
    if (crls == 0) return "CRL: no revocation list in it; expected PEM with BEGIN X509 CRL";
    flags |= X509_V_FLAG_CRL_CHECK | (o.crl_leaf_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL);
  }
  X509_STORE_set_flags(store, flags);
  return "";
}

// Envoy writes equal-preference groups as [A|B]; order within is as good as any.
std::string suites12(const std::vector<std::string>& configured, std::string& unknown) {
  constexpr const char* kOthers[] = {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA",         "AES256-SHA",        "AES128-SHA256",
                                     "AES256-SHA256",     "DES-CBC3-SHA",      "PSK-AES128-CBC-SHA", "PSK-AES256-CBC-SHA"};
  const std::string known = ":" + std::string(kSuites12) + ":";
  std::string out;
  for (std::string entry : configured) {
    std::erase_if(entry, [](char c) { return c == '[' || c == ']'; });
    std::replace(entry.begin(), entry.end(), '|', ':');
    for (size_t at = 0; at <= entry.size();) {
      const size_t end = std::min(entry.find(':', at), entry.size());
      const std::string name = entry.substr(at, end - at);
      at = end + 1;
      if (name.empty()) continue;
      if (known.find(":" + name + ":") != std::string::npos) out += (out.empty() ? "" : ":") + name;
      else if (std::find(std::begin(kOthers), std::end(kOthers), name) == std::end(kOthers) && !name.starts_with("TLS_") &&
               !(name.starts_with("ECDHE-") && name.find("-SHA") != std::string::npos))
        unknown = name;
    }
  }
  return out;
}

std::string configure_protocol(SSL_CTX* ctx, const ServerPolicyOptions& o) {
  auto number = [](TlsVersion v) { return v == TlsVersion::k13 ? TLS1_3_VERSION : TLS1_2_VERSION; };
  int min = number(o.min_version);
  const int max = o.max_version == TlsVersion::kAuto ? TLS1_3_VERSION : number(o.max_version);
  if (min > max) return "TLS versions: the minimum is above the maximum";
  std::string unknown, list = o.cipher_suites.empty() ? kSuites12 : suites12(o.cipher_suites, unknown);
  if (!unknown.empty()) return "cipher suite " + unknown + " is unknown; OpenSSL's names are meant, as ECDHE-RSA-AES128-GCM-SHA256";
  if (list.empty()) {  // only CBC or static RSA was configured
    if (max == TLS1_2_VERSION) return "cipher suites: none of those configured is ECDHE with an AEAD, and TLS 1.3 is not allowed";
    min = TLS1_3_VERSION, list = kSuites12;
  }
  std::string groups;
  for (const std::string& g : o.ecdh_curves) groups += (groups.empty() ? "" : ":") + g;
  if (SSL_CTX_set1_groups_list(ctx, groups.empty() ? kGroups : groups.c_str()) != 1)
    return "ECDH curves " + groups + ": " + take_openssl_errors() + "; known are X25519, P-256, P-384, P-521";
  SSL_CTX_set_min_proto_version(ctx, min);
  SSL_CTX_set_max_proto_version(ctx, max);
  if (SSL_CTX_set_cipher_list(ctx, list.c_str()) != 1 || SSL_CTX_set_ciphersuites(ctx, kSuites13) != 1 ||
      SSL_CTX_set1_client_sigalgs_list(ctx, kClientSignatures) != 1)
    return take_openssl_errors();
  SSL_CTX_set_options(
      ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 0);
  SSL_CTX_set_max_cert_list(ctx, kCertListMax);
  return "";
}

// ---- callbacks, on handshake threads. `arg` is the policy's State, which outlives its context.

// RFC 7301 3.2 would end the handshake with no_application_protocol; Envoy goes on without, and so do we.
int on_alpn(SSL*, const unsigned char** out, unsigned char* out_len, const unsigned char* in, unsigned in_len, void* arg) {
  const auto& s = *static_cast<const ServerPolicy::State*>(arg);
  const auto* ours = reinterpret_cast<const unsigned char*>(s.alpn.data());
  unsigned char* selected = nullptr;
  if (s.alpn.empty() || SSL_select_next_proto(&selected, out_len, ours, unsigned(s.alpn.size()), in, in_len) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

int on_certificate(SSL* ssl, void* arg) {
  const auto& s = *static_cast<const ServerPolicy::State*>(arg);
  const char* sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const auto chosen = s.choose(sni == nullptr ? "" : lower(sni));
  // In reverse, so that of two with the same key type the better one stays.
  for (auto it = chosen.rbegin(); it != chosen.rend(); ++it)
    if (SSL_use_cert_and_key(ssl, (*it)->leaf.get(), (*it)->key.get(), (*it)->chain.get(), 1) != 1) return 0;
  return 1;
}

}  // namespace

std::vector<const Certificate*> ServerPolicy::State::choose(std::string_view sni) const {
  std::vector<const Certificate*> out;
  auto with_name = [&](std::string_view name) {
    for (const Certificate& c : certificates)
      if (std::find(c.names.begin(), c.names.end(), name) != c.names.end()) out.push_back(&c);
  };
  if (!sni.empty()) with_name(sni);
  if (const size_t dot = sni.find('.'); out.empty() && dot != std::string_view::npos && dot > 0)
    with_name("*" + std::string(sni.substr(dot)));
  if (!out.empty()) return out;
  out.push_back(&certificates[0]);
  if (!certificates[0].names.empty())  // its RSA or ECDSA twin
    for (const Certificate& c : certificates)
      if (&c != out[0] && c.names == certificates[0].names) out.push_back(&c);
  return out;
}

bool dns_name_covers(std::string_view san, std::string_view name) {
  const auto same = [](std::string_view a, std::string_view b) { return lower(std::string(a)) == lower(std::string(b)); };
  if (same(san, name)) return true;
  const size_t dot = name.find('.');
  return san.starts_with("*.") && dot != name.npos && dot > 0 && san.find('*', 1) == san.npos && same(san.substr(1), name.substr(dot));
}

std::string take_openssl_errors() {
  std::string out;
  const char* data = nullptr;
  int flags = 0;
  while (const unsigned long e = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags)) {
    char text[256];
    ERR_error_string_n(e, text, sizeof text);
    (out += out.empty() ? "" : "; ") += text;
    if ((flags & ERR_TXT_STRING) != 0 && data != nullptr && *data != '\0') (out += " (") += std::string(data) + ")";
  }
  return out.empty() ? "no detail from OpenSSL" : out;
}

std::expected<std::shared_ptr<const ServerPolicy>, std::string> ServerPolicy::make(const ServerPolicyOptions& o) {
  ERR_clear_error();
  if (o.certificates.empty()) return Error("no certificate; a TLS server needs a certificate chain and its private key");
  std::shared_ptr<ServerPolicy> policy(new ServerPolicy);
  State& s = *policy->s_;
  s.expire_us = INT64_MAX;
  for (size_t i = 0; i < o.certificates.size(); i++) {
    auto c =
        read_certificate(o.certificates[i], o.wall_us, o.certificates.size() == 1 ? "certificate" : "certificate " + std::to_string(i + 1));
    if (!c) return Error(c.error());
    s.expire_us = std::min(s.expire_us, not_after_us(c->leaf.get()));
    s.certificates.push_back(std::move(*c));
  }
  s.context.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* ctx = s.context.get();
  if (ctx == nullptr) return Error("OpenSSL: " + take_openssl_errors());
  if (std::string bad = configure_protocol(ctx, o); !bad.empty()) return Error(bad);
  if (std::string bad = load_trust(ctx, o, s); !bad.empty()) return Error(bad);
  s.client_cert = o.client_cert;
  s.require_one_spiffe_uri = o.require_one_spiffe_uri;
  s.san_matchers = o.san_matchers;
  s.denied_uris = {o.denied_uris.begin(), o.denied_uris.end()};
  for (const std::string& p : o.alpn) {
    if (p.empty() || p.size() > 255) return Error("ALPN protocol names have 1 to 255 bytes");
    (s.alpn += char(p.size())) += p;
  }
  // A certificate too weak for OpenSSL's security level is refused now, not in the first handshake.
  for (const Certificate& c : s.certificates) {
    SslPtr probe(SSL_new(ctx));
    if (probe == nullptr || SSL_use_cert_and_key(probe.get(), c.leaf.get(), c.key.get(), c.chain.get(), 1) != 1)
      return Error("certificate of " + (c.names.empty() ? std::string("no name") : c.names[0]) + " is refused: " + take_openssl_errors());
  }
  const int verify = s.client_cert == ClientCert::kNone       ? SSL_VERIFY_NONE
                     : s.client_cert == ClientCert::kOptional ? SSL_VERIFY_PEER
                                                              : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(ctx, verify, nullptr);
  SSL_CTX_set_cert_verify_callback(ctx, on_verify, nullptr);
  SSL_CTX_set_cert_cb(ctx, on_certificate, &s);
  SSL_CTX_set_alpn_select_cb(ctx, on_alpn, &s);
  SSL_CTX_set_keylog_callback(ctx, on_key_log);
  return policy;
}

bool ServerPolicy::still_trusts(const PeerInfo& peer) const {
  return s_->anchors.contains(peer.trust_anchor) && !s_->revoked_serials.contains(peer.serial) &&
         std::ranges::none_of(peer.uri_sans, [&](const std::string& u) { return s_->denied_uris.contains(u); });
}

std::string ServerPolicy::refuses(const PeerInfo& peer) const { return refuse_names({peer.uri_sans, peer.dns_sans, peer.email_sans}, *s_); }

ServerPolicy::ServerPolicy() : s_(std::make_unique<State>()) {}
ServerPolicy::~ServerPolicy() = default;
ClientCert ServerPolicy::client_cert() const { return s_->client_cert; }
int64_t ServerPolicy::certificates_expire_us() const { return s_->expire_us; }

}  // namespace sluice::tls
