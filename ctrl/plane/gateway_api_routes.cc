// Routes: which listeners each is attached to, and the VirtualServices that Istio makes of it: one a listener and host for HTTP and gRPC,
// merged over all routes in the order that the Gateway API prescribes, one a route, listener and host for TLS and TCP.
#include <algorithm>
#include <expected>

#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/schema.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

using Error = std::optional<ApiError>;

struct Attachment {
  const Node* reference = nullptr;
  ApiRef to;
  std::string key;                        // by which Istio sorts and collapses references
  const ApiListener* listener = nullptr;  // null: the mesh
  std::string gateway_name = "mesh", hostname;
  Error denied;
  bool mesh() const { return listener == nullptr; }
};

struct Converted {
  std::vector<Node> routes;
  Error error;
};

struct Route {
  const ApiWorld& w;
  ApiOutput& out;
  const Config& object;
  std::vector<ApiError>& said;  // every backend that is wrong; a condition says one of them
  std::string_view kind() const { return object.kind; }
  const Node& spec() const { return object.spec(); }
  void warn(const Node& at, const std::string& message) const {
    out.result.warnings.push_back(issue_at(at, message, "", Severity::kWarning));
  }
};

std::string api_version(std::string_view kind) { return kind == "TCPRoute" || kind == "TLSRoute" ? "v1alpha2" : "v1"; }

std::string reference_key(const Node& ref, const std::string& ns) {
  return text_or(ref["group"], kGatewayGroup) + "/" + text_or(ref["kind"], "Gateway") + "/" + ref["name"].text + "/" +
         ref["sectionName"].text + "/" + text_or(ref["port"], "0") + "." + text_or(ref["namespace"], ns);
}

Error denial(const Route& r, const Attachment& a) {
  const std::string& ns = r.object.ns;
  if (a.mesh()) {
    const bool service = a.to.kind == "Service";
    const bool found =
        service ? r.w.kube_service(a.to.ns, a.to.name) != nullptr : r.w.object("ServiceEntry", a.to.ns, a.to.name) != nullptr;
    if (found) return {};
    return ApiError{"NoMatchingParent",
                    std::string("parent service") + (service ? "" : " entry") + ": " + go_quoted(a.to.name) + " not found"};
  }
  const ApiParent& p = a.listener->parent;
  const Node &port = (*a.reference)["port"], &section = (*a.reference)["sectionName"];
  if (port && port.integer() != p.port) return ApiError{"NoMatchingParent", "port " + port.text + " not found"};
  if (!section.text.empty() && section.text != p.section)
    return ApiError{"NoMatchingParent", "sectionName " + go_quoted(section.text) + " not found"};
  auto names = r.spec()["hostnames"].list();
  if (names.empty()) names = {"*"};
  bool host_matched = false, matched = false;
  for (const std::string& name : names)
    for (const std::string& h : p.hosts) {
      const size_t slash = h.find('/');
      if (!hosts_match(h.substr(slash + 1), name)) continue;
      host_matched = true;
      matched |= h.substr(0, slash) == "*" || h.substr(0, slash) == ns;
    }
  if (!host_matched) return ApiError{"NoMatchingListenerHostname", "no hostnames matched parent hostname " + go_quoted(p.hostname)};
  if (!matched)
    return ApiError{"NotAllowedByListeners", "hostnames matched parent hostname " + go_quoted(p.hostname) + ", but namespace " +
                                                 go_quoted(ns) + " is not allowed by the parent"};
  if (std::ranges::find(p.kinds, r.kind()) == p.kinds.end())
    return ApiError{"NotAllowedByListeners",
                    "kind " + std::string(kGatewayGroup) + "/" + api_version(r.kind()) + "/" + std::string(r.kind()) + " is not allowed"};
  return {};
}

