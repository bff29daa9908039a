#include "dataplane/base/siphash.h"

#include <bit>

namespace sluice {
namespace {

struct State {
  uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
  }
};

uint64_t little_endian(const uint8_t* p, size_t n) {
  uint64_t v = 0;
  for (size_t i = 0; i < n; i++) v |= uint64_t(p[i]) << (8 * i);
  return v;
}

}  // namespace

uint64_t siphash24(const SipKey& key, Bytes data) {
  State s{key.k0 ^ 0x736f6d6570736575, key.k1 ^ 0x646f72616e646f6d, key.k0 ^ 0x6c7967656e657261, key.k1 ^ 0x7465646279746573};
  const uint64_t tail_length = uint64_t(data.size()) << 56;
  while (data.size() >= 8) {
    const uint64_t m = little_endian(data.data(), 8);
    s.v3 ^= m, s.round(), s.round(), s.v0 ^= m;
    data = data.subspan(8);
  }
  const uint64_t m = tail_length | little_endian(data.data(), data.size());
  s.v3 ^= m, s.round(), s.round(), s.v0 ^= m;
  s.v2 ^= 0xff;
  for (int i = 0; i < 4; i++) s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

}  // namespace sluice
