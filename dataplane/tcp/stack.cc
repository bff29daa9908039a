// Life of a connection: who exists, who owns it, how it ends. What segments do is in input.cc, what leaves in output.cc, time in timers.cc.
//
// A slot lives from connect() or the final ACK of a handshake until its owner gives it back (abort) or, after close(), until TCP is done
// with it. Out of the connection table it only waits for its owner (kClosed) and still shows what was received in order.
#include <algorithm>

#include "dataplane/tcp/state.h"

namespace sluice::tcp {

Stack::State::State(const Config& cfg, MbufPool& mbufs, DropCounters& drop_counters, const Secrets& keys, Now at)
    : config(cfg),
      pool(mbufs),
      drops(drop_counters),
      secrets(keys),
      now(at),
      wheel(at.mono_us),
      slab(cfg.connections_max),
      entries{slab},
      table(cfg.connections_max, keys.table, entries),
      syns(cfg.syn_max, keys.table, cfg.rto_initial, cfg.synack_retries),
      time_wait(cfg.time_wait_max, keys.table, cfg.time_wait),
      ready(slab),
      out(slab) {
  SLUICE_ASSERT(cfg.receive_window >= 4096 && cfg.receive_window <= 1 << 20 && cfg.send_buffer >= 2 * kWritableLow);
  SLUICE_ASSERT(cfg.mtu >= 576 && cfg.mtu <= kMtu && cfg.connections_max > 0);
  while ((cfg.receive_window >> our_scale) > 0xffff) our_scale++;
}

Stack::State::~State() {
  slab.for_each([this](StreamId, Tcb& c) { free_slot(c); });
}

Tcb* Stack::State::find(StreamId id) const {
  Tcb* c = slab.get(id);
  return c == nullptr || c->detached ? nullptr : c;
}

Seq Stack::State::initial_sequence(const FourTuple& t) const {  // RFC 6528: M + F(tuple, key), M a clock of 4 us
  return {uint32_t(now.mono_us / 4) + uint32_t(hash_of(secrets.isn, key_of(t)))};
}
uint32_t Stack::State::timestamp_offset(const FourTuple& t) const { return uint32_t(hash_of(secrets.timestamps, key_of(t))) | 1; }

Tcb* Stack::State::new_connection(const FourTuple& tuple, Seq iss) {
  const StreamId id = slab.alloc();
  Tcb* c = slab.get(id);
  if (c == nullptr) return nullptr;
  c->timer.cookie = id.bits();
  c->tuple = tuple;
  c->key = key_of(tuple);
  c->iss = c->snd_una = c->snd_nxt = c->snd_max = iss;
  c->ts_offset = timestamp_offset(tuple);
  c->rto.start(config.rto_initial);
  table.insert(id.index);
  c->in_table = true;
  return c;
}

// What the peer's SYN said, against what we offer.
void Stack::State::adopt_peer(Tcb& c, uint16_t peer_mss, bool scaled, uint8_t peer_scale, bool timestamps, uint32_t ts_value) {
  c.timestamps = timestamps;
  c.ts_recent = ts_value;
  c.ts_recent_at = now.mono_us;
  c.snd_scale = scaled ? peer_scale : 0;
  c.rcv_scale = scaled ? our_scale : 0;
  const uint16_t mss = std::clamp<uint16_t>(peer_mss, kMssMin, config.mtu - kHeadersBytes);
  c.snd_mss = uint16_t(mss - (timestamps ? kTimestampOptionBytes : 0));
  c.rcv_mss = uint32_t(config.mtu - kHeadersBytes - (timestamps ? kTimestampOptionBytes : 0));
  c.rcv_nxt = c.irs + 1;
  c.last_ack_sent = c.rcv_nxt;
  c.rcv_adv = c.rcv_nxt + std::min(config.receive_window, 0xffffu);  // what our SYN said
  c.cc.start(c.snd_mss, c.iss);
}

void Stack::State::establish(Tcb& c) {
  c.state = TcpState::kEstablished;
  c.snd_una = c.iss + 1;
  c.snd_nxt = later(c.snd_nxt, c.snd_una);
  c.snd_max = later(c.snd_max, c.snd_una);
  c.retransmit_at = c.end_at = kNever;
  if (c.backoff > 0) syn_was_lost(c);
  c.backoff = c.unanswered = 0;
  c.send_syn = false;
  keepalive_restart(c);
  if (c.fin_queued) {  // finished or closed while it was being opened
    c.state = TcpState::kFinWait1;
    if (c.detached) c.end_at = now.mono_us + config.linger;
    mark_output(c);
  }
  event(c, c.fin_queued ? kOpened : kOpened | kWritable);
}

// A SYN or SYN-ACK had to go again. RFC 6298 5.7: the timer begins with 3 s until a sample says otherwise. RFC 5681 3.1: one segment.
void Stack::State::syn_was_lost(Tcb& c) {
  c.rto.start(std::max(c.rto.rto_us, 3 * kSec));
  c.cc.cwnd = c.snd_mss;
}

void Stack::State::event(Tcb& c, uint8_t events) {
  if (c.detached) return;
  c.events |= events;
  ready.push(index_of(c));
}

void Stack::State::enter_time_wait(Tcb& c) {
  if (c.ack_now) send_ack_aside(c);
  if (time_wait.add(c.key, c.snd_max, c.rcv_nxt, c.ts_recent, c.timestamps ? c.ts_offset : 0, now.mono_us))
    counters.time_wait_evicted.add();
  end_connection(c, StreamEnd::kFinished);
}

// Out of the table; what nobody will read goes. `c` is dead after it if it was closed by its owner.
void Stack::State::end_connection(Tcb& c, StreamEnd end) {
  if (c.state == TcpState::kSynSent || c.state == TcpState::kSynReceived) counters.failed_opens.add();
  else counters.established_closes.add();
  if (c.in_table) table.remove(index_of(c));
  c.in_table = false;
  c.state = TcpState::kClosed;
  c.end = end;
  c.retransmit_at = c.delayed_ack_at = c.keepalive_at = c.end_at = kNever;
  wheel.cancel(c.timer);
  out.remove(index_of(c));
  c.send.clear();
  c.receive.clear_out_of_order();
  if (c.detached) free_slot(c);
  else event(c, kClosed);
}

void Stack::State::free_slot(Tcb& c) {
  if (c.in_table) table.remove(index_of(c));
  wheel.cancel(c.timer);
  ready.remove(index_of(c));
  out.remove(index_of(c));
  slab.free(slab.handle_of(c));
}

uint32_t Stack::State::budget(const Tcb& c) const {
  return c.may_send() && c.send.bytes() < config.send_buffer ? config.send_buffer - c.send.bytes() : 0;
}

// Our side is done: a FIN follows the last byte.
void Stack::State::finish(Tcb& c) {
  if (c.fin_queued || c.state == TcpState::kClosed) return;
  c.fin_queued = true;
  if (c.state == TcpState::kEstablished) c.state = TcpState::kFinWait1;
  else if (c.state == TcpState::kCloseWait) c.state = TcpState::kLastAck;
  mark_output(c);
}

bool Stack::State::listens(const SocketAddress& a) const {
  return std::ranges::any_of(listeners,
                             [&](const SocketAddress& l) { return l.port == a.port && (l.ip == a.ip || l.ip.is_unspecified()); });
}

bool Stack::State::tuple_free(const FourTuple& t) {
  const TupleKey k = key_of(t);
  return table.find(k) == kNoIndex && syns.find(k) == nullptr && time_wait.find(k) == nullptr;
}

uint16_t Stack::State::pick_port(const FourTuple& tuple) {  // RFC 6056, algorithm 3 in spirit: a keyed start, then on
  FourTuple t = tuple;
  t.local.port = uint16_t(port_counter >> 16);
  const uint32_t random = uint32_t(hash_of(secrets.ports, key_of(t))) + port_counter++;
  constexpr uint32_t kPorts = 65'536 - OwnerHash::kFirstSourcePort;
  for (uint32_t attempt = 0; attempt < 4 * kPorts; attempt++) {
    t.local.port = config.owner != nullptr ? config.owner->source_port(tuple, config.worker, random, attempt)
                   : attempt < kPorts      ? uint16_t(OwnerHash::kFirstSourcePort + (random + attempt) % kPorts)
                                           : uint16_t{0};
    if (t.local.port == 0) return 0;
    if (tuple_free(t)) return t.local.port;
  }
  return 0;
}

ConnectionSnapshot Stack::State::snapshot(const Tcb& c) const {
  ConnectionSnapshot s;
  s.tuple = c.tuple;
  s.state = c.state;
  s.closed_by_owner = c.detached;
  s.srtt_us = c.rto.srtt_us;
  s.rttvar_us = c.rto.rttvar_us;
  s.rto_us = c.rto.backed_off(c.backoff, config.rto_max);
  s.cwnd = c.cc.cwnd;
  s.ssthresh = c.cc.ssthresh;
  s.mss = c.snd_mss;
  s.send_window = c.snd_wnd;
  s.receive_window = c.rcv_wnd();
  s.in_flight = c.in_flight();
  s.unsent = c.synchronized() && c.data_end() > c.snd_nxt ? distance(c.snd_nxt, c.data_end()) : 0;
  s.unread = c.receive.unread();
  s.out_of_order = c.receive.out_of_order_bytes();
  s.retransmits = c.retransmits;
  s.backoff = c.backoff;
  s.bytes_in = c.bytes_in;
  s.bytes_out = c.bytes_out;
  return s;
}

void Stack::State::check(const Tcb& c) const {
  c.receive.check(c.rcv_nxt);
  SLUICE_ASSERT(c.snd_una <= c.snd_nxt && c.snd_nxt <= c.snd_max);
  SLUICE_ASSERT(c.send.bytes() <= config.send_buffer && c.receive.unread() <= config.receive_window);
  SLUICE_ASSERT(c.in_table == (c.state != TcpState::kClosed));
  if (c.state == TcpState::kClosed) {
    SLUICE_ASSERT(!c.timer.armed() && c.send.bytes() == 0 && c.receive.out_of_order_bytes() == 0);
    return;
  }
  // What waits for the peer has a clock, or is about to leave.
  if (!c.synchronized()) {
    SLUICE_ASSERT((c.retransmit_at != kNever && c.timer.armed()) || c.out.linked);
    return;
  }
  SLUICE_ASSERT(c.snd_max <= c.data_end() + (c.fin_queued && !c.fin_acked ? 1 : 0));
  SLUICE_ASSERT(c.fin_queued == (c.state != TcpState::kEstablished && c.state != TcpState::kCloseWait));
  const bool waits = c.snd_una < c.snd_max || c.snd_nxt < c.data_end() || (c.fin_queued && !c.fin_acked);
  SLUICE_ASSERT(!waits || c.retransmit_at != kNever || c.out.linked);
  SLUICE_ASSERT(c.retransmit_at == kNever || c.timer.armed());
}

// ---- the public face

std::string_view name_of(TcpState s) {
  constexpr std::string_view kNames[] = {"SYN-SENT",   "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
                                         "CLOSE-WAIT", "CLOSING",      "LAST-ACK",    "CLOSED"};
  return kNames[size_t(s)];
}

Stack::Stack(const Config& config, MbufPool& pool, DropCounters& drops, const Secrets& secrets, Now now)
    : s_(std::make_unique<State>(config, pool, drops, secrets, now)) {}
Stack::~Stack() = default;

void Stack::input(std::span<const L4Packet> packets, const Now& now) {
  s_->now = now;
  for (const L4Packet& p : packets) s_->input(p);
}
void Stack::advance(const Now& now) {
  s_->now = now;
  s_->advance();
}
unsigned Stack::output(std::span<L4Packet> out, const Now& now) {
  s_->now = now;
  return s_->output(out);
}
Usec Stack::next_deadline() const { return std::min({s_->wheel.next_deadline(), s_->syns.next_deadline(), s_->time_wait.next_deadline()}); }
bool Stack::output_pending() const { return !s_->out.empty() || !s_->control.empty(); }

std::expected<void, ListenError> Stack::listen(const SocketAddress& address) {
  if (!address.ip.is_v4()) return std::unexpected(ListenError::kNotIpv4);
  if (address.port == 0) return std::unexpected(ListenError::kPortZero);
  if (is_listening(address)) return std::unexpected(ListenError::kInUse);
  s_->listeners.push_back(address);
  return {};
}
void Stack::unlisten(const SocketAddress& address) { std::erase(s_->listeners, address); }
bool Stack::is_listening(const SocketAddress& address) const { return std::ranges::find(s_->listeners, address) != s_->listeners.end(); }

StreamId Stack::connect(const SocketAddress& local, const SocketAddress& remote, Usec timeout, const Now& now) {
  s_->now = now;
  FourTuple t{local, remote};
  if (t.local.port == 0) {
    t.local.port = s_->pick_port(t);
  } else if (!s_->tuple_free(t)) {
    t.local.port = 0;
  }
  if (t.local.port == 0 || !remote.ip.is_v4() || !local.ip.is_v4() || remote.port == 0) {
    s_->drops.add(Drop::kTcpNoPorts);
    return {};
  }
  Tcb* c = s_->new_connection(t, s_->initial_sequence(t));
  if (c == nullptr) {
    s_->drops.add(Drop::kTcpTableFull);
    return {};
  }
  s_->counters.active_opens.add();
  c->state = TcpState::kSynSent;
  c->send_syn = true;
  if (timeout != 0) c->end_at = now.mono_us + timeout;
  s_->rearm(*c);
  s_->mark_output(*c);
  return s_->slab.handle_of(*c);
}

void Stack::unreachable(const FourTuple& tuple, uint32_t seq, const Now& now) {
  s_->now = now;
  const uint32_t i = s_->table.find(key_of(tuple));
  if (i == kNoIndex) return;
  Tcb& c = *s_->slab.at(i);
  // INTERPRETATION(deviate): an open connection survives hard errors too (SHLD-26 would abort), since anybody can forge them (RFC 5927 4).
  if (c.state == TcpState::kSynSent && Seq{seq} == c.iss) s_->end_connection(c, StreamEnd::kUnreachable);
}

void Stack::packet_too_big(const FourTuple& tuple, uint32_t seq, uint16_t mtu, const Now& now) {
  s_->now = now;
  const uint32_t i = s_->table.find(key_of(tuple));
  if (i == kNoIndex) return;
  Tcb& c = *s_->slab.at(i);
  if (!c.synchronized() || Seq{seq} < c.snd_una || Seq{seq} >= c.snd_max) return;  // RFC 5927: only what is in flight
  constexpr uint16_t kMtuFloor = 552;
  const uint16_t mss = uint16_t(std::max(mtu, kMtuFloor) - kHeadersBytes - (c.timestamps ? kTimestampOptionBytes : 0));
  if (mss >= c.snd_mss) return;
  c.snd_mss = mss;
  c.cc.mss = mss;
  c.snd_nxt = c.snd_una;
  c.timed_start = 0;
  s_->mark_output(c);
}

ReadView Stack::readable(StreamId id) const {
  ReadView v;
  const Tcb* c = s_->find(id);
  if (c == nullptr) return v;
  for (const rte_mbuf* m = c->receive.ready().head(); m != nullptr && v.count < ReadView::kReadSpansMax; m = m->next) {
    v.span[v.count++] = bytes_of(m);
    v.bytes += m->data_len;
  }
  return v;
}

void Stack::consume(StreamId id, uint32_t bytes) {
  Tcb* c = s_->find(id);
  if (c == nullptr || bytes == 0) return;
  c->receive.consume(bytes);
  // The window opens with the next segment; a segment of its own only when it grew by two segments or half the buffer (RFC 1122 4.2.3.3).
  if (c->peer_finished || !c->synchronized()) return;
  const uint32_t room = s_->room(*c), half = s_->window_max(*c) / 2;
  if (room > c->rcv_wnd() && room - c->rcv_wnd() >= std::min(2 * c->rcv_mss, half) && c->rcv_wnd() < half) {
    c->ack_now = true;
    s_->mark_output(*c);
  }
}

uint32_t Stack::budget(StreamId id) const {
  const Tcb* c = s_->find(id);
  return c == nullptr ? 0 : s_->budget(*c);
}
uint32_t Stack::segment_bytes(StreamId id) const {
  const Tcb* c = s_->find(id);
  return c == nullptr ? kMssDefault : c->snd_mss;
}

void Stack::send(StreamId id, Chain chain) {
  Tcb* c = s_->find(id);
  if (c == nullptr || !c->may_send() || chain.empty()) return;
  const uint32_t bytes = chain.bytes();
  SLUICE_ASSERT(bytes <= s_->budget(*c));
  const uint64_t sent_end = c->send.begin() + std::min(distance(c->snd_una, c->snd_max), c->send.bytes());
  if (!c->send.append(std::move(chain), sent_end, s_->pool)) {  // bytes are lost: only an end is honest
    s_->drops.add(Drop::kTcpNoMbuf);
    s_->send_reset(*c);
    s_->end_connection(*c, StreamEnd::kNoResources);
    return;
  }
  c->bytes_out += bytes;
  if (s_->budget(*c) < kWritableLow) c->writable_armed = true;
  s_->mark_output(*c);
}

void Stack::finish(StreamId id) {
  if (Tcb* c = s_->find(id)) s_->finish(*c);
}

void Stack::abort(StreamId id) {
  Tcb* c = s_->find(id);
  if (c == nullptr) return;
  c->detached = true;
  if (c->state == TcpState::kClosed) {
    s_->free_slot(*c);
    return;
  }
  if (c->state != TcpState::kSynSent) s_->send_reset(*c);
  s_->end_connection(*c, StreamEnd::kAborted);
}

void Stack::close(StreamId id) {
  Tcb* c = s_->find(id);
  if (c == nullptr) return;
  c->detached = true;
  s_->ready.remove(s_->index_of(*c));
  if (c->state == TcpState::kClosed) {
    s_->free_slot(*c);
    return;
  }
  if (c->state == TcpState::kSynSent) {
    s_->end_connection(*c, StreamEnd::kAborted);
    return;
  }
  c->receive.clear();
  s_->finish(*c);
  const Usec at = s_->now.mono_us;
  c->end_at = at + (c->state == TcpState::kFinWait2 ? s_->config.fin_wait2 : s_->config.linger);
  c->linger_limit = at + 6 * s_->config.linger;
  c->ack_now = true;  // the window is open again
  s_->mark_output(*c);
  s_->rearm(*c);
}

StreamInfo Stack::info(StreamId id) const {
  const Tcb* c = s_->find(id);
  if (c == nullptr) return {.local = {}, .remote = {}, .end = StreamEnd::kAborted};
  return {c->tuple.local, c->tuple.remote, c->end, c->peer_finished, c->bytes_in, c->bytes_out};
}
void Stack::set_cookie(StreamId id, uint64_t cookie) {
  if (Tcb* c = s_->find(id)) c->cookie = cookie;
}
unsigned Stack::poll_events(std::span<ReadyStream> to) {
  unsigned n = 0;
  while (n < to.size() && !s_->ready.empty()) {
    Tcb& c = *s_->slab.at(s_->ready.head());
    s_->ready.remove(s_->ready.head());
    to[n++] = {s_->slab.handle_of(c), std::exchange(c.events, uint8_t{0}), c.cookie};
  }
  return n;
}

uint32_t Stack::streams() const { return s_->slab.live(); }
uint32_t Stack::connections() const { return s_->table.size(); }
uint32_t Stack::syn_entries() const { return s_->syns.size(); }
uint32_t Stack::time_wait_entries() const { return s_->time_wait.size(); }
const StackCounters& Stack::counters() const { return s_->counters; }

std::optional<ConnectionSnapshot> Stack::snapshot(StreamId id) const {
  const Tcb* c = s_->find(id);
  return c == nullptr ? std::nullopt : std::optional(s_->snapshot(*c));
}
void Stack::for_each_stream(const std::function<void(StreamId, const ConnectionSnapshot&)>& f) const {
  s_->slab.for_each([&](StreamId id, Tcb& c) { f(id, s_->snapshot(c)); });
}
void Stack::check_invariants() const {
  uint32_t in_table = 0;
  s_->slab.for_each([&](StreamId, Tcb& c) {
    s_->check(c);
    in_table += c.in_table;
  });
  SLUICE_ASSERT(in_table == s_->table.size());
}

}  // namespace sluice::tcp
