// World: real workers between a client and its origins, all in one thread and in virtual time.
//
//   Host client (10.0.0.2) === memory link === port 0 | worker(s) | port 1 === memory link === Host origins (10.1.0.2 .. 10.1.0.5)
//                                              10.0.0.1             10.1.0.1
//
// (The client's further addresses, for connect_from: 10.0.0.7, .9, .130.)
//
// Nothing of ours is replaced: a host is a net::Stack and a tcp::Stack, the gateway is worker::Worker driven by poll_once(), its tables are
// compiled from Envoy's resources (envoy.h writes them). A test speaks for both hosts, byte by byte, through Peers, and reads the access
// log. Time goes on only in step(): a little while something happens, by milliseconds while nothing does, so a test neither sleeps nor
// depends on the machine's speed. Everything random comes from Options::seed.
//
// A test ends with settle(): peers and tables go, and then nobody may hold anything (worker::Holdings, circuit units, endpoint gauges,
// every mbuf of every pool), every log line must have been read, and no worker may have been busy for long with nothing (kSpinMax).
#pragma once
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>

#include "ctrl/compile/compile.h"
#include "dataplane/worker/worker.h"
#include "drivers/impair_port.h"
#include "drivers/memory_port.h"
#include "tests/world/envoy.h"
#include "tests/world/message.h"

namespace sluice::world {

class Host;

// One end of a TCP connection in a test's hands.
struct Peer {
  Peer(Host& h, StreamId s) : host(h), id(s) {}
  void send(std::string_view bytes) { unsent += bytes; }  // leaves as the window allows
  void finish() { finishing = true; }                     // FIN after all that was given to send()
  void reset();                                           // RST; `gone` from here on
  // The next whole message of `received` is cut off and returned.
  std::optional<Message> take(bool head_request = false) { return take_message(received, head_request, peer_finished); }
  SocketAddress local() const;
  SocketAddress remote() const;

  Host& host;
  StreamId id;
  std::string unsent, received;
  bool reads = true;                                         // false: the window closes behind what comes
  bool finishes_back = true;                                 // answers the other side's end with its own
  bool opened = false, peer_finished = false, gone = false;  // gone: the stream is over, `end` says how
  bool finishing = false, finished = false;
  StreamEnd end = StreamEnd::kOpen;
  uint64_t moved = 0;  // bytes sent and received
  uint64_t user = 0;   // the test's
};

class Host {
 public:
  Host(std::initializer_list<const char*> addresses, const tcp::Config& config, MbufPool& pool, std::unique_ptr<drivers::Port> port,
       uint64_t seed, const Now& now);
  ~Host();
  Peer& connect(const SocketAddress& to, const Now& now, std::optional<IpAddress> from = {});  // default: its first address
  void listen(const SocketAddress& a) { ASSERT_TRUE(tcp->listen(a)); }
  void unlisten(const SocketAddress& a) { tcp->unlisten(a); }
  bool turn(const Now& now);

  MbufPool& pool;
  std::unique_ptr<drivers::Port> port;
  DropCounters drops;
  net::Neighbours neighbours;
  std::unique_ptr<net::Stack> net;
  std::unique_ptr<tcp::Stack> tcp;
  std::deque<Peer> peers;              // connected or accepted, in order; they stay until the test's end
  std::function<void(Peer&)> on_turn;  // once per turn and peer that is not gone
  bool cut = false;                    // the cable is out: nothing arrives, nothing leaves
  std::set<IpAddress> deaf;            // addresses of ours at which nothing arrives (but ARP is answered)

 private:
  void events();
  bool pump(Peer& p);
  size_t first_alive_ = 0;  // every peer before it is gone
};

// One access record, as envoy.h's log format writes it.
struct Line {
  std::string status, flags, details, received, sent, method, path, cluster, upstream, attempts, transport, route, connection, duration_ms;
  std::string summary() const { return status + " " + flags + " " + details + " " + received + "/" + sent; }
};

struct Options {
  uint64_t seed = 1;
  unsigned workers = 1;
  drivers::Impairment wire;  // of both links, both directions (with two workers: towards the hosts only)
  uint32_t mbufs_held = 6000;
  uint32_t window = 64 * 1024;  // receive window and send buffer of every stack
  proxy::ProxyConfig proxy{};
};

class World {
 public:
  static constexpr unsigned kSpinMax = 300;  // useful turns on end without a frame in or out; not asked of a worker short of mbufs
  explicit World(const Options& options = {});
  ~World();
  World(const World&) = delete;

  // Applies and publishes; false (and a failure) when the compiler refuses one.
  bool push(const std::vector<std::string>& resources);
  void push(std::shared_ptr<const tables::Snapshot> tables);  // made elsewhere; a world takes such or resources, not both
  void remove(std::initializer_list<std::pair<const char*, std::string>> type_and_name);  // and publishes
  void drain() {
    for (auto& w : workers) w->command(worker::Command::kDrain);
  }

  bool step();  // true when anything happened
  // Runs until `done`; false when it is not within `most`.
  bool until(const std::function<bool()>& done, Usec most = 5 * kSec);
  void pass(Usec time);
  Now now{1'000'000, 1'700'000'000'000'000};
  uint64_t steps = 0;

  Peer& connect(uint16_t port = 80) { return client.connect({*IpAddress::parse("10.0.0.1"), port}, now); }
  Peer& connect_from(const IpAddress& from, uint16_t port) { return client.connect({*IpAddress::parse("10.0.0.1"), port}, now, from); }
  // One whose frames belong to that worker.
  Peer& connect_to_worker(unsigned index, uint16_t port = 80);
  // The n-th connection that origins have accepted (from 0); a failure when it does not come within `most`.
  Peer& accepted(size_t n, Usec most = 5 * kSec);
  // The next whole message at a peer; empty and a failure when none comes.
  Message message(Peer& p, bool head_request = false, Usec most = 5 * kSec);
  // The next record of the access log.
  Line line(Usec most = 5 * kSec);
  std::vector<Line> lines(size_t n, Usec most = 5 * kSec);
  size_t lines_unread() const { return log_.size(); }

  void settle();

  static SocketAddress origin(unsigned last, uint16_t port = 80) { return {Ipv4{0x0a010000 + last}, port}; }
  worker::Holdings holdings() const;  // of all workers together

  Options options;
  upstream::Budgets budgets;

 private:
  void publish();
  bool worker_turn(size_t i);
  std::vector<MbufPool*> pools_;
  OwnerHash owner_;
  tcp::Secrets secrets_;
  std::vector<std::unique_ptr<drivers::Port>> ports_;
  std::unique_ptr<net::Neighbours> neighbours_;
  worker::Publisher publisher_;
  compile::Compiler compiler_;
  std::vector<std::unique_ptr<worker::LogRing>> rings_;
  std::deque<Line> log_;
  std::vector<std::unique_ptr<drivers::Port>> host_ports_;
  unsigned quiet_ = 0;
  struct Spin {
    uint64_t frames = 0;
    unsigned turns = 0, most = 0;
  };
  std::vector<Spin> spin_;
  bool settled_ = false;

 public:
  std::vector<std::unique_ptr<worker::Worker>> workers;
  Host client, origins;
};

}  // namespace sluice::world
