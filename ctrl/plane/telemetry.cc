// Access logs, metrics and tracing of a gateway: MeshConfig, and Telemetry of the root namespace, of the node's namespace and of its
// labels, the narrower behind the wider.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kText =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% "
    "%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
    "\"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";
constexpr std::pair<const char*, const char*> kJson[] = {{"start_time", "%START_TIME%"},
                                                         {"route_name", "%ROUTE_NAME%"},
                                                         {"method", "%REQ(:METHOD)%"},
                                                         {"path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"},
                                                         {"protocol", "%PROTOCOL%"},
                                                         {"response_code", "%RESPONSE_CODE%"},
                                                         {"response_flags", "%RESPONSE_FLAGS%"},
                                                         {"response_code_details", "%RESPONSE_CODE_DETAILS%"},
                                                         {"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"},
                                                         {"bytes_received", "%BYTES_RECEIVED%"},
                                                         {"bytes_sent", "%BYTES_SENT%"},
                                                         {"duration", "%DURATION%"},
                                                         {"upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"},
                                                         {"x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"},
                                                         {"user_agent", "%REQ(USER-AGENT)%"},
                                                         {"request_id", "%REQ(X-REQUEST-ID)%"},
                                                         {"authority", "%REQ(:AUTHORITY)%"},
                                                         {"upstream_host", "%UPSTREAM_HOST%"},
                                                         {"upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"},
                                                         {"upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"},
                                                         {"downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"},
                                                         {"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"},
                                                         {"requested_server_name", "%REQUESTED_SERVER_NAME%"},
                                                         {"upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"}};

Object text_format(std::string text) {
  if (text.empty()) text = kText;
  else if (!text.ends_with('\n')) text += '\n';
  return {{"textFormatSource", Object{{"inlineString", text}}}};
}

Object mesh_format(const Mesh& mesh) {
  if (mesh.config["accessLogEncoding"].str() != "JSON") return text_format(mesh.access_log_format);
  Object json;
  if (!mesh.access_log_format.empty()) {
    const Source source{"accessLogFormat", mesh.access_log_format};
    std::vector<Issue> wrong;
    if (const auto d = load_yaml(source, wrong); wrong.empty() && d.size() == 1) return {{"jsonFormat", json_of(d[0])}};
  }
  for (const auto& [name, what] : kJson) json.set(name, what);
  return {{"jsonFormat", json}};
}

Object file_log(const std::string& path, const Object& format) {
  return {{"name", "envoy.access_loggers.file"},
          {"typedConfig", typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", {{"path", path}, {"logFormat", format}})}};
}

struct Log {  // of one provider
  bool off = false;
  const Node* filter = &null_node();
};

std::optional<Object> provider_log(const Mesh& mesh, const std::string& name) {
  for (const Node& p : mesh.providers()) {
    const Node& file = p["envoyFileAccessLog"];
    if (p["name"].str() != name || file.null()) continue;
    const Node& format = file["logFormat"];
    const std::string path = file["path"].str().empty() ? "/dev/stdout" : file["path"].str();
    return file_log(path, format["labels"] ? Object{{"jsonFormat", json_of(format["labels"])}} : text_format(format["text"].str()));
  }
  if (name == "envoy") return file_log("/dev/stdout", text_format({}));  // Istio's own
  return {};
}

// The Telemetry objects that hold, widest first; of one scope the oldest.
std::vector<const Config*> scopes(const View& v) {
  const Config *root = nullptr, *ns = nullptr, *workload = nullptr;
  for (const Config* c : v.world.of_kind("Telemetry")) {
    const Node& selector = c->spec()["selector"]["matchLabels"];
    if (!selector.keys.empty()) {
      if (workload == nullptr && c->ns == v.node.ns && labels_within(selector, v.node.labels)) workload = c;
    } else if (c->ns == v.world.mesh.root_namespace) {
      if (root == nullptr) root = c;
    } else if (c->ns == v.node.ns && ns == nullptr) {
      ns = c;
    }
  }
  std::vector<const Config*> out;
  for (const Config* c : {root, ns, workload})
    if (c != nullptr) out.push_back(c);
  return out;
}

// A gateway is a client.
bool for_clients(const Node& item) { return item["match"]["mode"].str() != "SERVER"; }

std::vector<std::string> names(const Node& providers) {
  std::vector<std::string> out;
  for (const Node& p : providers.items) out.push_back(p["name"].str());
  return out;
}

// By provider; empty: MeshConfig.accessLogFile alone decides.
std::map<std::string, Log> logs(const View& v) {
  auto in_force = v.world.mesh.config["defaultProviders"]["accessLogging"].list();
  std::map<std::string, Log> out;
  bool any = false;
  for (const Config* c : scopes(v))
    for (const Node& item : c->spec()["accessLogging"].items) {
      any = true;
      if (!for_clients(item)) continue;
      if (!item["providers"].items.empty()) in_force = names(item["providers"]);
      for (const std::string& p : in_force) out[p] = {item["disabled"].boolean(), &item["filter"]};
    }
  if (!any)
    for (const std::string& p : in_force) out[p] = {};
  return out;
}

Array build(const View& v, const Json* also) {
  Array out;
  const auto add = [&](Object log, const Node& filter) {
    Json cel;
    if (const std::string& e = filter["expression"].str(); !e.empty())
      cel = Object{{"extensionFilter", extension("envoy.access_loggers.extension_filters.cel",
                                                 "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", {{"expression", e}})}};
    if (also != nullptr && !cel.text.empty()) log.set("filter", Object{{"andFilter", Object{{"filters", Array{*also, cel}}}}});
    else if (also != nullptr) log.set("filter", *also);
    else if (!cel.text.empty()) log.set("filter", cel);
    out.add(log);
  };
  const auto by_provider = logs(v);
  if (by_provider.empty() && !v.world.mesh.access_log_file.empty())
    add(file_log(v.world.mesh.access_log_file, mesh_format(v.world.mesh)), null_node());
  for (const auto& [name, log] : by_provider)
    if (auto o = log.off ? std::nullopt : provider_log(v.world.mesh, name)) add(*o, *log.filter);
  return out;
}

}  // namespace

Array access_logs(const View& v) { return build(v, nullptr); }

Array listener_access_logs(const View& v) {
  const Json no_route = Object{{"responseFlagFilter", Object{{"flags", Array{"NR"}}}}};
  return build(v, &no_route);
}

// Istio's metrics where a provider of them is in force.
Array stats_filters(const View& v) {
  auto in_force = v.world.mesh.config["defaultProviders"]["metrics"].list();
  for (const Config* c : scopes(v))
    for (const Node& item : c->spec()["metrics"].items)
      if (!item["providers"].items.empty()) in_force = names(item["providers"]);
  if (std::ranges::find(in_force, "prometheus") == in_force.end()) return {};
  return Array{extension("istio.stats", "stats.PluginConfig", {{"disableHostHeaderFallback", true}})};
}

// Without a provider Telemetry's tracing switches it off; without Telemetry MeshConfig.enableTracing (on) decides.
bool traced(const View& v) {
  for (const Config* c : scopes(v))
    if (!c->spec()["tracing"].items.empty()) return false;
  const Node& on = v.world.mesh.config["enableTracing"];
  return on.null() || on.boolean();
}

}  // namespace sluice::plane
