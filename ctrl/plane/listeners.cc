// LDS: one listener a port and bind, one filter chain for all plain HTTP of it, one for each TLS server, and those of l4_chains.cc.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

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
{"name":"envoy.filters.http.cors","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}})";
constexpr std::string_view kRouter =
    R"({"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}})";

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

Json http_chain_filters(const View& v, const Server& s, const std::string& listener, const std::string& route) {
  Array filters;
  filters.add(Json::raw(std::string(kMetadataExchange)));
  filters.add_all(http_custom_authz(v)).add_all(jwt_authn(v)).add_all(http_rbac(v));
  if (s.protocol == "GRPC-WEB") filters.add(extension("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"));
  filters.add(Json::raw(std::string(kHttpTail))).add_all(stats_filters(v)).add(Json::raw(std::string(kRouter)));
  const std::string& name = (*s.node)["name"].str();
  Object h{{"statPrefix", s.terminates_http() && !name.empty() ? name : "outbound_" + listener + ";"},
           {"rds", Object{{"configSource", Object{{"ads", Object{}}, {"initialFetchTimeout", "0s"}, {"resourceApiVersion", "V3"}}},
                          {"routeConfigName", route}}},
           {"httpFilters", filters},
           {"httpProtocolOptions", Object{}},
           {"serverName", "istio-envoy"},
           {"streamIdleTimeout", "0s"}};
  if (traced(v)) h.set("tracing", tracing(v.node));
  if (const Array logs = access_logs(v); !logs.empty()) h.set("accessLog", logs);
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

}  // namespace

Chain chain(Object match, const Json& filters, const Json* socket, bool has_names) {
  Object c;
  c.set_if(!match.empty(), "filterChainMatch", match).set("filters", filters);
  if (socket != nullptr) c.set("transportSocket", *socket);
  return {c.set("transportSocketConnectTimeout", "15s"), has_names || socket != nullptr};
}

Object sni_match(std::vector<std::string> names) {
  if (std::ranges::find(names, "*") != names.end()) return {};
  std::ranges::sort(names);
  Object match;
  return match.set_if(!names.empty(), "serverNames", strings(names));
}

namespace {

void add_chains(const View& v, const ListenerPort& port, const std::string& listener, TakenHosts& taken, std::vector<Chain>& chains) {
  if (port.servers[0]->plain_http()) {
    chains.push_back(chain({}, http_chain_filters(v, *port.servers[0], listener, port.route_name)));
    return;
  }
  for (const Server* s : port.servers) {
    if (s->terminates_http()) {
      const Json socket = downstream_tls(*s);
      chains.push_back(chain(sni_match(s->sni_hosts), http_chain_filters(v, *s, listener, s->route_name()), &socket, true));
    } else {
      add_l4_chains(v, *s, taken, chains);
    }
  }
}

}  // namespace

void translate_listeners(const View& v, Answer& out) {
  struct Listener {
    const ListenerPort* port;
    std::vector<Chain> chains;
  };
  std::map<std::string, Listener> listeners;
  std::map<uint32_t, TakenHosts> taken;
  for (const ListenerPort& p : v.ports) {
    const std::string bind = p.bind.empty() ? v.node.wildcard() : p.bind, name = bind + "_" + std::to_string(p.number);
    if (v.node.unprivileged && p.number < 1024) continue;
    Listener& l = listeners.try_emplace(name, Listener{&p, {}}).first->second;
    add_chains(v, p, name, taken[p.number], l.chains);
  }
  for (const auto& [name, l] : listeners) {
    if (l.chains.empty()) continue;
    Array chains;
    bool inspects = false;
    for (const Chain& c : l.chains) chains.add(c.json), inspects |= c.by_tls;
    const std::string bind = l.port->bind.empty() ? v.node.wildcard() : l.port->bind;
    Object o{{"name", name},
             {"address", Object{{"socketAddress", Object{{"address", bind}, {"portValue", l.port->number}}}}},
             {"filterChains", chains}};
    if (inspects)
      o.set("listenerFilters",
            Array{extension("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
                            {{"initialReadBufferSize", 512}})});
    o.set("trafficDirection", "OUTBOUND");
    if (const Array logs = listener_access_logs(v); !logs.empty()) o.set("accessLog", logs);
    out.listeners[name] = typed("envoy.config.listener.v3.Listener", o.set("maxConnectionsToAcceptPerSocketEvent", 1));
  }
}

Answer translate(const World& world, const NodeInfo& node, const TranslateOptions& options) {
  View v = view_of(world, node);
  v.options = options;
  if (const auto it = node.metadata.find("GENERATOR"); it != node.metadata.end() && it->second == "grpc") return translate_for_grpc(v);
  Answer out;
  translate_clusters(v, out);
  translate_listeners(v, out);
  for (const auto& [name, servers] : v.routes) out.routes[name] = route_configuration(v, name, servers);
  out.patches = patches_of(v);
  return out;
}

}  // namespace sluice::plane
