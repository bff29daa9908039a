// Budgets: the CircuitBudget of every cluster, shared by all workers and stable for the life of the process. The control thread calls
// ensure() with a snapshot before it is published, so a worker always finds the budget of a cluster that it sees.
#pragma once
#include <memory>

#include "dataplane/base/check.h"
#include "dataplane/upstream/circuit.h"

namespace sluice::upstream {

class Budgets {
 public:
  static constexpr uint32_t kChunk = 256, kChunksMax = tables::kClustersMax / kChunk;
  void ensure(const tables::Snapshot& s) {
    for (const auto& c : s.clusters) {
      if (c == nullptr) continue;
      SLUICE_ASSERT(c->id / kChunk < kChunksMax);
      auto& chunk = chunk_[c->id / kChunk];
      if (chunk == nullptr) chunk = std::make_unique<CircuitBudget[]>(kChunk);
      chunk[c->id % kChunk].set_limits(c->circuit);
    }
  }
  CircuitBudget& of(tables::ClusterId id) { return chunk_[id / kChunk][id % kChunk]; }

 private:
  // A chunk is made before the snapshot that refers to it is published (release), so the workers' plain read is ordered.
  std::unique_ptr<CircuitBudget[]> chunk_[kChunksMax];
};

}  // namespace sluice::upstream
