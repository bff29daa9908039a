// The transport against a real gRPC server in this process, over a Unix socket and over TLS.
#include "ctrl/xds/grpc_transport.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::xds {
namespace {
using namespace envoy::service::discovery::v3;
namespace fs = std::filesystem;

// Answers the first CDS request with `clusters` resources of `cluster_bytes` each, everything else with nothing; remembers what it
// received.
struct AdsServer final : AggregatedDiscoveryService::Service {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<DeltaDiscoveryRequest> received;
  int clusters = 3, streams = 0;
  size_t cluster_bytes = 10;
  bool refuse = false, hasty = false;  // hasty: answers once and ends the stream
  std::vector<grpc::ServerContext*> open;
  std::unique_ptr<grpc::Server> server;

  grpc::Status DeltaAggregatedResources(grpc::ServerContext* context,
                                        grpc::ServerReaderWriter<DeltaDiscoveryResponse, DeltaDiscoveryRequest>* stream) override {
    {
      std::lock_guard lock(mutex);
      streams++;
      changed.notify_all();
      if (refuse) return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many streams"};
      open.push_back(context);
    }
    DeltaDiscoveryRequest r;
    int nonce = 0;
    while (stream->Read(&r)) {
      {
        std::lock_guard lock(mutex);
        received.push_back(r);
        changed.notify_all();
      }
      if (!r.response_nonce().empty()) continue;
      DeltaDiscoveryResponse answer;
      answer.set_type_url(r.type_url());
      answer.set_nonce(std::to_string(++nonce));
      if (r.type_url() == type_url(Type::kCluster))
        for (int i = 0; i < clusters; i++) {
          envoy::config::cluster::v3::Cluster c;
          c.set_name("c" + std::to_string(i));
          c.set_alt_stat_name(std::string(cluster_bytes, 'x'));
          auto* x = answer.add_resources();
          x->set_name(c.name());
          x->mutable_resource()->PackFrom(c);
        }
      stream->Write(answer);
      if (hasty) break;
    }
    std::lock_guard lock(mutex);
    std::erase(open, context);
    return hasty ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "in haste") : grpc::Status::OK;
  }
  void start(const std::string& address, std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials(),
             int* port = nullptr) {
    grpc::ServerBuilder b;
    b.AddListeningPort(address, std::move(credentials), port);
    b.RegisterService(this);
    server = b.BuildAndStart();
    ASSERT_NE(server, nullptr);
  }
  void stop() {
    if (server != nullptr) server->Shutdown(std::chrono::system_clock::now());
    server.reset();
  }
  ~AdsServer() override { stop(); }
  size_t count() {
    std::lock_guard lock(mutex);
    return received.size();
  }
};

struct CountingSink final : Sink {
  size_t applied = 0, bytes = 0;
  std::expected<void, std::string> apply(Type, const std::string& name, const std::string&, const std::string& b) override {
    if (name == "c1") return std::unexpected("no c1 here");
    applied++;
    bytes += b.size();
    return {};
  }
  void remove(Type, const std::string&) override {}
};

