// The index, and Istio's reading of secrets and host names.
#include "ctrl/plane/gateway_api_world.h"

#include <algorithm>

#include "tls-offload/pem_pair.h"

namespace sluice::plane {
namespace {

std::string key(std::string_view kind, const std::string& ns, const std::string& name) { return std::string(kind) + "/" + ns + "/" + name; }

std::string base64_decoded(std::string_view s) {
  std::string out;
  uint32_t bits = 0;
  int n = 0;
  for (const char c : s) {
    const int v = c >= 'A' && c <= 'Z'   ? c - 'A'
                  : c >= 'a' && c <= 'z' ? c - 'a' + 26
                  : c >= '0' && c <= '9' ? c - '0' + 52
                  : c == '+'             ? 62
                  : c == '/'             ? 63
                                         : -1;
    if (v < 0) continue;
    bits = (bits << 6 | uint32_t(v)) & 0xffffff;
    n += 6;
    if (n >= 8) out += char(bits >> (n -= 8));
  }
  return out;
}

// A Secret's or ConfigMap's keys with their values.
std::map<std::string, std::string> data_of(const Config& c) {
  std::map<std::string, std::string> out;
  const bool secret = c.kind == "Secret";
  const Node& data = c.document["data"];
  for (size_t i = 0; i < data.keys.size(); i++) out[data.keys[i].text] = secret ? base64_decoded(data.items[i].text) : data.items[i].text;
  const Node& text = c.document[secret ? "stringData" : "binaryData"];
  for (size_t i = 0; i < text.keys.size(); i++) out[text.keys[i].text] = secret ? text.items[i].text : base64_decoded(text.items[i].text);
  return out;
}

// Istio names at most three of the keys that are there.
std::string key_names(const std::map<std::string, std::string>& data) {
  std::string out;
  size_t n = 0;
  for (const auto& [k, v] : data)
    if (n++ < 3) out += (out.empty() ? "" : ", ") + k;
  return n < 3 ? out : out + ", and " + std::to_string(n - 3) + " more...";
}

bool expression_matches(const Node& e, const std::map<std::string, std::string>& labels) {
  const auto it = labels.find(e["key"].text);
  const std::string& op = e["operator"].text;
  const bool found = it != labels.end();
  if (op == "Exists") return found;
  if (op == "DoesNotExist") return !found;
  const bool in = found && std::ranges::any_of(e["values"].items, [&](const Node& v) { return v.text == it->second; });
  return op == "In" ? in : !in;
}

}  // namespace

std::optional<ApiError> joined(std::optional<ApiError> a, const std::optional<ApiError>& b) {
  if (!a) return b;
  if (b) a->message += "; " + b->message;
  return a;
}

ApiRef api_ref(const Node& n, std::string_view group, std::string_view kind, const std::string& ns) {
  return {text_or(n["group"], group), text_or(n["kind"], kind), n["name"].text, text_or(n["namespace"], ns)};
}

ApiWorld::ApiWorld(const World& w) : world(w), domain(w.mesh.domain) {
  for (const Config* o : w.all()) {
    const Config& c = *o;
    if (c.derived) continue;
    objects_.emplace(key(c.kind, c.ns, c.name), &c);
    if (c.kind == "ReferenceGrant") grants_.push_back(&c);
    if (c.kind == "Namespace") {
      const Node& l = c.labels();
      for (size_t i = 0; i < l.keys.size(); i++) namespaces_[c.name][l.keys[i].text] = l.items[i].text;
      namespaces_[c.name]["kubernetes.io/metadata.name"] = c.name;
    } else if (c.document["apiVersion"].text.starts_with(kGatewayGroup) && c.kind != "GatewayClass") {
      namespaces_[c.ns]["kubernetes.io/metadata.name"] = c.ns;
    }
    if (c.kind == "Service") {
      ApiService s{.host = service_host(c.name, c.ns), .ns = c.ns, .object = &c, .selector = &c.spec()["selector"]};
      for (const Node& p : c.spec()["ports"].items) {
        ApiService::Port port{.number = uint32_t(p["port"].integer()), .name = p["name"].text};
        const Node& t = p["targetPort"];
        const bool number = !t.text.empty() && t.text.size() <= 5 && t.text.find_first_not_of("0123456789") == std::string::npos;
        port.target = t.null() ? port.number : number ? uint32_t(t.integer()) : 0;
        s.ports.push_back(std::move(port));
      }
      s.external = c.spec()["externalIPs"].list();
      for (const Node& i : c.document["status"]["loadBalancer"]["ingress"].items)
        for (const char* f : {"ip", "hostname"})
          if (i[f]) s.external.push_back(i[f].text);
      s.load_balancer = c.spec()["type"].text == "LoadBalancer";
      s.internal = c.spec()["clusterIPs"].list();
      if (s.internal.empty() && c.spec()["clusterIP"]) s.internal.push_back(c.spec()["clusterIP"].text);
      std::erase(s.internal, "None");
      const auto at = std::pair(s.host, s.ns);
      services_.emplace(at, std::move(s));
    } else if (c.kind == "ServiceEntry") {
      for (const std::string& host : c.spec()["hosts"].list()) {
        ApiService s{.host = host, .ns = c.ns, .object = &c, .selector = &c.spec()["workloadSelector"]["labels"]};
        for (const Node& p : c.spec()["ports"].items) {
          const uint32_t number = uint32_t(p["number"].integer());
          s.ports.push_back({number, p["targetPort"] ? uint32_t(p["targetPort"].integer()) : number, p["name"].text});
        }
        services_.emplace(std::pair(host, c.ns), std::move(s));
      }
    }
  }
}

const ApiService* ApiWorld::service(const std::string& host, const std::string& ns) const {
  const auto it = services_.find({host, ns});
  return it == services_.end() ? nullptr : &it->second;
}
const ApiService* ApiWorld::kube_service(const std::string& ns, const std::string& name) const {
  const auto it = services_.lower_bound({service_host(name, ns), ""});
  return it != services_.end() && it->first.first == service_host(name, ns) ? &it->second : nullptr;
}
std::vector<std::string> ApiWorld::namespaces_of(const std::string& host) const {
  std::vector<std::string> out;
  for (auto it = services_.lower_bound({host, ""}); it != services_.end() && it->first.first == host; ++it) out.push_back(it->first.second);
  return out;
}
const Config* ApiWorld::object(std::string_view kind, const std::string& ns, const std::string& name) const {
  const auto it = objects_.find(key(kind, ns, name));
  return it == objects_.end() ? nullptr : it->second;
}

std::string ApiWorld::controller(const std::string& class_name) const {
  if (const Config* c = object("GatewayClass", "", class_name)) return c->spec()["controllerName"].text;
  return std::string(class_name == "istio" ? kGatewayController : class_name == "istio-remote" ? kRemoteController : "");
}

bool ApiWorld::allowed(std::string_view from_kind, const std::string& from_ns, const ApiRef& to) const {
  if (from_ns == to.ns) return true;
  for (const Config* g : grants_) {
    if (g->ns != to.ns) continue;
    const bool from = std::ranges::any_of(g->spec()["from"].items, [&](const Node& f) {
      return f["group"].text == kGatewayGroup && f["kind"].text == from_kind && f["namespace"].text == from_ns;
    });
    if (from && std::ranges::any_of(g->spec()["to"].items, [&](const Node& t) {
          return t["group"].text == to.group && t["kind"].text == to.kind && (t["name"].null() || t["name"].text == to.name);
        }))
      return true;
  }
  return false;
}

std::vector<std::string> ApiWorld::namespaces_matching(const Node& selector) const {
  std::vector<std::string> out;
  for (const auto& [name, labels] : namespaces_) {
    bool all = true;
    const Node& wanted = selector["matchLabels"];
    for (size_t i = 0; i < wanted.keys.size(); i++) {
      const auto it = labels.find(wanted.keys[i].text);
      all &= it != labels.end() && it->second == wanted.items[i].text;
    }
    for (const Node& e : selector["matchExpressions"].items) all &= expression_matches(e, labels);
    if (all) out.push_back(name);
  }
  return out;
}

std::optional<std::string> certificate_error(const Config& secret) {
  const auto data = data_of(secret);
  for (const auto& [cert, key] : {std::pair("cert", "key"), std::pair("tls.crt", "tls.key")}) {
    const auto c = data.find(cert), k = data.find(key);
    if (c == data.end() || k == data.end() || c->second.empty() || k->second.empty()) continue;
    const auto wrong = tls::pair_error(c->second, k->second);
    return wrong ? std::optional("the certificate is malformed: " + *wrong) : std::nullopt;
  }
  for (const auto& [cert, key] : {std::pair("cert", "key"), std::pair("tls.crt", "tls.key")})
    if (data.contains(cert) && data.contains(key))
      return "found keys " + go_quoted(cert) + " and " + go_quoted(key) + ", but they were empty";
  return "found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: " + key_names(data);
}

std::optional<std::string> root_error(const Config& c) {
  const auto data = data_of(c);
  for (const char* k : {"cacert", "ca.crt"})
    if (const auto it = data.find(k); it != data.end() && !it->second.empty()) return {};
  for (const char* k : {"cacert", "ca.crt"})
    if (data.contains(k)) return "found key " + go_quoted(k) + ", but it was empty";
  return "found secret, but didn't have expected keys cacert or ca.crt; found: " + key_names(data);
}

bool root_is_pem(const Config& c) {
  const auto data = data_of(c);
  for (const char* k : {"cacert", "ca.crt"})
    if (const auto it = data.find(k); it != data.end() && !it->second.empty()) return tls::begins_with_certificate(it->second);
  return false;
}

std::string pool_service(const std::string& pool) {
  const auto digest = tls::sha256(pool);
  char hex[9];
  std::snprintf(hex, sizeof hex, "%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
  return pool.substr(0, 51) + "-ip-" + hex;  // 63 bytes, a DNS label
}

std::string human_join(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); i++)
    out += (i == 0 ? "" : i + 1 < words.size() ? ", " : words.size() == 2 ? " and " : ", and ") + words[i];
  return out;
}

