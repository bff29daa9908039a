// What leads nowhere: Istio accepts it in silence; here it is a warning at its place. Nothing of it stops a directory from being served.
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/known.h"
#include "ctrl/plane/rules.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

std::string meant(const std::string& near) { return near.empty() ? "" : "did you mean " + near + "?"; }
std::string or_else(std::string a, std::string b) { return a.empty() ? std::move(b) : std::move(a); }

struct Destinations {
  const Known& k;
  Warnings& out;
  const Config& c;

  void check(const Node& d, bool http) const {
    const std::string host = full_host(d["host"].str(), c.ns);
    const std::string becomes = http ? "requests will get 503" : "connections will be closed";
    const auto service = k.services.find(host);
    if (service == k.services.end())
      return out.add(c, d["host"], "unknown-service", "no ServiceEntry has the host " + host + "; " + becomes,
                     or_else(meant(k.nearest_of(host, k.services)), "add a ServiceEntry or a Service for it"));
    if (const Node& p = d["port"]["number"]; p && !service->second.ports.contains(p.str())) {
      std::string ports;
      for (const std::string& n : service->second.ports) ports += (ports.empty() ? "" : ", ") + n;
      out.add(c, p, "unknown-port", host + " has no port " + p.str() + "; " + becomes, "it has " + ports);
    }
    if (const Node& s = d["subset"]; s && !s.str().empty()) {
      const auto known = k.subsets.find(host);
      if (known != k.subsets.end() && known->second.contains(s.str())) return;
      std::string names;
      if (known != k.subsets.end())
        for (const std::string& n : known->second) names += (names.empty() ? "it has " : ", ") + n;
      out.add(c, s, "unknown-subset", "no DestinationRule of " + host + " has the subset " + s.str() + "; " + becomes,
              or_else(names, "add a DestinationRule with this subset"));
    }
  }
  void walk(const Node& n, bool http) const {
    for (size_t i = 0; i < n.items.size(); i++) {
      if (i < n.keys.size() && (n.keys[i].text == "destination" || n.keys[i].text == "mirror")) check(n.items[i], http);
      walk(n.items[i], http);
    }
  }
};

void check_delegates(const Known& k, const Config& c, std::unordered_set<std::string>& used, Warnings& out) {
  for (const Node& r : c.spec()["http"].items) {
    const Node& d = r["delegate"];
    if (d.null()) continue;
    const std::string name = (d["namespace"].str().empty() ? c.ns : d["namespace"].str()) + "/" + d["name"].str();
    const auto at = k.virtuals.find(name);
    used.insert(name);
    if (at == k.virtuals.end())
      out.add(c, d["name"], "unknown-delegate", "there is no VirtualService " + name + ": this route is left out",
              or_else(meant(k.nearest_of(name, k.virtuals)), "add it, without hosts"));
    else if (!at->second->spec()["hosts"].items.empty())
      out.add(c, d["name"], "unknown-delegate", "VirtualService " + name + " has hosts, so it is no delegate: this route is left out",
              "remove its spec.hosts and spec.gateways");
    else if (!visibility(*at->second, c.ns, k.world.mesh))
      out.add(c, d["name"], "unknown-delegate", "VirtualService " + name + " is not exported to " + c.ns + ": this route is left out",
              "add " + c.ns + " to its spec.exportTo");
  }
}

void check_gateways(const Known& k, const Config& c, Warnings& out) {
  for (const Node& g : c.spec()["gateways"].items) {
    const std::string name = full_gateway(g.str(), c.ns);
    if (g.str() == "mesh" || k.gateways.contains(name)) continue;
    std::string elsewhere;  // the same name in another namespace
    if (g.str().find('/') == std::string::npos)
      for (const KnownGateway* other : k.in_order)
        if (other->config->name == g.str() && !other->config->derived) elsewhere = other->name;
    out.add(c, g, "unknown-gateway", "there is no Gateway " + name,
            or_else(meant(or_else(elsewhere, k.nearest_of(name, k.gateways))), "add it, or name one that is there"));
  }
  if (gateways_of(c).empty())
    out.add(c, c.at(), "unbound-route", "this VirtualService names no Gateway: it is for sidecars, and changes nothing at a gateway",
            "add spec.gateways");
}

// Where a host is a service whose endpoints are all known, their labels; nothing: they are not.
std::optional<std::vector<Labels>> endpoints_known(const Known& k, const KnownService& s) {
  std::vector<Labels> out;
  for (const Config* e : s.entries) {
    const Node& spec = e->spec();
    for (const Node& x : spec["endpoints"].items) out.push_back(labels_of(x["labels"]));
    if (const Node& selector = spec["workloadSelector"]["labels"]; selector)
      if (const auto at = k.workloads.find(e->ns); at != k.workloads.end())
        for (const Labels& l : at->second)
          if (labels_within(selector, l)) out.push_back(l);
  }
  return out.empty() ? std::nullopt : std::optional(out);
}