std::vector<Attachment> attachments(const Route& r) {
  std::vector<Attachment> all;
  for (const Node& ref : r.spec()["parentRefs"].items) {
    Attachment a{.reference = &ref, .to = api_ref(ref, kGatewayGroup, "Gateway", r.object.ns), .key = reference_key(ref, r.object.ns)};
    if (a.to.is("", "Service") || a.to.is(kIstioGroup, "ServiceEntry")) {
      a.denied = denial(r, a);
      all.push_back(std::move(a));
      continue;
    }
    if (!a.to.is(kGatewayGroup, "Gateway")) {
      r.warn(ref, "a parent of kind " + a.to.group + "/" + a.to.kind + " is not known here: the reference is ignored");
      continue;
    }
    const auto g =
        std::ranges::find_if(r.out.gateways, [&](const ApiGateway& x) { return x.object->name == a.to.name && x.object->ns == a.to.ns; });
    if (g == r.out.gateways.end() || g->listeners.empty()) {
      r.warn(ref["name"], "there is no Gateway " + a.to.ns + "/" + a.to.name + " that is served here");
      continue;
    }
    for (const ApiListener& l : g->listeners) {
      Attachment x = a;
      x.listener = &l;
      x.gateway_name = l.parent.internal_name, x.hostname = l.parent.hostname;
      x.denied = denial(r, x);
      all.push_back(std::move(x));
    }
  }
  std::ranges::stable_sort(all, {}, &Attachment::key);
  return all;
}

// A host goes to the most specific listener of the port only.
bool isolated(const Attachment& a, const std::string& host) {
  if (!a.hostname.empty() && !a.hostname.starts_with('*')) return false;
  if (!a.hostname.empty() && !hosts_match(host, a.hostname)) return true;
  return std::ranges::any_of(a.listener->other_hostnames, [&](const std::string& other) {
    return a.hostname.size() <= other.size() && !other.empty() && host_subset(host, other);
  });
}

// ---- backends ----

struct Backend {
  Node destination = map_node();
  Error soft;  // the route stays, this backend gets 500
  Error hard;  // the route cannot be made
};

Backend find_backend(const Route& r, const Node& ref, bool mesh) {
  Backend b;
  const ApiRef to = api_ref(ref, "", "Service", r.object.ns);
  if (!mesh && !r.w.allowed(r.kind(), r.object.ns, to)) {
    b.soft = ApiError{"RefNotPermitted",
                      "backendRef " + to.name + "/" + to.ns + " not accessible to a " + std::string(r.kind()) + " in namespace " +
                          go_quoted(r.object.ns) + " (missing a ReferenceGrant?)",
                      &ref};
    return b;
  }
  const auto missing = [&](const std::string& what) {
    return ApiError{"BackendNotFound", "backend(" + what + ") not found", &ref["name"]};
  };
  std::string host, port = ref["port"].text;
  if (to.is("", "Service")) {
    if (to.name.find('.') != std::string::npos) {
      b.hard =
          ApiError{"InvalidDestination", "service name invalid; the name of the Service must be used, not the hostname.", &ref["name"]};
      return b;
    }
    host = r.w.service_host(to.name, to.ns);
    if (r.w.kube_service(to.ns, to.name) == nullptr) b.soft = missing(host);
  } else if (to.is(kIstioGroup, "Hostname")) {
    if (ref["namespace"]) {
      b.hard = ApiError{"InvalidDestination", "namespace may not be set with Hostname type", &ref["namespace"]};
      return b;
    }
    host = to.name;
    if (r.w.service(host, to.ns) == nullptr) b.soft = missing(host);
  } else if (to.is("multicluster.x-k8s.io", "ServiceImport")) {
    host = r.w.service_host(to.name, to.ns);
    if (r.w.kube_service(to.ns, to.name) == nullptr) b.soft = missing(host);
  } else if (to.is(kPoolGroup, "InferencePool")) {
    if (r.w.object("InferencePool", to.ns, to.name) == nullptr) {
      b.soft = missing(to.name);
      return b;
    }
    const std::string name = pool_service(to.name);
    host = r.w.service_host(name, to.ns);
    const ApiService* s = r.w.kube_service(to.ns, name);
    port = s != nullptr && !s->ports.empty() ? std::to_string(s->ports[0].number) : "54321";  // Istio's first port of a pool
  } else {
    b.soft = ApiError{"InvalidKind",
                      "referencing unsupported backendRef: group " + go_quoted(ref["group"].text) + " kind " + go_quoted(ref["kind"].text),
                      &ref};
    return b;
  }
  if (port.empty()) {
    b.hard = ApiError{"InvalidDestination", "port is required in backendRef", &ref};
    return b;
  }
  put(b.destination, "host", text_node(host, &ref["name"]));
  put(b.destination, "port", map_node({{"number", number_node(std::strtoll(port.c_str(), nullptr, 10))}}));
  return b;
}

