// Fuzz target: the canonicalizer. The first byte chooses the options, the rest is the path. Oracles: the result of the result is the
// result; no dot segment and no "\" is left in a normalized path; the query is kept.
#include "dataplane/base/check.h"
#include "dataplane/http/message.h"
#include "dataplane/http/path.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  using namespace sluice::http;
  if (size == 0) return 0;
  static ArenaPool pool(1000);
  Arena arena(pool);
  const PathOptions options{
      .normalize = (data[0] & 1) == 0, .merge_slashes = (data[0] & 2) != 0, .escaped_slashes = EscapedSlashes(data[0] >> 2 & 3)};
  const std::string_view in(reinterpret_cast<const char*>(data + 1), size - 1);
  const CanonicalPath once = canonicalize(in, options, arena);
  if (once.verdict == CanonicalPath::Verdict::kRefused) return 0;
  const CanonicalPath twice = canonicalize(once.path, options, arena);
  if (options.normalize) {
    SLUICE_ASSERT(twice.verdict == CanonicalPath::Verdict::kOk && twice.path == once.path);
    const std::string_view path = path_of(once.path);
    SLUICE_ASSERT(path.find('\\') == path.npos && path.find("/./") == path.npos && path.find("/../") == path.npos &&
                  !path.ends_with("/.."));
  }
  const std::string_view query = query_of(in.substr(0, in.find('#')));
  SLUICE_ASSERT(query_of(once.path) == query);
  return 0;
}
