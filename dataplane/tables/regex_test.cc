#include "dataplane/tables/regex.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include "dataplane/base/rng.h"

namespace sluice::tables {
namespace {

TEST(Regex, RefusesWhatRe2RefusesAndWhatIsTooLargeWithTheReason) {
  const auto open = Regex::compile("a(b");
  ASSERT_FALSE(open);
  EXPECT_NE(open.error().find("a(b"), std::string::npos);
  EXPECT_FALSE(Regex::compile("(a)\\1")) << "a back-reference";
  EXPECT_FALSE(Regex::compile("(?=a)b")) << "a look-ahead";
  EXPECT_FALSE(Regex::compile("((a{100}){10}){40}")) << "RE2's own bound of repetitions";
  std::string wide;  // within RE2's bounds, beyond Envoy's as Istio sets it
  for (int i = 0; i < 8; i++) wide += "[^/]{1000}";
  EXPECT_TRUE(re2::RE2(wide, re2::RE2::Quiet).ok());
  const auto large = Regex::compile(wide);
  ASSERT_FALSE(large);
  EXPECT_NE(large.error().find("over the limit of 32768"), std::string::npos) << large.error();
}

TEST(Regex, TheWholeTextMustMatch) {
  const auto regex = *Regex::compile("/a+");
  EXPECT_TRUE(regex->full_match("/aa"));
  EXPECT_FALSE(regex->full_match("/aab"));
  EXPECT_FALSE(regex->full_match("x/aa"));
}

TEST(Regex, TheLiteralPrefixIsWhatEveryMatchBeginsWith) {
  const std::pair<const char*, const char*> rows[] = {
      {"/api/[0-9]+", "/api/"}, {"/(a|b)", "/"}, {".*x", ""}, {"(?i)/Api", "/"}, {"a|b", ""}, {"^/x.*", "/x"}, {"", ""}};
  for (const auto& [pattern, want] : rows)
    EXPECT_TRUE(std::string_view(want).starts_with((*Regex::compile(pattern))->literal_prefix())) << pattern;
  EXPECT_EQ((*Regex::compile("/api/[0-9]+"))->literal_prefix(), "/api/");
  EXPECT_EQ((*Regex::compile("/x"))->full_match("/x"), true);
}

// The shortcuts against RE2 alone.
TEST(Regex, ShortcutsNeverChangeTheAnswer) {
  constexpr uint64_t kSeed = 99;
  RecordProperty("seed", std::to_string(kSeed));
  Rng rng(kSeed);
  const char* atoms[] = {"a", "b",     "/",    "/ns/", ".", ".*", ".+",  "a*",    "b?",   "ab+",
                         "-", "(a|b)", "[ab]", "a|b",  "^", "$",  "\\.", "(?i)a", "a{2}", "\\n"};
  const char* letters[] = {"a", "b", "/", "/ns/", ".", "-", "\n", "A", "\xc3\xa9", "\xff"};
  int matched = 0;
  for (int i = 0; i < 3000; i++) {
    std::string pattern;
    for (uint32_t n = rng.below(6); n > 0; n--) pattern += atoms[rng.below(std::size(atoms))];
    const auto regex = Regex::compile(pattern);
    if (!regex) continue;
    re2::RE2 truth(pattern, re2::RE2::Quiet);
    const std::string prefix = (*regex)->literal_prefix();
    for (int k = 0; k < 30; k++) {
      std::string text;
      for (uint32_t n = rng.below(6); n > 0; n--) text += letters[rng.below(std::size(letters))];
      const bool want = re2::RE2::FullMatch(text, truth);
      ASSERT_EQ((*regex)->full_match(text), want) << "seed " << kSeed << " " << pattern << " on " << text;
      if (want) {
        ASSERT_TRUE(text.starts_with(prefix)) << pattern << " on " << text << " prefix " << prefix;
      }
      matched += want;
    }
  }
  EXPECT_GT(matched, 2000);
}

}  // namespace
}  // namespace sluice::tables
