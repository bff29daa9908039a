// MbufPool: one worker's mbufs and the account of who holds them. Retention is charged at true size: one mbuf is one mbuf whatever it
// carries.
//
// Holders beyond the ports and the burst in hand (unacked data, reassembly, unread bytes, plaintext records) take from one budget:
//   alloc_held()   an mbuf charged to the budget; nullptr when the budget (kHeldMbufsMax) or the pool is empty: the caller drops payload,
//                  never ACKs
//   charge(m, why) for an mbuf that came from a port and is kept past the turn; false when the budget is spent
//   alloc_control() for ACK, RST, ARP, ICMP: uncharged, may dig into the reserve, so control traffic always leaves
// What was received moves on only by being copied into mbufs to send, so when the budget runs short it is refused first what cannot move at
// all (out of order: beyond half of the budget), then what can (in order: beyond three quarters); the last quarter is for sending. Without
// that, many uploads at once fill the budget with received bytes and nothing ever leaves.
// The charge travels with the mbuf (MbufPrivate) through chains and layers and ends in free_mbuf()/Chain, so held() == 0 means that nobody
// holds anything. An mbuf from alloc_* has data_off = kMbufHeadroom and is empty; data_room() is what fits behind that headroom.
// Only mbufs of the pool itself are charged to it: what another worker's queue received comes as a copy (drivers/fan_port.h), so no worker
// can hold what another needs to receive.
#pragma once
#include <rte_mbuf.h>

#include <expected>
#include <memory>
#include <string>

#include "dataplane/base/counters.h"
#include "dataplane/base/limits.h"
#include "dataplane/packet/chain.h"

namespace sluice {

constexpr uint32_t kMbufPrivateBytes = 64;  // MbufPrivate, a cache line

class MbufPool {
 public:
  // Thread: control, after EAL init. `mbufs` >= kControlReserve + 2 * kRxBurst. The pool carries RTE_MEMPOOL_F_NO_IOVA_CONTIG (AF_XDP loses
  // what lies outside its chunk otherwise). Errors: one line naming the size and the remedy.
  static std::expected<MbufPool, std::string> create(const std::string& name, uint32_t mbufs, uint32_t held_max, int socket_id);
  MbufPool(MbufPool&&) noexcept;
  MbufPool& operator=(MbufPool&&) noexcept;
  ~MbufPool();

  rte_mbuf* alloc_held();
  rte_mbuf* alloc_control();
  enum class Kept : uint8_t { kInOrder, kOutOfOrder };
  bool charge(rte_mbuf* m, Kept why = Kept::kInOrder) {
    SLUICE_DCHECK(private_of(m).account == nullptr && m->pool == pool_);
    if (held_->get() >= (why == Kept::kOutOfOrder ? held_max_ / 2 : held_max_ - held_max_ / 4)) {
      refused_.add();
      return false;
    }
    held_->add();
    private_of(m).account = held_.get();
    return true;
  }
  // Appends `data` to `chain`, filling its tail first, in held mbufs of at most `segment_bytes` payload each; all or nothing.
  bool append_copy(Chain& chain, Bytes data, uint32_t segment_bytes);

  rte_mempool* raw() const { return pool_; }
  uint32_t size() const { return size_; }
  uint32_t held() const { return uint32_t(held_->get()); }
  uint32_t held_max() const { return held_max_; }
  uint64_t refused() const { return refused_.get(); }
  uint32_t available() const;  // mbufs in the pool now, by every holder's account (control thread: approximate)
  static constexpr uint32_t data_room() { return kMbufDataRoom - kMbufHeadroom; }
  static constexpr uint64_t bytes_per_mbuf() { return sizeof(rte_mbuf) + kMbufPrivateBytes + kMbufDataRoom; }

 private:
  MbufPool() = default;
  rte_mempool* pool_ = nullptr;
  uint32_t size_ = 0, held_max_ = 0;
  std::unique_ptr<Counter> held_ = std::make_unique<Counter>();  // its address is in the mbufs
  Counter refused_;
};

}  // namespace sluice
