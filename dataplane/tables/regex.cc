#include "dataplane/tables/regex.h"

#include <re2/re2.h>

#include <algorithm>

namespace sluice::tables {
namespace {

// The longest run of plain characters in a pattern that is nothing but plain characters, ".", "*", "+" and "?"; "" for any other.
std::string required_literal(std::string_view pattern) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("-_/:@%~=,;!&'\" <>#").find(c) != std::string_view::npos;
  };
  std::string best, run;
  for (size_t i = 0; i < pattern.size(); i++) {
    if (plain(pattern[i])) {
      run += pattern[i];
      continue;
    }
    if (std::string_view(".*+?").find(pattern[i]) == std::string_view::npos) return "";
    if (pattern[i] != '.' && !run.empty()) run.pop_back();  // the quantifier's own character need not be there, or not once
    if (run.size() > best.size()) best = run;
    run.clear();
  }
  return run.size() > best.size() ? run : best;
}

}  // namespace

std::expected<std::shared_ptr<const Regex>, std::string> Regex::compile(std::string_view pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  auto regex = std::shared_ptr<Regex>(new Regex);
  regex->pattern_ = pattern;
  regex->required_ = required_literal(pattern);
  regex->re_ = std::make_unique<re2::RE2>(re2::StringPiece(pattern.data(), pattern.size()), options);
  if (!regex->re_->ok()) return std::unexpected("regex \"" + regex->pattern_ + "\": " + regex->re_->error());
  if (regex->re_->ProgramSize() > kProgramMax)
    return std::unexpected("regex \"" + regex->pattern_ + "\": program of " + std::to_string(regex->re_->ProgramSize()) +
                           " instructions is over the limit of " + std::to_string(kProgramMax) + "; make it simpler");
  return regex;
}

Regex::~Regex() = default;

bool Regex::full_match(std::string_view text) const {
  if (!required_.empty() && text.find(required_) == text.npos) return false;
  return re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), *re_);
}

std::string Regex::literal_prefix() const {
  std::string min, max;
  if (!re_->PossibleMatchRange(&min, &max, 64)) return "";
  return {min.begin(), std::ranges::mismatch(min, max).in1};
}

std::string Regex::replace(std::string_view text, const std::string& substitution) const {
  std::string out(text);
  re2::RE2::GlobalReplace(&out, *re_, substitution);
  return out;
}

}  // namespace sluice::tables
