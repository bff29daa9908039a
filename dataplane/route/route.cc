#include "dataplane/route/route.h"

#include <hs/hs.h>

#include <algorithm>
#include <atomic>
#include <charconv>

namespace sluice::route {
namespace {

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = char(c + 32);
  return out;
}

std::string_view without_port(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  return colon == authority.npos || authority.find(']', colon) != authority.npos ? authority : authority.substr(0, colon);
}

bool equals(std::string_view a, std::string_view b, bool case_sensitive) { return case_sensitive ? a == b : http::equals_ignore_case(a, b); }

bool path_matches(const tables::RouteMatch& m, std::string_view path) {
  using Path = tables::RouteMatch::Path;
  switch (m.kind) {
    case Path::kPrefix: return path.size() >= m.path.size() && equals(path.substr(0, m.path.size()), m.path, m.case_sensitive);
    case Path::kExact: return equals(path, m.path, m.case_sensitive);
    case Path::kSeparatedPrefix:
      return path.size() >= m.path.size() && equals(path.substr(0, m.path.size()), m.path, m.case_sensitive) &&
             (path.size() == m.path.size() || path[m.path.size()] == '/');
    case Path::kRegex: return m.regex->full_match(path);
  }
  return false;
}

}  // namespace

// ---- domains

std::shared_ptr<const DomainIndex> DomainIndex::build(std::span<const std::shared_ptr<const tables::VirtualHost>> hosts) {
  auto index = std::make_shared<DomainIndex>();
  for (const auto& h : hosts)
    for (const std::string& domain : h->domains) {
      const std::string d = lower(domain);
      if (d == "*") {
        if (index->any_ == nullptr) index->any_ = h;
      } else if (d.starts_with('*')) {
        index->suffixes_.emplace_back(d.substr(1), h);
      } else if (d.ends_with('*')) {
        index->prefixes_.emplace_back(d.substr(0, d.size() - 1), h);
      } else {
        index->exact_.emplace(d, h);
      }
    }
  auto longest = [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); };
  std::ranges::stable_sort(index->suffixes_, longest);
  std::ranges::stable_sort(index->prefixes_, longest);
  return index;
}

std::shared_ptr<const tables::VirtualHost> DomainIndex::find(std::string_view host) const {
  if (const auto it = exact_.find(host); it != exact_.end()) return it->second;
  for (const auto& [suffix, h] : suffixes_)
    if (host.size() > suffix.size() && host.ends_with(suffix)) return h;
  for (const auto& [prefix, h] : prefixes_)
    if (host.size() > prefix.size() && host.starts_with(prefix)) return h;
  return any_;
}

std::shared_ptr<const tables::VirtualHost> find_virtual_host(const tables::RouteConfiguration& routes, std::string_view authority) {
  if (routes.ignore_port) authority = without_port(authority);
  const bool upper = std::ranges::any_of(authority, [](char c) { return c >= 'A' && c <= 'Z'; });
  return upper ? routes.index->find(lower(authority)) : routes.index->find(authority);
}

// ---- routes

Scratch::~Scratch() { hs_free_scratch(hyperscan_); }
VirtualHostIndex::~VirtualHostIndex() { hs_free_database(database_); }

std::shared_ptr<const VirtualHostIndex> VirtualHostIndex::build(const tables::VirtualHost& host) {
  static std::atomic<uint64_t> serial{0};
  std::shared_ptr<VirtualHostIndex> index(new VirtualHostIndex);
  index->serial_ = ++serial;
  std::vector<const char*> patterns;
  std::vector<unsigned> flags, ids;
  for (uint32_t i = 0; i < host.routes.size(); i++) {
    const tables::RouteMatch& m = host.routes[i].match;
    using Path = tables::RouteMatch::Path;
    if (m.kind == Path::kRegex) {
      hs_compile_error_t* error = nullptr;
      hs_expr_info_t* info = nullptr;
      constexpr unsigned kFlags = HS_FLAG_PREFILTER | HS_FLAG_DOTALL | HS_FLAG_ALLOWEMPTY | HS_FLAG_SINGLEMATCH;
      if (hs_expression_info(m.path.c_str(), kFlags, &info, &error) == HS_SUCCESS) {
        patterns.push_back(m.path.c_str());
        flags.push_back(kFlags);
        ids.push_back(i);
      } else {  // RE2 syntax that Hyperscan does not have
        index->always_.push_back(i);
      }
      std::free(info);
      hs_free_compile_error(error);
    } else if (!m.case_sensitive) {
      index->always_.push_back(i);
    } else if (m.kind == Path::kExact) {
      index->exact_[m.path].push_back(i);
    } else {
      index->prefix_[m.path].push_back(i);
      index->prefix_lengths_.push_back(uint32_t(m.path.size()));
    }
  }
  hs_compile_error_t* error = nullptr;
  if (patterns.size() < kPrefilterFrom ||
      hs_compile_multi(patterns.data(), flags.data(), ids.data(), unsigned(patterns.size()), HS_MODE_BLOCK, nullptr, &index->database_, &error) != HS_SUCCESS) {
    index->database_ = nullptr;
    index->always_.insert(index->always_.end(), ids.begin(), ids.end());
  }
  hs_free_compile_error(error);
  std::ranges::sort(index->always_);
  std::ranges::sort(index->prefix_lengths_);
  const auto same = std::ranges::unique(index->prefix_lengths_);
  index->prefix_lengths_.erase(same.begin(), same.end());
  return index;
}

