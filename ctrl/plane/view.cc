#include "ctrl/plane/view.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "ctrl/plane/gateway_api.h"

namespace sluice::plane {
std::optional<int> visibility(const Config& e, const std::string& ns) {
  const auto& to = e.export_to;
  const auto has = [&](const std::string& x) { return std::ranges::find(to, x) != to.end(); };
  if (to.empty() || has("*")) return 2;
  if (has(".") || has(e.ns)) {
    if (e.ns == ns) return 0;
  }
  return has(ns) ? std::optional(1) : std::nullopt;
}

const char* NodeInfo::wildcard() const {
  return !addresses.empty() && std::ranges::all_of(addresses, [](const auto& a) { return a.find(':') != std::string::npos; }) ? "::"
                                                                                                                              : "0.0.0.0";
}

std::string NodeInfo::key() const {
  std::string out = ns + "\n" + cluster_id + "\n" + mesh_id + "\n" + locality + "\n" + (unprivileged ? "u" : "") + wildcard();
  for (const auto& [k, v] : metadata)  // an EnvoyFilter may ask for any; these tell replicas of one gateway apart and nothing else
    if (k != "INSTANCE_IPS" && k != "NAME" && k != "NODE_NAME" && k != "POD_NAME") out += "\n" + k + ":" + v;
  for (const auto& [k, v] : labels) out += "\n" + k + "=" + v;
  return out;
}

std::string upper(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = char(std::toupper(c));
  return out;
}

std::string full_host(const std::string& host, const std::string& ns) {
  if (host.find('.') != std::string::npos || host.starts_with('*')) return host;
  return host + "." + ns + ".svc.cluster.local";
}

std::string full_gateway(const std::string& name, const std::string& ns) {
  return name.find('/') == std::string::npos ? ns + "/" + name : name;
}

bool host_within(std::string_view narrow, std::string_view wide) {
  if (wide == "*") return true;
  if (!wide.starts_with('*')) return narrow == wide;
  if (narrow.starts_with('*')) narrow.remove_prefix(1);
  wide.remove_prefix(1);
  return narrow.size() >= wide.size() && narrow.ends_with(wide);
}

std::vector<std::string> hosts_for(const Server& s, const std::string& ns) {
  std::vector<std::string> out;
  for (const std::string& h : s.hosts) {
    const size_t slash = h.find('/');
    if (slash == std::string::npos) out.push_back(h);
    else if (h.substr(0, slash) == "*" || h.substr(0, slash) == ns) out.push_back(h.substr(slash + 1));
  }
  return out;
}

std::vector<std::string> intersection(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& h) {
    if (std::ranges::find(out, h) == out.end()) out.push_back(h);
  };
  for (const auto& x : a)
    for (const auto& y : b) {
      if (host_within(x, y)) add(x);
      else if (host_within(y, x)) add(y);
    }
  return out;
}

bool labels_within(const Node& selector, const std::map<std::string, std::string>& labels) {
  for (size_t i = 0; i < selector.keys.size(); i++) {
    const auto it = labels.find(selector.keys[i].text);
    if (it == labels.end() || it->second != selector.items[i].text) return false;
  }
  return true;
}

std::string cluster_name(uint32_t port, const std::string& subset, const std::string& host) {
  return "outbound|" + std::to_string(port) + "|" + subset + "|" + host;
}
std::string sni_name(uint32_t port, const std::string& subset, const std::string& host) {
  return "outbound_." + std::to_string(port) + "_." + (subset.empty() ? "_" : subset + "_") + "." + host;
}

std::string destination_cluster(const View& v, const Node& destination, const std::string& ns, uint32_t listener_port) {
  if (destination["host"].str().empty()) return "UnknownService";  // a backend that the Gateway API does not allow
  const std::string host = full_host(destination["host"].str(), ns);
  uint32_t port = listener_port;
  if (destination["port"]) port = uint32_t(destination["port"]["number"].integer());
  else if (const Service* s = v.service(host, ns); s != nullptr && s->ports.size() == 1) port = s->ports[0].number;
  return cluster_name(port, destination["subset"].str(), host);
}

