// Time is an argument. Now is stamped once per receive burst and handed down; nothing below worker reads a clock.
#pragma once
#include <cstdint>

namespace sluice {

using Usec = uint64_t;  // monotonic microseconds since an arbitrary start; never 0 for a real instant

struct Now {
  Usec mono_us = 0;     // for deadlines, RTTs and durations
  int64_t wall_us = 0;  // Unix time, for logs, certificates and HTTP dates
};

constexpr Usec kMs = 1000;
constexpr Usec kSec = 1000 * kMs;
constexpr Usec kNever = ~Usec{0};

}  // namespace sluice
