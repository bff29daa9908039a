// Domains in three groups: whole names by hash; suffixes and prefixes by length, longest first, each length a hash; and "*". A look-up
// folds case while it hashes, so no copy of the host is made. Envoy compares a wildcard's fixed part with the host when the host is
// strictly longer, hence "*.a" does not take ".a".
#include <algorithm>
#include <map>
#include <unordered_map>

#include "dataplane/route/route.h"

namespace sluice::route {
namespace {

using Host = std::shared_ptr<const tables::VirtualHost>;
const Host kNone;

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }

struct FoldedHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const {  // FNV-1a; names come from configuration, only the look-ups from strangers
    uint64_t h = 0xcbf29ce484222325;
    for (const char c : s) h = (h ^ uint8_t(lower(c))) * 0x100000001b3;
    return h;
  }
};
struct FoldedEqual {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const { return http::equals_ignore_case(a, b); }
};
using ByName = std::unordered_map<std::string, Host, FoldedHash, FoldedEqual>;
using ByLength = std::map<size_t, ByName, std::greater<>>;

}  // namespace

struct DomainIndex::Maps {
  ByName exact;
  ByLength suffixes, prefixes;
  Host any;
};

DomainIndex::DomainIndex() : maps_(std::make_unique<Maps>()) {}
DomainIndex::~DomainIndex() = default;

std::shared_ptr<const DomainIndex> DomainIndex::build(std::span<const Host> hosts) {
  auto index = std::shared_ptr<DomainIndex>(new DomainIndex);
  Maps& maps = *index->maps_;
  for (const Host& host : hosts)
    for (const std::string& domain : host->domains) {
      const std::string_view d = domain;
      if (d == "*") {
        if (maps.any == nullptr) maps.any = host;
      } else if (d.starts_with('*')) {
        maps.suffixes[d.size() - 1].try_emplace(std::string(d.substr(1)), host);
      } else if (d.ends_with('*')) {
        maps.prefixes[d.size() - 1].try_emplace(std::string(d.substr(0, d.size() - 1)), host);
      } else {
        maps.exact.try_emplace(domain, host);
      }
    }
  return index;
}

const Host& DomainIndex::find(std::string_view authority) const {
  const Maps& maps = *maps_;
  if (const auto hit = maps.exact.find(authority); hit != maps.exact.end()) return hit->second;
  for (const auto& [length, names] : maps.suffixes)
    if (length < authority.size())
      if (const auto hit = names.find(authority.substr(authority.size() - length)); hit != names.end()) return hit->second;
  for (const auto& [length, names] : maps.prefixes)
    if (length < authority.size())
      if (const auto hit = names.find(authority.substr(0, length)); hit != names.end()) return hit->second;
  return maps.any;
}

std::string_view without_port(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const size_t bracket = authority.rfind(']');  // "[::1]" has no port: the colon lies inside
  if (colon == authority.npos || (bracket != authority.npos && bracket > colon)) return authority;
  return authority.substr(0, colon);
}

const Host& find_virtual_host(const tables::RouteConfiguration& routes, std::string_view authority) {
  if (routes.ignore_port) authority = without_port(authority);
  if (routes.index != nullptr) return routes.index->find(authority);
  // Without an index: the same order, found by looking at every domain.
  const Host* best = &kNone;
  size_t best_rank = 0;
  for (const Host& host : routes.virtual_hosts)
    for (const std::string& domain : host->domains) {
      const std::string_view d = domain;
      size_t rank = 0;  // exact > suffix by length > prefix by length > any
      if (d == "*") rank = 1;
      else if (d.starts_with('*'))
        rank = d.size() - 1 < authority.size() && http::equals_ignore_case(authority.substr(authority.size() - d.size() + 1), d.substr(1))
                   ? (size_t(1) << 40) + d.size()
                   : 0;
      else if (d.ends_with('*'))
        rank = d.size() - 1 < authority.size() && http::equals_ignore_case(authority.substr(0, d.size() - 1), d.substr(0, d.size() - 1))
                   ? (size_t(1) << 20) + d.size()
                   : 0;
      else if (http::equals_ignore_case(authority, d)) rank = size_t(1) << 60;
      if (rank > best_rank) best = &host, best_rank = rank;
    }
  return *best;
}

}  // namespace sluice::route
