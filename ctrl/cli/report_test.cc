#include "ctrl/cli/report.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {
using plane::Issue, plane::Severity;

const Issue kWarning{.severity = Severity::kWarning,
                     .file = "a dir/routes.yaml",
                     .line = 7,
                     .column = 5,
                     .width = 3,
                     .message = "100% of it\nis, well: dead",
                     .remedy = "remove it",
                     .source_line = "é:  abc",
                     .field = "spec.http[1]",
                     .object = "VirtualService shop/v",
                     .rule = "unreachable-route"};
const Issue kError{.file = "z.yaml",
                   .line = 2,
                   .column = 1,
                   .width = 4,
                   .message = "unknown kind Gatewya",
                   .remedy = {},
                   .source_line = "kind: Gatewya",
                   .field = {},
                   .object = {},
                   .rule = {}};

TEST(Report, ErrorsComeBeforeWarnings) {
  const std::string t = report(Format::kText, {kWarning, kError}, 2);
  EXPECT_LT(t.find("z.yaml:2:1: error: "), t.find("a dir/routes.yaml:7:5: warning: ")) << t;
  EXPECT_NE(t.find("  field: spec.http[1] of VirtualService shop/v\n  remedy: remove it\n"), t.npos) << t;
}

TEST(Report, JsonHasTwoLists) {
  EXPECT_EQ(report(Format::kJson, {}, 3), "{\"objects\":3,\"errors\":[],\"warnings\":[]}\n");
  const std::string t = report(Format::kJson, {kWarning, kError}, 2);
  EXPECT_NE(t.find("\"errors\":[{\"file\":\"z.yaml\",\"line\":2,\"column\":1,\"width\":4,\"rule\":\"invalid\""), t.npos) << t;
  EXPECT_NE(t.find("\"field\":\"spec.http[1]\",\"object\":\"VirtualService shop/v\",\"remedy\":\"remove it\""), t.npos) << t;
}

TEST(Report, GithubCommandsAreEscaped) {
  EXPECT_EQ(report(Format::kGithub, {kWarning, kError}, 2),
            "::error file=z.yaml,line=2,col=1,endColumn=5,title=invalid::unknown kind Gatewya\n"
            "::warning file=a dir/routes.yaml,line=7,col=5,endColumn=8,title=unreachable-route::100%25 of it%0Ais, well: dead; field "
            "spec.http[1] of "
            "VirtualService shop/v; remedy: remove it\n");
}

TEST(Report, SarifHasARuleForEachResult) {
  const std::string t = report(Format::kSarif, {kWarning, kError}, 2);
  for (const char* part :
       {"\"version\":\"2.1.0\"", "\"id\":\"unreachable-route\"", "\"ruleId\":\"unreachable-route\",\"ruleIndex\":1,\"level\":\"warning\"",
        "\"uri\":\"a%20dir/routes.yaml\"", "\"region\":{\"startLine\":7,\"startColumn\":5,\"endLine\":7,\"endColumn\":8}",
        "\"ruleId\":\"invalid\",\"ruleIndex\":0,\"level\":\"error\"", "\"columnKind\":\"unicodeCodePoints\""})
    EXPECT_NE(t.find(part), t.npos) << part << "\n" << t;
}

}  // namespace
}  // namespace sluice::cli
