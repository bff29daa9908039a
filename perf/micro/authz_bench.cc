// RBAC at 1, 100 and 1k policies: the last policy matches, or none does. Policies are what istiod writes for a service account and a path.
#include "dataplane/authz/authz.h"
#include "perf/micro/bench.h"

namespace sluice::authz {
namespace {

using tables::Permission;
using tables::Principal;
using tables::StringMatch;

ArenaPool pool(64);

enum Table { kByIdentity, kByPath, kByNamespaceRegex };

tables::Rbac rbac_of(Table table, int64_t policies) {
  tables::Rbac rbac;
  for (int64_t i = 0; i < policies; i++) {
    Permission path, permission;
    path.kind = Permission::Kind::kUrlPath;
    path.string.kind = StringMatch::Kind::kPrefix;
    path.string.value = "/api/service-" + std::to_string(i) + "/";
    permission.kind = Permission::Kind::kAnd;
    permission.children = {table == kByIdentity ? Permission{} : path};
    Principal name, principal;
    name.kind = Principal::Kind::kAuthenticated;
    name.principal_name.emplace();
    name.principal_name->value = "spiffe://cluster.local/ns/shop/sa/account-" + std::to_string(i);
    if (table == kByNamespaceRegex) {
      name.principal_name->kind = StringMatch::Kind::kRegex;
      name.principal_name->regex = *tables::Regex::compile(".*/ns/shop-" + std::to_string(i) + "/.*");
      permission.children = {Permission{}};
    }
    principal.kind = Principal::Kind::kAnd;
    principal.children = {table == kByPath ? Principal{} : name};
    rbac.policies.push_back({"ns[shop]-policy[p-" + std::to_string(10'000 + i) + "]", {permission}, {principal}});
  }
  return rbac;
}

void evaluate(benchmark::State& state, Table table, bool match) {
  const int64_t last = state.range(0) - 1;
  const auto program = *Program::compile(rbac_of(table, state.range(0)));
  Arena arena(pool);
  http::RequestHead head(arena);
  head.method = "GET";
  head.path = arena.copy(match ? "/api/service-" + std::to_string(last) + "/items/42?q=1" : "/other");
  http::ConnectionFacts facts;
  std::vector<std::string> uris = {"spiffe://cluster.local/ns/shop" +
                                   (table == kByNamespaceRegex ? "-" + std::to_string(last) : std::string()) + "/sa/account-" +
                                   std::to_string(match ? last : -1)};
  if (!match) uris[0] = "spiffe://cluster.local/ns/elsewhere/sa/nobody";
  facts.certificate.presented = true;
  facts.certificate.uris = &uris;
  const Request request{&head, &facts, facts.remote.ip, "shop.example.com"};
  if ((program->evaluate(request).verdict == Verdict::kAllow) != match) state.SkipWithError("wrong verdict");
  bench::Tsc tsc(state);
  for (auto _ : state) benchmark::DoNotOptimize(program->evaluate(request));
}
BENCHMARK_CAPTURE(evaluate, identity_last, kByIdentity, true)->Arg(1)->Arg(100)->Arg(1000);
BENCHMARK_CAPTURE(evaluate, identity_none, kByIdentity, false)->Arg(1)->Arg(100)->Arg(1000);
BENCHMARK_CAPTURE(evaluate, path_last, kByPath, true)->Arg(1)->Arg(100)->Arg(1000);
BENCHMARK_CAPTURE(evaluate, regex_last, kByNamespaceRegex, true)->Arg(1)->Arg(100)->Arg(1000);

void compile(benchmark::State& state) {
  const auto rbac = rbac_of(kByIdentity, state.range(0));
  bench::Tsc tsc(state);
  for (auto _ : state) benchmark::DoNotOptimize(Program::compile(rbac));
}
BENCHMARK(compile)->Arg(1)->Arg(100)->Arg(1000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice::authz
