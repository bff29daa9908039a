// Aims: what a request must be to meet a matcher, a rule, a route. `diff` asks with them, so that a rule of many conditions has a witness.
//
// An Aim says only what matters to it. aims_of() gives alternatives: of an OR one for each child, of an AND the combinations, of a NOT both
// what it excludes and nothing at all. Bounded by kAimsMax; a matcher for which no text was found is named in `unknown`. Pure.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ctrl/explain/explain.h"
#include "dataplane/tables/tables.h"

namespace sluice::explain {

constexpr size_t kAimsMax = 64;  // alternatives of one rule

struct Aim {
  std::optional<std::string> method, path, host, sni, principal;
  std::optional<IpAddress> from, to;
  std::map<std::string, std::string> headers, query;
  // Both at once; nothing where they contradict each other.
  std::optional<Aim> with(const Aim& other) const;
  // `other` decides where both speak.
  Aim under(const Aim& other) const;
  // This, with one of its attributes given up, for each.
  std::vector<Aim> but_one() const;
  auto operator<=>(const Aim&) const = default;
};

// A text that matches, of the shape that a method, a path or a principal has where it is one; nothing: none was found.
enum class Shape { kText, kMethod, kPath, kPrincipal };
std::optional<std::string> sample(const tables::StringMatch& m, const std::string& filler, Shape shape = Shape::kText);
std::string sample_of_template(std::string text);
std::string host_of(const std::string& domain);  // a name that the domain of a virtual host takes

std::vector<Aim> aims_of(const tables::Policy& policy, std::set<std::string>& unknown);
std::vector<Aim> aims_of(const tables::Route& route, std::set<std::string>& unknown);

}  // namespace sluice::explain
