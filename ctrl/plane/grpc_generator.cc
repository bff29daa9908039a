// What a Node with GENERATOR: grpc is sent: a gRPC client that follows xDS itself ("proxyless"). As istiod's generator for it:
//   Listener   one for each port of each service that the Node sees, named host:port, its HttpConnectionManager in api_listener, filters
//              fault and router, routes by RDS. The short names by which the Node's namespace knows a service ("web:80", "web.shop:80") are
//              listeners too, for who asks for them by name.
//   Route      outbound|PORT||HOST: the routes of the VirtualService of the host that is bound to the mesh, else everything to the service.
//   Cluster    outbound|PORT|SUBSET|HOST, EDS; a ring hash if the DestinationRule has one (gRPC knows no other than round robin besides),
//   and
//              for ISTIO_MUTUAL certificates of the client's own provider "default".
// Header matches are said in Envoy's older fields (exact_match, not string_match): gRPC 1.51 refuses a route for the newer, and none
// refuses the older. What a gRPC client would refuse is left out: CORS, other balancers, pools, outliers. Inbound listeners (gRPC servers)
// are not made.
#include <algorithm>

#include "ctrl/plane/endpoints.h"
#include "ctrl/plane/routes.h"
#include "ctrl/plane/traffic_policy.h"

namespace sluice::plane {
namespace {

Json ads() { return Object{{"ads", Object{}}}; }

std::string api_listener(const std::string& name, const std::string& address, uint32_t port, const std::string& route) {
  const Json fault = extension("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault");
  const Json router = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router");
  const Json manager = typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                             {{"httpFilters", Array{fault, router}}, {"rds", Object{{"configSource", ads()}, {"routeConfigName", route}}}});
  return typed("envoy.config.listener.v3.Listener",
               {{"name", name},
                {"address", Object{{"socketAddress", Object{{"address", address}, {"portValue", port}}}}},
                {"apiListener", Object{{"apiListener", manager}}}})
      .text;
}

// The other names of a service for a Node of `ns`: web.shop.svc.cluster.local is web, web.shop and web.shop.svc there.
std::vector<std::string> short_names(const std::string& host, const std::string& ns) {
  const std::string tail = "." + ns + ".svc.";
  const size_t at = host.find(tail);
  if (ns.empty() || at == std::string::npos || at != host.find('.')) return {};
  const std::string name = host.substr(0, at);
  return {name, name + "." + ns, name + "." + ns + ".svc"};
}

// Without what a gRPC client refuses a whole RouteConfiguration for.
void make_for_grpc(Virtual& x) {
  for (const Node*& route : x.http) {
    if (!route->has("corsPolicy")) continue;
    Node& r = x.merged.emplace_back(*route);
    for (size_t i = r.keys.size(); i-- > 0;)
      if (r.keys[i].text == "corsPolicy") r.keys.erase(r.keys.begin() + long(i)), r.items.erase(r.items.begin() + long(i));
    route = &r;
  }
}

struct MeshRoutes {
  std::vector<Virtual> virtuals;
  // The VirtualService of a host: one that names it before one with a wildcard.
  const Virtual* of(const std::string& host) const {
    const Virtual* wide = nullptr;
    for (const Virtual& x : virtuals)
      for (const std::string& h : x.hosts) {
        if (h == host) return &x;
        if (wide == nullptr && h.starts_with('*') && host_within(host, h)) wide = &x;
      }
    return wide;
  }
};

MeshRoutes mesh_routes(const View& v) {
  MeshRoutes out;
  const auto& all = v.world.of_kind("VirtualService");
  for (const Config* c : all) {
    if (!visibility(*c, v.node.ns) || c->spec()["hosts"].items.empty()) continue;
    const auto gateways = c->spec()["gateways"].list();
    if (!gateways.empty() && std::ranges::find(gateways, "mesh") == gateways.end()) continue;
    Virtual x{.config = c->shared_from_this()};
    for (const std::string& h : c->spec()["hosts"].list()) x.hosts.push_back(full_host(h, c->ns));
    add_http_routes(delegates_of(*c, all), x);
    make_for_grpc(x);
    if (!x.http.empty()) out.virtuals.push_back(std::move(x));
  }
  return out;
}

Json default_route(const std::string& cluster, const std::string& host_port) {
  const Json retry = Object{{"retryOn", "unavailable,cancelled"}, {"numRetries", 2}};
  return Object{{"name", "default"},
                {"match", Object{{"prefix", "/"}}},
                {"route", Object{{"cluster", cluster}, {"timeout", "0s"}, {"retryPolicy", retry}, {"maxGrpcTimeout", "0s"}}},
                {"decorator", Object{{"operation", host_port + "/*"}}}};
}

void add_port(const View& v, const MeshRoutes& routes, const Service& s, const ServicePort& p, Answer& out) {
  const std::string port = std::to_string(p.number), host_port = s.host + ":" + port, route = cluster_name(p.number, "", s.host);
  std::string address = "0.0.0.0";
  if (s.entry != nullptr)
    if (const auto given = s.entry->spec()["addresses"].list(); !given.empty()) address = given[0].substr(0, given[0].find('/'));
  const auto others = short_names(s.host, v.node.ns);
  out.listeners[host_port] = Json::raw(api_listener(host_port, address, p.number, route));
  std::vector<std::string> domains{s.host, host_port};
  for (const std::string& n : others) {
    out.listeners[n + ":" + port] = Json::raw(api_listener(n + ":" + port, address, p.number, route));
    out.other_names.insert(n + ":" + port);
    domains.push_back(n), domains.push_back(n + ":" + port);
  }
  Array list;
  if (const Virtual* x = routes.of(s.host)) {
    Config mesh;
    mesh.kind = "Gateway", mesh.name = "mesh", mesh.ns = x->config->ns;
    const Node none;
    const Server server{.gateway = &mesh, .node = &none, .port = p.number, .service_port = p.number, .protocol = "HTTP"};
    for (const Route& r : routes_of(v, *x, server)) list.add(r.json);
  } else {
    list.add(default_route(route, host_port));
  }
  const Object host{{"name", host_port}, {"domains", strings(domains)}, {"routes", list}, {"includeRequestAttemptCount", true}};
  out.routes[route] = typed("envoy.config.route.v3.RouteConfiguration", {{"name", route}, {"virtualHosts", Array{host}}});
}

Json certificates_of_the_client(const View& v, const Service& s) {
  Array names;
  for (const std::string& n : identities_of(v, s)) names.add(Object{{"exact", n}});
  Object validation;
  validation.set_if(!names.empty(), "matchSubjectAltNames", names);
  const Object context{
      {"commonTlsContext",
       Object{{"tlsCertificateCertificateProviderInstance", Object{{"instanceName", "default"}, {"certificateName", "default"}}},
              {"combinedValidationContext", Object{{"defaultValidationContext", validation},
                                                   {"validationContextCertificateProviderInstance",
                                                    Object{{"instanceName", "default"}, {"certificateName", "ROOTCA"}}}}}}}};
  return extension("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", context);
}

void add_cluster(const View& v, const Service& s, const ServicePort& p, const Config* rule, const Node& subset, Answer& out) {
  const std::string name = cluster_name(p.number, subset["name"].str(), s.host);
  const Policy policy = policy_of(rule, subset, p.number);
  Object c{{"name", name}, {"type", "EDS"}, {"edsClusterConfig", Object{{"serviceName", name}, {"edsConfig", ads()}}}};
  if ((*policy.balancer)["consistentHash"] && !(*policy.balancer)["consistentHash"]["maglev"]) add_balancer(*policy.balancer, c);
  if ((*policy.tls)["mode"].str() == "ISTIO_MUTUAL") c.set("transportSocket", certificates_of_the_client(v, s));
  out.clusters[name] = typed("envoy.config.cluster.v3.Cluster", c);
  out.endpoints[name] = typed("envoy.config.endpoint.v3.ClusterLoadAssignment", assignment(v, s, p, rule, subset, name, false));
}

}  // namespace

Answer translate_for_grpc(const View& v) {
  Answer out{.for_grpc = true};
  const MeshRoutes routes = mesh_routes(v);
  for (const Service* seen : v.services) {
    const Service& s = *seen;
    if (v.service(s.host) != seen || s.resolution.starts_with("DNS")) continue;  // gRPC takes no names for addresses
    const Config* rule = v.destination_rule(s);
    for (const ServicePort& p : s.ports) {
      if (p.protocol == "UDP") continue;
      add_port(v, routes, s, p, out);
      add_cluster(v, s, p, rule, null_node(), out);
      if (rule == nullptr) continue;
      for (const Node& subset : rule->spec()["subsets"].items) add_cluster(v, s, p, rule, subset, out);
    }
  }
  return out;
}

}  // namespace sluice::plane
