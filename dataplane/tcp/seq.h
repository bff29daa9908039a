// Seq: a sequence number. Order is modulo 2^32 (RFC 9293 3.4), so plain < on integers would be a bug; the difference of two is an int32_t.
#pragma once
#include <cstdint>

namespace sluice::tcp {

struct Seq {
  uint32_t v = 0;
  friend constexpr bool operator==(Seq, Seq) = default;
  friend constexpr bool operator<(Seq a, Seq b) { return int32_t(a.v - b.v) < 0; }
  friend constexpr bool operator>(Seq a, Seq b) { return b < a; }
  friend constexpr bool operator<=(Seq a, Seq b) { return !(b < a); }
  friend constexpr bool operator>=(Seq a, Seq b) { return !(a < b); }
  friend constexpr Seq operator+(Seq a, uint32_t n) { return {a.v + n}; }
  friend constexpr Seq operator-(Seq a, uint32_t n) { return {a.v - n}; }
  constexpr Seq& operator+=(uint32_t n) {
    v += n;
    return *this;
  }
};
// How far `b` is past `a`; a <= b. Bytes between them in sequence space.
constexpr uint32_t distance(Seq a, Seq b) { return b.v - a.v; }
constexpr Seq later(Seq a, Seq b) { return a < b ? b : a; }
constexpr Seq earlier(Seq a, Seq b) { return a < b ? a : b; }
static_assert(Seq{0xffff'fff0} < Seq{5} && Seq{5} > Seq{0xffff'fff0} && distance(Seq{0xffff'fff0}, Seq{5}) == 21);  // wraps

}  // namespace sluice::tcp
