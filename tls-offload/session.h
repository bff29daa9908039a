// One TLS stream, and the state of the layer. Internal to tls-offload; the three .cc of the layer share it: layer.cc (life and events),
// receive.cc (records in), transmit.cc (records out).
#pragma once
#include "dataplane/base/slab.h"
#include "dataplane/base/timer.h"
#include "tls-offload/layer.h"
#include "tls-offload/record.h"

namespace sluice::tls {

// Life:  kHandshaking -> kOpen -> kClosed -> freed by the owner's abort() or close()
//        kOpen -> kLingering (the owner closed it, close_notify could not leave yet) -> freed
// A failure from kHandshaking or kOpen leads to kClosed.
enum class Phase : uint8_t { kHandshaking, kOpen, kClosed, kLingering };

struct Session : TimerLink {  // the link: layer's list of sessions with events
  explicit Session(StreamId lower_) : lower(lower_), timer(0, 0) {}
  StreamId lower;  // invalid once it was given back
  Phase phase = Phase::kHandshaking;
  uint8_t events = 0;
  bool step_out = false;        // a handshake step is with the service
  bool lower_finished = false;  // the transport's FIN was seen
  bool lower_closed = false;
  bool peer_finished = false;  // close_notify was received
  bool read_blocked = false;   // kPlaintextHeldMax is reached
  bool finish_wanted = false, finish_sent = false;
  bool update_owed = false;  // the peer asked for a KeyUpdate of ours
  uint8_t idle_records = 0;
  uint8_t handshake_have = 0;  // bytes of a post-handshake message that is split over records
  uint8_t handshake_message[5] = {};
  StreamEnd end = StreamEnd::kOpen;
  uint32_t step_bytes = 0;
  Usec linger_until = 0;
  uint64_t cookie = 0;
  uint64_t bytes_in = 0, bytes_out = 0;
  HandshakeId handshake;
  Chain plain;    // verified, for readable()
  Chain pending;  // of the record in hand; never shown
  SessionKeys keys;
  Sealer tx;
  Opener rx;
  SocketAddress local, remote;
  std::unique_ptr<PeerInfo> peer;
  std::string error;
  TimerNode timer;  // handshake deadline, lingering, or a retry for want of mbufs
};

struct Layer::State {
  State(StreamLayer& lower_, MbufPool& pool_, Handshakes& handshakes_, DropCounters& drops_, const LayerConfig& config_, const Now& now_)
      : lower(lower_),
        pool(pool_),
        handshakes(handshakes_),
        drops(drops_),
        config(config_),
        slab(config_.sessions_max),
        wheel(now_.mono_us),
        now(now_) {}

  StreamLayer& lower;
  MbufPool& pool;
  Handshakes& handshakes;
  DropCounters& drops;
  const LayerConfig config;
  Slab<Session, StreamTag> slab;
  TimerWheel wheel;
  TimerLink ready;  // sessions with events
  Now now;
  LayerCounters counters;
  uint32_t handshaking = 0;
  std::vector<uint8_t> scratch;  // a handshake step's bytes, gathered

  // layer.cc
  Session* find(StreamId id) {  // what an owner may still name
    Session* s = slab.get(id);
    return s == nullptr || s->phase == Phase::kLingering ? nullptr : s;
  }
  void event(Session& s, uint8_t bits);
  void end_session(Session& s, StreamEnd end);          // kClosed is told; buffers of the record in hand go
  void fail(Session& s, const Failure& f, bool alert);  // counts, alerts, gives the lower stream back, ends
  void fail_handshake(Session& s, std::string error, Drop reason);
  void leave_handshaking(Session& s);
  void release(Session& s);  // frees the slot; the lower stream was given back before
  void step(Session& s);
  void apply(Session& s, HandshakeAnswer& answer);
  void retry_soon(Session& s) { wheel.arm(s.timer, now.mono_us + 2 * kMs); }
  void lower_ended(Session& s);
  void try_to_leave(Session& s);

  // receive.cc
  void receive(Session& s);  // opens what the lower stream shows; may end the session
  uint32_t open_records(Session& s, const ReadView& view);
  bool deliver(Session& s);
  bool on_alert(Session& s, uint8_t level, uint8_t description);
  bool on_handshake_bytes(Session& s);
  bool idle_record(Session& s);

  // transmit.cc
  uint32_t segment_bytes(const Session& s) const;
  uint32_t budget(const Session& s) const;
  void send(Session& s, Chain chain);
  bool send_record(Session& s, ContentType type, Bytes bytes);
  bool update_keys(Session& s);    // false: nothing was sent, or (phase is kClosed) the session failed
  bool flush_control(Session& s);  // owed KeyUpdate and close_notify; false: something is left
  bool may_seal_in_place(const Session& s, const rte_mbuf* m) const;
  bool seal(Session& s, ContentType type, rte_mbuf* m);
};

}  // namespace sluice::tls
