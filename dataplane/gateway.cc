#include "dataplane/gateway.h"

#include <fcntl.h>
#include <pthread.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "ctrl/admin/endpoints.h"
#include "ctrl/agent/agent.h"
#include "ctrl/agent/dump.h"
#include "ctrl/explain/explain.h"
#include "ctrl/log/console.h"
#include "ctrl/log/writer.h"
#include "dataplane/metrics.h"
#include "dataplane/worker/worker.h"
#include "drivers/eal.h"
#include "tls-offload/self_test.h"

namespace sluice {
namespace {

template <class T>
T random_value() {
  T value;
  if (getrandom(&value, sizeof value, 0) != ssize_t(sizeof value)) std::abort();  // Linux gives up to 256 bytes whole
  return value;
}

// Below 4 CPUs: workers on the last ones, everything else on all of them, blocking. From 4 on: the main lcore and its helpers keep CPU 0.
struct CpuPlan {
  std::string lcores, text;
};
CpuPlan plan_cpus(unsigned workers) {
  const unsigned cpus = std::max(1u, unsigned(sysconf(_SC_NPROCESSORS_ONLN)));
  CpuPlan plan;
  plan.lcores = "0@(0-" + std::to_string(cpus - 1) + ")";
  plan.text = std::to_string(cpus) + " CPUs: control, handshakes, log on any;";
  for (unsigned w = 0; w < workers; w++) {
    const unsigned cpu = cpus == 1 ? 0 : cpus - 1 - w % (cpus - 1);
    plan.lcores += "," + std::to_string(w + 1) + "@" + std::to_string(cpu);
    plan.text += " worker " + std::to_string(w) + " on " + std::to_string(cpu) + (w + 1 < workers ? "," : "");
  }
  return plan;
}

std::expected<net::Config, std::string> net_config(const agent::Bootstrap& b, const std::vector<std::unique_ptr<drivers::Port>>& ports) {
  net::Config c;
  c.ports = unsigned(ports.size());
  for (unsigned i = 0; i < ports.size(); i++) {
    net::Interface n;
    n.port = i;
    n.mac = b.ports[i].mac.value_or(ports[i]->info().mac);
    n.vlan = b.ports[i].vlan;
    n.addresses = b.ports[i].addresses;
    n.mtu = ports[i]->info().mtu;
    c.interfaces.push_back(n);
  }
  for (const agent::RouteConfig& r : b.routes) c.routes.push_back({r.to, r.via});
  if (auto ok = net::validate(c); !ok) return std::unexpected(ok.error());
  return c;
}

class Gateway {
 public:
  Gateway(const agent::Bootstrap& bootstrap, const std::optional<DevOptions>& dev) : b_(bootstrap), dev_options_(dev) {}
  ~Gateway() {
    stop_workers();
    workers_.clear();  // before what they use
  }