std::string go_quoted(std::string_view s) { return json_quoted(s); }

bool hosts_match(std::string_view a, std::string_view b) {
  const bool wa = a.starts_with('*'), wb = b.starts_with('*');
  if (wa && wb) return a.size() < b.size() ? b.substr(1).ends_with(a.substr(1)) : a.substr(1).ends_with(b.substr(1));
  return wa ? b.ends_with(a.substr(1)) : wb ? a.ends_with(b.substr(1)) : a == b;
}
bool host_subset(std::string_view a, std::string_view b) {
  const bool wa = a.starts_with('*'), wb = b.starts_with('*');
  if (wa) return wb && a.size() >= b.size() && a.substr(1).ends_with(b.substr(1));
  return wb ? a.ends_with(b.substr(1)) : a == b;
}

void set_error(Conditions& conditions, std::string_view type, const ApiError& e, bool status) {
  for (Condition& c : conditions)
    if (c.type == type) c.status = status, c.reason = e.reason, c.message = e.message;
}

Node conditions_node(const Conditions& conditions) {
  Node out = list_node();
  for (const Condition& c : conditions)
    out.items.push_back(map_node({{"message", text_node(c.message)},
                                  {"reason", text_node(c.reason)},
                                  {"status", text_node(c.status ? "True" : "False")},
                                  {"type", text_node(c.type)}}));
  std::ranges::sort(out.items, {}, [](const Node& n) { return n["type"].text; });
  return out;
}

