// Time: retransmission (RFC 6298), zero-window probes, delayed ACKs, keepalive, and the ends that come by waiting. One wheel node per
// connection, linked at the earliest of its deadlines and looked at again when it fires.
#include <algorithm>
#include <utility>

#include "dataplane/tcp/state.h"

namespace sluice::tcp {

void Stack::State::advance() {
  syns.expire(now.mono_us, kTimersPerTurnMax, [this](SynEntry& e) { send_syn_ack(e); });
  time_wait.expire(now.mono_us, kTimersPerTurnMax);
  wheel.advance(now.mono_us, kTimersPerTurnMax, [this](TimerNode& node) {
    if (Tcb* c = slab.get(StreamId::from_bits(node.cookie))) on_timer(*c);
  });
}

void Stack::State::rearm(Tcb& c) {
  const Usec at = std::min({c.retransmit_at, c.delayed_ack_at, c.keepalive_at, c.end_at});
  if (at == kNever) wheel.cancel(c.timer);
  else if (!c.timer.armed() || c.timer.deadline != at) wheel.arm(c.timer, at);
}

void Stack::State::arm_retransmit(Tcb& c) { c.retransmit_at = now.mono_us + c.rto.backed_off(c.backoff, config.rto_max); }

void Stack::State::keepalive_restart(Tcb& c) {
  c.keepalive_sent = 0;
  c.keepalive_at = config.keepalive_idle == 0 ? kNever : now.mono_us + config.keepalive_idle;
}

void Stack::State::on_timer(Tcb& c) {
  const Usec at = now.mono_us;
  if (at >= c.end_at) {
    const bool opening = c.state == TcpState::kSynSent || c.state == TcpState::kSynReceived;
    if (!opening) send_reset(c);
    end_connection(c, opening ? StreamEnd::kConnectTimeout : StreamEnd::kAborted);
    return;
  }
  if (at >= c.delayed_ack_at) {
    c.delayed_ack_at = kNever;
    c.ack_now = true;
    mark_output(c);
  }
  if (at >= c.retransmit_at) {
    const StreamId id = slab.handle_of(c);
    on_retransmit_timer(c);
    if (slab.get(id) == nullptr || c.state == TcpState::kClosed) return;
  }
  if (at >= c.keepalive_at && c.snd_una < c.snd_max) {
    keepalive_restart(c);  // RFC 9293 3.8.4, MUST-26: what is in flight asks the peer already
  } else if (at >= c.keepalive_at) {
    if (c.keepalive_sent >= config.keepalive_probes) {
      send_reset(c);
      end_connection(c, StreamEnd::kRetransmitTimeout);
      return;
    }
    c.keepalive_sent++;
    c.keepalive_at = at + config.keepalive_interval;
    counters.keepalive_probes.add();
    push_control(c.tuple, header_for(c, c.snd_una - 1, kAck));  // an old byte's number: the peer must answer (RFC 1122 4.2.3.6)
  }
  rearm(c);
}

void Stack::State::on_retransmit_timer(Tcb& c) {
  const bool opening = c.state == TcpState::kSynSent || c.state == TcpState::kSynReceived;
  const unsigned most = opening ? config.syn_retries : config.retransmits_max;
  const bool bounded = !opening || c.end_at == kNever;
  if (bounded && ++c.unanswered > most) {
    if (!opening) send_reset(c);
    end_connection(c, opening ? StreamEnd::kConnectTimeout : StreamEnd::kRetransmitTimeout);
    return;
  }
  if (opening) {
    c.send_syn = true;
  } else if (c.persisting || c.snd_wnd == 0) {
    c.persisting = c.probe_now = true;
  } else {
    counters.rtos.add();
    c.cc.on_timeout(c.snd_max, distance(c.snd_una, c.snd_max), !std::exchange(c.timed_out, true));
    c.snd_nxt = c.snd_una;
    c.timed_start = 0;
    c.retransmit_now = true;  // whatever the window is now: these bytes were inside it
  }
  if (c.backoff < 16) c.backoff++;
  arm_retransmit(c);
  mark_output(c);
}

}  // namespace sluice::tcp
