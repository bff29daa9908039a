#include "tls-offload/pem_pair.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

namespace sluice::tls {
namespace {
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
Bio bio(const std::string& s) { return {BIO_new_mem_buf(s.data(), int(s.size())), BIO_free}; }
int no_password(char*, int, int, void*) { return -1; }
Certificate certificate(const std::string& pem) { return {PEM_read_bio_X509(bio(pem).get(), nullptr, no_password, nullptr), X509_free}; }

int64_t time_us(const ASN1_TIME* t) {
  tm parts{};
  return ASN1_TIME_to_tm(t, &parts) == 1 ? int64_t(timegm(&parts)) * 1'000'000 : 0;
}

PemCertificate read(X509* x) {
  PemCertificate c{.subject = {}, .dns = {}, .not_before_us = time_us(X509_get0_notBefore(x)), .not_after_us = time_us(X509_get0_notAfter(x))};
  const Bio text(BIO_new(BIO_s_mem()), BIO_free);
  if (text != nullptr && X509_NAME_print_ex(text.get(), X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0) {
    char* p = nullptr;
    const long n = BIO_get_mem_data(text.get(), &p);
    if (n > 0) c.subject.assign(p, size_t(n));
  }
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x, NID_subject_alt_name, nullptr, nullptr)), GENERAL_NAMES_free);
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); i++)
    if (const GENERAL_NAME* n = sk_GENERAL_NAME_value(names.get(), i); n->type == GEN_DNS) {
      std::string name(reinterpret_cast<const char*>(ASN1_STRING_get0_data(n->d.ia5)), size_t(ASN1_STRING_length(n->d.ia5)));
      if (name.find('\0') == name.npos) c.dns.push_back(std::move(name));
    }
  return c;
}
}  // namespace

std::expected<std::vector<PemCertificate>, std::string> pem_certificates(const std::string& pem) {
  const Bio in = bio(pem);
  std::vector<PemCertificate> out;
  ERR_clear_error();
  while (out.size() < kPemCertificatesMax) {
    const Certificate x(PEM_read_bio_X509(in.get(), nullptr, no_password, nullptr), X509_free);
    if (x == nullptr) break;
    out.push_back(read(x.get()));
  }
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  if (error != 0 && out.size() < kPemCertificatesMax && ERR_GET_REASON(error) != PEM_R_NO_START_LINE)
    return std::unexpected("holds a certificate that does not parse");
  if (out.empty()) return std::unexpected("holds no certificate");
  return out;
}

std::optional<std::string> pair_error(const std::string& cert, const std::string& key) {
  if (cert.find("-----BEGIN ") == std::string::npos) return "tls: failed to find any PEM data in certificate input";
  if (cert.find("-----BEGIN CERTIFICATE-----") == std::string::npos)
    return "tls: failed to find \"CERTIFICATE\" PEM block in certificate input";
  const Certificate c = certificate(cert);
  if (c == nullptr) return "x509: malformed certificate";
  if (key.find("-----BEGIN ") == std::string::npos) return "tls: failed to find any PEM data in key input";
  const Key k(PEM_read_bio_PrivateKey(bio(key).get(), nullptr, no_password, nullptr), EVP_PKEY_free);
  if (k == nullptr) return "tls: failed to parse private key";
  if (X509_check_private_key(c.get(), k.get()) != 1) return "tls: private key does not match public key";
  return {};
}

bool begins_with_certificate(const std::string& pem) { return certificate(pem) != nullptr; }

std::array<uint8_t, 32> sha256(std::string_view bytes) {
  std::array<uint8_t, 32> out{};
  EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, EVP_sha256(), nullptr);
  return out;
}

}  // namespace sluice::tls
