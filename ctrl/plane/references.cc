// What leads nowhere: Istio accepts it in silence; here it is a warning at its place. Nothing of it stops a directory from being served.
#include <algorithm>
#include <set>

#include "ctrl/plane/rules.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

struct Known {
  std::set<std::string> gateways, services;
  std::map<std::string, std::set<std::string>> subsets;  // by host of a DestinationRule
};

void check_destinations(const Known& k, const Node& n, const std::string& ns, std::vector<Issue>& issues) {
  for (size_t i = 0; i < n.items.size(); i++) {
    const Node& d = n.items[i];
    if (i < n.keys.size() && (n.keys[i].text == "destination" || n.keys[i].text == "mirror")) {
      const std::string host = full_host(d["host"].str(), ns);
      if (!k.services.contains(host)) {
        const std::string near = nearest(host, {k.services.begin(), k.services.end()});
        issues.push_back(issue_at(d["host"], "no ServiceEntry has the host " + host + "; requests will get 503",
                                  near.empty() ? "" : "did you mean " + near + "?", Severity::kWarning));
      } else if (d["subset"]) {
        const auto it = k.subsets.find(host);
        if (it == k.subsets.end() || !it->second.contains(d["subset"].str()))
          issues.push_back(issue_at(d["subset"],
                                    "no DestinationRule of " + host + " has the subset " + d["subset"].str() + "; requests will get 503",
                                    {}, Severity::kWarning));
      }
    }
    check_destinations(k, d, ns, issues);
  }
}

}  // namespace

void check_references(const World& w, std::vector<Issue>& issues) {
  Known k;
  for (const Config* c : w.of_kind("Gateway")) k.gateways.insert(c->ns + "/" + c->name);
  for (const Config* c : w.of_kind("ServiceEntry"))
    for (const Node& h : c->spec()["hosts"].items) k.services.insert(h.str());
  for (const Config* c : w.of_kind("DestinationRule"))
    for (const Node& s : c->spec()["subsets"].items) k.subsets[full_host(c->spec()["host"].str(), c->ns)].insert(s["name"].str());
  for (const Config* c : w.of_kind("VirtualService")) {
    if (c->derived) continue;  // their makers warned already
    for (const Node& g : c->spec()["gateways"].items) {
      const std::string name = g.str().find('/') == std::string::npos ? c->ns + "/" + g.str() : g.str();
      if (g.str() == "mesh" || k.gateways.contains(name)) continue;
      const std::string near = nearest(name, {k.gateways.begin(), k.gateways.end()});
      issues.push_back(issue_at(g, "there is no Gateway " + name, near.empty() ? "" : "did you mean " + near + "?", Severity::kWarning));
    }
    check_destinations(k, c->spec(), c->ns, issues);
  }
}

}  // namespace sluice::plane
