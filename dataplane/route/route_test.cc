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

TEST(Domains, ThePortIsCutOffAsEnvoyCutsIt) {
  const std::pair<std::string_view, std::string_view> rows[] = {{"a.b", "a.b"},
                                                                {"a.b:443", "a.b"},
                                                                {"a.b:", "a.b"},
                                                                {"a:b:1", "a:b"},
                                                                {"[::1]", "[::1]"},
                                                                {"[::1]:80", "[::1]"},
                                                                {"10.0.0.1:8080", "10.0.0.1"},
                                                                {"", ""}};
  for (const auto& [authority, want] : rows) EXPECT_EQ(without_port(authority), want) << authority;
}

TEST(Domains, TheIndexFindsWhatLookingAtEveryDomainFinds) {
  constexpr uint64_t kSeed = 7;
  RecordProperty("seed", std::to_string(kSeed));
  Rng rng(kSeed);
  const auto name = [&] {
    std::string n;
    for (uint32_t k = 1 + rng.below(6); k > 0; k--) n += "ab.A-"[rng.below(5)];
    return n;
  };
  int found_some = 0;
  for (int table = 0; table < 300; table++) {
    tables::RouteConfiguration routes;
    for (uint32_t n = rng.below(12); n > 0; n--) {
      std::string domain = name();
      for (char& c : domain) c = char(tolower(c));
      const uint32_t kind = rng.below(8);
      routes.virtual_hosts.push_back(host({kind == 0 ? "*" : kind < 3 ? "*" + domain : kind < 5 ? domain + "*" : domain}));
    }
    tables::RouteConfiguration indexed = routes;
    indexed.index = DomainIndex::build(indexed.virtual_hosts);
    for (int q = 0; q < 300; q++) {
      const std::string authority = name();
      const auto &want = find_virtual_host(routes, authority), &got = find_virtual_host(indexed, authority);
      ASSERT_EQ(got, want) << "seed " << kSeed << " " << authority << " " << (want ? want->name : "none") << " "
                           << (got ? got->name : "none");
      found_some += got != nullptr;
    }
  }
  EXPECT_GT(found_some, 10'000);
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

TEST(Headers, PresenceOfAMissingHeaderFollowsInvertAndTreatMissingAsEmpty) {
  struct Row {
    bool there, present, invert, as_empty, want;
  };
  const Row rows[] = {{false, true, false, false, false}, {false, true, true, false, true}, {false, false, false, false, true},
                      {false, false, true, false, false}, {false, true, false, true, true}, {false, true, true, true, false},
                      {false, false, false, true, false}, {true, true, false, false, true}, {true, true, true, false, false},
                      {true, false, false, false, false}, {true, false, true, false, true}};
  for (const Row& row : rows) {
    Request r("/");
    if (row.there) r.head.fields.add("x-a", "v");
    HeaderMatch m;
    m.name = "x-a";
    m.present = row.present, m.invert = row.invert, m.treat_missing_as_empty = row.as_empty;
    EXPECT_EQ(matches(m, r.head), row.want) << row.there << row.present << row.invert << row.as_empty;
  }
}

TEST(Headers, WhatTheRequestDoesNotHaveIsMissingPseudoHeadersToo) {
  Request r("");  // CONNECT without authority
  r.head.has_authority = false;
  for (const char* name : {":path", ":authority", "host", ":status", ""}) {
    HeaderMatch m;
    m.name = name;
    EXPECT_FALSE(matches(m, r.head)) << name;
    m.present = false;
    EXPECT_TRUE(matches(m, r.head)) << name;
  }
  HeaderMatch scheme = string_header(":scheme", StringMatch::Kind::kExact, "http");
  EXPECT_TRUE(matches(scheme, r.head));
}

TEST(Headers, EveryKindOfStringMatchIsAskedAndInvertTurnsTheAnswerOfAPresentHeader) {
  Request r("/", {{"x-a", "Alpha-Beta"}});
  struct Row {
    StringMatch::Kind kind;
    const char* value;
    bool ignore_case, want;
  };
  using K = StringMatch::Kind;
  const Row rows[] = {
      {K::kExact, "Alpha-Beta", false, true}, {K::kExact, "alpha-beta", false, false}, {K::kExact, "alpha-beta", true, true},
      {K::kPrefix, "Alpha", false, true},     {K::kPrefix, "Beta", false, false},      {K::kSuffix, "beta", true, true},
      {K::kSuffix, "Alpha", false, false},    {K::kContains, "a-B", false, true},      {K::kContains, "a-b", false, false},
      {K::kRegex, "[A-Z].*a", false, true},   {K::kRegex, "Alpha", false, false}};
  for (const Row& row : rows) {
    HeaderMatch m = string_header("x-a", row.kind, row.value);
    m.string.ignore_case = row.ignore_case;
    if (row.kind == K::kRegex) m.string.regex = *tables::Regex::compile(row.value);
    EXPECT_EQ(matches(m, r.head), row.want) << row.value;
    m.invert = true;
    EXPECT_NE(matches(m, r.head), row.want) << row.value;
  }
}

TEST(Headers, ARangeIsHalfOpenAndWantsAWholeNumber) {
  HeaderMatch m;
  m.name = "x-n";
  m.kind = HeaderMatch::Kind::kRange;
  m.range_start = -1;
  m.range_end = 10;
  for (const auto& [value, want] : std::vector<std::pair<std::string, bool>>{{"-1", true},
                                                                             {"9", true},
                                                                             {"+9", true},
                                                                             {" 9\t", true},
                                                                             {"10", false},
                                                                             {"5x", false},
                                                                             {"5 5", false},
                                                                             {"--1", false},
                                                                             {"+-1", false},
                                                                             {"+", false},
                                                                             {"9223372036854775808", false},
                                                                             {"", false}}) {
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

TEST(Routes, APathIsComparedWithoutQueryAndFragmentAndCaseWhereItIsAsked) {
  struct Row {
    RouteMatch::Path kind;
    const char *want, *path;
    bool case_sensitive, match;
  };
  using P = RouteMatch::Path;
  const Row rows[] = {
      {P::kExact, "/a", "/a?b#c", true, true}, {P::kExact, "/a", "/a#?", true, true},    {P::kExact, "/a", "/A", true, false},
      {P::kExact, "/a", "/A", false, true},    {P::kExact, "/a", "/a/", true, false},    {P::kPrefix, "/a?b", "/a?b", true, false},
      {P::kPrefix, "/a", "/abc", true, true},  {P::kPrefix, "/a", "/Abc", true, false},  {P::kPrefix, "/a", "/Abc", false, true},
      {P::kPrefix, "", "/", true, true},       {P::kPrefix, "/ab", "/a", true, false},   {P::kSeparatedPrefix, "/a", "/A/b", false, true},
      {P::kRegex, "/a", "/ab", true, false},   {P::kRegex, "/a.*", "/ab?c", true, true}, {P::kRegex, "/a\\?b", "/a?b", true, false},
      {P::kPrefix, "/", "*", true, false},     {P::kExact, "*", "*", true, true}};
  for (const Row& row : rows) {
    RouteMatch m = route_of(row.kind, row.want).match;
    m.case_sensitive = row.case_sensitive;
    EXPECT_EQ(route_matches(m, Request(row.path).head), row.match) << row.want << " " << row.path;
  }
}

TEST(Routes, ConnectHasNoPathAndTakesNoRoute) {
  tables::VirtualHost h;
  h.routes = {route_of(RouteMatch::Path::kPrefix, ""), route_of(RouteMatch::Path::kRegex, ".*")};
  for (const bool indexed : {false, true}) {
    h.index = indexed ? VirtualHostIndex::build(h) : nullptr;
    Scratch scratch;
    Rng rng(1);
    EXPECT_EQ(find_route(h, Request("").head, scratch, rng), nullptr);
    EXPECT_EQ(find_route(h, Request("/").head, scratch, rng), &h.routes[0]);
  }
}

TEST(Routes, NoRoutesAndNoMatchAreNull) {
  tables::VirtualHost h;
  h.index = VirtualHostIndex::build(h);
  Scratch scratch;
  Rng rng(1);
  EXPECT_EQ(find_route(h, Request("/").head, scratch, rng), nullptr);
  h.routes = {route_of(RouteMatch::Path::kExact, "/a")};
  h.index = VirtualHostIndex::build(h);
  EXPECT_EQ(find_route(h, Request("/ab").head, scratch, rng), nullptr);
  EXPECT_EQ(find_route(h, Request("/").head, scratch, rng), nullptr);
}

TEST(Routes, AFractionTakesItsShareAndAllFractionsOfOneRequestSeeOneRandomNumber) {
  tables::VirtualHost h;
  h.routes = {route_of(RouteMatch::Path::kPrefix, "/"), route_of(RouteMatch::Path::kPrefix, "/"), route_of(RouteMatch::Path::kPrefix, "/")};
  h.routes[0].match.fraction_of_million = 100'000;
  h.routes[1].match.fraction_of_million = 100'000;  // what the first refused this refuses too
  h.index = VirtualHostIndex::build(h);
  Scratch scratch;
  Rng rng(20261124);
  int counts[3] = {};
  Request r("/");
  for (int i = 0; i < 100'000; i++) counts[find_route(h, r.head, scratch, rng) - h.routes.data()]++;
  EXPECT_NEAR(counts[0], 10'000, 500);
  EXPECT_EQ(counts[1], 0);
  h.routes[0].match.fraction_of_million = 0;
  h.routes[1].match.fraction_of_million = 1'000'000;
  for (int i = 0; i < 1000; i++) EXPECT_EQ(find_route(h, r.head, scratch, rng), &h.routes[1]);
}

// Regexes where RE2 and a byte-wise PCRE could disagree: each must be found by RE2's word through the prefilter's proposals.
TEST(Routes, ThePrefilterHidesNoRouteThatRe2Takes) {
  const char* patterns[] = {"/.",     "/\xc3\xa9",         "/[^a]",         "/\\w+",     "/\\pL+",      "/\\PN",
                            "(?i)/k", "(?i)/\xe2\x84\xaa", "/\\101",        "/a\\C",     "/(a)(b)\\12", "/[[:word:]]+",
                            "/\\S",   "/\\Qa.b\\E",        "/(?P<x>a|b)/c", "/a{2,3}",   "/a$",         "^/b^?$",
                            "/\\x41", "/[\\d\\-x]+",       "(?s)/..",       "(?U)/a+",   "/|/z",        "/a\\/b",
                            ".*",     "/\\bfoo\\b",        "/x*?y",         "/[a-z&&b]", "(?-s)/q.r",   "/\\z|/w"};
  tables::VirtualHost h;
  for (const char* p : patterns) {
    const auto regex = tables::Regex::compile(p);
    if (!regex) continue;  // not RE2's syntax: the compiler refuses it
    tables::Route r;
    r.match.kind = RouteMatch::Path::kRegex;
    r.match.regex = *regex;
    h.routes.push_back(std::move(r));
  }
  ASSERT_GT(h.routes.size(), 25u);
  const char* paths[] = {"/",    "/a",  "/b",    "/\xc3\xa9", "/\xff",      "/k",   "/K",     "/\xe2\x84\xaa",
                         "/A",   "/aa", "/aaa",  "/aaaa",     "/ab\n",      "/a.b", "/a/c",   "/b/c",
                         "/z",   "/w",  "/_",    "/0",        "/\x0b",      "/foo", "/xxy",   "/4-x",
                         "/a/b", "/b^", "/q\nr", "/q.r",      "/\xc3\xa9x", "//",   "/a\xff", "/&"};
  // One table per first route, so that each pattern is the first that matches somewhere.
  Scratch scratch;
  Rng rng(1);
  size_t prefiltered = 0;
  for (size_t first = 0; first < h.routes.size(); first++) {
    std::rotate(h.routes.begin(), h.routes.begin() + 1, h.routes.end());
    const auto index = VirtualHostIndex::build(h);
    prefiltered = index->prefiltered();
    for (const char* path : paths) {
      Request r(path);
      h.index = nullptr;
      const tables::Route* want = find_route(h, r.head, scratch, rng);
      h.index = index;
      const tables::Route* got = find_route(h, r.head, scratch, rng);
      ASSERT_EQ(got, want) << path << " want " << (want ? want->match.regex->pattern() : "none") << " got "
                           << (got ? got->match.regex->pattern() : "none");
    }
  }
  EXPECT_GT(prefiltered, 10u);
  EXPECT_LT(prefiltered, h.routes.size());
}

TEST(Routes, OneScratchServesManyTables) {
  Scratch scratch;
  Rng rng(3);
  std::vector<tables::VirtualHost> hosts(40);
  for (size_t t = 0; t < hosts.size(); t++) {
    for (size_t i = 0; i < 8 + t % 7; i++)
      hosts[t].routes.push_back(
          route_of(RouteMatch::Path::kRegex, ".*/t" + std::to_string(t) + "/[a-z]{" + std::to_string(i + 1) + "}(/.*)?"));
    hosts[t].index = VirtualHostIndex::build(hosts[t]);
    ASSERT_EQ(hosts[t].index->prefiltered(), hosts[t].routes.size());
  }
  for (int q = 0; q < 3000; q++) {
    const size_t t = rng.below(40), i = rng.below(uint32_t(hosts[t].routes.size()));
    Request r("/t" + std::to_string(t) + "/" + std::string(i + 1, 'x') + "/y");
    ASSERT_EQ(find_route(hosts[t], r.head, scratch, rng), &hosts[t].routes[i]);
  }
}

// The route's path match told anew, without the code under test.
bool naive_path(const RouteMatch& m, std::string path) {
  path = path.substr(0, path.find('?'));
  std::string want = m.path;
  if (m.kind == RouteMatch::Path::kRegex) return m.regex->full_match(path);
  if (!m.case_sensitive) {
    for (char& c : path) c = char(tolower(c));
    for (char& c : want) c = char(tolower(c));
  }
  if (m.kind == RouteMatch::Path::kExact) return path == want;
  if (path.compare(0, want.size(), want) != 0) return false;
  return m.kind == RouteMatch::Path::kPrefix || path.size() == want.size() || path[want.size()] == '/';
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
  size_t prefiltered = 0;
  for (int table = 0; table < 60; table++) {
    tables::VirtualHost h;
    const uint32_t routes = 1 + rng.below(table % 2 ? 20 : 200);
    for (uint32_t i = 0; i < routes; i++) {
      const auto kind = RouteMatch::Path(rng.below(4));
      std::string path = random_path();
      if (kind == RouteMatch::Path::kRegex && rng.chance(0.5)) path += rng.chance(0.5) ? "/[a-z]+" : "(/.*)?";
      if (kind == RouteMatch::Path::kRegex && rng.chance(0.3)) path = (rng.chance(0.5) ? "(?i)" : ".*") + path;
      h.routes.push_back(route_of(kind, path));
      if (kind != RouteMatch::Path::kRegex && rng.chance(0.1)) h.routes.back().match.case_sensitive = false;
      if (rng.chance(0.2)) h.routes.back().match.headers.push_back(string_header("x-k", StringMatch::Kind::kExact, "1"));
    }
    h.index = VirtualHostIndex::build(h);
    prefiltered += h.index->prefiltered();
    for (int q = 0; q < 2000; q++) {
      Request r(random_path() + (rng.chance(0.2) ? "?x=1" : ""), rng.chance(0.5)
                                                                     ? std::vector<std::pair<std::string, std::string>>{{"x-k", "1"}}
                                                                     : std::vector<std::pair<std::string, std::string>>{});
      const tables::Route* want = nullptr;
      for (const auto& route : h.routes)
        if (naive_path(route.match, std::string(r.head.path)) && (route.match.headers.empty() || r.head.fields.has("x-k"))) {
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
  EXPECT_GT(prefiltered, 100u);
}

}  // namespace
}  // namespace sluice::route
