#include "ctrl/plane/ca_service.h"

#include <google/protobuf/struct.pb.h>
#include <grpcpp/grpcpp.h>

#include <chrono>

#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/service/secret/v3/sds.grpc.pb.h"
#include "istio/ca.grpc.pb.h"

namespace sluice::plane {
namespace {

namespace ds = envoy::service::discovery::v3;
namespace ia = istio::v1::auth;
constexpr const char* kSecretUrl = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
constexpr const char* kRootCa = "ROOTCA";

Now now() {
  const auto us = [](auto d) { return std::chrono::duration_cast<std::chrono::microseconds>(d).count(); };
  return {Usec(us(std::chrono::steady_clock::now().time_since_epoch())), us(std::chrono::system_clock::now().time_since_epoch())};
}

grpc::Status status_of(const CaRefusal& r) {
  using Kind = CaRefusal::Kind;
  const auto code = r.kind == Kind::kUnauthenticated ? grpc::StatusCode::UNAUTHENTICATED
                    : r.kind == Kind::kDenied        ? grpc::StatusCode::PERMISSION_DENIED
                    : r.kind == Kind::kInvalid       ? grpc::StatusCode::INVALID_ARGUMENT
                    : r.kind == Kind::kLimited       ? grpc::StatusCode::RESOURCE_EXHAUSTED
                                                     : grpc::StatusCode::UNAVAILABLE;
  return {code, r.reason};
}

}  // namespace

std::string rootca_secret(const CaState& state, bool with_identities) {
  envoy::extensions::transport_sockets::tls::v3::Secret s;
  s.set_name(kRootCa);
  auto* v = s.mutable_validation_context();
  v->mutable_trusted_ca()->set_inline_bytes(state.roots_pem);
  if (!state.crl_pem.empty()) {
    v->mutable_crl()->set_inline_bytes(state.crl_pem);
    v->set_only_verify_leaf_cert_crl(true);  // who stands above an intermediate has no list here
  }
  if (with_identities && !state.identities.empty()) {
    google::protobuf::Struct denied;
    auto* list = (*denied.mutable_fields())["denied"].mutable_list_value();
    for (const std::string& i : state.identities) list->add_values()->set_string_value(i);
    v->mutable_custom_validator_config()->set_name("sluice.denied_identities");
    v->mutable_custom_validator_config()->mutable_typed_config()->PackFrom(denied);
  }
  return s.SerializeAsString();
}

struct CaService::State {
  class Certificates final : public ia::IstioCertificateService::CallbackService {
   public:
    explicit Certificates(State& s) : s_(s) {}
    grpc::ServerUnaryReactor* CreateCertificate(grpc::CallbackServerContext* context, const ia::IstioCertificateRequest* request,
                                                ia::IstioCertificateResponse* response) override;

   private:
    State& s_;
  };
  class Stream;
  class Secrets final : public envoy::service::secret::v3::SecretDiscoveryService::CallbackService {
   public:
    explicit Secrets(State& s) : s_(s) {}
    grpc::ServerBidiReactor<ds::DiscoveryRequest, ds::DiscoveryResponse>* StreamSecrets(grpc::CallbackServerContext* context) override;

   private:
    State& s_;
  };

  CaAuthority& authority;
  Log log;
  Certificates certificates{*this};
  Secrets secrets{*this};
  std::mutex mutex;  // guards what follows
  RateLimit logged{kRefusalsLoggedPerSecond, kRefusalsLoggedPerSecond};
  uint64_t unsaid = 0;
  std::map<Stream*, std::shared_ptr<Stream>> streams;  // until gRPC is done with them

  State(CaAuthority& a, Log l) : authority(a), log(std::move(l)) {}

  std::expected<std::string, CaRefusal> caller_of(grpc::CallbackServerContext* context) {
    std::string certificate, authorization;
    const auto auth = context->auth_context();
    if (auth != nullptr && auth->IsPeerAuthenticated())
      for (const auto& pem : auth->FindPropertyValues("x509_pem_cert")) certificate = std::string(pem.data(), pem.size());
    if (const auto it = context->client_metadata().find("authorization"); it != context->client_metadata().end())
      authorization = std::string(it->second.data(), it->second.size());
    return authority.authenticate(certificate, authorization, now());
  }

