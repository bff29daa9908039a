// Seeded randomness as an argument. Rng is xoshiro256** seeded by splitmix64: fast, deterministic, NOT for secrets.
// Secrets (ISN key, hash keys, ports) come from the boot secret that the caller draws from the kernel (getrandom) and passes in.
#pragma once
#include <bit>
#include <cstdint>

namespace sluice {

class Rng {
 public:
  explicit Rng(uint64_t seed) {
    for (auto& s : s_) s = splitmix(seed);
  }
  uint64_t next() {
    const uint64_t result = std::rotl(s_[1] * 5, 7) * 9, t = s_[1] << 17;
    s_[2] ^= s_[0];
    s_[3] ^= s_[1];
    s_[1] ^= s_[2];
    s_[0] ^= s_[3];
    s_[2] ^= t;
    s_[3] = std::rotl(s_[3], 45);
    return result;
  }
  // Uniform in [0, n); n > 0. Multiply-shift: no division, bias below 2^-32 for n < 2^32.
  uint32_t below(uint32_t n) { return uint32_t((uint64_t(uint32_t(next())) * n) >> 32); }
  bool chance(double p) { return double(next() >> 11) * 0x1.0p-53 < p; }

 private:
  static uint64_t splitmix(uint64_t& x) {
    uint64_t z = (x += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t s_[4];
};

}  // namespace sluice
