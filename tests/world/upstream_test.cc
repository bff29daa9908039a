// Origins that fail in every way they can, and what Envoy's words for it are; retries; circuit thresholds; weights.
#include <map>

#include "tests/world/world.h"

namespace sluice::world {
namespace {

const std::string kReset = "upstream connect error or disconnect/reset before headers. reset reason: ";

// A client that asked and what it got: the answer and its record.
struct Outcome {
  Message answer;
  Line line;
};
Outcome outcome(World& w, Peer& c, Usec most = 20 * kSec) {
  Outcome o;
  o.answer = w.message(c, false, most);
  o.line = w.line();
  return o;
}

TEST(WorldOrigin, ThatRefusesIsA503WithTheTransportFailure) {
  World w;
  w.origins.unlisten(World::origin(2));
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  const Outcome o = outcome(w, c);
  const std::string body = kReset + "remote connection failure, transport failure reason: delayed connect error: Connection refused";
  EXPECT_EQ(o.answer.status(), 503);
  EXPECT_EQ(o.answer.body, body);
  EXPECT_EQ(o.line.summary(),
            "503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} 0/" +
                std::to_string(body.size()));
  EXPECT_EQ(o.line.transport, "delayed_connect_error:_Connection_refused");
  EXPECT_EQ(o.line.upstream, "10.1.0.2:80");
  c.send(kGet);  // the client's connection goes on
  EXPECT_EQ(outcome(w, c).answer.status(), 503);
}

TEST(WorldOrigin, ThatNeverAnswersSynTimesOutAfterTheClustersConnectTimeout) {
  World w;
  w.origins.deaf.insert(World::origin(2).ip);
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  const Outcome o = outcome(w, c);
  EXPECT_EQ(o.answer.body, kReset + "connection timeout");
  EXPECT_EQ(o.line.status + " " + o.line.flags + " " + o.line.details, "503 UF upstream_reset_before_response_started{connection_timeout}");
  EXPECT_NEAR(std::stoi(o.line.duration_ms), 2000, 20);
}

TEST(WorldOrigin, WhoseAddressNobodyHasIsUnreachable) {
  World w;
  ASSERT_TRUE(w.push({http_listener(), routes({route("/", "a")}), cluster("a", "", "9s"), endpoints("a", {"10.1.0.77:80"})}));
  Peer& c = w.connect();
  c.send(kGet);
  const Outcome o = outcome(w, c);
  EXPECT_EQ(o.line.status + " " + o.line.flags + " " + o.line.details,
            "503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_No_route_to_host}");
}

TEST(WorldOrigin, ThatHangsIsA504AfterTheRoutesTimeout) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "1s")")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  const Outcome got = outcome(w, c);
  EXPECT_EQ(got.answer.body, "upstream request timeout");
  EXPECT_EQ(got.line.summary(), "504 UT response_timeout 0/24");
  EXPECT_NEAR(std::stoi(got.line.duration_ms), 1000, 20);
  EXPECT_TRUE(w.until([&] { return o.gone; }));
  EXPECT_EQ(o.end, StreamEnd::kReset);
}

TEST(WorldOrigin, ThatHangsInTheMiddleOfItsAnswerIsCutShortAtTheRoutesTimeout) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "1s")")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
  EXPECT_EQ(w.line().summary(), "200 UT response_timeout 0/4");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  EXPECT_TRUE(c.received.ends_with("half"));
}

TEST(WorldOrigin, ThatResetsOrEndsWithoutAByteIsA503) {
  for (const bool reset : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    if (reset) o.reset();
    else o.finish();
    const Outcome got = outcome(w, c);
    EXPECT_EQ(got.answer.body, kReset + "connection termination");
    EXPECT_EQ(got.line.summary(), "503 UC upstream_reset_before_response_started{connection_termination} 0/95");
  }
}

TEST(WorldOrigin, ThatEndsInsideItsHeadIsAProtocolError) {
  for (const bool reset : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    o.send("HTTP/1.1 200 OK\r\ncontent-le");
    w.pass(10 * kMs);
    if (reset) o.reset();
    else o.finish();
    const Outcome got = outcome(w, c);
    EXPECT_EQ(got.answer.status(), 502);
    EXPECT_EQ(got.line.summary(), "502 UPE upstream_reset_before_response_started{protocol_error} 0/87");
  }
}

