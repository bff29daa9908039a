// PeerAuthentication as far as a gateway hears of it: whether the far end takes mTLS. The oldest of a scope holds; a port before its
// workload before its namespace before the mesh.
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

PeerMode mode_of(const Node& mtls, PeerMode otherwise) {
  const std::string& m = mtls["mode"].str();
  return m == "DISABLE" ? PeerMode::kDisable : m == "STRICT" ? PeerMode::kStrict : m == "PERMISSIVE" ? PeerMode::kPermissive : otherwise;
}

const std::vector<const Config*>& policies_of(const View& v, const std::string& ns) {
  static const std::vector<const Config*> kNone;
  const auto at = v.peer_policies.find(ns);
  return at == v.peer_policies.end() ? kNone : at->second;
}

const Config* first_of(const View& v, const std::string& ns) {
  for (const Config* c : policies_of(v, ns))
    if (c->spec()["selector"]["matchLabels"].keys.empty()) return c;
  return nullptr;
}

}  // namespace

PeerMode peer_mode(const View& v, const std::string& ns) {
  PeerMode mode = PeerMode::kPermissive;
  if (const Config* mesh = first_of(v, v.world.mesh.root_namespace)) mode = mode_of(mesh->spec()["mtls"], mode);
  if (const Config* own = first_of(v, ns)) mode = mode_of(own->spec()["mtls"], mode);
  return mode;
}

PeerMode peer_mode(const View& v, const std::string& ns, const std::map<std::string, std::string>& labels, uint32_t port) {
  const PeerMode of_namespace = peer_mode(v, ns);
  for (const Config* c : policies_of(v, ns)) {
    const Node& selector = c->spec()["selector"]["matchLabels"];
    if (selector.keys.empty() || !labels_within(selector, labels)) continue;
    const PeerMode workload = mode_of(c->spec()["mtls"], of_namespace);
    return mode_of(c->spec()["portLevelMtls"][std::to_string(port)], workload);
  }
  return of_namespace;
}

}  // namespace sluice::plane
