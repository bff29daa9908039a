// Half-open connections: an entry per SYN, no connection before the final ACK (RFC 4987 3.4). Entries lie in one FIFO per number of
// retransmissions sent, since all entries of a class wait for the same time (initial << class): the next deadline is the earliest head. One
// thread; all memory at construction.
#pragma once
#include <array>
#include <memory>

#include "dataplane/base/now.h"
#include "dataplane/base/slab.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/table.h"

namespace sluice::tcp {

struct SynEntry {
  TupleKey key;
  Seq irs, iss;
  uint32_t ts_recent = 0, ts_offset = 0;
  uint16_t peer_mss = kMssDefault;
  uint8_t peer_window_scale = 0;
  bool window_scale = false, timestamps = false;
  uint8_t retransmits = 0;
  uint32_t hash_next = kNoIndex, prev = kNoIndex, next = kNoIndex;
  Usec sent = 0, deadline = 0;
};

class SynTable {
 public:
  static constexpr unsigned kRetriesMax = 8;
  SynTable(uint32_t entries_max, const SipKey& secret, Usec rto_initial, unsigned retries);

  SynEntry* find(const TupleKey& key);
  // Takes a copy; nullptr when full. The tuple must not be here.
  SynEntry* add(const SynEntry& e, Usec now);
  void remove(SynEntry* e);
  // Calls resend(SynEntry&) for entries whose time has come and drops those that had all their retries; at most `max`; returns how many.
  template <class F>
  uint32_t expire(Usec now, uint32_t max, F&& resend) {
    uint32_t n = 0;
    for (unsigned c = 0; c <= retries_; c++)
      while (n < max && fifo_[c].head != kNoIndex && slab_.at(fifo_[c].head)->deadline <= now) {
        SynEntry* e = slab_.at(fifo_[c].head);
        n++;
        if (c == retries_) {
          remove(e);
        } else {
          unlink(e);
          e->retransmits++;
          push(e, now);
          resend(*e);
        }
      }
    return n;
  }
  Usec next_deadline() const;
  uint32_t size() const { return table_.size(); }

  // TupleTable's view.
  const TupleKey& key(uint32_t i) { return slab_.at(i)->key; }
  uint32_t& hash_next(uint32_t i) { return slab_.at(i)->hash_next; }

 private:
  struct Fifo {
    uint32_t head = kNoIndex, tail = kNoIndex;
  };
  uint32_t index_of(SynEntry* e) const { return slab_.handle_of(*e).index; }
  void push(SynEntry* e, Usec now);
  void unlink(SynEntry* e);
  mutable Slab<SynEntry> slab_;
  TupleTable<SynTable> table_;
  std::array<Fifo, kRetriesMax + 1> fifo_;
  Usec initial_;
  unsigned retries_;
};

}  // namespace sluice::tcp