Config derived_config(std::string_view kind, std::string name, std::string ns, Node annotations, Node spec, const Config& of) {
  Config c;
  c.kind = kind, c.name = name, c.ns = ns, c.derived = true;
  Node metadata = map_node();
  if (!annotations.keys.empty()) put(metadata, "annotations", std::move(annotations));
  if (const Node& created = of.document["metadata"]["creationTimestamp"]; !created.text.empty())
    put(metadata, "creationTimestamp", created);
  put(metadata, "name", text_node(name, &of.at()));
  put(metadata, "namespace", text_node(ns));
  c.document = map_node({{"apiVersion", text_node("networking.istio.io/v1")}, {"kind", text_node(kind)}});
  put(c.document, "metadata", std::move(metadata));
  put(c.document, "spec", std::move(spec));
  return c;
}

ApiOutput translate_all(const World& world) {
  const ApiWorld w(world);
  ApiOutput out;
  translate_listeners(w, out);
  translate_routes(w, out);
  translate_policies(w, out);
  return out;
}

GatewayApi translate_gateway_api(const World& world) {
  const auto any = [&](std::string_view kind) { return !world.of_kind(kind).empty(); };
  if (!any(kKubernetesGateway) && !any("BackendTLSPolicy") && std::ranges::none_of(kRouteKinds, any)) return {};
  return translate_all(world).result;
}

}  // namespace sluice::plane
