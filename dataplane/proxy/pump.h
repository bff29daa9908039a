// pump: bytes from one stream to another, as they are. Moves what is readable and what the other side takes now; the rest waits where it
// is, so a slow reader closes the sender's window and a pair holds at most one receive window and one send buffer.
#pragma once
#include "dataplane/packet/pool.h"
#include "dataplane/packet/stream.h"

namespace sluice::proxy {

struct Pumped {
  uint64_t bytes = 0;
  bool no_memory = false;  // stopped for want of mbufs: no event will come, call again soon
};

inline Pumped pump(MbufPool& mbufs, StreamLayer& from, StreamId f, StreamLayer& to, StreamId t) {
  Pumped done;
  for (;;) {
    uint32_t room = to.budget(t);
    const ReadView view = from.readable(f);
    if (room == 0 || view.bytes == 0) return done;
    const uint32_t segment = to.segment_bytes(t);
    Chain chain;
    for (unsigned i = 0; i < view.count && room > 0; i++) {
      const Bytes piece = view.span[i].first(std::min<size_t>(view.span[i].size(), room));
      if (!mbufs.append_copy(chain, piece, segment)) {
        done.no_memory = true;
        break;
      }
      room -= uint32_t(piece.size());
    }
    const uint32_t moved = chain.bytes();
    if (moved == 0) return done;
    from.consume(f, moved);
    to.send(t, std::move(chain));
    done.bytes += moved;
    if (done.no_memory) return done;
  }
}

}  // namespace sluice::proxy
