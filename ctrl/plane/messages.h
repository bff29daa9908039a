// Resources as protobuf messages, between their JSON and their bytes. Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/patches_apply.h"
#include "ctrl/plane/resource.h"

namespace sluice::plane {

std::string serialized(const google::protobuf::Message& m);  // deterministically
// Of a Json that typed() made, strictly.
std::expected<std::unique_ptr<google::protobuf::Message>, std::string> parse_typed(int type, const Json& json);
std::expected<void, std::string> parse_json(const Json& json, google::protobuf::Message& into);
// If `before` has the same, then that one.
ResourceTable::Shared entry_of(const std::string& name, std::string bytes, const ResourceTable* before, bool by_name_only = false);
ResourceTable::Shared entry_of(const std::string& name, const google::protobuf::Message& m, const ResourceTable* before,
                               bool by_name_only = false);

}  // namespace sluice::plane