TEST(WorldOrigin, ThatEndsInsideItsBodyCutsTheClientsAnswerShort) {
  for (const char* head : {"content-length: 100\r\n\r\n0123456789", "transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n",
                           "transfer-encoding: chunked\r\n\r\nff\r\n0123456789"})
    for (const bool reset : {true, false}) {
      World w;
      ASSERT_TRUE(w.push(plain()));
      Peer& c = w.connect();
      c.send(kGet);
      Peer& o = w.accepted(0);
      w.message(o);
      o.send(std::string("HTTP/1.1 200 OK\r\n") + head);
      w.pass(10 * kMs);
      if (reset) o.reset();
      else o.finish();
      EXPECT_EQ(w.line().summary(), "200 UPE upstream_reset_after_response_started{protocol_error} 0/10");
      EXPECT_TRUE(w.until([&] { return c.gone; }));
      EXPECT_FALSE(c.take()) << "the client must be able to see that it is not whole";
      EXPECT_NE(c.received.find("0123456789"), std::string::npos);
    }
}

TEST(WorldOrigin, ThatResetsAnAnswerWithoutALengthCutsItShort) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 200 OK\r\n\r\n0123456789");
  w.pass(10 * kMs);
  o.reset();
  EXPECT_EQ(w.line().flags, "UPE");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  EXPECT_FALSE(c.take());
}

TEST(WorldOrigin, ThatSaysMoreThanItsLengthIsNotBelievedASecondAnswer) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send(ok("first") + ok("smuggled"));
  EXPECT_EQ(outcome(w, c).answer.body, "first");
  c.send(kGet);
  Peer& fresh = w.accepted(1);
  w.message(fresh);
  fresh.send(ok("second"));
  EXPECT_EQ(outcome(w, c).answer.body, "second");
  w.pass(10 * kMs);
  fresh.send(ok("smuggled later"));  // while nobody asked
  w.pass(10 * kMs);
  c.send(kGet);
  Peer& third = w.accepted(2);
  w.message(third);
  third.send(ok("third"));
  EXPECT_EQ(outcome(w, c).answer.body, "third");
}

TEST(WorldOrigin, ThatSendsGarbageIsAProtocolError) {
  for (const std::string& garbage : {std::string("\x16\x03\x01\x02", 4), std::string("SSH-2.0-OpenSSH\r\n\r\n"),
                                     std::string("HTTP/1.1 2000 OK\r\n\r\n"), std::string("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    o.send(garbage);
    o.finish();
    const Outcome got = outcome(w, c);
    EXPECT_EQ(got.line.status + " " + got.line.flags + " " + got.line.details,
              "502 UPE upstream_reset_before_response_started{protocol_error}")
        << garbage;
  }
}

TEST(WorldOrigin, ThatBreaksItsChunksCutsTheAnswerShort) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloXX");
  EXPECT_EQ(w.line().summary(), "200 UPE upstream_reset_after_response_started{protocol_error} 0/5");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
}

TEST(WorldOrigin, ThatAnswersEarlyIsHeardWholeAndTheConnectionEnds) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(post(300'000) + letters(200'000));  // and 100,000 that never come
  Peer& o = w.accepted(0);
  o.reads = false;
  w.pass(100 * kMs);
  o.send("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 20000\r\n\r\n" + letters(20'000));
  const Message m = w.message(c);
  EXPECT_EQ(m.status(), 413);
  EXPECT_TRUE(m.body == letters(20'000));
  EXPECT_EQ(m.field("connection"), "close");
  const Line l = w.line();
  EXPECT_EQ(l.status + l.flags, "413-");
  EXPECT_TRUE(w.until([&] { return c.gone; }, 70 * kSec));
}

TEST(WorldOrigin, ThatDoesNotReadHoldsTheClientBackAndLosesNothing) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  const std::string body = letters(2'000'000);
  c.send(post(body.size()) + body);
  Peer& o = w.accepted(0);
  o.reads = false;
  w.pass(20 * kSec);
  EXPECT_GT(c.unsent.size(), 1'500'000u) << "windows of 64 KiB must hold the rest back";
  EXPECT_LT(w.holdings().mbufs, 400u);
  o.reads = true;
  EXPECT_TRUE(w.message(o, false, 60 * kSec).body == body);
  o.send(ok("x"));
  EXPECT_EQ(outcome(w, c).line.received, "2000000");
}

TEST(WorldOrigin, ThatStopsForAnIdleTimeoutIsA504OrACutAnswer) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "0s")", R"("stream_idle_timeout": "3s")")));
  Peer& c = w.connect();
  c.send(kGet);
  Outcome got = outcome(w, c);
  EXPECT_EQ(got.line.summary(), "504 SI stream_idle_timeout 0/14");
  c.send(kGet);
  Peer& o = w.accepted(1);
  w.message(o);
  for (int i = 0; i < 5; i++) {
    o.send(i == 0 ? "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" : "x");
    w.pass(2 * kSec);
  }
  EXPECT_EQ(w.line().summary(), "200 SI stream_idle_timeout 0/4");
}

TEST(WorldOrigin, InterimAnswersAreNotTheAnswer) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(w.message(c).status(), 100);
  c.send("abc");
  Peer& o = w.accepted(0);
  EXPECT_EQ(w.message(o).body, "abc");
  o.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok("y"));
  EXPECT_EQ(outcome(w, c).answer.body, "y");
  c.send(kGet);
  w.message(o);
  for (int i = 0; i < 200; i++) o.send("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(outcome(w, c).line.flags, "UPE");
}

