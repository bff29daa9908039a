// A turn: posted functions, the transport (responses reach the sink, the sink marks what changed, interest is told before requests leave),
// secrets when their second has passed, publishing when settled and warm, keeping when its delay has passed.
#include "ctrl/agent/agent.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "ctrl/agent/ca_kept.h"
#include "ctrl/agent/ca_transport.h"
#include "ctrl/agent/dump.h"
#include "ctrl/agent/sds.h"
#include "ctrl/xds/grpc_transport.h"
#include "tls-offload/certificate_info.h"

namespace sluice::agent {
namespace {

Usec mono_us() {
  return Usec(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}
int64_t wall_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}
std::string url(xds::Type t) { return std::string(xds::type_url(t)); }
bool is_kept(xds::Type t) { return t != xds::Type::kSecret && t != xds::Type::kExtension; }

}  // namespace

bool AgentStatus::security_refused() const { return std::ranges::any_of(refused, &Refusal::security); }

Agent::Agent(Bootstrap bootstrap, Publish publish, Log log)
    : bootstrap_(std::move(bootstrap)),
      publish_(std::move(publish)),
      log_(std::move(log)),
      rng_(std::random_device{}()),
      files_(bootstrap_.secrets_dir, bootstrap_.secrets_paths),
      kept_(bootstrap_.kept_dir, bootstrap_.node.id),
      client_({}, *this, rng_),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  SLUICE_ASSERT(wake_fd_ >= 0);
}

Agent::~Agent() {
  ca_transport_.reset();
  transport_.reset();  // its wake-ups use wake_fd_, as does a save
  kept_done(true);
  ::close(wake_fd_);
}

std::expected<void, std::string> Agent::start(Usec now) {
  now_ = now;
  start_ca();
  if (bootstrap_.resources) return load_files();
  load_kept();
  const XdsConfig& x = *bootstrap_.xds;
  if (!x.tls && !is_local(x.address))
    log_(log::Level::kWarning,
         "control plane " + x.address +
             " is asked in plain text over a network: anybody on the way can rewrite the configuration; give xds.tls");
  const NodeConfig& n = bootstrap_.node;
  xds::TransportOptions o{.address = x.address, .tls = x.tls.has_value(), .server_name = x.server_name};
  if (x.tls) {
    o.ca_file = x.tls->ca;
    o.cert_file = x.tls->cert;
    o.key_file = x.tls->key;
  }
  o.node_id = n.id;
  o.node_cluster = n.cluster;
  o.region = n.region;
  o.zone = n.zone;
  o.sub_zone = n.sub_zone;
  o.metadata_json = n.metadata_json;
  auto transport = xds::GrpcTransport::make(std::move(o), client_, [this] { wake(); }, [this] { tell_interest(); });
  if (!transport) return std::unexpected(transport.error());
  transport_ = std::move(*transport);
  return {};
}

void Agent::start_ca() {
  if (!bootstrap_.ca) return;
  const CaConfig& c = *bootstrap_.ca;
  ca_.emplace(CaClientOptions{.identity = c.identity, .ttl_s = int64_t(c.ttl / kSec)}, rng_);
  if (c.keep != "off") {
    auto kept = load_ca_kept(c.keep);
    if (!kept) log_(log::Level::kWarning, "ca: " + kept.error());
    else if (*kept && !ca_->restore((*kept)->certificate, (*kept)->roots, {now_, wall_us()}))
      log_(log::Level::kInfo, "ca: the certificate kept in " + c.keep + " is no longer good; a new one is asked for");
    ca_seen_ = ca_->changes();
  }
  CaTransportOptions o{.address = c.address, .tls = c.tls.has_value(), .server_name = c.server_name, .token_file = c.token};
  if (c.tls) {
    o.ca_file = c.tls->ca;
    o.cert_file = c.tls->cert;
    o.key_file = c.tls->key;
  }
  o.node_id = bootstrap_.node.id;
  o.cluster_id = c.cluster_id;
  ca_transport_ = std::make_unique<CaTransport>(std::move(o), *ca_, [this] { wake(); });
}

void Agent::turn_ca(Usec now) {
  ca_transport_->turn({now, wall_us()});
  const CaStatus s = ca_->status();
  if (ca_->changes() != ca_seen_) {
    ca_seen_ = ca_->changes();
    change(now);
    log_(log::Level::kInfo, "ca " + bootstrap_.ca->address + ": certificate " + (s.serial.empty() ? "none yet" : s.serial) + ", " +
                                std::to_string(s.pushed) + " trust bundles pushed");
    const compile::Secret *certificate = ca_->find("default"), *roots = ca_->find("ROOTCA");
    if (bootstrap_.ca->keep != "off" && certificate != nullptr && roots != nullptr)
      if (auto ok = save_ca_kept(bootstrap_.ca->keep, {*certificate, *roots}); !ok) log_(log::Level::kWarning, "ca: " + ok.error());
  }
  const std::string error = !s.last_error.empty() ? s.last_error : s.watch_error;
  if (error != ca_said_ && !error.empty())
    log_(log::Level::kWarning, "ca " + bootstrap_.ca->address + ": " + error + "; what is there goes on serving");
  ca_said_ = error;
}

