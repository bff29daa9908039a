// A stream's life: a request comes (one gRPC thread at a time), is taken by the state machine, and what it is owed of the version that the
// stream has *seen* is queued. The pusher moves streams to newer versions: it alone does, so that debouncing holds and no older world
// follows a newer one. While something is queued nothing more is: the stream is behind, and goes straight to the newest when its queue is
// out.
#include "ctrl/plane/server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "ctrl/plane/translation.h"
#include "ctrl/plane/wire.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::plane {
namespace {

namespace ds = envoy::service::discovery::v3;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

std::string slurp(const std::string& file) {
  std::ifstream in(file);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

int64_t wall_ms() { return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// One version of the world, as one kind of Node sees it.
struct Seen {
  std::shared_ptr<const Resources> resources;
  std::shared_ptr<Wholes> wholes;
  uint64_t world = 0;
};

// The Nodes that get the same answers.
struct Kind {
  Kind(NodeInfo node, const TranslateOptions& options) : translation(std::move(node), options) {}
  std::mutex making;  // one translation at a time; guards what follows
  Translation translation;
  Seen seen;
  std::deque<std::shared_ptr<const Change>> changes;  // to seen.resources, from what streams still have
};

class NoStream final : public Reactor {
 public:
  explicit NoStream(const grpc::Status& why) { Finish(why); }
  void OnDone() override { delete this; }
};

}  // namespace

std::string_view name_of(Refusal r) {
  static constexpr std::string_view kNames[] = {"no_node",   "not_an_ads_message", "identity", "streams_max",
                                                "names_max", "draining",           "stalled"};
  static_assert(std::size(kNames) == kRefusals);
  return kNames[size_t(r)];
}

struct Server::State {
  class Stream;
  using Base = ds::AggregatedDiscoveryService;
  class Service final
      : public Base::WithRawCallbackMethod_StreamAggregatedResources<Base::WithRawCallbackMethod_DeltaAggregatedResources<Base::Service>> {
   public:
    explicit Service(State& s) : s_(s) {}
    Reactor* DeltaAggregatedResources(grpc::CallbackServerContext* context) override { return s_.open(context, true); }
    Reactor* StreamAggregatedResources(grpc::CallbackServerContext* context) override { return s_.open(context, false); }

   private:
    State& s_;
  };

  ServerOptions options;
  Log log;
  std::function<void()> on_acknowledgement;
  Service service{*this};
  std::unique_ptr<grpc::Server> server;
  std::atomic<uint64_t> world_number{1};
  mutable std::mutex mutex;  // guards what follows
  std::shared_ptr<const World> world;
  std::map<std::string, std::shared_ptr<Kind>> kinds;  // by the Node's key
  std::map<Stream*, std::shared_ptr<Stream>> streams;  // until gRPC is done with them
  ServerCounters counters;
  bool draining = false, stopping = false, dirty = false;
  uint64_t passed = 0;  // the pusher has gone round with this world
  std::condition_variable wake, went_round;
  std::thread pusher;

  Reactor* open(grpc::CallbackServerContext* context, bool delta);
  std::shared_ptr<Kind> kind_of(const NodeInfo& node);
  Seen newest(Kind& k);
  std::shared_ptr<const Change> change_between(Kind& k, const std::shared_ptr<const Resources>& from, const Seen& to);
  void push_loop();
  void refuse(Refusal why) {
    const std::lock_guard lock(mutex);
    counters.refused[size_t(why)]++;
  }
  void ask_for_a_round() {
    const std::lock_guard lock(mutex);
    dirty = true;
    wake.notify_one();
  }
  std::vector<std::shared_ptr<Stream>> all() const {
    const std::lock_guard lock(mutex);
    std::vector<std::shared_ptr<Stream>> out;
    out.reserve(streams.size());
    for (const auto& [raw, s] : streams) out.push_back(s);
    return out;
  }
};

std::shared_ptr<Kind> Server::State::kind_of(const NodeInfo& node) {
  const std::lock_guard lock(mutex);
  auto& k = kinds[node.key()];
  if (k == nullptr) {
    k = std::make_shared<Kind>(node, options.translation);
    const auto idle = [](const auto& e) { return e.second.use_count() == 1; };
    const auto keep = k;
    if (size_t(std::ranges::count_if(kinds, idle)) > kIdleKindsMax) std::erase_if(kinds, idle);
    return keep;
  }
  return k;
}

Seen Server::State::newest(Kind& k) {
  const std::lock_guard making(k.making);
  std::shared_ptr<const World> w;
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex);
    w = world, number = world_number;
  }
  if (k.seen.world == number) return k.seen;
  const auto began = Clock::now();
  const auto made = k.translation.update(std::move(w));
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began).count();
  {
    const std::lock_guard lock(mutex);
    counters.translations++, counters.translate_us = took;
  }
  if (!made) {
    log("internal error, nothing is sent: " + made.error());
    if (k.seen.resources == nullptr) return {};
  }
  k.seen.world = number;
  if (!made || k.seen.resources == *made) return k.seen;
  k.changes.clear();
  k.seen.resources = *made;
  k.seen.wholes = std::make_shared<Wholes>();
  return k.seen;
}

