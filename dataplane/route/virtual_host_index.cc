// First matching route of many.
//
//   path (case folded) -> trie  -> ids of routes whose prefix, separated prefix or exact path may match, and of regexes by the literal text
//                                  that every match of theirs begins with
//   path (as it is)    -> regexes that Hyperscan says may match, and those it cannot judge
//
// A regex goes by its literal beginning where that tells it from most others ("/api/v1/items/[0-9]+"): that costs nothing to build, while
// Hyperscan's compiler takes about a millisecond per pattern. It takes the rest: regexes that begin with a wildcard, or many with one
// beginning.
//
// Every proposed id is decided by route_matches(), in ascending order, and only while it is below the best match so far: the answer is the
// linear one by construction as long as the proposals are a superset.
//
// Why Hyperscan's answer is a superset of RE2's full match: each regex is scanned as ^(?:R)$ with PREFILTER (approximations only widen) and
// without UTF-8 mode, and is asked only about printable ASCII, where RE2's code points are PCRE's bytes and the classes agree. Kept out of
// the database, so always decided by RE2: patterns with bytes above ASCII, with \1..\9 (octal there, a back-reference here), with Unicode
// classes, or that Hyperscan refuses. A path with other bytes is decided by RE2 alone.
#include <hs/hs.h>

#include <algorithm>
#include <unordered_map>

#include "dataplane/base/siphash.h"
#include "dataplane/route/path_trie.h"
#include "dataplane/route/route.h"

namespace sluice::route {
namespace {

constexpr size_t kPrefilterMin = 8;     // fewer regexes: RE2 is as fast
constexpr size_t kPrefilterMax = 1024;  // compile time; the rest is left to RE2
constexpr size_t kSameBeginningMax = 8;
constexpr uint32_t kNone = ~0u;

bool printable(std::string_view s) {
  return std::ranges::all_of(s, [](char c) { return c >= 0x20 && c < 0x7f; });
}

}  // namespace

struct VirtualHostIndex::Parts {
  ~Parts() {
    if (database != nullptr) hs_free_database(database);
  }
  PathTrie trie;
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
size_t VirtualHostIndex::prefiltered() const { return parts_->filtered.size(); }

std::shared_ptr<const VirtualHostIndex> VirtualHostIndex::build(const tables::VirtualHost& host) {
  auto index = std::shared_ptr<VirtualHostIndex>(new VirtualHostIndex);
  Parts& parts = *index->parts_;
  std::vector<PathTrie::Entry> entries;
  std::vector<uint32_t> regexes;
  std::vector<std::string> patterns;
  std::vector<bool> in;
  std::unordered_map<std::string, size_t> beginnings;  // how many regexes have it
  std::vector<std::string> beginning(host.routes.size());
  for (uint32_t id = 0; id < host.routes.size(); id++) {
    const tables::RouteMatch& match = host.routes[id].match;
    if (match.kind != tables::RouteMatch::Path::kRegex) entries.push_back({match.path, id, match.kind == tables::RouteMatch::Path::kExact});
    else if (match.regex != nullptr)  // without one it matches nothing
      beginnings[beginning[id] = match.regex->literal_prefix()]++;
  }
  for (uint32_t id = 0; id < host.routes.size(); id++) {
    const tables::RouteMatch& match = host.routes[id].match;
    if (match.kind != tables::RouteMatch::Path::kRegex || match.regex == nullptr) continue;
    if (beginning[id].size() > 1 && beginnings[beginning[id]] <= kSameBeginningMax) {
      entries.push_back({beginning[id], id, false});
      continue;
    }
    regexes.push_back(id);
    patterns.push_back(anchored(match.regex->pattern()));
    in.push_back(regexes.size() <= kPrefilterMax && can_prefilter(match.regex->pattern()) && hyperscan_reads(patterns.back()));
  }
  parts.trie.build(std::move(entries));
  parts.database = compile(patterns, in);
  std::string text;
  for (size_t i = 0; i < regexes.size(); i++) {
    const bool filtered = parts.database != nullptr && in[i];
    (filtered ? parts.filtered : parts.unjudged).push_back(regexes[i]);
    if (filtered) (text += patterns[i]) += '\0';
  }
  parts.hash = siphash24({}, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}) | 1;  // 0 is an empty slot
  return index;
}

Scratch::~Scratch() {
  if (scratch_ != nullptr) hs_free_scratch(scratch_);
}

bool Scratch::prepare(const VirtualHostIndex& index) {
  const VirtualHostIndex::Parts& parts = *index.parts_;
  hits_.assign((parts.filtered.size() + 63) / 64, 0);
  if (met_.empty()) met_.resize(kSlots);
  uint64_t& met = met_[parts.hash % kSlots];
  if (met == parts.hash) return true;
  if (hs_alloc_scratch(parts.database, &scratch_) != HS_SUCCESS) return false;  // grows the scratch if it must
  met = parts.hash;  // two databases in one slot take turns and pay for the look at their size, no more
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
