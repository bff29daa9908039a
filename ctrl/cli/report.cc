#include "ctrl/cli/report.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "ctrl/plane/json.h"

namespace sluice::cli {
namespace {
using plane::Array, plane::Issue, plane::Json, plane::Object, plane::Severity;

const char* level(const Issue& i) { return i.severity == Severity::kError ? "error" : "warning"; }

std::string rule(const Issue& i) { return i.rule.empty() ? "invalid" : i.rule; }

uint32_t end_column(const Issue& i) { return i.column + std::max(i.width, 1u); }

std::string whole_message(const Issue& i) {
  std::string out = i.message;
  if (!i.field.empty()) out += "; field " + i.field;
  if (!i.object.empty()) out += (i.field.empty() ? "; in " : " of ") + i.object;
  if (!i.remedy.empty()) out += "; remedy: " + i.remedy;
  return out;
}

std::string json_text(const std::vector<Issue>& issues, size_t objects) {
  Array lists[2];
  for (const Issue& i : issues) {
    Object o{{"file", i.file}, {"line", i.line}, {"column", i.column}, {"width", i.width}, {"rule", rule(i)}, {"message", i.message}};
    o.set_if(!i.field.empty(), "field", i.field).set_if(!i.object.empty(), "object", i.object);
    o.set_if(!i.remedy.empty(), "remedy", i.remedy).set_if(!i.source_line.empty(), "source", i.source_line);
    lists[size_t(i.severity)].add(o);
  }
  return Json(Object{{"objects", objects}, {"errors", lists[0]}, {"warnings", lists[1]}}).text + "\n";
}

// Relative to the working directory where it is below it, as the checkout is for GitHub.
std::string shown_path(const std::string& file) {
  namespace fs = std::filesystem;
  std::error_code e;
  fs::path p = fs::path(file).lexically_normal();
  if (!p.is_absolute()) return p.generic_string();
  const fs::path below = p.lexically_relative(fs::current_path(e));
  return (below.empty() || *below.begin() == ".." ? p : below).generic_string();
}
// As a URI reference (RFC 3986).
std::string uri_of(const std::string& file) {
  const std::string text = shown_path(file);
  std::string out = text.starts_with('/') ? "file://" : "";
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (const char c : text) {
    if (std::isalnum(uint8_t(c)) || std::string_view("/-._~").find(c) != std::string_view::npos) out += c;
    else out += '%', out += kHex[uint8_t(c) >> 4], out += kHex[uint8_t(c) & 15];
  }
  return out.empty() ? "." : out;
}

std::string sarif_text(const std::vector<Issue>& issues) {
  std::map<std::string, size_t> rules;
  for (const Issue& i : issues) rules.emplace(rule(i), 0);
  Array descriptors, results;
  size_t n = 0;
  for (auto& [id, index] : rules) {
    index = n++;
    std::string words = id;
    std::ranges::replace(words, '-', ' ');
    descriptors.add(Object{{"id", id},
                           {"name", id},
                           {"shortDescription", Object{{"text", words}}},
                           {"fullDescription", Object{{"text", words + " (sluicectl check)"}}},
                           {"help", Object{{"text", "See ctrl/cli/README.md, `sluicectl check`."}}},
                           {"properties", Object{{"tags", Array{"istio", "configuration"}}}}});
  }
  n = 0;
  for (const Issue& i : issues) {
    if (n++ == kSarifResultsMax) break;
    const Object region{{"startLine", i.line}, {"startColumn", i.column}, {"endLine", i.line}, {"endColumn", end_column(i)}};
    const Object place{{"physicalLocation", Object{{"artifactLocation", Object{{"uri", uri_of(i.file)}}}, {"region", region}}}};
    results.add(Object{{"ruleId", rule(i)},
                       {"ruleIndex", rules[rule(i)]},
                       {"level", level(i)},
                       {"message", Object{{"text", whole_message(i)}}},
                       {"locations", Array{place}},
                       // The same mistake after an edit elsewhere in the file: what it is about, not where it stands.
                       {"partialFingerprints", Object{{"sluice/v1", rule(i) + "|" + i.object + "|" + i.field + "|" + i.message}}}});
  }
  const Object driver{{"name", "sluicectl check"}, {"rules", descriptors}};
  const Object run{{"tool", Object{{"driver", driver}}}, {"columnKind", "unicodeCodePoints"}, {"results", results}};
  return Json(Object{{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"}, {"version", "2.1.0"}, {"runs", Array{run}}}).text + "\n";
}

// What GitHub's runner undoes: % and line ends everywhere, and in properties what separates them.
std::string escaped(std::string_view s, bool property) {
  std::string out;
  for (const char c : s) {
    if (c == '%') out += "%25";
    else if (c == '\r') out += "%0D";
    else if (c == '\n') out += "%0A";
    else if (property && c == ':') out += "%3A";
    else if (property && c == ',') out += "%2C";
    else out += c;
  }
  return out;
}

std::string github_text(const std::vector<Issue>& issues) {
  std::string out;
  for (const Issue& i : issues)
    out += std::string("::") + level(i) + " file=" + escaped(shown_path(i.file), true) + ",line=" + std::to_string(i.line) +
           ",col=" + std::to_string(i.column) + ",endColumn=" + std::to_string(end_column(i)) + ",title=" + escaped(rule(i), true) +
           "::" + escaped(whole_message(i), false) + "\n";
  return out;
}

}  // namespace

std::optional<Format> format_of(std::string_view name) {
  static constexpr std::pair<std::string_view, Format> kFormats[] = {
      {"text", Format::kText}, {"json", Format::kJson}, {"sarif", Format::kSarif}, {"github", Format::kGithub}};
  for (const auto& [n, f] : kFormats)
    if (n == name) return f;
  return {};
}

std::string report(Format f, std::vector<Issue> issues, size_t objects) {
  std::ranges::stable_sort(issues, {}, &Issue::severity);  // errors and warnings apart, each by place
  switch (f) {
    case Format::kText: return plane::render(issues);
    case Format::kJson: return json_text(issues, objects);
    case Format::kSarif: return sarif_text(issues);
    case Format::kGithub: return github_text(issues);
  }
  return {};
}

}  // namespace sluice::cli
