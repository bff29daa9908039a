// Publisher: one snapshot pointer, exchanged by the control thread, loaded by each worker once per turn; the old snapshot goes when every
// worker has passed a quiescent point (rte_rcu_qsbr). A worker's naps are far below a millisecond, so it stays online for them; one that
// would sleep to a deadline has to go offline first, or it would hold the old snapshot back.
//   control thread: publish(s), reclaim()           worker i: online(i), then load() and, at its end, quiescent(i) in each turn; offline(i)
#pragma once
#include <rte_rcu_qsbr.h>

#include <atomic>
#include <deque>
#include <memory>

#include "dataplane/tables/tables.h"

namespace sluice::worker {

class Publisher {
 public:
  explicit Publisher(unsigned workers);
  ~Publisher();
  Publisher(const Publisher&) = delete;

  void publish(std::shared_ptr<const tables::Snapshot> s);
  // Frees what no worker can see any more; returns how many old snapshots still wait. Call now and then from the control thread.
  size_t reclaim();
  std::shared_ptr<const tables::Snapshot> current() const { return current_; }  // control thread

  void online(unsigned worker) { rte_rcu_qsbr_thread_online(qsbr_, worker); }
  void offline(unsigned worker) { rte_rcu_qsbr_thread_offline(qsbr_, worker); }
  void quiescent(unsigned worker) { rte_rcu_qsbr_quiescent(qsbr_, worker); }
  const tables::Snapshot* load() const { return visible_.load(std::memory_order_acquire); }
  uint64_t published() const { return published_.load(std::memory_order_relaxed); }

 private:
  struct Old {
    uint64_t token;
    std::shared_ptr<const tables::Snapshot> snapshot;
  };
  rte_rcu_qsbr* qsbr_;
  std::atomic<const tables::Snapshot*> visible_{nullptr};
  std::atomic<uint64_t> published_{0};
  std::shared_ptr<const tables::Snapshot> current_;
  std::deque<Old> old_;
};

}  // namespace sluice::worker
