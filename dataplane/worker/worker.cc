// The turn: rx burst (stamped once) -> L2/L3 -> tcp input -> timers (bounded) -> ready pass -> tcp output -> tx burst -> idle.
#include "dataplane/worker/worker.h"

#include <rte_cycles.h>
#include <rte_pause.h>
#include <time.h>

#include <algorithm>

namespace sluice::worker {
namespace {

uint64_t upstream_cookie(upstream::ConnectionId id) { return proxy::make_cookie(proxy::CookieKind::kUpstream, id); }

constexpr uint32_t kOutputBurst = 256;  // segments taken from TCP in one go
constexpr uint32_t kEmptyTurnsBeforeSleep = 64;

}  // namespace

Now clock_now() {
  timespec mono, wall;
  clock_gettime(CLOCK_MONOTONIC, &mono);
  clock_gettime(CLOCK_REALTIME, &wall);
  return {uint64_t(mono.tv_sec) * kSec + uint64_t(mono.tv_nsec) / 1000, int64_t(wall.tv_sec) * 1'000'000 + wall.tv_nsec / 1000};
}

// Cycles between marks, added to the counters only if the turn turns out to be useful.
class Worker::StageClock {
 public:
  StageClock() : last_(rte_rdtsc()), began_(last_) {}
  void done(Stage s) {
    const uint64_t now = rte_rdtsc();
    cycles_[size_t(s)] += now - last_;
    last_ = now;
  }
  void record(WorkerCounters& c, bool useful) const {
    c.turns.add();
    if (!useful) {
      c.idle_cycles.add(last_ - began_);
      return;
    }
    c.useful_turns.add();
    c.useful_cycles.add(last_ - began_);
    for (size_t i = 0; i < cycles_.size(); i++) c.stage_cycles[i].add(cycles_[i]);
  }

