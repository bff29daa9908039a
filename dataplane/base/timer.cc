// A hierarchical wheel (Varghese and Lauck 1987). Level L's slot spans 256^L ticks; when the low level wraps, the next level's slot is
// spread over the levels below. Bits of the tick choose the slot, so no node ever needs a division.
#include "dataplane/base/timer.h"

namespace sluice {
namespace {

void unlink(TimerLink& n) {
  n.prev->next = n.next;
  n.next->prev = n.prev;
  n.prev = n.next = &n;
}
void push_back(TimerLink& list, TimerLink& n) {
  n.prev = list.prev;
  n.next = &list;
  list.prev->next = &n;
  list.prev = &n;
}

}  // namespace

TimerWheel::~TimerWheel() {
  auto drop = [](TimerLink& list) {
    while (list.next != &list) unlink(*list.next);
  };
  drop(due_);
  for (auto& level : slot_)
    for (auto& slot : level) drop(slot);
}

void TimerWheel::link(TimerNode& node) {
  uint64_t tick = (node.deadline + kTick - 1) / kTick;  // round up: never early
  if (tick < tick_) {
    push_back(due_, node);
    return;
  }
  constexpr uint64_t kSpan = uint64_t{1} << (kLevels * kSlotBits);
  if (tick - tick_ >= kSpan) tick = tick_ + kSpan - 1;  // far: re-linked when its slot cascades
  unsigned level = 0;
  while (level + 1 < kLevels && (tick >> ((level + 1) * kSlotBits)) != (tick_ >> ((level + 1) * kSlotBits))) level++;
  push_back(slot_[level][(tick >> (level * kSlotBits)) & (kSlots - 1)], node);
}

void TimerWheel::arm(TimerNode& node, Usec deadline) {
  SLUICE_DCHECK(deadline != kNever);
  if (node.armed()) unlink(node);
  else armed_++;
  node.deadline = deadline;
  link(node);
}

void TimerWheel::cancel(TimerNode& node) {
  if (!node.armed()) return;
  unlink(node);
  armed_--;
}

void TimerWheel::cascade(unsigned level) {
  TimerLink& slot = slot_[level][(tick_ >> (level * kSlotBits)) & (kSlots - 1)];
  TimerLink moving;
  if (slot.next != &slot) {
    moving.next = slot.next, moving.prev = slot.prev;
    moving.next->prev = moving.prev->next = &moving;
    slot.next = slot.prev = &slot;
  }
  while (moving.next != &moving) {
    TimerNode& node = static_cast<TimerNode&>(*moving.next);
    unlink(node);
    link(node);
  }
}

TimerNode* TimerWheel::pop_due(Usec now) {
  for (;;) {
    if (due_.next != &due_) {
      TimerNode& node = static_cast<TimerNode&>(*due_.next);
      unlink(node);
      armed_--;
      return &node;
    }
    const uint64_t now_tick = now / kTick;
    if (tick_ > now_tick) return nullptr;
    if (armed_ == 0) {
      tick_ = now_tick + 1;
      return nullptr;
    }
    TimerLink& slot = slot_[0][tick_ & (kSlots - 1)];
    while (slot.next != &slot) {
      TimerLink& n = *slot.next;
      unlink(n);
      push_back(due_, n);
    }
    tick_++;
    for (unsigned level = 1; level < kLevels && (tick_ & ((uint64_t{1} << (level * kSlotBits)) - 1)) == 0; level++) cascade(level);
  }
}

Usec TimerWheel::next_deadline() const {
  if (armed_ == 0) return kNever;
  if (due_.next != &due_) return static_cast<const TimerNode*>(due_.next)->deadline;  // past already: advance() was bounded
  for (uint64_t t = tick_; t < tick_ + kSlots; t++) {
    const TimerLink& slot = slot_[0][t & (kSlots - 1)];
    if (slot.next != &slot) return t * kTick;
    if (((t + 1) & (kSlots - 1)) == 0) return (t + 1) * kTick;  // a cascade is due: look again then
  }
  return (tick_ + kSlots) * kTick;
}

}  // namespace sluice