std::shared_ptr<const Change> Server::State::change_between(Kind& k, const std::shared_ptr<const Resources>& from, const Seen& to) {
  const std::lock_guard making(k.making);
  if (from == nullptr || to.resources != k.seen.resources) return nullptr;
  for (const auto& c : k.changes)
    if (c->from == from) return c;
  k.changes.push_back(std::make_shared<const Change>(difference(from, *to.resources)));
  if (k.changes.size() > 4) k.changes.pop_front();
  return k.changes.back();
}

class Server::State::Stream final : public Reactor {
 public:
  Stream(State& s, grpc::CallbackServerContext* context, bool delta) : s_(s), context_(context), delta_(delta) {
    if (delta) stream_ = std::make_unique<DeltaStream>();
    else stream_ = std::make_unique<SotwStream>();
    for (const auto& san : context->auth_context()->FindPropertyValues("x509_subject_alternative_name"))
      if (san.starts_with("spiffe://")) identity_ = std::string(san.data(), san.size());
    authenticated_ = context->auth_context()->IsPeerAuthenticated();
    peer_ = context->peer();
  }
  void begin() { StartRead(&incoming_); }
  void OnReadDone(bool ok) override {
    if (!ok) {
      end(grpc::Status::OK);
      return;
    }
    WireRequest r;
    if (!parse(incoming_, delta_, r)) {
      refuse(Refusal::kNotAnAdsMessage, {grpc::StatusCode::INVALID_ARGUMENT, "not a discovery request"});
      return;
    }
    incoming_.Clear();
    if (kind_ == nullptr && !greet(r.node)) return;
    if (!take(r.request)) return;
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    bool ask = false;
    {
      const std::lock_guard lock(mutex_);
      queue_.pop_front();
      if (!ok) queue_.clear(), finish_asked_ = true;
      write_began_ = Clock::now();
      if (!queue_.empty()) {
        StartWrite(&queue_.front());
        return;
      }
      if (finish_asked_) {
        finish();
        return;
      }
      send();  // what was asked for in the meantime
      ask = behind_ && queue_.empty();
    }
    if (ask) s_.ask_for_a_round();
  }
  void OnDone() override {
    std::shared_ptr<Stream> self;  // the last reference goes when this function has returned
    const std::lock_guard lock(s_.mutex);
    if (const auto it = s_.streams.find(this); it != s_.streams.end()) {
      self = std::move(it->second);
      s_.streams.erase(it);
    }
  }
  // The pusher: on to the newest world, if it is time. Returns when to come again at the latest.
  Clock::time_point advance() {
    constexpr auto kNever = Clock::time_point::max();
    std::shared_ptr<Kind> kind;
    {
      const std::lock_guard lock(mutex_);
      if (!known_ || finish_asked_) return kNever;
      const auto now = Clock::now();
      const bool newer = seen_.world != s_.world_number;
      if (!queue_.empty()) {
        behind_ |= newer;
        const auto stalled_at = write_began_ + milliseconds(s_.options.stall_ms);
        if (now < stalled_at) return stalled_at;
        s_.log("node " + node_.id + " has taken nothing for " + std::to_string(s_.options.stall_ms) + " ms: cut off");
        s_.refuse(Refusal::kStalled);
        finish_asked_ = true;
        context_->TryCancel();
        return kNever;
      }
      if (!newer) return kNever;
      if (now < not_before_) return not_before_;
      kind = kind_;
    }
    const Seen next = s_.newest(*kind);  // may translate: not under the stream's lock
    const std::lock_guard lock(mutex_);
    if (finish_asked_ || next.resources == nullptr) return kNever;
    if (!queue_.empty()) {
      behind_ = true;
      return write_began_ + milliseconds(s_.options.stall_ms);
    }
    behind_ = false;
    const auto change = next.resources == seen_.resources ? nullptr : s_.change_between(*kind, seen_.resources, next);
    seen_ = next;
    if (send(change)) {
      not_before_ = Clock::now() + milliseconds(s_.options.debounce_ms);
      const std::lock_guard counters(s_.mutex);
      s_.counters.pushes++;
    }
    return kNever;
  }
  void end(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    if (!finish_asked_) status_ = status;
    finish_asked_ = true;
    if (queue_.empty()) finish();
  }
  bool acknowledged() const {
    const std::lock_guard lock(mutex_);
    return known_ && acknowledged_locked();
  }
  bool selected(const std::function<bool(const NodeInfo&)>& which) const {
    const std::lock_guard lock(mutex_);
    return known_ && !finish_asked_ && which(node_);
  }
  std::optional<NodeStatus> status() const {
    const std::lock_guard lock(mutex_);
    if (!known_ || finish_asked_) return std::nullopt;
    NodeStatus n{
        .node = node_, .identity = identity_, .peer = peer_, .delta = delta_, .connected_ms = connected_ms_, .last_nack_ms = last_nack_ms_};
    if (!queue_.empty()) n.writing_ms = std::chrono::duration_cast<milliseconds>(Clock::now() - write_began_).count();
    n.acknowledged = acknowledged_locked();
    for (int t = 0; t < kTypes; t++) n.types[size_t(t)] = stream_->report(t);
    return n;
  }

