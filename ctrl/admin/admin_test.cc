#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "ctrl/admin/endpoints.h"

namespace sluice::admin {
namespace {
namespace fs = std::filesystem;

struct AdminServer : testing::Test {
  fs::path dir;
  std::string socket;
  void SetUp() override {
    char name[] = "/tmp/sluice-admin-XXXXXX";
    dir = ::mkdtemp(name);
    socket = dir / "s";
  }
  void TearDown() override { fs::remove_all(dir); }

  int connect_unix() {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    std::strcpy(a.sun_path, socket.c_str());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    return fd;
  }
  std::string raw(const std::string& bytes) {
    const int fd = connect_unix();
    EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), ssize_t(bytes.size()));
    std::string in;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) in.append(buffer, size_t(n));
    ::close(fd);
    return in;
  }
};

TEST_F(AdminServer, AnswersItsRoutes) {
  Server s;
  std::string level = "info";
  bool drained = false, refused = false;
  add_admin(s, {.status_text = [] { return "all is well\n"; },
                .status_json = [] { return "{}"; },
                .security_refused = [&] { return refused; },
                .config_dump_json = [] { return "{\"configs\":[]}"; },
                .log_level = [&] { return level; },
                .set_log_level = [&](std::string_view l) { level = l; },
                .drain = [&] { drained = true; }});
  ASSERT_TRUE(s.listen_unix(socket));
  s.start();
  auto r = ask_unix(socket, "GET", "/status");
  ASSERT_TRUE(r) << r.error();
  EXPECT_EQ(r->body, "all is well\n");
  EXPECT_EQ(r->headers["x-sluice-status"], "ok");
  refused = true;
  r = ask_unix(socket, "GET", "/status?format=json");
  EXPECT_EQ(r->body, "{}");
  EXPECT_EQ(r->headers["content-type"], "application/json");
  EXPECT_EQ(r->headers["x-sluice-status"], "refused");
  EXPECT_EQ(ask_unix(socket, "GET", "/config_dump")->body, "{\"configs\":[]}");
  EXPECT_EQ(ask_unix(socket, "GET", "/clusters")->status, 503);  // not wired
  EXPECT_EQ(ask_unix(socket, "POST", "/logging?level=debug")->status, 200);
  EXPECT_EQ(level, "debug");
  EXPECT_EQ(ask_unix(socket, "POST", "/logging?level=loud")->status, 400);
  EXPECT_EQ(ask_unix(socket, "POST", "/logging")->status, 400);
  EXPECT_EQ(ask_unix(socket, "GET", "/drain_listeners")->status, 405);
  EXPECT_FALSE(drained);
  EXPECT_EQ(ask_unix(socket, "POST", "/drain_listeners")->status, 200);
  EXPECT_TRUE(drained);
  EXPECT_EQ(ask_unix(socket, "GET", "/nothing")->status, 404);
  EXPECT_NE(ask_unix(socket, "GET", "/")->body.find("POST /drain_listeners\n"), std::string::npos);
}

