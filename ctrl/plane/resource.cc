#include "ctrl/plane/resource.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "ctrl/plane/patches_apply.h"
#include "ctrl/plane/view.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/route/v3/route.pb.h"

namespace sluice::plane {
namespace {
namespace pb = google::protobuf;

std::unique_ptr<pb::Message> new_message(std::string_view type) {
  const auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName(std::string(type));
  return d == nullptr ? nullptr : std::unique_ptr<pb::Message>(pb::MessageFactory::generated_factory()->GetPrototype(d)->New());
}

std::string serialized(const pb::Message& m) {
  std::string out;
  pb::io::StringOutputStream stream(&out);
  pb::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  m.SerializeToCodedStream(&coded);
  coded.Trim();
  return out;
}

std::string content_hash(std::string_view s) {
  char out[17];
  std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(name_hash(s)));
  return out;
}

void read_proxy_config(const pb::Value& value, NodeInfo& out) {
  struct Kept {
    Source source;
    std::vector<plane::Node> documents;
  };
  const auto kept = std::make_shared<Kept>(Kept{{"PROXY_CONFIG", {}}, {}});
  if (!pb::util::MessageToJsonString(value, &kept->source.text).ok()) return;
  std::vector<Issue> wrong;
  kept->documents = load_yaml(kept->source, wrong);  // JSON is YAML
  if (!wrong.empty() || kept->documents.size() != 1 || kept->documents[0].kind != plane::Node::Kind::kMapping) return;
  out.proxy_config = {kept, &kept->documents[0]};
  out.proxy_config_text = kept->source.text;
}

NodeInfo info(const envoy::config::core::v3::Node& n) {
  NodeInfo out{.id = n.id(), .cluster = n.cluster()};
  const auto& fields = n.metadata().fields();
  const auto text = [&](const char* key) {
    const auto it = fields.find(key);
    return it == fields.end() ? std::string() : it->second.string_value();
  };
  if (const auto& l = n.locality(); !l.region().empty()) out.locality = l.region() + "/" + l.zone() + "/" + l.sub_zone();
  out.ns = text("NAMESPACE");
  if (out.ns.empty() && std::ranges::count(out.id, '~') == 3) {  // router~IP~NAME.NS~NS.svc.cluster.local
    const std::string tail = out.id.substr(out.id.rfind('~') + 1);
    out.ns = tail.substr(0, tail.find('.'));
  }
  out.version = text("ISTIO_VERSION");
  for (const auto& [k, v] : fields)
    if (v.kind_case() == pb::Value::kStringValue) out.metadata[k] = v.string_value();
  out.service_account = text("SERVICE_ACCOUNT"), out.cluster_id = text("CLUSTER_ID"), out.mesh_id = text("MESH_ID");
  out.unprivileged = text("UNPRIVILEGED_POD") == "true";
  const std::string ips = text("INSTANCE_IPS") + ",";
  for (size_t at = 0, end; (end = ips.find(',', at)) != std::string::npos; at = end + 1)
    if (end > at) out.addresses.push_back(ips.substr(at, end - at));
  if (const auto it = fields.find("PROXY_CONFIG"); it != fields.end()) read_proxy_config(it->second, out);
  if (const auto it = fields.find("LABELS"); it != fields.end())
    for (const auto& [k, v] : it->second.struct_value().fields()) out.labels[k] = v.string_value();
  return out;
}

// HeaderMatcher.string_match in the fields that were there before it.
void in_older_fields(envoy::config::route::v3::RouteConfiguration& r) {
  for (auto& host : *r.mutable_virtual_hosts())
    for (auto& route : *host.mutable_routes())
      for (auto& h : *route.mutable_match()->mutable_headers()) {
        if (!h.has_string_match() || h.string_match().ignore_case()) continue;
        const auto m = h.string_match();
        if (m.has_exact()) h.set_exact_match(m.exact());
        else if (m.has_prefix()) h.set_prefix_match(m.prefix());
        else if (m.has_suffix()) h.set_suffix_match(m.suffix());
        else if (m.has_contains()) h.set_contains_match(m.contains());
        else if (m.has_safe_regex()) *h.mutable_safe_regex_match() = m.safe_regex();
      }
}

}  // namespace

