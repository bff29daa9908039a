// Builds the trees that the Gateway API becomes: Istio's own objects and status, in the form in which YAML is read (yaml.h), so that the
// translation takes them as if they had been written. A node that stands for something of the input keeps its place. Inside of ctrl/plane.
#pragma once
#include <initializer_list>
#include <utility>

#include "ctrl/plane/yaml.h"

namespace sluice::plane {

inline Node text_node(std::string_view s, const Node* at = nullptr) {
  Node n;
  if (at != nullptr) n.line = at->line, n.column = at->column, n.width = at->width, n.source = at->source;
  n.kind = Node::Kind::kScalar, n.plain = false, n.text = s;
  return n;
}
inline Node number_node(int64_t v) {
  Node n = text_node(std::to_string(v));
  n.plain = true;
  return n;
}
inline Node bool_node(bool v) {
  Node n = text_node(v ? "true" : "false");
  n.plain = true;
  return n;
}
inline Node list_node() {
  Node n;
  n.kind = Node::Kind::kSequence;
  return n;
}
inline Node map_node() {
  Node n;
  n.kind = Node::Kind::kMapping;
  return n;
}
inline Node& put(Node& map, std::string_view key, Node value) {
  map.kind = Node::Kind::kMapping;
  for (size_t i = 0; i < map.keys.size(); i++)
    if (map.keys[i].text == key) return map.items[i] = std::move(value);
  map.keys.push_back(text_node(key));
  map.items.push_back(std::move(value));
  return map.items.back();
}
inline Node map_node(std::initializer_list<std::pair<std::string_view, Node>> fields) {
  Node n = map_node();
  for (const auto& [k, v] : fields) put(n, k, v);
  return n;
}
template <class Strings>
Node text_list(const Strings& strings) {
  Node n = list_node();
  for (const auto& s : strings) n.items.push_back(text_node(s));
  return n;
}
// An optional text of the API: what is not there is `otherwise`; what is there may be "" and means that.
inline std::string text_or(const Node& n, std::string_view otherwise) { return n.null() ? std::string(otherwise) : n.text; }

// YAML of a tree, keys in their order, as `kubectl get -o yaml` looks; texts that could be read as something else are quoted.
std::string to_yaml(const Node& n);

}  // namespace sluice::plane
