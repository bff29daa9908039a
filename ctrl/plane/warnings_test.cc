// What Istio accepts in silence: each kind of it is warned of at its place, and what is good is not.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <ctime>
#include <fstream>

#include "ctrl/plane/condition.h"
#include "ctrl/plane/world.h"

namespace sluice::plane {
namespace {

const std::string kWeb =
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, namespace: shop}\nspec:\n"
    "  hosts: [web.shop.svc.cluster.local]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n"
    "  endpoints: [{address: 10.0.0.1, labels: {version: v1}}]\n---\n";
const std::string kEdge =
    "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec:\n"
    "  selector: {istio: ingressgateway}\n  servers:\n"
    "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com, '*.b.example.com']}\n"
    "  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: [t.example.com]}\n"
    "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [s.example.com], tls: {mode: PASSTHROUGH}}\n---\n";
const std::string kTo = "route: [{destination: {host: web.shop.svc.cluster.local}}]";

std::string virtual_service(const std::string& lists, const std::string& hosts = "a.example.com", const std::string& name = "v") {
  return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + ", namespace: shop}\nspec:\n  hosts: [" +
         hosts + "]\n  gateways: [edge]\n" + lists + "---\n";
}
std::string http(const std::vector<std::string>& matches) {
  std::string out = "  http:\n";
  for (const std::string& m : matches) out += "  - {" + (m.empty() ? "" : "match: " + m + ", ") + kTo + "}\n";
  return out;
}
std::string policy(const std::string& spec, const std::string& ns = "shop", const std::string& kind = "AuthorizationPolicy") {
  return "apiVersion: " +
         std::string(kind == "Telemetry"     ? "telemetry"
                     : kind == "EnvoyFilter" ? "networking"
                                             : "security") +
         ".istio.io/" + (kind == "EnvoyFilter" ? "v1alpha3" : "v1") + "\nkind: " + kind + "\nmetadata: {name: p, namespace: " + ns +
         "}\nspec: " + spec + "\n---\n";
}

std::vector<Issue> issues_of(const std::string& text, const CheckOptions& options = {}) {
  const Loaded l = load_text(text, "f.yaml", {}, options);
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  for (const Issue& i : l.issues) {
    EXPECT_FALSE(i.rule.empty()) << render(i);
    EXPECT_FALSE(i.field.empty()) << render(i);
    EXPECT_FALSE(i.object.empty()) << render(i);
    EXPECT_FALSE(i.remedy.empty()) << render(i);
    EXPECT_FALSE(i.source_line.empty()) << render(i);
  }
  return l.issues;
}
// "RULE FIELD", each in a line.
std::string rules_of(const std::string& text, const CheckOptions& options = {}) {
  std::string out;
  for (const Issue& i : issues_of(text, options)) out += i.rule + " " + i.field + "\n";
  return out;
}
std::string routes(const std::vector<std::string>& matches) { return rules_of(kWeb + kEdge + virtual_service(http(matches))); }

TEST(Reach, ARouteBehindOneThatTakesEverythingIsUnreachable) {
  EXPECT_EQ(routes({"", "[{uri: {prefix: /a}}]"}), "unreachable-route spec.http[1]\n");
  for (const char* all :
       {"[{uri: {prefix: /}}]", "[{uri: {regex: '.*'}}]", "[{uri: {regex: '/.*'}}]", "[{uri: {exact: /x}}, {uri: {prefix: /}}]"})
    EXPECT_EQ(routes({all, "[{uri: {prefix: /a}}]", ""}), "unreachable-route spec.http[1]\nunreachable-route spec.http[2]\n") << all;
  EXPECT_EQ(routes({"[{uri: {prefix: /a}}]", ""}), "");
}

TEST(Reach, AWiderMatchShadowsANarrowerOneBehindIt) {
  const auto shadows = [](const char* first, const char* second) {
    const std::string said = routes({std::string("[{") + first + "}]", std::string("[{") + second + "}]"});
    EXPECT_TRUE(said.empty() || said == "unreachable-route spec.http[1]\n") << said;
    return !said.empty();
  };
  EXPECT_TRUE(shadows("uri: {prefix: /a}", "uri: {prefix: /a/b}"));
  EXPECT_TRUE(shadows("uri: {prefix: /a}", "uri: {exact: /ab}"));
  EXPECT_TRUE(shadows("uri: {exact: /a}", "uri: {exact: /a}"));
  EXPECT_TRUE(shadows("uri: {regex: '/a/.*'}", "uri: {exact: /a/b}"));
  EXPECT_TRUE(shadows("uri: {regex: '/(a|b)/.*'}", "uri: {prefix: /b/c}"));
  EXPECT_TRUE(shadows("uri: {prefix: /api}", "uri: {regex: '/api/v[0-9]+'}"));
  EXPECT_TRUE(shadows("uri: {prefix: /API}, ignoreUriCase: true", "uri: {prefix: /api/b}"));
  EXPECT_TRUE(shadows("uri: {prefix: /a}", "uri: {prefix: /a}, method: {exact: GET}"));
  EXPECT_TRUE(shadows("headers: {x-a: {prefix: b}}", "headers: {X-A: {exact: bc}}, uri: {prefix: /z}"));
  EXPECT_TRUE(shadows("headers: {x-a: {}}", "headers: {x-a: {regex: '.+z'}}"));
  EXPECT_TRUE(shadows("queryParams: {q: {exact: '1'}}", "queryParams: {q: {exact: '1'}, r: {exact: '2'}}"));
  EXPECT_TRUE(shadows("withoutHeaders: {x: {exact: a}}", "withoutHeaders: {x: {prefix: a}}"));
  EXPECT_TRUE(shadows("withoutHeaders: {x: {exact: a}}", "headers: {x: {exact: b}}"));
  EXPECT_TRUE(shadows("uri: {prefix: /a}", "uri: {prefix: /a/b}, port: 80"));

  EXPECT_FALSE(shadows("uri: {prefix: /a/b}", "uri: {prefix: /a}"));
  EXPECT_FALSE(shadows("uri: {exact: /a}", "uri: {prefix: /a}"));
  EXPECT_FALSE(shadows("uri: {prefix: /a}, method: {exact: GET}", "uri: {prefix: /a}"));
  EXPECT_FALSE(shadows("uri: {prefix: /a}, method: {exact: GET}", "uri: {prefix: /a}, method: {exact: PUT}"));
  EXPECT_FALSE(shadows("uri: {prefix: /a}", "uri: {prefix: /A/b}, ignoreUriCase: true"));
  EXPECT_FALSE(shadows("uri: {regex: '/a/[0-9]+'}", "uri: {prefix: /a/1}"));
  EXPECT_FALSE(shadows("uri: {regex: '/a|/b.*'}", "uri: {prefix: /a}"));
  EXPECT_FALSE(shadows("headers: {x-a: {exact: b}}", "headers: {x-b: {exact: b}}"));
  EXPECT_FALSE(shadows("queryParams: {q: {exact: '1'}}", "queryParams: {Q: {exact: '1'}}"));
  EXPECT_FALSE(shadows("withoutHeaders: {x: {prefix: a}}", "withoutHeaders: {x: {exact: a}}"));
  EXPECT_FALSE(shadows("headers: {x: {exact: a}}", "withoutHeaders: {x: {exact: b}}"));
  EXPECT_FALSE(shadows("uri: {prefix: /a}, port: 80", "uri: {prefix: /a}"));
  EXPECT_FALSE(shadows("uri: {prefix: /a}, gateways: [edge]", "uri: {prefix: /a/b}, sourceLabels: {app: x}"));
}

TEST(Reach, OfSeveralMatchesTheDeadOneIsShown) {
  EXPECT_EQ(routes({"[{uri: {prefix: /a}}]", "[{uri: {prefix: /b}}, {uri: {exact: /a/x}}]"}), "unreachable-route spec.http[1].match[1]\n");
  EXPECT_EQ(routes({"[{uri: {prefix: /a}}, {uri: {prefix: /b}}]", "[{uri: {exact: /b}}, {uri: {exact: /a/x}}]"}),
            "unreachable-route spec.http[1]\n");
}

TEST(Reach, AMatchThatNothingMeetsIsShown) {
  for (const auto& [match, field] : {std::pair("uri: {prefix: a}", "uri.prefix"), std::pair("uri: {exact: '/a?b=c'}", "uri.exact"),
                                     std::pair("uri: {prefix: /a/../b}", "uri.prefix"), std::pair("uri: {regex: 'api/.*'}", "uri.regex"),
                                     std::pair("port: 81", "port"), std::pair("authority: {exact: z.example.com}", "authority.exact"),
                                     std::pair("headers: {x: {exact: ab}}, withoutHeaders: {x: {prefix: a}}", "withoutHeaders"),
                                     std::pair("gateways: [other]", "gateways[0]")})
    EXPECT_EQ(routes({std::string("[{") + match + "}]", ""}), std::string("unreachable-route spec.http[0].match[0].") + field + "\n")
        << match;
  EXPECT_EQ(routes({"[{authority: {exact: 'a.example.com:80'}, uri: {regex: '/api/.*|/x'}, port: 80}]", ""}), "");
}

TEST(Reach, VirtualServicesOfOneHostAreOneList) {
  const std::string two = virtual_service(http({"[{uri: {prefix: /a}}]"}), "a.example.com", "one");
  EXPECT_EQ(rules_of(kWeb + kEdge + two + virtual_service(http({"[{uri: {exact: /a/b}}]", ""}), "a.example.com", "two")),
            "unreachable-route spec.http[0]\n");
  const std::string all = virtual_service(http({""}), "a.example.com", "one");
  EXPECT_EQ(rules_of(kWeb + kEdge + all + virtual_service(http({"[{uri: {exact: /a/b}}]"}), "a.example.com", "two")), "")
      << "what takes everything stands behind the others";
  EXPECT_EQ(rules_of(kWeb + kEdge + all + virtual_service(http({""}), "a.example.com", "two")), "unreachable-route spec.http[0]\n");
  EXPECT_EQ(rules_of(kWeb + kEdge + all + virtual_service(http({""}), "\"x.b.example.com\"", "two")), "");
}

TEST(Reach, DelegatesStandWhereTheirRootStands) {
  const std::string delegate = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: d, namespace: shop}\nspec:\n" +
                               http({"[{uri: {prefix: /a/b}}]"}) + "---\n";
  const std::string root = "  http:\n  - {match: [{uri: {prefix: /a}}], delegate: {name: d}}\n";
  EXPECT_EQ(rules_of(kWeb + kEdge + delegate + virtual_service(root + "  - {match: [{uri: {prefix: /a}}], " + kTo + "}\n")), "")
      << "the delegate takes a part of /a only";
  EXPECT_EQ(rules_of(kWeb + kEdge + delegate + virtual_service(root + "  - {match: [{uri: {exact: /a/b/c}}], " + kTo + "}\n")),
            "unreachable-route spec.http[1]\n");
  EXPECT_EQ(rules_of(kWeb + kEdge + delegate), "unused-delegate metadata.name\n");
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(root)), "unknown-delegate spec.http[0].delegate.name\n");
}

