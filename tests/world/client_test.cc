// Clients that vanish, dawdle, break the protocol or ask for more than there is.
#include "tests/world/world.h"

namespace sluice::world {
namespace {

const std::string kGone = "downstream_remote_disconnect";

TEST(WorldClient, ThatResetsInsideItsHeadLeavesARecordThatBelievesNothing) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("GET /secret HTTP/1.1\r\nHost: h\r\n");
  w.pass(10 * kMs);
  c.reset();
  const Line l = w.line();
  EXPECT_EQ(l.summary(), "0 DC " + kGone + " 0/0");
  EXPECT_EQ(l.method + l.path, "--");
}

TEST(WorldClient, ThatEndsInsideItsHeadToo) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("GET / HTTP/1.1\r\nHost");
  w.pass(10 * kMs);
  c.finish();
  EXPECT_EQ(w.line().summary(), "0 DC " + kGone + " 0/0");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
}

TEST(WorldClient, ThatComesAndGoesWithoutAByteLeavesNoRecord) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer &a = w.connect(), &b = w.connect();
  w.pass(10 * kMs);
  EXPECT_EQ(w.holdings().downstreams, 2u);
  a.reset();
  b.finish();
  EXPECT_TRUE(w.until([&] { return w.holdings().downstreams == 0; }));
}

TEST(WorldClient, ThatResetsOrEndsInsideItsBodyTakesItsOriginsConnectionAlong) {
  for (const bool reset : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    Peer& c = w.connect();
    c.send(post(1000) + letters(400));
    Peer& o = w.accepted(0);
    EXPECT_TRUE(w.until([&] { return o.received.size() > 400; }));
    if (reset) c.reset();
    else c.finish();
    EXPECT_EQ(w.line().summary(), "0 DC " + kGone + " 400/0");
    EXPECT_TRUE(w.until([&] { return o.gone; }));
    EXPECT_EQ(o.end, StreamEnd::kReset) << "the origin must not take half a body for a whole one";
  }
}

TEST(WorldClient, ThatResetsOrEndsWhileItsAnswerComesTakesItsOriginsConnectionAlong) {
  for (const bool reset : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    o.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf");
    EXPECT_TRUE(w.until([&] { return c.received.ends_with("half"); }));
    if (reset) c.reset();
    else c.finish();
    EXPECT_EQ(w.line().summary(), "200 DC " + kGone + " 0/4");
    EXPECT_TRUE(w.until([&] { return o.gone; }));
    EXPECT_EQ(o.end, StreamEnd::kReset);
  }
}

TEST(WorldClient, ThatGoesWhileItsOriginIsConnectedToLeavesNothing) {
  World w;
  w.origins.deaf.insert(World::origin(2).ip);
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  w.pass(500 * kMs);
  EXPECT_EQ(w.holdings().upstreams, 1u);
  c.reset();
  EXPECT_EQ(w.line().summary(), "0 DC " + kGone + " 0/0");
  w.pass(10 * kMs);
  EXPECT_EQ(w.holdings().upstreams, 0u);
}

TEST(WorldClient, ThatGoesDuringABackOffLeavesNothing) {
  World w;
  ASSERT_TRUE(w.push(
      plain(R"("retry_policy": {"retry_on": "5xx", "num_retries": 3, "retry_back_off": {"base_interval": "9s", "max_interval": "9s"}})")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
  EXPECT_TRUE(w.until([&] { return w.workers[0]->proxy_counters().retries.get() == 1; }));
  c.reset();
  EXPECT_EQ(w.line().flags, "DC");
}

TEST(WorldClient, ThatPipelinesAndResetsGetsARecordForWhatWasUnderWay) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet + kGet + kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  c.reset();
  EXPECT_EQ(w.line().summary(), "0 DC " + kGone + " 0/0");
  w.pass(10 * kMs);
  EXPECT_EQ(w.holdings().exchanges, 0u);
}

// Where the listener says so, who has not spoken within listener_filters_timeout does not speak TLS (a protocol whose server begins).
TEST(WorldClient, ThatIsSilentToTheTlsInspectorIsCutOffOrTakenAsPlain) {
  const std::string inspector = R"("listener_filters_timeout": "2s", "listener_filters": [{"name": "envoy.filters.listener.tls_inspector",
      "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}])";
  for (const bool goes_on : {false, true}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    ASSERT_TRUE(w.push({http_listener({.more = inspector + (goes_on ? R"(, "continue_on_listener_filters_timeout": true)" : "")})}));
    w.origins.on_turn = [](Peer& p) {
      while (p.take()) p.send(ok("x"));
    };
    Peer& c = w.connect();
    Peer& half = w.connect();
    half.send("\x16");  // it may be TLS's first byte
    w.pass(1900 * kMs);
    EXPECT_FALSE(c.gone);
    w.pass(200 * kMs);
    EXPECT_EQ(c.gone, !goes_on);
    if (!goes_on) continue;
    EXPECT_EQ(w.message(half).status(), 400);
    EXPECT_EQ(w.line().summary(), "400 DPE http1.codec_error 0/11");
    c.send(kGet);
    EXPECT_EQ(w.message(c).status(), 200);
    w.line();
  }
}

TEST(WorldClient, ThatFallsSilentInsideItsHeadGetsA408) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("GET / HTTP/1.1\r\nHost");
  w.pass(9 * kSec);
  EXPECT_EQ(w.lines_unread(), 0u);
  const Message m = w.message(c);
  EXPECT_EQ(m.status(), 408);
  EXPECT_EQ(m.field("connection"), "close");
  EXPECT_EQ(w.line().summary(), "408 - request_header_timeout 0/22");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
}

