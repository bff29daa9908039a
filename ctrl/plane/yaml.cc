// libfyaml parses one document after the other from a parser that collects its errors instead of printing them. Aliases are followed by us,
// each use counted against kYamlNodesMax, so an alias bomb ends in one error.
#include "ctrl/plane/yaml.h"

#include <libfyaml.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>

namespace sluice::plane {
namespace {

struct Walk {
  const Source& source;
  std::vector<Issue>& issues;
  size_t nodes = 0;
  bool stopped = false;

  void place(fy_token* token, Node& n) {
    const fy_mark* m = token != nullptr ? fy_token_start_mark(token) : nullptr;
    if (m != nullptr) n.line = source.first_line + uint32_t(m->line), n.column = uint32_t(m->column) + 1;
  }
  void scalar(fy_node* f, Node& n) {
    size_t length = 0;
    const char* s = fy_node_get_scalar(f, &length);
    place(fy_node_get_scalar_token(f), n);
    n.plain = fy_node_get_style(f) == FYNS_PLAIN;
    // The mark of a quoted scalar stands behind its quote.
    if (s != nullptr) n.text.assign(s, length);
    n.width = uint32_t(std::max<size_t>(1, n.text.find('\n') == std::string::npos ? n.text.size() : 1));
    const bool null = n.plain && (n.text.empty() || n.text == "~" || n.text == "null");
    n.kind = null ? Node::Kind::kNull : Node::Kind::kScalar;
  }
  Node walk(fy_node* f, uint32_t line, uint32_t column, int depth) {
    Node n;
    n.line = line, n.column = column, n.source = &source;
    if (f == nullptr || stopped) return n;
    if (depth > kYamlDepthMax || ++nodes > kYamlNodesMax) {
      issues.push_back(issue_at(n, depth > kYamlDepthMax
                                       ? "deeper than " + std::to_string(kYamlDepthMax) + " levels"
                                       : "more than " + std::to_string(kYamlNodesMax) + " values, counting each use of an alias"));
      stopped = true;
      return n;
    }
    if (fy_node_is_alias(f)) {
      fy_node* target = fy_node_resolve_alias(f);
      if (target == nullptr) issues.push_back(issue_at(n, "an alias without its anchor"));
      return walk(target, line, column, depth + 1);
    }
    switch (fy_node_get_type(f)) {
      case FYNT_SCALAR: scalar(f, n); break;
      case FYNT_SEQUENCE: {
        n.kind = Node::Kind::kSequence;
        void* at = nullptr;
        while (fy_node* item = fy_node_sequence_iterate(f, &at)) n.items.push_back(walk(item, line, column, depth + 1));
        if (!n.items.empty()) n.line = n.items[0].line, n.column = n.items[0].column, n.width = n.items[0].width;
        break;
      }
      case FYNT_MAPPING: {
        n.kind = Node::Kind::kMapping;
        std::map<std::string, uint32_t> first;
        void* at = nullptr;
        while (fy_node_pair* pair = fy_node_mapping_iterate(f, &at)) {
          Node key;
          key.line = line, key.column = column, key.source = &source;
          fy_node* k = fy_node_pair_key(pair);
          if (k == nullptr || fy_node_get_type(k) != FYNT_SCALAR || fy_node_is_alias(k)) {
            issues.push_back(issue_at(key, "a key must be a plain word"));
            continue;
          }
          scalar(k, key);
          if (n.keys.empty()) n.line = key.line, n.column = key.column, n.width = key.width;
          const auto [known, is_new] = first.try_emplace(key.text, key.line);
          if (!is_new)
            issues.push_back(issue_at(key, "'" + key.text + "' is there twice (first in line " + std::to_string(known->second) + ")",
                                      "keep one of the two; YAML readers differ in which one they take"));
          Node value = walk(fy_node_pair_value(pair), key.line, key.column, depth + 1);
          n.keys.push_back(std::move(key));
          n.items.push_back(std::move(value));
        }
        break;
      }
    }
    return n;
  }
};

std::string line_of(const Source& s, uint32_t line) {
  size_t at = 0;
  for (uint32_t l = s.first_line; l < line; l++) {
    at = s.text.find('\n', at);
    if (at == std::string::npos) return {};
    at++;
  }
  return s.text.substr(at, std::min<size_t>(s.text.find('\n', at) - at, 240));
}

// RFC 3629: shortest form, no surrogates, at most U+10FFFF. The offset of the first wrong byte, or npos.
size_t bad_utf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const uint8_t c = uint8_t(s[i]);
    const size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n == 0 || i + n > s.size() || c == 0) return i;
    for (size_t k = 1; k < n; k++)
      if ((uint8_t(s[i + k]) & 0xc0) != 0x80) return i;
    const uint8_t d = n > 1 ? uint8_t(s[i + 1]) : 0;
    if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d > 0x8f)) return i;
    i += n;
  }
  return std::string_view::npos;
}

}  // namespace

