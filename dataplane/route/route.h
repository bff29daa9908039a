// Which virtual host and which route take a request (config.route.v3), by Envoy's rules: the first match of the virtual host's list wins.
//
// DomainIndex        host -> virtual host: exact, then the longest "*suffix", then the longest "prefix*", then "*"; case-folded
// VirtualHostIndex   finds the first match without walking the list: exact paths and prefixes by hash (one look-up per distinct length),
//                    regexes by one Hyperscan scan of all of them as a prefilter (RE2's full match is the truth). What it gives are candidates
//                    in the order of the list; each is then matched in full
// Built on the control thread, immutable, shared; find_* run on any worker with a Scratch of its own. No allocation on the path, but once per
// new index for Hyperscan's scratch. Paths are compared without query; matching is on the canonical path (http/path.h).
#pragma once
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dataplane/base/rng.h"
#include "dataplane/tables/tables.h"

struct hs_database;
struct hs_scratch;

namespace sluice::route {

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
template <class T>
using ByText = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

class DomainIndex {
 public:
  // A domain that two virtual hosts name belongs to the first (Envoy refuses such a configuration; the compiler says so).
  static std::shared_ptr<const DomainIndex> build(std::span<const std::shared_ptr<const tables::VirtualHost>> hosts);
  // `host`: lower-case, without port where ports are ignored.
  std::shared_ptr<const tables::VirtualHost> find(std::string_view host) const;

 private:
  using Host = std::shared_ptr<const tables::VirtualHost>;
  ByText<Host> exact_;
  std::vector<std::pair<std::string, Host>> suffixes_, prefixes_;  // longest first
  Host any_;
};

// A worker's working memory.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;

 private:
  friend class VirtualHostIndex;
  hs_scratch* hyperscan_ = nullptr;
  uint64_t sized_for_ = 0;  // the last index that hyperscan_ was sized for
  std::vector<uint32_t> regexes_;
  std::vector<std::span<const uint32_t>> lists_;
};

class VirtualHostIndex {
 public:
  static std::shared_ptr<const VirtualHostIndex> build(const tables::VirtualHost& host);
  ~VirtualHostIndex();
  VirtualHostIndex(const VirtualHostIndex&) = delete;
  // Calls f(index of a route that may match) in the order of the list until it returns true.
  template <class F>
  void candidates(std::string_view path, Scratch& scratch, F&& f) const {
    collect(path, scratch);
    auto& lists = scratch.lists_;
    while (!lists.empty()) {
      uint32_t first = ~0u;
      for (const auto& l : lists) first = std::min(first, l.front());
      std::erase_if(lists, [first](auto& l) {
        if (l.front() == first) l = l.subspan(1);
        return l.empty();
      });
      if (f(first)) return;
    }
  }
  bool has_prefilter() const { return database_ != nullptr; }

  static constexpr size_t kPrefilterFrom = 8;  // regexes; fewer are tried one by one

 private:
  VirtualHostIndex() = default;
  void collect(std::string_view path, Scratch& scratch) const;
  ByText<std::vector<uint32_t>> exact_, prefix_;
  std::vector<uint32_t> prefix_lengths_, always_;  // always_: case-insensitive paths, and regexes that are not in the prefilter
  hs_database* database_ = nullptr;
  uint64_t serial_ = 0;
};

std::shared_ptr<const tables::VirtualHost> find_virtual_host(const tables::RouteConfiguration& routes, std::string_view authority);
const tables::Route* find_route(const tables::VirtualHost& host, const http::RequestHead& head, Scratch& scratch, Rng& rng);

// A header as matchers see it: pseudo-headers by name, repeated fields joined by ",". `head` null: no headers at all (layer 4).
bool matches(const tables::HeaderMatch& match, const http::RequestHead* head);
// config.route.v3.RouteMatch, the path included.
bool matches(const tables::RouteMatch& match, const http::RequestHead& head, Rng& rng);

}  // namespace sluice::route