TEST(WorldClient, ThatTricklesItsHeadGetsA408AllTheSame) {
  World w;
  ASSERT_TRUE(w.push(plain("", R"("request_headers_timeout": "3s")")));
  Peer& c = w.connect();
  const std::string head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  for (size_t i = 0; i < 10 && !w.lines_unread(); i++) {
    c.send(head.substr(i, 1));
    w.pass(500 * kMs);
  }
  EXPECT_EQ(w.line().details, "request_header_timeout");
  EXPECT_EQ(w.message(c).status(), 408);
}

// The cable is out: no FIN, no RST, no ACK.
TEST(WorldClient, WhoseCableIsCutIsForgottenInsideItsHead) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("GET / HTTP/1.1\r\nHost");
  w.pass(10 * kMs);
  w.client.cut = true;
  EXPECT_EQ(w.line(20 * kSec).details, "request_header_timeout");
  EXPECT_TRUE(w.until([&] { return w.holdings().tcp_streams == 0; }, 70 * kSec));
  EXPECT_EQ(w.holdings().mbufs, 0u);
}

TEST(WorldClient, WhoseCableIsCutInsideItsBodyIsForgottenAtTheIdleTimeout) {
  World w;
  ASSERT_TRUE(w.push(plain("", R"("stream_idle_timeout": "5s")")));
  Peer& c = w.connect();
  c.send(post(1000) + letters(400));
  Peer& o = w.accepted(0);
  EXPECT_TRUE(w.until([&] { return o.received.size() > 400; }));
  w.client.cut = true;
  EXPECT_EQ(w.line(20 * kSec).summary(), "408 SI stream_idle_timeout 400/14") << "Envoy: 408 while the request is not whole";
  EXPECT_TRUE(w.until([&] { return w.holdings().tcp_streams == 0; }, 70 * kSec));
}

