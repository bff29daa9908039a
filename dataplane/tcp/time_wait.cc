// Milliseconds in 32 bits suffice: a difference is meaningful for 24 days, an entry lives for minutes.
#include "dataplane/tcp/time_wait.h"

namespace sluice::tcp {

TimeWait::TimeWait(uint32_t entries_max, const SipKey& secret, Usec duration)
    : slots_(entries_max),
      duration_ms_(uint32_t(duration / kMs)),
      ring_(new TimeWaitEntry[entries_max]),
      table_(entries_max, secret, *this) {}

void TimeWait::pop() {
  if (ring_[head_].hash_next != TimeWaitEntry::kDead) table_.remove(head_);
  if (++head_ == slots_) head_ = 0;
  used_--;
}

bool TimeWait::add(const TupleKey& key, Seq snd_nxt, Seq rcv_nxt, uint32_t ts_recent, uint32_t ts_offset, Usec now) {
  last_now_ = now;
  bool evicted = false;
  if (used_ == slots_) {
    evicted = ring_[head_].hash_next != TimeWaitEntry::kDead;
    pop();
  }
  uint32_t i = head_ + used_++;
  if (i >= slots_) i -= slots_;
  ring_[i] = {key, snd_nxt, rcv_nxt, ts_recent, ts_offset, uint32_t(now / kMs) + duration_ms_ + 1, kNoIndex};
  table_.insert(i);
  return evicted;
}

TimeWaitEntry* TimeWait::find(const TupleKey& key) {
  const uint32_t i = table_.find(key);
  return i == kNoIndex ? nullptr : &ring_[i];
}

void TimeWait::remove(TimeWaitEntry* e) {
  table_.remove(uint32_t(e - ring_.get()));
  e->hash_next = TimeWaitEntry::kDead;
}

void TimeWait::restart(TimeWaitEntry* e, Usec now) {
  const TimeWaitEntry copy = *e;
  remove(e);
  add(copy.key, copy.snd_nxt, copy.rcv_nxt, copy.ts_recent, copy.ts_offset, now);
}

uint32_t TimeWait::expire(Usec now, uint32_t max) {
  last_now_ = now;
  uint32_t n = 0;
  while (n < max && used_ > 0 && int32_t(uint32_t(now / kMs) - ring_[head_].expires_ms) >= 0) {
    pop();
    n++;
  }
  return n;
}

Usec TimeWait::next_deadline() const {
  if (used_ == 0) return kNever;
  const int32_t ms = int32_t(ring_[head_].expires_ms - uint32_t(last_now_ / kMs));
  return (last_now_ / kMs + (ms > 0 ? uint32_t(ms) : 0)) * kMs;
}

}  // namespace sluice::tcp
