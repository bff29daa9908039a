// One record per mbuf, so that a record is a TCP segment: the peer can open it as soon as it arrives, nothing is gathered, and the payload
// is encrypted where it lies. (Measured: 8 % more than 16 KiB records for AES-GCM.) budget() keeps room back for the overhead of full mbufs
// and for control records; a chain of many small mbufs that would need more is repacked first.
#include <algorithm>

#include "tls-offload/session.h"

namespace sluice::tls {
namespace {

constexpr uint32_t kControlRoom = 3 * (kRecordOverheadMax + 5);  // alert, KeyUpdate, close_notify: always fit behind what budget() allowed

}  // namespace

uint32_t Layer::State::segment_bytes(const Session& s) const {
  const uint32_t overhead = s.phase == Phase::kOpen ? s.tx.overhead() : kRecordOverheadMax;
  const uint32_t most = std::min(lower.segment_bytes(s.lower), MbufPool::data_room());
  const uint32_t payload = most > 2 * overhead ? most - overhead : overhead;
  return std::min(payload, s.keys.fragment_max);
}

uint32_t Layer::State::budget(const Session& s) const {
  if (s.phase != Phase::kOpen || s.finish_wanted) return 0;
  const uint32_t below = lower.budget(s.lower);
  if (below <= kControlRoom) return 0;
  const uint32_t room = below - kControlRoom, payload = segment_bytes(s), record = payload + s.tx.overhead();
  const uint32_t rest = room % record;
  return room / record * payload + (rest > s.tx.overhead() ? rest - s.tx.overhead() : 0);
}

bool Layer::State::may_seal_in_place(const Session& s, const rte_mbuf* m) const {
  return m->data_len <= s.keys.fragment_max && rte_mbuf_refcnt_read(m) == 1 && RTE_MBUF_DIRECT(m) &&
         rte_pktmbuf_headroom(m) >= s.tx.header_bytes() && rte_pktmbuf_tailroom(m) >= s.tx.trailer_bytes();
}

// REQUIRES: may_seal_in_place. False: the cipher failed; the session is lost, since a sequence number is used up.
bool Layer::State::seal(Session& s, ContentType type, rte_mbuf* m) {
  const uint32_t payload = m->data_len;
  m->data_off = uint16_t(m->data_off - s.tx.header_bytes());
  m->data_len = uint16_t(payload + s.tx.overhead());
  counters.records_out.add();
  return s.tx.seal(type, rte_pktmbuf_mtod(m, uint8_t*), payload);
}

void Layer::State::send(Session& s, Chain chain) {
  if (s.phase != Phase::kOpen || s.finish_wanted || chain.empty()) return;
  flush_control(s);
  // Between chains only, so that what a chain needs can be reckoned; a chain is short against the distance of the two limits.
  if (s.phase == Phase::kOpen && s.keys.tls13 && s.tx.sequence() >= config.rekey_records) update_keys(s);  // no mbuf: the next send tries
  if (s.phase != Phase::kOpen) return;
  if (s.tx.sequence() >= kKeyRecordsMax - kPlaintextMax)
    return fail(s, {Alert::kInternalError, Drop::kTlsKeyLimit, "the key's record limit is reached"}, false);
  const uint32_t payload = segment_bytes(s), bytes = chain.bytes();
  constexpr Failure kNoMemory{Alert::kInternalError, Drop::kTlsNoMbuf, "no buffers to seal into"};
  constexpr Failure kCipher{Alert::kInternalError, Drop::kTlsNoMbuf, "cipher failed"};
  uint32_t records = 0;
  for (const rte_mbuf* m = chain.head(); m != nullptr; m = m->next) records += std::max(1u, (m->data_len + payload - 1) / payload);
  if (bytes + records * s.tx.overhead() > lower.budget(s.lower)) {
    Chain packed;
    while (rte_mbuf* m = chain.pop_front()) {
      const bool ok = pool.append_copy(packed, bytes_of(m), payload);
      free_mbuf(m);
      if (!ok) return fail(s, kNoMemory, true);
    }
    chain = std::move(packed);
  }
  Chain sealed;
  while (rte_mbuf* m = chain.pop_front()) {
    if (m->data_len == 0) {
      free_mbuf(m);
      continue;
    }
    if (may_seal_in_place(s, m)) {
      counters.sealed_in_place.add();
      const bool ok = seal(s, ContentType::kApplicationData, m);
      sealed.append(m);
      if (!ok) return fail(s, kCipher, false);
      continue;
    }
    Chain copy;
    const bool ok = pool.append_copy(copy, bytes_of(m), payload);
    free_mbuf(m);
    if (!ok) return fail(s, kNoMemory, true);
    while (rte_mbuf* c = copy.pop_front()) {
      const bool sealed_ok = seal(s, ContentType::kApplicationData, c);
      sealed.append(c);
      if (!sealed_ok) return fail(s, kCipher, false);
      counters.sealed_copied.add();
    }
  }
  s.bytes_out += bytes;
  counters.bytes_out.add(bytes);
  if (sealed.bytes() > lower.budget(s.lower)) {  // the owner sent more than budget()
    sealed.clear();
    return fail(s, {Alert::kInternalError, Drop::kTlsNoMbuf, "more was sent than the stream takes"}, true);
  }
  lower.send(s.lower, std::move(sealed));
}

// A control record, in an mbuf of its own. False: no room or no mbuf; nothing was sealed.
bool Layer::State::send_record(Session& s, ContentType type, Bytes bytes) {
  if (lower.budget(s.lower) < bytes.size() + s.tx.overhead()) return false;
  rte_mbuf* m = pool.alloc_held();
  if (m == nullptr) return false;
  std::memcpy(rte_pktmbuf_mtod(m, uint8_t*), bytes.data(), bytes.size());
  m->data_len = uint16_t(bytes.size());
  if (!seal(s, type, m)) {
    free_mbuf(m);
    return false;
  }
  lower.send(s.lower, Chain(m));
  return true;
}

// RFC 8446 4.6.3: KeyUpdate(update_not_requested) under the old key, everything after it under the next.
bool Layer::State::update_keys(Session& s) {
  constexpr uint8_t kMessage[] = {24, 0, 0, 1, 0};
  if (!send_record(s, ContentType::kHandshake, kMessage)) return false;
  s.update_owed = false;
  counters.key_updates_out.add();
  if (next_secret(s.keys.suite, s.keys.hash, s.keys.tx) && s.tx.install(true, s.keys.suite, s.keys.tx, AeadKey::best(s.keys.suite)))
    return true;
  fail(s, {Alert::kInternalError, Drop::kTlsUnexpected, "key update failed"}, false);
  return false;
}

bool Layer::State::flush_control(Session& s) {
  if (s.finish_sent) return true;
  constexpr uint8_t kCloseNotify[] = {1, 0};
  const bool updated = !s.update_owed || update_keys(s);
  if (s.phase == Phase::kClosed) return true;
  if (!updated || (s.finish_wanted && !send_record(s, ContentType::kAlert, kCloseNotify))) {
    if (lower.budget(s.lower) > kControlRoom) retry_soon(s);  // it was an mbuf that lacked; else kWritable comes
    return false;
  }
  if (!s.finish_wanted) return true;
  counters.alerts_out.add();
  s.finish_sent = true;
  lower.finish(s.lower);
  return true;
}

}  // namespace sluice::tls
