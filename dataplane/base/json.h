// JSON strings (RFC 8259 7), for everything that writes JSON: access log, status, xDS resources. Bytes above ASCII pass as they are.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

// Adds `s` quoted and escaped. Allocates only as `out` grows.
inline void append_json_string(std::string_view s, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : s) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (uint8_t(c) < 0x20 || c == 0x7f) (out += "\\u00") += {kHex[uint8_t(c) >> 4], kHex[c & 15]};
        else out += c;
    }
  }
  out += '"';
}

inline std::string json_quoted(std::string_view s) {
  std::string out;
  append_json_string(s, out);
  return out;
}

}  // namespace sluice
