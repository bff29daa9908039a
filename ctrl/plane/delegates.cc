// VirtualServices that delegate: the delegate's routes take the place of the root's, each under the root's conditions.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

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
  if (root["ignoreUriCase"].boolean() != leaf["ignoreUriCase"].boolean()) return true;
  if (root["port"] && leaf["port"] && root["port"].integer() != leaf["port"].integer()) return true;
  if (!root["sourceNamespace"].text.empty() && root["sourceNamespace"].text != leaf["sourceNamespace"].text) return true;
  for (const Node& k : leaf["sourceLabels"].keys)
    if (root["sourceLabels"].has(k.text) && root["sourceLabels"][k.text].text != leaf["sourceLabels"][k.text].text) return true;
  const auto wide = root["gateways"].list(), narrow = leaf["gateways"].list();
  return !wide.empty() && std::ranges::any_of(narrow, [&](const std::string& g) { return std::ranges::find(wide, g) == wide.end(); });
}

// The root's conditions hold besides the delegate's: the narrower wins field by field, maps are united.
Node merged_match(const Node& root, const Node& leaf) {
  Node out = leaf;
  for (size_t i = 0; i < root.keys.size(); i++) {
    const std::string& k = root.keys[i].text;
    if (k == "name" || k == "statPrefix") continue;
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
    for (const Node& l : leaf["match"].items) {
      const size_t before = matches.items.size();
      for (const Node& r : root["match"].items)
        if (!match_conflict(r, l)) matches.items.push_back(merged_match(r, l));
      if (matches.items.size() == before) return false;  // each must fit into one of the root's, else the route is none
    }
    if (matches.items.empty()) return false;
  }
  set(out, "match", std::move(matches));
  if (root["name"]) {
    Node name = root["name"];
    if (leaf["name"]) name.text += "-" + leaf["name"].text;
    set(out, "name", std::move(name));
  }
  for (const char* f :
       {"rewrite", "timeout", "retries", "fault", "mirror", "mirrorPercent", "mirrorPercentage", "corsPolicy", "mirrors", "headers"})
    if (root[f] && !out.has(f)) set(out, f, root[f]);
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

}  // namespace

std::vector<const Config*> delegates_of(const Config& c, const std::vector<const Config*>& all) {
  std::vector<const Config*> out;
  for (const Node& route : c.spec()["http"].items) {
    const Node& delegate = route["delegate"];
    if (delegate.null()) continue;
    const std::string ns = delegate["namespace"].null() ? c.ns : delegate["namespace"].str();
    for (const Config* d : all)
      if (d->name == delegate["name"].str() && d->ns == ns && d->spec()["hosts"].items.empty() && visibility(*d, c.ns) &&
          std::ranges::find(out, d) == out.end())
        out.push_back(d);
  }
  return out;
}

void add_http_routes(const std::vector<const Config*>& delegates, Virtual& x) {
  const Config& c = *x.config;
  for (const Node& route : c.spec()["http"].items) {
    const Node& delegate = route["delegate"];
    if (delegate.null()) {
      x.http.push_back(&route);
      continue;
    }
    const std::string ns = delegate["namespace"].null() ? c.ns : delegate["namespace"].str();
    for (const Config* d : delegates)
      if (d->name == delegate["name"].str() && d->ns == ns)
        for (Node leaf : d->spec()["http"].items) {
          fill_hosts(leaf, d->ns);
          Node merged;
          if (merge_delegate(route, leaf, merged)) x.http.push_back(&x.merged.emplace_back(std::move(merged)));
        }
  }
}

}  // namespace sluice::plane
