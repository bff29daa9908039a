// TLS 1.3 (RFC 8446 5.2): 17 03 03 length | AEAD(plaintext | type | zeros); nonce = iv XOR sequence; additional data = the header.
// TLS 1.2 (RFC 5246 6.2.3.3): type 03 03 length | [explicit nonce 8] | AEAD(plaintext); additional data = sequence | type | 03 03 |
// plaintext
//   length. AES-GCM (RFC 5288): nonce = salt 4 | explicit 8. ChaCha20-Poly1305 (RFC 7905): as TLS 1.3, nothing explicit.
#include "tls-offload/record.h"

#include <algorithm>

namespace sluice::tls {
namespace {

void put64(uint8_t* p, uint64_t v) {
  const Be<uint64_t> be(v);
  std::memcpy(p, &be, 8);
}

void make_nonce(uint8_t* nonce, const uint8_t* iv, uint64_t sequence) {
  std::memcpy(nonce, iv, kNonceBytes);
  uint8_t s[8];
  put64(s, sequence);
  for (int i = 0; i < 8; i++) nonce[4 + i] ^= s[i];
}

// The 13 bytes of TLS 1.2.
struct Aad12 {
  uint8_t b[13];
  Aad12(uint64_t sequence, uint8_t type, uint32_t length) {
    put64(b, sequence);
    b[8] = type, b[9] = 3, b[10] = 3, b[11] = uint8_t(length >> 8), b[12] = uint8_t(length);
  }
};

bool is_explicit(bool tls13, Suite s) { return !tls13 && s != Suite::kChaCha20Poly1305; }

}  // namespace

bool Sealer::install(bool tls13, Suite suite, const DirectionKeys& keys, AeadKey::Engine engine) {
  tls13_ = tls13;
  explicit_ = is_explicit(tls13, suite);
  header_bytes_ = kRecordHeaderBytes + (explicit_ ? kExplicitNonceBytes : 0);
  std::copy(keys.iv.begin(), keys.iv.end(), iv_);
  sequence_ = keys.sequence;
  explicit_nonce_ = keys.explicit_nonce;
  return key_.set(suite, Bytes(keys.key).first(key_bytes(suite)), engine);
}

bool Sealer::seal(ContentType type, uint8_t* record, uint32_t payload) {
  SLUICE_DCHECK(payload <= kPlaintextMax);
  uint8_t* const text = record + header_bytes_;
  const uint32_t length = header_bytes_ - kRecordHeaderBytes + payload + trailer_bytes();
  record[0] = uint8_t(tls13_ ? ContentType::kApplicationData : type);
  record[1] = 3, record[2] = 3, record[3] = uint8_t(length >> 8), record[4] = uint8_t(length);
  uint8_t nonce[kNonceBytes];
  bool ok;
  if (tls13_) {
    text[payload] = uint8_t(type);
    make_nonce(nonce, iv_, sequence_);
    ok = key_.seal(nonce, Bytes(record, kRecordHeaderBytes), MutBytes(text, payload + 1), text + payload + 1);
  } else {
    if (explicit_) {
      put64(record + kRecordHeaderBytes, explicit_nonce_++);
      std::memcpy(nonce, iv_, 4);
      std::memcpy(nonce + 4, record + kRecordHeaderBytes, 8);
    } else {
      make_nonce(nonce, iv_, sequence_);
    }
    ok = key_.seal(nonce, Aad12(sequence_, uint8_t(type), payload).b, MutBytes(text, payload), text + payload);
  }
  sequence_++;  // also of a failed seal: a nonce is never tried twice
  return ok;
}

bool Opener::install(bool tls13, Suite suite, const DirectionKeys& keys, AeadKey::Engine engine) {
  tls13_ = tls13;
  explicit_ = is_explicit(tls13, suite);
  std::copy(keys.iv.begin(), keys.iv.end(), iv_);
  sequence_ = keys.sequence;
  phase_ = Phase::kHeader;
  have_ = 0;
  return key_.set(suite, Bytes(keys.key).first(key_bytes(suite)), engine);
}

// The header is complete. Sets body_left_.
bool Opener::check_header() {
  const uint8_t type = header_[0];
  const uint32_t length = uint32_t(header_[3]) << 8 | header_[4];
  // RFC 8446 5: after the handshake every record is protected, so its outer type is application_data. A plaintext alert or
  // change_cipher_spec now is from somebody without the keys. RFC 5246: types 21 to 23 are protected as they are; a second 20 is an error.
  if (tls13_ ? type != uint8_t(ContentType::kApplicationData)
             : type < uint8_t(ContentType::kAlert) || type > uint8_t(ContentType::kApplicationData)) {
    failure_ = {Alert::kUnexpectedMessage, Drop::kTlsUnexpected, "unexpected record type"};
    return false;
  }
  // INTERPRETATION(deviate): RFC 8446 5.1 wants the version ignored; like libssl we refuse what is not 0303 (nobody sends it).
  if (header_[1] != 3 || header_[2] != 3) {
    failure_ = {Alert::kProtocolVersion, Drop::kTlsUnexpected, "wrong version number"};
    return false;
  }
  const uint32_t most = tls13_ ? kPlaintextMax + 256 : kPlaintextMax + 2048;  // RFC 8446 5.2, RFC 5246 6.2.3
  const uint32_t overhead = kTagBytes + (explicit_ ? kExplicitNonceBytes : 0);
  if (length > most) {
    failure_ = {Alert::kRecordOverflow, Drop::kTlsRecordOverflow, "encrypted length too long"};
    return false;
  }
  if (length < overhead) {
    failure_ = {Alert::kBadRecordMac, Drop::kTlsBadRecord, "record too short for its tag"};
    return false;
  }
  body_left_ = length - overhead;
  if (body_left_ > kPlaintextMax + (tls13_ ? 256u - kTagBytes : 0u)) {
    failure_ = {Alert::kRecordOverflow, Drop::kTlsRecordOverflow, "data length too long"};
    return false;
  }
  return true;
}

bool Opener::begin_body() {
  uint8_t nonce[kNonceBytes];
  if (explicit_) {
    std::memcpy(nonce, iv_, 4);
    std::memcpy(nonce + 4, explicit_nonce_, 8);
  } else {
    make_nonce(nonce, iv_, sequence_);
  }
  phase_ = Phase::kBody;
  if (tls13_) return key_.open_begin(nonce, header_);
  return key_.open_begin(nonce, Aad12(sequence_, header_[0], body_left_).b);
}

Opener::Result Opener::feed(Bytes in, MutBytes out) {
  Result r{Status::kNeedInput};
  constexpr Failure kInternal{Alert::kInternalError, Drop::kTlsBadRecord, "cipher failed"};
  // Gathers up to `want` bytes of a small field; true when it is whole.
  auto gather = [&](uint8_t* to, uint32_t want) {
    const uint32_t n = std::min<uint32_t>(want - have_, uint32_t(in.size()) - r.taken);
    std::memcpy(to + have_, in.data() + r.taken, n);
    have_ = uint8_t(have_ + n);
    r.taken += n;
    if (have_ < want) return false;
    have_ = 0;
    return true;
  };
  for (;;) {
    switch (phase_) {
      case Phase::kHeader:
        if (in.size() == r.taken || !gather(header_, kRecordHeaderBytes)) return r;
        if (!check_header()) return fail(failure_, r);
        if (explicit_) phase_ = Phase::kExplicitNonce;
        else if (!begin_body()) return fail(kInternal, r);
        break;
      case Phase::kExplicitNonce:
        if (in.size() == r.taken || !gather(explicit_nonce_, kExplicitNonceBytes)) return r;
        if (!begin_body()) return fail(kInternal, r);
        break;
      case Phase::kBody: {
        if (body_left_ == 0) {
          phase_ = Phase::kTag;
          break;
        }
        const uint32_t have = uint32_t(in.size()) - r.taken;
        if (have == 0) return r;
        const uint32_t room = uint32_t(out.size()) - r.written, n = std::min({have, room, body_left_});
        if (n == 0) {
          r.status = Status::kNeedRoom;
          return r;
        }
        if (!key_.open_update(in.subspan(r.taken, n), out.data() + r.written)) return fail(kInternal, r);
        r.taken += n, r.written += n, body_left_ -= n;
        break;
      }
      case Phase::kTag:
        if (in.size() == r.taken || !gather(tag_, kTagBytes)) return r;
        if (!key_.open_end(tag_)) return fail({Alert::kBadRecordMac, Drop::kTlsBadRecord, "decryption failed or bad record mac"}, r);
        phase_ = Phase::kHeader;
        sequence_++;
        r.status = Status::kRecord;
        return r;
      case Phase::kDead: r.status = Status::kFailed; return r;
    }
  }
}

}  // namespace sluice::tls
