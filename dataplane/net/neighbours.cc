// Open addressing with linear probing over kSlots = 2 * kNeighboursMax, removal by shifting back, so there are no tombstones and a miss
// ends at the first free slot. A reader that races with a shift may miss an entry: it then asks for a resolution that is already there, and
// finds it at its next advance().
#include "dataplane/net/neighbours.h"

#include "dataplane/net/wire.h"

namespace sluice::net {
namespace {

uint64_t pack(const MacAddress& m) {
  uint64_t v = 1;  // a known MAC is never 0
  for (uint8_t b : m.b) v = v << 8 | b;
  return v;
}
MacAddress unpack(uint64_t v) {
  MacAddress m;
  for (int i = 5; i >= 0; i--, v >>= 8) m.b[size_t(i)] = uint8_t(v);
  return m;
}

}  // namespace

struct alignas(64) Neighbours::Slot {
  // Read by everyone under `version` (seqlock: odd while worker 0 writes).
  std::atomic<uint32_t> version{0};
  std::atomic<bool> used{false};  // set by readers, taken by the sweep
  std::atomic<uint64_t> key{0};   // 0: free
  std::atomic<uint64_t> mac{0};   // 0: not known

  // Worker 0's.
  enum class State : uint8_t { kIncomplete, kReachable, kProbing } state = State::kIncomplete;
  uint8_t requests = 0;                           // sent without an answer
  Usec due = 0, confirmed_at = 0, last_used = 0;  // due: of the next request (incomplete, probing)

