#include "ctrl/plane/issue.h"

#include <algorithm>
#include <numeric>

namespace sluice::plane {

void index_lines(Source& s) {
  constexpr size_t kLong = 16 << 10;
  if (s.text.size() < kLong) return;
  s.lines.push_back(0);
  for (size_t at = 0; (at = s.text.find('\n', at)) != std::string::npos;) s.lines.push_back(uint32_t(++at));
}

std::string line_of(const Source& s, uint32_t line) {
  size_t at = 0;
  if (line < s.first_line) return {};
  if (!s.lines.empty()) {
    if (line - s.first_line >= s.lines.size()) return {};
    at = s.lines[line - s.first_line];
  } else {
    for (uint32_t l = s.first_line; l < line; l++) {
      at = s.text.find('\n', at);
      if (at == std::string::npos) return {};
      at++;
    }
  }
  return s.text.substr(at, std::min<size_t>(s.text.find('\n', at) - at, 240));
}

std::string render(const Issue& i) {
  std::string out = i.place() + (i.severity == Severity::kError ? ": error: " : ": warning: ") + i.message + "\n";
  if (!i.source_line.empty()) {
    out += "  " + i.source_line + "\n  ";
    uint32_t column = 0;
    for (const char c : i.source_line) {
      if ((uint8_t(c) & 0xc0) == 0x80) continue;  // of a character of UTF-8 the rest
      if (++column >= i.column) break;
      out += c == '\t' ? '\t' : ' ';
    }
    out += "^" + std::string(std::min<size_t>(i.width > 0 ? i.width - 1 : 0, 80), '~') + "\n";
  }
  if (!i.field.empty() || !i.object.empty())
    out += "  " + (i.field.empty() ? "in " : "field: " + i.field + (i.object.empty() ? "" : " of ")) + i.object + "\n";
  if (!i.remedy.empty()) out += "  remedy: " + i.remedy + "\n";
  return out;
}

std::string render(const std::vector<Issue>& issues) {
  std::string out;
  for (const Issue& i : issues) out += render(i);
  return out;
}

bool has_errors(const std::vector<Issue>& issues) {
  return std::ranges::any_of(issues, [](const Issue& i) { return i.severity == Severity::kError; });
}
size_t errors_in(const std::vector<Issue>& issues) { return size_t(std::ranges::count(issues, Severity::kError, &Issue::severity)); }

void sort(std::vector<Issue>& issues) {
  std::ranges::stable_sort(issues, {}, [](const Issue& i) { return std::tie(i.file, i.line, i.column); });
}

std::string nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::string best;
  size_t best_edits = std::min<size_t>(2, word.size() / 2) + 1;
  for (const std::string_view c : candidates) {
    std::vector<size_t> row(c.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (const char w : word) {
      size_t diagonal = row[0]++;
      for (size_t j = 0; j < c.size(); j++) {
        const size_t substituted = diagonal + (w != c[j]);
        diagonal = row[j + 1];
        row[j + 1] = std::min({substituted, row[j] + 1, row[j + 1] + 1});
      }
    }
    if (row.back() < best_edits) best_edits = row.back(), best = c;
  }
  return best;
}

}  // namespace sluice::plane
