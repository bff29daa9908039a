// The head is read line by line as lines become whole, so a wrong first line is refused before the rest arrives. A line lies in one piece
// in the arena: the buffer starts at kFirstRoom and, when a line outgrows it, moves on to a buffer of twice the size (only the unfinished
// line is copied).
#include "dataplane/http/h1_parser.h"

#include <algorithm>
#include <array>

#include "dataplane/base/address.h"

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

// Envoy's list, its "MSEARCH" for M-SEARCH included.
constexpr std::string_view kMethods[] = {
    "GET",   "POST",   "HEAD",   "PUT",    "DELETE",     "OPTIONS",    "PATCH",  "CONNECT", "TRACE",  "ACL",        "BIND",     "CHECKOUT",
    "COPY",  "LINK",   "LOCK",   "MERGE",  "MKACTIVITY", "MKCALENDAR", "MKCOL",  "MSEARCH", "MOVE",   "NOTIFY",     "PROPFIND", "PROPPATCH",
    "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE",     "SUBSCRIBE",  "UNBIND", "UNLINK",  "UNLOCK", "UNSUBSCRIBE"};

// RFC 9110 5.5: VCHAR, obs-text, SP and HT; everything else is an attack or an accident.
constexpr bool value_char(uint8_t c) { return (c >= 0x20 && c != 0x7f) || c == '\t'; }

// What a byte that no trailer may have is refused for.
Refusal bad_trailer(uint8_t c) { return value_char(c) || c == '\n' || c == '\r' ? Refusal::kTrailer : Refusal::kInvalidCharacters; }

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