 private:
  bool acknowledged_locked() const {
    return seen_.world == s_.world_number && stream_->report(2).asked && stream_->acknowledged(*seen_.resources);
  }
  // The first request: who it is, and what there is for it.
  bool greet(const std::string& wire_node) {
    NodeInfo node = node_from_wire(wire_node);
    if (node.id.empty()) {
      refuse(Refusal::kNoNode, {grpc::StatusCode::INVALID_ARGUMENT, "the first request must carry a Node with an id"});
      return false;
    }
    if (!authenticated_ && !s_.options.cert.empty()) {
      refuse(Refusal::kIdentity, {grpc::StatusCode::UNAUTHENTICATED, "xDS is served to callers with a client certificate"});
      return false;
    }
    if (authenticated_) {
      // A certificate speaks for one namespace and service account; a Node may not claim another's.
      const size_t ns = identity_.find("/ns/"), sa = identity_.find("/sa/");
      const std::string its_ns = ns == std::string::npos || sa == std::string::npos ? "" : identity_.substr(ns + 4, sa - ns - 4);
      const std::string its_sa = sa == std::string::npos ? "" : identity_.substr(sa + 4);
      if (its_ns != node.ns || (!node.service_account.empty() && its_sa != node.service_account)) {
        s_.log("refused node " + node.id + ": it claims " + node.ns + "/" + node.service_account + ", its certificate says " +
               (identity_.empty() ? "nothing" : identity_));
        refuse(Refusal::kIdentity,
               {grpc::StatusCode::PERMISSION_DENIED, "the Node's namespace or service account is not its certificate's"});
        return false;
      }
    }
    kind_ = s_.kind_of(node);
    Seen seen = s_.newest(*kind_);
    if (seen.resources == nullptr) {
      end({grpc::StatusCode::INTERNAL, "the answer cannot be made; the server's log says why"});
      return false;
    }
    s_.log("node " + node.id + " connected" + (delta_ ? "" : ", state of the world"));
    const std::lock_guard lock(mutex_);
    node_ = std::move(node), seen_ = std::move(seen), connected_ms_ = wall_ms(), known_ = true;
    return true;
  }
  bool take(const StreamRequest& r) {
    const int type = type_of_url(r.type_url);
    {
      const std::lock_guard lock(mutex_);
      if (finish_asked_) return false;
      const uint64_t nacks = stream_->nacks();
      if (!stream_->take(r)) {
        s_.refuse(Refusal::kNamesMax);
        status_ = {grpc::StatusCode::RESOURCE_EXHAUSTED, "more names than one stream may ask for"};
        finish_asked_ = true;
        if (queue_.empty()) finish();
        return false;
      }
      if (stream_->nacks() != nacks) {
        last_nack_ms_ = wall_ms();
        s_.log("node " + node_.id + " refused " + r.type_url + ": " + r.error);
      }
      send();
    }
    if (type >= 0 && !r.nonce.empty()) {
      {
        const std::lock_guard lock(s_.mutex);
        (r.error.empty() ? s_.counters.acks : s_.counters.nacks)[size_t(type)]++;
      }
      if (s_.on_acknowledgement) s_.on_acknowledgement();
    }
    return true;
  }
  // Queues what is owed of the version seen, unless something is queued. True: there was something.
  bool send(const std::shared_ptr<const Change>& change = nullptr) {
    if (finish_asked_ || !queue_.empty()) return false;
    const auto answers = stream_->answers({seen_.resources, change});
    if (answers.empty()) return false;
    for (const StreamAnswer& a : answers) queue_.push_back(encode(a, delta_, *seen_.wholes));
    write_began_ = Clock::now();
    StartWrite(&queue_.front());
    const std::lock_guard lock(s_.mutex);
    for (const StreamAnswer& a : answers) s_.counters.answers[size_t(a.type)]++;
    return true;
  }
  void refuse(Refusal why, const grpc::Status& status) {
    s_.refuse(why);
    end(status);
  }
  void finish() {
    if (!std::exchange(finished_, true)) Finish(status_);
  }

