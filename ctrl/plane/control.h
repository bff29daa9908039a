// The control plane whole: a directory of Istio YAML, checked as one, watched, served over ADS. `sluice-control run` is this and its
// options; `sluice run --dev` hosts it in the gateway's process. A directory that is wrong at the start is not served; one that becomes
// wrong changes nothing and says why. Thread: start() and poll() on one; streams on the server's.
#pragma once
#include <atomic>
#include <chrono>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "ctrl/admin/server.h"
#include "ctrl/plane/gateway_api_files.h"
#include "ctrl/plane/server.h"
#include "ctrl/plane/watch.h"
#include "ctrl/plane/world.h"

namespace sluice::plane {

struct ControlOptions {
  std::string dir, mesh;   // a folder (or file) of Istio YAML; a file of MeshConfig, or empty
  std::string status_dir;  // where the status of Gateway API objects is written, or empty
  ServerOptions server;
  std::string
      admin;  // "unix:PATH" of the admin socket (GET /nodes, /gateway-api [?format=json], /stats/prometheus, /healthz/ready); "": none
  Server::Log say;       // one line: what happened
  Server::Log problems;  // what is wrong with the directory, at its places (issue.h), lines with their ends
};

class Control {
 public:
  static std::expected<std::unique_ptr<Control>, std::string> start(ControlOptions options);
  void poll(int wait_ms);  // waits at most so long for a change, and serves it; writes what status has changed
  void drain(int deadline_ms) { server_.drain(deadline_ms); }
  Server& server() { return server_; }

 private:
  std::expected<void, std::string> open_admin();
  void reload(const Changes& changes);
  void warn();  // of what leads nowhere, once nothing else is to do
  Control(ControlOptions options, std::unique_ptr<Watch> watch, std::unique_ptr<Directory> directory, std::shared_ptr<const World> world);
  const ControlOptions options_;
  std::shared_ptr<const World> world() const;
  const std::unique_ptr<Watch> watch_;
  const std::unique_ptr<Directory> directory_;
  mutable std::mutex world_mutex_;  // the admin's thread looks at it
  std::shared_ptr<const World> world_;
  std::chrono::steady_clock::time_point pushed_at_{};
  std::optional<std::vector<Issue>> unsaid_;  // of the world served: its other issues, while warn() is due
  std::atomic<bool> heard_{true};             // an acknowledgement or a refusal, since status was written
  std::chrono::steady_clock::time_point status_at_{};
  Server server_;
  StatusFiles status_;
  admin::Server admin_;
  std::atomic<uint64_t> refused_{0};  // versions of the directory
};

}  // namespace sluice::plane
