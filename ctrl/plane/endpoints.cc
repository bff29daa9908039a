// The endpoints of a cluster by locality: an EDS answer, or inside of a cluster that resolves names.
#include "ctrl/plane/endpoints.h"

#include <algorithm>

namespace sluice::plane {
namespace {

const std::string& label(const std::map<std::string, std::string>& labels, std::initializer_list<const char*> names) {
  for (const char* n : names)
    if (const auto at = labels.find(n); at != labels.end()) return at->second;
  return null_node().text;
}

struct Group {
  uint64_t weight = 0;
  uint32_t priority = 0;
  std::string locality;
  std::vector<std::pair<Endpoint, Json>> endpoints;
};

std::vector<std::string> parts(const std::string& locality) {
  std::vector<std::string> out(3);
  size_t at = 0;
  for (std::string& part : out) {
    if (at > locality.size()) break;
    const size_t end = std::min(locality.find('/', at), locality.size());
    part = locality.substr(at, end - at);
    at = end + 1;
  }
  return out;
}

Json locality_json(const std::string& locality) {
  Object o;
  const auto p = parts(locality);
  for (const auto& [i, name] : {std::pair(0, "region"), std::pair(1, "zone"), std::pair(2, "subZone")})
    o.set_if(!p[size_t(i)].empty(), name, p[size_t(i)]);
  return o;
}

// "eu/eu-1/*" takes what begins so; "*" takes all.
bool locality_matches(const std::string& pattern, const std::string& locality) {
  const auto p = parts(pattern), l = parts(locality);
  for (size_t i = 0; i < 3; i++) {
    if (p[i] == "*") return true;
    if (p[i] != l[i]) return p[i].empty();
  }
  return true;
}

// Labels that Istio knows of a workload besides its own.
std::map<std::string, std::string> with_topology(std::map<std::string, std::string> labels, const std::string& cluster,
                                                 const std::string& locality, const std::string& network) {
  const auto p = parts(locality);
  for (const auto& [key, value] : {std::pair<const char*, std::string>("topology.kubernetes.io/region", p[0]),
                                   {"topology.kubernetes.io/zone", p[1]},
                                   {"topology.istio.io/subzone", p[2]},
                                   {"topology.istio.io/cluster", cluster},
                                   {"topology.istio.io/network", network}})
    if (!value.empty()) labels.try_emplace(key, value);
  return labels;
}

void close_gaps(std::vector<Group>& groups) {
  std::map<uint32_t, uint32_t> used;
  for (const Group& g : groups) used[g.priority] = 0;
  uint32_t next = 0;
  for (auto& [from, to] : used) to = next++;
  for (Group& g : groups) g.priority = used[g.priority];
}

void distribute(const Node& to, std::vector<Group>& groups) {
  std::vector<bool> taken(groups.size());
  for (size_t i = 0; i < to.keys.size(); i++) {
    uint64_t sum = 0;
    std::vector<size_t> members;
    for (size_t k = 0; k < groups.size(); k++)
      if (!taken[k] && locality_matches(to.keys[i].text, groups[k].locality)) members.push_back(k), sum += groups[k].weight;
    for (const size_t k : members) {
      taken[k] = true;
      const uint64_t share = (uint64_t(to.items[i].integer()) * groups[k].weight + sum - 1) / sum;
      if (share > 0) groups[k].weight = share;
    }
  }
  for (size_t k = 0; k < groups.size(); k++)
    if (!taken[k]) groups[k].endpoints.clear();
}

// By labels in order of importance: an endpoint's priority is the first label that differs from the gateway's (all equal: 0).
std::vector<Group> by_labels(const View& v, const Node& labels, const std::vector<Group>& groups) {
  const auto own = with_topology(v.node.labels, v.node.cluster_id, v.node.locality, "");
  std::vector<Group> out;
  for (const Group& g : groups) {
    std::map<uint32_t, Group> split;
    for (const auto& [e, json] : g.endpoints) {
      const auto theirs = with_topology(e.labels, v.node.cluster_id, e.locality, e.spec["network"].str());
      uint32_t priority = 0;
      for (size_t i = 0; i < labels.items.size() && priority == 0; i++) {
        const std::string& text = labels.items[i].str();
        const size_t equals = text.find('=');
        const std::string key = text.substr(0, equals);
        const std::string want = equals != std::string::npos ? text.substr(equals + 1) : label(own, {key.c_str()});
        if (want != label(theirs, {key.c_str()})) priority = uint32_t(labels.items.size() - i);
      }
      Group& to = split.try_emplace(priority, Group{.priority = priority, .locality = g.locality, .endpoints = {}}).first->second;
      to.weight += e.spec["weight"].integer() > 0 ? uint64_t(e.spec["weight"].integer()) : 1;
      to.endpoints.emplace_back(e, json);
    }
    for (auto& [p, group] : split) out.push_back(std::move(group));
  }
  close_gaps(out);
  return out;
}

void by_nearness(const std::string& own, const Node& failover, std::vector<Group>& groups) {
  const auto here = parts(own);
  for (Group& g : groups) {
    const auto there = parts(g.locality);
    uint32_t p = there[0] != here[0] ? 3 : there[1] != here[1] ? 2 : there[2] != here[2] ? 1 : 0;
    if (p == 3)
      for (const Node& f : failover.items)
        if (f["from"].str() == here[0]) {
          if (f["to"].str() != there[0]) p = 4;
          break;
        }
    g.priority = g.priority * 5 + p;
  }
  close_gaps(groups);
}

void balance(const View& v, const Policy& policy, bool resolves_names, std::vector<Group>& groups) {
  bool off = false;
  const Node& setting = locality_setting(policy, v.world.mesh, off);
  if (off) return;
  if (!setting["distribute"].items.empty()) {
    for (const Node& d : setting["distribute"].items)
      if (locality_matches(d["from"].str(), v.node.locality)) return distribute(d["to"], groups);
    return;
  }
  if (!*policy.outliers) return;  // without detection Envoy would never leave a priority
  const Node& labels = setting["failoverPriority"];
  if (!labels.items.empty() && !resolves_names && !v.node.labels.empty()) groups = by_labels(v, labels, groups);
  if (labels.items.empty() || !setting["failover"].items.empty()) by_nearness(v.node.locality, setting["failover"], groups);
}

// DestinationRule before labels before PeerAuthentication.
bool mtls_possible(const View& v, const Config* rule, const Service& s, const ServicePort& p, const Endpoint& e) {
  const auto mode_of = [&](const Node& policy) -> const Node* {
    for (const Node& port : policy["portLevelSettings"].items)
      if (port["port"]["number"].integer() == p.number && port["tls"]) return &port["tls"];
    return policy["tls"] ? &policy["tls"] : nullptr;
  };
  const Node* tls = rule == nullptr ? nullptr : mode_of(rule->spec()["trafficPolicy"]);
  if (rule != nullptr)
    for (const Node& subset : rule->spec()["subsets"].items)
      if (labels_within(subset["labels"], e.labels))
        if (const Node* own = mode_of(subset["trafficPolicy"])) tls = own;
  if (tls != nullptr) return (*tls)["mode"].str() == "ISTIO_MUTUAL";
  return e.tls_mode == "istio" && peer_mode(v, s.ns, e.labels, e.port) != PeerMode::kDisable;
}

Json endpoint_json(const View& v, const Endpoint& e, bool mtls) {
  Object filters;
  if (mtls && e.tls_mode != "disabled" && !e.tls_mode.empty()) filters.set("envoy.transport_socket_match", Object{{"tlsMode", e.tls_mode}});
  const std::string workload =
      e.workload + ";" + e.ns + ";" + label(e.labels, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"}) + ";" +
      label(e.labels, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}) + ";" + v.node.cluster_id;
  filters.set("istio", Object{{"workload", workload}});
  const Json address = e.address.starts_with("unix://")
                           ? Json(Object{{"pipe", Object{{"path", e.address.substr(7)}}}})
                           : Json(Object{{"socketAddress", Object{{"address", e.address}, {"portValue", e.port}}}});
  return Object{{"endpoint", Object{{"address", address}}},
                {"metadata", Object{{"filterMetadata", filters}}},
                {"loadBalancingWeight", e.spec["weight"].integer() > 0 ? e.spec["weight"].integer() : int64_t(1)}};
}

}  // namespace

Object assignment(const View& v, const Service& s, const ServicePort& p, const Config* rule, const Node& subset, const std::string& name,
                  bool only_mtls) {
  std::vector<Group> groups;
  for (Endpoint& e : endpoints_of(v, s, p)) {
    if (!labels_within(subset["labels"], e.labels)) continue;
    const bool mtls = mtls_possible(v, rule, s, p, e);
    if (only_mtls && !mtls) continue;
    auto g = std::ranges::find(groups, e.locality, &Group::locality);
    if (g == groups.end()) g = groups.insert(groups.end(), Group{.locality = e.locality, .endpoints = {}});
    g->weight += e.spec["weight"].integer() > 0 ? uint64_t(e.spec["weight"].integer()) : 1;
    g->endpoints.emplace_back(e, endpoint_json(v, e, mtls));
  }
  std::ranges::stable_sort(groups, {}, &Group::locality);
  balance(v, policy_of(rule, subset, p.number), s.resolution.starts_with("DNS"), groups);
  Array out;
  for (const Group& g : groups) {
    Array endpoints;
    for (const auto& [e, json] : g.endpoints) endpoints.add(json);
    Object group{{"locality", locality_json(g.locality)}};
    group.set_if(!endpoints.empty(), "lbEndpoints", endpoints).set("loadBalancingWeight", g.weight);
    out.add(group.set_if(g.priority != 0, "priority", g.priority));
  }
  Object a{{"clusterName", name}};
  return a.set_if(!out.empty(), "endpoints", out);
}

}  // namespace sluice::plane
