// Tcb: everything one connection knows, in the words of RFC 9293 3.3.1. A plain struct: input.cc, output.cc and timers.cc are its
// functions. Sizes: windows and buffers in bytes, times in microseconds, deadlines kNever when off.
#pragma once
#include "dataplane/base/slab.h"
#include "dataplane/base/timer.h"
#include "dataplane/packet/stream.h"
#include "dataplane/tcp/new_reno.h"
#include "dataplane/tcp/receive_queue.h"
#include "dataplane/tcp/rto.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/send_queue.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/table.h"

namespace sluice::tcp {

struct Link {  // of an intrusive list by index (IndexList)
  uint32_t prev = kNoIndex, next = kNoIndex;
  bool linked = false;
};

struct Tcb {
  Tcb() : timer(0, 0) {}

  TupleKey key;
  FourTuple tuple;
  uint32_t hash_next = kNoIndex;
  bool in_table = false;
  TcpState state = TcpState::kClosed;

  // Send sequence space. snd_nxt goes back to snd_una after a timeout; snd_max never does. The stream's bytes are [snd_una, data_end).
  Seq iss, snd_una, snd_nxt, snd_max, snd_wl1, snd_wl2;
  uint32_t snd_wnd = 0, snd_wnd_max = 0;
  uint16_t snd_mss = kMssDefault;  // payload of a full segment, options subtracted
  uint8_t snd_scale = 0;
  bool fin_queued = false;  // finish(): a FIN follows the last byte
  bool fin_acked = false;
  bool retransmit_now = false;  // one segment at snd_una, snd_nxt stays
  bool probe_now = false;       // the persist timer fired
  bool send_syn = false;        // SYN or SYN-ACK (simultaneous open) is due
  SendQueue send;
  NewReno cc;
  RtoEstimator rto;
  uint8_t backoff = 0;     // the timer is rto << backoff; stays until a sample (take_sample)
  bool timed_out = false;  // snd_una was sent again by timeout already: one loss, however often
  uint8_t unanswered = 0;  // expiries since the peer's last acceptable segment
  uint32_t retransmits = 0;
  Seq timed_end;         // RTT: the ACK that covers this ends the sample
  Usec timed_start = 0;  // 0: none is running
  Usec last_sent = 0;    // data

  // Receive sequence space. rcv_adv is the right edge ever advertised; it never moves left.
  Seq irs, rcv_nxt, rcv_adv, last_ack_sent, fin_seq;
  uint8_t rcv_scale = 0;
  bool fin_seen = false;  // fin_seq is valid
  bool peer_finished = false;
  bool timestamps = false;
  uint8_t quick_acks = 16;  // the first segments are acknowledged at once, so that the peer's window opens fast
  bool ack_now = false;
  uint8_t duplicate_acks_due = 0;  // each leaves as a segment of its own: the peer counts them
  uint32_t unacked_bytes = 0, rcv_mss = kMssDefault;
  uint32_t ts_recent = 0, ts_offset = 0;
  Usec ts_recent_at = 0;
  ReceiveQueue receive;
  uint32_t discarded = 0;  // bytes that came after close()

  // Time.
  TimerNode timer;
  Usec retransmit_at = kNever;  // RTO, or the zero-window probe when `persisting`
  bool persisting = false;
  Usec delayed_ack_at = kNever, keepalive_at = kNever;
  Usec end_at = kNever;        // connect timeout, linger, FIN-WAIT-2
  Usec linger_limit = kNever;  // end_at never moves past it
  uint8_t keepalive_sent = 0;
  uint32_t challenge_second = 0;  // RFC 5961 7, per connection
  uint8_t challenges = 0;

  // The owner's view.
  bool detached = false;        // close(): the id is dead
  bool writable_armed = false;  // budget() was below kWritableLow
  uint8_t events = 0;
  StreamEnd end = StreamEnd::kOpen;
  uint64_t cookie = 0, bytes_in = 0, bytes_out = 0;
  Link ready, out;

  Seq data_end() const { return snd_una + send.bytes(); }  // of established connections: SYN acknowledged
  bool fin_sent() const { return fin_queued && !fin_acked && snd_max > data_end(); }
  uint32_t in_flight() const { return distance(snd_una, snd_nxt); }
  // The number of a segment without data: what the peer expects next if nothing is lost, for snd_nxt goes back after a timeout and an old
  // number would be refused with its ACK; never past the peer's window.
  Seq ack_seq() const { return later(snd_una, earlier(snd_max, snd_una + snd_wnd)); }
  uint64_t position(Seq s) const { return send.begin() + distance(snd_una, s); }
  // Bytes of the current window that the peer may still use.
  uint32_t rcv_wnd() const { return rcv_adv > rcv_nxt ? distance(rcv_nxt, rcv_adv) : 0; }
  bool synchronized() const { return state != TcpState::kSynSent && state != TcpState::kSynReceived && state != TcpState::kClosed; }
  bool may_send() const { return (state == TcpState::kEstablished || state == TcpState::kCloseWait) && !fin_queued; }
};

using TcbSlab = Slab<Tcb, StreamTag>;

// An intrusive FIFO of connections by index; O(1) everywhere.
template <Link Tcb::* L>
class IndexList {
 public:
  explicit IndexList(TcbSlab& slab) : slab_(slab) {}
  bool empty() const { return head_ == kNoIndex; }
  uint32_t head() const { return head_; }
  void push(uint32_t i) {
    Link& l = slab_.at(i)->*L;
    if (l.linked) return;
    l = {tail_, kNoIndex, true};
    (tail_ == kNoIndex ? head_ : (slab_.at(tail_)->*L).next) = i;
    tail_ = i;
  }
  void remove(uint32_t i) {
    Link& l = slab_.at(i)->*L;
    if (!l.linked) return;
    (l.prev == kNoIndex ? head_ : (slab_.at(l.prev)->*L).next) = l.next;
    (l.next == kNoIndex ? tail_ : (slab_.at(l.next)->*L).prev) = l.prev;
    l = {};
  }

 private:
  TcbSlab& slab_;
  uint32_t head_ = kNoIndex, tail_ = kNoIndex;
};

}  // namespace sluice::tcp
