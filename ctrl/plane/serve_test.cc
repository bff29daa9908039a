// What the server does beyond a stream's words: limits, debounce, slow clients, drain, stand-by, and what it knows of its nodes.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "ctrl/admin/server.h"
#include "ctrl/plane/control.h"
#include "ctrl/plane/nodes.h"
#include "envoy/service/discovery/v3/ads.grpc.pb.h"

namespace sluice::plane {
namespace {
namespace ds = envoy::service::discovery::v3;
using std::chrono::milliseconds;
constexpr const char* kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr const char* kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
constexpr const char* kLds = "type.googleapis.com/envoy.config.listener.v3.Listener";
constexpr const char* kRds = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

std::string yaml(int port, size_t services = 1) {
  std::string out =
      "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec:\n  selector: {istio: "
      "ingressgateway}\n  servers:\n  - port: {number: " +
      std::to_string(port) + ", name: http, protocol: HTTP}\n    hosts: ['*']\n";
  for (size_t i = 0; i < services; i++) {
    const std::string name = "s" + std::to_string(i);
    out += "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + name +
           ", namespace: shop}\nspec:\n  hosts: [" + name +
           ".example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}]\n";
    out += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name +
           ", namespace: shop}\nspec:\n  hosts: [" + name +
           ".example.com]\n  gateways: [edge]\n  http: [{route: [{destination: {host: " + name + ".example.com}}]}]\n";
  }
  return out;
}
std::shared_ptr<const World> world(int port, size_t services = 1) {
  Loaded l = load_text(yaml(port, services), "in.yaml");
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  return std::make_shared<const World>(std::move(l.world));
}

void fill(envoy::config::core::v3::Node& n, const std::string& id) {
  n.set_id("router~10.0.0.1~" + id + ".shop~shop.svc.cluster.local");
  auto& fields = *n.mutable_metadata()->mutable_fields();
  fields["NAMESPACE"].set_string_value("shop");
  (*fields["LABELS"].mutable_struct_value()->mutable_fields())["istio"].set_string_value("ingressgateway");
}

template <class Request, class Response>
struct Ads {
  grpc::ClientContext context;
  std::unique_ptr<ds::AggregatedDiscoveryService::Stub> stub;
  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream;
  std::string id;
  bool said = false;
  explicit Ads(const std::string& socket, std::string name = "a", int window = 0) : id(std::move(name)) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (window != 0) arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window), arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetMaxReceiveMessageSize(-1);
    stub =
        ds::AggregatedDiscoveryService::NewStub(grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    if constexpr (std::is_same_v<Request, ds::DeltaDiscoveryRequest>) stream = stub->DeltaAggregatedResources(&context);
    else stream = stub->StreamAggregatedResources(&context);
  }
  ~Ads() { context.TryCancel(); }
  void send(Request r) {
    if (!std::exchange(said, true)) fill(*r.mutable_node(), id);
    stream->Write(r);
  }
  Response next() {
    Response r;
    EXPECT_TRUE(stream->Read(&r));
    return r;
  }
  void answer(const Response& r, const std::string& error = "") {
    Request ack;
    ack.set_type_url(r.type_url());
    ack.set_response_nonce(r.nonce());
    if constexpr (std::is_same_v<Request, ds::DiscoveryRequest>) ack.set_version_info(r.version_info());
    if (!error.empty()) ack.mutable_error_detail()->set_message(error);
    send(ack);
  }
};
struct Delta : Ads<ds::DeltaDiscoveryRequest, ds::DeltaDiscoveryResponse> {
  using Ads::Ads;
  void ask(const char* type, const std::vector<std::string>& names = {"*"}, const std::map<std::string, std::string>& had = {}) {
    ds::DeltaDiscoveryRequest r;
    r.set_type_url(type);
    for (const auto& n : names) r.add_resource_names_subscribe(n);
    for (const auto& [n, v] : had) (*r.mutable_initial_resource_versions())[n] = v;
    send(r);
  }
};
struct Sotw : Ads<ds::DiscoveryRequest, ds::DiscoveryResponse> {
  using Ads::Ads;
  void ask(const char* type, const std::vector<std::string>& names = {}) {
    ds::DiscoveryRequest r;
    r.set_type_url(type);
    for (const auto& n : names) r.add_resource_names(n);
    send(r);
  }
};

struct ServeTest : testing::Test {
  std::string dir;
  std::unique_ptr<Server> server;
  void SetUp() override {
    char name[] = "/tmp/sluice-serve-XXXXXX";
    dir = ::mkdtemp(name);
  }
  void start(ServerOptions options = {}, std::shared_ptr<const World> w = world(80)) {
    options.listen = "unix:" + dir + "/s";
    server = std::make_unique<Server>(options, std::move(w), [](const std::string&) {});
    const auto ok = server->start();
    ASSERT_TRUE(ok) << ok.error();
  }
  void TearDown() override {
    server.reset();
    std::filesystem::remove_all(dir);
  }
  bool within(int ms, const std::function<bool()>& f) {
    for (; ms > 0 && !f(); ms -= 5) std::this_thread::sleep_for(milliseconds(5));
    return f();
  }
  bool acknowledged() {
    return server->acknowledged([](const NodeInfo&) { return true; }).all();
  }
};

TEST_F(ServeTest, StateOfTheWorldIsServedBesideDelta) {
  start();
  Sotw c(dir + "/s");
  c.ask(kCds);
  auto r = c.next();
  EXPECT_EQ(r.type_url(), kCds);
  EXPECT_EQ(r.resources_size(), 2);
  EXPECT_EQ(r.resources(0).type_url(), kCds);
  EXPECT_EQ(r.version_info().size(), 16u);
  c.answer(r);
  c.ask(kLds);
  r = c.next();
  EXPECT_EQ(r.resources_size(), 1);
  c.ask(kRds, {"http.80"});
  EXPECT_EQ(c.next().resources_size(), 1);
  server->replace(world(80, 2));
  r = c.next();
  EXPECT_EQ(r.type_url(), kCds);
  EXPECT_EQ(r.resources_size(), 3);
  EXPECT_EQ(c.next().type_url(), kRds);
}

TEST_F(ServeTest, TwoInstancesSayTheSameAndAClientThatMovesIsSentNothing) {
  start();
  Server other({.listen = "unix:" + dir + "/t"}, world(80), [](const std::string&) {});
  ASSERT_TRUE(other.start());
  std::map<std::string, std::map<std::string, std::string>> had;
  std::map<std::string, std::string> versions;
  {
    Delta c(dir + "/s");
    for (const char* type : {kCds, kLds}) {
      c.ask(type);
      const auto r = c.next();
      for (const auto& x : r.resources()) had[type][x.name()] = x.version();
      versions[type] = r.system_version_info();
    }
    c.ask(kRds, {"http.80"});
    const auto routes = c.next();
    for (const auto& x : routes.resources()) had[kRds][x.name()] = x.version();
  }
  Delta c(dir + "/t");
  for (const char* type : {kCds, kLds}) {
    c.ask(type, {"*"}, had[type]);
    const auto r = c.next();
    EXPECT_EQ(r.resources_size() + r.removed_resources_size(), 0);
    EXPECT_EQ(r.system_version_info(), versions[type]);
  }
  c.ask(kRds, {"http.80"}, had[kRds]);
  other.replace(world(80, 2));  // the next thing is this change
  EXPECT_EQ(c.next().type_url(), kCds);
}

TEST_F(ServeTest, EditsWithinTheWindowAreOnePushAndTheFirstIsNotDelayed) {
  start({.debounce_ms = 2000});
  Delta c(dir + "/s");
  c.ask(kLds);
  c.answer(c.next());
  const auto began = std::chrono::steady_clock::now();
  const auto ms = [&] { return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began).count(); };
  server->replace(world(81));
  EXPECT_EQ(c.next().resources(0).name(), "0.0.0.0_81");
  EXPECT_LT(ms(), 1900) << "the first waits for no window";
  for (int port = 82; port <= 90; port++) server->replace(world(port));
  const auto r = c.next();
  EXPECT_EQ(r.resources(0).name(), "0.0.0.0_90");
  ASSERT_EQ(r.removed_resources_size(), 1);
  EXPECT_EQ(r.removed_resources(0), "0.0.0.0_81");
  EXPECT_GE(ms(), 1990);
  EXPECT_TRUE(within(5000, [&] { return server->counters().pushes == 2; })) << "counted when sent";
}

