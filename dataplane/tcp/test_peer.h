// A peer made by hand, for tests: it writes segments field by field as RFC 9293 3.1 draws them, reads ours the same way, and does nothing
// on its own. No line of the code under test; the mbuf pool and the stack are real.
//
// Numbers are relative, as tcpdump prints them: seq and ack of both sides count from their SYN. sent() gives what left as text,
// "PA 1 ack 6 len 5; F 6 ack 6": flags, sequence number, acknowledgment number (if ACK), payload bytes (if any).
// arrive() gives the drop reason of a segment, "" when it was accepted whole.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/net/test_frames.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/stack.h"

namespace sluice::tcp::test {

using net::test::Frame;
using net::test::get16;
using net::test::get32;
using net::test::plain_checksum;
using net::test::put;
using net::test::put16;
using net::test::put32;
using net::test::set16;

inline const IpAddress kOurIp = *IpAddress::parse("10.0.0.2"), kPeerIp = *IpAddress::parse("10.0.0.1");
constexpr uint16_t kHttp = 80, kPeerPort = 40'000;
constexpr uint32_t kPeerIss = 0xffff'ff00;  // near the wrap: every test crosses it
constexpr uint8_t kNothing = 0;

// What the peer sends.
struct Seg {
  uint8_t flags = kAck;
  uint32_t seq = 0, ack = 0;  // relative
  std::string payload = "";
  uint16_t window = 0xffff;
  Frame options = {};
};

// Options as they lie on the wire; options({...}) pads them to words.
inline Frame mss(uint16_t v) { return {2, 4, uint8_t(v >> 8), uint8_t(v)}; }
inline Frame scale(uint8_t v) { return {3, 3, v}; }
inline Frame sack_permitted() { return {4, 2}; }
inline Frame stamps(uint32_t value, uint32_t echo = 0) {
  Frame f{8, 10};
  put32(f, value);
  put32(f, echo);
  return f;
}
inline Frame options(const std::vector<Frame>& each) {
  Frame f;
  for (const Frame& o : each) put(f, o);
  while (f.size() % 4 != 0) f.push_back(1);
  return f;
}

// A segment in absolute numbers, checksum included.
inline Frame wire(uint16_t from, uint16_t to, uint32_t seq, uint32_t ack, uint8_t flags, uint16_t window, const Frame& opts,
                  const std::string& payload, Ipv4 src = kPeerIp.v4(), Ipv4 dst = kOurIp.v4()) {
  Frame f;
  put16(f, from);
  put16(f, to);
  put32(f, seq);
  put32(f, ack);
  put16(f, uint32_t((20 + opts.size()) / 4 << 12) | flags);
  put16(f, window);
  put32(f, 0);
  put(f, opts);
  f.insert(f.end(), payload.begin(), payload.end());
  Frame all;
  put32(all, src.v);
  put32(all, dst.v);
  put16(all, kIpProtocolTcp);
  put16(all, uint32_t(f.size()));
  put(all, f);
  set16(f, 16, plain_checksum(all, 0, all.size()));
  return f;
}

// What we sent, as the peer reads it.
struct Seen {
  uint16_t from = 0, to = 0;
  uint32_t seq = 0, ack = 0;  // absolute
  uint8_t flags = 0;
  uint16_t window = 0;
  std::optional<uint16_t> mss;
  std::optional<uint8_t> scale;
  std::optional<std::pair<uint32_t, uint32_t>> stamps;  // value, echo
  std::string payload;
};

class TcpTest : public testing::Test {
 protected:
  static constexpr uint32_t kMbufs = 4096;

  // Change before the first use of stack().
  Config config{.connections_max = 64, .syn_max = 64, .time_wait_max = 64};
  uint32_t held_max = 1024;

  Stack& stack() {
    if (!stack_) {
      static int pools = 0;
      auto made = MbufPool::create("tcp_test" + std::to_string(pools++), kMbufs, held_max, SOCKET_ID_ANY);
      EXPECT_TRUE(made.has_value()) << made.error();
      pool_ = std::make_unique<MbufPool>(std::move(*made));
      stack_ = std::make_unique<Stack>(config, *pool_, drops, secrets, now);
      EXPECT_TRUE(stack_->listen({{}, kHttp}));
    }
    return *stack_;
  }
  MbufPool& pool() {
    stack();
    return *pool_;
  }
  // At the end nobody holds anything: every mbuf is back.
  void TearDown() override {
    for (rte_mbuf* m : at_port) rte_pktmbuf_free(m);
    if (!stack_) return;
    stack_->check_invariants();
    stack_.reset();
    EXPECT_EQ(pool_->held(), 0u);
    EXPECT_EQ(pool_->available(), kMbufs);
  }