TEST(Reach, L4RoutesTakeByPortAndServerName) {
  const std::string to = "route: [{destination: {host: web.shop.svc.cluster.local, port: {number: 80}}}]";
  EXPECT_EQ(
      rules_of(kWeb + kEdge + virtual_service("  tcp:\n  - {" + to + "}\n  - {match: [{port: 9000}], " + to + "}\n", "t.example.com")),
      "unreachable-route spec.tcp[1]\n");
  EXPECT_EQ(rules_of(kWeb + kEdge +
                     virtual_service("  tls:\n  - {match: [{sniHosts: [s.example.com]}], " + to +
                                         "}\n  - {match: [{sniHosts: [s.example.com]}], " + to + "}\n",
                                     "s.example.com")),
            "unreachable-route spec.tls[1].match[0].sniHosts[0]\n");
}

TEST(Reach, TenThousandRoutesOfOneHostAreComparedInTime) {
  std::vector<std::string> matches;
  for (int i = 0; i < 10'000; i++)
    matches.push_back("[{uri: {prefix: /}, headers: {x-tenant: {exact: t" + std::to_string(i) + "}}, method: {exact: GET}}]");
  matches.push_back("[{headers: {x-tenant: {exact: t77}}, method: {exact: GET}}]");
  const std::clock_t began = std::clock();  // of this process: the machine may be busy
  EXPECT_EQ(routes(matches), "unreachable-route spec.http[10000]\n");
  EXPECT_LT(double(std::clock() - began) / CLOCKS_PER_SEC, 8);
}

TEST(Hosts, AHostThatNoGatewayServes) {
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(http({""}), "a.example.com, c.example.com")), "unserved-host spec.hosts[1]\n");
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(http({""}), "A.example.com, x.b.example.com")), "");
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(http({""}), "'*.example.com'")), "") << "some of its names are served";
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(http({""}), "b.example.com")), "unserved-host spec.hosts[0]\n")
      << "not within *.b.example.com";
  const std::string mine =
      "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec:\n  selector: {a: b}\n"
      "  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [bank/a.example.com]}]\n---\n";
  EXPECT_EQ(rules_of(kWeb + mine + virtual_service(http({""}))), "unserved-host spec.hosts[0]\n") << "for another namespace";
}

