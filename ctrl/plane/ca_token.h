// Who a bearer token says its holder is. Tokens are JWTs (RFC 7519) of a configured issuer and audience, signed by a configured key (a JWKS
// or PEM file): the projected service account tokens that Istio's agents send, or any other issuer's. Fails closed: no keys, no issuer or
// no audience is a configuration error; a token without exp is refused. Thread: verify() from any.
#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "tls-offload/jws.h"

namespace sluice::plane {

constexpr size_t kTokenBytesMax = 16 << 10;
constexpr int64_t kTokenLeewayS = 60;  // clocks differ

struct TokenOptions {
  std::string keys;              // the text of a JWKS, or PEM with PUBLIC KEY blocks
  std::string issuer, audience;  // what iss must be and aud must hold
  std::string trust_domain;
};

class TokenVerifier {
 public:
  static std::expected<TokenVerifier, std::string> make(TokenOptions options);
  // sub "system:serviceaccount:NS:SA" is spiffe://TRUST-DOMAIN/ns/NS/sa/SA; a sub that is a SPIFFE identity of the trust domain is itself.
  std::expected<std::string, std::string> verify(std::string_view token, int64_t wall_us) const;

 private:
  TokenVerifier(TokenOptions options, tls::JwsKeys keys) : options_(std::move(options)), keys_(std::move(keys)) {}
  TokenOptions options_;
  tls::JwsKeys keys_;
};

}  // namespace sluice::plane
