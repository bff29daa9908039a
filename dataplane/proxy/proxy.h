// Proxy: one worker's exchanges and raw pairs. It joins two streams by handle and never sees a connection, a packet or a record: everything
// below it is a StreamLayer. The worker calls it in the ready pass, with Context::now and ::tables set for the turn:
//   adopt()            when the tables are new: listeners, drains, idle connections of endpoints that are gone
//   on_event(...)      per ready stream, of either layer
//   on_timer(node)     per expired node of the proxy's kinds
//   run_again()        what stopped for want of memory, or to be fair to others
//
// A downstream connection goes kInspect (ClientHello, or at once) -> kHandshake (TLS terminated) -> kHttp or kTunnel. Each request is an
// Exchange: it begins with the first byte of its head and ends with one access record. Every request looks its chain up in the newest
// tables, so policies and routes of a kept-alive connection are never old; a connection whose chain is gone, asks more of a client
// certificate than the peer proved, or no longer trusts the root that vouched for it, is drained. A root that is added drains nobody.
//
// Order of a request, as Envoy under istiod (http_connection_manager, then its filters): head checks -> path normalization -> header
// mutation
// -> route look-up -> RBAC filters in order -> route action. No outcome of routing leaves before the authorization verdict.
//
// Memory: slabs for downstreams, exchanges and pairs, arenas for heads; bodies are held only for a retry (at most kReplayBytesMax).
// Thread: its worker's. Errors are answers, flags and counters, never exceptions.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/authz/authz.h"
#include "dataplane/base/slab.h"
#include "dataplane/http/date.h"
#include "dataplane/http/h1_parser.h"
#include "dataplane/http/message.h"
#include "dataplane/proxy/context.h"
#include "dataplane/proxy/cookie.h"
#include "dataplane/proxy/record.h"
#include "dataplane/route/route.h"
#include "tls-offload/client_hello.h"

namespace sluice::proxy {

constexpr uint32_t kReplayBytesMax = 64 * 1024;  // request body kept for a retry
constexpr uint32_t kRequestsPerTurnMax = 16;     // pipelined requests of one connection served in one go
constexpr uint8_t kInterimsMax = 100;            // 1xx answers of an origin before the answer

struct Downstream;
struct Exchange;
struct Pair;
using DownstreamId = Handle<Downstream>;
using ExchangeId = Handle<Exchange>;
using PairId = Handle<Pair>;

// One side of an exchange or pair.
struct Wire {
  StreamLayer* layer = nullptr;
  StreamId id;
  ReadView readable() const { return layer->readable(id); }
  void consume(size_t n) const { layer->consume(id, uint32_t(n)); }
  StreamInfo info() const { return layer->info(id); }
};

struct Downstream {
  enum class Phase : uint8_t { kInspect, kHandshake, kHttp, kTunnel };
  Downstream() : timer(kDownstreamTimer, 0) {}

  Phase phase = Phase::kInspect;
  bool draining = false;         // no further request is read
  bool ready_probe = false;      // the connection is to the ready port
  bool is_tls = false;           // the client speaks TLS
  bool inspection_over = false;  // by listener_filters_timeout: it has not said so in time
  Wire tcp, wire;                // wire: TLS when terminated here, else tcp
  std::shared_ptr<const tables::Listener> listener;
  std::shared_ptr<const tables::FilterChain> chain;
  uint64_t generation = 0;  // of the tables that `listener` and `chain` were found in
  SocketAddress local, remote;
  tls::ClientHello hello;
  const tls::PeerInfo* peer = nullptr;  // the TLS layer's, while the stream lives
  http::ConnectionFacts facts;
  Usec accepted_us = 0, drain_deadline = kNever;
  uint64_t number = 0;  // %CONNECTION_ID%
  ExchangeId exchange;
  PairId pair;
  TimerNode timer;  // inspection, handshake, idle, drain
};

struct Exchange {
  // kHead: reading the head. kWaiting: for a connection. kBackoff: before another attempt. kForwarding: an upstream connection is held
  // (connecting or open). kReplying: the answer is ours and whole in `out`.
  enum class State : uint8_t { kHead, kWaiting, kBackoff, kForwarding, kReplying, kTunnel };
  Exchange(ArenaPool& arenas, DownstreamId d)
      : downstream(d),
        arena(arenas),
        request(arena),
        response(arena),
        request_trailers(arena),
        response_trailers(arena),
        timer(kExchangeTimer, 0) {}

