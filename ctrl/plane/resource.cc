#include "ctrl/plane/resource.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstring>

#include "ctrl/plane/messages.h"
#include "ctrl/plane/view.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

namespace sluice::plane {
namespace {
namespace pb = google::protobuf;

std::unique_ptr<pb::Message> new_message(std::string_view type) {
  const auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName(std::string(type));
  return d == nullptr ? nullptr : std::unique_ptr<pb::Message>(pb::MessageFactory::generated_factory()->GetPrototype(d)->New());
}

std::string hex(uint64_t v) {
  char out[17];
  std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(v));
  return out;
}

uint64_t weight(const ResourceTable::Entry& e) {
  const uint64_t h = (e.second.name_hash ^ (name_hash(e.second.version) + e.second.by_name_only)) * 0xff51afd7ed558ccd;
  return h ^ (h >> 32);
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

std::string serialized(const pb::Message& m) {
  std::string out;
  pb::io::StringOutputStream stream(&out);
  pb::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  m.SerializeToCodedStream(&coded);
  coded.Trim();
  return out;
}

int type_of_url(std::string_view url) {
  if (!url.starts_with(kTypePrefix)) return -1;
  const auto* it = std::ranges::find(kTypeNames, url.substr(kTypePrefix.size()));
  return it == std::end(kTypeNames) ? -1 : int(it - std::begin(kTypeNames));
}

// 64 bits, eight bytes at a time: versions are compared for equality only, and by a client that trusts us; who asks for two names with one
// hash gets what it did not ask for, and nobody else does.
uint64_t name_hash(std::string_view s) {
  uint64_t h = 0xcbf29ce484222325 ^ s.size();
  const auto mix = [&h](uint64_t word) {
    h = (h ^ word) * 0x9e3779b97f4a7c15;
    h ^= h >> 32;
  };
  for (; s.size() >= 8; s.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, s.data(), 8);
    mix(word);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, s.data(), s.size());
  mix(rest);
  h *= 0xff51afd7ed558ccd;
  return h ^ (h >> 33);
}

std::string content_hash(std::string_view bytes) { return hex(name_hash(bytes)); }

ResourceTable::Shared ResourceTable::entry(std::string name, Resource r) {
  r.name_hash = name_hash(name);
  return std::make_shared<const Entry>(std::move(name), std::move(r));
}

ResourceTable::Iterator ResourceTable::find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(*list_, name, {}, [](const Shared& e) { return std::string_view(e->first); });
  return at != list_->end() && (*at)->first == name ? Iterator(list_->data() + (at - list_->begin())) : end();
}

ResourceTable::List& ResourceTable::own() {
  if (list_.use_count() > 1) list_ = std::make_shared<List>(*list_);
  return *list_;
}

void ResourceTable::put(Shared e) {
  List& list = own();
  sum_ += weight(*e);
  if (list.empty() || list.back()->first < e->first) return list.push_back(std::move(e));
  const auto at = std::ranges::lower_bound(list, e->first, {}, [](const Shared& x) -> const std::string& { return x->first; });
  if ((*at)->first != e->first) {
    list.insert(at, std::move(e));
  } else {
    sum_ -= weight(**at);
    *at = std::move(e);
  }
}

void ResourceTable::erase(std::string_view name) {
  const auto at = find(name);
  if (at == end()) return;
  sum_ -= weight(*at);
  const auto index = &at.shared() - list_->data();
  List& list = own();
  list.erase(list.begin() + index);
}

std::string ResourceTable::version() const { return hex(sum_ ^ size()); }

