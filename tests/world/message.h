// An HTTP/1.1 message as a test reads it: written from RFC 9112 without a look at the product's parser, and strict, for everything that the
// gateway sends must be well formed (a violation is a test failure).
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice::world {

struct Message {
  std::string start;  // "GET / HTTP/1.1", "HTTP/1.1 200 OK"
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case
  std::string body;
  std::string field(std::string_view name) const;  // the first, or empty
  bool has(std::string_view name) const;
  std::string path() const;  // of a request line
  int status() const;        // of a status line
};

// Cuts the first whole message off `bytes`, or leaves them alone. `no_body`: the answer to HEAD. `ended`: no more bytes will come, which ends
// a response without a length.
std::optional<Message> take_message(std::string& bytes, bool no_body = false, bool ended = false);

// What tests say most often.
inline const std::string kGet = "GET /a?b=c HTTP/1.1\r\nHost: shop\r\n\r\n";
inline std::string get(const std::string& path) { return "GET " + path + " HTTP/1.1\r\nHost: shop\r\n\r\n"; }
inline std::string post(size_t length) { return "POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n"; }
inline std::string ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
inline std::string letters(size_t n, char first = 'a') {
  std::string s(n, 0);
  for (size_t i = 0; i < n; i++) s[i] = char(first + i % 23);
  return s;
}

}  // namespace sluice::world