  State state = State::kHead;
  DownstreamId downstream;
  Arena arena;
  http::RequestHead request;
  http::ResponseHead response;
  http::FieldList request_trailers, response_trailers;  // where both sides enable them
  std::optional<http::RequestParser> parser;
  std::optional<http::ResponseParser> response_parser;
  Record record;

  // What routing decided; parts are held, so a push does not pull them away.
  std::shared_ptr<const tables::Hcm> hcm;
  std::shared_ptr<const tables::RouteConfiguration> routes;
  std::shared_ptr<const tables::VirtualHost> host;
  const tables::Route* route = nullptr;             // inside host
  const tables::WeightedCluster* target = nullptr;  // inside route
  const tables::RetryPolicy* retry = nullptr;       // inside host

  // downstream side
  std::string_view out;  // head or local reply that is still to be sent, in the arena
  bool request_complete = false, response_complete = false;
  bool response_head_seen = false;  // the origin's final head is whole
  bool response_started = false;    // and on its way to the client
  bool close_downstream = false;    // after the answer
  bool response_chunked = false;    // towards the client
  uint8_t interims = 0;             // 1xx heads of this exchange, at most kInterimsMax
  bool head_request = false, upgrade = false, unsupported_upgrade = false;

  // upstream side
  upstream::ConnectionId connection;
  std::string_view up_out;        // request head still to be sent
  bool request_chunked = false;   // towards the origin
  bool trailers = false;          // the cluster enables them
  Usec timeout = 0;               // of the request: the route's, or what gRPC's client says; 0: none
  bool upstream_started = false;  // any response byte of this attempt
  bool request_end_sent = false;  // of this attempt
  bool end_queued = false;        // of this attempt: the last chunk is in up_out
  uint32_t attempt = 1;
  std::vector<uint32_t> tried;                                             // endpoint ids
  std::string replay;                                                      // body bytes forwarded so far, for a retry
  bool replay_whole = true;                                                // and they are all of them
  uint32_t replay_sent = 0;                                                // of replay, in this attempt
  bool holds_request = false, holds_pending = false, holds_retry = false;  // circuit units
  tables::ClusterId cluster = tables::kNoId;

  // deadlines (kNever: none); the timer is armed at their minimum
  Usec head_deadline = kNever, request_deadline = kNever, route_deadline = kNever, try_deadline = kNever, idle_deadline = kNever,
       stall_deadline = kNever, backoff_until = kNever;
  TimerNode timer;
};

// Two streams whose bytes are carried as they are: tcp_proxy, SNI passthrough, a switched websocket.
struct Pair {
  Pair() : timer(kPairTimer, 0) {}
  DownstreamId downstream;
  ExchangeId exchange;  // of the upgrade; else none
  upstream::ConnectionId connection;
  Wire down, up;
  std::shared_ptr<const tables::TcpProxy> config;  // none for an upgrade
  Record record;
  bool up_opened = false, down_finished = false, up_finished = false;  // finish() passed on
  Usec idle_timeout = 0, idle_deadline = kNever, end_deadline = kNever;
  TimerNode timer;
};

class Proxy {
 public:
  Proxy(Context& context, tls::Terminator* tls);
  ~Proxy();
  Proxy(const Proxy&) = delete;

  void adopt();
  void on_event(StreamLayer& layer, const ReadyStream& ready);
  void on_timer(TimerNode& node);
  void run_again();
  bool has_again() const { return !again_.empty(); }

  // Stops taking new work: connections get `connection: close` with their next response; what is left at the deadline is reset.
  void drain();
  bool ready = true;  // what the ready port answers
  uint32_t live() const { return downstreams_.live(); }
  uint32_t exchanges_live() const { return exchanges_.live(); }
  uint32_t pairs_live() const { return pairs_.live(); }
  uint64_t waiting() const;       // exchanges in line for a connection, over all clusters
  int64_t circuit_units() const;  // in use, over all clusters and resources