  std::expected<void, std::string> start() {
    const CpuPlan plan = plan_cpus(b_.workers);
    console_.say(log::Level::kInfo, plan.text);
    const uint32_t mbufs = b_.mbufs_per_worker != 0 ? b_.mbufs_per_worker : mbufs_per_worker(uint32_t(b_.ports.size()), b_.workers);
    const uint64_t pool_bytes = uint64_t(mbufs) * MbufPool::bytes_per_mbuf() * b_.workers;
    drivers::EalOptions eal;
    eal.memory = b_.hugepages == agent::Hugepages::kYes  ? drivers::EalMemory::kHugepages
                 : b_.hugepages == agent::Hugepages::kNo ? drivers::EalMemory::kNoHuge
                                                         : drivers::EalMemory::kAuto;
    eal.memory_mib = unsigned(pool_bytes / (1 << 20)) + 96;
    eal.lcores = plan.lcores;
    for (const auto& p : b_.ports) eal.ports.push_back(p.devargs);
    auto started = drivers::Eal::start(eal);
    if (!started) return std::unexpected(started.error());
    eal_.emplace(std::move(*started));
    console_.say(log::Level::kInfo, "memory: " + eal_->summary() + "; " + std::to_string(mbufs) + " mbufs per worker, " +
                                        std::to_string(pool_bytes >> 20) + " MiB in all");

    // The most that connections may hold is what nobody else needs.
    const uint32_t others = mbufs_per_worker(uint32_t(b_.ports.size()), b_.workers) - kHeldMbufsMax;
    if (mbufs < others + 1024)
      return std::unexpected("memory.mbufs: " + std::to_string(mbufs) + " is too few: ports and reserve alone take " +
                             std::to_string(others) + "; give at least " + std::to_string(others + 1024));
    for (unsigned w = 0; w < b_.workers; w++) {
      auto pool = MbufPool::create("worker" + std::to_string(w), mbufs, mbufs - others, int(SOCKET_ID_ANY));
      if (!pool) return std::unexpected(pool.error());
      pools_.push_back(std::make_unique<MbufPool>(std::move(*pool)));
    }
    const OwnerHash owner(b_.workers);
    owner_ = owner;
    for (const auto& p : b_.ports) {
      drivers::PortOptions o;
      o.spec = p.devargs;
      o.mac = p.mac;
      for (auto& pool : pools_) o.pools.push_back(pool.get());
      o.owner = owner;
      auto port = drivers::open_port(o);
      if (!port) return std::unexpected("port " + p.name + ": " + port.error());
      const drivers::PortInfo& info = (*port)->info();
      console_.say(log::Level::kInfo, "port " + p.name + ": " + info.name + " (" + info.device + "), " + info.mac.to_string() +
                                          (info.note.empty() ? "" : "; " + info.note));
      ports_.push_back(std::move(*port));
    }
    auto net = net_config(b_, ports_);
    if (!net) return std::unexpected(net.error());

    neighbours_ = std::make_unique<net::Neighbours>(b_.workers);
    publisher_ = std::make_unique<worker::Publisher>(b_.workers);
    // Without a passed self-test the workers get no handshake service, and chains with TLS refuse connections.
    if (const auto tested = tls::self_test(worker::clock_now())) {
      console_.say(log::Level::kInfo, "TLS: " + tls::engines());
      handshakes_ = std::make_unique<tls::HandshakeService>(
          tls::HandshakeServiceConfig{.threads = std::max(1u, std::thread::hardware_concurrency() / 2), .workers = b_.workers});
    } else {
      console_.say(log::Level::kError, tested.error());
    }
    writer_ = std::make_unique<log::Writer>(b_.log_dir, b_.log_stdout ? "/dev/stdout" : "");
    secrets_.isn = random_value<SipKey>();
    secrets_.table = random_value<SipKey>();
    secrets_.ports = random_value<SipKey>();
    secrets_.timestamps = random_value<SipKey>();
    for (unsigned w = 0; w < b_.workers; w++) {
      worker::WorkerConfig c;
      c.index = w;
      c.idle = b_.idle == agent::IdleProfile::kLatency ? worker::IdleProfile::kLatency
               : b_.idle == agent::IdleProfile::kDev   ? worker::IdleProfile::kDev
                                                       : worker::IdleProfile::kBalanced;
      c.net = *net;
      c.tcp.owner = &owner_;
      c.tcp.worker = w;
      c.tcp.connections_max = b_.limits.connections;
      c.proxy.ready_port = b_.ready_port;
      c.proxy.connections_max = b_.limits.connections;
      c.proxy.exchanges_max = b_.limits.exchanges;
      c.proxy.request_headers_timeout = b_.limits.request_headers_timeout;
      c.proxy.send_stall_timeout = b_.limits.send_stall_timeout;
      c.proxy.drain_deadline = b_.drain_deadline;
      c.tls.sessions_max = b_.limits.connections;
      rings_.push_back(std::make_unique<worker::LogRing>());
      writer_->add(rings_.back().get());
      const worker::Shared shared{ports_,  *neighbours_, *publisher_, budgets_, handshakes_ == nullptr ? nullptr : &handshakes_->port(w),
                                  secrets_};
      workers_.push_back(
          std::make_unique<worker::Worker>(c, shared, *pools_[w], *rings_.back(), random_value<uint64_t>(), worker::clock_now()));
    }
    writer_->start();
    return {};
  }

