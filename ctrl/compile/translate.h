// Envoy's messages to tables, one function per kind (listener.cc, route.cc, rbac.cc, cluster.cc). Called after judge(): what the verdict
// table refuses never comes here. Internal to ctrl/compile. A value that cannot be obeyed throws Refused with its reason; the compiler
// catches it.
#pragma once
#include <functional>
#include <stdexcept>

#include "ctrl/compile/compile.h"
#include "envoy/config/accesslog/v3/accesslog.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/rbac/v3/rbac.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "tls-offload/context.h"

namespace sluice::compile {

namespace core = envoy::config::core::v3;

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Names to ids, for the life of the process.
class Ids {
 public:
  uint32_t of(const std::string& name) { return ids_.try_emplace(name, uint32_t(ids_.size())).first->second; }
  uint32_t count() const { return uint32_t(ids_.size()); }

 private:
  std::map<std::string, uint32_t> ids_;
};
struct Interned {
  Ids clusters, route_configs, endpoints;
};

// A TLS chain before its secrets are known.
struct TlsTemplate {
  std::vector<std::string> certificates;  // secret names
  std::string trusted_ca;                 // secret name; empty: none
  bool spiffe_required = false;
  tls::ServerPolicyOptions options;  // all but what the secrets give
};
struct ListenerTemplate {
  tables::Listener listener;  // chains without tls
  std::vector<std::shared_ptr<tables::FilterChain>> chains;
  std::vector<std::optional<TlsTemplate>> tls;  // by chain
  std::shared_ptr<tables::FilterChain> default_chain;
  std::optional<TlsTemplate> default_tls;
  std::set<std::string> route_configs;
};

ListenerTemplate listener_of(const envoy::config::listener::v3::Listener& l, Interned& ids);
std::shared_ptr<const tables::RouteConfiguration> routes_of(const envoy::config::route::v3::RouteConfiguration& r, Interned& ids);
tables::Cluster cluster_of(const envoy::config::cluster::v3::Cluster& c, Interned& ids);
// `cluster`: whose transport sockets say which endpoints are TLS.
std::shared_ptr<const tables::EndpointTable> endpoints_of(const envoy::config::endpoint::v3::ClusterLoadAssignment& a,
                                                          const envoy::config::cluster::v3::Cluster& cluster, Interned& ids);
tables::Rbac rbac_of(const envoy::config::rbac::v3::RBAC& r);

tables::StringMatch string_match_of(const envoy::type::matcher::v3::StringMatcher& m);
tables::HeaderMatch header_match_of(const envoy::config::route::v3::HeaderMatcher& m);
IpPrefix prefix_of(const core::CidrRange& range);
SocketAddress address_of(const core::Address& a);
std::string lower(std::string_view s);
Usec usec_of(const google::protobuf::Duration& d);
template <class M>
M unpacked(const google::protobuf::Any& any) {
  M m;
  if (!any.UnpackTo(&m)) throw Refused(any.type_url() + ": does not parse as " + M::descriptor()->full_name());
  return m;
}

}  // namespace sluice::compile