TEST_F(ServeTest, ANodeThatReadsNothingDelaysNobodyAndIsCutOff) {
  start({.debounce_ms = 0, .stall_ms = 700}, world(80, 3000));
  Delta slow(dir + "/s", "slow", 1024), quick(dir + "/s", "quick");
  slow.ask(kCds);
  slow.ask(kLds);
  slow.ask(kRds, {"http.80"});  // megabytes, of which nothing is read
  quick.ask(kLds);
  quick.answer(quick.next());
  ASSERT_TRUE(within(2000, [&] { return server->nodes().size() == 2; }));
  for (int port = 81; port <= 83; port++) {
    const auto began = std::chrono::steady_clock::now();
    server->replace(world(port));
    EXPECT_EQ(quick.next().resources(0).name(), "0.0.0.0_" + std::to_string(port));
    EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds(600));
  }
  EXPECT_TRUE(within(5000, [&] { return server->counters().refused[size_t(Refusal::kStalled)] == 1; }));
  EXPECT_TRUE(within(2000, [&] { return server->nodes().size() == 1; }));
}

TEST_F(ServeTest, MoreStreamsThanTheLimitAreRefused) {
  start({.streams_max = 1});
  Delta one(dir + "/s");
  one.ask(kCds);
  (void)one.next();
  Delta two(dir + "/s");
  two.ask(kCds);
  ds::DeltaDiscoveryResponse r;
  EXPECT_FALSE(two.stream->Read(&r));
  EXPECT_EQ(two.stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(server->counters().refused[size_t(Refusal::kStreamsMax)], 1u);
}

TEST_F(ServeTest, MoreNamesThanTheLimitEndTheStream) {
  start();
  Delta c(dir + "/s");
  std::vector<std::string> names;
  for (size_t i = 0; i <= kNamesPerStreamMax; i++) names.push_back(std::to_string(i));
  c.ask(kEds, names);
  ds::DeltaDiscoveryResponse r;
  EXPECT_FALSE(c.stream->Read(&r));
  EXPECT_EQ(c.stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(server->counters().refused[size_t(Refusal::kNamesMax)], 1u);
}

TEST_F(ServeTest, ARequestThatIsTooLargeEndsTheStream) {
  start();
  Delta c(dir + "/s");
  c.ask(kEds, {std::string(size_t(kRequestBytesMax) + 1, 'x')});
  ds::DeltaDiscoveryResponse r;
  EXPECT_FALSE(c.stream->Read(&r));
}

TEST_F(ServeTest, DrainEndsStreamsSoThatClientsMove) {
  start();
  Delta c(dir + "/s");
  c.ask(kCds);
  (void)c.next();
  std::thread draining([&] { server->drain(2000); });
  ds::DeltaDiscoveryResponse r;
  EXPECT_FALSE(c.stream->Read(&r));
  EXPECT_EQ(c.stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  draining.join();
  Delta late(dir + "/s");
  late.ask(kCds);
  EXPECT_FALSE(late.stream->Read(&r));
}

TEST_F(ServeTest, WhatANodeAcknowledgedAndRefusedIsKnown) {
  start();
  std::atomic<int> told = 0;
  server.reset();
  server = std::make_unique<Server>(ServerOptions{.listen = "unix:" + dir + "/s"}, world(80), [](const std::string&) {});
  server->on_acknowledgement([&] { told++; });
  ASSERT_TRUE(server->start());
  EXPECT_FALSE(acknowledged());
  Delta c(dir + "/s");
  c.ask(kCds);
  c.answer(c.next());
  c.ask(kLds);
  auto r = c.next();
  EXPECT_FALSE(acknowledged());
  c.answer(r);
  ASSERT_TRUE(within(2000, [&] { return acknowledged(); }));
  auto n = server->nodes();
  ASSERT_EQ(n.size(), 1u);
  EXPECT_EQ(n[0].types[2].acknowledged_version, r.system_version_info());
  EXPECT_NE(nodes_text(n, 0).find("acknowledged  delta"), std::string::npos) << nodes_text(n, 0);

  server->replace(world(81));
  r = c.next();
  EXPECT_FALSE(acknowledged());
  c.answer(r, "listener '0.0.0.0_81': the port is taken");
  ASSERT_TRUE(within(2000, [&] { return server->counters().nacks[2] == 1; }));
  EXPECT_FALSE(acknowledged());
  n = server->nodes();
  EXPECT_EQ(n[0].types[2].nack_reason, "listener '0.0.0.0_81': the port is taken");
  EXPECT_TRUE(any_refuses(n));
  EXPECT_NE(nodes_json(n, 0).find("the port is taken"), std::string::npos);
  EXPECT_NE(control_metrics(n, server->counters()).find("sluice_control_nacks_total{type=\"LDS\"} 1"), std::string::npos);
  server->replace(world(82));
  c.answer(c.next());
  ASSERT_TRUE(within(2000, [&] { return acknowledged(); }));
  EXPECT_GE(told, 4);
  EXPECT_EQ(server->acknowledged([](const NodeInfo& node) { return node.ns == "bank"; }).nodes, 0u);
}

TEST_F(ServeTest, AChangeThatIsNoneForANodeIsAcknowledgedAtOnce) {
  start();
  Delta c(dir + "/s");
  c.ask(kLds);
  c.answer(c.next());
  ASSERT_TRUE(within(2000, [&] { return acknowledged(); }));
  server->replace(world(80));
  EXPECT_TRUE(acknowledged());
  EXPECT_EQ(server->counters().pushes, 0u);
}

TEST_F(ServeTest, TheControlPlanesAdminSocketShowsItsNodes) {
  std::filesystem::create_directory(dir + "/d");
  std::ofstream(dir + "/d/in.yaml") << yaml(80);
  const auto quiet = [](const std::string&) {};
  auto control = Control::start({.dir = dir + "/d",
                                 .mesh = "",
                                 .server = {.listen = "unix:" + dir + "/s"},
                                 .admin = "unix:" + dir + "/admin",
                                 .say = quiet,
                                 .problems = quiet});
  ASSERT_TRUE(control) << control.error();
  Delta c(dir + "/s", "gw-1");
  c.ask(kLds);
  c.answer(c.next(), "no");
  std::string body, state;
  ASSERT_TRUE(within(2000, [&] {
    const auto r = admin::ask_unix(dir + "/admin", "GET", "/nodes");
    body = r ? r->body : r.error();
    state = r ? r->headers.at("x-sluice-status") : "";
    return body.find("refused") != std::string::npos;
  })) << body;
  EXPECT_NE(body.find("gw-1.shop"), std::string::npos) << body;
  EXPECT_EQ(state, "refused");
  const auto metrics = admin::ask_unix(dir + "/admin", "GET", "/stats/prometheus");
  ASSERT_TRUE(metrics);
  EXPECT_NE(metrics->body.find("sluice_control_nodes{state=\"refused\"} 1"), std::string::npos) << metrics->body;
}

// A Gateway of Kubernetes whose port is `port`.
std::string gateway_api(int port) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: in, namespace: shop}\nspec: {selector: {istio: ingressgateway}, ports: [{port: " +
         std::to_string(port) +
         "}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: shop}\nspec:\n  "
         "gatewayClassName: "
         "istio\n  addresses: [{type: Hostname, value: in}]\n  listeners: [{name: l, protocol: HTTP, port: " +
         std::to_string(port) +
         "}]\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: "
         "[{name: "
         "g}], rules: [{backendRefs: [{name: in, port: " +
         std::to_string(port) + "}]}]}\n";
}

TEST_F(ServeTest, AGatewayIsProgrammedOnlyWhenANodeTookTheNewestVersion) {
  std::filesystem::create_directory(dir + "/d");
  std::ofstream(dir + "/d/in.yaml") << gateway_api(80);
  const auto quiet = [](const std::string&) {};
  auto control = Control::start({.dir = dir + "/d",
                                 .mesh = "",
                                 .status_dir = dir + "/status",
                                 .server = {.listen = "unix:" + dir + "/s"},
                                 .admin = "unix:" + dir + "/admin",
                                 .say = quiet,
                                 .problems = quiet});
  ASSERT_TRUE(control) << control.error();
  std::string shown, file;
  // The admin socket and the file say so both.
  const auto says = [&](const std::string& what) {
    return within(3000, [&] {
      (*control)->poll(1);
      const auto r = admin::ask_unix(dir + "/admin", "GET", "/gateway-api");
      shown = r ? r->body : r.error();
      std::stringstream text;
      text << std::ifstream(dir + "/status/Gateway.shop.g.yaml").rdbuf();
      file = text.str();
      const bool programmed = what == "Programmed";
      return shown.find("Gateway shop/g: Accepted, " + what) == 0 && (file.find("Pending") == std::string::npos) == programmed;
    });
  };
  EXPECT_TRUE(says("not Programmed (Pending")) << shown << file;
  EXPECT_NE(shown.find("  listener l: 1 route"), std::string::npos) << shown;
  auto c = std::make_unique<Delta>(dir + "/s");
  c->ask(kLds);
  const auto first = c->next();
  EXPECT_TRUE(says("not Programmed (Pending")) << "sent is not taken";
  c->answer(first);
  EXPECT_TRUE(says("Programmed")) << shown << file;
  std::ofstream(dir + "/d/in.yaml") << gateway_api(81);
  EXPECT_TRUE(says("not Programmed (Pending")) << shown << file;
  c->answer(c->next(), "the port is taken");
  EXPECT_TRUE(says("not Programmed (Pending")) << shown << file;
  std::ofstream(dir + "/d/in.yaml") << gateway_api(82);
  EXPECT_TRUE(says("not Programmed (Pending"));
  c->answer(c->next());
  EXPECT_TRUE(says("Programmed")) << shown << file;
  c.reset();
  EXPECT_TRUE(says("not Programmed (Pending")) << "nobody serves it any more\n" << shown << file;
}

}  // namespace
}  // namespace sluice::plane
