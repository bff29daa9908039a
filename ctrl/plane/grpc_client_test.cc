// gRPC C++'s own xDS client (xds:///host:port, GRPC_XDS_BOOTSTRAP), unchanged, against the server: it follows pushes, and its NACK is seen.
// A program of its own, since the bootstrap is read once in a process. Written for libgrpc 1.51
// (whose client falls over when a cluster's balancer changes to a ring under way: not asked of it here).
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "ctrl/plane/server.h"

namespace sluice::plane {
namespace {

grpc::ByteBuffer bytes_of(const std::string& s) {
  const grpc::Slice slice(s);
  return {&slice, 1};
}
std::string text_of(const grpc::ByteBuffer& b) {
  std::vector<grpc::Slice> slices;
  (void)b.Dump(&slices);
  std::string out;
  for (const auto& s : slices) out.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return out;
}

// Answers every call with its name.
class Backend final : public grpc::CallbackGenericService {
 public:
  explicit Backend(std::string name) : name_(std::move(name)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  int port() const { return port_; }

 private:
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Call(const std::string& name) : answer_(bytes_of(name)) { StartRead(&request_); }
    void OnReadDone(bool) override { StartWriteAndFinish(&answer_, {}, grpc::Status::OK); }
    void OnDone() override { delete this; }

   private:
    grpc::ByteBuffer request_, answer_;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override { return new Call(name_); }
  std::string name_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// The backend that answered, or the status.
std::string call(const std::shared_ptr<grpc::Channel>& channel, const std::map<std::string, std::string>& headers = {}) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  for (const auto& [k, v] : headers) context.AddMetadata(k, v);
  const grpc::ByteBuffer request = bytes_of("hello");
  grpc::ByteBuffer response;
  std::mutex mutex;
  std::condition_variable done;
  std::optional<grpc::Status> status;
  stub.UnaryCall(&context, "/echo.Echo/Echo", {}, &request, &response, [&](grpc::Status s) {
    const std::lock_guard lock(mutex);
    status = std::move(s);
    done.notify_one();
  });
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return status.has_value(); });
  return status->ok() ? text_of(response) : "status " + std::to_string(status->error_code()) + ": " + status->error_message();
}

std::string service(const std::string& name, int port) {
  return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + name + ", namespace: shop}\nspec:\n  hosts: [" +
         name +
         ".shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  ports: [{number: 80, name: grpc, protocol: GRPC}]\n  resolution: STATIC\n"
         "  endpoints: [{address: 127.0.0.1, ports: {grpc: " +
         std::to_string(port) + "}}]\n---\n";
}
std::shared_ptr<const World> world(const std::string& yaml) {
  Loaded l = load_text(yaml, "in.yaml");
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  return std::make_shared<const World>(std::move(l.world));
}
bool within(int ms, const std::function<bool()>& f) {
  for (; ms > 0 && !f(); ms -= 20) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return f();
}

TEST(GrpcClient, GrpcsOwnXdsClientFollowsPushesAndItsNackIsSeen) {
  char name[] = "/tmp/sluice-grpc-XXXXXX";
  const std::string dir = ::mkdtemp(name);
  std::ofstream(dir + "/bootstrap.json") << R"({"xds_servers": [{"server_uri": "unix:)" << dir
                                         << R"(/s", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
 "node": {"id": "sidecar~127.0.0.1~client.shop~shop.svc.cluster.local",
 "metadata": {"GENERATOR": "grpc", "NAMESPACE": "shop", "INSTANCE_IPS": "127.0.0.1"}}})";
  ::setenv("GRPC_XDS_BOOTSTRAP", (dir + "/bootstrap.json").c_str(), 1);
  const Backend a("a"), b("b"), b2("b2");
  const std::string both = service("one", a.port()) + service("two", b.port());
  {
    Server server({.listen = "unix:" + dir + "/s"}, world(both), [](const std::string&) {});
    ASSERT_TRUE(server.start());
    const auto one = grpc::CreateChannel("xds:///one.shop.svc.cluster.local:80", grpc::InsecureChannelCredentials());
    EXPECT_EQ(call(one), "a");
    // By the name that its namespace has for it.
    const auto brief = grpc::CreateChannel("xds:///two:80", grpc::InsecureChannelCredentials());
    EXPECT_EQ(call(brief), "b");
    EXPECT_TRUE(within(5000, [&] { return server.acknowledged([](const NodeInfo&) { return true; }).all(); }));

    // A route by header.
    const std::string routed = both +
                               "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: one, namespace: shop}\nspec:\n  "
                               "hosts: [one.shop.svc.cluster.local]\n"
                               "  http:\n  - match: [{headers: {x-to: {exact: two}}}]\n    route: [{destination: {host: "
                               "two.shop.svc.cluster.local}}]\n    corsPolicy: {allowMethods: "
                               "[GET]}\n  - route: [{destination: {host: one.shop.svc.cluster.local}}]\n---\n";
    server.replace(world(routed));
    EXPECT_TRUE(within(5000, [&] { return call(one, {{"x-to", "two"}}) == "b"; }));
    EXPECT_EQ(call(one), "a");

    // An endpoint that moves.
    const std::string moved = service("one", b2.port()) + routed.substr(service("one", a.port()).size());
    server.replace(world(moved));
    EXPECT_TRUE(within(5000, [&] { return call(one) == "b2"; }));

    // Certificates of a provider that the client's bootstrap does not have: the reason of its refusal is known, what it had stays.
    const auto with_policy = [&](const std::string& policy) {
      return moved +
             "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: one, namespace: shop}\nspec:\n  host: "
             "one.shop.svc.cluster.local\n  trafficPolicy: {" +
             policy + "}\n";
    };
    server.replace(world(with_policy("tls: {mode: ISTIO_MUTUAL}")));
    std::string reason;
    EXPECT_TRUE(within(5000, [&] {
      const auto nodes = server.nodes();
      reason = nodes.empty() ? "" : nodes[0].types[0].nack_reason;
      return !reason.empty();
    }));
    EXPECT_NE(reason.find("certificate provider"), std::string::npos) << reason;
    EXPECT_FALSE(server.acknowledged([](const NodeInfo&) { return true; }).any());
    EXPECT_EQ(server.nodes()[0].delta, false);
    EXPECT_EQ(call(one), "b2");
    server.replace(world(with_policy("tls: {mode: DISABLE}")));
    EXPECT_TRUE(within(5000, [&] { return server.acknowledged([](const NodeInfo&) { return true; }).all(); }));
    EXPECT_EQ(server.counters().nacks[0], 1u);
    EXPECT_EQ(call(one), "b2");
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace sluice::plane