TEST(Hosts, RoutesOfTheWrongKindAreUnreachable) {
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(http({""}), "s.example.com")), "unreachable-route spec.http\n");
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service(http({""}), "t.example.com")), "unreachable-route spec.http\n");
  EXPECT_EQ(rules_of(kWeb + kEdge + virtual_service("  tcp:\n  - {" + kTo + "}\n")), "unreachable-route spec.tcp\n");
}

TEST(Hosts, AServerThatGivesWayIsShown) {
  const std::string other =
      "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: other, namespace: shop}\nspec:\n"
      "  selector: {istio: ingressgateway}\n  servers:\n  - {port: {number: 80, name: x, protocol: TCP}, hosts: ['*']}\n";
  EXPECT_EQ(rules_of(kEdge + other), "server-gives-way spec.servers[0]\n");
}

TEST(References, WhatIsNotThere) {
  const std::string rule =
      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\nspec:\n  host: ";
  EXPECT_EQ(rules_of(kWeb + kEdge +
                     virtual_service("  http:\n  - route: [{destination: {host: web.shop.svc.cluster.local, port: {number: 81}}}]\n")),
            "unknown-port spec.http[0].route[0].destination.port.number\n");
  EXPECT_EQ(
      rules_of(kWeb + kEdge + virtual_service("  http:\n  - route: [{destination: {host: web.shop.svc.cluster.local, subset: v1}}]\n")),
      "unknown-subset spec.http[0].route[0].destination.subset\n");
  EXPECT_EQ(rules_of(kWeb + rule + "wob.shop.svc.cluster.local\n"), "unknown-service spec.host\n");
  EXPECT_EQ(rules_of(kWeb + rule + "web\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n"),
            "empty-subset spec.subsets[1].labels\n");
  EXPECT_EQ(rules_of(kWeb + rule + "web\n  trafficPolicy: {portLevelSettings: [{port: {number: 8080}}]}\n"),
            "unknown-port spec.trafficPolicy.portLevelSettings[0].port.number\n");
  EXPECT_EQ(
      rules_of(
          "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\nspec:\n  hosts: [e.example.com]\n"
          "  resolution: STATIC\n  ports: [{number: 80, name: http}]\n  workloadSelector: {labels: {app: e}}\n"),
      "empty-selector spec.workloadSelector.labels\n");
}

