#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "dataplane/http/date.h"
#include "dataplane/http/format.h"
#include "dataplane/http/h1_parser.h"
#include "dataplane/http/h1_writer.h"
#include "dataplane/http/headers_policy.h"
#include "dataplane/http/path.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::http {
namespace {

ArenaPool& pool() {
  static ArenaPool p(100'000);
  return p;
}

struct Parsed {
  Refusal refusal = Refusal::kNone;
  bool head = false, complete = false, close = false;
  std::string method, path, authority, fields, body;
  size_t left = 0;  // bytes of the input behind the message
};

// Feeds `text` in pieces of `step` bytes.
Parsed parse_request(std::string_view text, size_t step = 1 << 20, bool tls = false) {
  Arena arena(pool());
  RequestHead head(arena);
  RequestParser parser(head, tls);
  Parsed out;
  size_t at = 0, given = 0;
  while (given < text.size() && !parser.complete() && out.refusal == Refusal::kNone) {
    given = std::min(text.size(), given + step);
    while (at < given && !parser.complete()) {
      const Fed fed = parser.feed(as_bytes(text.substr(at, given - at)));
      at += fed.consumed;
      out.body += as_text(fed.body);
      if (fed.event == Event::kRefused) {
        out.refusal = parser.refusal();
        break;
      }
    }
  }
  out.head = parser.head_done();
  out.complete = parser.complete();
  out.close = parser.wants_close();
  out.left = text.size() - at;
  out.method = head.method;
  out.path = head.path;
  out.authority = head.authority;
  for (const Field& f : head.fields.all()) ((out.fields += f.name) += "=") += std::string(f.value) + ";";
  return out;
}

TEST(FieldList, AskingForARepeatedFieldAgainAllocatesOnceUntilTheListChanges) {
  ArenaPool pool(4);
  Arena arena(pool);
  FieldList fields(arena);
  fields.add("x-a", "1");
  fields.add("x-a", "2");
  const char* first = fields.joined("x-a")->data();
  for (int i = 0; i < 100'000; i++) ASSERT_EQ(fields.joined("x-a")->data(), first);
  EXPECT_FALSE(fields.failed());
  fields.add("x-a", "3");
  EXPECT_EQ(fields.joined("x-a"), "1,2,3");
  fields.remove("x-a");
  EXPECT_EQ(fields.joined("x-a"), std::nullopt);
}

TEST(H1Request, IsTheSameHoweverItIsSplit) {
  const std::string text =
      "POST /a/b?c=d HTTP/1.1\r\nHost: shop.example.com\r\nX-Two: a\r\nx-two:  b \r\nTransfer-Encoding: Chunked\r\n\r\n"
      "5;x=\"y;\\\"z\";a;b=c\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\n";
  for (size_t step = 1; step <= text.size(); step++) {
    const Parsed p = parse_request(text, step);
    ASSERT_TRUE(p.complete) << step << " " << int(p.refusal);
    EXPECT_EQ(p.method, "POST");
    EXPECT_EQ(p.path, "/a/b?c=d");
    EXPECT_EQ(p.authority, "shop.example.com");
    EXPECT_EQ(p.fields, "x-two=a;x-two=b;transfer-encoding=Chunked;");
    EXPECT_EQ(p.body, "hello0123456789");
    EXPECT_EQ(p.left, 16u);
  }
}

struct RefusalRow {
  const char* what;
  std::string text;
  Refusal refusal;
};
std::string get(std::string more) { return "GET / HTTP/1.1\r\nHost: a\r\n" + more + "\r\n"; }
std::string post(std::string more) { return "POST / HTTP/1.1\r\nHost: a\r\n" + more; }

class H1Refusals : public testing::TestWithParam<RefusalRow> {};
TEST_P(H1Refusals, IsRefusedForItsReasonHoweverSplit) {
  for (size_t step : {size_t{1}, size_t{7}, size_t{1 << 20}}) {
    const Parsed p = parse_request(GetParam().text, step);
    EXPECT_EQ(int(p.refusal), int(GetParam().refusal)) << GetParam().what << " step " << step;
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, H1Refusals,
    testing::Values(
        RefusalRow{"lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"unknown method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"tab", "GET\t/\tHTTP/1.1\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"space in target", "GET /a b HTTP/1.1\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"no slash", "GET nothing HTTP/1.1\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"control in target", "GET /\x01 HTTP/1.1\r\n\r\n", Refusal::kInvalidCharacters},
        RefusalRow{"utf-8 target", "GET /\xc3\xa9 HTTP/1.1\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", Refusal::kLowVersion},
        RefusalRow{"HTTP/2.0", "GET / HTTP/2.0\r\n\r\n", Refusal::kLowVersion},
        RefusalRow{"http/1.1", "GET / http/1.1\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"https on plain", "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kHttpsOnPlain},
        RefusalRow{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", Refusal::kLineEnd},
        RefusalRow{"bare LF in a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Refusal::kLineEnd},
        RefusalRow{"bare CR", get("X: a\rb\r\n"), Refusal::kLineEnd},
        RefusalRow{"NUL", get(std::string("X: a\0b\r\n", 8)), Refusal::kInvalidCharacters},
        RefusalRow{"DEL", get("X: a\x7f\r\n"), Refusal::kInvalidCharacters},
        RefusalRow{"space before colon", get("X : y\r\n"), Refusal::kFieldLine},
        RefusalRow{"obs-fold", get("X: a\r\n b\r\n"), Refusal::kFieldLine},
        RefusalRow{"leading space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::kFieldLine},
        RefusalRow{"no colon", get("broken\r\n"), Refusal::kFieldLine}, RefusalRow{"empty name", get(": x\r\n"), Refusal::kFieldLine},
        RefusalRow{"bad name", get("x(y): v\r\n"), Refusal::kFieldLine}, RefusalRow{"second Host", get("Host: b\r\n"), Refusal::kHostTwice},
        RefusalRow{"same Host twice", get("Host: a\r\n"), Refusal::kHostTwice},
        RefusalRow{"space in Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::kAuthority},
        RefusalRow{"Connection names x-forwarded-for", get("Connection: X-Forwarded-For\r\n"), Refusal::kConnection},
        RefusalRow{"Connection names x-forwarded-host", get("Connection: a\r\nConnection: b, x-forwarded-host\r\n"), Refusal::kConnection},
        RefusalRow{"Connection names x-forwarded-proto", get("Connection: x-forwarded-proto\r\n"), Refusal::kConnection},
        RefusalRow{"Connection names a pseudo-header", get("Connection: :path\r\n"), Refusal::kConnection},
        RefusalRow{"fragment for a path", "GET http://a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"two userinfos", "GET http://u@v@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"userinfo with |", "GET http://u|@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"nothing but userinfo", "GET http://u@/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"two @ together", "GET http://u@@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"userinfo with [", "GET http://u[@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"no host", "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"port 65536", "GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"empty port", "GET http://a:/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"underscore in a host", "GET http://a_b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"no address in brackets", "GET http://[zz]/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"bytes behind the brackets", "GET http://[::1]x/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"* for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"ftp", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kScheme},
        RefusalRow{"CONNECT without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"CONNECT with a path", "CONNECT a:1/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"CONNECT with userinfo", "CONNECT u@a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"CONNECT with a length", "CONNECT a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Refusal::kConnectBody},
        RefusalRow{"CONNECT with a coding", "CONNECT a:1 HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
                   Refusal::kCoding},
        RefusalRow{"no version", "GET /\r\nHost: a\r\n\r\n", Refusal::kLowVersion},
        RefusalRow{"no version, but a space", "GET / \r\nHost: a\r\n\r\n", Refusal::kLowVersion},
        RefusalRow{"M-SEARCH", "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kRequestLine},
        RefusalRow{"control in the method", "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::kInvalidCharacters},
        RefusalRow{"no method begins so", "\x01", Refusal::kRequestLine},
        RefusalRow{"a bad length and TE", post("Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n"), Refusal::kLengthAndCoding},
        RefusalRow{"HTTP/1.0 and a bad length", "GET / HTTP/1.0\r\nContent-Length: x\r\n\r\n", Refusal::kContentLength},
        RefusalRow{"HTTP/1.0 and a bad URL", "GET http:///x HTTP/1.0\r\nHost: a\r\n\r\n", Refusal::kUrl},
        RefusalRow{"HTTP/1.0 and a bad field", "GET / HTTP/1.0\r\nbroken\r\n\r\n", Refusal::kFieldLine},
        RefusalRow{"a bad URL and CL with TE", "GET http:///x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                   Refusal::kLengthAndCoding},
        RefusalRow{"a bad authority and TE gzip", "GET / HTTP/1.1\r\nHost: a b\r\nTransfer-Encoding: gzip\r\n\r\n", Refusal::kCoding},
        RefusalRow{"CL twice and TE", post("Content-Length: 1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
                   Refusal::kContentLength},
        RefusalRow{"Connection names ten fields", get("Connection: a,b,c,d,e,f,g,h,i,j\r\n"), Refusal::kConnection},
        RefusalRow{"Connection names a TE of 256 bytes", get("Connection: te\r\nTE: " + std::string(256, 'x') + "\r\n"),
                   Refusal::kConnection},
        RefusalRow{"CL and TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Refusal::kLengthAndCoding},
        RefusalRow{"TE identity and CL", post("Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi"), Refusal::kLengthAndCoding},
        RefusalRow{"CL twice", post("Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"), Refusal::kContentLength},
        RefusalRow{"CL list", post("Content-Length: 2, 2\r\n\r\nhi"), Refusal::kContentLength},
        RefusalRow{"CL signed", post("Content-Length: +2\r\n\r\nhi"), Refusal::kContentLength},
        RefusalRow{"CL minus", post("Content-Length: -2\r\n\r\nhi"), Refusal::kContentLength},
        RefusalRow{"CL hex", post("Content-Length: 0x2\r\n\r\nhi"), Refusal::kContentLength},
        RefusalRow{"CL empty", post("Content-Length: \r\n\r\n"), Refusal::kContentLength},
        RefusalRow{"CL overflow", post("Content-Length: 99999999999999999999\r\n\r\nhi"), Refusal::kContentLength},
        RefusalRow{"TE gzip", post("Transfer-Encoding: gzip, chunked\r\n\r\n"), Refusal::kCoding},
        RefusalRow{"TE twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), Refusal::kCoding},
        RefusalRow{"TE xchunked", post("Transfer-Encoding: xchunked\r\n\r\n"), Refusal::kCoding},
        RefusalRow{"TE with VT",
                   post("Transfer-Encoding: \x0b"
                        "chunked\r\n\r\n"),
                   Refusal::kInvalidCharacters},
        RefusalRow{"chunk not hex", post("Transfer-Encoding: chunked\r\n\r\nzz\r\n"), Refusal::kChunk},
        RefusalRow{"chunk 0x", post("Transfer-Encoding: chunked\r\n\r\n0x5\r\n"), Refusal::kChunk},
        RefusalRow{"chunk size empty", post("Transfer-Encoding: chunked\r\n\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk size too long", post("Transfer-Encoding: chunked\r\n\r\n1234567890abcdef0\r\n"), Refusal::kChunk},
        RefusalRow{"chunk longer than said", post("Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension with LF", post("Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension empty", post("Transfer-Encoding: chunked\r\n\r\n1;\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension without a name", post("Transfer-Encoding: chunked\r\n\r\n1;=b\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension without a value", post("Transfer-Encoding: chunked\r\n\r\n1;a=\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension twice =", post("Transfer-Encoding: chunked\r\n\r\n1;a==b\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension after the quotes", post("Transfer-Encoding: chunked\r\n\r\n1;a=\"b\"c\r\nx\r\n0\r\n\r\n"),
                   Refusal::kChunk},
        RefusalRow{"chunk extension quoted name", post("Transfer-Encoding: chunked\r\n\r\n1;\"a\"=b\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension with space", post("Transfer-Encoding: chunked\r\n\r\n1;a b\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension after space", post("Transfer-Encoding: chunked\r\n\r\n1 ;a\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension with an open quote", post("Transfer-Encoding: chunked\r\n\r\n1;a=\"b\r\nx\r\n0\r\n\r\n"),
                   Refusal::kChunk},
        RefusalRow{"chunk extension doubled", post("Transfer-Encoding: chunked\r\n\r\n1;;a\r\nx\r\n0\r\n\r\n"), Refusal::kChunk},
        RefusalRow{"chunk extension with obs-text in quotes", post("Transfer-Encoding: chunked\r\n\r\n1;a=\"\xe9\"\r\nx\r\n0\r\n\r\n"),
                   Refusal::kChunk},
        RefusalRow{"trailer without colon", post("Transfer-Encoding: chunked\r\n\r\n0\r\nbroken\r\n\r\n"), Refusal::kTrailer},
        RefusalRow{"NUL in a trailer", post(std::string("Transfer-Encoding: chunked\r\n\r\n0\r\nx: \0\r\n\r\n", 42)),
                   Refusal::kInvalidCharacters},
        RefusalRow{"trailers without end", post("Transfer-Encoding: chunked\r\n\r\n0\r\nx: " + std::string(kHeaderBytesMax, 'y')),
                   Refusal::kTooLarge},
        RefusalRow{"one CR before", "\rGET / HTTP/1.1\r\n\r\n", Refusal::kLineEnd},
        RefusalRow{"garbage", std::string("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 11), Refusal::kRequestLine}));

TEST(H1Request, LimitsHoldAtTheBoundary) {
  auto fields = [](int n) {
    std::string s = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (int i = 1; i < n; i++) s += "x-" + std::to_string(i) + ": v\r\n";
    return s + "\r\n";
  };
  EXPECT_TRUE(parse_request(fields(100)).complete);
  EXPECT_EQ(int(parse_request(fields(101)).refusal), int(Refusal::kTooMany));
  auto bytes = [](size_t n) {
    const std::string front = "GET / HTTP/1.1\r\nHost: a\r\nx: ", back = "\r\n\r\n";
    return front + std::string(n - front.size() - back.size(), 'v') + back;
  };
  EXPECT_TRUE(parse_request(bytes(kHeaderBytesMax), 1400).complete);
  EXPECT_EQ(int(parse_request(bytes(kHeaderBytesMax + 1), 1400).refusal), int(Refusal::kTooLarge));
}

TEST(H1Request, KeepsTrailersOnlyWhenAskedTo) {
  const std::string text =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T:  1 \r\nContent-Length: 9\r\nx-u:\r\n\r\nGET";
  for (size_t step : {size_t{1}, size_t{7}, text.size()})
    for (const bool keep : {false, true}) {
      Arena arena(pool());
      RequestHead head(arena);
      FieldList trailers(arena);
      RequestParser parser(head, false);
      if (keep) parser.keep_trailers(trailers);
      size_t at = 0;
      while (at < text.size() && !parser.complete()) at += parser.feed(as_bytes(std::string_view(text).substr(at, step))).consumed;
      EXPECT_TRUE(parser.complete());
      EXPECT_EQ(text.size() - at, 3u);
      EXPECT_EQ(trailers.size(), keep ? 3u : 0u);
      EXPECT_EQ(head.fields.size(), 1u);
      if (keep) EXPECT_EQ(write_trailers(trailers, arena), "0\r\nx-t: 1\r\nx-u: \r\n\r\n");
    }
  std::string many = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
  for (int i = 0; i < 101; i++) many += "x: y\r\n";
  many += "\r\n";
  EXPECT_TRUE(parse_request(many).complete);
  Arena arena(pool());
  RequestHead head(arena);
  FieldList trailers(arena);
  RequestParser parser(head, false);
  parser.keep_trailers(trailers);
  size_t at = parser.feed(as_bytes(many)).consumed;
  EXPECT_EQ(parser.feed(as_bytes(std::string_view(many).substr(at))).event, Event::kRefused);
  EXPECT_EQ(int(parser.refusal()), int(Refusal::kTooMany));
}

TEST(H1Request, ConnectionMayHaveHostRemovedAndProxyConnectionMayClose) {
  for (const auto& [fields, target, has, close] : std::initializer_list<std::tuple<const char*, const char*, bool, bool>>{
           {"Connection: close, Host\r\n", "/", false, true},
           {"Connection: host\r\n", "http://b/", true, false},
           {"Proxy-Connection: keep-alive, close\r\n", "/", true, true},
           {"Connection: proxy-connection\r\nProxy-Connection: close\r\n", "/", true, false},
           {"Connection: a,b,c,d,e,f,g,h,i\r\n", "/", true, false}}) {
    const std::string text = "GET " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
    Arena arena(pool());
    RequestHead head(arena);
    RequestParser parser(head, false);
    EXPECT_EQ(parser.feed(as_bytes(text)).event, Event::kHead) << text;
    EXPECT_EQ(head.has_authority, has) << text;
    EXPECT_EQ(parser.wants_close(), close) << text;
  }
}

TEST(H1Request, TakesEmptyLinesAbsoluteTargetsAndLengths) {
  EXPECT_TRUE(parse_request("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1).complete);
  EXPECT_TRUE(parse_request("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 3).complete);
  EXPECT_EQ(parse_request("OPTIONS *?x HTTP/1.1\r\nHost: a\r\n\r\n").path, "*?x");  // 404 absolute_path_rejected, as in Envoy
  EXPECT_EQ(parse_request("CONNECT [::1]:80 HTTP/1.1\r\n\r\n").authority, "[::1]:80");
  EXPECT_EQ(parse_request("MSEARCH / HTTP/1.1\r\nHost: a\r\n\r\n").method, "MSEARCH");  // Envoy's list has it so
  EXPECT_EQ(parse_request("GET HTTP://[1.2.3.4]:0/x HTTP/1.1\r\nHost: a\r\n\r\n").authority, "[1.2.3.4]:0");
  Parsed p = parse_request("GET http://b.example:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(p.authority, "b.example:81");
  EXPECT_EQ(p.path, "/x?y");
  EXPECT_EQ(parse_request("GET http://u:p@b:1/ HTTP/1.1\r\nHost: a\r\n\r\n").authority, "b:1");
  EXPECT_EQ(parse_request("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n").path, "?q");  // 404 absolute_path_rejected, as in Envoy
  EXPECT_EQ(parse_request("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n").path, "/");
  EXPECT_EQ(parse_request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
  p = parse_request(post("Content-Length: 0002\r\nConnection: x, Close\r\n\r\nhiGET"));
  EXPECT_EQ(p.body, "hi");
  EXPECT_EQ(p.left, 3u);
  EXPECT_TRUE(p.close);
  EXPECT_TRUE(parse_request("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 100, true).complete);
}

struct Answer {
  Refusal refusal = Refusal::kNone;
  uint16_t status = 0;
  bool complete = false, keep_alive = false;
  std::string body;
};
Answer parse_response(std::string_view text, bool to_head = false, bool end = true, size_t step = 1 << 20) {
  Arena arena(pool());
  ResponseHead head(arena);
  ResponseParser parser(head, to_head);
  Answer out;
  for (size_t at = 0; at < text.size() && !parser.complete();) {
    const Fed fed = parser.feed(as_bytes(text.substr(at, step)));
    at += fed.consumed;
    out.body += as_text(fed.body);
    if (fed.event == Event::kRefused) {
      out.refusal = parser.refusal();
      return out;
    }
  }
  out.status = head.status;
  out.complete = parser.complete() || (end && parser.end_of_stream());
  out.keep_alive = parser.keep_alive();
  return out;
}

TEST(H1Response, FramesByStatusMethodAndFields) {
  for (size_t step : {size_t{1}, size_t{1000}}) {
    EXPECT_EQ(parse_response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiX", false, false, step).body, "hi");
    EXPECT_TRUE(parse_response("HTTP/1.1 204 No\r\n\r\n", false, false, step).complete);
    EXPECT_TRUE(parse_response("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", false, false, step).complete);
    EXPECT_TRUE(parse_response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, false, step).complete);
    EXPECT_EQ(parse_response("HTTP/1.1 200\r\n\r\nuntil the end", false, true, step).body, "until the end");
    EXPECT_FALSE(parse_response("HTTP/1.1 200 OK\r\n\r\nuntil", false, false, step).complete);
    EXPECT_FALSE(parse_response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", false, true, step).complete);
  }
  EXPECT_TRUE(parse_response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive);
  EXPECT_FALSE(parse_response("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive);
  EXPECT_FALSE(parse_response("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").keep_alive);
}

TEST(H1Response, RefusesWhatIsAmbiguous) {
  for (const char* bad :
       {"HTTQ/1.1 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"})
    EXPECT_NE(int(parse_response(bad).refusal), int(Refusal::kNone)) << bad;
}

std::string canonical(std::string_view path, PathOptions o = {}) {
  Arena arena(pool());
  const auto c = canonicalize(path, o, arena);
  return c.verdict == CanonicalPath::Verdict::kOk        ? std::string(c.path)
         : c.verdict == CanonicalPath::Verdict::kRefused ? "refused"
                                                         : "redirect " + std::string(c.path);
}

TEST(Canonicalize, BaseIsWhatEnvoyDidWithTheRecordedPaths) {
  EXPECT_EQ(canonical("/a/b/../c/./d"), "/a/c/d");
  EXPECT_EQ(canonical("/../../etc/passwd"), "/etc/passwd");
  EXPECT_EQ(canonical("/a%2fb"), "/a%2fb");
  EXPECT_EQ(canonical("/a\\b"), "/a/b");
  EXPECT_EQ(canonical("/a%2"), "/a%2");
  EXPECT_EQ(canonical("/a?x=/../b"), "/a?x=/../b");
  EXPECT_EQ(canonical("/%252e%252e/x"), "/%252e%252e/x");
  EXPECT_EQ(canonical("/a#frag"), "/a");
  EXPECT_EQ(canonical("//items/1"), "//items/1");
  EXPECT_EQ(canonical("/x/%2e%2E/items"), "/items");
  EXPECT_EQ(canonical("/%61dmin"), "/admin");
  EXPECT_EQ(canonical("/a/.."), "/");
  EXPECT_EQ(canonical("/a/."), "/a/");
  EXPECT_EQ(canonical("/a%00b"), "refused");
  EXPECT_EQ(canonical("a"), "refused");
}

TEST(Canonicalize, WhatNoPathMayHaveIsEscapedAndDecodingMakesNoNewEscapeAsInEnvoy) {
  EXPECT_EQ(canonical("/a\"<>^`{|}[]b?\"<>"), "/a%22%3C%3E%5E%60%7B%7C%7D[]b?\"<>");
  EXPECT_EQ(canonical("/%%4%61"), "/%%254a");
  EXPECT_EQ(canonical("/%%34%61"), "/%254a");
  EXPECT_EQ(canonical("/%%34a"), "/%254a");
  EXPECT_EQ(canonical("/%4%zz"), "/%4%zz");
  EXPECT_EQ(canonical("/%%2f"), "/%%2f");
  EXPECT_EQ(canonical("/{x}", {.normalize = false}), "/{x}");
  EXPECT_EQ(canonical("////", {.merge_slashes = true}), "//");
  EXPECT_EQ(canonical("/"), "/");
}

TEST(Canonicalize, WhatNeedsNothingIsNotCopied) {
  Arena arena(pool());
  const std::string_view path = "/api/v1/items;x=1,2/a.b?q=../x";
  EXPECT_EQ(canonicalize(path, {.merge_slashes = true}, arena).path.data(), path.data());
}

TEST(Canonicalize, OtherModes) {
  EXPECT_EQ(canonical("/a//b///c", {.merge_slashes = true}), "/a/b/c");
  EXPECT_EQ(canonical("/a%2f%2Fb%5cc", {true, true, EscapedSlashes::kUnescapeAndForward}), "/a/b/c");
  EXPECT_EQ(canonical("/a%2f..%2Fb", {true, true, EscapedSlashes::kUnescapeAndForward}), "/b");
  EXPECT_EQ(canonical("/a%2fb", {true, true, EscapedSlashes::kReject}), "refused");
  EXPECT_EQ(canonical("/a%2fb", {true, true, EscapedSlashes::kUnescapeAndRedirect}), "redirect /a/b");
  EXPECT_EQ(canonical("/a/../b", {.normalize = false}), "/a/../b");
}

TEST(Canonicalize, IsIdempotent) {
  const uint64_t seed = 20261124;
  SCOPED_TRACE("seed " + std::to_string(seed));
  Rng rng(seed);
  constexpr std::string_view kAlphabet[] = {"/",   "//",  ".", "..", "%2e", "%2E", "%2f", "%5C", "\\",  "a", "b", "%",
                                            "%61", "%25", "?", "#",  ";",   "{",   "4",   "%34", "%36", "2", "f"};
  for (int i = 0; i < 100'000; i++) {
    std::string p = "/";
    for (uint32_t n = rng.below(12); n > 0; n--) p += kAlphabet[rng.below(std::size(kAlphabet))];
    for (PathOptions o :
         {PathOptions{}, PathOptions{.merge_slashes = true}, PathOptions{true, true, EscapedSlashes::kUnescapeAndForward}}) {
      const std::string once = canonical(p, o);
      if (once == "refused") continue;
      ASSERT_EQ(canonical(once, o), once) << p;
      const std::string_view path = path_of(once);
      ASSERT_EQ(path.find("/../"), path.npos) << p;
      ASSERT_EQ(path.find('\\'), path.npos) << p;
    }
  }
}

TEST(Canonicalize, TheFuzzCorpusKeepsTheOracles) {
  unsigned files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/path")) {
    SCOPED_TRACE(entry.path().string());
    std::ifstream f(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(f), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    files++;
  }
  EXPECT_GE(files, 20u);
}

struct FakeSource : Source {
  bool append(const Piece& p, std::string& out) const override {
    switch (p.op) {
      case Op::kReq:
        if (p.a == ":method") return out += "GET", true;
        if (p.b == ":path") return out += "/long/path", true;
        return false;
      case Op::kResponseCode: return out += "200", true;
      case Op::kStartTime: return append_time(1'700'000'000'123'456, p.a, out), true;
      default: return false;
    }
  }
};

TEST(Format, RendersTextAndTypedJson) {
  FakeSource source;
  std::string out;
  const auto text =
      Format::compile("[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):5%\" %RESPONSE_CODE% %REQ(USER-AGENT)% 100%%\n");
  ASSERT_TRUE(text.has_value()) << text.error();
  (*text)->render(source, out);
  EXPECT_EQ(out, "[2023-11-14T22:13:20.123Z] \"GET /long\" 200 - 100%\n");
  const std::pair<std::string, std::string> fields[] = {
      {"status", "%RESPONSE_CODE%"}, {"agent", "%REQ(USER-AGENT)%"}, {"line", "\"%REQ(:METHOD)%\" %UPSTREAM_HOST%"}};
  out.clear();
  (*Format::compile_json(fields))->render(source, out);
  EXPECT_EQ(out, "{\"agent\":null,\"line\":\"\\\"GET\\\" -\",\"status\":200}\n");
  for (const char* bad : {"%NO_SUCH%", "%REQ%", "%REQ(x", "%START_TIME", "%REQ(x):y%"})
    EXPECT_FALSE(Format::compile(bad).has_value()) << bad;
}

TEST(HeadersPolicy, AStrangersRequestLosesWhatWouldSteerTheProxy) {
  Arena arena(pool());
  RequestHead head(arena);
  for (auto [n, v] : std::initializer_list<std::pair<const char*, const char*>>{{"X-Forwarded-For", "1.2.3.4, 5.6.7.8"},
                                                                                {"x-forwarded-for", "9.9.9.9"},
                                                                                {"x-forwarded-proto", "https"},
                                                                                {"x-envoy-retry-on", "5xx"},
                                                                                {"x-envoy-foo", "stays"},
                                                                                {"x-request-id", "mine"},
                                                                                {"x-forwarded-client-cert", "URI=spiffe://evil"}})
    head.fields.add(n, v);
  ForwardingOptions hcm;
  hcm.use_remote_address = true;
  hcm.forward_client_cert = ForwardClientCert::kSanitizeSet;
  Rng rng(1);
  const IpAddress client = mutate_request(head, hcm, {{Ipv4{1}, 80}, {*IpAddress::parse("10.10.0.2"), 1}, false, {}}, rng);
  EXPECT_EQ(client.to_string(), "10.10.0.2");
  EXPECT_EQ(*head.fields.joined("x-forwarded-for"), "1.2.3.4, 5.6.7.8,9.9.9.9,10.10.0.2");
  EXPECT_EQ(*head.fields.first("x-forwarded-proto"), "http");
  EXPECT_EQ(*head.fields.first("x-envoy-external-address"), "10.10.0.2");
  EXPECT_FALSE(head.fields.has("x-envoy-retry-on"));
  EXPECT_TRUE(head.fields.has("x-envoy-foo"));
  EXPECT_FALSE(head.fields.has("x-forwarded-client-cert"));
  EXPECT_EQ(head.fields.first("x-request-id")->size(), 36u);
}

TEST(HeadersPolicy, TrustedHopsChooseTheClient) {
  Arena arena(pool());
  RequestHead head(arena);
  head.fields.add("x-forwarded-for", "1.2.3.4, 5.6.7.8");
  ForwardingOptions hcm;
  hcm.use_remote_address = true;
  hcm.xff_trusted_hops = 1;
  Rng rng(1);
  EXPECT_EQ(mutate_request(head, hcm, {{Ipv4{1}, 80}, {*IpAddress::parse("10.10.0.2"), 1}, false, {}}, rng).to_string(), "5.6.7.8");
}

// Each row was asked of Envoy 1.37 (peer 10.10.0.2 here, another address there).
TEST(HeadersPolicy, TheTrustedPlaceInXForwardedForIsCountedByCommas) {
  struct Row {
    const char *xff, *client, *forwarded;
    uint32_t hops;
  };
  const Row rows[] = {{"1.1.1.1,2.2.2.2 ,3.3.3.3", "2.2.2.2", "1.1.1.1,2.2.2.2 ,3.3.3.3,10.10.0.2", 2},
                      {"1.1.1.1,,2.2.2.2", "10.10.0.2", "1.1.1.1,,2.2.2.2,10.10.0.2", 2},
                      {"1.1.1.1", "10.10.0.2", "1.1.1.1,10.10.0.2", 2},
                      {"1.1.1.1, junk", "10.10.0.2", "1.1.1.1, junk,10.10.0.2", 1},
                      {"", "10.10.0.2", "10.10.0.2", 1},
                      {",", "10.10.0.2", ",,10.10.0.2", 1}};
  for (const Row& row : rows) {
    Arena arena(pool());
    RequestHead head(arena);
    head.fields.add("x-forwarded-for", row.xff);
    ForwardingOptions hcm;
    hcm.use_remote_address = true;
    hcm.xff_trusted_hops = row.hops;
    Rng rng(1);
    EXPECT_EQ(mutate_request(head, hcm, {{Ipv4{1}, 80}, {*IpAddress::parse("10.10.0.2"), 1}, false, {}}, rng).to_string(), row.client)
        << row.xff;
    EXPECT_EQ(head.fields.joined("x-forwarded-for"), row.forwarded);
  }
}

TEST(HeadersPolicy, WhatEnvoyTakesFromStrangersAtTheEdgeAndBehindAProxy) {
  struct Row {
    const char *name, *value;
    bool at_edge, behind;
  };
  const Row rows[] = {{"x-envoy-attempt-count", "3", true, true},
                      {"x-envoy-upstream-stream-duration-ms", "1", false, false},
                      {"x-envoy-decorator-operation", "d", false, true},
                      {"x-envoy-original-path", "/x", false, true},
                      {"x-envoy-internal", "true", false, false},
                      {"x-envoy-max-retries", "9", false, false},
                      {"x-envoy-peer-metadata", "z", true, true},
                      {"referer", "http://h/a?b@c", true, true},
                      {"referer", "http://u@h/", false, false},
                      {"referer", "/a#b", false, false},
                      {"referer", "http://", false, false},
                      {"referer", "http://h:99999/", false, false},
                      {"referer", "http://a_b/", false, false},
                      {"referer", "1://a", false, false},
                      {"referer", "http://[::1]:80/", true, true},
                      {"referer", "a:b", false, false},
                      {"referer", "/a:b", true, true},
                      {"referer", "a b", false, false},
                      {"referer", "junk", true, true},
                      {"referer", "about:blank", false, false}};
  for (const Row& row : rows)
    for (const bool edge : {true, false}) {
      Arena arena(pool());
      RequestHead head(arena);
      head.fields.add(row.name, row.value);
      ForwardingOptions hcm;
      hcm.use_remote_address = edge;
      Rng rng(1);
      mutate_request(head, hcm, {{Ipv4{1}, 80}, {*IpAddress::parse("10.10.0.2"), 1}, false, {}}, rng);
      EXPECT_EQ(head.fields.has(row.name), edge ? row.at_edge : row.behind) << row.name << " " << row.value << " " << edge;
    }
}

TEST(HeadersPolicy, XfccSaysWhatIsConfiguredInEnvoysOrder) {
  Arena arena(pool());
  RequestHead head(arena);
  ForwardingOptions hcm;
  hcm.use_remote_address = true;
  hcm.forward_client_cert = ForwardClientCert::kSanitizeSet;
  hcm.cert_subject = hcm.cert_pem = hcm.cert_dns = hcm.cert_uri = true;
  const std::vector<std::string> uris{"spiffe://cluster.local/ns/shop/sa/client"}, dns{"client.example.com"};
  ConnectionFacts facts{{Ipv4{1}, 443},
                        {Ipv4{2}, 1},
                        true,
                        {true, "abcd", "CN=client,O=\\\"x\\\"", "PEM", "", &uris, &dns, "spiffe://cluster.local/ns/shop/sa/gateway"}};
  Rng rng(1);
  mutate_request(head, hcm, facts, rng);
  EXPECT_EQ(*head.fields.first("x-forwarded-client-cert"),
            "By=spiffe://cluster.local/ns/shop/sa/gateway;Hash=abcd;Cert=\"PEM\";Subject=\"CN=client,O=\\\"x\\\"\";URI=spiffe://"
            "cluster.local/ns/shop/sa/client;DNS=client.example.com");
}

TEST(HeadersPolicy, HopByHopFieldsGoAndUpgradesAreSorted) {
  Arena arena(pool());
  auto strip = [&](std::initializer_list<std::pair<const char*, const char*>> fields) {
    FieldList f(arena);
    for (auto [n, v] : fields) f.add(n, v);
    const UpgradeRequest up = strip_hop_by_hop_request(f);
    std::string s = up.websocket ? "websocket " : up.other ? "other " : "";
    for (const Field& x : f.all()) ((s += x.name) += "=") += std::string(x.value) + ";";
    return s;
  };
  EXPECT_EQ(strip({{"connection", "x-secret, close"}, {"x-secret", "1"}, {"a", "b"}}), "a=b;");
  EXPECT_EQ(strip({{"te", "gzip"}, {"keep-alive", "1"}, {"proxy-connection", "x"}}), "");
  EXPECT_EQ(strip({{"connection", "te"}, {"te", "trailers"}}), "te=trailers;");
  EXPECT_EQ(strip({{"connection", "upgrade, http2-settings"}, {"upgrade", "h2c"}, {"http2-settings", "x"}}), "");
  EXPECT_EQ(strip({{"connection", "http2-settings"}, {"http2-settings", "x"}}), "http2-settings=x;");
  EXPECT_EQ(strip({{"te", "Trailers"}}), "");
  EXPECT_EQ(strip({{"te", "gzip, trailers"}}), "te=trailers;");
  EXPECT_EQ(strip({{"connection", "te"}, {"te", "Trailers"}}), "te=trailers;");
  EXPECT_EQ(strip({{"te", ""}}), "te=;");
  EXPECT_EQ(strip({{"connection", "te"}, {"te", ""}}), "");
  EXPECT_EQ(strip({{"upgrade", "websocket"}}), "");
  EXPECT_EQ(strip({{"connection", "Upgrade"}, {"upgrade", "WebSocket"}}), "websocket upgrade=WebSocket;connection=Upgrade;");
  EXPECT_EQ(strip({{"connection", "keep-alive, Upgrade"}, {"upgrade", "websocket"}}),
            "websocket upgrade=websocket;connection=keep-alive, Upgrade;");
  EXPECT_EQ(strip({{"connection", "upgrade, x-a"}, {"upgrade", "websocket"}, {"x-a", "1"}}),
            "websocket upgrade=websocket;connection=upgrade;");
  EXPECT_EQ(strip({{"connection", "upgrade"}, {"upgrade", "foo"}}), "other upgrade=foo;connection=upgrade;");
}

TEST(HeadersPolicy, RepeatedFieldsThatEnvoyHoldsAsOneAreJoined) {
  Arena arena(pool());
  FieldList f(arena);
  for (auto [n, v] : std::initializer_list<std::pair<const char*, const char*>>{
           {"user-agent", "a"}, {"x-a", "1"}, {"via", ""}, {"user-agent", "b"}, {"x-a", "2"}, {"via", "v"}, {"user-agent", ""}})
    f.add(n, v);
  join_repeated(f);
  std::string s;
  for (const Field& x : f.all()) ((s += x.name) += "=") += std::string(x.value) + ";";
  EXPECT_EQ(s, "user-agent=a,b;x-a=1;via=v;x-a=2;");
}

TEST(FieldList, JoinedHasACommaBehindAnEmptyValueToo) {
  Arena arena(pool());
  FieldList f(arena);
  f.add("x-a", "");
  f.add("x-a", "b");
  EXPECT_EQ(f.joined("x-a"), ",b");
}

TEST(Query, TheFirstValueCounts) {
  EXPECT_EQ(*query_parameter("/q?a=1&a=2&b", "a"), "1");
  EXPECT_EQ(*query_parameter("/q?a=1&b", "b"), "");
  EXPECT_FALSE(query_parameter("/q?aa=1", "a"));
  EXPECT_FALSE(query_parameter("/q", "a"));
}

TEST(Date, IsRfc9110) {
  Date d;
  EXPECT_EQ(d.at(784111777'000'000), "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(Writer, MakesHeadsAnew) {
  Arena arena(pool());
  RequestHead q(arena);
  q.method = "GET";
  q.path = "/x";
  q.authority = "A.example";
  q.fields.add("X-A", "1");
  EXPECT_EQ(write_request(q, arena), "GET /x HTTP/1.1\r\nhost: A.example\r\nx-a: 1\r\n\r\n");
  ResponseHead r(arena);
  r.status = 418;
  r.fields.add("server", "istio-envoy");
  EXPECT_EQ(write_response(r, arena), "HTTP/1.1 418 Unknown\r\nserver: istio-envoy\r\n\r\n");
}

}  // namespace
}  // namespace sluice::http
