// Reads the documents: which kind and version, the schema, and what must hold between fields, as the API's own validation has it (a
// cluster's API server refuses these before Istio sees them). What Istio reports as a condition is not refused here.
#include <re2/re2.h>

#include <algorithm>

#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/schema.h"

namespace sluice::plane {
namespace {

struct Kind {
  std::string_view group, kind, message;      // message: in the schema; "" for the kinds without a spec
  std::vector<std::string_view> read, known;  // versions; `known` are not read by Istio 1.29
};
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> k = {
      {kGatewayGroup, "GatewayClass", "GatewayClass", {"v1"}, {"v1beta1", "v1alpha2"}},
      {kGatewayGroup, "Gateway", kKubernetesGateway, {"v1"}, {"v1beta1", "v1alpha2"}},
      {kGatewayGroup, "HTTPRoute", "HTTPRoute", {"v1"}, {"v1beta1", "v1alpha2"}},
      {kGatewayGroup, "GRPCRoute", "GRPCRoute", {"v1"}, {"v1alpha2"}},
      {kGatewayGroup, "TLSRoute", "TLSRoute", {"v1alpha2"}, {"v1", "v1alpha3"}},
      {kGatewayGroup, "TCPRoute", "TCPRoute", {"v1alpha2"}, {"v1"}},
      {kGatewayGroup, "ReferenceGrant", "ReferenceGrant", {"v1beta1", "v1"}, {"v1alpha2"}},
      {kGatewayGroup, "BackendTLSPolicy", "BackendTLSPolicy", {"v1"}, {"v1alpha2", "v1alpha3"}},
      {kPoolGroup, "InferencePool", "InferencePool", {"v1"}, {}},
      {"", "Service", "Service", {"v1"}, {}},
      {"", "Namespace", "Namespace", {"v1"}, {}},
      {"", "Secret", "", {"v1"}, {}},
      {"", "ConfigMap", "", {"v1"}, {}},
  };
  return k;
}
constexpr std::string_view kNotTranslated[] = {"UDPRoute", "ListenerSet",    "XListenerSet", "XBackendTrafficPolicy",
                                               "XMesh",    "BackendLBPolicy"};

std::pair<std::string, std::string> group_version(const Node& document) {
  const std::string& v = document["apiVersion"].text;
  const size_t slash = v.find('/');
  return slash == std::string::npos ? std::pair(std::string(), v) : std::pair(v.substr(0, slash), v.substr(slash + 1));
}

struct Checker {
  std::vector<Issue>& issues;
  void refuse(const Node& at, std::string message, std::string remedy = {}) {
    issues.push_back(issue_at(at, std::move(message), std::move(remedy)));
  }
  void warn(const Node& at, std::string message, std::string remedy = {}) {
    issues.push_back(issue_at(at, std::move(message), std::move(remedy), Severity::kWarning));
  }
  void at_most(const Node& list, size_t n, const char* what) {
    if (list.items.size() > n) refuse(list.items[n], "more than " + std::to_string(n) + " " + what);
  }
  // A field of `n` that must be there exactly where `wanted`.
  void belongs(const Node& n, const char* field, bool wanted, const std::string& where) {
    if (wanted && n[field].null()) refuse(n, std::string(field) + " is missing: it is required for " + where);
    if (!wanted && n[field]) refuse(*n.key_of(field), std::string(field) + " is only for " + where);
  }
};

bool is_label(std::string_view s) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !s.empty() && s.size() <= 63 && alnum(s.front()) && alnum(s.back()) &&
         std::ranges::all_of(s, [&](char c) { return alnum(c) || c == '-'; });
}
bool is_hostname(std::string_view h, bool wildcard) {
  if (wildcard && h.starts_with("*.")) h.remove_prefix(2);
  if (h.empty() || h.size() > 253) return false;
  for (size_t at = 0; at <= h.size();) {
    const size_t end = std::min(h.find('.', at), h.size());
    if (!is_label(h.substr(at, end - at))) return false;
    at = end + 1;
  }
  return true;
}
// As lenient as Istio's tests, but one part of a path: no slash, no dot at the start.
bool is_object_name(std::string_view s) {
  return s.size() <= 253 && !s.starts_with('.') &&
         std::ranges::all_of(s, [](char c) { return std::isalnum(uint8_t(c)) || c == '-' || c == '.'; });
}
void check_hostname(Checker& c, const Node& n, bool wildcard) {
  if (n && !is_hostname(n.text, wildcard))
    c.refuse(n, "'" + n.text + "' is no host name",
             wildcard ? "for example shop.example.com or *.example.com, in lower case" : "for example shop.example.com, in lower case");
}
void check_regex(Checker& c, const Node& n) {
  if (const re2::RE2 r(n.text, re2::RE2::Quiet); !r.ok())
    c.refuse(n, "'" + n.text + "' is no RE2 expression: " + r.error(), "see https://github.com/google/re2/wiki/Syntax");
}
void check_header_name(Checker& c, const Node& n) {
  if (n.text.empty() || n.text.size() > 256 || !std::ranges::all_of(n.text, [](char ch) {
        return std::isalnum(uint8_t(ch)) || std::string_view("!#$%&'*+-.^_`|~").find(ch) != std::string_view::npos;
      }))
    c.refuse(n, "'" + n.text + "' is no header name");
}
void check_unique(Checker& c, const Node& list, const char* field, const char* what) {
  std::set<std::string> seen;
  for (const Node& n : list.items)
    if (n[field] && !seen.insert(n[field].text).second) c.refuse(n[field], std::string(what) + " " + n[field].text + " is there twice");
}

