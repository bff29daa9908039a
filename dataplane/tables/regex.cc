#include "dataplane/tables/regex.h"

#include <re2/re2.h>

namespace sluice::tables {

std::expected<std::shared_ptr<const Regex>, std::string> Regex::compile(std::string_view pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  auto regex = std::shared_ptr<Regex>(new Regex);
  regex->pattern_ = pattern;
  regex->re_ = std::make_unique<re2::RE2>(re2::StringPiece(pattern.data(), pattern.size()), options);
  if (!regex->re_->ok()) return std::unexpected("regex \"" + regex->pattern_ + "\": " + regex->re_->error());
  if (regex->re_->ProgramSize() > kProgramMax)
    return std::unexpected("regex \"" + regex->pattern_ + "\": program of " + std::to_string(regex->re_->ProgramSize()) +
                           " instructions is over the limit of " + std::to_string(kProgramMax) + "; make it simpler");
  return regex;
}

Regex::~Regex() = default;

bool Regex::full_match(std::string_view text) const { return re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), *re_); }

std::string Regex::replace(std::string_view text, const std::string& substitution) const {
  std::string out(text);
  re2::RE2::GlobalReplace(&out, *re_, substitution);
  return out;
}

}  // namespace sluice::tables