  std::expected<void, std::string> run(sigset_t signals) {
    // New tables must not wait behind the load that they steer; where we may not (no root), they wait a little.
    (void)setpriority(PRIO_PROCESS, id_t(gettid()), -5);
    std::unique_ptr<Dev> dev;
    if (dev_options_) {
      auto started = Dev::start(*dev_options_, b_, console_);
      if (!started) return std::unexpected(started.error());
      dev = std::move(*started);
    }
    agent::Agent agent(
        b_,
        [this](std::shared_ptr<const tables::Snapshot> s) {
          budgets_.ensure(*s);
          publisher_->publish(std::move(s));
        },
        [this](log::Level level, const std::string& line) { console_.say(level, line); });
    if (auto ok = agent.start(worker::clock_now().mono_us); !ok) return ok;
    serve_operators(agent);
    for (unsigned w = 0; w < workers_.size(); w++)
      if (rte_eal_remote_launch(
              [](void* worker) {
                prctl(PR_SET_TIMERSLACK, 1000);
                static_cast<worker::Worker*>(worker)->run();
                return 0;
              },
              workers_[w].get(), w + 1) != 0)
        return std::unexpected("worker " + std::to_string(w) + " does not start");
    launched_ = true;
    console_.say(log::Level::kInfo, "ready: " + std::to_string(workers_.size()) + " worker(s), process " + std::to_string(getpid()));

    Usec drain_until = kNever;
    agent.run([&](Usec now) {
      publisher_->reclaim();
      const timespec none{};
      const int signal = sigtimedwait(&signals, nullptr, &none);
      if (signal == SIGHUP) writer_->reopen();
      if ((signal == SIGTERM || signal == SIGINT || drain_asked_.exchange(false)) && drain_until == kNever) {
        console_.say(log::Level::kInfo,
                     "draining: no new connections, at most " + std::to_string(b_.drain_deadline / kSec) + " s for what is in flight");
        drain_until = now + b_.drain_deadline;
        for (auto& w : workers_) w->command(worker::Command::kDrain);
      }
      const bool all = std::ranges::all_of(workers_, [](const auto& w) { return w->drained(); });
      if (drain_until != kNever && (all || now >= drain_until)) agent.stop();
    });
    admin_.reset();
    stats_.reset();
    stop_workers();
    console_.say(log::Level::kInfo, "stopped");
    return {};
  }

