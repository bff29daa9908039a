// tcp::Stack: TCP (RFC 9293) of one worker, behind the stream contract of packet/stream.h. Sans-I/O: segments, time and randomness come in
// as arguments, segments and events go out.
//
// A turn of the worker:  input(packets) -> advance() -> poll_events() and the application -> output() until it gives 0 or the port is full.
//   input    takes every packet (L4Packet: data starts at the TCP header); each is consumed, kept (charged to the pool) or dropped and
//            counted
//   advance  fires at most kTimersPerTurnMax timers: retransmission, zero-window probes, delayed ACKs, keepalive, lingering, TIME_WAIT
//   output   writes segments that may leave now (RSTs, SYN-ACKs and ACKs included), each once; they are the caller's from then on. A
//            segment of unacknowledged data is shared (refcnt 2, see l4.h): no copy unless it is sent again while a port still holds it
//
// Every StreamLayer call is legal between two of these calls and never re-enters.
//
// Streams: connect() and accepted connections (kOpened; info().local is the address they came to) are StreamIds. close() lingers: what was
// sent still arrives, what comes is acknowledged and thrown away (at most one receive window of it, then RST); without progress for
// `linger` it is reset; once all is acknowledged the peer's FIN is awaited for `fin_wait2`.
//
// RFCs: 9293, 7323 (window scale, timestamps, PAWS), 6298 (RTO), 5681, 3042, 6582 (NewReno, limited transmit), 6928 (initial window), 3465
// (byte counting), 5961 (blind attacks), 6528 (initial sequence numbers), 6056 (source ports), 6191, 1337 (TIME_WAIT), 1122 (SWS,
// keepalive), 5927 (ICMP). Left out until later issues: SACK, RACK, CUBIC, pacing, ECN, Fast Open, SYN cookies, urgent data (delivered in
// line), IPv6.
// INTERPRETATION(deviate): no urgent pointer (RFC 9293 MUST-30 to 33; RFC 6093 advises against its use); no Nagle (SHLD-7): whoever writes
// gathers. close() with unread bytes lingers for a window's worth before its RST (RFC 2525 2.17 would send it at once).
//
// Limits, each with the drop reason that counts it: connections (kTcpTableFull), SYN entries (kTcpSynTableFull), TIME_WAIT entries (the
// oldest goes early), out-of-order ranges (kTcpOutOfOrderFull), unread bytes per stream (kTcpReceiveFull), held mbufs of the pool
// (kTcpNoMbuf; the ACK field was processed), RSTs to strangers per second (kTcpRstLimited). Memory: all at construction. Thread: its
// worker's; construction on the control thread.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "dataplane/base/counters.h"
#include "dataplane/base/limits.h"
#include "dataplane/base/siphash.h"
#include "dataplane/packet/l4.h"
#include "dataplane/packet/owner.h"
#include "dataplane/packet/pool.h"
#include "dataplane/packet/stream.h"

namespace sluice::tcp {

struct Config {
  uint32_t connections_max = kTcpConnectionsMax;
  uint32_t syn_max = kTcpSynMax;
  uint32_t time_wait_max = kTcpTimeWaitMax;
  uint32_t out_of_order_ranges_max = kTcpOutOfOrderRangesMax;
  uint32_t receive_window = kTcpReceiveWindow;  // bytes unread per stream; 4 KiB .. 1 MiB
  uint32_t send_buffer = kTcpSendBuffer;        // bytes unacknowledged + unsent per stream; >= 2 * kWritableLow
  uint16_t mtu = kMtu;                          // of the link: our MSS option is mtu - 40
  bool timestamps = true;
  bool window_scale = true;

  Usec rto_min = 200 * kMs;  // INTERPRETATION(deviate): below RFC 6298 2.4's SHOULD of 1 s, as Linux and others have it
  Usec rto_initial = 1 * kSec;
  Usec rto_max = 60 * kSec;
  uint8_t retransmits_max = 15;  // without any answer: kRetransmitTimeout, after 8 minutes or more (RFC 9293 SHLD-11: 100 s)
  uint8_t syn_retries = 7;       // of a connect() without a timeout of its own: 183 s (RFC 9293 MUST-23: at least 3 minutes)
  uint8_t synack_retries = 5;    // INTERPRETATION(deviate): 63 s, not MUST-23's 3 minutes: strangers must not hold the SYN table for long
  Usec delayed_ack = 25 * kMs;
  Usec time_wait = kTimeWait;  // INTERPRETATION(deviate): 60 s, not twice RFC 9293's MSL of 2 minutes (MUST-13), as Linux has it
  Usec fin_wait2 = kFinWait2;  // of closed streams; an owner that only finished may read as long as it likes
  Usec linger = kLinger;       // of closed streams, since the last progress; six times this at most
  Usec keepalive_idle = 0;     // 0: no keepalive (RFC 9293 3.8.4: off by default)
  Usec keepalive_interval = 10 * kSec;
  uint8_t keepalive_probes = 5;
  uint32_t rst_per_second = 1000;  // to segments of unknown connections

