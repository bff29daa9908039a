// The CA's services beside xDS, asked by gRPC's own client over a Unix socket (tokens) and over mutual TLS.
#include "ctrl/plane/ca_service.h"

#include <google/protobuf/struct.pb.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "ctrl/plane/server.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"
#include "envoy/service/secret/v3/sds.grpc.pb.h"
#include "istio/ca.grpc.pb.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;
namespace ds = envoy::service::discovery::v3;
namespace ia = istio::v1::auth;
using envoy::service::secret::v3::SecretDiscoveryService;

const std::string kGateway = "spiffe://cluster.local/ns/shop/sa/gateway";
int64_t wall_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}
std::string slurp(const std::string& f) {
  std::ifstream in(f);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A key for tokens by openssl(1), and tokens signed with it.
struct TokenIssuer {
  std::string dir;
  static bool run(const std::string& script) { return std::system(script.c_str()) == 0; }
  explicit TokenIssuer(std::string d) : dir(std::move(d)) {
    EXPECT_TRUE(run(
        "cd " + dir +
        " && openssl genrsa -out token-key.pem 2048 2>/dev/null && openssl rsa -in token-key.pem -pubout -out token-pub.pem 2>/dev/null"));
    std::ofstream(dir + "/sign.sh") << R"sh(cd $1
b64() { base64 -w0 | tr '+/' '-_' | tr -d =; }
printf '%s.%s' "$(printf '{"alg":"RS256"}' | b64)" "$(b64 < claims)" > input
printf '%s.%s' "$(cat input)" "$(openssl dgst -sha256 -sign token-key.pem input | b64)" > token
)sh";
  }
  std::string token(const std::string& sub, const std::string& aud = "istio-ca") const {
    std::ofstream(dir + "/claims") << R"({"iss":"https://issuer","aud":[")" << aud << R"("],"sub":")" << sub << R"(","exp":4000000000})";
    EXPECT_TRUE(run("sh " + dir + "/sign.sh " + dir));
    return slurp(dir + "/token");
  }
};

struct CaServiceTest : testing::Test {
  std::string dir;
  std::unique_ptr<CaAuthority> authority;
  std::unique_ptr<CaService> service;
  std::unique_ptr<Server> server;
  std::unique_ptr<TokenIssuer> issuer;
  std::mutex mutex;
  std::vector<std::string> log;

  void SetUp() override {
    char name[] = "/tmp/sluice-ca-XXXXXX";
    dir = ::mkdtemp(name);
    issuer = std::make_unique<TokenIssuer>(dir);
    auto made = CaAuthority::start({.dir = dir + "/ca",
                                    .token = TokenOptions{.keys = slurp(dir + "/token-pub.pem"),
                                                          .issuer = "https://issuer",
                                                          .audience = "istio-ca",
                                                          .trust_domain = "cluster.local"}},
                                   wall_us());
    ASSERT_TRUE(made) << made.error();
    authority = std::move(*made);
    service = std::make_unique<CaService>(*authority, [this](const std::string& line) {
      const std::lock_guard lock(mutex);
      log.push_back(line);
    });
  }
  void serve(ServerOptions o) {
    o.more = [this](grpc::ServerBuilder& b) { service->add_to(b); };
    Loaded world = load_text("", "in.yaml");
    server = std::make_unique<Server>(std::move(o), std::make_shared<const World>(std::move(world.world)), [](const std::string&) {});
    const auto ok = server->start();
    ASSERT_TRUE(ok) << ok.error();
  }
  void TearDown() override {
    server.reset();
    service.reset();
    fs::remove_all(dir);
  }
  bool logged(const std::string& what) {
    const std::lock_guard lock(mutex);
    return std::ranges::any_of(log, [&](const std::string& l) { return l.find(what) != std::string::npos; });
  }
  std::shared_ptr<grpc::Channel> unix_channel() { return grpc::CreateChannel("unix:" + dir + "/s", grpc::InsecureChannelCredentials()); }
  struct Result {
    grpc::Status status;
    ia::IstioCertificateResponse response;
  };
  static Result create(const std::shared_ptr<grpc::Channel>& channel, const std::string& token,
                       const ia::IstioCertificateRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    Result r;
    r.status = ia::IstioCertificateService::NewStub(channel)->CreateCertificate(&context, request, &r.response);
    return r;
  }
  static ia::IstioCertificateRequest request(const std::string& csr) {
    ia::IstioCertificateRequest r;
    r.set_csr(csr);
    r.set_validity_duration(3600);
    return r;
  }
};

