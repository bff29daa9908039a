// tls::Layer: TLS streams of one worker over the streams of another layer (tcp::Stack). Handshakes are done elsewhere
// (handshake_service.h), records here: opened as their bytes come, out of place, into mbufs held from the pool; sealed at send(), one
// record per mbuf, in place where the mbuf is ours alone and has room.
//
// In the worker's turn: every ready stream of the lower layer whose cookie has our kind goes to on_lower(); poll_handshakes() and advance()
// once; then poll_events() until it gives nothing. A call here may make new events, never a callback.
//
// On top of stream.h:
//   kOpened       the handshake is done; peer() says who it is. Before it there is no budget and nothing readable
//   kPeerFinished close_notify came. What follows it on the wire is thrown away. We may go on sending, in TLS 1.2 too
//                 (INTERPRETATION(deviate): RFC 5246 7.2.1 wants an answer at once and pending writes dropped; no client relies on it)
//   kClosed       kTlsFailed (error_text(); an alert was sent where there was room), kTruncated (the transport ended without close_notify),
//                 else the lower layer's own end
//   finish()      close_notify, then the lower stream's finish()
//   close()       as finish(); lingers until close_notify could leave, kLinger at most
//   segment_bytes the lower one less the record's overhead
// KeyUpdate (TLS 1.3): the peer's are followed, an asked-for answer leaves before our next data; ours leaves after rekey_records. In
// TLS 1.2 a stream that has sent kKeyRecordsMax records under one key fails (kTlsKeyLimit).
//
// Limits: sessions_max; kPlaintextHeldMax opened bytes per stream + the record in hand, beyond it bytes stay in the lower stream and close
// its window; 32 records in a row without data (empty, KeyUpdate, warnings) end the stream; handshake_timeout. Every refusal is counted:
// kTls* in DropCounters. Memory: sessions_max * about 3 KiB, touched at first use; mbufs from the pool; and per handshake, off the record
// path, the buffers and texts of HandshakeAnswer. Thread: its worker's. OpenSSL stays in the .cc files.
#pragma once
#include <memory>

#include "dataplane/base/counters.h"
#include "dataplane/base/limits.h"
#include "dataplane/packet/pool.h"
#include "tls-offload/handshake_service.h"
#include "tls-offload/terminator.h"

namespace sluice::tls {

constexpr uint32_t kPlaintextHeldMax = 64 * 1024;
constexpr uint8_t kIdleRecordsMax = 32;
constexpr uint64_t kKeyRecordsMax = 23'726'566;  // 2^24.5, RFC 8446 5.5

struct LayerConfig {
  uint32_t sessions_max = kConnectionsMax;
  Usec handshake_timeout = 15 * kSec;  // Envoy's transport_socket_connect_timeout as istiod sets it
  uint64_t rekey_records = 1 << 23;
  uint8_t cookie_kind = 3;  // of the cookies set on lower streams: generation (32) | kind (4) | index (28)
};

struct LayerCounters {
  Counter handshakes_started, handshakes_done, handshakes_failed, handshakes_refused;  // refused: no room; counted kTlsQueueFull too
  Counter peer_certificates;
  Counter records_in, records_out, bytes_in, bytes_out;
  Counter key_updates_in, key_updates_out;
  Counter alerts_in, alerts_out;
  Counter sealed_in_place, sealed_copied;  // mbufs
  Counter truncated;
};

class Layer final : public Terminator {
 public:
  Layer(StreamLayer& lower, MbufPool& pool, Handshakes& handshakes, DropCounters& drops, const LayerConfig& config, const Now& now);
  ~Layer() override;  // lower streams are aborted
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  void on_lower(const ReadyStream& lower, const Now& now);  // a stale cookie is ignored
  unsigned poll_handshakes(const Now& now);                 // returns how many answers there were
  void advance(const Now& now);
  Usec next_deadline() const;

  StreamId accept(StreamId lower, std::shared_ptr<const ServerPolicy> policy, const Now& now) override;
  const PeerInfo* peer(StreamId) const override;
  std::string error_text(StreamId) const override;

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

  uint32_t sessions() const;  // live, those that linger included
  uint32_t handshaking() const;
  const LayerCounters& counters() const;

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::tls
