#include "ctrl/plane/json.h"

namespace sluice::plane {

std::string json_quoted(std::string_view s) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (uint8_t(c) < 0x20) ((out += "\\u00") += kHex[uint8_t(c) >> 4]) += kHex[c & 15];
    else out += c;
  }
  return out += '"';
}

Json typed(std::string_view type, const Object& config) {
  const std::string fields = Json(config).text;
  const std::string head = "{\"@type\":" + json_quoted("type.googleapis.com/" + std::string(type));
  return Json::raw(config.empty() ? head + "}" : head + "," + fields.substr(1));
}

Json extension(std::string_view name, std::string_view type, const Object& config) {
  return Object{{"name", name}, {"typedConfig", typed(type, config)}};
}

}  // namespace sluice::plane
