#include "dataplane/packet/pool.h"

#include <rte_errno.h>
#include <rte_mempool.h>

#include <algorithm>
#include <utility>

#include "dataplane/packet/poison.h"

namespace sluice {

std::expected<MbufPool, std::string> MbufPool::create(const std::string& name, uint32_t mbufs, uint32_t held_max, int socket_id) {
  SLUICE_ASSERT(mbufs >= kControlReserve + 2 * kRxBurst && held_max <= mbufs - kControlReserve);
  // rte_pktmbuf_pool_create cannot pass the flag, so the pool is made by its steps.
  constexpr uint32_t kElement = sizeof(rte_mbuf) + kMbufPrivateBytes + kMbufDataRoom;
  rte_mempool* raw = rte_mempool_create_empty(name.c_str(), mbufs, kElement, kPoisonFreed ? 0 : std::min(kMbufCache, mbufs / 4),
                                              sizeof(rte_pktmbuf_pool_private), socket_id, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
  rte_pktmbuf_pool_private priv{};
  priv.mbuf_data_room_size = kMbufDataRoom;
  priv.mbuf_priv_size = kMbufPrivateBytes;
  if (raw != nullptr) rte_pktmbuf_pool_init(raw, &priv);
  if (raw == nullptr || rte_mempool_set_ops_byname(raw, mbuf_pool_ops(), nullptr) != 0 || rte_mempool_populate_default(raw) < 0) {
    const std::string why = rte_strerror(rte_errno);
    rte_mempool_free(raw);
    const uint64_t mib = (uint64_t{mbufs} * kElement >> 20) + 1;
    return std::unexpected("mbuf pool " + name + ": " + std::to_string(mbufs) + " mbufs (" + std::to_string(mib) + " MiB): " + why +
                           "; give more memory: `sysctl vm.nr_hugepages=" + std::to_string(mib / 2 + 64) +
                           "`, or fewer mbufs (memory.mbufs), workers or ports");
  }
  rte_mempool_obj_iter(raw, rte_pktmbuf_init, nullptr);
  MbufPool pool;
  pool.pool_ = raw;
  pool.size_ = mbufs;
  pool.held_max_ = held_max;
  return pool;
}

MbufPool::MbufPool(MbufPool&& o) noexcept
    : pool_(std::exchange(o.pool_, nullptr)), size_(o.size_), held_max_(o.held_max_), held_(std::move(o.held_)), refused_(o.refused_) {}
MbufPool& MbufPool::operator=(MbufPool&& o) noexcept {
  std::swap(pool_, o.pool_);
  std::swap(size_, o.size_);
  std::swap(held_max_, o.held_max_);
  std::swap(held_, o.held_);
  std::swap(refused_, o.refused_);
  return *this;
}
MbufPool::~MbufPool() {
  if (pool_ != nullptr) unpoison_all(pool_);
  rte_mempool_free(pool_);
}

rte_mbuf* MbufPool::alloc_control() {
  rte_mbuf* m = rte_pktmbuf_alloc(pool_);
  if (m == nullptr) return nullptr;
  SLUICE_DCHECK(private_of(m).account == nullptr);
  m->data_off = kMbufHeadroom;
  return m;
}

rte_mbuf* MbufPool::alloc_held() {
  if (held_->get() >= held_max_) {
    refused_.add();
    return nullptr;
  }
  rte_mbuf* m = alloc_control();
  if (m == nullptr) {
    refused_.add();
    return nullptr;
  }
  held_->add();
  private_of(m).account = held_.get();
  return m;
}

bool MbufPool::append_copy(Chain& chain, Bytes data, uint32_t segment_bytes) {
  segment_bytes = std::min(segment_bytes, data_room());
  // First reserve all that is needed, so that a failure leaves the chain as it was.
  rte_mbuf* tail = chain.tail();
  uint32_t fill = 0;
  if (tail != nullptr && tail->data_len < segment_bytes)
    fill = std::min<uint32_t>(segment_bytes - tail->data_len, rte_pktmbuf_tailroom(tail));
  fill = std::min<uint32_t>(fill, uint32_t(data.size()));
  Chain fresh;
  for (Bytes rest = data.subspan(fill); !rest.empty();) {
    rte_mbuf* m = alloc_held();
    if (m == nullptr) return false;
    const uint32_t n = std::min<uint32_t>(segment_bytes, uint32_t(rest.size()));
    std::memcpy(rte_pktmbuf_mtod(m, uint8_t*), rest.data(), n);
    m->data_len = uint16_t(n);
    fresh.append(m);
    rest = rest.subspan(n);
  }
  if (fill > 0) {
    std::memcpy(rte_pktmbuf_mtod_offset(tail, uint8_t*, tail->data_len), data.data(), fill);
    tail->data_len = uint16_t(tail->data_len + fill);
    chain.grew(fill);
  }
  chain.append(std::move(fresh));
  return true;
}

uint32_t MbufPool::available() const { return rte_mempool_avail_count(pool_); }

}  // namespace sluice
