#include "ctrl/plane/model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "dataplane/base/address.h"
#include "dataplane/tables/regex.h"

namespace sluice::plane {

const Yaml* get(const Yaml& y, std::string_view key) {
  for (size_t i = 0; i < y.keys.size(); i++)
    if (y.keys[i].text == key) return y.items[i].kind == Yaml::Kind::kNull ? nullptr : &y.items[i];
  return nullptr;
}
const Yaml* get(const Yaml* y, std::string_view key) { return y == nullptr ? nullptr : get(*y, key); }
std::string text(const Yaml* y, std::string_view otherwise) { return y == nullptr ? std::string(otherwise) : y->text; }
long number(const Yaml* y, long otherwise) {
  if (y == nullptr) return otherwise;
  long n = 0;
  const auto [end, e] = std::from_chars(y->text.data(), y->text.data() + y->text.size(), n);
  return e == std::errc{} && end == y->text.data() + y->text.size() ? n : otherwise;
}
bool truth(const Yaml* y, bool otherwise) { return y == nullptr ? otherwise : y->text == "true"; }
std::vector<std::string> texts(const Yaml* y) {
  std::vector<std::string> out;
  for (const Yaml& i : items(y)) out.push_back(i.text);
  return out;
}
std::map<std::string, std::string> labels(const Yaml* y) {
  std::map<std::string, std::string> out;
  if (y != nullptr)
    for (size_t i = 0; i < y->keys.size(); i++) out[y->keys[i].text] = y->items[i].text;
  return out;
}

long milliseconds(std::string_view d) {
  double total = 0;
  if (d.empty()) return -1;
  while (!d.empty()) {
    double n = 0;
    const auto [end, e] = std::from_chars(d.data(), d.data() + d.size(), n);
    if (e != std::errc{} || n < 0) return -1;
    d.remove_prefix(size_t(end - d.data()));
    struct Unit {
      std::string_view name;
      double ms;
    };
    constexpr Unit kUnits[] = {{"ms", 1}, {"us", 0.001}, {"ns", 0.000001}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
    const auto* unit = std::ranges::find_if(kUnits, [&](const Unit& u) { return d.starts_with(u.name); });
    if (unit == std::end(kUnits)) return -1;
    total += n * unit->ms;
    d.remove_prefix(unit->name.size());
  }
  return std::lround(total);
}

std::vector<const Object*> World::of(std::string_view kind) const {
  std::vector<const Object*> out;
  for (const Object& o : objects)
    if (o.kind == kind) out.push_back(&o);
  return out;
}

namespace {

struct SchemaRow {
  std::string_view type, fields, unsupported;
};
constexpr SchemaRow kSchema[] = {
#include "ctrl/plane/schema.inc"
};

std::vector<std::string_view> words(std::string_view s, char by = ' ') {
  std::vector<std::string_view> out;
  while (!s.empty()) {
    const size_t end = std::min(s.find(by), s.size());
    if (end > 0) out.push_back(s.substr(0, end));
    s.remove_prefix(std::min(end + 1, s.size()));
  }
  return out;
}

// Checks one object of one file; problems carry the source line and a caret.
class Check {
 public:
  Check(std::string file, std::string_view source, std::vector<std::string>& problems) : file_(std::move(file)), problems_(problems) {
    for (size_t at = 0; at <= source.size();) {
      const size_t end = std::min(source.find('\n', at), source.size());
      lines_.push_back(source.substr(at, end - at));
      at = end + 1;
    }
  }
  void problem(const Yaml& at, const std::string& what) {
    std::string out = agent::place(file_, at) + what;
    if (at.line >= 1 && size_t(at.line) <= lines_.size())
      out += "\n  " + std::string(lines_[size_t(at.line) - 1]) + "\n  " + std::string(size_t(std::max(at.column, 1) - 1), ' ') + "^";
    problems_.push_back(std::move(out));
  }
  void message(const Yaml& y, std::string_view type, const std::string& path) {
    if (y.kind == Yaml::Kind::kNull) return;
    if (y.kind != Yaml::Kind::kMapping) {
      problem(y, path + ": must be a mapping with the fields of " + std::string(type));
      return;
    }
    const auto* row = std::ranges::find(kSchema, type, &SchemaRow::type);
    std::vector<std::string_view> known;
    const auto specs = words(row->fields);
    for (std::string_view f : specs) known.push_back(f.substr(0, f.find(':')));
    const auto unsupported = words(row->unsupported);
    for (size_t i = 0; i < y.keys.size(); i++) {
      const std::string& key = y.keys[i].text;
      const auto spec = std::ranges::find(known, key);
      if (spec != known.end()) {
        value(y.items[i], specs[size_t(spec - known.begin())].substr(key.size() + 1), path + "." + key);
      } else if (std::ranges::find(unsupported, key) != unsupported.end()) {
        problem(y.keys[i], path + "." + key + ": Istio has this field, sluice-control does not translate it yet; remove it");
      } else {
        const std::string near = agent::nearest(key, known);
        problem(y.keys[i], path + "." + key + ": no such field" + (near.empty() ? "" : "; did you mean " + near + "?"));
      }
    }
    for (std::string_view f : specs)
      if (f.ends_with('!') && get(y, f.substr(0, f.find(':'))) == nullptr) problem(y, path + "." + std::string(f.substr(0, f.find(':'))) + ": is required");
  }

 private:
  void value(const Yaml& y, std::string_view kind, const std::string& path) {
    if (kind.ends_with('!')) kind.remove_suffix(1);
    if (y.kind == Yaml::Kind::kNull) return;
    if (kind.starts_with('[')) {
      if (y.kind != Yaml::Kind::kSequence) {
        problem(y, path + ": must be a list");
        return;
      }
      for (size_t i = 0; i < y.items.size(); i++) value(y.items[i], kind.substr(1, kind.size() - 2), path + "[" + std::to_string(i) + "]");
      return;
    }
    if (kind.starts_with('{') || kind == "m") {
      if (y.kind != Yaml::Kind::kMapping) {
        problem(y, path + ": must be a mapping");
        return;
      }
      for (size_t i = 0; i < y.items.size(); i++) {
        if (kind != "m") message(y.items[i], kind.substr(1, kind.size() - 2), path + "." + y.keys[i].text);
        else if (y.items[i].kind == Yaml::Kind::kSequence || y.items[i].kind == Yaml::Kind::kMapping) problem(y.items[i], path + "." + y.keys[i].text + ": must be a string");
      }
      return;
    }
    if (std::ranges::find(kSchema, kind, &SchemaRow::type) != std::end(kSchema)) {
      message(y, kind, path);
      return;
    }
    if (y.kind != Yaml::Kind::kScalar) {
      problem(y, path + ": must be a single value");
      return;
    }
    if (kind == "i") {
      if (number(&y, -1) < 0) problem(y, path + ": \"" + y.text + "\" is not a number");
    } else if (kind == "b") {
      if (y.text != "true" && y.text != "false") problem(y, path + ": must be true or false");
    } else if (kind == "d") {
      if (milliseconds(y.text) < 0) problem(y, path + ": \"" + y.text + "\" is not a duration (1h, 1m, 1s, 1ms)");
    } else if (kind != "s") {
      const auto allowed = words(kind, '|');
      if (std::ranges::find(allowed, y.text) == allowed.end()) {
        const std::string near = agent::nearest(y.text, allowed);
        problem(y, path + ": \"" + y.text + "\" is not one of " + std::string(kind) + (near.empty() ? "" : "; did you mean " + near + "?"));
      }
    }
  }
  const std::string file_;
  std::vector<std::string_view> lines_;
  std::vector<std::string>& problems_;
};

// ---- rules between fields, in the words of Istio's validation

void check_port(Check& c, const Yaml* port, const std::string& path) {
  if (port == nullptr) return;
  const long n = number(port, 0);
  if (n < 1 || n > 65535) c.problem(*port, path + ": port must be in 1..65535");
}

void check_regex(Check& c, const Yaml* y, const std::string& path) {
  if (y == nullptr) return;
  if (const auto r = tables::Regex::compile(y->text); !r) c.problem(*y, path + ": " + r.error());
}

void check_string_match(Check& c, const Yaml* m, const std::string& path, bool must_match) {
  if (m == nullptr) return;
  const size_t kinds = (get(m, "exact") != nullptr) + (get(m, "prefix") != nullptr) + (get(m, "regex") != nullptr);
  if (kinds > 1) c.problem(*m, path + ": only one of exact, prefix and regex");
  if (kinds == 0 && must_match) c.problem(*m, path + ": one of exact, prefix and regex is needed");
  check_regex(c, get(m, "regex"), path + ".regex");
}

bool is_host(std::string_view h) {
  if (h == "*") return true;
  if (h.starts_with("*.")) h.remove_prefix(2);
  if (h.empty() || h.size() > 253) return false;
  for (std::string_view label : words(h, '.'))
    if (label.size() > 63 || label.front() == '-' || label.back() == '-' || !std::ranges::all_of(label, [](char ch) { return std::isalnum(uint8_t(ch)) || ch == '-' || ch == '_'; })) return false;
  return !h.starts_with('.') && !h.ends_with('.') && h.find("..") == h.npos;
}

void check_gateway(Check& c, const Object& o) {
  const Yaml* servers = get(o.spec, "servers");
  if (servers != nullptr && servers->items.empty()) c.problem(*servers, "spec.servers: a Gateway needs at least one server");
  std::set<std::string> names;
  size_t i = 0;
  for (const Yaml& s : items(servers)) {
    const std::string path = "spec.servers[" + std::to_string(i++) + "]";
    const Yaml* port = get(s, "port");
    check_port(c, get(port, "number"), path + ".port.number");
    const std::string protocol = text(get(port, "protocol"));
    const Yaml* tls = get(s, "tls");
    const std::string mode = text(get(tls, "mode"), "SIMPLE");
    if (const Yaml* name = get(port, "name"); name != nullptr && !names.insert(name->text).second) c.problem(*name, path + ".port.name: \"" + name->text + "\" is another server's too");
    if ((protocol == "HTTPS" || protocol == "TLS") && tls == nullptr && port != nullptr) c.problem(*port, path + ": protocol " + protocol + " needs tls");
    if (protocol == "HTTP" && tls != nullptr && !truth(get(tls, "httpsRedirect"))) c.problem(*tls, path + ".tls: protocol HTTP takes only httpsRedirect");
    if (protocol == "TCP" && tls != nullptr) c.problem(*tls, path + ".tls: TLS termination of raw TCP is not translated yet; use protocol TLS");
    if (protocol == "TLS" && tls != nullptr && mode != "PASSTHROUGH" && mode != "AUTO_PASSTHROUGH")
      c.problem(*tls, path + ".tls.mode: protocol TLS is translated for PASSTHROUGH and AUTO_PASSTHROUGH only; use HTTPS");
    if (protocol == "HTTPS" && tls != nullptr) {
      if (mode == "PASSTHROUGH" || mode == "AUTO_PASSTHROUGH") c.problem(*tls, path + ".tls.mode: " + mode + " with protocol HTTPS; use protocol TLS");
      const bool credential = get(tls, "credentialName") != nullptr;
      if ((mode == "SIMPLE" || mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL") && !credential) {
        if (get(tls, "serverCertificate") == nullptr || get(tls, "privateKey") == nullptr) c.problem(*tls, path + ".tls: " + mode + " needs serverCertificate and privateKey, or credentialName");
        if (mode != "SIMPLE" && get(tls, "caCertificates") == nullptr) c.problem(*tls, path + ".tls: " + mode + " needs caCertificates");
      }
      if (mode == "ISTIO_MUTUAL" && (credential || get(tls, "serverCertificate") != nullptr)) c.problem(*tls, path + ".tls: ISTIO_MUTUAL uses the mesh's certificates; remove the others");
    }
    const Yaml* hosts = get(s, "hosts");
    if (hosts != nullptr && hosts->items.empty()) c.problem(*hosts, path + ".hosts: at least one host is needed");
    for (const Yaml& h : items(hosts)) {
      const size_t slash = h.text.find('/');
      if (!is_host(slash == std::string::npos ? h.text : h.text.substr(slash + 1))) c.problem(h, path + ".hosts: \"" + h.text + "\" is no host name");
    }
  }
}

void check_destination(Check& c, const Yaml* d, const std::string& path) {
  if (const Yaml* host = get(d, "host"); host != nullptr && (!is_host(host->text) || host->text.find('*') != std::string::npos)) c.problem(*host, path + ".host: \"" + host->text + "\" is no host name");
  check_port(c, get(get(d, "port"), "number"), path + ".port.number");
}

void check_weights(Check& c, const Yaml* route, const std::string& path) {
  if (route == nullptr || route->items.size() < 2) return;
  long sum = 0;
  for (const Yaml& d : route->items) sum += number(get(d, "weight"), 0);
  if (sum == 0) c.problem(*route, path + ": the sum of the weights is 0");
}

void check_virtual_service(Check& c, const Object& o) {
  const bool delegate = get(o.spec, "hosts") == nullptr;
  if (delegate && get(o.spec, "gateways") != nullptr) c.problem(o.spec, "spec.hosts: is required (a VirtualService without hosts is a delegate and has no gateways)");
  for (const Yaml& h : items(get(o.spec, "hosts")))
    if (!is_host(h.text)) c.problem(h, "spec.hosts: \"" + h.text + "\" is no host name");
  if (items(get(o.spec, "http")).empty() && items(get(o.spec, "tls")).empty() && items(get(o.spec, "tcp")).empty()) c.problem(o.spec, "spec: one of http, tls and tcp is needed");
  size_t i = 0;
  for (const Yaml& r : items(get(o.spec, "http"))) {
    const std::string path = "spec.http[" + std::to_string(i++) + "]";
    const size_t actions = (get(r, "route") != nullptr) + (get(r, "redirect") != nullptr) + (get(r, "directResponse") != nullptr) + (get(r, "delegate") != nullptr);
    if (actions != 1) c.problem(r, path + ": exactly one of route, redirect, directResponse and delegate is needed");
    if (get(r, "redirect") != nullptr && get(r, "rewrite") != nullptr) c.problem(r, path + ": redirect and rewrite exclude each other");
    if (delegate && get(r, "delegate") != nullptr) c.problem(r, path + ".delegate: a delegate cannot delegate");
    for (const Yaml& m : items(get(r, "match"))) {
      for (const char* field : {"uri", "scheme", "method", "authority"}) check_string_match(c, get(m, field), path + ".match." + field, true);
      for (const char* field : {"headers", "withoutHeaders", "queryParams"})
        if (const Yaml* map = get(m, field)) {
          for (const Yaml& v : map->items) check_string_match(c, &v, path + ".match." + field, false);
          for (const Yaml& k : map->keys)
            if (std::ranges::any_of(k.text, [](char ch) { return std::isupper(uint8_t(ch)); }) && std::string_view(field) != "queryParams") c.problem(k, path + ".match." + field + ": header names are lower-case: \"" + k.text + "\"");
        }
      check_port(c, get(m, "port"), path + ".match.port");
    }
    for (const Yaml& d : items(get(r, "route"))) check_destination(c, get(d, "destination"), path + ".route.destination");
    if (const Yaml* route = get(r, "route"); route != nullptr && route->items.empty()) c.problem(*route, path + ".route: at least one destination is needed");
    check_weights(c, get(r, "route"), path + ".route");
    if (const Yaml* d = get(r, "directResponse"); d != nullptr && (number(get(d, "status")) < 200 || number(get(d, "status")) > 599)) c.problem(*d, path + ".directResponse.status: must be in 200..599");
    if (const Yaml* code = get(get(r, "redirect"), "redirectCode"))
      if (const long n = number(code); n != 301 && n != 302 && n != 303 && n != 307 && n != 308) c.problem(*code, path + ".redirect.redirectCode: must be 301, 302, 303, 307 or 308");
    check_regex(c, get(get(get(r, "rewrite"), "uriRegexRewrite"), "match"), path + ".rewrite.uriRegexRewrite.match");
  }
  for (const char* kind : {"tls", "tcp"}) {
    i = 0;
    for (const Yaml& r : items(get(o.spec, kind))) {
      const std::string path = std::string("spec.") + kind + "[" + std::to_string(i++) + "]";
      for (const Yaml& d : items(get(r, "route"))) check_destination(c, get(d, "destination"), path + ".route.destination");
      check_weights(c, get(r, "route"), path + ".route");
      for (const Yaml& m : items(get(r, "match"))) {
        check_port(c, get(m, "port"), path + ".match.port");
        for (const Yaml& s : items(get(m, "sniHosts")))
          if (!is_host(s.text)) c.problem(s, path + ".match.sniHosts: \"" + s.text + "\" is no host name");
      }
    }
  }
}

void check_workload(Check& c, const Yaml& w, const std::string& path) {
  if (const Yaml* a = get(w, "address"); a != nullptr && !IpAddress::parse(a->text)) c.problem(*a, path + ".address: \"" + a->text + "\" is not an IP address");
}

void check_service_entry(Check& c, const Object& o) {
  for (const Yaml& h : items(get(o.spec, "hosts")))
    if (!is_host(h.text) || h.text.find('*') != std::string::npos) c.problem(h, "spec.hosts: \"" + h.text + "\" is no host name");
  std::set<std::string> names, numbers;
  for (const Yaml& p : items(get(o.spec, "ports"))) {
    check_port(c, get(p, "number"), "spec.ports.number");
    if (const Yaml* n = get(p, "name"); n != nullptr && !names.insert(n->text).second) c.problem(*n, "spec.ports.name: \"" + n->text + "\" is there twice");
    if (const Yaml* n = get(p, "number"); n != nullptr && !numbers.insert(n->text).second) c.problem(*n, "spec.ports.number: " + n->text + " is there twice");
  }
  for (const Yaml& e : items(get(o.spec, "endpoints"))) check_workload(c, e, "spec.endpoints");
  if (get(o.spec, "endpoints") != nullptr && get(o.spec, "workloadSelector") != nullptr) c.problem(*get(o.spec, "workloadSelector"), "spec.workloadSelector: endpoints and workloadSelector exclude each other");
}

constexpr std::string_view kWhenKeys[] = {"source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount", "destination.ip", "destination.port", "connection.sni"};

void check_policy(Check& c, const Object& o) {
  auto blocks = [&](const Yaml* list, const std::string& path) {
    for (const Yaml& b : items(list))
      if (!IpPrefix::parse(b.text)) c.problem(b, path + ": \"" + b.text + "\" is no IP address or CIDR block");
  };
  if (text(get(o.spec, "action")) == "DENY" && get(o.spec, "rules") == nullptr) c.problem(o.spec, "spec.rules: a DENY policy without rules does nothing; give it a rule");
  size_t i = 0;
  for (const Yaml& r : items(get(o.spec, "rules"))) {
    const std::string path = "spec.rules[" + std::to_string(i++) + "]";
    for (const char* list : {"from", "to", "when"})
      if (const Yaml* l = get(r, list); l != nullptr && l->items.empty()) c.problem(*l, path + "." + list + ": is empty; remove it or give it an element");
    for (const Yaml& f : items(get(r, "from"))) {
      const Yaml* s = get(f, "source");
      if (s != nullptr && s->items.empty()) c.problem(*s, path + ".from.source: is empty");
      for (const char* list : {"ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"}) blocks(get(s, list), path + ".from.source." + list);
      if (s != nullptr)
        for (size_t k = 0; k < s->items.size(); k++)
          for (const Yaml& v : s->items[k].items)
            if (v.text.empty()) c.problem(v, path + ".from.source." + s->keys[k].text + ": holds an empty value");
    }
    for (const Yaml& t : items(get(r, "to"))) {
      const Yaml* op = get(t, "operation");
      if (op != nullptr && op->items.empty()) c.problem(*op, path + ".to.operation: is empty");
      for (const char* list : {"ports", "notPorts"})
        for (const Yaml& p : items(get(op, list))) check_port(c, &p, path + ".to.operation." + list);
    }
    for (const Yaml& w : items(get(r, "when"))) {
      const Yaml* key = get(w, "key");
      if (key == nullptr) continue;
      const bool header = key->text.starts_with("request.headers[") && key->text.ends_with("]");
      if (!header && std::ranges::find(kWhenKeys, key->text) == std::end(kWhenKeys)) c.problem(*key, path + ".when.key: \"" + key->text + "\" is not known, or not translated yet");
      if (items(get(w, "values")).empty() && items(get(w, "notValues")).empty()) c.problem(w, path + ".when: values or notValues is needed");
      if (key->text == "source.ip" || key->text == "remote.ip" || key->text == "destination.ip") {
        blocks(get(w, "values"), path + ".when.values");
        blocks(get(w, "notValues"), path + ".when.notValues");
      }
    }
  }
}

constexpr std::pair<std::string_view, std::string_view> kKinds[] = {
    {"Gateway", "networking.istio.io"},         {"VirtualService", "networking.istio.io"}, {"DestinationRule", "networking.istio.io"},
    {"ServiceEntry", "networking.istio.io"},    {"WorkloadEntry", "networking.istio.io"},  {"AuthorizationPolicy", "security.istio.io"}};

void object(Check& c, const Yaml& root, const std::string& file, Loaded& out) {
  if (root.kind == Yaml::Kind::kNull) return;
  if (root.kind != Yaml::Kind::kMapping) {
    c.problem(root, "an object must be a mapping with apiVersion, kind, metadata and spec");
    return;
  }
  for (size_t i = 0; i < root.keys.size(); i++)
    if (const std::string& k = root.keys[i].text; k != "apiVersion" && k != "kind" && k != "metadata" && k != "spec" && k != "status") {
      const std::string near = agent::nearest(k, {"apiVersion", "kind", "metadata", "spec"});
      c.problem(root.keys[i], k + ": no such field" + (near.empty() ? "" : "; did you mean " + near + "?"));
    }
  const Yaml *kind = get(root, "kind"), *version = get(root, "apiVersion"), *metadata = get(root, "metadata"), *spec = get(root, "spec");
  if (kind == nullptr || version == nullptr) {
    c.problem(root, "apiVersion and kind are required");
    return;
  }
  const auto* known = std::ranges::find(kKinds, kind->text, &std::pair<std::string_view, std::string_view>::first);
  if (known == std::end(kKinds)) {
    std::vector<std::string_view> names;
    for (const auto& k : kKinds) names.push_back(k.first);
    const std::string near = agent::nearest(kind->text, names);
    c.problem(*kind, "kind: \"" + kind->text + "\" is not translated" + (near.empty() ? "" : "; did you mean " + near + "?"));
    return;
  }
  const size_t slash = version->text.find('/');
  const std::string v = slash == std::string::npos ? "" : version->text.substr(slash + 1);
  if (version->text.substr(0, slash) != known->second || (v != "v1" && v != "v1beta1" && v != "v1alpha3")) c.problem(*version, "apiVersion: a " + kind->text + " is of " + std::string(known->second) + "/v1");
  const Yaml* name = get(metadata, "name");
  if (name == nullptr || name->text.empty()) {
    c.problem(root, "metadata.name: is required");
    return;
  }
  Object o;
  o.kind = kind->text;
  o.name = name->text;
  o.ns = text(get(metadata, "namespace"), "default");
  o.file = file;
  o.line = root.line;
  o.metadata = *metadata;
  if (get(get(metadata, "annotations"), "istio.io/dry-run") != nullptr) c.problem(*get(get(metadata, "annotations"), "istio.io/dry-run"), "metadata.annotations: dry-run policies are not translated yet; remove the policy");
  if (spec != nullptr) o.spec = *spec;
  else o.spec.kind = Yaml::Kind::kMapping, o.spec.line = root.line, o.spec.column = root.column;
  c.message(o.spec, o.kind, "spec");
  if (o.kind == "Gateway") check_gateway(c, o);
  if (o.kind == "VirtualService") check_virtual_service(c, o);
  if (o.kind == "ServiceEntry") check_service_entry(c, o);
  if (o.kind == "WorkloadEntry") check_workload(c, o.spec, "spec");
  if (o.kind == "AuthorizationPolicy") check_policy(c, o);
  for (const Object& other : out.world.objects)
    if (other.kind == o.kind && other.name == o.name && other.ns == o.ns)
      c.problem(*name, o.kind + " " + o.ns + "/" + o.name + " is there twice; first in " + other.file + ":" + std::to_string(other.line));
  out.world.objects.push_back(std::move(o));
}

void load(std::string_view source, const std::string& file, Loaded& out) {
  Check check(file, source, out.problems);
  // Documents are split at "---" in the first column; each is parsed behind as many empty lines as stand before it, so places are true.
  size_t begin = 0, line = 0, begin_line = 0;
  auto document = [&](size_t end) {
    const std::string_view body = source.substr(begin, end - begin);
    if (body.find_first_not_of(" \t\r\n") == body.npos) return;
    bool comments = true;
    for (std::string_view l : words(body, '\n'))
      if (const size_t at = l.find_first_not_of(" \t\r"); at != l.npos && l[at] != '#') comments = false;
    if (comments) return;
    auto tree = agent::parse_yaml(std::string(begin_line, '\n') + std::string(body), file);
    if (!tree) out.problems.insert(out.problems.end(), tree.error().begin(), tree.error().end());
    else object(check, *tree, file, out);
  };
  for (size_t at = 0; at < source.size();) {
    const size_t end = std::min(source.find('\n', at), source.size());
    const std::string_view l = source.substr(at, end - at);
    if (l == "---" || l == "---\r" || l.starts_with("--- ")) {
      document(at);
      begin = std::min(end + 1, source.size());
      begin_line = line + 1;
    }
    at = end + 1;
    line++;
  }
  document(source.size());
}

void load_mesh(const std::string& file, Loaded& out) {
  std::ifstream in(file);
  std::stringstream s;
  s << in.rdbuf();
  if (!in) {
    out.problems.push_back(file + ": cannot be read");
    return;
  }
  const auto tree = agent::parse_yaml(s.str(), file);
  if (!tree) {
    out.problems.insert(out.problems.end(), tree.error().begin(), tree.error().end());
    return;
  }
  for (const Yaml& key : tree->keys) {
    if (key.text == "accessLogFile") out.world.access_log_file = text(get(*tree, key.text));
    else if (key.text == "trustDomain") out.world.trust_domain = text(get(*tree, key.text));
    else if (key.text == "rootNamespace") out.world.root_namespace = text(get(*tree, key.text));
    else out.problems.push_back(agent::place(file, key) + key.text + ": this MeshConfig field is not translated yet; remove it");
  }
}

void sort(World& w) {
  std::ranges::stable_sort(w.objects, [](const Object& a, const Object& b) { return std::tie(a.kind, a.ns, a.name) < std::tie(b.kind, b.ns, b.name); });
}

}  // namespace

Loaded load_text(std::string_view source, const std::string& file) {
  Loaded out;
  load(source, file, out);
  sort(out.world);
  return out;
}

Loaded load_directory(const std::string& directory, const std::string& mesh_file) {
  Loaded out;
  if (!mesh_file.empty()) load_mesh(mesh_file, out);
  std::vector<std::string> files;
  std::error_code error;
  if (std::filesystem::is_regular_file(directory, error)) files.push_back(directory);
  for (auto it = std::filesystem::recursive_directory_iterator(directory, error); !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
    const auto& path = it->path();
    if (path.filename().string().starts_with('.')) continue;
    if (it->is_regular_file(error) && (path.extension() == ".yaml" || path.extension() == ".yml")) files.push_back(path.string());
  }
  if (files.empty()) out.problems.push_back(directory + ": " + (error ? error.message() : "holds no .yaml file"));
  std::ranges::sort(files);
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    std::stringstream s;
    s << in.rdbuf();
    const std::string source = s.str();
    if (!in) out.problems.push_back(file + ": cannot be read");
    else if (source.size() > kFileBytesMax) out.problems.push_back(file + ": is larger than " + std::to_string(kFileBytesMax) + " bytes");
    else load(source, file, out);
  }
  if (out.world.objects.size() > kObjectsMax) out.problems.push_back(directory + ": more than " + std::to_string(kObjectsMax) + " objects");
  sort(out.world);
  return out;
}

}  // namespace sluice::plane
