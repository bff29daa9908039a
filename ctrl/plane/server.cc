#include "ctrl/plane/server.h"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <fstream>
#include <mutex>
#include <sstream>

#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::plane {
namespace {

namespace ds = envoy::service::discovery::v3;

std::string slurp(const std::string& file) {
  std::ifstream in(file);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

}  // namespace

struct Server::State {
  class Stream;
  class Service final : public ds::AggregatedDiscoveryService::CallbackService {
   public:
    explicit Service(State& s) : s_(s) {}
    grpc::ServerBidiReactor<ds::DeltaDiscoveryRequest, ds::DeltaDiscoveryResponse>* DeltaAggregatedResources(
        grpc::CallbackServerContext* context) override;

   private:
    State& s_;
  };

  ServerOptions options;
  Log log;
  Service service{*this};
  std::unique_ptr<grpc::Server> server;
  std::mutex mutex;  // guards what follows
  std::shared_ptr<const World> world;
  std::map<std::string, std::shared_ptr<const Resources>> encoded;  // by node, of this world
  std::map<Stream*, std::shared_ptr<Stream>> streams;               // until gRPC is done with them

  std::shared_ptr<const Resources> resources_for(const std::string& key, const NodeInfo& node) {
    std::shared_ptr<const World> w;
    {
      const std::lock_guard lock(mutex);
      if (const auto it = encoded.find(key); it != encoded.end()) return it->second;
      w = world;
    }
    auto made = to_resources(translate(*w, node, options.translation));
    if (!made) {
      log("internal error, nothing is sent: " + made.error());
      return nullptr;
    }
    auto shared = std::make_shared<const Resources>(std::move(*made));
    const std::lock_guard lock(mutex);
    if (w == world) encoded[key] = shared;
    return shared;
  }
};

class Server::State::Stream final : public grpc::ServerBidiReactor<ds::DeltaDiscoveryRequest, ds::DeltaDiscoveryResponse> {
 public:
  Stream(State& s, grpc::CallbackServerContext* context) : s_(s) {
    for (const auto& san : context->auth_context()->FindPropertyValues("x509_subject_alternative_name"))
      if (san.starts_with("spiffe://")) identity_ = std::string(san.data(), san.size());
    authenticated_ = context->auth_context()->IsPeerAuthenticated();
  }
  void begin() { StartRead(&request_); }
  void OnReadDone(bool ok) override {
    if (!ok) {
      end(grpc::Status::OK);
      return;
    }
    if (const grpc::Status status = take(); !status.ok()) {
      end(status);
      return;
    }
    push();
    StartRead(&request_);
  }
  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.pop_front();
      if (!ok) queue_.clear(), finish_asked_ = true;
      if (!queue_.empty()) {
        StartWrite(&queue_.front());
        return;
      }
      if (finish_asked_) {
        if (!finished_) finished_ = true, Finish(status_);
        return;
      }
    }
    push();  // what has changed in the meantime
  }
  void OnDone() override {
    std::shared_ptr<Stream> self;  // the last reference goes when this function has returned
    const std::lock_guard lock(s_.mutex);
    if (const auto it = s_.streams.find(this); it != s_.streams.end()) {
      self = std::move(it->second);
      s_.streams.erase(it);
    }
  }
  // The node, if it holds what its present world says and has refused nothing of it. Any thread.
  std::optional<NodeInfo> acknowledged() {
    const std::lock_guard lock(mutex_);
    if (!known_ || !queue_.empty() || stream_.unacknowledged() != 0 || stream_.last_nack() || !stream_.answered(2)) return {};
    return current_ != nullptr && current_ == s_.resources_for(node_key_, node_) ? std::optional(node_) : std::nullopt;
  }
  // Whatever this stream does not have yet. Any thread.
  void push() {
    const std::lock_guard lock(mutex_);  // held throughout, so that no older world follows a newer one
    // While answers wait to be written nothing more is queued: OnWriteDone comes here again and takes the newest world.
    if (!known_ || finish_asked_ || !queue_.empty()) return;
    const auto current = s_.resources_for(node_key_, node_);
    if (current == nullptr) return;
    current_ = current;
    for (const auto& a : stream_.answers(*current)) {
      ds::DeltaDiscoveryResponse r;
      const std::string url = std::string(kTypePrefix) + std::string(kTypeNames[a.type]);
      r.set_type_url(url);
      r.set_nonce(a.nonce);
      for (const auto& [name, resource] : a.resources) {
        auto* x = r.add_resources();
        x->set_name(name);
        x->set_version(resource->version);
        x->mutable_resource()->set_type_url(url);
        x->mutable_resource()->set_value(resource->value);
      }
      for (const auto& name : a.removed) r.add_removed_resources(name);
      queue_.push_back(std::move(r));
      if (queue_.size() == 1) StartWrite(&queue_.front());
    }
  }

 private:
  grpc::Status take() {
    const std::lock_guard lock(mutex_);
    if (!known_) {
      if (!request_.has_node() || request_.node().id().empty())
        return {grpc::StatusCode::INVALID_ARGUMENT, "the first request must carry a Node with an id"};
      node_ = node_from_wire(request_.node().SerializeAsString());
      if (authenticated_) {
        // A certificate speaks for one namespace and service account; a Node may not claim another's.
        const size_t ns = identity_.find("/ns/"), sa = identity_.find("/sa/");
        const std::string its_ns = ns == std::string::npos || sa == std::string::npos ? "" : identity_.substr(ns + 4, sa - ns - 4);
        const std::string its_sa = sa == std::string::npos ? "" : identity_.substr(sa + 4);
        if (its_ns != node_.ns || (!node_.service_account.empty() && its_sa != node_.service_account)) {
          s_.log("refused node " + node_.id + ": it claims " + node_.ns + "/" + node_.service_account + ", its certificate says " +
                 (identity_.empty() ? "nothing" : identity_));
          return {grpc::StatusCode::PERMISSION_DENIED, "the Node's namespace or service account is not its certificate's"};
        }
      }
      node_key_ = node_.key();
      known_ = true;
      s_.log("node " + node_.id + " connected");
    }
    StreamRequest r;
    r.type_url = request_.type_url();
    r.nonce = request_.response_nonce();
    if (request_.has_error_detail())
      r.error = request_.error_detail().message().empty() ? "no reason given" : request_.error_detail().message();
    r.subscribe = {request_.resource_names_subscribe().begin(), request_.resource_names_subscribe().end()};
    r.unsubscribe = {request_.resource_names_unsubscribe().begin(), request_.resource_names_unsubscribe().end()};
    for (const auto& [name, version] : request_.initial_resource_versions()) r.initial_versions[name] = version;
    if (!stream_.take(r)) return {grpc::StatusCode::RESOURCE_EXHAUSTED, "more names than one stream may ask for"};
    if (!r.error.empty()) s_.log("node " + node_.id + " refused " + r.type_url + ": " + r.error);
    return grpc::Status::OK;
  }
  void end(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    finish_asked_ = true;
    status_ = status;
    if (queue_.empty() && !finished_) finished_ = true, Finish(status_);
  }

  State& s_;
  ds::DeltaDiscoveryRequest request_;
  std::string identity_;
  bool authenticated_ = false;
  std::mutex mutex_;  // guards what follows
  bool known_ = false, finish_asked_ = false, finished_ = false;
  grpc::Status status_;
  NodeInfo node_;
  std::string node_key_;
  DeltaStream stream_;
  std::shared_ptr<const Resources> current_;      // of the last answers
  std::deque<ds::DeltaDiscoveryResponse> queue_;  // the front is being written
};

