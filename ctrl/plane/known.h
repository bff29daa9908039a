// What a directory knows of itself, indexed once for the checks that look beyond one object (references.cc and its parts), and where
// they put their warnings. All of them are pure functions of a World and warn of nothing that the directory cannot know: which labels a
// workload has besides those that a Gateway or Service selects by, for one. Their cost is linear in the directory. Inside of ctrl/plane.
#pragma once
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "ctrl/plane/condition.h"
#include "ctrl/plane/world.h"

namespace sluice::plane {

using Labels = std::map<std::string, std::string>;
Labels labels_of(const Node& map);

// Host names, some with a wildcard in front, of which one asks whether any has a name in common with another.
class HostSet {
 public:
  void add(std::string_view host);
  bool overlaps(std::string_view host) const;
  bool empty() const { return !any_ && exact_.empty() && wild_.empty(); }

 private:
  bool any_ = false;
  std::unordered_set<std::string> exact_, wild_, below_;  // wild_: ".example.com"; below_: what the others end with
};

// What becomes of a connection to a server of a Gateway.
enum class Serves : uint8_t { kHttp, kTcp, kTls, kAuto };  // kTls: passed on by its SNI; kAuto: AUTO_PASSTHROUGH
constexpr size_t kServes = 4;

struct KnownServer {
  const Node* node = nullptr;
  uint32_t port = 0;
  Serves serves = Serves::kHttp;
  std::vector<std::pair<std::string, std::string>> hosts;  // namespace ("*": any), name
};
struct KnownGateway {
  const Config* config = nullptr;
  std::string name;  // "ns/name"
  std::vector<KnownServer> servers;
  std::map<std::string, HostSet> hosts[kServes];  // by namespace
  std::set<uint32_t> ports[kServes];              // that clients name, and that workloads open
  std::vector<Labels> workloads;                  // of those that serve it, as far as known
  std::vector<std::string> namespaces;            // of the same; "": not known
  std::vector<const Config*> bound;               // VirtualServices, in Istio's order
  bool serves_host(std::string_view host, const std::string& ns, Serves how) const;
  bool serves_host(std::string_view host, const std::string& ns) const;
  bool serves_any(Serves how) const { return !ports[size_t(how)].empty(); }
};

struct KnownService {
  std::vector<const Config*> entries;
  std::set<std::string> ports;  // numbers
};

struct Known {
  Known(const World& w, const CheckOptions& o);
  const World& world;
  const CheckOptions& options;
  std::unordered_map<std::string, KnownGateway> gateways;  // by "ns/name"
  std::vector<KnownGateway*> in_order;
  std::unordered_map<std::string, KnownService> services;          // by host
  std::unordered_map<std::string, std::set<std::string>> subsets;  // by host of a DestinationRule
  std::unordered_map<std::string, const Config*> virtuals;         // by "ns/name"
  std::unordered_map<std::string, std::vector<Labels>> workloads;  // by namespace: of WorkloadEntries
  std::unordered_map<std::string, std::set<Labels>> endpoints;     // by namespace: of ServiceEntries' own
  std::unordered_map<std::string, std::set<Labels>> selected;      // by namespace: that Services select by
  bool routes_patched = false;                                     // an EnvoyFilter may add hosts and routes that nothing here knows

  std::string nearest_of(const std::string& word, const auto& names) const {
    if (nearest_left == 0) return {};
    nearest_left--;
    std::vector<std::string_view> list;
    list.reserve(names.size());
    for (const auto& [name, value] : names)
      if (name.size() + 2 >= word.size() && word.size() + 2 >= name.size()) list.push_back(name);
    return nearest(word, list);
  }
  mutable int nearest_left = 50;  // it looks at every name: not for each of 10,000 mistakes
};

std::vector<std::string> hosts_of(const Config& virtual_service);     // full names
std::vector<std::string> gateways_of(const Config& virtual_service);  // "ns/name", without "mesh"
bool names_mesh(const Config& virtual_service);

// The Gateways whose workloads a policy may select: all that nothing rules out, and of them those that it surely selects.
struct Selection {
  std::vector<const KnownGateway*> possible, sure;
  bool others = false;   // it selects workloads of the directory that are no gateways
  bool selected = true;  // false: nothing that the directory knows
};
Selection selection_of(const Known& k, const Config& policy);
const Node& selector_of(const Config& policy);  // the labels, null: none

class Warnings {
 public:
  Warnings(const World& w, std::vector<Issue>& issues) : world_(w), issues_(issues), first_(issues.size()) {}
  void add(const Config& c, const Node& at, std::string_view rule, std::string message, std::string remedy);
  void finish();  // names their fields, and those of issues that others left without

 private:
  const World& world_;
  std::vector<Issue>& issues_;
  const size_t first_;
  std::vector<const Config*> of_;
};

// The parts, one file each.
void check_destinations(const Known& k, Warnings& out);  // references.cc: gateways, services, subsets, ports, delegates that are not there
void check_hosts(const Known& k, Warnings& out);  // served.cc: hosts that no Gateway serves, wrong kinds of routes, servers that give way
void check_reach(const Known& k, Warnings& out);  // reach.cc: routes that another one shadows, matches that nothing meets
void check_selectors(const Known& k, Warnings& out);     // selectors.cc: selectors that match nothing
void check_policies(const Known& k, Warnings& out);      // policies.cc: paths, hosts and ports that no route has; HTTP on TCP ports
void check_certificates(const Known& k, Warnings& out);  // certificates.cc: ended, not begun, for other hosts, without their key

}  // namespace sluice::plane