Backend backend(const Route& r, const Node& ref, bool mesh) {
  Backend b = find_backend(r, ref, mesh);
  for (const Error* e : {&b.soft, &b.hard})
    if (*e && std::ranges::none_of(r.said, [&](const ApiError& x) { return x.at == (*e)->at && x.message == (*e)->message; }))
      r.said.push_back(**e);
  return b;
}

int64_t weight(const Node& ref) { return ref["weight"].null() ? 1 : ref["weight"].integer(); }
int64_t weight_sum(const Node& refs) {
  int64_t sum = 0;
  for (const Node& b : refs.items) sum += weight(b);
  return sum;
}

// Names in lower case, the first of equal ones; "Subsequent entries with an equivalent header name MUST be ignored".
Node header_map(const Node& list) {
  Node m = map_node();
  for (const Node& h : list.items) {
    std::string name = h["name"].text;
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    if (!m.has(name)) put(m, name, text_node(h["value"].text, &h["value"]));
  }
  return m;
}
Node header_operations(const Node& filter) {
  Node m = map_node();
  for (const char* op : {"add", "set"})
    if (!filter[op].items.empty()) put(m, op, header_map(filter[op]));
  if (!filter["remove"].items.empty()) put(m, "remove", filter["remove"]);
  return m;
}
// False: it is no header filter.
std::expected<bool, ApiError> take_header_filter(const Node& f, Node& headers) {
  const std::string& type = f["type"].text;
  if (type != "RequestHeaderModifier" && type != "ResponseHeaderModifier") return false;
  const bool request = type == "RequestHeaderModifier";
  const Node& modifier = f[request ? "requestHeaderModifier" : "responseHeaderModifier"];
  for (const char* op : {"set", "add"})
    for (const Node& h : modifier[op].items)
      if (!std::ranges::all_of(h["value"].text, [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); }))
        return std::unexpected(
            ApiError{"InvalidFilter", "header " + go_quoted(h["name"].text) + " value contains invalid characters", &h["value"]});
  put(headers, request ? "request" : "response", header_operations(modifier));
  return true;
}
ApiError unsupported(const Node& filter) {
  return {"InvalidFilter", "unsupported filter type " + go_quoted(filter["type"].text), &filter["type"]};
}

// The destinations of a rule: with the filters of each for HTTP and gRPC.
std::expected<Node, ApiError> destinations(const Route& r, const Node& refs, bool mesh, Error& soft) {
  Node list = list_node();
  std::vector<const Node*> used;
  for (const Node& ref : refs.items)
    if (weight(ref) != 0) used.push_back(&ref);
  for (const Node* ref : used) {
    Backend b = backend(r, *ref, mesh);
    if (b.hard) return std::unexpected(*b.hard);
    if (b.soft) soft = b.soft;
    Node d = map_node({{"destination", std::move(b.destination)}});
    Node headers = map_node();
    for (const Node& f : (*ref)["filters"].items) {
      const auto taken = take_header_filter(f, headers);
      if (!taken) return std::unexpected(taken.error());
      if (!*taken) return std::unexpected(unsupported(f));
    }
    if (!headers.keys.empty()) put(d, "headers", std::move(headers));
    if (used.size() > 1) put(d, "weight", number_node(weight(*ref)));
    list.items.push_back(std::move(d));
  }
  return list;
}

// ---- HTTP ----

Node string_match(const char* how, std::string_view s, const Node* at) { return map_node({{how, text_node(s, at)}}); }

Node uri_match(const Node& path) {
  const std::string type = text_or(path["type"], "PathPrefix");
  std::string value = text_or(path["value"], "/");
  if (type == "Exact") return string_match("exact", value, &path["value"]);
  if (type == "RegularExpression") return string_match("regex", value, &path["value"]);
  if (value.size() > 1 && value.ends_with('/')) value.pop_back();
  return string_match("prefix", value, &path["value"]);
}
Node value_matches(const Node& list) {
  Node m = map_node();
  for (const Node& h : list.items)
    put(m, h["name"].text, string_match(h["type"].text == "RegularExpression" ? "regex" : "exact", h["value"].text, &h["value"]));
  return m;
}

Node http_match(const Node& m) {
  Node out = map_node();
  put(out, "uri", uri_match(m["path"]));
  if (!m["headers"].items.empty()) put(out, "headers", value_matches(m["headers"]));
  if (!m["queryParams"].items.empty()) put(out, "queryParams", value_matches(m["queryParams"]));
  if (m["method"]) put(out, "method", string_match("exact", m["method"].text, &m["method"]));
  return out;
}