std::expected<std::vector<std::unique_ptr<pb::Message>>, std::string> parse_all(std::span<const NamedJson> all) {
  std::vector<std::unique_ptr<pb::Message>> out;
  out.reserve(all.size());
  while (out.size() < all.size()) {
    std::string text = "{\"resources\":[";
    size_t end = out.size();
    for (; end < all.size() && text.size() < kBatchBytes; end++) text.append(end > out.size() ? "," : "").append(all[end].json->text);
    envoy::service::discovery::v3::DiscoveryResponse batch;
    if (const auto status = pb::util::JsonStringToMessage(text + "]}", &batch); !status.ok()) {
      if (end - out.size() == 1) return std::unexpected(*all[out.size()].name + ": " + std::string(status.message()));
      for (size_t i = out.size(); i < end; i++)  // which of them is it
        if (auto one = parse_all(all.subspan(i, 1)); !one) return one;
      return std::unexpected(std::string(status.message()));
    }
    for (const pb::Any& any : batch.resources()) {
      auto m = new_message(kTypeNames[all[out.size()].type]);  // once more, for a deterministic order of maps
      if (!m->ParseFromString(any.value())) return std::unexpected(*all[out.size()].name + ": cannot be parsed");
      out.push_back(std::move(m));
    }
  }
  return out;
}

std::expected<std::vector<std::string>, std::string> host_bytes(std::span<const Json> hosts) {
  std::vector<std::string> out;
  while (out.size() < hosts.size()) {
    std::string text = "{\"virtualHosts\":[";
    size_t end = out.size();
    for (; end < hosts.size() && text.size() < kBatchBytes; end++) text.append(end > out.size() ? "," : "").append(hosts[end].text);
    envoy::config::route::v3::RouteConfiguration batch;
    if (const auto status = pb::util::JsonStringToMessage(text + "]}", &batch); !status.ok())
      return std::unexpected(std::string(status.message()));
    for (const auto& h : batch.virtual_hosts()) out.push_back(serialized(h));
  }
  return out;
}

ResourceTable::Shared entry_of(const std::string& name, const pb::Message& m, const ResourceTable* before, bool by_name_only) {
  return entry_of(name, serialized(m), before, by_name_only);
}

ResourceTable::Shared entry_of(const std::string& name, std::string bytes, const ResourceTable* before, bool by_name_only) {
  Resource r{.version = {}, .value = std::move(bytes), .by_name_only = by_name_only};
  r.version = content_hash(r.value.str());
  if (before != nullptr)
    if (const auto old = before->find(name);
        old != before->end() && old->second.version == r.version && old->second.by_name_only == by_name_only)
      return old.shared();
  return ResourceTable::entry(name, std::move(r));
}

std::expected<Resources, std::string> to_resources(const Answer& a, const Resources* before) {
  const std::map<std::string, Json>* from[kTypes] = {&a.clusters, &a.endpoints, &a.listeners, &a.routes};
  Messages messages[kTypes];
  std::vector<NamedJson> all;
  for (int t = 0; t < kTypes; t++)
    for (const auto& [name, json] : *from[t]) all.push_back({t, &name, &json});
  auto parsed = parse_all(all);
  if (!parsed) return std::unexpected(parsed.error());
  for (size_t i = 0; i < all.size(); i++) messages[all[i].type].emplace(*all[i].name, std::move((*parsed)[i]));
  if (auto patched = apply_patches(a.patches, messages[0], messages[2], messages[3]); !patched) return std::unexpected(patched.error());
  if (a.for_grpc)
    for (auto& [name, m] : messages[3]) in_older_fields(static_cast<envoy::config::route::v3::RouteConfiguration&>(*m));
  Resources out;
  for (int t = 0; t < kTypes; t++)
    for (const auto& [name, m] : messages[t])
      out.of[t].put(entry_of(name, *m, before == nullptr ? nullptr : &before->of[t], t == 2 && a.other_names.contains(name)));
  out.seal();
  return out;
}

void check_patches(Loaded& l) {
  for (const Config* c : l.world.of_kind("EnvoyFilter")) {
    const size_t before = l.issues.size();
    for (const Node& p : c->spec()["configPatches"].items) {
      const Node& value = p["patch"]["value"];
      const std::string wrong = wrong_value({p["applyTo"].str(), p["patch"]["operation"].str(), {}, json_of(value)});
      if (!wrong.empty())
        l.issues.push_back(
            issue_at(value, "the value is no " + p["applyTo"].str() + ": " + wrong, "compare with Envoy's reference of that type"));
    }
    name_fields(c->document, std::span(l.issues).subspan(before), "invalid");
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
