// Balancer: one worker's choice among the endpoints of one cluster, as Envoy's policies do it.
//   kRoundRobin    in order; with unequal weights earliest deadline first (each pick moves an endpoint by 1/weight)
//   kLeastRequest  of `choice_count` random endpoints the one with the fewest active requests; with unequal weights earliest deadline first
//                  by weight / (active + 1) (Envoy: active_request_bias 1.0)
//   kRandom        uniform, or by weight
// Usable endpoints are those EDS calls healthy whose transport socket we can speak. Priorities: each priority takes load by its health
// (1.4 x healthy / all, Envoy's overprovisioning), lowest number first. Localities do not matter without locality weights.
// A Balancer notices a new endpoint table by its pointer and rebuilds itself (once per push and worker, not on the path).
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/base/counters.h"
#include "dataplane/base/rng.h"
#include "dataplane/tables/tables.h"

namespace sluice::upstream {

// What one worker knows of an endpoint; stable across pushes, found by Endpoint::id. Written by the worker, read by admin. An id that has
// long been nobody's may be given to another endpoint: its counters go on from there.
struct EndpointState {
  Counter active_requests, active_connections;
  Counter connections, connect_failures, requests, request_errors;
  uint32_t idle_head = ~0u;  // the pool's idle list (connection slab index), most recently used first
};

// EndpointStates: by id, growing in chunks that never move, so another thread may read while the worker grows it.
class EndpointStates {
 public:
  static constexpr uint32_t kChunk = 256, kChunksMax = tables::kEndpointsMax / kChunk;
  ~EndpointStates();
  EndpointState& of(uint32_t id);                // the worker; makes the chunk
  const EndpointState* find(uint32_t id) const;  // any thread; null when the worker never used it

 private:
  EndpointState* chunk_[kChunksMax] = {};
};

class Balancer {
 public:
  // The index into cluster.endpoints->endpoints, or nullopt when none is usable (UH). `tried` are endpoint ids that a retry avoids:
  // up to attempts_max more picks are made to find another, then the last pick stands (Envoy: host_selection_retry_max_attempts).
  std::optional<uint32_t> pick(const tables::Cluster& cluster, EndpointStates& states, Rng& rng, std::span<const uint32_t> tried = {},
                               uint32_t attempts_max = 1);

 private:
  struct Level {
    std::vector<uint32_t> usable;  // indexes
    bool equal_weights = true;
    uint32_t cursor = 0;
    struct Entry {
      double deadline;
      uint64_t order;
      uint32_t index;
    };
    std::vector<Entry> heap;  // unequal weights only
    double time = 0;
    uint32_t load_percent = 0;
  };
  void rebuild(const tables::Cluster& cluster, Rng& rng);
  uint32_t pick_once(const tables::Cluster& cluster, EndpointStates& states, Rng& rng);

  std::shared_ptr<const tables::EndpointTable> seen_;
  std::vector<Level> levels_;
  uint64_t order_ = 0;
};

}  // namespace sluice::upstream
