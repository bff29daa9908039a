// A strict, incremental HTTP/1.1 parser (RFC 9110, 9112), requests and responses. Bytes come in arbitrary pieces; each feed() goes to the
// next event. What is ambiguous is refused, never repaired: bare CR or LF, obs-fold, white space around names, CL with TE, lists of
// lengths, unknown codings. Where Envoy is laxer the line stands in docs/limits.md.
//
// Head bytes are copied once into the arena and the head points there. Body bytes are spans of the input. Chunk framing, extensions and
// (unless keep_trailers) trailers are checked and dropped. One parser reads one message; a new one is made for the next.
//
//   Fed{consumed, event, body}   consumed bytes of the input are done with, `body` among them. Events:
//     kNeedMore   all input consumed, the message goes on            kHead      the head is whole (complete() tells whether a body follows)
//     kBody       body bytes; complete() may turn true with them     kComplete  the end of the message, possibly with last body bytes
//     kRefused    refusal() says why; the connection can carry nothing more
#pragma once
#include <cstdint>

#include "dataplane/base/bytes.h"
#include "dataplane/base/limits.h"
#include "dataplane/http/message.h"

namespace sluice::http {

// Why a message was refused: Envoy's status, body text and %RESPONSE_CODE_DETAILS%. A row needs a test (http_test.cc).
#define SLUICE_HTTP_REFUSALS(X)                                                                                        \
  X(kNone, 0, "")                                                                                                      \
  X(kRequestLine, 400, "http1.codec_error") /* method, spaces, target form, version syntax */                          \
  X(kLowVersion, 426, "low_version")                                                                                   \
  X(kUrl, 400, "http1.invalid_url") /* absolute or authority form: no valid host and port */                           \
  X(kScheme, 400, "http1.invalid_scheme")                                                                              \
  X(kHttpsOnPlain, 403, "http1.https_url_on_plaintext_connection")                                                     \
  X(kInvalidCharacters, 400, "http1.invalid_characters") /* NUL, control bytes, DEL */                                 \
  X(kFieldLine, 400, "http1.codec_error")                /* no colon, bad name, space before colon, obs-fold */        \
  X(kLineEnd, 400, "http1.codec_error")                  /* bare CR or LF */                                           \
  X(kTooLarge, 431, "http1.headers_too_large")                                                                         \
  X(kTooMany, 431, "http1.too_many_headers")                                                                           \
  X(kHostTwice, 400, "http1.multiple_host_headers")                                                                    \
  X(kAuthority, 400, "http.invalid_authority")                                                                         \
  X(kConnection, 400, "http1.connection_header_rejected") /* names a field that says who the client is, or too many */ \
  X(kConnectBody, 400, "http1.body_disallowed")           /* a length on CONNECT */                                    \
  X(kContentLength, 400, "http1.codec_error")                                                                          \
  X(kLengthAndCoding, 400, "http1.content_length_and_chunked_not_allowed")                                             \
  X(kCoding, 501, "http1.invalid_transfer_encoding")                                                                   \
  X(kChunk, 400, "http1.codec_error")                                                                                  \
  X(kTrailer, 400, "http1.codec_error")                                                                                \
  X(kStatusLine, 502, "protocol_error")                                                                                \
  X(kBodyNotAllowed, 502, "protocol_error") /* a length on 204, a body on 1xx */                                       \
  X(kNoMemory, 503, "overload")

enum class Refusal : uint8_t {
#define X(id, status, details) id,
  SLUICE_HTTP_REFUSALS(X)
#undef X
};
uint16_t status_of(Refusal r);
std::string_view details_of(Refusal r);

enum class Event : uint8_t { kNeedMore, kHead, kBody, kComplete, kRefused };
struct Fed {
  size_t consumed = 0;
  Event event = Event::kNeedMore;
  Bytes body;
};
enum class Framing : uint8_t { kNone, kLength, kChunked, kUntilClose };

// Lines, fields and bodies, common to both directions.
class MessageParser {
 public:
  Refusal refusal() const { return refusal_; }
  bool head_done() const { return state_ > State::kHead; }
  bool complete() const { return state_ == State::kDone; }
  bool started() const { return head_bytes_ > 0 || blank_bytes_ > 0; }  // any byte was seen
  Framing framing() const { return framing_; }
  uint64_t content_length() const { return length_; }
  // Trailers go to `to` (whose arena is the head's), with the head's bounds, instead of being dropped. Before the body.
  void keep_trailers(FieldList& to) { trailers_ = &to; }