 private:
  void serve_operators(agent::Agent& agent) {
    admin::AdminProviders p;
    p.status_text = [this, &agent] {
      return agent.ask([&] { return status_text(agent.status(worker::clock_now().mono_us), view()); })
          .value_or("the control thread does not answer\n");
    };
    p.status_json = [this, &agent] {
      return agent.ask([&] { return status_json(agent.status(worker::clock_now().mono_us), view()); }).value_or("{}");
    };
    p.security_refused = [&agent] {
      return agent.ask([&] { return agent.status(worker::clock_now().mono_us).security_refused(); }).value_or(true);
    };
    p.config_dump_json = [&agent] { return agent.ask([&] { return agent.config_dump_json(); }).value_or("{}"); };
    p.clusters_text = [this, &agent] { return agent.ask([&] { return clusters_text(agent.snapshot().get(), view()); }).value_or(""); };
    p.certs_json = [&agent] { return agent.ask([&] { return agent.certs_json(); }).value_or("{}"); };
    p.explain = [&agent](const std::string& text, bool json) -> std::expected<std::string, std::string> {
      const auto question = explain::parse_question(text);
      if (!question) return std::unexpected(question.error());
      const auto snapshot = agent.ask([&] { return agent.snapshot(); }).value_or(nullptr);
      if (snapshot == nullptr) return std::unexpected("there are no tables yet");
      const auto answer = explain::explain(*snapshot, *question);
      if (!answer) return std::unexpected(answer.error());
      const auto nowhere = [](const explain::Origin&) { return std::string(); };
      return json ? explain::render_json(*answer, nowhere) : explain::render_text(*answer, nowhere);
    };
    p.log_level = [this] { return std::string(log::name_of(console_.level())) + "\n"; };
    p.set_log_level = [this](std::string_view name) { console_.set_level(*log::level_of(name)); };
    p.drain = [this] { drain_asked_ = true; };
    if (!b_.admin_socket.empty() && b_.admin_socket != "off") {
      admin_ = std::make_unique<admin::Server>();
      admin::add_admin(*admin_, std::move(p));
      if (auto ok = admin_->listen_unix(b_.admin_socket); ok) {
        admin_->start();
      } else {
        console_.say(log::Level::kWarning, "admin: " + ok.error());
        admin_.reset();
      }
    }
    if (b_.stats_address != "off") {
      stats_ = std::make_unique<admin::Server>();
      admin::add_stats(
          *stats_,
          [this, &agent] {
            return prometheus_text(view()) +
                   agent.ask([&] { return agent::metrics_text(agent.status(worker::clock_now().mono_us)); }).value_or("");
          },
          [this] { return std::ranges::all_of(workers_, [](const auto& w) { return w->adopted_generation() > 0; }); });
      if (auto ok = stats_->listen_loopback(b_.stats_address); ok) {
        stats_->start();
      } else {
        console_.say(log::Level::kWarning, "stats: " + ok.error());
        stats_.reset();
      }
    }
  }

  GatewayView view() const {
    GatewayView v;
    for (const auto& w : workers_) v.workers.push_back(w.get());
    for (const auto& p : ports_) v.ports.push_back(p.get());
    v.handshake_cpu_us = handshakes_ == nullptr ? 0 : handshakes_->cpu_time_us();
    v.log = writer_->stats();
    return v;
  }

  void stop_workers() {
    if (!launched_) return;
    launched_ = false;
    for (auto& w : workers_) w->command(worker::Command::kStop);
    rte_eal_mp_wait_lcore();
  }

  const agent::Bootstrap& b_;
  const std::optional<DevOptions>& dev_options_;
  log::Console console_{STDOUT_FILENO};
  std::optional<drivers::Eal> eal_;
  std::vector<std::unique_ptr<MbufPool>> pools_;
  OwnerHash owner_;
  std::vector<std::unique_ptr<drivers::Port>> ports_;
  std::unique_ptr<net::Neighbours> neighbours_;
  std::unique_ptr<worker::Publisher> publisher_;
  upstream::Budgets budgets_;
  std::unique_ptr<tls::HandshakeService> handshakes_;
  tcp::Secrets secrets_;
  std::vector<std::unique_ptr<worker::LogRing>> rings_;
  std::unique_ptr<log::Writer> writer_;
  std::vector<std::unique_ptr<worker::Worker>> workers_;
  std::unique_ptr<admin::Server> admin_, stats_;
  std::atomic<bool> drain_asked_{false};
  bool launched_ = false;
};

}  // namespace

std::expected<void, std::string> run_gateway(const agent::Bootstrap& bootstrap, const std::optional<DevOptions>& dev) {
  // Signals are taken by the control thread when it looks for them; every thread started from here on inherits the mask.
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  Gateway gateway(bootstrap, dev);
  if (auto ok = gateway.start(); !ok) return ok;
  return gateway.run(signals);
}

}  // namespace sluice
