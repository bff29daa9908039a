// Handles, not pointers: {index, generation}. A slot's generation grows each time it is given, so a handle kept past its object's end is a
// failed look-up (nullptr), never another's object. A default handle is invalid. 64 bits, so a handle fits a cookie or a ring entry.
#pragma once
#include <cstdint>
#include <functional>

namespace sluice {

template <class Tag>
struct Handle {
  uint32_t index = ~0u;
  uint32_t generation = 0;  // 0: no object was ever given this
  explicit operator bool() const { return generation != 0; }
  friend bool operator==(const Handle&, const Handle&) = default;
  uint64_t bits() const { return uint64_t(generation) << 32 | index; }
  static Handle from_bits(uint64_t b) { return {uint32_t(b), uint32_t(b >> 32)}; }
};

}  // namespace sluice
