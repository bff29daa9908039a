// Single events against the client; the schedules are in client_property_test.cc.
#include "ctrl/xds/client.h"

#include <gtest/gtest.h>

namespace sluice::xds {
namespace {

struct TestSink final : Sink {
  std::map<std::pair<Type, std::string>, std::string> store;
  int applies = 0;
  std::expected<void, std::string> apply(Type type, const std::string& name, const std::string&, const std::string& bytes) override {
    applies++;
    if (bytes.starts_with("bad")) return std::unexpected("reason of " + name);
    store[{type, name}] = bytes;
    return {};
  }
  void remove(Type type, const std::string& name) override { EXPECT_EQ(store.erase({type, name}), 1u) << name; }
};

Resource resource(Type t, std::string name, std::string bytes, std::string version = "") {
  return {std::move(name), std::move(version), std::string(type_url(t)), std::move(bytes)};
}
Response response(Type t, std::string nonce, std::vector<Resource> resources, std::vector<std::string> removed = {}) {
  return {std::string(type_url(t)), std::move(nonce), "v", std::move(resources), std::move(removed)};
}

struct XdsClient : testing::Test {
  TestSink sink;
  Rng rng{1};
  Client client{{}, sink, rng};
  Usec now = 1000;
  uint64_t stream = 0;

  std::vector<Request> connect() {
    stream = client.begin_connect();
    client.connected(stream, now);
    return client.take_requests();
  }
  std::vector<Request> give(const Response& r) {
    client.response(stream, r, now);
    return client.take_requests();
  }
  // CDS and LDS are open, nothing is held.
  void open_empty() {
    connect();
    const auto out = give(response(Type::kCluster, "c0", {}));
    ASSERT_EQ(out.size(), 2u);
    give(response(Type::kListener, "l0", {}));
  }
};

TEST_F(XdsClient, FirstAsksForClustersAloneAndForListenersAfterTheirAnswer) {
  auto out = connect();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].type_url, type_url(Type::kCluster));
  EXPECT_EQ(out[0].subscribe, std::vector<std::string>{"*"});
  out = give(response(Type::kCluster, "n1", {}));  // an empty world is an answer
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].response_nonce, "n1");
  EXPECT_TRUE(out[0].subscribe.empty());
  EXPECT_EQ(out[1].type_url, type_url(Type::kListener));
  EXPECT_TRUE(out[1].response_nonce.empty());
}

TEST_F(XdsClient, ListenersAreAskedForAfterTheInitialFetchTimeoutWhenClustersNeverCome) {
  connect();
  EXPECT_EQ(client.next_deadline(), now + 15 * kSec);
  client.advance(now + 15 * kSec - 1);
  EXPECT_TRUE(client.take_requests().empty());
  client.advance(now + 15 * kSec);
  const auto out = client.take_requests();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].type_url, type_url(Type::kListener));
  EXPECT_EQ(client.next_deadline(), kNever);
}

TEST_F(XdsClient, ATypeByNameIsNeverOpenedWithAnEmptyList) {
  open_empty();
  client.want(Type::kRoute, {});
  EXPECT_TRUE(client.take_requests().empty());
  client.want(Type::kRoute, {"a", "b"});
  auto out = client.take_requests();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].subscribe, (std::vector<std::string>{"a", "b"}));
  client.want(Type::kRoute, {"b", "c"});
  out = client.take_requests();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].subscribe, std::vector<std::string>{"c"});
  EXPECT_EQ(out[0].unsubscribe, std::vector<std::string>{"a"});
  client.want(Type::kRoute, {"b", "c"});
  EXPECT_TRUE(client.take_requests().empty());
}

TEST_F(XdsClient, OneNackNamesEveryBadResourceAndTheGoodOnesApply) {
  open_empty();
  const auto out = give(response(Type::kCluster, "n",
                                 {resource(Type::kCluster, "a", "good"), resource(Type::kCluster, "b", "bad"),
                                  resource(Type::kCluster, "c", "good"), resource(Type::kCluster, "d", "bad")}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].response_nonce, "n");
  EXPECT_EQ(out[0].error, "2 of 4 resources refused: 'b': reason of b; 'd': reason of d");
  EXPECT_EQ(sink.store.size(), 2u);
  EXPECT_EQ(client.status(Type::kCluster).refused.size(), 2u);
}

