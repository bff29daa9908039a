// Bytes of the lower stream are consumed as they are decrypted, so a record larger than a ReadView (16 spans) or than the TCP window still
// goes through; its plaintext waits in `pending`, held and charged, until the tag was right. After a KeyUpdate the very next byte is opened
// with the new key, since records are handled one by one.
#include <algorithm>

#include "tls-offload/session.h"

namespace sluice::tls {
namespace {

constexpr uint32_t kCopyBelow = 1024;  // smaller records share an mbuf: mbufs are charged at true size
constexpr uint8_t kKeyUpdate = 24, kClientHello = 1;

constexpr Failure unexpected(const char* text) { return {Alert::kUnexpectedMessage, Drop::kTlsUnexpected, text}; }

// Keeps the first `keep` bytes.
void truncate(Chain& chain, uint32_t keep) {
  if (keep == chain.bytes()) return;
  Chain kept;
  while (keep > 0) {
    rte_mbuf* m = chain.pop_front();
    m->data_len = uint16_t(std::min<uint32_t>(m->data_len, keep));
    keep -= m->data_len;
    kept.append(m);
  }
  chain = std::move(kept);
}

// RFC 8446 5.4: the type is the last byte that is not zero. Cuts it and the padding off; 0: there is none.
uint8_t strip_inner_type(Chain& chain) {
  const rte_mbuf* piece[kPlaintextMax / 1024 + 2];
  size_t n = 0;
  for (const rte_mbuf* m = chain.head(); m != nullptr && n < std::size(piece); m = m->next) piece[n++] = m;
  for (uint32_t left = chain.bytes(); n-- > 0;) {
    const Bytes b = bytes_of(piece[n]);
    for (size_t i = b.size(); i-- > 0; left--)
      if (b[i] != 0) {
        const uint8_t type = b[i];
        truncate(chain, left - 1);
        return type;
      }
  }
  return 0;
}

}  // namespace

void Layer::State::receive(Session& s) {
  s.read_blocked = false;
  while (s.phase == Phase::kOpen || s.phase == Phase::kLingering) {
    const ReadView view = lower.readable(s.lower);
    if (view.bytes == 0) break;
    if (s.peer_finished || s.phase == Phase::kLingering) {
      lower.consume(s.lower, view.bytes);  // after close_notify, or nobody reads any more
      continue;
    }
    const uint32_t taken = open_records(s, view);
    if (s.lower) lower.consume(s.lower, taken);
    if (taken == 0) break;
  }
  if (s.phase != Phase::kOpen) return;
  flush_control(s);
  if (s.phase == Phase::kOpen && !s.read_blocked && (s.lower_finished || s.lower_closed) && lower.readable(s.lower).bytes == 0)
    lower_ended(s);
}

// How many bytes of the view were taken: all, unless the session is full, out of mbufs, finished or failed.
uint32_t Layer::State::open_records(Session& s, const ReadView& view) {
  uint32_t taken = 0;
  for (unsigned i = 0; i < view.count; i++) {
    for (Bytes in = view.span[i]; !in.empty();) {
      if (s.plain.bytes() >= kPlaintextHeldMax && !s.rx.within_record()) {
        s.read_blocked = true;
        return taken;
      }
      MutBytes room;
      if (rte_mbuf* tail = s.pending.tail()) room = {rte_pktmbuf_mtod_offset(tail, uint8_t*, tail->data_len), rte_pktmbuf_tailroom(tail)};
      const Opener::Result r = s.rx.feed(in, room);
      if (r.written > 0) {
        s.pending.tail()->data_len = uint16_t(s.pending.tail()->data_len + r.written);
        s.pending.grew(r.written);
      }
      taken += r.taken;
      in = in.subspan(r.taken);
      if (r.status == Opener::Status::kNeedRoom) {
        rte_mbuf* m = pool.alloc_held();
        if (m == nullptr) {  // nothing is lost: the rest waits in the lower stream
          drops.add(Drop::kTlsNoMbuf);
          retry_soon(s);
          return taken;
        }
        s.pending.append(m);
      } else if (r.status == Opener::Status::kFailed) {
        fail(s, s.rx.failure(), true);
        return taken;
      } else if (r.status == Opener::Status::kRecord) {
        if (!deliver(s) || s.peer_finished) return taken;
      }
    }
  }
  return taken;
}

// A whole, verified record is in `pending`. False: the session failed.
bool Layer::State::deliver(Session& s) {
  counters.records_in.add();
  const auto type = ContentType(s.keys.tls13 ? strip_inner_type(s.pending) : s.rx.outer_type());
  if (s.pending.bytes() > kPlaintextMax) {
    fail(s, {Alert::kRecordOverflow, Drop::kTlsRecordOverflow, "data length too long"}, true);
    return false;
  }
  // RFC 8446 5.1: a handshake message that is split is not interleaved with other records.
  if (s.handshake_have > 0 && type != ContentType::kHandshake) {
    fail(s, unexpected("a record within a handshake message"), true);
    return false;
  }
  const uint32_t bytes = s.pending.bytes();
  switch (type) {
    case ContentType::kApplicationData: {
      if (bytes == 0) {
        s.pending.clear();
        return idle_record(s);
      }
      s.idle_records = 0;
      s.bytes_in += bytes;
      counters.bytes_in.add(bytes);
      rte_mbuf* tail = s.plain.tail();
      if (tail != nullptr && bytes < kCopyBelow && bytes <= rte_pktmbuf_tailroom(tail) && s.pending.segments() == 1) {
        std::memcpy(rte_pktmbuf_mtod_offset(tail, uint8_t*, tail->data_len), bytes_of(s.pending.head()).data(), bytes);
        tail->data_len = uint16_t(tail->data_len + bytes);
        s.plain.grew(bytes);
        s.pending.clear();
      } else {
        s.plain.append(std::move(s.pending));
      }
      event(s, kReadable);
      return true;
    }
    case ContentType::kAlert: {
      if (bytes != 2) {  // RFC 8446 5.1: exactly one alert in a record
        fail(s, {Alert::kDecodeError, Drop::kTlsUnexpected, "an alert of a wrong length"}, true);
        return false;
      }
      const Bytes first = bytes_of(s.pending.head());
      const uint8_t level = first[0], description = first.size() > 1 ? first[1] : bytes_of(s.pending.tail())[0];
      s.pending.clear();
      return on_alert(s, level, description);
    }
    case ContentType::kHandshake: {
      const bool ok = on_handshake_bytes(s);
      s.pending.clear();
      return ok;
    }
    default: fail(s, unexpected("a record of unknown type, or of padding only"), true); return false;
  }
}

bool Layer::State::idle_record(Session& s) {
  if (++s.idle_records <= kIdleRecordsMax) return true;
  fail(s, unexpected("too many records without data"), true);
  return false;
}

bool Layer::State::on_alert(Session& s, uint8_t level, uint8_t description) {
  counters.alerts_in.add();
  if (description == uint8_t(Alert::kCloseNotify)) {
    s.peer_finished = true;
    event(s, kReadable | kPeerFinished);
    return true;
  }
  // RFC 8446 6: the level is ignored, everything but close_notify and user_canceled is an error. RFC 5246 7.2: warnings may be passed over.
  if (description == uint8_t(Alert::kUserCanceled) || (!s.keys.tls13 && level == 1)) return idle_record(s);
  s.error = "TLS_error: the peer sent alert " + std::to_string(description);
  fail(s, {Alert::kCloseNotify, Drop::kTlsAlert, ""}, false);
  return false;
}

// RFC 8446 4.6.3. Nothing else may follow a handshake here: no tickets from a client, no renegotiation, no authentication after the
// handshake.
bool Layer::State::on_handshake_bytes(Session& s) {
  auto refuse = [&](Failure f) {
    fail(s, f, true);
    return false;
  };
  if (s.pending.bytes() == 0) return refuse(unexpected("an empty handshake record"));
  if (!s.keys.tls13) {
    if (bytes_of(s.pending.head())[0] == kClientHello)
      return refuse({Alert::kNoRenegotiation, Drop::kTlsUnexpected, "renegotiation is not offered"});
    return refuse(unexpected("a handshake message after the handshake"));
  }
  for (const rte_mbuf* m = s.pending.head(); m != nullptr; m = m->next)
    for (uint8_t b : bytes_of(m)) {
      // A whole message here means bytes behind it: RFC 8446 5.1: a key change is at a record boundary.
      if (s.handshake_have == sizeof s.handshake_message) return refuse(unexpected("data behind a KeyUpdate in its record"));
      constexpr uint8_t kHead[] = {kKeyUpdate, 0, 0, 1};
      if (s.handshake_have < sizeof kHead && b != kHead[s.handshake_have])
        return refuse(unexpected("a handshake message that is no KeyUpdate"));
      s.handshake_message[s.handshake_have++] = b;
    }
  if (s.handshake_have < sizeof s.handshake_message) return idle_record(s);
  s.handshake_have = 0;
  const uint8_t request = s.handshake_message[4];
  if (request > 1) return refuse({Alert::kIllegalParameter, Drop::kTlsUnexpected, "a KeyUpdate with an unknown request"});
  if (!next_secret(s.keys.suite, s.keys.hash, s.keys.rx) || !s.rx.install(true, s.keys.suite, s.keys.rx, AeadKey::best(s.keys.suite)))
    return refuse({Alert::kInternalError, Drop::kTlsUnexpected, "key update failed"});
  counters.key_updates_in.add();
  if (request == 1) s.update_owed = true;
  return idle_record(s);
}

}  // namespace sluice::tls
