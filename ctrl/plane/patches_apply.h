// Inside of ctrl/plane.
#pragma once
#include <google/protobuf/message.h>

#include <expected>
#include <map>
#include <memory>

#include "ctrl/plane/patches.h"

namespace sluice::plane {

using Messages = std::map<std::string, std::unique_ptr<google::protobuf::Message>>;  // by name

// Patches `clusters`, `listeners` and `routes` (of kTypeNames) in place. A value that is none of its type is an error.
std::expected<void, std::string> apply_patches(const std::vector<Patch>& patches, Messages& clusters, Messages& listeners,
                                               Messages& routes);
// Empty, or why the value is none.
std::string wrong_value(const Patch& p);

}  // namespace sluice::plane
