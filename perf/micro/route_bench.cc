// Route match at 10, 1k and 10k routes of one virtual host: the last route matches, so everything before it must be refused. Tables:
// exact paths, prefixes, a mix with headers, and regexes (prefiltered); "build" is what a push pays for the index.
#include "dataplane/route/route.h"
#include "perf/micro/bench.h"

namespace sluice::route {
namespace {

using Path = tables::RouteMatch::Path;

ArenaPool pool(64);

struct Asked {
  explicit Asked(std::string_view path) : arena(pool), head(arena) {
    head.method = "GET";
    head.scheme = "https";
    head.authority = "shop.example.com";
    head.has_authority = true;
    head.path = arena.copy(path);
    for (const char* name : {"user-agent", "accept", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "cookie"})
      head.fields.add(name, "some value of a header");
    head.fields.add("x-tenant", "blue");
  }
  Arena arena;
  http::RequestHead head;
};

std::string path_of(int64_t i) {
  return "/api/v" + std::to_string(i % 7) + "/team-" + std::to_string(i / 100) + "/service-" + std::to_string(i);
}

tables::Route route(Path kind, std::string path) {
  tables::Route r;
  r.match.kind = kind;
  r.match.path = std::move(path);
  if (kind == Path::kRegex) r.match.regex = *tables::Regex::compile(r.match.path);
  return r;
}

enum Table { kExact, kPrefix, kMixed, kRegex, kWildRegex };

tables::VirtualHost host_of(Table table, int64_t routes) {
  tables::VirtualHost host;
  for (int64_t i = 0; i < routes; i++) {
    switch (table) {
      case kExact: host.routes.push_back(route(Path::kExact, path_of(i))); break;
      case kPrefix: host.routes.push_back(route(Path::kSeparatedPrefix, path_of(i))); break;
      case kMixed: {
        host.routes.push_back(route(i % 2 ? Path::kPrefix : Path::kExact, path_of(i)));
        tables::HeaderMatch header;
        header.name = "x-tenant";
        header.kind = tables::HeaderMatch::Kind::kString;
        header.string.value = "blue";
        host.routes.back().match.headers.push_back(header);
        break;
      }
      case kWildRegex: host.routes.push_back(route(Path::kRegex, ".*" + path_of(i) + "/[0-9]+(/.*)?")); break;
      case kRegex: host.routes.push_back(route(Path::kRegex, path_of(i) + "/[0-9]+(/.*)?")); break;
    }
  }
  host.index = VirtualHostIndex::build(host);
  return host;
}

void match(benchmark::State& state, Table table) {
  const auto host = host_of(table, state.range(0));
  const Asked asked(path_of(state.range(0) - 1) + (table >= kRegex ? "/42/x?q=1" : table == kExact || table == kMixed ? "?q=1" : "/x?q=1"));
  Scratch scratch;
  Rng rng(1);
  if (table != kMixed && find_route(host, asked.head, scratch, rng) != &host.routes.back()) state.SkipWithError("not the last route");
  bench::Tsc tsc(state);
  for (auto _ : state) benchmark::DoNotOptimize(find_route(host, asked.head, scratch, rng));
}
BENCHMARK_CAPTURE(match, exact, kExact)->Arg(10)->Arg(1000)->Arg(10'000);
BENCHMARK_CAPTURE(match, prefix, kPrefix)->Arg(10)->Arg(1000)->Arg(10'000);
BENCHMARK_CAPTURE(match, mixed_with_header, kMixed)->Arg(10)->Arg(1000)->Arg(10'000);
BENCHMARK_CAPTURE(match, regex, kRegex)->Arg(10)->Arg(1000)->Arg(10'000);
BENCHMARK_CAPTURE(match, regex_from_wildcard, kWildRegex)->Arg(10)->Arg(1000);

void build(benchmark::State& state, Table table) {
  const auto host = host_of(table, state.range(0));
  bench::Tsc tsc(state);
  for (auto _ : state) benchmark::DoNotOptimize(VirtualHostIndex::build(host));
}
BENCHMARK_CAPTURE(build, prefix, kPrefix)->Arg(10)->Arg(1000)->Arg(10'000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(build, regex, kRegex)->Arg(10)->Arg(1000)->Arg(10'000)->Unit(benchmark::kMicrosecond)->Iterations(1);
BENCHMARK_CAPTURE(build, regex_from_wildcard, kWildRegex)->Arg(10)->Arg(100)->Arg(1000)->Unit(benchmark::kMillisecond)->Iterations(1);

void domain(benchmark::State& state) {
  tables::RouteConfiguration routes;
  for (int64_t i = 0; i < state.range(0); i++) {
    auto host = std::make_shared<tables::VirtualHost>();
    host->domains = {"service-" + std::to_string(i) + ".example.com", "*.team-" + std::to_string(i) + ".example.com"};
    routes.virtual_hosts.push_back(host);
  }
  routes.ignore_port = true;
  routes.index = DomainIndex::build(routes.virtual_hosts);
  bench::Tsc tsc(state);
  for (auto _ : state) benchmark::DoNotOptimize(find_virtual_host(routes, "Www.team-7.example.com:8443"));
}
BENCHMARK(domain)->Arg(10)->Arg(1000)->Arg(10'000);

}  // namespace
}  // namespace sluice::route
