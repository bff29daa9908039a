// The head is read line by line as lines become whole, so a wrong first line is refused before the rest arrives. A line lies in one piece
// in the arena: the buffer starts at kFirstRoom and, when a line outgrows it, moves on to a buffer of twice the size (only the unfinished
// line is copied).
#include "dataplane/http/h1_parser.h"

#include <algorithm>
#include <array>

namespace sluice::http {
namespace {

constexpr size_t kFirstRoom = 1024;

struct Row {
  uint16_t status;
  std::string_view details;
};
constexpr Row kRows[] = {
#define X(id, status, details) {status, details},
    SLUICE_HTTP_REFUSALS(X)
#undef X
};

constexpr auto kTokenChars = [] {
  std::array<bool, 256> t{};
  for (char c = 'a'; c <= 'z'; c++) t[uint8_t(c)] = t[uint8_t(c - 32)] = true;
  for (char c = '0'; c <= '9'; c++) t[uint8_t(c)] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) t[uint8_t(c)] = true;
  return t;
}();

constexpr std::string_view kMethods[] = {"GET",     "POST",      "HEAD",       "PUT",        "DELETE",   "OPTIONS",    "PATCH",
                                         "CONNECT", "TRACE",     "ACL",        "BIND",       "CHECKOUT", "COPY",       "LINK",
                                         "LOCK",    "MERGE",     "MKACTIVITY", "MKCALENDAR", "MKCOL",    "M-SEARCH",   "MOVE",
                                         "NOTIFY",  "PROPFIND",  "PROPPATCH",  "PURGE",      "REBIND",   "REPORT",     "SEARCH",
                                         "SOURCE",  "SUBSCRIBE", "UNBIND",     "UNLINK",     "UNLOCK",   "UNSUBSCRIBE"};

// RFC 9110 5.5: VCHAR, obs-text, SP and HT; everything else is an attack or an accident.
constexpr bool value_char(uint8_t c) { return (c >= 0x20 && c != 0x7f) || c == '\t'; }

int hex(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

uint16_t status_of(Refusal r) { return kRows[size_t(r)].status; }
std::string_view details_of(Refusal r) { return kRows[size_t(r)].details; }
bool valid_method(std::string_view m) { return std::ranges::find(kMethods, m) != std::end(kMethods); }
bool is_token(std::string_view s) {
  return !s.empty() && std::ranges::all_of(s, [](char c) { return kTokenChars[uint8_t(c)]; });
}
bool valid_authority(std::string_view a) {
  return std::ranges::all_of(a, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-._~!$&'()*+,;=:@[]%").find(c) != std::string_view::npos;
  });
}

bool MessageParser::take_line(Bytes in, size_t& consumed, MutBytes& line) {
  const auto* lf = static_cast<const uint8_t*>(std::memchr(in.data(), '\n', in.size()));
  const size_t n = lf == nullptr ? in.size() : size_t(lf - in.data()) + 1;
  if (head_bytes_ + n > bytes_max_) {
    refuse(Refusal::kTooLarge);
    return false;
  }
  if (used_ + n > room_) {
    const size_t kept = used_ - line_at_;
    size_t room = std::max(kFirstRoom, room_ * 2);
    while (room < kept + n) room *= 2;
    auto* bigger = static_cast<uint8_t*>(arena_.alloc(room));
    if (bigger == nullptr) {
      refuse(Refusal::kNoMemory);
      return false;
    }
    if (kept > 0) std::memcpy(bigger, buffer_ + line_at_, kept);
    buffer_ = bigger;
    room_ = room;
    used_ = kept;
    line_at_ = 0;
  }
  std::memcpy(buffer_ + used_, in.data(), n);
  used_ += n;
  head_bytes_ += uint32_t(n);
  consumed += n;
  if (lf == nullptr) return false;
  MutBytes whole{buffer_ + line_at_, used_ - line_at_};
  line_at_ = used_;
  if (whole.size() < 2 || whole[whole.size() - 2] != '\r') {
    refuse(Refusal::kLineEnd);
    return false;
  }
  line = whole.first(whole.size() - 2);
  return true;
}

bool MessageParser::field_line(MutBytes line, FieldList& fields) {
  size_t colon = 0;
  while (colon < line.size() && kTokenChars[line[colon]]) {
    if (line[colon] >= 'A' && line[colon] <= 'Z') line[colon] |= 0x20;
    colon++;
  }
  if (colon == 0 || colon == line.size() || line[colon] != ':') {
    const bool control = colon < line.size() && !value_char(line[colon]);
    refuse(control && line[colon] != '\r' ? Refusal::kInvalidCharacters : Refusal::kFieldLine);
    return false;
  }
  const std::string_view value = trim(as_text(line.subspan(colon + 1)));
  for (uint8_t c : as_bytes(value))
    if (!value_char(c)) {
      refuse(c == '\r' ? Refusal::kLineEnd : Refusal::kInvalidCharacters);
      return false;
    }
  if (++fields_ > count_max_) {
    refuse(Refusal::kTooMany);
    return false;
  }
  fields.add_view(as_text(line.first(colon)), value);
  return true;
}

// RFC 9112 6.1, 6.3. Both are refused, whatever they say; a length is digits only, once; the only coding is "chunked", once.
bool MessageParser::frame(FieldList& fields, bool) {
  unsigned lengths = 0, codings = 0;
  bool chunked = false, digits = true;
  for (const Field& f : fields.all()) {
    if (f.name == "content-length") {
      lengths++;
      digits &= !f.value.empty();
      uint64_t n = 0;
      for (char c : f.value) {
        if (c < '0' || c > '9' || n > (~uint64_t{0} - 9) / 10) digits = false;
        n = n * 10 + uint64_t(c - '0');
      }
      length_ = n;
    } else if (f.name == "transfer-encoding") {
      codings++;
      chunked = equals_ignore_case(f.value, "chunked");
    }
  }
  if (lengths > 0 && codings > 0) return refuse(Refusal::kLengthAndCoding), false;
  if (lengths > 1 || (lengths == 1 && !digits)) return refuse(Refusal::kContentLength), false;
  if (codings > 1 || (codings == 1 && !chunked)) return refuse(Refusal::kCoding), false;
  framing_ = codings == 1 ? Framing::kChunked : lengths == 1 ? Framing::kLength : Framing::kNone;
  return true;
}

bool MessageParser::extension(uint8_t c) {
  const bool token = kTokenChars[c], quotable = (c >= 0x20 && c < 0x7f) || c == '\t';
  const auto go = [&](State next, bool allowed = true) { return state_ = next, allowed; };
  switch (state_) {
    case State::kExtension: return go(State::kExtensionName, token);
    case State::kExtensionValue: return c == '"' ? go(State::kQuoted) : go(State::kExtensionToken, token);
    case State::kQuoted: return c == '"' ? go(State::kExtensionEnd) : c == '\\' ? go(State::kQuotedPair) : quotable;
    case State::kQuotedPair: return go(State::kQuoted, quotable);
    default: break;
  }
  if (token && state_ != State::kExtensionEnd) return true;
  if (c == '=') return go(State::kExtensionValue, state_ == State::kExtensionName);
  return c == ';' ? go(State::kExtension) : go(State::kSizeLf, c == '\r');
}

Fed MessageParser::body(Bytes in) {
  size_t i = 0;
  while (i < in.size() || state_ == State::kDone) {
    switch (state_) {
      case State::kDone: return {i, Event::kComplete, {}};
      case State::kUntilClose: return {in.size(), Event::kBody, in.subspan(i)};
      case State::kLength:
      case State::kData: {
        const size_t n = size_t(std::min<uint64_t>(left_, in.size() - i));
        left_ -= n;
        const Bytes piece = in.subspan(i, n);
        if (left_ == 0) state_ = state_ == State::kLength ? State::kDone : State::kDataCr;
        return {i + n, state_ == State::kDone ? Event::kComplete : Event::kBody, piece};
      }
      default: break;
    }
    const uint8_t c = in[i++];
    switch (state_) {
      case State::kSize:
        if (hex(c) < 0) return refuse(Refusal::kChunk, i);
        left_ = uint64_t(hex(c));
        size_digits_ = 1;
        extension_bytes_ = 0;
        state_ = State::kSizeDigits;
        break;
      case State::kSizeDigits:
        if (const int h = hex(c); h >= 0) {
          if (++size_digits_ > 15) return refuse(Refusal::kChunk, i);
          left_ = left_ << 4 | uint64_t(h);
        } else if (c == '\r') {
          state_ = State::kSizeLf;
        } else if (c == ';') {
          state_ = State::kExtension;
        } else {
          return refuse(Refusal::kChunk, i);
        }
        break;
      // RFC 9112 7.1.1: *( ";" name [ "=" ( token / quoted-string ) ] ), ignored but bounded.
      // INTERPRETATION(deviate): no white space around ";" and "=" and no obs-text in quotes: both have hidden line ends from other
      // parsers.
      case State::kExtension:
      case State::kExtensionName:
      case State::kExtensionValue:
      case State::kExtensionToken:
      case State::kQuoted:
      case State::kQuotedPair:
      case State::kExtensionEnd:
        if (++extension_bytes_ > kChunkExtensionBytesMax || !extension(c)) return refuse(Refusal::kChunk, i);
        break;
      case State::kSizeLf:
        if (c != '\n') return refuse(Refusal::kChunk, i);
        state_ = left_ == 0 ? State::kTrailer : State::kData;
        break;
      case State::kDataCr:
        if (c != '\r') return refuse(Refusal::kChunk, i);
        state_ = State::kDataLf;
        break;
      case State::kDataLf:
        if (c != '\n') return refuse(Refusal::kChunk, i);
        state_ = State::kSize;
        break;
      // Trailers are checked as field lines and dropped.
      case State::kTrailer:
        if (c == '\r') {
          state_ = State::kEndLf;
          break;
        }
        if (++fields_ > count_max_) return refuse(Refusal::kTrailer, i);
        if (!kTokenChars[c]) return refuse(Refusal::kTrailer, i);
        head_bytes_++;
        state_ = State::kTrailerName;
        break;
      case State::kTrailerName:
        if (++head_bytes_ > bytes_max_) return refuse(Refusal::kTrailer, i);
        if (c == ':') state_ = State::kTrailerValue;
        else if (!kTokenChars[c]) return refuse(Refusal::kTrailer, i);
        break;
      case State::kTrailerValue:
        if (++head_bytes_ > bytes_max_) return refuse(Refusal::kTrailer, i);
        if (c == '\r') state_ = State::kTrailerLf;
        else if (!value_char(c)) return refuse(Refusal::kTrailer, i);
        break;
      case State::kTrailerLf:
        if (c != '\n') return refuse(Refusal::kTrailer, i);
        state_ = State::kTrailer;
        break;
      case State::kEndLf:
        if (c != '\n') return refuse(Refusal::kTrailer, i);
        state_ = State::kDone;
        break;
      default: return refuse(Refusal::kChunk, i);
    }
  }
  return {i, Event::kNeedMore, {}};
}

// ---- requests

Fed RequestParser::feed(Bytes in) {
  if (state_ == State::kRefused) return {0, Event::kRefused, {}};
  if (state_ != State::kHead) return body(in);
  size_t consumed = 0;
  // RFC 9112 2.2: at least one empty line before the request line is ignored; we take two.
  while (!line_seen_ && head_bytes_ == 0 && consumed < in.size() && blank_lines_ < 4 && (in[consumed] == '\r' || in[consumed] == '\n')) {
    if (in[consumed] != (blank_lines_ % 2 == 0 ? '\r' : '\n')) return refuse(Refusal::kLineEnd, consumed);
    blank_lines_++;
    consumed++;
  }
  if (blank_lines_ % 2 != 0 && consumed < in.size()) return refuse(Refusal::kLineEnd, consumed);
  while (consumed < in.size()) {
    MutBytes line;
    if (!take_line(in.subspan(consumed), consumed, line)) {
      if (state_ == State::kRefused) return {consumed, Event::kRefused, {}};
      return {consumed, Event::kNeedMore, {}};
    }
    if (!line_seen_) {
      line_seen_ = true;
      if (const Refusal r = request_line(as_text(line)); r != Refusal::kNone) return refuse(r, consumed);
    } else if (line.empty()) {
      if (const Refusal r = finish_head(); r != Refusal::kNone) return refuse(r, consumed);
      begin_body();
      return {consumed, Event::kHead, {}};
    } else if (!field_line(line, head_.fields)) {
      return {consumed, Event::kRefused, {}};
    }
    if (head_.fields.failed()) return refuse(Refusal::kNoMemory, consumed);
  }
  return {consumed, Event::kNeedMore, {}};
}

// RFC 9112 3: method SP request-target SP HTTP-version, single spaces, nothing else.
Refusal RequestParser::request_line(std::string_view line) {
  const size_t a = line.find(' '), b = line.rfind(' ');
  for (size_t i = 0; i < line.size(); i++) {
    const char c = line[i];
    if (uint8_t(c) >= 0x20 && c != 0x7f) continue;
    // Envoy's words: a control character behind the method has its own name, anything before it is no request line at all.
    return i > a && c != '\t' && c != '\r' ? Refusal::kInvalidCharacters : Refusal::kRequestLine;
  }
  if (a == line.npos || a == b) return Refusal::kRequestLine;
  const std::string_view method = line.substr(0, a), t = line.substr(a + 1, b - a - 1), version = line.substr(b + 1);
  if (!valid_method(method)) return Refusal::kRequestLine;
  if (t.empty() || std::ranges::any_of(t, [](char c) { return c == ' ' || uint8_t(c) >= 0x80; })) return Refusal::kRequestLine;
  if (version.size() != 8 || !version.starts_with("HTTP/") || version[6] != '.' || version[5] < '0' || version[5] > '9' ||
      version[7] < '0' || version[7] > '9')
    return Refusal::kRequestLine;
  if (version != "HTTP/1.1") return Refusal::kLowVersion;
  head_.method = method;
  head_.target = t;
  head_.scheme = tls_ ? "https" : "http";
  return target(t);
}

// RFC 9112 3.2: origin-form, absolute-form (its authority replaces Host), authority-form for CONNECT, "*" for OPTIONS.
Refusal RequestParser::target(std::string_view t) {
  if (head_.method == "CONNECT") {
    if (t.find('/') != t.npos || !valid_authority(t)) return Refusal::kRequestLine;
    head_.authority = t;
    head_.has_authority = true;
    return Refusal::kNone;
  }
  if (t.front() == '/' || (t == "*" && head_.method == "OPTIONS")) {
    head_.path = t;
    return Refusal::kNone;
  }
  size_t after = t.npos;
  for (std::string_view scheme : {"http://", "https://"})
    if (equals_ignore_case(t.substr(0, scheme.size()), scheme)) {
      after = scheme.size();
      head_.scheme = scheme.substr(0, scheme.size() - 3);
    }
  if (after == t.npos) return Refusal::kRequestLine;
  if (head_.scheme == "https" && !tls_) return Refusal::kHttpsOnPlain;
  const size_t end = std::min(t.find_first_of("/?#", after), t.size());
  if (end < t.size() && t[end] == '#') return Refusal::kRequestLine;
  head_.authority = t.substr(after, end - after);
  head_.has_authority = true;
  if (!valid_authority(head_.authority)) return Refusal::kRequestLine;
  if (const size_t at = head_.authority.find('@'); at != std::string_view::npos)
    head_.authority.remove_prefix(at + 1);  // userinfo is dropped
  if (head_.authority.empty() || head_.authority.find('@') != std::string_view::npos) return Refusal::kRequestLine;
  // INTERPRETATION(deviate): "http://host?query" has the path "/" by RFC 9110 4.2.3; Envoy takes "?query" and refuses it (404).
  head_.path = end == t.size() ? std::string_view("/") : t.substr(end);
  return Refusal::kNone;
}

Refusal RequestParser::finish_head() {
  unsigned hosts = 0;
  for (const Field& f : head_.fields.all()) {
    if (f.name != "host") continue;
    hosts++;
    if (!head_.has_authority) {
      head_.authority = f.value;
      head_.has_authority = true;
    }
  }
  if (hosts > 1) return Refusal::kHostTwice;
  if (!valid_authority(head_.authority)) return Refusal::kAuthority;
  head_.fields.remove("host");
  if (!frame(head_.fields, false)) return refusal_;
  // Envoy's list of what Connection may not have removed.
  bool forbidden = false;
  for (const Field& f : head_.fields.all())
    if (f.name == "connection")
      each_token(f.value, [&](std::string_view token) {
        for (std::string_view name : {"host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
          forbidden |= equals_ignore_case(token, name);
        forbidden |= token.front() == ':';
      });
  if (forbidden) return Refusal::kConnection;
  close_ = head_.fields.has_token("connection", "close");
  return Refusal::kNone;
}

// ---- responses

Fed ResponseParser::feed(Bytes in) {
  if (state_ == State::kRefused) return {0, Event::kRefused, {}};
  if (state_ != State::kHead) return body(in);
  size_t consumed = 0;
  while (consumed < in.size()) {
    MutBytes line;
    if (!take_line(in.subspan(consumed), consumed, line)) {
      if (state_ == State::kRefused) return {consumed, Event::kRefused, {}};
      return {consumed, Event::kNeedMore, {}};
    }
    if (!line_seen_) {
      line_seen_ = true;
      if (const Refusal r = status_line(as_text(line)); r != Refusal::kNone) return refuse(r, consumed);
    } else if (line.empty()) {
      if (const Refusal r = finish_head(); r != Refusal::kNone) return refuse(r, consumed);
      begin_body();
      return {consumed, Event::kHead, {}};
    } else if (!field_line(line, head_.fields)) {
      return {consumed, Event::kRefused, {}};
    }
    if (head_.fields.failed()) return refuse(Refusal::kNoMemory, consumed);
  }
  return {consumed, Event::kNeedMore, {}};
}

// RFC 9112 4: HTTP-version SP 3DIGIT SP [reason]. The reason is dropped; the space after the code may be missing with it.
Refusal ResponseParser::status_line(std::string_view line) {
  if (line.size() < 12 || !(line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 "))) return Refusal::kStatusLine;
  head_.http10 = line[7] == '0';
  for (size_t i = 9; i < 12; i++)
    if (line[i] < '0' || line[i] > '9') return Refusal::kStatusLine;
  if (line.size() > 12 && line[12] != ' ') return Refusal::kStatusLine;
  for (char c : line.substr(12))
    if (!value_char(uint8_t(c))) return Refusal::kStatusLine;
  head_.status = uint16_t((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
  return head_.status < 100 ? Refusal::kStatusLine : Refusal::kNone;
}

// RFC 9112 6.3: what kind of body follows.
Refusal ResponseParser::finish_head() {
  if (!frame(head_.fields, head_.http10)) return refusal_;
  const bool bodyless = head_.status < 200 || head_.status == 204;
  if (bodyless && (framing_ == Framing::kChunked || (framing_ == Framing::kLength && length_ > 0))) return Refusal::kBodyNotAllowed;
  if (head_.http10 && framing_ == Framing::kChunked) return Refusal::kCoding;
  const bool close = head_.fields.has_token("connection", "close");
  keep_alive_ = head_.http10 ? head_.fields.has_token("connection", "keep-alive") : !close;
  if (bodyless || to_head_ || head_.status == 304) {
    framing_ = Framing::kNone;
  } else if (framing_ == Framing::kNone) {
    framing_ = Framing::kUntilClose;
    keep_alive_ = false;
  }
  return Refusal::kNone;
}

}  // namespace sluice::http
