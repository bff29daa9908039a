// First matching route of many.
//
//   path (case folded) -> trie  -> ids of routes whose prefix, separated prefix or exact path may match
//   path (as it is)    -> regexes that Hyperscan says may match, and those it cannot judge
//
// Every proposed id is decided by route_matches(), in ascending order, and only while it is below the best match so far: the answer is the
// linear one by construction as long as the proposals are a superset.
//
// The trie folds case for all routes (case-sensitive ones are decided anyway), so one walk serves both. It is laid out breadth first:
// siblings lie together, their first bytes in one array that memchr searches, and no node owns memory.
//
// Why Hyperscan's answer is a superset of RE2's full match: each regex is scanned as ^(?:R)$ with PREFILTER (approximations only widen) and
// without UTF-8 mode, and is asked only about printable ASCII, where RE2's code points are PCRE's bytes and the classes agree. Kept out of
// the database, so always decided by RE2: patterns with bytes above ASCII, with \1..\9 (octal there, a back-reference here), with Unicode
// classes, or that Hyperscan refuses. A path with other bytes is decided by RE2 alone.
#include <hs/hs.h>

#include <algorithm>
#include <cstring>

#include "dataplane/base/siphash.h"
#include "dataplane/route/route.h"

namespace sluice::route {
namespace {

constexpr size_t kPrefilterMin = 4;     // fewer regexes: RE2 is as fast
constexpr size_t kPrefilterMax = 4096;  // compile time; the rest is left to RE2
constexpr uint32_t kNone = ~0u;

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }

bool printable(std::string_view s) {
  return std::ranges::all_of(s, [](char c) { return c >= 0x20 && c < 0x7f; });
}

struct Entry {
  std::string key;  // folded
  uint32_t id;
  bool exact;
};

class Trie {
 public:
  void build(std::vector<Entry> entries);
  // f(ids) for each node on the path's way, shallow first.
  template <class F>
  void walk(std::string_view path, F&& f) const;

 private:
  struct Ids {
    uint32_t at = 0, count = 0;
  };
  struct Node {
    uint32_t label_at = 0, label_bytes = 0;
    uint32_t first_child = 0, children = 0;
    Ids prefixes, exact;
  };
  std::span<const uint32_t> ids(Ids range) const { return {ids_.data() + range.at, range.count}; }
  std::vector<Node> nodes_;
  std::string first_bytes_;  // of each node's edge, by node
  std::string labels_;
  std::vector<uint32_t> ids_;  // ascending within a range
};

void Trie::build(std::vector<Entry> entries) {
  if (entries.empty()) return;
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) { return std::tie(a.key, a.id) < std::tie(b.key, b.id); });
  struct Work {
    size_t node, from, to, depth;  // entries [from, to) share `depth` bytes, all that is above the node
  };
  std::vector<Work> queue{{0, 0, entries.size(), 0}};
  nodes_.emplace_back();
  first_bytes_ += '\0';
  for (size_t done = 0; done < queue.size(); done++) {
    const auto [node, from, to, depth] = queue[done];
    const std::string &first = entries[from].key, &last = entries[to - 1].key;
    size_t end = depth;
    while (end < first.size() && end < last.size() && first[end] == last[end]) end++;
    nodes_[node].label_at = uint32_t(labels_.size());
    nodes_[node].label_bytes = uint32_t(end - depth);
    labels_.append(first, depth, end - depth);
    size_t at = from;
    while (at < to && entries[at].key.size() == end) at++;
    for (const bool exact : {false, true}) {
      const uint32_t begin = uint32_t(ids_.size());
      for (size_t i = from; i < at; i++)
        if (entries[i].exact == exact) ids_.push_back(entries[i].id);
      (exact ? nodes_[node].exact : nodes_[node].prefixes) = {begin, uint32_t(ids_.size()) - begin};
    }
    nodes_[node].first_child = uint32_t(nodes_.size());
    while (at < to) {
      const char byte = entries[at].key[end];
      size_t next = at;
      while (next < to && entries[next].key[end] == byte) next++;
      queue.push_back({nodes_.size(), at, next, end});
      nodes_.emplace_back();
      first_bytes_ += byte;
      nodes_[node].children++;
      at = next;
    }
  }
}

