#include "ctrl/plane/stream.h"

#include <gtest/gtest.h>

namespace sluice::plane {
namespace {

constexpr const char* kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr const char* kLds = "type.googleapis.com/envoy.config.listener.v3.Listener";
constexpr const char* kRds = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
constexpr const char* kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

std::shared_ptr<const Resources> world(std::initializer_list<std::pair<std::string, std::string>> clusters,
                                       std::initializer_list<std::pair<std::string, std::string>> endpoints = {},
                                       std::initializer_list<std::pair<std::string, std::string>> routes = {}) {
  Resources r;
  for (const auto& [n, v] : clusters) r.of[0].set(n, {v, "bytes of " + n + v});
  for (const auto& [n, v] : endpoints) r.of[1].set(n, {v, "bytes of " + n + v});
  for (const auto& [n, v] : routes) r.of[3].set(n, {v, "bytes of " + n + v});
  r.seal();
  return std::make_shared<const Resources>(std::move(r));
}

TEST(DeltaStream, WildcardGetsAllOnceAndThenOnlyWhatChanged) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const auto one = world({{"a", "1"}, {"b", "1"}});
  auto first = s.answers({one});
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].resources.size(), 2u);
  EXPECT_TRUE(s.answers({one}).empty());
  const auto two = world({{"a", "2"}, {"b", "1"}});
  auto second = s.answers({two});
  ASSERT_EQ(second.size(), 1u);
  ASSERT_EQ(second[0].resources.size(), 1u);
  EXPECT_EQ(second[0].resources[0].name, "a");
  EXPECT_NE(second[0].nonce, first[0].nonce);
}

TEST(DeltaStream, AnEmptyFirstSubscriptionIsAWildcard) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds}));
  EXPECT_EQ(s.answers({world({{"a", "1"}})})[0].resources.size(), 1u);
}

TEST(DeltaStream, AnEmptyWorldIsSaidOnceToAWildcard) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const auto none = world({});
  ASSERT_EQ(s.answers({none}).size(), 1u);
  EXPECT_TRUE(s.answers({none}).empty());
}

TEST(DeltaStream, WhatIsGoneIsRemovedAndComesBack) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const auto with = world({{"a", "1"}}), without = world({});
  (void)s.answers({with});
  auto gone = s.answers({without});
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].removed, std::vector<std::string>{"a"});
  EXPECT_EQ(s.answers({with})[0].resources.size(), 1u);
}

TEST(DeltaStream, NamesGetOnlyThemselvesAndAnUnknownNameIsAnswered) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a", "missing"}}));
  auto a = s.answers({world({}, {{"a", "1"}, {"b", "1"}})});
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(a[0].resources.size(), 1u);
  EXPECT_EQ(a[0].removed, std::vector<std::string>{"missing"});
  // And is sent when it comes to be.
  auto later = s.answers({world({}, {{"a", "1"}, {"missing", "1"}})});
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].resources[0].name, "missing");
}

TEST(DeltaStream, SubscribingAgainIsAnsweredThoughNothingChanged) {
  DeltaStream s;
  const auto w = world({}, {{"a", "1"}});
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}}));
  (void)s.answers({w});
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}}));
  EXPECT_EQ(s.answers({w}).size(), 1u);
}

TEST(DeltaStream, UnsubscribedNamesAreSilent) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a", "b"}}));
  (void)s.answers({world({}, {{"a", "1"}, {"b", "1"}})});
  ASSERT_TRUE(s.take({.type_url = kEds, .unsubscribe = {"a"}}));
  auto next = s.answers({world({}, {{"a", "2"}, {"b", "2"}})});
  ASSERT_EQ(next.size(), 1u);
  ASSERT_EQ(next[0].resources.size(), 1u);
  EXPECT_EQ(next[0].resources[0].name, "b");
}

TEST(DeltaStream, AClientThatComesBackGetsOnlyWhatItLacks) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}, .initial_versions = {{"a", "1"}, {"b", "old"}, {"gone", "1"}}}));
  auto a = s.answers({world({{"a", "1"}, {"b", "1"}})});
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(a[0].resources.size(), 1u);
  EXPECT_EQ(a[0].resources[0].name, "b");
  EXPECT_EQ(a[0].removed, std::vector<std::string>{"gone"});
}

TEST(DeltaStream, ClustersComeBeforeEndpoints) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}}));
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  auto a = s.answers({world({{"a", "1"}}, {{"a", "1"}})});
  ASSERT_EQ(a.size(), 2u);
  EXPECT_EQ(a[0].type, 0);
  EXPECT_EQ(a[1].type, 1);
}

