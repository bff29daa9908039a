// The xDS server: delta ADS (envoy.service.discovery.v3) over gRPC for gateways, from a World that may be replaced at any time. What a
// stream says is stream.h's; here are its transport, identity and threads. With mutual TLS a Node whose namespace or service account is not
// its certificate's is refused (PERMISSION_DENIED). Nodes that say the same of themselves share one translation. Thread: replace() one at a
// time, from any; streams on gRPC's threads, each under its own lock; a slow client delays nobody but itself, and what it has not taken yet
// is replaced by what is newer.
#pragma once
#include <expected>
#include <functional>
#include <memory>
#include <string>

#include "ctrl/plane/stream.h"

namespace sluice::plane {

struct ServerOptions {
  std::string listen;         // "unix:PATH" or "IP:PORT"
  std::string ca, cert, key;  // PEM files: mutual TLS; empty: plain
  TranslateOptions translation;
};

class Server {
 public:
  using Log = std::function<void(const std::string&)>;
  Server(ServerOptions options, std::shared_ptr<const World> world, Log log);
  ~Server();
  Server(const Server&) = delete;
  std::expected<void, std::string> start();
  void replace(std::shared_ptr<const World> world);  // every stream gets what changed for it
  std::vector<NodeInfo> acknowledged() const;        // nodes that took, and did not refuse, all of the current world that concerns them

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::plane
