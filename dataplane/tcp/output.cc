// What leaves: control segments first (they belong to nobody), then each connection in turn, a few segments at a time. Every segment of a
// connection is made here by next_segment(), so that windows, acknowledgments and timers are decided in one place.
#include <algorithm>

#include "dataplane/tcp/state.h"

namespace sluice::tcp {
namespace {

constexpr unsigned kSegmentsPerVisit = 16;  // of one connection before the next has its turn

FourTuple tuple_of(const TupleKey& k) {
  auto v4 = [](const std::array<uint8_t, 16>& b) {
    return Ipv4{uint32_t(b[12]) << 24 | uint32_t(b[13]) << 16 | uint32_t(b[14]) << 8 | b[15]};
  };
  return {{v4(k.local_ip), k.local_port}, {v4(k.remote_ip), k.remote_port}};
}

}  // namespace

unsigned Stack::State::output(std::span<L4Packet> to) {
  unsigned n = 0;
  while (n < to.size() && control.pop(to[n])) n++;
  while (n < to.size() && !out.empty()) {
    const uint32_t i = out.head();
    Tcb& c = *slab.at(i);
    out.remove(i);
    unsigned visit = 0;
    while (visit < kSegmentsPerVisit && n < to.size() && next_segment(c, to[n])) n++, visit++;
    if (visit == kSegmentsPerVisit || n == to.size()) out.push(i);
    else after_output(c);
    rearm(c);
  }
  counters.segments_out.add(n);
  return n;
}

// The right edge that we offer, by RFC 9293 3.8.6.2.2: it moves only in steps worth a segment, and never back.
uint32_t Stack::State::select_window(Tcb& c) {
  const bool short_of_memory = pool.held() > pool.held_max() - pool.held_max() / 8;  // what was offered stands, nothing more
  const Seq edge = c.rcv_nxt + (short_of_memory ? 0 : room(c));
  if (edge > c.rcv_adv && distance(c.rcv_adv, edge) < std::min(c.rcv_mss, window_max(c) / 2)) return c.rcv_wnd() >> c.rcv_scale;
  const uint32_t field = std::min<uint32_t>(distance(c.rcv_nxt, later(edge, c.rcv_adv)) >> c.rcv_scale, 0xffff);
  c.rcv_adv = later(c.rcv_adv, c.rcv_nxt + (field << c.rcv_scale));
  return field;
}

Segment Stack::State::header_for(Tcb& c, Seq seq, uint8_t flags) {
  Segment s;
  s.seq = seq;
  s.flags = flags;
  const bool syn = flags & kSyn;
  if (flags & kAck) s.ack = c.rcv_nxt;
  if (syn) {
    s.window = std::min(config.receive_window, 0xffffu);
    s.options.mss = uint16_t(config.mtu - kHeadersBytes);
    s.options.has_window_scale = config.window_scale && (!(flags & kAck) || c.rcv_scale != 0 || c.snd_scale != 0);
    s.options.window_scale = our_scale;
    s.options.has_timestamps = flags & kAck ? c.timestamps : config.timestamps;
  } else {
    s.window = select_window(c);
    s.options.has_timestamps = c.timestamps;
  }
  if (s.options.has_timestamps) {
    s.options.ts_value = timestamp_now(c.ts_offset);
    s.options.ts_echo = flags & kAck ? c.ts_recent : 0;
  }
  return s;
}

// payload null: a segment of header alone.
bool Stack::State::emit(Tcb& c, const Segment& s, rte_mbuf* payload, L4Packet& to) {
  rte_mbuf* m = payload != nullptr ? payload : pool.alloc_control();
  if (m == nullptr) {
    counters.output_no_mbuf.add();
    return false;
  }
  if (payload == nullptr) m->pkt_len = 0;
  write_header(m, c.tuple, s);
  to = {m, c.tuple.local.ip, c.tuple.remote.ip};
  if (s.has(kAck)) {
    c.last_ack_sent = c.rcv_nxt;
    c.ack_now = false;
    c.delayed_ack_at = kNever;
    c.unacked_bytes = 0;
  }
  return true;
}

// One segment of payload (and FIN where it ends the stream) from `seq`, at most `bytes`. Moves snd_nxt when it starts there.
bool Stack::State::emit_data(Tcb& c, Seq seq, uint32_t bytes, L4Packet& to) {
  rte_mbuf* m = nullptr;
  if (bytes > 0) {
    bool copied = false;
    m = c.send.segment(c.position(seq), bytes, pool, copied);
    if (m == nullptr) {
      counters.output_no_mbuf.add();
      return false;
    }
    if (copied) counters.payload_copied.add();
    bytes = m->data_len;
  }
  Seq end = seq + bytes;
  const bool fin = c.fin_queued && end == c.data_end();
  uint8_t flags = kAck;
  if (end == c.data_end() && bytes > 0) flags |= kPsh;
  if (fin) {
    flags |= kFin;
    end += 1;
  }
  if (!emit(c, header_for(c, seq, flags), m, to)) return false;  // only without payload: nothing is lost
  if (seq < c.snd_max) {
    counters.retransmits.add();
    c.retransmits++;
    c.timed_start = 0;  // Karn
  } else if (c.timed_start == 0) {
    c.timed_start = now.mono_us;
    c.timed_end = end;
  }
  if (end > c.snd_max) counters.bytes_out.add(distance(later(seq, c.snd_max), end) - (fin ? 1 : 0));
  if (seq == c.snd_nxt) c.snd_nxt = end;
  c.snd_max = later(c.snd_max, end);
  c.last_sent = now.mono_us;
  if (c.retransmit_at == kNever) arm_retransmit(c);
  return true;
}

bool Stack::State::next_segment(Tcb& c, L4Packet& to) {
  if (c.send_syn) {
    const bool ack = c.state == TcpState::kSynReceived;
    if (!emit(c, header_for(c, c.iss, ack ? kSyn | kAck : kSyn), nullptr, to)) return false;
    c.send_syn = false;
    if (c.snd_max > c.iss) {
      counters.retransmits.add();
      c.retransmits++;
    } else {
      c.timed_start = now.mono_us;
    }
    c.snd_nxt = c.snd_max = c.iss + 1;
    arm_retransmit(c);
    return true;
  }
  if (!c.synchronized()) return false;

  if (std::exchange(c.retransmit_now, false) && c.snd_una < c.snd_max) {
    const uint32_t bytes = std::min<uint32_t>(c.snd_mss, std::min(distance(c.snd_una, c.snd_max), c.send.bytes()));
    if (emit_data(c, c.snd_una, bytes, to)) {
      arm_retransmit(c);
      return true;
    }
    return false;
  }
  const uint32_t unsent = c.snd_nxt < c.data_end() ? distance(c.snd_nxt, c.data_end()) : 0;
  if (std::exchange(c.probe_now, false) && (c.send.bytes() > 0 || (c.fin_queued && !c.fin_acked))) {
    // RFC 9293 3.8.6.1: a byte (or the FIN) past a shut window; what fits into one that is merely too small.
    counters.zero_window_probes.add();
    return emit_data(c, c.snd_una, std::min<uint32_t>(std::clamp<uint32_t>(c.snd_wnd, 1, c.snd_mss), c.send.bytes()), to);
  }
  if (unsent > 0) {
    if (c.snd_una == c.snd_max && now.mono_us - c.last_sent > c.rto.rto_us) c.cc.on_idle();
    const uint32_t limit = std::min(c.snd_wnd, c.cc.window()), flying = c.in_flight();
    const uint32_t usable = limit > flying ? limit - flying : 0;
    const uint32_t bytes = std::min<uint32_t>({unsent, c.snd_mss, usable});
    // Sender's silly window avoidance (3.8.6.2.1) without Nagle: a short segment only if it is the last, or half the peer's largest window.
    if (bytes > 0 && (bytes == unsent || bytes == c.snd_mss || bytes >= c.snd_wnd_max / 2)) return emit_data(c, c.snd_nxt, bytes, to);
  } else if (c.fin_queued && !c.fin_acked && c.snd_nxt == c.data_end()) {
    return emit_data(c, c.snd_nxt, 0, to);
  }
  if (c.duplicate_acks_due > 0) {
    c.duplicate_acks_due--;
    return emit(c, header_for(c, c.ack_seq(), kAck), nullptr, to);
  }
  return c.ack_now && emit(c, header_for(c, c.ack_seq(), kAck), nullptr, to);
}

// Data that cannot leave because the window is shut, with nothing in flight whose ACK would open it, waits for the persist timer; a SYN
// that found no mbuf for the retransmission timer.
void Stack::State::after_output(Tcb& c) {
  if (c.retransmit_at != kNever) return;
  if (!c.synchronized()) {
    if (c.send_syn) arm_retransmit(c);
    return;
  }
  if (c.snd_nxt >= c.data_end() && !(c.fin_queued && !c.fin_acked)) return;
  c.persisting = c.snd_una == c.snd_max || c.snd_wnd == 0;
  arm_retransmit(c);
}

void Stack::State::push_control(const FourTuple& t, const Segment& s) {
  rte_mbuf* m = pool.alloc_control();
  if (m == nullptr) {
    counters.output_no_mbuf.add();
    return;
  }
  m->pkt_len = 0;
  write_header(m, t, s);
  if (!control.push({m, t.local.ip, t.remote.ip})) {
    counters.output_no_mbuf.add();
    rte_pktmbuf_free(m);
  }
}

void Stack::State::send_reset(Tcb& c) {
  counters.resets_out.add();
  push_control(c.tuple, header_for(c, c.ack_seq(), kRst | kAck));
}
void Stack::State::send_ack_aside(Tcb& c) { push_control(c.tuple, header_for(c, c.ack_seq(), kAck)); }

// RFC 9293 3.5.2, 3.10.7.1: s belongs to nothing, or acknowledges what was never sent. Limited, or we would be an amplifier's mirror.
void Stack::State::reset_for(const FourTuple& t, const Segment& s) {
  if (s.has(kRst)) return;
  const Usec second = now.mono_us / kSec;
  if (rst_second != second) {
    rst_second = second;
    rsts = 0;
  }
  if (rsts >= config.rst_per_second) {
    drops.add(Drop::kTcpRstLimited);
    return;
  }
  rsts++;
  counters.resets_out.add();
  Segment rst;
  if (s.has(kAck)) {
    rst.seq = s.ack;
    rst.flags = kRst;
  } else {
    rst.ack = s.end();
    rst.flags = kRst | kAck;
  }
  push_control(t, rst);
}

void Stack::State::send_syn_ack(const SynEntry& e) {
  counters.syn_acks_out.add();
  Segment s;
  s.seq = e.iss;
  s.ack = e.irs + 1;
  s.flags = kSyn | kAck;
  s.window = std::min(config.receive_window, 0xffffu);
  s.options.mss = uint16_t(config.mtu - kHeadersBytes);
  s.options.has_window_scale = e.window_scale;
  s.options.window_scale = our_scale;
  s.options.has_timestamps = e.timestamps;
  s.options.ts_value = timestamp_now(e.ts_offset);
  s.options.ts_echo = e.ts_recent;
  push_control(tuple_of(e.key), s);
}

void Stack::State::send_time_wait_ack(const TimeWaitEntry& e) {
  Segment s;
  s.seq = e.snd_nxt;
  s.ack = e.rcv_nxt;
  s.flags = kAck;
  s.options.has_timestamps = e.ts_offset != 0;
  s.options.ts_value = timestamp_now(e.ts_offset);
  s.options.ts_echo = e.ts_recent;
  push_control(tuple_of(e.key), s);
}

}  // namespace sluice::tcp