std::expected<void, std::string> Agent::load_files() {
  const ResourcesConfig& r = *bootstrap_.resources;
  auto loaded = r.golden.empty() ? compile::load_json(r.json) : compile::load_golden(r.golden);
  if (!loaded) return std::unexpected(loaded.error());
  for (const compile::Resource& x : *loaded) {
    const auto type = xds::type_of(x.type_url);
    if (!type) {
      log_(log::Level::kWarning, "resource '" + x.name + "' of type " + x.type_url + " is not known here and is left out");
      continue;
    }
    if (auto ok = apply(*type, x.name, "", x.bytes); !ok) file_refusals_[{*type, x.name}] = ok.error();
  }
  publish(now_);
  return {};
}

// What was accepted before is accepted again, unless this version of the gateway knows better.
void Agent::load_kept() {
  if (bootstrap_.kept_dir == "off") return;
  Kept::Loaded loaded = kept_.load();
  for (const auto& problem : loaded.problems) log_(log::Level::kWarning, "kept resources: " + problem);
  kept_from_ = loaded.from;
  if (loaded.from.empty()) return;
  for (KeptResource& r : loaded.resources) {
    if (!is_kept(r.type)) continue;
    if (auto ok = apply(r.type, r.name, r.version, r.bytes); ok) client_.restore(r.type, r.name, r.bytes);
  }
  tell_interest();
  log_(log::Level::kInfo, "kept resources: " + std::to_string(accepted_.size()) + " from " + loaded.from);
  publish(now_);
  keep_at_ = keep_latest_ = kNever;
  keep_dirty_ = false;
}

std::expected<void, std::string> Agent::apply(xds::Type type, const std::string& name, const std::string& version,
                                              const std::string& bytes) {
  std::expected<void, std::string> ok;
  if (type == xds::Type::kSecret) {
    auto secret = parse_secret(name, bytes);
    if (secret) remote_secrets_[name] = std::move(*secret);
    else ok = std::unexpected(secret.error());
  } else if (type == xds::Type::kExtension) {
    ok = std::unexpected("extension configs are not supported");
  } else {
    ok = compiler_.apply(url(type), name, bytes);
    if (ok) accepted_[{type, name}] = {version, bytes, wall_us()};
  }
  if (ok) change(now_);
  else log_(log::Level::kWarning, std::string(xds::short_name(type)) + " '" + name + "' refused: " + ok.error());
  return ok;
}

void Agent::remove(xds::Type type, const std::string& name) {
  if (type == xds::Type::kSecret) {
    remote_secrets_.erase(name);
  } else {
    compiler_.remove(url(type), name);
    accepted_.erase({type, name});
  }
  change(now_);
}

const compile::Secret* Agent::find(std::string_view name) {
  secrets_asked_.emplace(name);
  if (ca_)
    if (const compile::Secret* s = ca_->find(name)) return s;
  if (const compile::Secret* s = files_.find(name)) return s;
  const auto it = remote_secrets_.find(name);
  return it != remote_secrets_.end() ? &it->second : nullptr;
}

void Agent::tell_interest() {
  client_.want(xds::Type::kEndpoint, compiler_.wanted(compile::kEndpointType));
  client_.want(xds::Type::kRoute, compiler_.wanted(compile::kRouteType));
  std::set<std::string> secrets;
  for (const std::string& name : compiler_.wanted("secret"))
    if (is_remote_secret(name) && files_.find(name) == nullptr) secrets.insert(name);
  client_.want(xds::Type::kSecret, std::move(secrets));
}

// Each change is said once; while the control plane stays away, each new reason once.
void Agent::say_connection() {
  const bool answered = client_.is_answered();
  if (answered && !was_answered_) {
    log_(log::Level::kInfo, "control plane " + bootstrap_.xds->address + ": connected");
    said_error_.clear();
  } else if (!answered && !client_.is_connected() && !client_.last_error().empty() && client_.last_error() != said_error_) {
    said_error_ = client_.last_error();
    log_(log::Level::kWarning, "control plane " + bootstrap_.xds->address + ": " + said_error_ + "; what is there goes on serving");
  }
  was_answered_ = answered;
}

void Agent::change(Usec now) {
  if (!dirty_) first_change_ = now;
  dirty_ = true;
  last_change_ = now;
}

