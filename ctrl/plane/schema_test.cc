// docs/istio.md against the two tables that it speaks of: every field of schema.inc has one row with the schema's verdict, and where a row
// names the Envoy fields that the field becomes, its last cell is what ctrl/compile/verdicts.inc says of the strictest of them.
#include "ctrl/plane/schema.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace sluice::plane {
namespace {

std::string slurp(const std::string& name) {
  std::ifstream in(std::filesystem::path(SLUICE_SOURCE_ROOT) / name);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

struct Row {
  std::string field, verdict, becomes, gateway;
};
std::vector<Row> rows() {
  std::vector<Row> out;
  const std::regex row(R"(\| `(\w+\.\w+)` \| (\w+) \| (.*?) ?\| (\w*) ?\|)");
  std::istringstream lines(slurp("docs/istio.md"));
  std::smatch m;
  for (std::string line; std::getline(lines, line);)
    if (std::regex_match(line, m, row)) out.push_back({m[1], m[2], m[3], m[4]});
  return out;
}

// Envoy's messages by their full name: {field -> "honoured" or "inert"}; "*" or "=" stands for all fields.
using Verdicts = std::map<std::string, std::map<std::string, std::string>>;
Verdicts gateway_verdicts() {
  Verdicts out;
  const std::regex entry(R"re(\{"([\w.]+)", "(.*)"\},)re");
  std::istringstream lines(slurp("ctrl/compile/verdicts.inc"));
  std::smatch m;
  for (std::string line; std::getline(lines, line);) {
    if (!std::regex_match(line, m, entry)) continue;
    auto& fields = out[m[1]];
    std::istringstream words(m[2]);
    std::string verdict = "honoured";
    for (std::string word; words >> word;) {
      if (word == "|") verdict = "inert";
      else fields[word] = verdict;
    }
  }
  return out;
}

// "Cluster.name" with as much of the message's name as tells it from others. Empty: it tells not.
std::string verdict_of(const Verdicts& all, const std::string& target) {
  const size_t dot = target.rfind('.');
  const std::string message = target.substr(0, dot), field = target.substr(dot + 1);
  std::vector<const std::map<std::string, std::string>*> found;
  for (const auto& [name, fields] : all)
    if (name == message || name.ends_with("." + message)) found.push_back(&fields);
  if (found.size() > 1) return "";
  if (found.empty()) return "refused";
  if (found[0]->contains("*")) return "inert";
  if (found[0]->contains("=")) return "honoured";
  const auto it = found[0]->find(field);
  return it == found[0]->end() ? "refused" : it->second;
}

TEST(IstioPage, HasEveryFieldOfTheSchemaOnceWithItsVerdict) {
  std::map<std::string, std::string> page;
  for (const Row& r : rows()) EXPECT_TRUE(page.emplace(r.field, r.verdict).second) << r.field << " stands there twice";
  std::set<std::string> known;
  for (const FieldVerdict& f : field_verdicts()) {
    const std::string name = f.message + "." + f.field;
    known.insert(name);
    const auto it = page.find(name);
    if (it == page.end()) ADD_FAILURE() << "docs/istio.md has no row for `" << name << "` (" << f.verdict << ")";
    else EXPECT_EQ(it->second, f.verdict) << name;
  }
  for (const auto& [name, verdict] : page) EXPECT_TRUE(known.contains(name)) << name << " is no field of the schema";
  EXPECT_GT(known.size(), 600u);
}

TEST(IstioPage, SaysOfTheGatewayWhatItsOwnTableSays) {
  const Verdicts all = gateway_verdicts();
  ASSERT_GT(all.size(), 80u);
  const std::map<std::string, int> strictness{{"honoured", 0}, {"inert", 1}, {"refused", 2}};
  const std::regex target("`([\\w.]+\\.[a-z_0-9]+)`");
  size_t checked = 0;
  for (const Row& r : rows()) {
    if (r.verdict != "translated" || r.gateway.empty()) continue;
    std::string strictest = "honoured";
    size_t targets = 0;
    const std::string before_notes = r.becomes.substr(0, r.becomes.find(';'));
    for (std::sregex_iterator i(before_notes.begin(), before_notes.end(), target), end; i != end; ++i, targets++) {
      const std::string verdict = verdict_of(all, (*i)[1]);
      ASSERT_FALSE(verdict.empty()) << r.field << ": several messages end with " << (*i)[1];
      if (strictness.at(verdict) > strictness.at(strictest)) strictest = verdict;
    }
    EXPECT_GT(targets, 0u) << r.field << ": a verdict of the gateway without a field that it is of";
    EXPECT_EQ(r.gateway, strictest) << r.field << " becomes " << r.becomes;
    checked++;
  }
  EXPECT_GT(checked, 250u);
}

}  // namespace
}  // namespace sluice::plane
