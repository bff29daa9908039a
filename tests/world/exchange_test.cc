// One worker, one request after another: what arrives where, what the access log says, and that nothing is left.
#include "tests/world/world.h"

namespace sluice::world {
namespace {

TEST(WorldExchange, ARequestReachesTheOriginAndItsAnswerTheClient) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  const Message request = w.message(o);
  EXPECT_EQ(request.start, "GET /a?b=c HTTP/1.1");
  EXPECT_EQ(request.field("host"), "shop");
  o.send(ok("hello"));
  const Message answer = w.message(c);
  EXPECT_EQ(answer.start, "HTTP/1.1 200 OK");
  EXPECT_EQ(answer.body, "hello");
  EXPECT_EQ(answer.field("server"), "envoy");
  const Line l = w.line();
  EXPECT_EQ(l.summary(), "200 - via_upstream 0/5");
  EXPECT_EQ(l.method + " " + l.path + " " + l.cluster + " " + l.upstream + " " + l.attempts, "GET /a?b=c a 10.1.0.2:80 1");
}

TEST(WorldExchange, BodiesOfAnySizePassByteForByteBothWays) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  size_t n = 0;
  for (const size_t bytes : {size_t{1}, size_t{1460}, size_t{20'000}, size_t{300'000}}) {
    Peer& c = w.connect();
    const std::string up = letters(bytes), down = letters(bytes, 'A');
    c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n" + up);
    Peer& o = w.accepted(0);
    const Message request = w.message(o);
    EXPECT_TRUE(request.body == up) << bytes;
    o.send(ok(down));
    EXPECT_TRUE(w.message(c).body == down) << bytes;
    EXPECT_EQ(w.line().summary(), "200 - via_upstream " + std::to_string(bytes) + "/" + std::to_string(bytes));
    n++;
  }
  EXPECT_EQ(w.origins.peers.size(), 1u) << "one connection served all " << n;
}

TEST(WorldExchange, ChunkedBodiesPassAndAreLoggedWithoutTheirFraming) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  Peer& o = w.accepted(0);
  w.pass(10 * kMs);
  c.send("4\r\ndefg\r\n0\r\n\r\n");
  EXPECT_EQ(w.message(o).body, "abcdefg");
  o.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n");
  EXPECT_EQ(w.message(c).body, "12345");
  EXPECT_EQ(w.line().summary(), "200 - via_upstream 7/5");
}

TEST(WorldExchange, PipelinedRequestsAreAnsweredInTheirOrder) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  std::string all;
  for (int i = 0; i < 40; i++) all += get("/" + std::to_string(i));
  c.send(all);
  Peer& o = w.accepted(0);
  for (int i = 0; i < 40; i++) {
    EXPECT_EQ(w.message(o).path(), "/" + std::to_string(i));
    o.send(ok("answer " + std::to_string(i)));
    EXPECT_EQ(w.message(c).body, "answer " + std::to_string(i));
    EXPECT_EQ(w.line().path, "/" + std::to_string(i));
  }
  EXPECT_EQ(w.origins.peers.size(), 1u);
}

TEST(WorldExchange, PipelinedLocalAnswersInOneSegmentAllCome) {
  World w;
  ASSERT_TRUE(w.push({http_listener(), routes({route_with("/", R"("direct_response": {"status": 200, "body": {"inline_string": "x"}})")})}));
  Peer& c = w.connect();
  std::string all;
  for (int i = 0; i < 100; i++) all += get("/");
  c.send(all);
  for (int i = 0; i < 100; i++) {
    EXPECT_EQ(w.message(c).body, "x");
    EXPECT_EQ(w.line().summary(), "200 - direct_response 0/1");
  }
}

TEST(WorldExchange, AKeptConnectionToTheOriginServesOtherClients) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  for (int i = 0; i < 3; i++) {
    Peer& c = w.connect();
    c.send(kGet);
    Peer& o = w.accepted(0);
    w.message(o);
    o.send(ok("x"));
    w.message(c);
    EXPECT_EQ(w.line().status, "200");
    c.finish();
    EXPECT_TRUE(w.until([&] { return c.gone; }));
    EXPECT_EQ(w.holdings().upstreams_idle, 1u);
  }
  EXPECT_EQ(w.origins.peers.size(), 1u);
}

TEST(WorldExchange, AnOriginThatSaysCloseIsNotReused) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  for (size_t i = 0; i < 2; i++) {
    c.send(kGet);
    Peer& o = w.accepted(i);
    w.message(o);
    o.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx");
    EXPECT_EQ(w.message(c).body, "x");
    EXPECT_EQ(w.line().status, "200");
  }
}

TEST(WorldExchange, AnAnswerWithoutALengthEndsWithTheOriginsConnection) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send(kGet);
  Peer& o = w.accepted(0);
  w.message(o);
  o.send("HTTP/1.1 200 OK\r\n\r\nall that there is");
  o.finish();
  const Message m = w.message(c);
  EXPECT_EQ(m.body, "all that there is");
  EXPECT_EQ(m.field("transfer-encoding"), "chunked");
  EXPECT_EQ(w.line().summary(), "200 - via_upstream 0/17");
  c.send(kGet);  // and the client's connection goes on
  w.message(w.accepted(1));
  w.origins.peers[1].send(ok("y"));
  EXPECT_EQ(w.message(c).body, "y");
  w.line();
}

TEST(WorldExchange, HeadAnd304AndNoContentHaveNoBodyAndTheConnectionGoesOn) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
  Peer& o = w.accepted(0);
  EXPECT_EQ(w.message(o).start, "HEAD / HTTP/1.1");
  o.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
  EXPECT_EQ(w.message(c, true).field("content-length"), "1000");
  for (const char* status : {"304 Not Modified", "204 No Content"}) {
    c.send(kGet);
    w.message(o);
    o.send(std::string("HTTP/1.1 ") + status + "\r\n\r\n");
    EXPECT_EQ(w.message(c).status(), std::atoi(status));
  }
  for (const Line& l : w.lines(3)) EXPECT_EQ(l.sent, "0");
  EXPECT_EQ(w.origins.peers.size(), 1u);
}

TEST(WorldExchange, ConnectionCloseFromTheClientEndsItsConnectionAfterTheAnswer) {
  World w;
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  Peer& o = w.accepted(0);
  w.message(o);
  o.send(ok("x"));
  EXPECT_EQ(w.message(c).field("connection"), "close");
  EXPECT_TRUE(w.until([&] { return c.gone; }));
  EXPECT_EQ(c.end, StreamEnd::kFinished);
  EXPECT_EQ(w.line().status, "200");
}

TEST(WorldExchange, OverABadWireEverythingStillArrives) {
  World w({.seed = 7, .wire = {.loss = 0.05, .duplicate = 0.02, .corrupt = 0.02, .reorder = 0.1, .delay_us = 500, .jitter_us = 500}});
  ASSERT_TRUE(w.push(plain()));
  Peer& c = w.connect();
  const std::string body = letters(200'000);
  c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n" + body);
  Peer& o = w.accepted(0, 60 * kSec);
  EXPECT_TRUE(w.message(o, false, 120 * kSec).body == body);
  o.send(ok(body));
  EXPECT_TRUE(w.message(c, false, 120 * kSec).body == body);
  EXPECT_EQ(w.line().summary(), "200 - via_upstream 200000/200000");
}

}  // namespace
}  // namespace sluice::world
