#include "ctrl/compile/compile.h"

#include <algorithm>

#include "ctrl/compile/translate.h"
#include "ctrl/compile/verdicts.h"
#include "dataplane/tables/filter_chain_index.h"

namespace sluice::compile {
namespace {

uint64_t hash_of(std::string_view s) { return std::hash<std::string_view>{}(s); }

// Does a mistake in it open or close a door? Then a refusal of it is said louder.
bool is_security(const std::string& type_url, const std::string& bytes) {
  if (type_url != kListenerType) return false;
  return bytes.find("rbac.v3.RBAC") != std::string::npos || bytes.find("DownstreamTlsContext") != std::string::npos;
}

struct Taken {
  uint64_t hash = 0;
  std::unique_ptr<google::protobuf::Message> message;
  std::map<std::string, unsigned> ignored;
  // one of
  std::shared_ptr<ListenerTemplate> listener;
  std::shared_ptr<const tables::RouteConfiguration> routes;
  std::shared_ptr<tables::Cluster> cluster;
};

}  // namespace

struct Compiler::State {
  using Key = std::pair<std::string, std::string>;  // type, name
  std::map<Key, Taken> taken;
  std::map<Key, std::pair<std::string, bool>> refused;  // reason, security
  Interned ids;

  struct BuiltListener {
    uint64_t source = 0, secrets = 0;
    std::shared_ptr<const tables::Listener> listener;
    std::vector<std::string> missing;
  };
  struct BuiltCluster {
    uint64_t source = 0, assignment = 0;
    std::shared_ptr<const tables::Cluster> cluster;
    bool crowded = false;  // its newest endpoints were more than there is room for: the last ones stay
  };
  std::map<std::string, BuiltListener> listeners;
  std::map<std::string, BuiltCluster> clusters;
  std::map<SocketAddress, std::string> holders;  // the listener that serves there
  uint64_t generation = 0;

  std::expected<Taken, std::string> translate(const std::string& type_url, const std::string& name, const std::string& bytes) {
    Taken t;
    t.hash = hash_of(bytes);
    t.message = unpack(type_url, bytes);
    if (t.message == nullptr) return std::unexpected("its bytes are no " + type_url.substr(type_url.rfind('/') + 1));
    auto verdicts = judge(*t.message);
    if (!verdicts) return std::unexpected(verdicts.error());
    t.ignored = std::move(verdicts->ignored);
    try {
      if (type_url == kListenerType) {
        t.listener =
            std::make_shared<ListenerTemplate>(listener_of(static_cast<const envoy::config::listener::v3::Listener&>(*t.message), ids));
      } else if (type_url == kRouteType) {
        t.routes = routes_of(static_cast<const envoy::config::route::v3::RouteConfiguration&>(*t.message), ids);
      } else if (type_url == kClusterType) {
        const auto& cluster = static_cast<const envoy::config::cluster::v3::Cluster&>(*t.message);
        t.cluster = std::make_shared<tables::Cluster>(cluster_of(cluster, ids));
        check_endpoints(cluster.load_assignment());
      } else if (type_url == kEndpointType) {
        check_endpoints(static_cast<const envoy::config::endpoint::v3::ClusterLoadAssignment&>(*t.message));
      } else {
        return std::unexpected("resources of type " + type_url + " are not asked for");
      }
    } catch (const Refused& e) {
      return std::unexpected(std::string(e.what()));
    }
    return t;
  }

  // Throws Refused. build_cluster() gives the ids.
  static void check_endpoints(const envoy::config::endpoint::v3::ClusterLoadAssignment& a) {
    Interned nobodys;
    endpoints_of(a, {}, nobodys);
  }

  const Taken* find(const char* type_url, const std::string& name) const {
    const auto it = taken.find({type_url, name});
    return it == taken.end() ? nullptr : &it->second;
  }

