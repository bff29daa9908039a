// LDS: one listener a port, one filter chain for all plain HTTP of the port, one for each TLS server, one for each match of an L4 route.
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kDefaultFormat =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% "
    "%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
    "\"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

Object logger(const Mesh& mesh) {
  const std::string format = mesh.access_log_format.empty() ? std::string(kDefaultFormat) : mesh.access_log_format;
  return {{"name", "envoy.access_loggers.file"},
          {"typedConfig",
           typed("envoy.extensions.access_loggers.file.v3.FileAccessLog",
                 {{"path", mesh.access_log_file}, {"logFormat", Object{{"textFormatSource", Object{{"inlineString", format}}}}}})}};
}

// The fixed part of every HTTP chain, as istiod says it.
constexpr std::string_view kMetadataExchange =
    R"({"name":"istio.metadata_exchange","typedConfig":{"@type":"type.googleapis.com/udpa.type.v1.TypedStruct",
"typeUrl":"type.googleapis.com/io.istio.http.peer_metadata.Config","value":{"upstream_discovery":[{"istio_headers":{}},{"workload_discovery":{}}],
"upstream_propagation":[{"istio_headers":{}}]}}})";
constexpr std::string_view kHttpTail =
    R"({"name":"envoy.filters.http.grpc_stats","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
