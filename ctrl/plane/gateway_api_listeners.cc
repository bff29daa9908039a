// Gateways: one Istio Gateway with one server a listener, as Istio makes them, and the listeners' conditions.
#include <algorithm>

#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kBadReference = "InvalidCertificateRef", kNotPermitted = "RefNotPermitted";

struct Builder {
  const ApiWorld& w;
  const Config& gateway;
  GatewayApi& out;
  const Node& annotations() const { return gateway.document["metadata"]["annotations"]; }
  void warn(const Node& at, std::string message, std::string remedy = {}) const {
    out.warnings.push_back(issue_at(at, std::move(message), std::move(remedy), Severity::kWarning));
  }

  // "group/kind/name.namespace" as they are written.
  static std::string written(const Node& ref) {
    return ref["group"].text + "/" + ref["kind"].text + "/" + ref["name"].text + "." + ref["namespace"].text;
  }
  std::optional<ApiError> grant_error(const Node& ref, const ApiRef& to, bool root) const {
    if (w.allowed("Gateway", gateway.ns, to)) return {};
    const std::string what = root ? "caCertificateRef " + to.ns + "/" + to.name : "certificateRef " + to.name + "/" + to.ns;
    return ApiError{std::string(kNotPermitted),
                    what + " not accessible to a Gateway in namespace " + go_quoted(gateway.ns) + " (missing a ReferenceGrant?)", &ref};
  }
  std::expected<std::string, ApiError> certificate(const Node& ref) const {
    const auto wrong = [&](const std::string& why) {
      return std::unexpected(ApiError{std::string(kBadReference), "invalid certificate reference " + written(ref) + ", " + why, &ref});
    };
    const ApiRef to = api_ref(ref, "", "Secret", gateway.ns);
    if (!to.is("", "Secret")) return wrong("only secret is allowed");
    const Config* secret = w.object("Secret", to.ns, to.name);
    if (secret == nullptr) return wrong("secret " + to.ns + "/" + to.name + " not found");
    if (const auto why = certificate_error(*secret)) return wrong(*why);
    if (auto why = grant_error(ref, to, false)) return std::unexpected(std::move(*why));
    return "kubernetes-gateway://" + to.ns + "/" + to.name;
  }
  std::expected<std::string, ApiError> root(const Node& ref) const {
    const auto wrong = [&](const std::string& why) {
      return std::unexpected(ApiError{std::string(kBadReference), "invalid CA certificate reference " + written(ref) + ", " + why, &ref});
    };
    const ApiRef to = api_ref(ref, "", "", gateway.ns);
    const bool map = to.is("", "ConfigMap");
    if (!map && !to.is("", "Secret")) return wrong("only secret and configmap are allowed");
    const Config* c = w.object(to.kind, to.ns, to.name);
    if (c == nullptr) return wrong((map ? "configmap " : "secret ") + to.ns + "/" + to.name + " not found");
    if (const auto why = root_error(*c)) return wrong(*why);
    if (!root_is_pem(*c)) return wrong("the bundle is malformed");
    if (auto why = grant_error(ref, to, true)) return std::unexpected(std::move(*why));
    return (map ? "configmap://" : "kubernetes-gateway://") + to.ns + "/" + to.name + "-cacert";
  }

  // What clients must show on this port: of the port, else of the gateway.
  const Node& validation(int64_t port) const {
    const Node& frontend = gateway.spec()["tls"]["frontend"];
    for (const Node& p : frontend["perPort"].items)
      if (p["port"].integer() == port) return p["tls"]["validation"];
    return frontend["default"]["validation"];
  }
  bool auto_passthrough(const Node& l) const {
    const Node& labels = gateway.labels();
    if (!labels.has("topology.istio.io/network")) return false;
    return text_or(labels["networking.istio.io/gatewayPort"], "15443") == l["port"].text;
  }

