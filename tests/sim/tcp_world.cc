#include "tests/sim/tcp_world.h"

#include <map>
#include <memory>
#include <vector>

#include "dataplane/base/rng.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/tcp/stack.h"

namespace sluice::sim {
namespace {

struct Impairment {
  double loss = 0, duplicate = 0, corrupt = 0, reorder = 0;
  Usec delay = 500, jitter = 0;
};

uint8_t pattern(uint64_t stream, uint64_t position) {
  uint64_t x = stream * 0x9e3779b97f4a7c15 + position / 8 * 0xbf58476d1ce4e5b9;
  x ^= x >> 29;
  x *= 0x94d049bb133111eb;
  return uint8_t(x >> (8 * (position % 8)));
}

// One end of one connection: sends `to_send` bytes, reads what comes with pauses of its own, finishes, and gives the stream back at its
// end.
struct App {
  StreamId id;
  unsigned connection = 0, side = 0;
  uint64_t to_send = 0, sent = 0, to_receive = 0, received = 0;
  bool opened = false, finished = false, peer_finished = false, done = false;
  bool lingers = false;  // gives the stream back by close() once its own work is done
  Usec reads_again = 0;  // paused until
  uint32_t pause_percent = 0;
};

struct Flying {
  std::vector<uint8_t> bytes;
  IpAddress src, dst;
};
struct HeldByPort {
  Usec until;
  rte_mbuf* m;
};
struct Famine {
  Usec until = 0;
  std::vector<rte_mbuf*> taken;
};

class World {
 public:
  World(uint64_t seed, MbufPool& a, MbufPool& b) : seed_(seed), rng_(seed), pools_{&a, &b} {
    tcp::Config config;
    config.connections_max = 64;
    config.syn_max = 64;
    config.time_wait_max = 64;
    config.synack_retries = 8;
    config.time_wait = 600 * kSec;
    config.linger = 3000 * kSec;
    config.fin_wait2 = 3000 * kSec;
    largest_rto_ = config.rto_max;
    for (unsigned s = 0; s < 2; s++) {
      tcp::Secrets secrets;
      secrets.isn = {rng_.next(), rng_.next()};
      secrets.table = {rng_.next(), rng_.next()};
      secrets.ports = {rng_.next(), rng_.next()};
      secrets.timestamps = {rng_.next(), rng_.next()};
      // Each side has its own, so that every pair of offers is negotiated.
      config.receive_window = 4096u << rng_.below(7);
      config.timestamps = rng_.chance(0.8);
      config.window_scale = rng_.chance(0.8);
      config.mtu = rng_.chance(0.3) ? 600 : 1500;
      config.send_buffer = std::max(2 * kWritableLow, 32768u << rng_.below(4));
      stack_[s] = std::make_unique<tcp::Stack>(config, *pools_[s], drops_[s], secrets, now_);
    }
    const uint32_t kind = rng_.below(4);  // a clean wire, a bad one, a terrible one, a slow one
    impair_.loss = kind == 0 ? 0 : kind == 1 ? 0.05 : kind == 2 ? 0.2 : 0.02;
    impair_.duplicate = kind == 0 ? 0 : 0.05;
    impair_.corrupt = kind == 0 ? 0 : 0.02;
    impair_.reorder = kind == 0 ? 0 : 0.1;
    impair_.delay = kind == 3 ? 100 * kMs : 200 + rng_.below(2000);
    impair_.jitter = kind == 0 ? 0 : impair_.delay / 2;
    famines_ = rng_.chance(0.25);
  }
  ~World() {
    for (auto& h : held_) rte_pktmbuf_free(h.m);
    for (Famine& f : famine_) end(f);
  }

