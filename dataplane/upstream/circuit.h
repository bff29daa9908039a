// Circuit thresholds hold per gateway, not per worker: workers lease units from one shared budget, so the path has no contended atomic and
// the limit is never exceeded. A worker keeps a few unused units, so with several workers a small limit may be reached early, never late;
// below kLeaseUnit * 4 units per resource leases are single units and the limit is exact. One exception, Envoy's: a worker without any
// connection to the endpoint that was picked opens one beyond the limit of connections (take_over_limit), or its requests would wait for
// connections that only other workers have. Thread: CircuitBudget is shared (set_limits:
// control thread; take/give: any worker). Lease belongs to one worker.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

#include "dataplane/tables/tables.h"

namespace sluice::upstream {

enum class Resource : uint8_t { kConnections, kPending, kRequests, kRetries, kCount };

class CircuitBudget {
 public:
  static constexpr int64_t kUnlimited = 1u << 31;  // thresholds at or above this are not counted (istiod's 2^32-1)
  void set_limits(const tables::CircuitThresholds&);
  bool unlimited(Resource r) const { return limit_[size_t(r)].load(std::memory_order_relaxed) >= kUnlimited; }
  int64_t limit(Resource r) const { return limit_[size_t(r)].load(std::memory_order_relaxed); }
  // Takes up to `want` units; returns how many were there.
  int64_t take(Resource r, int64_t want);
  void give(Resource r, int64_t units) { free_[size_t(r)].fetch_add(units, std::memory_order_relaxed); }

 private:
  // free may be negative after a limit was lowered under load: nothing is granted until enough came back.
  std::array<std::atomic<int64_t>, size_t(Resource::kCount)> limit_{}, free_{};
};

class Lease {
 public:
  static constexpr int64_t kLeaseUnit = 16;
  // False: the threshold is reached (UO). Every true take needs one give.
  bool take(CircuitBudget& budget, Resource r);
  // Beyond the threshold, for what must not be refused.
  void take_over_limit(CircuitBudget& budget, Resource r);
  void give(CircuitBudget& budget, Resource r);
  int64_t used(Resource r) const { return held_[size_t(r)].used; }

 private:
  struct Held {
    int64_t used = 0, spare = 0;
  };
  std::array<Held, size_t(Resource::kCount)> held_{};
};

}  // namespace sluice::upstream
