#include "dataplane/upstream/balancer.h"

#include <algorithm>

#include "dataplane/base/check.h"

namespace sluice::upstream {
namespace {

struct Later {
  template <class E>
  bool operator()(const E& a, const E& b) const {
    return a.deadline != b.deadline ? a.deadline > b.deadline : a.order > b.order;
  }
};

}  // namespace

EndpointStates::~EndpointStates() {
  for (EndpointState* c : chunk_) delete[] c;
}
EndpointState& EndpointStates::of(uint32_t id) {
  SLUICE_ASSERT(id / kChunk < kChunksMax);
  EndpointState*& c = chunk_[id / kChunk];
  if (c == nullptr) __atomic_store_n(&c, new EndpointState[kChunk], __ATOMIC_RELEASE);
  return c[id % kChunk];
}
const EndpointState* EndpointStates::find(uint32_t id) const {
  if (id / kChunk >= kChunksMax) return nullptr;
  const EndpointState* c = __atomic_load_n(&chunk_[id / kChunk], __ATOMIC_ACQUIRE);
  return c == nullptr ? nullptr : &c[id % kChunk];
}

void Balancer::rebuild(const tables::Cluster& cluster, Rng& rng) {
  seen_ = cluster.endpoints;
  levels_.clear();
  const auto& endpoints = seen_->endpoints;
  uint32_t top = 0;
  for (const auto& e : endpoints) top = std::max(top, e.priority);
  levels_.resize(endpoints.empty() ? 0 : top + 1);
  std::vector<uint32_t> all(levels_.size());
  for (uint32_t i = 0; i < endpoints.size(); i++) {
    const auto& e = endpoints[i];
    all[e.priority]++;
    if (!e.healthy || e.tls) continue;
    Level& level = levels_[e.priority];
    if (!level.usable.empty() && endpoints[level.usable[0]].weight != e.weight) level.equal_weights = false;
    level.usable.push_back(i);
  }
  uint32_t left = 100;
  for (size_t p = 0; p < levels_.size(); p++) {
    const uint32_t health = all[p] == 0 ? 0 : std::min<uint32_t>(100, uint32_t(140 * levels_[p].usable.size() / all[p]));
    levels_[p].load_percent = std::min(left, health);
    left -= levels_[p].load_percent;
  }
  // Less than 100 % healthy in sum: what is there takes all, in proportion; rounding falls to the first.
  if (const uint32_t sum = 100 - left; sum > 0 && sum < 100) {
    uint32_t given = 0;
    for (auto& l : levels_) given += l.load_percent = l.load_percent * 100 / sum;
    std::ranges::find_if(levels_, [](const Level& l) { return l.load_percent > 0; })->load_percent += 100 - given;
  }
  for (auto& l : levels_) {
    if (l.usable.empty()) continue;
    l.cursor = rng.below(uint32_t(l.usable.size()));  // workers do not start in step
    if (l.equal_weights) continue;
    for (uint32_t i : l.usable) l.heap.push_back({1.0 / std::max(1u, endpoints[i].weight), order_++, i});
    std::make_heap(l.heap.begin(), l.heap.end(), Later{});
    for (uint32_t n = l.cursor; n > 0; n--) {  // and not at the same place of the schedule
      std::pop_heap(l.heap.begin(), l.heap.end(), Later{});
      l.time = l.heap.back().deadline;
      l.heap.back().deadline += 1.0 / std::max(1u, endpoints[l.heap.back().index].weight);
      l.heap.back().order = order_++;
      std::push_heap(l.heap.begin(), l.heap.end(), Later{});
    }
  }
}

uint32_t Balancer::pick_once(const tables::Cluster& cluster, EndpointStates& states, Rng& rng) {
  const auto& endpoints = seen_->endpoints;
  Level* level = nullptr;
  uint32_t at = rng.below(100);
  for (auto& l : levels_) {
    if (l.usable.empty()) continue;
    level = &l;
    if (at < l.load_percent) break;
    at -= l.load_percent;
  }
  const uint32_t n = uint32_t(level->usable.size());
  if (!level->equal_weights) {
    std::pop_heap(level->heap.begin(), level->heap.end(), Later{});
    auto& e = level->heap.back();
    const uint32_t index = e.index;
    double weight = std::max(1u, endpoints[index].weight);
    if (cluster.lb == tables::LbPolicy::kLeastRequest) weight /= double(states.of(endpoints[index].id).active_requests.get() + 1);
    level->time = e.deadline;
    e.deadline = level->time + 1.0 / weight;
    e.order = order_++;
    std::push_heap(level->heap.begin(), level->heap.end(), Later{});
    return index;
  }
  switch (cluster.lb) {
    case tables::LbPolicy::kRandom: return level->usable[rng.below(n)];
    case tables::LbPolicy::kLeastRequest: {
      uint32_t best = level->usable[rng.below(n)];
      for (uint32_t i = 1; i < cluster.choice_count; i++) {
        const uint32_t other = level->usable[rng.below(n)];
        if (states.of(endpoints[other].id).active_requests.get() < states.of(endpoints[best].id).active_requests.get()) best = other;
      }
      return best;
    }
    case tables::LbPolicy::kRoundRobin: break;
  }
  if (level->cursor >= n) level->cursor = 0;
  return level->usable[level->cursor++];
}

std::optional<uint32_t> Balancer::pick(const tables::Cluster& cluster, EndpointStates& states, Rng& rng, std::span<const uint32_t> tried,
                                       uint32_t attempts_max) {
  if (seen_ != cluster.endpoints) rebuild(cluster, rng);
  if (std::all_of(levels_.begin(), levels_.end(), [](const Level& l) { return l.usable.empty(); })) return std::nullopt;
  uint32_t index = pick_once(cluster, states, rng);
  for (uint32_t i = 0; i < attempts_max && std::ranges::find(tried, seen_->endpoints[index].id) != tried.end(); i++)
    index = pick_once(cluster, states, rng);
  return index;
}

}  // namespace sluice::upstream