  // ---- segments in

  std::string arrive(const Seg& s) {
    return arrive_bytes(wire(peer_port, our_port, peer_iss + s.seq, our_iss + s.ack, s.flags, s.window, s.options, s.payload));
  }
  std::string arrive_bytes(const Frame& bytes, uint64_t mbuf_flags = 0) {
    Stack& st = stack();
    rte_mbuf* m = pool().alloc_control();
    SLUICE_ASSERT(m != nullptr && bytes.size() <= MbufPool::data_room());
    std::copy(bytes.begin(), bytes.end(), rte_pktmbuf_mtod(m, uint8_t*));
    m->data_len = uint16_t(bytes.size());
    m->pkt_len = bytes.size();
    m->ol_flags = mbuf_flags;
    const DropCounters before = drops;
    const uint64_t accepted = st.counters().segments_accepted.get();
    const L4Packet p{m, kPeerIp, kOurIp};
    st.input({&p, 1}, now);
    st.check_invariants();
    std::string reasons;
    uint64_t dropped = 0;
    for (size_t d = 0; d < size_t(Drop::kCount); d++) {
      const uint64_t n = drops.get(Drop(d)) - before.get(Drop(d));
      if (n == 0 || Drop(d) == Drop::kTcpRstLimited) continue;  // an RST that was not sent is not a segment
      dropped += n;
      reasons += (reasons.empty() ? "" : " ") + std::string(name_of(Drop(d)));
    }
    EXPECT_LE(dropped, 1u) << reasons;
    EXPECT_LE(st.counters().segments_accepted.get() - accepted, 1u);
    EXPECT_TRUE(dropped + st.counters().segments_accepted.get() - accepted >= 1) << "a segment vanished without a count";
    return reasons;
  }

  // ---- segments out

  static Seen read(const rte_mbuf* first) {
    Frame f;
    for (const rte_mbuf* m = first; m != nullptr; m = m->next) f.insert(f.end(), bytes_of(m).begin(), bytes_of(m).end());
    Frame pseudo;
    put32(pseudo, kOurIp.v4().v);
    put32(pseudo, kPeerIp.v4().v);
    put16(pseudo, kIpProtocolTcp);
    put16(pseudo, uint32_t(f.size()));
    EXPECT_EQ(get16(f, 16), uint16_t(~plain_checksum(pseudo, 0, pseudo.size()))) << "the pseudo-header's sum";
    EXPECT_TRUE(first->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM);
    Seen s;
    s.from = get16(f, 0);
    s.to = get16(f, 2);
    s.seq = get32(f, 4);
    s.ack = get32(f, 8);
    s.flags = f[13];
    s.window = get16(f, 14);
    const size_t header = size_t(f[12] >> 4) * 4;
    EXPECT_EQ(first->l4_len, header);
    EXPECT_EQ(first->pkt_len, f.size());
    for (size_t at = 20; at < header;) {
      if (f[at] == 1) {
        at++;
        continue;
      }
      if (f[at] == 2) s.mss = get16(f, at + 2);
      if (f[at] == 3) s.scale = f[at + 2];
      if (f[at] == 8) s.stamps = {get32(f, at + 2), get32(f, at + 6)};
      at += f[at + 1];
    }
    s.payload.assign(f.begin() + long(header), f.end());
    return s;
  }
  std::string text(const Seen& s) const {
    std::string t;
    for (const auto& [flag, letter] : {std::pair{kSyn, 'S'}, {kFin, 'F'}, {kRst, 'R'}, {kPsh, 'P'}, {kAck, 'A'}})
      if (s.flags & flag) t += letter;
    t += ' ' + std::to_string(int32_t(s.seq - our_iss));
    if (s.flags & kAck) t += " ack " + std::to_string(int32_t(s.ack - peer_iss));
    if (!s.payload.empty()) t += " len " + std::to_string(s.payload.size());
    return t;
  }
  // All that may leave now; seen has it whole.
  std::string sent() {
    std::string all;
    seen.clear();
    L4Packet out[16];
    while (const unsigned n = stack().output(out, now)) {
      for (unsigned i = 0; i < n; i++) {
        seen.push_back(read(out[i].m));
        EXPECT_EQ(out[i].src, kOurIp);
        EXPECT_EQ(out[i].dst, kPeerIp);
        if (port_keeps) at_port.push_back(out[i].m);
        else rte_pktmbuf_free(out[i].m);
        if (seen.back().flags & kSyn) {  // our number is known from here
          our_iss = seen.back().seq;
          our_port = seen.back().from;
        }
        all += (all.empty() ? "" : "; ") + text(seen.back());
      }
    }
    stack().check_invariants();
    return all;
  }