Node redirect(const Node& f) {
  Node out = map_node();
  if (f["statusCode"]) put(out, "redirectCode", number_node(f["statusCode"].integer()));  // else 302: redirect() in routes.cc
  if (f["hostname"]) put(out, "authority", text_node(f["hostname"].text, &f["hostname"]));
  if (f["scheme"]) put(out, "scheme", text_node(f["scheme"].text, &f["scheme"]));
  if (f["port"]) put(out, "port", number_node(f["port"].integer()));
  else put(out, "derivePort", text_node(f["scheme"] ? "FROM_PROTOCOL_DEFAULT" : "FROM_REQUEST_PORT"));
  const Node& path = f["path"];
  if (path["type"].text == "ReplaceFullPath" && !path["replaceFullPath"].text.empty())
    put(out, "uri", text_node(path["replaceFullPath"].text));
  if (path["type"].text == "ReplacePrefixMatch") put(out, "uri", text_node("%PREFIX()%" + path["replacePrefixMatch"].text));
  return out;
}

Node rewrite(const Node& f) {
  Node out = map_node();
  const Node& path = f["path"];
  if (path["type"].text == "ReplaceFullPath")
    put(out, "uriRegexRewrite",
        path["replaceFullPath"].text.empty()
            ? map_node({{"match", text_node("/.*")}})
            : map_node({{"match", text_node("/.*")}, {"rewrite", text_node(path["replaceFullPath"].text)}}));
  if (path["type"].text == "ReplacePrefixMatch") {
    std::string uri = path["replacePrefixMatch"].text;
    if (uri.ends_with('/')) uri.pop_back();
    put(out, "uri", text_node(uri.empty() ? "/" : uri));
  }
  if (f["hostname"]) put(out, "authority", text_node(f["hostname"].text, &f["hostname"]));
  return out;
}

Node cors(const Node& f) {
  Node out = map_node();
  Node origins = list_node();
  for (const Node& o : f["allowOrigins"].items) {
    if (o.text.empty()) continue;
    if (o.text == "*") {
      origins.items.push_back(string_match("regex", R"(^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$)", &o));
    } else if (o.text.find('*') == o.text.size() - 1) {
      origins.items.push_back(string_match("prefix", std::string_view(o.text).substr(0, o.text.size() - 1), &o));
    } else if (o.text.find('*') != std::string::npos) {
      std::string regex = "^";
      for (const char c : o.text) {
        if (c == '*') regex += ".*";
        else if (std::string_view("\\.+*?()|[]{}^$").find(c) != std::string_view::npos) (regex += '\\') += c;
        else regex += c;
      }
      origins.items.push_back(string_match("regex", regex + "$", &o));
    } else {
      origins.items.push_back(string_match("exact", o.text, &o));
    }
  }
  if (!origins.items.empty()) put(out, "allowOrigins", std::move(origins));
  if (f["allowCredentials"].boolean()) put(out, "allowCredentials", bool_node(true));
  for (const char* list : {"allowMethods", "allowHeaders", "exposeHeaders"})
    if (!f[list].items.empty()) put(out, list, f[list]);
  if (f["maxAge"]) put(out, "maxAge", text_node(f["maxAge"].text + "s"));
  put(out, "unmatchedPreflights", text_node("IGNORE"));
  return out;
}

Node percent(const Node& mirror) {
  double v = mirror["percent"].number();
  if (const Node& f = mirror["fraction"]) v = 100 * f["numerator"].number() / (f["denominator"] ? f["denominator"].number() : 100);
  if (v == 0) return map_node();
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", v);
  Node n = text_node(text);
  n.plain = true;
  return map_node({{"value", std::move(n)}});
}

std::expected<Node, ApiError> mirror(const Route& r, const Node& f, bool mesh) {
  Backend b = backend(r, f["backendRef"], mesh);
  if (b.hard) return std::unexpected(*b.hard);
  if (b.soft) return std::unexpected(*b.soft);
  Node m = map_node({{"destination", std::move(b.destination)}});
  if (f["fraction"] || f["percent"]) put(m, "percentage", percent(f));
  return m;
}

std::string duration(const Node& d) { return duration_json(parse_duration(d.text).value_or(0)); }

