// The compiler at 10, 1,000 and 10,000 routes (one virtual host per 10 routes): cycles to take a whole resource and to
// build a snapshot of it, and to take it again unchanged (content hash).
#include "ctrl/compile/compile.h"
#include "envoy/config/route/v3/route.pb.h"
#include "perf/micro/bench.h"

namespace sluice::compile {
namespace {

struct NoSecrets : SecretSource {
  const Secret* find(std::string_view) override { return nullptr; }
};

std::string routes(int n, int salt) {
  envoy::config::route::v3::RouteConfiguration r;
  r.set_name("r");
  for (int i = 0; i < n; i++) {
    if (i % 10 == 0) {
      auto* v = r.add_virtual_hosts();
      v->set_name("v" + std::to_string(i));
      v->add_domains("host" + std::to_string(i) + ".example.com");
    }
    auto* route = r.mutable_virtual_hosts(r.virtual_hosts_size() - 1)->add_routes();
    route->mutable_match()->set_prefix("/service" + std::to_string(i) + "/" + std::to_string(salt));
    route->mutable_route()->set_cluster("c" + std::to_string(i % 100));
  }
  return r.SerializeAsString();
}

void CompileAndBuildRoutes(benchmark::State& state) {
  const std::string versions[] = {routes(int(state.range(0)), 1), routes(int(state.range(0)), 2)};
  Compiler c;
  NoSecrets none;
  int i = 0;
  const bench::Tsc tsc(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(c.apply(kRouteType, "r", versions[i++ % 2]));
    benchmark::DoNotOptimize(c.build(none, 0));
  }
}
BENCHMARK(CompileAndBuildRoutes)->Arg(10)->Arg(1000)->Arg(10'000);

void TakeUnchanged(benchmark::State& state) {
  const std::string version = routes(int(state.range(0)), 1);
  Compiler c;
  NoSecrets none;
  (void)c.apply(kRouteType, "r", version);
  const bench::Tsc tsc(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(c.apply(kRouteType, "r", version));
    benchmark::DoNotOptimize(c.build(none, 0));
  }
}
BENCHMARK(TakeUnchanged)->Arg(10)->Arg(1000)->Arg(10'000);

}  // namespace
}  // namespace sluice::compile
