// Which of many paths and path prefixes does a path fulfil: a radix trie that proposes ids. Case is folded, so a proposal may be wrong in
// case; the caller decides. Immutable after build(); walk() allocates nothing and costs at most one look at each byte of the path.
//
// Laid out breadth first: siblings lie together, their first bytes in one array that memchr searches, and no node owns memory.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::route {

class PathTrie {
 public:
  struct Entry {
    std::string key;
    uint32_t id;
    bool exact;  // the whole path, else a prefix
  };
  void build(std::vector<Entry> entries);
  bool empty() const { return nodes_.empty(); }
  // f(std::span<const uint32_t> ids) for each node on the path's way, shallow first; ids ascend within a span.
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
  static constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }
  std::span<const uint32_t> ids(Ids range) const { return {ids_.data() + range.at, range.count}; }
  std::vector<Node> nodes_;
  std::string first_bytes_;  // of the edge that leads to each node, by node
  std::string labels_;
  std::vector<uint32_t> ids_;
};

template <class F>
void PathTrie::walk(std::string_view path, F&& f) const {
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

}  // namespace sluice::route
