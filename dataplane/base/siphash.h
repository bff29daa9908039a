// SipHash-2-4 (Aumasson, Bernstein 2012): the keyed hash for tables an attacker can feed and for ISNs (RFC 6528).
#pragma once
#include "dataplane/base/bytes.h"

namespace sluice {

struct SipKey {
  uint64_t k0 = 0, k1 = 0;
};

uint64_t siphash24(const SipKey& key, Bytes data);

}  // namespace sluice
