#include <algorithm>

#include "ctrl/plane/translate.h"

namespace sluice::plane {
namespace {

// Istio's default access log.
constexpr std::string_view kLogFormat =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
    "%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
    "\"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

json access_log(const World& world, bool listener) {
  json log = {{"name", "envoy.access_loggers.file"},
              {"typedConfig",
               {{"@type", "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"},
                {"path", world.access_log_file},
                {"logFormat", {{"textFormatSource", {{"inlineString", kLogFormat}}}}}}}};
  if (listener) log["filter"] = {{"responseFlagFilter", {{"flags", {"NR"}}}}};
  return json::array({std::move(log)});
}

json alpn_override(const char* protocol, const char* name) {
  json o = {{"alpnOverride", {std::string("istio-") + name, "istio", name}}};
  if (protocol != nullptr) o["upstreamProtocol"] = protocol;
  return o;
}

json tracing(const NodeInfo& node) {
  json tags = json::array();
  for (const char* kind : {"allow", "deny"})
    for (const auto& [tag, key] : {std::pair("policy.name", "shadow_effective_policy_id"), std::pair("policy.result", "shadow_engine_result")}) {
      const std::string k(kind);
      const std::string name = "istio.authorization.dry_run." + k + "_" + tag;
      tags.push_back({{"tag", name},
                      {"metadata",
                       {{"kind", {{"request", json::object()}}},
                        {"metadataKey", {{"key", "envoy.filters.http.rbac"}, {"path", json::array({{{"key", "istio_dry_run_" + k + "_" + key}}})}}}}}});
    }
  auto label = [&](const char* name, const char* otherwise) {
    const auto it = node.labels.find(name);
    return it == node.labels.end() ? std::string(otherwise) : it->second;
  };
  const std::pair<const char*, std::string> literals[] = {{"istio.canonical_revision", label("service.istio.io/canonical-revision", "latest")},
                                                          {"istio.canonical_service", label("service.istio.io/canonical-name", "unknown")},
                                                          {"istio.cluster_id", node.cluster_id},
                                                          {"istio.mesh_id", node.mesh_id},
                                                          {"istio.namespace", node.ns}};
  for (const auto& [tag, value] : literals) tags.push_back({{"tag", tag}, {"literal", {{"value", value}}}});
  return {{"clientSampling", {{"value", 100}}}, {"randomSampling", {{"value", 1}}}, {"overallSampling", {{"value", 100}}}, {"customTags", std::move(tags)}};
}

json extension(const char* name, const char* type) { return {{"name", name}, {"typedConfig", {{"@type", std::string("type.googleapis.com/") + type}}}}; }

json http_filters(const Translation& t) {
  json f = json::array();
  f.push_back({{"name", "istio.metadata_exchange"},
               {"typedConfig",
                {{"@type", "type.googleapis.com/udpa.type.v1.TypedStruct"},
                 {"typeUrl", "type.googleapis.com/io.istio.http.peer_metadata.Config"},
                 {"value",
                  {{"upstream_discovery", json::array({{{"istio_headers", json::object()}}, {{"workload_discovery", json::object()}}})},
                   {"upstream_propagation", json::array({{{"istio_headers", json::object()}}})}}}}}});
  for (json& rbac : t.authorization(false)) f.push_back(std::move(rbac));
  json stats = extension("envoy.filters.http.grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig");
  stats["typedConfig"]["emitFilterState"] = true;
  stats["typedConfig"]["statsForAllMethods"] = false;
  f.push_back(std::move(stats));
  json alpn = extension("istio.alpn", "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig");
  alpn["typedConfig"]["alpnOverride"] = {alpn_override(nullptr, "http/1.0"), alpn_override("HTTP11", "http/1.1"), alpn_override("HTTP2", "h2")};
  f.push_back(std::move(alpn));
  f.push_back(extension("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"));
  f.push_back(extension("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"));
  f.push_back(extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"));
  return f;
}

json connection_manager(const Translation& t, long port, const std::string& route_name) {
  json hcm = {{"@type", "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
              {"statPrefix", "outbound_0.0.0.0_" + std::to_string(port) + ";"},
              {"rds", {{"configSource", {{"ads", json::object()}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}}, {"routeConfigName", route_name}}},
              {"httpFilters", http_filters(t)},
              {"tracing", tracing(t.node)},
              {"httpProtocolOptions", json::object()},
              {"serverName", "istio-envoy"},
              {"streamIdleTimeout", "0s"},
              {"useRemoteAddress", true},
              {"forwardClientCertDetails", "SANITIZE_SET"},
              {"setCurrentClientCertDetails", {{"subject", true}, {"cert", true}, {"dns", true}, {"uri", true}}},
              {"proxy100Continue", true},
              {"upgradeConfigs", json::array({{{"upgradeType", "websocket"}}})},
              {"normalizePath", true},
              {"pathWithEscapedSlashesAction", "KEEP_UNCHANGED"},
              {"requestIdExtension",
               {{"typedConfig", {{"@type", "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"}, {"useRequestIdForTraceSampling", true}}}}}};
  if (!t.world.access_log_file.empty()) hcm["accessLog"] = access_log(t.world, false);
  return {{"name", "envoy.filters.network.http_connection_manager"}, {"typedConfig", std::move(hcm)}};
}

json tcp_proxy(const Translation& t, const std::string& stat_prefix, json target) {
  json p = {{"@type", "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"}, {"statPrefix", stat_prefix}};
  p.update(target);
  if (!t.world.access_log_file.empty()) p["accessLog"] = access_log(t.world, false);
  return {{"name", "envoy.filters.network.tcp_proxy"}, {"typedConfig", std::move(p)}};
}

json sds(const std::string& name, bool mesh) {
  json source = {{"apiConfigSource",
                  {{"apiType", "GRPC"}, {"transportApiVersion", "V3"}, {"grpcServices", {{{"envoyGrpc", {{"clusterName", "sds-grpc"}}}}}}, {"setNodeOnFirstMessageOnly", true}}},
                 {"resourceApiVersion", "V3"}};
  if (mesh) source["initialFetchTimeout"] = "0s";
  return {{"name", name}, {"sdsConfig", std::move(source)}};
}
json ads_secret(const std::string& name) {
  return {{"name", name}, {"sdsConfig", {{"ads", json::object()}, {"resourceApiVersion", "V3"}}}};
}

json transport_socket(const Yaml* tls) {
  const std::string mode = text(get(tls, "mode"), "SIMPLE");
  json common = json::object();
  json params = json::object();
  auto version = [&](const char* field, const char* to) {
    const std::string v = text(get(tls, field));
    if (v.starts_with("TLSV")) params[to] = "TLSv" + v.substr(4);
  };
  version("minProtocolVersion", "tlsMinimumProtocolVersion");
  version("maxProtocolVersion", "tlsMaximumProtocolVersion");
  if (const auto suites = texts(get(tls, "cipherSuites")); !suites.empty()) params["cipherSuites"] = suites;
  if (!params.empty()) common["tlsParams"] = std::move(params);
  const std::string credential = text(get(tls, "credentialName"));
  json certificate, validation;
  if (mode == "ISTIO_MUTUAL") {
    certificate = sds("default", true);
    validation = sds("ROOTCA", true);
  } else if (!credential.empty()) {
    certificate = ads_secret("kubernetes://" + credential);
    if (mode != "SIMPLE") validation = ads_secret("kubernetes://" + credential + "-cacert");
  } else {
    certificate = sds("file-cert:" + text(get(tls, "serverCertificate")) + "~" + text(get(tls, "privateKey")), false);
    if (mode != "SIMPLE") validation = sds("file-root:" + text(get(tls, "caCertificates")), false);
  }
  common["tlsCertificateSdsSecretConfigs"] = json::array({std::move(certificate)});
  if (!validation.is_null()) {
    json context = json::object();
    for (const std::string& san : texts(get(tls, "subjectAltNames"))) context["matchSubjectAltNames"].push_back({{"exact", san}});
    common["combinedValidationContext"] = {{"defaultValidationContext", std::move(context)}, {"validationContextSdsSecretConfig", std::move(validation)}};
  }
  common["alpnProtocols"] = {"h2", "http/1.1"};
  return {{"name", "envoy.transport_sockets.tls"},
          {"typedConfig",
           {{"@type", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"},
            {"commonTlsContext", std::move(common)},
            {"requireClientCertificate", mode == "MUTUAL" || mode == "ISTIO_MUTUAL"}}}};
}

// Hosts of a server as SNI: without the namespace; "*" is no condition.
std::vector<std::string> server_names(const Yaml* server) {
  std::vector<std::string> out;
  for (std::string h : texts(get(server, "hosts"))) {
    if (const size_t slash = h.find('/'); slash != std::string::npos) h = h.substr(slash + 1);
    if (h == "*") return {};
    if (std::ranges::find(out, h) == out.end()) out.push_back(h);
  }
  return out;
}

}  // namespace

void Translation::listeners(Resources& out) const {
  struct Server {
    const Object* gateway;
    const Yaml* server;
  };
  std::map<long, std::vector<Server>> by_port;
  for (const Object* g : gateways)
    for (const Yaml& s : items(get(g->spec, "servers"))) by_port[number(get(get(s, "port"), "number"))].push_back({g, &s});

  for (const auto& [port, servers] : by_port) {
    json chains = json::array();
    bool inspect = false, http_done = false;
    auto chain = [&](json filters, const std::vector<std::string>& names, json application_protocols, json socket) {
      json c = {{"filters", std::move(filters)}, {"transportSocketConnectTimeout", "15s"}};
      if (!names.empty()) c["filterChainMatch"]["serverNames"] = names;
      if (!application_protocols.is_null()) c["filterChainMatch"]["applicationProtocols"] = std::move(application_protocols);
      if (!socket.is_null()) c["transportSocket"] = std::move(socket);
      chains.push_back(std::move(c));
    };
    auto raw = [&](json proxy) {
      json filters = json::array();
      for (json& rbac : authorization(true)) filters.push_back(std::move(rbac));
      filters.push_back(std::move(proxy));
      return filters;
    };
    // The clusters of a raw route, and the name of its statistics.
    auto target = [&](const Object& vs, const Yaml* routes, std::string& stat_prefix) -> json {
      if (routes->items.size() == 1) {
        stat_prefix = cluster_name(get(routes->items[0], "destination"), vs.ns, port);
        return {{"cluster", stat_prefix}};
      }
      stat_prefix = vs.name + "." + vs.ns;
      json clusters = json::array();
      for (const Yaml& d : routes->items)
        if (number(get(d, "weight"), 0) > 0) clusters.push_back({{"name", cluster_name(get(d, "destination"), vs.ns, port)}, {"weight", number(get(d, "weight"))}});
      return {{"weightedClusters", {{"clusters", std::move(clusters)}}}};
    };
    for (const Server& s : servers) {
      const std::string protocol = text(get(get(s.server, "port"), "protocol"));
      const Yaml* tls = get(s.server, "tls");
      const std::string mode = text(get(tls, "mode"));
      if (protocol == "HTTP") {
        if (http_done) continue;
        http_done = true;
        std::vector<std::pair<const Object*, const Yaml*>> all;
        for (const Server& x : servers)
          if (text(get(get(x.server, "port"), "protocol")) == "HTTP") all.emplace_back(x.gateway, x.server);
        const std::string name = "http." + std::to_string(port);
        chain(json::array({connection_manager(*this, port, name)}), {}, nullptr, nullptr);
        route_configuration(out, name, port, all);
      } else if (protocol == "HTTPS") {
        inspect = true;
        const std::string name = "https." + std::to_string(port) + "." + text(get(get(s.server, "port"), "name")) + "." + s.gateway->name + "." + s.gateway->ns;
        chain(json::array({connection_manager(*this, port, name)}), server_names(s.server), nullptr, transport_socket(tls));
        route_configuration(out, name, port, {{s.gateway, s.server}});
      } else if (mode == "AUTO_PASSTHROUGH") {
        inspect = true;
        for (const auto& [host, service] : services) {
          const bool served = std::ranges::any_of(texts(get(s.server, "hosts")), [&](std::string h) {
            if (const size_t slash = h.find('/'); slash != std::string::npos) h = h.substr(slash + 1);
            return intersect_hosts(h, host) == host;
          });
          if (!served) continue;
          std::vector<std::string> subsets = {""};
          if (const auto rule = rules.find(host); rule != rules.end())
            for (const Yaml& x : items(get(rule->second->spec, "subsets"))) subsets.push_back(text(get(x, "name")));
          for (const Yaml& p : items(get(service.entry->spec, "ports")))
            for (const std::string& subset : subsets) {
              const std::string name = "outbound_." + text(get(p, "number")) + "_." + (subset.empty() ? "_" : subset + "_") + "." + host;
              chain(raw(tcp_proxy(*this, name, {{"cluster", name}})), {name}, json{"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"}, nullptr);
            }
        }
      } else if (protocol == "TLS") {
        inspect = true;
        for (const Object* vs : services_of_gateway(*s.gateway))
          for (const Yaml& r : items(get(vs->spec, "tls")))
            for (const Yaml& m : items(get(r, "match"))) {
              if (const Yaml* p = get(m, "port"); p != nullptr && number(p) != port) continue;
              std::vector<std::string> names;
              for (const std::string& sni : texts(get(m, "sniHosts")))
                for (const std::string& h : server_names(s.server))
                  if (const std::string both = intersect_hosts(h, sni); !both.empty() && std::ranges::find(names, both) == names.end()) names.push_back(both);
              if (names.empty()) continue;
              std::string stat_prefix;
              json to = target(*vs, get(r, "route"), stat_prefix);
              chain(raw(tcp_proxy(*this, stat_prefix, std::move(to))), names, nullptr, nullptr);
            }
      } else {  // TCP
        for (const Object* vs : services_of_gateway(*s.gateway))
          for (const Yaml& r : items(get(vs->spec, "tcp"))) {
            const auto& matches = items(get(r, "match"));
            const bool mine = matches.empty() || std::ranges::any_of(matches, [&](const Yaml& m) { return get(m, "port") == nullptr || number(get(m, "port")) == port; });
            if (!mine) continue;
            std::string stat_prefix;
            json to = target(*vs, get(r, "route"), stat_prefix);
            chain(raw(tcp_proxy(*this, stat_prefix, std::move(to))), {}, nullptr, nullptr);
          }
      }
    }
    if (chains.empty()) continue;
    json l = {{"@type", "type.googleapis.com/envoy.config.listener.v3.Listener"},
              {"name", "0.0.0.0_" + std::to_string(port)},
              {"address", {{"socketAddress", {{"address", "0.0.0.0"}, {"portValue", port}}}}},
              {"filterChains", std::move(chains)},
              {"trafficDirection", "OUTBOUND"},
              {"maxConnectionsToAcceptPerSocketEvent", 1}};
    if (!world.access_log_file.empty()) l["accessLog"] = access_log(world, true);
    if (inspect)
      l["listenerFilters"] = json::array({{{"name", "envoy.filters.listener.tls_inspector"},
                                           {"typedConfig", {{"@type", "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}, {"initialReadBufferSize", 512}}}}});
    out.lds.push_back(std::move(l));
  }
}

}  // namespace sluice::plane
