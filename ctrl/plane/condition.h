// A condition on a text, as VirtualService and AuthorizationPolicy have them, and what is certain of two: that one implies the other, that
// both cannot hold. What cannot be decided is no certainty. Pure. Inside of ctrl/plane.
#pragma once
#include <memory>
#include <string>
#include <string_view>

namespace re2 {
class RE2;
}

namespace sluice::plane {

struct TextCondition {
  enum class Op : uint8_t { kAny, kExact, kPrefix, kSuffix, kRegex };  // kAny: some text is there
  Op op = Op::kAny;
  std::string text = {};
  bool ignore_case = false;                         // never of a kRegex
  std::shared_ptr<const re2::RE2> regex = nullptr;  // of kRegex; the whole text must match
  std::string low = {}, high = {};                  // of kRegex: what it matches lies between; low > high: not known
  static TextCondition of(Op op, std::string text, bool ignore_case = false);
  bool takes(std::string_view s) const;
};

// Every text that `narrow` takes is one that `wide` takes.
bool implies(const TextCondition& narrow, const TextCondition& wide);
// No text is taken by both.
bool excludes(const TextCondition& a, const TextCondition& b);
// Takes no path that a request can have: it begins with "/", has neither a query nor a dot segment (RFC 3986 5.2.4). Why, or "".
std::string impossible_path(const TextCondition& c);

std::string lower(std::string_view s);

}  // namespace sluice::plane
