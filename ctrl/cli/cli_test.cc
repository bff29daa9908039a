#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ctrl/admin/endpoints.h"
#include "ctrl/cli/commands.h"

namespace sluice::cli {
namespace {

struct Sluicectl : testing::Test {
  std::filesystem::path dir;
  std::string socket;
  admin::Server server;
  bool refused = false;
  std::ostringstream out, err;
  Streams streams{out, err};

  void SetUp() override {
    char name[] = "/tmp/sluice-cli-XXXXXX";
    dir = ::mkdtemp(name);
    socket = dir / "s";
    admin::add_admin(server, {.status_text = [] { return "connected\n"; },
                              .status_json = [] { return "{}\n"; },
                              .security_refused = [this] { return refused; },
                              .config_dump_json = [] { return "{\"configs\":[]}"; }});
    ASSERT_TRUE(server.listen_unix(socket));
    server.start();
  }
  void TearDown() override { std::filesystem::remove_all(dir); }
  int run(const std::string& arguments) {
    const int status = std::system((std::string(SLUICECTL) + " " + arguments + " >/dev/null 2>&1").c_str());
    return WEXITSTATUS(status);
  }
};

TEST_F(Sluicectl, StatusExitsThreeWhileASecurityResourceIsRefused) {
  EXPECT_EQ(status({socket}, {}, false, streams), 0);
  EXPECT_EQ(out.str(), "connected\n");
  refused = true;
  EXPECT_EQ(status({socket}, {}, true, streams), 3);
  EXPECT_EQ(run("-s " + socket + " status"), 3);
  refused = false;
  EXPECT_EQ(run("-s " + socket + " status"), 0);
}

// What a sluice-control answers at its admin socket.
TEST_F(Sluicectl, StatusShowsTheGatewayApiOfTheControlPlaneToo) {
  admin::Server control;
  control.route("GET", "/gateway-api", [](const admin::HttpRequest& r) {
    return admin::HttpResponse{.body = r.query.contains("format") ? "[{\"kind\":\"Gateway\"}]\n" : "Gateway edge/g: Accepted\n"};
  });
  ASSERT_TRUE(control.listen_unix(dir / "c"));
  control.start();
  const std::string at = dir / "c", nobody = dir / "nobody";
  EXPECT_EQ(status({socket}, {at}, false, streams), 0);
  EXPECT_EQ(out.str(), "connected\nGateway edge/g: Accepted\n");
  out.str("");
  EXPECT_EQ(status({socket}, {at}, true, streams), 0);
  EXPECT_EQ(out.str(), "{\"gateway_api\":[{\"kind\":\"Gateway\"}]\n}\n");
  out.str("");
  EXPECT_EQ(status({nobody, false}, {at}, false, streams), 0) << "on the machine of the control plane there is no gateway";
  EXPECT_EQ(out.str(), "Gateway edge/g: Accepted\n");
  EXPECT_EQ(status({socket}, {nobody, false}, false, streams), 0);
  EXPECT_EQ(err.str(), "");
  EXPECT_EQ(status({nobody}, {at}, false, streams), 1) << "who was named must answer";
  EXPECT_EQ(status({socket}, {nobody}, false, streams), 1);
  EXPECT_EQ(status({nobody, false}, {nobody, false}, false, streams), 1);
  refused = true;
  EXPECT_EQ(status({socket}, {at}, false, streams), 3);
  EXPECT_EQ(run("-s " + socket + " status -c " + at), 3);
  EXPECT_EQ(run("status -c " + at), 0);
}

TEST_F(Sluicectl, ConfigDumpPrintsTheBodyAndUnwiredPathsFail) {
  EXPECT_EQ(print(socket, "GET", "/config_dump", streams), 0);
  EXPECT_EQ(out.str(), "{\"configs\":[]}\n");
  EXPECT_EQ(print(socket, "GET", "/clusters", streams), 1);
  EXPECT_NE(err.str().find("503"), std::string::npos);
  EXPECT_EQ(run("-s " + socket + " config dump"), 0);
  EXPECT_EQ(run("-s " + socket + " clusters"), 1);
  EXPECT_EQ(run("-s " + socket + " logging loud"), 1);
}

TEST_F(Sluicectl, WrongUsageIsTwoAndNoGatewayIsOne) {
  EXPECT_EQ(run(""), 2);
  EXPECT_EQ(run("nonsense"), 2);
  EXPECT_EQ(run("config"), 2);
  EXPECT_EQ(run("--help"), 0);
  EXPECT_EQ(run("-s /no/such/socket status"), 1);
}

TEST_F(Sluicectl, CheckPointsAtWhatIsWrongAndExitsOne) {
  std::ofstream(dir / "gateway.yaml")
      << "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: shop}\nspec:\n  selektor: {a: b}\n"
         "  servers:\n  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: [a.example.com]\n";
  EXPECT_EQ(check({.dir = dir.string(), .mesh = {}}, streams), kFailed);
  EXPECT_NE(err.str().find("gateway.yaml:5:3: error: unknown field spec.selektor; did you mean 'selector'?"), std::string::npos)
      << err.str();
  EXPECT_NE(err.str().find("  ^~~~~~~~"), std::string::npos) << err.str();
  EXPECT_NE(out.str().find("1 errors"), std::string::npos) << out.str();
  EXPECT_EQ(run("check " + dir.string()), kFailed);
  EXPECT_EQ(run("check " + dir.string() + "/none"), kFailed);
}

TEST_F(Sluicectl, CheckOfTheDemoIsGood) {
  const std::string demo = std::string(SLUICE_SOURCE_ROOT) + "/configs/demo/";
  EXPECT_EQ(check({.dir = demo + "istio", .mesh = demo + "mesh.yaml", .warnings_as_errors = true}, streams), kOk) << err.str();
}

TEST_F(Sluicectl, CheckWritesWhatMachinesRead) {
  std::ofstream(dir / "v.yaml") << "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec:\n"
                                   "  hosts: [a.example.com]\n  gateways: [none]\n  http: [{directResponse: {status: 200}}]\n";
  const std::string v = (dir / "v.yaml").string();
  EXPECT_EQ(check({.dir = v, .mesh = {}}, streams), kOk) << "a warning is no error";
  EXPECT_EQ(check({.dir = v, .mesh = {}, .warnings_as_errors = true}, streams), kFailed);
  for (const auto& [format, begins] :
       {std::pair("json", "{\"objects\":1,\"errors\":[],\"warnings\":[{\"file\":"),
        std::pair("sarif", "{\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\",\"version\":\"2.1.0\""),
        std::pair("github", "::warning file=")}) {
    out.str(""), err.str("");
    EXPECT_EQ(check({.dir = v, .mesh = {}, .format = *format_of(format)}, streams), kOk);
    EXPECT_TRUE(out.str().starts_with(begins)) << out.str();
    EXPECT_EQ(err.str(), "");
    EXPECT_EQ(run("check --output " + std::string(format) + " " + v), kOk);
    EXPECT_EQ(run("check --warnings-as-errors --output " + std::string(format) + " - < " + v), kFailed);
  }
  EXPECT_EQ(run("check --output xml " + v), kUsage);
  EXPECT_EQ(run("check --gateway nonsense " + v), kUsage);
  EXPECT_EQ(run("check"), kUsage);
  EXPECT_EQ(run("check --gateway istio=edge,app=x " + v), kOk);
  EXPECT_EQ(run("check --help"), kOk);
}

struct Explain : Sluicectl {
  const std::string demo = std::string(SLUICE_SOURCE_ROOT) + "/configs/demo/";
  explain::Question question{.url = "https://shop.example.com/", .principal = "spiffe://cluster.local/ns/shop/sa/client"};
  std::string text(bool json = false) {
    out.str("");
    EXPECT_EQ(sluice::cli::explain("", question, {.dir = demo + "istio", .mesh = demo + "mesh.yaml"}, json, streams), kOk) << err.str();
    return out.str();
  }
};

TEST_F(Explain, SaysEachStepOfAnAllowedRequestWithItsLine) {
  const std::string t = text();
  for (const char* step :
       {"listener  0.0.0.0_443", "a client certificate is required  [Gateway shop/edge ", "gateway.yaml:4:18]",
        "host      shop.example.com:443", "missed    - route 0: the path '/' is not prefix /bench",
        "route     route 1: prefix /  [VirtualService shop/shop ", "routes.yaml:9:14]", "routes.yaml:12:5]",
        "policy    - ALLOW ns[shop]-policy[passthrough]-rule[0]: just missed: wants port 15443; it is 443",
        "verdict   allowed: ALLOW ns[shop]-policy[client-may-shop]-rule[0]  [AuthorizationPolicy shop/client-may-shop ",
        "policies.yaml:14:5]", "cluster   outbound|8080|v1|web.shop.svc.cluster.local, 90 of 100", "endpoint  10.20.0.2:8080: could serve"})
    EXPECT_NE(t.find(step), std::string::npos) << step << "\n" << t;
}

TEST_F(Explain, SaysWhyNotAndWhatTheAnswerIs) {
  question.principal = "spiffe://cluster.local/ns/shop/sa/other";
  std::string t = text();
  EXPECT_NE(t.find("just missed: wants a principal that is 'spiffe://cluster.local/ns/shop/sa/client'; it is "
                   "'spiffe://cluster.local/ns/shop/sa/other'"),
            t.npos)
      << t;
  EXPECT_NE(t.find("answer    403 rbac_access_denied_matched_policy[none]"), t.npos) << t;
  question.principal.clear();
  EXPECT_NE(text().find("refused in the handshake: a client certificate is required"), t.npos);
  question = {.url = "http://shop.example.com/bench/../bench"};
  t = text();
  EXPECT_NE(t.find("path      becomes '/bench'"), t.npos) << t;
  EXPECT_EQ(t.find("answer"), t.npos) << t;
  question = {.method = "get", .url = "http://shop.example.com/"};
  EXPECT_NE(text().find("answer    400 http1.codec_error"), t.npos);
  question = {.url = "http://shop.example.com:81/"};
  EXPECT_NE(text().find("no listener on port 81; there are: 0.0.0.0:80"), t.npos);
  question = {.url = "https://other.example.com:15443/"};
  EXPECT_NE(text().find("filter_chain_not_found"), t.npos);
}

// Found by tests/oracle: a certificate that nobody asks for in the handshake cannot be had.
TEST_F(Explain, APrincipalCountsOnlyWhereItIsAskedFor) {
  const auto simple = dir / "simple";
  std::filesystem::create_directories(simple);
  std::ofstream(simple / "a.yaml") << R"(
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: shop}, spec: {selector: {a: b}, servers: [
  {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, serverCertificate: /s, privateKey: /k}},
  {port: {number: 9443, name: ask, protocol: HTTPS}, hosts: [a.example.com],
   tls: {mode: OPTIONAL_MUTUAL, serverCertificate: /s, privateKey: /k, caCertificates: /c}}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop},
 spec: {rules: [{from: [{source: {principals: ["cluster.local/ns/shop/sa/client"]}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a, namespace: shop}, spec: {action: AUDIT, rules: [{}]}}
)";
  for (const auto& [port, answer] :
       {std::pair("", "403 rbac_access_denied_matched_policy[none]"), std::pair(":9443", "404 route_not_found")}) {
    question.url = "https://a.example.com" + std::string(port) + "/";
    out.str("");
    EXPECT_EQ(sluice::cli::explain("", question, {.dir = simple}, false, streams), kOk) << err.str();
    EXPECT_NE(out.str().find(answer), std::string::npos) << out.str();
    EXPECT_NE(out.str().find("verdict   allowed: LOG ns[shop]-policy[a]-rule[0]\n"), std::string::npos) << out.str();
  }
}

// Found by tests/oracle: where no server of a port has TLS, nobody looks into a ClientHello, so a policy sees no server name.
TEST_F(Explain, AServerNameCountsOnlyWhereItIsLookedFor) {
  const auto plain = dir / "plain";
  std::filesystem::create_directories(plain);
  std::ofstream(plain / "a.yaml") << R"(
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: shop}, spec: {selector: {a: b}, servers: [
  {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: shop}, spec: {hosts: ["*"], gateways: [g],
 tcp: [{route: [{destination: {host: web.shop.svc.cluster.local, port: {number: 8080}}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop},
 spec: {rules: [{when: [{key: connection.sni, values: [a.example.com]}]}]}}
)";
  question = {.url = "https://a.example.com:9000/"};
  EXPECT_EQ(sluice::cli::explain("", question, {.dir = plain}, false, streams), kOk) << err.str();
  EXPECT_NE(out.str().find("the connection is closed: rbac_access_denied: "), std::string::npos) << out.str();
}

TEST_F(Explain, QuestionsGoOverTheAdminSocketAndComeBackWhole) {
  question.headers = {{"x-a", "1: 2"}, {"cookie", "a=b&c%20"}};
  question.sni = "";
  question.to = IpAddress(Ipv4{0x0a000001});
  const auto back = explain::parse_question(explain::write_question(question));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(explain::write_question(*back), explain::write_question(question));
  admin::Server with;
  std::string asked;
  admin::add_admin(with, {.explain = [&](const std::string& q, bool) -> std::expected<std::string, std::string> {
                     asked = q;
                     return "steps\n";
                   }});
  ASSERT_TRUE(with.listen_unix(dir / "e"));
  with.start();
  EXPECT_EQ(sluice::cli::explain(dir / "e", question, {}, false, streams), kOk);
  EXPECT_EQ(out.str(), "steps\n");
  EXPECT_EQ(asked, explain::write_question(question));
  EXPECT_EQ(run("explain GET ftp://x -d " + demo + "istio"), 1);
  EXPECT_EQ(run("explain GET http://x/ -H nonsense -d " + demo + "istio"), 2);
}

struct Diff : Sluicectl {
  const std::string demo = std::string(SLUICE_SOURCE_ROOT) + "/configs/demo/";
  // The demo with a file's text changed.
  std::string changed(const std::string& file, const std::string& from, const std::string& to) {
    const auto copy = dir / "changed";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(demo + "istio", copy);
    std::stringstream text;
    text << std::ifstream(copy / file).rdbuf();
    std::string s = text.str();
    EXPECT_NE(s.find(from), s.npos) << from;
    for (size_t at = 0; (at = s.find(from, at)) != s.npos; at += to.size()) s.replace(at, from.size(), to);
    std::ofstream(copy / file) << s;
    return copy;
  }
  std::string text(const std::string& before, const std::string& after) {
    out.str("");
    EXPECT_EQ(diff("", {.dir = before, .mesh = demo + "mesh.yaml"}, {.dir = after, .mesh = demo + "mesh.yaml"}, streams), kOk) << err.str();
    return out.str();
  }
};

TEST_F(Diff, SaysNothingOfWhatStaysTheSame) {
  const std::string t = text(demo + "istio", demo + "istio");
  EXPECT_TRUE(t.starts_with("0 changes, 0 kinds of requests flip (")) << t;
}

TEST_F(Diff, AVerdictThatFlipsComesWithARequestThatFlips) {
  const std::string after = changed("policies.yaml", "/items/*", "/things/*");
  const std::string t = text(demo + "istio", after);
  EXPECT_NE(
      t.find("! GET https://shop.example.com/items/ --principal spiffe://cluster.local/ns/shop/sa/client\n    was to outbound|8080|v1"),
      t.npos)
      << t;
  EXPECT_NE(t.find("\n    is  403 rbac_access_denied_matched_policy[none]\n    by  AuthorizationPolicy shop/client-may-shop "), t.npos)
      << t;
  EXPECT_EQ(t.find("undecided"), t.npos) << t;
  // The witness flips for real: explain says so of both directories.
  sluice::explain::Question q{.url = "https://shop.example.com/items/", .principal = "spiffe://cluster.local/ns/shop/sa/client"};
  for (const auto& [folder, status] : {std::pair(demo + "istio", "\"status\":0"), std::pair(after, "\"status\":403")}) {
    out.str("");
    EXPECT_EQ(sluice::cli::explain("", q, {.dir = folder}, true, streams), kOk);
    EXPECT_NE(out.str().find(status), std::string::npos) << out.str();
  }
}

// Found by tests/oracle: rules of several conditions, on hosts, namespaces and methods with a wildcard, had no witness and no word either.
TEST_F(Diff, ARuleOfManyConditionsHasAWitnessAndWhatHasNoneIsNamed) {
  const auto folder = [&](const std::string& name, const std::string& rules) {
    std::filesystem::create_directories(dir / name);
    std::ofstream(dir / name / "a.yaml") << R"(
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: shop}, spec: {selector: {a: b}, servers: [
  {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com],
   tls: {mode: MUTUAL, serverCertificate: /s, privateKey: /k, caCertificates: /c}}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: shop}, spec: {hosts: [a.example.com], gateways: [g],
 http: [{match: [{headers: {x-a: {exact: "1"}}, uri: {regex: "/api/v[0-9]+"}}], directResponse: {status: 200}}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, spec: {rules: [)"
                                         << rules << "]}}\n";
    return (dir / name).string();
  };
  const std::string before = folder("before", "{to: [{operation: {methods: [NONE]}}]}");
  const std::string rule =
      "{from: [{source: {namespaces: [prod*]}}], to: [{operation: {hosts: [a.example.com], methods: [HE*]}}],"
      " when: [{key: 'request.headers[x-b]', values: ['2']}, {key: 'request.headers[x-c]', notValues: ['3']}]}";
  std::string t = text(before, folder("after", rule));
  EXPECT_NE(t.find("! HEAD https://a.example.com/api/v0 -H 'x-a: 1' -H 'x-b: 2' --principal spiffe://cluster.local/ns/prod"), t.npos) << t;
  EXPECT_NE(t.find("is  200 direct_response\n    by  AuthorizationPolicy shop/p "), t.npos) << t;
  // A rule that nothing can meet makes no difference, but who knows that.
  t = text(before, folder("never", "{to: [{operation: {methods: [NONE], notMethods: [NONE]}}]}"));
  EXPECT_NE(t.find("? undecided: AuthorizationPolicy shop/p is not what it was, and no request was found that it makes a difference to\n"),
            t.npos)
      << t;
}

TEST_F(Diff, RoutesEndpointsAndCertificatesAreNamed) {
  std::string t = text(demo + "istio", changed("shop.yaml", "10.20.0.3", "10.20.0.33"));
  EXPECT_NE(t.find("- endpoint 10.20.0.3:8080 of outbound|8080|v2|web.shop.svc.cluster.local\n"), t.npos) << t;
  EXPECT_NE(t.find("+ endpoint 10.20.0.33:8080 of outbound|8080|v2|web.shop.svc.cluster.local\n"), t.npos) << t;
  t = text(demo + "istio", changed("routes.yaml", "prefix: /bench", "prefix: /bank"));
  EXPECT_NE(t.find("+ route shop.example.com:443 of https.443.https-mutual.edge.shop: prefix /bank -> outbound|8080|v1"), t.npos) << t;
  t = text(demo + "istio", changed("gateway.yaml", "/gateway.pem", "/next.pem"));
  EXPECT_NE(t.find("+ certificate of 0.0.0.0_443: other.example.com shop.example.com: file-cert:/etc/sluice/pki/next.pem~"), t.npos) << t;
}

TEST_F(Diff, AWrongFolderIsRefusedAtItsPlace) {
  EXPECT_EQ(diff("", {.dir = demo + "istio"}, {.dir = changed("routes.yaml", "prefix: /bench", "prefx: /bench")}, streams), kFailed);
  EXPECT_NE(err.str().find("routes.yaml:"), std::string::npos) << err.str();
  EXPECT_EQ(run("-s " + dir.string() + "/none diff " + demo + "istio"), 1);
}

}  // namespace
}  // namespace sluice::cli