  void write(uint64_t new_key, uint64_t new_mac) {
    const uint32_t v = version.load(std::memory_order_relaxed);
    version.store(v + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    key.store(new_key, std::memory_order_relaxed);
    mac.store(new_mac, std::memory_order_relaxed);
    version.store(v + 2, std::memory_order_release);
  }
  void learn(uint64_t new_mac, Usec now) {
    write(key, new_mac);
    state = State::kReachable;
    requests = 0;
    confirmed_at = now;
  }
  void start(State s, Usec now) {
    state = s;
    requests = 0;
    due = now;
  }
  void move_from(Slot& o) {
    state = o.state;
    requests = o.requests;
    due = o.due;
    confirmed_at = o.confirmed_at;
    last_used = o.last_used;
    used.store(o.used.load(std::memory_order_relaxed), std::memory_order_relaxed);
    write(o.key, o.mac);
    o.write(0, 0);
  }
};

Neighbours::Neighbours(unsigned workers) : slots_(std::make_unique<Slot[]>(kSlots)) {
  for (unsigned w = 1; w < workers; w++) rings_.push_back(std::make_unique<SpscRing<Message>>(1024));
}
Neighbours::~Neighbours() = default;

std::optional<MacAddress> Neighbours::find(unsigned interface, Ipv4 address) {
  const uint64_t wanted = key_of(interface, address);
  for (uint32_t i = home_of(wanted), seen = 0; seen < kSlots; i = (i + 1) % kSlots, seen++) {
    Slot& s = slots_[i];
    uint64_t key = 0, mac = 0;
    for (unsigned tries = 0;; tries++) {
      const uint32_t before = s.version.load(std::memory_order_acquire);
      key = s.key.load(std::memory_order_relaxed);
      mac = s.mac.load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (!(before & 1) && s.version.load(std::memory_order_relaxed) == before) break;
      if (tries == 1000) return std::nullopt;  // worker 0 was interrupted in its write; ask again next turn
    }
    if (key == 0) return std::nullopt;
    if (key != wanted) continue;
    if (!s.used.load(std::memory_order_relaxed)) s.used.store(true, std::memory_order_relaxed);
    if (mac == 0) return std::nullopt;
    return unpack(mac);
  }
  return std::nullopt;
}

bool Neighbours::tell(unsigned worker, const Message& m) {
  SLUICE_DCHECK(worker >= 1 && worker <= rings_.size());
  return rings_[worker - 1]->push(m);
}

Neighbours::Slot* Neighbours::slot_of(uint64_t key) {
  for (uint32_t i = home_of(key);; i = (i + 1) % kSlots) {
    const uint64_t k = slots_[i].key.load(std::memory_order_relaxed);
    if (k == key) return &slots_[i];
    if (k == 0) return nullptr;
  }
}

Neighbours::Resolve Neighbours::resolve(unsigned interface, Ipv4 address, Now now) {
  const uint64_t key = key_of(interface, address);
  if (slot_of(key) != nullptr) return Resolve::kPending;
  if (size() >= kNeighboursMax) {
    refused_.add();
    return Resolve::kFull;
  }
  uint32_t i = home_of(key);
  while (slots_[i].key.load(std::memory_order_relaxed) != 0) i = (i + 1) % kSlots;
  Slot& s = slots_[i];
  s.start(Slot::State::kIncomplete, now.mono_us + kRequestInterval);
  s.requests = 1;
  s.last_used = now.mono_us;
  s.write(key, 0);
  size_.add();
  return Resolve::kAskNow;
}

void Neighbours::heard(const Message& m, Now now) {
  Slot* s = slot_of(key_of(m.interface, m.address));
  if (s == nullptr) return;
  using State = Slot::State;
  const uint64_t claim = pack(m.mac), known = s->mac.load(std::memory_order_relaxed);
  if (s->state == State::kIncomplete) {
    if (m.kind == Message::Kind::kHeardReply) s->learn(claim, now.mono_us);
    return;
  }
  if (claim == known) {
    s->learn(known, now.mono_us);
    return;
  }
  conflicts_.add();
  if (s->state == State::kReachable) s->start(State::kProbing, now.mono_us);
}

void Neighbours::remove(Slot& s) {
  s.write(0, 0);
  size_.sub();
  uint32_t hole = uint32_t(&s - slots_.get());
  for (uint32_t i = (hole + 1) % kSlots;; i = (i + 1) % kSlots) {
    const uint64_t key = slots_[i].key.load(std::memory_order_relaxed);
    if (key == 0) return;
    // It may move to the hole only if the hole is not before its home.
    if ((i - home_of(key)) % kSlots >= (i - hole) % kSlots) {
      slots_[hole].move_from(slots_[i]);
      hole = i;
    }
  }
}

// Moves one entry along; true when `out` is a request to send.
bool Neighbours::step(Slot& s, Now now, Request& out) {
  using State = Slot::State;
  if (s.used.exchange(false, std::memory_order_relaxed)) s.last_used = now.mono_us;
  if (now.mono_us - s.last_used >= kForget) {
    remove(s);
    return false;
  }
  if (s.state == State::kReachable) {
    if (now.mono_us - s.confirmed_at < kReachable || s.last_used <= s.confirmed_at) return false;
    s.start(State::kProbing, now.mono_us);
  }
  if (now.mono_us < s.due) return false;
  if (s.requests >= kRequestsMax) {
    if (s.state == State::kIncomplete) {
      remove(s);
      return false;
    }
    s.write(s.key, 0);
    s.start(State::kIncomplete, now.mono_us);
  }
  const uint64_t key = s.key.load(std::memory_order_relaxed);
  out = {unsigned(key >> 32 & 0x7fff'ffff), {uint32_t(key)}, std::nullopt};
  if (s.state == State::kProbing) out.mac = unpack(s.mac.load(std::memory_order_relaxed));
  s.requests++;
  s.due = now.mono_us + kRequestInterval;
  return true;
}

unsigned Neighbours::advance(Now now, std::span<Request> out) {
  unsigned n = 0;
  for (auto& ring : rings_)
    for (Message m; n < out.size() && ring->pop(m);) {
      if (m.kind != Message::Kind::kResolve) heard(m, now);
      else if (resolve(m.interface, m.address, now) == Resolve::kAskNow) out[n++] = {m.interface, m.address, std::nullopt};
    }
  if (now.mono_us < next_sweep_) return n;
  for (; sweep_at_ < kSlots && n < out.size(); sweep_at_++) {
    Slot& s = slots_[sweep_at_];
    // A removal may shift another entry into this slot; it is looked at in the next sweep.
    if (s.key.load(std::memory_order_relaxed) != 0 && step(s, now, out[n])) n++;
  }
  if (sweep_at_ == kSlots) {
    sweep_at_ = 0;
    next_sweep_ = now.mono_us + kSweep;
  }
  return n;
}

}  // namespace sluice::net
