// The gateway process, assembled from a bootstrap: EAL, pools, ports, workers on lcores, handshake threads, the log writer, and the agent
// on this thread. Order of construction is order of dependence; the destructor goes back. Thread: control (the main lcore).
#pragma once
#include <expected>
#include <optional>
#include <string>

#include "ctrl/agent/bootstrap.h"
#include "dataplane/dev.h"

namespace sluice {

// Ends with SIGTERM or SIGINT: stop accepting, finish what is in flight within the drain deadline, return 0. The error is one line that
// says what to do. With `dev` the control plane runs in this process too.
std::expected<void, std::string> run_gateway(const agent::Bootstrap& bootstrap, const std::optional<DevOptions>& dev = {});

}  // namespace sluice