TEST(WorldOrigin, AFinishedRequestsOwnTimeoutIsOver) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "20s")", R"("request_timeout": "1s")")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  w.pass(100 * kMs);
  const uint64_t before = w.workers[0]->counters().useful_turns.get();
  w.pass(10 * kSec);
  EXPECT_LT(w.workers[0]->counters().useful_turns.get() - before, 100u) << "a timer that is always due";
  o.send(ok("x"));
  EXPECT_EQ(outcome(w, c).line.summary(), "200 - via_upstream 0/1");
}

// ---- pooled connections

TEST(WorldPool, AConnectionThatEndedWhileIdleCostsNothing) {
  for (const bool reset : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain()));
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    o.send(ok("x"));
    outcome(w, c);
    if (reset) o.reset();
    else o.finish();
    w.pass(10 * kMs);
    EXPECT_EQ(w.holdings().upstreams, 0u);
    c.send(kGet);
    Peer& fresh = w.accepted(1);
    w.message(fresh);
    fresh.send(ok("y"));
    EXPECT_EQ(outcome(w, c).line.attempts, "1");
  }
}

TEST(WorldPool, AConnectionThatDiesUnderItsRequestIsRetriedWhereThePolicySaysSo) {
  for (const bool retry : {true, false}) {
    World w;
    ASSERT_TRUE(w.push(plain(retry ? R"("retry_policy": {"retry_on": "reset", "num_retries": 2})" : "")));
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    o.send(ok("x"));
    outcome(w, c);
    c.send(kGet);
    EXPECT_TRUE(w.until([&] { return !o.received.empty(); }));
    o.reset();
    if (retry) {
      Peer& fresh = w.accepted(1);
      w.message(fresh);
      fresh.send(ok("y"));
      const Outcome got = outcome(w, c);
      EXPECT_EQ(got.answer.body, "y");
      EXPECT_EQ(got.line.summary() + " " + got.line.attempts, "200 - via_upstream 0/1 2");
    } else {
      EXPECT_EQ(outcome(w, c).line.summary(), "503 UC upstream_reset_before_response_started{connection_termination} 0/95");
    }
  }
}

