// Pool: one worker's upstream connections, lent to exchanges one at a time (HTTP/1.1) or for life (raw pairs). Keep-alive by endpoint, most
// recently used first, so that the rest can go idle and close.
//   open()       a new connection to an endpoint; kOpened or kClosed comes as an event of its stream
//   take_idle()  an idle one of the endpoint, or none
//   give_idle()  back after a whole response; the peer may close it any time, which only costs a look
//   close()      forget; with FIN when idle or `graceful`, else by reset
// A connection that was used before (requests > 0) and dies before the first response byte is "stale": the exchange tries again elsewhere
// when nothing of the request could have been acted on (proxy decides). Idle connections end at the cluster's idle timeout, when their
// endpoint left the tables (sweep at publish; lent ones when they come back), or when any byte arrives on them.
#pragma once
#include <functional>

#include "dataplane/base/slab.h"
#include "dataplane/base/timer.h"
#include "dataplane/packet/stream.h"
#include "dataplane/upstream/balancer.h"
#include "dataplane/upstream/circuit.h"

namespace sluice::upstream {

struct Connection;
using ConnectionId = Handle<Connection>;

// What connects: the TCP stack behind the worker. An invalid id means no port, route or memory.
class Connector {
 public:
  virtual ~Connector() = default;
  virtual StreamId connect(const SocketAddress& remote, Usec timeout, const Now& now) = 0;
};

struct Connection {
  Connection(uint8_t timer_kind) : timer(timer_kind, 0) {}
  StreamId stream;
  SocketAddress remote;
  tables::ClusterId cluster = tables::kNoId;
  uint32_t endpoint = 0;  // Endpoint::id
  uint32_t requests = 0;  // lent so far
  uint64_t user = 0;      // the exchange or pair that has it; 0 while idle
  Usec idle_timeout = 0;
  bool opened = false, idle = false;
  bool retired = false;  // its endpoint left the tables while it was lent: it ends when it comes back
  TimerNode timer;       // idle
  uint32_t idle_prev = ~0u, idle_next = ~0u;
};

class Pool {
 public:
  // timer_kind: the wheel's kind for this pool's nodes; the worker calls on_timer for them. cookie_of packs a connection's handle into a
  // stream cookie.
  Pool(StreamLayer& streams, Connector& connector, TimerWheel& wheel, EndpointStates& states, uint32_t connections_max, uint8_t timer_kind,
       uint64_t (*cookie_of)(ConnectionId));
  ~Pool();

  Connection* get(ConnectionId id) { return slab_.get(id); }
  ConnectionId open(const tables::Cluster& cluster, const tables::Endpoint& endpoint, uint64_t user, const Now& now);
  ConnectionId take_idle(uint32_t endpoint, uint64_t user);
  void give_idle(ConnectionId id, const Now& now);
  void close(ConnectionId id, bool graceful = false);
  void on_timer(TimerNode& node) { close(ConnectionId::from_bits(node.cookie)); }
  // Idle connections for which keep() says no end now, lent ones when they come back.
  void sweep(const std::function<bool(const Connection&)>& keep);
  uint32_t live() const { return slab_.live(); }
  uint32_t idle() const { return idle_count_; }

  std::function<void(const Connection&)> on_gone;  // gives circuit units back

 private:
  void unlink_idle(Connection& c);
  StreamLayer& streams_;
  Connector& connector_;
  TimerWheel& wheel_;
  EndpointStates& states_;
  Slab<Connection> slab_;
  const uint8_t timer_kind_;
  uint64_t (*const cookie_of_)(ConnectionId);
  uint32_t idle_count_ = 0;
};

}  // namespace sluice::upstream
