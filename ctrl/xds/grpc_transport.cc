// A Stream is gRPC's reactor for one call. It outlives the transport if it must: gRPC calls OnDone last, and until then it holds itself.
// What gRPC's threads and the control thread share is behind its mutex: the events that came (responses, the end) and the requests to
// write.
#include "ctrl/xds/grpc_transport.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>
#include <sstream>

#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::xds {
namespace {

using envoy::service::discovery::v3::AggregatedDiscoveryService;
using envoy::service::discovery::v3::DeltaDiscoveryRequest;
using envoy::service::discovery::v3::DeltaDiscoveryResponse;

Response from_proto(DeltaDiscoveryResponse& p) {
  Response r{.type_url = std::move(*p.mutable_type_url()),
             .nonce = std::move(*p.mutable_nonce()),
             .version = std::move(*p.mutable_system_version_info())};
  r.resources.reserve(size_t(p.resources_size()));
  for (auto& x : *p.mutable_resources()) {
    Resource out{.name = std::move(*x.mutable_name()), .version = std::move(*x.mutable_version()), .has_body = x.has_resource()};
    if (x.has_resource()) {
      out.type_url = std::move(*x.mutable_resource()->mutable_type_url());
      out.bytes = std::move(*x.mutable_resource()->mutable_value());
    }
    r.resources.push_back(std::move(out));
  }
  for (auto& name : *p.mutable_removed_resources()) r.removed.push_back(std::move(name));
  return r;
}

DeltaDiscoveryRequest to_proto(Request& r) {
  DeltaDiscoveryRequest p;
  p.set_type_url(std::move(r.type_url));
  for (auto& name : r.subscribe) p.add_resource_names_subscribe(std::move(name));
  for (auto& name : r.unsubscribe) p.add_resource_names_unsubscribe(std::move(name));
  for (auto& [name, version] : r.initial_resource_versions) (*p.mutable_initial_resource_versions())[name] = std::move(version);
  p.set_response_nonce(std::move(r.response_nonce));
  if (!r.error.empty()) {
    p.mutable_error_detail()->set_code(3);  // google.rpc.Code INVALID_ARGUMENT, as Envoy says it
    p.mutable_error_detail()->set_message(std::move(r.error));
  }
  return p;
}

std::expected<std::string, std::string> read_file(const std::string& path, const char* what) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::unexpected(std::string("cannot read ") + what + " '" + path + "'");
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

}  // namespace

struct GrpcTransport::Node {
  envoy::config::core::v3::Node proto;
};

class GrpcTransport::Stream final : public grpc::ClientBidiReactor<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
 public:
  Stream(std::shared_ptr<grpc::Channel> channel, std::function<void()> wake)
      : channel_(std::move(channel)), stub_(AggregatedDiscoveryService::NewStub(channel_)), wake_(std::move(wake)) {}

  void start() {
    stub_->async()->DeltaAggregatedResources(&context_, this);
    StartRead(&incoming_);
    AddHold();  // write() and read_on() are no reactions: without it gRPC may free the call beneath them
    StartCall();
  }
  void cancel() {
    context_.TryCancel();
    std::lock_guard lock(mutex_);
    let_go();
  }
  void wait_done() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return ended_; });
  }
  // No more wake-ups: the owner goes.
  void silence() {
    std::lock_guard lock(mutex_);
    wake_ = nullptr;
  }

  void write(DeltaDiscoveryRequest request) {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    out_.push_back(std::move(request));
    if (out_.size() == 1) StartWrite(&out_.front());
  }
  std::optional<Response> take_response() {
    std::lock_guard lock(mutex_);
    return std::exchange(response_, std::nullopt);
  }
  void read_on() {
    std::lock_guard lock(mutex_);
    if (broken_) return;
    incoming_.Clear();
    StartRead(&incoming_);
  }
  // Set when the call is over and everything it said was taken.
  std::optional<std::string> end() {
    std::lock_guard lock(mutex_);
    if (!ended_ || response_) return std::nullopt;
    return reason_;
  }

 private:
  // Nothing more is started. OnDone follows, when what is under way has come back.
  void let_go() {
    if (!std::exchange(broken_, true)) RemoveHold();
  }
  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex_);
    if (!ok) return let_go();
    response_ = from_proto(incoming_);
    if (wake_) wake_();
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    out_.pop_front();
    if (!ok) let_go();
    else if (!out_.empty() && !broken_) StartWrite(&out_.front());
  }
  void OnDone(const grpc::Status& status) override {
    std::lock_guard lock(mutex_);
    ended_ = true;
    reason_ =
        status.ok() ? "the server ended the stream" : "gRPC status " + std::to_string(status.error_code()) + ": " + status.error_message();
    done_.notify_all();
    if (wake_) wake_();
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<AggregatedDiscoveryService::Stub> stub_;
  grpc::ClientContext context_;
  DeltaDiscoveryResponse incoming_;  // gRPC's while a read is under way
  std::mutex mutex_;                 // guards what follows
  std::condition_variable done_;
  std::function<void()> wake_;
  std::deque<DeltaDiscoveryRequest> out_;  // the first is being written
  std::optional<Response> response_;
  bool ended_ = false, broken_ = false;
  std::string reason_;
};

