#include "tests/world/message.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>

namespace sluice::world {
namespace {

std::optional<uint64_t> number(std::string_view text, int base) {
  uint64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() ? std::optional(n) : std::nullopt;
}

// The chunked body at `at`: its bytes and where it ends; nullopt while it is not whole.
std::optional<std::pair<std::string, size_t>> chunked(const std::string& bytes, size_t at) {
  std::string body;
  for (;;) {
    const size_t line = bytes.find("\r\n", at);
    if (line == bytes.npos) return std::nullopt;
    const auto size = number(std::string_view(bytes).substr(at, line - at), 16);
    if (!size) {
      ADD_FAILURE() << "chunk size: " << bytes.substr(at, line - at);
      return std::pair(body, bytes.size());
    }
    at = line + 2;
    if (bytes.size() < at + *size + 2) return std::nullopt;
    EXPECT_EQ(bytes.substr(at + *size, 2), "\r\n") << "end of a chunk";
    body.append(bytes, at, *size);
    at += *size + 2;
    if (*size == 0) return std::pair(std::move(body), at);
  }
}

}  // namespace

std::string Message::field(std::string_view name) const {
  for (const auto& [n, v] : fields)
    if (n == name) return v;
  return {};
}
bool Message::has(std::string_view name) const {
  return std::ranges::any_of(fields, [&](const auto& f) { return f.first == name; });
}
std::string Message::path() const {
  const size_t a = start.find(' ') + 1;
  return start.substr(a, start.rfind(' ') - a);
}
int Message::status() const { return start.size() < 12 ? 0 : std::atoi(start.c_str() + 9); }

std::optional<Message> take_message(std::string& bytes, bool no_body, bool ended) {
  const size_t head_end = bytes.find("\r\n\r\n");
  if (head_end == bytes.npos) return std::nullopt;
  Message m;
  size_t at = bytes.find("\r\n");
  m.start = bytes.substr(0, at);
  while (at < head_end) {
    const size_t end = bytes.find("\r\n", at + 2);
    const std::string field = bytes.substr(at + 2, end - at - 2);
    const size_t colon = field.find(": ");
    if (colon == field.npos) ADD_FAILURE() << "field line: " << field;
    std::string name = field.substr(0, colon);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    m.fields.emplace_back(std::move(name), colon == field.npos ? "" : field.substr(colon + 2));
    at = end;
  }
  const size_t body_at = head_end + 4;
  const bool response = m.start.starts_with("HTTP/");
  const int status = m.status();
  EXPECT_FALSE(m.has("content-length") && m.has("transfer-encoding")) << m.start;
  size_t end = body_at;
  if (response && (no_body || status < 200 || status == 204 || status == 304)) {
  } else if (m.has("transfer-encoding")) {
    auto body = chunked(bytes, body_at);
    if (!body) return std::nullopt;
    m.body = std::move(body->first);
    end = body->second;
  } else if (m.has("content-length")) {
    const auto length = number(m.field("content-length"), 10);
    if (!length) ADD_FAILURE() << "content-length: " << m.field("content-length");
    if (bytes.size() - body_at < length.value_or(0)) return std::nullopt;
    m.body = bytes.substr(body_at, length.value_or(0));
    end = body_at + m.body.size();
  } else if (response) {
    if (!ended) return std::nullopt;
    m.body = bytes.substr(body_at);
    end = bytes.size();
  }
  bytes.erase(0, end);
  return m;
}

}  // namespace sluice::world
