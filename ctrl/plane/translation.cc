#include "ctrl/plane/translation.h"

#include <algorithm>
#include <future>

#include "ctrl/plane/kept_routes.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

enum { kCluster, kEndpoint, kListener, kRoute };
using Done = std::expected<void, std::string>;

// The EnvoyFilters of a node by what they patch.
struct PatchesByTarget {
  std::vector<Patch> clusters, added_clusters, listeners, routes;
  Fingerprint of_clusters, of_routes;
};

Fingerprint print_of(const std::vector<Patch>& patches) {
  Fingerprint f;
  for (const Patch& p : patches) f.add(p.apply_to).add(p.operation).add(json_of(p.match).text).add(p.value.text);
  return f;
}

std::expected<PatchesByTarget, std::string> by_target(std::vector<Patch> all) {
  PatchesByTarget out;
  for (Patch& p : all) {
    if (const std::string wrong = wrong_value(p); !wrong.empty()) return std::unexpected("EnvoyFilter, " + p.apply_to + ": " + wrong);
    const bool route = p.apply_to == "ROUTE_CONFIGURATION" || p.apply_to == "VIRTUAL_HOST" || p.apply_to == "HTTP_ROUTE";
    auto& list = p.apply_to != "CLUSTER" ? (route ? out.routes : out.listeners) : p.operation == "ADD" ? out.added_clusters : out.clusters;
    list.push_back(std::move(p));
  }
  out.of_clusters = print_of(out.clusters), out.of_routes = print_of(out.routes);
  return out;
}

// The clusters and endpoints of one service.
struct Group {
  std::vector<ResourceTable::Shared> of[2];
};
std::string group_name(const Service& s, bool sni_dnat) { return sni_dnat ? s.host + "~" : s.host; }
}  // namespace

struct Translation::State {
  std::shared_ptr<const World> base, newest;  // what the view is of; the world last seen, of the same shape
  std::shared_ptr<ViewParts> parts = std::make_shared<ViewParts>();
  std::optional<View> view;
  PatchesByTarget patches;
  std::unordered_map<std::string, Fingerprint> peers, workloads;  // by namespace
  Memo<Group> groups;                                             // by group_name(); "": the black hole
  KeptRoutes routes;
  ResourceTable tables[kTypes];  // of clusters: without those that EnvoyFilters add

  Done whole(std::shared_ptr<const World> world, const NodeInfo& node, const TranslateOptions& options);
  Done endpoints(std::shared_ptr<const World> world);
  std::expected<Resources, std::string> answer() const;

 private:
  Done look_at(const Service& s, bool sni_dnat, Memo<Group>::Slot& slot);
  Fingerprint print_of(const Service& s, bool sni_dnat) const;
  // Clusters and endpoints take the place of what the group had: once convert() was called, which take() does when there is much.
  struct Remade {
    Answer answer;
    Group* group;
  };
  Done take(Answer a, Group& g);
  Done convert();
  std::vector<Remade> remade;
  size_t remade_bytes = 0;
  Done translate_services();
  Done translate_all_listeners();
  Done translate_routes();
};

Fingerprint Translation::State::print_of(const Service& s, bool sni_dnat) const {
  const View& v = *view;
  Fingerprint f;
  f.add(v.world.mesh.id).add(patches.of_clusters).add(s.entry->shape).add(s.host).add(sni_dnat);
  bool selects = false;
  for (const Config* e : v.entries_of(s)) {
    f.add(e->id);
    selects |= !e->spec()["workloadSelector"].null();
  }
  const auto add = [&](const std::unordered_map<std::string, Fingerprint>& of, const std::string& ns) {
    if (const auto at = of.find(ns); at != of.end()) f.add(at->second);
    else f.add(0);
  };
  if (selects) add(workloads, s.ns);
  add(peers, s.ns), add(peers, v.world.mesh.root_namespace);
  const Config* rule = v.destination_rule(s);
  const auto backend = v.backend_tls_rules.find(s.host);
  f.add(rule == nullptr ? 0 : rule->id).add(backend == v.backend_tls_rules.end() ? 0 : backend->second->id);
  return f;
}