grpc::ServerBidiReactor<ds::DeltaDiscoveryRequest, ds::DeltaDiscoveryResponse>* Server::State::Service::DeltaAggregatedResources(
    grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<Stream>(s_, context);
  {
    const std::lock_guard lock(s_.mutex);
    s_.streams.emplace(stream.get(), stream);
  }
  stream->begin();
  return stream.get();
}

Server::Server(ServerOptions options, std::shared_ptr<const World> world, Log log) : s_(std::make_unique<State>()) {
  s_->options = std::move(options);
  s_->world = std::move(world);
  s_->log = std::move(log);
}

Server::~Server() {
  if (s_->server == nullptr) return;
  s_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  s_->server->Wait();
}

std::expected<void, std::string> Server::start() {
  const ServerOptions& o = s_->options;
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!o.cert.empty()) {
    grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
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
  s_->server = builder.BuildAndStart();
  if (s_->server == nullptr || port == 0)
    return std::unexpected(o.listen + ": cannot listen there; --listen takes unix:PATH or IP:PORT that is free");
  return {};
}

void Server::replace(std::shared_ptr<const World> world) {
  std::vector<std::shared_ptr<State::Stream>> streams;
  {
    const std::lock_guard lock(s_->mutex);
    s_->world = std::move(world);
    s_->encoded.clear();
    for (const auto& [raw, stream] : s_->streams) streams.push_back(stream);
  }
  for (const auto& stream : streams) stream->push();
}

std::vector<NodeInfo> Server::acknowledged() const {
  std::vector<std::shared_ptr<State::Stream>> streams;
  {
    const std::lock_guard lock(s_->mutex);
    for (const auto& [raw, stream] : s_->streams) streams.push_back(stream);
  }
  std::vector<NodeInfo> out;
  for (const auto& stream : streams)
    if (auto node = stream->acknowledged()) out.push_back(std::move(*node));
  return out;
}

}  // namespace sluice::plane
