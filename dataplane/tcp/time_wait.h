// TIME_WAIT without a connection: 64 bytes that can answer a late segment (RFC 9293 3.6.1). A ring in order of expiry, since the time is
// the same for all: the oldest is at the head. A restart (a FIN that came again) or a reuse leaves a dead slot behind, which goes when its
// time comes. When the ring is full the oldest goes early, and is counted by the caller. One thread; all memory at construction.
#pragma once
#include <memory>

#include "dataplane/base/now.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/table.h"

namespace sluice::tcp {

struct alignas(64) TimeWaitEntry {
  TupleKey key;
  Seq snd_nxt, rcv_nxt;
  uint32_t ts_recent;  // the last timestamp of the peer
  uint32_t ts_offset;  // of our clock; 0: the connection had no timestamps
  uint32_t expires_ms;
  uint32_t hash_next;  // kDead: the slot is empty
  static constexpr uint32_t kDead = ~0u - 1;
};
static_assert(sizeof(TimeWaitEntry) == 64);

class TimeWait {
 public:
  TimeWait(uint32_t entries_max, const SipKey& secret, Usec duration);

  // Starts the full time. The tuple must not be here. True when the oldest entry went early for it.
  bool add(const TupleKey& key, Seq snd_nxt, Seq rcv_nxt, uint32_t ts_recent, uint32_t ts_offset, Usec now);
  TimeWaitEntry* find(const TupleKey& key);
  void remove(TimeWaitEntry* e);
  // The 2 MSL begin again (RFC 9293 3.10.7.8, FIN in TIME-WAIT). `e` is invalid after it.
  void restart(TimeWaitEntry* e, Usec now);
  // Drops at most `max` slots whose time has come; returns how many.
  uint32_t expire(Usec now, uint32_t max);
  Usec next_deadline() const;
  uint32_t size() const { return table_.size(); }

  // TupleTable's view.
  const TupleKey& key(uint32_t i) const { return ring_[i].key; }
  uint32_t& hash_next(uint32_t i) { return ring_[i].hash_next; }

 private:
  void pop();
  const uint32_t slots_;
  const uint32_t duration_ms_;
  std::unique_ptr<TimeWaitEntry[]> ring_;
  uint32_t head_ = 0, used_ = 0;
  Usec last_now_ = 0;
  TupleTable<TimeWait> table_;
};

}  // namespace sluice::tcp
