// NewReno: slow start, congestion avoidance, fast retransmit and fast recovery of one connection (RFC 5681, 6582, 3042, 3465, 6928). It
// decides how much may be in flight; input and output do the sending. Bytes everywhere. No division on the path: congestion avoidance
// counts acknowledged bytes. RACK, PRR and CUBIC are a later issue's and take this place.
#pragma once
#include <algorithm>

#include "dataplane/tcp/seq.h"

namespace sluice::tcp {

struct NewReno {
  uint32_t cwnd = 0, ssthresh = ~0u, mss = 0;
  uint32_t acked = 0;  // towards the next increase (RFC 3465 2.1)
  Seq recover;         // RFC 6582: a fast retransmit starts only for data sent after this
  uint8_t duplicates = 0;
  bool recovering = false, after_timeout = false;

  static constexpr uint8_t kDuplicateThreshold = 3;
  static uint32_t initial_window(uint32_t mss) { return std::min(10 * mss, std::max(2 * mss, 14'600u)); }  // RFC 6928

  void start(uint32_t segment_bytes, Seq iss) {
    mss = segment_bytes;
    cwnd = initial_window(mss);
    recover = iss;
  }
  // What may be in flight now. RFC 3042: the first two duplicates each let one new segment out.
  uint32_t window() const { return cwnd + (recovering ? 0 : std::min<uint32_t>(duplicates, 2) * mss); }

  enum class Action : uint8_t { kNone, kRetransmit };

  // `snd_una` is still the old one; in_flight counts from it.
  Action on_duplicate(Seq snd_una, Seq snd_max, uint32_t in_flight) {
    if (recovering) {  // RFC 5681 3.2 step 4: one more has left the network
      cwnd += mss;
      return Action::kNone;
    }
    if (duplicates < 255) duplicates++;
    if (duplicates != kDuplicateThreshold || snd_una <= recover)
      return Action::kNone;  // RFC 6582 3.2 step 1 (the ACK covers more than recover)
    ssthresh = std::max(in_flight / 2, 2 * mss);
    recover = snd_max;
    cwnd = ssthresh + kDuplicateThreshold * mss;
    recovering = true;
    acked = 0;
    return Action::kRetransmit;
  }
  // `bytes` newly acknowledged up to `ack`; `in_flight` is what remains; `was_limited`: cwnd was used up, so growing it has a reason.
  Action on_new_ack(Seq ack, uint32_t bytes, uint32_t in_flight, bool was_limited) {
    duplicates = 0;
    if (recovering) {
      if (ack >= recover) {  // RFC 6582 3.2 step 3, full acknowledgment (its first choice: no burst)
        recovering = false;
        cwnd = std::min(ssthresh, std::max(in_flight, mss) + mss);
        return Action::kNone;
      }
      cwnd -= std::min(bytes, cwnd - mss);  // partial acknowledgment: deflate, and the next hole leaves
      if (bytes >= mss) cwnd += mss;
      return Action::kRetransmit;
    }
    if (ack > recover) {
      after_timeout = false;
      recover = ack - 1;  // it follows, or 2 GiB later it would lie ahead (Seq wraps) and no loss would be seen
    }
    if (!was_limited) return Action::kNone;
    if (cwnd < ssthresh) {
      cwnd += std::min(bytes, after_timeout ? mss : 2 * mss);  // RFC 3465 2.2, 2.3
    } else if ((acked += bytes) >= cwnd) {
      acked -= cwnd;
      cwnd += mss;
    }
    return Action::kNone;
  }
  // RFC 5681 3.1 (4), 3.2; ssthresh falls once per loss event, not again for the same data.
  void on_timeout(Seq snd_max, uint32_t in_flight, bool first) {
    if (first) ssthresh = std::max(in_flight / 2, 2 * mss);
    cwnd = mss;
    acked = 0;
    duplicates = 0;
    recovering = false;
    after_timeout = true;
    recover = snd_max;  // RFC 6582 3.2 step 4... duplicates of what is sent again are no new loss
  }
  // RFC 5681 4.1: after an idle time longer than the RTO the path is unknown again.
  void on_idle() { cwnd = std::min(cwnd, initial_window(mss)); }
};

}  // namespace sluice::tcp