TEST_F(XdsClient, ARefusedUpdateKeepsTheOldResourceAndAGoodOneClearsTheReason) {
  open_empty();
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "a", "old")}));
  give(response(Type::kCluster, "2", {resource(Type::kCluster, "a", "bad")}));
  EXPECT_EQ(sink.store.at({Type::kCluster, "a"}), "old");
  EXPECT_TRUE(client.holds(Type::kCluster, "a"));
  EXPECT_EQ(client.status(Type::kCluster).refused.at("a"), "reason of a");
  const auto out = give(response(Type::kCluster, "3", {resource(Type::kCluster, "a", "new")}));
  EXPECT_TRUE(out.at(0).error.empty());
  EXPECT_TRUE(client.status(Type::kCluster).refused.empty());
  EXPECT_EQ(sink.store.at({Type::kCluster, "a"}), "new");
}

TEST_F(XdsClient, ANameTwiceInOneResponseIsRefusedAndNeitherApplies) {
  open_empty();
  const auto out = give(response(
      Type::kCluster, "n", {resource(Type::kCluster, "a", "x"), resource(Type::kCluster, "b", "x"), resource(Type::kCluster, "a", "y")}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].error, "1 of 3 resources refused: 'a': comes 2 times in one response");
  EXPECT_FALSE(client.holds(Type::kCluster, "a"));
  EXPECT_TRUE(client.holds(Type::kCluster, "b"));
}

TEST_F(XdsClient, ANameBothSentAndRemovedIsRefusedAndNothingHappensToIt) {
  open_empty();
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "a", "x")}));
  const auto out = give(response(Type::kCluster, "2", {resource(Type::kCluster, "a", "y")}, {"a"}));
  EXPECT_NE(out.at(0).error.find("both sent and removed"), std::string::npos);
  EXPECT_EQ(sink.store.at({Type::kCluster, "a"}), "x");
}

TEST_F(XdsClient, ABodyOfAnotherTypeIsRefused) {
  open_empty();
  const auto out = give(response(Type::kCluster, "1", {resource(Type::kListener, "a", "x")}));
  EXPECT_NE(out.at(0).error.find("not the type of the response"), std::string::npos);
  EXPECT_EQ(sink.applies, 0);
}

TEST_F(XdsClient, TheSameBytesAgainAreAcceptedAndNotAppliedAgain) {
  open_empty();
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "a", "x")}));
  const auto out = give(response(Type::kCluster, "2", {resource(Type::kCluster, "a", "x")}));
  EXPECT_TRUE(out.at(0).error.empty());
  EXPECT_EQ(sink.applies, 1);
  EXPECT_EQ(client.status(Type::kCluster).unchanged, 1u);
}

TEST_F(XdsClient, AHeartbeatChangesNothing) {
  open_empty();
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "a", "x")}));
  Resource beat = resource(Type::kCluster, "a", "");
  beat.has_body = false;
  beat.type_url.clear();
  EXPECT_TRUE(give(response(Type::kCluster, "2", {beat})).at(0).error.empty());
  EXPECT_EQ(sink.store.at({Type::kCluster, "a"}), "x");
}

TEST_F(XdsClient, UnsolicitedEndpointsAreAcceptedAndIgnored) {
  open_empty();
  client.want(Type::kEndpoint, {"a"});
  client.take_requests();
  const auto out =
      give(response(Type::kEndpoint, "e", {resource(Type::kEndpoint, "a", "x"), resource(Type::kEndpoint, "stranger", "bad")}));
  EXPECT_TRUE(out.at(0).error.empty());
  EXPECT_EQ(sink.store.size(), 1u);
  EXPECT_EQ(client.status(Type::kEndpoint).ignored, 1u);
}

TEST_F(XdsClient, AResponseOfATypeThatWasNotOpenedIsNotAnswered) {
  open_empty();
  EXPECT_TRUE(give(response(Type::kRoute, "r", {resource(Type::kRoute, "a", "x")})).empty());
  EXPECT_TRUE(give({"type.googleapis.com/istio.networking.nds.v1.NameTable", "n", "", {}, {}}).empty());
  EXPECT_EQ(client.unsolicited(), 2u);
}

TEST_F(XdsClient, WhatIsNoLongerWantedLeavesTheSink) {
  open_empty();
  client.want(Type::kEndpoint, {"a", "b"});
  client.take_requests();
  give(response(Type::kEndpoint, "e", {resource(Type::kEndpoint, "a", "x"), resource(Type::kEndpoint, "b", "x")}));
  client.want(Type::kEndpoint, {"b"});
  EXPECT_FALSE(sink.store.contains({Type::kEndpoint, "a"}));
  EXPECT_EQ(client.status(Type::kEndpoint).held, 1u);
}

