// What the certificates in a PEM text say, for people (/certs, status). Not for decisions: those are ServerPolicy's. Thread: any.
#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::tls {

struct CertificateInfo {
  std::string subject, issuer;  // RFC 2253
  std::string serial;           // hexadecimal
  std::vector<std::string> uri, dns;
  int64_t not_before_us = 0, not_after_us = 0;  // Unix microseconds
};

constexpr size_t kCertificatesShownMax = 256;

// In the order of the text; other PEM blocks are passed over. Error: no certificate, or one that does not parse.
std::expected<std::vector<CertificateInfo>, std::string> certificates_of(std::string_view pem);

}  // namespace sluice::tls
