// Both ends in one process: the gateway's agent and the CA, over a Unix socket with a token and over mutual TLS; renewal, rotation of the
// root, revocation, and a CA that is away.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "ctrl/agent/ca_transport.h"
#include "ctrl/plane/ca_service.h"
#include "ctrl/plane/server.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;
using agent::CaClient;
using agent::CaTransport;
using agent::CaTransportOptions;

const std::string kMe = "spiffe://cluster.local/ns/shop/sa/gateway";
Now now() {
  const auto us = [](auto d) { return std::chrono::duration_cast<std::chrono::microseconds>(d).count(); };
  return {Usec(us(std::chrono::steady_clock::now().time_since_epoch())), us(std::chrono::system_clock::now().time_since_epoch())};
}
std::string slurp(const std::string& f) {
  std::ifstream in(f);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct CaEndsTest : testing::Test {
  std::string dir;
  std::unique_ptr<CaAuthority> authority;
  std::unique_ptr<CaService> service;
  std::unique_ptr<Server> server;
  Rng rng{3};
  int64_t later_us = 0;  // added to the client's wall clock
  CaClient client{{.identity = kMe, .backoff_first = 20 * kMs, .backoff_max = 100 * kMs, .resign_spread = 10 * kMs}, rng};
  std::unique_ptr<CaTransport> transport;

  void SetUp() override {
    char name[] = "/tmp/sluice-ends-XXXXXX";
    dir = ::mkdtemp(name);
    std::ofstream(dir + "/token.sh") << R"sh(cd $1
b64() { base64 -w0 | tr '+/' '-_' | tr -d =; }
openssl genrsa -out k.pem 2048 2>/dev/null && openssl rsa -in k.pem -pubout -out pub.pem 2>/dev/null
printf '%s.%s' "$(printf '{"alg":"RS256"}' | b64)" "$(printf '{"iss":"i","aud":"istio-ca","sub":"system:serviceaccount:shop:gateway","exp":4000000000}' | b64)" > input
printf '%s.%s\n' "$(cat input)" "$(openssl dgst -sha256 -sign k.pem input | b64)" > token
)sh";
    ASSERT_EQ(std::system(("sh " + dir + "/token.sh " + dir).c_str()), 0);
    auto made = CaAuthority::start({.dir = dir + "/ca", .token = TokenOptions{slurp(dir + "/pub.pem"), "i", "istio-ca", "cluster.local"}},
                                   now().wall_us);
    ASSERT_TRUE(made) << made.error();
    authority = std::move(*made);
  }
  void TearDown() override {
    transport.reset();
    server.reset();
    service.reset();
    fs::remove_all(dir);
  }
  void serve(ServerOptions o) {
    service = std::make_unique<CaService>(*authority, [](const std::string&) {});
    o.more = [this](grpc::ServerBuilder& b) { service->add_to(b); };
    server =
        std::make_unique<Server>(std::move(o), std::make_shared<const World>(load_text("", "in.yaml").world), [](const std::string&) {});
    const auto ok = server->start();
    ASSERT_TRUE(ok) << ok.error();
  }
  void serve_unix() { serve({.listen = "unix:" + dir + "/s"}); }
  void connect_unix() {
    transport = std::make_unique<CaTransport>(
        CaTransportOptions{.address = "unix:" + dir + "/s", .token_file = dir + "/token", .node_id = "n"}, client, [] {});
  }
  Now client_now() const {
    Now n = now();
    n.wall_us += later_us;
    return n;
  }
  template <class F>
  bool turn_until(F done, int seconds = 10) {
    for (int i = 0; i < seconds * 1000; i++) {
      transport->turn(client_now());
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << client.status().last_error << " | " << client.status().watch_error;
    return false;
  }
  void edit(const std::string& file, const std::string& text) {
    std::ofstream(dir + "/ca/" + file, std::ios::trunc) << text;
    const auto r = authority->reload(now().wall_us);
    ASSERT_TRUE(r) << r.error();
    service->push();
  }
};

TEST_F(CaEndsTest, OverAUnixSocketWithATokenAndThroughARotationOfTheRoot) {
  serve_unix();
  connect_unix();
  ASSERT_TRUE(turn_until([&] { return client.find("default") != nullptr && client.status().watching; }));
  const std::string one = authority->state()->roots_pem, serial = client.status().serial;
  EXPECT_EQ(client.find("ROOTCA")->trusted_ca_pem, one);
  // 1
  ASSERT_TRUE(add_root(dir + "/ca", "root-2", "cluster.local", tls::KeyKind::kP256, now().wall_us));
  edit("signing", "root-1\n");
  ASSERT_TRUE(turn_until([&] { return client.find("ROOTCA")->trusted_ca_pem != one; }));
  EXPECT_TRUE(client.find("ROOTCA")->trusted_ca_pem.starts_with(one));
  EXPECT_EQ(client.status().serial, serial);
  // 2
  edit("signing", "root-2\n");
  ASSERT_TRUE(turn_until([&] { return client.status().serial != serial; }));
  EXPECT_TRUE(client.find("ROOTCA")->trusted_ca_pem.ends_with(one));
  // 3
  fs::remove_all(dir + "/ca/root-1");
  edit("signing", "root-2\n");
  const std::string two = authority->state()->roots_pem;
  ASSERT_TRUE(turn_until([&] { return client.find("ROOTCA")->trusted_ca_pem == two; }));
  EXPECT_TRUE(
      tls::check_issued({client.find("default")->cert_chain_pem, two}, client.find("default")->private_key_pem, kMe, now().wall_us));
  EXPECT_EQ(client.status().issued, 2u);
}

TEST_F(CaEndsTest, AsksAnAbsentCaAgainAndAgain) {
  CaClient hurried({.identity = kMe, .backoff_first = 100, .backoff_max = 100}, rng);
  transport = std::make_unique<CaTransport>(
      CaTransportOptions{.address = "unix:" + dir + "/s", .token_file = dir + "/token", .node_id = "n"}, hurried, [] {});
  for (const Usec end = now().mono_us + 30 * kSec; hurried.status().failed < 1000 && now().mono_us < end;) transport->turn(now());
  EXPECT_GE(hurried.status().failed, 1000u);
  EXPECT_NE(hurried.status().last_error.find("gRPC status 14"), std::string::npos) << hurried.status().last_error;
}

TEST_F(CaEndsTest, ARevocationArrivesWithinASecond) {
  serve_unix();
  connect_unix();
  ASSERT_TRUE(turn_until([&] { return client.find("default") != nullptr && client.status().watching; }));
  const Usec from = now().mono_us;
  edit("revoked.yaml", "serials: [abc]\nidentities: [spiffe://cluster.local/ns/shop/sa/bad]\n");
  ASSERT_TRUE(turn_until([&] { return !client.find("ROOTCA")->crl_pem.empty(); }));
  EXPECT_LT(now().mono_us - from, kSec);
  EXPECT_EQ(client.find("ROOTCA")->denied_identities, std::vector<std::string>{"spiffe://cluster.local/ns/shop/sa/bad"});
  EXPECT_TRUE(authority->state()->issuer->is_list_of(client.find("ROOTCA")->crl_pem, {"abc"}));
}

TEST_F(CaEndsTest, AnAbsentCaIsWaitedForAndARenewalSurvivesIt) {
  connect_unix();
  ASSERT_TRUE(turn_until([&] { return client.status().failed >= 2; }));
  EXPECT_EQ(client.find("default"), nullptr);
  serve_unix();
  ASSERT_TRUE(turn_until([&] { return client.find("default") != nullptr; }));
  const std::string serial = client.status().serial;
  server.reset();
  service.reset();
  later_us = 13 * 3'600'000'000;  // its half is over
  const uint64_t failed = client.status().failed;
  ASSERT_TRUE(turn_until([&] { return client.status().failed > failed + 2; }));
  EXPECT_EQ(client.status().serial, serial);
  later_us = 0;
  serve_unix();
  later_us = 13 * 3'600'000'000;
  ASSERT_TRUE(turn_until([&] { return client.status().serial != serial; }));
}

TEST_F(CaEndsTest, OverMutualTlsTheCertificateIsTheIdentity) {
  ASSERT_EQ(std::system(("cd " + dir +
                         " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server -addext "
                         "subjectAltName=DNS:ca.example -keyout server-key.pem -out server.pem 2>/dev/null")
                            .c_str()),
            0);
  const auto csr = tls::make_csr(kMe);
  const auto first = authority->state()->issuer->sign(csr->csr_pem, kMe, 3600, now().wall_us, random_serial());
  std::ofstream(dir + "/me.pem") << first->chain[0];
  std::ofstream(dir + "/me-key.pem") << csr->key_pem;
  std::ofstream(dir + "/roots.pem") << authority->state()->roots_pem;
  const std::string address = "127.0.0.1:" + std::to_string(21000 + int(::getpid() % 20000));
  serve({.listen = address, .ca = dir + "/roots.pem", .cert = dir + "/server.pem", .key = dir + "/server-key.pem"});
  transport = std::make_unique<CaTransport>(CaTransportOptions{.address = address,
                                                               .tls = true,
                                                               .ca_file = dir + "/server.pem",
                                                               .cert_file = dir + "/me.pem",
                                                               .key_file = dir + "/me-key.pem",
                                                               .server_name = "ca.example",
                                                               .node_id = "n"},
                                            client, [] {});
  ASSERT_TRUE(turn_until([&] { return client.find("default") != nullptr && client.status().watching; }));
  EXPECT_NE(client.status().serial, first->serial);
  // Its bootstrap certificate is revoked: it gets no further one by it.
  edit("revoked.yaml", "serials: ['" + first->serial + "']\n");
  later_us = 13 * 3'600'000'000;
  ASSERT_TRUE(turn_until([&] { return client.status().last_error.find("is revoked") != std::string::npos; }));
}

TEST_F(CaEndsTest, AServerThatIsNotTheCaIsNotBelieved) {
  ASSERT_EQ(
      std::system(("cd " + dir +
                   " && for n in a b; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$n -addext "
                   "subjectAltName=DNS:ca.example -keyout $n-key.pem -out $n.pem 2>/dev/null; done")
                      .c_str()),
      0);
  const std::string address = "127.0.0.1:" + std::to_string(22000 + int(::getpid() % 20000));
  serve({.listen = address, .ca = dir + "/a.pem", .cert = dir + "/a.pem", .key = dir + "/a-key.pem", .certificate_optional = true});
  transport = std::make_unique<CaTransport>(CaTransportOptions{.address = address,
                                                               .tls = true,
                                                               .ca_file = dir + "/b.pem",
                                                               .server_name = "ca.example",
                                                               .token_file = dir + "/token",
                                                               .node_id = "n"},
                                            client, [] {});
  ASSERT_TRUE(turn_until([&] { return client.status().failed >= 2; }));
  EXPECT_EQ(authority->counters().issued, 0u);
}

}  // namespace
}  // namespace sluice::plane
