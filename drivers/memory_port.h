// An in-memory link of two ports in one process: what one sends the other receives. No device, no EAL devices: for tests, simulation and
// the bench. A frame is copied into the receiver's pool as a wire would, so neither side sees the other's mbufs; sent frames are freed when
// the receiver takes them. W queue pairs per side; frames are spread over the receiver's workers by its OwnerHash. Each end may run on its
// own threads. Bound: `frames` in flight per sending worker and receiving worker, then tx() takes less; without an mbuf at the receiver
// frames wait.
#pragma once
#include <utility>

#include "drivers/port.h"

namespace sluice::drivers {

struct MemoryEnd {
  std::vector<MbufPool*> pools;  // one per worker
  MacAddress mac;
  OwnerHash owner;
};
std::pair<std::unique_ptr<Port>, std::unique_ptr<Port>> memory_link(const MemoryEnd& a, const MemoryEnd& b, uint32_t frames = 1024,
                                                                    uint16_t mtu = kMtu);

}  // namespace sluice::drivers