  // The server's tls: its error is the listener's unresolved reference; a partial error leaves a certificate to serve.
  Node tls(const Node& l, std::optional<ApiError>& error, bool& usable) const {
    const Node &t = l["tls"], &options = t["options"];
    Node out_tls = map_node();
    add_ciphers(options["gateway.istio.io/tls-cipher-suites"], out_tls);
    if (t["mode"].text == "Passthrough") {
      if (auto_passthrough(l)) put(out_tls, "mode", text_node("AUTO_PASSTHROUGH"));
      return out_tls;  // PASSTHROUGH is Istio's default
    }
    const std::string& mode = options["gateway.istio.io/tls-terminate-mode"].text;
    if (mode == "ISTIO_SIMPLE") {
      put(out_tls, "credentialName", text_node("builtin://"));
      put(out_tls, "mode", text_node("SIMPLE"));
      return out_tls;
    }
    put(out_tls, "mode", text_node(mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL" || mode == "ISTIO_MUTUAL" ? mode : "SIMPLE"));
    if (mode == "ISTIO_MUTUAL") return out_tls;
    const auto& refs = t["certificateRefs"].items;
    std::vector<std::string> names;
    if (refs.size() > 2) error = ApiError{std::string(kBadReference), "TLS mode can only support up to 2 server certificates", &t};
    else
      for (const Node& ref : refs) {
        const auto name = certificate(ref);
        if (name) names.push_back(*name);
        else error = joined(error, name.error());
      }
    usable = !names.empty();
    if (usable && error) warn(*error->at, error->message), error.reset();  // Istio: one certificate is enough to be resolved
    if (names.size() == 1) put(out_tls, "credentialName", text_node(names[0], &refs[0]["name"]));
    else if (usable) put(out_tls, "credentialNames", text_list(names));
    const auto& roots = validation(l["port"].integer())["caCertificateRefs"].items;
    if (!usable || roots.empty()) return out_tls;
    const auto root_name = roots.size() > 1
                               ? std::unexpected(ApiError{std::string(kBadReference), "only one caCertificateRef is supported", &roots[1]})
                               : root(roots[0]);
    if (!root_name) {
      error = root_name.error(), usable = false;
      return out_tls;
    }
    put(out_tls, "mode", text_node("MUTUAL"));
    put(out_tls, "caCertCredentialName", text_node(*root_name, &roots[0]["name"]));
    return out_tls;
  }
  void add_ciphers(const Node& option, Node& tls) const;

  std::vector<std::string> hosts(const Node& l) const {
    const std::string name = text_or(l["hostname"], "*");
    const Node& allowed = l["allowedRoutes"]["namespaces"];
    std::vector<std::string> namespaces{gateway.ns};
    if (allowed["from"].text == "All") namespaces = {"*"};
    else if (allowed["from"].text == "Selector")
      namespaces = allowed["selector"].null() ? std::vector<std::string>{"*"} : w.namespaces_matching(allowed["selector"]);
    std::vector<std::string> out_hosts;
    for (const std::string& ns : namespaces) out_hosts.push_back(ns + "/" + name);
    if (out_hosts.empty()) out_hosts.push_back("~/" + name);  // nobody's routes
    return out_hosts;
  }

  static std::optional<std::string> protocol_error(const std::string& p) {
    static constexpr std::string_view kProtocols[] = {"HTTP", "HTTPS", "TLS", "TCP"};
    if (std::ranges::find(kProtocols, p) != std::end(kProtocols)) return {};
    if (p == "HBONE") return "protocol \"HBONE\" is only supported for waypoint proxies";
    const std::string up = upper(p);
    const std::string said = "protocol " + go_quoted(p) + " is unsupported";
    if (std::ranges::find(kProtocols, up) != std::end(kProtocols) || up == "HBONE")
      return said + ". hint: " + go_quoted(up) + " (uppercase) may be supported";
    return said;
  }

  ApiListener listener(const Node& l) const {
    ApiListener x{.parent = {.gateway = &gateway,
                             .listener = &l,
                             .internal_name = gateway.ns + "/" + gateway.name + "~" + std::string(kAutogenerated) + "~" + l["name"].text,
                             .hosts = hosts(l),
                             .hostname = l["hostname"].text,
                             .section = l["name"].text,
                             .protocol = l["protocol"].text,
                             .port = l["port"].integer()},
                  .conditions = {{"Accepted", true, "Accepted", "No errors found"},
                                 {"Conflicted", false, "NoConflicts", "No errors found"},
                                 {"Programmed", true, "Programmed", "No errors found"},
                                 {"ResolvedRefs", true, "ResolvedRefs", "No errors found"}}};
    const bool kinds_known = supported_kinds(l, x.kinds);
    x.parent.kinds = x.kinds;
    put(x.server, "hosts", text_list(x.parent.hosts));
    put(x.server, "port",
        map_node({{"name", text_node("default")},
                  {"number", number_node(x.parent.port)},
                  {"protocol", text_node(x.parent.protocol, &l["protocol"])}}));
    if (l["tls"]) {
      std::optional<ApiError> error;
      bool usable = true;
      put(x.server, "tls", tls(l, error, usable));
      if (error) set_error(x.conditions, "ResolvedRefs", *error), warn(*error->at, error->message);
      if (!usable) set_error(x.conditions, "Programmed", {"Invalid", "Bad TLS configuration"}), x.valid = false;
    }
    if (const auto why = protocol_error(x.parent.protocol)) {
      set_error(x.conditions, "Accepted", {"UnsupportedProtocol", *why});
      warn(l["protocol"], *why);
      x.valid = false;
    }
    if (!kinds_known) {
      set_error(x.conditions, "ResolvedRefs", {"InvalidRouteKinds", "Invalid route kinds"});
      warn(l["allowedRoutes"]["kinds"], "a listener of protocol " + x.parent.protocol + " cannot have routes of all of these kinds");
    }
    return x;
  }

  // False: the listener names a kind that it cannot have.
  static bool supported_kinds(const Node& l, std::vector<std::string>& out) {
    const std::string& p = l["protocol"].text;
    if (p == "HTTP" || p == "HTTPS") out = {"HTTPRoute", "GRPCRoute"};
    else if (p == "TCP") out = {"TCPRoute"};
    else if (p == "TLS") out = {l["tls"]["mode"].text == "Passthrough" ? "TLSRoute" : "TCPRoute"};
    const auto& wanted = l["allowedRoutes"]["kinds"].items;
    if (wanted.empty()) return true;
    std::erase_if(out, [&](const std::string& k) {
      return std::ranges::none_of(
          wanted, [&](const Node& n) { return n["kind"].text == k && text_or(n["group"], kGatewayGroup) == kGatewayGroup; });
    });
    return out.size() == wanted.size();
  }

  // Istio: an address of type Hostname is a Service that is there already; none, or one IP, is a Service that Istio would provision.
  ApiGateway addresses() const {
    ApiGateway g{.object = &gateway};
    const auto& list = gateway.spec()["addresses"].items;
    g.managed = list.empty() || (list.size() == 1 && text_or(list[0]["type"], "IPAddress") == "IPAddress");
    if (g.managed) {
      g.name = text_or(annotations()["gateway.istio.io/name-override"], gateway.name + "-" + gateway.spec()["gatewayClassName"].text);
      g.services.push_back(w.service_host(g.name, gateway.ns));
      return g;
    }
    std::string skipped;
    const Node* first_skipped = nullptr;
    for (const Node& a : list) {
      const std::string& value = a["value"].text;
      if (a["type"] && a["type"].text != "Hostname") {
        skipped += (skipped.empty() ? "" : " ") + value;
        if (first_skipped == nullptr) first_skipped = &a;
      } else {
        g.services.push_back(value.find('.') == std::string::npos ? w.service_host(value, gateway.ns) : value);
      }
    }
    if (!skipped.empty()) {
      g.address_error = ApiError{"UnsupportedAddress", "only Hostname is supported, ignoring [" + skipped + "]", first_skipped};
      warn(*first_skipped, g.address_error->message);
    } else if (const Node& type = annotations()["networking.istio.io/service-type"]) {
      g.address_error = ApiError{"DeprecatedField",
                                 "annotation networking.istio.io/service-type is deprecated, use Spec.Infrastructure.Routeability", &type};
      warn(type, g.address_error->message);
    }
    return g;
  }

  // The workloads that serve the gateway: by the selector of each of its services, with the ports on which they listen. (Ours; Istio asks
  // its registry.)
  Node selection(const ApiGateway& g) const {
    Node all = list_node();
    for (const std::string& host : g.services) {
      const ApiService* s = w.service(host, gateway.ns);
      if (s == nullptr || s->selector->keys.empty()) continue;
      Node ports = map_node();
      for (const ApiService::Port& p : s->ports) put(ports, std::to_string(p.number), number_node(p.target));
      all.items.push_back(map_node({{"namespace", text_node(s->ns)}, {"labels", *s->selector}, {"ports", std::move(ports)}}));
    }
    if (g.managed && all.items.empty())
      all.items.push_back(map_node({{"namespace", text_node(gateway.ns)},
                                    {"labels", map_node({{"gateway.networking.k8s.io/gateway-name", text_node(gateway.name)}})}}));
    return all;
  }

  Config istio_gateway(const ApiGateway& g, const ApiListener& l) const {
    std::string hosts_joined;
    for (const std::string& s : g.services) hosts_joined += (hosts_joined.empty() ? "" : ",") + s;
    Node notes = map_node({{"internal.istio.io/gateway-semantics", text_node("gateway")},
                           {"internal.istio.io/gateway-service", text_node(hosts_joined)},
                           {"internal.istio.io/parents", text_node("Gateway/" + gateway.name + "/" + l.parent.section + "." + gateway.ns)},
                           {"internal.istio.io/service-account-name",
                            text_node(g.managed ? text_or(annotations()["gateway.istio.io/service-account"], g.name) : "")}});
    Node servers = list_node();
    servers.items.push_back(l.server);
    Config c = derived_config("Gateway", l.parent.internal_name.substr(gateway.ns.size() + 1), gateway.ns, std::move(notes),
                              map_node({{"servers", std::move(servers)}}), gateway);
    put(c.document, "selection", g.selection);
    return c;
  }
};

void Builder::add_ciphers(const Node& option, Node& tls) const {
  static constexpr std::string_view kKnown[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                                "ECDHE-RSA-AES128-GCM-SHA256",
                                                "ECDHE-ECDSA-AES256-GCM-SHA384",
                                                "ECDHE-RSA-AES256-GCM-SHA384",
                                                "ECDHE-ECDSA-CHACHA20-POLY1305",
                                                "ECDHE-RSA-CHACHA20-POLY1305",
                                                "ECDHE-ECDSA-AES128-SHA",
                                                "ECDHE-RSA-AES128-SHA",
                                                "ECDHE-ECDSA-AES256-SHA",
                                                "ECDHE-RSA-AES256-SHA",
                                                "AES128-GCM-SHA256",
                                                "AES256-GCM-SHA384",
                                                "AES128-SHA",
                                                "AES256-SHA",
                                                "DES-CBC3-SHA"};
  std::vector<std::string> good;
  const std::string list = option.text + ",";
  for (size_t at = 0; option && at < list.size();) {
    const size_t end = list.find(',', at);
    std::string suite = list.substr(at, end - at);
    at = end + 1;
    suite.erase(0, suite.find_first_not_of(' '));
    suite.erase(suite.find_last_not_of(' ') + 1);
    if (suite.empty()) continue;
    if (std::ranges::find(kKnown, suite) != std::end(kKnown)) good.push_back(suite);
    else warn(option, "'" + suite + "' is no cipher suite that Istio knows: it is left out");
  }
  if (!good.empty()) put(tls, "cipherSuites", text_list(good));
}

// Two listeners of one port that no connection could tell apart: the earlier one keeps the port. INTERPRETATION(deviate): Istio 1.29
// reports no conflict and lets the later one fail in silence; the rule is Gateway API 1.4's, the words are Istio 1.30's.
void find_conflicts(ApiGateway& g, GatewayApi& out) {
  const auto http_like = [](const ApiParent& p) { return p.protocol == "HTTP" || p.protocol == "HTTPS" || p.protocol == "TLS"; };
  const auto l4 = [](const ApiParent& p) { return p.protocol == "TCP" || p.protocol == "UDP"; };
  std::vector<const ApiParent*> kept;
  for (ApiListener& l : g.listeners) {
    const ApiParent& a = l.parent;
    const auto prior = std::ranges::find_if(kept, [&](const ApiParent* b) {
      if (a.port != b->port) return false;
      if (http_like(a) && http_like(*b)) return a.hostname == b->hostname;
      return (http_like(a) || l4(a)) && (http_like(*b) || l4(*b));
    });
    if (prior == kept.end()) {
      kept.push_back(&a);
      continue;
    }
    const ApiError e{l4(a) || a.protocol != (*prior)->protocol ? "ProtocolConflict" : "HostnameConflict",
                     "Listener has a conflict with another listener attached to the same Gateway"};
    set_error(l.conditions, "Conflicted", e, true);
    set_error(l.conditions, "Accepted", e);
    set_error(l.conditions, "Programmed", e);
    l.valid = false;
    out.warnings.push_back(issue_at((*a.listener)["name"],
                                    "listener " + a.section + " conflicts with listener " + (*prior)->section + " of the same port",
                                    "the earlier one is served", Severity::kWarning));
  }
}

// A Gateway that stands for one of another cluster: nothing is done about it, and that is said.
Node remote_status(const Config& gateway) {
  Conditions c{{"Accepted", true, "Accepted", "Resource accepted"},
               {"Programmed", true, "Programmed", "This Gateway is remote; Istio will not program it"}};
  Node status = map_node();
  if (const Node& a = gateway.spec()["addresses"]; !a.items.empty()) put(status, "addresses", a);
  put(status, "conditions", conditions_node(c));
  return status;
}

}  // namespace

void translate_listeners(const ApiWorld& w, ApiOutput& out) {
  for (const Config* c : w.world.of_kind("GatewayClass"))
    if (const std::string& by = c->spec()["controllerName"].text; by == kGatewayController || by == kRemoteController)
      out.statuses[c] = map_node({{"conditions", conditions_node({{"Accepted", true, "Accepted", "Handled by Istio controller"}})}});
  for (const Config* c : w.world.of_kind("InferencePool")) out.statuses[c] = map_node();
  for (const Config* object : w.world.of_kind(kKubernetesGateway)) {
    const Config& c = *object;
    const Builder b{w, c, out.result};
    const std::string& name = c.spec()["gatewayClassName"].text;
    const std::string controller = w.controller(name);
    if (controller == kRemoteController) {
      out.statuses[&c] = remote_status(c);
      continue;
    }
    if (controller != kGatewayController) {
      b.warn(c.spec()["gatewayClassName"],
             "the class " + name + " is not one of " + std::string(kGatewayController) + ": this Gateway is not served",
             "gatewayClassName: istio, or add its GatewayClass");
      continue;
    }
    ApiGateway g = b.addresses();
    if (!g.services.empty())
      for (const Node& l : c.spec()["listeners"].items) g.listeners.push_back(b.listener(l));
    for (ApiListener& l : g.listeners)
      for (const ApiListener& other : g.listeners)
        if (other.parent.port == l.parent.port && other.parent.protocol == l.parent.protocol && other.parent.hostname != l.parent.hostname)
          l.other_hostnames.insert(other.parent.hostname);
    g.selection = b.selection(g);
    find_conflicts(g, out.result);
    for (const ApiListener& l : g.listeners)
      if (l.valid) out.result.configs.push_back(b.istio_gateway(g, l));
    out.gateways.push_back(std::move(g));
  }
}

}  // namespace sluice::plane
