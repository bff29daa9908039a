// Life and events of sessions. Every path out of kHandshaking or kOpen goes through end_session(), every slot out through release(); a
// lower stream is given back exactly once: by fail() (close: the alert still leaves), or by the owner's abort() or close().
//
// Sessions with events stand in one list; a session is linked when it gets its first bit. Timers: one node a session, for whichever of its
// deadlines it has (they exclude each other but for the retry, which is shorter than any).
#include "tls-offload/layer.h"

#include <algorithm>
#include <utility>

#include "tls-offload/session.h"

namespace sluice::tls {
namespace {

constexpr uint64_t kIndexMask = 0x0fff'ffff;

void unlink(TimerLink& l) {
  l.prev->next = l.next;
  l.next->prev = l.prev;
  l.prev = l.next = &l;
}

}  // namespace

void Layer::State::event(Session& s, uint8_t bits) {
  if (s.events == 0 && s.next == &s) {
    s.prev = ready.prev;
    s.next = &ready;
    ready.prev->next = &s;
    ready.prev = &s;
  }
  s.events |= bits;
}

void Layer::State::leave_handshaking(Session& s) {
  handshaking--;
  wheel.cancel(s.timer);
}

void Layer::State::end_session(Session& s, StreamEnd end) {
  if (s.phase == Phase::kHandshaking) leave_handshaking(s);
  wheel.cancel(s.timer);
  s.phase = Phase::kClosed;
  s.end = end;
  s.pending.clear();
  event(s, kClosed);
}

void Layer::State::fail(Session& s, const Failure& f, bool alert) {
  drops.add(f.reason);
  if (s.error.empty()) s.error = std::string("TLS_error: ") + f.text;
  if (alert && s.phase == Phase::kOpen && !s.finish_sent) {
    const uint8_t message[] = {2, uint8_t(f.alert)};
    if (send_record(s, ContentType::kAlert, message)) counters.alerts_out.add();
  }
  lower.close(std::exchange(s.lower, {}));
  end_session(s, StreamEnd::kTlsFailed);
}

void Layer::State::fail_handshake(Session& s, std::string error, Drop reason) {
  counters.handshakes_failed.add();
  drops.add(reason);
  s.error = std::move(error);
  handshakes.end(s.handshake);
  lower.close(std::exchange(s.lower, {}));
  end_session(s, StreamEnd::kTlsFailed);
}

void Layer::State::release(Session& s) {
  if (s.phase == Phase::kHandshaking) {
    handshakes.end(s.handshake);
    leave_handshaking(s);
  }
  wheel.cancel(s.timer);
  unlink(s);
  slab.free(slab.handle_of(s));
}

// Lingering: close_notify leaves, or there is nobody left to send it to.
void Layer::State::try_to_leave(Session& s) {
  if (!s.lower_closed && !flush_control(s)) return;
  lower.close(s.lower);
  release(s);
}

// The transport gives no more bytes and all that came was handled.
void Layer::State::lower_ended(Session& s) {
  const StreamEnd below = lower.info(s.lower).end;
  if (!s.peer_finished && (below == StreamEnd::kOpen || below == StreamEnd::kFinished)) {
    counters.truncated.add();
    drops.add(Drop::kTlsTruncated);
    s.error = "TLS_error: the transport ended without close_notify";
    return end_session(s, StreamEnd::kTruncated);
  }
  if (s.lower_closed) end_session(s, below == StreamEnd::kOpen ? StreamEnd::kFinished : below);
}

// Copies what the lower stream shows into a step, unless one is out.
void Layer::State::step(Session& s) {
  if (s.lower_closed) return fail_handshake(s, "TLS_error: the connection ended during the handshake", Drop::kTlsHandshakeFailed);
  if (s.step_out) return;
  const ReadView view = lower.readable(s.lower);
  if (view.bytes == 0) {
    if (s.lower_finished) fail_handshake(s, "TLS_error: the peer closed the connection during the handshake", Drop::kTlsHandshakeFailed);
    return;
  }
  scratch.clear();
  for (unsigned i = 0; i < view.count; i++) scratch.insert(scratch.end(), view.span[i].begin(), view.span[i].end());
  s.step_out = true;
  s.step_bytes = uint32_t(scratch.size());
  handshakes.step(s.handshake, scratch, now);
}

void Layer::State::apply(Session& s, HandshakeAnswer& answer) {
  s.step_out = false;
  using Kind = HandshakeAnswer::Kind;
  if (!answer.send.empty()) {
    Chain chain;
    if (answer.send.size() > lower.budget(s.lower) || !pool.append_copy(chain, answer.send, lower.segment_bytes(s.lower))) {
      if (answer.kind != Kind::kFailed) return fail_handshake(s, "TLS_error: no buffers for the handshake", Drop::kTlsNoMbuf);
      chain.clear();  // an alert is lost
    }
    lower.send(s.lower, std::move(chain));
  }
  lower.consume(s.lower, std::min(answer.consumed, s.step_bytes));
  if (answer.kind == Kind::kFailed) return fail_handshake(s, std::move(answer.error), Drop::kTlsHandshakeFailed);
  if (answer.kind == Kind::kMore) {
    if (answer.consumed < s.step_bytes) return fail_handshake(s, "TLS_error: the handshake made no progress", Drop::kTlsHandshakeFailed);
    return step(s);
  }
  s.keys = answer.keys;
  s.peer = std::move(answer.peer);
  const AeadKey::Engine engine = AeadKey::best(s.keys.suite);
  if (!s.tx.install(s.keys.tls13, s.keys.suite, s.keys.tx, engine) || !s.rx.install(s.keys.tls13, s.keys.suite, s.keys.rx, engine))
    return fail_handshake(s, "TLS_error: no cipher for the negotiated suite", Drop::kTlsHandshakeFailed);
  leave_handshaking(s);
  counters.handshakes_done.add();
  if (s.peer->certificate) counters.peer_certificates.add();
  s.phase = Phase::kOpen;
  event(s, kOpened | kWritable);
  receive(s);
}

Layer::Layer(StreamLayer& lower, MbufPool& pool, Handshakes& handshakes, DropCounters& drops, const LayerConfig& config, const Now& now)
    : s_(std::make_unique<State>(lower, pool, handshakes, drops, config, now)) {
  s_->scratch.reserve(64 * 1024);
}

Layer::~Layer() {
  s_->slab.for_each([this](StreamId, Session& s) {
    s_->lower.abort(s.lower);
    s_->release(s);
  });
}

StreamId Layer::accept(StreamId lower, std::shared_ptr<const ServerPolicy> policy, const Now& now) {
  s_->now = now;
  const StreamId id = s_->slab.alloc(lower);
  Session* s = s_->slab.get(id);
  if (s != nullptr) s->handshake = s_->handshakes.begin(std::move(policy), id.bits());
  if (s == nullptr || !s->handshake) {
    s_->counters.handshakes_refused.add();
    s_->drops.add(Drop::kTlsQueueFull);
    s_->slab.free(id);
    return {};
  }
  s_->counters.handshakes_started.add();
  s_->handshaking++;
  const StreamInfo info = s_->lower.info(lower);
  s->local = info.local;
  s->remote = info.remote;
  s->lower_finished = info.peer_finished;
  s->lower_closed = info.end != StreamEnd::kOpen;
  s->timer.cookie = id.bits();
  s_->wheel.arm(s->timer, now.mono_us + s_->config.handshake_timeout);
  s_->lower.set_cookie(lower, uint64_t(id.generation) << 32 | uint64_t(s_->config.cookie_kind) << 28 | (id.index & kIndexMask));
  s_->step(*s);
  return id;
}

void Layer::on_lower(const ReadyStream& lower, const Now& now) {
  s_->now = now;
  Session* s = s_->slab.get({uint32_t(lower.cookie & kIndexMask), uint32_t(lower.cookie >> 32)});
  if (s == nullptr || !(s->lower == lower.id)) return;
  if ((lower.events & kPeerFinished) != 0) s->lower_finished = true;
  if ((lower.events & kClosed) != 0) s->lower_closed = true;
  switch (s->phase) {
    case Phase::kHandshaking: s_->step(*s); break;
    case Phase::kOpen:
      s_->receive(*s);
      if (s->phase != Phase::kOpen) break;
      if (s->lower_closed && s_->lower.info(s->lower).end != StreamEnd::kFinished) s_->end_session(*s, s_->lower.info(s->lower).end);
      else if ((lower.events & kWritable) != 0) s_->event(*s, kWritable);
      break;
    case Phase::kLingering:
      s_->receive(*s);
      s_->try_to_leave(*s);
      break;
    case Phase::kClosed: break;
  }
}

unsigned Layer::poll_handshakes(const Now& now) {
  s_->now = now;
  unsigned n = 0;
  for (HandshakeAnswer answer; s_->handshakes.poll(answer); answer = {}, n++) {
    Session* s = s_->slab.get(StreamId::from_bits(answer.cookie));
    if (s != nullptr && s->phase == Phase::kHandshaking) s_->apply(*s, answer);
  }
  return n;
}

void Layer::advance(const Now& now) {
  s_->now = now;
  s_->wheel.advance(now.mono_us, kTimersPerTurnMax, [this](TimerNode& node) {
    Session* s = s_->slab.get(StreamId::from_bits(node.cookie));
    if (s == nullptr) return;
    switch (s->phase) {
      case Phase::kHandshaking: s_->fail_handshake(*s, "TLS_error: handshake timeout", Drop::kTlsHandshakeTimeout); break;
      case Phase::kOpen: s_->receive(*s); break;
      case Phase::kLingering:
        if (s->linger_until <= s_->now.mono_us) {
          s_->lower.abort(s->lower);
          s_->release(*s);
        } else {
          s_->wheel.arm(s->timer, s->linger_until);
          s_->try_to_leave(*s);
        }
        break;
      case Phase::kClosed: break;
    }
  });
}
Usec Layer::next_deadline() const { return s_->wheel.next_deadline(); }

const PeerInfo* Layer::peer(StreamId id) const {
  const Session* s = s_->find(id);
  return s == nullptr ? nullptr : s->peer.get();
}
std::string Layer::error_text(StreamId id) const {
  const Session* s = s_->find(id);
  return s == nullptr ? "" : s->error;
}

ReadView Layer::readable(StreamId id) const {
  ReadView v;
  const Session* s = s_->find(id);
  if (s == nullptr) return v;
  for (const rte_mbuf* m = s->plain.head(); m != nullptr && v.count < ReadView::kReadSpansMax; m = m->next) {
    v.span[v.count++] = bytes_of(m);
    v.bytes += m->data_len;
  }
  return v;
}

void Layer::consume(StreamId id, uint32_t bytes) {
  Session* s = s_->find(id);
  if (s == nullptr || bytes == 0) return;
  s->plain.consume(std::min(bytes, s->plain.bytes()));
  if (s->read_blocked) s_->receive(*s);
}

uint32_t Layer::budget(StreamId id) const {
  const Session* s = s_->find(id);
  return s == nullptr ? 0 : s_->budget(*s);
}
uint32_t Layer::segment_bytes(StreamId id) const {
  const Session* s = s_->find(id);
  return s == nullptr ? 1024 : s_->segment_bytes(*s);
}
void Layer::send(StreamId id, Chain chain) {
  if (Session* s = s_->find(id)) s_->send(*s, std::move(chain));
}

void Layer::finish(StreamId id) {
  Session* s = s_->find(id);
  if (s == nullptr || s->phase != Phase::kOpen || s->finish_wanted) return;
  s->finish_wanted = true;
  s_->flush_control(*s);
}

void Layer::abort(StreamId id) {
  Session* s = s_->find(id);
  if (s == nullptr) return;
  s_->lower.abort(s->lower);
  s_->release(*s);
}

void Layer::close(StreamId id) {
  Session* s = s_->find(id);
  if (s == nullptr) return;
  finish(id);
  if (s->phase == Phase::kOpen && !s->finish_sent && !s->lower_closed) {
    s->phase = Phase::kLingering;
    s->plain.clear();
    s->pending.clear();
    unlink(*s);
    s->linger_until = s_->now.mono_us + kLinger;
    s_->wheel.arm(s->timer, s->linger_until);
    return;
  }
  s_->lower.close(s->lower);
  s_->release(*s);
}

StreamInfo Layer::info(StreamId id) const {
  const Session* s = s_->find(id);
  if (s == nullptr) return {.local = {}, .remote = {}, .end = StreamEnd::kAborted};
  return {s->local, s->remote, s->end, s->peer_finished, s->bytes_in, s->bytes_out};
}
void Layer::set_cookie(StreamId id, uint64_t cookie) {
  if (Session* s = s_->find(id)) s->cookie = cookie;
}

unsigned Layer::poll_events(std::span<ReadyStream> out) {
  unsigned n = 0;
  while (n < out.size() && s_->ready.next != &s_->ready) {
    Session& s = *static_cast<Session*>(s_->ready.next);
    unlink(s);
    out[n++] = {s_->slab.handle_of(s), std::exchange(s.events, uint8_t{0}), s.cookie};
  }
  return n;
}

uint32_t Layer::sessions() const { return s_->slab.live(); }
uint32_t Layer::handshaking() const { return s_->handshaking; }
const LayerCounters& Layer::counters() const { return s_->counters; }

}  // namespace sluice::tls
