// What a certificate says of its holder, as text. Internal to tls-offload; handshake threads and make().
#pragma once
#include <expected>
#include <string>

#include "tls-offload/policy_state.h"
#include "tls-offload/terminator.h"

namespace sluice::tls {

struct SubjectAltNames {
  std::vector<std::string> uri, dns, email;
};
// Error: a SAN with a NUL byte (or one that does not parse): the classic way to be "good.example\0.evil" for two readers.
std::expected<SubjectAltNames, std::string> subject_alt_names(X509* certificate);

std::string common_name(X509* certificate);  // lower-cased; empty: none, or not printable ASCII
// The rules of ServerPolicy beyond the chain of trust. Empty: accepted; else why not.
std::string refuse_peer(X509* leaf, const ServerPolicy::State& policy);
// Fills certificate ... chain_escaped of `peer`. `chain`: leaf first, may be null.
bool describe_peer(X509* leaf, STACK_OF(X509) * chain, PeerInfo& peer);
int64_t not_after_us(X509* certificate);
std::string serial_text(const ASN1_INTEGER* serial);  // lower-case hexadecimal, two digits a byte
uint64_t anchor_of(const X509* certificate);          // a name for it; never 0

}  // namespace sluice::tls