TEST(WorldPool, AnIdleConnectionEndsAtTheClustersIdleTimeout) {
  World w;
  ASSERT_TRUE(w.push(plain("", "", R"("typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
      {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http_protocol_options": {}},
       "common_http_protocol_options": {"idle_timeout": "2s", "max_requests_per_connection": 2}}})")));
  Peer& c = w.connect();
  for (size_t i = 0; i < 3; i++) {
    c.send(kGet);
    Peer& o = w.accepted(i / 2);  // two requests for each connection
    w.message(o);
    o.send(ok("x"));
    outcome(w, c);
  }
  Peer& o = w.origins.peers[1];
  w.pass(1500 * kMs);
  EXPECT_FALSE(o.peer_finished);
  w.pass(1 * kSec);
  EXPECT_TRUE(o.gone);
  EXPECT_EQ(o.end, StreamEnd::kFinished);
}

TEST(WorldPool, ALateAcknowledgementOfALargeRequestDoesNotEndTheIdleConnection) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(post(120'000) + letters(120'000));
  Peer& o = w.accepted(0);
  o.reads = false;  // its window takes half, our send buffer the other half
  w.pass(1 * kSec);
  o.send(ok("x"));
  EXPECT_EQ(outcome(w, c).answer.body, "x");
  EXPECT_EQ(w.holdings().upstreams_idle, 1u);
  o.reads = true;
  w.pass(1 * kSec);
  EXPECT_EQ(w.holdings().upstreams_idle, 1u);
  EXPECT_TRUE(w.message(o).body == letters(120'000));
  c.send(kGet);
  w.message(o);
  o.send(ok("y"));
  EXPECT_EQ(outcome(w, c).answer.body, "y");
}

// ---- retries

TEST(WorldRetry, GoesToAnotherHostAndTheClientSeesOnlyTheSecondAnswer) {
  World w({.seed = 5});
  ASSERT_TRUE(w.push({http_listener(),
                      routes({route("/", "a", R"("retry_policy": {"retry_on": "5xx", "num_retries": 2, "host_selection_retry_max_attempts": 5,
                        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config":
                        {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]})")},
                             R"("include_request_attempt_count": true)"),
                      cluster("a"), endpoints("a", {"10.1.0.2:80", "10.1.0.3:80"})}));
  // Every first attempt fails, wherever it goes.
  std::map<std::string, std::vector<std::string>> tried;  // path -> addresses
  w.origins.on_turn = [&](Peer& p) {
    while (const auto m = p.take()) {
      tried[m->path()].push_back(p.local().to_string());
      EXPECT_EQ(m->field("x-envoy-attempt-count"), std::to_string(tried[m->path()].size()));
      p.send(tried[m->path()].size() == 1 ? "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno" : ok("yes"));
    }
  };
  Peer& c = w.connect();
  for (int i = 0; i < 20; i++) {
    c.send(get("/" + std::to_string(i)));
    const Outcome o = outcome(w, c);
    EXPECT_EQ(o.answer.body, "yes");
    EXPECT_EQ(o.line.summary() + " " + o.line.attempts, "200 - via_upstream 0/3 2");
    const auto& hosts = tried["/" + std::to_string(i)];
    ASSERT_EQ(hosts.size(), 2u);
    EXPECT_NE(hosts[0], hosts[1]);
  }
  EXPECT_EQ(w.workers[0]->proxy_counters().retries.get(), 20u);
}

TEST(WorldRetry, GivesUpAtTheLimitAndPassesTheLastAnswerOn) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("retry_policy": {"retry_on": "5xx", "num_retries": 2})")));
  int asked = 0;
  w.origins.on_turn = [&](Peer& p) {
    while (p.take()) p.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1\r\n\r\n" + std::to_string(++asked));
  };
  Peer& c = w.connect();
  c.send(kGet);
  const Outcome o = outcome(w, c);
  EXPECT_EQ(o.answer.body, "3");
  EXPECT_EQ(o.line.summary() + " " + o.line.attempts, "503 URX via_upstream 0/1 3");
}

TEST(WorldRetry, SendsTheBodyAgainWhileItIsSmallAndOtherwisePassesTheAnswerOn) {
  for (const size_t bytes : {size_t{60'000}, size_t{80'000}}) {
    World w;
    ASSERT_TRUE(w.push(plain(R"("retry_policy": {"retry_on": "5xx", "num_retries": 1})")));
    std::vector<std::string> bodies;
    w.origins.on_turn = [&](Peer& p) {
      while (const auto m = p.take()) {
        bodies.push_back(m->body);
        p.send(bodies.size() == 1 ? "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno" : ok("yes"));
      }
    };
    Peer& c = w.connect();
    c.send(post(bytes) + letters(bytes));
    EXPECT_EQ(outcome(w, c).answer.body, bytes < 65'536 ? "yes" : "no");
    EXPECT_EQ(bodies.size(), bytes < 65'536 ? 2u : 1u);
    for (const std::string& b : bodies) EXPECT_TRUE(b == letters(bytes));
  }
}

TEST(WorldRetry, WithoutARetryLeftInTheCircuitTheAnswerPasses) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("retry_policy": {"retry_on": "5xx", "num_retries": 3})", "", circuit(R"("max_retries": 0)"))));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy");
  const Outcome got = outcome(w, c);
  EXPECT_EQ(got.answer.body, "busy");
  EXPECT_EQ(got.line.summary() + " " + got.line.attempts, "503 UO via_upstream 0/4 1");
}

TEST(WorldRetry, ATryThatTakesTooLongIsTriedAgain) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "10s", "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.5s"})")));
  Peer& c = w.connect();
  c.send(kGet);
  w.message(w.accepted(0));
  Peer& o = w.accepted(1);
  w.message(o);
  o.send(ok("x"));
  EXPECT_EQ(outcome(w, c).line.attempts, "2");
  c.send(kGet);
  const Outcome both = outcome(w, c);  // both tries hang
  EXPECT_EQ(both.answer.status(), 504);
  EXPECT_EQ(both.line.details, "upstream_per_try_timeout");
  EXPECT_NE(both.line.flags.find("UT"), std::string::npos);
}

