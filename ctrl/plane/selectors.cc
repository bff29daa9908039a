// Selectors that select nothing. Of a WorkloadEntry or endpoint all labels are known; of a gateway's or Service's workload those that it is
// selected by, so that another label is ruled out only where it is known with another value, or where nothing of the selector is known.
#include <algorithm>

#include "ctrl/plane/known.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kKinds[] = {"AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication", "Telemetry",
                                       "EnvoyFilter",         "ProxyConfig",        "DestinationRule"};

enum class Fit : uint8_t { kNo, kMaybe, kYes };

// Of a workload whose labels are known in part.
Fit fit(const Node& selector, const Labels& part) {
  if (part.empty()) return Fit::kMaybe;
  size_t same = 0;
  for (size_t i = 0; i < selector.keys.size(); i++) {
    const auto at = part.find(selector.keys[i].text);
    if (at == part.end()) continue;
    if (at->second != selector.items[i].text) return Fit::kNo;
    same++;
  }
  return same == selector.keys.size() ? Fit::kYes : same > 0 ? Fit::kMaybe : Fit::kNo;
}

std::string text_of(const Node& selector) {
  std::string out;
  for (size_t i = 0; i < selector.keys.size(); i++) out += (i == 0 ? "" : ", ") + selector.keys[i].text + "=" + selector.items[i].text;
  return out;
}

// What the directory has for the selector's first key.
std::string known_values(const Known& k, const Node& selector) {
  std::set<std::string> values;
  for (const Node& key : selector.keys)
    for (const KnownGateway* g : k.in_order)
      for (const Labels& l : g->workloads)
        if (const auto at = l.find(key.text); at != l.end() && values.size() < 5) values.insert(key.text + "=" + at->second);
  if (values.empty())
    for (const KnownGateway* g : k.in_order)
      for (const Labels& l : g->workloads)
        for (const auto& [key, value] : l)
          if (values.size() < 5 && key != "app") values.insert(key + "=" + value);
  std::string out;
  for (const std::string& v : values) out += (out.empty() ? "" : ", ") + v;
  return out.empty() ? "compare it with the labels of WorkloadEntries and Services" : "the Gateways select " + out;
}

std::string effect_of(const Config& c) {
  return c.kind == "AuthorizationPolicy" && c.spec()["action"].str() != "DENY" ? "the policy has no effect" : "it has no effect";
}

void check_targets(const Known& k, const Config& c, Warnings& out) {
  std::vector<const Node*> targets;
  for (const Node& t : c.spec()["targetRefs"].items) targets.push_back(&t);
  if (targets.empty() && c.spec()["targetRef"]) targets.push_back(&c.spec()["targetRef"]);
  for (const Node* t : targets) {
    const std::string& kind = (*t)["kind"].str();
    if (kind != "Gateway")
      out.add(c, (*t)["kind"], "empty-selector", "a " + kind + " is a target for waypoints: at a gateway the policy has no effect",
              "name a Gateway of gateway.networking.k8s.io, or use selector");
    else if (std::ranges::none_of(k.world.of_kind("KubernetesGateway"),
                                  [&](const Config* g) { return g->ns == c.ns && g->name == (*t)["name"].str(); }))
      out.add(c, (*t)["name"], "empty-selector",
              "there is no Gateway " + c.ns + "/" + (*t)["name"].str() + " of gateway.networking.k8s.io: the policy has no effect",
              "a target is in the policy's own namespace; for Istio's Gateway use selector");
  }
}

// Of policies of one scope and selector the oldest holds.
void check_twice(const Known& k, const char* kind, Warnings& out) {
  std::map<std::pair<std::string, Labels>, const Config*> first;
  for (const Config* c : k.world.of_kind(kind)) {
    const auto [at, is_new] = first.try_emplace({c->ns, labels_of(selector_of(*c))}, c);
    if (!is_new)
      out.add(*c, c->at(), "shadowed-policy",
              std::string(kind) + " " + at->second->ns + "/" + at->second->name + " has the same scope: this one has no effect",
              "make one of the two; Istio takes the older, else the first by name");
  }
}

void check_contexts(const Config& c, Warnings& out) {
  for (const Node& p : c.spec()["configPatches"].items)
    if (const Node& context = p["match"]["context"]; context.str().starts_with("SIDECAR") || context.str() == "WAYPOINT")
      out.add(c, context, "empty-selector", "context " + context.str() + ": this patch reaches no gateway", "GATEWAY or ANY");
}

}  // namespace

