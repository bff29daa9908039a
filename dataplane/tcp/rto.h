// RtoEstimator: RFC 6298 in microseconds. One per connection. Pure.
#pragma once
#include <algorithm>

#include "dataplane/base/now.h"

namespace sluice::tcp {

struct RtoEstimator {
  Usec srtt_us = 0, rttvar_us = 0, rto_us = 0;

  void start(Usec initial) { rto_us = initial; }
  // A sample of a segment that was sent once (Karn). At least 1 us, so that a tiny round trip cannot stop the estimator.
  void sample(Usec rtt, Usec rto_min, Usec rto_max) {
    rtt = std::max<Usec>(rtt, 1);
    if (srtt_us == 0) {  // 2.2
      srtt_us = rtt;
      rttvar_us = rtt / 2;
    } else {  // 2.3: alpha 1/8, beta 1/4
      const Usec error = srtt_us > rtt ? srtt_us - rtt : rtt - srtt_us;
      rttvar_us = (3 * rttvar_us + error) / 4;
      srtt_us = std::max<Usec>((7 * srtt_us + rtt) / 8, 1);
    }
    constexpr Usec kGranularity = 1 * kMs;  // of the timer wheel
    rto_us = std::clamp(srtt_us + std::max(kGranularity, 4 * rttvar_us), rto_min, rto_max);
  }
  // 5.5: doubled per expiry, 2.5: bounded.
  Usec backed_off(uint8_t backoff, Usec rto_max) const { return std::min(rto_us << std::min<uint8_t>(backoff, 16), rto_max); }
};

}  // namespace sluice::tcp
