#include "dataplane/worker/publisher.h"

#include <cstdlib>

#include "dataplane/base/check.h"

namespace sluice::worker {

Publisher::Publisher(unsigned workers) {
  const size_t bytes = rte_rcu_qsbr_get_memsize(workers);
  qsbr_ = static_cast<rte_rcu_qsbr*>(
      std::aligned_alloc(RTE_CACHE_LINE_SIZE, (bytes + RTE_CACHE_LINE_SIZE - 1) / RTE_CACHE_LINE_SIZE * RTE_CACHE_LINE_SIZE));
  SLUICE_ASSERT(qsbr_ != nullptr && rte_rcu_qsbr_init(qsbr_, workers) == 0);
  for (unsigned i = 0; i < workers; i++) SLUICE_ASSERT(rte_rcu_qsbr_thread_register(qsbr_, i) == 0);
}

Publisher::~Publisher() { std::free(qsbr_); }

void Publisher::publish(std::shared_ptr<const tables::Snapshot> s) {
  visible_.store(s.get(), std::memory_order_release);
  std::swap(current_, s);
  published_.fetch_add(1, std::memory_order_relaxed);
  if (s != nullptr) old_.push_back({rte_rcu_qsbr_start(qsbr_), std::move(s)});
  reclaim();
}

size_t Publisher::reclaim() {
  while (!old_.empty() && rte_rcu_qsbr_check(qsbr_, old_.front().token, false) == 1) old_.pop_front();
  return old_.size();
}

}  // namespace sluice::worker
