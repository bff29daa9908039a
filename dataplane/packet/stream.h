// The one stream contract (docs/design, architecture section 4). TCP, TLS and later kernel sockets give it; http, proxy and raw pairs use
// it and never see a connection. A layer is owned by one worker; every call comes from that worker's turn.
//
// Pull: nobody queues on behalf of anybody. Who has bytes asks budget() and sends at most that; who reads peeks spans and consumes. What is
// not consumed closes the peer's window. Events are collected by the layer and handed out in the ready pass only (poll_events), never as
// callbacks from inside another call, so no function here is re-entered.
//
//   readable()   in-order bytes not yet consumed, as at most kReadSpansMax spans; they stay valid until consume() or the end of the turn
//   consume(n)   n <= the bytes readable() showed; frees buffers and opens the window
//   budget()     bytes that send() will take now; 0 while connecting, handshaking or blocked. kWritable comes when it grows from below
//                kWritableLow to at least it, and once at kOpened
//   segment_bytes()  the payload size of an mbuf that travels best (MSS, or MSS minus record overhead); a chain of such mbufs is sent
//                    without a copy
//   send(chain)  chain.bytes() <= budget(); takes ownership. Bytes are immutable from here on
//   finish()     no more sends; the peer sees the end (FIN, close_notify) after all that was sent. Reading goes on: half-close
//   close()      finish() by an owner who goes: what was sent still arrives, what comes is thrown away, and a stream that makes no progress
//                for kLinger is reset. No event follows: the id is dead after it
//   abort()      both directions end at once (RST); all buffers go. No event follows. Also the way to drop an ended stream: the id is dead
//                after it
//   set_cookie() the owner's own number for the stream; its events carry it
//
// Life: kOpened once (also for accepted streams), then any of kReadable, kWritable, kPeerFinished (all bytes before it are readable first),
// at most one kClosed with its end(): after it only readable()/consume()/info() are meaningful, and the owner must abort() the id to give
// it back. A stream that finished both ways in order also ends with kClosed (StreamEnd::kFinished). A stale id is harmless everywhere:
// empty spans, budget 0, calls without effect.
#pragma once
#include <cstdint>
#include <span>

#include "dataplane/base/address.h"
#include "dataplane/base/bytes.h"
#include "dataplane/base/handle.h"
#include "dataplane/base/now.h"
#include "dataplane/packet/chain.h"

namespace sluice {

struct StreamTag;
using StreamId = Handle<StreamTag>;  // unique within its layer

enum StreamEvent : uint8_t { kOpened = 1, kReadable = 2, kWritable = 4, kPeerFinished = 8, kClosed = 16 };

// How a stream ended; the names are those of response details where Envoy has one.
enum class StreamEnd : uint8_t {
  kOpen,               // it has not
  kFinished,           // both sides finished in order
  kReset,              // the peer reset it
  kRefused,            // connect answered by RST
  kConnectTimeout,     // no answer to SYN in the configured time
  kRetransmitTimeout,  // the peer stopped acknowledging
  kUnreachable,        // ICMP, no route or no neighbour while connecting
  kNoResources,        // table, port or buffer limit of ours
  kTlsFailed,          // handshake or record failure (see the TLS layer's error text)
  kTruncated,          // TLS: the transport ended without close_notify
  kAborted,            // by us
};

struct ReadView {
  static constexpr unsigned kReadSpansMax = 16;
  Bytes span[kReadSpansMax];
  unsigned count = 0;
  uint32_t bytes = 0;  // sum of the spans shown; more may be readable behind them
};

struct StreamInfo {
  SocketAddress local, remote;
  StreamEnd end = StreamEnd::kOpen;
  bool peer_finished = false;  // and all its bytes are in readable()
  uint64_t bytes_in = 0, bytes_out = 0;
};

struct ReadyStream {
  StreamId id;
  uint8_t events = 0;   // StreamEvent bits
  uint64_t cookie = 0;  // set_cookie(); 0 until set
};

constexpr uint32_t kWritableLow = 16 * 1024;
constexpr Usec kLinger = 10 * kSec;  // how long a closed stream may take to drain before it is reset

class StreamLayer {
 public:
  virtual ~StreamLayer() = default;
  virtual ReadView readable(StreamId) const = 0;
  virtual void consume(StreamId, uint32_t bytes) = 0;
  virtual uint32_t budget(StreamId) const = 0;
  virtual uint32_t segment_bytes(StreamId) const = 0;
  virtual void send(StreamId, Chain chain) = 0;
  virtual void finish(StreamId) = 0;
  virtual void abort(StreamId) = 0;
  virtual void close(StreamId) = 0;
  virtual StreamInfo info(StreamId) const = 0;
  virtual void set_cookie(StreamId, uint64_t) = 0;
  // Streams with something new since the last poll, each at most once; returns how many were written. Call until it returns 0 or the turn's
  // bound.
  virtual unsigned poll_events(std::span<ReadyStream> out) = 0;
};

}  // namespace sluice
