// The Kubernetes Gateway API from files: GatewayClass, Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant, BackendTLSPolicy
// (standard channel 1.4, TLSRoute and TCPRoute of the experimental one), and of the core kinds what they refer to: Service, Secret,
// ConfigMap, Namespace. What Istio 1.29 makes of them is made of them: Gateways, VirtualServices and DestinationRules, with Istio's names,
// which the translation then takes as if they had been written; and their status, with Istio's conditions, reasons and messages.
//   gateway_api_schema.inc (every field) -> gateway_api_rules.cc (what holds between fields) -> gateway_api_world.h (references resolved)
//   -> gateway_api_listeners.cc, gateway_api_routes.cc, gateway_api_policies.cc -> gateway_api_status.cc, gateway_api_derive.cc (into the
//   translation).
// docs/gateway-api.md lists every field with its verdict. Not here: provisioning (no Deployment or Service is made of a Gateway),
// ListenerSet, InferencePool's endpoint picker. Thread: any; everything is pure.
#pragma once
#include <span>

#include "ctrl/plane/translate.h"

namespace sluice::plane {

struct View;

// A Gateway of Kubernetes; Istio's is "Gateway".
inline constexpr std::string_view kKubernetesGateway = "KubernetesGateway";

// Whether the document is one of these kinds, by its apiVersion's group.
bool is_gateway_api(const Node& document);
// As read_object (object.h) does for Istio's kinds.
std::shared_ptr<Config> read_gateway_api(Node document, std::vector<Issue>& issues);

// What Istio makes of Services (ServiceEntries), and then of the Gateway API objects of a world that has them; `warnings` are the
// conditions that are not as wished, at their places. Configs without id and order: those are Directory's to give.
struct GatewayApi {
  std::vector<Config> configs;
  std::vector<Issue> warnings;
};
GatewayApi translate_services(const World& world);
GatewayApi translate_gateway_api(const World& world);
std::string object_yaml(const Config& c);  // of one of its configs

// The status of one object, as it would stand in it.
struct ObjectStatus {
  std::string api_version, kind, name, ns;  // ns: "" for a GatewayClass
  Node status;
  std::string file_name() const;  // kind.ns.name.yaml
  std::string yaml() const;       // the object with its status and nothing else
};
// Gateways that acknowledged this version of the world, as they say of themselves: a Gateway is programmed once one of those that serve it
// is among them.
std::vector<ObjectStatus> gateway_api_status(const World& world, std::span<const NodeInfo> acknowledged);
// What `sluicectl status` shows of them: a line an object, listener and parent, what is not as wished with its reason; "" where there are
// none.
std::string gateway_api_text(std::span<const ObjectStatus> all);
std::string gateway_api_json(std::span<const ObjectStatus> all);  // a list of the objects with their status

// Where the translation treats what was derived differently from what was written.
// Of an Istio Gateway that was made of a Kubernetes one: whether `node` is one of the workloads of its services, and the port on which that
// workload listens for the service's port (0: it has no such port).
bool is_of_gateway_api(const Config& gateway);
bool serves(const Config& gateway, const NodeInfo& node);
uint32_t workload_port(const Config& gateway, const NodeInfo& node, uint32_t service_port);
// Whether a VirtualService has the Gateway API's semantics: a prefix ends at a path segment, a backend that is not there is a 500.
bool has_gateway_semantics(const Config& virtual_service);
// The TLS that a BackendTLSPolicy asks for the port of a host, whatever else a DestinationRule says; null: none. And its transport socket.
const Node& backend_tls(const View& v, const std::string& host, uint32_t port);
Json backend_tls_socket(const Node& tls, bool http2);

}  // namespace sluice::plane
