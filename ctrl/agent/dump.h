// What people and tools read about the agent: text and JSON. No protobuf in the header. Thread: control (or on copies).
#pragma once
#include <string>
#include <vector>

#include "ctrl/agent/agent.h"

namespace sluice::agent {

std::string status_text(const AgentStatus& s);
std::string status_json(const AgentStatus& s);

// Envoy's /certs: per secret the trusted and the own certificates, with the days they have left. Never a key.
std::string certs_json(const std::vector<const compile::Secret*>& secrets, int64_t wall_us);

// What the agent knows, in Prometheus' text form.
std::string metrics_text(const AgentStatus& s);

struct DumpedResource {
  xds::Type type;
  std::string name, version, bytes;
  int64_t wall_us = 0;
};
struct DumpedRefusal {
  xds::Type type;
  std::string name, reason;
};
// What of the dump is not a resource: who the gateway is, and the secrets of its tables (certificates; keys are "[redacted]").
struct DumpedSelf {
  const NodeConfig& node;
  std::vector<const compile::Secret*> secrets;
  int64_t wall_us = 0;  // since when the tables in force hold them
};
// {"configs": [BootstrapConfigDump, ClustersConfigDump, ListenersConfigDump, RoutesConfigDump, EndpointsConfigDump, SecretsConfigDump]} as
// Envoy's /config_dump?include_eds has it; all six are there, for `istioctl proxy-config all -f` stops at the first that is missing.
std::string config_dump(const std::vector<DumpedResource>& resources, const std::vector<DumpedRefusal>& refused, const DumpedSelf& self);
std::string bootstrap_dump(const DumpedSelf& self);
std::string secrets_dump(const DumpedSelf& self);

}  // namespace sluice::agent