void add_retries_and_timeouts(const Node& rule, Node& out) {
  if (rule.has("retry") && rule["retry"].kind == Node::Kind::kMapping) {
    const Node& r = rule["retry"];
    const int64_t attempts = r["attempts"] ? r["attempts"].integer() : 2;
    Node retries = map_node();
    if (attempts != 0) {
      std::string on = "connect-failure,refused-stream,unavailable,cancelled";
      for (const Node& c : r["codes"].items) on += "," + c.text;
      put(retries, "attempts", number_node(attempts));
      put(retries, "retryOn", text_node(on));
    }
    if (r["backoff"]) put(retries, "backoff", text_node(duration(r["backoff"])));
    put(out, "retries", std::move(retries));
  }
  const Node &request = rule["timeouts"]["request"], &backend_request = rule["timeouts"]["backendRequest"];
  if (request && parse_duration(request.text).value_or(0) != 0) put(out, "timeout", text_node(duration(request)));
  if (backend_request && parse_duration(backend_request.text).value_or(0) != 0) {
    if (out.has("retries")) {
      Node retries = out["retries"];
      put(retries, "perTryTimeout", text_node(duration(backend_request)));
      put(out, "retries", std::move(retries));
    } else {
      put(out, "timeout", text_node(duration(backend_request)));
    }
  }
}

std::string rule_name(const Route& r, const Node& rule, size_t i) {
  return rule["name"] ? rule["name"].text : r.object.ns + "." + r.object.name + "." + std::to_string(i);
}

// What HTTP and gRPC share: filters, destinations.
std::expected<Node, ApiError> common_rule(const Route& r, const Node& rule, size_t i, bool mesh, Error& soft) {
  const bool http = r.kind() == "HTTPRoute";
  Node out = map_node(), headers = map_node(), mirrors = list_node();
  put(out, "name", text_node(rule_name(r, rule, i), &rule));
  Error mirror_error;
  for (const Node& f : rule["filters"].items) {
    const std::string& type = f["type"].text;
    const auto taken = take_header_filter(f, headers);
    if (!taken) return std::unexpected(taken.error());
    if (*taken) continue;
    if (type == "RequestMirror") {
      auto m = mirror(r, f["requestMirror"], mesh);
      if (m) mirrors.items.push_back(std::move(*m));
      else if (http) mirror_error = m.error();
      else return std::unexpected(m.error());
    } else if (http && type == "RequestRedirect") {
      put(out, "redirect", redirect(f["requestRedirect"]));
    } else if (http && type == "URLRewrite") {
      if (Node w = rewrite(f["urlRewrite"]); !w.keys.empty()) put(out, "rewrite", std::move(w));
    } else if (http && type == "CORS") {
      put(out, "corsPolicy", cors(f["cors"]));
    } else {
      return std::unexpected(unsupported(f));
    }
  }
  if (!headers.keys.empty()) put(out, "headers", std::move(headers));
  if (!mirrors.items.empty()) put(out, "mirrors", std::move(mirrors));
  if (http) add_retries_and_timeouts(rule, out);
  if (weight_sum(rule["backendRefs"]) == 0 && !out.has("redirect")) {  // the API: 500 where no backend has a weight
    put(out, "directResponse", map_node({{"status", number_node(500)}}));
    soft = mirror_error;
    return out;
  }
  Error backend_error;
  auto list = destinations(r, rule["backendRefs"], mesh, backend_error);
  if (!list) return std::unexpected(list.error());
  if (!list->items.empty()) put(out, "route", std::move(*list));
  soft = joined(backend_error, mirror_error);
  return out;
}

std::expected<Node, ApiError> grpc_match(const Node& m) {
  Node out = map_node();
  if (const Node& method = m["method"]) {
    const Node &service = method["service"], &name = method["method"];
    const bool regex = method["type"].text == "RegularExpression";
    if (service.null() && name.null())
      return std::unexpected(ApiError{"InvalidConfiguration", "gRPC match must have method or service defined", &method});
    if (service.null()) put(out, "uri", string_match("regex", "/[^/]+/" + name.text, &name));
    else if (name.null())
      put(out, "uri",
          regex ? string_match("regex", "/" + service.text + "/.+", &service) : string_match("prefix", "/" + service.text + "/", &service));
    else put(out, "uri", string_match(regex ? "regex" : "exact", "/" + service.text + "/" + name.text, &name));
  }
  if (!m["headers"].items.empty()) put(out, "headers", value_matches(m["headers"]));
  return out;
}

