// The agent against a control plane in this process (real gRPC, a world that tests change), on istiod's recorded resources where they are
// at hand.
#include "ctrl/agent/agent.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "ctrl/agent/dump.h"
#include "ctrl/agent/sds.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::agent {
namespace {
namespace fs = std::filesystem;
using namespace envoy::service::discovery::v3;
using xds::Type;

fs::path golden(const std::string& input) {
  const char* set = std::getenv("SLUICE_GOLDEN");
  const fs::path root = SLUICE_SOURCE_ROOT;
  const fs::path g = set != nullptr                          ? fs::path(set)
                     : fs::exists(root / "../shared/golden") ? root / "../shared/golden"
                                                             : root / "../../shared/golden";
  return g / "istiod" / input;
}

// A control plane with a world of Anys. Wildcards get everything, names what is there; push() sends what changed since it was last sent.
struct ControlPlane final : AggregatedDiscoveryService::Service {
  using Stream = grpc::ServerReaderWriter<DeltaDiscoveryResponse, DeltaDiscoveryRequest>;
  std::mutex mutex;
  std::map<std::string, std::map<std::string, std::string>> world;  // type url -> name -> bytes
  std::map<std::string, std::set<std::string>> subscribed;
  std::map<std::string, std::map<std::string, std::string>> sent;
  std::vector<std::string> nacks;
  std::string node_id;
  Stream* stream = nullptr;
  int nonce = 0;
  std::unique_ptr<grpc::Server> server;

  void start(const std::string& address) {
    grpc::ServerBuilder b;
    b.AddListeningPort(address, grpc::InsecureServerCredentials());
    b.RegisterService(this);
    server = b.BuildAndStart();
    ASSERT_NE(server, nullptr);
  }
  ~ControlPlane() override {
    if (server != nullptr) server->Shutdown(std::chrono::system_clock::now());
  }
  void set(Type t, const std::string& name, const google::protobuf::Message& m) {
    std::lock_guard lock(mutex);
    world[std::string(xds::type_url(t))][name] = m.SerializeAsString();
  }
  void erase(Type t, const std::string& name) {
    std::lock_guard lock(mutex);
    world[std::string(xds::type_url(t))].erase(name);
  }
  void push() {
    std::lock_guard lock(mutex);
    for (size_t i = 0; i < xds::kTypes; i++) send(std::string(xds::type_url(Type(i))), false);
  }
  void load_golden(const fs::path& dir) {
    auto resources = compile::load_golden(dir.string());
    ASSERT_TRUE(resources) << resources.error();
    for (auto& r : *resources) world[r.type_url][r.name] = r.bytes;
  }
  grpc::Status DeltaAggregatedResources(grpc::ServerContext*, Stream* s) override {
    DeltaDiscoveryRequest r;
    while (s->Read(&r)) {
      std::lock_guard lock(mutex);
      if (stream != s) {
        stream = s;
        subscribed.clear();
        sent.clear();
        node_id = r.node().id();
      }
      if (!r.response_nonce().empty()) {
        if (r.has_error_detail()) nacks.push_back(r.error_detail().message());
        continue;
      }
      for (const auto& n : r.resource_names_subscribe()) subscribed[r.type_url()].insert(n);
      for (const auto& n : r.resource_names_unsubscribe()) subscribed[r.type_url()].erase(n), sent[r.type_url()].erase(n);
      for (const auto& [n, v] : r.initial_resource_versions()) sent[r.type_url()].emplace(n, "?");
      send(r.type_url(), true);
    }
    std::lock_guard lock(mutex);
    if (stream == s) stream = nullptr;
    return grpc::Status::OK;
  }
  void send(const std::string& type, bool even_empty) {
    if (stream == nullptr || !subscribed.contains(type)) return;
    DeltaDiscoveryResponse r;
    r.set_type_url(type);
    r.set_nonce(std::to_string(++nonce));
    r.set_system_version_info("world-" + std::to_string(nonce));
    auto& told = sent[type];
    const auto& names = subscribed[type];
    for (const auto& [name, bytes] : world[type]) {
      if (!names.contains("*") && !names.contains(name)) continue;
      if (const auto it = told.find(name); it != told.end() && it->second == bytes) continue;
      told[name] = bytes;
      auto* x = r.add_resources();
      x->set_name(name);
      x->mutable_resource()->set_type_url(type);
      x->mutable_resource()->set_value(bytes);
    }
    for (auto it = told.begin(); it != told.end();) {
      if (world[type].contains(it->first)) {
        ++it;
        continue;
      }
      r.add_removed_resources(it->first);
      it = told.erase(it);
    }
    if (even_empty || r.resources_size() != 0 || r.removed_resources_size() != 0) stream->Write(r);
  }
};

envoy::config::cluster::v3::Cluster eds_cluster(const std::string& name) {
  envoy::config::cluster::v3::Cluster c;
  c.set_name(name);
  c.set_type(envoy::config::cluster::v3::Cluster::EDS);
  c.mutable_eds_cluster_config()->mutable_eds_config()->mutable_ads();
  c.mutable_eds_cluster_config()->set_service_name(name);
  return c;
}
envoy::config::endpoint::v3::ClusterLoadAssignment assignment(const std::string& name, const std::string& address) {
  envoy::config::endpoint::v3::ClusterLoadAssignment a;
  a.set_cluster_name(name);
  auto* e = a.add_endpoints()->add_lb_endpoints()->mutable_endpoint()->mutable_address()->mutable_socket_address();
  e->set_address(address);
  e->set_port_value(80);
  return a;
}

struct AgentTest : testing::Test {
  fs::path dir;
  std::vector<std::shared_ptr<const tables::Snapshot>> published;
  std::vector<std::string> log;
  std::unique_ptr<Agent> agent;
  Usec now = 0;

