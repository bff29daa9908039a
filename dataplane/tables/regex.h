// Regex: Envoy's safe_regex. RE2 is the truth (full match, captures); Hyperscan only prefilters (route/). Compiled on the control thread,
// matched by any thread without a lock or an allocation that grows with the input's size (RE2 with a bounded DFA budget).
#pragma once
#include <expected>
#include <memory>
#include <string>
#include <string_view>

namespace re2 {
class RE2;
}

namespace sluice::tables {

class Regex {
 public:
  // The error is RE2's text. Programs above kProgramMax instructions are refused (Envoy: re2.max_program_size.error_level).
  static std::expected<std::shared_ptr<const Regex>, std::string> compile(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  bool full_match(std::string_view text) const;
  // RE2's GlobalReplace with \1..\9: Envoy's regex_rewrite.
  std::string replace(std::string_view text, const std::string& substitution) const;
  const std::string& pattern() const { return pattern_; }
  // Bytes with which every text that matches begins (in some case of letters): a necessary condition for indexes, "" when none is known.
  std::string literal_prefix() const;
  static constexpr int kProgramMax = 32'768;

 private:
  Regex() = default;
  std::string pattern_;
  std::string required_;  // every text that matches contains it; saves RE2 most of its work on Istio's ".*/ns/NAME/.*"
  std::unique_ptr<re2::RE2> re_;
};

}  // namespace sluice::tables