  WorldResult run() {
    const SocketAddress server{*IpAddress::parse("10.0.0.2"), 80};
    if (!stack_[1]->listen({{}, 80})) return fail("listen");
    const unsigned connections = 1 + rng_.below(4);
    for (unsigned i = 0; i < connections; i++) {
      const uint64_t up = size(), down = size();
      App client;
      client.connection = i;
      client.to_send = up;
      client.to_receive = down;
      client.pause_percent = rng_.below(40);
      client.lingers = rng_.chance(0.3);
      const bool both = rng_.chance(0.15);  // both sides open at once (RFC 9293 3.5, figure 8)
      const SocketAddress here{*IpAddress::parse("10.0.0.1"), uint16_t(both ? 2000 + i : 0)};
      const SocketAddress there = both ? SocketAddress{server.ip, uint16_t(3000 + i)} : server;
      client.id = stack_[0]->connect(here, there, 3600 * kSec, now_);
      if (!client.id) return fail("connect");
      if (both) {
        App other;
        other.side = 1;
        other.connection = i;
        other.to_send = down;
        other.to_receive = up;
        other.pause_percent = rng_.below(40);
        other.lingers = rng_.chance(0.3);
        other.id = stack_[1]->connect(there, here, 3600 * kSec, now_);
        if (!other.id) return fail("connect");
        apps_[1].push_back(other);
        stack_[1]->set_cookie(other.id, apps_[1].size());
      }
      if (up == 0 && rng_.chance(0.5)) {  // nothing to say: finishes before the answer
        stack_[0]->finish(client.id);
        client.finished = true;
      }
      // The server learns which connection it is by the client's port.
      plan_[stack_[0]->info(client.id).local.port] = {i, down, up};
      apps_[0].push_back(client);
    }
    last_progress_ = now_.mono_us;
    while (!all_done()) {
      if (!step()) return fail(what_);
      if (now_.mono_us > last_progress_ + 2 * largest_rto_ + 10 * kSec)
        return fail("no progress since " + std::to_string(last_progress_) + " us");
    }
    // Whatever still flies or lingers comes to rest; TIME_WAIT runs out.
    famines_ = false;
    const Usec rest = now_.mono_us + 7200 * kSec;
    while (now_.mono_us < rest && (!wire_.empty() || !held_.empty() || next_deadline() != kNever))
      if (!step()) return fail(what_);
    for (unsigned s = 0; s < 2; s++) {
      if (stack_[s]->streams() != 0) return fail("streams left on side " + std::to_string(s));
      if (stack_[s]->time_wait_entries() != 0 || stack_[s]->syn_entries() != 0) return fail("entries left");
      if (pools_[s]->held() != 0) return fail("held mbufs: " + std::to_string(pools_[s]->held()));
      if (pools_[s]->available() != pools_[s]->size())
        return fail("lost mbufs: " + std::to_string(pools_[s]->size() - pools_[s]->available()));
    }
    result_.ok = true;
    result_.virtual_us = now_.mono_us;
    return result_;
  }

 private:
  struct Plan {
    unsigned connection;
    uint64_t to_send, to_receive;
  };

