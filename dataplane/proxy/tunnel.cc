// Raw pairs: tcp_proxy, SNI passthrough and switched websockets. Half-close is carried across; a reset on one side resets the other.
// Nothing is held here: each side's bytes wait in its own receive window until the other side takes them.
#include <algorithm>

#include "dataplane/proxy/proxy.h"
#include "dataplane/proxy/pump.h"

namespace sluice::proxy {

void Proxy::start_tcp(DownstreamId id) {
  Downstream& d = *downstreams_.get(id);
  d.phase = Downstream::Phase::kTunnel;
  c_.wheel.cancel(d.timer);
  const PairId pid = pairs_.alloc();
  Pair* p = pairs_.get(pid);
  if (p == nullptr) {
    c_.drops.add(Drop::kConnFull);
    close_downstream(id, false);
    return;
  }
  c_.counters.pairs_active.add();
  d.pair = pid;
  p->timer.cookie = pid.bits();
  p->downstream = id;
  p->down = d.wire;
  p->config = d.chain->tcp;
  p->idle_timeout = p->config->idle_timeout;
  if (p->config->max_connection_duration != 0) p->end_deadline = c_.now.mono_us + p->config->max_connection_duration;
  Record& r = p->record;
  r.start(d.local, d.remote, d.hello.server_name, c_.now);
  r.tls = d.peer;
  r.connection_id = d.number;

  uint32_t at = c_.rng.below(std::max(1u, p->config->total_weight));
  const tables::WeightedCluster* chosen = nullptr;
  for (const auto& w : p->config->clusters) {
    chosen = &w;
    if (at < w.weight) break;
    at -= w.weight;
  }
  const tables::Cluster* cluster = chosen == nullptr ? nullptr : c_.tables->cluster(chosen->cluster);
  if (cluster == nullptr) {
    r.flags.set(Flag::kNoCluster);
    end_pair(pid, false);
    return;
  }
  r.cluster = chosen->name;  // the table's, which the pair holds
  ClusterState& state = cluster_state(cluster->id);
  const auto index = state.balancer.pick(*cluster, c_.endpoints, c_.rng);
  if (!index) {
    r.flags.set(Flag::kNoHealthyUpstream);
    end_pair(pid, false);
    return;
  }
  const tables::Endpoint& endpoint = cluster->endpoints->endpoints[*index];
  r.upstream_host = endpoint.address;
  if (!state.lease.take(c_.budgets.of(cluster->id), upstream::Resource::kConnections)) {
    r.flags.set(Flag::kUpstreamOverflow);
    end_pair(pid, false);
    return;
  }
  p->connection = c_.connections.open(*cluster, endpoint, make_cookie(CookieKind::kPair, pid), c_.now);
  upstream::Connection* connection = c_.connections.get(p->connection);
  if (connection == nullptr) {
    state.lease.give(c_.budgets.of(cluster->id), upstream::Resource::kConnections);
    r.flags.set(Flag::kUpstreamConnectionFailure);
    end_pair(pid, false);
    return;
  }
  p->up = {&c_.tcp, connection->stream};
  if (p->idle_timeout != 0) p->idle_deadline = c_.now.mono_us + p->idle_timeout;
  pair_timer(pid);
}

void Proxy::run_pair(PairId id) {
  Pair* p = pairs_.get(id);
  if (p == nullptr || !p->up_opened) return;
  const Pumped in = pump(c_.mbufs, *p->down.layer, p->down.id, *p->up.layer, p->up.id);
  const Pumped out = pump(c_.mbufs, *p->up.layer, p->up.id, *p->down.layer, p->down.id);
  p->record.bytes_received += in.bytes;
  p->record.bytes_sent += out.bytes;
  if (out.bytes > 0 && p->record.first_upstream_byte_us == 0) p->record.first_upstream_byte_us = c_.now.mono_us;
  if (in.bytes + out.bytes > 0 && p->idle_timeout != 0) p->idle_deadline = c_.now.mono_us + p->idle_timeout;
  if (in.no_memory || out.no_memory) starved(p->downstream);
  auto pass_end = [](const Wire& from, const Wire& to, bool& passed) {
    if (passed || !from.info().peer_finished || from.readable().bytes > 0) return;
    passed = true;
    to.layer->finish(to.id);
  };
  pass_end(p->down, p->up, p->down_finished);
  pass_end(p->up, p->down, p->up_finished);
  // A switched HTTP connection ends with its first end (Envoy); a raw one lives until both sides are done.
  if ((p->down_finished && p->up_finished) || (p->exchange && (p->down_finished || p->up_finished))) end_pair(id, true);
}

void Proxy::pair_event(PairId id, bool from_upstream, uint8_t events) {
  Pair* p = pairs_.get(id);
  if (p == nullptr) return;
  const Wire& side = from_upstream ? p->up : p->down;
  if (from_upstream && (events & kOpened)) {
    p->up_opened = true;
    p->record.upstream_local = p->up.info().local;
    if (upstream::Connection* c = c_.connections.get(p->connection)) c->opened = true;
  }
  const StreamEnd end = side.info().end;
  if (!(events & kClosed)) {
    run_pair(id);
    return;
  }
  if (from_upstream && !p->up_opened) {
    // Envoy tries once (max_connect_attempts 1) and says so with both flags.
    if (upstream::Connection* c = c_.connections.get(p->connection)) c_.endpoints.of(c->endpoint).connect_failures.add();
    p->record.flags.set(Flag::kUpstreamConnectionFailure);
    p->record.flags.set(Flag::kRetryLimitExceeded);
    p->record.transport_failure = transport_failure_text(end);
    end_pair(id, false);
    return;
  }
  run_pair(id);  // what arrived before the end still goes across
  if ((p = pairs_.get(id)) == nullptr) return;
  (from_upstream ? p->up_finished : p->down_finished) = true;
  end_pair(id, end == StreamEnd::kFinished);
}

void Proxy::pair_timer(PairId id) {
  Pair* p = pairs_.get(id);
  if (p == nullptr) return;
  const Usec now = c_.now.mono_us, at = std::min(p->idle_deadline, p->end_deadline);
  if (now >= at) {
    const Downstream* d = downstreams_.get(p->downstream);
    const bool drained = d != nullptr && now >= d->drain_deadline, idle = now < p->end_deadline;
    if (drained) c_.drops.add(Drop::kDrained);
    if (Exchange* x = exchanges_.get(p->exchange)) {
      x->record.flags.set(idle ? Flag::kStreamIdleTimeout : Flag::kDownstreamTermination);
      x->record.details = idle ? "stream_idle_timeout" : "downstream_local_disconnect";
    } else if (!idle && !drained) {
      p->record.flags.set(Flag::kDurationTimeout);
    }
    end_pair(id, true);
  } else if (at != kNever) {
    c_.wheel.arm(p->timer, at);
  }
}

// Frees the pair and its connection, ends its downstream; one access record (the exchange's, for an upgrade).
void Proxy::end_pair(PairId id, bool graceful) {
  Pair& p = *pairs_.get(id);
  c_.wheel.cancel(p.timer);
  c_.counters.pairs_active.sub();
  Record& r = p.record;
  r.end_us = c_.now.mono_us;
  if (Exchange* x = exchanges_.get(p.exchange)) {
    x->record.bytes_received += r.bytes_received;
    x->record.bytes_sent += r.bytes_sent;
    if (p.up_finished) {  // Envoy calls the end of a switched connection by the origin a termination
      x->record.flags.set(Flag::kUpstreamTermination);
      x->record.details = "upstream_reset_after_response_started{connection_termination}";
    } else if (p.down_finished) {
      x->record.flags.set(Flag::kDownstreamTermination);
      x->record.details = "downstream_remote_disconnect";
    }
  } else {
    const bool certified = r.tls != nullptr && r.tls->certificate;
    if (Series* s = c_.series.find({.cluster = r.cluster,
                                    .source_principal = certified ? std::string_view(r.tls->principal) : std::string_view{},
                                    .response_flags = r.flags.packed(),
                                    .mutual_tls = certified,
                                    .tcp = true})) {
      s->count.add();
      s->bytes_received.add(r.bytes_received);
      s->bytes_sent.add(r.bytes_sent);
      s->duration_us.add(r.end_us - r.start_us);
    }
    write_log(p.config->access_logs, RecordSource(r, nullptr, nullptr), r.flags);
  }
  if (const upstream::Connection* c = c_.connections.get(p.connection)) {
    const tables::ClusterId cluster = c->cluster;
    c_.connections.close(p.connection, graceful);
    serve_waiting(cluster);
  }
  const DownstreamId d = p.downstream;
  pairs_.free(id);
  if (Downstream* down = downstreams_.get(d)) {
    down->pair = {};
    close_downstream(d, graceful);
  }
}

}  // namespace sluice::proxy
