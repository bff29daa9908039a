// The compiler: Envoy's resources in, tables out. Each resource is judged (verdicts.h) and translated when it comes; a bad one is refused
// with a reason and the last good version stays, a first version that is refused is simply not there. build() joins what is good with the
// secrets into a snapshot; parts whose source did not change keep their identity (shared_ptr), so a push costs what it changes.
//
// Cluster and route-configuration names are interned to ids for the life of the process; endpoints {cluster, address} too, but for those
// that went long ago, whose ids are given again. Thread: control. No protobuf in this header.
#pragma once
#include <expected>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "dataplane/tables/tables.h"

namespace sluice::compile {

constexpr const char* kListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener";
constexpr const char* kRouteType = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
constexpr const char* kClusterType = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr const char* kEndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

struct Secret {
  std::string name;
  std::string cert_chain_pem, private_key_pem, trusted_ca_pem, crl_pem;
  bool crl_leaf_only = false;                  // the CRL is about leaves only
  std::vector<std::string> denied_identities;  // URI SANs that are refused whatever vouches for them
  bool operator==(const Secret&) const = default;
};

class SecretSource {
 public:
  virtual ~SecretSource() = default;
  virtual const Secret* find(std::string_view name) = 0;  // null: not there (yet); valid until the next call
};

struct ResourceStatus {
  std::string type_url, name;
  std::string refused;                       // why the newest version was refused; empty: it serves
  std::map<std::string, unsigned> ignored;   // extension types accepted without effect
  std::vector<std::string> missing_secrets;  // listeners: chains that stay shut for want of these, with the reason
  bool security = false;                     // it carries RBAC, TLS or routes of either
};

class Compiler {
 public:
  Compiler();
  ~Compiler();
  Compiler(const Compiler&) = delete;

  // Judges and translates without taking.
  std::expected<void, std::string> check(const std::string& type_url, const std::string& name, const std::string& bytes) const;
  // Takes it, or says why not and keeps the last good version.
  std::expected<void, std::string> apply(const std::string& type_url, const std::string& name, const std::string& bytes);
  void remove(const std::string& type_url, const std::string& name);
  // Names that the taken resources refer to: EDS assignments, route configurations, secrets (type "secret").
  std::set<std::string> wanted(const std::string& type_url) const;
  std::shared_ptr<const tables::Snapshot> build(SecretSource& secrets, int64_t wall_us);
  std::vector<ResourceStatus> status() const;

 private:
  struct State;
  std::unique_ptr<State> s_;
};

struct Resource {
  std::string type_url, name, bytes;
};
// The resources of a folder of recorded answers (cds.pb eds.pb lds.pb rds.pb, each one DeltaDiscoveryResponse), or of a JSON file: a list
// of resources with "@type". Errors name the file.
std::expected<std::vector<Resource>, std::string> load_golden(const std::string& folder);
std::expected<std::vector<Resource>, std::string> load_json(const std::string& file);
// The same from JSON text; `origin` is what errors name.
std::expected<std::vector<Resource>, std::string> parse_json(const std::string& text, const std::string& origin);

}  // namespace sluice::compile