TEST_F(CaServiceTest, ATokensHolderGetsItsCertificateOverAUnixSocket) {
  serve({.listen = "unix:" + dir + "/s"});
  const auto csr = tls::make_csr(kGateway);
  const auto r = create(unix_channel(), issuer->token("system:serviceaccount:shop:gateway"), request(csr->csr_pem));
  ASSERT_TRUE(r.status.ok()) << r.status.error_message();
  ASSERT_EQ(r.response.cert_chain_size(), 2);
  const auto ok = tls::check_issued({r.response.cert_chain(0), r.response.cert_chain(1)}, csr->key_pem, kGateway, wall_us());
  ASSERT_TRUE(ok) << ok.error();
  EXPECT_NEAR(double(ok->not_after_us - wall_us()) / 1e6, 3600, 30);
  EXPECT_TRUE(logged(kGateway + " got certificate " + ok->serial));
}

// The bytes that Istio's agent sends (citadel client): csr = 1, validity_duration = 3, metadata = 4 {CertSigner: ""}; its RSA-2048 CSR
// with the identity as URI SAN.
TEST_F(CaServiceTest, AnUnmodifiedIstioAgentsRequestIsAnswered) {
  serve({.listen = "unix:" + dir + "/s"});
  ASSERT_EQ(
      std::system(("cd " + dir +
                   " && openssl req -new -newkey rsa:2048 -nodes -keyout k.pem -out r.csr -subj / -addext subjectAltName=critical,URI:" +
                   kGateway + " 2>/dev/null")
                      .c_str()),
      0);
  const std::string csr = slurp(dir + "/r.csr");
  ASSERT_GT(csr.size(), 127u);
  std::string bytes = "\x0a";
  bytes += char((csr.size() & 0x7f) | 0x80), bytes += char(csr.size() >> 7), bytes += csr;
  bytes += std::string("\x18\x80\xa3\x05", 4);  // 86400
  bytes += std::string(
      "\x22\x12\x0a\x10\x0a\x0a"
      "CertSigner"
      "\x12\x02\x1a\x00",
      20);  // Struct {CertSigner: ""}
  ia::IstioCertificateRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(bytes));
  EXPECT_EQ(parsed.validity_duration(), 86400);
  EXPECT_EQ(parsed.metadata().fields().at("CertSigner").kind_case(), google::protobuf::Value::kStringValue);
  EXPECT_EQ(parsed.SerializeAsString(), bytes);

  grpc::GenericStub stub(unix_channel());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  context.AddMetadata("authorization", "Bearer " + issuer->token("system:serviceaccount:shop:gateway"));
  context.AddMetadata("clusterid", "Kubernetes");
  const grpc::Slice slice(bytes);
  grpc::ByteBuffer in(&slice, 1), out;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/istio.v1.auth.IstioCertificateService/CreateCertificate", {}, &in, &out,
                 [&](grpc::Status s) { done.set_value(std::move(s)); });
  const grpc::Status status = done.get_future().get();
  ASSERT_TRUE(status.ok()) << status.error_message();
  grpc::Slice answer;
  ASSERT_TRUE(out.DumpToSingleSlice(&answer).ok());
  // {cert_chain = 1 (leaf), cert_chain = 1 (root)}, as the agent reads it
  EXPECT_EQ(answer.begin()[0], 0x0a);
  ia::IstioCertificateResponse r;
  ASSERT_TRUE(r.ParseFromArray(answer.begin(), int(answer.size())));
  ASSERT_EQ(r.cert_chain_size(), 2);
  EXPECT_TRUE(tls::check_issued({r.cert_chain(0), r.cert_chain(1)}, slurp(dir + "/k.pem"), kGateway, wall_us()));
}