// Nothing that the new resources name is on its way any more, or its time is over.
bool Agent::is_warm(Usec now) {
  std::map<Key, Usec> missing;
  for (const xds::Type type : {xds::Type::kEndpoint, xds::Type::kRoute})
    for (std::string& name : client_.status(type).missing) {
      Key key{type, std::move(name)};
      const auto since = missing_since_.find(key);
      missing.emplace(std::move(key), since != missing_since_.end() ? since->second : now);
    }
  missing_since_ = std::move(missing);
  return std::ranges::all_of(missing_since_, [&](const auto& m) { return now - m.second >= kWarmMax; });
}

void Agent::publish(Usec now) {
  dirty_ = false;
  secrets_asked_.clear();
  snapshot_ = compiler_.build(*this, wall_us());
  files_.forget_unused();
  published_++;
  published_at_ = now;
  keep_dirty_ = true;
  if (keep_latest_ == kNever) keep_latest_ = now + kKeepDelayMax;
  keep_at_ = std::min(now + kKeepDelay, keep_latest_);
  log_(log::Level::kDebug, "tables published: generation " + std::to_string(snapshot_->generation) + ", " +
                               std::to_string(snapshot_->listeners.size()) + " listeners");
  publish_(snapshot_);
}

std::vector<KeptResource> Agent::to_keep() const {
  std::vector<KeptResource> all;
  all.reserve(accepted_.size());
  for (const auto& [key, r] : accepted_) all.push_back({key.first, key.second, r.version, r.bytes});
  return all;
}

void Agent::keep(Usec now) {
  if (keeping_.valid()) {  // the disk is slow
    keep_at_ = now + kKeepDelay;
    return;
  }
  keep_at_ = keep_latest_ = kNever;
  keep_dirty_ = false;
  if (bootstrap_.resources || bootstrap_.kept_dir == "off") return;
  keeping_ = std::async(std::launch::async, [this, all = to_keep()] {
    auto ok = kept_.save(all);
    wake();
    return ok;
  });
}

// Takes the outcome of a save that has ended; `wait`: of any.
void Agent::kept_done(bool wait) {
  if (!keeping_.valid() || (!wait && keeping_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)) return;
  const auto ok = keeping_.get();
  if (!ok && kept_error_ != ok.error()) log_(log::Level::kWarning, "kept resources: " + ok.error());
  kept_error_ = ok ? "" : ok.error();
  if (ok) kept_at_ = mono_us();
}

Usec Agent::turn(Usec now) {
  now_ = now;
  std::vector<std::function<void()>> posted;
  {
    std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (auto& f : posted) f();
  if (transport_ != nullptr) {
    transport_->turn(now);
    say_connection();
  }
  if (ca_transport_ != nullptr) turn_ca(now);
  if (now >= secrets_at_) {
    secrets_at_ = now + kSecretsEvery;
    const auto changed = files_.poll();
    for (const auto& name : changed) log_(log::Level::kInfo, "secret '" + name + "' changed");
    if (!changed.empty()) change(now);
  }
  if (dirty_ && (now - last_change_ >= kSettle || now - first_change_ >= kSettleMax) && is_warm(now)) publish(now);
  kept_done(false);
  if (now >= keep_at_) keep(now);
  Usec next = std::min(secrets_at_, keep_at_);
  if (transport_ != nullptr) next = std::min(next, transport_->next_deadline());
  if (ca_) next = std::min(next, ca_->next_deadline({now, wall_us()}));
  if (dirty_) next = std::min(next, now + kSettle);
  return next;
}

void Agent::run(const std::function<void(Usec)>& each) {
  while (!stop_) {
    const Usec now = mono_us(), next = std::min(turn(now), now + 100 * kMs);
    if (each) each(now);
    const Usec after = mono_us();
    pollfd p{wake_fd_, POLLIN, 0};
    if (next > after) ::poll(&p, 1, int((next - after + kMs - 1) / kMs));
    uint64_t count;
    (void)!::read(wake_fd_, &count, sizeof count);
  }
  kept_done(true);
  if (keep_dirty_) keep(mono_us());
  kept_done(true);
  std::vector<std::function<void()>> left;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(posted_);
  }
  for (auto& f : left) f();  // nobody waits in vain
}

void Agent::wake() {
  const uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
}

void Agent::stop() {
  stop_ = true;
  wake();
}

bool Agent::try_post(std::function<void()> f) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    posted_.push_back(std::move(f));
  }
  wake();
  return true;
}

std::vector<const compile::Secret*> Agent::secrets_in_use() const {
  std::vector<const compile::Secret*> out;
  for (const std::string& name : secrets_asked_)
    if (const compile::Secret* s = held_secret(name)) out.push_back(s);
  return out;
}