 private:
  uint64_t last_, began_;
  std::array<uint64_t, size_t(Stage::kCount)> cycles_{};
};

Worker::Worker(const WorkerConfig& config, const Shared& shared, MbufPool& pool, LogRing& log, uint64_t seed, const Now& now)
    : config_(config),
      shared_(shared),
      pool_(pool),
      log_(log),
      rng_(seed),
      wheel_(now.mono_us),
      net_(config.net, config.index, shared.neighbours, pool, drops_),
      tcp_(config.tcp, pool, drops_, shared.secrets, now),
      connector_(tcp_, net_),
      connections_(tcp_, connector_, wheel_, endpoints_, config.proxy.connections_max, proxy::kUpstreamTimer, upstream_cookie),
      tls_(shared.handshakes == nullptr ? nullptr : std::make_unique<tls::Layer>(tcp_, pool, *shared.handshakes, drops_, config.tls, now)),
      context_{tcp_,         pool,       arenas_,        wheel_,        rng_,    drops_,         log_,
               connections_, endpoints_, shared.budgets, config_.proxy, series_, proxy_counters_},
      proxy_(std::make_unique<proxy::Proxy>(context_, tls_.get())) {
  context_.tables = &nothing_;
  if (config.proxy.ready_port != 0) (void)tcp_.listen({{}, config.proxy.ready_port});
}

Worker::~Worker() = default;

void Worker::run() {
  shared_.publisher.online(config_.index);
  for (;;) {
    if (command_.load(std::memory_order_acquire) == Command::kStop) break;
    const Now now = clock_now();
    const bool useful = poll_once(now);
    shared_.publisher.quiescent(config_.index);
    idle(useful);
  }
  shared_.publisher.offline(config_.index);
}

bool Worker::poll_once(const Now& now) {
  StageClock clock;
  context_.now = now;
  const tables::Snapshot* tables = shared_.publisher.load();
  context_.tables = tables != nullptr ? tables : &nothing_;
  bool useful = context_.tables->generation != generation_;
  if (useful) adopt_tables();
  if (command_.load(std::memory_order_acquire) == Command::kDrain) drain();

  for (unsigned p = 0; p < shared_.ports.size(); p++) {
    rte_mbuf* frames[kRxBurst];
    if (config_.index == 0) shared_.ports[p]->advance(now.mono_us);
    const unsigned n = shared_.ports[p]->rx(config_.index, frames, kRxBurst);
    clock.done(Stage::kRx);
    if (n == 0) continue;
    useful = true;
    counters_.rx_bursts.add();
    counters_.rx_frames.add(n);
    L4Packet packets[kRxBurst];
    const unsigned k = net_.input(p, {frames, n}, now, packets);
    clock.done(Stage::kNetInput);
    tcp_.input({packets, k}, now);
    clock.done(Stage::kTcpInput);
  }
  path_errors(now);
  tcp_.advance(now);
  if (tls_ != nullptr) {
    useful |= tls_->poll_handshakes(now) > 0;
    tls_->advance(now);
  }
  useful |= wheel_.advance(now.mono_us, kTimersPerTurnMax, [this](TimerNode& node) { proxy_->on_timer(node); }) > 0;
  clock.done(Stage::kTimers);
  useful |= ready_pass();
  clock.done(Stage::kReady);

  L4Packet out[kOutputBurst];
  while (const unsigned n = tcp_.output(out, now)) {
    useful = true;
    for (unsigned i = 0; i < n; i++) net_.send(std::move(out[i]), now);
    if (n < kOutputBurst) break;
  }
  clock.done(Stage::kTcpOutput);
  net_.advance(now);
  useful |= transmit(now);
  clock.done(Stage::kTx);
  clock.record(counters_, useful);
  return useful;
}

// Listeners of the new tables; a listener none of whose chains has its secrets stays shut.
void Worker::adopt_tables() {
  generation_ = context_.tables->generation;
  std::vector<SocketAddress> wanted;
  if (!draining_)
    for (const auto& l : context_.tables->listeners) {
      auto open = [](const auto& c) { return c != nullptr && (!c->tls_required || c->tls != nullptr); };
      if (std::ranges::any_of(l->chains, open) || open(l->default_chain)) wanted.push_back(l->address);
    }
  for (const SocketAddress& a : listening_)
    if (std::ranges::find(wanted, a) == wanted.end()) tcp_.unlisten(a);
  for (const SocketAddress& a : wanted)
    if (!tcp_.is_listening(a)) (void)tcp_.listen(a);  // an IPv6 address has no packet path yet (docs/limits.md)
  listening_ = std::move(wanted);
  proxy_->adopt();
  adopted_.store(generation_, std::memory_order_relaxed);
}

void Worker::path_errors(const Now& now) {
  net::PathError errors[32];
  while (const unsigned n = net_.take_errors(errors))
    for (unsigned i = 0; i < n; i++) {
      const net::PathError& e = errors[i];
      using Kind = net::PathError::Kind;
      if (e.kind == Kind::kFragmentationNeeded) tcp_.packet_too_big(e.tuple, e.seq, e.mtu, now);
      else if (e.kind != Kind::kTimeExceeded) tcp_.unreachable(e.tuple, e.seq, now);
    }
}

// Streams with something new, TCP's and then those on top of TLS, until there are none or the turn's bound is reached.
bool Worker::ready_pass() {
  ReadyStream ready[64];
  uint32_t served = 0;
  for (unsigned n; served < kReadyPerTurnMax && (n = tcp_.poll_events(ready)) > 0; served += n)
    for (unsigned i = 0; i < n; i++) {
      if (proxy::kind_of(ready[i].cookie) == proxy::CookieKind::kTls) tls_->on_lower(ready[i], context_.now);
      else proxy_->on_event(tcp_, ready[i]);
    }
  if (tls_ != nullptr)
    for (unsigned n; served < 2 * kReadyPerTurnMax && (n = tls_->poll_events(ready)) > 0; served += n)
      for (unsigned i = 0; i < n; i++) proxy_->on_event(*tls_, ready[i]);
  const bool again = proxy_->has_again();
  proxy_->run_again();
  return served > 0 || again;
}

bool Worker::transmit(const Now&) {
  bool any = false;
  for (unsigned p = 0; p < shared_.ports.size(); p++) {
    const std::span<rte_mbuf*> frames = net_.frames(p);
    if (frames.empty()) continue;
    any = true;
    unsigned done = 0;
    while (done < frames.size()) {
      const unsigned n = std::min<unsigned>(unsigned(frames.size()) - done, kTxBurst);
      const unsigned k = shared_.ports[p]->tx(config_.index, frames.data() + done, n);
      done += k;
      if (k < n) break;
    }
    net_.sent(p, done);
  }
  return any;
}

void Worker::drain() {
  if (!draining_) {
    draining_ = true;
    for (const SocketAddress& a : listening_) tcp_.unlisten(a);
    listening_.clear();
    proxy_->drain();
  }
  if (proxy_->exchanges_live() == 0 && proxy_->pairs_live() == 0 && proxy_->live() == 0 && tcp_.connections() == connections_.live())
    drained_.store(true, std::memory_order_release);
}

Holdings Worker::holdings() const {
  return {.downstreams = proxy_->live(),
          .exchanges = proxy_->exchanges_live(),
          .pairs = proxy_->pairs_live(),
          .upstreams = connections_.live(),
          .upstreams_idle = connections_.idle(),
          .tcp_streams = tcp_.streams(),
          .tcp_connections = tcp_.connections(),
          .syn_entries = tcp_.syn_entries(),
          .time_wait = tcp_.time_wait_entries(),
          .timers = wheel_.armed(),
          .waiting = proxy_->waiting(),
          .arena_chunks = arenas_.in_use(),
          .mbufs = pool_.held(),
          .circuit_units = proxy_->circuit_units()};
}

void Worker::idle(bool useful) {
  if (useful || config_.idle == IdleProfile::kLatency) {
    empty_turns_ = 0;
    return;
  }
  if (++empty_turns_ < kEmptyTurnsBeforeSleep) {
    rte_pause();
    return;
  }
  counters_.sleeps.add();
  const timespec nap{0, config_.idle == IdleProfile::kDev ? 250'000 : 50'000};
  nanosleep(&nap, nullptr);
}

}  // namespace sluice::worker