int type_of_url(std::string_view url) {
  if (!url.starts_with(kTypePrefix)) return -1;
  const auto* it = std::ranges::find(kTypeNames, url.substr(kTypePrefix.size()));
  return it == std::end(kTypeNames) ? -1 : int(it - std::begin(kTypeNames));
}

// FNV-1a over 64 bits, twice mixed: versions are compared for equality only, and by a client that trusts us; who asks for two names with
// one hash gets what it did not ask for, and nobody else does.
uint64_t name_hash(std::string_view s) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : s) h = (h ^ uint8_t(c)) * 0x100000001b3;
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
  return h ^ (h >> 33);
}

void seal(Resources& r, const Resources* before) {
  for (int t = 0; t < kTypes; t++) {
    std::string all;
    auto old = before == nullptr ? decltype(r.of[t].cbegin()){} : before->of[t].cbegin();
    for (auto& [name, x] : r.of[t]) {
      all.append(name).append(1, '\0').append(x.version).append(1, '\0');
      x.name_hash = name_hash(name);
      if (before == nullptr) continue;
      while (old != before->of[t].cend() && old->first < name) ++old;
      if (old != before->of[t].cend() && old->first == name && old->second.version == x.version) x.value = old->second.value;
    }
    r.version[t] = content_hash(all);
  }
}

std::expected<Resources, std::string> to_resources(const Answer& a, const Resources* before) {
  const std::map<std::string, Json>* from[4] = {&a.clusters, &a.endpoints, &a.listeners, &a.routes};
  Messages messages[4];
  for (int t = 0; t < 4; t++)
    for (const auto& [name, json] : *from[t]) {
      pb::Any any;
      const auto status = pb::util::JsonStringToMessage(json.text, &any);
      if (!status.ok()) return std::unexpected(name + ": " + std::string(status.message()));
      auto inner = new_message(kTypeNames[t]);  // once more, for a deterministic order of maps
      if (!inner->ParseFromString(any.value())) return std::unexpected(name + ": cannot be parsed");
      messages[t].emplace(name, std::move(inner));
    }
  if (auto patched = apply_patches(a.patches, messages[0], messages[2], messages[3]); !patched) return std::unexpected(patched.error());
  if (a.for_grpc)
    for (auto& [name, m] : messages[3]) in_older_fields(static_cast<envoy::config::route::v3::RouteConfiguration&>(*m));
  Resources out;
  for (int t = 0; t < 4; t++)
    for (const auto& [name, m] : messages[t]) {
      Resource r{.version = {}, .value = serialized(*m)};
      r.version = content_hash(r.value.str());
      r.by_name_only = t == 2 && a.other_names.contains(name);
      out.of[t].emplace(name, std::move(r));
    }
  seal(out, before);
  return out;
}

void check_patches(Loaded& l) {
  for (const Config* c : l.world.of_kind("EnvoyFilter"))
    for (const Node& p : c->spec()["configPatches"].items) {
      const Node& value = p["patch"]["value"];
      const std::string wrong = wrong_value({p["applyTo"].str(), p["patch"]["operation"].str(), {}, json_of(value)});
      if (!wrong.empty()) l.issues.push_back(issue_at(value, "the value is no " + p["applyTo"].str() + ": " + wrong));
    }
}

std::string to_json(std::string_view type, const std::string& value) {
  pb::Any any;
  any.set_type_url(std::string(kTypePrefix) + std::string(type));
  any.set_value(value);
  std::string out;
  pb::util::JsonPrintOptions options;
  options.add_whitespace = true;
  const auto status = pb::util::MessageToJsonString(any, &out, options);
  return status.ok() ? out : "{}";
}

std::expected<NodeInfo, std::string> node_from_json(const std::string& json) {
  envoy::config::core::v3::Node n;
  const auto status = pb::util::JsonStringToMessage(json, &n);
  if (!status.ok()) return std::unexpected(std::string(status.message()));
  return info(n);
}

NodeInfo node_from_wire(const std::string& s) {
  envoy::config::core::v3::Node n;
  n.ParseFromString(s);
  return info(n);
}

}  // namespace sluice::plane