void check_rule(const Known& k, const Config& c, Warnings& out) {
  const Node& s = c.spec();
  const std::string host = full_host(s["host"].str(), c.ns);
  if (host.starts_with('*')) {
    const bool any = std::ranges::any_of(k.services, [&](const auto& x) { return host_within(x.first, host); });
    if (!any)
      out.add(c, s["host"], "unknown-service", "no service has a host within " + host + ": this rule has no effect", "see spec.host");
    return;
  }
  const auto service = k.services.find(host);
  if (service == k.services.end())
    return out.add(c, s["host"], "unknown-service", "no ServiceEntry has the host " + host + ": this rule has no effect",
                   or_else(meant(k.nearest_of(host, k.services)), "add a ServiceEntry or a Service for it"));
  for (const Node& p : s["trafficPolicy"]["portLevelSettings"].items)
    if (const Node& n = p["port"]["number"]; n && !service->second.ports.contains(n.str()))
      out.add(c, n, "unknown-port", host + " has no port " + n.str() + ": these settings have no effect", "see the service's ports");
  const auto known = endpoints_known(k, service->second);
  if (!known) return;
  for (const Node& subset : s["subsets"].items)
    if (std::ranges::none_of(*known, [&](const Labels& l) { return labels_within(subset["labels"], l); }))
      out.add(c, subset["labels"], "empty-subset",
              "no endpoint of " + host + " has these labels: requests for the subset " + subset["name"].str() + " will get 503",
              "compare with the labels of the service's endpoints");
}

void check_entry(const Known& k, const Config& c, Warnings& out) {
  const Node& s = c.spec();
  const std::string resolution = s["resolution"].null() ? "NONE" : s["resolution"].str();
  if (resolution == "STATIC" && s["endpoints"].items.empty() && !s["workloadSelector"])
    return out.add(c, s["resolution"], "no-endpoints", "resolution STATIC without endpoints: requests will get 503",
                   "add spec.endpoints or spec.workloadSelector, or use resolution DNS");
  if (const Node& selector = s["workloadSelector"]["labels"]; selector) {
    const auto at = k.workloads.find(c.ns);
    if (at == k.workloads.end() || std::ranges::none_of(at->second, [&](const Labels& l) { return labels_within(selector, l); }))
      out.add(c, selector, "empty-selector", "no WorkloadEntry of namespace " + c.ns + " has these labels: requests will get 503",
              "add a WorkloadEntry, or compare the labels with those that are there");
  }
}

// MeshConfig is known only where it was given.
void check_providers(const Known& k, const Config& c, Warnings& out) {
  const Mesh& mesh = k.world.mesh;
  if (mesh.source == nullptr) return;
  const auto known = [&](const Node& name) {
    return std::ranges::any_of(mesh.providers(), [&](const Node& p) { return p["name"].str() == name.str(); });
  };
  if (c.kind == "AuthorizationPolicy") {
    if (const Node& name = c.spec()["provider"]["name"]; name && !known(name))
      out.add(c, name, "unknown-provider", "MeshConfig has no extension provider " + name.str() + ": what the rules match is refused",
              "add it to extensionProviders");
    return;
  }
  for (const Node& item : c.spec()["accessLogging"].items)
    for (const Node& p : item["providers"].items)
      if (p["name"].str() != "envoy" && !known(p["name"]))
        out.add(c, p["name"], "unknown-provider", "MeshConfig has no extension provider " + p["name"].str() + ": nothing is logged by it",
                "add it to extensionProviders");
}

}  // namespace

void check_destinations(const Known& k, Warnings& out) {
  std::unordered_set<std::string> delegated;
  for (const Config* c : k.world.of_kind("VirtualService")) {
    if (c->derived) continue;  // their makers warned already
    if (!c->spec()["hosts"].items.empty()) check_gateways(k, *c, out);
    check_delegates(k, *c, delegated, out);
    const Destinations d{k, out, *c};
    d.walk(c->spec()["http"], true);
    d.walk(c->spec()["tls"], false);
    d.walk(c->spec()["tcp"], false);
  }
  for (const Config* c : k.world.of_kind("VirtualService"))
    if (!c->derived && c->spec()["hosts"].items.empty() && !delegated.contains(c->ns + "/" + c->name))
      out.add(*c, c->at(), "unused-delegate", "no VirtualService delegates to this one, and it has no hosts: it changes nothing",
              "add spec.hosts and spec.gateways, or a route with delegate");
  for (const Config* c : k.world.of_kind("DestinationRule"))
    if (!c->derived) check_rule(k, *c, out);
  for (const Config* c : k.world.of_kind("ServiceEntry"))
    if (!c->derived) check_entry(k, *c, out);
  for (const char* kind : {"AuthorizationPolicy", "Telemetry"})
    for (const Config* c : k.world.of_kind(kind)) check_providers(k, *c, out);
}

void check_references(const World& w, std::vector<Issue>& issues, const CheckOptions& options) {
  const Known k(w, options);
  Warnings out(w, issues);
  check_destinations(k, out);
  check_hosts(k, out);
  check_reach(k, out);
  check_selectors(k, out);
  check_policies(k, out);
  check_certificates(k, out);
  out.finish();
}

}  // namespace sluice::plane
