// An in-memory link of two ports in one process: what one sends the other receives. No device: for tests, simulation and the bench.
// A frame is copied into the receiver's pool as a wire would, so neither side sees the other's mbufs; sent frames are freed when the
// receiver takes them. The link has one queue each way; with several pools a FanPort makes W of it. Each end may run on its own threads.
// Bound: `frames` (a power of two) in flight each way, then tx() takes less; without an mbuf at the receiver frames wait.
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