TEST(WorldClient, WhoseCableIsCutInsideItsAnswerIsForgottenAfterTheSendStall) {
  World w({.proxy = {.send_stall_timeout = 5 * kSec}});
  ASSERT_TRUE(w.push(plain(R"("timeout": "0s")")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + letters(1'000'000));
  EXPECT_TRUE(w.until([&] { return c.received.size() > 10'000; }));
  w.client.cut = true;
  const Line l = w.line(20 * kSec);
  EXPECT_EQ(l.status + " " + l.flags + " " + l.details, "200 DC downstream_send_stalled");
  EXPECT_TRUE(w.until([&] { return o.gone; }));
  EXPECT_TRUE(w.until([&] { return w.holdings().tcp_streams == 0; }, 70 * kSec));
}

TEST(WorldClient, ThatDoesNotReadHoldsTheOriginBackAndIsCutOffOnlyWhenItTakesNothingAtAll) {
  World w({.proxy = {.send_stall_timeout = 5 * kSec}});
  ASSERT_TRUE(w.push(plain(R"("timeout": "0s")")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + letters(1'000'000));
  for (int i = 0; i < 5; i++) {  // 20 s in all, but never 5 s without a byte
    c.reads = false;
    w.pass(4 * kSec);
    EXPECT_LT(w.holdings().mbufs, 400u);
    c.reads = true;
    w.step();
    w.step();
  }
  EXPECT_EQ(w.lines_unread(), 0u);
  EXPECT_GT(o.unsent.size(), 100'000u) << "the origin must have been held back";
  c.reads = false;
  const Line l = w.line(20 * kSec);
  EXPECT_EQ(l.status + " " + l.flags + " " + l.details, "200 DC downstream_send_stalled");
}

TEST(WorldClient, ThatDoesNotReadItsLocalAnswersHoldsOnlyItself) {
  World w({.proxy = {.send_stall_timeout = 5 * kSec}});
  ASSERT_TRUE(w.push({http_listener(), routes({route_with("/", R"("direct_response": {"status": 200, "body": {"inline_string": ")" +
                                                                   letters(4000) + R"("}})")})}));
  Peer& c = w.connect();
  c.reads = false;
  std::string all;
  for (int i = 0; i < 200; i++) all += get("/");
  c.send(all);
  EXPECT_TRUE(w.until([&] { return w.lines_unread() > 0 && w.holdings().downstreams == 0; }, 20 * kSec));
  const std::vector<Line> l = w.lines(w.lines_unread());
  EXPECT_LT(l.size(), 60u);
  for (size_t i = 0; i + 1 < l.size(); i++) EXPECT_EQ(l[i].summary(), "200 - direct_response 0/4000");
  EXPECT_EQ(l.back().details, "downstream_send_stalled");
}

TEST(WorldClient, ThatKeepsItsConnectionIdleIsClosedInOrder) {
  World w;
  ASSERT_TRUE(w.push(plain("", R"("common_http_protocol_options": {"idle_timeout": "2s"})")));
  Peer &used = w.connect(), &never = w.connect();
  used.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send(ok("x"));
  w.message(used);
  w.line();
  EXPECT_TRUE(w.until([&] { return used.gone && never.gone; }));
  EXPECT_EQ(used.end, StreamEnd::kFinished);
  EXPECT_EQ(never.end, StreamEnd::kFinished);
}

TEST(WorldClient, WhoseConnectionGrowsTooOldGetsItsAnswerAndThenTheEnd) {
  World w;
  ASSERT_TRUE(w.push(plain("", R"("common_http_protocol_options": {"max_connection_duration": "2s"})")));
  Peer& c = w.connect();
  w.pass(1 * kSec);
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  w.pass(2 * kSec);
  o.send(ok("x"));
  EXPECT_EQ(w.message(c).field("connection"), "close");
  EXPECT_EQ(w.line().summary(), "200 - via_upstream 0/1");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
}

TEST(WorldClient, WhoseHeadIsTooLargeGetsA431) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  for (const bool many : {false, true}) {
    Peer& c = w.connect();
    std::string head = "GET / HTTP/1.1\r\nHost: h\r\n";
    if (many)
      for (int i = 0; i < 150; i++) head += "x-" + std::to_string(i) + ": y\r\n";
    else head += "x: " + letters(70'000) + "\r\n";
    c.send(head + "\r\n");
    EXPECT_EQ(w.message(c).status(), 431);
    const Line l = w.line();
    EXPECT_EQ(l.status + " " + l.flags, "431 DPE");
    EXPECT_EQ(l.details, many ? "http1.too_many_headers" : "http1.headers_too_large");
    EXPECT_TRUE(w.until([&] { return c.gone; }, 70 * kSec));
  }
}

TEST(WorldClient, ThatSpeaksGarbageGetsA400AndNothingOfItIsLogged) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  for (const char* garbage : {"\x16\x03\x01\x05\x06\x07\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nbad field\r\n\r\n",
                              "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    Peer& c = w.connect();
    c.send(garbage);
    EXPECT_EQ(w.message(c).status(), 400) << garbage;
    const Line l = w.line();
    EXPECT_EQ(l.status + " " + l.flags + " " + l.method, "400 DPE -") << garbage;
    EXPECT_TRUE(w.until([&] { return c.gone; }, 70 * kSec));
  }
}

TEST(WorldClient, WhoseChunksBreakTakesTheOriginsRequestAlong) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  Peer& o = w.accepted(0);
  c.send("zz\r\n");
  EXPECT_EQ(w.message(c).status(), 400);
  const Line l = w.line();
  EXPECT_EQ(l.status + " " + l.flags, "400 DPE");
  EXPECT_TRUE(w.until([&] { return o.gone; }));
  EXPECT_EQ(o.end, StreamEnd::kReset);
}

TEST(WorldClient, BeyondTheConnectionLimitIsResetAndTheOthersGoOn) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  w.origins.on_turn = [](Peer& p) {
    while (p.take()) p.send(ok("x"));
  };
  w.connect();
  w.pass(10 * kMs);  // ARP
  for (int i = 1; i < 150; i++) w.connect();
  w.pass(1 * kSec);
  size_t refused = 0;
  for (Peer& p : w.client.peers) refused += p.gone;
  EXPECT_EQ(refused, 22u);  // World's limit is 128
  w.client.peers[3].send(kGet);
  EXPECT_EQ(w.message(w.client.peers[3]).body, "x");
  w.line();
}

TEST(WorldClient, ThatAsksForTheReadyPortLearnsIfTheWorkerIsReady) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect(15021);
  c.send(get("/healthz/ready"));
  EXPECT_EQ(w.message(c).status(), 200);
  w.drain();
  c.send(get("/healthz/ready"));
  EXPECT_EQ(w.message(c).status(), 503);
}

TEST(WorldClient, WhenMbufsAreFewEverythingIsSlowerAndNothingIsLost) {
  World w({.mbufs_held = 40});
  ASSERT_TRUE(w.push(plain(R"("timeout": "0s")", R"("stream_idle_timeout": "0s")")));
  w.origins.on_turn = [](Peer& p) {
    while (const auto m = p.take()) p.send(ok(m->body));
  };
  const std::string body = letters(300'000);
  for (int i = 0; i < 6; i++) w.connect().send(post(body.size()) + body);
  for (Peer& c : w.client.peers) EXPECT_TRUE(w.message(c, false, 600 * kSec).body == body);
  for (const Line& l : w.lines(6)) EXPECT_EQ(l.summary(), "200 - via_upstream 300000/300000");
}

}  // namespace
}  // namespace sluice::world
