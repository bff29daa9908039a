// The downstream side of an answer: heads, local replies, ends. One exchange ends in exactly one of response_done() (answered), cut_short()
// (answered in part) and abandon() (nobody to answer), each through end_exchange(): one access record, everything given back.
#include <algorithm>

#include "dataplane/http/h1_writer.h"
#include "dataplane/http/headers_policy.h"
#include "dataplane/http/status.h"
#include "dataplane/proxy/header_operations.h"
#include "dataplane/proxy/proxy.h"
#include "dataplane/proxy/sender.h"

namespace sluice::proxy {

using upstream::Resource;

namespace {

// Which of RetryPolicy's conditions a response meets (Envoy: RetryStateImpl::wouldRetryFromHeaders).
uint32_t retry_conditions(const http::ResponseHead& r, const tables::RetryPolicy& policy) {
  uint32_t on = 0;
  if (r.status >= 500) on |= tables::kRetry5xx;
  if (r.status == 502 || r.status == 503 || r.status == 504) on |= tables::kRetryGatewayError;
  if (r.status == 409) on |= tables::kRetryRetriable4xx;
  if (std::ranges::find(policy.retriable_status_codes, r.status) != policy.retriable_status_codes.end())
    on |= tables::kRetryRetriableStatusCodes;
  if (r.fields.has("x-envoy-ratelimited")) {
    on &= ~(tables::kRetry5xx | tables::kRetryGatewayError);
    on |= tables::kRetryEnvoyRateLimited;
  }
  if (const auto grpc = r.fields.first("grpc-status")) {  // RFC-less: gRPC's status codes
    if (*grpc == "1") on |= tables::kRetryGrpcCancelled;
    if (*grpc == "4") on |= tables::kRetryGrpcDeadline;
    if (*grpc == "8") on |= tables::kRetryGrpcExhausted;
    if (*grpc == "13") on |= tables::kRetryGrpcInternal;
    if (*grpc == "14") on |= tables::kRetryGrpcUnavailable;
  }
  return on & policy.retry_on;
}

}  // namespace

// A head of the origin is whole. False: this attempt does not answer the client (retried, or answered otherwise).
bool Proxy::response_head(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  http::ResponseHead& r = x.response;
  if (r.status == 101 && x.upgrade && r.fields.has_token("upgrade", "websocket")) {
    switch_protocols(id);
    return false;
  }
  if (r.status < 200) {
    // A switch that nobody asked for, or interim answers without end, are no answer.
    if (r.status == 101 || ++x.interims > kInterimsMax) {
      upstream_protocol_error(id);
      return false;
    }
    if (x.hcm->proxy_100_continue && x.interims == 1) interim(x);  // the first goes on, as in Envoy
    x.response_parser.reset();
    r.fields.clear();
    return true;
  }
  x.response_head_seen = true;
  if (r.status >= 500) {
    if (const upstream::Connection* c = c_.connections.get(x.connection)) c_.endpoints.of(c->endpoint).request_errors.add();
  }
  if (x.retry != nullptr) {
    if (const uint32_t on = retry_conditions(r, *x.retry); on != 0 && retry(id, on)) return false;
  }
  if (x.upgrade) {
    if (r.status < 400) {
      upgrade_refused(id);
      return false;
    }
    x.upgrade = false;  // an ordinary answer, and the last of its connection
    x.close_downstream = true;
  }
  x.try_deadline = kNever;
  if (!x.request_complete) x.close_downstream = true;  // an early answer ends the connection (Envoy)
  http::strip_hop_by_hop_response(r.fields);
  for (const tables::HeaderOperations* ops : {&x.target->headers, &x.route->headers, &x.host->headers, &x.routes->headers})
    apply_response(*ops, r, x.request, x.record, text_);
  // What the head says of the body's length is what we send, also where an operation took the length away.
  const http::Framing framing = x.response_parser->framing();
  x.response_chunked = framing == http::Framing::kChunked || framing == http::Framing::kUntilClose ||
                       (framing == http::Framing::kLength && !r.fields.has("content-length"));
  if (x.response_chunked) {
    r.fields.remove("content-length");
    r.fields.set("transfer-encoding", "chunked");
  } else if (r.status == 204) {
    r.fields.remove("content-length");  // RFC 9110 8.6
  } else if (x.head_request && r.status != 304 && !r.fields.has("content-length")) {
    r.fields.set("transfer-encoding", "chunked");  // as a GET's answer would be (Envoy)
  }
  if (x.request_complete) r.fields.set("x-envoy-upstream-service-time", std::to_string((c_.now.mono_us - x.record.upstream_sent_us) / kMs));
  x.record.details = "via_upstream";
  finish_head(x);
  queue_head(x, {});
  x.response_started = true;
  return true;
}

// 1xx as they come; the head proper follows.
void Proxy::interim(Exchange& x) {
  http::strip_hop_by_hop_response(x.response.fields);
  queue(x, http::write_response(x.response, x.arena));
}

// A websocket was asked for and the origin said 200 or 3xx: its status without its body, and the connection ends.
void Proxy::upgrade_refused(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  release_upstream(x, false);
  x.close_downstream = true;
  http::FieldList& f = x.response.fields;
  http::strip_hop_by_hop_response(f);
  for (std::string_view name : {"content-type", "transfer-encoding"}) f.remove(name);
  f.remove("content-length");
  if (x.response.status != 204 && x.response.status != 304) f.set("content-length", "0");
  x.record.details = "websocket_handshake_unsuccessful";
  x.state = Exchange::State::kReplying;
  finish_head(x);
  queue_head(x, {});
  answer_ready(id);
}

// 101: from here on the bytes of both sides are carried as they are.
void Proxy::switch_protocols(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  Downstream& d = *downstreams_.get(x.downstream);
  http::FieldList& f = x.response.fields;
  http::strip_hop_by_hop_response(f);
  f.set("connection", "upgrade");
  f.set("upgrade", "websocket");
  x.record.details = "via_upstream";
  finish_head(x);
  queue_head(x, {});
  x.response_started = true;
  const PairId pid = pairs_.alloc();
  Pair* p = pairs_.get(pid);
  if (p == nullptr || !flush(id)) {
    if (p != nullptr) pairs_.free(pid);
    c_.drops.add(Drop::kConnFull);
    x.record.flags.set(Flag::kOverload);
    cut_short(id);
    return;
  }
  upstream::Connection& c = *c_.connections.get(x.connection);
  c.user = make_cookie(CookieKind::kPair, pid);
  c_.endpoints.of(c.endpoint).active_requests.sub();
  p->timer.cookie = pid.bits();
  p->downstream = x.downstream;
  p->exchange = id;
  p->connection = std::exchange(x.connection, {});
  p->down = d.wire;
  p->up = {&c_.tcp, c.stream};
  p->up_opened = true;
  p->idle_timeout = x.route->forward.idle_timeout.value_or(x.hcm->stream_idle_timeout);
  x.state = Exchange::State::kTunnel;
  x.route_deadline = x.try_deadline = x.idle_deadline = x.stall_deadline = kNever;
  arm(x);
  d.phase = Downstream::Phase::kTunnel;
  d.pair = pid;
  c_.counters.pairs_active.add();
  if (p->idle_timeout != 0) p->idle_deadline = c_.now.mono_us + p->idle_timeout;
  pair_timer(pid);
  run_pair(pid);
}

// What every head that leaves carries.
void Proxy::finish_head(Exchange& x) {
  const tables::Hcm& hcm = *x.hcm;
  http::FieldList& f = x.response.fields;
  using Server = tables::Hcm::ServerHeader;
  if (hcm.server_header == Server::kOverwrite || (hcm.server_header == Server::kAppendIfAbsent && !f.has("server")))
    f.set("server", hcm.server_name);
  if (!f.has("date")) f.set("date", date_.at(c_.now.wall_us));
  if (hcm.always_set_request_id_in_response)
    if (const auto request_id = x.request.fields.first("x-request-id")) f.set("x-request-id", *request_id);
  const Downstream* d = downstreams_.get(x.downstream);
  if (x.response.status != 101) {
    if (draining_ || (d != nullptr && d->draining)) x.close_downstream = true;
    if (x.close_downstream) f.set("connection", "close");
  }
  x.record.status = x.response.status;
}

// Appends to `out`; false when the arena is exhausted.
bool Proxy::queue(Exchange& x, std::string_view text, std::string_view more) {
  auto* p = static_cast<char*>(x.arena.alloc(x.out.size() + text.size() + more.size()));
  if (p == nullptr) return false;
  char* end = std::ranges::copy(more, std::ranges::copy(text, std::ranges::copy(x.out, p).out).out).out;
  x.out = {p, size_t(end - p)};
  return true;
}

// Head and, for a local reply, body into `out`. Without memory the connection can only end.
void Proxy::queue_head(Exchange& x, std::string_view body) {
  const std::string_view head = http::write_response(x.response, x.arena);
  if (!head.empty() && !x.response.fields.failed() && queue(x, head, body)) return;
  x.record.flags.set(Flag::kOverload);
  x.close_downstream = true;
  x.out = {};
}

// An answer of ours, as Envoy's sendLocalReply has it. Whatever the origin is doing for this request ends.
void Proxy::local_reply(ExchangeId id, uint16_t status, std::string_view body, std::string_view details, std::string_view location) {
  Exchange& x = *exchanges_.get(id);
  leave_line(id, x);
  release_upstream(x, false);
  http::ResponseHead& r = x.response;
  r.fields.clear();
  r.status = status;
  const bool bodyless = x.head_request || status < 200 || status == 204 || status == 304;
  if (!bodyless) r.fields.set("content-length", std::to_string(body.size()));
  if (!body.empty()) r.fields.set("content-type", "text/plain");
  if (!location.empty()) r.fields.set("location", location);
  if (x.record.flags.has(Flag::kUpstreamOverflow)) r.fields.set("x-envoy-overloaded", "true");
  if (x.route != nullptr && x.route->kind != tables::Route::Kind::kForward && details == "direct_response")
    for (const tables::HeaderOperations* ops : {&x.route->headers, &x.host->headers, &x.routes->headers})
      apply_response(*ops, r, x.request, x.record, text_);
  x.record.details = keep(x, details);
  x.record.bytes_sent = bodyless ? 0 : body.size();
  if (!x.request_complete || x.upgrade) x.close_downstream = true;
  x.state = Exchange::State::kReplying;
  x.response_started = true;
  x.head_deadline = x.request_deadline = x.route_deadline = x.try_deadline = x.backoff_until = kNever;
  finish_head(x);
  queue_head(x, bodyless ? std::string_view{} : body);
  arm(x);
  answer_ready(id);
}

// True when all of `out` has been handed to the client's stream.
bool Proxy::flush(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const Wire to = downstreams_.get(x.downstream)->wire;
  Sender down(c_.mbufs, *to.layer, to.id);
  const bool done = down.text(x.out);
  if (down.no_memory()) starved(x.downstream);
  if (!done) stall(x);
  return done;
}

// No mbuf was left: no event will come, so look again next turn.
void Proxy::starved(DownstreamId id) {
  c_.counters.no_memory.add();
  again(id);
}

void Proxy::response_done(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const DownstreamId did = x.downstream;
  const bool reusable = x.request_end_sent && x.response_parser && x.response_parser->complete() && x.response_parser->keep_alive();
  release_upstream(x, reusable);
  const bool close = x.close_downstream || !x.request_complete;
  end_exchange(id);
  Downstream& d = *downstreams_.get(did);
  if (close) {
    close_downstream(did, true);
    return;
  }
  arm_connection(d);
  if (d.wire.readable().bytes > 0 || d.wire.info().peer_finished || d.draining) again(did);
}

// The answer began and cannot be finished; the client sees it end early.
void Proxy::cut_short(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const DownstreamId d = x.downstream;
  abandon(id);
  close_downstream(d, true);
}

void Proxy::abandon(ExchangeId id) {
  Exchange* x = exchanges_.get(id);
  if (x == nullptr) return;
  release_upstream(*x, false);
  end_exchange(id);
}

// One record, and everything that the exchange holds goes back.
void Proxy::end_exchange(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  Record& r = x.record;
  r.end_us = c_.now.mono_us;
  r.attempts = x.attempt;
  leave_line(id, x);
  c_.wheel.cancel(x.timer);
  c_.counters.requests_active.sub();
  if (x.state != Exchange::State::kHead || x.parser->started()) {
    const Usec took = r.end_us - r.start_us;
    c_.counters.request_us.add(took);
    const Downstream* d = downstreams_.get(x.downstream);
    if (d == nullptr || !d->ready_probe) {
      const bool certified = r.tls != nullptr && r.tls->certificate;
      if (Series* s = c_.series.find({.cluster = r.cluster,
                                      .source_principal = certified ? std::string_view(r.tls->principal) : std::string_view{},
                                      .response_code = r.status,
                                      .response_flags = r.flags.packed(),
                                      .mutual_tls = certified})) {
        s->count.add();
        s->duration_us.add(took);
        s->request_bytes.add(r.bytes_received);
        s->response_bytes.add(r.bytes_sent);
      }
    }
    write_log(x.hcm->access_logs, RecordSource(r, &x.request, x.response_started ? &x.response : nullptr), r.flags);
  }
  give_pending(x);
  if (x.holds_request) cluster_state(x.cluster).lease.give(c_.budgets.of(x.cluster), Resource::kRequests);
  if (x.holds_retry) cluster_state(x.cluster).lease.give(c_.budgets.of(x.cluster), Resource::kRetries);
  if (Downstream* d = downstreams_.get(x.downstream); d != nullptr && d->exchange == id) d->exchange = {};
  exchanges_.free(id);
}

// The caller closes the connection.
void Proxy::client_gone(ExchangeId id) {
  Exchange* x = exchanges_.get(id);
  if (x == nullptr) return;
  x->record.flags.set(Flag::kDownstreamTermination);
  x->record.details = "downstream_remote_disconnect";
  if (x->state == Exchange::State::kHead) {
    x->request.method = x->request.path = {};
    x->request.has_authority = false;
    x->request.fields.clear();
  }
  abandon(id);
}

// Progress: the idle clock starts anew. The timer itself is re-armed when it fires.
void Proxy::touch(Exchange& x) {
  const Usec idle = x.route != nullptr && x.route->forward.idle_timeout ? *x.route->forward.idle_timeout : x.hcm->stream_idle_timeout;
  x.idle_deadline = idle == 0 ? kNever : c_.now.mono_us + idle;
  x.stall_deadline = kNever;
}

// The client takes nothing: it has so long to take something.
void Proxy::stall(Exchange& x) {
  if (x.stall_deadline != kNever) return;
  x.stall_deadline = c_.now.mono_us + c_.config.send_stall_timeout;
  arm(x);
}

void Proxy::arm(Exchange& x) {
  const Usec at =
      std::min({x.head_deadline, x.request_deadline, x.route_deadline, x.try_deadline, x.idle_deadline, x.stall_deadline, x.backoff_until});
  if (at == kNever) c_.wheel.cancel(x.timer);
  else c_.wheel.arm(x.timer, at);
}

void Proxy::exchange_timer(ExchangeId id) {
  Exchange* found = exchanges_.get(id);
  if (found == nullptr) return;
  Exchange& x = *found;
  const Usec now = c_.now.mono_us;
  if (now >= x.stall_deadline) {
    const DownstreamId d = x.downstream;
    x.record.flags.set(Flag::kDownstreamTermination);
    x.record.details = "downstream_send_stalled";
    abandon(id);
    close_downstream(d, false);
    return;
  }
  if (now >= x.head_deadline) {
    c_.drops.add(Drop::kHttpHeaderTimeout);
    x.request.method = x.request.path = {};
    x.request.has_authority = false;
    x.request.fields.clear();
    local_reply(id, 408, "request header timeout", "request_header_timeout");
    return;
  }
  if (x.state == Exchange::State::kBackoff && now >= x.backoff_until) {
    attempt(id);
    return;
  }
  if (!x.request_complete && now >= x.request_deadline && !x.response_started) {
    local_reply(id, 408, "request timeout", "request_overall_timeout");
    return;
  }
  if (now >= x.try_deadline) {
    x.try_deadline = kNever;
    release_upstream(x, false);
    if (retry(id, tables::kRetry5xx | tables::kRetryGatewayError | tables::kRetryReset)) return;
    x.record.flags.set(Flag::kUpstreamTimeout);
    local_reply(id, 504, "upstream request timeout", "upstream_per_try_timeout");
    return;
  }
  const bool late = now >= x.route_deadline;
  if (late || now >= x.idle_deadline) {
    x.record.flags.set(late ? Flag::kUpstreamTimeout : Flag::kStreamIdleTimeout);
    const std::string_view details = late ? "response_timeout" : "stream_idle_timeout";
    if (!x.response_started) {
      // Envoy: it is the client that keeps us waiting while its request is not whole.
      local_reply(id, late || x.request_complete ? 504 : 408, late ? "upstream request timeout" : "stream timeout", details);
    } else {
      x.record.details = details;
      cut_short(id);
    }
    return;
  }
  arm(x);
}

}  // namespace sluice::proxy
