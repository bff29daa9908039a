// libfyaml parses one document after the other from a parser that collects its errors instead of printing them. Aliases are followed by us,
// each use counted against kYamlNodesMax, so an alias bomb ends in one error.
#include "ctrl/plane/yaml.h"

#include <libfyaml.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <unordered_map>

namespace sluice::plane {
namespace {

struct Walk {
  const Source& source;
  std::vector<Issue>& issues;
  size_t nodes = 0;
  bool stopped = false;
  std::string path = {};  // of the node that is being read

  void say(const Node& n, std::string message, std::string remedy) {
    issues.push_back(issue_at(n, std::move(message), std::move(remedy)));
    issues.back().field = path, issues.back().rule = "yaml";
  }

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
    const auto begins = [](char c) { return (uint8_t(c) & 0xc0) != 0x80; };  // of UTF-8: a character, as libfyaml's columns count them
    n.width = uint32_t(std::max<long>(1, n.text.find('\n') == std::string::npos ? std::ranges::count_if(n.text, begins) : 1));
    const bool null = n.plain && (n.text.empty() || n.text == "~" || n.text == "null");
    n.kind = null ? Node::Kind::kNull : Node::Kind::kScalar;
  }
  Node walk(fy_node* f, uint32_t line, uint32_t column, int depth) {
    Node n;
    n.line = line, n.column = column, n.source = &source;
    if (f == nullptr || stopped) return n;
    if (depth > kYamlDepthMax || ++nodes > kYamlNodesMax) {
      const bool deep = depth > kYamlDepthMax;
      say(n,
          deep ? "deeper than " + std::to_string(kYamlDepthMax) + " levels"
               : "more than " + std::to_string(kYamlNodesMax) + " values, counting each use of an alias",
          deep ? "no object of Istio's is so deep: look for brackets that are not closed" : "write out what is meant, and split the file");
      stopped = true;
      return n;
    }
    if (fy_node_is_alias(f)) {
      fy_node* target = fy_node_resolve_alias(f);
      if (target == nullptr) say(n, "an alias without its anchor", "write &NAME before the value that *NAME means");
      return walk(target, line, column, depth + 1);
    }
    switch (fy_node_get_type(f)) {
      case FYNT_SCALAR: scalar(f, n); break;
      case FYNT_SEQUENCE: {
        n.kind = Node::Kind::kSequence;
        void* at = nullptr;
        const size_t outer = path.size();
        while (fy_node* item = fy_node_sequence_iterate(f, &at)) {
          path += "[" + std::to_string(n.items.size()) + "]";
          n.items.push_back(walk(item, line, column, depth + 1));
          path.resize(outer);
        }
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
            say(key, "a key must be a plain word", "write name: value");
            continue;
          }
          scalar(k, key);
          if (n.keys.empty()) n.line = key.line, n.column = key.column, n.width = key.width;
          const auto [known, is_new] = first.try_emplace(key.text, key.line);
          const size_t outer = path.size();
          path += (outer == 0 ? "" : ".") + key.text;
          if (!is_new)
            say(key, "'" + key.text + "' is there twice (first in line " + std::to_string(known->second) + ")",
                "keep one of the two; YAML readers differ in which one they take");
          Node value = walk(fy_node_pair_value(pair), key.line, key.column, depth + 1);
          n.keys.push_back(std::move(key));
          n.items.push_back(std::move(value));
          path.resize(outer);
        }
        break;
      }
    }
    return n;
  }
};

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
  Issue i{
      severity, n.source != nullptr ? n.source->file : "", n.line, n.column, n.width, std::move(message), std::move(remedy), {}, {}, {}, {},
      &n};
  if (n.source != nullptr) i.source_line = line_of(*n.source, n.line);
  return i;
}

namespace {

struct Names {
  std::unordered_map<const Node*, std::string> wanted;
  std::string path = {};
  void walk(const Node& n) {
    if (const auto at = wanted.find(&n); at != wanted.end()) at->second = path;
    const size_t outer = path.size();
    for (size_t i = 0; i < n.items.size(); i++) {
      if (n.kind == Node::Kind::kMapping && i < n.keys.size()) {
        path += (outer == 0 ? "" : ".") + n.keys[i].text;
        if (const auto at = wanted.find(&n.keys[i]); at != wanted.end()) at->second = path;
      } else {
        path += "[" + std::to_string(i) + "]";
      }
      walk(n.items[i]);
      path.resize(outer);
    }
  }
};

}  // namespace

void name_fields(const Node& document, std::span<Issue> issues, std::string_view rule) {
  if (issues.empty()) return;
  Names names;
  for (const Issue& i : issues) names.wanted.emplace(i.node, "");
  names.walk(document);
  const Node& metadata = document["metadata"];
  const std::string &kind = document["kind"].text, &ns = metadata["namespace"].text, &name = metadata["name"].text;
  const std::string object = kind.empty() ? "" : kind + (name.empty() ? "" : " " + (ns.empty() ? "default" : ns) + "/" + name);
  for (Issue& i : issues) {
    if (i.field.empty()) i.field = names.wanted[i.node];
    if (i.object.empty()) i.object = object;
    if (i.rule.empty()) i.rule = rule;
    i.node = nullptr;
  }
}

std::vector<Node> load_yaml(const Source& source, std::vector<Issue>& issues, size_t* nodes) {
  std::vector<Node> documents;
  Node top;
  top.source = &source, top.line = source.first_line;
  if (source.text.size() > kYamlBytesMax) {
    issues.push_back({.file = source.file,
                      .message = "larger than " + std::to_string(kYamlBytesMax >> 20) + " MiB",
                      .remedy = "split the file",
                      .rule = "yaml"});
    return documents;
  }
  if (const size_t bad = bad_utf8(source.text); bad != std::string::npos) {
    top.line = source.first_line + uint32_t(std::count(source.text.begin(), source.text.begin() + long(bad), '\n'));
    top.column = uint32_t(bad - (source.text.rfind('\n', bad) + 1) + 1);
    issues.push_back(issue_at(top, "not UTF-8, or a NUL byte", "save the file as UTF-8"));
    issues.back().source_line.clear(), issues.back().rule = "yaml", issues.back().node = nullptr;
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
    // A document that is beyond a limit is not there: one error is enough.
    if (!root.null() && !w.stopped) documents.push_back(std::move(root));
    if (w.stopped) break;
  }
  if (nodes != nullptr) *nodes = w.nodes;
  void* at = nullptr;
  while (const fy_diag_error* e = fy_diag_errors_iterate(diag.get(), &at)) {
    top.line = source.first_line + uint32_t(std::max(e->line, 1)) - 1, top.column = uint32_t(std::max(e->column, 1));
    const bool tab = line_of(source, top.line).find('\t') != std::string::npos;
    issues.push_back(
        issue_at(top, e->msg,
                 tab ? "a tab cannot indent YAML: write spaces"
                     : "look at this line and the one before: open brackets, braces and quotes, and how far each is indented"));
    issues.back().rule = "yaml", issues.back().node = nullptr;
  }
  return documents;
}

}  // namespace sluice::plane
