// Context: what the parts of one worker's proxy share. Everything here belongs to the worker (or is thread-safe on its own); it outlives
// the proxy. `tables` and `now` are set at the beginning of each turn and hold for the turn.
#pragma once
#include <iterator>
#include <string_view>

#include "dataplane/base/arena.h"
#include "dataplane/base/drop.h"
#include "dataplane/base/rng.h"
#include "dataplane/base/timer.h"
#include "dataplane/packet/pool.h"
#include "dataplane/packet/stream.h"
#include "dataplane/proxy/series.h"
#include "dataplane/tables/tables.h"
#include "dataplane/upstream/budgets.h"
#include "dataplane/upstream/pool.h"

namespace sluice::proxy {

// Where rendered access-log lines go: a ring to the writer thread. False when it is full; the record is lost and counted, the worker never
// waits.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual bool write(std::string_view path, std::string_view line) = 0;
};

// Timer kinds of the worker's wheel that are the proxy's; the worker hands their expiries to Proxy::on_timer.
enum TimerKind : uint8_t { kDownstreamTimer = 16, kExchangeTimer, kPairTimer, kUpstreamTimer };

struct ProxyConfig {
  uint16_t ready_port = 15021;                            // 0: none
  Usec request_headers_timeout = kRequestHeadersTimeout;  // where the listener configures none
  Usec send_stall_timeout = kSendStallTimeout;
  Usec drain_deadline = kDrainDeadline;
  uint32_t connections_max = kConnectionsMax;
  uint32_t exchanges_max = kExchangesMax;
};

// Why a connection takes no further request and ends (metric label: kDrainReasonNames).
enum class DrainReason : uint8_t {
  kChainGone,          // its listener or filter chain is not in the tables any more, or terminates something else now
  kClientCertificate,  // the chain demands a client certificate that this peer did not show, or other names in it
  kTrustRemoved,       // the root that vouched for its client certificate is no longer trusted
  kAge,                // max_connection_duration
  kShutdown,           // the gateway ends
  kCount
};
constexpr std::string_view kDrainReasonNames[] = {"chain_gone", "client_certificate", "trust_removed", "age", "shutdown"};
static_assert(std::size(kDrainReasonNames) == size_t(DrainReason::kCount));

struct ProxyCounters {
  Counter connections_accepted, connections_active;
  Counter connections_drained[size_t(DrainReason::kCount)];  // when draining begins
  Counter requests, requests_active, retries, pairs_active;
  Counter no_memory;  // pumps that waited for an mbuf
  Counter log_lines, log_dropped;
  Counter rbac_shadow_allowed, rbac_shadow_denied, rbac_allowed, rbac_denied;
  Histogram request_us;  // whole request
};

struct Context {
  StreamLayer& tcp;
  MbufPool& mbufs;
  ArenaPool& arenas;
  TimerWheel& wheel;
  Rng& rng;
  DropCounters& drops;
  LogSink& log;
  upstream::Pool& connections;
  upstream::EndpointStates& endpoints;
  upstream::Budgets& budgets;
  const ProxyConfig& config;
  SeriesTable& series;
  ProxyCounters& counters;
  const tables::Snapshot* tables = nullptr;
  Now now{};
};

}  // namespace sluice::proxy