TEST_F(XdsClient, AReconnectSendsEveryNameAndWhatIsHeldInTheOrderOfTypes) {
  open_empty();
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "a", "x", "v7")}));
  client.want(Type::kRoute, {"r"});
  client.want(Type::kEndpoint, {"a", "b"});
  client.take_requests();
  give(response(Type::kEndpoint, "2", {resource(Type::kEndpoint, "a", "x", "v8")}));
  client.stream_closed(stream, "reset", now);
  const auto out = connect();
  ASSERT_EQ(out.size(), 4u);
  EXPECT_EQ(out[0].type_url, type_url(Type::kCluster));
  EXPECT_EQ(out[0].initial_resource_versions, (std::map<std::string, std::string>{{"a", "v7"}}));
  EXPECT_EQ(out[1].type_url, type_url(Type::kEndpoint));
  EXPECT_EQ(out[1].subscribe, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(out[1].initial_resource_versions, (std::map<std::string, std::string>{{"a", "v8"}}));
  EXPECT_EQ(out[2].type_url, type_url(Type::kListener));
  EXPECT_EQ(out[3].type_url, type_url(Type::kRoute));
  EXPECT_TRUE(out[3].initial_resource_versions.empty());
}

TEST_F(XdsClient, RemovalOfARefusedResourceForgetsTheReason) {
  open_empty();
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "a", "bad")}));
  give(response(Type::kCluster, "2", {}, {"a", "never known"}));
  EXPECT_TRUE(client.status(Type::kCluster).refused.empty());
}

TEST_F(XdsClient, EventsOfAnOldStreamAreIgnored) {
  open_empty();
  const uint64_t old = stream;
  client.stream_closed(old, "reset", now);
  connect();
  client.response(old, response(Type::kCluster, "late", {resource(Type::kCluster, "a", "x")}), now);
  client.stream_closed(old, "again", now);
  EXPECT_TRUE(client.take_requests().empty());
  EXPECT_TRUE(client.is_connected());
  EXPECT_EQ(sink.applies, 0);
}

TEST_F(XdsClient, BackoffDoublesWithJitterUpToItsMaximumAndAResponseResetsIt) {
  Usec last = 0;
  for (int i = 0; i < 12; i++) {
    const uint64_t s = client.begin_connect();
    client.stream_closed(s, "refused", now);
    const Usec delay = client.connect_at() - now, full = std::min<Usec>(200 * kMs << i, 30 * kSec);
    EXPECT_GE(delay, full / 2);
    EXPECT_LE(delay, full);
    last = delay;
  }
  EXPECT_GE(last, 15 * kSec);
  open_empty();
  client.stream_closed(stream, "age", now);
  EXPECT_LE(client.connect_at() - now, 200 * kMs);
}

TEST_F(XdsClient, RestoredResourcesAreNamedWithoutAVersionAndRemovedWhenTheServerSaysSo) {
  sink.store[{Type::kCluster, "kept"}] = "x";
  sink.store[{Type::kCluster, "gone"}] = "x";
  client.restore(Type::kCluster, "kept", "x");
  client.restore(Type::kCluster, "gone", "x");
  auto out = connect();
  EXPECT_EQ(out.at(0).initial_resource_versions, (std::map<std::string, std::string>{{"gone", ""}, {"kept", ""}}));
  give(response(Type::kCluster, "1", {resource(Type::kCluster, "kept", "x", "v")}, {"gone"}));
  EXPECT_EQ(sink.store.size(), 1u);
  EXPECT_EQ(sink.applies, 0);
}

TEST_F(XdsClient, ANackStaysBoundedAndStillNamesEverything) {
  open_empty();
  std::vector<Resource> many;
  for (int i = 0; i < 2000; i++) many.push_back(resource(Type::kCluster, "n" + std::to_string(i), "bad"));
  Client small({.error_bytes_max = 100}, sink, rng);
  const uint64_t s = small.begin_connect();
  small.connected(s, now);
  small.take_requests();
  small.response(s, response(Type::kCluster, "n", many), now);
  const std::string error = small.take_requests().at(0).error;
  EXPECT_NE(error.find("'n0': reason of n0"), std::string::npos);
  EXPECT_NE(error.find("'n1999'"), std::string::npos);
  EXPECT_EQ(error.find("reason of n1999"), std::string::npos);
}

}  // namespace
}  // namespace sluice::xds