std::expected<std::unique_ptr<GrpcTransport>, std::string> GrpcTransport::make(TransportOptions options, Client& client,
                                                                               std::function<void()> wake, std::function<void()> applied) {
  auto node = std::make_unique<Node>();
  auto& p = node->proto;
  p.set_id(options.node_id);
  p.set_cluster(options.node_cluster);
  if (!options.region.empty() || !options.zone.empty() || !options.sub_zone.empty()) {
    p.mutable_locality()->set_region(options.region);
    p.mutable_locality()->set_zone(options.zone);
    p.mutable_locality()->set_sub_zone(options.sub_zone);
  }
  p.set_user_agent_name("sluice");
  p.set_user_agent_version(options.version);
  if (auto s = google::protobuf::util::JsonStringToMessage(options.metadata_json, p.mutable_metadata()); !s.ok())
    return std::unexpected("node.metadata is no JSON object: " + std::string(s.message()));
  return std::unique_ptr<GrpcTransport>(
      new GrpcTransport(std::move(options), std::move(node), client, std::move(wake), std::move(applied)));
}

GrpcTransport::GrpcTransport(TransportOptions options, std::unique_ptr<Node> node, Client& client, std::function<void()> wake,
                             std::function<void()> applied)
    : options_(std::move(options)), node_(std::move(node)), client_(client), wake_(std::move(wake)), applied_(std::move(applied)) {}

GrpcTransport::~GrpcTransport() {
  if (stream_ == nullptr) return;
  stream_->silence();
  stream_->cancel();
  stream_->wait_done();
}

std::expected<void, std::string> GrpcTransport::open(uint64_t number) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  grpc::ChannelArguments arguments;
  if (options_.tls) {
    grpc::SslCredentialsOptions ssl;
    auto ca = read_file(options_.ca_file, "xds.tls.ca");
    if (!ca) return std::unexpected(ca.error());
    ssl.pem_root_certs = std::move(*ca);
    if (!options_.cert_file.empty()) {
      auto cert = read_file(options_.cert_file, "xds.tls.cert");
      auto key = read_file(options_.key_file, "xds.tls.key");
      if (!cert || !key) return std::unexpected(!cert ? cert.error() : key.error());
      ssl.pem_cert_chain = std::move(*cert);
      ssl.pem_private_key = std::move(*key);
    }
    credentials = grpc::SslCredentials(ssl);
    if (!options_.server_name.empty()) arguments.SetSslTargetNameOverride(options_.server_name);
  }
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // the backoff is the client's, not a shared subchannel's
  stream_ = std::make_unique<Stream>(grpc::CreateCustomChannel(options_.address, credentials, arguments), wake_);
  number_ = number;
  first_request_ = true;
  stream_->start();
  return {};
}

void GrpcTransport::send_requests() {
  for (Request& r : client_.take_requests()) {
    DeltaDiscoveryRequest p = to_proto(r);
    if (std::exchange(first_request_, false)) *p.mutable_node() = node_->proto;
    stream_->write(std::move(p));
  }
}

void GrpcTransport::turn(Usec now) {
  if (stream_ != nullptr) {
    while (auto r = stream_->take_response()) {
      client_.response(number_, *r, now);
      if (applied_) applied_();
      stream_->read_on();
    }
    if (auto reason = stream_->end()) {
      client_.stream_closed(number_, std::move(*reason), now);
      stream_.reset();
    }
  }
  client_.advance(now);
  if (client_.connect_at() <= now) {
    const uint64_t number = client_.begin_connect();
    if (auto ok = open(number); ok) client_.connected(number, now);
    else client_.stream_closed(number, ok.error(), now);
  }
  if (stream_ != nullptr) send_requests();
}

Usec GrpcTransport::next_deadline() const { return std::min(client_.connect_at(), client_.next_deadline()); }

}  // namespace sluice::xds
