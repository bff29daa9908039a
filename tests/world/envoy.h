// Envoy's resources as JSON text, as short as a test can say what matters to it. `more` is further fields, as "\"timeout\": \"5s\"".
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace sluice::world {

struct ListenerText {
  std::string name = "listener";
  uint16_t port = 80;
  std::string hcm = {};      // further fields of the http_connection_manager
  std::string filters = {};  // HTTP filters before the router, with a comma behind each
  std::string more = {};     // further fields of the listener
  std::string network = {};  // network filters before the http_connection_manager, with a comma behind each
};
std::string http_listener(const ListenerText& l = {});  // its routes: "routes" (RDS)
std::string tcp_listener(const std::string& name, uint16_t port, const std::string& cluster, const std::string& more = "");
// An RBAC filter for ListenerText::filters. action ALLOW or DENY; `paths` are prefixes, each a policy of its own named after it.
std::string rbac(const std::string& action, const std::vector<std::string>& path_prefixes);
std::string network_rbac(const std::string& action, const std::string& source_block);  // for ListenerText::network; one policy, "p"

// The RouteConfiguration "routes" with one virtual host for every domain.
std::string routes(const std::vector<std::string>& list, const std::string& more_of_virtual_host = "");
std::string route(const std::string& prefix, const std::string& cluster, const std::string& more_of_action = "");
// Any route: its match by prefix and what follows ("\"redirect\": {...}").
std::string route_with(const std::string& prefix, const std::string& rest);

std::string cluster(const std::string& name, const std::string& more = "", const std::string& connect_timeout = "2s");
std::string circuit(const std::string& thresholds);  // further field for cluster(): "\"max_connections\": 1"
std::string endpoints(const std::string& cluster, const std::vector<std::string>& addresses);  // "10.1.0.2:80"

// One listener on port 80, everything to the cluster "a" at 10.1.0.2:80; `action` is further fields of its route's action.
std::vector<std::string> plain(const std::string& action = "", const std::string& hcm = "", const std::string& cluster_more = "");

}  // namespace sluice::world
