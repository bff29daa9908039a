// The bootstrap: what the gateway must know before its first configuration comes, from one YAML file. configs/sluice.yaml shows every key
// with its default. Strict: an unknown key, a wrong type, a value out of its bounds and a combination that cannot work are errors; all of
// them are reported at once, each as "FILE:LINE:COL: what; remedy". Thread: start-up.
#pragma once
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/limits.h"
#include "dataplane/base/now.h"

namespace sluice::agent {

enum class IdleProfile : uint8_t { kLatency, kBalanced, kDev };
enum class Hugepages : uint8_t { kAuto, kYes, kNo };

struct NodeConfig {
  std::string id;       // "router~IP~NAME.NS~NS.svc.cluster.local" (reference/xds.md 1.6); required
  std::string cluster;  // "WORKLOAD.NS"; default: from the id
  std::string region, zone, sub_zone;
  std::string metadata_json = "{}";  // a google.protobuf.Struct
  bool operator==(const NodeConfig&) const = default;
};

struct PortConfig {
  std::string name;                 // for logs and metrics; default: port0, port1, ...
  std::string devargs;              // a port spec (drivers/port_spec.h): "auto:eth1", "memif:role=server,socket=...", "0000:03:00.0"
  std::vector<IpPrefix> addresses;  // what we answer on, with the length of the connected network
  std::optional<MacAddress> mac;    // default: the device's
  std::optional<uint16_t> vlan;     // 802.1Q id; default: untagged
  bool operator==(const PortConfig&) const = default;
};

struct RouteConfig {
  IpPrefix to;
  IpAddress via;
  bool operator==(const RouteConfig&) const = default;
};

struct TlsFiles {
  std::string ca, cert, key;  // PEM files; cert and key may be empty together
  bool operator==(const TlsFiles&) const = default;
};

struct XdsConfig {
  std::string address;          // "unix:PATH" or "HOST:PORT"
  std::optional<TlsFiles> tls;  // none: plain text, which only a Unix socket or loopback should carry
  std::string server_name;      // what the server's certificate must say; default: the host
  bool operator==(const XdsConfig&) const = default;
};

// Who signs our certificate `default`: sluice-control's CA or istiod (Istio's CSR API). None: secrets.dir has it.
struct CaConfig {
  std::string address;          // "unix:PATH" or "HOST:PORT"
  std::optional<TlsFiles> tls;  // none: a Unix socket or loopback only
  std::string server_name;      // what the server's certificate must say; default: the host
  std::string token;            // a file with a bearer token, read again at each call; needed unless tls has cert and key
  std::string identity;         // default: spiffe://cluster.local/ns/NAMESPACE/sa/SERVICE_ACCOUNT of node.metadata
  Usec ttl = 86'400 * kSec;     // asked for; renewed at half
  std::string keep = "off";     // a folder that keeps certificate and key over a restart, 0600; off: they are in memory only
  std::string cluster_id;       // CLUSTER_ID of node.metadata
  bool operator==(const CaConfig&) const = default;
};

// Where the resources come from when it is not a control plane.
struct ResourcesConfig {
  std::string golden;  // a folder with cds.pb eds.pb lds.pb rds.pb (DeltaDiscoveryResponse)
  std::string json;    // a file of Envoy resources as protojson
  bool operator==(const ResourcesConfig&) const = default;
};

struct LimitsConfig {                      // each with its line in docs/limits.md
  uint32_t connections = kConnectionsMax;  // per worker
  uint32_t exchanges = kExchangesMax;      // per worker
  Usec request_headers_timeout = kRequestHeadersTimeout;
  Usec send_stall_timeout = kSendStallTimeout;
  bool operator==(const LimitsConfig&) const = default;
};

struct Bootstrap {
  NodeConfig node;
  std::vector<PortConfig> ports;  // required
  std::vector<RouteConfig> routes;
  uint32_t workers = 1;
  IdleProfile idle = IdleProfile::kBalanced;
  uint32_t mbufs_per_worker = 0;  // 0: computed (dataplane/base/limits.h)
  Hugepages hugepages = Hugepages::kAuto;
  std::optional<XdsConfig> xds;  // exactly one of xds and resources
  std::optional<ResourcesConfig> resources;
  std::optional<CaConfig> ca;
  std::string secrets_dir = "/etc/sluice/secrets";
  std::vector<std::pair<std::string, std::string>> secrets_paths;  // {prefix of a file-cert: or file-root: path, folder read instead}
  std::string kept_dir = "/var/lib/sluice";                        // "off": nothing is kept
  std::string log_dir;                                             // put before relative log paths; "" as configured
  bool log_stdout = false;                                         // every access log goes to standard output
  std::string admin_socket = "/run/sluice/admin.sock";
  uint16_t ready_port = 15021;                    // on the ports' addresses; 0: none
  std::string stats_address = "127.0.0.1:15090";  // loopback only; "off": none
  Usec drain_deadline = kDrainDeadline;
  LimitsConfig limits;
  bool operator==(const Bootstrap&) const = default;
};

constexpr uint32_t kWorkersMax = 64;

std::expected<Bootstrap, std::vector<std::string>> parse_bootstrap(std::string_view text, const std::string& file);
std::expected<Bootstrap, std::vector<std::string>> load_bootstrap(const std::string& file);

// Whether "unix:PATH" or "HOST:PORT" stays on this machine, so that plain text may go there.
bool is_local(std::string_view address);

// Every key the parser knows, as "memory.mbufs"; for the test that configs/sluice.yaml shows them all.
std::vector<std::string> bootstrap_keys();

}  // namespace sluice::agent
