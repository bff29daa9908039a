// Hosts: whether a Gateway serves what a VirtualService routes, by the same kind of routes, and which servers of Gateways give way.
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/known.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

std::string some_hosts(const KnownGateway& g) {
  std::string out;
  size_t n = 0;
  for (const KnownServer& s : g.servers)
    for (const auto& [ns, name] : s.hosts)
      if (n++ < 4) out += (out.empty() ? "" : ", ") + (ns == "*" ? "" : ns + "/") + name;
  return g.name + " serves " + out + (n > 4 ? " and " + std::to_string(n - 4) + " more" : "");
}

void check_virtual(const Known& k, const Config& c, Warnings& out) {
  const auto hosts = hosts_of(c);
  const auto names = gateways_of(c);
  if (hosts.empty() || names.empty()) return;
  std::vector<const KnownGateway*> gateways;
  for (const std::string& g : names) {
    const auto at = k.gateways.find(g);
    if (at == k.gateways.end()) return;  // warned; what it would serve is not known
    gateways.push_back(&at->second);
  }
  bool any = false;
  for (size_t i = 0; i < hosts.size(); i++) {
    const auto serves = [&](const KnownGateway* g) { return g->serves_host(hosts[i], c.ns); };
    if (std::ranges::any_of(gateways, serves)) any = true;
    else if (!names_mesh(c))  // with sidecars in it, the host may be theirs
      out.add(c, c.spec()["hosts"].items[i], "unserved-host",
              "no Gateway of this VirtualService serves the host " + hosts[i] + ": " + joined(names) +
                  (names.size() == 1 ? " does not have it" : " do not have it"),
              some_hosts(*gateways[0]));
  }
  if (!any) return;
  size_t at = 0;
  for (const Node& g : c.spec()["gateways"].items) {
    if (g.str() == "mesh") continue;
    const KnownGateway& gateway = *gateways[at++];
    if (std::ranges::none_of(hosts, [&](const std::string& h) { return gateway.serves_host(h, c.ns); }))
      out.add(c, g, "unserved-host", "Gateway " + gateway.name + " serves none of this VirtualService's hosts", some_hosts(gateway));
  }
  // The kind of routes that a server looks at.
  if (names_mesh(c)) return;
  static constexpr std::pair<const char*, Serves> kLists[] = {{"http", Serves::kHttp}, {"tls", Serves::kTls}, {"tcp", Serves::kTcp}};
  for (const auto& [list, how] : kLists) {
    const Node& routes = c.spec()[list];
    if (routes.items.empty()) continue;
    bool looked_at = false;
    std::string looks_at;
    for (const KnownGateway* g : gateways)
      for (const std::string& h : hosts) {
        looked_at |= g->serves_host(h, c.ns, how);
        for (const auto& [other, other_how] : kLists)
          if (looks_at.empty() && other_how != how && g->serves_host(h, c.ns, other_how)) looks_at = other;
      }
    if (!looked_at)
      out.add(c, *c.spec().key_of(list), "unreachable-route",
              std::string("no server of its Gateways looks at ") + list + " routes for these hosts: they are unreachable",
              looks_at.empty() ? "the server is AUTO_PASSTHROUGH: it takes no routes" : "its servers look at " + looks_at + " routes");
  }
}

// As merge_gateways has it, for each kind of gateway that the directory selects.
constexpr size_t kSelectorsMax = 64;

void check_servers(const Known& k, Warnings& out) {
  std::set<Labels> selectors;
  for (const KnownGateway* g : k.in_order)
    if (!g->config->derived) selectors.insert(labels_of(g->config->spec()["selector"]));
  if (selectors.size() > kSelectorsMax) return;
  std::set<const Node*> warned, servers_in_force;
  std::map<const Node*, const Config*> gives_way;
  for (const Labels& labels : selectors) {
    NodeInfo node;
    node.labels = labels;
    View v{.world = k.world, .node = node, .parts = nullptr};
    merge_gateways(v);
    std::set<const Node*> in_force;
    for (const ListenerPort& p : v.ports)
      for (const Server* s : p.servers) in_force.insert(s->node);
    for (const Server& s : v.servers)
      if (!in_force.contains(s.node) && !s.gateway->derived) gives_way[s.node] = s.gateway;
  }
  for (const auto& [server, gateway] : gives_way)
    out.add(*gateway, *server, "server-gives-way",
            "this server is not opened: an older one of the same gateway has its port " + (*server)["port"]["number"].str() +
                " with another protocol, or its hosts",
            "give it another port, or other hosts; of two with one port Istio keeps that of the older Gateway");
}

}  // namespace

void check_hosts(const Known& k, Warnings& out) {
  for (const Config* c : k.world.of_kind("VirtualService"))
    if (!c->derived) check_virtual(k, *c, out);
  check_servers(k, out);
}

}  // namespace sluice::plane
