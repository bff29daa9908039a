// What a port cannot do, done in software on mbufs. Pure functions over frames; each says what it needs of the flags (RTE_MBUF_F_TX_*,
// l2_len, l3_len, l4_len). The headers of a frame lie in its first segment (net prepends them there).
#pragma once
#include <rte_mbuf.h>

#include <array>

#include "dataplane/base/limits.h"

namespace sluice::drivers {

// Computes the checksums that ol_flags ask for among `flags` (RTE_MBUF_F_TX_IP_CKSUM, _TCP_CKSUM) and removes those flags. The TCP field
// holds the pseudo-header sum, as a device expects it. Payload is only read.
void fill_checksums(rte_mbuf* m, uint64_t flags);

// One direct mbuf of `pool` with the bytes and flags of the chain m, which is freed; nullptr (m untouched) when the pool is empty or the
// frame is longer than its room.
rte_mbuf* linearise(rte_mbuf* m, rte_mempool* pool);

// Cuts a RTE_MBUF_F_TX_TCP_SEG frame of IPv4 TCP into frames of at most tso_segsz payload bytes: each one direct mbuf with headers whose
// checksums are to be filled (flags set). FIN and PSH stay with the last, CWR with the first. m is freed on success. Returns how many were
// written; 0, with m untouched, when the pool is short, the headers make no sense or more than kCutsMax are due.
constexpr unsigned kCutsMax = 64;
unsigned segment(rte_mbuf* m, rte_mempool* pool, std::array<rte_mbuf*, kCutsMax>& out);

}  // namespace sluice::drivers
