// Heads as text, made anew from the message model into the arena; nothing of the wire is copied through. Names are lower-case, `host`
// first. The result is empty when the arena is exhausted.
#pragma once
#include <charconv>

#include "dataplane/http/message.h"
#include "dataplane/http/status.h"

namespace sluice::http {

namespace detail {
inline size_t field_bytes(const FieldList& fields) {
  size_t n = 2;
  for (const Field& f : fields.all()) n += f.name.size() + f.value.size() + 4;
  return n;
}
inline char* put(char* p, std::string_view s) {
  std::memcpy(p, s.data(), s.size());
  return p + s.size();
}
inline char* put_fields(char* p, const FieldList& fields) {
  for (const Field& f : fields.all()) p = put(put(put(put(p, f.name), ": "), f.value), "\r\n");
  return put(p, "\r\n");
}
}  // namespace detail

inline std::string_view write_request(const RequestHead& head, Arena& arena) {
  const std::string_view target = head.method == "CONNECT" ? head.authority : head.path;
  auto* p =
      static_cast<char*>(arena.alloc(head.method.size() + target.size() + head.authority.size() + 24 + detail::field_bytes(head.fields)));
  if (p == nullptr) return {};
  char* end = detail::put(detail::put(detail::put(detail::put(p, head.method), " "), target), " HTTP/1.1\r\nhost: ");
  end = detail::put_fields(detail::put(detail::put(end, head.authority), "\r\n"), head.fields);
  return {p, size_t(end - p)};
}

inline std::string_view write_response(const ResponseHead& head, Arena& arena) {
  const std::string_view reason = reason_of(head.status);
  auto* p = static_cast<char*>(arena.alloc(reason.size() + 20 + detail::field_bytes(head.fields)));
  if (p == nullptr) return {};
  char* end = detail::put(p, "HTTP/1.1 ");
  end = std::to_chars(end, end + 5, head.status).ptr;
  end = detail::put_fields(detail::put(detail::put(detail::put(end, " "), reason), "\r\n"), head.fields);
  return {p, size_t(end - p)};
}

// The end of a chunked body with its trailers. Fields that frame or route a message are none (RFC 9110 6.5.1).
inline std::string_view write_trailers(FieldList& trailers, Arena& arena) {
  trailers.remove_if([](const Field& f) {
    return f.name == "content-length" || f.name == "transfer-encoding" || f.name == "host" || f.name == "connection" ||
           f.name == "trailer" || f.name == "te" || f.name == "upgrade";
  });
  auto* p = static_cast<char*>(arena.alloc(3 + detail::field_bytes(trailers)));
  if (p == nullptr) return {};
  char* end = detail::put_fields(detail::put(p, "0\r\n"), trailers);
  return {p, size_t(end - p)};
}

}  // namespace sluice::http
