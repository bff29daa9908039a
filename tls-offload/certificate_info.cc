#include "tls-offload/certificate_info.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls-offload/identity.h"

namespace sluice::tls {
namespace {

std::string name_text(const X509_NAME* name) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return "";
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio.get(), &p);
  return n > 0 ? std::string(p, size_t(n)) : std::string();
}

int64_t time_us(const ASN1_TIME* t) {
  tm parts{};
  return ASN1_TIME_to_tm(t, &parts) == 1 ? int64_t(timegm(&parts)) * 1'000'000 : 0;
}

CertificateInfo info_of(X509* x) {
  CertificateInfo c{.subject = name_text(X509_get_subject_name(x)), .issuer = name_text(X509_get_issuer_name(x))};
  if (BIGNUM* n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), nullptr); n != nullptr) {
    if (char* text = BN_bn2hex(n); text != nullptr) {
      c.serial = text;
      OPENSSL_free(text);
    }
    BN_free(n);
  }
  if (auto names = subject_alt_names(x)) {
    c.uri = std::move(names->uri);
    c.dns = std::move(names->dns);
  }
  c.not_before_us = time_us(X509_get0_notBefore(x));
  c.not_after_us = time_us(X509_get0_notAfter(x));
  return c;
}

}  // namespace

std::expected<std::vector<CertificateInfo>, std::string> certificates_of(std::string_view pem) {
  BioPtr bio(BIO_new_mem_buf(pem.data(), int(pem.size())));
  if (bio == nullptr) return std::unexpected("no memory");
  std::vector<CertificateInfo> out;
  while (out.size() < kCertificatesShownMax) {
    const X509Ptr x(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));  // passes over blocks of other kinds
    if (x == nullptr) break;
    out.push_back(info_of(x.get()));
  }
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  if (out.size() < kCertificatesShownMax && ERR_GET_REASON(error) != PEM_R_NO_START_LINE)
    return std::unexpected("holds a certificate that does not parse");
  if (out.empty()) return std::unexpected("holds no certificate");
  return out;
}

}  // namespace sluice::tls