"emitFilterState":true,"statsForAllMethods":false}},
{"name":"istio.alpn","typedConfig":{"@type":"type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig","alpnOverride":[
{"alpnOverride":["istio-http/1.0","istio","http/1.0"]},{"upstreamProtocol":"HTTP11","alpnOverride":["istio-http/1.1","istio","http/1.1"]},
{"upstreamProtocol":"HTTP2","alpnOverride":["istio-h2","istio","h2"]}]}},
{"name":"envoy.filters.http.fault","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}},
{"name":"envoy.filters.http.cors","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},
{"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}})";

Json tracing(const NodeInfo& node) {
  Array tags;
  for (const char* kind : {"allow", "deny"})
    for (const auto& [what, key] : {std::pair("name", "shadow_effective_policy_id"), std::pair("result", "shadow_engine_result")}) {
      const std::string k = kind;
      tags.add(Object{{"tag", "istio.authorization.dry_run." + k + "_policy." + what},
                      {"metadata", Object{{"kind", Object{{"request", Object{}}}},
                                          {"metadataKey", Object{{"key", "envoy.filters.http.rbac"},
                                                                 {"path", Array{Object{{"key", "istio_dry_run_" + k + "_" + key}}}}}}}}});
    }
  const auto label = [&](const char* name, const char* otherwise) {
    const auto it = node.labels.find(name);
    return it == node.labels.end() ? std::string(otherwise) : it->second;
  };
  for (const auto& [tag, value] :
       {std::pair<const char*, std::string>("istio.canonical_revision", label("service.istio.io/canonical-revision", "latest")),
        {"istio.canonical_service", label("service.istio.io/canonical-name", "unknown")},
        {"istio.cluster_id", node.cluster_id},
        {"istio.mesh_id", node.mesh_id},
        {"istio.namespace", node.ns}})
    if (!value.empty()) tags.add(Object{{"tag", tag}, {"literal", Object{{"value", value}}}});
  return Object{{"clientSampling", Object{{"value", 100}}},
                {"randomSampling", Object{{"value", 1}}},
                {"overallSampling", Object{{"value", 100}}},
                {"customTags", tags}};
}

Json http_chain_filters(const View& v, const Server& s, const std::string& listener) {
  Array filters;
  filters.add(Json::raw(std::string(kMetadataExchange)));
  filters.add_all(http_rbac(v));
  filters.add(Json::raw(std::string(kHttpTail)));
  Object h{{"statPrefix", "outbound_" + listener + ";"},
           {"rds", Object{{"configSource", Object{{"ads", Object{}}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}},
                          {"routeConfigName", s.route_name()}}},
           {"httpFilters", filters},
           {"tracing", tracing(v.node)},
           {"httpProtocolOptions", Object{}},
           {"serverName", "istio-envoy"},
           {"streamIdleTimeout", "0s"}};
  if (!v.world.mesh.access_log_file.empty()) h.set("accessLog", Array{logger(v.world.mesh)});
  h.set("useRemoteAddress", true).set("forwardClientCertDetails", "SANITIZE_SET");
  h.set("setCurrentClientCertDetails", Object{{"subject", true}, {"cert", true}, {"dns", true}, {"uri", true}});
  h.set("proxy100Continue", true).set("upgradeConfigs", Array{Object{{"upgradeType", "websocket"}}});
  h.set("normalizePath", true).set("pathWithEscapedSlashesAction", "KEEP_UNCHANGED");
  h.set(
      "requestIdExtension",
      Object{{"typedConfig", typed("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", {{"useRequestIdForTraceSampling", true}})}});
  return Array{extension("envoy.filters.network.http_connection_manager",
                         "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", h)};
}

// A secret of the gateway's own agent: files have Envoy's 15 s to come, the workload's identity is waited for.
Json secret(const std::string& name, bool for_ever) {
  Object config{{"apiConfigSource", Object{{"apiType", "GRPC"},
                                           {"transportApiVersion", "V3"},
                                           {"grpcServices", Array{Object{{"envoyGrpc", Object{{"clusterName", "sds-grpc"}}}}}},
                                           {"setNodeOnFirstMessageOnly", true}}}};
  config.set_if(for_ever, "initialFetchTimeout", "0s").set("resourceApiVersion", "V3");
  return Object{{"name", name}, {"sdsConfig", config}};
}

Json tls_context(const Server& s) {
  const Node& tls = (*s.node)["tls"];
  const bool istio = s.tls_mode == "ISTIO_MUTUAL", mutual = s.tls_mode == "MUTUAL" || s.tls_mode == "OPTIONAL_MUTUAL";
  Object params;
  for (const auto& [from, to] :
       {std::pair("minProtocolVersion", "tlsMinimumProtocolVersion"), std::pair("maxProtocolVersion", "tlsMaximumProtocolVersion")})
    if (tls[from] && tls[from].str() != "TLS_AUTO") params.set(to, "TLSv" + tls[from].str().substr(4));
  if (!tls["cipherSuites"].items.empty()) params.set("cipherSuites", strings(tls["cipherSuites"].list()));
  Object common;
  common.set_if(!params.empty(), "tlsParams", params);
  const std::string certificate = istio ? "default" : "file-cert:" + tls["serverCertificate"].str() + "~" + tls["privateKey"].str();
  Array certificates;
  if (tls["credentialName"]) certificates.add(credential_secret(tls["credentialName"].str()));
  for (const std::string& name : tls["credentialNames"].list()) certificates.add(credential_secret(name));
  if (certificates.empty()) certificates.add(secret(certificate, istio));
  common.set("tlsCertificateSdsSecretConfigs", certificates);
  if (istio || mutual) {
    Object check;
    for (const auto& [from, to] :
         {std::pair("verifyCertificateSpki", "verifyCertificateSpki"), std::pair("verifyCertificateHash", "verifyCertificateHash")})
      if (!tls[from].items.empty()) check.set(to, strings(tls[from].list()));
    Array sans;
    for (const std::string& n : tls["subjectAltNames"].list()) sans.add(Object{{"exact", n}});
    check.set_if(!sans.empty(), "matchSubjectAltNames", sans);
    common.set("combinedValidationContext",
               Object{{"defaultValidationContext", check},
                      {"validationContextSdsSecretConfig",
                       tls["caCertCredentialName"] ? credential_secret(tls["caCertCredentialName"].str())
                       : tls["credentialName"]     ? credential_secret(tls["credentialName"].str() + "-cacert")
                                                   : secret(istio ? "ROOTCA" : "file-root:" + tls["caCertificates"].str(), istio)}});
  }
  Array alpn;
  if (istio && s.protocol == "TLS") alpn.add("istio-peer-exchange");
  common.set("alpnProtocols", alpn.add("h2").add("http/1.1"));
  return extension("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                   {{"commonTlsContext", common}, {"requireClientCertificate", istio || s.tls_mode == "MUTUAL"}});
}

Object chain(Object match, const Json& filters, const Json* socket = nullptr) {
  Object c;
  c.set_if(!match.empty(), "filterChainMatch", match).set("filters", filters);
  if (socket != nullptr) c.set("transportSocket", *socket);
  return c.set("transportSocketConnectTimeout", "15s");
}

// Hosts of a TLS server as SNI; none where every name is served.
std::vector<std::string> sni_of(const Server& s) {
  std::vector<std::string> out;
  for (const std::string& h : s.hosts) {
    const std::string name = h.substr(h.find('/') + 1);  // npos + 1 is 0
    if (name == "*") return {};
    if (std::ranges::find(out, name) == out.end()) out.push_back(name);
  }
  return out;
}

Json tcp_filters(const View& v, const std::string& stat, const Object& clusters) {
  Array filters;
  filters.add_all(tcp_rbac(v));
  Object p{{"statPrefix", stat}};
  std::string text = Json(p).text;
  text.pop_back();
  text += "," + Json(clusters).text.substr(1);
  if (!v.world.mesh.access_log_file.empty()) {
    text.pop_back();
    text += ",\"accessLog\":" + Json(Array{logger(v.world.mesh)}).text + "}";
  }
  const std::string type = R"({"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",)" + text.substr(1);
  return filters.add(Object{{"name", "envoy.filters.network.tcp_proxy"}, {"typedConfig", Json::raw(type)}});
}

Json l4_filters(const View& v, const Node& route, const Virtual& x, uint32_t port) {
  const auto& targets = route["route"].items;
  if (targets.size() == 1) {
    const std::string c = destination_cluster(v, targets[0]["destination"], x.config->ns, port);
    return tcp_filters(v, c, {{"cluster", c}});
  }
  Array weighted;
  for (const Node& d : targets)
    if (d["weight"].integer() > 0)
      weighted.add(Object{{"name", destination_cluster(v, d["destination"], x.config->ns, port)}, {"weight", d["weight"].integer()}});
  return tcp_filters(v, x.config->name + "." + x.config->ns, {{"weightedClusters", Object{{"clusters", weighted}}}});
}

bool l4_match_applies(const Node& m, const Virtual& x, const Server& s, const NodeInfo& node) {
  if (m["port"] && m["port"].integer() != s.port) return false;
  if (!m["gateways"].items.empty())
    return std::ranges::any_of(m["gateways"].list(), [&](const std::string& g) {
      return (g.find('/') == std::string::npos ? x.config->ns + "/" + g : g) == s.gateway_name();
    });
  return labels_within(m["sourceLabels"], node.labels) && (m["sourceNamespace"].null() || m["sourceNamespace"].str() == node.ns);
}

void add_subnets(const Node& m, Object& match) {
  Array ranges;
  for (const std::string& s : m["destinationSubnets"].list()) {
    const size_t slash = s.find('/');
    const std::string address = s.substr(0, slash);
    ranges.add(Object{
        {"addressPrefix", address},
        {"prefixLen", slash == std::string::npos ? (address.find(':') == std::string::npos ? 32 : 128) : std::stoi(s.substr(slash + 1))}});
  }
  match.set_if(!ranges.empty(), "prefixRanges", ranges);
}

// TCP servers and TLS servers that end the handshake here but carry bytes: the first tcp route that applies.
void add_tcp_chains(const View& v, const Server& s, Array& chains) {
  const bool tls = s.protocol == "TLS";
  const Json socket = tls ? tls_context(s) : Json();
  for (const Virtual& x : v.virtuals) {
    if (std::ranges::find(x.gateways, s.gateway_name()) == x.gateways.end() || intersection(hosts_for(s, x.config->ns), x.hosts).empty())
      continue;
    for (const Node& r : x.config->spec()["tcp"].items) {
      const auto& matches = r["match"].items;
      const auto m = std::ranges::find_if(matches, [&](const Node& n) { return l4_match_applies(n, x, s, v.node); });
      if (!matches.empty() && m == matches.end()) continue;
      Object match;
      if (const auto names = sni_of(s); tls && !names.empty()) match.set("serverNames", strings(names));
      if (!matches.empty()) add_subnets(*m, match);
      chains.add(chain(match, l4_filters(v, r, x, s.port), tls ? &socket : nullptr));
      return;
    }
  }
}

void add_passthrough_chains(const View& v, const Server& s, Array& chains) {
  for (const Virtual& x : v.virtuals) {
    if (std::ranges::find(x.gateways, s.gateway_name()) == x.gateways.end()) continue;
    const auto served = intersection(hosts_for(s, x.config->ns), x.hosts);
    if (served.empty()) continue;
    for (const Node& r : x.config->spec()["tls"].items)
      for (const Node& m : r["match"].items) {
        if (!l4_match_applies(m, x, s, v.node)) continue;
        const auto names = intersection(m["sniHosts"].list(), served);
        if (names.empty()) continue;
        Object match;
        add_subnets(m, match);
        if (std::ranges::find(names, "*") == names.end()) match.set("serverNames", strings(names));
        chains.add(chain(match, l4_filters(v, r, x, s.port)));
      }
  }
}

void add_auto_passthrough_chains(const View& v, const Server& s, Array& chains) {
  const Json alpn = Array{"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"};
  for (const Service& service : v.services) {
    if (intersection(hosts_for(s, service.ns), {service.host}).empty()) continue;
    const Config* rule = v.destination_rule(service);
    for (const ServicePort& p : service.ports) {
      std::vector<std::string> subsets{""};
      if (rule != nullptr)
        for (const Node& n : rule->spec()["subsets"].items) subsets.push_back(n["name"].str());
      for (const std::string& subset : subsets) {
        const std::string name = sni_name(p.number, subset, service.host);
        chains.add(chain({{"serverNames", Array{name}}, {"applicationProtocols", alpn}}, tcp_filters(v, name, {{"cluster", name}})));
      }
    }
  }
}

struct Port {
  std::vector<const Server*> servers;
};

}  // namespace

Json access_log(const Mesh& mesh) {
  Object o = logger(mesh);
  return Array{o.set("filter", Object{{"responseFlagFilter", Object{{"flags", Array{"NR"}}}}})};
}

void translate_listeners(const View& v, Answer& out) {
  std::map<std::string, Port> ports;
  std::map<std::string, std::vector<const Server*>> routes;
  for (const Server& s : v.servers) {
    ports[(s.bind.empty() ? "0.0.0.0" : s.bind) + "_" + std::to_string(s.port)].servers.push_back(&s);
    if (s.plain_http() || s.terminates_http()) routes[s.route_name()].push_back(&s);
  }
  for (const auto& [name, port] : ports) {
    Array chains;
    bool tls = false, http = false;
    std::set<std::string> sni_seen;  // two chains of one match would be refused by Envoy: the first Gateway keeps a host
    for (const Server* s : port.servers) {
      if (s->plain_http()) {
        if (!std::exchange(http, true)) chains.add(chain({}, http_chain_filters(v, *s, name)));
        continue;
      }
      if (!s->tls_mode.empty()) tls = true;
      if (s->terminates_http()) {
        std::vector<std::string> names;
        const auto wanted = sni_of(*s);
        for (const std::string& n : wanted)
          if (sni_seen.insert(n).second) names.push_back(n);
        if (wanted.empty() ? !sni_seen.insert("*").second : names.empty()) continue;
        Object match;
        if (!names.empty()) match.set("serverNames", strings(names));
        const Json socket = tls_context(*s);
        chains.add(chain(match, http_chain_filters(v, *s, name), &socket));
      } else if (s->tls_mode == "PASSTHROUGH") {
        add_passthrough_chains(v, *s, chains);
      } else if (s->tls_mode == "AUTO_PASSTHROUGH") {
        add_auto_passthrough_chains(v, *s, chains);
      } else {
        add_tcp_chains(v, *s, chains);
      }
    }
    if (chains.empty()) continue;
    const Server& first = *port.servers[0];
    Object l{
        {"name", name},
        {"address", Object{{"socketAddress", Object{{"address", first.bind.empty() ? "0.0.0.0" : first.bind}, {"portValue", first.port}}}}},
        {"filterChains", chains}};
    if (tls)
      l.set("listenerFilters",
            Array{extension("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
                            {{"initialReadBufferSize", 512}})});
    l.set("trafficDirection", "OUTBOUND");
    if (!v.world.mesh.access_log_file.empty()) l.set("accessLog", access_log(v.world.mesh));
    out.listeners[name] = typed("envoy.config.listener.v3.Listener", l.set("maxConnectionsToAcceptPerSocketEvent", 1));
  }
  for (const auto& [name, servers] : routes) out.routes[name] = route_configuration(v, name, servers);
}

Answer translate(const World& world, const NodeInfo& node, const TranslateOptions& options) {
  View v = view_of(world, node);
  v.options = options;
  Answer out;
  translate_clusters(v, out);
  translate_listeners(v, out);
  return out;
}

}  // namespace sluice::plane
