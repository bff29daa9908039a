#include "ctrl/plane/issue.h"

#include <algorithm>
#include <numeric>

namespace sluice::plane {

std::string render(const Issue& i) {
  std::string out = i.place() + (i.severity == Severity::kError ? ": error: " : ": warning: ") + i.message + "\n";
  if (!i.source_line.empty()) {
    out += "  " + i.source_line + "\n  ";
    for (uint32_t c = 1; c < i.column && c <= i.source_line.size(); c++) out += i.source_line[c - 1] == '\t' ? '\t' : ' ';
    out += "^" + std::string(std::min<size_t>(i.width > 0 ? i.width - 1 : 0, 80), '~') + "\n";
  }
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