Converted convert_http(const Route& r, bool mesh) {
  Converted c;
  const auto& rules = r.spec()["rules"].items;
  for (size_t i = 0; i < rules.size(); i++) {
    Error soft;
    auto base = common_rule(r, rules[i], i, mesh, soft);
    if (!base) return {{}, base.error()};
    if (soft) c.error = soft;
    if (rules[i]["matches"].items.empty()) c.routes.push_back(*base);
    for (const Node& m : rules[i]["matches"].items) {
      auto match = r.kind() == "HTTPRoute" ? std::expected<Node, ApiError>(http_match(m)) : grpc_match(m);
      if (!match) return {{}, match.error()};
      Node one = *base, list = list_node();
      list.items.push_back(std::move(*match));
      put(one, "match", std::move(list));
      c.routes.push_back(std::move(one));
    }
  }
  return c;
}

// The API's precedence: exact before prefix before expression, longer before shorter, with a method, more headers, more parameters; what
// matches everything last; else as they come.
bool before(const Node& a, const Node& b) {
  const auto &ma = a["match"].items, &mb = b["match"].items;
  if (ma.empty() || mb.empty()) return !ma.empty();
  const auto rank = [](const Node& m) {
    const Node& uri = m["uri"];
    const int how = uri["exact"] ? 3 : uri["prefix"] ? 2 : uri["regex"] ? 1 : -1;
    const size_t length = uri.items.empty() ? 0 : uri.items[0].text.size();
    return std::tuple(how, length, !m["method"].null(), m["headers"].keys.size(), m["queryParams"].keys.size());
  };
  return rank(ma[0]) > rank(mb[0]);
}

// ---- TLS and TCP ----

Converted convert_l4(const Route& r, bool mesh) {
  Converted c;
  for (const Node& rule : r.spec()["rules"].items) {
    Node out = map_node();
    if (weight_sum(rule["backendRefs"]) == 0) {  // to a cluster that is not there: the connection is closed
      Node d = map_node({{"host", text_node("internal.cluster.local")},
                         {"subset", text_node("zero-weight")},
                         {"port", map_node({{"number", number_node(65535)}})}});
      Node list = list_node();
      list.items.push_back(map_node({{"destination", std::move(d)}}));
      put(out, "route", std::move(list));
    } else {
      Error soft;
      auto list = destinations(r, rule["backendRefs"], mesh, soft);
      if (!list) return {{}, list.error()};
      if (soft) c.error = soft;
      put(out, "route", std::move(*list));
      if (r.kind() == "TLSRoute") {
        auto names = r.spec()["hostnames"].list();
        if (names.empty()) names = {"*"};
        Node match = list_node();
        match.items.push_back(map_node({{"sniHosts", text_list(names)}}));
        put(out, "match", std::move(match));
      }
    }
    c.routes.push_back(std::move(out));
  }
  return c;
}

// ---- VirtualServices ----

// A route of the mesh that names a port of its service applies to that port only.
void match_port(std::vector<Node>& routes, const Node& port, bool tls = false) {
  for (Node& r : routes) {
    Node list = r["match"];
    if (list.items.empty() && tls) continue;  // a route that closes the connection
    if (list.items.empty()) list = list_node(), list.items.push_back(map_node());
    for (Node& m : list.items) put(m, "port", number_node(port.integer()));
    put(r, "match", std::move(list));
  }
}

std::vector<std::string> mesh_hosts(const Route& r, const Attachment& a) {
  if (a.to.kind == "Service") return {r.w.service_host(a.to.name, a.to.ns)};
  const Config* e = r.w.object("ServiceEntry", a.to.ns, a.to.name);
  return e == nullptr ? std::vector<std::string>{} : e->spec()["hosts"].list();
}

Node route_notes(const std::string& parents) {
  return map_node({{"internal.istio.io/parents", text_node(parents)}, {"internal.istio.io/route-semantics", text_node("gateway")}});
}
std::string parent_note(const Route& r) { return std::string(r.kind()) + "/" + r.object.name + "." + r.object.ns; }

