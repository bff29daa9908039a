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
  EXPECT_EQ(status(socket, false, streams), 0);
  EXPECT_EQ(out.str(), "connected\n");
  refused = true;
  EXPECT_EQ(status(socket, true, streams), 3);
  EXPECT_EQ(run("-s " + socket + " status"), 3);
  refused = false;
  EXPECT_EQ(run("-s " + socket + " status"), 0);
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
  EXPECT_EQ(check(dir.string(), {}, streams), kFailed);
  EXPECT_NE(err.str().find("gateway.yaml:5:3: error: unknown field spec.selektor; did you mean 'selector'?"), std::string::npos)
      << err.str();
  EXPECT_NE(err.str().find("  ^~~~~~~~"), std::string::npos) << err.str();
  EXPECT_NE(out.str().find("1 errors"), std::string::npos) << out.str();
  EXPECT_EQ(run("check " + dir.string()), kFailed);
  EXPECT_EQ(run("check " + dir.string() + "/none"), kFailed);
}

TEST_F(Sluicectl, CheckOfTheDemoIsGood) {
  EXPECT_EQ(
      check(std::string(SLUICE_SOURCE_ROOT) + "/configs/demo/istio", std::string(SLUICE_SOURCE_ROOT) + "/configs/demo/mesh.yaml", streams),
      kOk)
      << err.str();
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
        "route     route 1: prefix /  [VirtualService shop/shop ",
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

}  // namespace
}  // namespace sluice::cli
