// The verdict on every field of every message that a control plane can send (architecture section 5), in one table (verdicts.cc):
//   honoured   obeyed; the walk goes into it
//   inert      accepted without effect (telemetry, hints, options whose effect we have not); counted as xds_ignored_extension{type} where
//   it is
//              an extension
//   refused    everything that the table does not name, and every unknown field: the resource is not taken, and the reason names the path
// The walk is by reflection over what is set, so a field that Envoy adds tomorrow is refused until somebody decides about it.
#pragma once
#include <google/protobuf/message.h>

#include <expected>
#include <map>
#include <memory>
#include <string>

namespace sluice::compile {

struct Verdicts {
  std::map<std::string, unsigned> ignored;  // extension type -> how often
};

// The reason names the path: "virtual_hosts[0].routes[2].route.request_mirror_policies: not supported".
std::expected<Verdicts, std::string> judge(const google::protobuf::Message& resource);

// A message of the generated types from an Any's parts; null for an unknown type or bytes that do not parse.
std::unique_ptr<google::protobuf::Message> unpack(const std::string& type_url, const std::string& bytes);

}  // namespace sluice::compile
