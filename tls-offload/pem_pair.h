// What a control plane must know of certificates without holding a connection: whether a certificate and a key are a pair, whether a text
// begins with a certificate, a digest. A library of its own, so that who has no packets needs none of the rest. Thread: any.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::tls {

// Why the two PEM texts are no pair, in the words of Go's crypto/tls (Istio's status says them), or nothing. An encrypted key is no key.
std::optional<std::string> pair_error(const std::string& certificate_pem, const std::string& key_pem);
bool begins_with_certificate(const std::string& pem);  // other text before it is passed over
std::array<uint8_t, 32> sha256(std::string_view bytes);

}  // namespace sluice::tls
