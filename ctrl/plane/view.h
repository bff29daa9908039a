// What the translators share: the world reduced to what one node selects and sees, and Istio's rules about host names. Inside of
// ctrl/plane.
#pragma once
#include <set>

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
  const Config* entry = nullptr;
  std::vector<ServicePort> ports;
};

// A server of a selected Gateway. Hosts keep their "ns/" part, "./" replaced by the gateway's namespace.
struct Server {
  const Config* gateway = nullptr;
  const Node* node = nullptr;
  uint32_t port = 0;
  std::string protocol, port_name, bind, tls_mode;
  std::vector<std::string> hosts;
  std::string gateway_name() const { return gateway->ns + "/" + gateway->name; }
  bool terminates_http() const { return protocol == "HTTPS" && tls_mode != "PASSTHROUGH" && tls_mode != "AUTO_PASSTHROUGH"; }
  bool plain_http() const { return protocol == "HTTP" || protocol == "HTTP2" || protocol == "GRPC" || protocol == "GRPC-WEB"; }
  bool passes_tls() const { return tls_mode == "PASSTHROUGH" || tls_mode == "AUTO_PASSTHROUGH"; }
  std::string route_name() const;
};

// A VirtualService with its delegates merged in.
struct Virtual {
  const Config* config = nullptr;
  std::vector<std::string> hosts;     // full names
  std::vector<std::string> gateways;  // "ns/name"
  std::vector<Node> http;
};

struct View {
  const World& world;
  const NodeInfo& node;
  TranslateOptions options;
  std::vector<Server> servers;            // in the order of gateways and of their lists
  std::vector<Virtual> virtuals;          // bound to one of the selected gateways
  std::vector<Service> services;          // all that the node sees
  std::vector<const Config*> rules;       // all DestinationRules
  std::map<std::string, size_t> by_host;  // of services: the node's own namespace first
  const Service* service(const std::string& host) const;
  const Config* destination_rule(const Service& s) const;
};

View view_of(const World& world, const NodeInfo& node);

std::string upper(std::string_view s);
std::string full_host(const std::string& host, const std::string& ns);  // "web" -> web.NS.svc.cluster.local
bool host_within(std::string_view narrow, std::string_view wide);       // every name of narrow is one of wide
std::vector<std::string> hosts_for(const Server& s, const std::string& ns);
std::vector<std::string> intersection(const std::vector<std::string>& a, const std::vector<std::string>& b);
bool labels_within(const Node& selector, const std::map<std::string, std::string>& labels);
std::string cluster_name(uint32_t port, const std::string& subset, const std::string& host);
std::string sni_name(uint32_t port, const std::string& subset, const std::string& host);
std::string destination_cluster(const View& v, const Node& destination, const std::string& ns, uint32_t listener_port);
// {"filterMetadata": {"istio": {"config": ...}}} of the object.
std::string config_path(const Config& c);

// The parts of an answer, one file each.
void translate_clusters(const View& v, Answer& out);
void translate_listeners(const View& v, Answer& out);
Json route_configuration(const View& v, const std::string& name, const std::vector<const Server*>& servers);
Json access_log(const Mesh& mesh);
Array http_rbac(const View& v);  // the filters, none where no policy selects the node
Array tcp_rbac(const View& v);

}  // namespace sluice::plane
