// A world of two TCP stacks, a wire between them that loses, delays, reorders, duplicates and corrupts, and applications at both ends,
// which open connections from one side or from both at once. In some worlds a side's mbufs are all taken for a while. The clock is virtual
// and every choice comes from one seed, so a failing seed fails again.
//
// Oracles: the bytes of every stream arrive equal and whole; each connection ends in order; nothing stands still for longer than twice the
// largest RTO in which wire and pool took nothing away; the invariants of both stacks hold after every step; at the end nobody holds
// anything.
#pragma once
#include <cstdint>
#include <string>

#include "dataplane/packet/pool.h"

namespace sluice::sim {

struct WorldResult {
  bool ok = false;
  std::string what;  // of a failure: what, who, when
  uint64_t segments = 0, bytes = 0, virtual_us = 0;
};

// pools: one per stack; empty before and, if ok, after.
WorldResult run_tcp_world(uint64_t seed, MbufPool& a, MbufPool& b);

}  // namespace sluice::sim
