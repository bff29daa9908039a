// New tables while connections and requests are under way; draining.
#include "tests/world/world.h"

namespace sluice::world {
namespace {

const std::string kInspector = R"("listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config":
    {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}])";

void answer_all(World& w) {
  w.origins.on_turn = [](Peer& p) {
    while (const auto m = p.take()) p.send(ok(p.local().to_string()));
  };
}

TEST(WorldPush, ARequestUnderWayEndsWhereItBeganAndTheNextUsesTheNewTables) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  ASSERT_TRUE(w.push({routes({route("/", "b")}), cluster("b"), endpoints("b", {"10.1.0.3:80"})}));
  w.pass(10 * kMs);
  o.send(ok("old"));
  EXPECT_EQ(w.message(c).body, "old");
  c.send(kGet);
  Peer& n = w.accepted(1);
  EXPECT_EQ(n.local(), World::origin(3));
  w.message(n);
  n.send(ok("new"));
  EXPECT_EQ(w.message(c).body, "new");
  EXPECT_EQ(w.line().cluster, "a");
  EXPECT_EQ(w.line().cluster, "b");
}

TEST(WorldPush, ManyPushesWhileABodyPassesDoNotTouchIt) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  const std::string body = letters(300'000);
  c.send(post(body.size()) + body);
  Peer& o = w.accepted(0);
  for (int i = 0; i < 40; i++) {
    w.push({routes({route("/", i % 2 ? "a" : "b"), route("/" + std::to_string(i), "a")}), cluster("b"), endpoints("b", {"10.1.0.3:80"}),
            endpoints("a", {i % 2 ? "10.1.0.2:80" : "10.1.0.4:80"}),
            http_listener({.hcm = R"("stream_idle_timeout": ")" + std::to_string(100 + i) + "s\""})});
    w.step();
  }
  EXPECT_TRUE(w.message(o).body == body);
  o.send(ok(body));
  EXPECT_TRUE(w.message(c).body == body);
  EXPECT_EQ(w.line().summary(), "200 - via_upstream 300000/300000");
}

TEST(WorldPush, TheNextRequestOfAKeptConnectionObeysTheNewPolicy) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  EXPECT_EQ(w.message(c).status(), 200);
  ASSERT_TRUE(w.push({http_listener({.filters = rbac("DENY", {"/a"})})}));
  c.send(kGet);
  EXPECT_EQ(w.message(c).status(), 403);
  c.send(get("/b"));
  EXPECT_EQ(w.message(c).status(), 200);
  w.line();
  EXPECT_EQ(w.line().summary(), "403 - rbac_access_denied_matched_policy[/a] 0/19");
  w.line();
}

// Shadow rules say what they would do; only rules do it.
TEST(WorldPush, ShadowRulesAreCountedAndDecideNothing) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  std::string shadow = rbac("DENY", {"/a"});
  shadow.replace(shadow.find("\"rules\""), 7, "\"shadow_rules\"");
  ASSERT_TRUE(w.push({http_listener({.filters = shadow})}));
  Peer& c = w.connect();
  for (const std::string& request : {kGet, get("/b"), kGet}) {
    c.send(request);
    EXPECT_EQ(w.message(c).status(), 200);
  }
  const proxy::ProxyCounters& n = w.workers[0]->proxy_counters();
  EXPECT_EQ(n.rbac_shadow_denied.get(), 2u);
  EXPECT_EQ(n.rbac_shadow_allowed.get(), 1u);
  EXPECT_EQ(n.rbac_denied.get() + n.rbac_allowed.get(), 0u);
  w.lines(3);
}

TEST(WorldPush, AKeptConnectionThatTheNewNetworkFiltersDenyTakesNoFurtherRequest) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  ASSERT_TRUE(w.push({http_listener({.network = network_rbac("DENY", "192.0.2.0/24")})}));
  Peer& c = w.connect();
  c.send(kGet);
  EXPECT_EQ(w.message(c).status(), 200);
  ASSERT_TRUE(w.push({http_listener({.network = network_rbac("DENY", "10.0.0.0/24")})}));
  c.send(kGet);
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  EXPECT_EQ(c.received, "");
  Peer& d = w.connect();
  EXPECT_TRUE(w.until([&] { return d.gone; }));
  EXPECT_EQ(w.line().status, "200");
}

TEST(WorldPush, AConnectionThatIsStillInspectedObeysTheNewPolicy) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  ASSERT_TRUE(w.push({http_listener({.more = kInspector})}));
  Peer& c = w.connect();
  w.pass(10 * kMs);
  EXPECT_EQ(w.holdings().downstreams, 1u);
  ASSERT_TRUE(w.push({http_listener({.filters = rbac("DENY", {"/a"}), .more = kInspector})}));
  w.pass(10 * kMs);
  c.send(kGet);
  EXPECT_EQ(w.message(c).status(), 403);
  EXPECT_EQ(w.line().status, "403");
}