  uint64_t size() { return rng_.chance(0.1) ? 0 : rng_.chance(0.3) ? rng_.below(100) : rng_.below(200'000); }
  bool all_done() const {
    size_t servers = apps_[1].size();
    for (const auto& side : apps_)
      for (const App& a : side)
        if (!a.done) return false;
    return servers == apps_[0].size();
  }
  WorldResult fail(const std::string& what) {
    result_.what = what + " (at " + std::to_string(now_.mono_us) + " us)";
    for (unsigned s = 0; s < 2; s++) {
      result_.what += "\n  side " + std::to_string(s) + " dropped:";
      for (size_t d = 0; d < size_t(Drop::kCount); d++)
        if (const uint64_t n = drops_[s].get(Drop(d))) result_.what += " " + std::string(name_of(Drop(d))) + " " + std::to_string(n);
      stack_[s]->for_each_stream([&](StreamId, const tcp::ConnectionSnapshot& c) {
        char line[256];
        std::snprintf(line, sizeof line,
                      "\n  side %u port %u %s%s cwnd %u window %u/%u in flight %u unsent %u unread %u ahead %u rto %lu backoff %u", s,
                      s == 0 ? c.tuple.local.port : c.tuple.remote.port, std::string(name_of(c.state)).c_str(),
                      c.closed_by_owner ? " (closed)" : "", c.cwnd, c.send_window, c.receive_window, c.in_flight, c.unsent, c.unread,
                      c.out_of_order, c.rto_us, c.backoff);
        result_.what += line;
      });
    }
    return result_;
  }
  bool bad(const std::string& what) {
    if (what_.empty()) what_ = what;
    return false;
  }
  Usec next_deadline() const {
    Usec at = std::min(stack_[0]->next_deadline(), stack_[1]->next_deadline());
    if (!wire_.empty()) at = std::min(at, wire_.begin()->first.first);
    for (const auto& side : apps_)
      for (const App& a : side)
        if (a.reads_again > now_.mono_us && !a.done) at = std::min(at, a.reads_again);
    for (const auto& h : held_) at = std::min(at, h.until);
    for (const Famine& f : famine_)
      if (!f.taken.empty()) at = std::min(at, f.until);
    return at;
  }
  // Somebody else takes all that connections may hold on one side, and sometimes what ACKs leave in too.
  void famine(unsigned s) {
    Famine& f = famine_[s];
    if (!f.taken.empty()) {
      if (f.until <= now_.mono_us) end(f);
    } else if (famines_ && rng_.chance(0.005)) {
      while (rte_mbuf* m = pools_[s]->alloc_held()) f.taken.push_back(m);
      if (rng_.chance(0.3))
        while (rte_mbuf* m = pools_[s]->alloc_control()) f.taken.push_back(m);
      f.until = now_.mono_us + rng_.below(uint32_t(5 * kSec));
      last_progress_ = std::max(last_progress_, f.until);
    }
  }
  static void end(Famine& f) {
    for (rte_mbuf* m : f.taken) free_mbuf(m);
    f.taken.clear();
  }

  bool step() {
    const Usec next = next_deadline();
    if (next == kNever) return bad("nothing will ever happen again");
    now_.mono_us = std::max(now_.mono_us + 1, next);
    std::erase_if(held_, [&](const HeldByPort& h) {
      if (h.until > now_.mono_us) return false;
      rte_pktmbuf_free(h.m);
      return true;
    });
    while (!wire_.empty() && wire_.begin()->first.first <= now_.mono_us) {
      const Flying f = std::move(wire_.begin()->second);
      wire_.erase(wire_.begin());
      const unsigned to = f.dst == *IpAddress::parse("10.0.0.2") ? 1 : 0;
      rte_mbuf* m = pools_[to]->alloc_control();
      if (m == nullptr) continue;
      std::memcpy(rte_pktmbuf_append(m, uint16_t(f.bytes.size())), f.bytes.data(), f.bytes.size());
      const L4Packet p{m, f.src, f.dst};
      stack_[to]->input({&p, 1}, now_);
    }
    for (unsigned s = 0; s < 2; s++) {
      famine(s);
      stack_[s]->advance(now_);
      if (!events(s)) return false;
      for (App& a : apps_[s])
        if (!a.done && a.opened && !work(s, a)) return false;
      for (;;) {
        L4Packet out[16];
        const unsigned n = stack_[s]->output(out, now_);
        for (unsigned i = 0; i < n; i++) transmit(out[i]);
        if (n == 0) break;
      }
      stack_[s]->check_invariants();
    }
    return true;
  }

  bool events(unsigned s) {
    ReadyStream ready[16];
    while (const unsigned n = stack_[s]->poll_events(ready)) {
      for (unsigned i = 0; i < n; i++) {
        if (ready[i].cookie == 0 && s == 1) {
          const Plan plan = plan_.at(stack_[1]->info(ready[i].id).remote.port);
          App a;
          a.id = ready[i].id;
          a.side = 1;
          a.connection = plan.connection;
          a.to_send = plan.to_send;
          a.to_receive = plan.to_receive;
          a.pause_percent = rng_.below(40);
          a.lingers = rng_.chance(0.3);
          apps_[1].push_back(a);
          stack_[1]->set_cookie(a.id, apps_[1].size());
        }
        for (App& a : apps_[s]) {
          if (a.id != ready[i].id || a.done) continue;
          if (ready[i].events & kOpened) a.opened = true;
          last_progress_ = now_.mono_us;
          if ((ready[i].events & kClosed) && stack_[s]->info(a.id).end != StreamEnd::kFinished)
            return bad("connection " + std::to_string(a.connection) + " side " + std::to_string(s) + " ended " +
                       std::to_string(int(stack_[s]->info(a.id).end)));
        }
      }
    }
    return true;
  }

  bool work(unsigned s, App& a) {
    tcp::Stack& stack = *stack_[s];
    while (a.sent < a.to_send) {
      const uint32_t budget = stack.budget(a.id);
      if (budget == 0) break;
      const uint32_t n = uint32_t(std::min<uint64_t>({budget, a.to_send - a.sent, 1 + rng_.below(rng_.chance(0.5) ? 20'000 : 200)}));
      std::vector<uint8_t> bytes(n);
      for (uint32_t i = 0; i < n; i++) bytes[i] = pattern(seed_ + a.connection * 2 + s, a.sent + i);
      Chain chain;
      if (!pools_[s]->append_copy(chain, bytes, stack.segment_bytes(a.id))) break;
      stack.send(a.id, std::move(chain));
      a.sent += n;
      last_progress_ = now_.mono_us;
      if (rng_.chance(0.2)) break;
    }
    if (a.sent == a.to_send && !a.finished) {
      a.finished = true;
      stack.finish(a.id);
    }
    if (now_.mono_us < a.reads_again) return true;
    for (;;) {
      const ReadView v = stack.readable(a.id);
      if (v.bytes == 0) break;
      uint32_t take = v.bytes;
      if (rng_.chance(0.3)) take = 1 + rng_.below(v.bytes);
      uint32_t seen = 0;
      for (unsigned i = 0; i < v.count && seen < take; i++)
        for (size_t k = 0; k < v.span[i].size() && seen < take; k++, seen++)
          if (v.span[i][k] != pattern(seed_ + a.connection * 2 + (1 - s), a.received + seen))
            return bad("byte " + std::to_string(a.received + seen) + " of connection " + std::to_string(a.connection) +
                       " differs on side " + std::to_string(s));
      stack.consume(a.id, take);
      a.received += take;
      last_progress_ = now_.mono_us;
      if (rng_.below(1000) < a.pause_percent) {
        a.reads_again = now_.mono_us + rng_.below(uint32_t(5 * kSec));
        last_progress_ = a.reads_again;
        return true;
      }
    }
    const StreamInfo info = stack.info(a.id);
    if (info.peer_finished && a.received != a.to_receive)
      return bad("connection " + std::to_string(a.connection) + " side " + std::to_string(s) + " ended after " +
                 std::to_string(a.received) + " of " + std::to_string(a.to_receive) + " bytes");
    if (info.peer_finished && a.finished && (info.end == StreamEnd::kFinished || a.lingers)) {
      if (info.end == StreamEnd::kFinished) stack.abort(a.id);
      else stack.close(a.id);
      result_.bytes += a.received;
      a.done = true;
      last_progress_ = now_.mono_us;
    }
    return true;
  }

  void transmit(L4Packet& p) {
    result_.segments++;
    Flying f{{}, p.src, p.dst};
    for (const rte_mbuf* m = p.m; m != nullptr; m = m->next) f.bytes.insert(f.bytes.end(), bytes_of(m).begin(), bytes_of(m).end());
    const uint16_t sum = uint16_t(~checksum_fold(checksum_add(f.bytes)));  // the field holds the pseudo-header's sum
    std::memcpy(&f.bytes[16], &sum, 2);
    if (rng_.chance(0.5)) rte_pktmbuf_free(p.m);
    else held_.push_back({now_.mono_us + rng_.below(20'000), p.m});  // a port may take its time
    if (rng_.chance(impair_.loss)) {
      last_progress_ = std::max(last_progress_, now_.mono_us);  // standing still is the wire's doing
      return;
    }
    const unsigned copies = rng_.chance(impair_.duplicate) ? 2 : 1;
    for (unsigned i = 0; i < copies; i++) {
      Flying g = f;
      if (rng_.chance(impair_.corrupt)) {
        g.bytes[rng_.below(uint32_t(g.bytes.size()))] ^= uint8_t(1u << rng_.below(8));
        last_progress_ = std::max(last_progress_, now_.mono_us);
      }
      Usec at = now_.mono_us + impair_.delay;
      if (impair_.jitter > 0 && rng_.chance(impair_.reorder)) at += rng_.below(uint32_t(impair_.jitter) + 1);
      wire_.emplace(std::pair(at, order_++), std::move(g));
    }
  }

  const uint64_t seed_;
  Rng rng_;
  MbufPool* pools_[2];
  DropCounters drops_[2];
  std::unique_ptr<tcp::Stack> stack_[2];
  Impairment impair_;
  Now now_{.mono_us = 1'000'000, .wall_us = 0};
  Usec largest_rto_ = 0, last_progress_ = 0;
  std::map<std::pair<Usec, uint64_t>, Flying> wire_;
  std::vector<HeldByPort> held_;
  bool famines_ = false;
  Famine famine_[2];
  uint64_t order_ = 0;
  std::map<uint16_t, Plan> plan_;
  std::vector<App> apps_[2];
  std::string what_;
  WorldResult result_;
};

}  // namespace

WorldResult run_tcp_world(uint64_t seed, MbufPool& a, MbufPool& b) { return World(seed, a, b).run(); }

}  // namespace sluice::sim
