// Resources as protobuf messages, between their JSON and their bytes. Inside of ctrl/plane.
#pragma once
#include <span>

#include "ctrl/plane/patches_apply.h"
#include "ctrl/plane/resource.h"

namespace sluice::plane {

std::string serialized(const google::protobuf::Message& m);  // deterministically
// JSON becomes protobuf by the hundred: protobuf describes a type anew in each call, which costs more than the few kilobytes of a resource.
constexpr size_t kBatchBytes = 1 << 20;
struct NamedJson {
  int type = 0;
  const std::string* name = nullptr;
  const Json* json = nullptr;  // that typed() made
};
// One message for each, strictly; the error names the resource.
std::expected<std::vector<std::unique_ptr<google::protobuf::Message>>, std::string> parse_all(std::span<const NamedJson> all);
// Of virtual hosts their bytes.
std::expected<std::vector<std::string>, std::string> host_bytes(std::span<const Json> hosts);
// If `before` has the same, then that one.
ResourceTable::Shared entry_of(const std::string& name, std::string bytes, const ResourceTable* before, bool by_name_only = false);
ResourceTable::Shared entry_of(const std::string& name, const google::protobuf::Message& m, const ResourceTable* before,
                               bool by_name_only = false);

}  // namespace sluice::plane