template <class F>
void Trie::walk(std::string_view path, F&& f) const {
  if (nodes_.empty()) return;
  for (uint32_t at = 0;;) {
    const Node& node = nodes_[at];
    if (path.size() < node.label_bytes) return;
    const char* label = labels_.data() + node.label_at;
    for (uint32_t i = 0; i < node.label_bytes; i++)
      if (lower(path[i]) != label[i]) return;
    path.remove_prefix(node.label_bytes);
    f(ids(node.prefixes));
    if (path.empty()) return f(ids(node.exact));
    const char* edges = first_bytes_.data() + node.first_child;
    const void* edge = memchr(edges, uint8_t(lower(path[0])), node.children);
    if (edge == nullptr) return;
    at = node.first_child + uint32_t(static_cast<const char*>(edge) - edges);
  }
}

}  // namespace

struct VirtualHostIndex::Parts {
  ~Parts() {
    if (database != nullptr) hs_free_database(database);
  }
  Trie trie;
  std::vector<uint32_t> filtered;  // route ids of the database's patterns, ascending; the pattern's id is the position here
  std::vector<uint32_t> unjudged;  // regex routes outside the database, ascending
  hs_database_t* database = nullptr;
  uint64_t hash = 0;  // of the database's patterns: equal patterns need equal scratch
};

namespace {

bool can_prefilter(std::string_view pattern) {
  if (!printable(pattern)) return false;
  for (size_t i = 0; i + 1 < pattern.size(); i++)
    if (pattern[i] == '\\') {
      const char c = pattern[++i];
      if ((c >= '1' && c <= '9') || c == 'p' || c == 'P' || c == 'C') return false;
    }
  return true;
}

constexpr unsigned kFlags = HS_FLAG_PREFILTER | HS_FLAG_SINGLEMATCH | HS_FLAG_ALLOWEMPTY | HS_FLAG_DOTALL;

std::string anchored(const std::string& pattern) { return "^(?:" + pattern + ")$"; }

bool hyperscan_reads(const std::string& expression) {
  hs_expr_info_t* info = nullptr;
  hs_compile_error_t* error = nullptr;
  const bool ok = hs_expression_info(expression.c_str(), kFlags, &info, &error) == HS_SUCCESS;
  free(info);
  hs_free_compile_error(error);
  return ok;
}

// Compiles `patterns`, giving up those that Hyperscan refuses; position i of the result says whether pattern i is in.
hs_database_t* compile(const std::vector<std::string>& patterns, std::vector<bool>& in) {
  for (int tries = 0; tries < 16; tries++) {
    std::vector<const char*> expressions;
    std::vector<unsigned> flags, ids;
    std::vector<size_t> which;
    for (size_t i = 0; i < patterns.size(); i++) {
      if (!in[i]) continue;
      expressions.push_back(patterns[i].c_str());
      flags.push_back(kFlags);
      ids.push_back(unsigned(which.size()));
      which.push_back(i);
    }
    if (which.size() < kPrefilterMin) return nullptr;
    hs_database_t* database = nullptr;
    hs_compile_error_t* error = nullptr;
    if (hs_compile_multi(expressions.data(), flags.data(), ids.data(), unsigned(which.size()), HS_MODE_BLOCK, nullptr, &database, &error) ==
        HS_SUCCESS)
      return database;
    const int bad = error == nullptr ? -1 : error->expression;
    hs_free_compile_error(error);
    if (bad < 0 || size_t(bad) >= which.size()) return nullptr;
    in[which[size_t(bad)]] = false;
  }
  return nullptr;
}

}  // namespace

VirtualHostIndex::VirtualHostIndex() : parts_(std::make_unique<Parts>()) {}
VirtualHostIndex::~VirtualHostIndex() = default;

