// RDS: the virtual hosts of a route configuration, as istiod merges servers, VirtualServices and hosts.
#include <algorithm>

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
  std::vector<Route> routes;
  std::vector<const void*> identity;  // whose routes they are: only the same lists of the same gateway are sent once
  bool tls_only = false;
  std::vector<std::string> domains;
};

std::string lower(std::string s) {
  for (char& c : s) c = char(std::tolower(c));
  return s;
}

using Hosts = std::map<std::string, VirtualHost>;

void add_server(const View& v, const Server& s, std::map<std::pair<std::string, const Config*>, std::vector<Route>>& known, Hosts& hosts) {
  const bool tls_only = (*s.node)["tls"]["httpsRedirect"].boolean();
  for (const Virtual* bound : v.bound_to(s)) {
    const Virtual& x = *bound;
    const auto both = intersection(hosts_for(s, x.config->ns), x.hosts);
    if (both.empty()) continue;
    const auto [at, is_new] = known.try_emplace({s.gateway_name(), x.config.get()});
    if (is_new) at->second = routes_of(v, x, s);
    if (at->second.empty()) continue;
    for (const std::string& h : both) {
      VirtualHost& host = hosts[lower(h)];
      host.routes.insert(host.routes.end(), at->second.begin(), at->second.end());
      host.identity.push_back(&at->second);
      host.tls_only |= tls_only;
    }
  }
  if (tls_only)
    for (const std::string& h : s.hosts) hosts[lower(h)].tls_only = true;  // istiod leaves a "ns/" there
}

// Hosts with the very same routes become one virtual host, named after the first: exact before wildcard, longer before shorter.
std::vector<VirtualHost*> collapsed(Hosts& hosts) {
  std::vector<std::string> order;
  for (const auto& [h, host] : hosts) order.push_back(h);
  std::ranges::sort(order, more_specific);
  std::map<std::vector<const void*>, VirtualHost*> last;  // by identity
  std::vector<VirtualHost*> out;
  for (const std::string& h : order) {
    VirtualHost& host = hosts[h];
    VirtualHost*& same = last[host.identity];
    if (same != nullptr && same->tls_only == host.tls_only) {
      same->domains.push_back(h);
      continue;
    }
    host.domains = {h};
    out.push_back(same = &host);
  }
  return out;
}

std::string name_with_port(const std::string& host, uint32_t port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port);
}

}  // namespace

Json route_configuration(const View& v, const std::string& name, const std::vector<const Server*>& servers) {
  Hosts hosts;
  std::map<std::pair<std::string, const Config*>, std::vector<Route>> known;
  for (const Server* s : servers) add_server(v, *s, known, hosts);
  const uint32_t port = servers[0]->service_port;
  Array out;
  auto merged = collapsed(hosts);
  std::ranges::sort(merged, {}, [&](const VirtualHost* h) { return name_with_port(h->domains[0], port); });
  for (VirtualHost* host : merged) {
    std::ranges::stable_sort(host->routes, {}, &Route::catch_all);
    Array routes;
    for (const Route& r : host->routes) routes.add(r.json);
    Object o{{"name", name_with_port(host->domains[0], port)}, {"domains", strings(host->domains)}};
    o.set_if(!routes.empty(), "routes", routes)
        .set_if(host->tls_only, "requireTls", "ALL")
        .set_if(counts_attempts(v), "includeRequestAttemptCount", true);
    out.add(o);
  }
  if (hosts.empty()) out.add(Object{{"name", "blackhole:" + std::to_string(port)}, {"domains", Array{"*"}}});
  return typed("envoy.config.route.v3.RouteConfiguration", {{"name", name},
                                                            {"virtualHosts", out},
                                                            {"validateClusters", false},
                                                            {"maxDirectResponseBodySizeBytes", 1048576},
                                                            {"ignorePortInHostMatching", true}});
}

}  // namespace sluice::plane
