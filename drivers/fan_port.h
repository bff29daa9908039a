// FanPort: W queue pairs over a port that has fewer, or whose device spreads frames as it likes. A worker with a queue polls it, keeps what
// OwnerHash says is its own and passes the rest on; with a single queue, worker 0 also sends what the others put into their transmit rings.
// One SPSC ring per direction and pair (kFanRing); a full receive ring drops (kFanoutFull), a full transmit ring refuses. A worker copies
// what another passed to it into an mbuf of its own pool (kPortLinearise without one): it may keep frames for long, and nobody but worker
// 0 itself may empty the pool that worker 0's queue is filled from. Inside drivers/ only.
#pragma once
#include "drivers/port.h"

namespace sluice::drivers {

// `pools`: one per worker. `inner` has one queue pair or as many as workers; with one worker it is returned as it is.
std::unique_ptr<Port> fan(std::unique_ptr<Port> inner, const OwnerHash& owner, const std::vector<MbufPool*>& pools);

// The worker that a received frame belongs to: TCP by its tuple, an ICMP error by the tuple it quotes, everything else worker 0. Never
// reads past the bytes.
unsigned owner_of_frame(const OwnerHash& owner, Bytes frame);

}  // namespace sluice::drivers
