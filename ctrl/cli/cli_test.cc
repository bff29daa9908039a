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

}  // namespace
}  // namespace sluice::cli
