// Multi-document YAML as plain trees in which every node knows its place, by libfyaml. Strict: keys are scalars, no duplicate keys, UTF-8,
// bounded size, depth and number of nodes (an alias counts as often as it is used). Thread: any; no globals.
#pragma once
#include <optional>

#include "ctrl/plane/issue.h"

namespace sluice::plane {

constexpr size_t kYamlBytesMax = 8 << 20, kYamlNodesMax = 1'000'000;
constexpr int kYamlDepthMax = 48;

struct Node {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;
  bool plain = true;               // a scalar without quotes
  uint32_t line = 1, column = 1;   // from 1; of a container: of its first token
  uint32_t width = 1;              // bytes that a caret underlines
  const Source* source = nullptr;  // owned by the Config
  std::string text;                // scalar
  std::vector<Node> items;         // sequence; values of a mapping
  std::vector<Node> keys;          // mapping: keys[i] belongs to items[i]

  // What is not there is the null node, so a path of look-ups needs no checks.
  const Node& operator[](std::string_view key) const;
  const Node* key_of(std::string_view key) const;  // the key's own node, for its place
  bool has(std::string_view key) const { return key_of(key) != nullptr; }
  bool null() const { return kind == Kind::kNull; }
  explicit operator bool() const { return !null(); }
  // REQUIRES: checked by the schema (schema.h) before.
  const std::string& str() const { return text; }
  int64_t integer() const;
  double number() const;
  bool boolean() const { return text == "true"; }
  std::vector<std::string> list() const;
};

const Node& null_node();
Issue issue_at(const Node& n, std::string message, std::string remedy = {}, Severity severity = Severity::kError);

// The same value, wherever it stands.
bool same_content(const Node& a, const Node& b);

// The documents of one source; empty ones are left out. Issues are appended; what could be read is returned all the same. `nodes` is what
// other parts of the same file have of kYamlNodesMax; those of this one are added.
std::vector<Node> load_yaml(const Source& source, std::vector<Issue>& issues, size_t* nodes = nullptr);

}  // namespace sluice::plane
