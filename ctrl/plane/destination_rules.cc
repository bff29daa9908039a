// Which DestinationRule a service gets. Rules of one namespace and host are merged first (subsets are joined, the first traffic policy
// stays); then the node's own namespace, the service's, the root namespace; in each the most specific host.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

bool only_here(const Config& c) {
  const auto to = c.spec()["exportTo"].list();
  return to.size() == 1 && (to[0] == "." || to[0] == c.ns);
}

Node& field(Node& map, const std::string& key) {
  for (size_t i = 0; i < map.keys.size(); i++)
    if (map.keys[i].text == key) return map.items[i];
  Node k;
  k.kind = Node::Kind::kScalar, k.text = key;
  map.kind = Node::Kind::kMapping;
  map.keys.push_back(std::move(k));
  return map.items.emplace_back();
}

void join(Config& into, const Config& from) {
  Node& spec = field(into.document, "spec");
  Node& subsets = field(spec, "subsets");
  subsets.kind = Node::Kind::kSequence;
  const size_t before = subsets.items.size();
  for (const Node& s : from.spec()["subsets"].items)
    if (std::none_of(subsets.items.begin(), subsets.items.begin() + ptrdiff_t(before),
                     [&](const Node& have) { return have["name"].str() == s["name"].str(); }))
      subsets.items.push_back(s);
  if (spec["trafficPolicy"].null() && from.spec()["trafficPolicy"]) field(spec, "trafficPolicy") = from.spec()["trafficPolicy"];
}

bool same_labels(const Node& a, const Node& b) {
  return a.keys.size() == b.keys.size() && std::ranges::all_of(a.keys, [&](const Node& k) { return a[k.text].str() == b[k.text].str(); });
}

void add(RuleSet& set, const Config& c, std::deque<Config>& merged) {
  auto& rules = set[full_host(c.spec()["host"].str(), c.ns)];
  bool own_entry = true;
  for (const Config*& have : rules.rules) {
    const Node &a = have->spec()["workloadSelector"], &b = c.spec()["workloadSelector"];
    if (a && b && !same_labels(a["matchLabels"], b["matchLabels"])) continue;
    if ((!a && !b) || (b && same_labels(a["matchLabels"], b["matchLabels"]))) own_entry = false;
    Config& copy = merged.emplace_back(*have);
    join(copy, c);
    copy.id = Fingerprint().add(have->id).add(c.id).word();
    have = &copy;
  }
  if (own_entry) rules.rules.push_back(&c);
  if (rules.export_to.empty()) rules.export_to = c.spec()["exportTo"].list();
}

const RuleSet::mapped_type* most_specific(const RuleSet& set, const std::string& host) {
  if (const auto at = set.find(host); at != set.end()) return &at->second;
  const RuleSet::value_type* best = nullptr;
  for (auto at = set.lower_bound("*"); at != set.end() && at->first.starts_with('*'); ++at)
    if (host_within(host, at->first) && (best == nullptr || at->first.size() > best->first.size())) best = &*at;
  return best == nullptr ? nullptr : &best->second;
}

const Config* pick(const RulesOfHost* rules, const NodeInfo& node) {
  const Config* general = nullptr;
  if (rules == nullptr) return nullptr;
  for (const Config* c : rules->rules) {
    const Node& selector = c->spec()["workloadSelector"];
    if (!selector) general = c;
    else if (c->ns == node.ns && labels_within(selector["matchLabels"], node.labels)) return c;
  }
  return general;
}

}  // namespace

void index_rules(View& v) {
  for (const Config* c : v.world.of_kind("DestinationRule")) {
    if (c->derived) v.backend_tls_rules[c->spec()["host"].str()] = c;
    add(v.own_rules[c->ns], *c, v.merged_rules);
    if (!only_here(*c)) add(v.exported_rules[c->ns], *c, v.merged_rules);
    else if (c->ns == v.world.mesh.root_namespace) add(v.private_root_rules, *c, v.merged_rules);
  }
}

const Config* View::destination_rule(const Service& s) const {
  const auto of = [&](const std::map<std::string, RuleSet>& sets, const std::string& ns) -> const RulesOfHost* {
    const auto at = sets.find(ns);
    return at == sets.end() ? nullptr : most_specific(at->second, s.host);
  };
  const std::string& root = world.mesh.root_namespace;
  const RulesOfHost* own = node.ns != root ? of(own_rules, node.ns) : most_specific(private_root_rules, s.host);
  if (own != nullptr) return pick(own, node);
  for (const std::string& ns : {s.ns, root}) {
    const RulesOfHost* rules = of(exported_rules, ns);
    if (rules == nullptr) continue;
    const auto& to = rules->export_to;
    if (to.empty() ||
        std::ranges::any_of(to, [&](const std::string& e) { return e == "*" || e == node.ns || (e == "." && ns == node.ns); }))
      return pick(rules, node);
  }
  return nullptr;
}

}  // namespace sluice::plane