Node virtual_service(const std::string& host, const std::string& gateway, const char* part, std::vector<Node> routes) {
  Node list = list_node();
  list.items = std::move(routes);
  Node v = map_node({{"hosts", text_list(std::vector{host})}, {"gateways", text_list(std::vector{gateway})}});
  if (!list.items.empty()) put(v, part, std::move(list));
  return v;
}

// Pieces of one VirtualService: those of one listener (or namespace and port of the mesh) and host.
struct Piece {
  const Config* object = nullptr;
  std::string created, ns, name, parents, host, gateway;
  std::vector<Node> routes;
};
using Pieces = std::map<std::string, std::vector<Piece>>;

void add_http_pieces(const Route& r, const std::vector<const Attachment*>& bound, const Converted& mesh, const Converted& gateway,
                     Pieces& pieces) {
  int count = 0;
  for (const Attachment* a : bound) {
    auto hosts = r.spec()["hostnames"].list();
    if (hosts.empty()) hosts = {"*"};
    std::vector<Node> routes = a->mesh() ? mesh.routes : gateway.routes;
    std::string at = a->gateway_name;
    if (a->mesh()) {
      at = r.object.ns;
      hosts = mesh_hosts(r, *a);
      if (const Node& port = (*a->reference)["port"]) match_port(routes, port), at += "/" + port.text;
    }
    if (routes.empty()) continue;
    for (const std::string& h : hosts) {
      if (!a->mesh() && isolated(*a, h)) continue;
      pieces[at + "/" + h].push_back({&r.object, r.object.document["metadata"]["creationTimestamp"].text, r.object.ns,
                                      r.object.name + "~" + std::to_string(count++) + "~" + std::string(kAutogenerated), parent_note(r), h,
                                      a->gateway_name, routes});
    }
  }
}

void merge_pieces(Pieces& pieces, GatewayApi& out) {
  for (auto& [at, list] : pieces) {
    std::ranges::stable_sort(list, {}, [](const Piece& p) { return std::tie(p.created, p.ns, p.name); });
    std::string name = at, parents;
    std::ranges::replace(name, '/', '~');
    std::vector<Node> routes;
    for (Piece& p : list) {
      parents += (parents.empty() ? "" : ",") + p.parents;
      std::ranges::move(p.routes, std::back_inserter(routes));
    }
    std::ranges::stable_sort(routes, before);
    out.configs.push_back(derived_config("VirtualService", name, list[0].ns, route_notes(parents),
                                         virtual_service(list[0].host, list[0].gateway, "http", std::move(routes)), *list[0].object));
  }
}

// The server names of a TLS route that `keep` keeps of its match.
void narrow_names(std::vector<Node>& routes, const auto& keep) {
  for (Node& n : routes) {
    if (n["match"].items.size() != 1) continue;
    Node match = n["match"];
    put(match.items[0], "sniHosts", text_list(keep(match.items[0]["sniHosts"].list())));
    put(n, "match", std::move(match));
  }
}

void add_l4_services(const Route& r, const std::vector<const Attachment*>& bound, const Converted& mesh, const Converted& gateway) {
  const bool tls = r.kind() == "TLSRoute";
  int count = 0;
  for (const Attachment* a : bound) {
    std::vector<Node> routes = a->mesh() ? mesh.routes : gateway.routes;
    std::vector<std::string> hosts{"*"};
    if (tls && !r.spec()["hostnames"].items.empty()) hosts = r.spec()["hostnames"].list();
    if (a->mesh()) {
      hosts = mesh_hosts(r, *a);
      using Names = std::vector<std::string>;
      if (tls) narrow_names(routes, [&](const Names& names) { return names == Names{"*"} ? hosts : names; });
      if (const Node& port = (*a->reference)["port"]) match_port(routes, port, tls);
    } else if (tls && !a->hostname.empty()) {
      narrow_names(routes, [&](const auto& names) { return intersection(names, {a->hostname}); });
    }
    const std::vector<Node> all = routes;
    for (const std::string& h : hosts) {
      routes = all;
      if (a->mesh() && tls)  // of several names those that the host is
        narrow_names(routes, [&](std::vector<std::string> names) {
          if (names.size() > 1) std::erase_if(names, [&](const std::string& n) { return !hosts_match(h, n); });
          return names;
        });
      const std::string name = r.object.name + (tls ? "~tls~" : "~tcp~") + std::to_string(count++) + "~" + std::string(kAutogenerated);
      r.out.result.configs.push_back(derived_config("VirtualService", name, r.object.ns, route_notes(parent_note(r)),
                                                    virtual_service(h, a->gateway_name, tls ? "tls" : "tcp", routes), r.object));
    }
  }
}