TEST(DeltaStream, ANackIsRememberedUntilTheNextAckAndNothingIsSentForIt) {
  DeltaStream s;
  const auto w = world({{"a", "1"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const std::string nonce = s.answers({w})[0].nonce;
  EXPECT_EQ(s.unacknowledged(), 1u);
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = nonce, .error = "no"}));
  EXPECT_EQ(s.report(0).nack_reason, "no");
  EXPECT_TRUE(s.answers({w}).empty());
  EXPECT_EQ(s.unacknowledged(), 0u);
  const auto next = world({{"a", "2"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = s.answers({next})[0].nonce}));
  EXPECT_EQ(s.report(0).nack_reason, "");
  EXPECT_EQ(s.nacks(), 1u);
}

TEST(DeltaStream, TypesThatAreNotOursAreIgnored) {
  DeltaStream s;
  EXPECT_TRUE(s.take({.type_url = "type.googleapis.com/istio.networking.nds.v1.NameTable"}));
  EXPECT_TRUE(s.take({.type_url = "nonsense"}));
  EXPECT_TRUE(s.answers({world({{"a", "1"}})}).empty());
}

TEST(DeltaStream, TooManyNamesEndTheStream) {
  DeltaStream s;
  StreamRequest r{.type_url = kEds};
  for (size_t i = 0; i <= kNamesPerStreamMax; i++) r.subscribe.push_back(std::to_string(i));
  EXPECT_FALSE(s.take(r));
}

TEST(DeltaStream, AClientThatMovesToAStandByIsSentNothing) {
  const auto mine = world({{"a", "1"}, {"b", "2"}}, {{"a", "1"}}), its = world({{"a", "1"}, {"b", "2"}}, {{"a", "1"}});
  EXPECT_EQ(mine->version[0], its->version[0]);
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}, .initial_versions = {{"a", "1"}, {"b", "2"}}}));
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}, .initial_versions = {{"a", "1"}}}));
  for (const auto& a : s.answers({its})) EXPECT_TRUE(a.resources.empty() && a.removed.empty());
}

TEST(DeltaStream, AClusterThatChangesBringsItsEndpointsAgain) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a", "b"}}));
  (void)s.answers({world({{"a", "1"}, {"b", "1"}}, {{"a", "1"}, {"b", "1"}})});
  const auto a = s.answers({world({{"a", "2"}, {"b", "1"}}, {{"a", "1"}, {"b", "1"}})});
  ASSERT_EQ(a.size(), 2u);
  ASSERT_EQ(a[1].resources.size(), 1u);
  EXPECT_EQ(a[1].resources[0].name, "a");
}

TEST(DeltaStream, AClusterGoesAfterTheRoutesThatNamedIt) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  ASSERT_TRUE(s.take({.type_url = kRds, .subscribe = {"r"}}));
  (void)s.answers({world({{"old", "1"}}, {}, {{"r", "1"}})});
  const auto a = s.answers({world({{"new", "1"}}, {}, {{"r", "2"}})});
  ASSERT_EQ(a.size(), 3u);
  EXPECT_EQ(a[0].resources[0].name, "new");
  EXPECT_TRUE(a[0].removed.empty());
  EXPECT_EQ(a[1].type, 3);
  EXPECT_EQ(a[2].removed, std::vector<std::string>{"old"});
}

TEST(DeltaStream, ARefusedResourceIsUnacknowledgedUntilItIsAcceptedOrGone) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const auto one = world({{"a", "1"}, {"b", "1"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = s.answers({one})[0].nonce, .error = "cluster 'a': no"}));
  EXPECT_FALSE(s.acknowledged(*one));
  const auto two = world({{"a", "1"}, {"b", "2"}});  // another's ACK does not make it good
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = s.answers({two})[0].nonce}));
  EXPECT_FALSE(s.acknowledged(*two));
  EXPECT_NE(s.report(0).nack_reason, "");
  const auto three = world({{"a", "3"}, {"b", "2"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = s.answers({three})[0].nonce}));
  EXPECT_TRUE(s.acknowledged(*three));
  EXPECT_EQ(s.report(0).acknowledged_version, three->version[0]);
}

