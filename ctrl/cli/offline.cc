#include "ctrl/cli/offline.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "ctrl/admin/server.h"
#include "ctrl/plane/gateway_api.h"
#include "envoy/admin/v3/config_dump.pb.h"

namespace sluice::cli {
namespace {

struct NoSecrets : compile::SecretSource {
  const compile::Secret* find(std::string_view) override { return nullptr; }
};

// The Node that the directory is for.
std::expected<plane::NodeInfo, std::string> node_for(const plane::World& world, const OfflineOptions& o) {
  plane::NodeInfo node{.id = "router~10.10.0.1~sluicectl.default~default.svc.cluster.local", .ns = o.ns, .cluster_id = "Kubernetes"};
  node.labels = o.labels;
  for (const plane::Config* g : world.of_kind("Gateway")) {
    const bool derived = plane::is_of_gateway_api(*g);  // of the workloads that serve it the first
    const plane::Node& selection = g->document["selection"];
    if (derived && selection.items.empty()) continue;
    const plane::Node& selector = derived ? selection.items[0]["labels"] : g->spec()["selector"];
    std::map<std::string, std::string> labels;
    for (size_t i = 0; i < selector.keys.size(); i++) labels[selector.keys[i].text] = selector.items[i].text;
    if (o.labels.empty()) {
      if (!node.labels.empty() && labels != node.labels)
        return std::unexpected("the Gateways of " + o.dir + " select different gateways; say which one with --label KEY=VALUE\n");
      node.labels = labels;
    } else if (!std::ranges::includes(node.labels, labels)) {
      continue;
    }
    if (node.ns.empty()) node.ns = derived ? selection.items[0]["namespace"].str() : g->ns;
  }
  if (node.ns.empty()) node.ns = "default";
  return node;
}

bool has_host(const plane::Config& entry, const std::string& host) {
  const auto hosts = entry.spec()["hosts"].list();
  return std::ranges::find(hosts, host) != hosts.end();
}

// Of a cluster, assignment, listener or route configuration.
std::string name_of(const google::protobuf::Any& resource) {
  const auto* type = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(
      resource.type_url().substr(resource.type_url().rfind('/') + 1));
  if (type == nullptr) return {};
  const std::unique_ptr<google::protobuf::Message> m(google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
  if (!m->ParseFromString(resource.value())) return {};
  for (const char* field : {"name", "cluster_name"})
    if (const auto* f = type->FindFieldByName(field)) return m->GetReflection()->GetString(*m, f);
  return {};
}

}  // namespace

std::expected<Offline, std::string> load_offline(const OfflineOptions& o) {
  plane::Loaded loaded = plane::load_directory(o.dir, o.mesh);
  plane::check_patches(loaded);
  if (plane::has_errors(loaded.issues)) return std::unexpected(plane::render(loaded.issues));
  Offline out{.world = std::move(loaded.world), .compiler = std::make_unique<compile::Compiler>()};
  const auto node = node_for(out.world, o);
  if (!node) return std::unexpected(node.error());
  out.routes = plane::route_places(out.world, *node);
  const auto resources = plane::to_resources(plane::translate(out.world, *node, {.deny_by_default = o.deny_by_default}));
  if (!resources) return std::unexpected(resources.error() + "\n");
  for (int type = 0; type < 4; type++)
    for (const auto& [name, resource] : resources->of[type])
      if (const auto ok = out.compiler->apply(std::string(plane::kTypePrefix) + std::string(plane::kTypeNames[type]), name, resource.value);
          !ok)
        out.refused += name + ": " + ok.error() + "\n";
  NoSecrets none;
  out.tables = out.compiler->build(none, 0);
  return out;
}

std::expected<Offline, std::string> load_running(const std::string& socket) {
  const auto dump = admin::ask_unix(socket, "GET", "/config_dump");
  if (!dump) return std::unexpected(dump.error() + "\n");
  envoy::admin::v3::ConfigDump all;
  if (const auto ok = google::protobuf::util::JsonStringToMessage(dump->body, &all); dump->status != 200 || !ok.ok())
    return std::unexpected("the gateway's config_dump cannot be read: " + (dump->status != 200 ? dump->body : std::string(ok.message())) +
                           "\n");
  Offline out{.compiler = std::make_unique<compile::Compiler>()};
  const auto apply = [&](const google::protobuf::Any& resource) {
    if (!resource.type_url().empty())
      if (const auto ok = out.compiler->apply(resource.type_url(), name_of(resource), resource.value()); !ok)
        out.refused += name_of(resource) + ": " + ok.error() + "\n";
  };
  for (const auto& config : all.configs()) {
    envoy::admin::v3::ClustersConfigDump clusters;
    envoy::admin::v3::EndpointsConfigDump endpoints;
    envoy::admin::v3::ListenersConfigDump listeners;
    envoy::admin::v3::RoutesConfigDump routes;
    if (config.UnpackTo(&clusters))
      for (const auto& c : clusters.dynamic_active_clusters()) apply(c.cluster());
    else if (config.UnpackTo(&endpoints))
      for (const auto& e : endpoints.dynamic_endpoint_configs()) apply(e.endpoint_config());
    else if (config.UnpackTo(&listeners))
      for (const auto& l : listeners.dynamic_listeners()) apply(l.active_state().listener());
    else if (config.UnpackTo(&routes))
      for (const auto& r : routes.dynamic_route_configs()) apply(r.route_config());
  }
  NoSecrets none;
  out.tables = out.compiler->build(none, 0);
  return out;
}

std::string Offline::place_of(const explain::Origin& origin) const {
  if (const auto at = routes.find({origin.table, origin.virtual_host}); at != routes.end() && origin.index < at->second.size())
    if (const std::string& place = at->second[origin.index]; !place.empty()) return place;
  const auto place = [](const plane::Node& n) { return plane::issue_at(n, "").place(); };
  for (const plane::Config* c : world.of_kind(origin.kind == "Service" ? "ServiceEntry" : origin.kind))
    if (origin.kind == "Service" ? has_host(*c, origin.host) : c->ns == origin.ns && c->name == origin.name) {
      for (const plane::Node& r : c->spec()["http"].items)  // of the Gateway API: the rule, in a file of its own
        if (c->derived && r["name"].str() == origin.route) return place(r["name"]);
      const auto& rules = c->spec()["rules"].items;
      return place(origin.rule && *origin.rule < rules.size() ? rules[*origin.rule] : c->at());
    }
  return {};
}

}  // namespace sluice::cli