 protected:
  enum class State : uint8_t {
    kHead,
    kLength,
    kUntilClose,
    kSize,
    kSizeDigits,
    kExtension,
    kExtensionName,
    kExtensionValue,
    kExtensionToken,
    kQuoted,
    kQuotedPair,
    kExtensionEnd,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailer,
    kTrailerName,
    kTrailerValue,
    kTrailerLf,
    kEndLf,
    kDone,
    kRefused
  };
  MessageParser(Arena& arena, uint32_t bytes_max, uint32_t count_max) : arena_(arena), bytes_max_(bytes_max), count_max_(count_max) {}
  ~MessageParser() = default;
  // Takes bytes up to the end of the next line into the head's buffer. True when a line is whole; `line` then excludes CRLF.
  bool take_line(Bytes in, size_t& consumed, MutBytes& line);
  bool field_line(MutBytes line, FieldList& fields);
  bool frame(FieldList& fields);  // reads content-length and transfer-encoding into framing_ and length_
  Fed body(Bytes in);
  bool extension(uint8_t c);  // the next byte of a chunk extension; false: it is malformed
  Fed refuse(Refusal r, size_t consumed = 0) {
    refusal_ = r;
    state_ = State::kRefused;
    return {consumed, Event::kRefused, {}};
  }
  void begin_body() {
    switch (framing_) {
      case Framing::kNone: state_ = State::kDone; break;
      case Framing::kLength: state_ = length_ == 0 ? State::kDone : State::kLength; break;
      case Framing::kChunked: state_ = State::kSize; break;
      case Framing::kUntilClose: state_ = State::kUntilClose; break;
    }
    left_ = length_;
  }

  Arena& arena_;
  const uint32_t bytes_max_, count_max_;
  State state_ = State::kHead;
  Refusal refusal_ = Refusal::kNone;
  Framing framing_ = Framing::kNone;
  uint64_t length_ = 0, left_ = 0;
  // the head's buffer, in the arena; lines are handed out in place, so it is a list of pieces only when a line crossed its end
  uint8_t* buffer_ = nullptr;
  size_t used_ = 0, room_ = 0, line_at_ = 0;
  uint32_t head_bytes_ = 0, fields_ = 0, extension_bytes_ = 0, size_digits_ = 0;
  FieldList* trailers_ = nullptr;
  uint32_t blank_bytes_ = 0;  // CRLFs before the request line
};

class RequestParser : public MessageParser {
 public:
  // tls: whether the connection is (an https target on a plain one is refused). The head is written into `head`, whose arena is used.
  RequestParser(RequestHead& head, bool tls, uint32_t bytes_max = kHeaderBytesMax, uint32_t count_max = kHeaderCountMax)
      : MessageParser(head.fields.arena(), bytes_max, count_max), head_(head), tls_(tls) {}
  Fed feed(Bytes in);
  bool wants_close() const { return close_; }  // Connection: close

 private:
  Refusal request_line(std::string_view line);
  Refusal target();
  Refusal connection();
  Refusal finish_head();
  RequestHead& head_;
  const bool tls_;
  bool line_seen_ = false, low_version_ = false, close_ = false;
};

class ResponseParser : public MessageParser {
 public:
  static constexpr uint32_t kResponseHeadMax = 80 * 1024;
  ResponseParser(ResponseHead& head, bool answer_to_head)
      : MessageParser(head.fields.arena(), kResponseHeadMax, kHeaderCountMax), head_(head), to_head_(answer_to_head) {}
  Fed feed(Bytes in);
  // The peer ended the stream: true when that completes the message (a body until close).
  bool end_of_stream() {
    if (state_ != State::kUntilClose) return complete();
    state_ = State::kDone;
    return true;
  }
  bool keep_alive() const { return keep_alive_; }  // the connection may carry another exchange after this one

 private:
  Refusal status_line(std::string_view line);
  Refusal finish_head();
  ResponseHead& head_;
  const bool to_head_;
  bool line_seen_ = false, keep_alive_ = false;
};

bool valid_method(std::string_view m);     // Envoy's fixed list, case-sensitive
bool valid_authority(std::string_view a);  // characters of RFC 3986 authority
// [userinfo "@"] host [":" port] as Envoy's URL parser has it: userinfo once; letters, digits, "." and "-" for a host, or an address in
// brackets; a port of digits, at most 65535. `found` is host and port without the userinfo.
bool split_authority(std::string_view a, std::string_view& found);
bool is_token(std::string_view s);  // RFC 9110 5.6.2

}  // namespace sluice::http
