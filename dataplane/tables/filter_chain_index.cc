#include "dataplane/tables/filter_chain_index.h"

#include <algorithm>

namespace sluice::tables {
namespace {

// Among the candidates those with the best score; a negative score does not match. Returns how many are left, compacted to the front.
template <class Score>
size_t keep_best(uint32_t* candidates, size_t n, Score&& score) {
  int best = -1;
  size_t kept = 0;
  for (size_t i = 0; i < n; i++) {
    const int s = score(candidates[i]);
    if (s < 0 || s < best) continue;
    if (s > best) best = s, kept = 0;
    candidates[kept++] = candidates[i];
  }
  return best < 0 ? 0 : kept;
}

int longest(const std::vector<IpPrefix>& prefixes, const IpAddress& a) {
  if (prefixes.empty()) return 0;
  int best = -1;
  for (const IpPrefix& p : prefixes)
    if (p.contains(a)) best = std::max(best, 1 + int(p.length));
  return best;
}

}  // namespace

FilterChainIndex::FilterChainIndex(std::span<const std::shared_ptr<const FilterChain>> chains) : chains_(chains.begin(), chains.end()) {
  auto place = [this](std::optional<uint16_t> port, std::optional<IpPrefix> destination) -> Place& {
    for (Place& p : places_)
      if (p.port == port && p.destination == destination) return p;
    places_.push_back({port, destination, {}});
    return places_.back();
  };
  for (uint32_t i = 0; i < chains_.size(); i++) {
    const FilterChainMatch& m = chains_[i]->match;
    std::vector<std::optional<IpPrefix>> destinations(m.destination.begin(), m.destination.end());
    if (destinations.empty()) destinations.push_back(std::nullopt);
    for (const auto& d : destinations) {
      Place& p = place(m.destination_port, d);
      if (m.server_names.empty()) p.by_name[""].push_back(i);
      for (const std::string& name : m.server_names) p.by_name[name.starts_with("*.") ? name.substr(1) : name].push_back(i);
    }
  }
}

const FilterChainIndex::Place* FilterChainIndex::place_of(const ConnectionView& c) const {
  const bool with_port = std::ranges::any_of(places_, [&](const Place& p) { return p.port == c.local.port; });
  const Place* best = nullptr;
  int best_length = -1;
  for (const Place& p : places_) {
    if (with_port ? p.port != c.local.port : p.port.has_value()) continue;
    if (p.destination && !p.destination->contains(c.local.ip)) continue;
    const int length = p.destination ? 1 + p.destination->length : 0;
    if (length > best_length) best = &p, best_length = length;
  }
  return best;
}

const std::shared_ptr<const FilterChain>* FilterChainIndex::find(const ConnectionView& c) const {
  const Place* place = place_of(c);
  if (place == nullptr) return nullptr;
  const Set* set = nullptr;
  auto look = [&](std::string_view name) {
    const auto it = place->by_name.find(name);
    if (it != place->by_name.end()) set = &it->second;
    return set != nullptr;
  };
  if (c.server_name.empty() || !look(c.server_name)) {
    for (size_t dot = c.server_name.find('.', 1); dot != c.server_name.npos && dot + 1 < c.server_name.size();
         dot = c.server_name.find('.', dot + 1))
      if (look(c.server_name.substr(dot))) break;
    if (set == nullptr && !look("")) return nullptr;
  }
  // Chains that share a server name are few (istiod: one or two); a bounded copy is narrowed step by step.
  constexpr size_t kCandidatesMax = 64;
  uint32_t candidates[kCandidatesMax];
  size_t n = std::min(set->size(), kCandidatesMax);
  std::copy_n(set->begin(), n, candidates);
  auto match = [&](uint32_t i) -> const FilterChainMatch& { return chains_[i]->match; };
  n = keep_best(candidates, n, [&](uint32_t i) {
    const std::string& want = match(i).transport_protocol;
    return want.empty() ? 0 : want == c.transport_protocol ? 1 : -1;
  });
  n = keep_best(candidates, n, [&](uint32_t i) {
    const auto& want = match(i).application_protocols;
    if (want.empty()) return 0;
    for (size_t k = 0; k < c.application_protocols.size(); k++)  // the client's order decides between chains
      if (std::ranges::find(want, c.application_protocols[k]) != want.end()) return 1000 - int(k);
    return -1;
  });
  n = keep_best(candidates, n, [&](uint32_t i) { return longest(match(i).direct_source, c.remote.ip); });
  n = keep_best(candidates, n, [&](uint32_t i) { return longest(match(i).source, c.remote.ip); });
  n = keep_best(candidates, n, [&](uint32_t i) {
    const auto& ports = match(i).source_ports;
    return ports.empty() ? 0 : std::ranges::find(ports, c.remote.port) != ports.end() ? 1 : -1;
  });
  return n == 0 ? nullptr : &chains_[candidates[0]];
}

}  // namespace sluice::tables
