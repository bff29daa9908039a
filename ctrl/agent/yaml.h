// One YAML document as a plain tree with places, by libfyaml. Strict: one document, no duplicate keys, keys are scalars, aliases are
// resolved by libfyaml. Scalars stay text; `plain` tells 5 from "5". Thread: any; no globals.
#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::agent {

struct Yaml {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;
  bool plain = true;         // a scalar without quotes
  int line = 1, column = 1;  // from 1; of a container, of its key (or first item)
  std::string text;          // scalar
  std::vector<Yaml> items;   // sequence; values of a mapping
  std::vector<Yaml> keys;    // mapping: keys[i] belongs to items[i]
};

constexpr size_t kYamlBytesMax = 1 << 20;
constexpr int kYamlDepthMax = 32;

// Errors are whole lines: "FILE:LINE:COL: message".
std::expected<Yaml, std::vector<std::string>> parse_yaml(std::string_view text, const std::string& file);
std::string place(const std::string& file, const Yaml& at);  // "FILE:LINE:COL: "

// JSON of a tree by YAML's core rules: plain null, true/false and numbers are themselves, all other scalars are strings.
std::string to_json(const Yaml& y);

// The candidate nearest to `word` (at most 2 edits and fewer than half of it), or "".
std::string nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace sluice::agent
