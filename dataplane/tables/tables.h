// The tables: what the gateway obeys, as plain immutable data. No protobuf, no OpenSSL objects; ctrl/compile makes them from Envoy's types,
// the workers read them, nobody changes them. The names are Envoy's (config.listener.v3, config.route.v3, config.cluster.v3,
// config.rbac.v3).
//
// A Snapshot is a root over shared parts; a part is rebuilt only when the hash of its source changes. Parts refer to each other by interned
// ids (ClusterId, RouteConfigId) that are stable for the life of the process, so a new cluster does not touch the routes that name it, and
// an id without a part is "not there (yet)": 503 NC, or a route configuration that has not come (404 route_not_found). No pointer into a
// snapshot outlives a turn; what an exchange needs it copies (or it holds the shared_ptr of the part, which is cheap for parts that live
// long: Hcm, AccessLog). Thread: built on the control thread; read by any worker between two quiescent points (worker/publish). Times: 0 is
// "off" or "for ever" where Envoy says so; the compiler has filled in Envoy's defaults, nothing here is "unset" except optionals.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/now.h"
#include "dataplane/http/headers_policy.h"
#include "dataplane/http/path.h"
#include "dataplane/tables/regex.h"

namespace sluice::tls {
class ServerPolicy;
}
namespace sluice::http {
class Format;  // a compiled substitution format (http/format.h)
}
namespace sluice::route {
class VirtualHostIndex;  // path trie, regex prefilter: first match of a virtual host's routes
class DomainIndex;       // host -> virtual host
}  // namespace sluice::route
namespace sluice::authz {
class Program;  // a compiled Rbac
}

