// Builds proto3 JSON text, the form in which the translator says a resource (it reads like istiod's own answers); resource.h turns it into
// protobuf. Nothing is parsed or looked at here: a Json is text that is known to be one JSON value. Thread: any; no globals.
#pragma once
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataplane/base/json.h"

namespace sluice::plane {

struct Json {
  std::string text;
  Json() = default;
  Json(std::string_view s) : text(json_quoted(s)) {}
  Json(const std::string& s) : text(json_quoted(s)) {}
  Json(const char* s) : text(json_quoted(s)) {}
  Json(bool b) : text(b ? "true" : "false") {}
  Json(std::integral auto n) : text(std::to_string(n)) {}
  static Json raw(std::string s) {
    Json j;
    j.text = std::move(s);
    return j;
  }
};

class Object {
 public:
  Object() = default;
  Object(std::initializer_list<std::pair<std::string_view, Json>> fields) {
    for (const auto& [k, v] : fields) set(k, v);
  }
  Object& set(std::string_view key, const Json& value) {
    text_ += (text_.empty() ? "" : ",") + json_quoted(key) + ":" + value.text;
    return *this;
  }
  Object& set_if(bool condition, std::string_view key, const Json& value) { return condition ? set(key, value) : *this; }
  Object& merge(const Object& other) {
    if (!other.empty()) text_ += (text_.empty() ? "" : ",") + other.text_;
    return *this;
  }
  bool empty() const { return text_.empty(); }
  operator Json() const { return Json::raw("{" + text_ + "}"); }

 private:
  std::string text_;
};

class Array {
 public:
  Array() = default;
  Array(std::initializer_list<Json> items) {
    for (const Json& i : items) add(i);
  }
  Array& add(const Json& item) {
    text_ += (text_.empty() ? "" : ",") + item.text;
    return *this;
  }
  Array& add_all(const Array& other) { return other.empty() ? *this : add(Json::raw(other.text_)); }
  bool empty() const { return text_.empty(); }
  operator Json() const { return Json::raw("[" + text_ + "]"); }

 private:
  std::string text_;
};

template <class Strings>
Json strings(const Strings& list) {
  Array a;
  for (const auto& s : list) a.add(std::string_view(s));
  return a;
}

// {"name": name, "typedConfig": {"@type": type, fields of config}}: how Envoy names an extension.
Json extension(std::string_view name, std::string_view type, const Object& config = {});
Json typed(std::string_view type, const Object& config = {});

}  // namespace sluice::plane