void check_selector(Checker& c, const Node& s) {
  for (const Node& e : s["matchExpressions"].items) {
    const bool set = e["operator"].text == "In" || e["operator"].text == "NotIn";
    if (set == e["values"].items.empty()) c.refuse(e, set ? e["operator"].text + " needs values" : e["operator"].text + " takes no values");
  }
}

void check_listener(Checker& c, const Node& l) {
  const std::string& p = l["protocol"].text;
  check_hostname(c, l["hostname"], true);
  const Node& tls = l["tls"];
  const bool terminate = tls["mode"].text != "Passthrough";
  if ((p == "TCP" || p == "UDP") && l["hostname"]) c.refuse(l["hostname"], "a listener of protocol " + p + " cannot have a hostname");
  if ((p == "HTTP" || p == "TCP" || p == "UDP") && tls)
    c.refuse(tls, "a listener of protocol " + p + " cannot have tls", "the protocol of TLS is HTTPS or TLS");
  if ((p == "HTTPS" || p == "TLS") && tls.null())
    c.refuse(l, "a listener of protocol " + p + " needs tls", "add tls: {mode: Terminate, certificateRefs: [{name: SECRET}]}");
  if (p == "HTTPS" && !terminate) c.refuse(tls["mode"], "the tls mode of protocol HTTPS must be Terminate");
  const Node& options = tls["options"];
  const std::string& mode = options["gateway.istio.io/tls-terminate-mode"].text;
  static const std::vector<std::string_view> kModes = {"MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "ISTIO_SIMPLE", "SIMPLE", ""};
  if (std::ranges::find(kModes, mode) == kModes.end())
    c.refuse(options["gateway.istio.io/tls-terminate-mode"], "unknown value '" + mode + "'",
             "one of MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL, ISTIO_SIMPLE");
  for (const Node& k : options.keys)
    if (k.text != "gateway.istio.io/tls-terminate-mode" && k.text != "gateway.istio.io/tls-cipher-suites")
      c.warn(k, "the option " + k.text + " is not known: it has no effect");
  if (tls && terminate && tls["certificateRefs"].items.empty() && !mode.starts_with("ISTIO_"))
    c.refuse(tls, "a listener that terminates TLS needs certificateRefs", "name a Secret of type kubernetes.io/tls");
  const Node& from = l["allowedRoutes"]["namespaces"];
  if (from["from"].text == "Selector" && from["selector"].null()) c.refuse(from, "from: Selector needs a selector");
  if (from["selector"] && from["from"].text != "Selector") c.refuse(from["selector"], "a selector is only used with from: Selector");
  check_selector(c, from["selector"]);
}

void check_gateway(Checker& c, const Config& g) {
  const Node& listeners = g.spec()["listeners"];
  if (listeners.items.empty()) c.refuse(g.at(), "a Gateway needs at least one listener");
  c.at_most(listeners, 64, "listeners");
  c.at_most(g.spec()["addresses"], 16, "addresses");
  check_unique(c, listeners, "name", "listener");
  for (const Node& l : listeners.items) check_listener(c, l);
  const Node& frontend = g.spec()["tls"]["frontend"];
  check_unique(c, frontend["perPort"], "port", "port");
  const auto check_mode = [&](const Node& v) {
    if (v["mode"].text == "AllowInsecureFallback")
      c.refuse(v["mode"], "AllowInsecureFallback is not translated: it would let clients in that were not verified",
               "use AllowValidOnly, or no validation");
    if (v && v["caCertificateRefs"].items.empty()) c.refuse(v, "caCertificateRefs is empty");
  };
  check_mode(frontend["default"]["validation"]);
  for (const Node& p : frontend["perPort"].items) check_mode(p["tls"]["validation"]);
}

void check_path_modifier(Checker& c, const Node& p) {
  if (p.null()) return;
  c.belongs(p, "replaceFullPath", p["type"].text == "ReplaceFullPath", "type ReplaceFullPath");
  c.belongs(p, "replacePrefixMatch", p["type"].text == "ReplacePrefixMatch", "type ReplacePrefixMatch");
}

void check_backend(Checker& c, const Node& b) {
  const bool service = text_or(b["group"], "").empty() && text_or(b["kind"], "Service") == "Service";
  if (service && b["port"].null()) c.refuse(b, "a backend of kind Service needs a port");
}

void check_filters(Checker& c, const Node& rule) {
  std::set<std::string> seen;
  static constexpr std::pair<const char*, const char*> kFields[] = {{"RequestHeaderModifier", "requestHeaderModifier"},
                                                                    {"ResponseHeaderModifier", "responseHeaderModifier"},
                                                                    {"RequestMirror", "requestMirror"},
                                                                    {"RequestRedirect", "requestRedirect"},
                                                                    {"URLRewrite", "urlRewrite"},
                                                                    {"CORS", "cors"},
                                                                    {"ExtensionRef", "extensionRef"},
                                                                    {"ExternalAuth", "externalAuth"}};
  c.at_most(rule["filters"], 16, "filters");
  for (const Node& f : rule["filters"].items) {
    const std::string& type = f["type"].text;
    for (const auto& [t, field] : kFields) c.belongs(f, field, type == t, std::string("type ") + t);
    if (!seen.insert(type).second && type != "RequestMirror" && type != "ExtensionRef")
      c.refuse(f["type"], "the filter " + type + " is there twice");
    for (const char* side : {"requestHeaderModifier", "responseHeaderModifier"}) {
      for (const char* op : {"set", "add"})
        for (const Node& h : f[side][op].items) check_header_name(c, h["name"]);
      for (const Node& h : f[side]["remove"].items) check_header_name(c, h);
    }
    if (const Node& m = f["requestMirror"]) {
      check_backend(c, m["backendRef"]);
      if (m["percent"] && m["fraction"]) c.refuse(m["percent"], "a mirror has one of percent and fraction");
      if (const Node& x = m["fraction"]; x && x["numerator"].integer() > (x["denominator"] ? x["denominator"].integer() : 100))
        c.refuse(x["numerator"], "the numerator is above the denominator");
    }
    for (const char* field : {"requestRedirect", "urlRewrite"}) {
      check_hostname(c, f[field]["hostname"], false);
      const Node& path = f[field]["path"];
      check_path_modifier(c, path);
      const auto& matches = rule["matches"].items;
      if (path["type"].text == "ReplacePrefixMatch" &&
          (matches.size() != 1 || text_or(matches[0]["path"]["type"], "PathPrefix") != "PathPrefix"))
        c.refuse(path["type"], "ReplacePrefixMatch needs exactly one match, of type PathPrefix");
    }
  }
  if (seen.contains("RequestRedirect") && seen.contains("URLRewrite"))
    c.refuse(rule["filters"], "a rule has one of the filters RequestRedirect and URLRewrite");
  if (seen.contains("RequestRedirect") && !rule["backendRefs"].items.empty())
    c.refuse(rule["backendRefs"], "a rule that redirects cannot have backends");
}

void check_path(Checker& c, const Node& p) {
  const std::string& v = p["value"].text;
  if (p["type"].text == "RegularExpression") return check_regex(c, p["value"]);
  if (p["value"].null()) return;
  if (!v.starts_with('/')) return c.refuse(p["value"], "a path begins with /");
  for (const char* bad : {"//", "/./", "/../", "%2f", "%2F", "#"})
    if (v.find(bad) != std::string::npos) return c.refuse(p["value"], std::string("a path cannot contain ") + bad);
  if (v.ends_with("/..") || v.ends_with("/.")) c.refuse(p["value"], "a path cannot end with /. or /..");
}

void check_value_matches(Checker& c, const Node& list) {
  c.at_most(list, 16, "conditions");
  std::set<std::string> seen;
  for (const Node& m : list.items) {
    check_header_name(c, m["name"]);
    if (!seen.insert(m["name"].text).second) c.refuse(m["name"], m["name"].text + " is there twice");
    if (m["type"].text == "RegularExpression") check_regex(c, m["value"]);
  }
}

void check_grpc_method(Checker& c, const Node& m) {
  if (m.null()) return;
  if (m["service"].text.empty() && m["method"].text.empty()) c.refuse(m, "a method match needs service or method");
  static const re2::RE2 service(R"((?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*)"), method("[A-Za-z_][A-Za-z_0-9]*");
  const bool regex = m["type"].text == "RegularExpression";
  for (const auto& [field, form] : {std::pair("service", &service), std::pair("method", &method)}) {
    const Node& n = m[field];
    if (n.null()) continue;
    if (regex) check_regex(c, n);
    else if (!re2::RE2::FullMatch(n.text, *form)) c.refuse(n, "'" + n.text + "' is no gRPC " + field + " name");
  }
}

void check_route(Checker& c, const Config& r) {
  const Node& s = r.spec();
  c.at_most(s["parentRefs"], 32, "parents");
  c.at_most(s["hostnames"], 16, "hostnames");
  c.at_most(s["rules"], 16, "rules");
  if (s["parentRefs"].items.empty()) c.warn(r.at(), r.kind + " without parentRefs is attached to nothing", "add spec.parentRefs");
  for (const Node& h : s["hostnames"].items) check_hostname(c, h, true);
  check_unique(c, s["rules"], "name", "rule");
  const bool l4 = r.kind == "TLSRoute" || r.kind == "TCPRoute";
  for (const Node& rule : s["rules"].items) {
    c.at_most(rule["matches"], 64, "matches");
    c.at_most(rule["backendRefs"], 16, "backends");
    if (l4 && rule["backendRefs"].items.empty()) c.refuse(rule, "a rule needs backendRefs");
    for (const Node& b : rule["backendRefs"].items) check_backend(c, b), check_filters(c, b);
    if (l4) continue;
    check_filters(c, rule);
    for (const Node& m : rule["matches"].items) {
      check_path(c, m["path"]);
      check_value_matches(c, m["headers"]);
      check_value_matches(c, m["queryParams"]);
      if (r.kind == "GRPCRoute") check_grpc_method(c, m["method"]);
    }
    const Node &request = rule["timeouts"]["request"], &backend = rule["timeouts"]["backendRequest"];
    const int64_t all = parse_duration(request.text).value_or(0), one = parse_duration(backend.text).value_or(0);
    if (all > 0 && one > all) c.refuse(backend, "backendRequest is longer than request");
    for (const Node* d : {&request, &backend})
      if (const int64_t v = parse_duration(d->text).value_or(0); v > 0 && v < 1'000'000) c.refuse(*d, "a duration is at least 1ms");
  }
}

void check_policy(Checker& c, const Config& p) {
  const Node& v = p.spec()["validation"];
  if (p.spec()["targetRefs"].items.empty()) c.refuse(p.at(), "a BackendTLSPolicy needs targetRefs");
  c.at_most(p.spec()["targetRefs"], 16, "targets");
  if (v["caCertificateRefs"].items.empty() == v["wellKnownCACertificates"].null())
    c.refuse(v, "one of caCertificateRefs and wellKnownCACertificates must be set");
  check_hostname(c, v["hostname"], false);
  for (const Node& n : v["subjectAltNames"].items) {
    c.belongs(n, "hostname", n["type"].text == "Hostname", "type Hostname");
    c.belongs(n, "uri", n["type"].text == "URI", "type URI");
  }
}

void check(Checker& c, const Config& x) {
  if (x.kind == kKubernetesGateway) check_gateway(c, x);
  else if (x.kind.ends_with("Route")) check_route(c, x);
  else if (x.kind == "BackendTLSPolicy") check_policy(c, x);
  else if (x.kind == "InferencePool")
    c.warn(x.spec()["endpointPickerRef"], "the endpoint picker is not asked: requests are balanced over the pool's Service",
           "see docs/gateway-api.md");
  else if (x.kind == "ReferenceGrant")
    for (const char* list : {"from", "to"})
      if (x.spec()[list].items.empty()) c.refuse(x.at(), std::string("a ReferenceGrant needs ") + list);
}

void check_data(Checker& c, const Node& map, const std::string& name) {
  if (map.null()) return;
  if (map.kind != Node::Kind::kMapping) return c.refuse(map, name + ": a mapping is expected");
  for (const Node& v : map.items)
    if (v.kind != Node::Kind::kScalar && !v.null()) c.refuse(v, name + ": one text is expected");
}

}  // namespace

