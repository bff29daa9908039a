// The gateway's xDS client (ctrl/xds) over gRPC, following whatever server is at ADDRESS: xds_follow ADDRESS [REFUSED_NAME]. It asks for
// what the gateway would (endpoints of clusters, routes of listeners) and refuses a resource of that name. On stdout: `apply TYPE NAME
// HASH`, `remove TYPE NAME`, `connected`, `closed REASON`. Ends when stdin does.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>

#include "ctrl/xds/grpc_transport.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"

namespace {
using namespace sluice;
using namespace sluice::xds;

uint64_t fnv(const std::string& s) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : s) h = (h ^ uint8_t(c)) * 0x100000001b3;
  return h;
}

struct Held final : Sink {
  std::string refused;
  std::map<std::string, std::string> of[kTypes];
  std::expected<void, std::string> apply(Type t, const std::string& name, const std::string&, const std::string& bytes) override {
    if (name == refused) return std::unexpected("refused by the test");
    of[size_t(t)][name] = bytes;
    std::printf("apply %s %s %016" PRIx64 "\n", std::string(short_name(t)).c_str(), name.c_str(), fnv(bytes));
    return {};
  }
  void remove(Type t, const std::string& name) override {
    of[size_t(t)].erase(name);
    std::printf("remove %s %s\n", std::string(short_name(t)).c_str(), name.c_str());
  }
  std::set<std::string> endpoints() const {
    std::set<std::string> out;
    for (const auto& [name, bytes] : of[size_t(Type::kCluster)]) {
      envoy::config::cluster::v3::Cluster c;
      if (!c.ParseFromString(bytes) || c.type() != envoy::config::cluster::v3::Cluster::EDS) continue;
      out.insert(c.eds_cluster_config().service_name().empty() ? name : c.eds_cluster_config().service_name());
    }
    return out;
  }
  std::set<std::string> routes() const {
    std::set<std::string> out;
    for (const auto& [name, bytes] : of[size_t(Type::kListener)]) {
      envoy::config::listener::v3::Listener l;
      if (!l.ParseFromString(bytes)) continue;
      for (const auto& chain : l.filter_chains())
        for (const auto& filter : chain.filters()) {
          envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager manager;
          if (filter.typed_config().UnpackTo(&manager) && manager.has_rds()) out.insert(manager.rds().route_config_name());
        }
    }
    return out;
  }
};

Usec now_usec() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return Usec(t.tv_sec) * kSec + Usec(t.tv_nsec) / 1000;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "xds_follow ADDRESS [REFUSED_NAME]\n"), 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Held held;
  if (argc > 2) held.refused = argv[2];
  Rng rng(7);
  Client client({.backoff_first = 50 * kMs}, held, rng);
  const int wake = eventfd(0, EFD_NONBLOCK);
  const auto transport = GrpcTransport::make(
      {.address = argv[1],
       .node_id = "router~10.0.0.1~gw.shop~shop.svc.cluster.local",
       .metadata_json = R"({"NAMESPACE":"shop","INSTANCE_IPS":"10.0.0.1","LABELS":{"istio":"ingressgateway"}})"},
      client, [wake] { eventfd_write(wake, 1); },
      [&] {
        client.want(Type::kEndpoint, held.endpoints());
        client.want(Type::kRoute, held.routes());
      });
  if (!transport) return std::fprintf(stderr, "%s\n", transport.error().c_str()), 1;
  bool connected = false;
  for (;;) {
    (*transport)->turn(now_usec());
    if (client.is_answered() != connected) {
      connected = client.is_answered();
      if (connected) std::printf("connected\n");
      else std::printf("closed %s\n", client.last_error().c_str());
    }
    const Usec next = (*transport)->next_deadline(), now = now_usec();
    pollfd fds[] = {{wake, POLLIN, 0}, {0, POLLIN, 0}};
    poll(fds, 2, next == kNever ? 1000 : next <= now ? 0 : int(std::min<Usec>((next - now) / 1000 + 1, 1000)));
    eventfd_t n = 0;
    eventfd_read(wake, &n);
    char c = 0;
    if (fds[1].revents != 0 && read(0, &c, 1) <= 0) return 0;
  }
}
