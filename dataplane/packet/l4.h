// L4Packet: what net hands to tcp and tcp to net. The mbuf's data starts at the transport header; addresses are beside it.
//
// Checksums follow DPDK's mbuf flags in both directions, whatever the port can do (drivers/ fills the gap in software):
//   to net:   ol_flags has RTE_MBUF_F_TX_TCP_CKSUM, l4_len is set and the checksum field holds the pseudo-header sum; net adds l2_len,
//             l3_len, RTE_MBUF_F_TX_IPV4 and RTE_MBUF_F_TX_IP_CKSUM. drivers/ computes what the port does not.
//   from net: RTE_MBUF_F_RX_L4_CKSUM_GOOD is trusted, _BAD was dropped and counted by drivers/net, else the receiver verifies.
// Ownership passes with the call. An outgoing mbuf may be referenced by tcp as well (unacknowledged data, refcnt 2): net and drivers may
// prepend headers in its headroom and change data_off, data_len and flags, never its payload bytes; tcp keeps its own record of where the
// payload lies. Outgoing chains (header mbuf -> payload mbufs) are allowed; drivers/ linearises for ports without MULTI_SEGS.
#pragma once
#include <rte_mbuf.h>

#include "dataplane/base/address.h"

namespace sluice {

struct L4Packet {
  rte_mbuf* m = nullptr;
  IpAddress src, dst;
};

constexpr uint8_t kIpProtocolIcmp = 1, kIpProtocolTcp = 6;

}  // namespace sluice
