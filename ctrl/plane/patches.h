// EnvoyFilter: patches of the answers themselves, in istiod's order (root namespace first, by priority, then by age). Selected here as
// data; applied to protobuf in patches_apply.cc.
#pragma once
#include "ctrl/plane/json.h"
#include "ctrl/plane/yaml.h"

namespace sluice::plane {

struct Patch {
  std::string apply_to, operation;
  Node match;
  Json value;  // as it stands in the object
};

}  // namespace sluice::plane