TEST(WorldRetry, AClusterThatGoesBetweenTwoTriesEndsInNoCluster) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("retry_policy": {"retry_on": "5xx", "num_retries": 3, "retry_back_off": {"base_interval": "5s", "max_interval": "50s"}})")));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
  EXPECT_TRUE(w.until([&] { return w.workers[0]->proxy_counters().retries.get() == 1; }));
  w.remove({{compile::kClusterType, "a"}});
  const Outcome got = outcome(w, c);
  EXPECT_EQ(got.line.summary(), "503 NC cluster_not_found 0/0");
}

// ---- circuit thresholds

TEST(WorldCircuit, BeyondTheRequestLimitIsOverflowAndTheUnitComesBack) {
  World w;
  ASSERT_TRUE(w.push(plain("", "", circuit(R"("max_requests": 1)"))));
  Peer &first = w.connect(), &second = w.connect();
  first.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  second.send(kGet);
  const Outcome over = outcome(w, second);
  EXPECT_EQ(over.answer.field("x-envoy-overloaded"), "true");
  EXPECT_EQ(over.line.summary(), "503 UO upstream_reset_before_response_started{overflow} 0/81");
  o.send(ok("x"));
  EXPECT_EQ(outcome(w, first).line.status, "200");
  second.send(kGet);
  w.message(o);
  o.send(ok("y"));
  EXPECT_EQ(outcome(w, second).answer.body, "y");
}

TEST(WorldCircuit, BeyondTheConnectionLimitRequestsWaitInLineAndBeyondThePendingLimitTheyOverflow) {
  World w;
  ASSERT_TRUE(w.push(plain("", "", circuit(R"("max_connections": 1, "max_pending_requests": 2)"))));
  std::vector<Peer*> c;
  for (int i = 0; i < 4; i++) {
    c.push_back(&w.connect());
    c.back()->send(get("/" + std::to_string(i)));
    if (i == 0) w.message(w.accepted(0));
    else w.pass(10 * kMs);
  }
  EXPECT_EQ(w.holdings().waiting, 2u);
  EXPECT_EQ(outcome(w, *c[3]).line.flags, "UO");
  Peer& o = w.origins.peers[0];
  for (int i = 0; i < 3; i++) {
    o.send(ok(std::to_string(i)));
    EXPECT_EQ(outcome(w, *c[size_t(i)]).answer.body, std::to_string(i));
    if (i == 2) break;
    EXPECT_EQ(w.message(o).path(), "/" + std::to_string(i + 1));
  }
  EXPECT_EQ(w.origins.peers.size(), 1u);
}

