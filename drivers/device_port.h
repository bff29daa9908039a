// The port of a DPDK device with as many queue pairs as it has workers of its own (Q <= W; fan_port.h makes W of them). Inside drivers/
// only.
#pragma once
#include "drivers/port.h"
#include "drivers/port_spec.h"

namespace sluice::drivers {

// Probes, configures and starts the device of `spec` with at most options.pools.size() queue pairs, queue q on pool q. The port's
// info().workers is the number of queue pairs it got (all of W, or 1).
std::expected<std::unique_ptr<Port>, std::string> open_device(const PortSpec& spec, const PortOptions& options);

}  // namespace sluice::drivers