TEST(WorldPush, AConnectionThatIsStillInspectedGoesWithItsListener) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  ASSERT_TRUE(w.push({http_listener({.more = kInspector})}));
  Peer& c = w.connect();
  w.pass(10 * kMs);
  w.remove({{compile::kListenerType, "listener"}});
  w.pass(10 * kMs);
  c.send(kGet);
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  EXPECT_EQ(c.received, "");
}

TEST(WorldPush, NoOutcomeOfRoutingLeavesBeforeTheVerdict) {
  World w;
  ASSERT_TRUE(w.push({http_listener({.filters = rbac("ALLOW", {"/allowed"})}),
                      routes({route("/allowed", "a"), route_with("/redirect", R"("redirect": {"host_redirect": "x"})"),
                              route_with("/direct", R"("direct_response": {"status": 200, "body": {"inline_string": "secret"}})"),
                              route("/nocluster", "none")}),
                      cluster("a"), endpoints("a", {"10.1.0.2:80"})}));
  answer_all(w);
  Peer& c = w.connect();
  for (const char* path : {"/redirect", "/direct", "/nocluster", "/nowhere"}) {
    c.send(get(path));
    const Message m = w.message(c);
    EXPECT_EQ(m.status(), 403) << path;
    EXPECT_EQ(m.body, "RBAC: access denied") << path;
    EXPECT_FALSE(m.has("location")) << path;
    EXPECT_EQ(w.line().summary(), "403 - rbac_access_denied_matched_policy[none] 0/19") << path;
  }
  c.send(get("/allowed"));
  EXPECT_EQ(w.message(c).status(), 200);
  w.line();
}

TEST(WorldPush, AnEndpointThatGoesTakesItsIdleConnectionsAndNoRequestUnderWay) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer &c = w.connect(), &d = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  d.send(kGet);
  Peer& idle = w.accepted(1);
  w.message(idle);
  idle.send(ok("x"));
  w.message(d);
  ASSERT_TRUE(w.push({endpoints("a", {"10.1.0.3:80"})}));
  EXPECT_TRUE(w.until([&] { return idle.gone; }));
  EXPECT_EQ(idle.end, StreamEnd::kFinished);
  o.send(ok("y"));
  EXPECT_EQ(w.message(c).body, "y");
  c.send(kGet);
  Peer& n = w.accepted(2);
  EXPECT_EQ(n.local(), World::origin(3));
  w.message(n);
  n.send(ok("z"));
  EXPECT_EQ(w.message(c).body, "z");
  w.lines(3);
}

// It would not be taken again, and nobody would look at it until its idle timeout, an hour.
TEST(WorldPush, AConnectionThatIsLentWhileItsEndpointGoesEndsWhenItComesBack) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  ASSERT_TRUE(w.push({endpoints("a", {"10.1.0.3:80"})}));
  w.pass(10 * kMs);
  EXPECT_FALSE(o.gone);
  o.send(ok("x"));
  EXPECT_EQ(w.message(c).body, "x");
  EXPECT_TRUE(w.until([&] { return o.gone; }));
  EXPECT_EQ(o.end, StreamEnd::kFinished);
  EXPECT_EQ(w.holdings().upstreams, 0u);
  w.line();
}

TEST(WorldPush, AListenerThatGoesClosesWhoIsIdleAndLetsTheOthersFinish) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer &idle = w.connect(), &busy = w.connect(), &late = w.connect();
  w.pass(10 * kMs);
  busy.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  late.send(kGet);
  Peer& p = w.accepted(1);
  w.message(p);
  p.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");  // its head has left: no "connection: close" can be said
  EXPECT_TRUE(w.until([&] { return late.received.ends_with("half"); }));
  w.remove({{compile::kListenerType, "listener"}});
  EXPECT_TRUE(w.until([&] { return idle.gone; }));
  EXPECT_EQ(idle.end, StreamEnd::kFinished);
  Peer& fresh = w.connect();
  EXPECT_TRUE(w.until([&] { return fresh.gone; }));
  EXPECT_EQ(fresh.end, StreamEnd::kRefused);
  o.send(ok("x"));
  EXPECT_EQ(w.message(busy).field("connection"), "close");
  EXPECT_TRUE(w.until([&] { return busy.gone; }));
  p.send("whole.");
  EXPECT_EQ(w.message(late).body, "halfwhole.");
  EXPECT_TRUE(w.until([&] { return late.gone; })) << "nothing is in flight any more";
  EXPECT_EQ(late.end, StreamEnd::kFinished);
  for (const Line& l : w.lines(2)) EXPECT_EQ(l.flags, "-");
}

