// One route's match and one header's match, in Envoy's order: grpc, headers, query, path. (The runtime fraction, which Envoy asks first, is
// find_route's: it needs the request's random number.)
//
// A missing header: only a present_match can hold (present_match: false, or inverted); every value match fails, and inverting it does not
// help, unless treat_missing_header_as_empty makes the value "".
#include <charconv>

#include "dataplane/route/route.h"

namespace sluice::route {
namespace {

std::optional<std::string_view> value_of(std::string_view name, const http::RequestHead* head) {
  if (head == nullptr) return std::nullopt;
  if (name.empty() || (name[0] != ':' && name != "host")) return head->fields.joined(name);
  if (name == ":method") return head->method;
  if (name == ":scheme") return head->scheme;
  // The legacy name of the same thing: Envoy's header map keeps Host as :authority.
  if (name == ":authority" || name == "host") return head->has_authority ? std::optional(head->authority) : std::nullopt;
  if (name == ":path") return head->path.empty() ? std::nullopt : std::optional(head->path);
  return std::nullopt;
}

// A whole decimal int64, as absl::SimpleAtoi reads it: white space around it and a sign are allowed.
std::optional<int64_t> integer(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t from = text.find_first_not_of(kSpace);
  if (from == text.npos) return std::nullopt;
  text = text.substr(from, text.find_last_not_of(kSpace) + 1 - from);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

bool query_matches(const tables::QueryMatch& match, const http::RequestHead& head) {
  const auto value = http::query_parameter(head.path, match.name);
  return value && (match.present_only || match.string.matches(*value));
}

bool path_matches(const tables::RouteMatch& match, std::string_view path) {
  const std::string_view want = match.path;
  const auto same = [&](std::string_view text) { return match.case_sensitive ? text == want : http::equals_ignore_case(text, want); };
  switch (match.kind) {
    case tables::RouteMatch::Path::kExact: return same(path);
    case tables::RouteMatch::Path::kPrefix: return path.size() >= want.size() && same(path.substr(0, want.size()));
    case tables::RouteMatch::Path::kSeparatedPrefix:
      return path.size() >= want.size() && same(path.substr(0, want.size())) && (path.size() == want.size() || path[want.size()] == '/');
    case tables::RouteMatch::Path::kRegex: return match.regex != nullptr && match.regex->full_match(path);
  }
  return false;
}

}  // namespace

bool matches(const tables::HeaderMatch& match, const http::RequestHead* head) {
  auto value = value_of(match.name, head);
  if (!value && !match.treat_missing_as_empty) return match.kind == tables::HeaderMatch::Kind::kPresent && match.present == match.invert;
  bool holds = false;
  switch (match.kind) {
    case tables::HeaderMatch::Kind::kPresent: holds = match.present; break;
    case tables::HeaderMatch::Kind::kString: holds = match.string.matches(value.value_or("")); break;
    case tables::HeaderMatch::Kind::kRange: {
      const auto number = integer(value.value_or(""));
      holds = number && *number >= match.range_start && *number < match.range_end;
      break;
    }
  }
  return holds != match.invert;
}

bool route_matches(const tables::RouteMatch& match, const http::RequestHead& head) {
  if (head.path.empty()) return false;  // CONNECT: only a connect_matcher takes it, and we have none
  if (!path_matches(match, matched_path(head.path))) return false;
  if (match.grpc && !http::is_grpc(head.fields)) return false;
  for (const tables::HeaderMatch& header : match.headers)
    if (!matches(header, head)) return false;
  for (const tables::QueryMatch& query : match.query)
    if (!query_matches(query, head)) return false;
  return true;
}

}  // namespace sluice::route
