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
// {"configs": [ClustersConfigDump, ListenersConfigDump, RoutesConfigDump, EndpointsConfigDump]} as Envoy's /config_dump?include_eds has it.
std::string config_dump(const std::vector<DumpedResource>& resources, const std::vector<DumpedRefusal>& refused);

}  // namespace sluice::agent
