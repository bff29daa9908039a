// Envoy's messages to tables, one function per kind (listener.cc, route.cc, rbac.cc, cluster.cc). Called after judge(): what the verdict
// table refuses never comes here. Internal to ctrl/compile. A value that cannot be obeyed throws Refused with its reason; the compiler
// catches it.
#pragma once
#include <algorithm>
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

// Names to ids. A name that is released keeps its id until another one needs it, which begins beyond kFreshMin ids: then the name that was
// released first gives its own up. So little is still under way under the old name (and upstream::Pool looks at the address too).
class Ids {
 public:
  static constexpr uint32_t kFreshMin = 1 << 16;
  explicit Ids(const char* what, uint32_t most = tables::kNoId) : what_(what), most_(most) {}
  uint32_t of(const std::string& name) {
    auto [at, fresh] = ids_.try_emplace(name);
    Id& id = at->second;
    if (!fresh) {
      released_.erase(id.released);
      id.released = 0;
    } else if (!released_.empty() && next_ >= std::min(kFreshMin, most_)) {
      const auto first = released_.begin();
      id.value = ids_.extract(first->second).mapped().value;
      released_.erase(first);
    } else if (next_ < most_) {
      id.value = next_++;
    } else {
      ids_.erase(at);
      throw Refused("more than " + std::to_string(most_) + " " + what_);
    }
    return id.value;
  }
  uint32_t room() const { return most_ - uint32_t(ids_.size() - released_.size()); }
  void release(const std::string& name) {
    const auto at = ids_.find(name);
    if (at == ids_.end() || at->second.released != 0) return;
    at->second.released = ++releases_;
    released_.emplace(releases_, name);
  }

 private:
  struct Id {
    uint32_t value = 0;
    uint64_t released = 0;  // key in released_; 0: somebody's
  };
  const char* const what_;
  const uint32_t most_;
  uint32_t next_ = 0;
  uint64_t releases_ = 0;
  std::map<std::string, Id> ids_;
  std::map<uint64_t, std::string> released_;  // in order
};
struct Interned {  // clusters and route configurations are named by others, so their ids stay for the life of the process
  Ids clusters{"names of clusters since the start: restart the gateway", tables::kClustersMax}, route_configs{"route configurations"},
      endpoints{"endpoints", tables::kEndpointsMax};
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
std::string endpoint_name(const std::string& cluster, const SocketAddress& address);  // in Interned::endpoints
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
