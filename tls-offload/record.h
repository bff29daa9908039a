// The record layer (RFC 8446 5, RFC 5246 6.2) over AeadKey, one direction each; no mbufs, no streams, no clock.
//
// Sealer  seals one record in place: its bytes lie between header_bytes() and trailer_bytes() of room. Never called with more than
//         kPlaintextMax bytes; the sequence number advances by one each time.
// Opener  takes bytes as they come, in pieces of any size, and writes plaintext where the caller says. The plaintext of a record may be
// shown
//         only after feed() answered kRecord for it; after kFailed the opener is dead. In TLS 1.3 what feed() wrote ends with the true type
//         and zero padding: the caller strips it (inner_type).
// Internal to tls-offload; one thread.
#pragma once
#include <cstdint>

#include "dataplane/base/check.h"
#include "dataplane/base/drop.h"
#include "tls-offload/aead.h"

namespace sluice::tls {

constexpr uint32_t kPlaintextMax = 16384, kRecordHeaderBytes = 5, kExplicitNonceBytes = 8;
constexpr uint32_t kRecordOverheadMax = kRecordHeaderBytes + kExplicitNonceBytes + kTagBytes;  // 1.2 AES-GCM; 1.3 has 22

enum class ContentType : uint8_t { kChangeCipherSpec = 20, kAlert = 21, kHandshake = 22, kApplicationData = 23 };

// RFC 8446 6. Only those that we send or name.
enum class Alert : uint8_t {
  kCloseNotify = 0,
  kUnexpectedMessage = 10,
  kBadRecordMac = 20,
  kRecordOverflow = 22,
  kIllegalParameter = 47,
  kDecodeError = 50,
  kProtocolVersion = 70,
  kInternalError = 80,
  kUserCanceled = 90,
  kNoRenegotiation = 100,
};

struct Failure {
  Alert alert;
  Drop reason;
  const char* text;
};

class Sealer {
 public:
  [[nodiscard]] bool install(bool tls13, Suite suite, const DirectionKeys& keys, AeadKey::Engine engine);
  uint32_t header_bytes() const { return header_bytes_; }
  uint32_t trailer_bytes() const { return tls13_ ? 1 + kTagBytes : kTagBytes; }
  uint32_t overhead() const { return header_bytes() + trailer_bytes(); }
  uint64_t sequence() const { return sequence_; }
  // `record`: header_bytes() of room, `payload` bytes, trailer_bytes() of room.
  [[nodiscard]] bool seal(ContentType type, uint8_t* record, uint32_t payload);

 private:
  AeadKey key_;
  uint8_t iv_[kNonceBytes] = {};
  uint64_t sequence_ = 0, explicit_nonce_ = 0;
  uint32_t header_bytes_ = kRecordHeaderBytes;
  bool tls13_ = true, explicit_ = false;
};

class Opener {
 public:
  enum class Status : uint8_t {
    kNeedInput,  // all of `in` was taken; the record goes on
    kNeedRoom,   // `out` is full; more plaintext follows
    kRecord,     // a record is complete and its tag is right; the rest of `in` was not looked at
    kFailed,     // see failure()
  };
  struct Result {
    Status status;
    uint32_t taken = 0, written = 0;
  };
  [[nodiscard]] bool install(bool tls13, Suite suite, const DirectionKeys& keys, AeadKey::Engine engine);
  // `out` may be empty until kNeedRoom is answered.
  Result feed(Bytes in, MutBytes out);

  bool within_record() const { return phase_ != Phase::kHeader || have_ > 0; }
  uint8_t outer_type() const { return header_[0]; }  // of the record in hand, or the last
  uint32_t plaintext_left() const { return body_left_; }
  const Failure& failure() const { return failure_; }
  uint64_t sequence() const { return sequence_; }

 private:
  enum class Phase : uint8_t { kHeader, kExplicitNonce, kBody, kTag, kDead };
  bool check_header();
  bool begin_body();
  Result fail(Failure f, Result r) {
    failure_ = f;
    phase_ = Phase::kDead;
    r.status = Status::kFailed;
    return r;
  }

  AeadKey key_;
  uint8_t iv_[kNonceBytes] = {};
  uint64_t sequence_ = 0;
  uint32_t body_left_ = 0;
  Phase phase_ = Phase::kHeader;
  uint8_t have_ = 0;  // bytes gathered of header, explicit nonce or tag
  bool tls13_ = true, explicit_ = false;
  uint8_t header_[kRecordHeaderBytes] = {}, explicit_nonce_[kExplicitNonceBytes] = {}, tag_[kTagBytes] = {};
  Failure failure_{};
};

}  // namespace sluice::tls
