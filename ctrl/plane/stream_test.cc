#include "ctrl/plane/stream.h"

#include <gtest/gtest.h>

namespace sluice::plane {
namespace {

constexpr const char* kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr const char* kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

Resources world(std::initializer_list<std::pair<std::string, std::string>> clusters,
                std::initializer_list<std::pair<std::string, std::string>> endpoints = {}) {
  Resources r;
  for (const auto& [n, v] : clusters) r.of[0][n] = {v, "bytes of " + n + v};
  for (const auto& [n, v] : endpoints) r.of[1][n] = {v, "bytes of " + n + v};
  return r;
}

TEST(DeltaStream, WildcardGetsAllOnceAndThenOnlyWhatChanged) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const Resources one = world({{"a", "1"}, {"b", "1"}});
  auto first = s.answers(one);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].resources.size(), 2u);
  EXPECT_TRUE(s.answers(one).empty());
  const Resources two = world({{"a", "2"}, {"b", "1"}});
  auto second = s.answers(two);
  ASSERT_EQ(second.size(), 1u);
  ASSERT_EQ(second[0].resources.size(), 1u);
  EXPECT_EQ(second[0].resources[0].first, "a");
  EXPECT_NE(second[0].nonce, first[0].nonce);
}

TEST(DeltaStream, AnEmptyFirstSubscriptionIsAWildcard) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds}));
  EXPECT_EQ(s.answers(world({{"a", "1"}}))[0].resources.size(), 1u);
}

TEST(DeltaStream, AnEmptyWorldIsSaidOnceToAWildcard) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const Resources none;
  ASSERT_EQ(s.answers(none).size(), 1u);
  EXPECT_TRUE(s.answers(none).empty());
}

TEST(DeltaStream, WhatIsGoneIsRemovedAndComesBack) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const Resources with = world({{"a", "1"}}), without;
  (void)s.answers(with);
  auto gone = s.answers(without);
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].removed, std::vector<std::string>{"a"});
  EXPECT_EQ(s.answers(with)[0].resources.size(), 1u);
}

TEST(DeltaStream, NamesGetOnlyThemselvesAndAnUnknownNameIsAnswered) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a", "missing"}}));
  auto a = s.answers(world({}, {{"a", "1"}, {"b", "1"}}));
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(a[0].resources.size(), 1u);
  EXPECT_EQ(a[0].removed, std::vector<std::string>{"missing"});
  // And is sent when it comes to be.
  auto later = s.answers(world({}, {{"a", "1"}, {"missing", "1"}}));
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].resources[0].first, "missing");
}

TEST(DeltaStream, SubscribingAgainIsAnsweredThoughNothingChanged) {
  DeltaStream s;
  const Resources w = world({}, {{"a", "1"}});
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}}));
  (void)s.answers(w);
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}}));
  EXPECT_EQ(s.answers(w).size(), 1u);
}

TEST(DeltaStream, UnsubscribedNamesAreSilent) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a", "b"}}));
  (void)s.answers(world({}, {{"a", "1"}, {"b", "1"}}));
  ASSERT_TRUE(s.take({.type_url = kEds, .unsubscribe = {"a"}}));
  auto next = s.answers(world({}, {{"a", "2"}, {"b", "2"}}));
  ASSERT_EQ(next.size(), 1u);
  ASSERT_EQ(next[0].resources.size(), 1u);
  EXPECT_EQ(next[0].resources[0].first, "b");
}

TEST(DeltaStream, AClientThatComesBackGetsOnlyWhatItLacks) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}, .initial_versions = {{"a", "1"}, {"b", "old"}, {"gone", "1"}}}));
  auto a = s.answers(world({{"a", "1"}, {"b", "1"}}));
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(a[0].resources.size(), 1u);
  EXPECT_EQ(a[0].resources[0].first, "b");
  EXPECT_EQ(a[0].removed, std::vector<std::string>{"gone"});
}

TEST(DeltaStream, ClustersComeBeforeEndpoints) {
  DeltaStream s;
  ASSERT_TRUE(s.take({.type_url = kEds, .subscribe = {"a"}}));
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  auto a = s.answers(world({{"a", "1"}}, {{"a", "1"}}));
  ASSERT_EQ(a.size(), 2u);
  EXPECT_EQ(a[0].type, 0);
  EXPECT_EQ(a[1].type, 1);
}

TEST(DeltaStream, ANackIsRememberedUntilTheNextAckAndNothingIsSentForIt) {
  DeltaStream s;
  const Resources w = world({{"a", "1"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .subscribe = {"*"}}));
  const std::string nonce = s.answers(w)[0].nonce;
  EXPECT_EQ(s.unacknowledged(), 1u);
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = nonce, .error = "no"}));
  ASSERT_TRUE(s.last_nack());
  EXPECT_EQ(s.last_nack()->reason, "no");
  EXPECT_TRUE(s.answers(w).empty());
  EXPECT_EQ(s.unacknowledged(), 0u);
  const Resources next = world({{"a", "2"}});
  ASSERT_TRUE(s.take({.type_url = kCds, .nonce = s.answers(next)[0].nonce}));
  EXPECT_FALSE(s.last_nack());
  EXPECT_EQ(s.nacks(), 1u);
}

TEST(DeltaStream, TypesThatAreNotOursAreIgnored) {
  DeltaStream s;
  EXPECT_TRUE(s.take({.type_url = "type.googleapis.com/istio.networking.nds.v1.NameTable"}));
  EXPECT_TRUE(s.take({.type_url = "nonsense"}));
  EXPECT_TRUE(s.answers(world({{"a", "1"}})).empty());
}

TEST(DeltaStream, TooManyNamesEndTheStream) {
  DeltaStream s;
  StreamRequest r{.type_url = kEds};
  for (size_t i = 0; i <= kNamesPerStreamMax; i++) r.subscribe.push_back(std::to_string(i));
  EXPECT_FALSE(s.take(r));
}

}  // namespace
}  // namespace sluice::plane
