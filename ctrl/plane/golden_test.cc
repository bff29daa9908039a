// What istiod 1.29.6 answered, input by input, compared field by field. Needs ../shared/golden (or SLUICE_GOLDEN); skips without it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "ctrl/plane/resource.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

fs::path golden() {
  const char* g = std::getenv("SLUICE_GOLDEN");
  return g != nullptr ? fs::path(g) : fs::path(SLUICE_SOURCE_ROOT) / "../../shared/golden";
}
fs::path found() {
  for (const fs::path& p : {golden(), fs::path(SLUICE_SOURCE_ROOT) / "../shared/golden"})
    if (fs::exists(p / "istiod/01-http")) return p;
  return {};
}
std::string slurp(const fs::path& p) {
  std::ifstream in(p);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

// Empty when equal; else why not.
std::string compare(const fs::path& dir) {
  const fs::path mesh = fs::exists(dir / "mesh.yaml") ? dir / "mesh.yaml" : dir.parent_path() / "mesh.yaml";
  const Loaded l = load_text(slurp(dir / "in.yaml"), "in.yaml", slurp(mesh));
  if (has_errors(l.issues)) return "refused: " + l.issues[0].message;
  const auto node = node_from_json(slurp(dir / "node.json"));
  if (!node) return node.error();
  const auto resources = to_resources(translate(l.world, *node, {.deny_by_default = false}));
  if (!resources) return resources.error();
  const fs::path out = fs::temp_directory_path() / ("plane-golden-" + std::to_string(::getpid()));
  fs::create_directories(out);
  static constexpr const char* kFiles[] = {"cds.json", "eds.json", "lds.json", "rds.json"};
  for (int t = 0; t < 4; t++) {
    std::ofstream f(out / kFiles[t]);
    f << "[";
    size_t i = 0;
    for (const auto& [name, r] : resources->of[t]) f << (i++ ? "," : "") << to_json(kTypeNames[t], r.value);
    f << "]";
  }
  const fs::path log = out / "diff.txt";
  const std::string command = "python3 '" + (dir / "../../../tools/golden_diff.py").string() + "' '" + dir.string() + "' '" + out.string() +
                              "' > '" + log.string() + "' 2>&1";
  const int code = std::system(command.c_str());
  const std::string text = slurp(log);
  fs::remove_all(out);
  return code == 0 ? "" : text;
}

TEST(Golden, TranslatesWhatIstiodTranslates) {
  const fs::path root = found();
  if (root.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  int all = 0;
  for (const auto& e : fs::directory_iterator(root / "istiod")) {
    if (!e.is_directory()) continue;
    EXPECT_EQ(compare(e.path()), "") << e.path().filename();
    all++;
  }
  EXPECT_GE(all, 31);
}

// istiod-invalid: what istiod refuses is refused, at a place. What it accepts in silence may be refused too.
TEST(Golden, RefusesWhatIstiodRefuses) {
  const fs::path root = found();
  if (root.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  std::ifstream answers(root / "istiod-invalid/answers.tsv");
  int refused = 0;
  for (std::string line; std::getline(answers, line);) {
    const size_t tab = line.find('\t');
    if (!line.substr(tab + 1).starts_with("refused")) continue;
    const std::string name = line.substr(0, tab) + ".yaml";
    const Loaded l = load_text(slurp(root / "istiod-invalid" / name), name);
    EXPECT_TRUE(has_errors(l.issues)) << line;
    if (l.issues.empty()) continue;
    EXPECT_FALSE(l.issues[0].message.empty());
    for (const Issue& i : l.issues) {
      EXPECT_FALSE(i.remedy.empty() || i.line == 0) << name << ": " << i.message;
      if (name.starts_with("yaml-")) continue;
      EXPECT_FALSE(i.source_line.empty() || i.field.empty() || i.object.empty()) << name << ": " << render(i);
    }
    refused++;
  }
  EXPECT_GE(refused, 78);
}

// What istiod accepts in silence is a mistake all the same: each has an error or a warning of its own (not only one about what is missing
// around it), at a place.
TEST(Golden, FlagsWhatIstiodAcceptsInSilence) {
  const fs::path root = found();
  if (root.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  std::ifstream answers(root / "istiod-invalid/answers.tsv");
  int flagged = 0;
  for (std::string line; std::getline(answers, line);) {
    const size_t tab = line.find('\t');
    if (!line.substr(tab + 1).starts_with("accepted")) continue;
    const std::string name = line.substr(0, tab) + ".yaml";
    const Loaded l = load_text(slurp(root / "istiod-invalid" / name), name);
    flagged += std::ranges::any_of(l.issues, [&](const Issue& i) {
      EXPECT_FALSE(i.source_line.empty()) << name << ": " << i.message;
      EXPECT_FALSE(i.remedy.empty() || i.field.empty()) << name << ": " << i.message;
      return i.rule != "unknown-gateway" && i.rule != "unknown-service";
    });
    EXPECT_FALSE(l.issues.empty()) << name;
  }
  EXPECT_EQ(flagged, 18);
}

// The 31 inputs are good: nothing leads nowhere in them.
TEST(Golden, WhatIsGoodHasNoWarning) {
  const fs::path root = found();
  if (root.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  for (const auto& e : fs::directory_iterator(root / "istiod")) {
    if (!e.is_directory()) continue;
    const fs::path mesh = fs::exists(e.path() / "mesh.yaml") ? e.path() / "mesh.yaml" : root / "istiod/mesh.yaml";
    const Loaded l = load_text(slurp(e.path() / "in.yaml"), "in.yaml", slurp(mesh));
    EXPECT_TRUE(l.issues.empty()) << e.path().filename() << "\n" << render(l.issues);
  }
}

TEST(Golden, TwiceTheSameAnswerToTheByte) {
  const fs::path root = found();
  if (root.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  const fs::path dir = root / "istiod/26-hosts-merge";
  const auto once = [&] {
    const Loaded l = load_text(slurp(dir / "in.yaml"), "in.yaml");
    return *to_resources(translate(l.world, *node_from_json(slurp(dir / "node.json")), {}));
  };
  const Resources a = once(), b = once();
  for (int t = 0; t < 4; t++) {
    ASSERT_EQ(a.of[t].size(), b.of[t].size());
    for (const auto& [name, r] : a.of[t]) EXPECT_EQ(r.version, b.of[t].at(name).version) << name;
  }
}

}  // namespace
}  // namespace sluice::plane
