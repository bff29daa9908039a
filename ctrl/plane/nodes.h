// The server's nodes and counters as people, programs and Prometheus read them: what the admin socket of sluice-control answers.
#pragma once
#include <span>
#include <string>

#include "ctrl/plane/server.h"

namespace sluice::plane {

bool any_refuses(std::span<const NodeStatus> nodes);
// now_ms: of the wall clock.
std::string nodes_text(std::span<const NodeStatus> nodes, int64_t now_ms);
std::string nodes_json(std::span<const NodeStatus> nodes, int64_t now_ms);
std::string control_metrics(std::span<const NodeStatus> nodes, const ServerCounters& c);

}  // namespace sluice::plane
