// A World, as one gateway sees it: the clusters, endpoints, listeners and route configurations that istiod 1.29 (with
// PILOT_FILTER_GATEWAY_CLUSTER_CONFIG) would send to a Node, as proto3 JSON by name. Pure: same world and node, same answer.
#pragma once
#include <map>
#include <set>

#include "ctrl/plane/json.h"
#include "ctrl/plane/patches.h"
#include "ctrl/plane/world.h"

namespace sluice::plane {

struct NodeInfo {                                                      // of envoy.config.core.v3.Node, read by resource.h
  std::string id, ns, service_account, cluster_id, mesh_id, locality;  // locality: "region/zone/subzone", "" unknown
  std::map<std::string, std::string> labels;
  std::vector<std::string> addresses;                // INSTANCE_IPS
  std::string version;                               // ISTIO_VERSION
  std::map<std::string, std::string> metadata = {};  // the texts of it
  bool unprivileged = false;                         // UNPRIVILEGED_POD: ports below 1024 are not opened
  std::string cluster = {};                          // node.cluster
  std::shared_ptr<const Node> proxy_config = {};     // PROXY_CONFIG, where the node says it
  std::string proxy_config_text = {};
  const char* wildcard() const;  // "0.0.0.0", or "::" where the node has IPv6 only
  std::string key() const;       // equal for Nodes that get the same answer
};
struct TranslateOptions {
  bool deny_by_default = true;  // an ALLOW policy that allows nothing stands in the root namespace (istiod: false)
};

struct Answer {
  std::map<std::string, Json> clusters, endpoints, listeners, routes;
  bool for_grpc = false;              // header matches are said in the words that every gRPC knows
  std::set<std::string> other_names;  // listeners that are only for who asks for them by name
  std::vector<Patch> patches;         // EnvoyFilters, not applied yet (resource.h does)
};

Answer translate(const World& world, const NodeInfo& node, const TranslateOptions& options);

// Where its routes are written, "file:line:col" of the match (or of the rule that has none), by the names of route configuration and
// virtual host, in their order. Empty where EnvoyFilters patch routes: nobody knows then which is which.
using RoutePlaces = std::map<std::pair<std::string, std::string>, std::vector<std::string>>;
RoutePlaces route_places(const World& world, const NodeInfo& node);

}  // namespace sluice::plane