Json json_of(const Node& n) {
  switch (n.kind) {
    case Node::Kind::kNull: return Json::raw("null");
    case Node::Kind::kSequence: {
      Array out;
      for (const Node& i : n.items) out.add(json_of(i));
      return out;
    }
    case Node::Kind::kMapping: {
      Object out;
      for (size_t i = 0; i < n.keys.size(); i++) out.set(n.keys[i].text, json_of(n.items[i]));
      return out;
    }
    case Node::Kind::kScalar: break;
  }
  double d = 0;
  const auto [end, e] = std::from_chars(n.text.data(), n.text.data() + n.text.size(), d);
  const bool number = e == std::errc{} && end == n.text.data() + n.text.size() && std::isfinite(d) &&
                      (std::isdigit(uint8_t(n.text[0])) || n.text[0] == '-');
  return n.plain && (number || n.text == "true" || n.text == "false") ? Json::raw(n.text) : Json(n.text);
}

std::string config_path(const Config& c) {
  const std::string kind = c.kind == "VirtualService" ? "virtual-service" : "destination-rule";
  return "/apis/networking.istio.io/v1/namespaces/" + c.ns + "/" + kind + "/" + c.name;
}

namespace {

void add_named_hosts(const Node& n, const std::string& ns, std::vector<std::string>& out) {
  for (size_t i = 0; i < n.items.size(); i++) {
    if (i < n.keys.size() && (n.keys[i].text == "destination" || n.keys[i].text == "mirror"))
      out.push_back(full_host(n.items[i]["host"].str(), ns));
    add_named_hosts(n.items[i], ns, out);
  }
}

std::unique_ptr<const Virtual> virtual_of(const Config& c, uint64_t id, const std::vector<const Config*>& delegates) {
  auto x = std::make_unique<Virtual>();
  x->config = c.shared_from_this(), x->id = id;
  for (const std::string& g : c.spec()["gateways"].list()) x->gateways.push_back(full_gateway(g, c.ns));
  for (const std::string& h : c.spec()["hosts"].list()) x->hosts.push_back(has_gateway_semantics(c) ? h : full_host(h, c.ns));
  x->of_hosts.add(c.ns);
  for (const std::string& h : x->hosts) x->of_hosts.add(h);
  add_http_routes(delegates, *x);
  for (const Node* r : x->http) add_named_hosts(*r, c.ns, x->destinations);
  for (const char* l4 : {"tls", "tcp"}) add_named_hosts(c.spec()[l4], c.ns, x->destinations);
  std::ranges::sort(x->destinations);
  x->destinations.erase(std::ranges::unique(x->destinations).begin(), x->destinations.end());
  return x;
}

void add_virtuals(View& v) {
  std::set<std::string> selected;
  for (const Server& s : v.servers) selected.insert(s.gateway_name());
  const auto& all = v.world.of_kind("VirtualService");
  struct Seen {
    int rank;
    bool delegates;
    const Virtual* virtual_service;
  };
  std::vector<Seen> seen;
  for (const Config* c : all) {
    const auto rank = visibility(*c, v.node.ns);
    if (!rank) continue;
    const auto delegates = c->delegates ? delegates_of(*c, all) : std::vector<const Config*>();
    Fingerprint f;
    f.add(c->id);
    for (const Config* d : delegates) f.add(d->id);
    const Virtual* x = v.parts->virtuals.get(memo_name(*c), f, [&] { return virtual_of(*c, f.word(), delegates); }).get();
    if (std::ranges::none_of(x->gateways, [&](const std::string& g) { return selected.contains(g); })) continue;
    seen.push_back({*rank, c->delegates, x});
  }
  // Those that delegate stand behind all others.
  std::ranges::stable_sort(seen, {}, [](const Seen& s) { return std::pair(s.rank, s.delegates); });
  for (const Seen& s : seen) {
    v.virtuals.push_back(s.virtual_service);
    for (const std::string& g : s.virtual_service->gateways) {
      auto& list = v.by_gateway[g];
      if (list.empty() || list.back() != s.virtual_service) list.push_back(s.virtual_service);
    }
  }
}

}  // namespace

std::span<const Virtual* const> View::bound_to(const Server& s) const {
  const auto at = by_gateway.find(s.gateway_name());
  return at == by_gateway.end() ? std::span<const Virtual* const>() : at->second;
}

View view_of(const World& world, const NodeInfo& node, std::shared_ptr<ViewParts> parts) {
  View v{.world = world, .node = node, .parts = parts != nullptr ? std::move(parts) : std::make_shared<ViewParts>()};
  merge_gateways(v);
  add_virtuals(v);
  add_services(v);
  index_rules(v);
  for (const Config* c : world.of_kind("PeerAuthentication")) v.peer_policies[c->ns].push_back(c);
  v.parts->virtuals.end_round();
  v.parts->entries.end_round();
  return v;
}

}  // namespace sluice::plane
