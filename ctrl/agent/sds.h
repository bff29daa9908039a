// Secrets that the control plane sends (SDS over ADS: kubernetes://NAME and the like, where no file answers). Only inline data is taken: a
// control plane does not make us read files. Thread: any.
#pragma once
#include <expected>
#include <string>

#include "ctrl/compile/compile.h"

namespace sluice::agent {

// The validator's name under which sluice-control's CA sends revoked identities.
constexpr std::string_view kDeniedIdentities = "sluice.denied_identities";

// envoy.extensions.transport_sockets.tls.v3.Secret: tls_certificate{certificate_chain, private_key}, validation_context{trusted_ca, crl,
// only_verify_leaf_cert_crl, custom_validator_config as above}.
std::expected<compile::Secret, std::string> parse_secret(const std::string& name, const std::string& bytes);

// Whether a control plane may be asked for it when no file has it.
bool is_remote_secret(std::string_view name);

}  // namespace sluice::agent
