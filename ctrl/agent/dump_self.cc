// The two sections of a config_dump that are no resources of the control plane: the bootstrap (who the node is) and the secrets.
#include <google/protobuf/util/json_util.h>

#include "ctrl/agent/dump.h"
#include "envoy/admin/v3/config_dump.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"

namespace sluice::agent {
namespace {
namespace admin = envoy::admin::v3;

std::string print(const google::protobuf::Message& m) {
  google::protobuf::Any any;
  any.PackFrom(m);
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string out;
  return google::protobuf::util::MessageToJsonString(any, &out, options).ok() ? out : "";
}

void set_time(google::protobuf::Timestamp* t, int64_t wall_us) {
  t->set_seconds(wall_us / 1'000'000);
  t->set_nanos(int32_t(wall_us % 1'000'000) * 1000);
}

// Two of one version are one content: a fingerprint (FNV-1a) of the certificates and lists, never of the key.
std::string version_of(const compile::Secret& s) {
  uint64_t h = 0xcbf29ce484222325;
  for (const std::string* part : {&s.cert_chain_pem, &s.trusted_ca_pem, &s.crl_pem})
    for (const char c : *part + '\0') h = (h ^ uint8_t(c)) * 0x100000001b3;
  char out[17];
  std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(h));
  return out;
}

}  // namespace

std::string bootstrap_dump(const DumpedSelf& self) {
  admin::BootstrapConfigDump dump;
  auto& node = *dump.mutable_bootstrap()->mutable_node();
  node.set_id(self.node.id);
  node.set_cluster(self.node.cluster);
  if (!self.node.region.empty()) {
    node.mutable_locality()->set_region(self.node.region);
    node.mutable_locality()->set_zone(self.node.zone);
    node.mutable_locality()->set_sub_zone(self.node.sub_zone);
  }
  (void)google::protobuf::util::JsonStringToMessage(self.node.metadata_json, node.mutable_metadata());
  node.set_user_agent_name("sluice");
  set_time(dump.mutable_last_updated(), self.wall_us);
  return print(dump);
}

std::string secrets_dump(const DumpedSelf& self) {
  admin::SecretsConfigDump dump;
  for (const compile::Secret* s : self.secrets) {
    envoy::extensions::transport_sockets::tls::v3::Secret secret;
    secret.set_name(s->name);
    if (!s->cert_chain_pem.empty()) {
      auto& pair = *secret.mutable_tls_certificate();
      pair.mutable_certificate_chain()->set_inline_bytes(s->cert_chain_pem);
      pair.mutable_private_key()->set_inline_bytes("[redacted]");
    } else {
      auto& trust = *secret.mutable_validation_context();
      trust.mutable_trusted_ca()->set_inline_bytes(s->trusted_ca_pem);
      if (!s->crl_pem.empty()) trust.mutable_crl()->set_inline_bytes(s->crl_pem);
    }
    auto& d = *dump.add_dynamic_active_secrets();
    d.set_name(s->name);
    d.set_version_info(version_of(*s));
    set_time(d.mutable_last_updated(), self.wall_us);
    d.mutable_secret()->PackFrom(secret);
    d.set_client_status(admin::ACKED);
  }
  return print(dump);
}

}  // namespace sluice::agent
