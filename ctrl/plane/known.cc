#include "ctrl/plane/known.h"

#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

Serves serves_of(const Node& server) {
  const std::string protocol = upper(server["port"]["protocol"].str());
  if (protocol == "HTTP" || protocol == "HTTP2" || protocol == "GRPC" || protocol == "GRPC-WEB") return Serves::kHttp;
  if (protocol != "HTTPS" && protocol != "TLS") return Serves::kTcp;
  const std::string mode = server["tls"]["mode"].null() ? "PASSTHROUGH" : server["tls"]["mode"].str();
  if (mode == "PASSTHROUGH") return Serves::kTls;
  if (mode == "AUTO_PASSTHROUGH") return Serves::kAuto;
  return protocol == "HTTPS" ? Serves::kHttp : Serves::kTcp;
}

// Istio's charts label a gateway that is called istio-NAME or NAME with istio: NAME and app: its name.
void add_workloads(const Config& g, KnownGateway& out) {
  if (is_of_gateway_api(g)) {
    for (const Node& s : g.document["selection"].items) {
      out.workloads.push_back(labels_of(s["labels"]));
      out.namespaces.push_back(s["namespace"].str());
    }
    return;
  }
  Labels own = labels_of(g.spec()["selector"]);
  const auto istio = own.find("istio");
  if (istio != own.end() && !own.contains("app"))
    for (const std::string& app : {istio->second, "istio-" + istio->second}) {
      Labels more = own;
      more["app"] = app;
      out.workloads.push_back(std::move(more)), out.namespaces.emplace_back();
    }
  else out.workloads.push_back(std::move(own)), out.namespaces.emplace_back();
}

KnownGateway gateway_of(const Config& g) {
  KnownGateway out{.config = &g, .name = g.ns + "/" + g.name};
  for (const Node& n : g.spec()["servers"].items) {
    KnownServer s{.node = &n, .port = uint32_t(n["port"]["number"].integer()), .serves = serves_of(n), .hosts = {}};
    for (const Node& h : n["hosts"].items) {
      const size_t slash = h.str().find('/');
      std::string ns = slash == std::string::npos ? "*" : h.str().substr(0, slash);
      if (ns == ".") ns = g.ns;
      s.hosts.emplace_back(ns, h.str().substr(slash + 1));  // npos + 1 is 0
      out.hosts[size_t(s.serves)][ns].add(s.hosts.back().second);
    }
    auto& ports = out.ports[size_t(s.serves)];
    ports.insert(s.port);
    for (const Node& selection : g.document["selection"].items)
      if (const Node& p = selection["ports"][std::to_string(s.port)]; p.integer() > 0) ports.insert(uint32_t(p.integer()));
    out.servers.push_back(std::move(s));
  }
  add_workloads(g, out);
  return out;
}

}  // namespace

Labels labels_of(const Node& map) {
  Labels out;
  for (size_t i = 0; i < map.keys.size(); i++) out[map.keys[i].text] = map.items[i].text;
  return out;
}

void HostSet::add(std::string_view host) {
  const std::string h = lower(host);
  if (h == "*") {
    any_ = true;
    return;
  }
  const bool wild = h.starts_with('*');
  const std::string name = wild ? h.substr(1) : h;
  (wild ? wild_ : exact_).insert(name);
  for (size_t at = name.find('.'); at != std::string::npos; at = name.find('.', at + 1)) below_.insert(name.substr(at));
}

bool HostSet::overlaps(std::string_view host) const {
  const std::string h = lower(host);
  if (any_) return true;
  if (h == "*") return !empty();
  const bool wild = h.starts_with('*');
  const std::string name = wild ? h.substr(1) : h;
  if (wild ? below_.contains(name) : exact_.contains(name)) return true;
  for (size_t at = name.find('.'); at != std::string::npos; at = name.find('.', at + 1))
    if (wild_.contains(name.substr(at))) return true;
  return false;
}

bool KnownGateway::serves_host(std::string_view host, const std::string& ns, Serves how) const {
  const auto& by_ns = hosts[size_t(how)];
  for (const std::string& key : {std::string("*"), ns})
    if (const auto at = by_ns.find(key); at != by_ns.end() && at->second.overlaps(host)) return true;
  return false;
}
bool KnownGateway::serves_host(std::string_view host, const std::string& ns) const {
  for (size_t i = 0; i < kServes; i++)
    if (serves_host(host, ns, Serves(i))) return true;
  return false;
}

