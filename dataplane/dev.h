// `sluice run --dev`: the smallest set-up, one process and one folder of Istio YAML. sluice-control's library (ctrl/plane/control.h) is
// hosted beside the gateway; the two still talk delta ADS over a Unix socket, so what works here works with a fleet. Without a bootstrap of
// one's own the port is a TAP whose other end the kernel gets, with an address in the same network: the machine itself is client and
// origin. Thread: control; the hosted control plane has a thread of its own, which ends with the object.
#pragma once
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "ctrl/agent/bootstrap.h"
#include "ctrl/log/console.h"
#include "ctrl/plane/control.h"

namespace sluice {

struct DevOptions {
  std::string dir, mesh;  // Istio YAML; MeshConfig or empty
  bool deny_by_default = true;
  bool own_tap = false;  // the bootstrap is dev_bootstrap(): its TAP's other end gets an address
};

// In the words of configs/sluice.yaml.
std::string_view dev_bootstrap();

class Dev {
 public:
  // Serves options.dir on the bootstrap's xds.address, which must be a Unix socket. Call it when the ports are open.
  static std::expected<std::unique_ptr<Dev>, std::string> start(const DevOptions& options, const agent::Bootstrap& bootstrap,
                                                                log::Console& console);

 private:
  explicit Dev(std::unique_ptr<plane::Control> control);
  std::unique_ptr<plane::Control> control_;
  std::jthread thread_;  // before control_ in destruction
};

}  // namespace sluice
