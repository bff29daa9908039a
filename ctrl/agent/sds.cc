#include "ctrl/agent/sds.h"

#include <google/protobuf/struct.pb.h>

#include <algorithm>
#include <vector>

#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"

namespace sluice::agent {
namespace {
namespace tls = envoy::extensions::transport_sockets::tls::v3;
using envoy::config::core::v3::DataSource;

std::expected<std::string, std::string> inline_data(const DataSource& d, const char* what) {
  switch (d.specifier_case()) {
    case DataSource::kInlineBytes: return d.inline_bytes();
    case DataSource::kInlineString: return d.inline_string();
    default: return std::unexpected(std::string(what) + " is not inline");
  }
}
// What no field of Envoy's says: identities that are refused. A Struct {denied: [...]} in a validator of our own name; any other is
// refused.
std::expected<void, std::string> take_denied(const envoy::config::core::v3::TypedExtensionConfig& c, compile::Secret& out) {
  google::protobuf::Struct s;
  if (c.name() != kDeniedIdentities || !c.typed_config().UnpackTo(&s))
    return std::unexpected("custom_validator_config '" + c.name() + "' is not supported");
  for (const auto& [key, value] : s.fields()) {
    if (key != "denied" || value.kind_case() != google::protobuf::Value::kListValue)
      return std::unexpected(std::string(kDeniedIdentities) + ": only a list 'denied' is known");
    for (const auto& v : value.list_value().values()) {
      if (v.kind_case() != google::protobuf::Value::kStringValue)
        return std::unexpected(std::string(kDeniedIdentities) + ": 'denied' must hold texts");
      out.denied_identities.push_back(v.string_value());
    }
  }
  return {};
}

// Names that peers must have, hashes that they must match and the like: not obeyed here, so not passed over.
std::expected<void, std::string> only_obeyed(const tls::CertificateValidationContext& v) {
  constexpr std::string_view kObeyed[] = {"trusted_ca", "crl", "only_verify_leaf_cert_crl", "custom_validator_config"};
  if (!v.GetReflection()->GetUnknownFields(v).empty()) return std::unexpected("validation_context: a field newer than this gateway");
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  v.GetReflection()->ListFields(v, &fields);
  for (const auto* f : fields)
    if (std::ranges::find(kObeyed, f->name()) == std::end(kObeyed))
      return std::unexpected("validation_context." + f->name() + " is not supported");
  return {};
}
}  // namespace

bool is_remote_secret(std::string_view name) {
  return name.starts_with("kubernetes://") || name.starts_with("kubernetes-gateway://") || name.starts_with("configmap://");
}

std::expected<compile::Secret, std::string> parse_secret(const std::string& name, const std::string& bytes) {
  tls::Secret p;
  if (!p.ParseFromString(bytes)) return std::unexpected("is no Secret");
  if (p.name() != name) return std::unexpected("says its name is '" + p.name() + "'");
  compile::Secret out{.name = name};
  auto take = [](const DataSource& d, const char* what, std::string& to) -> std::expected<void, std::string> {
    auto data = inline_data(d, what);
    if (!data) return std::unexpected(data.error());
    to = std::move(*data);
    return {};
  };
  std::expected<void, std::string> ok;
  switch (p.type_case()) {
    case tls::Secret::kTlsCertificate: {
      const auto& c = p.tls_certificate();
      if (c.has_private_key_provider()) return std::unexpected("tls_certificate.private_key_provider: not supported");
      if (c.has_pkcs12() || c.has_password()) return std::unexpected("tls_certificate: only PEM without a password is supported");
      ok = take(c.certificate_chain(), "tls_certificate.certificate_chain", out.cert_chain_pem);
      if (ok) ok = take(c.private_key(), "tls_certificate.private_key", out.private_key_pem);
      break;
    }
    case tls::Secret::kValidationContext:
      if (auto obeyed = only_obeyed(p.validation_context()); !obeyed) return std::unexpected(obeyed.error());
      ok = take(p.validation_context().trusted_ca(), "validation_context.trusted_ca", out.trusted_ca_pem);
      if (ok && p.validation_context().has_crl()) ok = take(p.validation_context().crl(), "validation_context.crl", out.crl_pem);
      out.crl_leaf_only = p.validation_context().only_verify_leaf_cert_crl();
      if (ok && p.validation_context().has_custom_validator_config())
        ok = take_denied(p.validation_context().custom_validator_config(), out);
      break;
    default: return std::unexpected("holds neither a certificate nor a validation context");
  }
  if (!ok) return std::unexpected(ok.error());
  return out;
}

}  // namespace sluice::agent
