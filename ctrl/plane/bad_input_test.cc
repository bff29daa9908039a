// Directories as they should not be: each has a clear answer, the last good state stays, a counter tells.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <ctime>
#include <fstream>
#include <thread>

#include "ctrl/admin/server.h"
#include "ctrl/plane/control.h"
#include "ctrl/plane/directory.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

std::string gateway(const std::string& name, int port = 80) {
  return "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " + name +
         ", namespace: shop}\nspec:\n  selector: {a: b}\n  servers:\n  - port: {number: " + std::to_string(port) +
         ", name: http, protocol: HTTP}\n    hosts: ['*']\n";
}

struct BadInput : testing::Test {
  fs::path dir;
  std::string said, problems;
  std::unique_ptr<Control> control;
  void SetUp() override {
    char name[] = "/tmp/sluice-bad-XXXXXX";
    dir = ::mkdtemp(name);
    fs::create_directory(dir / "d");
    write("good.yaml", gateway("good"));
  }
  void TearDown() override {
    control.reset();
    fs::remove_all(dir);
  }
  void write(const std::string& file, const std::string& text) { std::ofstream(dir / "d" / file) << text; }
  Loaded load() { return load_directory(dir / "d"); }
  void start() {
    auto c = Control::start({.dir = dir / "d",
                             .mesh = "",
                             .server = {.listen = "unix:" + (dir / "s").string()},
                             .admin = "unix:" + (dir / "admin").string(),
                             .say = [this](const std::string& s) { said += s + "\n"; },
                             .problems = [this](const std::string& s) { problems += s; }});
    ASSERT_TRUE(c) << c.error();
    control = std::move(*c);
  }
  // Until the control plane has said it, for a change that it may see in several steps.
  bool says(const std::string& what) {
    for (int i = 0; i < 100; i++) {
      if (said.find(what) != said.npos) return true;
      control->poll(50);
    }
    return false;
  }
  // How often a version of the directory was refused, as Prometheus sees it.
  int refused() {
    const auto r = admin::ask_unix((dir / "admin").string(), "GET", "/stats/prometheus");
    const std::string name = "\nsluice_control_directory_refused_total ";
    const size_t at = r ? r->body.find(name) : std::string::npos;
    return at == std::string::npos ? -1 : std::stoi(r->body.substr(at + name.size()));
  }
};

TEST_F(BadInput, AHalfWrittenFileChangesNothingAndSaysWhy) {
  start();
  write("more.yaml", gateway("more", 81).substr(0, 150));
  ASSERT_TRUE(says("refused: ")) << said;
  EXPECT_NE(said.find("the last good version stays"), said.npos);
  EXPECT_NE(problems.find("more.yaml:"), problems.npos) << problems;
  EXPECT_GE(refused(), 1);
  said.clear();
  write("more.yaml", gateway("more", 81));
  EXPECT_TRUE(says("pushed: 2 objects")) << said;
}

TEST_F(BadInput, ADirectoryThatVanishesChangesNothingAndSaysWhy) {
  start();
  fs::remove_all(dir / "d");
  ASSERT_TRUE(says("refused: ")) << said;
  EXPECT_NE(problems.find("no such directory"), problems.npos) << problems;
  EXPECT_GE(refused(), 1);
  EXPECT_EQ(said.find("pushed"), said.npos) << "an empty world is no answer to a directory that is gone: " << said;
  fs::create_directory(dir / "d");
  write("good.yaml", gateway("good"));
  write("more.yaml", gateway("more", 81));
  EXPECT_TRUE(says("pushed: 2 objects")) << said;
}

TEST_F(BadInput, AFileOf100MegabytesIsNotReadWhole) {
  write("big.yaml", "");
  fs::resize_file(dir / "d/big.yaml", 100 << 20);
  const std::clock_t began = std::clock();  // of this process: the machine may be busy
  const Loaded l = load();
  EXPECT_LT(double(std::clock() - began) / CLOCKS_PER_SEC, 2);
  ASSERT_EQ(l.issues.size(), 1u) << render(l.issues);
  EXPECT_EQ(l.issues[0].message, "larger than 8 MiB");
  EXPECT_EQ(l.issues[0].remedy, "split the file");
}