TEST_F(AdminServer, TheSocketIsOursAloneAndGoesWithTheServer) {
  {
    Server s;
    ASSERT_TRUE(s.listen_unix(socket));
    s.start();
    struct stat st;
    ASSERT_EQ(::stat(socket.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
  }
  EXPECT_FALSE(fs::exists(socket));
}

TEST_F(AdminServer, AnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  Server s;
  s.route("GET", "/x", [](const HttpRequest&) { return HttpResponse{.body = "secret"}; });
  ASSERT_TRUE(s.listen_unix(socket));
  s.start();
  fs::permissions(dir, fs::perms::all);
  fs::permissions(socket, fs::perms::all);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65534) != 0) ::_exit(9);
    const auto r = ask_unix(socket, "GET", "/x");
    ::_exit(r && r->status == 403 && r->body.find("secret") == std::string::npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(AdminServer, ALivingServersSocketIsNotTakenAndADeadOnesIs) {
  {
    Server a, b;
    ASSERT_TRUE(a.listen_unix(socket));
    a.start();
    const auto taken = b.listen_unix(socket);
    ASSERT_FALSE(taken);
    EXPECT_NE(taken.error().find("in use"), std::string::npos);
    EXPECT_EQ(ask_unix(socket, "GET", "/")->status, 200);
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, socket.c_str());
  const int dead = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(dead, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(dead);
  Server c;
  EXPECT_TRUE(c.listen_unix(socket));
  std::ofstream(dir / "file") << "x";
  Server d;
  EXPECT_FALSE(d.listen_unix(dir / "file"));
  EXPECT_TRUE(fs::exists(dir / "file"));
  Server e;
  EXPECT_NE(e.listen_unix(dir / "no" / "folder").error().find("make its folder"), std::string::npos);
}

TEST_F(AdminServer, BadRequestsGetTheirStatus) {
  Server s;
  s.route("GET", "/x", [](const HttpRequest& r) { return HttpResponse{.body = r.query.contains("q") ? r.query.at("q") : ""}; });
  ASSERT_TRUE(s.listen_unix(socket));
  s.start();
  auto status = [&](const std::string& bytes) { return raw(bytes).substr(9, 3); };
  EXPECT_EQ(status("GET /x HTTP/1.1\r\n\r\n"), "200");
  EXPECT_EQ(status("nonsense\r\n\r\n"), "400");
  EXPECT_EQ(status("GET x HTTP/1.1\r\n\r\n"), "400");
  EXPECT_EQ(status("GET /x HTTP/2\r\n\r\n"), "400");
  EXPECT_EQ(status("GET /x HTTP/1.1\r\nno colon\r\n\r\n"), "400");
  EXPECT_EQ(status("GET /x HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello"), "413");
  EXPECT_EQ(status("GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), "413");
  EXPECT_EQ(status("GET /" + std::string(kRequestBytesMax, 'x')), "431");
  EXPECT_TRUE(raw("GET /x?a=b&q=1%202%zz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n1 2%zz"));
}

TEST_F(AdminServer, ClientsThatSayNothingDoNotKeepOthersOut) {
  Server s;
  s.route("GET", "/big", [](const HttpRequest&) { return HttpResponse{.body = std::string(4 << 20, 'x')}; });
  ASSERT_TRUE(s.listen_unix(socket));
  s.start();
  std::vector<int> silent;
  for (size_t i = 0; i + 1 < kConnectionsMax; i++) silent.push_back(connect_unix());
  const auto r = ask_unix(socket, "GET", "/big");
  ASSERT_TRUE(r) << r.error();
  EXPECT_EQ(r->body.size(), size_t(4 << 20));
  for (const int fd : silent) ::close(fd);
}

TEST_F(AdminServer, StatsAreOnLoopbackOnly) {
  Server s;
  bool is_ready = false;
  add_stats(s, [] { return "metric 1\n"; }, [&] { return is_ready; });
  EXPECT_FALSE(s.listen_loopback("0.0.0.0:0"));
  EXPECT_FALSE(s.listen_loopback("127.0.0.1"));
  const auto port = s.listen_loopback("127.0.0.1:0");
  ASSERT_TRUE(port) << port.error();
  s.start();
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(*port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto ask = [&](const std::string& target) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    const std::string request = "GET " + target + " HTTP/1.1\r\nhost: localhost\r\n\r\n";
    EXPECT_GT(::send(fd, request.data(), request.size(), 0), 0);
    std::string in;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) in.append(buffer, size_t(n));
    ::close(fd);
    return in;
  };
  EXPECT_TRUE(ask("/stats/prometheus").ends_with("\r\n\r\nmetric 1\n"));
  EXPECT_TRUE(ask("/healthz/ready").starts_with("HTTP/1.1 503"));
  is_ready = true;
  EXPECT_TRUE(ask("/healthz/ready").starts_with("HTTP/1.1 200"));
  Server second;
  EXPECT_FALSE(second.listen_loopback("127.0.0.1:" + std::to_string(*port)));
}

TEST_F(AdminServer, AskingWhereNobodyIsSaysWhatToDo) {
  const auto r = ask_unix(dir / "nobody", "GET", "/status");
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().find("is it running?"), std::string::npos);
}

TEST(MetricsText, EscapesLabelsAndKeepsTheFormat) {
  MetricsText m;
  m.family("a_total", "counter", "what\nit is");
  m.sample("a_total", {{"x", "q\"\\\n"}, {"y", ""}}, uint64_t{18446744073709551615u});
  m.sample("a_seconds", {}, 0.25);
  EXPECT_EQ(
      m.text(),
      "# HELP a_total what\\nit is\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\",y=\"\"} 18446744073709551615\na_seconds 0.25\n");
}

}  // namespace
}  // namespace sluice::admin
