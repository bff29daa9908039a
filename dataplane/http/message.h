// The one message model. Heads live in the exchange's arena: nothing points into an mbuf, names are lower-case, the order of the wire is
// kept.
//
// FieldList   repeated fields stay separate entries; joined() gives Envoy's view of a repeated field ("a,b"), which is what matchers see.
//             Mutations copy what they are given. When the arena is exhausted failed() turns true and stays so: ask once before the head is
//             used.
// Thread: the worker's. Limits: kHeaderCountMax fields are accepted by the parser; the list itself grows with the arena.
#pragma once
#include <optional>
#include <span>
#include <string_view>

#include "dataplane/base/arena.h"

namespace sluice::http {

struct Field {
  std::string_view name, value;
};

bool equals_ignore_case(std::string_view a, std::string_view b);
std::string_view trim(std::string_view s);  // optional white space (SP, HT) on both ends
// Calls f(token) for each non-empty element of a comma-separated list, trimmed.
template <class F>
void each_token(std::string_view list, F&& f) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    const std::string_view token = trim(list.substr(0, comma));
    if (!token.empty()) f(token);
    if (comma == list.npos) break;
    list.remove_prefix(comma + 1);
  }
}

class FieldList {
 public:
  explicit FieldList(Arena& arena) : arena_(&arena) {}

  std::span<const Field> all() const { return {fields_, count_}; }
  size_t size() const { return count_; }
  bool failed() const { return failed_; }
  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::optional<std::string_view> first(std::string_view name) const {
    const Field* f = find(name);
    return f == nullptr ? std::nullopt : std::optional(f->value);
  }
  // All values of `name` joined by "," ; nullopt when absent. Allocates only for a repeated field, and once per name however often it is
  // asked (a thousand policies may ask for the one that a stranger repeats) until the list changes.
  std::optional<std::string_view> joined(std::string_view name) const;
  // True when a list field such as connection names `token` (case-insensitive).
  bool has_token(std::string_view name, std::string_view token) const;

  // `name` is lower-cased on the way in.
  void add(std::string_view name, std::string_view value);
  void set(std::string_view name, std::string_view value);  // replaces all of that name, in the place of the first
  void append(std::string_view name, std::string_view value, std::string_view separator = ",");  // to the last of that name, or adds
  bool remove(std::string_view name);
  template <class F>
  void remove_if(F&& f) {
    size_t kept = 0;
    for (size_t i = 0; i < count_; i++)
      if (!f(fields_[i])) fields_[kept++] = fields_[i];
    count_ = kept;
    joined_ = nullptr;
  }
  void clear() {
    count_ = 0;
    joined_ = nullptr;
  }
  // The parser's way in: views that already lie in the arena, the name lower-case.
  void add_view(std::string_view name, std::string_view value);
  Arena& arena() const { return *arena_; }

 private:
  const Field* find(std::string_view name) const {
    for (size_t i = 0; i < count_; i++)
      if (fields_[i].name == name) return &fields_[i];
    return nullptr;
  }
  std::string_view copy(std::string_view s);
  std::string_view copy_lower(std::string_view s);
  Arena* arena_;
  Field* fields_ = nullptr;
  size_t count_ = 0, room_ = 0;
  mutable bool failed_ = false;
  struct Joined {
    Field field;
    const Joined* next;
  };
  mutable const Joined* joined_ = nullptr;  // what joined() has made since the last change, in the arena
};

struct RequestHead {
  explicit RequestHead(Arena& arena) : fields(arena) {}
  std::string_view method;
  std::string_view target;     // as it came
  std::string_view scheme;     // "http" or "https": of the connection, or of an absolute-form target
  std::string_view authority;  // of an absolute-form target, else Host; has_authority tells absent from empty
  std::string_view path;       // origin-form with query; "*" for OPTIONS *; empty for CONNECT
  bool has_authority = false;
  FieldList fields;  // without Host
};

struct ResponseHead {
  explicit ResponseHead(Arena& arena) : fields(arena) {}
  uint16_t status = 0;
  bool http10 = false;
  FieldList fields;
};

inline std::string_view path_of(std::string_view path_and_query) { return path_and_query.substr(0, path_and_query.find('?')); }
inline std::string_view query_of(std::string_view path_and_query) {
  const size_t q = path_and_query.find('?');
  return q == path_and_query.npos ? std::string_view{} : path_and_query.substr(q + 1);
}
// gRPC's content types: "application/grpc", alone or with "+..." (Envoy: Grpc::Common::isGrpcRequestHeaders).
bool is_grpc(const FieldList& fields);
// The value of the first query parameter of that name, undecoded as Envoy compares it; nullopt when absent.
std::optional<std::string_view> query_parameter(std::string_view path_and_query, std::string_view name);

}  // namespace sluice::http
