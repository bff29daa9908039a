// In AddressSanitizer builds the data room of every free mbuf is poisoned, so that a use after free of packet bytes is seen although DPDK's
// pools never give memory back. Done by mempool ops that wrap DPDK's ring: enqueue poisons, dequeue unpoisons; per-lcore caches, which go
// around the ops, are off. In other builds nothing of it exists. Thread: as the pool.
#pragma once
#include <rte_mempool.h>

namespace sluice {

#if defined(__SANITIZE_ADDRESS__)
#define SLUICE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)  // clang: the fuzz targets
#define SLUICE_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(SLUICE_ADDRESS_SANITIZER)
constexpr bool kPoisonFreed = true;
#else
constexpr bool kPoisonFreed = false;
#endif

// The ops to make a pool with; DPDK's best where nothing is poisoned.
const char* mbuf_pool_ops();
// Before a pool's memory goes: whoever maps it next must not find it poisoned.
void unpoison_all(rte_mempool* pool);

}  // namespace sluice
