// Stack::State: what the stack is inside, shared by input.cc, output.cc, timers.cc and stack.cc. Not for other folders.
#pragma once
#include <array>
#include <vector>

#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/syn.h"
#include "dataplane/tcp/tcb.h"
#include "dataplane/tcp/time_wait.h"

namespace sluice::tcp {

// Segments that belong to no connection, or to one that ends now: RST, SYN-ACK, the last ACK. Bounded; what does not fit is as if the
// network lost it.
class ControlQueue {
 public:
  static constexpr uint32_t kSlots = 1024;
  ~ControlQueue() {
    L4Packet p;
    while (pop(p)) rte_pktmbuf_free(p.m);
  }
  bool push(const L4Packet& p) {
    if (tail_ - head_ == kSlots) return false;
    slot_[tail_++ % kSlots] = p;
    return true;
  }
  bool pop(L4Packet& p) {
    if (empty()) return false;
    p = slot_[head_++ % kSlots];
    return true;
  }
  bool empty() const { return head_ == tail_; }

 private:
  std::array<L4Packet, kSlots> slot_;
  uint32_t head_ = 0, tail_ = 0;
};

struct Stack::State {
  State(const Config& config, MbufPool& pool, DropCounters& drops, const Secrets& secrets, Now now);
  ~State();

  // stack.cc: life of a connection
  Tcb* find(StreamId id) const;  // also ended ones; nullptr for stale ids and closed (detached) streams
  uint32_t index_of(const Tcb& c) const { return slab.handle_of(c).index; }
  Tcb* new_connection(const FourTuple& tuple, Seq iss);  // nullptr: no slot (counted)
  void adopt_peer(Tcb& c, uint16_t peer_mss, bool scaled, uint8_t peer_scale, bool timestamps, uint32_t ts_value);
  void establish(Tcb& c);
  void syn_was_lost(Tcb& c);
  void enter_time_wait(Tcb& c);
  void end_connection(Tcb& c, StreamEnd end);  // out of the table, buffers that nobody will read freed; the slot too when detached
  void free_slot(Tcb& c);
  void event(Tcb& c, uint8_t events);
  void mark_output(Tcb& c) { out.push(index_of(c)); }
  uint32_t budget(const Tcb& c) const;
  // The largest window that we can offer: what fits the field, if the peer does not scale. And what is free of it.
  uint32_t window_max(const Tcb& c) const { return std::min(config.receive_window, 0xffffu << c.rcv_scale); }
  uint32_t room(const Tcb& c) const {
    return std::min(window_max(c), config.receive_window - std::min(config.receive_window, c.detached ? 0 : c.receive.unread()));
  }
  void finish(Tcb& c);
  bool listens(const SocketAddress& a) const;
  uint16_t pick_port(const FourTuple& tuple);
  bool tuple_free(const FourTuple& tuple);
  Seq initial_sequence(const FourTuple& t) const;
  uint32_t timestamp_offset(const FourTuple& t) const;
  ConnectionSnapshot snapshot(const Tcb& c) const;
  void check(const Tcb& c) const;

  // input.cc
  void input(const L4Packet& packet);
  void drop(rte_mbuf* m, Drop reason);
  void input_stranger(const ParsedSegment& p, rte_mbuf* m);
  void input_syn_entry(SynEntry& e, const ParsedSegment& p, rte_mbuf* m);
  void input_time_wait(TimeWaitEntry& e, const ParsedSegment& p, rte_mbuf* m);
  bool input_listen(const ParsedSegment& p, rte_mbuf* m, const Seq* iss_min);
  void input_syn_sent(Tcb& c, const ParsedSegment& p, rte_mbuf* m);
  void input_connection(Tcb& c, const Segment& s, rte_mbuf* m);
  void input_one_too_old(Tcb& c, const Segment& s, rte_mbuf* m);
  bool process_ack(Tcb& c, const Segment& s);  // false: the segment (or the connection) is done with
  void take_sample(Tcb& c, const Segment& s);
  void process_payload(Tcb& c, const Segment& s, rte_mbuf* m);
  void process_fin(Tcb& c);
  void challenge(Tcb& c);
  void answer_unacceptable(Tcb& c, const Segment& s);

  // output.cc
  unsigned output(std::span<L4Packet> out);
  bool next_segment(Tcb& c, L4Packet& out);  // false: nothing more may leave now
  void after_output(Tcb& c);                 // timers of what could not leave
  uint32_t select_window(Tcb& c);
  Segment header_for(Tcb& c, Seq seq, uint8_t flags);
  bool emit(Tcb& c, const Segment& s, rte_mbuf* payload, L4Packet& out);
  bool emit_data(Tcb& c, Seq seq, uint32_t bytes, L4Packet& out);
  void push_control(const FourTuple& t, const Segment& s);
  void send_reset(Tcb& c);
  void send_ack_aside(Tcb& c);                           // for a connection that leaves the table now
  void reset_for(const FourTuple& t, const Segment& s);  // the RST that answers s
  void send_syn_ack(const SynEntry& e);
  void send_time_wait_ack(const TimeWaitEntry& e);
  uint32_t timestamp_now(uint32_t offset) const { return uint32_t(now.mono_us / kMs) + offset; }

  // timers.cc
  void advance();
  void rearm(Tcb& c);
  void on_timer(Tcb& c);
  void on_retransmit_timer(Tcb& c);
  void arm_retransmit(Tcb& c);
  void keepalive_restart(Tcb& c);

  const Config config;
  MbufPool& pool;
  DropCounters& drops;
  const Secrets secrets;
  Now now;
  StackCounters counters;
  TimerWheel wheel;
  mutable TcbSlab slab;
  struct Entries {  // TupleTable's view of the slab
    TcbSlab& slab;
    const TupleKey& key(uint32_t i) const { return slab.at(i)->key; }
    uint32_t& hash_next(uint32_t i) const { return slab.at(i)->hash_next; }
  } entries;
  TupleTable<Entries> table;
  SynTable syns;
  TimeWait time_wait;
  IndexList<&Tcb::ready> ready;
  IndexList<&Tcb::out> out;
  ControlQueue control;
  std::vector<SocketAddress> listeners;  // changes only in listen() and unlisten()
  uint32_t port_counter = 0;
  uint8_t our_scale = 0;  // what our SYN offers
  Usec rst_second = 0;    // rate limit of RSTs to strangers
  uint32_t rsts = 0;
};

}  // namespace sluice::tcp
