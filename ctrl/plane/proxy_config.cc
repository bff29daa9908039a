// The ProxyConfig that holds for a node (of mesh.v1alpha1, not the kind of that name): what the node says itself in its metadata
// PROXY_CONFIG, else MeshConfig.defaultConfig. Here what of it reaches a gateway's HTTP connection manager.
#include "ctrl/plane/view.h"

namespace sluice::plane {

const Node& proxy_config(const View& v) {
  return v.node.proxy_config != nullptr ? *v.node.proxy_config : v.world.mesh.config["defaultConfig"];
}

void add_topology(const View& v, Object& manager) {
  const Node& topology = proxy_config(v)["gatewayTopology"];
  if (const Node& hops = topology["numTrustedProxies"]; hops.integer() > 0) manager.set("xffNumTrustedHops", hops.integer());
  const std::string& said = topology["forwardClientCertDetails"].str();
  const std::string details = said.empty() || said == "UNDEFINED" ? "SANITIZE_SET" : said;
  manager.set("forwardClientCertDetails", details);
  if (details == "SANITIZE_SET" || details == "APPEND_FORWARD")
    manager.set("setCurrentClientCertDetails", Object{{"subject", true}, {"cert", true}, {"dns", true}, {"uri", true}});
}

void add_proxy_headers(const View& v, Object& manager) {
  const Node& h = proxy_config(v)["proxyHeaders"];
  const Node& server = h["server"];
  if (server["disabled"].boolean()) manager.set("serverHeaderTransformation", "PASS_THROUGH");
  else manager.set("serverName", server["value"].str().empty() ? "istio-envoy" : server["value"].str());
  if (h["requestId"]["disabled"].boolean()) manager.set("generateRequestId", false);
  if (h["xForwardedPort"]["enabled"].boolean()) manager.set("appendXForwardedPort", true);
}

bool counts_attempts(const View& v) { return !proxy_config(v)["proxyHeaders"]["attemptCount"]["disabled"].boolean(); }
bool hides_envoy_headers(const View& v) { return proxy_config(v)["proxyHeaders"]["envoyDebugHeaders"]["disabled"].boolean(); }
bool exchanges_in_mesh_only(const View& v) { return proxy_config(v)["proxyHeaders"]["metadataExchangeHeaders"]["mode"].str() == "IN_MESH"; }
bool reads_proxy_protocol(const View& v) { return proxy_config(v)["gatewayTopology"].has("proxyProtocol"); }

}  // namespace sluice::plane
