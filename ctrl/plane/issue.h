// What the operator is told about his YAML: one issue is one place with cause and remedy. Nothing here decides; schema.h and rules.h do.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::plane {

struct Source {
  std::string file, text;
  uint32_t first_line = 1;           // of `text` in the file
  std::vector<uint32_t> lines = {};  // where each begins, in a long text; else they are counted
};
void index_lines(Source& s);
std::string line_of(const Source& s, uint32_t line);  // its text, cut; "" where there is none

struct Node;

enum class Severity : uint8_t { kError, kWarning };

struct Issue {
  Severity severity = Severity::kError;
  std::string file;
  uint32_t line = 1, column = 1, width = 1;  // from 1; width of what the caret underlines, in bytes
  std::string message, remedy;
  std::string source_line;     // the text of `line`, "" where there is none
  std::string field, object;   // "spec.servers[0].port.name" of "Gateway shop/edge"; "" where there is none
  std::string rule;            // what kind of mistake, for machines: "unreachable-route"
  const Node* node = nullptr;  // only until name_fields; never followed

  std::string place() const { return file + ":" + std::to_string(line) + ":" + std::to_string(column); }
};

// FILE:LINE:COL: error: message / the line / a caret under the value / field and object / the remedy.
std::string render(const Issue& i);
std::string render(const std::vector<Issue>& issues);
bool has_errors(const std::vector<Issue>& issues);
size_t errors_in(const std::vector<Issue>& issues);
void sort(std::vector<Issue>& issues);  // by place

// The candidate nearest to `word` (at most 2 edits and fewer than half of it), or "".
std::string nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace sluice::plane
