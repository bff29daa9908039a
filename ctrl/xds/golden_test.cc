// What istiod itself said (../shared/golden/istiod, or SLUICE_GOLDEN) goes through the client: every answer is accepted, names are followed
// from clusters to endpoints and from listeners to routes, a second connection changes nothing.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "ctrl/xds/client.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

namespace sluice::xds {
namespace {
namespace fs = std::filesystem;

fs::path golden() {
  const char* set = std::getenv("SLUICE_GOLDEN");
  if (set != nullptr) return set;
  const fs::path beside = fs::path(SLUICE_SOURCE_ROOT) / "../shared/golden",
                 of_a_worktree = fs::path(SLUICE_SOURCE_ROOT) / "../../shared/golden";
  return fs::exists(beside) ? beside : of_a_worktree;
}

struct World final : Sink {
  std::map<std::string, std::string> of[kTypes];
  int applied = 0;
  std::expected<void, std::string> apply(Type t, const std::string& name, const std::string&, const std::string& bytes) override {
    of[size_t(t)][name] = bytes;
    applied++;
    return {};
  }
  void remove(Type t, const std::string& name) override { of[size_t(t)].erase(name); }

  std::set<std::string> endpoints_wanted() const {
    std::set<std::string> names;
    for (const auto& [name, bytes] : of[size_t(Type::kCluster)]) {
      envoy::config::cluster::v3::Cluster c;
      EXPECT_TRUE(c.ParseFromString(bytes)) << name;
      if (c.type() == envoy::config::cluster::v3::Cluster::EDS)
        names.insert(c.eds_cluster_config().service_name().empty() ? name : c.eds_cluster_config().service_name());
    }
    return names;
  }
  std::set<std::string> routes_wanted() const {
    std::set<std::string> names;
    for (const auto& [name, bytes] : of[size_t(Type::kListener)]) {
      envoy::config::listener::v3::Listener l;
      EXPECT_TRUE(l.ParseFromString(bytes)) << name;
      for (const auto& chain : l.filter_chains())
        for (const auto& filter : chain.filters()) {
          envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager hcm;
          if (filter.typed_config().UnpackTo(&hcm) && hcm.has_rds()) names.insert(hcm.rds().route_config_name());
        }
    }
    return names;
  }
};

Response load(const fs::path& file, Type type, const std::string& nonce) {
  std::ifstream in(file, std::ios::binary);
  envoy::service::discovery::v3::DeltaDiscoveryResponse p;
  EXPECT_TRUE(p.ParseFromIstream(&in)) << file;
  Response r{.type_url = std::string(type_url(type)), .nonce = nonce};
  for (const auto& x : p.resources()) r.resources.push_back({x.name(), x.version(), x.resource().type_url(), x.resource().value()});
  return r;
}

class GoldenReplay : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Istiod, GoldenReplay, testing::ValuesIn([] {
                           std::vector<std::string> inputs;
                           std::error_code e;
                           for (const auto& d : fs::directory_iterator(golden() / "istiod", e))
                             if (fs::exists(d.path() / "cds.pb")) inputs.push_back(d.path().filename());
                           if (inputs.empty()) inputs.push_back("absent");
                           std::ranges::sort(inputs);
                           return inputs;
                         }()),
                         [](const auto& i) {
                           std::string name = i.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(GoldenReplay, EveryAnswerIsAcceptedAndFollowed) {
  if (GetParam() == "absent") GTEST_SKIP() << "no golden data at " << golden() << " (set SLUICE_GOLDEN)";
  const fs::path dir = golden() / "istiod" / GetParam();
  World world;
  Rng rng(1);
  Client client({}, world, rng);
  size_t resources = 0;
  for (int connection = 0; connection < 2; connection++) {
    const uint64_t stream = client.begin_connect();
    client.connected(stream, 1);
    size_t answered = 0;
    for (std::vector<Request> out = client.take_requests(); !out.empty(); out = client.take_requests())
      for (const Request& r : out) {
        ASSERT_TRUE(r.error.empty()) << r.error;
        if (!r.response_nonce.empty()) continue;
        const Type type = *type_of(r.type_url);
        static constexpr const char* kFiles[] = {"cds.pb", "eds.pb", "lds.pb", "rds.pb"};
        ASSERT_LT(size_t(type), 4u);
        const Response response = load(dir / kFiles[size_t(type)], type, std::to_string(++answered));
        if (connection == 0) resources += response.resources.size();
        client.response(stream, response, 2);
        client.want(Type::kEndpoint, world.endpoints_wanted());
        client.want(Type::kRoute, world.routes_wanted());
      }
    EXPECT_GE(answered, 2u);
    for (size_t t = 0; t < kTypes; t++)
      EXPECT_TRUE(client.status(Type(t)).missing.empty()) << short_name(Type(t)) << " " << client.status(Type(t)).missing.front();
    EXPECT_EQ(size_t(world.applied), resources);  // the second time nothing is applied again
    client.stream_closed(stream, "end", 3);
  }
  EXPECT_GT(resources, 0u);
}

}  // namespace
}  // namespace sluice::xds