  State& s_;
  grpc::CallbackServerContext* const context_;
  const bool delta_;
  grpc::ByteBuffer incoming_;
  std::string identity_, peer_;
  bool authenticated_ = false;
  std::shared_ptr<Kind> kind_;  // gRPC's reading thread; the pusher once known_
  mutable std::mutex mutex_;    // guards what follows
  bool known_ = false, finish_asked_ = false, finished_ = false;
  bool behind_ = false;  // there is a newer world than the one seen, and the queue was not empty
  grpc::Status status_;
  NodeInfo node_;
  int64_t connected_ms_ = 0, last_nack_ms_ = 0;
  std::unique_ptr<AdsStream> stream_;
  Seen seen_;
  Clock::time_point not_before_{}, write_began_{};
  std::deque<grpc::ByteBuffer> queue_;  // the front is being written
};

Reactor* Server::State::open(grpc::CallbackServerContext* context, bool delta) {
  std::shared_ptr<Stream> stream;
  {
    const std::lock_guard lock(mutex);
    if (draining) {
      counters.refused[size_t(Refusal::kDraining)]++;
      return new NoStream({grpc::StatusCode::UNAVAILABLE, "going away; ask another instance"});
    }
    if (streams.size() >= options.streams_max) {
      counters.refused[size_t(Refusal::kStreamsMax)]++;
      return new NoStream({grpc::StatusCode::RESOURCE_EXHAUSTED, "more streams than this server serves"});
    }
    counters.streams++;
    stream = std::make_shared<Stream>(*this, context, delta);
    streams.emplace(stream.get(), stream);
  }
  stream->begin();
  return stream.get();
}

