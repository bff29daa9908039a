// A port has a table of slots, one per handshake in flight. A slot is the worker's, until its index goes through the request ring: then it
// is a handshake thread's, until the index comes back through the answer ring. So nothing but indexes is queued, each slot is in at most
// one queue once, rings as large as the table never overflow, and a slot needs no lock: the rings order all accesses.
//
// A worker pushes without a lock and posts a semaphore (a system call only when a thread sleeps). Threads take turns at popping and at
// answering under mutexes that no worker ever takes.
//
//   worker:  free -> idle (begin) -> out (step) -> idle (answer kMore) or free (kDone, kFailed)
//            idle -> out (end, so that a thread frees the SSL) -> free;   out -> ended (end) -> as above when the answer comes
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <bit>
#include <mutex>
#include <thread>

#include "dataplane/base/ring.h"
#include "tls-offload/handshake.h"

namespace sluice::tls {
namespace {

class Semaphore {
 public:
  Semaphore() { SLUICE_ASSERT(sem_init(&s_, 0, 0) == 0); }
  ~Semaphore() { sem_destroy(&s_); }
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;
  void post() { sem_post(&s_); }
  void wait() {
    while (sem_wait(&s_) != 0) {
    }
  }

 private:
  sem_t s_;
};

struct Slot {
  enum class Where : uint8_t { kFree, kIdle, kOut };
  // The worker's.
  uint32_t generation = 0;
  Where where = Where::kFree;
  bool ended = false;    // no answer is wanted any more
  bool stepped = false;  // a thread has made the handshake
  uint64_t cookie = 0;
  // Whoever has the slot.
  bool drop = false;  // the request: free the handshake
  std::shared_ptr<const ServerPolicy> policy;
  std::vector<uint8_t> bytes;
  Now now;
  std::unique_ptr<ServerHandshake> handshake;
  HandshakeAnswer answer;
};

class Port final : public Handshakes {
 public:
  Port(uint32_t slots, Semaphore& work) : requests(std::bit_ceil(slots)), answers(std::bit_ceil(slots)), slots_(slots), work_(work) {
    for (uint32_t i = slots; i-- > 0;) free_.push_back(i);
  }

  HandshakeId begin(std::shared_ptr<const ServerPolicy> policy, uint64_t cookie) override {
    if (free_.empty()) return {};
    const uint32_t i = free_.back();
    free_.pop_back();
    Slot& s = slots_[i];
    if (++s.generation == 0) s.generation = 1;
    s.where = Slot::Where::kIdle;
    s.ended = s.stepped = s.drop = false;
    s.cookie = cookie;
    s.policy = std::move(policy);
    in_flight.store(uint32_t(slots_.size() - free_.size()), std::memory_order_relaxed);
    return {i, s.generation};
  }

  void step(HandshakeId id, Bytes bytes, const Now& now) override {
    Slot* s = get(id);
    if (s == nullptr || s->where != Slot::Where::kIdle) return;
    s->bytes.assign(bytes.begin(), bytes.end());
    s->now = now;
    s->stepped = true;
    hand_out(id.index);
  }

  void end(HandshakeId id) override {
    Slot* s = get(id);
    if (s == nullptr) return;
    s->ended = true;
    if (s->where == Slot::Where::kIdle) drop(id.index);
  }

  bool poll(HandshakeAnswer& answer) override {
    for (uint32_t i; answers.pop(i);) {
      Slot& s = slots_[i];
      s.where = Slot::Where::kIdle;
      const bool over = s.drop || s.answer.kind != HandshakeAnswer::Kind::kMore;
      if (s.ended && !over) {
        drop(i);
        continue;
      }
      HandshakeAnswer got = std::exchange(s.answer, {});
      got.cookie = s.cookie;
      const bool wanted = !s.ended;
      if (over) give_back(i);
      if (!wanted) continue;
      answer = std::move(got);
      return true;
    }
    return false;
  }

  Slot& at(uint32_t i) { return slots_[i]; }

  SpscRing<uint32_t> requests, answers;  // slot indexes
  std::mutex answering;                  // threads among themselves
  std::atomic<uint32_t> in_flight{0};

