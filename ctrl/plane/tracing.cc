// Tracing of a gateway: Telemetry (what it says of clients, the narrower behind the wider) with a provider of MeshConfig; without any of
// it MeshConfig.enableTracing. A provider that is not there, or whose service is not, traces nothing.
#include <algorithm>

#include "ctrl/plane/providers.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

using Tags = std::map<std::string, Object>;  // by name: in istiod's order

void add_istio_tags(const NodeInfo& node, Tags& tags) {
  for (const char* kind : {"allow", "deny"})
    for (const auto& [what, key] : {std::pair("name", "shadow_effective_policy_id"), std::pair("result", "shadow_engine_result")}) {
      const std::string k = kind;
      tags["istio.authorization.dry_run." + k + "_policy." + what] = {
          {"metadata", Object{{"kind", Object{{"request", Object{}}}},
                              {"metadataKey", Object{{"key", "envoy.filters.http.rbac"},
                                                     {"path", Array{Object{{"key", "istio_dry_run_" + k + "_" + key}}}}}}}}};
    }
  const auto label = [&](const char* name, const char* otherwise) {
    const auto it = node.labels.find(name);
    return it == node.labels.end() || it->second.empty() ? std::string(otherwise) : it->second;
  };
  const auto known = [](const std::string& s, const char* otherwise) { return s.empty() ? std::string(otherwise) : s; };
  for (const auto& [tag, value] :
       {std::pair<const char*, std::string>("istio.canonical_revision", label("service.istio.io/canonical-revision", "latest")),
        {"istio.canonical_service", label("service.istio.io/canonical-name", "unknown")},
        {"istio.cluster_id", known(node.cluster_id, "unknown")},
        {"istio.mesh_id", known(node.mesh_id, "unknown")},
        {"istio.namespace", known(node.ns, "default")}})
    tags[tag] = {{"literal", Object{{"value", value}}}};
}

void add_custom_tags(const Node& from, Tags& tags) {
  for (size_t i = 0; i < from.keys.size(); i++) {
    const Node& t = from.items[i];
    Object& to = tags[from.keys[i].text] = {};
    if (t["literal"]) to.set("literal", Object{{"value", t["literal"]["value"].str()}});
    if (t["formatter"]) to.set("value", t["formatter"]["value"].str());
    for (const auto& [kind, name] : {std::pair("environment", "environment"), std::pair("header", "requestHeader")}) {
      if (t[kind].null()) continue;
      Object source{{"name", t[kind]["name"].str()}};
      to.set(name, source.set_if(!t[kind]["defaultValue"].str().empty(), "defaultValue", t[kind]["defaultValue"].str()));
    }
  }
}

Array request_headers(const Node& headers) {
  Array out;
  for (const Node& h : headers.items)
    out.add(
        Object{{"header", Object{{"key", h["name"].str()}, {"value", h["value"].str()}}}, {"appendAction", "OVERWRITE_IF_EXISTS_OR_ADD"}});
  return out;
}

Json http_service(const std::string& uri, const std::string& cluster, const Node& timeout, const char* otherwise, const Node& headers) {
  Object to{{"uri", uri}, {"cluster", cluster}};
  if (timeout) to.set("timeout", duration_json(*parse_duration(timeout.str())));
  else if (otherwise != nullptr) to.set("timeout", otherwise);
  Object service{{"httpUri", to}};
  return service.set_if(!headers.items.empty(), "requestHeadersToAdd", request_headers(headers));
}

Object envoy_grpc(const std::string& cluster, const std::string& host) {
  return {{"envoyGrpc", Object{{"clusterName", cluster}, {"authority", host}}}};
}

// HOST and PATH with one slash between them.
std::string joined(std::string host, const std::string& path) {
  if (!host.ends_with('/')) host += '/';
  return host + (path.starts_with('/') ? path.substr(1) : path);
}

Json zipkin(const Node& p, const std::string& cluster, const std::string& host) {
  const std::string path = p["path"].str().empty() ? "/api/v2/spans" : p["path"].str();
  Object o{{"collectorEndpointVersion", "HTTP_JSON"},
           {"traceId128bit", !p["enable64bitTraceId"].boolean()},
           {"sharedSpanContext", false},
           {"collectorService", http_service("http://" + host + path, cluster, p["timeout"], "5s", p["headers"])}};
  o.set_if(p["traceContextOption"].str() == "USE_B3_WITH_W3C_PROPAGATION", "traceContextOption", "USE_B3_WITH_W3C_PROPAGATION");
  return extension("envoy.tracers.zipkin", "envoy.config.trace.v3.ZipkinConfig", o);
}

