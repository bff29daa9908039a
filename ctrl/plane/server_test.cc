// The server on a Unix socket, asked by gRPC's own client.
#include "ctrl/plane/server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "ctrl/plane/watch.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::plane {
namespace {
namespace ds = envoy::service::discovery::v3;
constexpr const char* kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr const char* kLds = "type.googleapis.com/envoy.config.listener.v3.Listener";

std::string yaml(int port) {
  return "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec:\n  selector: {istio: "
         "ingressgateway}\n"
         "  servers:\n  - port: {number: " +
         std::to_string(port) + ", name: http, protocol: HTTP}\n    hosts: [shop.example.com]\n";
}
std::shared_ptr<const World> world(int port) {
  Loaded l = load_text(yaml(port), "in.yaml");
  EXPECT_TRUE(l.issues.empty()) << render(l.issues);
  return std::make_shared<const World>(std::move(l.world));
}

struct ServerTest : testing::Test {
  std::string dir;
  std::unique_ptr<Server> server;
  void SetUp() override {
    char name[] = "/tmp/sluice-plane-XXXXXX";
    dir = ::mkdtemp(name);
    server = std::make_unique<Server>(ServerOptions{.listen = "unix:" + dir + "/s"}, world(80), [](const std::string&) {});
    const auto ok = server->start();
    ASSERT_TRUE(ok) << ok.error();
  }
  void TearDown() override {
    server.reset();
    std::filesystem::remove_all(dir);
  }
};

struct Client {
  grpc::ClientContext context;
  std::unique_ptr<ds::AggregatedDiscoveryService::Stub> stub;
  std::unique_ptr<grpc::ClientReaderWriter<ds::DeltaDiscoveryRequest, ds::DeltaDiscoveryResponse>> stream;
  explicit Client(const std::string& dir)
      : stub(ds::AggregatedDiscoveryService::NewStub(grpc::CreateChannel("unix:" + dir + "/s", grpc::InsecureChannelCredentials()))) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    stream = stub->DeltaAggregatedResources(&context);
  }
  void ask(const char* type, bool with_node, const char* label = "ingressgateway") {
    ds::DeltaDiscoveryRequest r;
    r.set_type_url(type);
    r.add_resource_names_subscribe("*");
    if (with_node) {
      r.mutable_node()->set_id("router~10.0.0.1~a.shop~shop.svc.cluster.local");
      auto& fields = *r.mutable_node()->mutable_metadata()->mutable_fields();
      fields["NAMESPACE"].set_string_value("shop");
      (*fields["LABELS"].mutable_struct_value()->mutable_fields())["istio"].set_string_value(label);
    }
    stream->Write(r);
  }
  ds::DeltaDiscoveryResponse next() {
    ds::DeltaDiscoveryResponse r;
    EXPECT_TRUE(stream->Read(&r));
    return r;
  }
};

TEST_F(ServerTest, ANodeIsServedItsGatewaysAndEachChangeOfTheWorld) {
  Client c(dir);
  c.ask(kCds, true);
  EXPECT_EQ(c.next().resources(0).name(), "BlackHoleCluster");
  c.ask(kLds, false);
  const auto first = c.next();
  ASSERT_EQ(first.resources_size(), 1);
  EXPECT_EQ(first.resources(0).name(), "0.0.0.0_80");
  EXPECT_EQ(first.resources(0).resource().type_url(), kLds);
  EXPECT_EQ(first.resources(0).version().size(), 16u);
  server->replace(world(81));
  const auto second = c.next();
  EXPECT_EQ(second.resources(0).name(), "0.0.0.0_81");
  ASSERT_EQ(second.removed_resources_size(), 1);
  EXPECT_EQ(second.removed_resources(0), "0.0.0.0_80");
}

TEST_F(ServerTest, GatewaysWithOtherLabelsAreServedDifferently) {
  Client c(dir);
  c.ask(kLds, true, "eastwestgateway");
  EXPECT_EQ(c.next().resources_size(), 0);
}

