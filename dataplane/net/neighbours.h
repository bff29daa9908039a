// Neighbours: IPv4 address -> MAC on an interface, shared by the workers. Worker 0 writes (its Stack runs the ARP state machine), all read.
//
// One entry: incomplete (asked, one request a second, kRequestsMax of them) -> reachable -> after kReachable without proof and in use:
// probed by unicast, packets still flow -> reachable again, or back to incomplete after kRequestsMax unanswered probes; unused for kForget:
// gone. RFC 1122 2.3.2.1, RFC 826.
// Who is believed: a reply that we asked for, while nothing is known; else only what repeats what we know. A claim that contradicts a known
// entry changes nothing, is counted (conflicts) and starts a probe of the known MAC: a genuine take-over is learned in seconds, a forged
// one only while the true owner is silent. Entries exist only because we wanted to send: strangers cannot fill the table (kNeighboursMax;
// then kArpTableFull).
//
// Reading is wait-free but for a retry while worker 0 rewrites that very slot (seqlock). Resolutions wanted and ARP packets seen by other
// workers travel to worker 0 through one SPSC ring per worker.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/counters.h"
#include "dataplane/base/limits.h"
#include "dataplane/base/now.h"
#include "dataplane/base/ring.h"

namespace sluice::net {

class Neighbours {
 public:
  static constexpr Usec kReachable = 60 * kSec, kForget = 600 * kSec, kRequestInterval = 1 * kSec, kSweep = 50 * kMs;
  static constexpr unsigned kRequestsMax = 3;

  explicit Neighbours(unsigned workers = 1);
  ~Neighbours();

  // Any worker: the MAC to send to, also while it is being probed; marks the entry as used.
  std::optional<MacAddress> find(unsigned interface, Ipv4 address);
  // Workers 1..: what they tell worker 0 (false: ring full, tell again).
  struct Message {
    enum class Kind : uint8_t { kResolve, kHeard, kHeardReply } kind;
    uint8_t interface;
    Ipv4 address;
    MacAddress mac;  // of kHeard and kHeardReply (which was addressed to us): the sender's claim
  };
  bool tell(unsigned worker, const Message& m);

  // Worker 0 only.
  enum class Resolve { kAskNow, kPending, kFull };  // kAskNow: the caller sends the first broadcast request; later ones come from advance()
  Resolve resolve(unsigned interface, Ipv4 address, Now now);
  void heard(const Message& m, Now now);
  // What ARP wants sent: a broadcast request, or a unicast probe when `mac` is set.
  struct Request {
    unsigned interface;
    Ipv4 address;
    std::optional<MacAddress> mac;
  };
  // Takes the rings' messages and moves entries along (a sweep every kSweep); writes at most out.size() requests, the rest wait for the
  // next call.
  unsigned advance(Now now, std::span<Request> out);

  // Any thread.
  uint32_t size() const { return uint32_t(size_.get()); }
  uint64_t conflicts() const { return conflicts_.get(); }
  uint64_t refused() const { return refused_.get(); }  // resolutions not begun: table full

 private:
  struct Slot;
  static constexpr uint32_t kSlots = 2 * kNeighboursMax;  // open addressing, at most half full
  static uint64_t key_of(unsigned interface, Ipv4 address) { return uint64_t{1} << 63 | uint64_t(interface) << 32 | address.v; }
  static uint32_t home_of(uint64_t key) { return uint32_t(key * 0x9e37'79b9'7f4a'7c15 >> 40) % kSlots; }
  Slot* slot_of(uint64_t key);
  void remove(Slot& s);
  bool step(Slot& s, Now now, Request& out);

  std::unique_ptr<Slot[]> slots_;
  std::vector<std::unique_ptr<SpscRing<Message>>> rings_;  // of workers 1..
  Usec next_sweep_ = 0;
  uint32_t sweep_at_ = 0;
  Counter size_, conflicts_, refused_;
};

}  // namespace sluice::net
