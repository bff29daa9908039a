// The upstream side of an exchange: choose, connect, send, retry.
//
// An attempt picks an endpoint, takes an idle connection or opens one, and sends the head and as much of the body as there is. Until the
// first response byte arrives everything may be tried again if the policy says so: the head is in the arena, body bytes already forwarded
// are in `replay` while they are few. A reused connection that turns out to be dead before anything was sent costs nothing: the next one is
// taken at once, without counting a retry.
#include <algorithm>

#include "dataplane/http/h1_writer.h"
#include "dataplane/http/status.h"
#include "dataplane/proxy/proxy.h"
#include "dataplane/proxy/sender.h"

namespace sluice::proxy {

using upstream::Resource;

void Proxy::attempt(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  x.backoff_until = kNever;
  const tables::Cluster* cluster = c_.tables->cluster(x.cluster);
  if (cluster == nullptr) {
    x.record.flags.set(Flag::kNoCluster);
    local_reply(id, x.route->forward.cluster_not_found_code, "", "cluster_not_found");
    return;
  }
  ClusterState& state = cluster_state(x.cluster);
  upstream::CircuitBudget& budget = c_.budgets.of(x.cluster);
  if (!x.holds_request) {
    if (!state.lease.take(budget, Resource::kRequests)) {
      overflow(id);
      return;
    }
    x.holds_request = true;
  }
  x.record.upstream_host = x.record.upstream_local = {};
  const bool retrying = x.retry != nullptr && x.retry->previous_hosts && x.attempt > 1;
  const auto index =
      state.balancer.pick(*cluster, c_.endpoints, c_.rng, retrying ? std::span<const uint32_t>(x.tried) : std::span<const uint32_t>{},
                          retrying ? x.retry->host_selection_attempts_max : 1);
  if (!index || cluster->http2) {
    x.record.flags.set(Flag::kNoHealthyUpstream);
    local_reply(id, 503, "no healthy upstream", "no_healthy_upstream");
    return;
  }
  x.trailers = cluster->enable_trailers;
  const tables::Endpoint& endpoint = cluster->endpoints->endpoints[*index];
  x.tried.push_back(endpoint.id);
  x.upstream_started = x.request_end_sent = x.end_queued = x.response_head_seen = false;
  x.replay_sent = 0;
  x.response_parser.reset();
  x.response.fields.clear();
  x.response_trailers.clear();

  const uint64_t user = id.bits();
  x.connection = take_idle(endpoint.id, user);
  if (!x.connection) {
    // Envoy's order: a request without a connection is pending first, then a connection is made for it if one may be.
    if (!x.holds_pending && !state.lease.take(budget, Resource::kPending)) {
      overflow(id);
      return;
    }
    x.holds_pending = true;
    bool open = state.lease.take(budget, Resource::kConnections);
    if (!open && !(x.connection = take_any_idle(*cluster, user)) && c_.endpoints.of(endpoint.id).active_connections.get() == 0) {
      state.lease.take_over_limit(budget, Resource::kConnections);  // nobody of this worker could ever pass one on
      open = true;
    }
    if (open) {
      x.connection = c_.connections.open(*cluster, endpoint, user, c_.now);
      if (!x.connection) {
        state.lease.give(budget, Resource::kConnections);
        upstream_failed(id, Flag::kUpstreamConnectionFailure, "local connection failure");
        return;
      }
    } else if (!x.connection) {
      x.state = Exchange::State::kWaiting;
      state.waiting.push_back(id);
      request_deadlines(x);
      return;
    }
  }
  begin_attempt(id);
}

// An idle connection that is still whole; dead ones are given up on the way. Nothing was sent on them, so that costs no retry.
upstream::ConnectionId Proxy::take_idle(uint32_t endpoint, uint64_t user) {
  while (const upstream::ConnectionId id = c_.connections.take_idle(endpoint, user)) {
    const StreamId stream = c_.connections.get(id)->stream;
    const StreamInfo info = c_.tcp.info(stream);
    if (info.end == StreamEnd::kOpen && !info.peer_finished && c_.tcp.readable(stream).bytes == 0) return id;
    c_.connections.close(id);
  }
  return {};
}

// The connection limit is reached: one to any endpoint will do.
upstream::ConnectionId Proxy::take_any_idle(const tables::Cluster& cluster, uint64_t user) {
  for (const tables::Endpoint& e : cluster.endpoints->endpoints)
    if (e.healthy && !e.tls)
      if (const upstream::ConnectionId id = take_idle(e.id, user)) return id;
  return {};
}

void Proxy::overflow(ExchangeId id) {
  exchanges_.get(id)->record.flags.set(Flag::kUpstreamOverflow);
  local_reply(id, 503, "upstream connect error or disconnect/reset before headers. reset reason: overflow",
              "upstream_reset_before_response_started{overflow}");
}

void Proxy::begin_attempt(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  upstream::Connection& c = *c_.connections.get(x.connection);
  upstream::EndpointState& e = c_.endpoints.of(c.endpoint);
  e.requests.add();
  e.active_requests.add();
  x.record.upstream_host = c.remote;
  x.state = Exchange::State::kForwarding;
  if (x.host->include_request_attempt_count) x.request.fields.set("x-envoy-attempt-count", std::to_string(x.attempt));
  x.up_out = http::write_request(x.request, x.arena);
  if (x.up_out.empty()) {
    x.record.flags.set(Flag::kOverload);
    local_reply(id, 503, "", "overload");
    return;
  }
  request_deadlines(x);
  if (c.opened) connected(id);
}

void Proxy::connected(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  give_pending(x);
  x.record.upstream_local = c_.tcp.info(c_.connections.get(x.connection)->stream).local;
  x.record.upstream_sent_us = c_.now.mono_us;
  pump_request(id);
}

// The route's timeout runs from the end of the request, also while it waits for a connection; the per-try timeout from the beginning of
// the try once the request is there (Envoy).
void Proxy::request_deadlines(Exchange& x) {
  const Usec now = c_.now.mono_us;
  if (x.request_complete) {
    if (x.timeout != 0 && x.route_deadline == kNever) x.route_deadline = now + x.timeout;
    if (x.state == Exchange::State::kForwarding && x.retry != nullptr && x.retry->per_try_timeout != 0)
      x.try_deadline = now + x.retry->per_try_timeout;
  }
  arm(x);
}

// Gives a connection back to the pool or ends it, and serves who waits for one.
void Proxy::release_connection(upstream::ConnectionId id, bool reusable) {
  const upstream::Connection* c = c_.connections.get(id);
  if (c == nullptr) return;
  const tables::ClusterId cluster = c->cluster;
  const tables::Cluster* t = c_.tables->cluster(cluster);
  const bool wanted = t != nullptr && (t->requests_per_connection_max == 0 || c->requests < t->requests_per_connection_max) && !draining_;
  if (reusable && wanted && c_.tcp.readable(c->stream).bytes == 0) c_.connections.give_idle(id, c_.now);
  else c_.connections.close(id, reusable);
  serve_waiting(cluster);
}

void Proxy::release_upstream(Exchange& x, bool reusable) {
  if (const upstream::Connection* c = c_.connections.get(x.connection)) {
    c_.endpoints.of(c->endpoint).active_requests.sub();
    release_connection(std::exchange(x.connection, {}), reusable);
  }
}

void Proxy::give_pending(Exchange& x) {
  if (std::exchange(x.holds_pending, false)) cluster_state(x.cluster).lease.give(c_.budgets.of(x.cluster), Resource::kPending);
}

// Whoever stops waiting leaves the line, or it would grow with everyone who gave up.
void Proxy::leave_line(ExchangeId id, const Exchange& x) {
  if (x.state == Exchange::State::kWaiting) std::erase(cluster_state(x.cluster).waiting, id);
}

// The first of those that wait tries again, from run_again() and not from inside another exchange's end.
void Proxy::serve_waiting(tables::ClusterId cluster) {
  std::deque<ExchangeId>& waiting = cluster_state(cluster).waiting;
  while (!waiting.empty()) {
    const ExchangeId id = waiting.front();
    waiting.pop_front();
    Exchange* x = exchanges_.get(id);
    if (x == nullptr || x->state != Exchange::State::kWaiting) continue;
    x->state = Exchange::State::kBackoff;
    x->backoff_until = c_.now.mono_us;
    again(x->downstream);
    return;
  }
}

void Proxy::connection_event(upstream::ConnectionId cid, uint8_t events) {
  upstream::Connection* c = c_.connections.get(cid);
  if (c == nullptr) return;
  if (c->idle) {  // bytes or an end: it is done with. Late acknowledgements of its last request (kWritable) say nothing.
    if (events & (kReadable | kPeerFinished | kClosed)) release_connection(cid, false);
    return;
  }
  if (kind_of(c->user) == CookieKind::kPair) {
    pair_event(handle_of<Pair>(c->user), true, events);
    return;
  }
  const ExchangeId id = ExchangeId::from_bits(c->user);
  Exchange* x = exchanges_.get(id);
  if (x == nullptr) {
    release_connection(cid, false);
    return;
  }
  if ((events & kClosed) && !c->opened && !(events & kOpened)) {
    c_.endpoints.of(c->endpoint).connect_failures.add();
    const StreamEnd end = c_.tcp.info(c->stream).end;
    if (end == StreamEnd::kConnectTimeout) upstream_failed(id, Flag::kUpstreamConnectionFailure, "connection timeout");
    else upstream_failed(id, Flag::kUpstreamConnectionFailure, "remote connection failure", transport_failure_text(end));
    return;
  }
  if (events & kOpened) {
    c->opened = true;
    connected(id);
  }
  if (exchanges_.get(id) != nullptr && (events & (kReadable | kPeerFinished | kClosed))) pump_response(id);
  if (exchanges_.get(id) != nullptr && (events & kWritable)) pump_request(id);
}

namespace {

// The last chunk, with the trailers that came where the side it goes to has them.
std::string_view body_end(Exchange& x, bool enabled, http::FieldList& trailers) {
  if (!enabled || trailers.size() == 0) return "0\r\n\r\n";
  const std::string_view text = http::write_trailers(trailers, x.arena);
  return text.empty() ? std::string_view("0\r\n\r\n") : text;
}

}  // namespace

// Request bytes to the origin: the head, what a retry has to repeat, then the body as it comes. Until the connection is open, body bytes
// stay in the client's window.
void Proxy::pump_request(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  if (x.state != Exchange::State::kForwarding || x.response_complete || x.request_end_sent) return;
  if (!x.out.empty() && !x.response_started) flush(id);  // "100 Continue"
  const upstream::Connection* c = c_.connections.get(x.connection);
  if (c == nullptr || !c->opened) return;
  const Wire from = downstreams_.get(x.downstream)->wire;
  bool refused = false;
  uint64_t uncounted = 0;
  {
    Sender up(c_.mbufs, c_.tcp, c->stream);
    if (up.text(x.up_out)) {
      while (x.replay_sent < x.replay.size()) {
        const uint32_t n =
            std::min<uint32_t>(up.body_room(x.request_chunked, x.replay.size() - x.replay_sent), uint32_t(x.replay.size() - x.replay_sent));
        if (n == 0) break;
        up.body(as_bytes(std::string_view(x.replay).substr(x.replay_sent, n)), x.request_chunked);
        x.replay_sent += n;
      }
      while (!x.request_complete && x.replay_sent == x.replay.size()) {
        const ReadView view = from.readable();
        if (view.bytes == 0) break;
        const uint32_t room = up.body_room(x.request_chunked, view.span[0].size());
        if (room == 0) break;
        const http::Fed fed = x.parser->feed(view.span[0].first(std::min<size_t>(view.span[0].size(), room)));
        if (!fed.body.empty()) {
          up.body(fed.body, x.request_chunked);
          x.record.bytes_received += fed.body.size();
          uncounted += fed.body.size();
          keep_for_retry(x, fed.body);
        }
        from.consume(fed.consumed);
        touch(x);
        if (fed.event == http::Event::kRefused) {
          refused = true;
          break;
        }
        if (fed.event == http::Event::kComplete) {
          request_whole(x);
          request_deadlines(x);
        }
      }
      if (x.request_complete && x.replay_sent == x.replay.size()) {
        if (!x.request_chunked) {
          x.request_end_sent = true;
        } else {
          if (!x.end_queued) x.up_out = body_end(x, x.trailers, x.request_trailers);
          x.end_queued = true;
          x.request_end_sent = up.text(x.up_out);
        }
      }
    }
    if (up.no_memory()) starved(x.downstream);
  }
  if (refused) {
    // Envoy counts body bytes when it hands them on, which it does not with those that came together with a broken chunk.
    if (x.parser->refusal() == http::Refusal::kChunk) x.record.bytes_received -= uncounted;
    request_refused(id);
  }
}

// Body bytes that a retry would have to send again, while they are few. A retry of a request whose body was longer is not possible.
void Proxy::keep_for_retry(Exchange& x, Bytes body) {
  if (x.retry == nullptr || !x.replay_whole) return;
  if (x.replay.size() + body.size() > kReplayBytesMax) {
    x.replay_whole = false;
    x.replay.clear();
    x.replay_sent = 0;
    return;
  }
  x.replay.append(as_text(body));
  x.replay_sent = uint32_t(x.replay.size());
}

// Response bytes from the origin, as many as the client takes: nothing is held here.
void Proxy::pump_response(ExchangeId id) {
  for (;;) {
    Exchange& x = *exchanges_.get(id);
    const upstream::Connection* c = c_.connections.get(x.connection);
    if (x.state != Exchange::State::kForwarding || c == nullptr || !c->opened) return;
    const StreamId stream = c->stream;
    if (!x.response_head_seen) {
      const ReadView view = c_.tcp.readable(stream);
      if (view.bytes == 0) break;
      if (!x.response_parser) {
        x.response_parser.emplace(x.response, x.head_request);
        if (x.trailers) x.response_parser->keep_trailers(x.response_trailers);
      }
      if (!x.upstream_started) {
        x.upstream_started = true;
        x.record.first_upstream_byte_us = c_.now.mono_us;
      }
      const http::Fed fed = x.response_parser->feed(view.span[0]);
      c_.tcp.consume(stream, uint32_t(fed.consumed));
      if (fed.event == http::Event::kRefused) {
        upstream_protocol_error(id);
        return;
      }
      if (fed.event == http::Event::kNeedMore) continue;
      if (!response_head(id)) return;
      if (x.response_head_seen && x.response_parser->complete()) end_response(x);
      continue;
    }
    const Wire to = downstreams_.get(x.downstream)->wire;
    bool broken = false, blocked = false;
    {
      Sender down(c_.mbufs, *to.layer, to.id);
      blocked = !down.text(x.out);
      while (!blocked && !x.response_complete) {
        const ReadView view = c_.tcp.readable(stream);
        if (view.bytes == 0) break;
        const uint32_t room = down.body_room(x.response_chunked, view.span[0].size());
        if (room == 0) {
          blocked = true;
          break;
        }
        const http::Fed fed = x.response_parser->feed(view.span[0].first(std::min<size_t>(view.span[0].size(), room)));
        if (!fed.body.empty()) {
          down.body(fed.body, x.response_chunked);
          x.record.bytes_sent += fed.body.size();
        }
        c_.tcp.consume(stream, uint32_t(fed.consumed));
        touch(x);
        broken = fed.event == http::Event::kRefused;
        if (broken) break;
        if (fed.event == http::Event::kComplete) {
          end_response(x);
          blocked = !down.text(x.out);
        }
      }
      if (down.no_memory()) starved(x.downstream);
    }
    if (broken) {
      upstream_protocol_error(id);
      return;
    }
    if (blocked) {  // the client's kWritable brings us back
      stall(x);
      return;
    }
    if (x.response_complete) {
      response_done(id);
      return;
    }
    break;
  }
  // Nothing more to read now. Has the origin ended?
  Exchange& x = *exchanges_.get(id);
  const StreamInfo info = c_.tcp.info(c_.connections.get(x.connection)->stream);
  if (info.end == StreamEnd::kOpen && !info.peer_finished) return;
  const bool orderly = info.peer_finished || info.end == StreamEnd::kFinished;
  if (x.response_head_seen && orderly && x.response_parser->end_of_stream()) {
    end_response(x);
    if (flush(id)) response_done(id);
    return;
  }
  if (!x.upstream_started) upstream_failed(id, Flag::kUpstreamTermination, "connection termination");
  else upstream_protocol_error(id);
}

// All of the origin's answer was read; what is left to send is the end of our own framing.
void Proxy::end_response(Exchange& x) {
  x.response_complete = true;
  if (!x.response_chunked || x.head_request) return;
  const std::string_view end = body_end(x, x.hcm->enable_trailers, x.response_trailers);
  if (x.out.empty()) x.out = end;
  else queue(x, end);
}

// Nothing was answered on this attempt: try again, or say why not. `reason` and `transport` are Envoy's words.
void Proxy::upstream_failed(ExchangeId id, Flag flag, std::string_view reason, std::string_view transport) {
  Exchange& x = *exchanges_.get(id);
  const uint32_t any = tables::kRetryReset | tables::kRetry5xx | tables::kRetryGatewayError;
  release_upstream(x, false);
  if (retry(id, flag == Flag::kUpstreamConnectionFailure ? any | tables::kRetryConnectFailure : any)) return;
  std::string details = "upstream_reset_before_response_started{";
  std::string body = "upstream connect error or disconnect/reset before headers. ";
  body.append(x.attempt > 1 ? "retried and the latest reset reason: " : "reset reason: ").append(reason);
  details += reason;
  if (!transport.empty()) {
    details.append("|").append(transport);
    body.append(", transport failure reason: ").append(transport);
    x.record.transport_failure = transport;
  }
  details += '}';
  std::ranges::replace(details, ' ', '_');
  x.record.flags.set(flag);
  local_reply(id, 503, body, details);
}

void Proxy::upstream_protocol_error(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  release_upstream(x, false);
  if (retry(id, tables::kRetryReset | tables::kRetry5xx | tables::kRetryGatewayError)) return;
  x.record.flags.set(Flag::kUpstreamProtocolError);
  if (!x.response_started) {
    local_reply(id, 502, "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                "upstream_reset_before_response_started{protocol_error}");
    return;
  }
  x.record.details = "upstream_reset_after_response_started{protocol_error}";
  cut_short(id);
}

// True when another attempt waits for its back-off; the connection of the last one is given up then, and only then.
bool Proxy::retry(ExchangeId id, uint32_t on) {
  Exchange& x = *exchanges_.get(id);
  if (x.retry == nullptr || x.response_started || !(x.retry->retry_on & on)) return false;
  if (x.attempt > x.retry->num_retries) {
    x.record.flags.set(Flag::kRetryLimitExceeded);
    return false;
  }
  if (!x.replay_whole) return false;
  if (!x.holds_retry) {
    if (!cluster_state(x.cluster).lease.take(c_.budgets.of(x.cluster), Resource::kRetries)) {
      x.record.flags.set(Flag::kUpstreamOverflow);
      return false;
    }
    x.holds_retry = true;
  }
  c_.counters.retries.add();
  release_upstream(x, false);
  // Envoy: a random time below base * (2^n - 1), at most the maximum.
  const Usec base = std::max<Usec>(x.retry->back_off_base, 1), most = std::max(x.retry->back_off_max, base);
  const Usec span = std::min(most, base * ((Usec{1} << std::min(x.attempt, 20u)) - 1));
  x.attempt++;
  x.try_deadline = kNever;
  x.state = Exchange::State::kBackoff;
  x.backoff_until = c_.now.mono_us + c_.rng.next() % span;
  arm(x);
  return true;
}

}  // namespace sluice::proxy
