// CDS and EDS. A gateway gets the services that its routes and the mesh's providers name (istiod's PILOT_FILTER_GATEWAY_CLUSTER_CONFIG),
// each with every port and every subset, and for an AUTO_PASSTHROUGH server the SNI-DNAT twins of all services of the mesh.
#include <algorithm>

#include "ctrl/plane/endpoints.h"
#include "ctrl/plane/gateway_api.h"

namespace sluice::plane {
namespace {

// Which sockets reach the endpoints. Automatic mutual TLS: the endpoint's tlsMode metadata chooses between Istio's mTLS and the wire as it
// is.
void add_sockets(const View& v, const Service& s, const Policy& policy, const std::string& sni, bool http2, Object& c,
                 UpstreamOptions& options) {
  const Node& tls = *policy.tls;
  const std::string mode = tls ? (tls["mode"].null() ? "DISABLE" : tls["mode"].str()) : "";
  if (mode == "SIMPLE" || mode == "MUTUAL") {
    if (tls["sni"].str().empty()) {
      options.upstream_http.set("autoSni", true);
      if (tls["subjectAltNames"].items.empty() && !tls["insecureSkipVerify"].boolean())
        options.upstream_http.set("autoSanValidation", true);
    }
    c.set("transportSocket", originated_tls(tls, identities_of(v, s), http2));
  } else if (mode == "ISTIO_MUTUAL") {
    const auto names = tls["subjectAltNames"].items.empty() ? identities_of(v, s) : tls["subjectAltNames"].list();
    c.set("transportSocket", istio_mutual_tls(tls["sni"].str().empty() ? sni : tls["sni"].str(), names, http2));
  } else if (mode.empty() && !s.external && s.resolution != "NONE" && peer_mode(v, s.ns) != PeerMode::kDisable &&
             (v.world.mesh.config["enableAutoMtls"].null() || v.world.mesh.config["enableAutoMtls"].boolean())) {
    c.set("transportSocketMatches",
          Array{Object{{"name", "tlsMode-istio"},
                       {"match", Object{{"tlsMode", "istio"}}},
                       {"transportSocket", istio_mutual_tls(sni, identities_of(v, s), http2)}},
                Object{{"name", "tlsMode-disabled"},
                       {"match", Object{}},
                       {"transportSocket",
                        extension("envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")}}});
  }
}

void add_name_resolution(const View& v, Object& c) {
  const bool v6 = v.node.wildcard() == std::string_view("::");
  c.set("dnsRefreshRate", v.world.mesh.config["dnsRefreshRate"] ? json_duration(v.world.mesh.config["dnsRefreshRate"]) : "60s");
  c.set("dnsJitter", "0.100s").set("respectDnsTtl", true).set("dnsLookupFamily", v6 ? "V6_ONLY" : "V4_ONLY");
  c.set("typedDnsResolverConfig",
        extension("envoy.network.dns_resolver.cares", "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                  {{"udpMaxQueries", 100}}));
}

void add_metadata(const Service& s, const Config* rule, const Node& subset, const Policy& policy, bool sni_dnat, Object& c) {
  Object istio;
  if (rule != nullptr) {
    istio.set("config", config_path(*rule));
    if (const std::string& mode = (*policy.tls)["mode"].str(); mode == "SIMPLE" || mode == "MUTUAL") istio.set("alpn_override", "false");
  }
  istio.set_if(s.external && !subset && !sni_dnat, "external", true);
  istio.set("services", Array{Object{{"host", s.host}, {"name", s.host}, {"namespace", s.ns}}});
  if (subset) istio.set("subset", subset["name"].str());
  c.set("metadata", Object{{"filterMetadata", Object{{"istio", istio}}}});
}

void add_cluster(const View& v, const Service& s, const ServicePort& p, const Config* rule, const Node& subset, bool sni_dnat,
                 Answer& out) {
  const std::string sub = subset["name"].str(), sni = sni_name(p.number, sub, s.host);
  const std::string name = sni_dnat ? sni : cluster_name(p.number, sub, s.host);
  Policy policy = policy_of(rule, subset, p.number);
  const Node& asked = backend_tls(v, s.host, p.number);
  if (asked) policy.tls = &asked;
  const Object members = assignment(v, s, p, rule, subset, name, sni_dnat);
  const bool names = s.resolution.starts_with("DNS");
  Object c{{"name", name}, {"altStatName", name + ";"}};
  if (names) {
    c.set("type", s.resolution == "DNS" ? "STRICT_DNS" : "LOGICAL_DNS").set("loadAssignment", members);
    add_name_resolution(v, c);
  } else {
    c.set("type", "EDS");
    c.set("edsClusterConfig", Object{{"edsConfig", Object{{"ads", Object{}}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}},
                                     {"serviceName", name}});
    out.endpoints[name] = typed("envoy.config.endpoint.v3.ClusterLoadAssignment", members);
  }
  UpstreamOptions options;
  options.http2 = speaks_http2(p, policy, v.world.mesh);
  add_balancer(*policy.balancer, c);
  add_pool(policy, v.world.mesh, c, options);
  add_outliers(policy, v.world.mesh, c);
  if (asked && !sni_dnat) c.set("transportSocket", backend_tls_socket(asked, options.http2 && !options.downstream_protocol));
  else if (!sni_dnat) add_sockets(v, s, policy, sni, options.http2 && !options.downstream_protocol, c, options);
  options.put(c);
  add_metadata(s, rule, subset, policy, sni_dnat, c);
  c.set("filters", Array{metadata_exchange_tcp()});
  out.clusters[name] = typed("envoy.config.cluster.v3.Cluster", c);
}

bool is_named(const Service& s, const std::set<std::string>& by_routes, const std::set<std::pair<std::string, std::string>>& by_providers) {
  return by_routes.contains(s.host) || by_providers.contains({"", s.host}) || by_providers.contains({s.ns, s.host});
}

}  // namespace

void translate_service(const View& v, const Service& s, bool sni_dnat, Answer& out) {
  const Config* rule = v.destination_rule(s);
  for (const ServicePort& p : s.ports) {
    if (p.protocol == "UDP") continue;
    if (s.resolution.starts_with("DNS") && endpoints_of(v, s, p).empty()) continue;  // nothing to resolve: no cluster and no subset
    add_cluster(v, s, p, rule, null_node(), sni_dnat, out);
    if (rule == nullptr) continue;
    for (const Node& subset : rule->spec()["subsets"].items) add_cluster(v, s, p, rule, subset, sni_dnat, out);
  }
}

Json metadata_exchange_tcp() {
  return extension("istio.metadata_exchange", "udpa.type.v1.TypedStruct",
                   {{"typeUrl", "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"},
                    {"value", Object{{"enable_discovery", true}, {"protocol", "istio-peer-exchange"}}}});
}

void add_black_hole(const View& v, Answer& out) {
  const Node& timeout = v.world.mesh.config["connectTimeout"];
  out.clusters["BlackHoleCluster"] =
      typed("envoy.config.cluster.v3.Cluster", {{"name", "BlackHoleCluster"},
                                                {"altStatName", "BlackHoleCluster;"},
                                                {"type", "STATIC"},
                                                {"connectTimeout", timeout ? json_duration(timeout) : "10s"}});
}

std::vector<WantedService> wanted_services(const View& v) {
  std::set<std::string> by_routes;
  for (const Virtual* x : v.virtuals) by_routes.insert(x->destinations.begin(), x->destinations.end());
  const auto providers = provider_hosts(v.world.mesh);
  const bool dnat = std::ranges::any_of(v.servers, [](const Server& s) { return s.tls_mode == "AUTO_PASSTHROUGH"; });
  std::vector<WantedService> out;
  for (const Service* s : v.services) {
    if (v.service(s->host) != s) continue;
    if (!v.servers.empty() && is_named(*s, by_routes, providers)) out.push_back({s, false});
    if (dnat && !s->external) out.push_back({s, true});
  }
  return out;
}

void translate_clusters(const View& v, Answer& out) {
  add_black_hole(v, out);
  for (const auto& [s, sni_dnat] : wanted_services(v)) translate_service(v, *s, sni_dnat, out);
}

}  // namespace sluice::plane