  grpc::Status refused(const std::string& peer, const std::string& identity, const CaRefusal& r) {
    uint64_t silent = 0;
    {
      const std::lock_guard lock(mutex);
      if (!logged.take(now().mono_us)) {
        unsaid++;
        return status_of(r);
      }
      silent = std::exchange(unsaid, 0);
    }
    log("ca: refused " + (identity.empty() ? peer : identity + " (" + peer + ")") + ": " + r.reason +
        (silent == 0 ? "" : " (and " + std::to_string(silent) + " more refusals)"));
    return status_of(r);
  }
};

grpc::ServerUnaryReactor* CaService::State::Certificates::CreateCertificate(grpc::CallbackServerContext* context,
                                                                            const ia::IstioCertificateRequest* request,
                                                                            ia::IstioCertificateResponse* response) {
  const auto answer = [&]() -> grpc::Status {
    const auto caller = s_.caller_of(context);
    if (!caller) return s_.refused(context->peer(), "", caller.error());
    // Node proxies may ask for others' identities at istiod; here nobody may. CertSigner chooses among Kubernetes signers, which are not
    // here.
    const auto& metadata = request->metadata().fields();
    if (const auto it = metadata.find("ImpersonatedIdentity"); it != metadata.end() && !it->second.string_value().empty())
      return s_.refused(context->peer(), *caller,
                        {CaRefusal::Kind::kDenied, "asks for the identity " + it->second.string_value().substr(0, 256)});
    auto made = s_.authority.issue(*caller, {request->csr(), request->validity_duration()}, now());
    if (!made) return s_.refused(context->peer(), *caller, made.error());
    for (std::string& pem : made->chain) response->add_cert_chain(std::move(pem));
    s_.log("ca: " + *caller + " got certificate " + made->serial + ", good until " + std::to_string(made->not_after_us / 1'000'000));
    return grpc::Status::OK;
  };
  auto* reactor = context->DefaultReactor();
  reactor->Finish(answer());
  return reactor;
}

class CaService::State::Stream final : public grpc::ServerBidiReactor<ds::DiscoveryRequest, ds::DiscoveryResponse> {
 public:
  Stream(State& s, grpc::CallbackServerContext* context) : s_(s), context_(context) {}
  void begin(const grpc::Status& status) {
    if (status.ok()) StartRead(&request_);
    else end(status);
  }
  void OnReadDone(bool ok) override {
    if (!ok) return end(grpc::Status::OK);
    {
      const std::lock_guard lock(mutex_);
      if (request_.has_node()) with_identities_ = request_.node().user_agent_name() == "sluice";
      const bool asked = std::exchange(asked_, std::ranges::find(request_.resource_names(), kRootCa) != request_.resource_names().end());
      if (asked_ && !asked) sent_.clear();
    }
    if (request_.has_error_detail())
      s_.log("ca: " + context_->peer() + " refused ROOTCA: " + request_.error_detail().message().substr(0, 1024));
    push();
    StartRead(&request_);
  }
  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      if (finish_asked_ || !ok) {
        finish_asked_ = true;
        if (!std::exchange(finished_, true)) Finish(status_);
        return;
      }
    }
    push();
  }
  void OnDone() override {
    std::shared_ptr<Stream> self;  // the last reference goes when this function has returned
    const std::lock_guard lock(s_.mutex);
    if (const auto it = s_.streams.find(this); it != s_.streams.end()) {
      self = std::move(it->second);
      s_.streams.erase(it);
    }
  }
  void push() {
    const auto state = s_.authority.state();
    const std::lock_guard lock(mutex_);
    if (!asked_ || writing_ || finish_asked_ || sent_ == state->version) return;
    sent_ = state->version;
    response_.Clear();
    response_.set_type_url(kSecretUrl);
    response_.set_version_info(sent_);
    response_.set_nonce(std::to_string(++nonce_));
    auto* any = response_.add_resources();
    any->set_type_url(kSecretUrl);
    any->set_value(rootca_secret(*state, with_identities_));
    writing_ = true;
    StartWrite(&response_);
  }

 private:
  void end(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    finish_asked_ = true;
    status_ = status;
    if (!writing_ && !std::exchange(finished_, true)) Finish(status_);
  }

  State& s_;
  grpc::CallbackServerContext* const context_;
  ds::DiscoveryRequest request_;
  std::mutex mutex_;  // guards what follows
  bool asked_ = false, with_identities_ = false, writing_ = false, finish_asked_ = false, finished_ = false;
  uint64_t nonce_ = 0;
  std::string sent_;  // version
  ds::DiscoveryResponse response_;
  grpc::Status status_;
};

grpc::ServerBidiReactor<ds::DiscoveryRequest, ds::DiscoveryResponse>* CaService::State::Secrets::StreamSecrets(
    grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<Stream>(s_, context);
  grpc::Status status;
  if (const auto caller = s_.caller_of(context); !caller) status = s_.refused(context->peer(), "", caller.error());
  {
    const std::lock_guard lock(s_.mutex);
    if (s_.streams.size() >= kSecretStreamsMax) status = {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many streams of secrets"};
    s_.streams.emplace(stream.get(), stream);
  }
  stream->begin(status);
  return stream.get();
}

CaService::CaService(CaAuthority& authority, Log log) : s_(std::make_unique<State>(authority, std::move(log))) {}
CaService::~CaService() = default;

void CaService::add_to(grpc::ServerBuilder& builder) {
  builder.RegisterService(&s_->certificates);
  builder.RegisterService(&s_->secrets);
}

void CaService::push() {
  std::vector<std::shared_ptr<State::Stream>> streams;
  {
    const std::lock_guard lock(s_->mutex);
    for (const auto& [raw, stream] : s_->streams) streams.push_back(stream);
  }
  for (const auto& stream : streams) stream->push();
}

}  // namespace sluice::plane
