#include "ctrl/plane/subscription.h"

#include <algorithm>

namespace sluice::plane {
namespace {

using Map = ResourceTable;

// f(name, old or nullptr, new or nullptr) for each name whose version differs.
void each_difference(const Map& from, const Map& to, auto&& f) {
  if (from.same(to)) return;
  auto a = from.begin(), b = to.begin();
  while (a != from.end() || b != to.end()) {
    if (a != from.end() && b != to.end() && a.shared() == b.shared()) {  // nearly all: without a look at them
      ++a, ++b;
    } else if (b == to.end() || (a != from.end() && a->first < b->first)) {
      f(a->first, &a->second, static_cast<const Resource*>(nullptr));
      ++a;
    } else if (a == from.end() || b->first < a->first) {
      f(b->first, static_cast<const Resource*>(nullptr), &b->second);
      ++b;
    } else {
      if (a->second.version != b->second.version) f(b->first, &a->second, &b->second);
      ++a, ++b;
    }
  }
}

const Resource* find(const Map& m, std::string_view name) {
  const auto it = m.find(name);
  return it == m.end() ? nullptr : &it->second;
}

bool part_of_a_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_' || c == '|'; }

// Whether a refusal's text names it: whole, not as a part of a longer name.
bool names_it(std::string_view text, std::string_view name) {
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    const bool dot = end < text.size() && text[end] == '.' && (end + 1 == text.size() || !part_of_a_name(text[end + 1]));  // a full stop
    if ((at == 0 || !part_of_a_name(text[at - 1])) && (end == text.size() || dot || !part_of_a_name(text[end]))) return true;
  }
  return false;
}

std::vector<uint64_t> hashes_of(std::span<const std::string> names) {
  std::vector<uint64_t> out;
  out.reserve(names.size());
  for (const std::string& n : names)
    if (n != "*") out.push_back(name_hash(n));
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

}  // namespace

bool Change::empty() const {
  return std::ranges::all_of(touched, [](const auto& t) { return t.empty(); });
}

Change difference(std::shared_ptr<const Resources> from, const Resources& to) {
  Change c;
  for (int t = 0; t < kTypes; t++)
    each_difference(from->of[t], to.of[t],
                    [&](const std::string& name, const Resource*, const Resource*) { c.touched[t].push_back(name); });
  c.from = std::move(from);
  return c;
}

bool Subscription::named(uint64_t hash) const { return std::ranges::binary_search(names_, hash); }

void Subscription::open(std::map<std::string, std::string> had) {
  asked_ = true;
  had_ = std::move(had);
}

void Subscription::set_wildcard(bool on, int type) {
  if (on && base_ != nullptr) {
    for (const auto& [name, r] : base_->of[type])
      had_.emplace(name, "");  // sent again, and told if it is gone: what was given up may have crossed with an answer
    base_.reset();
  }
  wildcard_ = on;
  if (!on) std::erase_if(refused_, [&](const auto& r) { return !named(name_hash(r.first)); });
}

void Subscription::add(std::span<const std::string> names) {
  const auto more = hashes_of(names);
  std::vector<uint64_t> all;
  all.reserve(names_.size() + more.size());
  std::ranges::set_union(names_, more, std::back_inserter(all));
  names_ = std::move(all);
  for (const std::string& n : names)
    if (n != "*" && !had_.contains(n)) fresh_.insert(n);
}

void Subscription::drop(std::span<const std::string> names) {
  const auto less = hashes_of(names);
  std::vector<uint64_t> left;
  std::ranges::set_difference(names_, less, std::back_inserter(left));
  names_ = std::move(left);
  for (const std::string& n : names) {
    if (n == "*") continue;
    if (wildcard_) fresh_.insert(n);  // the client has dropped it, and its wildcard has it or not: it is told
    else fresh_.erase(n), refused_.erase(n);
    had_.erase(n);
  }
}

void Subscription::replace(std::span<const std::string> names) {
  auto now = hashes_of(names);
  for (const std::string& n : names)
    if (n != "*" && !named(name_hash(n))) fresh_.insert(n);
  std::erase_if(fresh_, [&](const std::string& n) { return !std::ranges::binary_search(now, name_hash(n)); });
  std::erase_if(refused_, [&](const auto& r) { return !wildcard_ && !std::ranges::binary_search(now, name_hash(r.first)); });
  names_ = std::move(now);
}

void Subscription::narrow(std::span<const std::string> names) {
  const auto now = hashes_of(names);
  std::erase_if(names_, [&](uint64_t h) { return !std::ranges::binary_search(now, h); });
  std::erase_if(fresh_, [&](const std::string& n) { return !named(name_hash(n)); });
}

void Subscription::again(std::string_view name) { again_.emplace(name); }

Due Subscription::due(const Current& current, int type) {
  const Resources& now = *current.resources;
  const Map& all = now.of[type];
  Due d{.first = !answered_, .resumed = base_ == nullptr && !had_.empty()};
  const auto in_scope = [&](const std::string& name) { return wildcard_ || named(name_hash(name)); };
  const auto consider = [&](std::string_view name, const Resource* old, const Resource* r) {
    if (fresh_.contains(name) || (r != nullptr && again_.contains(name))) return;  // below
    if (r != nullptr && covers(*r)) d.changed.push_back({name, r});
    else if (r == nullptr && covers(*old)) d.gone.emplace_back(name);
  };
  if (base_ == nullptr) {
    for (const auto& [name, r] : all) {
      const auto had = had_.find(name);
      if (had == had_.end() || had->second != r.version) consider(name, nullptr, &r);
    }
    for (const auto& [name, version] : had_)
      if (!all.contains(name) && in_scope(name)) d.gone.push_back(name);
    had_.clear();
  } else if (base_ == current.resources) {
    // nothing but what was asked for since
  } else if (current.change != nullptr && current.change->from == base_) {
    for (const std::string_view name : current.change->touched[type]) {
      const Resource* r = find(all, name);
      consider(name, r == nullptr ? find(base_->of[type], name) : r, r);
    }
  } else {
    each_difference(base_->of[type], all, [&](const std::string& name, const Resource* old, const Resource* r) { consider(name, old, r); });
  }
  const size_t so_far = d.changed.size();
  again_.insert(fresh_.begin(), fresh_.end());
  for (const std::string& n : again_) {
    const auto it = all.find(n);
    if (it != all.end() && covers(it->second)) d.changed.push_back({it->first, &it->second});
    else if (it == all.end() && fresh_.contains(n)) d.missing.push_back(n);
  }
  std::ranges::inplace_merge(d.changed, d.changed.begin() + long(so_far), {}, &Item::name);
  fresh_.clear(), again_.clear();
  for (const auto* list : {&d.gone, &d.missing})
    for (const std::string& n : *list) refused_.erase(n);
  base_ = current.resources;
  return d;
}

std::vector<Item> Subscription::whole(const Resources& r, int type) const {
  std::vector<Item> out;
  for (const auto& [name, x] : r.of[type])
    if (covers(x)) out.push_back({name, &x});
  return out;
}

void Subscription::sent(const std::string& nonce, const std::string& version, std::span<const Item> items) {
  answered_ = true;
  report_.sent_nonce = nonce, report_.sent_version = version;
  report_.answers++;
  Pending p{.nonce = nonce, .version = version, .large = items.size() > kPendingNamesMax};
  if (!p.large)
    for (const Item& i : items) p.names.emplace_back(i.name);
  pending_.push_back(std::move(p));
  if (pending_.size() > kPendingMax) pending_.pop_front();
  if (refused_.empty()) return;
  for (const Item& i : items)
    if (const auto it = refused_.find(i.name); it != refused_.end()) it->second = nonce;
}

bool Subscription::take(const std::string& nonce) {
  const auto it = std::ranges::find(pending_, nonce, &Pending::nonce);
  if (it == pending_.end()) return false;
  taken_ = std::move(*it);
  pending_.erase(it);
  return true;
}

void Subscription::acknowledged(const std::string& nonce) {
  if (!take(nonce)) return;
  report_.acks++;
  report_.acknowledged_version = taken_.version;
  std::erase_if(refused_, [&](const auto& r) { return r.second == nonce; });
  refused_other_ = false;
  if (refused_.empty()) report_.nack_reason.clear(), report_.nack_version.clear();
}

void Subscription::refused(const std::string& nonce, const std::string& reason, int type) {
  if (!take(nonce)) return;
  report_.nacks++;
  report_.nack_reason = reason.substr(0, kReasonBytesMax), report_.nack_version = taken_.version;
  std::erase_if(refused_, [&](const auto& r) { return r.second == nonce; });
  bool named_any = false;
  const auto note = [&](const std::string& name) {
    if (!names_it(report_.nack_reason, name)) return;
    named_any = true;
    const Resource* r = base_ == nullptr ? nullptr : find(base_->of[type], name);
    if (r == nullptr || !covers(*r)) return;  // gone in the meantime
    // A newer answer may have it already: what is said to that one counts.
    const auto newer = std::ranges::find_if(pending_, [&](const Pending& p) { return p.has(name); });
    refused_[name] = newer == pending_.end() ? "" : newer->nonce;
  };
  if (!taken_.large) {
    for (const std::string& n : taken_.names) note(n);
  } else if (base_ != nullptr) {
    for (const auto& [name, r] : base_->of[type]) note(name);
  }
  refused_other_ = !named_any;
}

bool Subscription::Pending::has(const std::string& name) const { return large || std::ranges::binary_search(names, name); }

TypeReport Subscription::report() const {
  TypeReport r = report_;
  r.asked = asked_, r.wildcard = wildcard_, r.names = names_.size(), r.pending = pending_.size();
  return r;
}

}  // namespace sluice::plane
