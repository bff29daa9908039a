// A Call is one CreateCertificate, a Watch is gRPC's reactor for one StreamSecrets. Both end on the agent's thread, after gRPC's last word.
#include "ctrl/agent/ca_transport.h"

#include <google/protobuf/struct.pb.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>

#include "envoy/service/secret/v3/sds.grpc.pb.h"
#include "istio/ca.grpc.pb.h"

namespace sluice::agent {
namespace {

namespace ds = envoy::service::discovery::v3;
using envoy::service::secret::v3::SecretDiscoveryService;
using istio::v1::auth::IstioCertificateRequest;
using istio::v1::auth::IstioCertificateResponse;
using istio::v1::auth::IstioCertificateService;
constexpr const char* kSecretUrl = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

std::expected<std::string, std::string> read_file(const std::string& path, const char* what) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  if (!in) return std::unexpected(std::string("cannot read ") + what + " '" + path + "'");
  return s.str();
}

std::expected<std::shared_ptr<grpc::Channel>, std::string> connect(const CaTransportOptions& o) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  grpc::ChannelArguments arguments;
  if (o.tls) {
    grpc::SslCredentialsOptions ssl;
    auto ca = read_file(o.ca_file, "ca.tls.ca");
    if (!ca) return std::unexpected(ca.error());
    ssl.pem_root_certs = std::move(*ca);
    if (!o.cert_file.empty()) {
      auto cert = read_file(o.cert_file, "ca.tls.cert"), key = read_file(o.key_file, "ca.tls.key");
      if (!cert || !key) return std::unexpected(!cert ? cert.error() : key.error());
      ssl.pem_cert_chain = std::move(*cert);
      ssl.pem_private_key = std::move(*key);
    }
    credentials = grpc::SslCredentials(ssl);
    if (!o.server_name.empty()) arguments.SetSslTargetNameOverride(o.server_name);
  }
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // the backoff is the client's
  return grpc::CreateCustomChannel(o.address, credentials, arguments);
}

std::expected<void, std::string> identify(grpc::ClientContext& context, const CaTransportOptions& o) {
  if (!o.cluster_id.empty()) context.AddMetadata("clusterid", o.cluster_id);
  if (o.token_file.empty()) return {};
  auto token = read_file(o.token_file, "ca.token");
  if (!token) return std::unexpected(token.error());
  while (!token->empty() && std::isspace(static_cast<unsigned char>(token->back())) != 0) token->pop_back();
  if (token->empty() || token->find_first_of("\r\n") != std::string::npos)
    return std::unexpected("ca.token '" + o.token_file + "' holds no token in one line");
  context.AddMetadata("authorization", "Bearer " + *token);
  return {};
}

std::string text_of(const grpc::Status& status) {
  return status.ok() ? "the CA ended the stream" : "gRPC status " + std::to_string(status.error_code()) + ": " + status.error_message();
}

}  // namespace

// Outlives the transport as long as gRPC needs it.
struct CaTransport::Shared {
  std::mutex mutex;
  std::function<void()> wake;
  void call() {
    const std::lock_guard lock(mutex);
    if (wake) wake();
  }
};

struct CaTransport::Call {
  grpc::ClientContext context;
  std::unique_ptr<IstioCertificateService::Stub> stub;
  IstioCertificateRequest request;
  IstioCertificateResponse response;
  std::mutex mutex;  // guards what follows
  std::condition_variable ended;
  bool done = false;
  grpc::Status status;
};

class CaTransport::Watch final : public grpc::ClientBidiReactor<ds::DiscoveryRequest, ds::DiscoveryResponse> {
 public:
  Watch(std::shared_ptr<grpc::Channel> channel, std::shared_ptr<Shared> shared)
      : stub_(SecretDiscoveryService::NewStub(channel)), shared_(std::move(shared)) {}
  grpc::ClientContext& context() { return context_; }
  void start(const std::string& node_id) {
    out_.mutable_node()->set_id(node_id);
    out_.mutable_node()->set_user_agent_name("sluice");
    out_.set_type_url(kSecretUrl);
    out_.add_resource_names("ROOTCA");
    stub_->async()->StreamSecrets(&context_, this);
    StartWrite(&out_);
    StartRead(&in_);
    AddHold();  // answered() is no reaction: without it gRPC may free the call beneath it
    StartCall();
  }
  void cancel_and_wait() {
    context_.TryCancel();
    std::unique_lock lock(mutex_);
    let_go();
    ended_.wait(lock, [this] { return done_; });
  }
  // The secret of the answer that came, once; null: none. Then answered() says what became of it and reads on.
  std::optional<std::string> take() {
    const std::lock_guard lock(mutex_);
    if (!have_ || taken_) return std::nullopt;
    taken_ = true;
    return in_.resources_size() == 1 ? in_.resources(0).value() : "";
  }
  void answered(const std::expected<void, std::string>& ok) {
    const std::lock_guard lock(mutex_);
    have_ = taken_ = false;
    if (broken_) return;
    ack_.Clear();
    ack_.set_type_url(kSecretUrl);
    ack_.add_resource_names("ROOTCA");
    ack_.set_response_nonce(in_.nonce());
    if (ok) version_ = in_.version_info();
    ack_.set_version_info(version_);
    if (!ok) ack_.mutable_error_detail()->set_code(3), ack_.mutable_error_detail()->set_message(ok.error());
    want_ack_ = true;
    flush();
    in_.Clear();
    StartRead(&in_);
  }
  std::optional<grpc::Status> end() {
    const std::lock_guard lock(mutex_);
    if (!done_ || have_) return std::nullopt;
    return status_;
  }