TEST(WorldCircuit, WhoWaitsInLineHasTheRoutesTimeoutAndLeavesTheLine) {
  World w;
  ASSERT_TRUE(w.push(plain(R"("timeout": "3s")", "", circuit(R"("max_connections": 1)"))));
  Peer &first = w.connect(), &second = w.connect();
  first.send(kGet);
  w.message(w.accepted(0));
  w.pass(2 * kSec);
  second.send(kGet);
  EXPECT_EQ(outcome(w, first).line.flags, "UT");  // its connection goes with it, so the second gets one
  Peer& o = w.accepted(1);
  w.message(o);
  Peer& third = w.connect();
  third.send(kGet);
  EXPECT_EQ(outcome(w, second).line.flags, "UT");
  EXPECT_EQ(outcome(w, third).line.flags, "UT");
  // One that hangs without a timeout of its own, and one in line behind it.
  ASSERT_TRUE(w.push({routes({route("/slow", "a", R"("timeout": "0s")"), route("/", "a", R"("timeout": "3s")")})}));
  first.send(get("/slow"));
  w.pass(100 * kMs);
  second.send(kGet);
  const Outcome late = outcome(w, second);
  EXPECT_EQ(late.line.summary(), "504 UT response_timeout 0/24");
  EXPECT_EQ(w.holdings().waiting, 0u);
  third.send(kGet);
  w.pass(100 * kMs);
  EXPECT_EQ(w.holdings().waiting, 1u);
  third.reset();
  EXPECT_EQ(w.line().flags, "DC");
  EXPECT_EQ(w.holdings().waiting, 0u);
  first.reset();
  EXPECT_EQ(w.line().flags, "DC");
}

TEST(WorldCircuit, ALimitHoldsForBothWorkersTogether) {
  World w({.workers = 2});
  ASSERT_TRUE(w.push(plain("", "", circuit(R"("max_requests": 1)"))));
  Peer &on_first = w.connect_to_worker(0), &on_second = w.connect_to_worker(1);
  on_first.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  on_second.send(kGet);
  EXPECT_EQ(outcome(w, on_second).line.flags, "UO");
  o.send(ok("x"));
  EXPECT_EQ(outcome(w, on_first).line.flags, "-");
  on_second.send(kGet);
  Peer& other = w.accepted(1);
  w.message(other);
  other.send(ok("y"));
  EXPECT_EQ(outcome(w, on_second).answer.body, "y");
}

TEST(WorldCircuit, AnIdleConnectionOfOneWorkerDoesNotStarveTheOther) {
  World w({.workers = 2});
  ASSERT_TRUE(w.push(plain(R"("timeout": "0s")", "", circuit(R"("max_connections": 1)"))));
  w.origins.on_turn = [](Peer& p) {
    while (p.take()) p.send(ok("x"));
  };
  Peer &on_first = w.connect_to_worker(0), &on_second = w.connect_to_worker(1);
  for (int i = 0; i < 3; i++) {
    on_first.send(kGet);
    EXPECT_EQ(outcome(w, on_first).answer.body, "x");
    on_second.send(kGet);
    EXPECT_EQ(outcome(w, on_second).answer.body, "x");
  }
  EXPECT_EQ(w.origins.peers.size(), 2u) << "Envoy: a pool without a connection always gets one";
}

TEST(WorldBalance, WeightedClustersShareByWeight) {
  World w({.seed = 11});
  ASSERT_TRUE(w.push({http_listener(),
                      routes({route_with("/", R"("route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1},
                        {"name": "none", "weight": 0}]}})")}),
                      cluster("a"), cluster("b"), endpoints("a", {"10.1.0.2:80"}), endpoints("b", {"10.1.0.3:80"})}));
  w.origins.on_turn = [](Peer& p) {
    while (p.take()) p.send(ok("x"));
  };
  Peer& c = w.connect();
  std::map<std::string, int> served;
  for (int i = 0; i < 400; i++) {
    c.send(kGet);
    served[outcome(w, c).line.cluster]++;
  }
  EXPECT_EQ(served.size(), 2u);
  EXPECT_NEAR(served["a"], 300, 40);
}

TEST(WorldBalance, WithoutAClusterOrAnEndpointTheAnswerSaysSo) {
  World w;
  ASSERT_TRUE(w.push({http_listener(), routes({route("/none", "none"), route("/", "a")}), cluster("a"), endpoints("a", {})}));
  Peer& c = w.connect();
  c.send(get("/none"));
  EXPECT_EQ(outcome(w, c).line.summary(), "503 NC cluster_not_found 0/0");
  c.send(get("/"));
  EXPECT_EQ(outcome(w, c).line.summary(), "503 UH no_healthy_upstream 0/19");
}

}  // namespace
}  // namespace sluice::world