const Node& null_node() {
  static const Node n;
  return n;
}

const Node* Node::key_of(std::string_view key) const {
  for (const Node& k : keys)
    if (k.text == key) return &k;
  return nullptr;
}

const Node& Node::operator[](std::string_view key) const {
  for (size_t i = 0; i < keys.size(); i++)
    if (keys[i].text == key) return items[i];
  return null_node();
}

bool same_content(const Node& a, const Node& b) {
  return a.kind == b.kind && a.plain == b.plain && a.text == b.text &&
         std::ranges::equal(a.keys, b.keys, [](const Node& x, const Node& y) { return x.text == y.text; }) &&
         std::ranges::equal(a.items, b.items, same_content);
}

int64_t Node::integer() const { return std::strtoll(text.c_str(), nullptr, 10); }
double Node::number() const { return std::strtod(text.c_str(), nullptr); }

std::vector<std::string> Node::list() const {
  std::vector<std::string> out;
  for (const Node& n : items) out.push_back(n.text);
  return out;
}

Issue issue_at(const Node& n, std::string message, std::string remedy, Severity severity) {
  Issue i{severity, n.source != nullptr ? n.source->file : "", n.line, n.column, n.width, std::move(message), std::move(remedy), {}};
  if (n.source != nullptr) i.source_line = line_of(*n.source, n.line);
  return i;
}

std::vector<Node> load_yaml(const Source& source, std::vector<Issue>& issues, size_t* nodes) {
  std::vector<Node> documents;
  Node top;
  top.source = &source, top.line = source.first_line;
  if (source.text.size() > kYamlBytesMax) {
    issues.push_back(
        {.file = source.file, .message = "larger than " + std::to_string(kYamlBytesMax >> 20) + " MiB", .remedy = "split the file"});
    return documents;
  }
  if (const size_t bad = bad_utf8(source.text); bad != std::string::npos) {
    top.line = source.first_line + uint32_t(std::count(source.text.begin(), source.text.begin() + long(bad), '\n'));
    top.column = uint32_t(bad - (source.text.rfind('\n', bad) + 1) + 1);
    issues.push_back(issue_at(top, "not UTF-8, or a NUL byte"));
    issues.back().source_line.clear();
    return documents;
  }
  fy_diag_cfg diag_cfg;
  fy_diag_cfg_default(&diag_cfg);
  diag_cfg.fp = nullptr;
  diag_cfg.colorize = false;
  const std::unique_ptr<fy_diag, void (*)(fy_diag*)> diag(fy_diag_create(&diag_cfg), fy_diag_destroy);
  fy_diag_set_collect_errors(diag.get(), true);
  const fy_parse_cfg cfg{.search_path = "", .flags = FYPCF_ALLOW_DUPLICATE_KEYS, .userdata = nullptr, .diag = diag.get()};
  const std::unique_ptr<fy_parser, void (*)(fy_parser*)> parser(fy_parser_create(&cfg), fy_parser_destroy);
  fy_parser_set_string(parser.get(), source.text.data(), source.text.size());
  Walk w{source, issues, nodes == nullptr ? 0 : *nodes};
  while (fy_document* doc = fy_parse_load_document(parser.get())) {
    Node root = w.walk(fy_document_root(doc), source.first_line, 1, 0);
    fy_parse_document_destroy(parser.get(), doc);
    if (!root.null()) documents.push_back(std::move(root));
    if (w.stopped) break;
  }
  if (nodes != nullptr) *nodes = w.nodes;
  void* at = nullptr;
  while (const fy_diag_error* e = fy_diag_errors_iterate(diag.get(), &at)) {
    top.line = source.first_line + uint32_t(std::max(e->line, 1)) - 1, top.column = uint32_t(std::max(e->column, 1));
    issues.push_back(issue_at(top, e->msg));
  }
  return documents;
}

}  // namespace sluice::plane