std::vector<std::string> hosts_of(const Config& v) {
  std::vector<std::string> out;
  for (const Node& h : v.spec()["hosts"].items) out.push_back(has_gateway_semantics(v) ? h.str() : full_host(h.str(), v.ns));
  return out;
}
std::vector<std::string> gateways_of(const Config& v) {
  std::vector<std::string> out;
  for (const Node& g : v.spec()["gateways"].items)
    if (g.str() != "mesh") out.push_back(full_gateway(g.str(), v.ns));
  return out;
}
bool names_mesh(const Config& v) {
  const auto& all = v.spec()["gateways"].items;
  return all.empty() || std::ranges::any_of(all, [](const Node& g) { return g.str() == "mesh"; });
}

Known::Known(const World& w, const CheckOptions& o) : world(w), options(o) {
  for (const Config* g : w.of_kind("Gateway")) {
    KnownGateway made = gateway_of(*g);
    const std::string name = made.name;
    in_order.push_back(&gateways.insert_or_assign(name, std::move(made)).first->second);
  }
  for (const Config* c : w.of_kind("ServiceEntry"))
    for (const Node& h : c->spec()["hosts"].items) {
      KnownService& s = services[h.str()];
      s.entries.push_back(c);
      for (const Node& p : c->spec()["ports"].items) s.ports.insert(p["number"].str());
    }
  for (const Config* c : w.of_kind("ServiceEntry"))
    for (const Node& e : c->spec()["endpoints"].items)
      if (e["labels"]) endpoints[c->ns].insert(labels_of(e["labels"]));
  for (const Config* c : w.of_kind("Service"))
    if (c->spec()["selector"]) selected[c->ns].insert(labels_of(c->spec()["selector"]));
  for (const Config* c : w.of_kind("DestinationRule"))
    for (const Node& s : c->spec()["subsets"].items) subsets[full_host(c->spec()["host"].str(), c->ns)].insert(s["name"].str());
  for (const Config* c : w.of_kind("VirtualService")) {
    virtuals.emplace(c->ns + "/" + c->name, c);
    for (const std::string& g : gateways_of(*c))
      if (const auto at = gateways.find(g); at != gateways.end() && (at->second.bound.empty() || at->second.bound.back() != c))
        at->second.bound.push_back(c);
  }
  for (const Config* c : w.of_kind("WorkloadEntry")) {
    Labels labels = labels_of(c->spec()["labels"]);
    for (auto& [k, v] : labels_of(c->labels())) labels[k] = v;
    workloads[c->ns].push_back(std::move(labels));
  }
  for (const Config* c : w.of_kind("EnvoyFilter"))
    for (const Node& p : c->spec()["configPatches"].items) {
      const std::string& to = p["applyTo"].str();
      routes_patched |=
          to == "VIRTUAL_HOST" || to == "HTTP_ROUTE" || to == "ROUTE_CONFIGURATION" || to == "LISTENER" || to == "FILTER_CHAIN";
    }
}

void Warnings::add(const Config& c, const Node& at, std::string_view rule, std::string message, std::string remedy) {
  issues_.push_back(issue_at(at.source != nullptr ? at : c.at(), std::move(message), std::move(remedy), Severity::kWarning));
  issues_.back().rule = rule;
  of_.push_back(&c);
}

void Warnings::finish() {
  std::unordered_map<const Config*, std::vector<size_t>> by_config;
  for (size_t i = 0; i < of_.size(); i++) by_config[of_[i]].push_back(first_ + i);
  // What the Gateway API's translation said stands at its objects' nodes: of the object that begins last before it.
  std::map<std::pair<std::string, uint32_t>, const Config*> begins;
  if (std::any_of(issues_.begin(), issues_.begin() + long(first_), [](const Issue& i) { return i.node != nullptr; }))
    for (const Config* c : world_.all())
      if (const Node& at = c->at(); !c->derived && at.source != nullptr) begins[{at.source->file, c->document.line}] = c;
  for (size_t i = 0; i < first_; i++) {
    auto at = begins.upper_bound({issues_[i].file, issues_[i].line});
    if (issues_[i].node == nullptr || at == begins.begin() || (--at)->first.first != issues_[i].file) continue;
    by_config[at->second].push_back(i);
  }
  for (const auto& [c, list] : by_config) {
    std::vector<Issue> own;
    for (const size_t i : list) own.push_back(std::move(issues_[i]));
    name_fields(c->document, own, "gateway-api");
    for (size_t i = 0; i < list.size(); i++) issues_[list[i]] = std::move(own[i]);
  }
}

}  // namespace sluice::plane
