#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
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

}  // namespace
}  // namespace sluice::cli