bool is_gateway_api(const Node& document) {
  const std::string& kind = document["kind"].text;
  const auto [group, version] = group_version(document);
  if (group == kGatewayGroup || group == kPoolGroup) return true;
  return kind != "Gateway" && std::ranges::any_of(kinds(), [&](const Kind& k) { return k.kind == kind; });
}

std::shared_ptr<Config> read_gateway_api(Node document, std::vector<Issue>& issues) {
  Checker check_all{issues};
  const std::string kind = document["kind"].text;
  const Node& at = document["kind"].null() ? document : document["kind"];
  const auto known = std::ranges::find(kinds(), kind, &Kind::kind);
  if (known == kinds().end()) {
    std::vector<std::string_view> names;
    for (const Kind& k : kinds()) names.push_back(k.kind);
    const bool later = std::ranges::find(kNotTranslated, kind) != std::end(kNotTranslated);
    const std::string near = nearest(kind, names);
    check_all.refuse(at,
                     kind.empty() ? "'kind' is missing"
                     : later      ? kind + " is not translated"
                                  : "unknown kind " + kind + (near.empty() ? "" : "; did you mean '" + near + "'?"),
                     later ? "remove it; see docs/gateway-api.md" : "");
    return nullptr;
  }
  const auto [group, version] = group_version(document);
  const std::string wanted = (known->group.empty() ? "" : std::string(known->group) + "/") + std::string(known->read[0]);
  const Node& version_at = document["apiVersion"].null() ? document : document["apiVersion"];
  const bool read = group == known->group && std::ranges::find(known->read, version) != known->read.end();
  if (!read && (group != known->group || std::ranges::find(known->known, version) == known->known.end()))
    check_all.refuse(version_at, "unknown apiVersion '" + document["apiVersion"].text + "' for " + kind, "write " + wanted);
  const Node& metadata = document["metadata"];
  const bool cluster = kind == "GatewayClass" || kind == "Namespace";
  auto made = std::make_shared<Config>();
  Config& c = *made;
  c.kind = kind == "Gateway" ? kKubernetesGateway : known->kind;
  c.name = metadata["name"].text;
  c.ns = cluster ? "" : text_or(metadata["namespace"], "default");
  if (c.name.empty()) check_all.refuse(metadata.null() ? document : metadata, kind + " without metadata.name");
  for (const std::string f : {"name", "namespace"})  // they become names of files and hosts
    if (const Node& n = metadata[f]; !is_object_name(n.text) || (f == "namespace" && n.text.find('.') != std::string::npos))
      check_all.refuse(n, "'" + n.text + "' is no " + f + " of an object");
  std::vector<std::string_view> top = {"apiVersion", "kind", "metadata", "spec", "status"};
  if (kind == "Secret") top = {"apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"};
  if (kind == "ConfigMap") top = {"apiVersion", "kind", "metadata", "data", "binaryData", "immutable"};
  for (const Node& k : document.keys)
    if (std::ranges::find(top, k.text) == top.end()) {
      const std::string near = nearest(k.text, top);
      check_all.refuse(k, "unknown field " + k.text + (near.empty() ? "" : "; did you mean '" + near + "'?"));
    }
  const size_t before = issues.size();
  if (known->message.empty()) {
    for (const char* map : {"data", "stringData", "binaryData"}) check_data(check_all, document[map], map);
  } else {
    for (size_t i = 0; i < document.keys.size(); i++)
      if (document.keys[i].text == "spec") check_schema(document.items[i], known->message, "spec", issues);
    if (document["spec"].null() && known->message != "Namespace") check_all.refuse(document, kind + " without spec");
  }
  c.document = std::move(document);
  if (issues.size() == before) check(check_all, c);  // rules rely on types
  // INTERPRETATION(deviate): a cluster's API server gives Istio the version that it reads; Istio's own tests and its file mode do not.
  if (!read && group == known->group) {
    check_all.warn(c.document["apiVersion"], "Istio 1.29 reads " + kind + " of " + wanted + " only: this object has no effect",
                   "write " + wanted);
    return nullptr;
  }
  return made;
}

}  // namespace sluice::plane
