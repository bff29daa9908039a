// YAML, schema, rules and references: what is said about wrong input, and where.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>

#include "ctrl/plane/schema.h"
#include "ctrl/plane/world.h"

namespace sluice::plane {
namespace {

std::vector<Issue> issues_of(const std::string& text) { return load_text(text, "f.yaml").issues; }

const std::string kHead = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: shop}\nspec:\n";
const std::string kGood =
    kHead + "  selector: {a: b}\n  servers:\n  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: [a.example.com]\n";

TEST(Check, AGoodGatewayHasNoIssue) { EXPECT_TRUE(issues_of(kGood).empty()) << render(issues_of(kGood)); }

TEST(Check, AMisspeltFieldIsPointedAtWithTheNearestName) {
  const auto i = issues_of(
      kHead + "  servers:\n  - port: {number: 80, name: http, protocol: HTTP}\n    hots: [a.example.com]\n    hosts: [b.example.com]\n");
  ASSERT_FALSE(i.empty());
  EXPECT_EQ(i[0].place(), "f.yaml:7:5");
  EXPECT_EQ(i[0].message, "unknown field spec.servers[0].hots; did you mean 'hosts'?");
  EXPECT_EQ(render(i[0]),
            "f.yaml:7:5: error: unknown field spec.servers[0].hots; did you mean 'hosts'?\n      hots: [a.example.com]\n      ^~~~\n"
            "  field: spec.servers[0].hots of Gateway shop/g\n  remedy: write hosts\n");
}

TEST(Check, AllProblemsComeAtOnceFromAllDocuments) {
  const auto i = issues_of(kHead + "  servrs: []\n---\n" + kHead + "  servers: 5\n---\nkind: Gatewya\n");
  EXPECT_GE(i.size(), 4u) << render(i);
  EXPECT_TRUE(std::ranges::any_of(i, [](const Issue& x) {
    return x.message.find("did you mean 'Gateway'?") != std::string::npos && x.line == 13;
  })) << render(i);
}

TEST(Check, SnakeCaseIsTheSameField) {
  EXPECT_FALSE(
      has_errors(issues_of("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: n}\nspec:\n  hosts: "
                           "[a.example.com]\n  http:\n"
                           "  - direct_response: {status: 200}\n")));
}

TEST(Check, TypesAndRangesAreNamed) {
  for (const auto& [bad, what] :
       {std::pair("number: x", "a whole number is expected"), std::pair("number: 0", "must be in the range 1..65535"),
        std::pair("number: 70000", "must be in the range 1..65535"), std::pair("number: [1]", "not a list")}) {
    const auto i = issues_of(kHead + "  servers:\n  - port: {" + bad + ", name: http, protocol: HTTP}\n    hosts: [a.example.com]\n");
    ASSERT_FALSE(i.empty()) << bad;
    EXPECT_NE(i[0].message.find(what), std::string::npos) << i[0].message;
    EXPECT_EQ(i[0].line, 6u);
  }
}

TEST(Check, ADuplicateKeyNamesBothLines) {
  const auto i = issues_of(kGood + "    hosts: [b.example.com]\n");
  ASSERT_FALSE(i.empty());
  EXPECT_EQ(i[0].message, "'hosts' is there twice (first in line 8)");
  EXPECT_EQ(i[0].line, 9u);
}

TEST(Check, TheCaretCountsCharacters) {
  const auto i =
      issues_of(kHead + "  selector: {a: b}\n  servers: [{port: {number: 80, name: \"äöü\", protocol: HTTQ}, hosts: [\"*\"]}]\n");
  ASSERT_FALSE(i.empty());
  EXPECT_EQ(i[0].column, 56u);
  EXPECT_NE(render(i[0]).find("\n  " + std::string(55, ' ') + "^~~~\n"), std::string::npos) << render(i[0]);
}

TEST(Check, OneFieldInTwoSpellingsIsThereTwice) {
  const auto i = issues_of(
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: n}\nspec:\n  hosts: [a.example.com]\n  "
      "http:\n"
      "  - directResponse: {status: 200}\n    direct_response: {status: 404}\n");
  ASSERT_FALSE(i.empty());
  EXPECT_EQ(i[0].message, "'directResponse' is there twice (first in line 7), spelt in two ways");
  EXPECT_EQ(i[0].line, 8u);
}

TEST(Check, TwoObjectsOfOneNameAreRefused) {
  const auto i = issues_of(kGood + "---\n" + kGood);
  ASSERT_EQ(i.size(), 1u) << render(i);
  EXPECT_EQ(i[0].message, "Gateway shop/g is there twice");
  EXPECT_EQ(i[0].remedy, "the other is at f.yaml:3:18");
}

