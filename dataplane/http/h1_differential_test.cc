#include "dataplane/http/h1_differential.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "dataplane/base/rng.h"

namespace sluice::http {
namespace {

TEST(H1Differential, TheCorpusIsSeenAsLlhttpSeesIt) {
  unsigned files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/h1")) {
    std::ifstream f(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(f), {}};
    ASSERT_FALSE(bytes.empty()) << entry.path();
    const uint8_t mode = uint8_t(bytes[0]);
    for (const size_t step : {size_t(mode >> 2), size_t(0), size_t(1), size_t(7)}) {
      const auto compared = compare(std::string_view(bytes).substr(1), {(mode & 1) != 0, (mode & 2) != 0, step});
      EXPECT_EQ(compared.disagreement, "") << entry.path();
    }
    files++;
  }
  EXPECT_GE(files, 60u);
}

// Messages from the grammar with the mistakes that smugglers make, and a few random bytes.
struct Generator {
  Rng rng;
  template <size_t N>
  std::string one_of(const char* const (&words)[N]) {
    return words[rng.below(N)];
  }
  std::string end() { return rng.below(40) == 0 ? one_of({"\n", "\r", "\r\r\n", "\n\r\n", ""}) : "\r\n"; }
  std::string field() {
    static constexpr const char* kNames[] = {"Host",
                                             "Content-Length",
                                             "Transfer-Encoding",
                                             "Connection",
                                             "X-A",
                                             "x-b",
                                             "Trailer",
                                             "Content-Length ",
                                             "Transfer-Encoding\t",
                                             "Expect",
                                             "Accept",
                                             "bad(name)",
                                             "",
                                             "TE",
                                             "X_Y",
                                             "Content-Length"};
    static constexpr const char* kValues[] = {"5",
                                              "0",
                                              "3",
                                              "+5",
                                              "5, 5",
                                              "05",
                                              "0x5",
                                              "18446744073709551616",
                                              "chunked",
                                              "Chunked",
                                              "gzip, chunked",
                                              "identity",
                                              "chunked, chunked",
                                              "close",
                                              "keep-alive",
                                              "a",
                                              "example.com",
                                              "",
                                              " b ",
                                              "\tc\t",
                                              "\x80\xff",
                                              "trailers",
                                              "a\rb",
                                              "a\x01",
                                              "5 5",
                                              "chunked;x"};
    std::string name = one_of(kNames);
    const std::string value = name == "Host"                                  ? "example.com"
                              : name.starts_with("Content-L") && rng.below(2) ? "5"
                              : name.starts_with("Transfer") && rng.below(2)  ? "chunked"
                                                                              : one_of(kValues);
    return name +
           (rng.below(60) == 0   ? ""
            : rng.below(60) == 0 ? " :"
                                 : ":") +
           (rng.below(3) ? " " : "") + value + end() + (rng.below(60) == 0 ? " folded\r\n" : "");
  }
  std::string chunk() {
    const uint32_t n = rng.below(4) == 0 ? 0 : rng.below(20);
    char size[16];
    std::snprintf(size, sizeof size, rng.below(2) ? "%x" : "%02X", n);
    static constexpr const char* kExtensions[] = {";a=b", ";a",     ";a=\"b;c\"", ";",        ";=",  ";a=",   " ;a",       ";a b",      "x",
                                                  " ",    ";a=\"b", ";a=b;c=d",   ";\"a\"=b", ";;a", ";a==b", ";a=\"b\"c", ";a=\"b\";c"};
    std::string out = std::string(size) + (rng.below(5) == 0 ? one_of(kExtensions) : "") + end();
    if (n > 0) out += std::string(rng.below(40) == 0 ? n + 1 : n, 'd') + end();
    return out;
  }
  std::string message(bool response) {
    std::string out = !response && rng.below(20) == 0 ? "\r\n" : "";
    if (response) {
      static constexpr const char* kLines[] = {
          "HTTP/1.1 200 OK", "HTTP/1.1 200 ",         "HTTP/1.1 200",      "HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified",
          "HTTP/1.0 200 OK", "HTTP/1.1 100 Continue", "HTTP/1.1 999 x",    "HTTP/1.1 20 OK",          "HTTP/2.0 200 OK",
          "http/1.1 200 OK", "HTTP/1.1  200 OK",      "HTTP/1.1 200 a\tb", "HTTP/1.1 200 a\x80"};
      out += rng.below(3) ? kLines[0] : one_of(kLines);
    } else {
      static constexpr const char* kMethods[] = {"POST", "PUT",  "GET",    "HEAD", "DELETE", "OPTIONS",
                                                 "get",  "BREW", "SOURCE", "PRI",  "QUERY",  "M-SEARCH"};
      static constexpr const char* kTargets[] = {"/",   "/a?b#c", "http://h/x",   "https://h:1/", "*",       "/a b",        "/\x80",
                                                 "a",   "//x",    "/{}|^\"<>`\\", "/%zz",         "http://", "http://u@h/", "http://h?x",
                                                 "/\t", "/a#b#c", "http://[::1]/"};
      static constexpr const char* kVersions[] = {" HTTP/1.1",  " HTTP/1.0", " HTTP/2.0",  "",        " HTTP/1.1 ",
                                                  "  HTTP/1.1", " http/1.1", " HTTP/1.10", " ICE/1.0"};
      out += (rng.below(2) ? "POST" : one_of(kMethods)) + " " + (rng.below(2) ? "/" : one_of(kTargets)) +
             (rng.below(8) ? kVersions[0] : one_of(kVersions));
      out += end() + "Host: h";
    }
    out += end();
    for (uint32_t n = rng.below(4); n > 0; n--) out += field();
    if (rng.below(2)) out += rng.below(2) ? "Transfer-Encoding: chunked\r\n" : "Content-Length: 5\r\n";
    out += end();
    if (rng.below(2)) {
      for (uint32_t n = rng.below(4); n > 0; n--) out += chunk();
      out += "0\r\n" + (rng.below(4) == 0 ? field() : "") + end();
    } else {
      out += "hello";
    }
    out += rng.below(3) ? "" : "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    if (rng.below(4) == 0) out[rng.below(uint32_t(out.size()))] = char(rng.next());
    return out;
  }
};

TEST(H1Differential, GeneratedMessagesAreSeenAsLlhttpSeesThem) {
  constexpr uint64_t kSeed = 20261124;
  RecordProperty("seed", std::to_string(kSeed));
  Generator g{Rng(kSeed)};
  std::map<Outcome, int> outcomes;
  for (int i = 0; i < 200'000; i++) {
    const bool response = g.rng.below(2);
    const std::string message = g.message(response);
    const auto compared = compare(message, {response, response && g.rng.below(8) == 0, g.rng.below(3) ? 0 : 1 + g.rng.below(9)});
    ASSERT_EQ(compared.disagreement, "") << "seed " << kSeed << " message " << i;
    outcomes[compared.outcome]++;
  }
  RecordProperty("both_take", outcomes[Outcome::kBothTake]);
  RecordProperty("we_refuse", outcomes[Outcome::kWeRefuse]);
  EXPECT_GT(outcomes[Outcome::kBothTake], 10'000);
  EXPECT_GT(outcomes[Outcome::kBothRefuse], 10'000);
}

}  // namespace
}  // namespace sluice::http
