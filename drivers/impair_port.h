// Impairment: a port around a port that loses, delays, reorders, duplicates and corrupts the frames it RECEIVES (wrap both ends for both
// directions). Deterministic from `seed` and the order of calls; time is what advance() says. Losses are counted (kImpairLoss); a corrupted
// frame has one bit flipped and its checksum verdict removed. One worker only (workers == 1): it is a test's tool.
#pragma once
#include "drivers/port.h"

namespace sluice::drivers {

struct Impairment {
  double loss = 0, duplicate = 0, corrupt = 0, reorder = 0;  // probabilities per frame
  Usec delay_us = 0, jitter_us = 0;                          // each frame waits delay + uniform [0, jitter]; jitter alone keeps the order
  Usec reorder_us = 2 * kMs;                                 // a reordered frame waits this much longer, and later ones pass it
  uint32_t frames_max = 512;                                 // held back at most; above it frames are lost
};
std::unique_ptr<Port> impair(std::unique_ptr<Port> inner, const Impairment& how, MbufPool& pool, uint64_t seed);

}  // namespace sluice::drivers
