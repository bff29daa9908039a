// The servers of the selected Gateways, merged as istiod merges them: which share a listener, which a route configuration, and which give
// way (the first Gateway keeps a TLS host of a port and bind; a port has one plain protocol a bind, HTTP kinds joined).
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

// "./x" is of the Gateway's namespace, "*/x" of any; "*/*" opens the whole server.
std::vector<std::string> sanitized_hosts(const Node& server, const std::string& ns) {
  std::vector<std::string> out;
  for (std::string h : server["hosts"].list()) {
    if (h == "*/*") return {"*"};
    if (h.starts_with("./")) h = ns + h.substr(1);
    else if (h.starts_with("*/")) h = h.substr(2);
    out.push_back(std::move(h));
  }
  return out;
}

void add_servers(const Config& gateway, View& v) {
  for (const Node& n : gateway.spec()["servers"].items) {
    Server s{.gateway = &gateway, .node = &n, .port = uint32_t(n["port"]["number"].integer())};
    s.service_port = s.port;
    if (is_of_gateway_api(gateway) && (s.port = workload_port(gateway, v.node, s.port)) == 0) continue;
    s.port_name = n["port"]["name"].str();
    s.raw_protocol = n["port"]["protocol"].str();
    s.protocol = upper(s.raw_protocol);
    s.bind = n["bind"].str();
    if (s.protocol == "HTTPS" || s.protocol == "TLS") s.tls_mode = n["tls"]["mode"].null() ? "PASSTHROUGH" : n["tls"]["mode"].str();
    s.hosts = sanitized_hosts(n, gateway.ns);
    std::set<std::string> names;
    for (const std::string& h : s.hosts) names.insert(h.substr(h.find('/') + 1));  // npos + 1 is 0
    s.sni_hosts.assign(names.begin(), names.end());
    v.servers.push_back(std::move(s));
  }
}

bool is_http(std::string_view protocol) {
  return protocol == "HTTP" || protocol == "HTTP2" || protocol == "GRPC" || protocol == "GRPC-WEB";
}

struct Merger {
  View& v;
  std::map<uint32_t, TakenHosts> tls_hosts;
  std::set<uint32_t> used;
  std::map<uint32_t, size_t> plain;  // port -> index in v.ports of the first plain server
  std::map<uint32_t, std::set<std::string>> later_binds;

  ListenerPort& port_of(const Server& s) {
    for (ListenerPort& p : v.ports)
      if (p.number == s.port && p.protocol == s.raw_protocol && p.bind == s.bind) return p;
    return v.ports.emplace_back(ListenerPort{.number = s.port, .protocol = s.raw_protocol, .bind = s.bind});
  }

  void add(const Server& s) {
    if (s.has_tls() && !claim_hosts(tls_hosts[s.port], s.hosts, s.bind)) return;
    const std::string route = s.route_name();
    if (used.insert(s.port).second) {
      if (!s.has_tls() || is_http(s.protocol)) plain[s.port] = v.ports.size();
      if (!route.empty()) v.routes[route] = {&s};
      ListenerPort& p = port_of(s);
      p.servers = {&s}, p.route_name = route;
      return;
    }
    if (const auto at = plain.find(s.port); at != plain.end()) return add_to_plain(s, at->second, route);
    if (s.plain_http() || s.terminates_http()) {
      if (v.routes.contains(route)) return;  // of two HTTPS servers of one name the first is served
      v.routes[route] = {&s};
    }
    if (!later_binds[s.port].insert(s.bind).second && !s.has_tls()) return;
    port_of(s).servers.push_back(&s);
  }

  void add_to_plain(const Server& s, size_t first, const std::string& route) {
    const bool same_bind = v.ports[first].bind == s.bind;
    const std::string first_protocol = upper(v.ports[first].protocol);
    const bool joins = (is_http(s.protocol) || s.protocol == first_protocol) && is_http(first_protocol);
    if (same_bind && (!joins || route.empty())) return;
    ListenerPort& p = same_bind ? v.ports[first] : port_of(s);
    if (!same_bind) p.route_name = route;
    p.servers.push_back(&s);
    v.routes[route].push_back(&s);
  }
};

}  // namespace

bool claim_hosts(TakenHosts& taken, const std::vector<std::string>& hosts, const std::string& bind) {
  for (const std::string& h : hosts)
    if (const auto at = taken.find(h); at != taken.end() && at->second == bind) return false;
  for (const std::string& h : hosts) taken[h] = bind;
  return true;
}

std::string Server::route_name() const {
  const std::string tail = bind.empty() ? "" : "." + bind;
  if (plain_http()) return "http." + std::to_string(port) + tail;
  if (terminates_http()) return "https." + std::to_string(service_port) + "." + port_name + "." + gateway->name + "." + gateway->ns + tail;
  return {};
}

void merge_gateways(View& v) {
  for (const Config* g : v.world.of_kind("Gateway"))
    if (is_of_gateway_api(*g) ? serves(*g, v.node) : labels_within(g->spec()["selector"], v.node.labels)) add_servers(*g, v);
  Merger m{v, {}, {}, {}, {}};
  for (const Server& s : v.servers) m.add(s);
  v.routes.erase("");
}

}  // namespace sluice::plane
