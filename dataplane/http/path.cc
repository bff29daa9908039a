// Steps in Envoy's order: fragment, escaped slashes, normalization, merging. Decoding an unreserved escape can make a new dot segment
// ("%2e%2e"), so escapes are decoded before segments are removed; it can never make a new escape, since "%" is not unreserved, so the
// result is stable.
#include "dataplane/http/path.h"

#include <algorithm>

namespace sluice::http {
namespace {

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
// The byte that "%XY" at p[i] stands for, or -1.
int escaped(std::string_view p, size_t i) {
  if (p[i] != '%' || i + 2 >= p.size()) return -1;
  const int a = hex(p[i + 1]), b = hex(p[i + 2]);
  return a < 0 || b < 0 ? -1 : a << 4 | b;
}
bool unreserved(int c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

// RFC 3986 5.2.4 on an absolute path, in place; returns the new length.
size_t remove_dot_segments(char* p, size_t n) {
  size_t out = 0, i = 0;
  while (i < n) {  // p[i] == '/'
    size_t end = i + 1;
    while (end < n && p[end] != '/') end++;
    const std::string_view segment(p + i + 1, end - i - 1);
    if (segment == ".") {
      if (end == n) p[out++] = '/';
    } else if (segment == "..") {
      while (out > 0 && p[--out] != '/') {
      }
      if (end == n) p[out++] = '/';
    } else {
      std::copy(p + i, p + end, p + out);
      out += end - i;
    }
    i = end;
  }
  if (out == 0) p[out++] = '/';
  return out;
}

}  // namespace

CanonicalPath canonicalize(std::string_view in, const PathOptions& options, Arena& arena) {
  using Verdict = CanonicalPath::Verdict;
  in = in.substr(0, in.find('#'));
  const std::string_view path = in.substr(0, in.find('?')), query = in.substr(path.size());
  if (path.empty() || path.front() != '/') return {Verdict::kRefused, {}};
  for (size_t i = 0; i < path.size(); i++)
    if (escaped(path, i) == 0) return {Verdict::kRefused, {}};
  auto* p = static_cast<char*>(arena.alloc(in.size() + 1));
  if (p == nullptr) return {Verdict::kRefused, {}};
  size_t n = 0;
  bool unescaped = false;
  for (size_t i = 0; i < path.size(); i++) {
    const int c = escaped(path, i);
    if ((c == '/' || c == '\\') && options.escaped_slashes != EscapedSlashes::kKeep) {
      if (options.escaped_slashes == EscapedSlashes::kReject) return {Verdict::kRefused, {}};
      unescaped = true;
      p[n++] = char(c);
      i += 2;
    } else {
      p[n++] = path[i];
    }
  }
  if (options.normalize) {
    const size_t length = n;
    n = 0;
    for (size_t i = 0; i < length; i++) {
      const std::string_view now(p, length);
      const int c = escaped(now, i);
      if (c >= 0 && unreserved(c)) {
        p[n++] = char(c);
        i += 2;
      } else {
        p[n++] = p[i] == '\\' ? '/' : p[i];
      }
    }
    n = remove_dot_segments(p, n);
  }
  if (options.merge_slashes) n = size_t(std::unique(p, p + n, [](char a, char b) { return a == '/' && b == '/'; }) - p);
  std::ranges::copy(query, p + n);
  const std::string_view result(p, n + query.size());
  if (unescaped && options.escaped_slashes == EscapedSlashes::kUnescapeAndRedirect) return {Verdict::kRedirect, result};
  return {Verdict::kOk, result};
}

}  // namespace sluice::http
