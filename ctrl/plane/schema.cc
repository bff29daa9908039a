// schema.inc is read once into a table of messages; check_schema walks node and table side by side.
#include "ctrl/plane/schema.h"

#include <charconv>
#include <cmath>
#include <map>
#include <sstream>

namespace sluice::plane {
namespace {

struct Field {
  std::string name, type;
  bool required = false, refused = false, inert = false, list = false, map = false;
};
using Message = std::vector<Field>;

std::map<std::string, Message, std::less<>> read_table() {
  std::map<std::string, Message, std::less<>> table;
  std::istringstream lines(std::string(
#include "ctrl/plane/schema.inc"
                               ) +
#include "ctrl/plane/gateway_api_schema.inc"
  );
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, equals, word;
    if (!(words >> name >> equals)) continue;
    Message& m = table[name];
    while (words >> word) {
      Field f;
      f.name = word.substr(0, word.find(':'));
      f.type = word.substr(word.find(':') + 1);
      for (; f.type[0] == '!' || f.type[0] == '~' || f.type[0] == '-'; f.type.erase(0, 1))
        (f.type[0] == '!' ? f.required : f.type[0] == '~' ? f.refused : f.inert) = true;
      if (f.type.ends_with("[]")) f.list = true;
      if (f.type.ends_with("{}")) f.map = true;
      if (f.list || f.map) f.type.resize(f.type.size() - 2);
      m.push_back(std::move(f));
    }
  }
  return table;
}
const auto& table() {
  static const auto t = read_table();
  return t;
}

std::string camel(std::string_view snake) {
  std::string out;
  for (size_t i = 0; i < snake.size(); i++) {
    if (snake[i] == '_' && i + 1 < snake.size()) out += char(std::toupper(snake[++i]));
    else out += snake[i];
  }
  return out;
}

bool is_number(std::string_view s) {
  double d;
  const auto [end, e] = std::from_chars(s.data(), s.data() + s.size(), d);
  return e == std::errc{} && end == s.data() + s.size() && std::isfinite(d);
}

std::vector<std::string_view> split(std::string_view s, char by) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at <= s.size();) {
    const size_t end = std::min(s.find(by, at), s.size());
    out.push_back(s.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

// Empty if the scalar is one of the type, else what is wrong with it.
std::string wrong_scalar(const Node& n, std::string_view type, std::string& remedy) {
  const std::string& s = n.text;
  if (type == "str") {
    if (!n.plain || !(s == "true" || s == "false" || is_number(s))) return {};
    remedy = "write \"" + s + "\"";
    return "a text is expected, not a number or truth value";
  }
  if (type == "bool") {
    remedy = "without quotes";
    return n.plain && (s == "true" || s == "false") ? "" : "true or false is expected";
  }
  if (type == "num") {
    remedy = "for example 0.5";
    return is_number(s) ? "" : "a number is expected";
  }
  if (type == "dur") {
    remedy = "for example 3s, 250ms, 1h30m";
    const auto d = parse_duration(s);
    return !d ? "'" + s + "' is no duration" : *d < 0 ? "a duration must not be negative" : "";
  }
  if (type.starts_with("int(")) {
    const std::string_view range = type.substr(4, type.size() - 5);
    const size_t dots = range.find("..");
    const int64_t lo = std::strtoll(range.data(), nullptr, 10), hi = std::strtoll(range.data() + dots + 2, nullptr, 10);
    int64_t v = 0;
    remedy = "a number from " + std::to_string(lo) + " to " + std::to_string(hi);
    const auto [end, e] = std::from_chars(s.data(), s.data() + s.size(), v);
    if (e != std::errc{} || end != s.data() + s.size()) return "a whole number is expected, not '" + s + "'";
    return v < lo || v > hi ? "must be in the range " + std::string(range) : "";
  }
  if (type.starts_with("enum(")) {
    const auto values = split(type.substr(5, type.size() - 6), '|');
    for (const auto v : values)
      if (v == s) return {};
    const std::string near = nearest(s, values);
    for (const auto v : values) remedy += (remedy.empty() ? "one of " : ", ") + std::string(v);
    return "unknown value '" + s + "'" + (near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  return {};
}

bool is_message(std::string_view type) { return table().contains(type); }

void check_value(Node& n, std::string_view type, const std::string& path, std::vector<Issue>& issues) {
  if (type == "any" || n.null()) return;
  if (is_message(type)) return check_schema(n, type, path, issues);
  if (n.kind != Node::Kind::kScalar) {
    issues.push_back(issue_at(n, path + ": one value is expected, not a " + (n.kind == Node::Kind::kSequence ? "list" : "mapping"),
                              "write field: value"));
    return;
  }
  std::string remedy;
  const std::string wrong = wrong_scalar(n, type, remedy);
  if (!wrong.empty()) issues.push_back(issue_at(n, path + ": " + wrong, remedy));
}

void check_field(const Node& key, Node& value, const Field& f, const std::string& path, std::vector<Issue>& issues) {
  if (f.refused) {
    issues.push_back(
        issue_at(key, path + ": Istio has this field, sluice-control does not translate it yet", "remove it; see docs/limits.md"));
    return;
  }
  if (value.null()) return;
  if (f.list) {
    if (value.kind != Node::Kind::kSequence) {
      issues.push_back(issue_at(value, path + ": a list is expected", "begin each item with '- '"));
      return;
    }
    for (size_t i = 0; i < value.items.size(); i++) {
      if (value.items[i].null() && !is_message(f.type))
        issues.push_back(issue_at(key, path + "[" + std::to_string(i) + "]: nothing is there", "write a value, or remove the item"));
      check_value(value.items[i], f.type, path + "[" + std::to_string(i) + "]", issues);
    }
  } else if (f.map) {
    if (value.kind != Node::Kind::kMapping) {
      issues.push_back(issue_at(value, path + ": a mapping is expected", "write name: value"));
      return;
    }
    for (size_t i = 0; i < value.items.size(); i++) check_value(value.items[i], f.type, path + "." + value.keys[i].text, issues);
  } else {
    check_value(value, f.type, path, issues);
  }
}

}  // namespace

bool is_kind(std::string_view kind) {
  return kind == "Gateway" || kind == "VirtualService" || kind == "DestinationRule" || kind == "ServiceEntry" || kind == "WorkloadEntry" ||
         kind == "AuthorizationPolicy" || kind == "PeerAuthentication" || kind == "RequestAuthentication" || kind == "Telemetry" ||
         kind == "EnvoyFilter" || kind == "MeshConfig" || kind == "WorkloadGroup" || kind == "Sidecar" || kind == "ProxyConfig";
}

std::vector<FieldVerdict> field_verdicts() {
  std::vector<FieldVerdict> out;
  std::istringstream lines(
#include "ctrl/plane/schema.inc"
  );
  for (std::string line; std::getline(lines, line);) {
    const std::string name = line.substr(0, line.find(' '));
    if (name.empty()) continue;
    for (const Field& f : table().at(name)) out.push_back({name, f.name, f.refused ? "refused" : f.inert ? "inert" : "translated"});
  }
  return out;
}

void check_schema(Node& node, std::string_view kind, const std::string& path, std::vector<Issue>& issues) {
  const Message& message = table().find(kind)->second;
  if (node.null()) return;
  if (node.kind != Node::Kind::kMapping) {
    issues.push_back(issue_at(node, path + ": a mapping is expected", "write field: value"));
    return;
  }
  std::map<std::string, uint32_t> seen;
  bool respelt = false;
  for (size_t i = 0; i < node.keys.size(); i++) {
    Node& key = node.keys[i];
    std::string name = camel(key.text);
    respelt |= name != key.text;
    key.text = std::move(name);
    const std::string field_path = path.empty() ? key.text : path + "." + key.text;
    if (const auto [first, is_new] = seen.try_emplace(key.text, key.line); !is_new && respelt)  // else YAML's reader said it
      issues.push_back(
          issue_at(key, "'" + key.text + "' is there twice (first in line " + std::to_string(first->second) + "), spelt in two ways",
                   "keep one of the two"));
    const Field* known = nullptr;
    std::vector<std::string_view> names;
    for (const Field& f : message) {
      names.push_back(f.name);
      if (f.name == key.text) known = &f;
    }
    if (known == nullptr) {
      const std::string near = nearest(key.text, names);
      std::string remedy = near.empty() ? "" : "write " + near;
      if (near.empty())
        for (const auto n : names) remedy += (remedy.empty() ? "known here: " : ", ") + std::string(n);
      issues.push_back(issue_at(key, "unknown field " + field_path + (near.empty() ? "" : "; did you mean '" + near + "'?"), remedy));
      continue;
    }
    check_field(key, node.items[i], *known, field_path, issues);
  }
  for (const Field& f : message)
    if (f.required && node[f.name].null() && !f.refused)
      issues.push_back(issue_at(node, (path.empty() ? "" : path + ": ") + "'" + f.name + "' is missing",
                                "add " + f.name + (f.list ? ": [...]" : ": ...")));
}

std::optional<int64_t> parse_duration(std::string_view s) {
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  if (s == "0") return 0;
  if (s.empty()) return {};
  double total = 0;
  while (!s.empty()) {
    double v = 0;
    const auto [end, e] = std::from_chars(s.data(), s.data() + s.size(), v, std::chars_format::fixed);
    if (e != std::errc{} || v < 0) return {};
    s.remove_prefix(size_t(end - s.data()));
    static constexpr std::pair<std::string_view, double> kUnits[] = {{"ns", 1},  {"us", 1e3}, {"ms", 1e6},
                                                                     {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    double unit = 0;
    for (const auto& [name, ns] : kUnits)
      if (s.starts_with(name) && !(name == "m" && s.starts_with("ms"))) {
        unit = ns;
        s.remove_prefix(name.size());
        break;
      }
    if (unit == 0) return {};
    total += v * unit;
  }
  if (total > 9e18) return {};
  return int64_t(std::llround(negative ? -total : total));
}

std::string duration_json(int64_t ns) {
  std::string out = std::to_string(ns / 1'000'000'000);
  if (int64_t rest = ns % 1'000'000'000; rest != 0) {
    std::string f = std::to_string(rest < 0 ? -rest : rest);
    f.insert(0, 9 - f.size(), '0');
    if (f.ends_with("000000")) f.resize(3);
    else if (f.ends_with("000")) f.resize(6);
    out += "." + f;
  }
  return out + "s";
}

}  // namespace sluice::plane
