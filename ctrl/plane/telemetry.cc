// Access logs and metrics of a gateway: MeshConfig, and Telemetry of the root namespace, of the node's namespace and of the node, the
// narrower behind the wider. Tracing is in tracing.cc.
#include <algorithm>

#include "ctrl/plane/providers.h"
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

std::optional<Object> provider_log(const Mesh& mesh, const std::string& name) {
  const auto p = find_provider(mesh, name);
  if (!p || p->kind != "envoyFileAccessLog") return {};
  const Node& format = (*p->config)["logFormat"];
  const std::string path = (*p->config)["path"].str().empty() ? "/dev/stdout" : (*p->config)["path"].str();
  Object said = format["labels"] ? Object{{"jsonFormat", json_of(format["labels"])}} : text_format(format["text"].str());
  return file_log(path, said.set_if((*p->config)["omitEmptyValues"].boolean(), "omitEmptyValues", true));
}

// A gateway is a client.
bool for_clients(const Node& item) { return item["match"]["mode"].str() != "SERVER"; }

std::vector<std::string> names(const Node& providers) {
  std::vector<std::string> out;
  for (const Node& p : providers.items) out.push_back(p["name"].str());
  return out;
}

bool has(const std::vector<std::string>& list, const std::string& s) { return std::ranges::find(list, s) != list.end(); }

struct Log {  // of one provider
  bool off = false;
  const Node* filter = &null_node();
};