// ---- status ----

// One entry a reference: what is best of its listeners is said, failures of one kind together.
Node route_status(const Route& r, const std::vector<Attachment>& all, const Converted& mesh, const Converted& gateway) {
  static constexpr std::string_view kBest[] = {"", "NotAllowedByListeners", "NoMatchingListenerHostname", "ParentRefConflict",
                                               "NoMatchingParent"};
  std::map<std::string, std::vector<const Attachment*>> by_key;
  for (const Attachment& a : all) by_key[a.key].push_back(&a);
  std::vector<std::pair<std::string, Node>> parents;
  for (const Node& p : r.object.document["status"]["parents"].items)
    if (p["controllerName"].text != kGatewayController) parents.emplace_back(reference_key(p["parentRef"], r.object.ns), p);
  for (const auto& [key, list] : by_key) {
    Conditions conditions{{"Accepted", true, "Accepted", "Route was valid"},
                          {"ResolvedRefs", true, "ResolvedRefs", "All references resolved"}};
    const auto bound = std::ranges::count_if(list, [](const Attachment* a) { return !a->denied; });
    if (bound > 1) conditions[0].message = "Route was valid, bound to " + std::to_string(bound) + " parents";
    for (const std::string_view reason : kBest) {
      Error said;
      bool found = false;
      for (const Attachment* a : list)
        if ((a->denied ? a->denied->reason : "") == reason) found = true, said = joined(said, a->denied);
      if (!found) continue;
      if (said) set_error(conditions, "Accepted", *said), r.warn(*list[0]->reference, "not accepted: " + said->message);
      break;
    }
    const Error& error = list[0]->mesh() ? mesh.error : gateway.error;
    if (error) set_error(conditions, "ResolvedRefs", *error);
    parents.emplace_back(key, map_node({{"conditions", conditions_node(conditions)},
                                        {"controllerName", text_node(kGatewayController)},
                                        {"parentRef", *list[0]->reference}}));
  }
  std::ranges::stable_sort(parents, std::greater{}, [](const auto& p) { return p.first; });
  Node out = list_node();
  for (auto& [key, n] : parents) out.items.push_back(std::move(n));
  return map_node({{"parents", std::move(out)}});
}

void translate_route(const ApiWorld& w, const Config& object, ApiOutput& out, Pieces& pieces) {
  std::vector<ApiError> said;
  const Route r{w, out, object, said};
  const auto all = attachments(r);
  const bool l4 = r.kind() == "TLSRoute" || r.kind() == "TCPRoute";
  const auto convert = [&](bool mesh) {
    if (std::ranges::none_of(all, [&](const Attachment& a) { return a.mesh() == mesh; })) return Converted{};
    return l4 ? convert_l4(r, mesh) : convert_http(r, mesh);
  };
  const Converted mesh = convert(true), gateway = convert(false);
  if (said.empty())
    for (const Error* e : {&mesh.error, &gateway.error})
      if (*e && said.empty()) said.push_back(**e);  // not a backend: a filter, a match
  for (const ApiError& e : said) r.warn(e.at != nullptr ? *e.at : object.at(), e.message);
  out.statuses[&object] = route_status(r, all, mesh, gateway);
  std::vector<const Attachment*> bound;
  for (const Attachment& a : all)
    if (!a.denied) bound.push_back(&a);
  std::set<const ApiListener*> listeners;
  for (const Attachment* a : bound)
    if (!a->mesh()) listeners.insert(a->listener);
  for (ApiGateway& g : out.gateways)
    for (ApiListener& l : g.listeners) l.attached += listeners.contains(&l);
  std::ranges::stable_sort(bound, {}, [](const Attachment* a) -> const std::string& { return a->gateway_name; });
  if (l4) add_l4_services(r, bound, mesh, gateway);
  else add_http_pieces(r, bound, mesh, gateway, pieces);
}

}  // namespace

void translate_routes(const ApiWorld& w, ApiOutput& out) {
  Pieces pieces;
  for (const std::string_view kind : kRouteKinds)
    for (const Config* c : w.world.of_kind(kind)) translate_route(w, *c, out, pieces);
  merge_pieces(pieces, out.result);
}

}  // namespace sluice::plane
