// CDS and EDS. A gateway gets the services that its routes name (istiod's PILOT_FILTER_GATEWAY_CLUSTER_CONFIG), each with every port and
// every subset, and for an AUTO_PASSTHROUGH server the SNI-DNAT twins of all services that it serves.
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr uint32_t kNoLimit = 4294967295;
constexpr std::string_view kTls = "envoy.extensions.transport_sockets.tls.v3.";

void named_hosts(const Node& n, const std::string& ns, std::set<std::string>& out) {
  for (size_t i = 0; i < n.items.size(); i++) {
    if (i < n.keys.size() && (n.keys[i].text == "destination" || n.keys[i].text == "mirror"))
      out.insert(full_host(n.items[i]["host"].str(), ns));
    named_hosts(n.items[i], ns, out);
  }
}

Json sds(std::string_view name) {
  const Json source = Object{{"apiType", "GRPC"},
                             {"transportApiVersion", "V3"},
                             {"grpcServices", Array{Object{{"envoyGrpc", Object{{"clusterName", "sds-grpc"}}}}}},
                             {"setNodeOnFirstMessageOnly", true}};
  return Object{{"name", name},
                {"sdsConfig", Object{{"apiConfigSource", source}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}}};
}

// Automatic mutual TLS: the endpoint's tlsMode metadata chooses between Istio's mTLS and the wire as it is.
Json auto_mtls(const std::string& sni, bool http2) {
  Array alpn{"istio-peer-exchange", "istio"};
  if (http2) alpn.add("h2");
  const Object context{
      {"commonTlsContext", Object{{"tlsParams", Object{{"tlsMinimumProtocolVersion", "TLSv1_2"}, {"tlsMaximumProtocolVersion", "TLSv1_3"}}},
                                  {"tlsCertificateSdsSecretConfigs", Array{sds("default")}},
                                  {"combinedValidationContext",
                                   Object{{"defaultValidationContext", Object{}}, {"validationContextSdsSecretConfig", sds("ROOTCA")}}},
                                  {"alpnProtocols", alpn}}},
      {"sni", sni}};
  return Array{Object{{"name", "tlsMode-istio"},
                      {"match", Object{{"tlsMode", "istio"}}},
                      {"transportSocket", extension("envoy.transport_sockets.tls", std::string(kTls) + "UpstreamTlsContext", context)}},
               Object{{"name", "tlsMode-disabled"},
                      {"match", Object{}},
                      {"transportSocket",
                       extension("envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")}}};
}

Json metadata_exchange() {
  return Array{extension("istio.metadata_exchange", "udpa.type.v1.TypedStruct",
                         {{"typeUrl", "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"},
                          {"value", Object{{"enable_discovery", true}, {"protocol", "istio-peer-exchange"}}}})};
}

// A subset's policy replaces the rule's part by part.
struct Policy {
  const Node& subset;
  const Node& rule;
  const Node& operator[](std::string_view part) const { return subset[part] ? subset[part] : rule[part]; }
};

void add_pool(const Node& pool, Object& c) {
  const Node &tcp = pool["tcp"], &http = pool["http"];
  const auto limit = [](const Node& n) { return Json(n && n.integer() > 0 ? n.integer() : int64_t(kNoLimit)); };
  c.set("connectTimeout", tcp["connectTimeout"] ? duration_json(*parse_duration(tcp["connectTimeout"].str())) : std::string("10s"));
  c.set("circuitBreakers", Object{{"thresholds", Array{Object{{"maxConnections", limit(tcp["maxConnections"])},
                                                              {"maxPendingRequests", limit(http["http1MaxPendingRequests"])},
                                                              {"maxRequests", limit(http["http2MaxRequests"])},
                                                              {"maxRetries", limit(http["maxRetries"])}}}}});
}

std::string seconds(const Node& d) { return duration_json(*parse_duration(d.str())); }

bool speaks_http2(const ServicePort& p, const Node& http_pool) {
  return p.protocol == "HTTP2" || p.protocol == "GRPC" || (p.protocol == "HTTP" && http_pool["h2UpgradePolicy"].str() == "UPGRADE");
}

