// Services of the node's view (every host of every ServiceEntry that it may see) with their endpoints and identities.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

Service service_of(const Config& e, const std::string& host) {
  Service s{.host = host, .ns = e.ns, .external = e.spec()["location"].str() != "MESH_INTERNAL", .entry = &e};
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
  std::vector<std::pair<int, const Config*>> entries;
  for (const Config* e : v.world.of_kind("ServiceEntry")) {
    for (const std::string& host : e->spec()["hosts"].list()) v.all_services.push_back(service_of(*e, host));
    if (const auto r = visibility(*e, v.node.ns)) entries.emplace_back(*r, e);
  }
  std::ranges::stable_sort(entries, {}, &std::pair<int, const Config*>::first);
  for (const auto& [r, e] : entries)
    for (const std::string& host : e->spec()["hosts"].list()) v.services.push_back(service_of(*e, host));
  for (size_t i = 0; i < v.services.size(); i++) v.by_host.try_emplace(v.services[i].host, i);
}

const Service* View::service(const std::string& host, const std::string& ns) const {
  if (!ns.empty())
    for (const Service& s : services)
      if (s.host == host && s.ns == ns) return &s;
  const auto it = by_host.find(host);
  return it == by_host.end() ? nullptr : &services[it->second];
}

// Of all entries of the namespace that name the host: their own lists, the WorkloadEntries that they select, or, for DNS, the host itself.
std::vector<Endpoint> endpoints_of(const View& v, const Service& s, const ServicePort& port) {
  std::vector<Endpoint> out;
  const auto add = [&](Endpoint e, const Node& entry_port) {
    const Node& own = e.spec["ports"][port.name];
    e.port = uint32_t(own ? own.integer() : entry_port["targetPort"] ? entry_port["targetPort"].integer() : entry_port["number"].integer());
    out.push_back(std::move(e));
  };
  for (const Config* entry : v.world.of_kind("ServiceEntry")) {
    const Node& spec = entry->spec();
    if (entry->ns != s.ns || std::ranges::none_of(spec["hosts"].items, [&](const Node& h) { return h.str() == s.host; })) continue;
    const auto p = std::ranges::find_if(spec["ports"].items, [&](const Node& n) { return n["name"].str() == port.name; });
    if (p == spec["ports"].items.end() || s.resolution == "NONE") continue;
    for (const Node& e : spec["endpoints"].items) add(endpoint_of(e, null_node()), *p);
    if (spec["endpoints"].items.empty() && !spec["workloadSelector"] && s.resolution.starts_with("DNS") && !s.host.starts_with('*'))
      add(Endpoint{.spec = null_node(), .address = s.host}, *p);
    const Node& selector = spec["workloadSelector"]["labels"];
    if (!selector) continue;
    for (const Config* w : v.world.of_kind("WorkloadEntry")) {
      Endpoint e = endpoint_of(w->spec(), w->labels());
      if (w->ns != s.ns || !labels_within(selector, e.labels)) continue;
      e.workload = w->name, e.ns = w->ns;
      add(std::move(e), *p);
    }
  }
  return out;
}

// SPIFFE names of all endpoints, and what the entry says itself; with aliases of the trust domain each in all of them.
std::vector<std::string> identities_of(const View& v, const Service& s) {
  std::set<std::string> out;
  for (const Config* entry : v.world.of_kind("ServiceEntry"))
    if (entry->ns == s.ns && std::ranges::any_of(entry->spec()["hosts"].items, [&](const Node& h) { return h.str() == s.host; }))
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