Usec now_us() {
  return Usec(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

struct GrpcTransportTest : testing::Test {
  fs::path dir;
  CountingSink sink;
  Rng rng{1};
  Client client{{.backoff_first = 20 * kMs, .backoff_max = 40 * kMs}, sink, rng};
  TransportOptions options;
  std::mutex mutex;
  std::condition_variable woken_cv;
  bool woken = false;

  void SetUp() override {
    char name[] = "/tmp/sluice-grpc-XXXXXX";
    dir = ::mkdtemp(name);
    options.address = "unix:" + (dir / "s").string();
    options.node_id = "router~10.0.0.1~a.b~b.svc";
    options.node_cluster = "a.b";
    options.metadata_json = R"({"NAMESPACE":"b","LABELS":{"istio":"ingressgateway"}})";
  }
  void TearDown() override { fs::remove_all(dir); }
  std::unique_ptr<GrpcTransport> make() {
    auto t = GrpcTransport::make(options, client, [this] {
      std::lock_guard lock(mutex);
      woken = true;
      woken_cv.notify_all();
    });
    EXPECT_TRUE(t) << t.error();
    return std::move(*t);
  }
  template <class F>
  bool turn_until(GrpcTransport& t, F&& done) {
    for (const Usec end = now_us() + 5 * kSec; now_us() < end;) {
      t.turn(now_us());
      if (done()) return true;
      std::unique_lock lock(mutex);
      woken_cv.wait_for(lock, std::chrono::milliseconds(5), [&] { return woken; });
      woken = false;
    }
    return false;
  }
  void openssl(const std::string& arguments) {
    ASSERT_EQ(std::system(("cd " + dir.string() + " && openssl " + arguments + " >/dev/null 2>&1").c_str()), 0) << arguments;
  }
  std::string read(const char* f) {
    std::ifstream in(dir / f);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

TEST_F(GrpcTransportTest, SpeaksDeltaAdsOverAUnixSocket) {
  AdsServer server;
  server.start(options.address);
  auto t = make();
  ASSERT_TRUE(turn_until(*t, [&] { return server.count() >= 4; }));  // CDS, its NACK, LDS, its ACK
  std::lock_guard lock(server.mutex);
  const auto& first = server.received[0];
  EXPECT_EQ(first.node().id(), options.node_id);
  EXPECT_EQ(first.node().user_agent_name(), "sluice");
  EXPECT_EQ(first.node().metadata().fields().at("LABELS").struct_value().fields().at("istio").string_value(), "ingressgateway");
  EXPECT_EQ(first.resource_names_subscribe(0), "*");
  EXPECT_FALSE(server.received[1].has_node());
  EXPECT_EQ(server.received[1].response_nonce(), "1");
  EXPECT_EQ(server.received[1].error_detail().message(), "1 of 3 resources refused: 'c1': no c1 here");
  EXPECT_EQ(server.received[2].type_url(), type_url(Type::kListener));
  EXPECT_EQ(server.received[3].response_nonce(), "2");
  EXPECT_FALSE(server.received[3].has_error_detail());
  EXPECT_EQ(sink.applied, 2u);
  EXPECT_TRUE(client.is_answered());
}

TEST_F(GrpcTransportTest, TakesResponsesFarAboveGrpcsDefaultLimit) {
  AdsServer server;
  server.clusters = 200;
  server.cluster_bytes = 100'000;
  server.start(options.address);
  auto t = make();
  ASSERT_TRUE(turn_until(*t, [&] { return sink.applied == 199; }));
  EXPECT_GT(sink.bytes, 19'000'000u);
}

TEST_F(GrpcTransportTest, ComesBackAfterTheServerWentAndSaysWhatItHolds) {
  auto server = std::make_unique<AdsServer>();
  server->start(options.address);
  auto t = make();
  ASSERT_TRUE(turn_until(*t, [&] { return server->count() >= 4; }));
  {
    std::lock_guard lock(server->mutex);
    for (auto* c : server->open) c->TryCancel();
  }
  server.reset();
  ASSERT_TRUE(turn_until(*t, [&] { return client.streams() >= 4; }));
  EXPECT_FALSE(client.is_answered());
  EXPECT_NE(client.last_error().find("gRPC status 14"), std::string::npos) << client.last_error();
  AdsServer second;
  second.start(options.address);
  ASSERT_TRUE(turn_until(*t, [&] { return second.count() >= 4; }));
  std::lock_guard lock(second.mutex);
  EXPECT_EQ(second.received[0].initial_resource_versions_size(), 2);
  EXPECT_TRUE(second.received[0].has_node());
}

TEST_F(GrpcTransportTest, AServerThatRefusesStreamsIsAskedAgainWithBackoff) {
  AdsServer server;
  server.refuse = true;
  server.start(options.address);
  auto t = make();
  ASSERT_TRUE(turn_until(*t, [&] { return client.streams() >= 3; }));
  EXPECT_NE(client.last_error().find("too many streams"), std::string::npos) << client.last_error();
}

// The stream ends while its last answer is being applied: what is written and read then meets a call that is over.
TEST_F(GrpcTransportTest, AnswersAStreamThatIsOverByThen) {
  AdsServer server;
  server.hasty = true;
  server.start(options.address);
  Client hurried({.backoff_first = 100, .backoff_max = 100}, sink, rng);
  Rng pause{7};
  auto t = GrpcTransport::make(options, hurried, [] {}, [&] { std::this_thread::sleep_for(std::chrono::microseconds(pause.below(400))); });
  ASSERT_TRUE(t) << t.error();
  for (const Usec end = now_us() + 30 * kSec; hurried.streams() < 1000 && now_us() < end;) (*t)->turn(now_us());
  EXPECT_GE(hurried.streams(), 1000u);
}

TEST_F(GrpcTransportTest, EndsWhileAStreamIsOpenAndWhileNobodyAnswers) {
  {
    auto t = make();
    t->turn(now_us());
  }
  Client again{{}, sink, rng};
  AdsServer server;
  server.start(options.address);
  auto t = GrpcTransport::make(options, again, [] {});
  (*t)->turn(now_us());
  t->reset();  // with a response perhaps under way
}

TEST_F(GrpcTransportTest, VerifiesTheServerAndShowsItsCertificate) {
  openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /O=test -keyout ca-key.pem -out ca.pem");
  std::ofstream(dir / "ext") << "subjectAltName=DNS:control.example\n";
  for (const char* who : {"server", "client"}) {
    const std::string w = who;
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + w + " -keyout " + w + "-key.pem -out " + w + ".csr");
    openssl("x509 -req -in " + w + ".csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out " + w + ".pem");
  }
  grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  ssl.pem_root_certs = read("ca.pem");
  ssl.pem_key_cert_pairs.push_back({read("server-key.pem"), read("server.pem")});
  AdsServer server;
  int port = 0;
  server.start("127.0.0.1:0", grpc::SslServerCredentials(ssl), &port);
  options.address = "127.0.0.1:" + std::to_string(port);
  options.tls = true;
  options.ca_file = dir / "ca.pem";
  options.cert_file = dir / "client.pem";
  options.key_file = dir / "client-key.pem";

  {  // the certificate says another name
    CountingSink s;
    Client c({.backoff_first = 20 * kMs}, s, rng);
    options.server_name = "other.example";
    auto t = GrpcTransport::make(options, c, [] {});
    ASSERT_TRUE(turn_until(**t, [&] { return c.streams() >= 2; }));
    EXPECT_EQ(s.applied, 0u);
  }
  options.server_name = "control.example";
  {  // no certificate of ours
    CountingSink s;
    Client c({.backoff_first = 20 * kMs}, s, rng);
    TransportOptions anonymous = options;
    anonymous.cert_file.clear();
    anonymous.key_file.clear();
    auto t = GrpcTransport::make(anonymous, c, [] {});
    ASSERT_TRUE(turn_until(**t, [&] { return c.streams() >= 2; }));
    EXPECT_EQ(s.applied, 0u);
  }
  {  // a file that is not there is said, and tried again
    CountingSink s;
    Client c({.backoff_first = 20 * kMs}, s, rng);
    TransportOptions missing = options;
    missing.ca_file = dir / "nothing";
    auto t = GrpcTransport::make(missing, c, [] {});
    ASSERT_TRUE(turn_until(**t, [&] { return c.streams() >= 2; }));
    EXPECT_NE(c.last_error().find("cannot read xds.tls.ca"), std::string::npos);
  }
  auto t = make();
  EXPECT_TRUE(turn_until(*t, [&] { return sink.applied == 2; })) << client.last_error();
}

TEST_F(GrpcTransportTest, MetadataMustBeAnObject) {
  options.metadata_json = "[1]";
  EXPECT_FALSE(GrpcTransport::make(options, client, [] {}));
}

}  // namespace
}  // namespace sluice::xds