// What of the pool is said in HttpProtocolOptions and in the connection itself.
void add_protocol_options(const Node& pool, bool http2, Object& c) {
  const Node &tcp = pool["tcp"], &http = pool["http"];
  const Node& idle = http["idleTimeout"] ? http["idleTimeout"] : tcp["idleTimeout"];
  const Node &requests = http["maxRequestsPerConnection"], &streams = http["maxConcurrentStreams"];
  Object common, explicit_http, options;
  if (idle) common.set("idleTimeout", seconds(idle));
  if (tcp["maxConnectionDuration"]) common.set("maxConnectionDuration", seconds(tcp["maxConnectionDuration"]));
  if (requests.integer() > 0) common.set("maxRequestsPerConnection", requests.integer());
  if (!common.empty() || streams.integer() > 0) options.set("commonHttpProtocolOptions", common);
  if (http2)
    explicit_http.set("http2ProtocolOptions", streams.integer() > 0 ? Object{{"maxConcurrentStreams", streams.integer()}} : Object{});
  else explicit_http.set("httpProtocolOptions", Object{});
  constexpr std::string_view kOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  if (http2 || !options.empty())
    c.set("typedExtensionProtocolOptions", Object{{kOptions, typed(kOptions, options.set("explicitHttpConfig", explicit_http))}});
  if (const Node& k = tcp["tcpKeepalive"]) {
    Object keepalive;
    if (k["probes"].integer() > 0) keepalive.set("keepaliveProbes", k["probes"].integer());
    for (const auto& [from, to] : {std::pair("time", "keepaliveTime"), std::pair("interval", "keepaliveInterval")})
      if (k[from]) keepalive.set(to, *parse_duration(k[from].str()) / 1'000'000'000);
    c.set("upstreamConnectionOptions", Object{{"tcpKeepalive", keepalive}});
  }
}

bool enabled(const Node& locality_lb) { return locality_lb && (locality_lb["enabled"].null() || locality_lb["enabled"].boolean()); }

void add_outliers(const Node& o, const Node& lb, Object& c) {
  Object common;
  if (o) {
    Object out;
    const Node& errors = o["consecutive5xxErrors"] ? o["consecutive5xxErrors"] : o["consecutiveErrors"];
    if (errors) out.set("consecutive5xx", errors.integer());
    for (const char* d : {"interval", "baseEjectionTime"})
      if (o[d]) out.set(d, seconds(o[d]));
    if (o["maxEjectionPercent"].integer() > 0) out.set("maxEjectionPercent", o["maxEjectionPercent"].integer());
    if (errors) out.set("enforcingConsecutive5xx", errors.integer() > 0 ? 100 : 0);
    out.set("enforcingSuccessRate", 0);
    if (const Node& g = o["consecutiveGatewayErrors"])
      out.set("consecutiveGatewayFailure", g.integer()).set("enforcingConsecutiveGatewayFailure", g.integer() > 0 ? 100 : 0);
    if (o["splitExternalLocalOriginErrors"].boolean()) {
      out.set("splitExternalLocalOriginErrors", true);
      if (const Node& l = o["consecutiveLocalOriginFailures"]; l.integer() > 0)
        out.set("consecutiveLocalOriginFailure", l.integer()).set("enforcingConsecutiveLocalOriginFailure", 100);
      out.set("enforcingLocalOriginSuccessRate", 0);
    }
    c.set("outlierDetection", out);
    // Istio: without a minimum the gateway never panics.
    common.set("healthyPanicThreshold",
               o["minHealthPercent"].integer() > 0 ? Object{{"value", o["minHealthPercent"].integer()}} : Object{});
  }
  if (enabled(lb["localityLbSetting"])) common.set("localityWeightedLbConfig", Object{});
  c.set("commonLbConfig", common);
}

void add_balancer(const Node& lb, Object& c) {
  if (const Node& h = lb["consistentHash"]) {
    if (const Node& m = h["maglev"]) {
      c.set("lbPolicy", "MAGLEV");
      if (m["tableSize"]) c.set("maglevLbConfig", Object{{"tableSize", m["tableSize"].str()}});
      return;
    }
    const Node& size = h["ringHash"]["minimumRingSize"] ? h["ringHash"]["minimumRingSize"] : h["minimumRingSize"];
    c.set("lbPolicy", "RING_HASH").set("ringHashLbConfig", Object{{"minimumRingSize", size ? size.str() : std::string("1024")}});
    return;
  }
  const std::string& s = lb["simple"].str();
  if (s == "ROUND_ROBIN") return;  // Envoy's 0: not said
  c.set("lbPolicy", s == "RANDOM" ? "RANDOM" : "LEAST_REQUEST");
}

Json cluster(const View& v, const Service& s, const ServicePort& p, const Config* rule, const Node& subset, bool sni_dnat) {
  const std::string sub = subset["name"].str();
  const std::string name = sni_dnat ? sni_name(p.number, sub, s.host) : cluster_name(p.number, sub, s.host);
  const Policy policy{subset["trafficPolicy"], rule != nullptr ? rule->spec()["trafficPolicy"] : null_node()};
  const bool http2 = speaks_http2(p, policy["connectionPool"]["http"]);
  Object c;
  if (const Node& tls = backend_tls(v.rules, s.host, p.number); tls && !sni_dnat) c.set("transportSocket", backend_tls_socket(tls, http2));
  else if (!sni_dnat) c.set("transportSocketMatches", auto_mtls(sni_name(p.number, sub, s.host), http2));
  c.set("name", name).set("altStatName", name + ";").set("type", "EDS");
  c.set("edsClusterConfig", Object{{"edsConfig", Object{{"ads", Object{}}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}},
                                   {"serviceName", name}});
  add_balancer(policy["loadBalancer"], c);
  add_pool(policy["connectionPool"], c);
  if (!sni_dnat) add_protocol_options(policy["connectionPool"], http2, c);
  add_outliers(policy["outlierDetection"], policy["loadBalancer"], c);
  Object istio;
  if (rule != nullptr) istio.set("config", config_path(*rule));
  istio.set("services", Array{Object{{"host", s.host}, {"name", s.host}, {"namespace", s.ns}}});
  if (subset) istio.set("subset", sub);
  c.set("metadata", Object{{"filterMetadata", Object{{"istio", istio}}}});
  c.set("filters", metadata_exchange());
  return typed("envoy.config.cluster.v3.Cluster", c);
}

// One endpoint of a service: inline in the ServiceEntry or a WorkloadEntry that it selects.
struct Endpoint {
  const Node& spec;
  std::string workload, ns;
};

std::vector<Endpoint> endpoints_of(const View& v, const Service& s) {
  std::vector<Endpoint> out;
  for (const Node& e : s.entry->spec()["endpoints"].items) out.push_back({e, {}, {}});
  const Node& selector = s.entry->spec()["workloadSelector"]["labels"];
  if (selector)
    for (const Config* w : v.world.of_kind("WorkloadEntry")) {
      std::map<std::string, std::string> labels;
      const Node& l = w->spec()["labels"];
      for (size_t i = 0; i < l.keys.size(); i++) labels[l.keys[i].text] = l.items[i].text;
      if (w->ns == s.ns && labels_within(selector, labels)) out.push_back({w->spec(), w->name, w->ns});
    }
  return out;
}

const std::string& label(const Node& labels, std::initializer_list<const char*> names) {
  for (const char* n : names)
    if (labels[n]) return labels[n].str();
  return null_node().text;
}

struct Locality {
  uint64_t weight = 0;
  Array endpoints;
  uint32_t priority = 0;
};

std::vector<std::string> parts(const std::string& locality) {
  std::vector<std::string> out(3);
  size_t at = 0;
  for (std::string& part : out) {
    if (at > locality.size()) break;
    const size_t end = std::min(locality.find('/', at), locality.size());
    part = locality.substr(at, end - at);
    at = end + 1;
  }
  return out;
}

Json locality_json(const std::string& locality) {
  Object o;
  const auto p = parts(locality);
  for (const auto& [i, name] : {std::pair(0, "region"), std::pair(1, "zone"), std::pair(2, "subZone")})
    o.set_if(!p[size_t(i)].empty(), name, p[size_t(i)]);
  return o;
}

// "eu/eu-1/*" takes what begins so; "*" takes all.
bool locality_matches(const std::string& pattern, const std::string& locality) {
  const auto p = parts(pattern), l = parts(locality);
  for (size_t i = 0; i < 3; i++) {
    if (p[i] == "*") return true;
    if (p[i] != l[i]) return p[i].empty();
  }
  return true;
}

// Istio's locality load balancing for a gateway at `own`: shares by `distribute`, else, where outliers are detected, priorities by nearness
// (and by `failover` for other regions), without gaps.
void balance_localities(const std::string& own, const Policy& policy, std::map<std::string, Locality>& by_locality) {
  const Node& setting = policy["loadBalancer"]["localityLbSetting"];
  if (own.empty() || by_locality.empty() || (setting && !enabled(setting))) return;
  for (const Node& d : setting["distribute"].items) {
    if (!locality_matches(d["from"].str(), own)) continue;
    std::map<std::string, Locality> out;
    for (size_t i = 0; i < d["to"].keys.size(); i++) {
      uint64_t sum = 0;
      for (const auto& [name, l] : by_locality)
        if (locality_matches(d["to"].keys[i].text, name)) sum += l.weight;
      for (const auto& [name, l] : by_locality) {
        if (!locality_matches(d["to"].keys[i].text, name) || out.contains(name)) continue;
        out[name] = l;
        out[name].weight = (uint64_t(d["to"].items[i].integer()) * l.weight + sum - 1) / sum;
      }
    }
    std::erase_if(out, [](const auto& x) { return x.second.weight == 0; });
    by_locality = std::move(out);
    return;
  }
  if (policy["outlierDetection"].null()) return;
  const auto here = parts(own);
  std::map<uint32_t, uint32_t> used;
  for (auto& [name, l] : by_locality) {
    const auto there = parts(name);
    l.priority = there[0] != here[0] ? 3 : there[1] != here[1] ? 2 : there[2] != here[2] ? 1 : 0;
    if (l.priority == 3)
      for (const Node& f : setting["failover"].items)
        if (f["from"].str() == here[0]) l.priority = f["to"].str() == there[0] ? 3 : 4;
    used[l.priority] = 0;
  }
  uint32_t next = 0;
  for (auto& [from, to] : used) to = next++;
  for (auto& [name, l] : by_locality) l.priority = used[l.priority];
}

Json assignment(const View& v, const Service& s, const ServicePort& p, const Config* rule, const Node& subset, const std::string& name,
                bool only_mtls) {
  std::map<std::string, Locality> by_locality;
  for (const Endpoint& e : endpoints_of(v, s)) {
    const Node& labels = e.spec["labels"];
    std::map<std::string, std::string> have;
    for (size_t i = 0; i < labels.keys.size(); i++) have[labels.keys[i].text] = labels.items[i].text;
    if (!labels_within(subset["labels"], have)) continue;
    const bool mtls = have["security.istio.io/tlsMode"] == "istio";
    if (only_mtls && !mtls) continue;
    const Node& own_port = e.spec["ports"][p.name];
    const uint32_t port = own_port ? uint32_t(own_port.integer()) : p.target;
    const uint64_t weight = e.spec["weight"].integer() > 0 ? uint64_t(e.spec["weight"].integer()) : 1;
    Object filters;
    if (mtls) filters.set("envoy.transport_socket_match", Object{{"tlsMode", "istio"}});
    filters.set("istio",
                Object{{"workload", e.workload + ";" + e.ns + ";" +
                                        label(labels, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"}) + ";" +
                                        label(labels, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}) +
                                        ";" + v.node.cluster_id}});
    Locality& locality = by_locality[e.spec["locality"].str()];
    locality.weight += weight;
    locality.endpoints.add(Object{
        {"endpoint", Object{{"address", Object{{"socketAddress", Object{{"address", e.spec["address"].str()}, {"portValue", port}}}}}}},
        {"metadata", Object{{"filterMetadata", filters}}},
        {"loadBalancingWeight", weight}});
  }
  Array groups;
  balance_localities(v.node.locality, {subset["trafficPolicy"], rule != nullptr ? rule->spec()["trafficPolicy"] : null_node()},
                     by_locality);
  for (const auto& [name_of, l] : by_locality) {
    Object group{{"locality", locality_json(name_of)}, {"lbEndpoints", l.endpoints}, {"loadBalancingWeight", l.weight}};
    groups.add(group.set_if(l.priority != 0, "priority", l.priority));
  }
  Object out{{"clusterName", name}};
  out.set_if(!groups.empty(), "endpoints", groups);
  return typed("envoy.config.endpoint.v3.ClusterLoadAssignment", out);
}

void add_service(const View& v, const Service& s, bool sni_dnat, Answer& out) {
  const Config* rule = v.destination_rule(s);
  std::vector<const Node*> subsets{&null_node()};
  if (rule != nullptr)
    for (const Node& n : rule->spec()["subsets"].items) subsets.push_back(&n);
  for (const ServicePort& p : s.ports)
    for (const Node* subset : subsets) {
      const std::string& sub = (*subset)["name"].str();
      const std::string name = sni_dnat ? sni_name(p.number, sub, s.host) : cluster_name(p.number, sub, s.host);
      out.clusters[name] = cluster(v, s, p, rule, *subset, sni_dnat);
      out.endpoints[name] = assignment(v, s, p, rule, *subset, name, sni_dnat);
    }
}

}  // namespace

void translate_clusters(const View& v, Answer& out) {
  out.clusters["BlackHoleCluster"] =
      typed("envoy.config.cluster.v3.Cluster",
            {{"name", "BlackHoleCluster"}, {"altStatName", "BlackHoleCluster;"}, {"type", "STATIC"}, {"connectTimeout", "10s"}});
  std::set<std::string> wanted;
  for (const Virtual& x : v.virtuals) {
    for (const Node& r : x.http) named_hosts(r, x.config->ns, wanted);
    named_hosts(x.config->spec()["tls"], x.config->ns, wanted);
    named_hosts(x.config->spec()["tcp"], x.config->ns, wanted);
  }
  for (const Service& s : v.services) {
    if (wanted.contains(s.host) && v.service(s.host) == &s) add_service(v, s, false, out);
    const bool passed = std::ranges::any_of(v.servers, [&](const Server& server) {
      return server.tls_mode == "AUTO_PASSTHROUGH" && !intersection(hosts_for(server, s.ns), {s.host}).empty();
    });
    if (passed) add_service(v, s, true, out);
  }
}

}  // namespace sluice::plane