TEST(Check, WhatIsKnownButNotTranslatedIsRefusedAtItsLine) {
  const auto i = issues_of("apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: e}\n");
  ASSERT_EQ(i.size(), 1u);
  EXPECT_EQ(i[0].place(), "f.yaml:2:7");
  EXPECT_NE(i[0].message.find("not translated yet"), std::string::npos);
}

TEST(Check, DanglingReferencesAreWarningsAndDoNotRefuse) {
  const auto i = issues_of(kGood +
                           "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec:\n  "
                           "hosts: [a.example.com]\n"
                           "  gateways: [gg]\n  http:\n  - route: [{destination: {host: nowhere.example.com}}]\n");
  ASSERT_EQ(i.size(), 2u) << render(i);
  EXPECT_FALSE(has_errors(i));
  EXPECT_EQ(i[0].message, "there is no Gateway shop/gg");
  EXPECT_EQ(i[0].field, "spec.gateways[0]");
  EXPECT_EQ(i[0].object, "VirtualService shop/v");
}

TEST(Yaml, AliasBombsAndDepthEndInOneError) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int n = 1; n < 12; n++) {
    const std::string p = "*a" + std::to_string(n - 1);
    bomb += "a" + std::to_string(n) + ": &a" + std::to_string(n) + " [" + p;
    for (int k = 0; k < 9; k++) bomb += ", " + p;
    bomb += "]\n";
  }
  const auto i = issues_of(bomb);
  ASSERT_FALSE(i.empty());
  EXPECT_EQ(std::ranges::count_if(i, [](const Issue& x) { return x.message.find("each use of an alias") != std::string::npos; }), 1)
      << render(i);
  const auto deep = issues_of("a: " + std::string(200, '[') + std::string(200, ']') + "\n");
  ASSERT_FALSE(deep.empty());
}

TEST(Yaml, BrokenUtf8IsPlaced) {
  const auto i = issues_of("a: b\nc: \xff\n");
  ASSERT_EQ(i.size(), 1u);
  EXPECT_EQ(i[0].place(), "f.yaml:2:4");
}

TEST(Yaml, ATabAndAnUnclosedBraceArePlaced) {
  for (const char* bad : {"a:\n\tb: c\n", "a: {b: c\n"}) EXPECT_TRUE(has_errors(issues_of(bad))) << bad;
}

TEST(Duration, GoesDurationsAreReadAndSaidAsProtoJson) {
  EXPECT_EQ(parse_duration("1h30m"), 5400'000'000'000);
  EXPECT_EQ(parse_duration("250ms"), 250'000'000);
  EXPECT_EQ(parse_duration("1.5s"), 1'500'000'000);
  EXPECT_EQ(parse_duration("0"), 0);
  EXPECT_EQ(parse_duration("-1s"), -1'000'000'000);
  for (const char* bad : {"", "soon", "5", "1x", "s", "1h 2m", "999999999h"}) EXPECT_FALSE(parse_duration(bad)) << bad;
  EXPECT_EQ(duration_json(250'000'000), "0.250s");
  EXPECT_EQ(duration_json(5400'000'000'000), "5400s");
  EXPECT_EQ(duration_json(1'000), "0.000001s");
}

TEST(Directory, LinksThatLeadOutAreRefusedAndOtherFilesIgnored) {
  char name[] = "/tmp/sluice-dir-XXXXXX";
  const std::filesystem::path dir = ::mkdtemp(name);
  std::filesystem::create_directories(dir / "in/sub");
  std::ofstream(dir / "secret.yaml") << kGood;
  std::ofstream(dir / "in/sub/g.yaml") << kGood;
  std::ofstream(dir / "in/notes.txt") << "not: [yaml";
  std::ofstream(dir / "in/.g.yaml.swp.yaml") << "not: [yaml";
  Loaded l = load_directory(dir / "in");
  EXPECT_TRUE(l.issues.empty()) << render(l.issues);
  EXPECT_EQ(l.world.written(), 1u);
  std::filesystem::create_symlink(dir / "secret.yaml", dir / "in/link.yaml");
  l = load_directory(dir / "in");
  ASSERT_EQ(l.issues.size(), 1u) << render(l.issues);
  EXPECT_NE(l.issues[0].message.find("out of the directory"), std::string::npos);
  std::filesystem::remove_all(dir);
  EXPECT_TRUE(has_errors(load_directory(dir).issues));
}

}  // namespace
}  // namespace sluice::plane
