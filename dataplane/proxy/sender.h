// Sender: builds one chain for one stream and sends it when it goes out of scope. It promises before it is given: room() reserves the
// mbufs, so what was parsed and consumed on one side can never be lost for want of memory on the other.
#pragma once
#include <algorithm>
#include <charconv>

#include "dataplane/packet/pool.h"
#include "dataplane/packet/stream.h"

namespace sluice::proxy {

class Sender {
 public:
  static constexpr uint32_t kPieceMax = 16 * 1024;
  static constexpr uint32_t kChunkFraming = 12;  // "ffffffff\r\n" + "\r\n"

  Sender(MbufPool& mbufs, StreamLayer& layer, StreamId id)
      : mbufs_(mbufs),
        layer_(layer),
        id_(id),
        budget_(layer.budget(id)),
        segment_(std::clamp(layer.segment_bytes(id), 1u, MbufPool::data_room())) {}
  ~Sender() { flush(); }
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // Bytes that append() takes now for sure, at most `most`; 0 when the stream is full or no mbuf is left (no_memory()).
  uint32_t room(size_t most = kPieceMax) {
    const uint32_t want = uint32_t(std::min<size_t>({budget_, kPieceMax, most}));
    const uint32_t need = want / segment_ + 2;
    while (spare_.segments() < need) {
      rte_mbuf* m = mbufs_.alloc_held();
      if (m == nullptr) break;
      spare_.append(m);
    }
    if (spare_.segments() == 0 && want > 0) no_memory_ = true;
    return std::min(want, spare_.segments() * segment_);
  }
  // bytes <= the last room().
  void append(Bytes bytes) {
    SLUICE_DCHECK(bytes.size() <= budget_);
    budget_ -= uint32_t(bytes.size());
    while (!bytes.empty()) {
      rte_mbuf* m = chain_.tail();
      if (m == nullptr || m->data_len >= segment_) {
        if (chain_.segments() == kChainSegmentsMax) flush();
        chain_.append(m = spare_.pop_front());
      }
      const uint32_t n = std::min<uint32_t>(segment_ - m->data_len, uint32_t(bytes.size()));
      std::memcpy(rte_pktmbuf_mtod_offset(m, uint8_t*, m->data_len), bytes.data(), n);
      m->data_len = uint16_t(m->data_len + n);
      chain_.grew(n);
      bytes = bytes.subspan(n);
    }
  }
  // Sends what goes of `text` and cuts it off the front; true when nothing is left.
  bool text(std::string_view& text) {
    while (!text.empty()) {
      const size_t n = room(text.size());
      if (n == 0) return false;
      append(as_bytes(text.substr(0, n)));
      text.remove_prefix(n);
    }
    return true;
  }
  // Room for a piece of a body of at most `most` bytes, framing included in the reckoning.
  uint32_t body_room(bool chunked, size_t most) {
    const uint32_t n = room(most + (chunked ? kChunkFraming : 0));
    return chunked ? (n > kChunkFraming ? n - kChunkFraming : 0) : n;
  }
  // bytes <= the last body_room(); not empty when chunked.
  void body(Bytes bytes, bool chunked) {
    if (!chunked) return append(bytes);
    char head[16];
    char* end = std::to_chars(head, head + 10, bytes.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    append(as_bytes({head, size_t(end - head)}));
    append(bytes);
    append(as_bytes("\r\n"));
  }
  void flush() {
    if (!chain_.empty()) layer_.send(id_, std::move(chain_));
  }
  bool no_memory() const { return no_memory_; }

 private:
  MbufPool& mbufs_;
  StreamLayer& layer_;
  const StreamId id_;
  uint32_t budget_;
  const uint32_t segment_;
  Chain chain_, spare_;
  bool no_memory_ = false;
};

}  // namespace sluice::proxy
