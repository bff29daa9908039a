// Worker: one lcore, one queue pair on every port, one private stack, and the order of it all. poll_once() is the whole data path.
//
// A worker shares nothing mutable on the path. What crosses threads: the snapshot pointer (Publisher), handshakes (tls service rings), log lines (a ring),
// counters (read by admin), circuit budgets (leases) and the neighbour table (worker 0 resolves).
// Thread: construct and destroy on the control thread; run() is the lcore's; stop/drain by set_command from the control thread.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "dataplane/net/stack.h"
#include "dataplane/proxy/proxy.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/worker/publisher.h"
#include "drivers/port.h"
#include "tls-offload/handshake_service.h"

namespace sluice::worker {

// spin: never sleeps. balanced: pauses, then sleeps at most 50 us. dev: sleeps up to 500 us, for machines that do other things too.
enum class IdleProfile : uint8_t { kLatency, kBalanced, kDev };

enum class Stage : uint8_t { kRx, kNetInput, kTcpInput, kTimers, kReady, kTcpOutput, kTx, kCount };
constexpr std::string_view kStageNames[] = {"rx", "net_input", "tcp_input", "timers", "ready", "tcp_output", "tx"};

struct WorkerCounters {
  Counter turns, useful_turns, useful_cycles, idle_cycles, sleeps;
  Counter rx_bursts, rx_frames;
  std::array<Counter, size_t(Stage::kCount)> stage_cycles;  // of useful turns
  Counter requests_seen;
};

struct WorkerConfig {
  unsigned index = 0, workers = 1;
  IdleProfile idle = IdleProfile::kBalanced;
  net::Config net;
  tcp::Config tcp;
  proxy::ProxyConfig proxy;
};

// What the process shares among workers; outlives them.
struct Shared {
  std::vector<std::unique_ptr<drivers::Port>>& ports;
  net::Neighbours& neighbours;
  Publisher& publisher;
  upstream::Budgets& budgets;
  tls::HandshakeService* handshakes;  // null: no TLS listeners (self-test failed)
  const tcp::Secrets& secrets;
};

enum class Command : uint8_t { kRun, kDrain, kStop };

class Worker {
 public:
  Worker(const WorkerConfig& config, const Shared& shared, MbufPool& pool, proxy::LogSink& log, uint64_t seed, const Now& now);
  ~Worker();

  void run();  // until kStop
  void poll_once(const Now& now);
  void set_command(Command c) { command_.store(c, std::memory_order_release); }

  // Any thread.
  const WorkerCounters& counters() const { return counters_; }
  const DropCounters& drops() const { return drops_; }
  const proxy::ProxyCounters& proxy_counters() const { return proxy_counters_; }
  const proxy::SeriesTable& series() const { return series_; }
  const upstream::EndpointStates& endpoints() const { return endpoints_; }
  const tcp::Stack& tcp() const { return tcp_; }
  const net::Stack& net() const { return net_; }
  const MbufPool& pool() const { return pool_; }
  uint64_t adopted_generation() const { return adopted_.load(std::memory_order_relaxed); }
  bool drained() const { return drained_.load(std::memory_order_acquire); }  // nothing is in flight any more

 private:
  struct Connector;
  void ready_pass(const Now& now);
  void idle(bool useful, uint64_t cycles);

  const WorkerConfig config_;
  Shared shared_;
  MbufPool& pool_;
  DropCounters drops_;
  WorkerCounters counters_;
  proxy::ProxyCounters proxy_counters_;
  proxy::SeriesTable series_;
  upstream::EndpointStates endpoints_;
  Rng rng_;
  TimerWheel wheel_;
  net::Stack net_;
  tcp::Stack tcp_;
  ArenaPool arenas_;
  std::unique_ptr<Connector> connector_;
  upstream::Pool connections_;
  std::unique_ptr<tls::Layer> tls_;
  proxy::Context context_;
  proxy::Proxy proxy_;
  std::vector<SocketAddress> listening_;
  uint64_t generation_ = 0;
  uint32_t empty_turns_ = 0;
  bool draining_ = false;
  std::atomic<Command> command_{Command::kRun};
  std::atomic<uint64_t> adopted_{0};
  std::atomic<bool> drained_{false};
};

}  // namespace sluice::worker