 private:
  struct ClusterState {
    upstream::Balancer balancer;
    upstream::Lease lease;
    std::deque<ExchangeId> waiting;  // for a connection, when the limit is reached
  };
  // downstream.cc
  void accept(StreamLayer& layer, const ReadyStream& ready);
  void inspect(DownstreamId id);
  void no_chain(DownstreamId id);
  void chain_found(DownstreamId id);
  void opened(DownstreamId id);
  struct RbacVerdict {
    bool allowed;
    std::string_view policy;  // the one that decided; empty: none matched
  };
  RbacVerdict rbac(const tables::RbacFilter& filter, const authz::Request& request);
  bool network_allowed(const Downstream& d);
  bool refresh_chain(Downstream& d);
  std::optional<DrainReason> not_served(const Downstream& d, const tables::FilterChain* now) const;
  void downstream_event(DownstreamId id, uint8_t events);
  void close_downstream(DownstreamId id, bool graceful);
  void downstream_timer(DownstreamId id);
  void arm_connection(Downstream& d);
  void drain_connection(DownstreamId id, DrainReason why);
  std::shared_ptr<const tables::Listener> find_listener(const SocketAddress& local) const;
  const std::shared_ptr<const tables::FilterChain>* find_chain(const Downstream& d, const tables::Listener& l) const;
  // request.cc
  void serve(DownstreamId id);
  bool begin_exchange(DownstreamId id, Downstream& d);
  void read_request(ExchangeId id);
  void request_whole(Exchange& x);
  void request_refused(ExchangeId id);
  void start(ExchangeId id);
  bool check_head(ExchangeId id);
  bool authorize(ExchangeId id);
  void act(ExchangeId id);
  void redirect(ExchangeId id);
  void prepare_upstream_request(Exchange& x);
  void set_timeouts(Exchange& x);
  void answer_ready(ExchangeId id);
  // upstream.cc
  void attempt(ExchangeId id);
  void overflow(ExchangeId id);
  void begin_attempt(ExchangeId id);
  void connected(ExchangeId id);
  void end_response(Exchange& x);
  upstream::ConnectionId take_idle(uint32_t endpoint, uint64_t user);
  upstream::ConnectionId take_any_idle(const tables::Cluster& cluster, uint64_t user);
  void request_deadlines(Exchange& x);
  void connection_event(upstream::ConnectionId id, uint8_t events);
  void pump_request(ExchangeId id);
  void keep_for_retry(Exchange& x, Bytes body);
  void pump_response(ExchangeId id);
  void upstream_failed(ExchangeId id, Flag flag, std::string_view reason, std::string_view transport = {});
  void upstream_protocol_error(ExchangeId id);
  bool retry(ExchangeId id, uint32_t on);
  void release_connection(upstream::ConnectionId id, bool reusable);
  void release_upstream(Exchange& x, bool reusable);
  void give_pending(Exchange& x);
  void leave_line(ExchangeId id, const Exchange& x);
  void serve_waiting(tables::ClusterId cluster);
  // response.cc
  bool response_head(ExchangeId id);
  void interim(Exchange& x);
  void upgrade_refused(ExchangeId id);
  void switch_protocols(ExchangeId id);
  void finish_head(Exchange& x);
  void queue_head(Exchange& x, std::string_view body);
  bool queue(Exchange& x, std::string_view text, std::string_view more = {});
  void local_reply(ExchangeId id, uint16_t status, std::string_view body, std::string_view details, std::string_view location = {});
  bool flush(ExchangeId id);
  void response_done(ExchangeId id);
  void cut_short(ExchangeId id);
  void abandon(ExchangeId id);
  void end_exchange(ExchangeId id);
  void client_gone(ExchangeId id);
  void exchange_timer(ExchangeId id);
  void arm(Exchange& x);
  void touch(Exchange& x);
  void stall(Exchange& x);
  void starved(DownstreamId id);
  // tunnel.cc
  void start_tcp(DownstreamId id);
  void run_pair(PairId id);
  void pair_event(PairId id, bool from_upstream, uint8_t events);
  void end_pair(PairId id, bool graceful);
  void pair_timer(PairId id);
  // proxy.cc
  ClusterState& cluster_state(tables::ClusterId id);
  void write_log(const std::vector<std::shared_ptr<const tables::AccessLog>>& logs, const RecordSource& source, Flags flags);
  void again(DownstreamId id) { again_.push_back(id); }
  std::string_view keep(Exchange& x, std::string_view text) { return x.arena.copy(text); }

  Context& c_;
  tls::Terminator* tls_;
  Slab<Downstream> downstreams_;
  Slab<Exchange> exchanges_;
  Slab<Pair> pairs_;
  std::vector<std::unique_ptr<ClusterState>> clusters_;
  std::vector<DownstreamId> again_, again_now_;
  std::vector<std::shared_ptr<const tables::Listener>> listeners_;  // of the adopted tables
  std::shared_ptr<const tables::FilterChain> ready_chain_;
  route::Scratch scratch_;
  http::Date date_;
  std::string line_, text_;  // rendered log line; rendered header value
  uint64_t generation_ = 0, accepted_ = 0;
  bool draining_ = false;
};

// Envoy's words for the end of a connection that never opened; empty when it has none.
std::string_view transport_failure_text(StreamEnd end);

}  // namespace sluice::proxy