TEST(Selectors, ASelectorThatMatchesNothingTheDirectoryKnows) {
  const auto said = [](const std::string& labels, const std::string& ns = "shop", const CheckOptions& options = {}) {
    return rules_of(kEdge + policy("{selector: {matchLabels: " + labels + "}}", ns), options);
  };
  EXPECT_EQ(said("{istio: ingresgateway}"), "empty-selector spec.selector.matchLabels\n");
  EXPECT_EQ(said("{app: nobody}"), "empty-selector spec.selector.matchLabels\n");
  EXPECT_EQ(said("{istio: ingressgateway, app: nobody}"), "empty-selector spec.selector.matchLabels\n");
  // What the directory cannot know is no reason for a warning.
  EXPECT_EQ(said("{istio: ingressgateway}"), "");
  EXPECT_EQ(said("{istio: ingressgateway}", "istio-system"), "");
  EXPECT_EQ(said("{istio: ingressgateway, team: red}"), "") << "the gateway may have it";
  EXPECT_EQ(said("{app: istio-ingressgateway}", "istio-system"), "") << "as Istio's charts label it";
  EXPECT_EQ(rules_of(policy("{selector: {matchLabels: {app: x}}}")), "") << "no workload is known at all";
  EXPECT_EQ(said("{app: nobody}", "shop", {.gateways = {{{"istio", "ingressgateway"}, {"app", "nobody"}}}}), "");
  EXPECT_EQ(said("{team: red}", "shop", {.gateways = {{{"istio", "ingressgateway"}}}}), "empty-selector spec.selector.matchLabels\n");
  EXPECT_EQ(rules_of(kEdge, {.gateways = {{{"istio", "egressgateway"}}}}), "empty-selector spec.selector\n");
}