bool split_authority(std::string_view a, std::string_view& found) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  const auto all = [&](std::string_view s, std::string_view more) {
    return std::ranges::all_of(s, [&](char c) { return alnum(c) || more.find(c) != more.npos; });
  };
  if (const size_t at = a.find('@'); at != a.npos) {
    if (!all(a.substr(0, at), "-_.!~*'()%;:&=+$,")) return false;
    a.remove_prefix(at + 1);
  }
  found = a;
  size_t host = a.find(':');
  if (a.starts_with('[')) {
    const size_t end = a.find(']');
    if (end == a.npos || end < 2) return false;
    if (!IpAddress::parse(a.substr(1, end - 1))) return false;
    host = end + 1 == a.size() ? a.npos : end + 1;
    if (host != a.npos && a[host] != ':') return false;
  } else if (a.substr(0, host).empty() || !all(a.substr(0, host), ".-")) {
    return false;
  }
  if (host == a.npos) return true;
  uint32_t port = 0;
  for (const char c : a.substr(host + 1)) {
    if (c < '0' || c > '9') return false;
    port = port * 10 + uint32_t(c - '0');
    if (port > 65535) return false;
  }
  return host + 1 < a.size();
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
bool MessageParser::frame(FieldList& fields) {
  unsigned lengths = 0, codings = 0;
  bool chunked = false, digits = true;
  for (const Field& f : fields.all()) {
    if (f.name == "content-length") {
      lengths++;
      digits &= !f.value.empty();
      uint64_t n = 0;
      for (char c : f.value) {
        const uint64_t digit = uint64_t(c - '0');
        if (c < '0' || c > '9' || n > (~uint64_t{0} - digit) / 10) digits = false;
        n = n * 10 + digit;
      }
      length_ = n;
    } else if (f.name == "transfer-encoding") {
      codings++;
      chunked = equals_ignore_case(f.value, "chunked");
    }
  }
  if (lengths > 1) return refuse(Refusal::kContentLength), false;
  if (lengths > 0 && codings > 0) return refuse(Refusal::kLengthAndCoding), false;
  if (lengths > 0 && !digits) return refuse(Refusal::kContentLength), false;
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
      case State::kTrailer:
        if (trailers_ != nullptr) {
          MutBytes line;
          if (!take_line(in.subspan(i), i, line)) return {i, state_ == State::kRefused ? Event::kRefused : Event::kNeedMore, {}};
          if (line.empty()) state_ = State::kDone;
          else if (!field_line(line, *trailers_)) return {i, Event::kRefused, {}};
          if (trailers_->failed()) return refuse(Refusal::kNoMemory, i);
          continue;
        }
        break;
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
        if (left_ == 0) head_bytes_ = fields_ = 0;  // the trailers' own
        break;
      case State::kDataCr:
        if (c != '\r') return refuse(Refusal::kChunk, i);
        state_ = State::kDataLf;
        break;
      case State::kDataLf:
        if (c != '\n') return refuse(Refusal::kChunk, i);
        state_ = State::kSize;
        break;
      // Trailers are checked as field lines and dropped, or else kept (below).
      case State::kTrailer:
        if (c == '\r') {
          state_ = State::kEndLf;
          break;
        }
        if (!kTokenChars[c]) return refuse(bad_trailer(c), i);
        head_bytes_++;
        state_ = State::kTrailerName;
        break;
      case State::kTrailerName:
        if (++head_bytes_ > bytes_max_) return refuse(Refusal::kTooLarge, i);
        if (c == ':') state_ = State::kTrailerValue;
        else if (!kTokenChars[c]) return refuse(bad_trailer(c), i);
        break;
      case State::kTrailerValue:
        if (++head_bytes_ > bytes_max_) return refuse(Refusal::kTooLarge, i);
        if (c == '\r') state_ = State::kTrailerLf;
        else if (!value_char(c)) return refuse(bad_trailer(c), i);
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

namespace {

// The characters and the outline of a target (Envoy: BalsaParser's isUrlValid); whether it makes sense is target()'s.
bool target_form(std::string_view t, bool connect) {
  const auto visible = [](std::string_view s) { return std::ranges::all_of(s, [](char c) { return c > ' ' && c < 0x7f; }); };
  if (t.empty()) return false;
  if (t.front() == '/' || t.front() == '*') return visible(t);
  if (!connect) {
    const auto alpha = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
    const size_t end = t.find(':');
    if (end == t.npos || !alpha(t.front()) || !t.substr(end).starts_with("://")) return false;
    if (!std::ranges::all_of(t.substr(0, end),
                             [&](char c) { return alpha(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'; }))
      return false;
    t.remove_prefix(end + 3);
  }
  const std::string_view authority = t.substr(0, t.find_first_of("/?"));
  return valid_authority(authority) && authority.find("@@") == authority.npos && visible(t.substr(authority.size()));
}

}  // namespace

Fed RequestParser::feed(Bytes in) {
  if (state_ == State::kRefused) return {0, Event::kRefused, {}};
  if (state_ != State::kHead) return body(in);
  size_t consumed = 0;
  // RFC 9112 2.2: at least one empty line before the request line is ignored; we take any number, as Envoy does, but no bare CR or LF.
  while (head_bytes_ == 0 && consumed < in.size()) {
    const uint8_t c = in[consumed];
    const bool inside = blank_bytes_ % 2 != 0;
    if (!inside && c != '\r' && c != '\n') break;
    if (c != (inside ? '\n' : '\r')) return refuse(Refusal::kLineEnd, consumed);
    if (++blank_bytes_ > bytes_max_) return refuse(Refusal::kTooLarge, consumed);
    consumed++;
  }
  // What begins with no token is no request; that is said before a line end comes.
  if (head_bytes_ == 0 && consumed < in.size() && !kTokenChars[in[consumed]]) return refuse(Refusal::kRequestLine, consumed);
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

// RFC 9112 3: method SP request-target SP HTTP-version, single spaces, nothing else. A line without a version is HTTP/0.9's.
Refusal RequestParser::request_line(std::string_view line) {
  for (const char c : line)
    if ((uint8_t(c) < 0x20 && c != '\t' && c != '\r') || c == 0x7f) return Refusal::kInvalidCharacters;
  const size_t a = line.find(' ');
  if (a == line.npos) return Refusal::kRequestLine;
  const size_t b = std::min(line.find(' ', a + 1), line.size());
  const std::string_view method = line.substr(0, a), t = line.substr(a + 1, b - a - 1), version = line.substr(std::min(b + 1, line.size()));
  if (!valid_method(method) || !target_form(t, method == "CONNECT")) return Refusal::kRequestLine;
  if (!version.empty() && (version.size() != 8 || !version.starts_with("HTTP/") || version[6] != '.' || version[5] < '0' ||
                           version[5] > '9' || version[7] < '0' || version[7] > '9'))
    return Refusal::kRequestLine;
  low_version_ = version != "HTTP/1.1";
  head_.method = method;
  head_.target = t;
  head_.scheme = tls_ ? "https" : "http";
  return Refusal::kNone;
}

// RFC 9112 3.2: origin-form, absolute-form (its authority replaces Host, without its userinfo), authority-form for CONNECT, "*" for
// OPTIONS.
Refusal RequestParser::target() {
  std::string_view t = head_.target;
  const bool connect = head_.method == "CONNECT";
  if (!connect && (t.front() == '/' || (t.front() == '*' && head_.method == "OPTIONS"))) {
    head_.path = t;
    return Refusal::kNone;
  }
  std::string_view scheme;
  if (!connect) {
    scheme = t.substr(0, std::min(t.find("://"), t.size()));
    if (t.front() == '*') return Refusal::kUrl;
    t.remove_prefix(scheme.size() + 3);
  }
  const std::string_view authority = t.substr(0, t.find_first_of("/?"));
  if (!split_authority(authority, head_.authority)) return Refusal::kUrl;
  t.remove_prefix(authority.size());
  if (connect) {
    const bool port = head_.authority.find(':', head_.authority.find(']') + 1) != std::string_view::npos;
    if (!port || !t.empty() || head_.authority.size() != authority.size()) return Refusal::kUrl;
  } else {
    const bool https = equals_ignore_case(scheme, "https");
    if (!https && !equals_ignore_case(scheme, "http")) return Refusal::kScheme;
    if (https && !tls_) return Refusal::kHttpsOnPlain;
    head_.scheme = https ? "https" : "http";
    // INTERPRETATION(deviate): "http://host?query" has the path "/" by RFC 9110 4.2.3; Envoy takes "?query" and refuses it (404).
    head_.path = t.empty() ? std::string_view("/") : t;
  }
  head_.has_authority = true;
  return Refusal::kNone;
}

// What Connection may not ask for (Envoy: Utility::sanitizeConnectionHeader). It may have Host removed, which leaves no host (400).
Refusal RequestParser::connection() {
  constexpr unsigned kNamedMax = 10;
  constexpr size_t kTeBytesMax = 256;
  bool forbidden = false, te = false;
  unsigned named = 0;
  for (const Field& f : head_.fields.all())
    if (f.name == "connection")
      each_token(f.value, [&](std::string_view token) {
        for (std::string_view name : {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
          forbidden |= equals_ignore_case(token, name);
        forbidden |= token.front() == ':' || ++named >= kNamedMax;
        te |= equals_ignore_case(token, "te");
        if (equals_ignore_case(token, "host")) head_.has_authority = false;
      });
  if (te && head_.fields.joined("te").value_or("").size() >= kTeBytesMax) forbidden = true;
  return forbidden ? Refusal::kConnection : Refusal::kNone;
}

// In Envoy's order, so that of two faults the same one is named.
Refusal RequestParser::finish_head() {
  unsigned hosts = 0;
  for (const Field& f : head_.fields.all()) {
    if (f.name != "host") continue;
    hosts++;
    head_.authority = f.value;
    head_.has_authority = true;
  }
  if (hosts > 1) return Refusal::kHostTwice;
  head_.fields.remove("host");
  const bool connect = head_.method == "CONNECT";
  if (!frame(head_.fields)) {
    if (connect && refusal_ == Refusal::kLengthAndCoding && length_ == 0) return Refusal::kCoding;
    return refusal_;
  }
  if (connect) {
    if (framing_ == Framing::kChunked) return Refusal::kCoding;
    if (length_ > 0) return Refusal::kConnectBody;
    head_.fields.remove("content-length");
    framing_ = Framing::kNone;
  }
  if (!connect)
    if (const Refusal r = connection(); r != Refusal::kNone) return r;
  if (const Refusal r = target(); r != Refusal::kNone) return r;
  if (low_version_) return Refusal::kLowVersion;
  if (head_.has_authority && !valid_authority(head_.authority)) return Refusal::kAuthority;
  const bool proxy_connection = !head_.fields.has_token("connection", "proxy-connection");
  close_ = head_.fields.has_token("connection", "close") || (proxy_connection && head_.fields.has_token("proxy-connection", "close"));
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
  if (!frame(head_.fields)) return refusal_;
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