  void SetUp() override {
    char name[] = "/tmp/sluice-agent-XXXXXX";
    dir = ::mkdtemp(name);
  }
  void TearDown() override {
    agent.reset();
    fs::remove_all(dir);
  }
  std::string address() const { return "unix:" + (dir / "xds").string(); }
  Bootstrap bootstrap() {
    Bootstrap b;
    b.node.id = "router~10.10.0.1~gw-0.shop~shop.svc.cluster.local";
    b.node.cluster = "gw.shop";
    b.xds = XdsConfig{.address = address()};
    b.kept_dir = dir / "kept";
    b.secrets_dir = dir / "secrets";
    return b;
  }
  void start(Bootstrap b) {
    agent = std::make_unique<Agent>(
        std::move(b), [this](auto s) { published.push_back(std::move(s)); },
        [this](sluice::log::Level, const std::string& l) { log.push_back(l); });
    tick();
    const auto ok = agent->start(now);
    ASSERT_TRUE(ok) << ok.error();
  }
  void tick() {
    now = Usec(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
  }
  template <class F>
  bool turn_until(F done, Usec limit = 5 * kSec) {
    tick();
    for (const Usec end = now + limit; now < end; tick()) {
      agent->turn(now);
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  static const tables::Cluster* cluster(const tables::Snapshot& s, const std::string& name) {
    for (const auto& c : s.clusters)
      if (c != nullptr && c->name == name) return c.get();
    return nullptr;
  }
  size_t endpoints(const std::string& name) {
    if (published.empty()) return 999;
    const auto* c = cluster(*published.back(), name);
    return c == nullptr ? 999 : c->endpoints->endpoints.size();
  }
  bool logged(const std::string& part) {
    return std::ranges::any_of(log, [&](const auto& l) { return l.find(part) != std::string::npos; });
  }
};

TEST_F(AgentTest, ServesRecordedResourcesFromFiles) {
  if (!fs::exists(golden("01-http"))) GTEST_SKIP() << "no golden data (set SLUICE_GOLDEN)";
  Bootstrap b = bootstrap();
  b.xds.reset();
  b.resources = ResourcesConfig{.golden = golden("01-http")};
  start(b);
  ASSERT_EQ(published.size(), 1u);
  EXPECT_FALSE(published[0]->listeners.empty());
  const AgentStatus s = agent->status(now);
  EXPECT_TRUE(s.refused.empty()) << s.refused[0].reason;
  EXPECT_EQ(s.control_plane, "files");
  EXPECT_FALSE(fs::exists(dir / "kept"));
}

TEST_F(AgentTest, MissingFilesAreAnErrorAtStart) {
  Bootstrap b = bootstrap();
  b.xds.reset();
  b.resources = ResourcesConfig{.json = dir / "nothing.json"};
  Agent a(b, [](auto) {}, [](auto, auto&) {});
  const auto ok = a.start(1);
  ASSERT_FALSE(ok);
  EXPECT_NE(ok.error().find("nothing.json"), std::string::npos) << ok.error();
}

TEST_F(AgentTest, FollowsAControlPlaneAndServesWithoutItAfterARestart) {
  if (!fs::exists(golden("10-canary"))) GTEST_SKIP() << "no golden data (set SLUICE_GOLDEN)";
  size_t listeners = 0;
  {
    ControlPlane control;
    control.load_golden(golden("10-canary"));
    control.start(address());
    start(bootstrap());
    ASSERT_TRUE(turn_until([&] { return !published.empty() && !published.back()->listeners.empty(); }));
    listeners = published.back()->listeners.size();
    EXPECT_EQ(control.node_id, "router~10.10.0.1~gw-0.shop~shop.svc.cluster.local");
    EXPECT_LE(published.size(), 2u);  // one push is one snapshot, or two when it was slow
    ASSERT_TRUE(turn_until([&] { return agent->status(now).kept_age != kNever; }));
    const AgentStatus s = agent->status(now);
    EXPECT_TRUE(s.connected);
    EXPECT_TRUE(s.refused.empty()) << s.refused[0].reason;
    for (const auto& t : s.types) EXPECT_TRUE(t.s.missing.empty()) << t.name << " " << t.s.missing[0];
    agent.reset();
  }
  published.clear();
  start(bootstrap());  // nobody answers
  ASSERT_EQ(published.size(), 1u);
  EXPECT_EQ(published[0]->listeners.size(), listeners);
  EXPECT_TRUE(turn_until([&] { return logged("goes on serving"); }));
  const AgentStatus s = agent->status(now);
  EXPECT_FALSE(s.connected);
  EXPECT_NE(s.kept_from.find("resources.1"), std::string::npos);
  ControlPlane again;  // and when it comes back, nothing changes
  again.load_golden(golden("10-canary"));
  again.start(address());
  ASSERT_TRUE(turn_until([&] { return agent->status(now).connected && agent->status(now).types[3].s.responses > 0; }));
  turn_until([] { return false; }, 100 * kMs);
  EXPECT_EQ(published.size(), 1u);
}

TEST_F(AgentTest, WhatWentWhileWeWereAwayGoesAtTheNextConnection) {
  {
    ControlPlane control;
    for (const char* n : {"a", "b"}) {
      control.set(Type::kCluster, n, eds_cluster(n));
      control.set(Type::kEndpoint, n, assignment(n, "10.0.0.1"));
    }
    control.start(address());
    start(bootstrap());
    ASSERT_TRUE(turn_until([&] { return endpoints("a") == 1 && endpoints("b") == 1 && agent->status(now).kept_age != kNever; }));
    agent.reset();
  }
  published.clear();
  start(bootstrap());
  ASSERT_EQ(endpoints("b"), 1u);
  ControlPlane control;
  control.set(Type::kCluster, "a", eds_cluster("a"));
  control.set(Type::kEndpoint, "a", assignment("a", "10.0.0.1"));
  control.start(address());
  EXPECT_TRUE(turn_until([&] { return endpoints("b") == 999; }));
  EXPECT_EQ(endpoints("a"), 1u);
}

// TLS on a listener: its secret comes late, from files, and is shown without its key.
TEST_F(AgentTest, AListenerOpensWhenItsFilesAppearAndItsCertificateIsShown) {
  if (!fs::exists(golden("02-tls-simple"))) GTEST_SKIP() << "no golden data (set SLUICE_GOLDEN)";
  Bootstrap b = bootstrap();
  b.xds.reset();
  b.resources = ResourcesConfig{.golden = golden("02-tls-simple")};
  b.secrets_paths = {{"/etc/sluice/pki", dir / "pki"}};
  start(b);
  EXPECT_FALSE(agent->status(now).shut.empty());
  EXPECT_FALSE(agent->status(now).secrets_missing.empty());
  fs::create_directories(dir / "pki");
  const std::string pki = dir / "pki";
  ASSERT_EQ(std::system(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=shop -addext "
                         "subjectAltName=DNS:shop.example.com -keyout " +
                         pki + "/shop-key.pem -out " + pki + "/shop.pem >/dev/null 2>&1")
                            .c_str()),
            0);
  ASSERT_TRUE(turn_until([&] { return published.size() == 2; }));
  const AgentStatus s = agent->status(now);
  EXPECT_TRUE(s.shut.empty()) << s.shut.begin()->second[0];
  EXPECT_TRUE(s.secrets_missing.empty());
  ASSERT_EQ(s.certificates.size(), 1u);
  EXPECT_EQ(s.certificates[0].days_left, 29);
  const std::string certs = agent->certs_json();
  google::protobuf::Struct parsed;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(certs, &parsed).ok()) << certs;
  EXPECT_NE(certs.find("\"days_until_expiration\":\"29\""), std::string::npos) << certs;
  EXPECT_NE(certs.find("shop.example.com"), std::string::npos);
  EXPECT_EQ(certs.find("PRIVATE"), std::string::npos);
  EXPECT_NE(metrics_text(s).find("sluice_certificate_expiration_timestamp_seconds{secret=\"file-cert:"), std::string::npos);
  EXPECT_NE(metrics_text(s).find("sluice_xds_security_refused 0"), std::string::npos);
  EXPECT_NE(status_text(s).find("29 days left"), std::string::npos);
}

TEST_F(AgentTest, AnEditIsInEffectWithinAFewMilliseconds) {
  ControlPlane control;
  control.set(Type::kCluster, "a", eds_cluster("a"));
  control.set(Type::kEndpoint, "a", assignment("a", "10.0.0.1"));
  control.start(address());
  start(bootstrap());
  ASSERT_TRUE(turn_until([&] { return endpoints("a") == 1; }));
  auto two = assignment("a", "10.0.0.1");
  two.mutable_endpoints(0)->add_lb_endpoints()->CopyFrom(assignment("a", "10.0.0.2").endpoints(0).lb_endpoints(0));
  control.set(Type::kEndpoint, "a", two);
  tick();
  const Usec pushed = now;
  control.push();
  ASSERT_TRUE(turn_until([&] { return endpoints("a") == 2; }));
  EXPECT_LT(now - pushed, 150 * kMs);
}

TEST_F(AgentTest, ABadResourceIsRefusedByNameAndTheOldOneServes) {
  ControlPlane control;
  control.set(Type::kCluster, "a", eds_cluster("a"));
  control.set(Type::kEndpoint, "a", assignment("a", "10.0.0.1"));
  control.start(address());
  start(bootstrap());
  ASSERT_TRUE(turn_until([&] { return endpoints("a") == 1; }));
  {
    std::lock_guard lock(control.mutex);
    control.world[std::string(xds::type_url(Type::kCluster))]["a"] = "\xff\xff no protobuf";
  }
  control.push();
  ASSERT_TRUE(turn_until([&] { return !agent->status(now).refused.empty(); }));
  EXPECT_EQ(agent->status(now).refused[0].name, "a");
  EXPECT_TRUE(turn_until([&] {
    std::lock_guard lock(control.mutex);
    return !control.nacks.empty() && control.nacks[0].find("'a'") != std::string::npos;
  }));
  EXPECT_EQ(endpoints("a"), 1u);
  EXPECT_TRUE(logged("CDS 'a' refused"));
  const std::string text = status_text(agent->status(now));
  EXPECT_NE(text.find("REFUSED CDS a: "), std::string::npos) << text;
  control.set(Type::kCluster, "a", eds_cluster("a"));
  control.push();
  EXPECT_TRUE(turn_until([&] { return agent->status(now).refused.empty(); }));
}

TEST_F(AgentTest, ARefusedListenerIsASecurityMatter) {
  ControlPlane control;
  control.world[std::string(xds::type_url(Type::kListener))]["l"] = "\xff";
  control.start(address());
  start(bootstrap());
  ASSERT_TRUE(turn_until([&] { return !agent->status(now).refused.empty(); }));
  EXPECT_TRUE(agent->status(now).security_refused());
  control.erase(Type::kListener, "l");
  control.push();
  EXPECT_TRUE(turn_until([&] { return !agent->status(now).security_refused(); }));
}

TEST_F(AgentTest, PublishingWaitsForEndpointsThatAreOnTheirWayButNotForEver) {
  ControlPlane control;
  control.set(Type::kCluster, "a", eds_cluster("a"));
  control.start(address());
  start(bootstrap());
  EXPECT_FALSE(turn_until([&] { return !published.empty(); }, 300 * kMs));
  control.set(Type::kEndpoint, "a", assignment("a", "10.0.0.1"));
  control.push();
  ASSERT_TRUE(turn_until([&] { return endpoints("a") == 1; }, kSec));
  control.set(Type::kCluster, "b", eds_cluster("b"));
  control.push();
  tick();
  const Usec pushed = now;
  ASSERT_TRUE(turn_until([&] { return endpoints("b") == 0; }));
  EXPECT_GE(now - pushed, kWarmMax - 100 * kMs);
  EXPECT_NE(status_text(agent->status(now)).find("missing        EDS b"), std::string::npos);
}

TEST_F(AgentTest, WhatTheControlPlaneRemovesGoes) {
  ControlPlane control;
  for (const char* n : {"a", "b"}) {
    control.set(Type::kCluster, n, eds_cluster(n));
    control.set(Type::kEndpoint, n, assignment(n, "10.0.0.1"));
  }
  control.start(address());
  start(bootstrap());
  ASSERT_TRUE(turn_until([&] { return endpoints("a") == 1 && endpoints("b") == 1; }));
  control.erase(Type::kCluster, "b");
  control.push();
  ASSERT_TRUE(turn_until([&] { return endpoints("b") == 999; }));
  EXPECT_EQ(agent->status(now).types[1].s.held, 1u);  // its assignment went with it
}

// 2,000 services and an edit of one: it costs one endpoint table, not the world.
TEST_F(AgentTest, OneEditOfThousandsOfServicesKeepsWhatDidNotChange) {
  ControlPlane control;
  for (int i = 0; i < 2000; i++) {
    const std::string n = "outbound|80||service-" + std::to_string(i) + ".default.svc.cluster.local";
    control.set(Type::kCluster, n, eds_cluster(n));
    control.set(Type::kEndpoint, n, assignment(n, "10.0.0.1"));
  }
  const std::string edited = "outbound|80||service-7.default.svc.cluster.local", other = "outbound|80||service-8.default.svc.cluster.local";
  control.start(address());
  start(bootstrap());
  ASSERT_TRUE(turn_until([&] { return endpoints(edited) == 1 && endpoints(other) == 1; }));
  const auto before = published.back();
  control.set(Type::kEndpoint, edited, assignment(edited, "10.0.0.2"));
  tick();
  const Usec pushed = now;
  control.push();
  ASSERT_TRUE(turn_until([&] { return published.back() != before; }));
  EXPECT_LT(now - pushed, 200 * kMs);
  EXPECT_EQ(cluster(*published.back(), other), cluster(*before, other));
  EXPECT_NE(cluster(*published.back(), edited), cluster(*before, edited));
  EXPECT_EQ(agent->status(now).types[1].s.applied, 2001u);
}

TEST_F(AgentTest, PlainTextOverANetworkIsWarnedOf) {
  Bootstrap b = bootstrap();
  b.xds->address = "192.0.2.1:15010";
  start(b);
  EXPECT_TRUE(logged("plain text over a network"));
}

TEST_F(AgentTest, AFolderThatCannotKeepIsSaidAndServingGoesOn) {
  std::ofstream(dir / "file") << "x";
  Bootstrap b = bootstrap();
  b.kept_dir = dir / "file" / "kept";
  ControlPlane control;
  control.set(Type::kCluster, "a", eds_cluster("a"));
  control.set(Type::kEndpoint, "a", assignment("a", "10.0.0.1"));
  control.start(address());
  start(b);
  ASSERT_TRUE(turn_until([&] { return !agent->status(now).kept_error.empty(); }));
  EXPECT_EQ(endpoints("a"), 1u);
  EXPECT_TRUE(logged("cannot make the folder"));
}

TEST_F(AgentTest, PostedFunctionsRunOnTheLoopAndAskWaits) {
  start(bootstrap());
  std::thread loop([&] { agent->run({}); });
  const auto where = agent->ask([] { return std::this_thread::get_id(); });
  ASSERT_TRUE(where);
  EXPECT_EQ(*where, loop.get_id());
  agent->stop();
  loop.join();
  EXPECT_FALSE(agent->ask([] { return 1; }));  // the loop has ended: no waiting
}

TEST_F(AgentTest, TheDumpIsJsonInEnvoysShape) {
  if (!fs::exists(golden("23-authz-sources"))) GTEST_SKIP() << "no golden data (set SLUICE_GOLDEN)";
  Bootstrap b = bootstrap();
  b.xds.reset();
  b.resources = ResourcesConfig{.golden = golden("23-authz-sources")};
  start(b);
  google::protobuf::Struct s;
  const std::string dump = agent->config_dump_json();
  const auto ok = google::protobuf::util::JsonStringToMessage(dump, &s);
  ASSERT_TRUE(ok.ok()) << ok.message();
  const auto& configs = s.fields().at("configs").list_value();
  ASSERT_EQ(configs.values_size(), 6);
  const char* sections[] = {"Bootstrap", "Clusters", "Listeners", "Routes", "Endpoints", "Secrets"};
  for (int i = 0; i < 6; i++)
    EXPECT_EQ(configs.values(i).struct_value().fields().at("@type").string_value(),
              std::string("type.googleapis.com/envoy.admin.v3.") + sections[i] + "ConfigDump");
  EXPECT_EQ(configs.values(0)
                .struct_value()
                .fields()
                .at("bootstrap")
                .struct_value()
                .fields()
                .at("node")
                .struct_value()
                .fields()
                .at("id")
                .string_value(),
            b.node.id);
  const auto& listener = configs.values(2).struct_value().fields().at("dynamic_listeners").list_value().values(0).struct_value();
  EXPECT_EQ(listener.fields().at("active_state").struct_value().fields().at("listener").struct_value().fields().at("name").string_value(),
            listener.fields().at("name").string_value());
  EXPECT_EQ(dump.find("cannot print"), std::string::npos);
  google::protobuf::Struct status;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(status_json(agent->status(now)), &status).ok())
      << status_json(agent->status(now));
}

TEST(Sds, TakesInlineSecretsAndNothingElse) {
  envoy::extensions::transport_sockets::tls::v3::Secret s;
  s.set_name("kubernetes://x");
  s.mutable_tls_certificate()->mutable_certificate_chain()->set_inline_bytes("chain");
  s.mutable_tls_certificate()->mutable_private_key()->set_inline_string("key");
  auto r = parse_secret("kubernetes://x", s.SerializeAsString());
  ASSERT_TRUE(r) << r.error();
  EXPECT_EQ(*r, (compile::Secret{"kubernetes://x", "chain", "key", "", ""}));
  EXPECT_EQ(parse_secret("other", s.SerializeAsString()).error(), "says its name is 'kubernetes://x'");
  s.mutable_tls_certificate()->mutable_private_key()->set_filename("/etc/shadow");
  EXPECT_EQ(parse_secret("kubernetes://x", s.SerializeAsString()).error(), "tls_certificate.private_key is not inline");
  s.mutable_validation_context()->mutable_trusted_ca()->set_inline_bytes("ca");
  r = parse_secret("kubernetes://x", s.SerializeAsString());
  EXPECT_EQ(r->trusted_ca_pem, "ca");
  // What narrows whom the context lets in is obeyed or refused, never passed over.
  auto narrow = s;
  narrow.mutable_validation_context()->add_verify_certificate_hash("00");
  EXPECT_EQ(parse_secret("kubernetes://x", narrow.SerializeAsString()).error(),
            "validation_context.verify_certificate_hash is not supported");
  narrow = s;
  narrow.mutable_validation_context()->add_match_typed_subject_alt_names()->mutable_matcher()->set_exact("a");
  EXPECT_FALSE(parse_secret("kubernetes://x", narrow.SerializeAsString()));
  narrow = s;
  auto& v = *narrow.mutable_validation_context();
  v.GetReflection()->MutableUnknownFields(&v)->AddVarint(4000, 1);
  EXPECT_FALSE(parse_secret("kubernetes://x", narrow.SerializeAsString()));
  s.clear_type();
  EXPECT_FALSE(parse_secret("kubernetes://x", s.SerializeAsString()));
  EXPECT_FALSE(parse_secret("kubernetes://x", "\xff"));
  EXPECT_TRUE(is_remote_secret("kubernetes://x"));
  EXPECT_FALSE(is_remote_secret("file-cert:a~b"));
}

}  // namespace
}  // namespace sluice::agent