 private:
  Slot* get(HandshakeId id) {
    if (id.index >= slots_.size()) return nullptr;
    Slot& s = slots_[id.index];
    return s.generation == id.generation && s.where != Slot::Where::kFree && !s.ended ? &s : nullptr;
  }
  void hand_out(uint32_t i) {
    slots_[i].where = Slot::Where::kOut;
    const bool pushed = requests.push(i);
    SLUICE_ASSERT(pushed);
    work_.post();
  }
  void drop(uint32_t i) {
    if (!slots_[i].stepped) return give_back(i);
    slots_[i].drop = true;
    hand_out(i);
  }
  void give_back(uint32_t i) {
    slots_[i].where = Slot::Where::kFree;
    slots_[i].policy.reset();
    free_.push_back(i);
    in_flight.store(uint32_t(slots_.size() - free_.size()), std::memory_order_relaxed);
  }

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  Semaphore& work_;
};

}  // namespace

struct HandshakeService::State {
  Semaphore work;
  std::vector<std::unique_ptr<Port>> ports;
  std::mutex popping;
  size_t next_port = 0;  // popping; workers are served in turn
  std::atomic<uint64_t> steps{0};
  std::atomic<bool> stopping{false};
  std::vector<std::thread> threads;

  bool pop(Port*& port, uint32_t& slot) {
    const std::lock_guard lock(popping);
    for (size_t n = 0; n < ports.size(); n++) {
      port = ports[next_port].get();
      next_port = (next_port + 1) % ports.size();
      if (port->requests.pop(slot)) return true;
    }
    return false;
  }

  void run() {
    for (;;) {
      work.wait();
      if (stopping.load(std::memory_order_acquire)) return;
      Port* port = nullptr;
      uint32_t index = 0;
      if (!pop(port, index)) continue;
      Slot& s = port->at(index);
      if (s.drop) {
        s.handshake.reset();
      } else {
        if (s.handshake == nullptr) s.handshake = std::make_unique<ServerHandshake>(std::move(s.policy));
        s.answer = {};
        s.handshake->step(s.bytes, s.now, s.answer);
        if (s.answer.kind != HandshakeAnswer::Kind::kMore) s.handshake.reset();
        steps.fetch_add(1, std::memory_order_relaxed);
      }
      const std::lock_guard lock(port->answering);
      const bool pushed = port->answers.push(index);
      SLUICE_ASSERT(pushed);
    }
  }
};

HandshakeService::HandshakeService(const HandshakeServiceConfig& config) : s_(std::make_unique<State>()) {
  SLUICE_ASSERT(config.threads > 0 && config.workers > 0 && config.handshakes_max > 0);
  for (unsigned i = 0; i < config.workers; i++) s_->ports.push_back(std::make_unique<Port>(config.handshakes_max, s_->work));
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (unsigned i = 0; i < config.threads; i++) {
    s_->threads.emplace_back([s = s_.get()] { s->run(); });
    pthread_setname_np(s_->threads.back().native_handle(), ("handshake-" + std::to_string(i)).c_str());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

HandshakeService::~HandshakeService() {
  s_->stopping.store(true, std::memory_order_release);
  for (size_t i = 0; i < s_->threads.size(); i++) s_->work.post();
  for (std::thread& t : s_->threads) t.join();
}

Handshakes& HandshakeService::port(unsigned worker) { return *s_->ports.at(worker); }
uint64_t HandshakeService::steps() const { return s_->steps.load(std::memory_order_relaxed); }
uint32_t HandshakeService::in_flight(unsigned worker) const { return s_->ports.at(worker)->in_flight.load(std::memory_order_relaxed); }

uint64_t HandshakeService::cpu_time_us() const {
  uint64_t sum = 0;
  for (std::thread& t : s_->threads) {
    clockid_t clock;
    timespec spent{};
    if (pthread_getcpuclockid(t.native_handle(), &clock) == 0 && clock_gettime(clock, &spent) == 0)
      sum += uint64_t(spent.tv_sec) * 1'000'000 + uint64_t(spent.tv_nsec) / 1000;
  }
  return sum;
}

}  // namespace sluice::tls
