// Worker: one lcore, one queue pair on every port, one private stack, and the order of it all. poll_once() is the whole data path.
//
// A worker shares nothing mutable on the path. What crosses threads: the snapshot pointer (Publisher), handshakes (tls service rings), log
// lines (a ring), counters (read by admin), circuit budgets (leases) and the neighbour table (worker 0 resolves).
// Thread: construct and destroy on the control thread; run() is the lcore's; command() from any.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "dataplane/net/stack.h"
#include "dataplane/proxy/proxy.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/worker/log_ring.h"
#include "dataplane/worker/publisher.h"
#include "drivers/port.h"
#include "tls-offload/layer.h"

namespace sluice::worker {

// kLatency: never sleeps. kBalanced: pauses, then sleeps at most 50 us. kDev: sleeps 250 us, for machines that do other things too.
enum class IdleProfile : uint8_t { kLatency, kBalanced, kDev };

// clang-format off
#define SLUICE_WORKER_STAGES(X) \
  X(kRx, "rx") X(kNetInput, "net_input") X(kTcpInput, "tcp_input") X(kTimers, "timers") X(kReady, "ready") X(kTcpOutput, "tcp_output") \
  X(kTx, "tx")
// clang-format on
enum class Stage : uint8_t {
#define X(id, name) id,
  SLUICE_WORKER_STAGES(X)
#undef X
      kCount
};
constexpr std::string_view kStageNames[] = {
#define X(id, name) name,
    SLUICE_WORKER_STAGES(X)
#undef X
};

struct WorkerCounters {
  Counter turns, useful_turns, useful_cycles, idle_cycles, sleeps, rx_bursts, rx_frames;
  std::array<Counter, size_t(Stage::kCount)> stage_cycles;  // TSC, of useful turns
};

struct WorkerConfig {
  unsigned index = 0;
  IdleProfile idle = IdleProfile::kBalanced;
  net::Config net;
  tcp::Config tcp;
  proxy::ProxyConfig proxy;
  tls::LayerConfig tls;
};

// What the process shares among workers; outlives them.
struct Shared {
  const std::vector<std::unique_ptr<drivers::Port>>& ports;
  net::Neighbours& neighbours;
  Publisher& publisher;
  upstream::Budgets& budgets;
  tls::Handshakes* handshakes;  // this worker's port; null: no TLS (the self-test failed)
  const tcp::Secrets& secrets;
};

// What a worker holds, by holder. With no client and no idle connection to an origin left all of it is zero: "back at baseline".
struct Holdings {
  uint32_t downstreams = 0, exchanges = 0, pairs = 0, upstreams = 0, upstreams_idle = 0;
  uint32_t tcp_streams = 0, tcp_connections = 0, syn_entries = 0, time_wait = 0, timers = 0;
  uint64_t waiting = 0, arena_chunks = 0, mbufs = 0;
  int64_t circuit_units = 0;
  friend bool operator==(const Holdings&, const Holdings&) = default;
};

enum class Command : uint8_t { kRun, kDrain, kStop };

class Worker {
 public:
  Worker(const WorkerConfig& config, const Shared& shared, MbufPool& pool, LogRing& log, uint64_t seed, const Now& now);
  ~Worker();
  Worker(const Worker&) = delete;

  void run();                      // until kStop
  bool poll_once(const Now& now);  // a turn of run(); true when there was something to do
  void command(Command c) { command_.store(c, std::memory_order_release); }

  // Any thread.
  bool drained() const { return drained_.load(std::memory_order_acquire); }  // after kDrain: nothing is in flight any more
  uint64_t adopted_generation() const { return adopted_.load(std::memory_order_relaxed); }
  const WorkerCounters& counters() const { return counters_; }
  const DropCounters& drops() const { return drops_; }
  const proxy::ProxyCounters& proxy_counters() const { return proxy_counters_; }
  const proxy::SeriesTable& series() const { return series_; }
  const upstream::EndpointStates& endpoints() const { return endpoints_; }
  const tcp::StackCounters& tcp_counters() const { return tcp_.counters(); }
  const net::StackCounters& net_counters() const { return net_.counters(); }
  const tls::LayerCounters* tls_counters() const { return tls_ == nullptr ? nullptr : &tls_->counters(); }
  const MbufPool& pool() const { return pool_; }

  Holdings holdings() const;  // the worker's thread, or any while it does not run

 private:
  class Connector final : public upstream::Connector {
   public:
    Connector(tcp::Stack& tcp, const net::Stack& net) : tcp_(tcp), net_(net) {}
    StreamId connect(const SocketAddress& remote, Usec timeout, const Now& now) override {
      const auto source = net_.source_for(remote.ip);
      return source ? tcp_.connect({*source, 0}, remote, timeout, now) : StreamId{};
    }

   private:
    tcp::Stack& tcp_;
    const net::Stack& net_;
  };
  class Log final : public proxy::LogSink {
   public:
    explicit Log(LogRing& ring) : ring_(ring) {}
    bool write(std::string_view path, std::string_view line) override { return ring_.write(path, line); }

   private:
    LogRing& ring_;
  };
  class StageClock;

  void adopt_tables();
  void path_errors(const Now& now);
  bool ready_pass();
  bool transmit(const Now& now);
  void drain();
  void idle(bool useful);

  const WorkerConfig config_;
  const Shared shared_;
  MbufPool& pool_;
  Log log_;
  DropCounters drops_;
  WorkerCounters counters_;
  proxy::ProxyCounters proxy_counters_;
  proxy::SeriesTable series_;
  upstream::EndpointStates endpoints_;
  Rng rng_;
  TimerWheel wheel_;
  net::Stack net_;
  tcp::Stack tcp_;
  ArenaPool arenas_{kArenaChunksMax};
  Connector connector_;
  upstream::Pool connections_;
  std::unique_ptr<tls::Layer> tls_;
  proxy::Context context_;
  std::unique_ptr<proxy::Proxy> proxy_;
  const tables::Snapshot nothing_;  // before the first tables
  std::vector<SocketAddress> listening_;
  uint64_t generation_ = 0;
  uint32_t empty_turns_ = 0;
  bool draining_ = false;
  std::atomic<Command> command_{Command::kRun};
  std::atomic<uint64_t> adopted_{0};
  std::atomic<bool> drained_{false};
};

// Monotonic and wall time of this moment.
Now clock_now();

}  // namespace sluice::worker