TEST(Selectors, WorkloadsAreKnownByTheirEntries) {
  const std::string entry =
      "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, namespace: bank, labels: {app: ledger}}\n"
      "spec: {address: 10.0.0.9}\n---\n";
  const std::string strict = "{selector: {matchLabels: {app: ledger}}, mtls: {mode: STRICT}}";
  EXPECT_EQ(rules_of(kEdge + entry + policy(strict, "bank", "PeerAuthentication")), "");
  EXPECT_EQ(rules_of(kEdge + entry + policy(strict, "shop", "PeerAuthentication")), "empty-selector spec.selector.matchLabels\n");
}

TEST(Selectors, AllKindsOfPolicies) {
  const std::string none = "{selector: {matchLabels: {istio: nobody}}}";
  for (const char* kind : {"PeerAuthentication", "RequestAuthentication", "Telemetry"})
    EXPECT_EQ(rules_of(kEdge + policy(none, "shop", kind)), "empty-selector spec.selector.matchLabels\n") << kind;
  EXPECT_EQ(rules_of(kEdge + policy("{workloadSelector: {labels: {istio: nobody}}, configPatches: []}", "shop", "EnvoyFilter")),
            "empty-selector spec.workloadSelector.labels\n");
  EXPECT_EQ(rules_of(kEdge + policy("{configPatches: [{applyTo: CLUSTER, match: {context: SIDECAR_OUTBOUND}, patch: {operation: REMOVE}}]}",
                                    "shop", "EnvoyFilter")),
            "empty-selector spec.configPatches[0].match.context\n");
  EXPECT_EQ(rules_of(policy("{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: none}]}")),
            "empty-selector spec.targetRefs[0].name\n");
  const std::string telemetry = policy("{}", "shop", "Telemetry");
  std::string second = telemetry;
  second.replace(second.find("name: p"), 7, "name: q");
  EXPECT_EQ(rules_of(telemetry + second), "shadowed-policy metadata.name\n");
}

std::string policies(const std::string& operation, const std::string& action = "ALLOW") {
  return rules_of(kWeb + kEdge + virtual_service(http({"[{uri: {prefix: /api/}}, {uri: {exact: /login}}, {uri: {regex: '/v[0-9]/.*'}}]"})) +
                  virtual_service(http({""}), "x.b.example.com", "x") +
                  policy("{selector: {matchLabels: {istio: ingressgateway}}, action: " + action +
                         ", rules: [{to: [{operation: " + operation + "}]}]}"));
}

TEST(Policies, APathThatNoRouteTakes) {
  const std::string of_a = "hosts: [a.example.com], ports: ['80'], ";
  for (const char* good : {"/api/x", "/api/*", "/*", "*", "/login", "/log*", "/v1/x", "/v*", "*.css", "/api/{*}/y", "/{**}", "/{*}/x"})
    EXPECT_EQ(policies("{" + of_a + "paths: ['" + good + "']}"), "") << good;
  for (const char* bad : {"/admin", "/admin/*", "/login/x", "/w1/x", "/ap", "/admin/{*}"})
    EXPECT_EQ(policies("{" + of_a + "paths: [/login, '" + bad + "']}"), "unreachable-policy spec.rules[0].to[0].operation.paths[1]\n")
        << bad;
  EXPECT_EQ(policies("{ports: ['80'], paths: [/admin]}"), "") << "x.b.example.com takes every path";
  EXPECT_EQ(policies("{ports: ['80'], paths: [admin]}"), "unreachable-policy spec.rules[0].to[0].operation.paths[0]\n");
  EXPECT_EQ(policies("{ports: ['80'], paths: ['/a?b']}"), "unreachable-policy spec.rules[0].to[0].operation.paths[0]\n");
}