  std::shared_ptr<const tables::Cluster> build_cluster(const std::string& name, const Taken& t) {
    const auto& message = static_cast<const envoy::config::cluster::v3::Cluster&>(*t.message);
    const bool eds = message.type() == envoy::config::cluster::v3::Cluster::EDS;
    const std::string& service = message.eds_cluster_config().service_name();
    const Taken* assignment = eds ? find(kEndpointType, service.empty() ? name : service) : nullptr;
    BuiltCluster& b = clusters[name];
    if (b.cluster != nullptr && b.source == t.hash && b.assignment == (assignment == nullptr ? 0 : assignment->hash)) return b.cluster;
    auto cluster = std::make_shared<tables::Cluster>(*t.cluster);
    envoy::config::endpoint::v3::ClusterLoadAssignment none;
    const auto& a =
        eds ? assignment == nullptr ? none : static_cast<const decltype(none)&>(*assignment->message) : message.load_assignment();
    int count = 0;
    for (const auto& group : a.endpoints()) count += group.lb_endpoints_size();
    b.crowded = uint32_t(count) > ids.endpoints.room();
    if (!b.crowded) cluster->endpoints = endpoints_of(a, message, ids);
    else if (b.cluster != nullptr) cluster->endpoints = b.cluster->endpoints;
    release_endpoints(b.cluster.get(), cluster->endpoints.get());
    b.source = t.hash;
    b.assignment = assignment == nullptr ? 0 : assignment->hash;
    cluster->content_hash = b.source ^ b.assignment * 31;
    b.cluster = cluster;
    return cluster;
  }

  // Whose each address is: of two listeners the one that has it already, else the first by name (Envoy refuses the second). Asked when all
  // of a push is there, since a listener's successor may come before the listener goes.
  void settle_addresses() {
    std::erase_if(holders, [&](const auto& holder) {
      const Taken* t = find(kListenerType, holder.second);
      return t == nullptr || t->listener->listener.address != holder.first;
    });
    for (const auto& [key, t] : taken)
      if (t.listener != nullptr) holders.try_emplace(t.listener->listener.address, key.second);
  }

  // Of a cluster's endpoints those that its new table has not.
  void release_endpoints(const tables::Cluster* old, const tables::EndpointTable* now) {
    if (old == nullptr) return;
    std::set<uint32_t> kept;
    if (now != nullptr)
      for (const tables::Endpoint& e : now->endpoints) kept.insert(e.id);
    for (const tables::Endpoint& e : old->endpoints->endpoints)
      if (!kept.contains(e.id)) ids.endpoints.release(endpoint_name(old->name, e.address));
  }

  static uint64_t denied_hash(const std::vector<std::string>& identities) {
    uint64_t h = 0;
    for (const std::string& i : identities) h += hash_of(i);
    return h;
  }

  // The policy of one chain; null with a reason in `missing` while a secret is.
  static std::shared_ptr<const tls::ServerPolicy> build_tls(const TlsTemplate& t, SecretSource& secrets, int64_t wall_us,
                                                            std::vector<std::string>& missing) {
    tls::ServerPolicyOptions options = t.options;
    options.wall_us = wall_us;
    for (const std::string& name : t.certificates) {
      const Secret* s = secrets.find(name);
      if (s == nullptr || s->cert_chain_pem.empty()) {
        missing.push_back(name + ": the certificate is not there");
        return nullptr;
      }
      options.certificates.push_back({s->cert_chain_pem, s->private_key_pem});
    }
    if (!t.trusted_ca.empty()) {
      const Secret* s = secrets.find(t.trusted_ca);
      if (s == nullptr || s->trusted_ca_pem.empty()) {
        missing.push_back(t.trusted_ca + ": the trusted certificates are not there");
        return nullptr;
      }
      options.trusted_ca_pem = s->trusted_ca_pem;
      // The listener's own list stands where the secret brings none (Envoy merges the two contexts).
      if (!s->crl_pem.empty()) options.crl_pem = s->crl_pem;
      options.crl_leaf_only = s->crl_leaf_only;
      options.denied_uris = s->denied_identities;
    }
    auto policy = tls::ServerPolicy::make(options);
    if (!policy) {
      missing.push_back(t.certificates.front() + ": " + policy.error());
      return nullptr;
    }
    return *policy;
  }