Json opentelemetry(const Node& p, const std::string& cluster, const std::string& host, const std::string& own_name) {
  constexpr std::string_view kDetector = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.";
  Object o;
  o.set_if(!own_name.empty(), "serviceName", own_name);
  if (const Node& http = p["http"]) {
    o.set("httpService", http_service(joined(host, http["path"].str()), cluster, http["timeout"], nullptr, http["headers"]));
  } else {
    Object grpc = envoy_grpc(cluster, host);
    if (const Node& t = p["grpc"]["timeout"]) grpc.set("timeout", duration_json(*parse_duration(t.str())));
    Array metadata;
    for (const Node& h : p["grpc"]["initialMetadata"].items) metadata.add(Object{{"key", h["name"].str()}, {"value", h["value"].str()}});
    o.set("grpcService", grpc.set_if(!metadata.empty(), "initialMetadata", metadata));
  }
  Array detectors;
  if (p["resourceDetectors"].has("environment"))
    detectors.add(extension("envoy.tracers.opentelemetry.resource_detectors.environment",
                            std::string(kDetector) + "EnvironmentResourceDetectorConfig"));
  if (p["resourceDetectors"].has("dynatrace"))
    detectors.add(
        extension("envoy.tracers.opentelemetry.resource_detectors.dynatrace", std::string(kDetector) + "DynatraceResourceDetectorConfig"));
  return extension("envoy.tracers.opentelemetry", "envoy.config.trace.v3.OpenTelemetryConfig",
                   o.set_if(!detectors.empty(), "resourceDetectors", detectors));
}

// Nothing: it cannot trace.
std::optional<Json> tracer(const View& v, const Provider& p) {
  const Node& config = *p.config;
  const Service* s = provider_service(v, config["service"].str());
  if (s == nullptr) return {};
  const std::string cluster = cluster_name(uint32_t(config["port"].integer()), "", s->host);
  if (p.kind == "zipkin") return zipkin(config, cluster, s->host);
  if (p.kind == "opentelemetry") return opentelemetry(config, cluster, s->host, v.node.cluster);
  if (p.kind == "datadog") {
    Object o{{"collectorCluster", cluster}, {"collectorHostname", s->host}};
    return extension("envoy.tracers.datadog", "envoy.config.trace.v3.DatadogConfig",
                     o.set_if(!v.node.cluster.empty(), "serviceName", v.node.cluster));
  }
  if (p.kind == "skywalking")
    return extension("envoy.tracers.skywalking", "envoy.config.trace.v3.SkyWalkingConfig", {{"grpcService", envoy_grpc(cluster, s->host)}});
  return {};
}

struct Spec {  // of clients
  std::optional<Provider> provider;
  bool off = false, by_request_id = true, istio_tags = true;
  const Node *tags = &null_node(), *sampling = &null_node();
};

// Nothing: Telemetry has no say.
std::optional<Spec> spec_of(const View& v) {
  const auto defaults = v.world.mesh.config["defaultProviders"]["tracing"].list();
  std::vector<const Node*> items;
  for (const Config* c : telemetry_scopes(v))
    for (const Node& item : c->spec()["tracing"].items) items.push_back(&item);
  if (items.empty() && defaults.empty()) return {};
  Spec s;
  if (!defaults.empty()) s.provider = find_provider(v.world.mesh, defaults[0]);
  for (const Node* i : items) {
    const Node& item = *i;
    if (item["match"]["mode"].str() == "SERVER") continue;
    if (!item["providers"].items.empty()) s.provider = find_provider(v.world.mesh, item["providers"].items[0]["name"].str());
    if (const Node& n = item["disableSpanReporting"]) s.off = n.boolean();
    if (const Node& n = item["customTags"]) s.tags = &n;
    if (const Node& n = item["randomSamplingPercentage"]) s.sampling = &n;
    if (const Node& n = item["useRequestIdForTraceSampling"]) s.by_request_id = n.boolean();
    if (const Node& n = item["enableIstioTags"]) s.istio_tags = n.boolean();
  }
  return s;
}

}  // namespace

// Sets `tracing`, where there is any. True: the request's id decides what is sampled.
bool add_tracing(const View& v, Object& manager) {
  const Node& own = proxy_config(v)["tracing"];
  Object o;
  bool istio_tags = own["enableIstioTags"].null() || own["enableIstioTags"].boolean(), by_request_id = true;
  const Node *tags = &own["customTags"], *sampling = own["sampling"].number() != 0 ? &own["sampling"] : &null_node();
  int64_t length = own["maxPathTagLength"].integer();
  if (const auto spec = spec_of(v)) {
    const auto provider = spec->off || !spec->provider ? std::nullopt : tracer(v, *spec->provider);
    if (!provider) return true;
    if (const int64_t n = (*spec->provider->config)["maxTagLength"].integer(); n > 0) length = n;
    o.set("provider", *provider).set("spawnUpstreamSpan", true);
    istio_tags = spec->istio_tags, by_request_id = spec->by_request_id;
    if (!spec->tags->keys.empty()) tags = spec->tags;
    if (*spec->sampling) sampling = spec->sampling;
  } else if (const Node& on = v.world.mesh.config["enableTracing"]; on && !on.boolean()) {
    return true;
  }
  o.set("clientSampling", Object{{"value", 100}});
  o.set("randomSampling", Object{{"value", *sampling ? Json::raw(sampling->str()) : Json(1)}});
  o.set("overallSampling", Object{{"value", 100}});
  Tags all;
  if (istio_tags) add_istio_tags(v.node, all);
  add_custom_tags(*tags, all);
  Array list;
  for (const auto& [name, tag] : all) list.add(Object{{"tag", name}}.merge(tag));
  o.set_if(!list.empty(), "customTags", list).set_if(length > 0, "maxPathTagLength", length);
  manager.set("tracing", o);
  return by_request_id;
}

}  // namespace sluice::plane