TEST_F(CaServiceTest, WhatIsRefusedHasItsCodeAndALine) {
  serve({.listen = "unix:" + dir + "/s"});
  const auto channel = unix_channel();
  const std::string token = issuer->token("system:serviceaccount:shop:gateway");
  const auto csr = tls::make_csr(kGateway), other = tls::make_csr("spiffe://cluster.local/ns/bank/sa/root");
  EXPECT_EQ(create(channel, "", request(csr->csr_pem)).status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(create(channel, "a.b.c", request(csr->csr_pem)).status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(create(channel, issuer->token("system:serviceaccount:shop:gateway", "other"), request(csr->csr_pem)).status.error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(create(channel, token, request(other->csr_pem)).status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(logged("refused " + kGateway));
  EXPECT_TRUE(logged("asks for spiffe://cluster.local/ns/bank/sa/root"));
  EXPECT_EQ(create(channel, token, request("nonsense")).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(create(channel, token, request(std::string(tls::kCsrBytesMax + 1, 'x'))).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  auto impersonating = request(csr->csr_pem);
  (*impersonating.mutable_metadata()->mutable_fields())["ImpersonatedIdentity"].set_string_value("spiffe://cluster.local/ns/bank/sa/root");
  EXPECT_EQ(create(channel, token, impersonating).status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  grpc::StatusCode last = grpc::StatusCode::OK;
  for (int i = 0; i < 20; i++) last = create(channel, token, request(csr->csr_pem)).status.error_code();
  EXPECT_EQ(last, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_GT(authority->counters().refused[size_t(CaRefusal::Kind::kLimited)], 0u);
}

struct SecretStream {
  grpc::ClientContext context;
  std::unique_ptr<SecretDiscoveryService::Stub> stub;
  std::unique_ptr<grpc::ClientReaderWriter<ds::DiscoveryRequest, ds::DiscoveryResponse>> stream;
  SecretStream(const std::shared_ptr<grpc::Channel>& channel, const std::string& token, const char* agent)
      : stub(SecretDiscoveryService::NewStub(channel)) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    stream = stub->StreamSecrets(&context);
    ds::DiscoveryRequest r;
    r.mutable_node()->set_id("router~10.0.0.1~a.shop~shop.svc.cluster.local");
    r.mutable_node()->set_user_agent_name(agent);
    r.set_type_url("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret");
    r.add_resource_names("ROOTCA");
    stream->Write(r);
  }
  envoy::extensions::transport_sockets::tls::v3::Secret next() {
    ds::DiscoveryResponse r;
    envoy::extensions::transport_sockets::tls::v3::Secret s;
    EXPECT_TRUE(stream->Read(&r));
    EXPECT_EQ(r.resources_size(), 1);
    if (r.resources_size() == 1) s.ParseFromString(r.resources(0).value());
    ds::DiscoveryRequest ack;
    ack.set_version_info(r.version_info());
    ack.set_response_nonce(r.nonce());
    ack.set_type_url(r.type_url());
    ack.add_resource_names("ROOTCA");
    stream->Write(ack);
    return s;
  }
};

TEST_F(CaServiceTest, TheTrustedRootsAndWhoIsRevokedArePushed) {
  serve({.listen = "unix:" + dir + "/s"});
  const std::string token = issuer->token("system:serviceaccount:shop:gateway");
  SecretStream ours(unix_channel(), token, "sluice"), envoys(unix_channel(), token, "envoy");
  for (SecretStream* s : {&ours, &envoys}) {
    const auto first = s->next();
    EXPECT_EQ(first.name(), "ROOTCA");
    EXPECT_EQ(first.validation_context().trusted_ca().inline_bytes(), authority->state()->roots_pem);
    EXPECT_FALSE(first.validation_context().has_crl());
  }
  const auto edit = std::chrono::steady_clock::now();
  std::ofstream(dir + "/ca/revoked.yaml") << "serials: [1a2b]\nidentities: [spiffe://cluster.local/ns/shop/sa/bad]\n";
  ASSERT_EQ(authority->reload(wall_us()), true);
  service->push();
  const auto second = ours.next(), theirs = envoys.next();
  EXPECT_LT(std::chrono::steady_clock::now() - edit, std::chrono::milliseconds(500));
  EXPECT_TRUE(authority->state()->issuer->is_list_of(second.validation_context().crl().inline_bytes(), {"1a2b"}));
  EXPECT_TRUE(second.validation_context().only_verify_leaf_cert_crl());
  google::protobuf::Struct denied;
  ASSERT_TRUE(second.validation_context().custom_validator_config().typed_config().UnpackTo(&denied));
  EXPECT_EQ(denied.fields().at("denied").list_value().values(0).string_value(), "spiffe://cluster.local/ns/shop/sa/bad");
  EXPECT_FALSE(theirs.validation_context().has_custom_validator_config());  // which Envoy does not know
  EXPECT_TRUE(theirs.validation_context().has_crl());
}

TEST_F(CaServiceTest, SecretsAreForThoseWhoSayWhoTheyAre) {
  serve({.listen = "unix:" + dir + "/s"});
  SecretStream s(unix_channel(), "", "sluice");
  ds::DiscoveryResponse r;
  EXPECT_FALSE(s.stream->Read(&r));
  EXPECT_EQ(s.stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(CaServiceTest, MutualTlsProvesWhoCallsAndTlsAloneDoesNot) {
  // The server's certificate is of a CA of its own; callers' are of ours, as after their first issue.
  ASSERT_EQ(std::system(("cd " + dir +
                         " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server -addext "
                         "subjectAltName=DNS:localhost -keyout server-key.pem -out server.pem 2>/dev/null")
                            .c_str()),
            0);
  const auto csr = tls::make_csr(kGateway);
  const auto first = authority->state()->issuer->sign(csr->csr_pem, kGateway, 3600, wall_us(), random_serial());
  ASSERT_TRUE(first);
  std::ofstream(dir + "/roots.pem") << authority->state()->roots_pem;
  const int port = 20000 + int(::getpid() % 20000);
  serve({.listen = "127.0.0.1:" + std::to_string(port),
         .ca = dir + "/roots.pem",
         .cert = dir + "/server.pem",
         .key = dir + "/server-key.pem",
         .certificate_optional = true});
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = slurp(dir + "/server.pem");
  const auto bare = grpc::CreateChannel("localhost:" + std::to_string(port), grpc::SslCredentials(tls));
  tls.pem_cert_chain = first->chain[0];
  tls.pem_private_key = csr->key_pem;
  const auto mutual = grpc::CreateChannel("localhost:" + std::to_string(port), grpc::SslCredentials(tls));

  const auto next = tls::make_csr(kGateway), other = tls::make_csr("spiffe://cluster.local/ns/bank/sa/root");
  const auto r = create(mutual, "", request(next->csr_pem));
  ASSERT_TRUE(r.status.ok()) << r.status.error_message();
  EXPECT_TRUE(tls::check_issued({r.response.cert_chain(0), r.response.cert_chain(1)}, next->key_pem, kGateway, wall_us()));
  EXPECT_EQ(create(mutual, "", request(other->csr_pem)).status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(create(bare, "", request(next->csr_pem)).status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(create(bare, issuer->token("system:serviceaccount:shop:gateway"), request(next->csr_pem)).status.ok());

  std::ofstream(dir + "/ca/revoked.yaml") << "serials: ['" << first->serial << "']\n";
  ASSERT_EQ(authority->reload(wall_us()), true);
  EXPECT_EQ(create(mutual, "", request(next->csr_pem)).status.error_code(), grpc::StatusCode::PERMISSION_DENIED);

  // xDS on the same address is still only for callers with a certificate.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  auto stub = ds::AggregatedDiscoveryService::NewStub(bare);
  auto stream = stub->DeltaAggregatedResources(&context);
  ds::DeltaDiscoveryRequest ask;
  ask.mutable_node()->set_id("router~10.0.0.1~a.shop~shop.svc.cluster.local");
  ask.set_type_url("type.googleapis.com/envoy.config.cluster.v3.Cluster");
  stream->Write(ask);
  ds::DeltaDiscoveryResponse none;
  EXPECT_FALSE(stream->Read(&none));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

}  // namespace
}  // namespace sluice::plane
