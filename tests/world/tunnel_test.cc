// Bytes carried as they are: switched websockets and tcp_proxy.
#include "tests/world/world.h"

namespace sluice::world {
namespace {

const std::string kWebsocket = R"("upgrade_configs": [{"upgrade_type": "websocket"}])";
const std::string kUpgrade = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const std::string kSwitched = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

// A switched connection: what the client sent and the origin got so far is past the heads.
struct Switched {
  Peer &c, &o;
};
Switched switched(World& w) {
  Peer& c = w.connect();
  c.send(kUpgrade);
  Peer& o = w.accepted(0);
  EXPECT_EQ(w.message(o).field("upgrade"), "websocket");
  o.send(kSwitched);
  EXPECT_EQ(w.message(c).status(), 101);
  return {c, o};
}

TEST(WorldWebsocket, CarriesBytesBothWaysAndTheClientsEndIsTheEnd) {
  World w;
  ASSERT_TRUE(w.push(plain("", kWebsocket)));
  auto [c, o] = switched(w);
  c.send(letters(200'000));
  o.send(letters(100'000, 'A'));
  EXPECT_TRUE(w.until([&] { return o.received.size() == 200'000 && c.received.size() == 100'000; }));
  EXPECT_TRUE(o.received == letters(200'000) && c.received == letters(100'000, 'A'));
  c.send("last words");
  c.finish();
  EXPECT_EQ(w.line().summary(), "101 DC downstream_remote_disconnect 200010/100000");
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
  EXPECT_TRUE(o.received.ends_with("last words"));
  EXPECT_EQ(o.end, StreamEnd::kFinished);
}

TEST(WorldWebsocket, TheOriginsEndIsATermination) {
  World w;
  ASSERT_TRUE(w.push(plain("", kWebsocket)));
  auto [c, o] = switched(w);
  o.send("last words");
  o.finish();
  EXPECT_EQ(w.line().summary(), "101 UC upstream_reset_after_response_started{connection_termination} 0/10");
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
  EXPECT_EQ(c.received, "last words");
}

TEST(WorldWebsocket, AResetOnOneSideResetsTheOther) {
  for (const bool by_client : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain("", kWebsocket)));
    auto [c, o] = switched(w);
    (by_client ? c : o).reset();
    Peer& other = by_client ? o : c;
    EXPECT_TRUE(w.until([&] { return other.gone; }));
    EXPECT_EQ(other.end, StreamEnd::kReset);
    EXPECT_EQ(w.line().flags, by_client ? "DC" : "UC");
  }
}

TEST(WorldWebsocket, BytesBehindTheHeadsBelongToTheTunnel) {
  World w;
  ASSERT_TRUE(w.push(plain("", kWebsocket)));
  Peer& c = w.connect();
  c.send(kUpgrade + "early from client");
  Peer& o = w.accepted(0);
  w.message(o);
  o.send(kSwitched + "early from origin");
  EXPECT_EQ(w.message(c).status(), 101);
  EXPECT_TRUE(w.until([&] { return c.received == "early from origin" && o.received == "early from client"; }));
  c.finish();
  EXPECT_EQ(w.line().summary(), "101 DC downstream_remote_disconnect 17/17");
}

TEST(WorldWebsocket, AnIdleOneEndsAtTheStreamIdleTimeout) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("idle_timeout": "3s")", kWebsocket)));
  auto [c, o] = switched(w);
  w.pass(2 * kSec);
  c.send("still here");
  w.pass(2 * kSec);
  EXPECT_EQ(w.lines_unread(), 0u);
  EXPECT_EQ(w.line().summary(), "101 SI stream_idle_timeout 10/0");
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
}

TEST(WorldWebsocket, OneThatWasNeverUsedEndsToo) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("idle_timeout": "3s")", kWebsocket)));
  auto [c, o] = switched(w);
  EXPECT_EQ(w.line().summary(), "101 SI stream_idle_timeout 0/0");
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
}

TEST(WorldWebsocket, OneWhoseListenerGoesEndsAtTheDrainDeadline) {
  World w({.proxy = {.drain_deadline = 5 * kSec}});
  ASSERT_TRUE(w.push(plain("", kWebsocket)));
  auto [c, o] = switched(w);
  w.remove({{compile::kListenerType, "listener"}});
  w.pass(4 * kSec);
  c.send("to the last");
  EXPECT_TRUE(w.until([&] { return o.received == "to the last"; }));
  EXPECT_EQ(w.line().summary(), "101 DC downstream_local_disconnect 11/0");
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
}

TEST(WorldWebsocket, TheRoutesTimeoutDoesNotEndIt) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "2s")", kWebsocket)));
  auto [c, o] = switched(w);
  w.pass(10 * kSec);
  c.send("x");
  EXPECT_TRUE(w.until([&] { return o.received == "x"; }));
  c.finish();
  EXPECT_EQ(w.line().flags, "DC");
}

