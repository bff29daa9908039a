#include "dataplane/tables/filter_chain_index.h"

#include <algorithm>
#include <array>

namespace sluice::tables {
namespace {

// How well a chain fits, step by step after the server name; a negative step does not match. Compared in this order the greatest is the
// chain that Envoy's search ends at: each step keeps those with its best value, and a negative one stays only where all are.
using Fit = std::array<int, 5>;

int longest(const std::vector<IpPrefix>& prefixes, const IpAddress& a) {
  if (prefixes.empty()) return 0;
  int best = -1;
  for (const IpPrefix& p : prefixes)
    if (p.contains(a)) best = std::max(best, 1 + int(p.length));
  return best;
}

Fit fit_of(const FilterChainMatch& m, const ConnectionView& c) {
  const auto among = [](const auto& list, const auto& value) { return std::ranges::find(list, value) != list.end(); };
  int protocol = m.application_protocols.empty() ? 0 : -1;
  for (size_t k = 0; k < c.application_protocols.size() && protocol < 0; k++)  // the client's order decides between chains
    if (among(m.application_protocols, c.application_protocols[k])) protocol = 1000 - int(k);
  return {m.transport_protocol.empty()                   ? 0
          : m.transport_protocol == c.transport_protocol ? 1
                                                         : -1,
          protocol, longest(m.direct_source, c.remote.ip), longest(m.source, c.remote.ip),
          m.source_ports.empty()                 ? 0
          : among(m.source_ports, c.remote.port) ? 1
                                                 : -1};
}

using Values = std::vector<std::string>;  // of one criterion, as text that is equal where it matches the same; {""}: any

template <class List, class F>
Values values_of(const List& list, F&& text) {
  Values out;
  for (const auto& x : list) out.push_back(text(x));
  if (out.empty()) out.emplace_back();
  return out;
}

// Without the bits past the length.
std::string block_text(const IpPrefix& p) {
  std::string out = std::to_string(p.length) + (p.address.is_v4() ? "v4" : "v6");
  const unsigned bits = p.length + (p.address.is_v4() ? 96u : 0u);
  for (unsigned i = 0; i < bits; i++) out += char('0' + (p.address.bytes()[i / 8] >> (7 - i % 8) & 1));
  return out;
}

// Calls f(text) for each combination of one value of each criterion.
template <class F>
void each_combination(std::span<const Values> criteria, const std::string& so_far, F&& f) {
  if (criteria.empty()) return f(so_far);
  for (const std::string& v : criteria[0]) each_combination(criteria.subspan(1), so_far + v + '\n', f);
}

}  // namespace

std::string clash(std::span<const std::shared_ptr<const FilterChain>> chains) {
  std::unordered_map<std::string, const FilterChain*> taken;
  std::string error;
  for (const auto& chain : chains) {
    const FilterChainMatch& m = chain->match;
    const auto same = [](const std::string& s) { return s; };
    const auto port = [](uint16_t p) { return std::to_string(p); };
    for (const std::string& name : m.server_names)
      if (name.find('*') != name.npos && !name.starts_with("*."))
        return "filter chain \"" + chain->name + "\": server name \"" + name +
               "\": a wildcard is the whole first label (\"*.example.com\")";
    const Values criteria[] = {values_of(std::vector<uint16_t>(m.destination_port ? 1 : 0, m.destination_port.value_or(0)), port),
                               values_of(m.destination, block_text),
                               values_of(m.server_names, same),
                               {m.transport_protocol},
                               values_of(m.application_protocols, same),
                               values_of(m.direct_source, block_text),
                               values_of(m.source, block_text),
                               values_of(m.source_ports, port)};
    each_combination(criteria, "", [&](const std::string& what) {
      if (const auto [at, fresh] = taken.try_emplace(what, chain.get()); !fresh && error.empty())
        error = "filter chains \"" + at->second->name + "\" and \"" + chain->name + "\" match the same connections";
    });
  }
  return error;
}

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
  const uint32_t* best = nullptr;
  Fit best_fit{};
  for (const uint32_t& i : *set)
    if (const Fit fit = fit_of(chains_[i]->match, c); best == nullptr || fit > best_fit) best = &i, best_fit = fit;
  return std::ranges::any_of(best_fit, [](int step) { return step < 0; }) ? nullptr : &chains_[*best];
}

}  // namespace sluice::tables