void VirtualHostIndex::collect(std::string_view path, Scratch& scratch) const {
  scratch.lists_.clear();
  if (!always_.empty()) scratch.lists_.push_back(always_);
  if (const auto it = exact_.find(path); it != exact_.end()) scratch.lists_.push_back(it->second);
  for (uint32_t length : prefix_lengths_) {
    if (length > path.size()) break;
    if (const auto it = prefix_.find(path.substr(0, length)); it != prefix_.end()) scratch.lists_.push_back(it->second);
  }
  if (database_ == nullptr) return;
  scratch.regexes_.clear();
  if (scratch.sized_for_ != serial_ && hs_alloc_scratch(database_, &scratch.hyperscan_) == HS_SUCCESS) scratch.sized_for_ = serial_;
  const auto found = [](unsigned id, unsigned long long, unsigned long long, unsigned, void* to) {
    static_cast<std::vector<uint32_t>*>(to)->push_back(id);
    return 0;
  };
  // A scan that fails (no memory) must hide no route; it cannot be told which would match, so the caller sees none of them: fail closed.
  if (hs_scan(database_, path.data(), unsigned(path.size()), 0, scratch.hyperscan_, found, &scratch.regexes_) != HS_SUCCESS) scratch.regexes_.clear();
  if (scratch.regexes_.empty()) return;
  std::ranges::sort(scratch.regexes_);
  scratch.lists_.push_back(scratch.regexes_);
}

bool matches(const tables::HeaderMatch& m, const http::RequestHead* head) {
  std::optional<std::string_view> value;
  if (head != nullptr) {
    if (m.name == ":method") value = head->method;
    else if (m.name == ":path") value = head->path;
    else if (m.name == ":scheme") value = head->scheme;
    else if (m.name == ":authority" || m.name == "host") {
      if (head->has_authority) value = head->authority;
    } else {
      value = head->fields.joined(m.name);
    }
  }
  if (!value && m.treat_missing_as_empty) value = std::string_view{};
  if (m.kind == tables::HeaderMatch::Kind::kPresent) return (value.has_value() == m.present) != m.invert;
  if (!value) return false;  // an absent header matches nothing, inverted or not (HeaderMatcher.treat_missing_header_as_empty)
  if (m.kind == tables::HeaderMatch::Kind::kString) return m.string.matches(*value) != m.invert;
  int64_t n = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), n);
  const bool number = error == std::errc{} && end == value->data() + value->size();
  return (number && n >= m.range_start && n < m.range_end) != m.invert;
}

namespace {

bool query_matches(const tables::QueryMatch& m, std::string_view path) {
  const auto value = http::query_parameter(path, m.name);
  return value && (m.present_only || m.string.matches(*value));
}

bool is_grpc(const http::RequestHead& head) {
  constexpr std::string_view kGrpc = "application/grpc";
  const auto type = head.fields.first("content-type");
  return type && type->starts_with(kGrpc) && (type->size() == kGrpc.size() || (*type)[kGrpc.size()] == '+');
}

}  // namespace

bool matches(const tables::RouteMatch& m, const http::RequestHead& head, Rng& rng) {
  if (!path_matches(m, http::path_of(head.path))) return false;
  if (m.fraction_of_million && rng.below(1'000'000) >= *m.fraction_of_million) return false;
  if (m.grpc && !is_grpc(head)) return false;
  return std::ranges::all_of(m.headers, [&](const auto& h) { return matches(h, &head); }) &&
         std::ranges::all_of(m.query, [&](const auto& q) { return query_matches(q, head.path); });
}

const tables::Route* find_route(const tables::VirtualHost& host, const http::RequestHead& head, Scratch& scratch, Rng& rng) {
  const tables::Route* found = nullptr;
  host.index->candidates(http::path_of(head.path), scratch, [&](uint32_t i) {
    if (!matches(host.routes[i].match, head, rng)) return false;
    found = &host.routes[i];
    return true;
  });
  return found;
}

}  // namespace sluice::route