  // Source ports of connect() are such that replies hash to `worker`. Null: any port from OwnerHash::kFirstSourcePort up. Outlives the
  // stack.
  const OwnerHash* owner = nullptr;
  unsigned worker = 0;
};

// Drawn from the kernel at start (getrandom), never logged.
struct Secrets {
  SipKey isn, table, ports, timestamps;
};

// In minus out: segments_in == accepted + the drops of input's reasons (a dropped payload whose ACK was processed counts as accepted, and
// its drop reason is a refusal of bytes).
struct StackCounters {
  Counter segments_in, segments_accepted, segments_out, bytes_in, bytes_out;  // bytes of payload, first transmissions only
  Counter retransmits, fast_retransmits, rtos, zero_window_probes, keepalive_probes;
  Counter active_opens, passive_opens, failed_opens, established_closes;
  Counter resets_in, resets_out, challenge_acks, syn_acks_out, time_wait_reused, time_wait_evicted;
  Counter payload_copied;  // segments that left as a copy (odd shapes, retransmits of what a port still holds)
  Counter output_no_mbuf;  // segments that did not leave for want of an mbuf; timers repeat what matters
};

enum class TcpState : uint8_t {
  kSynSent,
  kSynReceived,
  kEstablished,
  kFinWait1,
  kFinWait2,
  kCloseWait,
  kClosing,
  kLastAck,
  kClosed,  // ended; waits for its owner's abort() or close()
};
std::string_view name_of(TcpState);

// RFC 4898 in small: what `sluicectl` shows of a connection. Bytes unless the name says otherwise.
struct ConnectionSnapshot {
  FourTuple tuple;
  TcpState state = TcpState::kClosed;
  bool closed_by_owner = false;
  Usec srtt_us = 0, rttvar_us = 0, rto_us = 0;
  uint32_t cwnd = 0, ssthresh = 0, mss = 0;
  uint32_t send_window = 0, receive_window = 0;
  uint32_t in_flight = 0, unsent = 0, unread = 0, out_of_order = 0;
  uint32_t retransmits = 0;
  uint8_t backoff = 0;
  uint64_t bytes_in = 0, bytes_out = 0;
};

enum class ListenError : uint8_t { kInUse, kNotIpv4, kPortZero };

class Stack final : public StreamLayer {
 public:
  // `pool` and `drops` outlive the stack. Asserts the ranges given in Config (they come from our own limits or a validated bootstrap).
  Stack(const Config& config, MbufPool& pool, DropCounters& drops, const Secrets& secrets, Now now);
  ~Stack() override;  // frees every buffer; peers are not told
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void input(std::span<const L4Packet> packets, const Now& now);
  void advance(const Now& now);
  unsigned output(std::span<L4Packet> out, const Now& now);
  Usec next_deadline() const;   // when advance() is due next, or kNever
  bool output_pending() const;  // output() has something to write now

  // address.ip 0.0.0.0 is every address of ours; an exact listener wins. May allocate: call between turns when configuration changes.
  // unlisten() refuses new connections; those that exist stay. Unknown addresses are ignored.
  std::expected<void, ListenError> listen(const SocketAddress& address);
  void unlisten(const SocketAddress& address);
  bool is_listening(const SocketAddress& address) const;

  // An active open; kOpened or kClosed (kRefused, kConnectTimeout, kUnreachable) follows as an event. `local` is the address to send from,
  // its port 0 for a random one. `timeout` 0: by syn_retries. Invalid id: no slot (kTcpTableFull) or no free port (kTcpNoPorts); nothing
  // follows.
  StreamId connect(const SocketAddress& local, const SocketAddress& remote, Usec timeout, const Now& now);

  // What net learnt about a packet of ours (ICMP, no route, no neighbour). `seq` is the quoted sequence number: believed only while in
  // flight (RFC 5927). Ends a connection that is being opened (kUnreachable); an open one goes on (RFC 9293 3.9.2.2: soft error).
  void unreachable(const FourTuple& tuple, uint32_t seq, const Now& now);
  // ICMP "fragmentation needed": segments of this connection shrink to `mtu` (floor 552) and what is in flight leaves again.
  void packet_too_big(const FourTuple& tuple, uint32_t seq, uint16_t mtu, const Now& now);

  // StreamLayer
  ReadView readable(StreamId) const override;
  void consume(StreamId, uint32_t bytes) override;
  uint32_t budget(StreamId) const override;
  uint32_t segment_bytes(StreamId) const override;
  void send(StreamId, Chain chain) override;
  void finish(StreamId) override;
  void abort(StreamId) override;
  void close(StreamId) override;
  StreamInfo info(StreamId) const override;
  void set_cookie(StreamId, uint64_t) override;
  unsigned poll_events(std::span<ReadyStream> out) override;

  // Holders, for draining and for proofs: all zero means that nobody holds anything but TIME_WAIT.
  uint32_t streams() const;      // slots in use: open, opening, lingering, or ended and not yet given back
  uint32_t connections() const;  // of them in the connection table
  uint32_t syn_entries() const;
  uint32_t time_wait_entries() const;

  std::optional<ConnectionSnapshot> snapshot(StreamId) const;
  // Also lingering streams, whose ids no other function takes. Admin path; `f` must not call the stack.
  void for_each_stream(const std::function<void(StreamId, const ConnectionSnapshot&)>& f) const;
  // SLUICE_ASSERTs the invariants of every connection and of the accounts; for the simulator and tests. O(everything).
  void check_invariants() const;
  const StackCounters& counters() const;

 private:
  struct State;
  friend struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::tcp
