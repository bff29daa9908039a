// FakeLower: a stream layer in memory for tests and fuzzing: bytes are put in as mbufs of any size, what was sent is a string.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/packet/pool.h"
#include "dataplane/packet/stream.h"

namespace sluice::tls::test {

// One stream at a time is enough for most; ids are {n, 1}.
class FakeLower final : public StreamLayer {
 public:
  struct Stream {
    Chain in;
    std::string out;
    StreamInfo info;
    uint64_t cookie = 0;
    uint8_t events = 0;
    bool finished = false, aborted = false, closed = false;
    uint32_t budget_max = 256 * 1024, unsent = 0;
  };
  explicit FakeLower(MbufPool& pool) : pool_(pool) {}

  StreamId open() {
    streams_.push_back(std::make_unique<Stream>());
    return {uint32_t(streams_.size() - 1), 1};
  }
  Stream& at(StreamId id) { return *streams_[id.index]; }
  // Bytes from the peer, in mbufs of at most `piece`.
  void arrive(StreamId id, std::string_view bytes, uint32_t piece) {
    Stream& s = at(id);
    if (s.closed || s.aborted || bytes.empty()) return;
    for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(piece, bytes.size()))) {
      rte_mbuf* m = pool_.alloc_held();
      SLUICE_ASSERT(m != nullptr);
      const std::string_view part = bytes.substr(0, piece);
      std::memcpy(rte_pktmbuf_mtod(m, uint8_t*), part.data(), part.size());
      m->data_len = uint16_t(part.size());
      s.in.append(m);
    }
    s.events |= kReadable;
  }
  void peer_fin(StreamId id) {
    at(id).info.peer_finished = true;
    at(id).events |= kPeerFinished;
    if (at(id).finished) ended(id, StreamEnd::kFinished);
  }
  void ended(StreamId id, StreamEnd end) {
    at(id).info.end = end;
    at(id).events |= kClosed;
  }

  ReadView readable(StreamId id) const override {
    ReadView v;
    const Stream* s = get(id);
    if (s == nullptr) return v;
    for (const rte_mbuf* m = s->in.head(); m != nullptr && v.count < ReadView::kReadSpansMax; m = m->next) {
      v.span[v.count++] = bytes_of(m);
      v.bytes += m->data_len;
    }
    return v;
  }
  void consume(StreamId id, uint32_t n) override {
    if (get(id) != nullptr) at(id).in.consume(n);
  }
  uint32_t budget(StreamId id) const override {
    const Stream* s = get(id);
    return s == nullptr || s->finished || s->unsent > s->budget_max ? 0 : s->budget_max - s->unsent;
  }
  uint32_t segment_bytes(StreamId) const override { return 1448; }
  void send(StreamId id, Chain chain) override {
    if (get(id) == nullptr) return;
    SLUICE_ASSERT(chain.bytes() <= budget(id));
    Stream& s = at(id);
    for (const rte_mbuf* m = chain.head(); m != nullptr; m = m->next) {
      s.out += as_text(bytes_of(m));
      largest_mbuf = std::max<uint32_t>(largest_mbuf, m->data_len);
    }
    s.unsent += chain.bytes();
  }
  void finish(StreamId id) override {
    if (get(id) != nullptr) at(id).finished = true;
  }
  void abort(StreamId id) override {
    if (get(id) == nullptr) return;
    at(id).aborted = true;
    at(id).in.clear();
  }
  void close(StreamId id) override {
    if (get(id) == nullptr) return;
    at(id).closed = at(id).finished = true;
    at(id).in.clear();
  }
  StreamInfo info(StreamId id) const override { return get(id) == nullptr ? StreamInfo{} : get(id)->info; }
  void set_cookie(StreamId id, uint64_t c) override { at(id).cookie = c; }
  unsigned poll_events(std::span<ReadyStream> out) override {
    unsigned n = 0;
    for (uint32_t i = 0; i < streams_.size() && n < out.size(); i++)
      if (Stream& s = *streams_[i]; s.events != 0 && !s.closed && !s.aborted)
        out[n++] = {{i, 1}, std::exchange(s.events, uint8_t{0}), s.cookie};
    return n;
  }
  // What the peer acknowledged: takes all that was sent and gives the budget back.
  std::string take(StreamId id) {
    Stream& s = at(id);
    if (s.unsent > 0 && s.budget_max - std::min(s.unsent, s.budget_max) < kWritableLow) s.events |= kWritable;
    s.unsent = 0;
    return std::exchange(s.out, {});
  }
  uint32_t largest_mbuf = 0;

 private:
  const Stream* get(StreamId id) const {
    if (id.index >= streams_.size() || id.generation != 1) return nullptr;
    const Stream* s = streams_[id.index].get();
    return s->aborted || s->closed ? nullptr : s;
  }
  MbufPool& pool_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace sluice::tls::test
