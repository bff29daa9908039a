// Handshakes: how a worker gets a handshake done without doing it. The worker copies the bytes that came (unconsumed) into a step; the
// answer says what to send, how many of the bytes were used, and at last the keys. Neither mbufs nor SSL objects cross. Until kDone the
// service owns both sequence numbers, then the worker does: the SSL is freed before the answer leaves, so no nonce can be used twice.
//
//   begin(policy, cookie)  a handshake; invalid when handshakes_max are in flight (the caller counts kTlsQueueFull)
//   step(id, bytes, now)   what came and was not yet consumed; one step at a time: no second before its answer. Copies
//   end(id)                given up (reset, timeout); no answer follows. Answers kDone and kFailed end it by themselves
//   poll(answer)           the next answer, false when there is none
//
// Two of them: InlineHandshakes does the work in step(), for deterministic tests; HandshakeService has threads and gives each worker its
// own port. A port belongs to its worker; nothing in it blocks or takes a lock.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/bytes.h"
#include "dataplane/base/counters.h"
#include "dataplane/base/drop.h"
#include "dataplane/base/handle.h"
#include "dataplane/base/limits.h"
#include "dataplane/base/now.h"
#include "tls-offload/keys.h"
#include "tls-offload/terminator.h"

namespace sluice::tls {

struct HandshakeTag;
using HandshakeId = Handle<HandshakeTag>;

struct HandshakeAnswer {
  enum class Kind : uint8_t { kMore, kDone, kFailed };
  Kind kind = Kind::kMore;
  uint64_t cookie = 0;
  uint32_t consumed = 0;      // of the step's bytes
  std::vector<uint8_t> send;  // also of kFailed: the alert
  SessionKeys keys;           // kDone
  std::unique_ptr<PeerInfo> peer;
  std::string error;  // kFailed
};

class Handshakes {
 public:
  virtual ~Handshakes() = default;
  virtual HandshakeId begin(std::shared_ptr<const ServerPolicy> policy, uint64_t cookie) = 0;
  virtual void step(HandshakeId id, Bytes bytes, const Now& now) = 0;
  virtual void end(HandshakeId id) = 0;
  virtual bool poll(HandshakeAnswer& answer) = 0;
};

class InlineHandshakes final : public Handshakes {
 public:
  explicit InlineHandshakes(uint32_t handshakes_max = kHandshakesQueuedMax);
  ~InlineHandshakes() override;
  HandshakeId begin(std::shared_ptr<const ServerPolicy> policy, uint64_t cookie) override;
  void step(HandshakeId id, Bytes bytes, const Now& now) override;
  void end(HandshakeId id) override;
  bool poll(HandshakeAnswer& answer) override;
  uint32_t in_flight() const;

 private:
  struct State;
  std::unique_ptr<State> s_;
};

struct HandshakeServiceConfig {
  unsigned threads = 1;
  unsigned workers = 1;
  uint32_t handshakes_max = kHandshakesQueuedMax;  // in flight, per worker; bounds memory at about 35 KiB each, and every queue
};

// Blocking threads that sleep while there is nothing to do; they inherit the CPU affinity of the thread that constructs the service, and
// take no signals. Construct and destroy on the control thread; workers have stopped using their ports before the destructor, which waits
// for the steps in work (about a millisecond) and drops the rest.
class HandshakeService {
 public:
  explicit HandshakeService(const HandshakeServiceConfig& config);
  ~HandshakeService();
  HandshakeService(const HandshakeService&) = delete;
  HandshakeService& operator=(const HandshakeService&) = delete;

  Handshakes& port(unsigned worker);

  // Any thread.
  uint64_t steps() const;        // done so far
  uint64_t cpu_time_us() const;  // of all its threads: belongs to the cost of a gateway beside its workers' cycles
  uint32_t in_flight(unsigned worker) const;

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::tls
