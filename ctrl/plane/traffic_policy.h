// A DestinationRule's traffic policy as it holds for one port and subset, and the parts of a cluster that it decides. Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/view.h"

namespace sluice::plane {

// A port's settings replace the whole of the policy that they stand in; a subset's replace the rule's part by part.
struct Policy {
  const Node* pool = &null_node();
  const Node* outliers = &null_node();
  const Node* balancer = &null_node();
  const Node* tls = &null_node();
  const Node* proxy_protocol = &null_node();
  const Node* retry_budget = &null_node();
};
bool passes_through(const Policy& p);  // simple: PASSTHROUGH: to where the client was going
Policy policy_of(const Config* rule, const Node& subset, uint32_t port);

// The setting in force: the rule's, else the mesh's; null where it is switched off or there is none.
const Node& locality_setting(const Policy& p, const Mesh& mesh, bool& off);

bool speaks_http2(const ServicePort& p, const Policy& policy, const Mesh& mesh);
std::string json_duration(const Node& d);

// HttpProtocolOptions under construction, and what else of the pool is said in the cluster.
struct UpstreamOptions {
  Object common, upstream_http;
  bool http2 = false, downstream_protocol = false, has_common = false;
  int64_t streams_max = 0;
  void put(Object& cluster) const;
};
void add_pool(const Policy& p, const Mesh& mesh, Object& cluster, UpstreamOptions& options);
void add_outliers(const Policy& p, const Mesh& mesh, Object& cluster);
void add_balancer(const Node& lb, Object& cluster);

}  // namespace sluice::plane
