// The Internet checksum (RFC 1071): one's complement sum of 16-bit words, in whatever order is fastest, since the sum does not care.
//   checksum_add(bytes, sum)   adds bytes to a running sum; only the last part of a message may have an odd length
//   checksum_fold(sum)         the 16-bit sum as it lies in memory; store ~fold in the header; a message that carries its checksum folds
//                              to 0xffff
// Cost: 8 bytes an iteration of two independent adds. Pure.
#pragma once
#include <rte_mbuf.h>

#include "dataplane/base/address.h"
#include "dataplane/base/bytes.h"

namespace sluice {

inline uint64_t checksum_add(Bytes b, uint64_t sum = 0) {
  const uint8_t* p = b.data();
  size_t n = b.size();
  uint64_t even = 0, odd = 0;  // 32-bit words in 64-bit sums: no carry is lost below 2^32 words
  for (; n >= 8; p += 8, n -= 8) {
    uint32_t x, y;
    std::memcpy(&x, p, 4);
    std::memcpy(&y, p + 4, 4);
    even += x;
    odd += y;
  }
  uint64_t rest = 0;
  std::memcpy(&rest, p, n);
  even += uint32_t(rest);
  odd += rest >> 32;
  const uint64_t add = even + odd;
  sum += add;
  return sum + (sum < add);
}

inline uint16_t checksum_fold(uint64_t sum) {
  sum = (sum & 0xffff'ffff) + (sum >> 32);
  sum = (sum & 0xffff'ffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return uint16_t(sum);
}

// The sum of `length` bytes of a chain from `offset`, across segments of any length (RFC 1071 2.B: a part that starts at an odd place is
// byte-swapped).
inline uint64_t checksum_add_chain(const rte_mbuf* m, uint32_t offset, uint32_t length, uint64_t sum = 0) {
  while (m != nullptr && offset >= m->data_len) {
    offset -= m->data_len;
    m = m->next;
  }
  for (bool odd_place = false; m != nullptr && length > 0; m = m->next, offset = 0) {
    const uint32_t n = m->data_len - offset < length ? m->data_len - offset : length;
    const uint64_t part = checksum_add({rte_pktmbuf_mtod_offset(m, const uint8_t*, offset), n});
    const uint16_t folded = checksum_fold(part);
    sum += odd_place ? __builtin_bswap16(folded) : folded;
    odd_place ^= n & 1;
    length -= n;
  }
  return sum;
}

// The sum of TCP's pseudo-header (RFC 9293 3.1): what the checksum field holds when a port or drivers/ is asked to fill the checksum.
inline uint64_t checksum_pseudo(Ipv4 src, Ipv4 dst, uint8_t protocol, uint16_t l4_bytes) {
  const struct {
    Be<uint32_t> src, dst;
    uint8_t zero, protocol;
    Be<uint16_t> bytes;
  } pseudo{src.v, dst.v, 0, protocol, l4_bytes};
  return checksum_add({reinterpret_cast<const uint8_t*>(&pseudo), sizeof pseudo});
}

}  // namespace sluice
