// How the Gateway API enters the translation: what it becomes is added to the world's objects, and the few places where Istio treats these
// objects differently from written ones ask here.
#include <algorithm>

#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

// Istio's protocol of a Service's port: appProtocol, else the name before its first dash.
std::string port_protocol(const Node& p) {
  std::string said = p["appProtocol"].text;
  if (said == "kubernetes.io/h2c") return "HTTP2";
  if (said == "kubernetes.io/ws") return "HTTP";
  if (said == "kubernetes.io/wss") return "HTTPS";
  if (said.empty()) said = p["name"].text.starts_with("grpc-web") ? "grpc-web" : p["name"].text.substr(0, p["name"].text.find('-'));
  said = upper(said);
  static constexpr std::string_view kKnown[] = {"HTTP", "HTTPS", "HTTP2", "GRPC", "TLS", "TCP"};
  if (said == "GRPC-WEB") return "HTTP";
  return std::ranges::find(kKnown, said) != std::end(kKnown) ? said : "";
}

// A Service is a ServiceEntry whose endpoints are the WorkloadEntries that it selects, as Istio has it. INTERPRETATION(missing): there are
// no pods in a directory.
void add_service_entry(const ApiWorld& w, const Config& s, std::set<std::string>& hosts, GatewayApi& out) {
  const std::string host = w.service_host(s.name, s.ns);
  const Node& spec = s.spec();
  if (!hosts.insert(host).second) return;  // a ServiceEntry says more
  if (spec["type"].text == "ExternalName") {
    out.warnings.push_back(issue_at(spec["type"], "a Service of type ExternalName has no endpoints here: requests will get 503",
                                    "write a ServiceEntry", Severity::kWarning));
    return;
  }
  Node ports = list_node();
  for (const Node& p : spec["ports"].items) {
    if (text_or(p["protocol"], "TCP") != "TCP") continue;
    Node port = map_node({{"number", number_node(p["port"].integer())},
                          {"name", text_node(text_or(p["name"], "port-" + p["port"].text), &p)},
                          {"protocol", text_node(port_protocol(p))}});
    const ApiService* known = w.service(host, s.ns);
    for (const ApiService::Port& x : known->ports)
      if (x.number == uint32_t(p["port"].integer()) && x.target != 0) put(port, "targetPort", number_node(x.target));
    ports.items.push_back(std::move(port));
  }
  if (ports.items.empty()) return;
  Node entry = map_node({{"hosts", text_list(std::vector{host})},
                         {"location", text_node("MESH_INTERNAL")},
                         {"resolution", text_node("STATIC")},
                         {"ports", std::move(ports)}});
  if (!spec["selector"].keys.empty()) put(entry, "workloadSelector", map_node({{"labels", spec["selector"]}}));
  out.configs.push_back(derived_config("ServiceEntry", s.name, s.ns, map_node(), std::move(entry), s));
}

}  // namespace

GatewayApi translate_services(const World& world) {
  GatewayApi out;
  const auto& services = world.of_kind("Service");
  if (services.empty()) return out;
  const ApiWorld w(world);
  std::set<std::string> hosts;
  for (const Config* e : world.of_kind("ServiceEntry"))
    for (std::string& h : e->spec()["hosts"].list()) hosts.insert(std::move(h));
  for (const Config* c : services) add_service_entry(w, *c, hosts, out);
  return out;
}

bool is_of_gateway_api(const Config& gateway) { return gateway.derived && gateway.document.has("selection"); }

bool selects(const Node& selection, const NodeInfo& node) {
  return std::ranges::any_of(selection.items,
                             [&](const Node& s) { return s["namespace"].text == node.ns && labels_within(s["labels"], node.labels); });
}
bool serves(const Config& gateway, const NodeInfo& node) { return selects(gateway.document["selection"], node); }

uint32_t workload_port(const Config& gateway, const NodeInfo& node, uint32_t service_port) {
  for (const Node& s : gateway.document["selection"].items) {
    if (s["namespace"].text != node.ns || !labels_within(s["labels"], node.labels)) continue;
    if (s["ports"].null()) return service_port;  // no Service: the listener's own port
    if (const Node& p = s["ports"][std::to_string(service_port)]; p.integer() > 0) return uint32_t(p.integer());
  }
  return 0;
}

bool has_gateway_semantics(const Config& v) {
  return v.derived && v.document["metadata"]["annotations"]["internal.istio.io/route-semantics"].text == "gateway";
}

const Node& backend_tls(const View& v, const std::string& host, uint32_t port) {
  const auto at = v.backend_tls_rules.find(host);
  if (at == v.backend_tls_rules.end()) return null_node();
  const Node& policy = at->second->spec()["trafficPolicy"];
  for (const Node& p : policy["portLevelSettings"].items)
    if (p["port"]["number"].integer() == port) return p["tls"];
  return policy["tls"];
}

Json backend_tls_socket(const Node& tls, bool http2) {
  Array names;
  for (const std::string& n : tls["subjectAltNames"].list()) names.add(Object{{"exact", n}});
  if (names.empty()) names.add(Object{{"exact", tls["sni"].text}});  // the API: the hostname is what the certificate must be for
  const std::string& root = tls["credentialName"].text;
  Object common{{"tlsParams", Object{{"tlsMinimumProtocolVersion", "TLSv1_2"}, {"tlsMaximumProtocolVersion", "TLSv1_3"}}}};
  common.set("combinedValidationContext",
             Object{{"defaultValidationContext", Object{{"matchSubjectAltNames", names}}},
                    {"validationContextSdsSecretConfig", root.empty() ? secret("file-root:system") : credential_secret(root + "-cacert")}});
  if (http2) common.set("alpnProtocols", Array{"h2"});
  return extension("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                   {{"commonTlsContext", common}, {"sni", tls["sni"].text}});
}

}  // namespace sluice::plane
