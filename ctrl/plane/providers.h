// MeshConfig.extensionProviders by name, and the Telemetry objects that hold for a node. Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/view.h"

namespace sluice::plane {

struct Provider {
  std::string kind;  // the field that says what it is: "zipkin", "prometheus", ...
  const Node* config = &null_node();
};
// Names are compared without their case; "envoy" and "prometheus" are there without being said.
std::optional<Provider> find_provider(const Mesh& mesh, std::string_view name);
// "NS/HOST" or "HOST": the first that the mesh has, or null.
const Service* provider_service(const View& v, const std::string& name);
// Widest first: the root namespace's, the node's namespace's, those that select the node.
std::vector<const Config*> telemetry_scopes(const View& v);

}  // namespace sluice::plane
