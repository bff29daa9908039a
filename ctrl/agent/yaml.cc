#include "ctrl/agent/yaml.h"

#include <libfyaml.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <numeric>

#include "dataplane/base/json.h"

namespace sluice::agent {
namespace {

struct Diag {
  fy_diag* d;
  Diag() {
    fy_diag_cfg cfg;
    fy_diag_cfg_default(&cfg);
    cfg.fp = nullptr;
    cfg.colorize = false;
    d = fy_diag_create(&cfg);
    fy_diag_set_collect_errors(d, true);
  }
  ~Diag() { fy_diag_destroy(d); }
  Diag(const Diag&) = delete;
};

struct Walk {
  const std::string& file;
  std::vector<std::string> errors;

  void set_place(fy_token* token, Yaml& y) {
    const fy_mark* m = token != nullptr ? fy_token_start_mark(token) : nullptr;
    if (m != nullptr) y.line = m->line + 1, y.column = m->column + 1;
  }
  void scalar(fy_node* n, Yaml& y) {
    size_t length = 0;
    const char* s = fy_node_get_scalar(n, &length);
    set_place(fy_node_get_scalar_token(n), y);
    y.plain = fy_node_get_style(n) == FYNS_PLAIN;
    if (s != nullptr) y.text.assign(s, length);
    const bool null = y.plain && (y.text.empty() || y.text == "~" || y.text == "null");
    y.kind = null ? Yaml::Kind::kNull : Yaml::Kind::kScalar;
  }
  Yaml walk(fy_node* n, int line, int column, int depth) {
    Yaml y{.line = line, .column = column};
    if (n == nullptr) return y;
    if (depth > kYamlDepthMax) {
      errors.push_back(place(file, y) + "deeper than " + std::to_string(kYamlDepthMax) + " levels");
      return y;
    }
    switch (fy_node_get_type(n)) {
      case FYNT_SCALAR: scalar(n, y); break;
      case FYNT_SEQUENCE: {
        y.kind = Yaml::Kind::kSequence;
        void* at = nullptr;
        while (fy_node* item = fy_node_sequence_iterate(n, &at)) y.items.push_back(walk(item, line, column, depth + 1));
        break;
      }
      case FYNT_MAPPING: {
        y.kind = Yaml::Kind::kMapping;
        void* at = nullptr;
        while (fy_node_pair* pair = fy_node_mapping_iterate(n, &at)) {
          Yaml key{.line = line, .column = column};
          fy_node* k = fy_node_pair_key(pair);
          if (k == nullptr || fy_node_get_type(k) != FYNT_SCALAR) {
            errors.push_back(place(file, key) + "a key must be a plain word");
            continue;
          }
          scalar(k, key);
          for (const Yaml& other : y.keys)
            if (other.text == key.text)
              errors.push_back(place(file, key) + "'" + key.text + "' is there twice (first in line " + std::to_string(other.line) + ")");
          Yaml value = walk(fy_node_pair_value(pair), key.line, key.column, depth + 1);
          y.keys.push_back(std::move(key));
          y.items.push_back(std::move(value));
        }
        break;
      }
    }
    return y;
  }
};

bool is_json_number(std::string_view s) {
  if (s.starts_with('-')) s.remove_prefix(1);
  if (s.empty() || s[0] < '0' || s[0] > '9' || (s.size() > 1 && s[0] == '0' && s[1] != '.')) return false;
  double d;
  const auto [end, e] = std::from_chars(s.data(), s.data() + s.size(), d);
  return e == std::errc{} && end == s.data() + s.size() && s.back() != '.';
}

void json(const Yaml& y, std::string& out) {
  switch (y.kind) {
    case Yaml::Kind::kNull: out += "null"; return;
    case Yaml::Kind::kScalar:
      if (y.plain && (y.text == "true" || y.text == "false" || is_json_number(y.text))) out += y.text;
      else append_json_string(y.text, out);
      return;
    case Yaml::Kind::kSequence:
    case Yaml::Kind::kMapping: {
      const bool map = y.kind == Yaml::Kind::kMapping;
      out += map ? '{' : '[';
      for (size_t i = 0; i < y.items.size(); i++) {
        if (i != 0) out += ',';
        if (map) {
          append_json_string(y.keys[i].text, out);
          out += ':';
        }
        json(y.items[i], out);
      }
      out += map ? '}' : ']';
    }
  }
}

}  // namespace

std::string place(const std::string& file, const Yaml& at) {
  return file + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) + ": ";
}

std::expected<Yaml, std::vector<std::string>> parse_yaml(std::string_view text, const std::string& file) {
  if (text.size() > kYamlBytesMax)
    return std::unexpected(std::vector{file + ":1:1: larger than " + std::to_string(kYamlBytesMax) + " bytes"});
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + long(nul), '\n');
    return std::unexpected(std::vector{file + ":" + std::to_string(line) + ":1: holds a NUL byte"});
  }
  Diag diag;
  const fy_parse_cfg cfg{.search_path = "", .flags = FYPCF_RESOLVE_DOCUMENT, .userdata = nullptr, .diag = diag.d};
  const std::unique_ptr<fy_document, void (*)(fy_document*)> doc(fy_document_build_from_string(&cfg, text.data(), text.size()),
                                                                 fy_document_destroy);
  if (doc == nullptr) {
    std::vector<std::string> errors;
    void* at = nullptr;
    while (const fy_diag_error* e = fy_diag_errors_iterate(diag.d, &at))
      errors.push_back(file + ":" + std::to_string(std::max(e->line, 1)) + ":" + std::to_string(std::max(e->column, 1)) + ": " + e->msg);
    if (errors.empty()) errors.push_back(file + ":1:1: holds no YAML document");
    return std::unexpected(std::move(errors));
  }
  Walk w{file, {}};
  Yaml y = w.walk(fy_document_root(doc.get()), 1, 1, 0);
  if (!w.errors.empty()) return std::unexpected(std::move(w.errors));
  return y;
}

std::string to_json(const Yaml& y) {
  std::string out;
  json(y, out);
  return out;
}

std::string nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::string best;
  size_t best_edits = std::min<size_t>(2, word.size() / 2) + 1;
  for (const std::string_view c : candidates) {
    std::vector<size_t> row(c.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 0; i < word.size(); i++) {
      size_t diagonal = row[0]++;
      for (size_t j = 0; j < c.size(); j++) {
        const size_t substituted = diagonal + (word[i] != c[j]);
        diagonal = row[j + 1];
        row[j + 1] = std::min({substituted, row[j] + 1, row[j + 1] + 1});
      }
    }
    if (row.back() < best_edits) best_edits = row.back(), best = c;
  }
  return best;
}

}  // namespace sluice::agent
