#include "dataplane/authz/authz.h"

#include <gtest/gtest.h>

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
  void certificate(std::vector<std::string> u, std::vector<std::string> d = {}, std::string_view subject = "CN=x") {
    uris = std::move(u);
    dns = std::move(d);
    facts.certificate.presented = true;
    facts.certificate.uris = &uris;
    facts.certificate.dns = &dns;
    facts.certificate.subject = subject;
  }
  Arena arena;
  http::RequestHead head;
  http::ConnectionFacts facts;
  std::vector<std::string> uris, dns;
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
  const auto deny = Program::compile(rbac(Rbac::Action::kDeny, {{"first", {path(text(StringMatch::Kind::kExact, "/y"))}, {anyone()}}, {"second", {any()}, {anyone()}}}));
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

TEST(Principals, AnyAnnouncedUriSanCountsAndDnsOnlyWhereThereIsNoUri) {
  Asked a;
  EXPECT_FALSE(accepts(named(text(StringMatch::Kind::kPrefix, "")), a)) << "no certificate, no name";
  a.certificate({"spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/y"}, {"x.example.com"});
  EXPECT_TRUE(accepts(named(text(StringMatch::Kind::kExact, "spiffe://td/ns/a/sa/y")), a));
  EXPECT_FALSE(accepts(named(text(StringMatch::Kind::kExact, "x.example.com")), a));
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
  const Row rows[] = {{"/foo/{*}", "/foo/bar", true},      {"/foo/{*}", "/foo/", false},          {"/foo/{*}", "/foo/a/b", false},
                      {"/foo/{**}", "/foo/a/b/", true},    {"/foo/{**}", "/foo/", true},          {"/{*}/baz/{**}", "/a/baz/c/d", true},
                      {"/{*}/baz/{**}", "/a/b/baz/c", false}, {"/v{n=*}/x", "/v12/x", true},        {"/a.b/{*}", "/aXb/c", false}};
  for (const Row& row : rows) {
    Permission p;
    p.kind = Permission::Kind::kUriTemplate;
    p.uri_template = row.pattern;
    EXPECT_EQ(permits(p, Asked(row.path)), row.want) << row.pattern << " " << row.path;
  }
  for (const char* bad : {"foo", "/{*", "/{**}/{**}", "/{**}/x/**", "/{a=b}"}) {
    Permission p;
    p.kind = Permission::Kind::kUriTemplate;
    p.uri_template = bad;
    EXPECT_FALSE(Program::compile(rbac(Rbac::Action::kAllow, {{"p", {p}, {anyone()}}}))) << bad;
  }
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

}  // namespace
}  // namespace sluice::authz
