// Services of the node's view (every host of every ServiceEntry that it may see) with their endpoints and identities.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

Service service_of(const Config& e, const std::string& host) {
  Service s{.host = host, .ns = e.ns, .external = e.spec()["location"].str() != "MESH_INTERNAL", .entry = &e, .key = e.ns + "/" + host};
  s.resolution = e.spec()["resolution"].null() ? "NONE" : e.spec()["resolution"].str();
  for (const Node& p : e.spec()["ports"].items) {
    const uint32_t number = uint32_t(p["number"].integer());
    s.ports.push_back(
        {number, p["name"].str(), upper(p["protocol"].str()), p["targetPort"] ? uint32_t(p["targetPort"].integer()) : number});
  }
  return s;
}

void add_labels(const Node& from, std::map<std::string, std::string>& to) {
  for (size_t i = 0; i < from.keys.size(); i++) to[from.keys[i].text] = from.items[i].text;
}

Endpoint endpoint_of(const Node& spec, const Node& metadata_labels) {
  Endpoint e{.spec = spec, .address = spec["address"].str(), .locality = spec["locality"].str()};
  add_labels(spec["labels"], e.labels);
  add_labels(metadata_labels, e.labels);  // of a WorkloadEntry these come first
  const auto mode = e.labels.find("security.istio.io/tlsMode");
  if (mode != e.labels.end()) e.tls_mode = mode->second;
  else if (!spec["serviceAccount"].str().empty()) e.tls_mode = "istio";
  return e;
}

}  // namespace

void add_services(View& v) {
  std::vector<std::pair<int, const ViewParts::Entry*>> seen;
  const size_t many = v.world.of_kind("ServiceEntry").size();
  v.entries.reserve(many), v.by_host.reserve(many), v.by_ns_host.reserve(many), seen.reserve(many);
  for (const Config* e : v.world.of_kind("ServiceEntry")) {
    const auto& entry = v.parts->entries.get(memo_name(*e), Fingerprint().add(e->shape), [&] {
      ViewParts::Entry made{.owner = e->shared_from_this(), .services = {}};
      for (const Node& host : e->spec()["hosts"].items) made.services.push_back(service_of(*e, host.str()));
      return made;
    });
    for (const Service& s : entry.services) {
      v.all_services.push_back(&s);
      v.entries[s.key].push_back(e);
    }
    if (const auto r = visibility(*e, v.node.ns)) seen.emplace_back(*r, &entry);
  }
  std::ranges::stable_sort(seen, {}, &std::pair<int, const ViewParts::Entry*>::first);
  for (const auto& [r, entry] : seen)
    for (const Service& s : entry->services) {
      v.services.push_back(&s);
      v.by_host.try_emplace(s.host, &s);
      v.by_ns_host.try_emplace(s.key, &s);
    }
  for (const Config* w : v.world.of_kind("WorkloadEntry")) v.workloads[w->ns].push_back(w);
}

const Service* View::service(const std::string& host, const std::string& ns) const {
  if (!ns.empty())
    if (const auto it = by_ns_host.find(ns + "/" + host); it != by_ns_host.end()) return it->second;
  const auto it = by_host.find(host);
  return it == by_host.end() ? nullptr : it->second;
}

std::span<const Config* const> View::entries_of(const Service& s) const {
  const auto it = entries.find(s.key);
  return it == entries.end() ? std::span<const Config* const>() : it->second;
}

// Of all entries of the namespace that name the host: their own lists, the WorkloadEntries that they select, or, for DNS, the host itself.
std::vector<Endpoint> endpoints_of(const View& v, const Service& s, const ServicePort& port) {
  std::vector<Endpoint> out;
  const auto add = [&](Endpoint e, const Node& entry_port) {
    const Node& own = e.spec["ports"][port.name];
    e.port = uint32_t(own ? own.integer() : entry_port["targetPort"] ? entry_port["targetPort"].integer() : entry_port["number"].integer());
    out.push_back(std::move(e));
  };
  for (const Config* entry : v.entries_of(s)) {
    const Node& spec = entry->spec();
    const auto p = std::ranges::find_if(spec["ports"].items, [&](const Node& n) { return n["name"].str() == port.name; });
    if (p == spec["ports"].items.end() || s.resolution == "NONE") continue;
    for (const Node& e : spec["endpoints"].items) add(endpoint_of(e, null_node()), *p);
    if (spec["endpoints"].items.empty() && !spec["workloadSelector"] && s.resolution.starts_with("DNS") && !s.host.starts_with('*'))
      add(Endpoint{.spec = null_node(), .address = s.host}, *p);
    const Node& selector = spec["workloadSelector"]["labels"];
    if (!selector) continue;
    const auto workloads = v.workloads.find(s.ns);
    if (workloads == v.workloads.end()) continue;
    for (const Config* w : workloads->second) {
      Endpoint e = endpoint_of(w->spec(), w->labels());
      if (!labels_within(selector, e.labels)) continue;
      e.workload = w->name, e.ns = w->ns;
      add(std::move(e), *p);
    }
  }
  return out;
}

// SPIFFE names of all endpoints, and what the entry says itself; with aliases of the trust domain each in all of them.
std::vector<std::string> identities_of(const View& v, const Service& s) {
  std::set<std::string> out;
  for (const Config* entry : v.entries_of(s))
    for (const std::string& n : entry->spec()["subjectAltNames"].list()) out.insert(n);
  const Mesh& mesh = v.world.mesh;
  for (const ServicePort& p : s.ports)
    for (const Endpoint& e : endpoints_of(v, s, p))
      if (const std::string& account = e.spec["serviceAccount"].str(); !account.empty()) {
        const std::string tail = "/ns/" + s.ns + "/sa/" + account;
        out.insert("spiffe://" + mesh.trust_domain + tail);
        for (const std::string& alias : mesh.trust_domain_aliases) out.insert("spiffe://" + alias + tail);
      }
  return {out.begin(), out.end()};
}

}  // namespace sluice::plane
