#include <gtest/gtest.h>

#include <map>

#include "dataplane/upstream/pool.h"

namespace sluice::upstream {
namespace {

tables::Cluster cluster_of(std::initializer_list<std::pair<uint32_t, uint32_t>> weight_priority, tables::LbPolicy lb) {
  auto table = std::make_shared<tables::EndpointTable>();
  uint32_t id = 0;
  for (auto [weight, priority] : weight_priority) {
    tables::Endpoint e;
    e.address = {Ipv4{0x0a140000 + id}, 80};
    e.id = id++;
    e.weight = weight;
    e.priority = priority;
    table->endpoints.push_back(e);
  }
  tables::Cluster c;
  c.name = "c";
  c.id = 0;
  c.lb = lb;
  c.choice_count = 2;
  c.endpoints = table;
  return c;
}

TEST(CircuitBudget, TwoWorkersNeverExceedTheLimit) {
  CircuitBudget budget;
  budget.set_limits({.connections_max = 5, .pending_max = 1000, .requests_max = 100, .retries_max = 0});
  Lease a, b;
  int taken = 0;
  for (int i = 0; i < 10; i++) taken += a.take(budget, Resource::kConnections) + b.take(budget, Resource::kConnections);
  EXPECT_EQ(taken, 5);  // a small limit is exact
  a.give(budget, Resource::kConnections);
  EXPECT_TRUE(b.take(budget, Resource::kConnections));
  EXPECT_FALSE(b.take(budget, Resource::kRetries));
  taken = 0;
  for (int i = 0; i < 200; i++) taken += a.take(budget, Resource::kRequests) + b.take(budget, Resource::kRequests);
  EXPECT_LE(taken, 100);
  EXPECT_GE(taken, 100 - int(Lease::kLeaseUnit));
}

TEST(CircuitBudget, LoweringTheLimitUnderLoadGrantsNothingUntilEnoughCameBack) {
  CircuitBudget budget;
  budget.set_limits({.connections_max = 4, .pending_max = 0, .requests_max = 0, .retries_max = 0});
  Lease a;
  for (int i = 0; i < 4; i++) EXPECT_TRUE(a.take(budget, Resource::kConnections));
  budget.set_limits({.connections_max = 2, .pending_max = 0, .requests_max = 0, .retries_max = 0});
  for (int i = 0; i < 2; i++) {
    a.give(budget, Resource::kConnections);
    EXPECT_FALSE(a.take(budget, Resource::kConnections));
  }
  a.give(budget, Resource::kConnections);
  EXPECT_TRUE(a.take(budget, Resource::kConnections));
}

TEST(Balancer, RoundRobinTakesEachInTurn) {
  const auto c = cluster_of({{1, 0}, {1, 0}, {1, 0}}, tables::LbPolicy::kRoundRobin);
  EndpointStates states;
  Balancer balancer;
  Rng rng(1);
  std::map<uint32_t, int> seen;
  for (int i = 0; i < 300; i++) seen[*balancer.pick(c, states, rng)]++;
  for (auto [index, n] : seen) EXPECT_EQ(n, 100) << index;
}

TEST(Balancer, WeightsAreHonouredByEarliestDeadline) {
  const auto c = cluster_of({{1, 0}, {3, 0}}, tables::LbPolicy::kRoundRobin);
  EndpointStates states;
  Balancer balancer;
  Rng rng(1);
  int second = 0;
  for (int i = 0; i < 400; i++) second += *balancer.pick(c, states, rng) == 1;
  EXPECT_NEAR(second, 300, 2);
}

TEST(Balancer, LeastRequestAvoidsTheBusyEndpoint) {
  const auto c = cluster_of({{1, 0}, {1, 0}}, tables::LbPolicy::kLeastRequest);
  EndpointStates states;
  states.of(0).active_requests.set(10);
  Balancer balancer;
  Rng rng(7);
  int busy = 0;
  for (int i = 0; i < 1000; i++) busy += *balancer.pick(c, states, rng) == 0;
  EXPECT_NEAR(busy, 250, 60);  // only when both choices fall on it
}

TEST(Balancer, ALowerPriorityServesOnlyWhenTheHigherIsShort) {
  auto c = cluster_of({{1, 0}, {1, 0}, {1, 1}}, tables::LbPolicy::kRoundRobin);
  EndpointStates states;
  Balancer balancer;
  Rng rng(3);
  for (int i = 0; i < 100; i++) EXPECT_NE(*balancer.pick(c, states, rng), 2u);
  auto half = std::make_shared<tables::EndpointTable>(*c.endpoints);
  half->endpoints[0].healthy = false;  // 50 % healthy x 1.4 = 70 % stays
  c.endpoints = half;
  int spilled = 0;
  for (int i = 0; i < 2000; i++) spilled += *balancer.pick(c, states, rng) == 2;
  EXPECT_NEAR(spilled, 600, 90);
  auto none = std::make_shared<tables::EndpointTable>(*half);
  none->endpoints[1].tls = true;
  none->endpoints[2].healthy = false;
  c.endpoints = none;
  EXPECT_FALSE(balancer.pick(c, states, rng));  // UH
}

TEST(Balancer, EvenOneAttemptLooksForAnotherEndpointOnceAndWithoutAnotherTheLastStands) {
  const auto two = cluster_of({{1, 0}, {1, 0}}, tables::LbPolicy::kRoundRobin), one = cluster_of({{1, 0}}, tables::LbPolicy::kRoundRobin);
  EndpointStates states;
  Rng rng(5);
  const uint32_t tried[] = {0};
  Balancer of_two, of_one;
  for (int i = 0; i < 50; i++) EXPECT_EQ(*of_two.pick(two, states, rng, tried, 1), 1u);
  EXPECT_EQ(*of_one.pick(one, states, rng, tried, 5), 0u);
}

TEST(Balancer, ARetryAvoidsWhatItTried) {
  const auto c = cluster_of({{1, 0}, {1, 0}}, tables::LbPolicy::kRoundRobin);
  EndpointStates states;
  Balancer balancer;
  Rng rng(5);
  const uint32_t tried[] = {0};
  for (int i = 0; i < 50; i++) EXPECT_EQ(*balancer.pick(c, states, rng, tried, 5), 1u);
}

}  // namespace
}  // namespace sluice::upstream
