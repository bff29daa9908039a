// What the translators share: the world reduced to what one node selects and sees, and Istio's rules about host names. Inside of
// ctrl/plane.
#pragma once
#include <deque>
#include <set>
#include <span>
#include <unordered_map>

#include "ctrl/plane/authz_model.h"
#include "ctrl/plane/memo.h"
#include "ctrl/plane/schema.h"
#include "ctrl/plane/translate.h"

namespace sluice::plane {

struct ServicePort {
  uint32_t number = 0;
  std::string name, protocol;  // protocol in upper case
  uint32_t target = 0;
};
struct Service {
  std::string host, ns;
  bool external = false;          // MESH_EXTERNAL: no identity of this mesh is expected there
  const Config* entry = nullptr;  // an object of the entry's shape: its endpoints may be old
  std::string resolution = {};
  std::vector<ServicePort> ports = {};
  std::string key = {};  // "ns/host"
};

// One endpoint of a port: inline in a ServiceEntry, a WorkloadEntry that it selects, or the host itself (DNS).
struct Endpoint {
  const Node& spec;
  std::string address, locality = {};
  std::string workload = {}, ns = {};  // of a WorkloadEntry
  std::string tls_mode = "disabled";
  uint32_t port = 0;
  std::map<std::string, std::string> labels = {};
};

// DestinationRules of one namespace by full host.
struct RulesOfHost {
  std::vector<const Config*> rules;  // more than one only with workload selectors
  std::vector<std::string> export_to;
};
using RuleSet = std::map<std::string, RulesOfHost>;

// A server of a selected Gateway. Hosts keep their "ns/" part, "./" replaced by the gateway's namespace, "*/" dropped.
struct Server {
  const Config* gateway = nullptr;
  const Node* node = nullptr;
  uint32_t port = 0;          // that the node opens
  uint32_t service_port = 0;  // as clients and routes name it: another where a Service of the Gateway API stands before the node
  std::string protocol, raw_protocol, port_name, bind, tls_mode;  // protocol in upper case
  std::vector<std::string> hosts, sni_hosts;                      // sni_hosts: without namespaces, sorted, each once
  bool has_tls() const { return !(*node)["tls"].null(); }
  std::string gateway_name() const { return gateway->ns + "/" + gateway->name; }
  bool terminates_http() const { return protocol == "HTTPS" && tls_mode != "PASSTHROUGH" && tls_mode != "AUTO_PASSTHROUGH"; }
  bool plain_http() const { return protocol == "HTTP" || protocol == "HTTP2" || protocol == "GRPC" || protocol == "GRPC-WEB"; }
  bool passes_tls() const { return tls_mode == "PASSTHROUGH" || tls_mode == "AUTO_PASSTHROUGH"; }
  std::string route_name() const;  // "" where nothing of HTTP is seen
};

// What becomes a listener, or a part of one: servers of one port, protocol and bind.
struct ListenerPort {
  uint32_t number = 0;
  std::string protocol, bind, route_name;
  std::vector<const Server*> servers;
};

// A VirtualService with its delegates merged in.
struct Virtual {
  std::shared_ptr<const Config> config;
  uint64_t id = 0;                    // of its content and of its delegates'
  std::vector<std::string> hosts;     // full names
  Fingerprint of_hosts;               // of these and the namespace
  std::vector<std::string> gateways;  // "ns/name"
  std::vector<const Node*> http;      // in `config`, or in `merged`
  std::deque<Node> merged;
  std::vector<std::string> destinations;  // full names of all hosts that its routes name, each once
};

// What a view is made of that does not depend on the rest of the world; kept from one version of the world to the next (memo.h).
struct ViewParts {
  struct Entry {
    std::shared_ptr<const Config> owner;
    std::vector<Service> services;
  };
  Memo<std::unique_ptr<const Virtual>> virtuals;
  Memo<Entry> entries;
};

struct View {
  const World& world;
  const NodeInfo& node;
  TranslateOptions options;
  std::shared_ptr<ViewParts> parts;
  std::vector<Server> servers;      // in the order of gateways and of their lists
  std::vector<ListenerPort> ports;  // of the servers that did not give way
  std::map<std::string, std::vector<const Server*>> routes;
  std::vector<const Virtual*> virtuals;                                     // bound to one of the selected gateways
  std::unordered_map<std::string, std::vector<const Virtual*>> by_gateway;  // the same, "ns/name"
  std::vector<const Service*> services;                                     // all that the node sees, private before exported before public
  std::vector<const Service*> all_services;                                 // of the mesh
  std::unordered_map<std::string_view, const Service*> by_host, by_ns_host;   // of services: the first; "ns/host"
  std::unordered_map<std::string_view, std::vector<const Config*>> entries;   // ServiceEntries of the mesh by "ns/host"
  std::unordered_map<std::string, std::vector<const Config*>> workloads;      // WorkloadEntries by namespace
  std::unordered_map<std::string, std::vector<const Config*>> peer_policies;  // PeerAuthentications by namespace
  std::map<std::string, RuleSet> own_rules, exported_rules;                   // by namespace
  RuleSet private_root_rules;
  std::deque<Config> merged_rules;
  std::map<std::string, const Config*> backend_tls_rules;  // of the Gateway API's BackendTLSPolicies, by full host
  const Service* service(const std::string& host, const std::string& ns = {}) const;  // that of `ns` first
  const Config* destination_rule(const Service& s) const;
  std::span<const Config* const> entries_of(const Service& s) const;
  std::span<const Virtual* const> bound_to(const Server& s) const;
};

// `parts` of an earlier version of the world for the same node, or nothing.
View view_of(const World& world, const NodeInfo& node, std::shared_ptr<ViewParts> parts = nullptr);
enum class PeerMode : uint8_t { kDisable, kPermissive, kStrict };
PeerMode peer_mode(const View& v, const std::string& ns);  // of a namespace
PeerMode peer_mode(const View& v, const std::string& ns, const std::map<std::string, std::string>& labels, uint32_t port);

void add_services(View& v);
void index_rules(View& v);
std::vector<Endpoint> endpoints_of(const View& v, const Service& s, const ServicePort& port);
std::vector<std::string> identities_of(const View& v, const Service& s);
void merge_gateways(View& v);  // fills servers, ports and routes
// False, and nothing taken, if one of the hosts is taken at this bind.
using TakenHosts = std::map<std::string, std::string>;  // host -> bind
bool claim_hosts(TakenHosts& taken, const std::vector<std::string>& hosts, const std::string& bind);

// By exportTo: 0 private to the namespace, 1 exported to it by name, 2 to all; nothing: not seen there.
std::optional<int> visibility(const Config& c, const std::string& ns);
void add_http_routes(const std::vector<const Config*>& delegates, Virtual& x);  // with those of its delegates
std::vector<const Config*> delegates_of(const Config& c, const std::vector<const Config*>& all);
std::string upper(std::string_view s);
std::string full_host(const std::string& host, const std::string& ns);  // "web" -> web.NS.svc.cluster.local
bool host_within(std::string_view narrow, std::string_view wide);       // every name of narrow is one of wide
std::vector<std::string> hosts_for(const Server& s, const std::string& ns);
std::vector<std::string> intersection(const std::vector<std::string>& a, const std::vector<std::string>& b);
bool labels_within(const Node& selector, const std::map<std::string, std::string>& labels);
std::string full_gateway(const std::string& name, const std::string& ns);  // "edge" -> ns/edge
std::string cluster_name(uint32_t port, const std::string& subset, const std::string& host);
std::string sni_name(uint32_t port, const std::string& subset, const std::string& host);
std::string destination_cluster(const View& v, const Node& destination, const std::string& ns, uint32_t listener_port);
Json json_of(const Node& n);  // of YAML as it stands: plain numbers and truth values are themselves, all else is text
std::string config_path(const Config& c);
inline std::string memo_name(const Config& c) { return c.ns + "/" + c.name + (c.derived ? "~" : ""); }  // one of its kind

// A filter chain; by_tls: the listener has to look into the ClientHello for it.
struct Chain {
  Json json;
  bool by_tls = false;
};
Chain chain(Object match, const Json& filters, const Json* socket = nullptr, bool has_names = false);
Object sni_match(std::vector<std::string> names);                                                // {} where "*" is among them
void add_l4_chains(const View& v, const Server& s, TakenHosts& taken, std::vector<Chain>& out);  // taken: of the port

Json secret(const std::string& name);             // of the gateway's agent
Json credential_secret(const std::string& name);  // of the control plane
Json downstream_tls(const Server& s);
Json istio_mutual_tls(const std::string& sni, const std::vector<std::string>& names, bool http2);
Json originated_tls(const Node& tls, const std::vector<std::string>& service_names, bool http2);
Json metadata_exchange_tcp();

// The parts of an answer, one file each.
struct WantedService {
  const Service* service = nullptr;
  bool sni_dnat = false;  // as an AUTO_PASSTHROUGH server reaches it
};
std::vector<WantedService> wanted_services(const View& v);
void translate_service(const View& v, const Service& s, bool sni_dnat, Answer& out);  // its clusters and endpoints
void add_black_hole(const View& v, Answer& out);
void translate_clusters(const View& v, Answer& out);   // all of that
void translate_listeners(const View& v, Answer& out);  // without the routes
Answer translate_for_grpc(const View& v);              // a Node with GENERATOR: grpc
Json route_configuration(const View& v, const std::string& name, const std::vector<const Server*>& servers);
std::vector<Patch> patches_of(const View& v);
Array access_logs(const View& v);
Array listener_access_logs(const View& v);
Array stats_filters(const View& v);
bool traced(const View& v);
Array http_rbac(const View& v);  // the filters, none where no policy selects the node
Array tcp_rbac(const View& v);
Array http_custom_authz(const View& v);
Array jwt_authn(const View& v);
bool policy_selects(const Config& c, const View& v);
// Nothing: there is no such provider. An empty Json: it has no say on this wire.
std::optional<Json> ext_authz_filter(const View& v, const std::string& provider, Wire wire);
std::set<std::pair<std::string, std::string>> provider_hosts(const Mesh& mesh);  // {namespace or "", host}

}  // namespace sluice::plane