std::shared_ptr<const VirtualHostIndex> VirtualHostIndex::build(const tables::VirtualHost& host) {
  auto index = std::shared_ptr<VirtualHostIndex>(new VirtualHostIndex);
  Parts& parts = *index->parts_;
  std::vector<Entry> entries;
  std::vector<uint32_t> regexes;
  std::vector<std::string> patterns;
  std::vector<bool> in;
  for (uint32_t id = 0; id < host.routes.size(); id++) {
    const tables::RouteMatch& match = host.routes[id].match;
    if (match.kind == tables::RouteMatch::Path::kRegex) {
      if (match.regex == nullptr) continue;  // matches nothing
      regexes.push_back(id);
      patterns.push_back(anchored(match.regex->pattern()));
      in.push_back(regexes.size() <= kPrefilterMax && can_prefilter(match.regex->pattern()) && hyperscan_reads(patterns.back()));
      continue;
    }
    std::string key = match.path;
    for (char& c : key) c = lower(c);
    entries.push_back({std::move(key), id, match.kind == tables::RouteMatch::Path::kExact});
  }
  parts.trie.build(std::move(entries));
  parts.database = compile(patterns, in);
  std::string text;
  for (size_t i = 0; i < regexes.size(); i++) {
    const bool filtered = parts.database != nullptr && in[i];
    (filtered ? parts.filtered : parts.unjudged).push_back(regexes[i]);
    if (filtered) (text += patterns[i]) += '\0';
  }
  parts.hash = siphash24({}, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  return index;
}

Scratch::~Scratch() {
  if (scratch_ != nullptr) hs_free_scratch(scratch_);
}

bool Scratch::prepare(const VirtualHostIndex& index) {
  const VirtualHostIndex::Parts& parts = *index.parts_;
  hits_.assign((parts.filtered.size() + 63) / 64, 0);
  if (std::ranges::find(met_, parts.hash) != met_.end()) return true;
  if (hs_alloc_scratch(parts.database, &scratch_) != HS_SUCCESS) return false;
  if (met_.size() >= kDatabasesMax) met_.clear();  // forgetting costs one more look at the database's size, no more
  met_.push_back(parts.hash);
  return true;
}

const tables::Route* find_route(const tables::VirtualHost& host, const http::RequestHead& head, Scratch& scratch, Rng& rng) {
  if (head.path.empty()) return nullptr;
  std::optional<uint32_t> random;
  const auto chosen = [&](uint32_t id) {
    const tables::RouteMatch& match = host.routes[id].match;
    if (!route_matches(match, head)) return false;
    if (!match.fraction_of_million) return true;
    if (!random) random = rng.below(1'000'000);
    return *random < *match.fraction_of_million;
  };
  uint32_t best = kNone;
  const auto look = [&](std::span<const uint32_t> ids) {
    for (const uint32_t id : ids) {
      if (id >= best) return;
      if (chosen(id)) best = id;
    }
  };
  if (host.index == nullptr) {
    for (uint32_t id = 0; id < host.routes.size(); id++)
      if (chosen(id)) return &host.routes[id];
    return nullptr;
  }
  const VirtualHostIndex::Parts& parts = *host.index->parts_;
  const std::string_view path = matched_path(head.path);
  parts.trie.walk(path, look);
  look(parts.unjudged);
  if (!parts.filtered.empty() && parts.filtered[0] < best) {
    const auto on_match = [](unsigned id, unsigned long long, unsigned long long, unsigned, void* hits) {
      static_cast<uint64_t*>(hits)[id / 64] |= uint64_t(1) << id % 64;
      return 0;
    };
    if (!printable(path) || !scratch.prepare(*host.index) ||
        hs_scan(parts.database, path.data(), unsigned(path.size()), 0, scratch.scratch_, on_match, scratch.hits_.data()) != HS_SUCCESS) {
      look(parts.filtered);
    } else {
      for (size_t word = 0; word < scratch.hits_.size(); word++)
        for (uint64_t bits = scratch.hits_[word]; bits != 0; bits &= bits - 1) {
          const uint32_t id = parts.filtered[word * 64 + size_t(std::countr_zero(bits))];
          if (id < best && chosen(id)) best = id;
        }
    }
  }
  return best == kNone ? nullptr : &host.routes[best];
}

}  // namespace sluice::route
