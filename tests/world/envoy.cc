#include "tests/world/envoy.h"

#include "tests/world/world.h"

namespace sluice::world {
namespace {

std::string more(const std::string& fields) { return fields.empty() ? "" : ", " + fields; }
std::string any(const std::string& type, const std::string& fields = "") {
  return R"({"@type": "type.googleapis.com/)" + type + "\"" + more(fields) + "}";
}
std::string joined(const std::vector<std::string>& list) {
  std::string all;
  for (const std::string& s : list) all += (all.empty() ? "" : ", ") + s;
  return all;
}
std::string listener(const std::string& name, uint16_t port, const std::string& filter, const std::string& config, const std::string& rest,
                     const std::string& before = "") {
  return any("envoy.config.listener.v3.Listener", R"("name": ")" + name +
                                                      R"(", "address": {"socket_address": {"address": "0.0.0.0", "port_value": )" +
                                                      std::to_string(port) + R"(}}, "filter_chains": [{"filters": [)" + before +
                                                      R"({"name": ")" + filter + R"(", "typed_config": )" + config + "}]}]" + more(rest));
}

// Line's members, in order.
const std::string kAccessLog =
    R"("access_log": [{"name": "envoy.access_loggers.file", "typed_config": )" +
    any("envoy.extensions.access_loggers.file.v3.FileAccessLog",
        R"("path": "/dev/stdout", "log_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE%;;%RESPONSE_FLAGS%;;)"
        R"(%RESPONSE_CODE_DETAILS%;;%BYTES_RECEIVED%;;%BYTES_SENT%;;%REQ(:METHOD)%;;%REQ(:PATH)%;;%UPSTREAM_CLUSTER%;;%UPSTREAM_HOST%;;)"
        R"(%UPSTREAM_REQUEST_ATTEMPT_COUNT%;;%UPSTREAM_TRANSPORT_FAILURE_REASON%;;%ROUTE_NAME%;;%CONNECTION_ID%;;%DURATION%\n"}})") +
    "}]";

}  // namespace

std::string http_listener(const ListenerText& l) {
  const std::string router =
      R"({"name": "envoy.filters.http.router", "typed_config": )" + any("envoy.extensions.filters.http.router.v3.Router") + "}";
  return listener(l.name, l.port, "envoy.filters.network.http_connection_manager",
                  any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                      R"("stat_prefix": "http", "rds": {"route_config_name": "routes"}, "http_filters": [)" + l.filters + router + "], " +
                          kAccessLog + more(l.hcm)),
                  l.more, l.network);
}

std::string tcp_listener(const std::string& name, uint16_t port, const std::string& cluster, const std::string& fields) {
  return listener(name, port, "envoy.filters.network.tcp_proxy",
                  any("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                      R"("stat_prefix": "tcp", "cluster": ")" + cluster + "\", " + kAccessLog + more(fields)),
                  "");
}

std::string rbac(const std::string& action, const std::vector<std::string>& path_prefixes) {
  std::vector<std::string> policies;
  for (const std::string& p : path_prefixes)
    policies.push_back("\"" + p + R"(": {"permissions": [{"url_path": {"path": {"prefix": ")" + p +
                       R"("}}}], "principals": [{"any": true}]})");
  return R"({"name": "envoy.filters.http.rbac", "typed_config": )" +
         any("envoy.extensions.filters.http.rbac.v3.RBAC",
             R"("rules": {"action": ")" + action + R"(", "policies": {)" + joined(policies) + "}}") +
         "},";
}

std::string network_rbac(const std::string& action, const std::string& source_block) {
  const size_t slash = source_block.find('/');
  return R"({"name": "envoy.filters.network.rbac", "typed_config": )" +
         any("envoy.extensions.filters.network.rbac.v3.RBAC", R"("stat_prefix": "tcp.", "rules": {"action": ")" + action +
                                                                  R"(", "policies": {"p": {"permissions": [{"any": true}], "principals": [)"
                                                                  R"({"direct_remote_ip": {"address_prefix": ")" +
                                                                  source_block.substr(0, slash) + R"(", "prefix_len": )" +
                                                                  source_block.substr(slash + 1) + "}}]}}}") +
         "},";
}

std::string routes(const std::vector<std::string>& list, const std::string& more_of_virtual_host) {
  return any("envoy.config.route.v3.RouteConfiguration",
             R"("name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [)" + joined(list) + "]" +
                 more(more_of_virtual_host) + "}]");
}
std::string route(const std::string& prefix, const std::string& cluster, const std::string& more_of_action) {
  return route_with(prefix, R"("route": {"cluster": ")" + cluster + "\"" + more(more_of_action) + "}");
}
std::string route_with(const std::string& prefix, const std::string& rest) {
  return R"({"match": {"prefix": ")" + prefix + R"("}, )" + rest + "}";
}

std::string cluster(const std::string& name, const std::string& fields, const std::string& connect_timeout) {
  return any("envoy.config.cluster.v3.Cluster", R"("name": ")" + name + R"(", "type": "EDS", "connect_timeout": ")" + connect_timeout +
                                                    R"(", "eds_cluster_config": {"service_name": ")" + name + "\"}" + more(fields));
}
std::string circuit(const std::string& thresholds) { return R"("circuit_breakers": {"thresholds": [{)" + thresholds + "}]}"; }
std::string endpoints(const std::string& cluster, const std::vector<std::string>& addresses) {
  std::vector<std::string> list;
  for (const std::string& a : addresses) {
    const size_t colon = a.rfind(':');
    list.push_back(R"({"endpoint": {"address": {"socket_address": {"address": ")" + a.substr(0, colon) + R"(", "port_value": )" +
                   a.substr(colon + 1) + "}}}}");
  }
  return any("envoy.config.endpoint.v3.ClusterLoadAssignment",
             R"("cluster_name": ")" + cluster + R"(", "endpoints": [{"lb_endpoints": [)" + joined(list) + "]}]");
}

std::vector<std::string> plain(const std::string& action, const std::string& hcm, const std::string& cluster_more) {
  return {http_listener({.hcm = hcm}), routes({route("/", "a", action)}), cluster("a", cluster_more), endpoints("a", {"10.1.0.2:80"})};
}

}  // namespace sluice::world
