#include "tls-offload/pem_pair.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

namespace sluice::tls {
namespace {
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
Bio bio(const std::string& s) { return {BIO_new_mem_buf(s.data(), int(s.size())), BIO_free}; }
int no_password(char*, int, int, void*) { return -1; }
Certificate certificate(const std::string& pem) { return {PEM_read_bio_X509(bio(pem).get(), nullptr, no_password, nullptr), X509_free}; }
}  // namespace

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