// By provider; empty: MeshConfig.accessLogFile alone decides. The narrowest object that names providers says which; an item without any is
// for those of the item before it.
std::map<std::string, Log> logs(const View& v) {
  const auto defaults = v.world.mesh.config["defaultProviders"]["accessLogging"].list();
  auto in_force = defaults;
  std::map<std::string, Log> out, said;
  std::vector<const Node*> items;
  for (const Config* c : telemetry_scopes(v)) {
    std::vector<std::string> here;
    for (const Node& item : c->spec()["accessLogging"].items) {
      items.push_back(&item);
      if (!for_clients(item)) continue;
      for (const std::string& p : names(item["providers"])) here.push_back(p), said[p] = {.off = false, .filter = &item["filter"]};
    }
    if (!here.empty()) in_force = here;
  }
  if (items.empty())
    for (const std::string& p : defaults) out[p] = {};
  auto parents = defaults;
  for (const Node* item : items) {
    if (!(*item)["providers"].items.empty()) parents = names((*item)["providers"]);
    if (!for_clients(*item)) continue;
    for (const std::string& p : parents)
      if (has(in_force, p)) out[p] = (*item)["disabled"].boolean() ? Log{.off = true} : said.contains(p) ? said[p] : Log{};
  }
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

namespace {

constexpr std::pair<std::string_view, std::string_view> kMetrics[] = {{"GRPC_REQUEST_MESSAGES", "request_messages_total"},
                                                                      {"GRPC_RESPONSE_MESSAGES", "response_messages_total"},
                                                                      {"REQUEST_COUNT", "requests_total"},
                                                                      {"REQUEST_DURATION", "request_duration_milliseconds"},
                                                                      {"REQUEST_SIZE", "request_bytes"},
                                                                      {"RESPONSE_SIZE", "response_bytes"},
                                                                      {"TCP_CLOSED_CONNECTIONS", "tcp_connections_closed_total"},
                                                                      {"TCP_OPENED_CONNECTIONS", "tcp_connections_opened_total"},
                                                                      {"TCP_RECEIVED_BYTES", "tcp_received_bytes_total"},
                                                                      {"TCP_SENT_BYTES", "tcp_sent_bytes_total"}};

struct Metric {
  bool off = false;
  std::map<std::string, const Node*> tags;
};
struct Metrics {  // of one provider
  bool off = false;
  std::map<std::string, Metric> by_name;
  const Node* interval = &null_node();
};

// A later override is laid over the earlier ones; one of all metrics that switches off drops the filter, until another comes.
void lay_over(const Node& o, Metrics& m) {
  const Node& match = o["match"];
  if (match["mode"].str() == "SERVER") return;
  const std::string &custom = match["customMetric"].str(), &metric = match["metric"].str();
  const bool all = custom.empty() && (metric.empty() || metric == "ALL_METRICS");
  m.off = all && o["disabled"].boolean();
  if (m.off) return;
  std::vector<std::string> metrics{custom.empty() ? metric : custom};
  if (all) {
    metrics.clear();
    for (const auto& [name, prometheus] : kMetrics) metrics.emplace_back(name);
  }
  for (const std::string& name : metrics) {
    Metric& to = m.by_name[name];
    if (o["disabled"]) to.off = o["disabled"].boolean();
    for (size_t i = 0; i < o["tagOverrides"].keys.size(); i++) to.tags[o["tagOverrides"].keys[i].text] = &o["tagOverrides"].items[i];
  }
}

Json stats_filter(const Metrics& m) {
  Object config{{"disableHostHeaderFallback", true}};
  if (*m.interval) config.set("tcpReportingDuration", duration_json(*parse_duration(m.interval->str())));
  Array list;
  for (const auto& [name, metric] : m.by_name) {
    const auto known = std::ranges::find(kMetrics, name, &std::pair<std::string_view, std::string_view>::first);
    Object dimensions, one;
    Array removed;
    for (const auto& [tag, t] : metric.tags) {
      if ((*t)["operation"].str() == "REMOVE") removed.add(tag);
      else dimensions.set(tag, (*t)["value"].str());
    }
    one.set_if(!dimensions.empty(), "dimensions", dimensions)
        .set("name", known == std::end(kMetrics) ? std::string_view(name) : known->second);
    list.add(one.set_if(!removed.empty(), "tagsToRemove", removed).set_if(metric.off, "drop", true));
  }
  return extension("istio.stats", "stats.PluginConfig", config.set_if(!list.empty(), "metrics", list));
}

}  // namespace

// Istio's metrics, for each provider of them in force.
Array stats_filters(const View& v) {
  const auto defaults = v.world.mesh.config["defaultProviders"]["metrics"].list();
  std::vector<const Node*> items;
  for (const Config* c : telemetry_scopes(v))
    for (const Node& item : c->spec()["metrics"].items) items.push_back(&item);
  auto in_force = defaults, parents = defaults;
  for (const Node* item : items)
    if (!(*item)["providers"].items.empty()) in_force = names((*item)["providers"]);
  std::map<std::string, Metrics> providers;
  if (items.empty())
    for (const std::string& p : defaults) providers[p];
  for (const Node* item : items) {
    if (!(*item)["providers"].items.empty()) parents = names((*item)["providers"]);
    for (const std::string& p : parents) {
      if (!has(in_force, p)) continue;
      Metrics& m = providers[p];
      if (const Node& i = (*item)["reportingInterval"]) m.interval = &i;
      for (const Node& o : (*item)["overrides"].items) lay_over(o, m);
    }
  }
  Array out;
  for (const auto& [name, m] : providers)
    if (const auto p = find_provider(v.world.mesh, name); p && p->kind == "prometheus" && !m.off) out.add(stats_filter(m));
  return out;
}

// ---- providers.h

std::optional<Provider> find_provider(const Mesh& mesh, std::string_view name) {
  for (const Node& p : mesh.providers()) {
    if (upper(p["name"].str()) != upper(name)) continue;
    for (size_t i = 0; i < p.keys.size(); i++)
      if (p.keys[i].text != "name") return Provider{p.keys[i].text, &p.items[i]};
  }
  if (upper(name) == "ENVOY") return Provider{"envoyFileAccessLog"};
  if (upper(name) == "PROMETHEUS") return Provider{"prometheus"};
  return {};
}

const Service* provider_service(const View& v, const std::string& name) {
  const size_t slash = name.find('/');
  const std::string host = name.substr(slash + 1);
  for (const Service* s : v.all_services)
    if (s->host == host && (slash == std::string::npos || s->ns == name.substr(0, slash))) return s;
  return nullptr;
}

std::vector<const Config*> telemetry_scopes(const View& v) {
  const Config *root = nullptr, *ns = nullptr;
  std::vector<const Config*> selecting, out;
  for (const Config* c : v.world.of_kind("Telemetry")) {
    const Node& s = c->spec();
    if (!s["selector"]["matchLabels"].keys.empty() || s["targetRef"] || !s["targetRefs"].items.empty()) {
      if (c->ns == v.node.ns && policy_selects(*c, v)) selecting.push_back(c);
    } else if (c->ns == v.world.mesh.root_namespace) {
      if (root == nullptr) root = c;
    } else if (c->ns == v.node.ns && ns == nullptr) {
      ns = c;
    }
  }
  for (const Config* c : {root, ns})
    if (c != nullptr) out.push_back(c);
  out.insert(out.end(), selecting.begin(), selecting.end());
  return out;
}

}  // namespace sluice::plane