TEST(DeltaStream, ANameGivenUpUnderAWildcardIsToldAgain) {
  DeltaStream s;
  const auto w = world({{"a", "1"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*", "a", "x"}}));
  (void)s.answers({w});
  ASSERT_TRUE(s.take({.type_url = kCds, .unsubscribe = {"a", "x"}}));
  const auto a = s.answers({w});
  ASSERT_EQ(a.size(), 1u);
  EXPECT_EQ(a[0].resources.size(), 1u);
  EXPECT_EQ(a[0].removed, std::vector<std::string>{"x"});
}

TEST(SotwStream, ClustersAreWholeAndRoutesAreWhatChanged) {
  SotwStream s;
  ASSERT_TRUE(s.take({.type_url = kCds}));
  ASSERT_TRUE(s.take({.type_url = kRds, .subscribe = {"r", "q"}}));
  const auto one = world({{"a", "1"}, {"b", "1"}}, {}, {{"q", "1"}, {"r", "1"}, {"z", "1"}});
  auto a = s.answers({one});
  ASSERT_EQ(a.size(), 2u);
  EXPECT_EQ(a[0].version, one->version[0]);
  EXPECT_EQ(a[1].resources.size(), 2u);
  a = s.answers({world({{"a", "2"}, {"b", "1"}}, {}, {{"q", "1"}, {"r", "2"}, {"z", "1"}})});
  ASSERT_EQ(a.size(), 2u);
  EXPECT_EQ(a[0].resources.size(), 2u);
  EXPECT_EQ(a[1].resources.size(), 1u);
  a = s.answers({world({{"b", "1"}}, {}, {{"r", "2"}, {"z", "2"}})});  // a route that goes, and one that nobody asked for: silence
  ASSERT_EQ(a.size(), 1u);
  EXPECT_EQ(a[0].resources.size(), 1u);
}

TEST(SotwStream, AnEmptyListAfterNamesIsNoWildcard) {
  SotwStream s;
  const auto w = world({{"a", "1"}, {"b", "1"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"a"}}));
  auto a = s.answers({w});
  ASSERT_EQ(a[0].resources.size(), 1u);
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = a[0].nonce}));
  EXPECT_TRUE(s.answers({w}).empty());
  EXPECT_TRUE(s.answers({world({{"a", "2"}, {"b", "2"}})}).empty());
}

TEST(SotwStream, OnlyAddedNamesAreAnswered) {
  SotwStream s;
  const auto w = world({}, {{"a", "1"}, {"b", "1"}, {"c", "1"}});
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a", "b"}}));
  std::string nonce = s.answers({w})[0].nonce;
  ASSERT_TRUE(s.take({.type_url = kEds, .nonce = nonce, .subscribe = {"a"}}));
  EXPECT_TRUE(s.answers({w}).empty());
  ASSERT_TRUE(s.take({.type_url = kEds, .nonce = nonce, .subscribe = {"a", "c"}}));
  const auto a = s.answers({w});
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(a[0].resources.size(), 1u);
  EXPECT_EQ(a[0].resources[0].name, "c");
}

TEST(SotwStream, AStaleNonceIsNotAnswered) {
  SotwStream s;
  ASSERT_TRUE(s.take({.type_url = kCds}));
  const std::string old = s.answers({world({{"a", "1"}})})[0].nonce;
  const auto two = world({{"a", "2"}});
  const std::string now = s.answers({two})[0].nonce;
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = old, .subscribe = {"new"}}));
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = "never", .error = "no"}));
  EXPECT_EQ(s.nacks(), 0u);
  EXPECT_TRUE(s.answers({two}).empty());
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = now}));
  EXPECT_EQ(s.report(0).acknowledged_version, two->version[0]);
}

TEST(SotwStream, ANackIsNotAnsweredBeforeTheContentChanges) {
  SotwStream s;
  const auto w = world({{"a", "1"}});
  ASSERT_TRUE(s.take({.type_url = kCds}));
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = s.answers({w})[0].nonce, .error = "no"}));
  EXPECT_TRUE(s.answers({w}).empty());
  EXPECT_FALSE(s.acknowledged(*w));
  EXPECT_EQ(s.answers({world({{"a", "2"}})}).size(), 1u);
}

TEST(SotwStream, NewClustersComeBeforeRoutesAndOldOnesGoAfter) {
  SotwStream s;
  ASSERT_TRUE(s.take({.type_url = kCds}));
  ASSERT_TRUE(s.take({.type_url = kRds, .subscribe = {"r"}}));
  (void)s.answers({world({{"old", "1"}}, {}, {{"r", "1"}})});
  const auto a = s.answers({world({{"new", "1"}}, {}, {{"r", "2"}})});
  ASSERT_EQ(a.size(), 3u);
  EXPECT_EQ(a[0].resources.size(), 2u);
  EXPECT_EQ(a[1].type, 3);
  EXPECT_EQ(a[2].resources.size(), 1u);
  EXPECT_EQ(a[2].resources[0].name, "new");
}

TEST(Subscriptions, AnAliasIsOnlyForWhoAsksForIt) {
  Resources r;
  r.of[2].set("web.shop.svc.cluster.local:80", {"1", std::string("x")});
  r.of[2].set("web:80", {"1", std::string("x"), true});
  r.seal();
  const auto w = std::make_shared<const Resources>(std::move(r));
  SotwStream all, one;
  ASSERT_TRUE(all.take({.type_url = kLds}));
  EXPECT_EQ(all.answers({w})[0].resources.size(), 1u);
  ASSERT_TRUE(one.take({.type_url = kLds, .subscribe = {"web:80"}}));
  EXPECT_EQ(one.answers({w})[0].resources.size(), 1u);
}

}  // namespace
}  // namespace sluice::plane
