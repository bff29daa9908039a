#include "dataplane/route/route.h"

#include <gtest/gtest.h>

namespace sluice::route {
namespace {

using tables::HeaderMatch;
using tables::RouteMatch;
using tables::StringMatch;

ArenaPool& pool() {
  static ArenaPool p(64);
  return p;
}

struct Request {
  explicit Request(std::string_view path, std::vector<std::pair<std::string, std::string>> fields = {}) : arena(pool()), head(arena) {
    head.method = "GET";
    head.scheme = "http";
    head.authority = "shop.example.com";
    head.has_authority = true;
    head.path = arena.copy(path);
    for (const auto& [k, v] : fields) head.fields.add(k, v);
  }
  Arena arena;
  http::RequestHead head;
};

std::shared_ptr<const tables::VirtualHost> host(std::vector<std::string> domains) {
  auto h = std::make_shared<tables::VirtualHost>();
  h->name = domains.front();
  h->domains = std::move(domains);
  return h;
}

std::string found(const DomainIndex& index, std::string_view host) {
  const auto h = index.find(host);
  return h == nullptr ? "none" : h->name;
}

TEST(Domains, TheExactNameWinsThenTheLongestSuffixThenTheLongestPrefixThenTheStar) {
  const std::shared_ptr<const tables::VirtualHost> hosts[] = {
      host({"*"}),      host({"*.example.com"}), host({"*.shop.example.com"}), host({"shop.example.com"}),
      host({"shop.*"}), host({"shop.example.*"})};
  const auto index = DomainIndex::build(hosts);
  EXPECT_EQ(found(*index, "shop.example.com"), "shop.example.com");
  EXPECT_EQ(found(*index, "a.shop.example.com"), "*.shop.example.com");
  EXPECT_EQ(found(*index, "a.example.com"), "*.example.com");
  EXPECT_EQ(found(*index, "shop.example.org"), "shop.example.*");
  EXPECT_EQ(found(*index, "shop.org"), "shop.*");
  EXPECT_EQ(found(*index, "example.com"), "*");
}

TEST(Domains, AWildcardStandsForAtLeastOneCharacterAndNothingMatchesWithoutAStar) {
  const std::shared_ptr<const tables::VirtualHost> hosts[] = {host({"*.example.com"})};
  const auto index = DomainIndex::build(hosts);
  EXPECT_EQ(found(*index, ".example.com"), "none");
  EXPECT_EQ(found(*index, "x.example.com"), "*.example.com");
}

TEST(Domains, CaseAndPortDoNotMatterWhereThePortIsIgnored) {
  tables::RouteConfiguration routes;
  routes.virtual_hosts = {host({"shop.example.com"})};
  routes.index = DomainIndex::build(routes.virtual_hosts);
  routes.ignore_port = true;
  EXPECT_NE(find_virtual_host(routes, "SHOP.example.com:8080"), nullptr);
  routes.ignore_port = false;
  EXPECT_EQ(find_virtual_host(routes, "shop.example.com:8080"), nullptr);
  EXPECT_NE(find_virtual_host(routes, "Shop.Example.Com"), nullptr);
}

HeaderMatch string_header(std::string name, StringMatch::Kind kind, std::string value) {
  HeaderMatch m;
  m.name = std::move(name);
  m.kind = HeaderMatch::Kind::kString;
  m.string.kind = kind;
  m.string.value = std::move(value);
  return m;
}

TEST(Headers, ARepeatedFieldIsMatchedJoined) {
  Request r("/", {{"x-a", "1"}, {"x-a", "2"}});
  EXPECT_TRUE(matches(string_header("x-a", StringMatch::Kind::kExact, "1,2"), &r.head));
  EXPECT_FALSE(matches(string_header("x-a", StringMatch::Kind::kExact, "1"), &r.head));
}

TEST(Headers, AnAbsentHeaderMatchesNothingInvertedOrNotUnlessItCountsAsEmpty) {
  Request r("/");
  HeaderMatch m = string_header("x-a", StringMatch::Kind::kExact, "1");
  EXPECT_FALSE(matches(m, &r.head));
  m.invert = true;
  EXPECT_FALSE(matches(m, &r.head));
  m.treat_missing_as_empty = true;
  EXPECT_TRUE(matches(m, &r.head));
}

TEST(Headers, PresenceIsAskedBothWaysAndAtLayer4ThereIsNone) {
  Request r("/", {{"x-a", ""}});
  HeaderMatch m;
  m.name = "x-a";
  EXPECT_TRUE(matches(m, &r.head));
  EXPECT_FALSE(matches(m, nullptr));
  m.present = false;
  EXPECT_FALSE(matches(m, &r.head));
  EXPECT_TRUE(matches(m, nullptr));
}

TEST(Headers, ARangeIsHalfOpenAndWantsAWholeNumber) {
  HeaderMatch m;
  m.name = "x-n";
  m.kind = HeaderMatch::Kind::kRange;
  m.range_start = -1;
  m.range_end = 10;
  for (const auto& [value, want] :
       std::vector<std::pair<std::string, bool>>{{"-1", true}, {"9", true}, {"10", false}, {"5x", false}, {"", false}}) {
    Request r("/", {{"x-n", value}});
    EXPECT_EQ(matches(m, &r.head), want) << value;
  }
}

TEST(Headers, PseudoHeadersAreNamesToo) {
  Request r("/p?q=1");
  EXPECT_TRUE(matches(string_header(":method", StringMatch::Kind::kExact, "GET"), &r.head));
  EXPECT_TRUE(matches(string_header(":path", StringMatch::Kind::kExact, "/p?q=1"), &r.head));
  EXPECT_TRUE(matches(string_header("host", StringMatch::Kind::kSuffix, ".example.com"), &r.head));
}

tables::Route route_of(RouteMatch::Path kind, std::string path) {
  tables::Route r;
  r.match.kind = kind;
  r.match.path = std::move(path);
  if (kind == RouteMatch::Path::kRegex) r.match.regex = *tables::Regex::compile(r.match.path);
  return r;
}

TEST(Routes, ASeparatedPrefixEndsAtASlash) {
  const auto m = route_of(RouteMatch::Path::kSeparatedPrefix, "/api").match;
  for (const auto& [path, want] : std::vector<std::pair<std::string, bool>>{
           {"/api", true}, {"/api/", true}, {"/api/x?y", true}, {"/api?x", true}, {"/apix", false}, {"/ap", false}}) {
    Request r(path);
    EXPECT_EQ(route_matches(m, r.head), want) << path;
  }
}

TEST(Routes, TheQueryIsNoPartOfThePathAndTheFirstValueOfAKeyCounts) {
  RouteMatch m = route_of(RouteMatch::Path::kExact, "/a").match;
  tables::QueryMatch q;
  q.name = "v";
  q.string.value = "1";
  m.query.push_back(q);
  EXPECT_TRUE(route_matches(m, Request("/a?v=1&v=2").head));
  EXPECT_FALSE(route_matches(m, Request("/a?v=2&v=1").head));
  EXPECT_FALSE(route_matches(m, Request("/a").head));
}

TEST(Routes, GrpcIsItsContentTypeOrASubtype) {
  RouteMatch m = route_of(RouteMatch::Path::kPrefix, "/").match;
  m.grpc = true;
  EXPECT_TRUE(route_matches(m, Request("/", {{"content-type", "application/grpc+proto"}}).head));
  EXPECT_FALSE(route_matches(m, Request("/", {{"content-type", "application/grpc-web"}}).head));
}

TEST(Routes, TheIndexFindsWhatWalkingTheListFinds) {
  const uint64_t seed = 20261124;
  RecordProperty("seed", std::to_string(seed));
  Rng rng(seed);
  const std::string words[] = {"a", "b", "api", "v1", "items", "ITEMS", "x.y"};
  auto random_path = [&] {
    std::string p;
    for (uint32_t n = 1 + rng.below(4); n > 0; n--) p += "/" + words[rng.below(uint32_t(std::size(words)))];
    if (rng.chance(0.2)) p += "/";
    return p;
  };
  Scratch scratch;
  int hits = 0, asked = 0;
  for (int table = 0; table < 60; table++) {
    tables::VirtualHost h;
    const uint32_t routes = 1 + rng.below(table % 2 ? 20 : 200);
    for (uint32_t i = 0; i < routes; i++) {
      const auto kind = RouteMatch::Path(rng.below(4));
      std::string path = random_path();
      if (kind == RouteMatch::Path::kRegex && rng.chance(0.5)) path += rng.chance(0.5) ? "/[a-z]+" : "(/.*)?";
      if (kind == RouteMatch::Path::kRegex && rng.chance(0.1)) path = "(?i)" + path;
      h.routes.push_back(route_of(kind, path));
      if (kind != RouteMatch::Path::kRegex && rng.chance(0.1)) h.routes.back().match.case_sensitive = false;
      if (rng.chance(0.2)) h.routes.back().match.headers.push_back(string_header("x-k", StringMatch::Kind::kExact, "1"));
    }
    h.index = VirtualHostIndex::build(h);
    for (int q = 0; q < 2000; q++) {
      Request r(random_path() + (rng.chance(0.2) ? "?x=1" : ""), rng.chance(0.5)
                                                                     ? std::vector<std::pair<std::string, std::string>>{{"x-k", "1"}}
                                                                     : std::vector<std::pair<std::string, std::string>>{});
      const tables::Route* want = nullptr;
      for (const auto& route : h.routes)
        if (route_matches(route.match, r.head)) {
          want = &route;
          break;
        }
      ASSERT_EQ(find_route(h, r.head, scratch, rng), want) << "seed " << seed << " table " << table << " path " << r.head.path;
      hits += want != nullptr;
      asked++;
    }
  }
  EXPECT_GT(hits, asked / 10);
  EXPECT_LT(hits, asked * 9 / 10);
}

}  // namespace
}  // namespace sluice::route
