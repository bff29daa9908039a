#include <algorithm>

#include "dataplane/http/message.h"
#include "dataplane/tables/tables.h"

namespace sluice::tables {
namespace {

bool same(std::string_view text, std::string_view want, bool ignore_case) {
  return ignore_case ? http::equals_ignore_case(text, want) : text == want;
}

}  // namespace

bool StringMatch::matches(std::string_view text) const {
  const size_t n = value.size();
  switch (kind) {
    case Kind::kExact: return same(text, value, ignore_case);
    case Kind::kPrefix: return text.size() >= n && same(text.substr(0, n), value, ignore_case);
    case Kind::kSuffix: return text.size() >= n && same(text.substr(text.size() - n), value, ignore_case);
    case Kind::kContains:
      for (size_t i = 0; i + n <= text.size(); i++)
        if (same(text.substr(i, n), value, ignore_case)) return true;
      return false;
    case Kind::kRegex: return regex != nullptr && regex->full_match(text);
  }
  return false;
}

}  // namespace sluice::tables
