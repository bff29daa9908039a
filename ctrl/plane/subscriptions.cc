#include <google/protobuf/any.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "ctrl/plane/server.h"

namespace sluice::plane {
namespace {

constexpr const char* kOrder[] = {"type.googleapis.com/envoy.config.cluster.v3.Cluster", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                                  "type.googleapis.com/envoy.config.listener.v3.Listener", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"};

std::string hex(uint64_t v) {
  char text[17];
  std::snprintf(text, sizeof text, "%016lx", v);
  return text;
}

}  // namespace

std::expected<EncodedSet, std::string> encode(const Resources& resources) {
  EncodedSet out;
  for (const char* type : kOrder) out[type];
  for (const auto* list : {&resources.cds, &resources.eds, &resources.lds, &resources.rds})
    for (const json& r : *list) {
      const std::string type = r["@type"], name = r.contains("name") ? r["name"] : r["clusterName"], text = r.dump();
      google::protobuf::Any any;
      if (const auto s = google::protobuf::util::JsonStringToMessage(text, &any); !s.ok()) return std::unexpected(type + " " + name + ": " + std::string(s.message()));
      out[type][name] = {hex(std::hash<std::string>{}(text)), any.SerializeAsString()};
    }
  return out;
}

std::optional<std::string> Subscriptions::take(const Request& r) {
  Type& t = types_[r.type_url];
  if (!t.asked) {
    t.asked = true;
    // The first request of a type without names, or with "*", means all of it (xDS protocol: wildcard subscriptions).
    t.wildcard = r.subscribe.empty() || std::ranges::find(r.subscribe, "*") != r.subscribe.end();
    t.sent = r.initial_versions;
  }
  for (const std::string& n : r.subscribe) {
    if (n == "*") t.wildcard = true;
    else t.names.insert(n), t.fresh.insert(n);
  }
  for (const std::string& n : r.unsubscribe) {
    if (n == "*") t.wildcard = false;
    t.names.erase(n);
    t.fresh.erase(n);
    t.sent.erase(n);
  }
  return r.error.empty() ? std::nullopt : std::optional(r.error);
}

std::vector<Subscriptions::Answer> Subscriptions::answers(const EncodedSet& current) {
  std::vector<Answer> out;
  for (const char* type : kOrder) {
    const auto found = types_.find(type);
    if (found == types_.end() || !found->second.asked) continue;
    Type& t = found->second;
    const auto& all = current.at(type);
    Answer a;
    a.type_url = type;
    for (const auto& [name, e] : all) {
      if (!t.wildcard && !t.names.contains(name)) continue;
      const auto had = t.sent.find(name);
      if (had != t.sent.end() && had->second == e.version && !t.fresh.contains(name)) continue;
      a.resources.emplace_back(name, e);
      t.sent[name] = e.version;
    }
    for (auto it = t.sent.begin(); it != t.sent.end();) {
      const bool wanted = t.wildcard || t.names.contains(it->first);
      if (wanted && all.contains(it->first)) {
        ++it;
        continue;
      }
      if (wanted) a.removed.push_back(it->first);
      it = t.sent.erase(it);
    }
    // A name that does not exist is answered too, or its asker would wait for ever.
    for (const std::string& n : t.fresh)
      if (!all.contains(n)) a.removed.push_back(n);
    t.fresh.clear();
    if (a.resources.empty() && a.removed.empty() && (t.answered || !t.wildcard)) continue;
    t.answered = true;
    a.nonce = std::to_string(++nonce_);
    out.push_back(std::move(a));
  }
  return out;
}

}  // namespace sluice::plane
