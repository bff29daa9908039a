#include "dataplane/authz/uri_template.h"

#include <algorithm>
#include <vector>

namespace sluice::authz {
namespace {

constexpr size_t kVariablesMax = 5, kNameBytesMax = 16;
constexpr std::string_view kOneSegment = "[-a-zA-Z0-9._~%!$&'()*+,;=:@]+";
constexpr std::string_view kAnyRest = "[-a-zA-Z0-9._~%!$&'()*+,;=:@/]*";

bool alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool literal(char c) { return alpha(c) || digit(c) || std::string_view("-._~%!$&'()*+,;=:@").find(c) != std::string_view::npos; }

// Recursive descent over the grammar of the header; the first error stops it.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::expected<std::string, std::string> run() {
    if (!take('/')) return fail("a template begins with \"/\"");
    out_ += '/';
    while (ok() && at_ < text_.size()) {
      segment();
      if (!ok() || at_ == text_.size()) break;
      if (take('/')) {
        out_ += '/';
        if (peek() == '/') return fail("empty segment");
      } else {  // what follows a glob or a variable directly is the suffix, and the end
        literals();
        if (ok() && at_ < text_.size()) return fail("nothing may follow the text after a glob");
      }
    }
    if (!ok()) return std::unexpected(error_);
    return out_;
  }

 private:
  bool ok() const { return error_.empty(); }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) { return peek() == c && at_ < text_.size() ? (at_++, true) : false; }
  std::unexpected<std::string> fail(std::string_view what) {
    if (ok()) error_ = "URI template \"" + std::string(text_) + "\", character " + std::to_string(at_ + 1) + ": " + std::string(what);
    return std::unexpected(error_);
  }
  void segment() {
    if (peek() == '*') glob();
    else if (peek() == '{') variable();
    else literals();
  }
  void literals() {
    const size_t from = at_;
    for (; at_ < text_.size() && literal(text_[at_]); at_++) {
      if (std::string_view(".$()*+").find(text_[at_]) != std::string_view::npos) out_ += '\\';
      out_ += text_[at_];
    }
    if (at_ == from) fail("a path character, \"*\", \"**\" or \"{\" is due here");
  }
  void glob() {
    if (rest_seen_) {
      fail("no glob may follow \"**\"");
      return;
    }
    at_++;
    rest_seen_ = take('*');
    out_ += rest_seen_ ? kAnyRest : kOneSegment;
  }
  void variable() {
    at_++;
    if (peek() == '*') {
      glob();
    } else {
      const size_t from = at_;
      if (alpha(peek()))
        while (alpha(peek()) || digit(peek()) || peek() == '_') at_++;
      const std::string_view name = text_.substr(from, at_ - from);
      if (name.empty() || name.size() > kNameBytesMax) fail("a variable's name is a letter and up to 15 letters, digits or \"_\"");
      if (std::ranges::find(names_, name) != names_.end()) fail("a second variable of that name");
      if (names_.size() == kVariablesMax) fail("more than 5 variables");
      names_.push_back(name);
      if (take('=')) {
        do {
          peek() == '*' ? glob() : literals();
        } while (ok() && take('/') && (out_ += '/', true));
      } else if (ok()) {
        if (rest_seen_) fail("no glob may follow \"**\"");
        out_ += kOneSegment;
      }
    }
    if (ok() && !take('}')) fail("\"}\" is due here");
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string out_, error_;
  bool rest_seen_ = false;
  std::vector<std::string_view> names_;
};

}  // namespace

std::expected<std::string, std::string> regex_of_uri_template(std::string_view text) { return Parser(text).run(); }

}  // namespace sluice::authz
