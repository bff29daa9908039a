#include <algorithm>

#include "ctrl/plane/translate.h"

namespace sluice::plane {

bool matches_labels(const std::map<std::string, std::string>& want, const std::map<std::string, std::string>& have) {
  return std::ranges::all_of(want, [&](const auto& w) {
    const auto it = have.find(w.first);
    return it != have.end() && it->second == w.second;
  });
}

std::string object_path(const Object& o) {
  std::string kind;
  for (char c : o.kind) {
    if (c >= 'A' && c <= 'Z' && !kind.empty()) kind += '-';
    kind += char(c >= 'A' && c <= 'Z' ? c + 32 : c);
  }
  return "/apis/networking.istio.io/v1/namespaces/" + o.ns + "/" + kind + "/" + o.name;
}

std::string intersect_hosts(const std::string& a, const std::string& b) {
  auto covers = [](const std::string& wide, const std::string& narrow) {
    if (wide == narrow || wide == "*") return true;
    if (!wide.starts_with("*.")) return false;
    const std::string suffix = wide.substr(1);
    return narrow.size() > suffix.size() && narrow.ends_with(suffix);
  };
  return covers(a, b) ? b : covers(b, a) ? a : "";
}

NodeInfo node_of(const json& node) {
  NodeInfo n;
  n.id = node.value("id", "");
  const json metadata = node.value("metadata", json::object());
  n.ns = metadata.value("NAMESPACE", "");
  if (n.ns.empty()) {  // "router~IP~NAME.NS~DOMAIN"
    const size_t last = n.id.rfind('~'), dot = n.id.rfind('.', last);
    const size_t third = n.id.rfind('~', last == std::string::npos || last == 0 ? 0 : last - 1);
    n.ns = last != std::string::npos && dot != std::string::npos && third != std::string::npos && dot > third ? n.id.substr(dot + 1, last - dot - 1) : "default";
  }
  n.cluster_id = metadata.value("CLUSTER_ID", "Kubernetes");
  n.mesh_id = metadata.value("MESH_ID", "cluster.local");
  n.service_account = metadata.value("SERVICE_ACCOUNT", "");
  if (metadata.contains("LABELS"))
    for (const auto& [k, v] : metadata["LABELS"].items())
      if (v.is_string()) n.labels[k] = v.get<std::string>();
  return n;
}

Translation::Translation(const World& w, const NodeInfo& n, const Options& o) : world(w), node(n), options(o) {
  for (const Object* e : world.of("ServiceEntry"))
    for (const std::string& host : texts(get(e->spec, "hosts"))) services.try_emplace(host, Service{host, e->ns, e});
  for (const Object* r : world.of("DestinationRule")) rules.try_emplace(full_host(text(get(r->spec, "host")), r->ns), r);
  for (const Object* g : world.of("Gateway"))
    if (matches_labels(labels(get(g->spec, "selector")), node.labels)) gateways.push_back(g);
}

// A name without a dot is a Kubernetes service of the object's namespace.
std::string Translation::full_host(const std::string& host, const std::string& ns) const {
  return host.find('.') == std::string::npos && host != "*" ? host + "." + ns + ".svc.cluster.local" : host;
}

std::vector<const Object*> Translation::services_of_gateway(const Object& gateway) const {
  std::vector<const Object*> out;
  for (const Object* vs : world.of("VirtualService"))
    for (const std::string& name : texts(get(vs->spec, "gateways"))) {
      const size_t slash = name.find('/');
      const bool here = slash == std::string::npos ? name == gateway.name && vs->ns == gateway.ns : name.substr(0, slash) == gateway.ns && name.substr(slash + 1) == gateway.name;
      if (here) {
        out.push_back(vs);
        break;
      }
    }
  return out;
}

std::string Translation::cluster_name(const Yaml* destination, const std::string& ns, long listener_port) const {
  const std::string host = full_host(text(get(destination, "host")), ns);
  long port = number(get(get(destination, "port"), "number"), 0);
  if (port == 0) {
    const auto s = services.find(host);
    const Yaml* ports = s == services.end() ? nullptr : get(s->second.entry->spec, "ports");
    port = ports != nullptr && ports->items.size() == 1 ? number(get(ports->items[0], "number")) : listener_port;
  }
  return "outbound|" + std::to_string(port) + "|" + text(get(destination, "subset")) + "|" + host;
}

namespace {

json sds(const std::string& name) {
  return {{"name", name},
          {"sdsConfig",
           {{"apiConfigSource",
             {{"apiType", "GRPC"}, {"transportApiVersion", "V3"}, {"grpcServices", {{{"envoyGrpc", {{"clusterName", "sds-grpc"}}}}}}, {"setNodeOnFirstMessageOnly", true}}},
            {"initialFetchTimeout", "0s"},
            {"resourceApiVersion", "V3"}}}};
}

// Auto mTLS: an endpoint labelled security.istio.io/tlsMode: istio gets the mesh's TLS, every other is plain.
json socket_matches(const std::string& sni) {
  const json tls = {
      {"@type", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"},
      {"commonTlsContext",
       {{"tlsParams", {{"tlsMinimumProtocolVersion", "TLSv1_2"}, {"tlsMaximumProtocolVersion", "TLSv1_3"}}},
        {"tlsCertificateSdsSecretConfigs", json::array({sds("default")})},
        {"combinedValidationContext", {{"defaultValidationContext", json::object()}, {"validationContextSdsSecretConfig", sds("ROOTCA")}}},
        {"alpnProtocols", {"istio-peer-exchange", "istio"}}}},
      {"sni", sni}};
  return json::array({{{"name", "tlsMode-istio"}, {"match", {{"tlsMode", "istio"}}}, {"transportSocket", {{"name", "envoy.transport_sockets.tls"}, {"typedConfig", tls}}}},
                      {{"name", "tlsMode-disabled"},
                       {"match", json::object()},
                       {"transportSocket",
                        {{"name", "envoy.transport_sockets.raw_buffer"},
                         {"typedConfig", {{"@type", "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}}}}});
}

json cluster(const std::string& name, const Service& s, const Object* rule, const std::string& subset, const std::string& sni) {
  json istio = {{"services", json::array({{{"host", s.host}, {"name", s.host}, {"namespace", s.ns}}})}};
  if (rule != nullptr) istio["config"] = object_path(*rule);
  if (!subset.empty()) istio["subset"] = subset;
  constexpr uint32_t kMost = 4294967295u;
  json c = {{"@type", "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
            {"name", name},
            {"altStatName", name + ";"},
            {"type", "EDS"},
            {"edsClusterConfig", {{"edsConfig", {{"ads", json::object()}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}}, {"serviceName", name}}},
            {"connectTimeout", "10s"},
            {"lbPolicy", "LEAST_REQUEST"},
            {"circuitBreakers", {{"thresholds", json::array({{{"maxConnections", kMost}, {"maxPendingRequests", kMost}, {"maxRequests", kMost}, {"maxRetries", kMost}}})}}},
            {"commonLbConfig", json::object()},
            {"metadata", {{"filterMetadata", {{"istio", istio}}}}},
            {"filters",
             json::array({{{"name", "istio.metadata_exchange"},
                           {"typedConfig",
                            {{"@type", "type.googleapis.com/udpa.type.v1.TypedStruct"},
                             {"typeUrl", "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange"},
                             {"value", {{"enable_discovery", true}, {"protocol", "istio-peer-exchange"}}}}}}})}};
  if (!sni.empty()) c["transportSocketMatches"] = socket_matches(sni);
  return c;
}

std::string first_of(const std::map<std::string, std::string>& l, std::initializer_list<const char*> keys) {
  for (const char* k : keys)
    if (const auto it = l.find(k); it != l.end()) return it->second;
  return "";
}

json locality_of(const std::string& l) {
  json out = json::object();
  const size_t a = l.find('/'), b = a == std::string::npos ? a : l.find('/', a + 1);
  if (!l.empty()) out["region"] = l.substr(0, a);
  if (a != std::string::npos) out["zone"] = l.substr(a + 1, b == std::string::npos ? b : b - a - 1);
  if (b != std::string::npos) out["subZone"] = l.substr(b + 1);
  return out;
}

}  // namespace

void Translation::clusters(Resources& out) const {
  out.cds.push_back({{"@type", "type.googleapis.com/envoy.config.cluster.v3.Cluster"}, {"name", "BlackHoleCluster"}, {"altStatName", "BlackHoleCluster;"}, {"type", "STATIC"}, {"connectTimeout", "10s"}});
  // What the bound routes name (PILOT_FILTER_GATEWAY_CLUSTER_CONFIG); an AUTO_PASSTHROUGH server needs every service by SNI.
  std::set<std::string> wanted;
  bool sni_dnat = false;
  auto destinations = [&](const Object& vs, const Yaml* routes) {
    for (const Yaml& r : items(routes))
      for (const Yaml& d : items(get(r, "route"))) wanted.insert(full_host(text(get(get(d, "destination"), "host")), vs.ns));
  };
  auto virtual_service = [&](const Object& vs) {
    for (const char* kind : {"http", "tls", "tcp"}) destinations(vs, get(vs.spec, kind));
  };
  for (const Object* g : gateways) {
    for (const Yaml& s : items(get(g->spec, "servers"))) sni_dnat |= text(get(get(s, "tls"), "mode")) == "AUTO_PASSTHROUGH";
    for (const Object* vs : services_of_gateway(*g)) {
      virtual_service(*vs);
      for (const Yaml& r : items(get(vs->spec, "http")))
        if (const Yaml* d = get(r, "delegate"))
          for (const Object* target : world.of("VirtualService"))
            if (target->name == text(get(d, "name")) && target->ns == text(get(d, "namespace"), vs->ns)) virtual_service(*target);
    }
  }
  for (const auto& [host, s] : services) {
    const auto found = rules.find(host);
    const Object* rule = found == rules.end() ? nullptr : found->second;
    std::vector<std::pair<std::string, std::map<std::string, std::string>>> subsets = {{"", {}}};
    if (rule != nullptr)
      for (const Yaml& x : items(get(rule->spec, "subsets"))) subsets.emplace_back(text(get(x, "name")), labels(get(x, "labels")));

    std::vector<const Yaml*> workloads;
    for (const Yaml& w : items(get(s.entry->spec, "endpoints"))) workloads.push_back(&w);
    if (const Yaml* selector = get(s.entry->spec, "workloadSelector"))
      for (const Object* w : world.of("WorkloadEntry"))
        if (w->ns == s.ns && matches_labels(labels(get(selector, "labels")), labels(get(w->spec, "labels")))) workloads.push_back(&w->spec);

    for (const Yaml& p : items(get(s.entry->spec, "ports"))) {
      const std::string port = text(get(p, "number"));
      for (const auto& [subset, want] : subsets) {
        const std::string by_sni = "outbound_." + port + "_." + (subset.empty() ? "_" : subset + "_") + "." + host;
        std::vector<std::string> names;
        if (wanted.contains(host)) {
          names.push_back("outbound|" + port + "|" + subset + "|" + host);
          out.cds.push_back(cluster(names.back(), s, rule, subset, by_sni));
        }
        if (sni_dnat) {
          names.push_back(by_sni);
          out.cds.push_back(cluster(by_sni, s, rule, subset, ""));
        }
        for (const std::string& name : names) {
          json assignment = {{"@type", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"}, {"clusterName", name}};
          std::vector<std::string> order;
          std::map<std::string, json> groups;
          for (const Yaml* w : workloads) {
            const auto have = labels(get(w, "labels"));
            if (!matches_labels(want, have)) continue;
            const std::string locality = text(get(w, "locality"));
            if (!groups.contains(locality)) {
              order.push_back(locality);
              groups[locality] = {{"locality", locality_of(locality)}, {"lbEndpoints", json::array()}, {"loadBalancingWeight", 0}};
            }
            const long weight = number(get(w, "weight"), 1);
            const Yaml* mapped = get(get(w, "ports"), text(get(p, "name")));
            const long target = mapped != nullptr ? number(mapped) : number(get(p, "targetPort"), number(get(p, "number")));
            json metadata = {{"istio",
                              {{"workload", ";;" + first_of(have, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"}) + ";" +
                                                first_of(have, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}) + ";" + node.cluster_id}}}};
            if (first_of(have, {"security.istio.io/tlsMode"}) == "istio") metadata["envoy.transport_socket_match"] = {{"tlsMode", "istio"}};
            groups[locality]["lbEndpoints"].push_back({{"endpoint", {{"address", {{"socketAddress", {{"address", text(get(w, "address"))}, {"portValue", target}}}}}}},
                                                       {"metadata", {{"filterMetadata", metadata}}},
                                                       {"loadBalancingWeight", weight}});
            groups[locality]["loadBalancingWeight"] = groups[locality]["loadBalancingWeight"].get<long>() + weight;
          }
          for (const std::string& l : order) assignment["endpoints"].push_back(groups[l]);
          out.eds.push_back(std::move(assignment));
        }
      }
    }
  }
}

Resources translate(const World& world, const NodeInfo& node, const Options& options) {
  const Translation t(world, node, options);
  Resources out;
  t.clusters(out);
  t.listeners(out);
  auto by = [](const char* key) { return [key](const json& a, const json& b) { return a[key].get_ref<const std::string&>() < b[key].get_ref<const std::string&>(); }; };
  std::ranges::sort(out.cds, by("name"));
  std::ranges::sort(out.eds, by("clusterName"));
  std::ranges::sort(out.lds, by("name"));
  std::ranges::sort(out.rds, by("name"));
  return out;
}

}  // namespace sluice::plane
