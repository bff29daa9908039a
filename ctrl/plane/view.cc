#include "ctrl/plane/view.h"

#include <algorithm>

#include "ctrl/plane/gateway_api.h"

namespace sluice::plane {
namespace {

bool visible(const Config& c, const std::string& ns) {
  const auto to = c.spec()["exportTo"].list();
  if (to.empty()) return true;
  return std::ranges::any_of(to, [&](const std::string& e) { return e == "*" || e == ns || (e == "." && c.ns == ns); });
}

void add_servers(const Config& gateway, View& v) {
  for (const Node& n : gateway.spec()["servers"].items) {
    Server s{.gateway = &gateway, .node = &n};
    s.port = uint32_t(n["port"]["number"].integer());
    if (is_of_gateway_api(gateway) && (s.port = workload_port(gateway, v.node, s.port)) == 0) continue;
    s.port_name = n["port"]["name"].str();
    s.protocol = upper(n["port"]["protocol"].str());
    s.bind = n["bind"].str();
    if (s.protocol == "HTTPS" || s.protocol == "TLS") s.tls_mode = n["tls"]["mode"].null() ? "PASSTHROUGH" : n["tls"]["mode"].str();
    for (std::string h : n["hosts"].list()) {
      if (h.starts_with("./")) h = gateway.ns + h.substr(1);
      s.hosts.push_back(std::move(h));
    }
    v.servers.push_back(std::move(s));
  }
}

void set(Node& map, const std::string& key, Node value) {
  for (size_t i = 0; i < map.keys.size(); i++)
    if (map.keys[i].text == key) {
      map.items[i] = std::move(value);
      return;
    }
  Node k;
  k.kind = Node::Kind::kScalar, k.text = key;
  map.kind = Node::Kind::kMapping;
  map.keys.push_back(std::move(k));
  map.items.push_back(std::move(value));
}

bool string_conflict(const Node& root, const Node& leaf) {
  if (root.null() || leaf.null()) return false;
  const auto &re = root["exact"].text, &rp = root["prefix"].text, &rr = root["regex"].text;
  const auto &le = leaf["exact"].text, &lp = leaf["prefix"].text, &lr = leaf["regex"].text;
  if (!rr.empty() || !lr.empty()) return true;
  if (!re.empty()) return !lp.empty() || le != re;
  if (!rp.empty() && !lp.empty()) return !lp.starts_with(rp);
  if (!rp.empty() && !le.empty()) return !le.starts_with(rp);
  return true;
}

bool match_conflict(const Node& root, const Node& leaf) {
  for (const char* f : {"uri", "scheme", "method", "authority"})
    if (string_conflict(root[f], leaf[f])) return true;
  for (const char* f : {"headers", "withoutHeaders", "queryParams"})
    for (const Node& k : root[f].keys)
      if (string_conflict(root[f][k.text], leaf[f][k.text])) return true;
  if (root["port"] && leaf["port"] && root["port"].integer() != leaf["port"].integer()) return true;
  return root["sourceNamespace"] && leaf["sourceNamespace"] && root["sourceNamespace"].text != leaf["sourceNamespace"].text;
}

// The root's conditions hold besides the delegate's: the narrower wins field by field, maps are united.
Node merged_match(const Node& root, const Node& leaf) {
  Node out = leaf;
  for (size_t i = 0; i < root.keys.size(); i++) {
    const std::string& k = root.keys[i].text;
    if (k == "name") continue;
    if (!leaf.has(k)) {
      set(out, k, root.items[i]);
    } else if (root.items[i].kind == Node::Kind::kMapping && k != "uri" && k != "scheme" && k != "method" && k != "authority") {
      Node both = leaf[k];
      for (size_t j = 0; j < root.items[i].keys.size(); j++)
        if (!both.has(root.items[i].keys[j].text)) set(both, root.items[i].keys[j].text, root.items[i].items[j]);
      set(out, k, std::move(both));
    }
  }
  const std::string &rn = root["name"].text, &ln = leaf["name"].text;
  if (!rn.empty() && !out.null()) {
    Node name = root["name"];
    if (!ln.empty()) name.text += "-" + ln;
    set(out, "name", std::move(name));
  }
  return out;
}

bool merge_delegate(const Node& root, const Node& leaf, Node& out) {
  out = leaf;
  Node matches;
  matches.kind = Node::Kind::kSequence;
  if (root["match"].items.empty()) matches = leaf["match"];
  else if (leaf["match"].items.empty()) matches = root["match"];
  else {
    for (const Node& r : root["match"].items)
      for (const Node& l : leaf["match"].items)
        if (!match_conflict(r, l)) matches.items.push_back(merged_match(r, l));
    if (matches.items.empty()) return false;
  }
  set(out, "match", std::move(matches));
  if (root["name"]) {
    Node name = root["name"];
    if (leaf["name"]) name.text += "-" + leaf["name"].text;
    set(out, "name", std::move(name));
  }
  for (const Node& k : root.keys)
    if (k.text != "match" && k.text != "name" && k.text != "delegate" && k.text != "headers" && !out.has(k.text))
      set(out, k.text, root[k.text]);
  if (root["headers"]) {  // the delegate's operations win name by name
    Node headers = out["headers"];
    for (const Node& direction : root["headers"].keys)
      for (const Node& op : root["headers"][direction.text].keys) {
        const Node& from = root["headers"][direction.text][op.text];
        Node side = headers[direction.text];
        Node merged = side[op.text];
        if (merged.null()) merged = from;
        else if (from.kind == Node::Kind::kSequence) merged.items.insert(merged.items.end(), from.items.begin(), from.items.end());
        else
          for (size_t i = 0; i < from.keys.size(); i++)
            if (!merged.has(from.keys[i].text)) set(merged, from.keys[i].text, from.items[i]);
        set(side, op.text, std::move(merged));
        set(headers, direction.text, std::move(side));
      }
    set(out, "headers", std::move(headers));
  }
  return true;
}

// Destinations of a delegate are short names of its own namespace: made full before it is merged.
void fill_hosts(Node& n, const std::string& ns) {
  for (size_t i = 0; i < n.items.size(); i++) {
    if (i < n.keys.size() && (n.keys[i].text == "destination" || n.keys[i].text == "mirror"))
      for (size_t j = 0; j < n.items[i].keys.size(); j++)
        if (n.items[i].keys[j].text == "host") n.items[i].items[j].text = full_host(n.items[i].items[j].text, ns);
    fill_hosts(n.items[i], ns);
  }
}

std::vector<Node> with_delegates(const Config& c, const std::vector<const Config*>& all) {
  std::vector<Node> out;
  for (const Node& route : c.spec()["http"].items) {
    const Node& delegate = route["delegate"];
    if (delegate.null()) {
      out.push_back(route);
      continue;
    }
    const std::string ns = delegate["namespace"].null() ? c.ns : delegate["namespace"].str();
    for (const Config* d : all)
      if (d->name == delegate["name"].str() && d->ns == ns && d->spec()["hosts"].items.empty() && visible(*d, c.ns))
        for (Node leaf : d->spec()["http"].items) {
          fill_hosts(leaf, d->ns);
          Node merged;
          if (merge_delegate(route, leaf, merged)) out.push_back(std::move(merged));
        }
  }
  return out;
}

}  // namespace

std::string NodeInfo::key() const {
  std::string out = ns + "\n" + cluster_id + "\n" + mesh_id + "\n" + locality;
  for (const auto& [k, v] : labels) out += "\n" + k + "=" + v;
  return out;
}

std::string upper(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = char(std::toupper(c));
  return out;
}

std::string Server::route_name() const {
  if (plain_http()) return "http." + std::to_string(port) + (bind.empty() ? "" : "." + bind);
  return "https." + std::to_string(port) + "." + port_name + "." + gateway->name + "." + gateway->ns;
}

std::string full_host(const std::string& host, const std::string& ns) {
  if (host.find('.') != std::string::npos || host.starts_with('*')) return host;
  return host + "." + ns + ".svc.cluster.local";
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
  else if (const Service* s = v.service(host); s != nullptr && s->ports.size() == 1) port = s->ports[0].number;
  return cluster_name(port, destination["subset"].str(), host);
}

std::string config_path(const Config& c) {
  const std::string kind = c.kind == "VirtualService" ? "virtual-service" : "destination-rule";
  return "/apis/networking.istio.io/v1/namespaces/" + c.ns + "/" + kind + "/" + c.name;
}

const Service* View::service(const std::string& host) const {
  const auto it = by_host.find(host);
  return it == by_host.end() ? nullptr : &services[it->second];
}

// Istio: the gateway's own namespace, then the service's, then the root namespace; in each the most specific host.
const Config* View::destination_rule(const Service& s) const {
  if (rules.empty()) return nullptr;
  for (const std::string& ns : {node.ns, s.ns, world.mesh.root_namespace}) {
    const Config* best = nullptr;
    std::string best_host;
    for (const Config* c : rules) {
      if (c->ns != ns || (ns != node.ns && !visible(*c, node.ns))) continue;
      const std::string host = full_host(c->spec()["host"].str(), c->ns);
      if (host_within(s.host, host) && (best == nullptr || (host != best_host && host_within(host, best_host)))) best = c, best_host = host;
    }
    if (best != nullptr) return best;
  }
  return nullptr;
}

View view_of(const World& world, const NodeInfo& node) {
  View v{.world = world, .node = node};
  std::set<std::string> selected;
  for (const Config* g : world.of_kind("Gateway"))
    if (is_of_gateway_api(*g) ? serves(*g, node) : labels_within(g->spec()["selector"], node.labels)) {
      add_servers(*g, v);
      selected.insert(g->ns + "/" + g->name);
    }
  const auto all = world.of_kind("VirtualService");
  for (const Config* c : all) {
    Virtual x{.config = c};
    bool bound = false;
    for (const std::string& g : c->spec()["gateways"].list()) {
      x.gateways.push_back(g.find('/') == std::string::npos ? c->ns + "/" + g : g);
      bound |= selected.contains(x.gateways.back());
    }
    if (!bound || !visible(*c, node.ns)) continue;
    for (const std::string& h : c->spec()["hosts"].list()) x.hosts.push_back(has_gateway_semantics(*c) ? h : full_host(h, c->ns));
    x.http = with_delegates(*c, all);
    v.virtuals.push_back(std::move(x));
  }
  for (const Config* e : world.of_kind("ServiceEntry")) {
    if (!visible(*e, node.ns)) continue;
    for (const std::string& host : e->spec()["hosts"].list()) {
      Service s{.host = host, .ns = e->ns, .entry = e};
      for (const Node& p : e->spec()["ports"].items) {
        const uint32_t number = uint32_t(p["number"].integer());
        s.ports.push_back(
            {number, p["name"].str(), upper(p["protocol"].str()), p["targetPort"] ? uint32_t(p["targetPort"].integer()) : number});
      }
      v.services.push_back(std::move(s));
    }
  }
  for (size_t i = 0; i < v.services.size(); i++) {
    const auto [it, is_new] = v.by_host.try_emplace(v.services[i].host, i);
    if (!is_new && v.services[i].ns == node.ns && v.services[it->second].ns != node.ns) it->second = i;
  }
  v.rules = world.of_kind("DestinationRule");
  return v;
}

}  // namespace sluice::plane
