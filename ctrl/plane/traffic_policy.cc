#include "ctrl/plane/traffic_policy.h"

namespace sluice::plane {
namespace {

constexpr uint32_t kNoLimit = 4294967295;

Policy of(const Node& policy, uint32_t port) {
  const auto parts = [](const Node& n, bool all) {
    return Policy{&n["connectionPool"],
                  &n["outlierDetection"],
                  &n["loadBalancer"],
                  &n["tls"],
                  all ? &n["proxyProtocol"] : &null_node(),
                  all ? &n["retryBudget"] : &null_node()};
  };
  for (const Node& p : policy["portLevelSettings"].items)
    if (p["port"]["number"].integer() == port) return parts(p, false);
  return parts(policy, true);
}

Json limit(const Node& n) { return n.integer() > 0 ? n.integer() : int64_t(kNoLimit); }

Json duration_of(const Node& d, const Node& otherwise, const char* last) {
  if (d) return json_duration(d);
  return otherwise ? json_duration(otherwise) : std::string(last);
}

void add_keepalive(const Node& own, const Node& mesh, Object& cluster) {
  Object keepalive;
  for (const auto& [from, to] :
       {std::pair("probes", "keepaliveProbes"), std::pair("time", "keepaliveTime"), std::pair("interval", "keepaliveInterval")}) {
    const Node& n = own[from] ? own[from] : mesh[from];
    if (!n) continue;
    const int64_t value = from == std::string_view("probes") ? n.integer() : *parse_duration(n.str()) / 1'000'000'000;
    if (value > 0 || from != std::string_view("probes")) keepalive.set(to, value);
  }
  if (own || mesh) cluster.set("upstreamConnectionOptions", Object{{"tcpKeepalive", keepalive}});
}

Object slow_start(const Node& lb) {
  Object o;
  if (const Node& w = lb["warmup"]) {
    const Json aggression = w["aggression"] ? Json::raw(w["aggression"].str()) : Json(1);
    const Json least = w["minimumPercent"] ? Json::raw(w["minimumPercent"].str()) : Json(10);
    o.set("slowStartWindow", json_duration(w["duration"])).set("aggression", Object{{"defaultValue", aggression}, {"runtimeKey", "("}});
    o.set("minWeightPercent", w["minimumPercent"] && w["minimumPercent"].number() == 0 ? Json(Object{}) : Json(Object{{"value", least}}));
  } else if (const Node& d = lb["warmupDurationSecs"]) {
    o.set("slowStartWindow", json_duration(d));
  }
  return o;
}

}  // namespace

std::string json_duration(const Node& d) { return duration_json(*parse_duration(d.str())); }

Policy policy_of(const Config* rule, const Node& subset, uint32_t port) {
  Policy p = rule == nullptr ? Policy{} : of(rule->spec()["trafficPolicy"], port);
  if (!subset["trafficPolicy"]) return p;
  const Policy own = of(subset["trafficPolicy"], port);
  for (const auto part :
       {&Policy::pool, &Policy::outliers, &Policy::balancer, &Policy::tls, &Policy::proxy_protocol, &Policy::retry_budget})
    if (*(own.*part)) p.*part = own.*part;
  return p;
}

const Node& locality_setting(const Policy& p, const Mesh& mesh, bool& off) {
  const Node& own = (*p.balancer)["localityLbSetting"];
  const Node& setting = own ? own : mesh.config["localityLbSetting"];
  off = setting["enabled"] && !setting["enabled"].boolean();
  return off ? null_node() : setting;
}

bool speaks_http2(const ServicePort& p, const Policy& policy, const Mesh& mesh) {
  const Node& http = (*policy.pool)["http"];
  if (p.protocol == "HTTP2" || p.protocol == "GRPC") return true;
  if (http["useClientProtocol"].boolean()) return false;
  if (const std::string& want = http["h2UpgradePolicy"].str(); want == "UPGRADE" || want == "DO_NOT_UPGRADE") return want == "UPGRADE";
  return (p.protocol == "HTTP" || p.protocol == "GRPC-WEB") && mesh.config["h2UpgradePolicy"].str() == "UPGRADE";
}

bool passes_through(const Policy& p) { return (*p.balancer)["simple"].str() == "PASSTHROUGH"; }

void UpstreamOptions::put(Object& cluster) const {
  if (!http2 && !downstream_protocol && !has_common && upstream_http.empty()) return;
  constexpr std::string_view kOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  Object options, h2;
  options.set_if(has_common, "commonHttpProtocolOptions", common)
      .set_if(!upstream_http.empty(), "upstreamHttpProtocolOptions", upstream_http);
  h2.set_if(streams_max > 0 && http2, "maxConcurrentStreams", streams_max);
  if (downstream_protocol)
    options.set("useDownstreamProtocolConfig", Object{{"httpProtocolOptions", Object{}}, {"http2ProtocolOptions", Object{}}});
  else options.set("explicitHttpConfig", http2 ? Object{{"http2ProtocolOptions", h2}} : Object{{"httpProtocolOptions", Object{}}});
  cluster.set("typedExtensionProtocolOptions", Object{{kOptions, typed(kOptions, options)}});
}

void add_pool(const Policy& p, const Mesh& mesh, Object& c, UpstreamOptions& options) {
  const Node &tcp = (*p.pool)["tcp"], &http = (*p.pool)["http"];
  c.set("connectTimeout", duration_of(tcp["connectTimeout"], mesh.config["connectTimeout"], "10s"));
  Object limits{{"maxConnections", limit(tcp["maxConnections"])},
                {"maxPendingRequests", limit(http["http1MaxPendingRequests"])},
                {"maxRequests", limit(http["http2MaxRequests"])},
                {"maxRetries", limit(http["maxRetries"])}};
  if (const Node& b = *p.retry_budget) {
    const Json percent = b["percent"]["value"] ? Json::raw(b["percent"]["value"].str()) : Json::raw("0.2");
    const int64_t least = b["minRetryConcurrency"].integer() > 0 ? b["minRetryConcurrency"].integer() : 3;
    limits.set("retryBudget", Object{{"budgetPercent", Object{{"value", percent}}}, {"minRetryConcurrency", least}});
  }
  c.set("circuitBreakers", Object{{"thresholds", Array{limits}}});
  const Node& idle = http["idleTimeout"] ? http["idleTimeout"] : tcp["idleTimeout"];
  if (idle) options.common.set("idleTimeout", json_duration(idle));
  if (tcp["maxConnectionDuration"]) options.common.set("maxConnectionDuration", json_duration(tcp["maxConnectionDuration"]));
  if (http["maxRequestsPerConnection"].integer() > 0)
    options.common.set("maxRequestsPerConnection", http["maxRequestsPerConnection"].integer());
  options.streams_max = http["maxConcurrentStreams"].integer();
  options.has_common = !options.common.empty() || options.streams_max > 0;
  options.downstream_protocol = http["useClientProtocol"].boolean();
  add_keepalive(tcp["tcpKeepalive"], mesh.config["tcpKeepalive"], c);
}

void add_outliers(const Policy& p, const Mesh& mesh, Object& c) {
  const Node& o = *p.outliers;
  Object common;
  if (o) {
    Object out;
    if (const Node& errors = o["consecutive5xxErrors"])
      out.set("consecutive5xx", errors.integer()).set("enforcingConsecutive5xx", errors.integer() > 0 ? 100 : 0);
    for (const char* d : {"interval", "baseEjectionTime"})
      if (o[d]) out.set(d, json_duration(o[d]));
    if (o["maxEjectionPercent"].integer() > 0) out.set("maxEjectionPercent", o["maxEjectionPercent"].integer());
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
  bool off = false;
  const Node& locality = locality_setting(p, mesh, off);
  const bool fails_over = o && (!locality["failover"].items.empty() || !locality["failoverPriority"].items.empty());
  if (fails_over || !locality["distribute"].items.empty()) common.set("localityWeightedLbConfig", Object{});
  c.set("commonLbConfig", common);
}

void add_balancer(const Node& lb, Object& c) {
  if (const Node& h = lb["consistentHash"]) {
    if (const Node& m = h["maglev"]) {
      c.set("lbPolicy", "MAGLEV");
      if (m["tableSize"].integer() > 0) c.set("maglevLbConfig", Object{{"tableSize", m["tableSize"].str()}});
      return;
    }
    c.set("lbPolicy", "RING_HASH");
    const Node& ring = h["ringHash"];
    const Node& size = ring ? ring["minimumRingSize"] : h["minimumRingSize"];
    if (size.integer() > 0) c.set("ringHashLbConfig", Object{{"minimumRingSize", size.str()}});
    else if (!ring) c.set("ringHashLbConfig", Object{{"minimumRingSize", "1024"}});
    return;
  }
  const std::string& s = lb["simple"].str();
  const Object slow = slow_start(lb);
  if (s == "RANDOM") c.set("lbPolicy", "RANDOM");
  else if (s == "PASSTHROUGH") c.set("lbPolicy", "CLUSTER_PROVIDED");
  else if (s == "ROUND_ROBIN") c.set_if(!slow.empty(), "roundRobinLbConfig", Object{{"slowStartConfig", slow}});  // Envoy's 0: not said
  else c.set("lbPolicy", "LEAST_REQUEST").set_if(!slow.empty(), "leastRequestLbConfig", Object{{"slowStartConfig", slow}});
}

}  // namespace sluice::plane