 private:
  // Nothing more is started. OnDone follows, when what is under way has come back.
  void let_go() {
    if (!std::exchange(broken_, true)) RemoveHold();
  }
  void flush() {
    if (broken_ || writing_ || !want_ack_) return;
    want_ack_ = false;
    writing_ = true;
    out_ = ack_;
    StartWrite(&out_);
  }
  void OnReadDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      if (ok) have_ = true;
      else let_go();
    }
    if (ok) shared_->call();
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) let_go();
    else flush();
  }
  void OnDone(const grpc::Status& status) override {
    const auto shared = shared_;
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
      status_ = status;
      ended_.notify_all();
    }
    shared->call();  // we may be gone
  }

  const std::unique_ptr<SecretDiscoveryService::Stub> stub_;
  const std::shared_ptr<Shared> shared_;
  grpc::ClientContext context_;
  ds::DiscoveryRequest out_;
  ds::DiscoveryResponse in_;  // gRPC's while a read is under way
  std::mutex mutex_;          // guards what follows
  std::condition_variable ended_;
  ds::DiscoveryRequest ack_;
  std::string version_;
  bool have_ = false, taken_ = false, writing_ = true, want_ack_ = false, broken_ = false, done_ = false;
  grpc::Status status_;
};

CaTransport::CaTransport(CaTransportOptions options, CaClient& client, std::function<void()> wake)
    : options_(std::move(options)), client_(client), shared_(std::make_shared<Shared>()) {
  shared_->wake = std::move(wake);
}

CaTransport::~CaTransport() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->wake = nullptr;
  }
  if (call_ != nullptr) {
    call_->context.TryCancel();
    std::unique_lock lock(call_->mutex);
    call_->ended.wait(lock, [this] { return call_->done; });
  }
  if (watch_ != nullptr) watch_->cancel_and_wait();
}

void CaTransport::turn(Now now) {
  if (call_ != nullptr) {
    std::unique_lock lock(call_->mutex);
    if (call_->done) {
      const grpc::Status status = call_->status;
      lock.unlock();
      if (status.ok()) client_.answer(call_number_, {call_->response.cert_chain().begin(), call_->response.cert_chain().end()}, now);
      else client_.failed(call_number_, text_of(status), now);
      call_.reset();
    }
  }
  if (call_ == nullptr) {
    if (auto request = client_.take_request(now)) {
      call_number_ = request->number;
      auto call = std::make_unique<Call>();
      auto channel = connect(options_);
      const auto ok = identify(call->context, options_);
      if (!channel || !ok) {
        client_.failed(call_number_, !channel ? channel.error() : ok.error(), now);
      } else {
        call->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kCaAnswerSeconds));
        call->stub = IstioCertificateService::NewStub(*channel);
        call->request.set_csr(std::move(request->csr_pem));
        call->request.set_validity_duration(request->ttl_s);
        (*call->request.mutable_metadata()->mutable_fields())["CertSigner"].set_string_value("");  // as Istio's agent has it
        call_ = std::move(call);
        call_->stub->async()->CreateCertificate(&call_->context, &call_->request, &call_->response,
                                                [c = call_.get(), shared = shared_](grpc::Status status) {
                                                  {
                                                    const std::lock_guard lock(c->mutex);
                                                    c->done = true;
                                                    c->status = std::move(status);
                                                    c->ended.notify_all();
                                                  }
                                                  shared->call();  // the call may be gone
                                                });
      }
    }
  }
  if (watch_ != nullptr) {
    while (const auto secret = watch_->take()) watch_->answered(client_.watch_said(watch_number_, *secret, now));
    if (const auto status = watch_->end()) {
      client_.watch_closed(watch_number_, text_of(*status), status->error_code() == grpc::StatusCode::UNIMPLEMENTED, now);
      watch_->cancel_and_wait();
      watch_.reset();
    }
  }
  if (watch_ == nullptr) {
    if (const uint64_t number = client_.take_watch(now); number != 0) {
      watch_number_ = number;
      auto channel = connect(options_);
      if (!channel) return client_.watch_closed(number, channel.error(), false, now);
      auto watch = std::make_unique<Watch>(*channel, shared_);
      if (auto ok = identify(watch->context(), options_); !ok) return client_.watch_closed(number, ok.error(), false, now);
      watch_ = std::move(watch);
      watch_->start(options_.node_id);
    }
  }
}

}  // namespace sluice::agent
