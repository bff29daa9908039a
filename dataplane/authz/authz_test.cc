#include "dataplane/authz/authz.h"

#include <gtest/gtest.h>

#include "dataplane/route/route.h"

namespace sluice::authz {
namespace {

using tables::Permission;
using tables::Policy;
using tables::Principal;
using tables::Rbac;
using tables::StringMatch;

ArenaPool& pool() {
  static ArenaPool p(64);
  return p;
}

struct Asked {
  explicit Asked(std::string_view path = "/", bool http = true) : arena(pool()), head(arena) {
    head.method = "GET";
    head.path = arena.copy(path);
    facts.local = {*IpAddress::parse("10.10.0.1"), 443};
    facts.remote = {*IpAddress::parse("10.10.0.2"), 40000};
    request.facts = &facts;
    request.remote_ip = facts.remote.ip;
    if (http) request.head = &head;
  }
  void certificate(std::vector<std::string> u, std::vector<std::string> d = {}, std::string name = "CN=x") {
    uris = std::move(u);
    dns = std::move(d);
    facts.certificate.presented = true;
    facts.certificate.uris = &uris;
    facts.certificate.dns = &dns;
    subject = std::move(name);
    facts.certificate.subject = subject;
  }
  Arena arena;
  http::RequestHead head;
  http::ConnectionFacts facts;
  std::vector<std::string> uris, dns;
  std::string subject;
  Request request;
};

Permission any() { return {}; }
Principal anyone() { return {}; }
StringMatch text(StringMatch::Kind kind, std::string value) {
  StringMatch m;
  m.kind = kind;
  m.value = std::move(value);
  return m;
}
Principal named(StringMatch m) {
  Principal p;
  p.kind = Principal::Kind::kAuthenticated;
  p.principal_name = std::move(m);
  return p;
}
Permission path(StringMatch m) {
  Permission p;
  p.kind = Permission::Kind::kUrlPath;
  p.string = std::move(m);
  return p;
}
Rbac rbac(Rbac::Action action, std::vector<Policy> policies) {
  Rbac r;
  r.action = action;
  r.policies = std::move(policies);
  return r;
}
bool allowed(const Rbac& r, const Asked& a) { return (*Program::compile(r))->evaluate(a.request).verdict == Verdict::kAllow; }
bool permits(const Permission& p, const Asked& a) { return allowed(rbac(Rbac::Action::kAllow, {{"p", {p}, {anyone()}}}), a); }
bool accepts(const Principal& p, const Asked& a) { return allowed(rbac(Rbac::Action::kAllow, {{"p", {any()}, {p}}}), a); }

TEST(Rbac, AllowWithoutAPolicyDeniesAllAndDenyWithoutOneDeniesNothing) {
  const Asked a;
  EXPECT_FALSE(allowed(rbac(Rbac::Action::kAllow, {}), a));
  EXPECT_TRUE(allowed(rbac(Rbac::Action::kDeny, {}), a));
  EXPECT_TRUE(allowed(rbac(Rbac::Action::kLog, {{"p", {any()}, {anyone()}}}), a));
}

TEST(Rbac, ThePolicyThatDecidedIsNamed) {
  const Asked a("/x");
  const auto deny = Program::compile(
      rbac(Rbac::Action::kDeny, {{"first", {path(text(StringMatch::Kind::kExact, "/y"))}, {anyone()}}, {"second", {any()}, {anyone()}}}));
  const Decision d = (*deny)->evaluate(a.request);
  EXPECT_EQ(d.verdict, Verdict::kDeny);
  EXPECT_EQ(d.policy, "second");
  const auto allow = Program::compile(rbac(Rbac::Action::kAllow, {{"none", {path(text(StringMatch::Kind::kExact, "/y"))}, {anyone()}}}));
  EXPECT_EQ((*allow)->evaluate(a.request).policy, "");
}

TEST(Rbac, APolicyWithoutPermissionsOrWithoutPrincipalsMatchesNothing) {
  const Asked a;
  EXPECT_FALSE(allowed(rbac(Rbac::Action::kAllow, {{"p", {}, {anyone()}}}), a));
  EXPECT_FALSE(allowed(rbac(Rbac::Action::kAllow, {{"p", {any()}, {}}}), a));
}

TEST(Rbac, AndOrNotNest) {
  const Asked a("/x");
  Permission x = path(text(StringMatch::Kind::kExact, "/x")), y = path(text(StringMatch::Kind::kExact, "/y")), both, either, not_y;
  both.kind = Permission::Kind::kAnd;
  both.children = {x, y};
  either.kind = Permission::Kind::kOr;
  either.children = {x, y};
  not_y.kind = Permission::Kind::kNot;
  not_y.children = {y};
  EXPECT_FALSE(permits(both, a));
  EXPECT_TRUE(permits(either, a));
  EXPECT_TRUE(permits(not_y, a));
  both.children = {x, not_y};
  EXPECT_TRUE(permits(both, a));
}

TEST(Principals, EveryVerifiedNameCountsUriThenDnsThenSubjectAndWithoutACertificateNone) {
  Asked a;
  EXPECT_FALSE(accepts(named(text(StringMatch::Kind::kPrefix, "")), a)) << "no certificate, no name";
  a.certificate({"spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/y"}, {"x.example.com"});
  EXPECT_TRUE(accepts(named(text(StringMatch::Kind::kExact, "spiffe://td/ns/a/sa/y")), a));
  EXPECT_TRUE(accepts(named(text(StringMatch::Kind::kExact, "x.example.com")), a));
  EXPECT_FALSE(accepts(named(text(StringMatch::Kind::kExact, "y.example.com")), a));
  a.certificate({}, {"x.example.com"});
  EXPECT_TRUE(accepts(named(text(StringMatch::Kind::kExact, "x.example.com")), a));
  a.certificate({}, {}, "CN=y");
  EXPECT_TRUE(accepts(named(text(StringMatch::Kind::kExact, "CN=y")), a));
  Principal anybody;
  anybody.kind = Principal::Kind::kAuthenticated;
  EXPECT_TRUE(accepts(anybody, a));
  EXPECT_FALSE(accepts(anybody, Asked()));
}

TEST(Principals, TheTrustedClientAndTheDirectPeerAreTwoAddresses) {
  Asked a;
  a.request.remote_ip = *IpAddress::parse("192.0.2.7");
  Principal p;
  p.ip = *IpPrefix::parse("192.0.2.0/24");
  p.kind = Principal::Kind::kRemoteIp;
  EXPECT_TRUE(accepts(p, a));
  p.kind = Principal::Kind::kDirectRemoteIp;
  EXPECT_FALSE(accepts(p, a));
}

TEST(Permissions, DestinationIpPortRangeAndServerName) {
  Asked a;
  a.request.sni = "shop.example.com";
  Permission p;
  p.kind = Permission::Kind::kDestinationIp;
  p.ip = *IpPrefix::parse("10.10.0.0/16");
  EXPECT_TRUE(permits(p, a));
  p.ip = *IpPrefix::parse("10.20.0.0/16");
  EXPECT_FALSE(permits(p, a));
  p.kind = Permission::Kind::kDestinationPort;
  p.port_start = 443;
  p.port_end = 444;
  EXPECT_TRUE(permits(p, a));
  p.port_start = 444;
  p.port_end = 445;
  EXPECT_FALSE(permits(p, a));
  p.kind = Permission::Kind::kRequestedServerName;
  p.string = text(StringMatch::Kind::kSuffix, ".example.com");
  EXPECT_TRUE(permits(p, a));
  a.request.sni = "";
  EXPECT_FALSE(permits(p, a));
}

TEST(Permissions, ThePathIsComparedWithoutItsQuery) {
  EXPECT_TRUE(permits(path(text(StringMatch::Kind::kExact, "/admin")), Asked("/admin?x=/y")));
  EXPECT_FALSE(permits(path(text(StringMatch::Kind::kSuffix, "/y")), Asked("/admin?x=/y")));
}

TEST(Permissions, HttpMatchersSeeNothingAtLayer4) {
  const Asked l4("/admin", false);
  EXPECT_FALSE(permits(path(text(StringMatch::Kind::kPrefix, "")), l4));
  Permission header;
  header.kind = Permission::Kind::kHeader;
  header.header.name = ":method";
  EXPECT_FALSE(permits(header, l4));
  EXPECT_TRUE(permits(header, Asked("/")));
}

TEST(Permissions, UriTemplatesMatchSegments) {
  struct Row {
    const char *pattern, *path;
    bool want;
  };
  const Row rows[] = {{"/foo/{*}", "/foo/bar", true},
                      {"/foo/*", "/foo/bar?q=/", true},
                      {"/foo/{*}", "/foo/", false},
                      {"/foo/{*}", "/foo/a/b", false},
                      {"/foo/*", "/foo/a=b", true},
                      {"/foo/*", "/foo/*x", true},
                      {"/foo/*", "/foo/[x", false},
                      {"/foo/**", "/foo/a/|", false},
                      {"/a*b", "/a*b", true},
                      {"/a*b", "/aab", false},
                      {"/*b", "/ab", true},
                      {"/*b", "/a", false},
                      {"/foo/*", "/foo/%20", true},
                      {"/foo/{**}", "/foo/a/b/", true},
                      {"/foo/{**}", "/foo/", true},
                      {"/foo/{**}", "/foo", false},
                      {"/{*}/baz/{**}", "/a/baz/c/d", true},
                      {"/{*}/baz/{**}", "/a/b/baz/c", false},
                      {"/**.mpd", "/live/a.mpd", true},
                      {"/**.mpd", "/live/ampd", false},
                      {"/{n}/x", "/12/x", true},
                      {"/{n=a/*}/x", "/a/12/x", true},
                      {"/{n=a/*}/x", "/b/12/x", false},
                      {"/{a=b}", "/b", true},
                      {"/a.b/{*}", "/aXb/c", false},
                      {"/a$(b)+/*", "/a$(b)+/c", true},
                      {"/", "/", true},
                      {"/a/", "/a", false}};
  for (const Row& row : rows) {
    Permission p;
    p.kind = Permission::Kind::kUriTemplate;
    p.uri_template = row.pattern;
    EXPECT_EQ(permits(p, Asked(row.path)), row.want) << row.pattern << " " << row.path;
  }
  for (const char* bad :
       {"", "foo", "/{*", "/{}", "/{1a}", "/{a=}", "/{a=/b}", "/{abcdefghijklmnopq}", "/{a}/{a}", "/{a}/{b}/{c}/{d}/{e}/{f}", "/{**}/{**}",
        "/{**}/x/**", "/**/{a}", "/v{n=*}/x", "/a//b", "/{a}b/c", "/a b", "/[a]", "/a\\b"}) {
    Permission p;
    p.kind = Permission::Kind::kUriTemplate;
    p.uri_template = bad;
    const auto program = Program::compile(rbac(Rbac::Action::kAllow, {{"its name", {p}, {anyone()}}}));
    ASSERT_FALSE(program) << bad;
    EXPECT_NE(program.error().find("its name"), std::string::npos);
    EXPECT_NE(program.error().find("character "), std::string::npos) << program.error();
  }
}

TEST(Rbac, ATreeThatCannotBeEvaluatedIsRefusedWithThePolicysName) {
  Permission lonely_not;
  lonely_not.kind = Permission::Kind::kNot;
  const auto no_child = Program::compile(rbac(Rbac::Action::kDeny, {{"lonely", {lonely_not}, {anyone()}}}));
  ASSERT_FALSE(no_child);
  EXPECT_EQ(no_child.error(), "policy \"lonely\": a NOT needs exactly one rule");
  Principal both;
  both.kind = Principal::Kind::kAnd;
  both.children = {anyone(), named(text(StringMatch::Kind::kRegex, "a+"))};
  EXPECT_FALSE(Program::compile(rbac(Rbac::Action::kDeny, {{"p", {any()}, {both}}}))) << "a regex nobody compiled";
  Permission nameless;
  nameless.kind = Permission::Kind::kHeader;
  EXPECT_FALSE(Program::compile(rbac(Rbac::Action::kDeny, {{"p", {nameless}, {anyone()}}})));
}

TEST(Rbac, AnAndOrAnOrOfNothingIsRefusedAsEnvoyRefusesIt) {
  for (const auto kind : {Permission::Kind::kAnd, Permission::Kind::kOr}) {
    Permission p;
    p.kind = kind;
    EXPECT_FALSE(Program::compile(rbac(Rbac::Action::kAllow, {{"p", {p}, {anyone()}}})));
  }
  for (const auto kind : {Principal::Kind::kAnd, Principal::Kind::kOr}) {
    Principal p;
    p.kind = kind;
    EXPECT_FALSE(Program::compile(rbac(Rbac::Action::kAllow, {{"p", {any()}, {p}}})));
  }
}

TEST(Rbac, ARequestWhoseHeadersCannotBeReadIsDeniedButALogNeverDenies) {
  ArenaPool small(1);
  Arena arena(small);
  http::RequestHead head(arena);
  head.path = "/";
  head.fields.add("x-a", "1");
  head.fields.add("x-a", "2");
  while (!head.fields.failed()) head.fields.add("x-filler", std::string(4096, 'f'));
  Asked a;
  a.request.head = &head;
  EXPECT_FALSE(allowed(rbac(Rbac::Action::kAllow, {{"p", {any()}, {anyone()}}}), a));
  EXPECT_FALSE(allowed(rbac(Rbac::Action::kDeny, {}), a));
  EXPECT_TRUE(allowed(rbac(Rbac::Action::kLog, {}), a));
}

TEST(Permissions, ConnectHasNoPathAndNoPathRuleHolds) {
  const Asked connect("");
  EXPECT_FALSE(permits(path(text(StringMatch::Kind::kPrefix, "")), connect));
  Permission p, negated;
  p.kind = Permission::Kind::kUriTemplate;
  p.uri_template = "/**";
  EXPECT_FALSE(permits(p, connect));
  negated.kind = Permission::Kind::kNot;
  negated.children = {p};
  EXPECT_TRUE(permits(negated, connect));
}

TEST(Principals, AHeaderAndAPathAreAskedOfTheRequest) {
  Asked a("/a?x");
  a.head.fields.add("x-team", "blue");
  Principal header, url;
  header.kind = Principal::Kind::kHeader;
  header.header.name = "x-team";
  header.header.kind = tables::HeaderMatch::Kind::kString;
  header.header.string = text(StringMatch::Kind::kExact, "blue");
  url.kind = Principal::Kind::kUrlPath;
  url.string = text(StringMatch::Kind::kExact, "/a");
  EXPECT_TRUE(accepts(header, a));
  EXPECT_TRUE(accepts(url, a));
  header.header.string.value = "red";
  url.string.value = "/a?x";
  EXPECT_FALSE(accepts(header, a));
  EXPECT_FALSE(accepts(url, a));
}

TEST(Filter, RulesThatAreAbsentAllowAndShadowRulesAreBuiltBesides) {
  tables::RbacFilter f;
  ASSERT_TRUE(build_rbac_filter(f));
  EXPECT_EQ(f.program, nullptr);
  f.shadow_rules = rbac(Rbac::Action::kAllow, {});
  ASSERT_TRUE(build_rbac_filter(f));
  EXPECT_EQ(f.program, nullptr);
  EXPECT_NE(f.shadow_program, nullptr);
}

// ---- the index against walking all policies

struct Generator {
  Rng rng;
  uint32_t below(uint32_t n) { return rng.below(n); }
  std::string name() { return "spiffe://td/ns/n" + std::to_string(below(4)) + "/sa/s" + std::to_string(below(5)); }
  std::string some_path() {
    std::string p;
    for (uint32_t n = 1 + below(3); n > 0; n--) p += std::string("/") + "abAB"[below(4)];
    return p;
  }
  StringMatch match(std::string value) {
    StringMatch m = text(StringMatch::Kind(below(5)), std::move(value));
    m.ignore_case = m.kind != StringMatch::Kind::kRegex && below(4) == 0;
    if (m.ignore_case)
      for (char& c : m.value) c = char(tolower(c));
    if (m.kind == StringMatch::Kind::kRegex) m.regex = *tables::Regex::compile(m.value + (below(2) ? ".*" : ""));
    return m;
  }
  tables::HeaderMatch header() {
    tables::HeaderMatch h;
    h.name = below(2) ? "x-a" : ":method";
    h.kind = below(2) ? tables::HeaderMatch::Kind::kPresent : tables::HeaderMatch::Kind::kString;
    h.string = text(StringMatch::Kind::kExact, below(2) ? "1" : "GET");
    h.present = below(2);
    h.invert = below(4) == 0;
    return h;
  }
  template <class Node>
  Node inner(Node (Generator::*make)(int), int depth) {
    Node node;
    const Node not_node = [] {
      Node n;
      n.kind = Node::Kind::kNot;
      return n;
    }();
    node.kind = below(3) == 0 ? not_node.kind : below(2) ? Node::Kind::kAnd : Node::Kind::kOr;
    for (uint32_t n = node.kind == Node::Kind::kNot ? 1 : 1 + below(3); n > 0; n--) node.children.push_back((this->*make)(depth - 1));
    return node;
  }
  Permission permission(int depth) {
    if (depth > 0 && below(2)) return inner(&Generator::permission, depth);
    Permission p;
    switch (below(6)) {
      case 0: break;
      case 1:
        p.kind = Permission::Kind::kHeader;
        p.header = header();
        break;
      case 2:
        p.kind = Permission::Kind::kDestinationPort;
        p.port_start = 443, p.port_end = 443 + below(2);
        break;
      case 3:
        p.kind = Permission::Kind::kRequestedServerName;
        p.string = match("shop.example.com");
        break;
      default: return path(match(some_path()));
    }
    return p;
  }
  Principal principal(int depth) {
    if (depth > 0 && below(2)) return inner(&Generator::principal, depth);
    Principal p;
    switch (below(6)) {
      case 0: break;
      case 1:
        p.kind = Principal::Kind::kHeader;
        p.header = header();
        break;
      case 2:
        p.kind = Principal::Kind::kRemoteIp;
        p.ip = *IpPrefix::parse(below(2) ? "10.0.0.0/8" : "192.0.2.0/24");
        break;
      case 3: p.kind = Principal::Kind::kAuthenticated; break;
      default: return named(match(name()));
    }
    return p;
  }
};

bool naive(const Permission& p, const Asked& a) {
  const http::RequestHead* head = a.request.head;
  const std::string plain = head == nullptr ? "" : std::string(head->path.substr(0, head->path.find_first_of("?#")));
  size_t n = 0;
  switch (p.kind) {
    case Permission::Kind::kAnd:
      for (const auto& c : p.children) n += naive(c, a);
      return n == p.children.size();
    case Permission::Kind::kOr:
      for (const auto& c : p.children) n += naive(c, a);
      return n > 0;
    case Permission::Kind::kNot: return !naive(p.children[0], a);
    case Permission::Kind::kHeader: return route::matches(p.header, head);
    case Permission::Kind::kUrlPath: return !plain.empty() && p.string.matches(plain);
    case Permission::Kind::kDestinationPort: return a.facts.local.port >= p.port_start && a.facts.local.port < p.port_end;
    case Permission::Kind::kRequestedServerName: return p.string.matches(a.request.sni);
    default: return true;
  }
}
bool naive(const Principal& p, const Asked& a) {
  size_t n = 0;
  switch (p.kind) {
    case Principal::Kind::kAnd:
      for (const auto& c : p.children) n += naive(c, a);
      return n == p.children.size();
    case Principal::Kind::kOr:
      for (const auto& c : p.children) n += naive(c, a);
      return n > 0;
    case Principal::Kind::kNot: return !naive(p.children[0], a);
    case Principal::Kind::kHeader: return route::matches(p.header, a.request.head);
    case Principal::Kind::kRemoteIp: return p.ip.contains(a.request.remote_ip);
    case Principal::Kind::kAuthenticated:
      if (!a.facts.certificate.presented) return false;
      if (!p.principal_name) return true;
      for (const std::string& uri : a.uris) n += p.principal_name->matches(uri);
      for (const std::string& dns : a.dns) n += p.principal_name->matches(dns);
      return n + p.principal_name->matches(a.facts.certificate.subject) > 0;
    default: return true;
  }
}

TEST(Rbac, TheIndexDecidesAndNamesAsAskingEveryPolicyInOrderDoes) {
  constexpr uint64_t kSeed = 20261124;
  RecordProperty("seed", std::to_string(kSeed));
  Generator g{Rng(kSeed)};
  int asked = 0, matched = 0, denied = 0;
  for (int table = 0; table < 400; table++) {
    Rbac r;
    r.action = Rbac::Action(g.below(3));
    for (uint32_t n = g.below(table % 4 == 0 ? 60 : 6); n > 0; n--) {
      Policy policy{"policy-" + std::to_string(1000 - n), {}, {}};
      for (uint32_t k = 1 + g.below(2); k > 0; k--) policy.permissions.push_back(g.permission(3));
      for (uint32_t k = 1 + g.below(2); k > 0; k--) policy.principals.push_back(g.principal(3));
      r.policies.push_back(std::move(policy));
    }
    const auto program = Program::compile(r);
    ASSERT_TRUE(program) << program.error();
    for (int q = 0; q < 250; q++) {
      Asked a(g.below(20) == 0 ? "" : g.some_path() + (g.below(3) == 0 ? "?q" : ""), g.below(8) != 0);
      if (g.below(3) != 0)
        a.certificate({g.name()}, g.below(2) ? std::vector<std::string>{g.name()} : std::vector<std::string>{}, g.name());
      if (g.below(2)) a.head.fields.add("x-a", "1");
      if (g.below(3) == 0) a.request.remote_ip = *IpAddress::parse("192.0.2.9");
      a.request.sni = g.below(2) ? "shop.example.com" : "";
      std::string want;
      for (const Policy& policy : r.policies) {
        bool permitted = false, accepted = false;
        for (const auto& p : policy.permissions) permitted |= naive(p, a);
        for (const auto& p : policy.principals) accepted |= naive(p, a);
        if (permitted && accepted) {
          want = policy.name;
          break;
        }
      }
      const Decision d = (*program)->evaluate(a.request);
      ASSERT_EQ(d.policy, want) << "seed " << kSeed << " table " << table << " request " << q;
      const bool allow = r.action == Rbac::Action::kLog || (r.action == Rbac::Action::kAllow) != want.empty();
      ASSERT_EQ(d.verdict, allow ? Verdict::kAllow : Verdict::kDeny);
      asked++, matched += !want.empty(), denied += !allow;
    }
  }
  EXPECT_EQ(asked, 100'000);
  EXPECT_GT(matched, asked / 10);
  EXPECT_LT(matched, asked * 95 / 100);
  EXPECT_GT(denied, asked / 10);
}

}  // namespace
}  // namespace sluice::authz
