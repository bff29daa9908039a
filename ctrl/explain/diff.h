// Diff: what going from one set of tables to another changes, in the operator's terms: listeners, hosts, routes, clusters, endpoints,
// certificates, and the requests whose outcome flips, each with one request that shows it.
//
// Witnesses are found by asking decide() of both tables. The requests asked are aims (aim.h): what each rule or route of an object that
// changed demands, with what the others demand of a request to come so far, and each with one demand less; then the combinations of every
// constant that either side's matchers name, one value inside and one outside of each, so that where the matchers are exact, prefix,
// suffix, presence or CIDR, each class of requests that they tell apart has a member. What is not covered is said in `undecided`: regexes
// without a sample, combinations beyond kAskedMax, and every policy or VirtualService that changed without a request that shows it. Pure.
// Thread: any.
#pragma once
#include <string>
#include <vector>

#include "ctrl/explain/explain.h"

namespace sluice::explain {

constexpr size_t kAskedMax = 200'000;

struct Flip {
  Question witness;
  std::string before, after;  // "403 by ns[..]", "to outbound|8080||web 100 %", "closed: ..."
  Origin cause;               // the policy or route that makes the difference
  size_t requests = 1;        // of those asked, how many flip the same way for the same cause
};

struct Diff {
  std::vector<std::string> lines;  // "+ route ...", "- endpoint ...", "~ ..."
  std::vector<Flip> flips;
  std::vector<std::string> undecided;
  size_t asked = 0;
};

Diff diff(const tables::Snapshot& before, const tables::Snapshot& after, size_t asked_max = kAskedMax);

std::string render_text(const Diff& d, const Place& place);

}  // namespace sluice::explain