TEST(Policies, AHostOrPortThatNoGatewayHas) {
  EXPECT_EQ(policies("{ports: ['80'], hosts: [a.example.com, 'A.example.com:80', '*.b.example.com', '*.example.com', '*', 'shop*']}"), "");
  EXPECT_EQ(policies("{ports: ['80'], hosts: [z.example.com]}"), "unserved-host spec.rules[0].to[0].operation.hosts[0]\n");
  EXPECT_EQ(policies("{ports: ['8080']}"), "unreachable-policy spec.rules[0].to[0].operation.ports[0]\n");
}

TEST(Policies, HttpFieldsOnATcpPort) {
  EXPECT_EQ(policies("{ports: ['9000'], methods: [GET]}"), "http-on-tcp spec.rules[0].to[0].operation.methods\n");
  EXPECT_EQ(policies("{ports: ['443'], notPaths: [/login]}"), "http-on-tcp spec.rules[0].to[0].operation.notPaths\n");
  EXPECT_EQ(policies("{ports: ['80'], methods: [GET]}", "DENY"), "");
  EXPECT_EQ(policies("{methods: [GET]}"), "") << "it allows nothing at the TCP ports";
  EXPECT_EQ(policies("{methods: [GET]}", "DENY"), "http-on-tcp spec.rules[0].to[0].operation.methods\n")
      << "it denies everything at the TCP ports";
  EXPECT_EQ(policies("{ports: ['9000']}", "DENY"), "");
  EXPECT_EQ(rules_of(kEdge + policy("{rules: [{from: [{source: {requestPrincipals: ['*']}}], to: [{operation: {ports: ['9000']}}]}]}")),
            "http-on-tcp spec.rules[0].from[0].source.requestPrincipals\n");
  EXPECT_EQ(
      rules_of(kEdge + policy("{rules: [{when: [{key: 'request.headers[x]', values: [a]}, {key: destination.port, values: ['9000']}]}]}")),
      "http-on-tcp spec.rules[0].when[0].key\n");
}

TEST(Policies, APrincipalIsWrittenWithoutItsScheme) {
  EXPECT_EQ(
      rules_of(kEdge +
               policy("{rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/a/sa/b', 'cluster.local/ns/a/sa/b']}}]}]}")),
      "invalid spec.rules[0].from[0].source.principals[0]\n");
}

using Op = TextCondition::Op;
// implies and excludes against all texts of a small alphabet: never certain of what is not so.
TEST(Condition, WhatIsCertainIsTrue) {
  std::vector<std::string> texts{""};
  for (size_t i = 0; texts.size() < 400; i++)
    for (const char c : {'/', 'a', 'B'}) texts.push_back(texts[i] + c);
  std::vector<TextCondition> all;
  for (const char* t : {"", "/", "/a", "/B", "/a/", "a", "B", "/ab"})
    for (const Op op : {Op::kExact, Op::kPrefix, Op::kSuffix})
      for (const bool fold : {false, true}) all.push_back(TextCondition::of(op, t, fold));
  for (const char* r : {".*", "/.*", "/a.*", "/(a|B).*", "/a|/B.*", "[/]a.*", "/a*", "(?i)/b.*", "a\\.*", "/[aB]+", ".*a", "/a/.*|/.*"})
    all.push_back(TextCondition::of(Op::kRegex, r));
  all.push_back({});
  size_t certain = 0;
  for (const auto& x : all)
    for (const auto& y : all) {
      const bool i = implies(x, y), e = excludes(x, y);
      certain += i + e;
      for (const std::string& t : texts) {
        if (i && x.takes(t)) {
          ASSERT_TRUE(y.takes(t)) << x.text << " -> " << y.text << " at " << t;
        }
        if (e) {
          ASSERT_FALSE(x.takes(t) && y.takes(t)) << x.text << " against " << y.text << " at " << t;
        }
      }
    }
  EXPECT_GT(certain, 1000u);
}

}  // namespace
}  // namespace sluice::plane