Done Translation::State::take(Answer a, Group& g) {
  for (const auto* of : {&a.clusters, &a.endpoints})
    for (const auto& [name, json] : *of) remade_bytes += json.text.size();
  remade.push_back({std::move(a), &g});
  return remade_bytes < kBatchBytes ? Done() : convert();
}

Done Translation::State::convert() {
  std::vector<NamedJson> all;
  for (const Remade& r : remade)
    for (const int t : {kCluster, kEndpoint})
      for (const auto& [name, json] : t == kCluster ? r.answer.clusters : r.answer.endpoints) all.push_back({t, &name, &json});
  auto parsed = parse_all(all);
  if (!parsed) return std::unexpected(parsed.error());
  size_t next = 0;
  for (const Remade& r : remade) {
    Messages messages[2], none, also_none;
    for (const int t : {kCluster, kEndpoint})
      for (const auto& [name, json] : t == kCluster ? r.answer.clusters : r.answer.endpoints)
        messages[t].emplace(name, std::move((*parsed)[next++]));
    if (auto ok = apply_patches(patches.clusters, messages[kCluster], none, also_none); !ok) return ok;
    for (const int t : {kCluster, kEndpoint}) {
      std::vector<ResourceTable::Shared> now;
      for (const auto& [name, m] : messages[t]) now.push_back(entry_of(name, *m, &tables[t]));
      for (const auto& e : r.group->of[t])
        if (!messages[t].contains(e->first)) tables[t].erase(e->first);
      for (const auto& e : now) tables[t].put(e);
      r.group->of[t] = std::move(now);
    }
  }
  remade.clear(), remade_bytes = 0;
  return {};
}

Done Translation::State::look_at(const Service& s, bool sni_dnat, Memo<Group>::Slot& slot) {
  const Fingerprint f = print_of(s, sni_dnat);
  if (slot.of == f) return {};
  slot.of = f;
  Answer a;
  translate_service(*view, s, sni_dnat, a);
  return take(std::move(a), slot.value);
}

Done Translation::State::translate_services() {
  auto& black_hole = groups.slot("");
  if (const auto f = Fingerprint().add(base->mesh.id).add(patches.of_clusters); black_hole.of != f) {
    Answer a;
    add_black_hole(*view, a);
    black_hole.of = f;
    if (auto ok = take(std::move(a), black_hole.value); !ok) return ok;
  }
  for (const auto& [s, sni_dnat] : wanted_services(*view))
    if (auto ok = look_at(*s, sni_dnat, groups.slot(group_name(*s, sni_dnat))); !ok) return ok;
  if (auto ok = convert(); !ok) return ok;
  groups.end_round([&](const Group& g) {
    for (const int t : {kCluster, kEndpoint})
      for (const auto& e : g.of[t]) tables[t].erase(e->first);
  });
  return {};
}

Done Translation::State::translate_all_listeners() {
  Answer a;
  translate_listeners(*view, a);
  Messages listeners, none, also_none;
  std::vector<NamedJson> all;
  for (const auto& [name, json] : a.listeners) all.push_back({kListener, &name, &json});
  auto parsed = parse_all(all);
  if (!parsed) return std::unexpected(parsed.error());
  for (size_t i = 0; i < all.size(); i++) listeners.emplace(*all[i].name, std::move((*parsed)[i]));
  if (auto ok = apply_patches(patches.listeners, none, listeners, also_none); !ok) return ok;
  ResourceTable table;
  for (const auto& [name, m] : listeners) table.put(entry_of(name, *m, &tables[kListener]));
  tables[kListener] = std::move(table);
  return {};
}

