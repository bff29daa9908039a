// The proof, repeated at every start, that taking the keys out of this machine's OpenSSL works: for each AEAD suite of TLS 1.2 and 1.3 a
// handshake in memory with a stock libssl client, its SSL freed, then records both ways, KeyUpdate both ways (1.3), a forged record refused
// and close_notify, with the engine that the worker will use. About 20 ms. A gateway whose self-test fails opens no TLS listener.
#pragma once
#include <expected>
#include <string>

#include "dataplane/base/now.h"

namespace sluice::tls {

// Control thread. The error names the suite and the step.
std::expected<void, std::string> self_test(const Now& now);

// "AES-GCM: ipsec-mb 1.3.0, ChaCha20-Poly1305: OpenSSL 3.0.x": for the line at start and `sluicectl status`.
std::string engines();

}  // namespace sluice::tls
