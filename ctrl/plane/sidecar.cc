// Sidecar, for those that are told of it: a Node with GENERATOR: grpc sees the services that the egress listeners of its Sidecar name. The
// Sidecar of a node is the first of its namespace that selects it by labels, else the first of the namespace without a selector, else the
// root namespace's without one; without any, or without egress, it sees the mesh. A gateway always does (istiod's getSidecarScope).
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {

EgressScope::EgressScope(const View& v) : own_ns_(v.node.ns) {
  const Config *selecting = nullptr, *general = nullptr, *root = nullptr;
  for (const Config* c : v.world.of_kind("Sidecar")) {
    const Node& labels = c->spec()["workloadSelector"]["labels"];
    const bool selects = !labels.keys.empty();
    if (c->ns == own_ns_ && selects && selecting == nullptr && labels_within(labels, v.node.labels)) selecting = c;
    if (c->ns == own_ns_ && !selects && general == nullptr) general = c;
    if (c->ns == v.world.mesh.root_namespace && !selects && root == nullptr) root = c;
  }
  const Config* c = selecting != nullptr ? selecting : general != nullptr ? general : root;
  if (c == nullptr || c->spec()["egress"].items.empty()) return;
  all_ = false;
  for (const Node& listener : c->spec()["egress"].items)
    for (const std::string& h : listener["hosts"].list()) hosts_.push_back(h);
}

bool EgressScope::has(const Service& s) const {
  return all_ || std::ranges::any_of(hosts_, [&](const std::string& h) {
           const size_t slash = h.find('/');
           const std::string ns = h.substr(0, slash);
           return (ns == "*" || s.ns == (ns == "." ? own_ns_ : ns)) && host_within(s.host, h.substr(slash + 1));
         });
}

}  // namespace sluice::plane