Done Translation::State::translate_routes() {
  ResourceTable table;
  for (const auto& [name, servers] : view->routes) {
    auto entry = routes.update(*view, name, servers, patches.routes, patches.of_routes, tables[kRoute]);
    if (!entry) return std::unexpected(name + ": " + entry.error());
    table.put(std::move(*entry));
  }
  routes.end_round();
  tables[kRoute] = std::move(table);
  return {};
}

Done Translation::State::whole(std::shared_ptr<const World> world, const NodeInfo& node, const TranslateOptions& options) {
  view.reset();  // it looks into the parts
  base = newest = std::move(world);
  view.emplace(view_of(*base, node, parts));
  view->options = options;
  auto sorted = by_target(patches_of(*view));
  if (!sorted) return std::unexpected(sorted.error());
  patches = std::move(*sorted);
  peers.clear(), workloads.clear();
  for (const auto& [ns, list] : view->peer_policies)
    for (const Config* c : list) peers[ns].add(c->id);
  for (const auto& [ns, list] : view->workloads)
    for (const Config* c : list) workloads[ns].add(c->id);

  // Two threads: the services' clusters and endpoints here, all else there. They share the view, which neither changes.
  auto services = std::async(std::launch::async, [this] { return translate_services(); });
  Done rest = translate_all_listeners();
  if (rest) rest = translate_routes();
  const Done first = services.get();
  return first ? rest : first;
}

Done Translation::State::endpoints(std::shared_ptr<const World> world) {
  const auto &old = newest->of_kind("ServiceEntry"), &now = world->of_kind("ServiceEntry");
  std::vector<const Service*> touched;
  for (size_t i = 0; i < now.size(); i++) {
    if (old[i] == now[i]) continue;
    for (const std::string& host : now[i]->spec()["hosts"].list()) {
      std::ranges::replace(view->entries.at(now[i]->ns + "/" + host), old[i], now[i]);
      if (old[i]->id == now[i]->id) continue;
      if (const Service* s = view->service(host); s != nullptr && s->ns == now[i]->ns) touched.push_back(s);
    }
  }
  newest = std::move(world);
  for (const Service* s : touched)
    for (const bool sni_dnat : {false, true})
      if (auto* slot = groups.find(group_name(*s, sni_dnat)))
        if (auto ok = look_at(*s, sni_dnat, *slot); !ok) return ok;
  return convert();
}

std::expected<Resources, std::string> Translation::State::answer() const {
  Resources out;
  std::ranges::copy(tables, out.of);
  Messages added, none, also_none;
  if (auto ok = apply_patches(patches.added_clusters, added, none, also_none); !ok) return std::unexpected(ok.error());
  for (const auto& [name, m] : added)
    if (!out.of[kCluster].contains(name)) out.of[kCluster].put(entry_of(name, *m, nullptr));
  out.seal();
  return out;
}

Translation::Translation(NodeInfo node, TranslateOptions options) : node_(std::move(node)), options_(options) {}
Translation::~Translation() = default;

std::expected<std::shared_ptr<const Resources>, std::string> Translation::update(std::shared_ptr<const World> world) {
  const auto take = [&](std::expected<Resources, std::string> made) -> std::expected<std::shared_ptr<const Resources>, std::string> {
    if (!made) {
      state_.reset();
      return std::unexpected(made.error());
    }
    if (last_ == nullptr || !std::ranges::equal(last_->version, made->version)) last_ = std::make_shared<const Resources>(std::move(*made));
    return last_;
  };
  if (const auto it = node_.metadata.find("GENERATOR"); it != node_.metadata.end() && it->second == "grpc")
    return take(to_resources(translate(*world, node_, options_), last_.get()));
  const bool only_endpoints = state_ != nullptr && state_->base->shape == world->shape;
  if (state_ == nullptr) state_ = std::make_unique<State>();
  const Done ok = only_endpoints ? state_->endpoints(std::move(world)) : state_->whole(std::move(world), node_, options_);
  if (!ok) return take(std::unexpected(ok.error()));
  return take(state_->answer());
}

}  // namespace sluice::plane
