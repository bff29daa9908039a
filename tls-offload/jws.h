// Signatures of JSON Web Tokens in compact form (RFC 7515, 7518): RS256 and ES256, by keys that were configured. What a token says is the
// caller's to judge (ctrl/plane/ca_token.h). "none", HMAC and keys that the token itself brings are never taken. Thread: const from any.
#pragma once
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::tls {

constexpr size_t kJwsKeysMax = 64;

// base64url without padding (RFC 7515 2); nothing for any other character, padding or length.
std::optional<std::string> from_base64url(std::string_view text);

class JwsKeys {
 public:
  JwsKeys();
  ~JwsKeys();
  JwsKeys(JwsKeys&&) noexcept;
  // Every PUBLIC KEY block of a PEM text, without a key id: they are tried for any. P-256, or RSA of 2048 bits and more.
  std::expected<void, std::string> add_pem(std::string_view pem);
  // Of a JWK (RFC 7517): big-endian numbers; `id` may be empty.
  std::expected<void, std::string> add_rsa(std::string id, std::string_view n, std::string_view e);
  std::expected<void, std::string> add_p256(std::string id, std::string_view x, std::string_view y);
  size_t size() const;
  // Whether a key with this id (or without one) made `signature` over `input` by `algorithm`.
  bool verify(std::string_view algorithm, std::string_view id, std::string_view input, std::string_view signature) const;

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::tls
