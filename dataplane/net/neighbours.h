// Neighbours: IPv4 address -> MAC on an interface, shared by the workers. Worker 0 writes (its Stack runs the ARP state machine), everyone
// reads.
//
// One entry: incomplete (asked, 1 request/s, kRequestsMax) -> reachable -> after kReachable without proof and in use: probed by unicast,
// packets still flow
// -> reachable again, or back to incomplete after kRequestsMax unanswered probes; unused for kForget: gone. RFC 1122 2.3.2.1, RFC 826.
// Who is believed: a reply that we asked for (incomplete or probing), or anything that repeats what we know. A claim that contradicts a
// good entry changes nothing, is counted (conflicts) and starts a probe of the known MAC: a genuine take-over is learned in seconds, a
// forged one never. Entries exist only because we wanted to send: strangers cannot fill the table (kNeighboursMax; then kArpTableFull).
//
// Reading is wait-free but for a retry while worker 0 rewrites that very slot (seqlock). Requests and ARP packets seen by other workers
// travel to worker 0 through one SPSC ring per worker.
#pragma once
#include <array>
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
  static constexpr Usec kReachable = 60 * kSec, kForget = 600 * kSec, kRequestInterval = 1 * kSec;
  static constexpr unsigned kRequestsMax = 3;

  explicit Neighbours(unsigned workers = 1);

  // Any worker: the MAC to send to, also while it is being probed; marks the entry as used.
  std::optional<MacAddress> find(unsigned interface, Ipv4 address);
  // Any worker: what other workers tell worker 0 (false: ring full, ask again).
  struct Message {
    enum class Kind : uint8_t { kResolve, kHeard, kHeardReply } kind;
    uint8_t interface;
    Ipv4 address;
    MacAddress mac;  // of kHeard*: the sender's claim
  };
  bool tell(unsigned worker, const Message& m);

  // Worker 0 only.
  enum class Resolve { kAsked, kFull };
  Resolve resolve(unsigned interface, Ipv4 address, Now now);
  void heard(const Message& m, Now now);
  // Frames that ARP wants sent: a broadcast request, or a unicast probe when `mac` is set.
  struct Request {
    unsigned interface;
    Ipv4 address;
    std::optional<MacAddress> mac;
  };
  // Takes the rings' messages and moves entries along; at most out.size() requests a call, the rest wait for the next.
  unsigned advance(Now now, std::span<Request> out);

  // Any thread.
  uint32_t size() const { return uint32_t(size_.get()); }
  uint64_t conflicts() const { return conflicts_.get(); }
  uint64_t refused() const { return refused_.get(); }  // resolutions not begun: table full

 private:
  struct Slot;
  Slot* slot_of(unsigned interface, Ipv4 address) const;
  void publish(Slot& s, std::optional<MacAddress> mac);
  void remove(Slot& s);

  std::unique_ptr<Slot[]> slots_;
  std::vector<std::unique_ptr<SpscRing<Message>>> rings_;  // of workers 1..
  uint32_t sweep_ = 0;
  Counter size_, conflicts_, refused_;
};

}  // namespace sluice::net
