// A directory of Istio YAML as a gateway would serve it, without a gateway: loaded and checked, translated for one Node, compiled to
// tables. For `explain -d` and `diff`. Secrets are not there, so chains with TLS have no certificate; nothing else differs. Thread: one.
#pragma once
#include <expected>
#include <map>
#include <memory>
#include <string>

#include "ctrl/compile/compile.h"
#include "ctrl/explain/explain.h"
#include "ctrl/plane/resource.h"

namespace sluice::cli {

struct OfflineOptions {
  std::string dir, mesh;
  std::map<std::string, std::string> labels;  // of the gateway; empty: the selector of the directory's Gateways, where they have one
  std::string ns;                             // of the gateway; empty: that of its Gateways
  bool deny_by_default = true;
};

struct Offline {
  plane::World world;
  plane::RoutePlaces routes;
  std::unique_ptr<compile::Compiler> compiler;
  std::shared_ptr<const tables::Snapshot> tables;
  std::string refused;                                        // what the compiler did not take, a line each: it would not be served
  std::string place_of(const explain::Origin& origin) const;  // "FILE:LINE:COL", "" when unknown
};

// The error is all that is wrong with the directory, rendered, or what is missing to choose a Node.
std::expected<Offline, std::string> load_offline(const OfflineOptions& options);

// What a running gateway serves, by its /config_dump, compiled the same way; `world` is empty. The error says what could not be had.
std::expected<Offline, std::string> load_running(const std::string& socket);

}  // namespace sluice::cli