void Server::State::push_loop() {
  std::unique_lock lock(mutex);
  auto next = Clock::time_point::max();
  while (!stopping) {
    const auto due = [this] { return stopping || dirty; };
    if (next == Clock::time_point::max()) wake.wait(lock, due);
    else wake.wait_until(lock, next, due);
    if (stopping) break;
    dirty = false;
    const uint64_t number = world_number;
    lock.unlock();
    next = Clock::time_point::max();
    for (const auto& s : all()) next = std::min(next, s->advance());
    lock.lock();
    passed = number;
    went_round.notify_all();
  }
}

Server::Server(ServerOptions options, std::shared_ptr<const World> world, Log log) : s_(std::make_unique<State>()) {
  s_->options = std::move(options);
  s_->world = std::move(world);
  s_->log = std::move(log);
}

Server::~Server() {
  drain(500);
  {
    const std::lock_guard lock(s_->mutex);
    s_->stopping = true;
    s_->wake.notify_one();
  }
  if (s_->pusher.joinable()) s_->pusher.join();
}

std::expected<void, std::string> Server::start() {
  const ServerOptions& o = s_->options;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!o.cert.empty()) {
    grpc::SslServerCredentialsOptions tls(o.certificate_optional ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
                                                                 : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = slurp(o.ca);
    tls.pem_key_cert_pairs.push_back({slurp(o.key), slurp(o.cert)});
    for (const auto& [name, text] : {std::pair(o.ca, tls.pem_root_certs), std::pair(o.cert, tls.pem_key_cert_pairs[0].cert_chain),
                                     std::pair(o.key, tls.pem_key_cert_pairs[0].private_key)})
      if (text.empty()) return std::unexpected(name + ": cannot be read; --tls-ca, --tls-cert and --tls-key name PEM files");
    credentials = grpc::SslServerCredentials(tls);
  }
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(o.listen, credentials, &port);
  builder.RegisterService(&s_->service);
  if (o.more) o.more(builder);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  // A dead peer is noticed; a client may ping every 15 s (reference/xds.md 1.5).
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 15'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  s_->server = builder.BuildAndStart();
  if (s_->server == nullptr || port == 0)
    return std::unexpected(o.listen + ": cannot listen there; --listen takes unix:PATH or IP:PORT that is free");
  s_->pusher = std::thread([this] { s_->push_loop(); });
  return {};
}

void Server::replace(std::shared_ptr<const World> world) {
  std::unique_lock lock(s_->mutex);
  s_->world = std::move(world);
  const uint64_t number = ++s_->world_number;
  s_->counters.worlds++;
  if (!s_->pusher.joinable() || s_->stopping) return;
  s_->dirty = true;
  s_->wake.notify_one();
  s_->went_round.wait(lock, [&] { return s_->passed >= number || s_->stopping; });
}

void Server::drain(int deadline_ms) {
  {
    const std::lock_guard lock(s_->mutex);
    s_->draining = true;
  }
  for (const auto& stream : s_->all()) stream->end({grpc::StatusCode::UNAVAILABLE, "going away; ask another instance"});
  if (s_->server != nullptr) s_->server->Shutdown(std::chrono::system_clock::now() + milliseconds(deadline_ms));
}

std::vector<NodeStatus> Server::nodes() const {
  std::vector<NodeStatus> out;
  for (const auto& stream : s_->all())
    if (auto n = stream->status()) out.push_back(std::move(*n));
  std::ranges::sort(out, {}, [](const NodeStatus& n) { return std::pair(n.node.id, n.connected_ms); });
  return out;
}

ServerCounters Server::counters() const {
  const std::lock_guard lock(s_->mutex);
  return s_->counters;
}

Server::Acknowledged Server::acknowledged(const std::function<bool(const NodeInfo&)>& which) const {
  Acknowledged out;
  for (const auto& stream : s_->all()) {
    if (!stream->selected(which)) continue;
    out.nodes++;
    out.acknowledged += stream->acknowledged();
  }
  return out;
}

std::vector<NodeInfo> Server::acknowledged() const {
  std::vector<NodeInfo> out;
  for (auto& n : nodes())
    if (n.acknowledged) out.push_back(std::move(n.node));
  return out;
}

void Server::on_acknowledgement(std::function<void()> f) { s_->on_acknowledgement = std::move(f); }

}  // namespace sluice::plane