const compile::Secret* Agent::held_secret(const std::string& name) const {
  const compile::Secret* s = ca_ ? ca_->find(name) : nullptr;
  if (s == nullptr) s = files_.held(name);
  const auto remote = remote_secrets_.find(name);
  return s == nullptr && remote != remote_secrets_.end() ? &remote->second : s;
}

std::string Agent::certs_json() const { return agent::certs_json(secrets_in_use(), wall_us()); }

AgentStatus Agent::status(Usec now) const {
  auto age = [now](Usec then) { return then == 0 ? kNever : now - then; };
  AgentStatus s{.node = bootstrap_.node.id, .control_plane = bootstrap_.xds ? bootstrap_.xds->address : "files"};
  s.connected = client_.is_answered();
  s.state_age = now - client_.state_since();
  s.last_error = client_.last_error();
  s.streams = client_.streams();
  s.unsolicited = client_.unsolicited();
  const auto compiled = compiler_.status();
  // A listener decides who may enter, a secret how: refusing one is always a security matter. A route configuration is one when it carries
  // RBAC.
  auto security_of = [&](xds::Type type, const std::string& name) {
    if (type == xds::Type::kListener || type == xds::Type::kSecret) return true;
    return std::ranges::any_of(compiled, [&](const auto& c) { return c.security && c.name == name && c.type_url == xds::type_url(type); });
  };
  for (size_t i = 0; i < xds::kTypes; i++) {
    const auto type = xds::Type(i);
    AgentStatus::OfType t{std::string(xds::short_name(type)), client_.status(type), kNever};
    t.last_response_age = age(t.s.last_response);
    if (bootstrap_.resources) t.s.held = size_t(std::ranges::count_if(accepted_, [&](const auto& a) { return a.first.first == type; }));
    for (const auto& [name, reason] : t.s.refused) s.refused.push_back({t.name, name, reason, security_of(type, name)});
    s.types.push_back(std::move(t));
  }
  for (const auto& [key, reason] : file_refusals_)
    s.refused.push_back({std::string(xds::short_name(key.first)), key.second, reason, security_of(key.first, key.second)});
  for (const auto& c : compiled) {
    for (const auto& [type, times] : c.ignored) s.ignored[type] += times;
    if (!c.missing_secrets.empty()) s.shut[c.name] = c.missing_secrets;
  }
  const int64_t wall = wall_us();
  for (const compile::Secret* secret : secrets_in_use())
    for (const bool trusted : {false, true})
      if (const auto infos = tls::certificates_of(trusted ? secret->trusted_ca_pem : secret->cert_chain_pem))
        for (const auto& c : *infos) {
          const int64_t left = c.not_after_us - wall;
          s.certificates.push_back({secret->name, c.subject, trusted, c.not_after_us, left < 0 ? -1 : left / 86'400'000'000});
        }
  s.secrets_missing = files_.problems();
  std::erase_if(s.secrets_missing,
                [&](const auto& m) { return remote_secrets_.contains(m.first) || (ca_ && ca_->find(m.first) != nullptr); });
  if (ca_) {
    s.ca = bootstrap_.ca->address;
    s.certificate_of_ca = ca_->status();
  }
  for (const auto& c : snapshot_ != nullptr ? snapshot_->clusters : decltype(snapshot_->clusters){}) {
    if (c == nullptr) continue;
    if (c->http2) s.unusable.push_back(c->name + ": its endpoints speak HTTP/2 only, which is not there yet");
    for (const tables::Endpoint& e : c->endpoints->endpoints) {
      if (e.tls) s.unusable.push_back(c->name + " " + e.address.to_string() + ": its transport socket is TLS, which is not originated yet");
      else if (!e.healthy) s.unusable.push_back(c->name + " " + e.address.to_string() + ": the control plane says it is unhealthy");
    }
  }
  s.generation = snapshot_ != nullptr ? snapshot_->generation : 0;
  s.published = published_;
  s.published_age = published_ == 0 ? kNever : now - published_at_;
  s.kept_from = kept_from_;
  s.kept_error = kept_error_;
  s.kept_age = age(kept_at_);
  return s;
}

std::string Agent::config_dump_json() const {
  std::vector<DumpedResource> resources;
  for (const auto& [key, r] : accepted_) resources.push_back({key.first, key.second, r.version, r.bytes, r.wall_us});
  std::vector<DumpedRefusal> refused;
  for (const auto& [key, reason] : file_refusals_) refused.push_back({key.first, key.second, reason});
  for (size_t i = 0; i < xds::kTypes; i++)
    for (const auto& [name, reason] : client_.status(xds::Type(i)).refused) refused.push_back({xds::Type(i), name, reason});
  const Usec age = published_ == 0 ? 0 : mono_us() - published_at_;
  return config_dump(resources, refused, {.node = bootstrap_.node, .secrets = secrets_in_use(), .wall_us = wall_us() - int64_t(age)});
}

}  // namespace sluice::agent
