// A segment's way in (RFC 9293 3.10.7): whose is it, is it acceptable, what does it acknowledge, what does it bring. Every refusal has its
// drop reason; what a refused segment makes us answer is decided here and leaves with output().
#include <algorithm>

#include "dataplane/tcp/state.h"

namespace sluice::tcp {

void Stack::State::drop(rte_mbuf* m, Drop reason) {
  drops.add(reason);
  rte_pktmbuf_free(m);
}

void Stack::State::input(const L4Packet& packet) {
  counters.segments_in.add();
  const auto parsed = parse_segment(packet);
  if (!parsed) {
    drop(packet.m, parsed.error());
    return;
  }
  rte_mbuf* m = packet.m;
  const ParsedSegment& p = *parsed;
  rte_pktmbuf_adj(m, p.segment.header_bytes);
  const TupleKey key = key_of(p.tuple);
  if (const uint32_t i = table.find(key); i != kNoIndex) {
    Tcb& c = *slab.at(i);
    if (c.state == TcpState::kSynSent) input_syn_sent(c, p, m);
    else input_connection(c, p.segment, m);
  } else if (SynEntry* e = syns.find(key)) {
    input_syn_entry(*e, p, m);
  } else if (TimeWaitEntry* t = time_wait.find(key)) {
    input_time_wait(*t, p, m);
  } else {
    input_stranger(p, m);
  }
}

// RFC 9293 3.10.7.1 and .2: no connection, or LISTEN.
void Stack::State::input_stranger(const ParsedSegment& p, rte_mbuf* m) {
  const Segment& s = p.segment;
  if (s.has(kRst)) {
    drop(m, Drop::kTcpNoConnection);
  } else if (config.owner != nullptr && config.owner->owner(p.tuple) != config.worker) {
    drop(m, Drop::kTcpWrongWorker);  // another worker may know it: no answer from here
  } else if (s.has(kSyn) && !s.has(kAck)) {
    input_listen(p, m, nullptr);
  } else if (!s.has(kAck) && listens(p.tuple.local)) {
    drop(m, Drop::kTcpBadFlags);  // RFC 9293 3.10.7.2, fourth: no answer from LISTEN
  } else {
    reset_for(p.tuple, s);
    drop(m, Drop::kTcpNoConnection);
  }
}

// iss_min: our number must lie behind it (reuse of a tuple in TIME-WAIT), or null. True: a handshake began.
bool Stack::State::input_listen(const ParsedSegment& p, rte_mbuf* m, const Seq* iss_min) {
  const Segment& s = p.segment;
  if (!listens(p.tuple.local)) {
    reset_for(p.tuple, s);
    drop(m, Drop::kTcpNotListening);
    return false;
  }
  if (slab.live() + syns.size() >= config.connections_max) {
    drop(m, Drop::kTcpTableFull);
    return false;
  }
  SynEntry e;
  e.key = key_of(p.tuple);
  e.irs = s.seq;
  e.iss = initial_sequence(p.tuple);
  if (iss_min != nullptr) e.iss = later(e.iss, *iss_min);
  e.ts_recent = s.options.ts_value;
  e.ts_offset = timestamp_offset(p.tuple);
  e.peer_mss = s.options.mss != 0 ? s.options.mss : kMssDefault;
  e.window_scale = config.window_scale && s.options.has_window_scale;
  e.peer_window_scale = s.options.window_scale;
  e.timestamps = config.timestamps && s.options.has_timestamps;
  const SynEntry* added = syns.add(e, now.mono_us);
  if (added == nullptr) {
    drop(m, Drop::kTcpSynTableFull);
    return false;
  }
  counters.segments_accepted.add();
  rte_pktmbuf_free(m);  // INTERPRETATION(deviate): data on a SYN is not queued (3.10.7.2, third), it comes again
  send_syn_ack(*added);
  return true;
}

// SYN-RECEIVED of a passive open: only the right ACK makes a connection.
void Stack::State::input_syn_entry(SynEntry& e, const ParsedSegment& p, rte_mbuf* m) {
  const Segment& s = p.segment;
  if (s.has(kRst)) {
    if (s.seq != e.irs + 1) {  // RFC 5961 3.2: exactly the next byte
      drop(m, Drop::kTcpBadRst);
      return;
    }
    counters.resets_in.add();
    counters.failed_opens.add();
    syns.remove(&e);
    counters.segments_accepted.add();
    rte_pktmbuf_free(m);
    return;
  }
  if (s.has(kSyn) && !s.has(kAck) && s.seq == e.irs) {  // our SYN-ACK was lost, or is late
    counters.segments_accepted.add();
    rte_pktmbuf_free(m);
    send_syn_ack(e);
    return;
  }
  // INTERPRETATION(deviate): the answer is our SYN-ACK, which tells the peer where we are, and another SYN does not lead back to LISTEN
  // (3.10.7.4, fourth): a peer that began anew answers it by an RST, which does.
  if (s.has(kSyn) || s.seq < e.irs + 1 || s.seq > e.irs + 1 + 0xffff) {
    drop(m, Drop::kTcpOutOfWindow);
    send_syn_ack(e);
    return;
  }
  if (!s.has(kAck)) {
    drop(m, Drop::kTcpBadFlags);
    return;
  }
  if (e.timestamps && !s.options.has_timestamps) {  // RFC 7323 3.2
    drop(m, Drop::kTcpBadOptions);
    return;
  }
  if (e.timestamps && int32_t(s.options.ts_value - e.ts_recent) < 0) {  // RFC 7323 5.3 (R1)
    drop(m, Drop::kTcpPaws);
    send_syn_ack(e);
    return;
  }
  if (s.ack != e.iss + 1) {
    reset_for(p.tuple, s);
    drop(m, Drop::kTcpBadAck);
    return;
  }
  const SynEntry syn = e;
  syns.remove(&e);
  Tcb* c = new_connection(p.tuple, syn.iss);
  if (c == nullptr) {
    reset_for(p.tuple, s);
    drop(m, Drop::kTcpTableFull);
    return;
  }
  c->irs = syn.irs;
  adopt_peer(*c, syn.peer_mss, syn.window_scale, syn.peer_window_scale, syn.timestamps, syn.ts_recent);
  c->snd_wl1 = s.seq;
  c->snd_wl2 = s.ack;
  c->snd_wnd = c->snd_wnd_max = s.window << c->snd_scale;
  if (syn.retransmits == 0) c->rto.sample(now.mono_us - syn.sent, config.rto_min, config.rto_max);
  else syn_was_lost(*c);
  counters.passive_opens.add();
  establish(*c);
  input_connection(*c, s, m);
}

// RFC 9293 3.10.7.4 TIME-WAIT, RFC 6191 (reuse), RFC 1337 (no assassination by RST).
void Stack::State::input_time_wait(TimeWaitEntry& e, const ParsedSegment& p, rte_mbuf* m) {
  const Segment& s = p.segment;
  if (s.has(kSyn) && !s.has(kAck) && !s.has(kRst)) {
    const bool stamped = e.ts_offset != 0 && s.options.has_timestamps;
    const int32_t newer = int32_t(s.options.ts_value - e.ts_recent);
    if (listens(p.tuple.local) && (stamped && newer != 0 ? newer > 0 : s.seq > e.rcv_nxt)) {
      const Seq iss_min = e.snd_nxt + 0x10000;
      if (input_listen(p, m, &iss_min)) {
        time_wait.remove(&e);
        counters.time_wait_reused.add();
      }
      return;
    }
    send_time_wait_ack(e);
    drop(m, Drop::kTcpTimeWait);
    return;
  }
  if (s.has(kRst) || s.length() == 0) {
    drop(m, Drop::kTcpTimeWait);
    return;
  }
  send_time_wait_ack(e);
  if (!s.has(kFin)) {
    drop(m, Drop::kTcpTimeWait);
    return;
  }
  time_wait.restart(&e, now.mono_us);  // our last ACK was lost
  counters.segments_accepted.add();
  rte_pktmbuf_free(m);
}

// RFC 9293 3.10.7.3.
void Stack::State::input_syn_sent(Tcb& c, const ParsedSegment& p, rte_mbuf* m) {
  const Segment& s = p.segment;
  const bool acks = s.has(kAck);
  if (acks && (s.ack != c.iss + 1 || c.snd_max == c.iss)) {
    if (!s.has(kRst)) reset_for(p.tuple, s);
    drop(m, Drop::kTcpBadAck);
    return;
  }
  if (s.has(kRst)) {
    if (!acks) {
      drop(m, Drop::kTcpBadRst);
      return;
    }
    counters.resets_in.add();
    counters.segments_accepted.add();
    rte_pktmbuf_free(m);
    end_connection(c, StreamEnd::kRefused);
    return;
  }
  if (!s.has(kSyn)) {
    drop(m, Drop::kTcpBadFlags);
    return;
  }
  counters.segments_accepted.add();
  rte_pktmbuf_free(m);
  c.irs = s.seq;
  adopt_peer(c, s.options.mss != 0 ? s.options.mss : kMssDefault, config.window_scale && s.options.has_window_scale, s.options.window_scale,
             config.timestamps && s.options.has_timestamps, s.options.ts_value);
  c.snd_wl1 = s.seq;
  c.snd_wl2 = acks ? s.ack : c.iss;
  c.snd_wnd = c.snd_wnd_max = s.window;  // the window of a SYN is never scaled
  if (acks) {
    if (c.retransmits == 0 && c.timed_start != 0) c.rto.sample(now.mono_us - c.timed_start, config.rto_min, config.rto_max);
    c.timed_start = 0;
    establish(c);
    c.ack_now = true;
  } else {  // simultaneous open
    c.state = TcpState::kSynReceived;
    c.send_syn = true;
  }
  mark_output(c);
  rearm(c);
}

// RFC 5961: an answer that a blind attacker cannot use, at most ten a second and connection.
void Stack::State::challenge(Tcb& c) {
  const uint32_t second = uint32_t(now.mono_us / kSec);
  if (c.challenge_second != second) {
    c.challenge_second = second;
    c.challenges = 0;
  }
  if (c.challenges >= 10) return;
  c.challenges++;
  counters.challenge_acks.add();
  c.ack_now = true;
  mark_output(c);
}

// RFC 9293 3.10.7.4, first: an ACK. For an empty segment it counts as a challenge: two sides that each take the other's number for wrong
// (somebody wrote into both) would answer each other's ACKs for ever.
void Stack::State::answer_unacceptable(Tcb& c, const Segment& s) {
  if (s.length() == 0) {
    challenge(c);
    return;
  }
  c.ack_now = true;
  mark_output(c);
}

// RFC 9293 3.10.7.4: a synchronized connection (or SYN-RECEIVED of a simultaneous open).
void Stack::State::input_connection(Tcb& c, const Segment& s, rte_mbuf* m) {
  const uint32_t window = c.rcv_wnd();
  // RFC 7323 5.3 (R1): a segment from before. An RST needs no timestamp.
  if (c.timestamps && !s.has(kRst)) {
    if (!s.options.has_timestamps) {
      drop(m, Drop::kTcpBadOptions);
      return;
    }
    constexpr Usec kStampIsOld = 24ull * 24 * 3600 * kSec;
    if (int32_t(s.options.ts_value - c.ts_recent) < 0 && now.mono_us - c.ts_recent_at < kStampIsOld) {
      answer_unacceptable(c, s);
      drop(m, Drop::kTcpPaws);
      return;
    }
  }
  // RFC 9293 3.5, figure 8: in a simultaneous open the peer's SYN comes a second time, with the ACK that opens. It lies before rcv_nxt, so
  // the test below would refuse it, and both sides would repeat their SYN-ACKs until they gave up.
  if (c.state == TcpState::kSynReceived && s.has(kSyn) && s.has(kAck) && !s.has(kRst) && s.seq == c.irs && s.ack == c.iss + 1) {
    counters.segments_accepted.add();
    rte_pktmbuf_free(m);  // data comes again
    c.snd_wl2 = s.ack;
    c.snd_wnd = c.snd_wnd_max = s.window;  // the window of a SYN is never scaled
    establish(c);
    c.ack_now = true;
    mark_output(c);
    rearm(c);
    return;
  }
  // First, sequence number. INTERPRETATION(deviate): without length also the number right behind the window is taken, where a peer that
  // filled it stands. With a closed window the ACK of a segment that is exactly next still counts.
  const uint32_t length = s.length();
  const bool acceptable = length == 0   ? s.seq >= c.rcv_nxt && s.seq <= c.rcv_nxt + window
                          : window == 0 ? s.seq == c.rcv_nxt
                                        : s.seq < c.rcv_nxt + window && s.end() > c.rcv_nxt;
  if (!acceptable) {
    const bool old = s.end() <= c.rcv_nxt;
    if (s.has(kRst)) {
      drop(m, Drop::kTcpBadRst);
      return;
    }
    if (length > 0 || s.seq != c.rcv_nxt) {
      // INTERPRETATION(deviate): in SYN-RECEIVED the answer is our SYN-ACK, since the peer may not have seen our SYN yet.
      if (c.state == TcpState::kSynReceived) {
        c.send_syn = true;
        mark_output(c);
      } else {
        answer_unacceptable(c, s);  // also the answer to a keepalive
      }
    }
    if (c.synchronized() && s.seq + 1 == c.rcv_nxt && length <= 1 && s.has(kAck) && !s.has(kSyn) &&
        (s.ack > c.snd_una || s.window << c.snd_scale != c.snd_wnd)) {
      input_one_too_old(c, s, m);
      return;
    }
    drop(m, old ? Drop::kTcpDuplicate : Drop::kTcpOutOfWindow);
    return;
  }
  if (s.has(kRst)) {
    if (s.seq != c.rcv_nxt) {
      challenge(c);
      drop(m, Drop::kTcpBadRst);
      return;
    }
    counters.resets_in.add();
    counters.segments_accepted.add();
    rte_pktmbuf_free(m);
    end_connection(c, c.state == TcpState::kSynReceived ? StreamEnd::kRefused : StreamEnd::kReset);
    return;
  }
  if (s.has(kSyn)) {
    challenge(c);
    drop(m, Drop::kTcpBadFlags);
    return;
  }
  if (!s.has(kAck)) {
    drop(m, Drop::kTcpBadFlags);
    return;
  }
  if (c.timestamps && s.seq <= c.last_ack_sent && int32_t(s.options.ts_value - c.ts_recent) >= 0) {  // RFC 7323 4.3
    c.ts_recent = s.options.ts_value;
    c.ts_recent_at = now.mono_us;
  }
  const StreamId id = slab.handle_of(c);
  if (!process_ack(c, s)) {  // freed nothing of ours: m is still here
    rte_pktmbuf_free(m);
    return;
  }
  counters.segments_accepted.add();
  if (s.payload_bytes > 0) process_payload(c, s, m);
  else rte_pktmbuf_free(m);
  if (slab.get(id) == nullptr) return;
  if (s.has(kFin) && !c.fin_seen && s.end() <= c.rcv_nxt + std::max(c.rcv_wnd(), 1u)) {
    c.fin_seen = true;
    c.fin_seq = s.seq + s.payload_bytes;
  }
  if (c.fin_seen && !c.peer_finished && c.rcv_nxt == c.fin_seq) process_fin(c);
  if (slab.get(id) == nullptr || c.state == TcpState::kClosed) return;
  if (c.send.bytes() > 0 || c.fin_queued || c.ack_now || c.duplicate_acks_due > 0) mark_output(c);
  rearm(c);
}

// INTERPRETATION(deviate): RFC 9293 A.2 and draft-gont-tcpm-tcp-seq-validation: a segment one number too old that has news in its ACK
// field. A peer whose window probe (or FIN) we took sends it as long as it refuses our ACKs; we refuse its ACKs for the same reason when it
// took our probe, and both would probe until they gave up. So its ACK counts; its byte does not, and it is answered like any old segment.
void Stack::State::input_one_too_old(Tcb& c, const Segment& s, rte_mbuf* m) {
  rte_pktmbuf_free(m);
  Segment ack = s;
  ack.payload_bytes = 0;
  ack.flags &= uint8_t(~kFin);
  if (!process_ack(c, ack)) return;
  counters.segments_accepted.add();
  if (s.length() > 0) drops.add(Drop::kTcpDuplicate);
  mark_output(c);
  rearm(c);
}

// s acknowledges something new. RFC 6298 3 (Karn): a segment that was sent twice gives no sample, and 5: until there is one the timer stays
// backed off. Else a path that became slower than the timer would never be measured again, and everything would be sent twice. The
// peer's echo tells which transmission arrived, so it is a sample even then (RFC 7323 4.1), in milliseconds.
void Stack::State::take_sample(Tcb& c, const Segment& s) {
  if (c.timed_start != 0 && s.ack >= c.timed_end) {
    c.rto.sample(now.mono_us - c.timed_start, config.rto_min, config.rto_max);
    c.timed_start = 0;
    c.backoff = 0;
  } else if (c.backoff > 0 && c.timestamps && s.options.ts_echo != 0) {
    const uint32_t elapsed_ms = timestamp_now(c.ts_offset) - s.options.ts_echo;
    if (elapsed_ms > config.rto_max / kMs) return;  // the peer's bytes: not a time of ours
    c.rto.sample(std::max(elapsed_ms * kMs, kMs), config.rto_min, config.rto_max);
    c.backoff = 0;
  }
}

// False: the segment says nothing more (counted), or the connection ended with it.
bool Stack::State::process_ack(Tcb& c, const Segment& s) {
  if (c.state == TcpState::kSynReceived) {
    if (s.ack != c.iss + 1) {  // RFC 9293 3.10.7.4, fifth: an RST at SEG.ACK, which only the sender of this segment believes
      reset_for(c.tuple, s);
      drops.add(Drop::kTcpBadAck);
      return false;
    }
    establish(c);
  }
  if (s.ack > c.snd_max || s.ack + c.snd_wnd_max < c.snd_una) {  // RFC 5961 5.2
    challenge(c);
    drops.add(Drop::kTcpBadAck);
    return false;
  }
  c.unanswered = 0;
  keepalive_restart(c);
  const uint32_t before = c.in_flight();
  const uint32_t window = s.window << c.snd_scale;
  NewReno::Action action = NewReno::Action::kNone;
  const bool fresh = s.ack > c.snd_una;
  if (fresh) {
    uint32_t bytes = distance(c.snd_una, s.ack);
    const uint32_t all = bytes;
    if (bytes > c.send.bytes()) {  // our FIN is covered
      c.fin_acked = true;
      bytes = c.send.bytes();
    }
    take_sample(c, s);
    c.send.acknowledge(c.send.begin() + bytes);
    c.snd_una = s.ack;
    c.snd_nxt = later(c.snd_nxt, c.snd_una);
    c.timed_out = false;
    action = c.cc.on_new_ack(s.ack, all, c.in_flight(), before + c.snd_mss > c.cc.cwnd);
    c.retransmit_at = kNever;
    if (c.snd_una < c.snd_max) arm_retransmit(c);
    if (c.detached && c.end_at != kNever) c.end_at = std::min(now.mono_us + config.linger, c.linger_limit);
    if (c.writable_armed && budget(c) >= kWritableLow) {
      c.writable_armed = false;
      event(c, kWritable);
    }
  } else if (s.ack == c.snd_una && s.payload_bytes == 0 && !s.has(kFin) && c.snd_max > c.snd_una && window == c.snd_wnd &&
             !c.persisting) {  // RFC 5681 2
    action = c.cc.on_duplicate(c.snd_una, c.snd_max, distance(c.snd_una, c.snd_max));
    if (action == NewReno::Action::kRetransmit) counters.fast_retransmits.add();
  }
  if (action == NewReno::Action::kRetransmit && c.snd_una < c.snd_max) c.retransmit_now = true;
  if (s.ack >= c.snd_una && (c.snd_wl1 < s.seq || (c.snd_wl1 == s.seq && c.snd_wl2 <= s.ack))) {
    const bool opened = window > c.snd_wnd;
    c.snd_wnd = window;
    c.snd_wnd_max = std::max(c.snd_wnd_max, window);
    c.snd_wl1 = s.seq;
    c.snd_wl2 = s.ack;
    if (c.persisting && opened) {
      c.persisting = c.probe_now = false;
      c.snd_nxt = c.snd_una;  // the probe's byte goes again with the rest
      c.timed_start = 0;
      c.backoff = 0;
      c.retransmit_at = kNever;
      if (c.snd_una < c.snd_max) arm_retransmit(c);
    }
  }
  if (c.snd_wnd > 0 && fresh) c.persisting = false;  // it takes bytes: what is lost now is lost by the network
  if (!c.fin_acked) return true;
  switch (c.state) {
    case TcpState::kFinWait1:
      c.state = TcpState::kFinWait2;
      if (c.detached) c.end_at = now.mono_us + config.fin_wait2;
      return true;
    case TcpState::kClosing:
      counters.segments_accepted.add();
      enter_time_wait(c);
      return false;
    case TcpState::kLastAck:
      counters.segments_accepted.add();
      end_connection(c, StreamEnd::kFinished);
      return false;
    default: return true;
  }
}

void Stack::State::process_payload(Tcb& c, const Segment& s, rte_mbuf* m) {
  if (c.state != TcpState::kEstablished && c.state != TcpState::kFinWait1 && c.state != TcpState::kFinWait2) {
    c.ack_now = true;
    drop(m, Drop::kTcpAfterClose);  // behind the peer's own FIN
    return;
  }
  Seq seq = s.seq;
  if (seq < c.rcv_nxt) {
    const uint32_t old = std::min(distance(seq, c.rcv_nxt), s.payload_bytes);
    rte_pktmbuf_adj(m, uint16_t(old));
    seq += old;
  }
  const Seq edge = c.fin_seen ? earlier(c.fin_seq, c.rcv_nxt + c.rcv_wnd()) : c.rcv_nxt + c.rcv_wnd();
  if (const Seq end = seq + m->data_len; end > edge) rte_pktmbuf_trim(m, uint16_t(std::min<uint32_t>(distance(edge, end), m->data_len)));
  if (m->data_len == 0) {
    c.ack_now = true;
    drop(m, c.rcv_wnd() == 0 ? Drop::kTcpReceiveFull : Drop::kTcpDuplicate);
    return;
  }
  const uint32_t bytes = m->data_len;
  if (c.detached) {  // nobody reads: acknowledged and thrown away, up to a window's worth
    if (seq == c.rcv_nxt) {
      c.rcv_nxt += bytes;
      c.discarded += bytes;
    }
    c.ack_now = true;
    drop(m, Drop::kTcpAfterClose);
    if (c.discarded > config.receive_window) {
      send_reset(c);
      end_connection(c, StreamEnd::kAborted);
    }
    return;
  }
  const Seq before = c.rcv_nxt;
  const bool gaps = c.receive.out_of_order_ranges() > 0;
  switch (c.receive.add(m, seq, c.rcv_nxt, config.out_of_order_ranges_max, pool)) {
    case ReceiveQueue::Verdict::kKept: break;
    case ReceiveQueue::Verdict::kDuplicate: drops.add(Drop::kTcpDuplicate); break;
    case ReceiveQueue::Verdict::kRangesFull: drops.add(Drop::kTcpOutOfOrderFull); break;
    case ReceiveQueue::Verdict::kNoMbuf: drops.add(Drop::kTcpNoMbuf); break;
  }
  if (c.rcv_nxt == before) {  // RFC 5681 4.2: what does not advance is answered at once, each by its own ACK
    if (c.duplicate_acks_due < 8) c.duplicate_acks_due++;
    return;
  }
  const uint32_t fresh = distance(before, c.rcv_nxt);
  c.bytes_in += fresh;
  counters.bytes_in.add(fresh);
  c.unacked_bytes += fresh;
  event(c, kReadable);
  if (gaps || c.quick_acks > 0 || c.unacked_bytes >= 2 * c.rcv_mss) {
    if (c.quick_acks > 0) c.quick_acks--;
    c.ack_now = true;
  } else if (c.delayed_ack_at == kNever) {
    c.delayed_ack_at = now.mono_us + config.delayed_ack;
  }
}

// All of the peer's bytes are here, and its FIN.
void Stack::State::process_fin(Tcb& c) {
  c.rcv_nxt += 1;
  c.peer_finished = true;
  c.ack_now = true;
  mark_output(c);
  event(c, kPeerFinished | kReadable);
  switch (c.state) {
    case TcpState::kEstablished: c.state = TcpState::kCloseWait; return;
    case TcpState::kFinWait1:
      if (!c.fin_acked) {
        c.state = TcpState::kClosing;
        return;
      }
      [[fallthrough]];
    case TcpState::kFinWait2: enter_time_wait(c); return;
    default: return;
  }
}

}  // namespace sluice::tcp
