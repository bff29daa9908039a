#include "dataplane/tcp/syn.h"

namespace sluice::tcp {

SynTable::SynTable(uint32_t entries_max, const SipKey& secret, Usec rto_initial, unsigned retries)
    : slab_(entries_max), table_(entries_max, secret, *this), initial_(rto_initial), retries_(retries) {
  SLUICE_ASSERT(retries <= kRetriesMax);
}

SynEntry* SynTable::find(const TupleKey& key) {
  const uint32_t i = table_.find(key);
  return i == kNoIndex ? nullptr : slab_.at(i);
}

SynEntry* SynTable::add(const SynEntry& e, Usec now) {
  const auto h = slab_.alloc(e);
  if (!h) return nullptr;
  SynEntry* added = slab_.get(h);
  table_.insert(h.index);
  push(added, now);
  return added;
}

void SynTable::remove(SynEntry* e) {
  unlink(e);
  table_.remove(index_of(e));
  slab_.free(slab_.handle_of(*e));
}

void SynTable::push(SynEntry* e, Usec now) {
  Fifo& f = fifo_[e->retransmits];
  const uint32_t i = index_of(e);
  e->sent = now;
  e->deadline = now + (initial_ << e->retransmits);
  e->prev = f.tail;
  e->next = kNoIndex;
  (f.tail == kNoIndex ? f.head : slab_.at(f.tail)->next) = i;
  f.tail = i;
}

void SynTable::unlink(SynEntry* e) {
  Fifo& f = fifo_[e->retransmits];
  (e->prev == kNoIndex ? f.head : slab_.at(e->prev)->next) = e->next;
  (e->next == kNoIndex ? f.tail : slab_.at(e->next)->prev) = e->prev;
}

Usec SynTable::next_deadline() const {
  Usec first = kNever;
  for (const Fifo& f : fifo_)
    if (f.head != kNoIndex) first = std::min(first, slab_.at(f.head)->deadline);
  return first;
}

}  // namespace sluice::tcp
