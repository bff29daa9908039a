#include "ctrl/plane/world.h"

#include <algorithm>
#include <unordered_set>

#include "ctrl/plane/directory.h"
#include "ctrl/plane/rules.h"

namespace sluice::plane {

namespace {
constexpr size_t kFew = 64;
}

const std::vector<const Config*>& World::of_kind(std::string_view kind) const {
  static const std::vector<const Config*> kNone;
  const auto it = by_kind_.find(kind);
  return it == by_kind_.end() ? kNone : it->second;
}

std::vector<const Config*> World::all() const {
  std::vector<const Config*> out;
  for (const auto& [kind, list] : by_kind_) out.insert(out.end(), list.begin(), list.end());
  std::ranges::stable_sort(out, {}, &Config::order);
  return out;
}

size_t World::written() const {
  size_t n = 0;
  for (const auto& [kind, list] : by_kind_) n += list.size();
  return n - derived_;
}

void World::change(const std::vector<const Config*>& gone, const std::vector<const Config*>& come,
                   std::vector<std::shared_ptr<const void>> owners) {
  const std::unordered_set<const Config*> left(gone.begin(), gone.end());
  std::map<std::string_view, std::vector<const Config*>> by_kind;
  for (const Config* c : gone) by_kind[c->kind];
  for (const Config* c : come) by_kind[c->kind].push_back(c);
  for (auto& [kind, added] : by_kind) {
    auto& list = by_kind_[std::string(kind)];
    if (added.size() <= kFew && left.size() <= kFew) {  // in place
      for (const Config* c : left)
        if (c->kind == kind) {
          const auto same = std::ranges::equal_range(list, c->order, {}, &Config::order);
          if (const auto at = std::ranges::find(same, c); at != same.end()) list.erase(at);
        }
      for (const Config* c : added) list.insert(std::ranges::upper_bound(list, c->order, {}, &Config::order), c);
      continue;
    }
    std::erase_if(list, [&](const Config* c) { return left.contains(c); });
    std::ranges::stable_sort(added, {}, &Config::order);
    std::vector<const Config*> merged;
    merged.reserve(list.size() + added.size());
    std::ranges::merge(list, added, std::back_inserter(merged), {}, &Config::order, &Config::order);
    list = std::move(merged);
  }
  owners_ = std::move(owners);  // last: what is gone may be owned by the old ones alone
}

void World::add(std::span<const std::shared_ptr<const Config>> more) {
  std::vector<const Config*> come;
  auto owners = owners_;
  derived_ += more.size();
  for (const auto& c : more) come.push_back(c.get()), owners.push_back(c);
  change({}, come, std::move(owners));
}

Loaded load_directory(const std::filesystem::path& dir, const std::filesystem::path& mesh_file, const CheckOptions& options) {
  Loaded l = Directory(dir, mesh_file).load();
  if (!has_errors(l.issues)) check_references(l.world, l.issues, options);
  sort(l.issues);
  return l;
}

}  // namespace sluice::plane
