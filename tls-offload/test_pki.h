// A certificate authority for tests: roots, leaves with any SANs (NUL included), validity and keys, as PEM.
#pragma once
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>
#include <vector>

#include "dataplane/base/check.h"
#include "tls-offload/policy_state.h"

namespace sluice::tls::test {

struct San {
  int type = GEN_DNS;
  std::string text;
};

struct LeafOptions {
  std::string common_name = "leaf";
  std::vector<San> sans;
  bool rsa = false, ca = false;
  long from_s = -3600, to_s = 86400;  // relative to now
  long serial = 0x1a2b;
};

struct Issued {
  X509Ptr certificate;
  KeyPtr key;
  std::string pem() const {
    BioPtr b(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(b.get(), certificate.get());
    char* p;
    const long n = BIO_get_mem_data(b.get(), &p);
    return {p, size_t(n)};
  }
  std::string key_pem() const {
    BioPtr b(BIO_new(BIO_s_mem()));
    PEM_write_bio_PKCS8PrivateKey(b.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    char* p;
    const long n = BIO_get_mem_data(b.get(), &p);
    return {p, size_t(n)};
  }
  CertificatePem pair() const { return {pem(), key_pem()}; }
};

// issuer == nullptr: self-signed.
inline Issued issue(const Issued* issuer, const LeafOptions& o) {
  Issued out{X509Ptr(X509_new()), KeyPtr(o.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"))};
  X509* x = out.certificate.get();
  SLUICE_ASSERT(x != nullptr && out.key != nullptr);
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), o.serial);
  X509_gmtime_adj(X509_getm_notBefore(x), o.from_s);
  X509_gmtime_adj(X509_getm_notAfter(x), o.to_s);
  X509_set_pubkey(x, out.key.get());
  X509_NAME* name = X509_get_subject_name(x);
  X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("cluster.local"), -1, -1, 0);
  if (!o.common_name.empty())
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(o.common_name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x, issuer == nullptr ? name : X509_get_subject_name(issuer->certificate.get()));
  auto extension = [&](int nid, const char* value) {
    X509_EXTENSION* e = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
  };
  extension(NID_basic_constraints, o.ca || issuer == nullptr ? "critical,CA:TRUE" : "critical,CA:FALSE");
  extension(NID_key_usage, o.ca || issuer == nullptr ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature,keyEncipherment");
  if (!o.sans.empty()) {
    GENERAL_NAMES* names = sk_GENERAL_NAME_new_null();
    for (const San& san : o.sans) {
      GENERAL_NAME* g = GENERAL_NAME_new();
      ASN1_IA5STRING* s = ASN1_IA5STRING_new();
      ASN1_STRING_set(s, san.text.data(), int(san.text.size()));
      GENERAL_NAME_set0_value(g, san.type, s);
      sk_GENERAL_NAME_push(names, g);
    }
    X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0);
    GENERAL_NAMES_free(names);
  }
  X509_sign(x, issuer == nullptr ? out.key.get() : issuer->key.get(), EVP_sha256());
  return out;
}
inline Issued make_ca(const std::string& name) { return issue(nullptr, {.common_name = name, .sans = {}}); }
inline San uri(std::string s) { return {GEN_URI, std::move(s)}; }
inline San dns(std::string s) { return {GEN_DNS, std::move(s)}; }

// A revocation list with one serial.
inline std::string revoke(const Issued& ca, X509* victim) {
  X509_CRL* crl = X509_CRL_new();
  X509_CRL_set_version(crl, 1);
  X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca.certificate.get()));
  ASN1_TIME* t = X509_gmtime_adj(nullptr, -60);
  X509_CRL_set1_lastUpdate(crl, t);
  X509_gmtime_adj(t, 86400);
  X509_CRL_set1_nextUpdate(crl, t);
  if (victim != nullptr) {
    X509_REVOKED* r = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(victim));
    X509_gmtime_adj(t, -60);
    X509_REVOKED_set_revocationDate(r, t);
    X509_CRL_add0_revoked(crl, r);
  }
  ASN1_TIME_free(t);
  X509_CRL_sort(crl);
  X509_CRL_sign(crl, ca.key.get(), EVP_sha256());
  BioPtr b(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_CRL(b.get(), crl);
  X509_CRL_free(crl);
  char* p;
  const long n = BIO_get_mem_data(b.get(), &p);
  return {p, size_t(n)};
}

}  // namespace sluice::tls::test
