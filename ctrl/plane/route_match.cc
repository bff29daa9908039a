// What a VirtualService's match becomes.
#include <algorithm>

#include "ctrl/plane/routes.h"

namespace sluice::plane {
namespace {

bool any_string(const Node& m) { return (!m["exact"] && !m["prefix"] && !m["regex"]) || m["regex"].str() == "*"; }

Object header_match(const std::string& name, const Node& m, bool without) {
  Object h{{"name", name}};
  if (any_string(m)) h.set("presentMatch", true);
  else h.set("stringMatch", string_match(m));
  if (without) h.set("invertMatch", true).set_if(!any_string(m), "treatMissingHeaderAsEmpty", true);
  return h;
}

// What a header condition is: a claim of the request's token (@request.auth.claims) is dynamic metadata, all else a header.
std::vector<std::string> claim_path(const std::string& name) {
  constexpr std::string_view kClaims = "@request.auth.claims";
  std::string_view rest = name;
  if (rest.size() <= kClaims.size() || upper(rest.substr(0, kClaims.size())) != upper(kClaims)) return {};
  rest.remove_prefix(kClaims.size());
  std::vector<std::string> path;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    for (size_t at = 0; at <= rest.size();) {
      const size_t end = std::min(rest.find('.', at), rest.size());
      path.emplace_back(rest.substr(at, end - at));
      at = end + 1;
    }
  } else if (rest.starts_with('[') && rest.ends_with(']')) {
    rest = rest.substr(1, rest.size() - 2);
    for (size_t at = 0; at <= rest.size();) {
      const size_t end = std::min(rest.find("][", at), rest.size());
      path.emplace_back(rest.substr(at, end - at));
      at = end + 2;
    }
  }
  return path;
}

void add_header_conditions(const Node& map, bool without, std::multimap<std::string, Json>& headers, Array& metadata) {
  for (const auto& [name, h] : sorted(map)) {
    const auto claim = claim_path(name);
    if (claim.empty()) {
      headers.emplace(name, header_match(name, *h, without));
      continue;
    }
    Object m = claims_matcher(claim, string_match(*h));
    m.set_if(without, "invert", true);
    metadata.add(m);
  }
}

}  // namespace

Object string_match(const Node& m) {
  if (m["exact"]) return {{"exact", m["exact"].str()}};
  if (m["prefix"]) return {{"prefix", m["prefix"].str()}};
  return {{"safeRegex", Object{{"regex", m["regex"].str()}}}};
}

std::map<std::string, const Node*> sorted(const Node& map) {
  std::map<std::string, const Node*> out;
  for (size_t i = 0; i < map.keys.size(); i++) out[map.keys[i].text] = &map.items[i];
  return out;
}

Match match_json(const Node& m, bool by_segment) {
  if (m.null()) return {Object{{"prefix", "/"}}, "/*", true};
  const Node& uri = m["uri"];
  Object o;
  std::string operation = "/*";
  bool all_paths = false;
  if (uri["exact"]) {
    o.set("path", operation = uri["exact"].str());
  } else if (uri["prefix"]) {
    o.set(by_segment && uri["prefix"].str() != "/" ? "pathSeparatedPrefix" : "prefix", uri["prefix"].str());
    operation = uri["prefix"].str() + "*";
    all_paths = uri["prefix"].str() == "/";
  } else if (uri["regex"]) {
    o.set("safeRegex", Object{{"regex", operation = uri["regex"].str()}});
    all_paths = operation == ".*";
  } else {
    o.set("prefix", "/");
    all_paths = true;
  }
  o.set("caseSensitive", !m["ignoreUriCase"].boolean());
  Array headers, query, metadata;
  std::multimap<std::string, Json> by_name;
  add_header_conditions(m["headers"], false, by_name, metadata);
  add_header_conditions(m["withoutHeaders"], true, by_name, metadata);
  for (const auto& [name, h] : by_name) headers.add(h);
  for (const char* pseudo : {"method", "authority", "scheme"})
    if (m[pseudo]) headers.add(header_match(":" + std::string(pseudo), m[pseudo], false));
  for (const auto& [name, q] : sorted(m["queryParams"])) {
    Object p{{"name", name}};
    if (any_string(*q)) p.set("presentMatch", true);
    else p.set("stringMatch", string_match(*q));
    query.add(p);
  }
  o.set_if(!headers.empty(), "headers", headers).set_if(!query.empty(), "queryParameters", query);
  o.set_if(!metadata.empty(), "dynamicMetadata", metadata);
  return {o, operation, all_paths && headers.empty() && query.empty() && metadata.empty()};
}

}  // namespace sluice::plane
