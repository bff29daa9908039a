#include "dataplane/upstream/circuit.h"

#include <algorithm>

namespace sluice::upstream {

void CircuitBudget::set_limits(const tables::CircuitThresholds& t) {
  const int64_t now[] = {t.connections_max, t.pending_max, t.requests_max, t.retries_max};
  for (size_t i = 0; i < limit_.size(); i++) {
    const int64_t before = limit_[i].exchange(now[i], std::memory_order_relaxed);
    free_[i].fetch_add(now[i] - before, std::memory_order_relaxed);
  }
}

int64_t CircuitBudget::take(Resource r, int64_t want) {
  auto& free = free_[size_t(r)];
  int64_t have = free.load(std::memory_order_relaxed);
  while (have > 0) {
    const int64_t n = std::min(have, want);
    if (free.compare_exchange_weak(have, have - n, std::memory_order_relaxed)) return n;
  }
  return 0;
}

// A unit is counted even while the limit is unlimited, so that lowering it later finds the true use: `used` units are always taken from the
// budget.
bool Lease::take(CircuitBudget& budget, Resource r) {
  Held& h = held_[size_t(r)];
  if (h.spare == 0) {
    const int64_t want = budget.limit(r) < kLeaseUnit * 4 ? 1 : kLeaseUnit;
    h.spare = budget.take(r, want);
    if (h.spare == 0) return false;
  }
  h.spare--;
  h.used++;
  return true;
}

void Lease::take_over_limit(CircuitBudget& budget, Resource r) {
  budget.give(r, -1);
  held_[size_t(r)].used++;
}

void Lease::give(CircuitBudget& budget, Resource r) {
  Held& h = held_[size_t(r)];
  h.used--;
  h.spare++;
  const int64_t keep = budget.limit(r) < kLeaseUnit * 4 ? 0 : kLeaseUnit;
  if (h.spare > 2 * keep) {
    budget.give(r, h.spare - keep);
    h.spare = keep;
  }
}

}  // namespace sluice::upstream
