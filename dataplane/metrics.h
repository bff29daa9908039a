// What the gateway tells operators: Prometheus text with Istio's names, status for people and for programs, clusters as Envoy's /clusters.
// Reads the workers' counters from any thread; the snapshot only on the control thread.
#pragma once
#include <string>
#include <vector>

#include "ctrl/agent/agent.h"
#include "ctrl/log/writer.h"
#include "dataplane/worker/worker.h"

namespace sluice {

struct GatewayView {
  std::vector<const worker::Worker*> workers;
  std::vector<const drivers::Port*> ports;
  uint64_t handshake_cpu_us = 0;
  log::WriterStats log;
};

std::string prometheus_text(const GatewayView& view);
std::string status_text(const agent::AgentStatus& status, const GatewayView& view);
std::string status_json(const agent::AgentStatus& status, const GatewayView& view);
std::string clusters_text(const tables::Snapshot* snapshot, const GatewayView& view);

}  // namespace sluice
