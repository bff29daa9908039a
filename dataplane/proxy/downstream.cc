// A downstream connection from its first byte to the choice of its filter chain, and between requests.
#include <algorithm>

#include "dataplane/proxy/proxy.h"
#include "dataplane/tables/filter_chain_index.h"
#include "tls-offload/context.h"

namespace sluice::proxy {

void Proxy::accept(StreamLayer& layer, const ReadyStream& ready) {
  const StreamInfo info = layer.info(ready.id);
  if (info.end != StreamEnd::kOpen || (draining_ && info.local.port != c_.config.ready_port)) {
    layer.abort(ready.id);
    return;
  }
  const DownstreamId id = downstreams_.alloc();
  Downstream* d = downstreams_.get(id);
  if (d == nullptr) {
    c_.drops.add(Drop::kConnFull);
    layer.abort(ready.id);
    return;
  }
  layer.set_cookie(ready.id, make_cookie(CookieKind::kDownstream, id));
  d->timer.cookie = id.bits();
  d->tcp = d->wire = {&layer, ready.id};
  d->local = info.local;
  d->remote = info.remote;
  d->accepted_us = c_.now.mono_us;
  d->number = ++accepted_;
  c_.counters.connections_accepted.add();
  c_.counters.connections_active.add();
  if (c_.config.ready_port != 0 && d->local.port == c_.config.ready_port) {
    d->ready_probe = true;
    d->chain = ready_chain_;
    opened(id);
    return;
  }
  d->generation = generation_;
  d->listener = find_listener(d->local);
  if (d->listener == nullptr) {  // removed since the SYN
    close_downstream(id, false);
    return;
  }
  c_.wheel.arm(d->timer, c_.now.mono_us + (d->listener->listener_filters_timeout != 0 ? d->listener->listener_filters_timeout : 15 * kSec));
  inspect(id);
}

// An exact address before the wildcard.
std::shared_ptr<const tables::Listener> Proxy::find_listener(const SocketAddress& local) const {
  std::shared_ptr<const tables::Listener> wildcard;
  for (const auto& l : listeners_) {
    if (l->address == local) return l;
    if (l->address.port == local.port && l->address.ip.is_unspecified()) wildcard = l;
  }
  return wildcard;
}

const std::shared_ptr<const tables::FilterChain>* Proxy::find_chain(const Downstream& d, const tables::Listener& l) const {
  std::string_view alpn[tls::kAlpnMax];
  const size_t n = std::min(d.hello.alpn.size(), std::size(alpn));
  std::copy_n(d.hello.alpn.begin(), n, alpn);
  const tables::ConnectionView view{d.local, d.remote, d.hello.server_name, d.is_tls ? "tls" : "raw_buffer", {alpn, n}};
  const auto* found = l.index->find(view);
  return found != nullptr ? found : l.default_chain != nullptr ? &l.default_chain : nullptr;
}

// Reads without consuming until it is known whether the client speaks TLS and, if so, what its ClientHello asks for. Listeners without a
// TLS inspector choose their chain at once.
void Proxy::inspect(DownstreamId id) {
  Downstream& d = *downstreams_.get(id);
  if (d.generation != generation_) {  // the tables changed while the client kept us waiting
    d.generation = generation_;
    d.listener = find_listener(d.local);
    if (d.listener == nullptr) {
      close_downstream(id, false);
      return;
    }
  }
  if (d.listener->tls_inspector && !d.inspection_over) {
    const ReadView view = d.wire.readable();
    const tls::HelloStatus status = tls::peek_client_hello({view.span, view.count}, d.hello);
    if (status == tls::HelloStatus::kNeedMore) {
      const StreamInfo info = d.wire.info();
      if (info.peer_finished || info.end != StreamEnd::kOpen) close_downstream(id, false);
      return;
    }
    if (status == tls::HelloStatus::kMalformed || status == tls::HelloStatus::kTooLong) {
      c_.drops.add(status == tls::HelloStatus::kTooLong ? Drop::kTlsHelloTooLong : Drop::kTlsHelloMalformed);
      close_downstream(id, false);
      return;
    }
    d.is_tls = status == tls::HelloStatus::kComplete;
  }
  const auto* chain = find_chain(d, *d.listener);
  if (chain == nullptr) {
    no_chain(id);
    return;
  }
  d.chain = *chain;
  chain_found(id);
}

// Envoy closes by reset and writes the listener's own log line.
void Proxy::no_chain(DownstreamId id) {
  Downstream& d = *downstreams_.get(id);
  c_.drops.add(Drop::kTlsNoChain);
  Record r;
  r.start(d.local, d.remote, d.hello.server_name, c_.now);
  r.connection_id = d.number;
  r.flags.set(Flag::kNoRoute);
  r.details = "filter_chain_not_found";
  r.end_us = c_.now.mono_us;
  write_log(d.listener->access_logs, RecordSource(r, nullptr, nullptr), r.flags);
  close_downstream(id, false);
}

void Proxy::chain_found(DownstreamId id) {
  Downstream& d = *downstreams_.get(id);
  c_.wheel.cancel(d.timer);
  if (d.chain->tls_required) {
    if (d.chain->tls == nullptr || tls_ == nullptr) {  // its secret is missing: the chain stays shut
      c_.drops.add(Drop::kTlsNoChain);
      close_downstream(id, false);
      return;
    }
    d.phase = Downstream::Phase::kHandshake;
    const StreamId s = tls_->accept(d.tcp.id, d.chain->tls, c_.now);
    if (!s) {
      close_downstream(id, false);
      return;
    }
    d.wire = {tls_, s};
    tls_->set_cookie(s, make_cookie(CookieKind::kDownstream, id));
    c_.wheel.arm(d.timer, c_.now.mono_us + (d.chain->transport_socket_connect_timeout != 0 ? d.chain->transport_socket_connect_timeout
                                                                                           : kHandshakeTimeout));
    return;
  }
  opened(id);
}

// The byte stream that the filters see is there: network filters, then the terminal one.
void Proxy::opened(DownstreamId id) {
  Downstream& d = *downstreams_.get(id);
  c_.wheel.cancel(d.timer);
  d.facts = {.local = d.local, .remote = d.remote, .tls = d.wire.layer == tls_ && tls_ != nullptr, .certificate = {}};
  if (d.peer != nullptr)
    d.facts.certificate = {d.peer->certificate,   d.peer->sha256_hex, d.peer->subject,   d.peer->pem_escaped,
                           d.peer->chain_escaped, &d.peer->uri_sans,  &d.peer->dns_sans, d.peer->local_uri_san};
  if (!refresh_chain(d) || !network_allowed(d)) {  // there may be new tables since the handshake began
    close_downstream(id, false);
    return;
  }
  if (d.chain->tcp != nullptr) {
    start_tcp(id);
    return;
  }
  d.phase = Downstream::Phase::kHttp;
  arm_connection(d);
  serve(id);
}

bool Proxy::network_allowed(const Downstream& d) {
  for (const tables::RbacFilter& f : d.chain->network_rbac)
    if (!rbac(f, {.head = nullptr, .facts = &d.facts, .remote_ip = d.remote.ip, .sni = d.hello.server_name}).allowed) return false;
  return true;
}

// Why the chain that would take this connection now does not satisfy itself with what the connection proved; nothing: it does. Before the
// end of a handshake nothing is proved yet: opened() asks again.
std::optional<DrainReason> Proxy::not_served(const Downstream& d, const tables::FilterChain* now) const {
  if (now == nullptr || (now->http != nullptr) != (d.chain->http != nullptr) || now->tls_required != d.chain->tls_required ||
      (now->tls_required && now->tls == nullptr))
    return DrainReason::kChainGone;
  if (d.peer == nullptr) return std::nullopt;
  if (!d.peer->certificate) return now->client_certificate_required ? std::optional(DrainReason::kClientCertificate) : std::nullopt;
  if (now->tls->client_cert() == tls::ClientCert::kNone) return std::nullopt;
  if (!now->tls->still_trusts(*d.peer)) return DrainReason::kTrustRemoved;
  return now->tls->refuses(*d.peer).empty() ? std::nullopt : std::optional(DrainReason::kClientCertificate);
}

// Before each request: the newest tables decide. False: the connection's chain is gone or asks for more than this connection proved; it
// takes no further request.
bool Proxy::refresh_chain(Downstream& d) {
  if (d.ready_probe || d.generation == generation_) return true;
  const auto listener = find_listener(d.local);
  const auto* chain = listener == nullptr ? nullptr : find_chain(d, *listener);
  if (const auto why = not_served(d, chain == nullptr ? nullptr : chain->get())) {
    c_.counters.connections_drained[size_t(*why)].add();
    return false;
  }
  d.generation = generation_;
  d.listener = listener;
  d.chain = *chain;
  return true;
}

// One timer for the HTTP phase: idle while no request is there, the connection's longest life, the end of draining.
void Proxy::arm_connection(Downstream& d) {
  const tables::Hcm& hcm = *d.chain->http;
  Usec at = d.drain_deadline;
  if (!d.exchange && hcm.idle_timeout != 0) at = std::min(at, c_.now.mono_us + hcm.idle_timeout);
  if (!d.draining && hcm.max_connection_duration != 0) at = std::min(at, d.accepted_us + hcm.max_connection_duration);
  if (at == kNever) c_.wheel.cancel(d.timer);
  else c_.wheel.arm(d.timer, at);
}

// No further request: what is in flight may finish until the deadline.
void Proxy::drain_connection(DownstreamId id, DrainReason why) {
  Downstream* d = downstreams_.get(id);
  if (d == nullptr || d->draining) return;
  d->draining = true;
  c_.counters.connections_drained[size_t(why)].add();
  d->drain_deadline = c_.now.mono_us + c_.config.drain_deadline;
  if (d->phase == Downstream::Phase::kTunnel) {
    if (Pair* p = pairs_.get(d->pair)) {
      p->end_deadline = std::min(p->end_deadline, d->drain_deadline);
      pair_timer(d->pair);
    }
  } else if (d->phase != Downstream::Phase::kHttp) {
    close_downstream(id, false);
  } else if (!d->exchange) {
    close_downstream(id, true);
  } else {
    arm_connection(*d);
  }
}

void Proxy::downstream_timer(DownstreamId id) {
  Downstream* d = downstreams_.get(id);
  if (d == nullptr) return;
  switch (d->phase) {
    case Downstream::Phase::kInspect:
      if (d->listener->continue_on_listener_filters_timeout) {  // a client that waits for the server's first word (Envoy: raw_buffer)
        d->inspection_over = true;
        inspect(id);
        return;
      }
      c_.drops.add(Drop::kTlsHelloTimeout);
      close_downstream(id, false);
      return;
    case Downstream::Phase::kHandshake:
      c_.drops.add(Drop::kTlsHandshakeTimeout);
      close_downstream(id, false);
      return;
    case Downstream::Phase::kHttp:
      if (c_.now.mono_us >= d->drain_deadline) {
        c_.drops.add(Drop::kDrained);
        if (Exchange* x = exchanges_.get(d->exchange)) {
          x->record.flags.set(Flag::kDownstreamTermination);
          x->record.details = "downstream_local_disconnect";
        }
        close_downstream(id, false);
      } else if (d->exchange) {  // its longest life is over
        drain_connection(id, DrainReason::kAge);
      } else {
        c_.drops.add(Drop::kHttpIdleTimeout);
        close_downstream(id, true);
      }
      return;
    case Downstream::Phase::kTunnel: return;
  }
}

void Proxy::downstream_event(DownstreamId id, uint8_t events) {
  Downstream* d = downstreams_.get(id);
  if (d == nullptr) return;
  if (d->phase == Downstream::Phase::kTunnel) {
    pair_event(d->pair, false, events);
    return;
  }
  const StreamInfo info = d->wire.info();
  const bool ended = (events & kClosed) != 0 && info.end != StreamEnd::kFinished;
  switch (d->phase) {
    case Downstream::Phase::kInspect:
      if (ended) close_downstream(id, false);
      else inspect(id);
      return;
    case Downstream::Phase::kHandshake:
      if (!(events & kOpened)) {
        if (events & kClosed) close_downstream(id, false);
        return;
      }
      d->peer = tls_->peer(d->wire.id);
      opened(id);
      if (events & kClosed) downstream_event(id, kClosed);  // both, where the client's end came with its last flight
      return;
    case Downstream::Phase::kHttp:
      if (ended) {
        // As Envoy: a request that came whole before the end has begun, and has its record.
        if (!d->exchange && d->wire.readable().bytes > 0) serve(id);
        if ((d = downstreams_.get(id)) == nullptr) return;
        client_gone(d->exchange);
        close_downstream(id, false);
        return;
      }
      serve(id);
      return;
    case Downstream::Phase::kTunnel: return;
  }
}

// Ends the connection and whatever hangs on it; each exchange and pair still writes its record. graceful: what was sent arrives.
void Proxy::close_downstream(DownstreamId id, bool graceful) {
  Downstream* d = downstreams_.get(id);
  if (d == nullptr) return;
  if (const PairId pid = std::exchange(d->pair, {})) {
    pairs_.get(pid)->downstream = {};
    end_pair(pid, graceful);
  }
  if (const ExchangeId x = d->exchange) abandon(x);
  c_.wheel.cancel(d->timer);
  c_.counters.connections_active.sub();
  const Wire wire = d->wire;
  downstreams_.free(id);
  if (graceful) wire.layer->close(wire.id);
  else wire.layer->abort(wire.id);
}

}  // namespace sluice::proxy
