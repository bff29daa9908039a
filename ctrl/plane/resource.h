// The answers of translate() as protobuf: parsed strictly (an unknown field of ours is a bug and throws nothing away), serialized
// deterministically, with a version that is the hash of the content, so that every instance on the same directory says the same.
#pragma once
#include <expected>
#include <memory>

#include "ctrl/plane/translate.h"

namespace sluice::plane {

// Bytes that several versions of the world, and the messages on their way to nodes, hold together.
class SharedBytes {
 public:
  SharedBytes() : SharedBytes(std::string()) {}
  SharedBytes(std::string s) : bytes_(std::make_shared<const std::string>(std::move(s))) {}
  operator const std::string&() const { return *bytes_; }
  const std::string& str() const { return *bytes_; }
  size_t size() const { return bytes_->size(); }
  const std::shared_ptr<const std::string>& shared() const { return bytes_; }

 private:
  std::shared_ptr<const std::string> bytes_;
};

struct Resource {
  std::string version;        // 16 hex digits of a hash of `value`
  SharedBytes value;          // the serialized message inside of the Any
  bool by_name_only = false;  // not part of a wildcard's world (another name of what is)
  uint64_t name_hash = 0;     // seal()
};

inline constexpr std::string_view kTypeNames[] = {"envoy.config.cluster.v3.Cluster", "envoy.config.endpoint.v3.ClusterLoadAssignment",
                                                  "envoy.config.listener.v3.Listener", "envoy.config.route.v3.RouteConfiguration"};
inline constexpr std::string_view kTypePrefix = "type.googleapis.com/";

constexpr int kTypes = 4;
// "Cluster" etc. by its URL; -1: not ours.
int type_of_url(std::string_view url);

struct Resources {
  std::map<std::string, Resource> of[kTypes];  // by kTypeNames, by name
  std::string version[kTypes];                 // hash of all names and versions; seal()
};
// Fills in what is derived. With the version before: what did not change shares its bytes.
void seal(Resources& r, const Resources* before = nullptr);
uint64_t name_hash(std::string_view name);

// What cannot be said in protobuf is an error of ours, named with its resource.
std::expected<Resources, std::string> to_resources(const Answer& a, const Resources* before = nullptr);  // sealed
// What check cannot see without protobuf: an EnvoyFilter's value that is none of its type. Appends to the issues.
void check_patches(Loaded& l);
// Protojson of one, as golden_diff.py reads it.
std::string to_json(std::string_view type, const std::string& value);
// A Node as JSON (node.json) or as an xDS client sends it, serialized.
std::expected<NodeInfo, std::string> node_from_json(const std::string& json);
NodeInfo node_from_wire(const std::string& serialized);

}  // namespace sluice::plane
