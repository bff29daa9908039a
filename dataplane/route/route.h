// Which virtual host, which route: Envoy's order and semantics (config.route.v3), first match wins.
//
// What is here: host -> virtual host (DomainIndex), path -> first matching route (VirtualHostIndex), one header match for routes and
// authorization alike. What is not: acting on a route (proxy), building the tables (ctrl/compile), canonical paths (http/path.h; the head
// that comes here has its path canonical already).
//
// Indexes are built on the control thread (may allocate) and are immutable after; any worker reads them. They hold positions, not
// pointers: an index belongs to the VirtualHost it was built from. A null index is allowed everywhere and means a linear look.
// A Scratch belongs to one worker. It allocates when it meets a table whose regex database needs more room than any before, so once per
// change of tables, never once per request; if that fails, RE2 checks every regex instead and the answer is the same.
#pragma once
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "dataplane/base/rng.h"
#include "dataplane/http/message.h"
#include "dataplane/tables/tables.h"

struct hs_scratch;

namespace sluice::route {

// Exact domain, else the longest "*suffix", else the longest "prefix*", else "*". "*" stands for at least one character, as in Envoy.
// Case is folded. Where two virtual hosts claim one domain, the first keeps it (the compiler refuses that).
class DomainIndex {
 public:
  static std::shared_ptr<const DomainIndex> build(std::span<const std::shared_ptr<const tables::VirtualHost>> hosts);
  ~DomainIndex();
  DomainIndex(const DomainIndex&) = delete;
  DomainIndex& operator=(const DomainIndex&) = delete;
  // `authority` without its port where the configuration ignores it. A null pointer when nothing matches.
  const std::shared_ptr<const tables::VirtualHost>& find(std::string_view authority) const;

 private:
  DomainIndex();
  struct Maps;
  std::unique_ptr<Maps> maps_;
};

// The reference lives as long as `routes`; a null pointer when no virtual host takes that authority (404, route_not_found).
const std::shared_ptr<const tables::VirtualHost>& find_virtual_host(const tables::RouteConfiguration& routes, std::string_view authority);
// "host:443", "[::1]:443", "host:" -> without the port, Envoy's way (the text after the last ":" is not looked at).
std::string_view without_port(std::string_view authority);

class VirtualHostIndex;

// One worker's room for regex scans. Not for two threads, not for two scans at a time.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  friend const tables::Route* find_route(const tables::VirtualHost&, const http::RequestHead&, Scratch&, Rng&);
  bool prepare(const VirtualHostIndex& index);
  static constexpr size_t kSlots = 4096;
  hs_scratch* scratch_ = nullptr;
  std::vector<uint64_t> met_;   // slot hash % kSlots: a database the scratch has room for, by its content's hash
  std::vector<uint64_t> hits_;  // bit i: regex i of the index may match
};

// The routes of one virtual host by path: a radix trie over case-folded prefixes, separated prefixes, exact paths and the literal
// beginnings of regexes, and a multi-pattern prefilter over the other regexes. Both only propose; route_matches() decides.
class VirtualHostIndex {
 public:
  static std::shared_ptr<const VirtualHostIndex> build(const tables::VirtualHost& host);
  size_t prefiltered() const;  // how many regexes Hyperscan prefilters; the others go by their literal beginning, or one by one
  ~VirtualHostIndex();
  VirtualHostIndex(const VirtualHostIndex&) = delete;
  VirtualHostIndex& operator=(const VirtualHostIndex&) = delete;

 private:
  friend class Scratch;
  friend const tables::Route* find_route(const tables::VirtualHost&, const http::RequestHead&, Scratch&, Rng&);
  VirtualHostIndex();
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// The first route that matches, null if none (404, route_not_found). A request without a path (CONNECT) matches none. All routes with a
// runtime fraction see the same random number of one request, drawn only when one of them asks: as Envoy does it.
const tables::Route* find_route(const tables::VirtualHost& host, const http::RequestHead& head, Scratch& scratch, Rng& rng);

// The route's match without the runtime fraction; what find_route decides by, for tests and for the linear look.
bool route_matches(const tables::RouteMatch& match, const http::RequestHead& head);

// One header matcher, for routes and authorization. Repeated fields are seen joined by ",". `head` null: no fields at all, as Envoy's
// network filters see it.
bool matches(const tables::HeaderMatch& match, const http::RequestHead* head);
inline bool matches(const tables::HeaderMatch& match, const http::RequestHead& head) { return matches(match, &head); }

// What path matchers see: without query and without fragment.
inline std::string_view matched_path(std::string_view path) {
  size_t n = 0;
  while (n < path.size() && path[n] != '?' && path[n] != '#') n++;
  return path.substr(0, n);
}

}  // namespace sluice::route
