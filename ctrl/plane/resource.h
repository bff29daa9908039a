// The answers of translate() as protobuf: parsed strictly (an unknown field of ours is a bug and throws nothing away), serialized
// deterministically, with a version that is the hash of the content, so that every instance on the same directory says the same.
#pragma once
#include <expected>

#include "ctrl/plane/translate.h"

namespace sluice::plane {

struct Resource {
  std::string version;  // 16 hex digits of a hash of `value`
  std::string value;    // the serialized message inside of the Any
};

inline constexpr std::string_view kTypeNames[] = {"envoy.config.cluster.v3.Cluster", "envoy.config.endpoint.v3.ClusterLoadAssignment",
                                                  "envoy.config.listener.v3.Listener", "envoy.config.route.v3.RouteConfiguration"};
inline constexpr std::string_view kTypePrefix = "type.googleapis.com/";

struct Resources {
  std::map<std::string, Resource> of[4];  // by kTypeNames, by name
};

// What cannot be said in protobuf is an error of ours, named with its resource.
std::expected<Resources, std::string> to_resources(const Answer& a);
// What check cannot see without protobuf: an EnvoyFilter's value that is none of its type. Appends to the issues.
void check_patches(Loaded& l);
// Protojson of one, as golden_diff.py reads it.
std::string to_json(std::string_view type, const std::string& value);
// A Node as JSON (node.json) or as an xDS client sends it, serialized.
std::expected<NodeInfo, std::string> node_from_json(const std::string& json);
NodeInfo node_from_wire(const std::string& serialized);

}  // namespace sluice::plane