const Node& selector_of(const Config& c) {
  if (c.kind == "EnvoyFilter") return c.spec()["workloadSelector"]["labels"];
  return c.spec()[c.kind == "DestinationRule" ? "workloadSelector" : "selector"]["matchLabels"];
}

Selection selection_of(const Known& k, const Config& c) {
  const Node& selector = selector_of(c);
  const bool all = selector.keys.empty(), everywhere = c.ns == k.world.mesh.root_namespace;
  Selection out{.possible = {}, .sure = {}};
  const bool targets = c.spec()["targetRefs"] || c.spec()["targetRef"];
  // Those that run are all there are, where they are known.
  const auto runs = [&](const Node& labels) {
    return std::ranges::any_of(k.options.gateways, [&](const Labels& l) { return labels_within(labels, l); });
  };
  const auto runs_both = [&](const KnownGateway& g) {
    return std::ranges::any_of(
        k.options.gateways, [&](const Labels& l) { return labels_within(selector, l) && labels_within(g.config->spec()["selector"], l); });
  };
  for (const KnownGateway* g : k.in_order) {
    if (targets) {
      const auto is = [&](const Node& t) { return g->config->name.starts_with(t["name"].str() + "-istio-autogenerated-k8s-gateway"); };
      const auto& list = c.spec()["targetRefs"].items;
      if (g->config->derived && g->config->ns == c.ns && (std::ranges::any_of(list, is) || (list.empty() && is(c.spec()["targetRef"]))))
        out.possible.push_back(g), out.sure.push_back(g);
      continue;
    }
    Fit best = Fit::kNo;
    if (!k.options.gateways.empty() && !g->config->derived) {
      if (!runs_both(*g)) continue;
      out.possible.push_back(g);
      if (everywhere || g->config->ns == c.ns) out.sure.push_back(g);
      continue;
    }
    for (size_t i = 0; i < g->workloads.size(); i++)
      if (everywhere || g->namespaces[i].empty() || g->namespaces[i] == c.ns)
        best = std::max(best, all ? Fit::kYes : fit(selector, g->workloads[i]));
    if (best == Fit::kNo) continue;
    out.possible.push_back(g);
    if (best == Fit::kYes && (everywhere || g->config->ns == c.ns)) out.sure.push_back(g);
  }
  const auto in_scope = [&](const auto& by_namespace, const auto& takes) {
    for (const auto& [ns, list] : by_namespace)
      if (everywhere || ns == c.ns)
        for (const Labels& l : list)
          if (takes(l)) return true;
    return false;
  };
  const auto exactly = [&](const Labels& l) { return labels_within(selector, l); };
  out.others = !targets && (in_scope(k.workloads, exactly) || (!all && in_scope(k.endpoints, exactly)));
  if (targets || all) return out;
  out.selected = !out.possible.empty() || out.others || runs(selector) ||
                 in_scope(k.selected, [&](const Labels& l) { return fit(selector, l) != Fit::kNo; });
  return out;
}

void check_selectors(const Known& k, Warnings& out) {
  const bool knows = !k.in_order.empty() || !k.workloads.empty() || !k.selected.empty() || !k.endpoints.empty();
  std::map<std::pair<std::string, Labels>, bool> known;
  for (const std::string_view kind : kKinds)
    for (const Config* c : k.world.of_kind(kind)) {
      if (c->derived) continue;
      if (kind == "AuthorizationPolicy" || kind == "RequestAuthentication") check_targets(k, *c, out);
      if (kind == "EnvoyFilter") check_contexts(*c, out);
      const Node& selector = selector_of(*c);
      if (selector.keys.empty() || !knows) continue;
      const auto [at, is_new] = known.try_emplace({c->ns, labels_of(selector)}, true);
      if (is_new) at->second = selection_of(k, *c).selected;
      if (!at->second)
        out.add(*c, selector, "empty-selector",
                "no gateway or workload that this directory knows has the labels " + text_of(selector) + ": " + effect_of(*c),
                known_values(k, selector));
    }
  if (!k.options.gateways.empty())
    for (const KnownGateway* g : k.in_order) {
      const Node& selector = g->config->spec()["selector"];
      const auto runs = [&](const Labels& l) { return labels_within(selector, l); };
      if (!g->config->derived && !selector.keys.empty() && std::ranges::none_of(k.options.gateways, runs))
        out.add(*g->config, selector, "empty-selector",
                "no gateway that runs has the labels " + text_of(selector) + ": nobody opens these servers",
                "compare with the labels of the gateways");
    }
  check_twice(k, "PeerAuthentication", out);
  check_twice(k, "Telemetry", out);
}

}  // namespace sluice::plane
