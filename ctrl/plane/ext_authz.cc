// MeshConfig.extensionProviders of external authorization, as the filter that asks them where CUSTOM rules marked the request.
#include <algorithm>

#include "ctrl/plane/authz_model.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

// "NS/HOST" or "HOST", as Istio's providers name a service; the first that the mesh has.
const Service* provider_service(const View& v, const std::string& name) {
  const size_t slash = name.find('/');
  const std::string host = name.substr(slash + 1);
  for (const Service* s : v.all_services)
    if (s->host == host && (slash == std::string::npos || s->ns == name.substr(0, slash))) return s;
  return nullptr;
}

Json marked_by(std::string_view rbac) {
  return Object{{"filter", rbac},
                {"path", Array{Object{{"key", "istio_ext_authz_shadow_effective_policy_id"}}}},
                {"value", Object{{"stringMatch", Object{{"prefix", "istio-ext-authz"}}}}}};
}

Json header_patterns(const Node& list) {
  Array patterns;
  for (const std::string& h : list.list()) {
    Object p;
    if (h.starts_with('*')) p.set("suffix", h.substr(1));
    else if (h.ends_with('*')) p.set("prefix", h.substr(0, h.size() - 1));
    else p.set("exact", h);
    patterns.add(p.set("ignoreCase", true));
  }
  return Object{{"patterns", patterns}};
}

std::string timeout_of(const Node& p) { return p["timeout"] ? duration_json(*parse_duration(p["timeout"].str())) : "600s"; }

void add_common(const Node& p, Object& o) {
  if (!p["statusOnError"].str().empty()) o.set("statusOnError", Object{{"code", std::stoi(p["statusOnError"].str())}});
  if (p["failOpen"].boolean()) o.set("failureModeAllow", true);
  if (p["clearRouteCache"].boolean()) o.set("clearRouteCache", true);
  if (const Node& b = p["includeRequestBodyInCheck"]) {
    Object body;
    if (b["maxRequestBytes"].integer() > 0) body.set("maxRequestBytes", b["maxRequestBytes"].integer());
    for (const char* f : {"allowPartialMessage", "packAsBytes"}) body.set_if(b[f].boolean(), f, true);
    o.set("withRequestBody", body);
  }
}

Object grpc_service(const Node& p, const std::string& cluster, const std::string& host) {
  return {{"envoyGrpc", Object{{"clusterName", cluster}, {"authority", host}}}, {"timeout", timeout_of(p)}};
}

Object http_service(const Node& p, const std::string& cluster, const std::string& host) {
  Object s{{"serverUri", Object{{"uri", "http://" + host}, {"cluster", cluster}, {"timeout", timeout_of(p)}}}};
  if (!p["pathPrefix"].str().empty()) s.set("pathPrefix", p["pathPrefix"].str());
  Object request, response;
  const Node& included = p["includeRequestHeadersInCheck"].items.empty() ? p["includeHeadersInCheck"] : p["includeRequestHeadersInCheck"];
  if (!included.items.empty()) request.set("allowedHeaders", header_patterns(included));
  std::map<std::string, std::string> added;
  for (size_t i = 0; i < p["includeAdditionalHeadersInCheck"].keys.size(); i++)
    added[p["includeAdditionalHeadersInCheck"].keys[i].text] = p["includeAdditionalHeadersInCheck"].items[i].text;
  Array add;
  for (const auto& [k, value] : added) add.add(Object{{"key", k}, {"value", value}});
  request.set_if(!add.empty(), "headersToAdd", add);
  for (const auto& [from, to] : {std::pair("headersToUpstreamOnAllow", "allowedUpstreamHeaders"),
                                 {"headersToDownstreamOnDeny", "allowedClientHeaders"},
                                 {"headersToDownstreamOnAllow", "allowedClientHeadersOnSuccess"}})
    if (!p[from].items.empty()) response.set(to, header_patterns(p[from]));
  s.set_if(!request.empty(), "authorizationRequest", request).set_if(!response.empty(), "authorizationResponse", response);
  return s;
}

}  // namespace

std::optional<Json> ext_authz_filter(const View& v, const std::string& provider, Wire wire) {
  for (const Node& p : v.world.mesh.providers()) {
    if (p["name"].str() != provider) continue;
    const bool grpc = !p["envoyExtAuthzGrpc"].null();
    const Node& config = p[grpc ? "envoyExtAuthzGrpc" : "envoyExtAuthzHttp"];
    const Service* s = provider_service(v, config["service"].str());
    if (s == nullptr) return {};
    const std::string cluster = cluster_name(uint32_t(config["port"].integer()), "", s->host);
    Object o;
    if (wire == Wire::kTcp) {
      if (!grpc) return Json();
      o.set("statPrefix", "tcp.").set("grpcService", grpc_service(config, cluster, s->host)).set("transportApiVersion", "V3");
      o.set_if(config["failOpen"].boolean(), "failureModeAllow", true)
          .set("filterEnabledMetadata", marked_by("envoy.filters.network.rbac"));
      return extension("envoy.filters.network.ext_authz", "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz", o);
    }
    if (grpc) o.set("grpcService", grpc_service(config, cluster, s->host));
    else o.set("httpService", http_service(config, cluster, s->host));
    add_common(config, o);
    o.set("transportApiVersion", "V3").set("filterEnabledMetadata", marked_by("envoy.filters.http.rbac"));
    return extension("envoy.filters.http.ext_authz", "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", o);
  }
  return {};
}

// The services that the mesh's providers name: a gateway gets their clusters besides those of its routes.
std::set<std::pair<std::string, std::string>> provider_hosts(const Mesh& mesh) {
  std::set<std::pair<std::string, std::string>> out;
  for (const Node& p : mesh.providers())
    for (const Node& config : p.items)
      if (const std::string& name = config["service"].str(); !name.empty()) {
        const size_t slash = name.find('/');
        out.insert({slash == std::string::npos ? "" : name.substr(0, slash), name.substr(slash + 1)});
      }
  return out;
}

}  // namespace sluice::plane