namespace sluice::tables {

using ClusterId = uint32_t;
using RouteConfigId = uint32_t;
constexpr uint32_t kNoId = ~0u;
constexpr uint32_t kClustersMax = 1 << 18;   // names of a process's life; the compiler refuses what would need more
constexpr uint32_t kEndpointsMax = 1 << 20;  // at a time

// ---- matching

struct StringMatch {
  enum class Kind : uint8_t { kExact, kPrefix, kSuffix, kContains, kRegex };
  Kind kind = Kind::kExact;
  bool ignore_case = false;  // not for kRegex
  std::string value;         // lower-cased by the compiler when ignore_case
  std::shared_ptr<const Regex> regex;
  bool matches(std::string_view) const;
};

struct HeaderMatch {
  std::string name;  // lower-case; ":method", ":path", ":authority", ":scheme" are the pseudo-headers
  enum class Kind : uint8_t { kPresent, kString, kRange } kind = Kind::kPresent;
  StringMatch string;
  int64_t range_start = 0, range_end = 0;  // [start, end)
  bool present = true;                     // kPresent: whether it must be there
  bool invert = false, treat_missing_as_empty = false;
};

struct QueryMatch {
  std::string name;
  bool present_only = false;  // else `string` on the first value
  StringMatch string;
};

// ---- routes

struct HeaderOperation {
  enum class Action : uint8_t { kAppendIfExistsOrAdd, kAddIfAbsent, kOverwriteIfExistsOrAdd, kOverwriteIfExists };
  std::string name;  // lower-case
  std::shared_ptr<const http::Format> value;
  Action action = Action::kAppendIfExistsOrAdd;
  bool keep_empty = false;
};
struct HeaderOperations {
  std::vector<HeaderOperation> request_add, response_add;
  std::vector<std::string> request_remove, response_remove;
};

struct RouteMatch {
  enum class Path : uint8_t { kPrefix, kExact, kSeparatedPrefix, kRegex };
  Path kind = Path::kPrefix;
  std::string path;  // for kRegex: the pattern's text
  bool case_sensitive = true;
  std::shared_ptr<const Regex> regex;
  std::vector<HeaderMatch> headers;
  std::vector<QueryMatch> query;
  bool grpc = false;
  std::optional<uint32_t> fraction_of_million;  // runtime_fraction's default value
};

enum RetryOn : uint32_t {
  kRetry5xx = 1,
  kRetryGatewayError = 2,
  kRetryReset = 4,
  kRetryConnectFailure = 8,
  kRetryRefusedStream = 16,
  kRetryRetriable4xx = 32,
  kRetryRetriableStatusCodes = 64,
  kRetryResetBeforeRequest = 128,
  kRetryEnvoyRateLimited = 256,
  kRetryGrpcCancelled = 512,
  kRetryGrpcUnavailable = 1024,
  kRetryGrpcDeadline = 2048,
  kRetryGrpcInternal = 4096,
  kRetryGrpcExhausted = 8192,
};
struct RetryPolicy {
  uint32_t retry_on = 0;  // RetryOn bits
  uint32_t num_retries = 1;
  Usec per_try_timeout = 0;  // 0: the route's timeout
  std::vector<uint16_t> retriable_status_codes;
  bool previous_hosts = false;
  uint32_t host_selection_attempts_max = 1;
  Usec back_off_base = 25 * kMs, back_off_max = 250 * kMs;
};

struct WeightedCluster {
  ClusterId cluster = kNoId;
  std::string name;
  uint32_t weight = 0;
  HeaderOperations headers;
  std::string host_rewrite;  // empty: none
};

struct RouteAction {
  std::vector<WeightedCluster> clusters;  // one entry of weight 1 for a plain `cluster`; chosen at random per request by weight
  uint32_t total_weight = 1;
  std::string prefix_rewrite;  // replaces the matched prefix or path; empty: none
  std::shared_ptr<const Regex> regex_rewrite;
  std::string regex_substitution;
  std::string host_rewrite;  // host_rewrite_literal; empty: none
  bool append_x_forwarded_host = false;
  Usec timeout = 15 * kSec;  // 0: none
  std::optional<Usec> idle_timeout;
  std::optional<Usec> max_grpc_timeout;  // 0: as the client says
  std::optional<RetryPolicy> retry;
  uint16_t cluster_not_found_code = 503;
};

struct Redirect {
  std::string scheme, host;
  std::optional<uint32_t> port;
  bool https = false;  // https_redirect
  std::optional<std::string> path, prefix_rewrite;
  std::shared_ptr<const Regex> regex_rewrite;
  std::string regex_substitution;
  bool strip_query = false;
  uint16_t code = 301;
};

struct DirectResponse {
  uint16_t status = 200;
  std::string body;
};

struct Route {
  std::string name;
  RouteMatch match;
  enum class Kind : uint8_t { kForward, kRedirect, kDirectResponse } kind = Kind::kForward;
  RouteAction forward;
  Redirect redirect;
  DirectResponse direct;
  HeaderOperations headers;
  std::string decorator_operation;  // x-envoy-decorator-operation
  bool decorator_propagate = true;
  std::string source;  // metadata istio.config: the object that caused it
};

struct VirtualHost {
  std::string name;
  std::vector<std::string> domains;  // as configured, lower-cased
  std::vector<Route> routes;         // first match wins
  bool require_tls = false;          // 301 to https
  bool include_request_attempt_count = false;
  std::optional<RetryPolicy> retry;  // where a route has none
  HeaderOperations headers;
  std::shared_ptr<const route::VirtualHostIndex> index;
};

struct RouteConfiguration {
  std::string name;
  std::vector<std::shared_ptr<const VirtualHost>> virtual_hosts;
  bool ignore_port = false;
  HeaderOperations headers;
  std::shared_ptr<const route::DomainIndex> index;
};

// ---- authorization (config.rbac.v3)

struct Permission {
  enum class Kind : uint8_t {
    kAny,
    kAnd,
    kOr,
    kNot,
    kHeader,
    kUrlPath,
    kUriTemplate,
    kDestinationIp,
    kDestinationPort,
    kRequestedServerName
  };
  Kind kind = Kind::kAny;
  std::vector<Permission> children;  // kAnd, kOr; kNot: one
  HeaderMatch header;
  StringMatch string;        // kUrlPath, kRequestedServerName
  std::string uri_template;  // kUriTemplate
  IpPrefix ip;
  uint32_t port_start = 0, port_end = 0;  // [start, end)
};
struct Principal {
  enum class Kind : uint8_t { kAny, kAnd, kOr, kNot, kAuthenticated, kDirectRemoteIp, kRemoteIp, kHeader, kUrlPath };
  Kind kind = Kind::kAny;
  std::vector<Principal> children;
  std::optional<StringMatch> principal_name;  // kAuthenticated: absent = any peer with a verified certificate
  IpPrefix ip;
  HeaderMatch header;
  StringMatch string;
};
struct Policy {
  std::string name;
  std::vector<Permission> permissions;  // any of
  std::vector<Principal> principals;    // any of
};
struct Rbac {
  enum class Action : uint8_t { kAllow, kDeny, kLog };
  Action action = Action::kAllow;
  std::vector<Policy> policies;  // sorted by name; ALLOW without policies denies all, DENY without policies denies nothing
};
struct RbacFilter {
  std::optional<Rbac> rules, shadow_rules;
  std::string shadow_rules_stat_prefix;
  std::shared_ptr<const authz::Program> program, shadow_program;  // null where the optional is empty: allows
};

// ---- listeners

struct AccessLog {
  std::string path;  // "/dev/stdout" or a file
  std::shared_ptr<const http::Format> format;
  std::vector<std::string> only_flags;  // response_flag_filter; empty: every record
  bool filter_present = false;          // with an empty only_flags: any flag
};

struct HttpFilter {
  enum class Kind : uint8_t { kRbac, kRouter } kind = Kind::kRouter;
  std::string name;
  RbacFilter rbac;
};

// http_connection_manager
struct Hcm {
  std::string stat_prefix;
  RouteConfigId route_config = kNoId;  // rds
  std::string route_config_name;
  std::shared_ptr<const RouteConfiguration> inline_routes;  // route_config
  std::vector<HttpFilter> filters;                          // in order; the last is the router
  std::vector<std::shared_ptr<const AccessLog>> access_logs;
  std::string server_name = "envoy";
  enum class ServerHeader : uint8_t { kOverwrite, kAppendIfAbsent, kPassThrough } server_header = ServerHeader::kOverwrite;
  http::ForwardingOptions forwarding;
  http::PathOptions path;
  bool proxy_100_continue = false;
  bool always_set_request_id_in_response = false;
  bool websocket = false;        // upgrade_configs
  bool enable_trailers = false;  // HTTP/1 trailers are taken from clients and go to them
  uint32_t headers_bytes_max = 60 * 1024, headers_count_max = 100;
  Usec stream_idle_timeout = 300 * kSec, request_timeout = 0, request_headers_timeout = 0;
  Usec idle_timeout = 3600 * kSec;  // common_http_protocol_options
  Usec max_connection_duration = 0;
};

struct TcpProxy {
  std::string stat_prefix;
  std::vector<WeightedCluster> clusters;
  uint32_t total_weight = 1;
  std::vector<std::shared_ptr<const AccessLog>> access_logs;
  Usec idle_timeout = 3600 * kSec;  // 0: none
  Usec max_connection_duration = 0;
};

struct FilterChainMatch {
  std::optional<uint16_t> destination_port;
  std::vector<IpPrefix> destination, source, direct_source;
  std::vector<std::string> server_names;           // lower-case, exact or "*.suffix"; empty: any
  std::string transport_protocol;                  // "", "tls", "raw_buffer"
  std::vector<std::string> application_protocols;  // any of; empty: any
  std::vector<uint16_t> source_ports;
};

struct FilterChain {
  std::string name;
  FilterChainMatch match;
  bool tls_required = false;  // has a TLS transport socket
  std::shared_ptr<const tls::ServerPolicy>
      tls;                  // null while tls_required: its secret is missing or was refused; the chain refuses connections
  std::string tls_missing;  // which, for status
  bool client_certificate_asked = false, client_certificate_required = false;  // in the handshake; nobody has a principal unasked
  Usec transport_socket_connect_timeout = 15 * kSec;
  std::vector<RbacFilter> network_rbac;  // before the terminal filter, in order
  std::shared_ptr<const Hcm> http;       // exactly one of http, tcp
  std::shared_ptr<const TcpProxy> tcp;
  uint64_t content_hash = 0;
};

class FilterChainIndex;  // filter_chain_index.h

struct Listener {
  std::string name;
  SocketAddress address;  // 0.0.0.0: every address of the ports
  std::vector<std::shared_ptr<const FilterChain>> chains;
  std::shared_ptr<const FilterChainIndex> index;     // over `chains`
  std::shared_ptr<const FilterChain> default_chain;  // may be null
  bool tls_inspector = false;
  Usec listener_filters_timeout = 15 * kSec;
  bool continue_on_listener_filters_timeout = false;
  std::vector<std::shared_ptr<const AccessLog>> access_logs;
  uint64_t content_hash = 0;
};

// ---- clusters

enum class LbPolicy : uint8_t { kRoundRobin, kLeastRequest, kRandom };

struct Endpoint {
  SocketAddress address;
  uint32_t id = 0;  // of {cluster, address}, stable until long after it went; upstream state hangs on it
  uint32_t weight = 1;
  uint32_t priority = 0;
  uint32_t locality = 0;  // index into EndpointTable::localities
  bool healthy = true;    // EDS health status
  bool tls = false;       // its selected transport socket is TLS: unusable until origination exists (503 UH), never plaintext
  std::string hostname;
};
struct Locality {
  std::string region, zone, sub_zone;
  uint32_t weight = 0, priority = 0;
};
struct EndpointTable {
  std::vector<Endpoint> endpoints;
  std::vector<Locality> localities;
};

struct CircuitThresholds {  // per gateway, not per worker
  uint32_t connections_max = 1024, pending_max = 1024, requests_max = 1024, retries_max = 3;
};

struct Cluster {
  std::string name;
  ClusterId id = kNoId;
  std::shared_ptr<const EndpointTable> endpoints;  // never null; empty: 503 UH
  LbPolicy lb = LbPolicy::kRoundRobin;
  uint32_t choice_count = 2;  // least request
  Usec connect_timeout = 5 * kSec;
  CircuitThresholds circuit;
  Usec idle_timeout = 3600 * kSec;
  uint32_t requests_per_connection_max = 0;  // 0: unbounded
  bool http2 = false;                        // upstream speaks h2 only: unusable until the codec exists (503 UH)
  bool enable_trailers = false;              // HTTP/1 trailers go to the endpoints and are taken from them
  uint64_t content_hash = 0;
};

// ---- the root

struct Snapshot {
  uint64_t generation = 0;
  std::vector<std::shared_ptr<const Listener>> listeners;                // sorted by address
  std::vector<std::shared_ptr<const Cluster>> clusters;                  // by ClusterId; null: not there
  std::vector<std::shared_ptr<const RouteConfiguration>> route_configs;  // by RouteConfigId; null: not there
  const Cluster* cluster(ClusterId id) const { return id < clusters.size() ? clusters[id].get() : nullptr; }
  const RouteConfiguration* routes(RouteConfigId id) const { return id < route_configs.size() ? route_configs[id].get() : nullptr; }
};

}  // namespace sluice::tables
