// Every bound of the data plane in one place. Each has its metric or drop reason, and a line in docs/limits.md.
// Memory is a sum whose every term names its holder (mbufs_per_worker).
#pragma once
#include <cstddef>
#include <cstdint>

#include "dataplane/base/now.h"

namespace sluice {

// packet and ports
constexpr uint32_t kRxBurst = 64;               // frames taken in one turn from one queue
constexpr uint32_t kTxBurst = 64;               // frames handed to a port in one call (memif 22.11 breaks above 255)
constexpr uint32_t kRxRingDesc = 1024;          // per queue
constexpr uint32_t kTxRingDesc = 1024;          // per queue
constexpr uint32_t kRxPosted = 2048;            // mbufs a receive queue holds at most: AF_XDP 22.11 posts 2048 whatever is asked
constexpr uint32_t kMbufHeadroom = 192;         // Ethernet + VLAN + IPv6 + TCP options + TLS record header
constexpr uint32_t kMbufDataRoom = 2048 + 128;  // RTE_PKTMBUF_HEADROOM (128) + 2048: what AF_XDP and AF_PACKET frames hold
constexpr uint32_t kFrameMax = 1518;            // Ethernet + VLAN tag + 1500
constexpr uint32_t kMtu = 1500;
constexpr uint32_t kChainSegmentsMax = 64;  // mbufs in one chain handed across the stream contract

// who may hold data mbufs of one worker
constexpr uint32_t kControlReserve = 512;      // nobody's: ACK, RST, ARP must always leave
constexpr uint32_t kHeldMbufsMax = 24 * 1024;  // connections, all together: unacked, reassembly, unread
constexpr uint32_t kNeighbourQueuedMax = 512;  // net, all unresolved neighbours together
constexpr uint32_t kNetQueueMax = 2048;        // net, frames that wait for one port
constexpr uint32_t kFanRing = 1024;            // a port with fewer queues than workers, each way between two workers
constexpr uint32_t kMbufCache = 256;           // per lcore and pool; DPDK 22.11 keeps half as many again before it flushes
constexpr uint32_t mbufs_per_worker(uint32_t ports, uint32_t workers) {
  return ports * (kRxPosted                    // the port holds: posted for receive
                  + kTxRingDesc                // the port holds: sent, not yet reclaimed
                  + 2 * kTxBurst               // the port holds: prepared, not yet taken by the device
                  + kNetQueueMax               // net holds: frames that wait for the port
                  + (workers - 1) * kFanRing)  // the fan's rings hold: passed to other workers, or to worker 0 to be sent
         + workers * (kMbufCache * 3 / 2)      // the caches of the other lcores hold: what main and the other workers freed
         + kRxBurst                            // the worker holds: the burst in hand
         + kNeighbourQueuedMax                 // net holds: packets waiting for a resolution
         + kControlReserve                     // nobody holds
         + kHeldMbufsMax;                      // connections hold
}

// worker
constexpr uint32_t kTimersPerTurnMax = 256;
constexpr uint32_t kReadyPerTurnMax = 256;

// net
constexpr uint32_t kNeighboursMax = 1024;
constexpr uint32_t kNeighbourQueueMax = 16;  // packets waiting for one resolution
constexpr uint32_t kIcmpPerSecondMax = 1000;

// tcp
constexpr uint32_t kTcpConnectionsMax = 65'536;  // per worker
constexpr uint32_t kTcpSynMax = 4'096;
constexpr uint32_t kTcpTimeWaitMax = 65'536;
constexpr uint32_t kTcpReceiveWindow = 256 * 1024;  // bytes unread per connection
constexpr uint32_t kTcpSendBuffer = 256 * 1024;     // bytes unacknowledged + unsent per connection
constexpr uint32_t kTcpOutOfOrderRangesMax = 64;
constexpr Usec kTimeWait = 60 * kSec;
constexpr Usec kFinWait2 = 30 * kSec;

// tls
constexpr uint32_t kClientHelloMax = 16 * 1024;
constexpr uint32_t kHandshakeBytesMax = 128 * 1024;
constexpr Usec kHandshakeTimeout = 10 * kSec;
constexpr uint32_t kHandshakesQueuedMax = 1024;

// http: Envoy's defaults (HttpProtocolOptions, max_request_headers_kb)
constexpr uint32_t kHeaderBytesMax = 60 * 1024;
constexpr uint32_t kHeaderCountMax = 100;
constexpr uint32_t kChunkExtensionBytesMax = 256;
constexpr Usec kRequestHeadersTimeout = 10 * kSec;  // ours (slow clients); Envoy's request_headers_timeout overrides when configured
constexpr Usec kSendStallTimeout = 60 * kSec;

// proxy and upstream, per worker
constexpr uint32_t kConnectionsMax = 65'536;  // downstream + upstream
constexpr uint32_t kExchangesMax = 32'768;
constexpr uint32_t kArenaChunksMax = 65'536;  // x 4 KiB
constexpr Usec kDrainDeadline = 45 * kSec;

}  // namespace sluice
