// EAL bring-up: memory, lcores and PMDs, once per process, before any pool or port.
//
// The contract (docs/design: architecture section 3): `--in-memory` with hugepages where the kernel has enough free ones, else
// `--no-huge -m N` (DPDK 22.11 refuses both together); always iova-mode=va, no telemetry socket, no shared configuration files, a file
// prefix of our own. PMDs are Debian's, loaded from EAL's plugin directory at run time. Only PCI devices that are named as ports are
// touched. Thread: control (becomes the main lcore). Errors: one line that names what is missing and the command that gives it.
#pragma once
#include <expected>
#include <functional>
#include <string>
#include <vector>

namespace sluice::drivers {

enum class EalMemory { kAuto, kHugepages, kNoHuge };

struct EalOptions {
  EalMemory memory = EalMemory::kAuto;
  unsigned memory_mib = 512;       // what pools and rings need together
  std::string lcores = "0";        // EAL's --lcores: "0" or "0@0,1@1" (lcore@cpu); the first is the main lcore
  std::vector<std::string> ports;  // port specs (port_spec.h); those that are PCI addresses are allowed, no other PCI device is
  std::string file_prefix;         // default: sluice-PID
};

// What was decided; printed by the caller.
class Eal {
 public:
  static std::expected<Eal, std::string> start(const EalOptions& options);
  Eal(Eal&& o) noexcept : running_(o.running_), hugepages_(o.hugepages_), summary_(std::move(o.summary_)) { o.running_ = false; }
  Eal& operator=(Eal&&) = delete;
  ~Eal();  // at the end of the process: EAL cannot be started twice; every port and pool must be gone

  bool hugepages() const { return hugepages_; }
  const std::string& summary() const { return summary_; }  // "hugepages (2 MiB pages, 1024 MiB)" or "no hugepages (--no-huge -m 512): ..."

 private:
  Eal() = default;
  bool running_ = false, hugepages_ = false;
  std::string summary_;
};

// Runs `work` on EAL's interrupt thread, where drivers' handlers and alarms run one after the other, and waits for its end. Not from that
// thread itself.
void on_interrupt_thread(const std::function<void()>& work);

}  // namespace sluice::drivers
