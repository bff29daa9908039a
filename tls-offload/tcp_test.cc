// Layer over a real tcp::Stack, a wire that loses, reorders, duplicates and corrupts, a second stack and a stock libssl client on it. One
// seed, one virtual clock; a failing seed is printed and fails again. Ports hold sent mbufs for a while, so what was sealed must not be
// touched again.
#include <map>
#include <random>

#include "dataplane/base/rng.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/tcp/stack.h"
#include "tls-offload/test_world.h"

namespace sluice::tls::test {
namespace {

const CertificatePem& certificate() {
  static const Issued ca = make_ca("ca"), server = issue(&ca, {.common_name = "server", .sans = {dns("a.example.com")}});
  static const CertificatePem pem = server.pair();
  return pem;
}

std::string pattern(uint64_t seed, size_t n) {
  std::string s(n, 0);
  Rng rng(seed);
  for (char& c : s) c = char(rng.next());
  return s;
}

class TcpWorld {
 public:
  TcpWorld(uint64_t seed, MbufPool& a, MbufPool& b) : rng_(seed), pools_{&a, &b} {
    tcp::Config config;
    config.connections_max = config.syn_max = config.time_wait_max = 16;
    config.receive_window = 4096u << rng_.below(7);
    config.send_buffer = std::max(2 * kWritableLow, 32768u << rng_.below(4));
    config.mtu = rng_.chance(0.3) ? 600 : 1500;
    config.synack_retries = 8;
    config.time_wait = kSec;
    config.linger = config.fin_wait2 = 600 * kSec;
    for (unsigned s = 0; s < 2; s++) {
      const tcp::Secrets secrets{.isn = {rng_.next(), rng_.next()},
                                 .table = {rng_.next(), rng_.next()},
                                 .ports = {rng_.next(), rng_.next()},
                                 .timestamps = {rng_.next(), rng_.next()}};
      stack_[s] = std::make_unique<tcp::Stack>(config, *pools_[s], drops_[s], secrets, now_);
    }
    bad_wire_ = rng_.chance(0.7);
    const bool tls13 = rng_.chance(0.6);
    client_ = std::make_unique<Client>(ClientOptions{.version = tls13 ? TLS1_3_VERSION : TLS1_2_VERSION});
    layer_ = std::make_unique<Layer>(
        *stack_[1], *pools_[1], handshakes_, drops_[1],
        LayerConfig{.sessions_max = 4, .handshake_timeout = 3600 * kSec, .rekey_records = rng_.chance(0.5) ? 50u : 1u << 23}, now_);
    policy_ = *ServerPolicy::make({.certificates = {certificate()}});
    up_ = pattern(seed, rng_.below(300'000));
    down_ = pattern(seed + 1, rng_.below(300'000));
  }
  ~TcpWorld() {
    for (auto& [until, m] : held_) rte_pktmbuf_free(m);
  }

  // Empty: it went well.
  std::string run() {
    if (!stack_[1]->listen({{}, 443})) return "listen";
    tcp_ = stack_[0]->connect({*IpAddress::parse("10.0.0.1"), 0}, {*IpAddress::parse("10.0.0.2"), 443}, 3600 * kSec, now_);
    for (uint32_t steps = 0; !(client_done_ && server_done_); steps++) {
      if (steps > 200'000 || now_.mono_us > 20'000 * kSec) return "no end";
      if (!step()) return what_;
    }
    for (uint32_t steps = 0; steps < 100'000 && next() != kNever; steps++)
      if (!step()) return what_;
    if (layer_->sessions() != 0 || handshakes_.in_flight() != 0) return "sessions left";
    for (unsigned s = 0; s < 2; s++) {
      if (stack_[s]->streams() != 0) return "streams left on side " + std::to_string(s);
      if (pools_[s]->held() != 0) return "held mbufs on side " + std::to_string(s);
    }
    return "";
  }

 private:
  bool fail(const std::string& what) {
    what_ = what + " at " + std::to_string(now_.mono_us) + " us; server received " + std::to_string(received_.size()) + " of " +
            std::to_string(up_.size()) + ", client " + std::to_string(client_->received.size()) + " of " + std::to_string(down_.size()) +
            "; " + client_->error + "; " + layer_->error_text(tls_);
    return false;
  }
  Usec next() const {
    Usec at = std::min({stack_[0]->next_deadline(), stack_[1]->next_deadline(), layer_->next_deadline()});
    if (!wire_.empty()) at = std::min(at, wire_.begin()->first.first);
    for (const auto& [until, m] : held_) at = std::min(at, until);
    return at;
  }

  bool step() {
    now_.mono_us = std::max(now_.mono_us + 1, std::min(next(), now_.mono_us + 10 * kSec));
    now_.wall_us = int64_t(time(nullptr)) * 1'000'000;
    std::erase_if(held_, [&](const auto& h) {
      if (h.first > now_.mono_us) return false;
      rte_pktmbuf_free(h.second);
      return true;
    });
    while (!wire_.empty() && wire_.begin()->first.first <= now_.mono_us) {
      const auto [bytes, to] = std::move(wire_.begin()->second);
      wire_.erase(wire_.begin());
      rte_mbuf* m = pools_[to]->alloc_control();
      if (m == nullptr) continue;
      std::memcpy(rte_pktmbuf_append(m, uint16_t(bytes.size())), bytes.data(), bytes.size());
      const char* names[] = {"10.0.0.1", "10.0.0.2"};
      const L4Packet p{m, *IpAddress::parse(names[1 - to]), *IpAddress::parse(names[to])};
      stack_[to]->input({&p, 1}, now_);
    }
    for (auto& s : stack_) s->advance(now_);
    layer_->advance(now_);
    if (!client_turn() || !server_turn()) return false;
    for (unsigned s = 0; s < 2; s++) {
      L4Packet out[16];
      while (const unsigned n = stack_[s]->output(out, now_))
        for (unsigned i = 0; i < n; i++) transmit(s, out[i]);
      stack_[s]->check_invariants();
    }
    return true;
  }

  bool client_turn() {
    ReadyStream ready[8];
    bool closed = false;
    while (const unsigned n = stack_[0]->poll_events(ready))
      for (unsigned i = 0; i < n; i++) closed |= ready[i].id == tcp_ && (ready[i].events & kClosed) != 0;
    if (client_done_) return true;
    for (ReadView v = stack_[0]->readable(tcp_); v.bytes > 0; v = stack_[0]->readable(tcp_)) {
      for (unsigned i = 0; i < v.count; i++) client_->give(as_text(v.span[i]));
      stack_[0]->consume(tcp_, v.bytes);
    }
    client_->turn();
    if (!client_->error.empty()) return fail("client failed");
    if (client_->open() && stack_[0]->budget(tcp_) > 30'000 && pending_.empty()) {
      if (up_sent_ < up_.size()) {
        const size_t n = std::min<size_t>(up_.size() - up_sent_, 1 + rng_.below(rng_.chance(0.5) ? 20'000 : 100));
        client_->write(std::string_view(up_).substr(up_sent_, n));
        up_sent_ += n;
        if (SSL_version(client_->ssl.get()) == TLS1_3_VERSION && rng_.chance(0.1))
          SSL_key_update(client_->ssl.get(), SSL_KEY_UPDATE_REQUESTED);
      } else if (!client_closed_ && client_->received == down_) {
        client_closed_ = true;
        SSL_shutdown(client_->ssl.get());
      }
    }
    pending_ += client_->take();
    const uint32_t n = std::min<uint32_t>(stack_[0]->budget(tcp_), uint32_t(pending_.size()));
    Chain chain;
    if (n > 0 && pools_[0]->append_copy(chain, as_bytes(pending_).first(n), stack_[0]->segment_bytes(tcp_))) {
      stack_[0]->send(tcp_, std::move(chain));
      pending_.erase(0, n);
    }
    if (client_closed_ && pending_.empty() && !fin_sent_) {
      fin_sent_ = true;
      stack_[0]->finish(tcp_);
    }
    if (closed) {
      const StreamEnd end = stack_[0]->info(tcp_).end;
      stack_[0]->abort(tcp_);
      client_done_ = true;
      if (end != StreamEnd::kFinished || !client_->closed || client_->received != down_)
        return fail("client's end " + std::to_string(int(end)));
    }
    return true;
  }

  bool server_turn() {
    ReadyStream ready[8];
    while (const unsigned n = stack_[1]->poll_events(ready))
      for (unsigned i = 0; i < n; i++) {
        if (ready[i].cookie != 0) layer_->on_lower(ready[i], now_);
        else if ((tls_ = layer_->accept(ready[i].id, policy_, now_)); !tls_) return fail("accept");
      }
    layer_->poll_handshakes(now_);
    bool closed = false;
    while (const unsigned n = layer_->poll_events(ready))
      for (unsigned i = 0; i < n; i++) closed |= (ready[i].events & kClosed) != 0;
    if (!tls_ || server_done_) return true;
    for (ReadView v = layer_->readable(tls_); v.bytes > 0 && !rng_.chance(0.1); v = layer_->readable(tls_)) {
      uint32_t left = rng_.chance(0.5) ? v.bytes : 1 + rng_.below(v.bytes);
      const uint32_t n = left;
      for (unsigned i = 0; i < v.count && left > 0; i++) {
        const std::string_view part = as_text(v.span[i]).substr(0, left);
        received_ += part;
        left -= uint32_t(part.size());
      }
      layer_->consume(tls_, n);
    }
    while (down_sent_ < down_.size()) {
      const uint32_t budget = layer_->budget(tls_);
      if (budget == 0) break;
      const size_t n = std::min<size_t>({budget, down_.size() - down_sent_, 1 + rng_.below(rng_.chance(0.5) ? 60'000 : 300)});
      Chain chain;
      const uint32_t piece = rng_.chance(0.8) ? layer_->segment_bytes(tls_) : 1 + rng_.below(1900);
      if (n > 40'000 * uint64_t{piece} / 1000 || !pools_[1]->append_copy(chain, as_bytes(down_).subspan(down_sent_, n), piece)) break;
      layer_->send(tls_, std::move(chain));
      down_sent_ += n;
    }
    const StreamInfo info = layer_->info(tls_);
    if (info.end != StreamEnd::kOpen && info.end != StreamEnd::kFinished) return fail("server's end " + std::to_string(int(info.end)));
    if (info.peer_finished && down_sent_ == down_.size() && layer_->readable(tls_).bytes == 0) {
      server_done_ = true;
      if (received_ != up_) return fail("bytes differ");
      layer_->close(tls_);
    }
    return true;
  }

  void transmit(unsigned from, L4Packet& p) {
    std::vector<uint8_t> bytes;
    for (const rte_mbuf* m = p.m; m != nullptr; m = m->next) bytes.insert(bytes.end(), bytes_of(m).begin(), bytes_of(m).end());
    const uint16_t sum = uint16_t(~checksum_fold(checksum_add(bytes)));
    std::memcpy(&bytes[16], &sum, 2);
    held_.emplace_back(now_.mono_us + rng_.below(20'000), p.m);
    if (bad_wire_ && rng_.chance(0.05)) return;
    for (unsigned copies = bad_wire_ && rng_.chance(0.05) ? 2 : 1; copies > 0; copies--) {
      auto flying = bytes;
      if (bad_wire_ && rng_.chance(0.02)) flying[rng_.below(uint32_t(flying.size()))] ^= 1;
      const Usec at = now_.mono_us + 500 + (bad_wire_ && rng_.chance(0.1) ? rng_.below(2000) : 0);
      wire_.emplace(std::pair(at, order_++), std::pair(std::move(flying), 1 - from));
    }
  }

  Rng rng_;
  MbufPool* pools_[2];
  Now now_{1'000'000, int64_t(time(nullptr)) * 1'000'000};
  DropCounters drops_[2];
  std::unique_ptr<tcp::Stack> stack_[2];
  InlineHandshakes handshakes_;
  std::shared_ptr<const ServerPolicy> policy_;
  std::unique_ptr<Layer> layer_;
  std::unique_ptr<Client> client_;
  bool bad_wire_ = false, client_closed_ = false, fin_sent_ = false, client_done_ = false, server_done_ = false;
  StreamId tcp_, tls_;
  std::string up_, down_, received_, pending_, what_;
  size_t up_sent_ = 0, down_sent_ = 0;
  std::map<std::pair<Usec, uint64_t>, std::pair<std::vector<uint8_t>, unsigned>> wire_;
  std::vector<std::pair<Usec, rte_mbuf*>> held_;
  uint64_t order_ = 0;
};

TEST(TlsOverTcp, EveryByteArrivesWholeAndBothEndsCloseCleanlyOverABadWire) {
  static auto* const a = new MbufPool(*MbufPool::create("tls_sim_a", 8192, 7000, SOCKET_ID_ANY));
  static auto* const b = new MbufPool(*MbufPool::create("tls_sim_b", 8192, 7000, SOCKET_ID_ANY));
  const char* seeds_text = std::getenv("TLS_SIM_SEEDS");
  const uint64_t seeds = seeds_text == nullptr ? 40 : std::strtoull(seeds_text, nullptr, 10);
  const char* first_text = std::getenv("TLS_SIM_FIRST");
  const uint64_t first = first_text == nullptr ? 1 : std::strtoull(first_text, nullptr, 10);
  for (uint64_t seed = first; seed < first + seeds; seed++) {
    const std::string what = TcpWorld(seed, *a, *b).run();
    ASSERT_EQ(what, "") << "again: TLS_SIM_FIRST=" << seed << " TLS_SIM_SEEDS=1";
    ASSERT_EQ(a->available(), a->size()) << "seed " << seed;
    ASSERT_EQ(b->available(), b->size()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sluice::tls::test