  static uint64_t secrets_hash(const TlsTemplate& t, SecretSource& secrets) {
    uint64_t h = 1;
    auto add = [&](const std::string& name) {
      const Secret* s = secrets.find(name);
      h = h * 31 + (s == nullptr ? 7
                                 : hash_of(s->cert_chain_pem) ^ hash_of(s->private_key_pem) * 3 ^ hash_of(s->trusted_ca_pem) * 5 ^
                                       hash_of(s->crl_pem) * 11 ^ (s->crl_leaf_only ? 13 : 0) ^ denied_hash(s->denied_identities) * 17);
    };
    for (const std::string& name : t.certificates) add(name);
    if (!t.trusted_ca.empty()) add(t.trusted_ca);
    return h;
  }

  std::shared_ptr<const tables::Listener> build_listener(const std::string& name, const Taken& taken_listener, SecretSource& secrets,
                                                         int64_t wall_us) {
    const ListenerTemplate& t = *taken_listener.listener;
    uint64_t secrets_now = 0;
    for (const auto& tls : t.tls)
      if (tls) secrets_now = secrets_now * 31 + secrets_hash(*tls, secrets);
    if (t.default_tls) secrets_now = secrets_now * 31 + secrets_hash(*t.default_tls, secrets);
    BuiltListener& b = listeners[name];
    if (b.listener != nullptr && b.source == taken_listener.hash && b.secrets == secrets_now) return b.listener;
    b.missing.clear();
    auto out = std::make_shared<tables::Listener>(t.listener);
    auto chain = [&](const tables::FilterChain& from, const std::optional<TlsTemplate>& tls) {
      auto c = std::make_shared<tables::FilterChain>(from);
      if (tls) {
        const size_t before = b.missing.size();
        c->tls = build_tls(*tls, secrets, wall_us, b.missing);
        if (b.missing.size() > before) c->tls_missing = b.missing.back();
      }
      return std::shared_ptr<const tables::FilterChain>(std::move(c));
    };
    for (size_t i = 0; i < t.chains.size(); i++) out->chains.push_back(chain(*t.chains[i], t.tls[i]));
    if (t.default_chain != nullptr) out->default_chain = chain(*t.default_chain, t.default_tls);
    out->index = std::make_shared<tables::FilterChainIndex>(out->chains);
    out->content_hash = taken_listener.hash ^ secrets_now * 31;
    b.source = taken_listener.hash;
    b.secrets = secrets_now;
    b.listener = out;
    return out;
  }
};

Compiler::Compiler() : s_(std::make_unique<State>()) {}
Compiler::~Compiler() = default;

std::expected<void, std::string> Compiler::check(const std::string& type_url, const std::string& name, const std::string& bytes) const {
  auto t = s_->translate(type_url, name, bytes);
  if (!t) return std::unexpected(t.error());
  return {};
}

std::expected<void, std::string> Compiler::apply(const std::string& type_url, const std::string& name, const std::string& bytes) {
  const State::Key key{type_url, name};
  if (const auto it = s_->taken.find(key); it != s_->taken.end() && it->second.hash == hash_of(bytes)) {
    s_->refused.erase(key);
    return {};
  }
  auto t = s_->translate(type_url, name, bytes);
  if (!t) {
    s_->refused[key] = {t.error(), is_security(type_url, bytes)};
    return std::unexpected(t.error());
  }
  s_->refused.erase(key);
  s_->taken[key] = std::move(*t);
  return {};
}

void Compiler::remove(const std::string& type_url, const std::string& name) {
  s_->taken.erase({type_url, name});
  s_->refused.erase({type_url, name});
  if (type_url == kListenerType) s_->listeners.erase(name);
  if (type_url == kClusterType)
    if (const auto built = s_->clusters.extract(name)) s_->release_endpoints(built.mapped().cluster.get(), nullptr);
}

std::set<std::string> Compiler::wanted(const std::string& type_url) const {
  std::set<std::string> names;
  for (const auto& [key, t] : s_->taken) {
    if (type_url == kEndpointType && t.cluster != nullptr) {
      const auto& c = static_cast<const envoy::config::cluster::v3::Cluster&>(*t.message);
      if (c.type() == envoy::config::cluster::v3::Cluster::EDS)
        names.insert(c.eds_cluster_config().service_name().empty() ? c.name() : c.eds_cluster_config().service_name());
    }
    if (t.listener == nullptr) continue;
    if (type_url == kRouteType) names.insert(t.listener->route_configs.begin(), t.listener->route_configs.end());
    if (type_url == "secret") {
      auto add = [&](const std::optional<TlsTemplate>& tls) {
        if (!tls) return;
        names.insert(tls->certificates.begin(), tls->certificates.end());
        if (!tls->trusted_ca.empty()) names.insert(tls->trusted_ca);
      };
      for (const auto& tls : t.listener->tls) add(tls);
      add(t.listener->default_tls);
    }
  }
  return names;
}

std::shared_ptr<const tables::Snapshot> Compiler::build(SecretSource& secrets, int64_t wall_us) {
  auto snapshot = std::make_shared<tables::Snapshot>();
  snapshot->generation = ++s_->generation;
  s_->settle_addresses();
  for (const auto& [key, t] : s_->taken) {
    if (t.listener != nullptr && s_->holders.at(t.listener->listener.address) == key.second)
      snapshot->listeners.push_back(s_->build_listener(key.second, t, secrets, wall_us));
    if (t.cluster != nullptr) {
      auto cluster = s_->build_cluster(key.second, t);
      if (snapshot->clusters.size() <= cluster->id) snapshot->clusters.resize(cluster->id + 1);
      snapshot->clusters[cluster->id] = std::move(cluster);
    }
    if (t.routes != nullptr) {
      const uint32_t id = s_->ids.route_configs.of(key.second);
      if (snapshot->route_configs.size() <= id) snapshot->route_configs.resize(id + 1);
      snapshot->route_configs[id] = t.routes;
    }
  }
  std::ranges::sort(snapshot->listeners, {}, [](const auto& l) { return std::pair(l->address, l->name); });
  return snapshot;
}

std::vector<ResourceStatus> Compiler::status() const {
  std::map<State::Key, ResourceStatus> all;
  auto at = [&](const State::Key& key) -> ResourceStatus& {
    ResourceStatus& r = all[key];
    r.type_url = key.first;
    r.name = key.second;
    return r;
  };
  for (const auto& [key, t] : s_->taken) {
    ResourceStatus& r = at(key);
    r.ignored = t.ignored;
    if (key.first == kListenerType)
      if (const auto b = s_->listeners.find(key.second); b != s_->listeners.end()) r.missing_secrets = b->second.missing;
    if (t.listener != nullptr)
      if (const auto holder = s_->holders.find(t.listener->listener.address); holder != s_->holders.end() && holder->second != key.second)
        r.refused = "its address " + holder->first.to_string() + " is listener \"" + holder->second + "\"'s";
    if (key.first == kClusterType)
      if (const auto b = s_->clusters.find(key.second); b != s_->clusters.end() && b->second.crowded)
        r.refused = "more than " + std::to_string(tables::kEndpointsMax) + " endpoints in all clusters";
    r.security = key.first == kListenerType;
  }
  for (const auto& [key, why] : s_->refused) {
    at(key).refused = why.first;
    at(key).security |= why.second;
  }
  std::vector<ResourceStatus> out;
  for (auto& [key, r] : all) out.push_back(std::move(r));
  return out;
}

}  // namespace sluice::compile
