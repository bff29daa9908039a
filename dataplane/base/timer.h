// TimerWheel: one per worker. Four levels of 256 slots, a tick of 1 ms: 49 days. Nodes are embedded in what they time, so arming never
// allocates.
//   arm(node, deadline)   (re)links it; O(1); not kNever: that is cancel(node), O(1), safe on an idle node
//   advance(now, max, f)  calls f(TimerNode&) for at most `max` due nodes, each unlinked first; the rest stay due for the next call
//   next_deadline()       a lower bound of the earliest deadline (kNever when empty): how long a worker may sleep
// An object with several deadlines links ONE node at their minimum and re-checks on expiry: a node may fire early in the sense that the
// deadline moved on, never that it is late by more than a tick plus a turn. A node must be cancelled before its memory goes; ~TimerNode
// asserts it.
#pragma once
#include <cstdint>

#include "dataplane/base/check.h"
#include "dataplane/base/now.h"

namespace sluice {

struct TimerLink {
  TimerLink* prev = this;
  TimerLink* next = this;
};

struct TimerNode : TimerLink {
  TimerNode(uint8_t kind_, uint64_t cookie_) : cookie(cookie_), kind(kind_) {}
  ~TimerNode() { SLUICE_DCHECK(!armed()); }
  TimerNode(const TimerNode&) = delete;
  TimerNode& operator=(const TimerNode&) = delete;
  bool armed() const { return next != this; }

  Usec deadline = kNever;
  uint64_t cookie;  // the owner's handle bits
  uint8_t kind;     // who owns it; the caller's numbering
};

class TimerWheel {
 public:
  explicit TimerWheel(Usec now) : tick_(now / kTick) {}
  ~TimerWheel();
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  void arm(TimerNode& node, Usec deadline);
  void cancel(TimerNode& node);
  template <class F>
  uint32_t advance(Usec now, uint32_t max, F&& f) {
    uint32_t fired = 0;
    while (fired < max) {
      TimerNode* node = pop_due(now);
      if (node == nullptr) break;
      fired++;
      f(*node);
    }
    return fired;
  }
  Usec next_deadline() const;
  uint32_t armed() const { return armed_; }

  static constexpr Usec kTick = 1 * kMs;

 private:
  static constexpr unsigned kLevels = 4, kSlotBits = 8, kSlots = 1 << kSlotBits;
  void link(TimerNode& node);
  void cascade(unsigned level);
  TimerNode* pop_due(Usec now);

  uint64_t tick_;  // every slot before this tick is empty
  uint32_t armed_ = 0;
  TimerLink due_;
  TimerLink slot_[kLevels][kSlots];
};

}  // namespace sluice