TEST_F(BadInput, TenThousandErrorsAreAllSaidInTime) {
  std::string text;
  for (int i = 0; i < 10'000; i++) {
    std::string g = gateway("g" + std::to_string(i));
    g.replace(g.find("selector"), 8, "selektor");
    text += g + "---\n";
  }
  write("many.yaml", text);
  const std::clock_t began = std::clock();  // of this process: the machine may be busy
  Loaded l = load();
  EXPECT_EQ(errors_in(l.issues), 10'000u);
  EXPECT_EQ(l.issues[9'999].field, "spec.selektor");
  // And of one object.
  text =
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec:\n  hosts: [a.example.com]\n  "
      "http:\n";
  for (int i = 0; i < 10'000; i++) text += "  - rout: [{destination: {host: web}}]\n";
  write("many.yaml", text);
  l = load();
  EXPECT_EQ(errors_in(l.issues), 10'000u);
  EXPECT_EQ(l.issues[9'999].field, "spec.http[9999].rout");
  EXPECT_EQ(l.issues[9'999].source_line, "  - rout: [{destination: {host: web}}]");
  EXPECT_LT(double(std::clock() - began) / CLOCKS_PER_SEC, 8);
}

TEST_F(BadInput, TenThousandReferencesThatLeadNowhereAreAllSaidInTime) {
  std::string text;
  for (int i = 0; i < 10'000; i++)
    text += "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v" + std::to_string(i) +
            ", namespace: shop}\nspec:\n  hosts: [h" + std::to_string(i) +
            ".example.com]\n  gateways: [good]\n  http: [{route: [{destination: {host: s" + std::to_string(i) + ".example.com}}]}]\n---\n";
  write("many.yaml", text);
  const std::clock_t began = std::clock();  // of this process: the machine may be busy
  const Loaded l = load();
  EXPECT_EQ(l.issues.size(), 10'000u);
  EXPECT_LT(double(std::clock() - began) / CLOCKS_PER_SEC, 8);
}

TEST_F(BadInput, BrokenUtf8AndNulBytesArePlaced) {
  write("bad.yaml", std::string("a: b\nc: \xc3\x28\n"));
  write("nul.yaml", std::string("a: b\0c\n", 7));
  const Loaded l = load();
  ASSERT_EQ(l.issues.size(), 2u) << render(l.issues);
  EXPECT_TRUE(l.issues[0].place().ends_with("bad.yaml:2:4")) << l.issues[0].place();
  EXPECT_EQ(l.issues[0].remedy, "save the file as UTF-8");
}

TEST_F(BadInput, LinksOutOfTheDirectoryLoopsAndWhatIsNoFile) {
  std::ofstream(dir / "secret.yaml") << gateway("secret");
  fs::create_symlink(dir / "secret.yaml", dir / "d/out.yaml");
  fs::create_symlink(dir / "d", dir / "d/loop");
  fs::create_symlink("nowhere", dir / "d/gone.yaml");
  ASSERT_EQ(::mkfifo((dir / "d/pipe.yaml").c_str(), 0600), 0);
  const Loaded l = load();
  ASSERT_EQ(l.issues.size(), 2u) << render(l.issues);
  for (const Issue& i : l.issues) EXPECT_NE(i.message.find("out of the directory"), i.message.npos) << render(i);
}

// As the kubelet mounts a ConfigMap: files are links to a hidden folder, which is replaced whole.
TEST_F(BadInput, AMountedConfigMapIsReadOnce) {
  fs::remove(dir / "d/good.yaml");
  fs::create_directory(dir / "d/..2026_1");
  std::ofstream(dir / "d/..2026_1/g.yaml") << gateway("g");
  fs::create_symlink("..2026_1", dir / "d/..data");
  fs::create_symlink("..data/g.yaml", dir / "d/g.yaml");
  const Loaded l = load();
  EXPECT_TRUE(l.issues.empty()) << render(l.issues);
  EXPECT_EQ(l.world.written(), 1u);
}

TEST_F(BadInput, TwoObjectsOfOneNameInTwoFilesChangeNothing) {
  start();
  write("same.yaml", gateway("good", 81));
  ASSERT_TRUE(says("refused: ")) << said;
  EXPECT_NE(problems.find("Gateway shop/good is there twice"), problems.npos) << problems;
  EXPECT_NE(problems.find("the other is at "), problems.npos);
  EXPECT_GE(refused(), 1);
}

TEST_F(BadInput, YamlBombsEndInOneErrorEach) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int n = 1; n < 12; n++) {
    bomb += "a" + std::to_string(n) + ": &a" + std::to_string(n) + " [";
    for (int i = 0; i < 10; i++) bomb += (i == 0 ? "*a" : ", *a") + std::to_string(n - 1);
    bomb += "]\n";
  }
  write("bomb.yaml", bomb);
  write("deep.yaml", "a: " + std::string(100'000, '[') + "\n");
  write("wide.yaml", "a: [" + std::string(3'000'000, ',') + "]\n");
  const std::clock_t began = std::clock();  // of this process: the machine may be busy
  const Loaded l = load();
  EXPECT_LT(double(std::clock() - began) / CLOCKS_PER_SEC, 10);
  EXPECT_TRUE(has_errors(l.issues));
  EXPECT_EQ(l.issues.size(), 3u) << render(l.issues);
  for (const Issue& i : l.issues) EXPECT_FALSE(i.remedy.empty()) << render(i);
}

}  // namespace
}  // namespace sluice::plane
