// The one path canonicalizer: routing, authorization, the log and the upstream all see its result. Modes are Envoy's options as Istio's
// pathNormalization sets them:
//   NONE                      nothing
//   BASE (istiod's default)   normalize_path: RFC 3986 dot segments removed, "\" becomes "/", escapes of unreserved characters decoded,
//                             characters that no path may have ("<>^`{|} and the quote) escaped; %2F, %5C and "//" stay
//   MERGE_SLASHES             BASE, and runs of "/" become one
//   DECODE_AND_MERGE_SLASHES  %2F and %5C decoded first, then MERGE_SLASHES
// The query is kept as it is; a fragment is cut off (Istio's runtime setting). Idempotent. %00 and bad forms are refused (400
// path_normalization_failed). Pure; writes into the arena only when something changes.
#pragma once
#include <cstdint>
#include <string_view>

#include "dataplane/base/arena.h"

namespace sluice::http {

enum class EscapedSlashes : uint8_t { kKeep, kReject, kUnescapeAndRedirect, kUnescapeAndForward };

struct PathOptions {
  bool normalize = true;
  bool merge_slashes = false;
  EscapedSlashes escaped_slashes = EscapedSlashes::kKeep;
};

struct CanonicalPath {
  enum class Verdict : uint8_t {
    kOk,
    kRefused,
    kRedirect
  } verdict = Verdict::kOk;  // kRedirect: kUnescapeAndRedirect found something to unescape
  std::string_view path;     // with query
};

CanonicalPath canonicalize(std::string_view path_and_query, const PathOptions& options, Arena& arena);

}  // namespace sluice::http
