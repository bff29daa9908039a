// Routes of one VirtualService on one server, and the parts that they are made of. Inside of ctrl/plane.
#pragma once
#include <functional>

#include "ctrl/plane/view.h"

namespace sluice::plane {

struct Route {
  Json json;
  bool catch_all = false;
  const Node* from = nullptr;  // the match, or the rule without one; lives as long as the view
};
// In their order, up to the first that takes every request.
std::vector<Route> routes_of(const View& v, const Virtual& x, const Server& s);

// Of one VirtualService on the servers of one Gateway.
struct RouteList {
  std::vector<Route> routes;
};
// The list of a VirtualService on a server; nullptr: it has no routes there.
using RouteLists = std::function<const RouteList*(const Virtual&, const Server&)>;
// The virtual hosts of a route configuration, in its order.
struct PlannedHost {
  std::string name;
  std::vector<std::string> domains;
  std::vector<const RouteList*> lists;
  bool tls_only = false;
  bool blackhole = false;  // there is no other
};
std::vector<PlannedHost> plan_hosts(const View& v, const std::vector<const Server*>& servers, const RouteLists& lists);  // not empty
Json virtual_host(const PlannedHost& h);
Json route_configuration(const std::string& name, const Array& hosts);  // of hosts, or without them

struct Match {
  Json json;
  std::string operation;  // the decorator's tail
  bool catch_all = false;
};
Match match_json(const Node& m, bool by_segment = false);  // by_segment: a prefix ends where a segment does
Object string_match(const Node& m);
std::map<std::string, const Node*> sorted(const Node& map);  // by key

}  // namespace sluice::plane
