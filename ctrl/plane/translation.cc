#include "ctrl/plane/translation.h"

#include <google/protobuf/io/coded_stream.h>

#include <algorithm>

#include "ctrl/plane/messages.h"
#include "ctrl/plane/routes.h"
#include "envoy/config/route/v3/route.pb.h"

namespace sluice::plane {
namespace {

enum { kCluster, kEndpoint, kListener, kRoute };
using Done = std::expected<void, std::string>;
using envoy::config::route::v3::RouteConfiguration;

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
struct KeptList : RouteList {
  Fingerprint of;
  bool empty = true;
};

// Before and behind its virtual hosts, as a RouteConfiguration is serialized: its name is field 1, they are field 2.
std::expected<std::string, std::string> join_hosts(const std::string& name, const std::vector<const std::string*>& hosts) {
  const Json json = route_configuration(name, {});
  const auto frame = parse_all(std::array{NamedJson{kRoute, &name, &json}});
  if (!frame) return std::unexpected(frame.error());
  auto& rest = static_cast<RouteConfiguration&>(*(*frame)[0]);
  RouteConfiguration head;
  head.set_name(name);
  rest.clear_name();
  std::string out = serialized(head);
  const std::string tail = serialized(rest);
  size_t size = out.size() + tail.size();
  for (const std::string* h : hosts) size += h->size() + 6;
  out.reserve(size);
  constexpr char kTag = 2 << 3 | 2;
  for (const std::string* h : hosts) {
    out += kTag;
    uint8_t length[5];
    const uint8_t* end = google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(uint32_t(h->size()), length);
    out.append(reinterpret_cast<const char*>(length), size_t(end - length));
    out += *h;
  }
  return std::move(out.append(tail));
}

}  // namespace

struct Translation::State {
  std::shared_ptr<const World> base, newest;  // what the view is of; the world last seen, of the same shape
  std::shared_ptr<ViewParts> parts = std::make_shared<ViewParts>();
  std::optional<View> view;
  PatchesByTarget patches;
  std::unordered_map<std::string, Fingerprint> peers, workloads;  // by namespace
  Memo<Group> groups;                                             // by group_name(); "": the black hole
  Memo<KeptList> lists;
  Memo<std::string> hosts;  // VirtualHosts, serialized
  Memo<ResourceTable::Shared> routes;
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
  Done translate_all_listeners();
  Done translate_routes(const std::string& name, const std::vector<const Server*>& servers);
  Fingerprint print_of(const Virtual& x, const Server& s) const;
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

Fingerprint Translation::State::print_of(const Virtual& x, const Server& s) const {
  const View& v = *view;
  Fingerprint f;
  f.add(v.world.mesh.id).add(x.id).add(s.service_port).add(s.has_tls());
  const auto add = [&](const Service* to) { f.add(to == nullptr ? 0 : to->entry->shape); };
  for (const std::string& host : x.destinations) {
    const Service* to = v.service(host);
    add(to), add(v.service(host, x.config->ns));
    const Config* rule = to == nullptr ? nullptr : v.destination_rule(*to);
    f.add(rule == nullptr ? 0 : rule->id);
  }
  return f;
}

Done Translation::State::translate_routes(const std::string& name, const std::vector<const Server*>& servers) {
  struct Asked {
    const Virtual* x;
    const Server* s;
  };
  std::unordered_map<const RouteList*, Asked> asked;
  const auto fill = [&](KeptList& list, const Asked& a) {
    list.routes = routes_of(*view, *a.x, *a.s);
    list.empty = list.routes.empty();
  };
  const auto plan = plan_hosts(*view, servers, [&](const Virtual& x, const Server& s) -> const RouteList* {
    auto& slot = lists.slot(name + "|" + s.gateway_name() + "|" + memo_name(*x.config));
    KeptList& list = slot.value;
    const Asked a{&x, &s};
    if (const Fingerprint f = print_of(x, s); slot.of != f) slot.of = list.of = f, fill(list, a);
    asked.emplace(&list, a);
    return list.empty ? nullptr : &list;
  });
  Fingerprint all;
  all.add(patches.of_routes);
  std::vector<const std::string*> bytes;
  std::vector<std::string*> changed;
  std::vector<Json> jsons;
  size_t size = 0;
  const auto convert_hosts = [&]() -> Done {
    auto made = host_bytes(jsons);
    if (!made) return std::unexpected(name + ": " + made.error());
    for (size_t i = 0; i < changed.size(); i++) *changed[i] = std::move((*made)[i]);
    changed.clear(), jsons.clear(), size = 0;
    return {};
  };
  for (const PlannedHost& h : plan) {
    Fingerprint f;
    f.add(h.tls_only).add(h.blackhole).add(h.counts_attempts).add(h.domains.size());
    for (const std::string& d : h.domains) f.add(d);
    for (const RouteList* list : h.lists) f.add(static_cast<const KeptList*>(list)->of);
    auto& slot = hosts.slot(name + "|" + h.name);
    if (slot.of != f) {
      for (const RouteList* list : h.lists)
        if (list->routes.empty()) fill(const_cast<KeptList&>(static_cast<const KeptList&>(*list)), asked.at(list));
      slot.of = f;
      changed.push_back(&slot.value), jsons.push_back(virtual_host(h));
      if ((size += jsons.back().text.size()) > kBatchBytes)
        if (auto ok = convert_hosts(); !ok) return ok;
    }
    all.add(h.name).add(f);
    bytes.push_back(&slot.value);
  }
  if (auto ok = convert_hosts(); !ok) return ok;
  for (const auto& [list, a] : asked) const_cast<RouteList*>(list)->routes = {};
  auto& slot = routes.slot(name);
  if (slot.of != all) {
    auto joined = join_hosts(name, bytes);
    if (!joined) return std::unexpected(name + ": " + joined.error());
    if (!patches.routes.empty()) {
      Messages messages, none, also_none;
      auto rc = std::make_unique<RouteConfiguration>();
      if (!rc->ParseFromString(*joined)) return std::unexpected(name + ": cannot be parsed");
      messages.emplace(name, std::move(rc));
      if (auto ok = apply_patches(patches.routes, none, also_none, messages); !ok) return ok;
      joined = serialized(*messages.at(name));
    }
    slot.of = all, slot.value = entry_of(name, std::move(*joined), &tables[kRoute]);
  }
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
  if (auto ok = translate_all_listeners(); !ok) return ok;
  for (const auto& [name, servers] : view->routes)
    if (auto ok = translate_routes(name, servers); !ok) return ok;
  ResourceTable table;
  for (const auto& [name, servers] : view->routes) table.put(routes.slot(name).value);
  tables[kRoute] = std::move(table);
  lists.end_round(), hosts.end_round(), routes.end_round();
  return {};
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
