// RDS: the virtual hosts of a route configuration, as istiod merges servers, VirtualServices and hosts.
#include <algorithm>
#include <unordered_map>

#include "ctrl/plane/routes.h"

namespace sluice::plane {
namespace {

// Exact before wildcard, longer before shorter.
bool more_specific(const std::string& a, const std::string& b) {
  const bool wa = a.starts_with('*'), wb = b.starts_with('*');
  if (wa != wb) return wb;
  if (a.size() != b.size()) return a.size() > b.size();
  return a < b;
}

struct VirtualHost {
  std::vector<const RouteList*> lists;  // only the same lists are sent once
  bool tls_only = false;
  std::vector<std::string> domains;
};

std::string lower(std::string s) {
  for (char& c : s) c = char(std::tolower(c));
  return s;
}

using Hosts = std::unordered_map<std::string, VirtualHost>;
using Known = std::map<std::pair<const Config*, const Config*>, const RouteList*>;  // by Gateway and VirtualService

void add_server(const View& v, const Server& s, const RouteLists& lists, Known& known, Hosts& hosts) {
  const bool tls_only = (*s.node)["tls"]["httpsRedirect"].boolean();
  std::map<std::string_view, std::vector<std::string>> open;  // to a namespace
  for (const Virtual* x : v.bound_to(s)) {
    const auto [own, is_first] = open.try_emplace(x->config->ns);
    if (is_first) own->second = hosts_for(s, x->config->ns);
    const auto both = intersection(own->second, x->hosts);
    if (both.empty()) continue;
    const auto [at, is_new] = known.try_emplace({s.gateway, x->config.get()});
    if (is_new) at->second = lists(*x, s);
    if (at->second == nullptr) continue;
    for (const std::string& h : both) {
      VirtualHost& host = hosts[lower(h)];
      host.lists.push_back(at->second);
      host.tls_only |= tls_only;
    }
  }
  if (tls_only)
    for (const std::string& h : s.hosts) hosts[lower(h)].tls_only = true;  // istiod leaves a "ns/" there
}

// Hosts with the very same routes become one virtual host, named after the first: exact before wildcard, longer before shorter.
std::vector<VirtualHost*> collapsed(Hosts& hosts) {
  std::vector<Hosts::value_type*> order;
  order.reserve(hosts.size());
  for (auto& entry : hosts) order.push_back(&entry);
  std::ranges::sort(order, more_specific, [](const auto* e) -> const std::string& { return e->first; });
  std::map<std::vector<const RouteList*>, VirtualHost*> last;
  std::vector<VirtualHost*> out;
  for (auto* entry : order) {
    VirtualHost& host = entry->second;
    VirtualHost*& same = last[host.lists];
    if (same != nullptr && same->tls_only == host.tls_only) {
      same->domains.push_back(entry->first);
      continue;
    }
    host.domains = {entry->first};
    out.push_back(same = &host);
  }
  return out;
}

std::string name_with_port(const std::string& host, uint32_t port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

}  // namespace

namespace {

std::vector<const Route*> routes_in_order(const PlannedHost& h) {
  std::vector<const Route*> all;
  for (const RouteList* list : h.lists)
    for (const Route& r : list->routes) all.push_back(&r);
  std::ranges::stable_sort(all, {}, &Route::catch_all);
  return all;
}

// The lists of a route configuration, made once.
RouteLists lists_of(const View& v, std::deque<RouteList>& made) {
  return [&](const Virtual& x, const Server& s) {
    RouteList list{routes_of(v, x, s)};
    return list.routes.empty() ? nullptr : &made.emplace_back(std::move(list));
  };
}

}  // namespace

std::vector<PlannedHost> plan_hosts(const View& v, const std::vector<const Server*>& servers, const RouteLists& lists) {
  Hosts hosts;
  Known known;
  for (const Server* s : servers) add_server(v, *s, lists, known, hosts);
  const uint32_t port = servers[0]->service_port;
  std::vector<PlannedHost> out;
  for (VirtualHost* h : collapsed(hosts)) {
    std::string name = name_with_port(h->domains[0], port);
    out.push_back({std::move(name), std::move(h->domains), std::move(h->lists), h->tls_only, false, counts_attempts(v)});
  }
  std::ranges::sort(out, {}, &PlannedHost::name);
  if (out.empty()) out.push_back({"blackhole:" + std::to_string(port), {"*"}, {}, false, true});
  return out;
}

Json virtual_host(const PlannedHost& h) {
  Object o{{"name", h.name}, {"domains", strings(h.domains)}};
  if (h.blackhole) return o;
  Array routes;
  for (const Route* r : routes_in_order(h)) routes.add(r->json);
  return o.set_if(!routes.empty(), "routes", routes)
      .set_if(h.tls_only, "requireTls", "ALL")
      .set_if(h.counts_attempts, "includeRequestAttemptCount", true);
}

Json route_configuration(const std::string& name, const Array& hosts) {
  Object o{{"name", name}};
  o.set_if(!hosts.empty(), "virtualHosts", hosts).set("validateClusters", false).set("maxDirectResponseBodySizeBytes", 1048576);
  return typed("envoy.config.route.v3.RouteConfiguration", o.set("ignorePortInHostMatching", true));
}

Json route_configuration(const View& v, const std::string& name, const std::vector<const Server*>& servers) {
  std::deque<RouteList> made;
  Array out;
  for (const PlannedHost& h : plan_hosts(v, servers, lists_of(v, made))) out.add(virtual_host(h));
  return route_configuration(name, out);
}

RoutePlaces route_places(const World& world, const NodeInfo& node) {
  const View v = view_of(world, node);
  for (const Patch& p : patches_of(v))
    if (p.apply_to == "HTTP_ROUTE" || p.apply_to == "VIRTUAL_HOST" || p.apply_to == "ROUTE_CONFIGURATION") return {};
  RoutePlaces out;
  for (const auto& [name, servers] : v.routes) {
    std::deque<RouteList> made;
    for (const PlannedHost& h : plan_hosts(v, servers, lists_of(v, made)))
      for (const Route* r : routes_in_order(h)) out[{name, h.name}].push_back(issue_at(*r->from, "").place());
  }
  return out;
}

}  // namespace sluice::plane