TEST_F(ServerTest, AStreamWithoutANodeIsRefused) {
  Client c(dir);
  c.ask(kCds, false);
  ds::DeltaDiscoveryResponse r;
  EXPECT_FALSE(c.stream->Read(&r));
  EXPECT_EQ(c.stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, TwentyReplacementsInARowEndWithTheLast) {
  Client c(dir);
  c.ask(kLds, true);
  (void)c.next();
  for (int port = 81; port <= 100; port++) server->replace(world(port));
  for (;;) {
    const auto r = c.next();
    ASSERT_GT(r.resources_size(), 0);
    if (r.resources(0).name() == "0.0.0.0_100") break;
  }
}

TEST_F(ServerTest, ANodeHasAcknowledgedOnceItTookTheListenersOfTheCurrentWorldWithoutRefusal) {
  const auto acknowledges = [&](Client& c, const std::string& nonce, const char* error) {
    ds::DeltaDiscoveryRequest r;
    r.set_type_url(kLds);
    r.set_response_nonce(nonce);
    if (error != nullptr) r.mutable_error_detail()->set_message(error);
    c.stream->Write(r);
  };
  const auto becomes = [&](size_t n) {
    for (int i = 0; i < 200 && server->acknowledged().size() != n; i++) ::usleep(5000);
    return server->acknowledged().size();
  };
  Client c(dir);
  c.ask(kLds, true);
  const auto first = c.next();
  EXPECT_EQ(server->acknowledged().size(), 0u);
  acknowledges(c, first.nonce(), nullptr);
  ASSERT_EQ(becomes(1), 1u);
  EXPECT_EQ(server->acknowledged()[0].labels.at("istio"), "ingressgateway");
  server->replace(world(81));
  const auto second = c.next();
  EXPECT_EQ(server->acknowledged().size(), 0u);
  acknowledges(c, second.nonce(), "no");
  ::usleep(50000);
  EXPECT_EQ(server->acknowledged().size(), 0u);
  server->replace(world(82));
  acknowledges(c, c.next().nonce(), nullptr);
  EXPECT_EQ(becomes(1), 1u);
}

// Mutual TLS: a CA, the server's certificate and one of a gateway whose identity is shop/sluice.
struct MutualTlsTest : testing::Test {
  std::string dir;
  std::unique_ptr<Server> server;
  int port = 0;
  static std::string slurp(const std::string& f) {
    std::ifstream in(f);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void certificate(const std::string& name, const std::string& san) {
    const std::string p = dir + "/" + name;
    std::ofstream(p + ".ext") << "subjectAltName=" << san << "\n";
    const std::string command = "cd " + dir + " && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout " + name +
                                "-key.pem -out " + name + ".csr -subj /CN=" + name + " 2>/dev/null && openssl x509 -req -in " + name +
                                ".csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -out " + name + ".pem -extfile " + name +
                                ".ext 2>/dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  void SetUp() override {
    char name[] = "/tmp/sluice-mtls-XXXXXX";
    dir = ::mkdtemp(name);
    ASSERT_EQ(std::system(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout " + dir +
                           "/ca-key.pem -out " + dir + "/ca.pem 2>/dev/null")
                              .c_str()),
              0);
    certificate("server", "DNS:localhost,IP:127.0.0.1");
    certificate("gateway", "URI:spiffe://cluster.local/ns/shop/sa/sluice");
    port = 20000 + int(::getpid() % 20000);
    server = std::make_unique<Server>(ServerOptions{.listen = "127.0.0.1:" + std::to_string(port),
                                                    .ca = dir + "/ca.pem",
                                                    .cert = dir + "/server.pem",
                                                    .key = dir + "/server-key.pem"},
                                      world(80), [](const std::string&) {});
    const auto ok = server->start();
    ASSERT_TRUE(ok) << ok.error();
  }
  void TearDown() override {
    server.reset();
    std::filesystem::remove_all(dir);
  }
  // The status with which a stream of this Node ends, OK if it was answered.
  grpc::StatusCode ask(const std::string& ns, const std::string& account, bool with_certificate = true) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = slurp(dir + "/ca.pem");
    if (with_certificate) tls.pem_cert_chain = slurp(dir + "/gateway.pem"), tls.pem_private_key = slurp(dir + "/gateway-key.pem");
    auto stub =
        ds::AggregatedDiscoveryService::NewStub(grpc::CreateChannel("localhost:" + std::to_string(port), grpc::SslCredentials(tls)));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    auto stream = stub->DeltaAggregatedResources(&context);
    ds::DeltaDiscoveryRequest r;
    r.set_type_url(kCds);
    r.mutable_node()->set_id("router~10.0.0.1~a." + ns + "~" + ns + ".svc.cluster.local");
    auto& fields = *r.mutable_node()->mutable_metadata()->mutable_fields();
    fields["NAMESPACE"].set_string_value(ns);
    fields["SERVICE_ACCOUNT"].set_string_value(account);
    stream->Write(r);
    ds::DeltaDiscoveryResponse answer;
    if (stream->Read(&answer)) return grpc::StatusCode::OK;
    return stream->Finish().error_code();
  }
};

TEST_F(MutualTlsTest, ANodeMayOnlyBeWhatItsCertificateSays) {
  EXPECT_EQ(ask("shop", "sluice"), grpc::StatusCode::OK);
  EXPECT_EQ(ask("bank", "sluice"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(ask("shop", "root"), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(MutualTlsTest, WithoutACertificateThereIsNoStream) { EXPECT_EQ(ask("shop", "sluice", false), grpc::StatusCode::UNAVAILABLE); }

TEST(Server, AnAddressThatCannotBeListenedOnIsNamed) {
  Server s(ServerOptions{.listen = "unix:/no/such/folder/s"}, world(80), [](const std::string&) {});
  const auto ok = s.start();
  ASSERT_FALSE(ok);
  EXPECT_NE(ok.error().find("/no/such/folder"), std::string::npos);
}

TEST(Watch, TellsOfAWriteARenameAndARemovalAndOfNothingElse) {
  char name[] = "/tmp/sluice-watch-XXXXXX";
  const std::string dir = ::mkdtemp(name);
  Watch w({dir});
  EXPECT_FALSE(w.changed(1));
  std::ofstream(dir + "/a.yaml") << "x";
  EXPECT_TRUE(w.changed(1000));
  std::filesystem::rename(dir + "/a.yaml", dir + "/b.yaml");
  EXPECT_TRUE(w.changed(1000));
  std::filesystem::create_directory(dir + "/sub");
  EXPECT_TRUE(w.changed(1000));
  std::ofstream(dir + "/sub/c.yaml") << "x";
  EXPECT_TRUE(w.changed(1000));
  EXPECT_FALSE(w.changed(1));
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace sluice::plane
