// Istio objects to Envoy resources, as istiod 1.29 does it for a gateway: names, order, defaults. Resources are built as protojson, the form in
// which istiod's recorded answers are compared, and turned into messages once (resources.cc). Pure; thread: any.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "ctrl/plane/model.h"

namespace sluice::plane {

using json = nlohmann::json;

// Who asks: what istiod reads of an Envoy Node.
struct NodeInfo {
  std::string id, ns = "default", cluster_id = "Kubernetes", mesh_id = "cluster.local", service_account;
  std::map<std::string, std::string> labels;
};
NodeInfo node_of(const json& node);  // an envoy.config.core.v3.Node as JSON

struct Options {
  bool deny_by_default = true;  // --authorization-default: an ALLOW policy that allows nothing stands in the root namespace
};

// By kind, each sorted by name.
struct Resources {
  std::vector<json> cds, eds, lds, rds;
};
Resources translate(const World& world, const NodeInfo& node, const Options& options);

// ---- between the parts

struct Service {  // one host of a ServiceEntry
  std::string host, ns;
  const Object* entry = nullptr;
};
struct Translation {
  const World& world;
  const NodeInfo& node;
  const Options& options;
  std::map<std::string, Service> services;             // by host
  std::map<std::string, const Object*> rules;          // DestinationRule by host
  std::vector<const Object*> gateways;                 // that select this node
  explicit Translation(const World& w, const NodeInfo& n, const Options& o);

  std::string full_host(const std::string& host, const std::string& ns) const;
  std::vector<const Object*> services_of_gateway(const Object& gateway) const;  // VirtualServices bound to it
  // clusters.cc
  std::string cluster_name(const Yaml* destination, const std::string& ns, long listener_port) const;
  void clusters(Resources& out) const;
  // routes.cc
  json http_routes(const Object& vs, const Object& gateway, long port) const;
  void route_configuration(Resources& out, const std::string& name, long port, const std::vector<std::pair<const Object*, const Yaml*>>& servers) const;
  // listeners.cc
  void listeners(Resources& out) const;
  // authz.cc: RBAC filters, in order, for HTTP or for raw TCP
  std::vector<json> authorization(bool tcp) const;
};
bool matches_labels(const std::map<std::string, std::string>& want, const std::map<std::string, std::string>& have);
std::string object_path(const Object& o);  // "/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME"
// The more specific of two hosts if they have hosts in common, else "".
std::string intersect_hosts(const std::string& a, const std::string& b);

}  // namespace sluice::plane
