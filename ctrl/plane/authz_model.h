// One rule of an AuthorizationPolicy as one policy of Envoy's RBAC filter. Pure. Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/json.h"
#include "ctrl/plane/world.h"

namespace sluice::plane {

enum class Wire : uint8_t { kHttp, kTcp };

// A rule on a TCP chain cannot see HTTP: where `narrow` (ALLOW) it is nothing, else the condition is left out and the rule gets wider.
std::optional<Json> rbac_policy(const Node& rule, const std::string& ns, const Mesh& mesh, Wire wire, bool narrow);
Json never_matches();

// {"filter": jwt_authn, "path": payload and the claim's names, "value": the matcher for a string or a list of strings}.
Object claims_matcher(const std::vector<std::string>& path, const Json& string_match);

}  // namespace sluice::plane
