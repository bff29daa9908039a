// Chains that carry bytes: TCP servers, TLS servers that end the handshake here, PASSTHROUGH by SNI, AUTO_PASSTHROUGH.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

bool uses_source_ip(const Node& rule, const std::string& subset) {
  bool use = rule["trafficPolicy"]["loadBalancer"]["consistentHash"]["useSourceIp"].boolean();
  for (const Node& s : rule["subsets"].items)
    if (s["name"].str() == subset) {
      if (s["trafficPolicy"]["loadBalancer"]) use = s["trafficPolicy"]["loadBalancer"]["consistentHash"]["useSourceIp"].boolean();
      break;
    }
  return use;
}

struct TcpProxy {
  std::string stat;
  Object cluster;                // "cluster" or "weightedClusters"
  const Config* rule = nullptr;  // of the first destination
  std::string subset;
  bool authorized = true;  // AUTO_PASSTHROUGH is Istio's own mTLS between networks: the far end decides
  bool metadata_exchange = false;
};

Json tcp_filters(const View& v, const TcpProxy& t) {
  Array filters;
  if (t.metadata_exchange) filters.add(metadata_exchange_tcp());
  if (t.authorized) filters.add_all(tcp_rbac(v));
  filters.add_all(stats_filters(v));
  Object p{{"statPrefix", t.stat}};
  p.merge(t.cluster);
  if (t.rule != nullptr) {
    const Node& tcp = t.rule->spec()["trafficPolicy"]["connectionPool"]["tcp"];
    if (tcp["idleTimeout"]) p.set("idleTimeout", duration_json(*parse_duration(tcp["idleTimeout"].str())));
    if (tcp["maxConnectionDuration"])
      p.set("maxDownstreamConnectionDuration", duration_json(*parse_duration(tcp["maxConnectionDuration"].str())));
    if (uses_source_ip(t.rule->spec(), t.subset)) p.set("hashPolicy", Array{Object{{"sourceIp", Object{}}}});
  }
  if (const Array logs = access_logs(v); !logs.empty()) p.set("accessLog", logs);
  return filters.add(extension("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", p));
}

Json l4_filters(const View& v, const Node& route, const Virtual& x, const Server& s) {
  const auto& targets = route["route"].items;
  TcpProxy t;
  t.metadata_exchange = s.tls_mode == "ISTIO_MUTUAL";
  const Service* first = v.service(full_host(targets[0]["destination"]["host"].str(), x.config->ns));
  if (first != nullptr) t.rule = v.destination_rule(*first);
  if (targets.size() == 1) {
    t.stat = destination_cluster(v, targets[0]["destination"], x.config->ns, s.service_port);
    t.subset = targets[0]["destination"]["subset"].str();
    t.cluster = {{"cluster", t.stat}};
    return tcp_filters(v, t);
  }
  Array weighted;
  for (const Node& d : targets)
    if (d["weight"].integer() > 0)
      weighted.add(
          Object{{"name", destination_cluster(v, d["destination"], x.config->ns, s.service_port)}, {"weight", d["weight"].integer()}});
  t.stat = x.config->name + "." + x.config->ns;
  t.cluster = {{"weightedClusters", Object{{"clusters", weighted}}}};
  return tcp_filters(v, t);
}

// Only port and gateway count; istiod looks at no other condition of an L4 match on a gateway.
bool l4_match_applies(const Node& m, const Virtual& x, const Server& s) {
  if (m["port"] && m["port"].integer() != s.service_port) return false;
  const auto& gateways = m["gateways"].items;
  return gateways.empty() ||
         std::ranges::any_of(gateways, [&](const Node& g) { return full_gateway(g.str(), x.config->ns) == s.gateway_name(); });
}

bool serves(const Server& s, const Virtual& x) { return !intersection(hosts_for(s, x.config->ns), x.hosts).empty(); }

// The first tcp route that applies takes all of the server.
void add_tcp_chain(const View& v, const Server& s, std::vector<Chain>& chains) {
  for (const Virtual* bound : v.bound_to(s)) {
    const Virtual& x = *bound;
    if (!serves(s, x)) continue;
    for (const Node& r : x.config->spec()["tcp"].items) {
      const auto& matches = r["match"].items;
      if (!matches.empty() && std::ranges::none_of(matches, [&](const Node& m) { return l4_match_applies(m, x, s); })) continue;
      if (r["route"].items.empty()) continue;
      const Json filters = l4_filters(v, r, x, s);
      if (!s.has_tls()) return chains.push_back(chain({}, filters));
      const Json socket = downstream_tls(s);
      return chains.push_back(chain(sni_match(s.sni_hosts), filters, &socket, true));
    }
  }
}

// One chain a match; of two with one SNI host the first stays.
void add_passthrough_chains(const View& v, const Server& s, TakenHosts& taken, std::vector<Chain>& chains) {
  for (const Virtual* bound : v.bound_to(s)) {
    const Virtual& x = *bound;
    if (!serves(s, x)) continue;
    for (const Node& r : x.config->spec()["tls"].items)
      for (const Node& m : r["match"].items)
        if (l4_match_applies(m, x, s) && claim_hosts(taken, m["sniHosts"].list(), s.bind))
          chains.push_back(chain(sni_match(m["sniHosts"].list()), l4_filters(v, r, x, s), nullptr, true));
  }
}

void add_auto_passthrough_chains(const View& v, const Server& s, std::vector<Chain>& chains) {
  const Json alpn = Array{"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"};
  for (const Service* seen : v.services) {
    const Service& service = *seen;
    if (service.external || v.service(service.host) != &service) continue;
    if (std::ranges::none_of(s.sni_hosts, [&](const std::string& h) { return host_within(service.host, h); })) continue;
    const Config* rule = v.destination_rule(service);
    for (const ServicePort& p : service.ports) {
      std::vector<std::string> subsets{""};
      if (rule != nullptr)
        for (const Node& n : rule->spec()["subsets"].items) subsets.push_back(n["name"].str());
      for (const std::string& subset : subsets) {
        const std::string name = sni_name(p.number, subset, service.host);
        const TcpProxy t{.stat = name, .cluster = {{"cluster", name}}, .rule = rule, .subset = subset, .authorized = false};
        chains.push_back(chain({{"serverNames", Array{name}}, {"applicationProtocols", alpn}}, tcp_filters(v, t), nullptr, true));
      }
    }
  }
}

}  // namespace

void add_l4_chains(const View& v, const Server& s, TakenHosts& taken, std::vector<Chain>& out) {
  if (s.tls_mode == "PASSTHROUGH") add_passthrough_chains(v, s, taken, out);
  else if (s.tls_mode == "AUTO_PASSTHROUGH") add_auto_passthrough_chains(v, s, out);
  else add_tcp_chain(v, s, out);
}

}  // namespace sluice::plane
