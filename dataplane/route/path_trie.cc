#include "dataplane/route/path_trie.h"

#include <algorithm>
#include <tuple>

namespace sluice::route {

void PathTrie::build(std::vector<Entry> entries) {
  if (entries.empty()) return;
  for (Entry& entry : entries)
    for (char& c : entry.key) c = lower(c);
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

}  // namespace sluice::route
