#include "ctrl/plane/condition.h"

#include <re2/re2.h>

#include <algorithm>

namespace sluice::plane {
namespace {
using Op = TextCondition::Op;

// How many bytes of a bound are asked of RE2: longer prefixes are not told apart.
constexpr int kBoundBytes = 128;

bool known(const TextCondition& c) { return c.low <= c.high; }

// What all texts of a regex begin with.
std::string_view common_prefix(const TextCondition& c) {
  if (!known(c)) return {};
  return std::string_view(c.low).substr(0, size_t(std::ranges::mismatch(c.low, c.high).in1 - c.low.begin()));
}

// A '|' that is in no parentheses, no class and not escaped.
bool has_outer_choice(std::string_view r) {
  int depth = 0;
  bool in_class = false;
  for (size_t i = 0; i < r.size(); i++) {
    const char c = r[i];
    if (c == '\\') i++;
    else if (in_class) in_class = c != ']';
    else if (c == '[') in_class = true;
    else if (c == '(') depth++;
    else if (c == ')') depth--;
    else if (c == '|' && depth == 0) return true;
  }
  return false;
}

// "R.*", where R takes a beginning of `prefix`: it takes all that begins with `prefix`. Not where a ".*" may belong to a part of R only.
bool takes_all_behind(const TextCondition& c, std::string_view prefix) {
  std::string_view r = c.text;
  if (!r.ends_with(".*")) return false;
  r.remove_suffix(2);
  if (r.ends_with('\\') || r.find("\\Q") != r.npos || has_outer_choice(r)) return false;
  const re2::RE2 head(std::string(r), re2::RE2::Quiet);
  return head.ok() && head.Match(prefix, 0, prefix.size(), re2::RE2::ANCHOR_START, nullptr, 0);
}

// Whether `s` may be compared with c.text: without case where c has none. A text whose case is free meets one whose case is fixed only
// where there are no letters.
bool comparable(const TextCondition& narrow, const TextCondition& wide) {
  return wide.ignore_case || !narrow.ignore_case || std::ranges::none_of(wide.text, [](char c) { return std::isalpha(uint8_t(c)); });
}

}  // namespace

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = char(std::tolower(uint8_t(c)));
  return out;
}

TextCondition TextCondition::of(Op op, std::string text, bool ignore_case) {
  TextCondition c{.op = op, .text = std::move(text), .ignore_case = ignore_case && op != Op::kRegex};
  if (c.ignore_case) c.text = lower(c.text);
  if (op != Op::kRegex) return c;
  c.regex = std::make_shared<const re2::RE2>("(?:" + c.text + ")", re2::RE2::Quiet);
  c.low = "1", c.high = "0";
  std::string low, high;
  if (c.regex->ok() && c.regex->PossibleMatchRange(&low, &high, kBoundBytes)) c.low = low, c.high = high;
  return c;
}

bool TextCondition::takes(std::string_view s) const {
  const std::string l = ignore_case ? lower(s) : std::string(s);
  switch (op) {
    case Op::kAny: return true;
    case Op::kExact: return l == text;
    case Op::kPrefix: return l.starts_with(text);
    case Op::kSuffix: return l.ends_with(text);
    case Op::kRegex: return regex->ok() && re2::RE2::FullMatch(s, *regex);
  }
  return false;
}

bool implies(const TextCondition& n, const TextCondition& w) {
  if (w.op == Op::kAny) return true;
  if ((w.op == Op::kPrefix || w.op == Op::kSuffix) && w.text.empty()) return true;
  if (w.op == Op::kRegex && w.text == ".*") return true;
  if (n.op == Op::kAny) return false;
  const std::string text = w.ignore_case ? lower(n.text) : n.text;
  if (n.op != Op::kRegex && w.op != Op::kRegex && !comparable(n, w)) return false;
  switch (w.op) {
    case Op::kAny: return true;
    case Op::kExact: return n.op == Op::kExact && text == w.text;
    case Op::kPrefix:
      if (n.op == Op::kRegex) return !w.ignore_case && common_prefix(n).starts_with(w.text);
      return (n.op == Op::kExact || n.op == Op::kPrefix) && text.starts_with(w.text);
    case Op::kSuffix: return (n.op == Op::kExact || n.op == Op::kSuffix) && text.ends_with(w.text);
    case Op::kRegex:
      if (n.op == Op::kRegex) return n.text == w.text;
      if (n.ignore_case) return false;
      return n.op == Op::kExact ? w.takes(n.text) : n.op == Op::kPrefix && takes_all_behind(w, n.text);
  }
  return false;
}

bool excludes(const TextCondition& a, const TextCondition& b) {
  if (a.op == Op::kAny || b.op == Op::kAny) return false;
  if (a.op > b.op) return excludes(b, a);  // so that a is the simpler one
  const bool fold = a.ignore_case || b.ignore_case;
  const std::string x = fold ? lower(a.text) : a.text, y = fold ? lower(b.text) : b.text;
  switch (a.op) {
    case Op::kAny: return false;
    case Op::kExact:
      if (b.op == Op::kExact) return x != y;
      if (b.op == Op::kPrefix) return !x.starts_with(y);
      if (b.op == Op::kSuffix) return !x.ends_with(y);
      return !a.ignore_case && !b.takes(a.text);
    case Op::kPrefix:
      if (b.op == Op::kPrefix) return !x.starts_with(y) && !y.starts_with(x);
      if (b.op == Op::kSuffix) return false;
      // All that begins with x lies between x and x followed by the greatest bytes.
      return !a.ignore_case && known(b) && (b.high < x || (b.low > x && !b.low.starts_with(x)));
    case Op::kSuffix: return b.op == Op::kSuffix && !x.ends_with(y) && !y.ends_with(x);
    case Op::kRegex: return known(a) && known(b) && (a.high < b.low || b.high < a.low);
  }
  return false;
}

std::string impossible_path(const TextCondition& c) {
  const auto quoted = [&] { return "'" + c.text + "'"; };
  if (c.op == Op::kRegex) {
    const bool none = excludes(TextCondition::of(Op::kPrefix, "/"), c) && !c.takes("*");
    return none ? "every path begins with /, and " + quoted() + " takes none that does" : "";
  }
  if (c.op == Op::kAny || (c.op == Op::kExact && c.text == "*")) return {};
  if (c.op != Op::kSuffix && !c.text.empty() && !c.text.starts_with('/')) return "every path begins with /, and " + quoted() + " does not";
  if (c.text.find('?') != c.text.npos) return "the query is no part of the path that is compared: no path has a '?'";
  if (c.text.find('#') != c.text.npos) return "a fragment is never sent: no path has a '#'";
  for (const std::string_view dots : {"/./", "/../"})
    if (c.text.find(dots) != c.text.npos)
      return "dot segments are resolved before paths are compared: no path has '" + std::string(dots) + "'";
  if (c.op == Op::kExact && (c.text.ends_with("/.") || c.text.ends_with("/..")))
    return "dot segments are resolved before paths are compared";
  return {};
}

}  // namespace sluice::plane