TEST(WorldPush, WhoIsNotDoneAtTheDrainDeadlineIsCutOffAndTheRecordSaysSo) {
  World w({.proxy = {.drain_deadline = 5 * kSec}});
  ASSERT_TRUE(w.push(plain(R"("timeout": "0s")")));
  Peer &hangs = w.connect(), &half = w.connect();
  hangs.send(kGet);
  w.message(w.accepted(0));
  half.send(kGet);
  Peer& p = w.accepted(1);
  w.message(p);
  p.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
  w.pass(10 * kMs);
  w.remove({{compile::kListenerType, "listener"}});
  w.pass(4 * kSec);
  EXPECT_EQ(w.lines_unread(), 0u);
  std::vector<Line> l = w.lines(2);
  if (l[0].status != "0") std::swap(l[0], l[1]);
  EXPECT_EQ(l[0].summary(), "0 DC downstream_local_disconnect 0/0");
  EXPECT_EQ(l[1].summary(), "200 DC downstream_local_disconnect 0/4");
  EXPECT_TRUE(w.until([&] { return hangs.gone && half.gone; }));
}

TEST(WorldPush, AListenerThatComesBackServesNewConnections) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  w.message(c);
  w.remove({{compile::kListenerType, "listener"}});
  w.pass(100 * kMs);
  ASSERT_TRUE(w.push({http_listener()}));
  Peer& d = w.connect();
  d.send(kGet);
  EXPECT_EQ(w.message(d).status(), 200);
  w.lines(2);
}

TEST(WorldPush, AListenerThatTurnsFromHttpToTcpClosesItsHttpConnections) {
  World w;
  answer_all(w);
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  w.message(c);
  ASSERT_TRUE(w.push({tcp_listener("listener", 80, "a")}));
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  Peer& d = w.connect();
  d.send(kGet);
  EXPECT_EQ(w.message(d).status(), 200);
  d.finish();
  EXPECT_EQ(w.line().status, "200");
  EXPECT_EQ(w.line().status, "0");
}

TEST(WorldPush, TunnelsOfAListenerThatGoesEndAtTheDeadline) {
  World w({.proxy = {.drain_deadline = 5 * kSec}});
  ASSERT_TRUE(w.push({tcp_listener("t", 9000, "a"), cluster("a"), endpoints("a", {"10.1.0.2:80"})}));
  Peer& c = w.connect(9000);
  c.send("x");
  Peer& o = w.accepted(0);
  w.pass(10 * kMs);
  w.remove({{compile::kListenerType, "t"}});
  w.pass(4 * kSec);
  EXPECT_FALSE(c.gone);
  EXPECT_TRUE(w.until([&] { return c.gone && o.gone; }));
  EXPECT_EQ(w.line().summary(), "0 - - 1/0");
}

TEST(WorldDrain, TheDrainCommandIsDoneWhenTheLastAnswerHasGone) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer &idle = w.connect(), &busy = w.connect();
  w.pass(10 * kMs);
  busy.send(kGet + kGet);  // the second is not begun any more
  Peer& o = w.accepted(0);
  w.message(o);
  w.drain();
  EXPECT_TRUE(w.until([&] { return idle.gone; }));
  EXPECT_FALSE(w.workers[0]->drained());
  Peer& fresh = w.connect();
  EXPECT_TRUE(w.until([&] { return fresh.gone; }));
  EXPECT_EQ(fresh.end, StreamEnd::kRefused);
  ASSERT_TRUE(w.push(plain(R"("timeout": "77s")")));  // new tables open nothing
  Peer& again = w.connect();
  EXPECT_TRUE(w.until([&] { return again.gone; }));
  EXPECT_EQ(again.end, StreamEnd::kRefused);
  o.send(ok("x"));
  EXPECT_EQ(w.message(busy).field("connection"), "close");
  EXPECT_TRUE(w.until([&] { return w.workers[0]->drained(); }));
  EXPECT_EQ(w.line().status, "200");
}

TEST(WorldDrain, AConnectionWhoseHandshakeEndsAfterTheCommandIsNotKept) {
  World w({.wire = {.delay_us = 50'000}});
  ASSERT_TRUE(w.push(plain()));
  w.pass(200 * kMs);
  Peer& c = w.connect();
  EXPECT_TRUE(w.until([&] { return w.holdings().syn_entries == 1; }));
  w.drain();
  EXPECT_TRUE(w.until([&] { return w.workers[0]->drained() && w.holdings().tcp_streams == 0; }, 20 * kSec));
  EXPECT_TRUE(w.until([&] { return c.gone; }));
}

}  // namespace
}  // namespace sluice::world