TEST(WorldWebsocket, ARefusedUpgradeIsAnOrdinaryAnswer) {
  World w;
  ASSERT_TRUE(w.push(plain("", kWebsocket)));
  Peer& c = w.connect();
  c.send(kUpgrade);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
  EXPECT_EQ(w.message(c).body, "no");
  EXPECT_EQ(w.line().summary(), "403 - via_upstream 0/2");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
}

TEST(WorldTcp, CarriesBytesAndEachSidesEndByItself) {
  World w;
  ASSERT_TRUE(w.push({tcp_listener("t", 9000, "a"), cluster("a"), endpoints("a", {"10.1.0.2:80"})}));
  Peer& c = w.connect(9000);
  c.send(letters(50'000));
  Peer& o = w.accepted(0);
  o.finishes_back = false;
  c.finish();
  EXPECT_TRUE(w.until([&] { return o.peer_finished; }));
  EXPECT_TRUE(o.received == letters(50'000));
  w.pass(2 * kSec);
  o.send(letters(300'000));  // long after the client said its last word
  o.finish();
  EXPECT_TRUE(w.until([&] { return c.gone; }, 20 * kSec));
  EXPECT_TRUE(c.received == letters(300'000));
  EXPECT_EQ(w.line().summary(), "0 - - 50000/300000");
}

TEST(WorldTcp, AnOriginThatRefusesEndsTheClientsConnection) {
  World w;
  w.origins.unlisten(World::origin(2));
  ASSERT_TRUE(w.push({tcp_listener("t", 9000, "a"), cluster("a"), endpoints("a", {"10.1.0.2:80"})}));
  Peer& c = w.connect(9000);
  c.send("x");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  EXPECT_EQ(w.line().flags, "UF,URX");
}

TEST(WorldTcp, BeyondTheConnectionLimitAndWithoutAClusterOrAnEndpointTheFlagsSayWhy) {
  World w;
  ASSERT_TRUE(w.push({tcp_listener("t", 9000, "a"), tcp_listener("u", 9001, "none"), tcp_listener("v", 9002, "empty"),
                      cluster("a", circuit(R"("max_connections": 1)")), cluster("empty"), endpoints("a", {"10.1.0.2:80"}),
                      endpoints("empty", {})}));
  Peer& first = w.connect(9000);
  first.send("x");
  Peer& o = w.accepted(0);
  for (const auto& [port, flag] : {std::pair(9000, "UO"), std::pair(9001, "NC"), std::pair(9002, "UH")}) {
    Peer& p = w.connect(uint16_t(port));
    EXPECT_TRUE(w.until([&] { return p.gone; }));
    EXPECT_EQ(w.line().flags, flag);
  }
  first.finish();
  EXPECT_EQ(w.line().summary(), "0 - - 1/0");
  EXPECT_TRUE(w.until([&] { return o.gone; }));
  Peer& again = w.connect(9000);  // the unit came back
  again.send("y");
  w.accepted(1);
  again.finish();
  EXPECT_EQ(w.line().summary(), "0 - - 1/0");
}

TEST(WorldTcp, AnIdlePairEndsAtItsTimeout) {
  World w;
  ASSERT_TRUE(w.push({tcp_listener("t", 9000, "a", R"("idle_timeout": "3s")"), cluster("a"), endpoints("a", {"10.1.0.2:80"})}));
  Peer& c = w.connect(9000);
  c.send("x");
  Peer& o = w.accepted(0);
  w.pass(2 * kSec);
  o.send("y");
  w.pass(2 * kSec);
  EXPECT_FALSE(c.gone);
  EXPECT_EQ(w.line().summary(), "0 - - 1/1");
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
}

TEST(WorldTcp, APairWithAStoppedReaderHoldsNoMoreThanItsWindows) {
  World w;
  ASSERT_TRUE(w.push({tcp_listener("t", 9000, "a"), cluster("a"), endpoints("a", {"10.1.0.2:80"})}));
  Peer& c = w.connect(9000);
  c.send(letters(2'000'000));
  Peer& o = w.accepted(0);
  o.reads = false;
  w.pass(10 * kSec);
  EXPECT_GT(c.unsent.size(), 1'500'000u);
  EXPECT_LT(w.holdings().mbufs, 400u);
  o.reads = true;
  c.finish();
  EXPECT_TRUE(w.until([&] { return o.gone; }, 60 * kSec));
  EXPECT_TRUE(o.received == letters(2'000'000));
  w.line();
}

}  // namespace
}  // namespace sluice::world
