// Parse of one request: a small one (curl's) and a browser's, in one piece and in segments of 100 bytes.
#include "dataplane/http/h1_parser.h"
#include "perf/micro/bench.h"

namespace sluice::http {
namespace {

constexpr std::string_view kSmall =
    "GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
constexpr std::string_view kBrowser =
    "GET /api/v1/catalogue/items/42?page=2&sort=price HTTP/1.1\r\nHost: shop.example.com\r\nConnection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n"
    "Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: "
    "none\r\nSec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0; theme=dark; consent=yes\r\n\r\n";

void parse(benchmark::State& state, std::string_view text, size_t piece) {
  static ArenaPool pool(64);
  Arena arena(pool);
  bench::Tsc tsc(state);
  for (auto _ : state) {
    arena.reset();
    RequestHead head(arena);
    RequestParser parser(head, false);
    for (size_t at = 0; at < text.size() && !parser.complete();) {
      const std::string_view part = text.substr(at, piece);
      const Fed fed = parser.feed({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
      if (fed.event == Event::kRefused || fed.consumed == 0) return state.SkipWithError("refused");
      at += fed.consumed;
    }
    if (!parser.complete()) return state.SkipWithError("not complete");
    benchmark::DoNotOptimize(head.path);
  }
  state.SetBytesProcessed(int64_t(text.size()) * state.iterations());
}
BENCHMARK_CAPTURE(parse, small, kSmall, 65'536);
BENCHMARK_CAPTURE(parse, browser, kBrowser, 65'536);
BENCHMARK_CAPTURE(parse, browser_in_pieces, kBrowser, 100);

}  // namespace
}  // namespace sluice::http
