#include "ctrl/explain/aim.h"

#include <gtest/gtest.h>

namespace sluice::explain {
namespace {

tables::StringMatch regex(const std::string& pattern) {
  return {.kind = tables::StringMatch::Kind::kRegex, .value = pattern, .regex = *tables::Regex::compile(pattern)};
}

TEST(Aim, ARegexHasAPlainTextThatItTakes) {
  for (const auto& [pattern, text] :
       {std::pair("/api/v[0-9]+/items", "/api/v0/items"), {"/static/.*", "/static/zz"}, {"a\\.b", "a.b"}, {"(?:x|)y", "y"}})
    EXPECT_EQ(sample(regex(pattern), ""), text) << pattern;
  EXPECT_EQ(sample(regex("a{3}"), ""), std::nullopt);
  EXPECT_EQ(sample(regex("\\bx"), ""), std::nullopt);
}

// "other" is no path, and "/other" is none that the regex takes.
TEST(Aim, APathBeginsWithASlash) {
  EXPECT_EQ(sample(regex("(/api/v1/items/|other)"), "", Shape::kPath), "/api/v1/items/");
  EXPECT_EQ(sample(regex(".*/app"), "", Shape::kPath), "/zz/app");
  EXPECT_EQ(sample(regex("other"), "", Shape::kPath), std::nullopt);
}

TEST(Aim, AMethodIsOneThatThereIs) {
  EXPECT_EQ(sample({.kind = tables::StringMatch::Kind::kPrefix, .value = "HE"}, "", Shape::kMethod), "HEAD");
  EXPECT_EQ(sample({.kind = tables::StringMatch::Kind::kExact, .value = "PURGE"}, "", Shape::kMethod), "PURGE");
}

TEST(Aim, WhatIstioMakesOfNamespacesAndAccountsHasAPrincipal) {
  EXPECT_EQ(sample(regex(".*/ns/shop/.*"), "", Shape::kPrincipal), "spiffe://cluster.local/ns/shop/sa/zz");
  EXPECT_EQ(sample(regex("spiffe://.+/ns/shop/(.+/|)sa/web(/.+)?"), "", Shape::kPrincipal), "spiffe://cluster.local/ns/shop/sa/web");
}

TEST(Aim, TheBeginningOfAPrincipalIsCompleted) {
  const auto principal = [](const std::string& prefix) {
    return sample({.kind = tables::StringMatch::Kind::kPrefix, .value = "spiffe://" + prefix}, "", Shape::kPrincipal).value_or("");
  };
  EXPECT_EQ(principal("cluster.local/ns/prod"), "spiffe://cluster.local/ns/prod/sa/zz");
  EXPECT_EQ(principal("old"), "spiffe://old/ns/zz/sa/zz");
  EXPECT_EQ(principal("td/n"), "spiffe://td/ns/zz/sa/zz");
  EXPECT_EQ(principal("td/ns/a/sa/"), "spiffe://td/ns/a/sa/zz");
  EXPECT_EQ(principal("td/x/a"), "spiffe://td/x/a");
}

TEST(Aim, APolicysDemandsComeTogether) {
  using tables::Permission;
  Permission header{.kind = Permission::Kind::kHeader,
                    .header = {.name = "x-a", .kind = tables::HeaderMatch::Kind::kString, .string = {.value = "1"}}};
  Permission path{.kind = Permission::Kind::kUrlPath, .string = {.kind = tables::StringMatch::Kind::kPrefix, .value = "/a"}};
  Permission other{.kind = Permission::Kind::kHeader, .header = {.name = "x-b", .kind = tables::HeaderMatch::Kind::kPresent}};
  Permission not_other{.kind = Permission::Kind::kNot, .children = {other}};
  tables::Policy policy{
      .name = "p", .permissions = {{.kind = Permission::Kind::kAnd, .children = {header, path, not_other}}}, .principals = {{}}};
  std::set<std::string> unknown;
  const auto aims = aims_of(policy, unknown);
  ASSERT_EQ(aims.size(), 2u);  // with what is excluded, and without
  EXPECT_EQ(aims[0].path, "/a");
  EXPECT_EQ(aims[0].headers, (std::map<std::string, std::string>{{"x-a", "1"}}));
  EXPECT_EQ(aims[1].headers.count("x-b"), 1u);
  EXPECT_EQ(aims[0].but_one().size(), 2u);
  EXPECT_FALSE(aims[0].with(Aim{.path = "/b"}));
  EXPECT_EQ(Aim{.path = "/b"}.under(aims[0]).path, "/a");
  EXPECT_TRUE(unknown.empty());
}

}  // namespace
}  // namespace sluice::explain