  // ---- time

  // Lets `us` pass, timer by timer. What left in between, each with the time since the call in ms (rounded to 10): "200 PA 1 ack 1 len 5".
  std::string wait(Usec us) {
    std::string all;
    std::vector<Seen> total;
    const Usec start = now.mono_us, end = start + us;
    auto note = [&] {
      const std::string s = sent();
      total.insert(total.end(), seen.begin(), seen.end());
      if (!s.empty()) all += (all.empty() ? "" : "; ") + std::to_string(10 * ((now.mono_us - start + 5 * kMs) / (10 * kMs))) + " " + s;
    };
    note();
    while (now.mono_us < end) {
      now.mono_us = std::min(end, std::max(now.mono_us + 1, stack().next_deadline()));
      stack().advance(now);
      note();
    }
    seen = total;
    return all;
  }

  // ---- connections

  // The peer opens: SYN, SYN-ACK, ACK. The stream, opened.
  StreamId accept(const Frame& syn_options = mss(1460), uint16_t window = 0xffff, const Frame& ack_options = {}) {
    EXPECT_EQ(arrive({.flags = kSyn, .window = window, .options = syn_options}), "");
    EXPECT_EQ(sent(), "SA 0 ack 1");
    syn_ack = seen.at(0);
    EXPECT_EQ(arrive({.seq = 1, .ack = 1, .window = window, .options = ack_options}), "");
    EXPECT_EQ(sent(), "");
    return opened();
  }
  // We open: SYN, SYN-ACK, ACK.
  StreamId connect(const Frame& syn_ack_options = mss(1460), uint16_t window = 0xffff) {
    const StreamId id = begin_connect();
    EXPECT_EQ(arrive({.flags = kSyn | kAck, .ack = 1, .window = window, .options = syn_ack_options}), "");
    EXPECT_EQ(sent(), "A 1 ack 1");
    EXPECT_EQ(opened(), id);
    return id;
  }
  StreamId begin_connect(Usec timeout = 0) {
    peer_port = 443;
    const StreamId id = stack().connect({kOurIp, 0}, {kPeerIp, 443}, timeout, now);
    EXPECT_TRUE(id);
    EXPECT_EQ(sent(), "S 0");
    return id;
  }
  StreamId opened() {
    ReadyStream r[1];
    if (stack().poll_events(r) != 1 || !(r[0].events & kOpened)) return {};
    return r[0].id;
  }
  // The events that wait, of the only stream that has some.
  uint8_t events() {
    ReadyStream r[4];
    const unsigned n = stack().poll_events(r);
    EXPECT_LE(n, 1u);
    return n == 0 ? 0 : r[0].events;
  }
  std::string read(StreamId id) {
    std::string all;
    while (true) {
      const ReadView v = stack().readable(id);
      if (v.bytes == 0) return all;
      for (unsigned i = 0; i < v.count; i++) all += as_text(v.span[i]);
      stack().consume(id, v.bytes);
    }
  }
  void write(StreamId id, const std::string& bytes) {
    Chain chain;
    ASSERT_TRUE(pool().append_copy(chain, as_bytes(bytes), stack().segment_bytes(id)));
    ASSERT_LE(bytes.size(), stack().budget(id));
    stack().send(id, std::move(chain));
  }
  TcpState state(StreamId id) {
    const auto s = stack().snapshot(id);
    return s ? s->state : TcpState::kClosed;
  }
  uint64_t dropped(Drop d) const { return drops.get(d); }

  DropCounters drops;
  Secrets secrets{.isn = {1, 2}, .table = {3, 4}, .ports = {5, 6}, .timestamps = {7, 8}};
  Now now{.mono_us = 1000 * kSec, .wall_us = 0};
  uint16_t peer_port = kPeerPort, our_port = kHttp;
  uint32_t peer_iss = kPeerIss, our_iss = 0;
  std::vector<Seen> seen;
  Seen syn_ack;
  bool port_keeps = false;  // sent mbufs stay with the port until the test ends
  std::vector<rte_mbuf*> at_port;

 private:
  std::unique_ptr<MbufPool> pool_;
  std::unique_ptr<Stack> stack_;
};

}  // namespace sluice::tcp::test
