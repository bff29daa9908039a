#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "ctrl/compile/compile.h"
#include "ctrl/compile/verdicts.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "google/protobuf/struct.pb.h"

namespace sluice::compile {
namespace {

std::expected<std::string, std::string> read(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return std::unexpected(file + ": cannot be read");
  return std::move(text).str();
}

std::string name_of(const google::protobuf::Message& m) {
  for (const char* field : {"name", "cluster_name"})
    if (const auto* f = m.GetDescriptor()->FindFieldByName(field)) return m.GetReflection()->GetString(m, f);
  return {};
}

}  // namespace

std::expected<std::vector<Resource>, std::string> load_golden(const std::string& folder) {
  std::vector<Resource> out;
  bool any = false;
  for (const char* kind : {"cds", "eds", "lds", "rds"}) {
    const std::string file = folder + "/" + kind + ".pb";
    if (!std::filesystem::exists(file)) continue;
    any = true;
    auto bytes = read(file);
    if (!bytes) return std::unexpected(bytes.error());
    envoy::service::discovery::v3::DeltaDiscoveryResponse r;
    if (!r.ParseFromString(*bytes)) return std::unexpected(file + ": is no DeltaDiscoveryResponse");
    for (const auto& resource : r.resources())
      out.push_back({resource.resource().type_url(), resource.name(), resource.resource().value()});
  }
  if (!any) return std::unexpected(folder + ": holds none of cds.pb eds.pb lds.pb rds.pb");
  return out;
}

std::expected<std::vector<Resource>, std::string> load_json(const std::string& file) {
  auto text = read(file);
  if (!text) return std::unexpected(text.error());
  return parse_json(*text, file);
}

std::expected<std::vector<Resource>, std::string> parse_json(const std::string& text, const std::string& origin) {
  google::protobuf::ListValue list;
  if (const auto s = google::protobuf::util::JsonStringToMessage(text, &list); !s.ok())
    return std::unexpected(origin + ": is no JSON list of resources: " + std::string(s.message()));
  std::vector<Resource> out;
  for (int i = 0; i < list.values_size(); i++) {
    const auto where = origin + ": resource " + std::to_string(i) + ": ";
    google::protobuf::Struct fields = list.values(i).struct_value();
    const std::string type_url = fields.fields().count("@type") ? fields.fields().at("@type").string_value() : "";
    fields.mutable_fields()->erase("@type");
    auto message = unpack(type_url, "");
    if (message == nullptr) return std::unexpected(where + "@type \"" + type_url + "\" is not known");
    std::string json;
    (void)google::protobuf::util::MessageToJsonString(fields, &json);
    if (const auto s = google::protobuf::util::JsonStringToMessage(json, message.get()); !s.ok())
      return std::unexpected(where + std::string(s.message()));
    out.push_back({type_url, name_of(*message), message->SerializeAsString()});
  }
  return out;
}

}  // namespace sluice::compile
