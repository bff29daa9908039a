// Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/traffic_policy.h"

namespace sluice::plane {

// A ClusterLoadAssignment without its type. only_mtls: endpoints that Istio's mTLS reaches (the far side of AUTO_PASSTHROUGH).
Object assignment(const View& v, const Service& s, const ServicePort& p, const Config* rule, const Node& subset, const std::string& name,
                  bool only_mtls);

}  // namespace sluice::plane
