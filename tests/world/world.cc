#include "tests/world/world.h"

#include <algorithm>
#include <map>

namespace sluice::world {
namespace {

constexpr Usec kBusyStep = 20, kQuietStep = 1 * kMs, kLongQuietStep = 5 * kMs;
constexpr unsigned kLongQuiet = 64;  // steps without anything

MacAddress mac(uint8_t last) { return {{2, 0, 0, 0, 0, last}}; }

// Pools live as long as the process, for making one costs more than most tests. One that an earlier test did not leave whole is replaced.
MbufPool& pool(const std::string& role, uint32_t held_max) {
  static auto* const pools = new std::map<std::pair<std::string, uint32_t>, std::unique_ptr<MbufPool>>();
  static unsigned made = 0;
  auto& p = (*pools)[{role, held_max}];
  if (p == nullptr || p->available() != p->size() || p->held() != 0) {
    auto created = MbufPool::create("world-" + std::to_string(made++), held_max + kControlReserve + 2048, held_max, SOCKET_ID_ANY);
    SLUICE_ASSERT(created);
    (void)p.release();
    p = std::make_unique<MbufPool>(std::move(*created));
  }
  return *p;
}

tcp::Secrets secrets_of(uint64_t seed) {
  Rng rng(seed);
  return {.isn = {rng.next(), rng.next()},
          .table = {rng.next(), rng.next()},
          .ports = {rng.next(), rng.next()},
          .timestamps = {rng.next(), rng.next()}};
}

tcp::Config tcp_config(const Options& o) {
  tcp::Config c;
  c.connections_max = c.syn_max = c.time_wait_max = 256;
  c.receive_window = c.send_buffer = o.window;
  c.time_wait = 1 * kSec;
  return c;
}

// A lost RST must not leave a host waiting for ever.
tcp::Config host_config(const Options& o) {
  tcp::Config c = tcp_config(o);
  c.keepalive_idle = 15 * kSec;
  c.keepalive_interval = 5 * kSec;
  return c;
}

net::Interface interface(unsigned port, uint8_t mac_last, std::initializer_list<const char*> addresses) {
  net::Interface i{.port = port, .mac = mac(mac_last), .vlan = {}, .addresses = {}};
  for (const char* a : addresses) i.addresses.push_back(*IpPrefix::parse(a));
  return i;
}

}  // namespace

// ---- hosts

void Peer::reset() {
  host.tcp->abort(id);
  gone = true;
  end = StreamEnd::kAborted;
}
SocketAddress Peer::local() const { return host.tcp->info(id).local; }
SocketAddress Peer::remote() const { return host.tcp->info(id).remote; }

Host::Host(std::initializer_list<const char*> addresses, const tcp::Config& config, MbufPool& mbufs, std::unique_ptr<drivers::Port> p,
           uint64_t seed, const Now& now)
    : pool(mbufs), port(std::move(p)) {
  net::Config c;
  c.interfaces.push_back(interface(0, port->info().mac.b[5], addresses));
  SLUICE_ASSERT(net::validate(c));
  net = std::make_unique<net::Stack>(c, 0, neighbours, pool, drops);
  tcp = std::make_unique<tcp::Stack>(config, pool, drops, secrets_of(seed), now);
}
Host::~Host() = default;

Peer& Host::connect(const SocketAddress& to, const Now& now, std::optional<IpAddress> from) {
  const StreamId id = tcp->connect({from ? *from : *net->source_for(to.ip), 0}, to, 3600 * kSec, now);
  EXPECT_TRUE(bool(id)) << "no connection to " << to.to_string();
  peers.emplace_back(*this, id);
  tcp->set_cookie(id, peers.size());
  return peers.back();
}

bool Host::turn(const Now& now) {
  bool busy = false;
  port->advance(now.mono_us);
  rte_mbuf* frames[kRxBurst];
  while (const unsigned n = port->rx(0, frames, kRxBurst)) {
    busy = true;
    if (cut) {
      for (unsigned i = 0; i < n; i++) rte_pktmbuf_free(frames[i]);
      continue;
    }
    L4Packet packets[kRxBurst];
    const unsigned k = net->input(0, {frames, n}, now, packets);
    for (unsigned i = 0; i < k; i++)
      if (deaf.contains(packets[i].dst)) rte_pktmbuf_free(packets[i].m);
      else tcp->input({&packets[i], 1}, now);
  }
  tcp->advance(now);
  events();
  for (size_t i = first_alive_; i < peers.size(); i++) {
    Peer& p = peers[i];
    if (p.gone) {
      if (i == first_alive_) first_alive_++;
      continue;
    }
    busy |= pump(p);
    if (on_turn && !p.gone) on_turn(p);
  }
  L4Packet out[64];
  while (const unsigned n = tcp->output(out, now))
    for (unsigned i = 0; i < n; i++) net->send(std::move(out[i]), now);
  net->advance(now);
  net::PathError errors[8];
  while (net->take_errors(errors) > 0) {
  }
  const std::span<rte_mbuf*> leaving = net->frames(0);
  if (leaving.empty()) return busy;
  unsigned sent = 0;
  if (cut) {
    for (rte_mbuf* m : leaving) rte_pktmbuf_free(m);
    sent = unsigned(leaving.size());
  } else {
    sent = port->tx(0, leaving.data(), unsigned(leaving.size()));
  }
  net->sent(0, sent);
  return true;
}

void Host::events() {
  ReadyStream ready[32];
  while (const unsigned n = tcp->poll_events(ready))
    for (unsigned i = 0; i < n; i++) {
      if (ready[i].cookie == 0) {
        peers.emplace_back(*this, ready[i].id);
        tcp->set_cookie(ready[i].id, peers.size());
        ready[i].cookie = peers.size();
      }
      Peer& p = peers[ready[i].cookie - 1];
      if (ready[i].events & kOpened) p.opened = true;
    }
}

// Moves what can be moved; true when anything did.
bool Host::pump(Peer& p) {
  bool moved = false;
  while (p.reads) {
    const ReadView v = tcp->readable(p.id);
    if (v.bytes == 0) break;
    for (unsigned i = 0; i < v.count; i++) p.received += as_text(v.span[i]);
    tcp->consume(p.id, v.bytes);
    p.moved += v.bytes;
    moved = true;
  }
  while (p.opened && !p.unsent.empty() && !p.finished) {
    const uint32_t n = std::min<uint32_t>(tcp->budget(p.id), uint32_t(std::min<size_t>(p.unsent.size(), 16 * 1024)));
    Chain chain;
    if (n == 0 || !pool.append_copy(chain, as_bytes(std::string_view(p.unsent).substr(0, n)), tcp->segment_bytes(p.id))) break;
    tcp->send(p.id, std::move(chain));
    p.unsent.erase(0, n);
    p.moved += n;
    moved = true;
  }
  const StreamInfo info = tcp->info(p.id);
  if (info.peer_finished && tcp->readable(p.id).bytes == 0 && !p.peer_finished) {
    p.peer_finished = true;
    if (p.finishes_back) p.finishing = true;
  }
  if (p.opened && p.finishing && p.unsent.empty() && !p.finished) {
    tcp->finish(p.id);
    p.finished = moved = true;
  }
  if (info.end != StreamEnd::kOpen && tcp->readable(p.id).bytes == 0) {
    tcp->abort(p.id);
    p.gone = moved = true;
    p.end = info.end;
  }
  return moved;
}

// ---- the world

World::World(const Options& o)
    : options(o),
      owner_(o.workers),
      secrets_(secrets_of(o.seed * 4)),
      neighbours_(std::make_unique<net::Neighbours>(o.workers)),
      publisher_(o.workers),
      host_ports_([this] {
        for (unsigned i = 0; i < options.workers; i++) pools_.push_back(&pool("worker " + std::to_string(i), options.mbufs_held));
        std::vector<std::unique_ptr<drivers::Port>> far;
        const char* const roles[] = {"client", "origins"};
        for (unsigned i = 0; i < 2; i++) {
          MbufPool& host_pool = pool(roles[i], 6000);
          auto [ours, theirs] = drivers::memory_link({pools_, mac(uint8_t(1 + i)), owner_}, {{&host_pool}, mac(uint8_t(11 + i)), {}}, 4096);
          if (options.workers == 1) ours = drivers::impair(std::move(ours), options.wire, *pools_[0], options.seed * 8 + i);
          theirs = drivers::impair(std::move(theirs), options.wire, host_pool, options.seed * 8 + 4 + i);
          ports_.push_back(std::move(ours));
          far.push_back(std::move(theirs));
        }
        return far;
      }()),
      client({"10.0.0.2/24", "10.0.0.7/24", "10.0.0.9/24", "10.0.0.130/24"}, host_config(o), pool("client", 6000),
             std::move(host_ports_[0]), o.seed * 4 + 1, now),
      origins({"10.1.0.2/24", "10.1.0.3/24", "10.1.0.4/24", "10.1.0.5/24"}, host_config(o), pool("origins", 6000),
              std::move(host_ports_[1]), o.seed * 4 + 2, now) {
  for (unsigned i = 0; i < o.workers; i++) {
    worker::WorkerConfig c;
    c.index = i;
    c.net.ports = 2;
    c.net.interfaces = {interface(0, 1, {"10.0.0.1/24"}), interface(1, 2, {"10.1.0.1/24"})};
    c.tcp = tcp_config(o);
    c.tcp.owner = &owner_;
    c.tcp.worker = i;
    c.proxy = o.proxy;
    c.proxy.connections_max = 128;
    c.proxy.exchanges_max = 128;
    rings_.push_back(std::make_unique<worker::LogRing>(1 << 16));
    workers.push_back(std::make_unique<worker::Worker>(c, worker::Shared{ports_, *neighbours_, publisher_, budgets, nullptr, secrets_},
                                                       *pools_[i], *rings_[i], o.seed * 16 + i, now));
    spin_.emplace_back();
    publisher_.online(i);
  }
  for (unsigned i = 2; i <= 5; i++) origins.listen(origin(i));
}

World::~World() {
  if (!settled_ && !testing::Test::HasFailure()) settle();
}

bool World::push(const std::vector<std::string>& resources) {
  std::string list = "[";
  for (const std::string& r : resources) list += (list.size() == 1 ? "" : ", ") + r;
  const auto parsed = compile::parse_json(list + "]", "test");
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error());
  bool all = bool(parsed);
  if (parsed)
    for (const compile::Resource& r : *parsed) {
      const auto taken = compiler_.apply(r.type_url, r.name, r.bytes);
      EXPECT_TRUE(taken) << r.name << ": " << (taken ? "" : taken.error());
      all &= bool(taken);
    }
  publish();
  return all;
}

void World::remove(std::initializer_list<std::pair<const char*, std::string>> type_and_name) {
  for (const auto& [type, name] : type_and_name) compiler_.remove(type, name);
  publish();
}

// As gateway.cc does it.
void World::publish() {
  struct None : compile::SecretSource {
    const compile::Secret* find(std::string_view) override { return nullptr; }
  } none;
  push(compiler_.build(none, now.wall_us));
}

void World::push(std::shared_ptr<const tables::Snapshot> tables) {
  budgets.ensure(*tables);
  publisher_.publish(std::move(tables));
}

bool World::step() {
  steps++;
  bool busy = client.turn(now);
  for (size_t i = 0; i < workers.size(); i++) busy |= worker_turn(i);
  busy |= origins.turn(now);
  quiet_ = busy ? 0 : quiet_ + 1;
  const Usec forward = busy ? kBusyStep : quiet_ < kLongQuiet ? kQuietStep : kLongQuietStep;
  now.mono_us += forward;
  now.wall_us += int64_t(forward);
  return busy;
}

bool World::worker_turn(size_t i) {
  const bool useful = workers[i]->poll_once(now);
  Spin& spin = spin_[i];
  const uint64_t frames = workers[i]->counters().rx_frames.get() + workers[i]->net_counters().packets_out.get();
  spin.turns = useful && frames == spin.frames ? spin.turns + 1 : 0;
  spin.frames = frames;
  spin.most = std::max(spin.most, spin.turns);
  publisher_.quiescent(unsigned(i));
  publisher_.reclaim();
  rings_[i]->drain([this](std::string_view, std::string_view text) {
    Line l;
    std::string* const to[] = {&l.status,  &l.flags,    &l.details,  &l.received,  &l.sent,  &l.method,     &l.path,
                               &l.cluster, &l.upstream, &l.attempts, &l.transport, &l.route, &l.connection, &l.duration_ms};
    for (std::string* s : to) {
      const size_t n = std::min(text.find(";;"), text.find('\n'));
      *s = text.substr(0, n);
      text.remove_prefix(std::min(text.size(), n + 2));
    }
    log_.push_back(std::move(l));
  });
  return useful;
}

bool World::until(const std::function<bool()>& done, Usec most) {
  const Usec end = now.mono_us + most;
  while (!done()) {
    if (now.mono_us >= end) return false;
    step();
  }
  return true;
}

void World::pass(Usec time) {
  (void)until([] { return false; }, time);
}

Peer& World::connect_to_worker(unsigned index, uint16_t to) {
  for (;;) {
    Peer& p = connect(to);
    if (owner_.owner({p.remote(), p.local()}) == index) return p;
    p.reset();
  }
}

Peer& World::accepted(size_t n, Usec most) {
  if (until([&] { return origins.peers.size() > n; }, most)) return origins.peers[n];
  ADD_FAILURE() << "no connection " << n << " at the origins";
  static auto* const nobody = new std::deque<Peer>();
  return nobody->emplace_back(origins, StreamId{});
}

Message World::message(Peer& p, bool head_request, Usec most) {
  std::optional<Message> m;
  if (!until([&] { return (m = p.take(head_request)) || p.gone; }, most) || (!m && !(m = p.take(head_request))))
    ADD_FAILURE() << "no whole message, only: " << p.received.substr(0, 2000) << (p.gone ? " (the connection is gone)" : "");
  return m.value_or(Message{});
}

Line World::line(Usec most) {
  if (!until([&] { return !log_.empty(); }, most)) {
    ADD_FAILURE() << "no line in the access log";
    return {};
  }
  Line l = std::move(log_.front());
  log_.pop_front();
  return l;
}

std::vector<Line> World::lines(size_t n, Usec most) {
  std::vector<Line> all;
  while (all.size() < n && !testing::Test::HasFailure()) all.push_back(line(most));
  return all;
}

worker::Holdings World::holdings() const {
  worker::Holdings sum;
  for (const auto& w : workers) {
    const worker::Holdings h = w->holdings();
    sum.downstreams += h.downstreams;
    sum.exchanges += h.exchanges;
    sum.pairs += h.pairs;
    sum.upstreams += h.upstreams;
    sum.upstreams_idle += h.upstreams_idle;
    sum.tcp_streams += h.tcp_streams;
    sum.tcp_connections += h.tcp_connections;
    sum.syn_entries += h.syn_entries;
    sum.time_wait += h.time_wait;
    sum.timers += h.timers;
    sum.waiting += h.waiting;
    sum.arena_chunks += h.arena_chunks;
    sum.mbufs += h.mbufs;
    sum.circuit_units += h.circuit_units;
  }
  return sum;
}

// Clients leave, tables go (and with them idle connections to origins), and everything must come back.
void World::settle() {
  settled_ = true;
  client.cut = origins.cut = false;
  origins.deaf.clear();
  for (Host* h : {&client, &origins})
    for (Peer& p : h->peers) {
      p.reads = true;
      if (!p.gone && h == &client) p.finish();
    }
  // Exchanges end with their clients, keep-alive or not.
  EXPECT_TRUE(until([&] { return holdings().exchanges == 0 && holdings().downstreams == 0 && holdings().pairs == 0; }, 90 * kSec))
      << holdings().exchanges << " exchanges, " << holdings().downstreams << " downstream connections left";
  for (const Peer& p : client.peers) EXPECT_TRUE(until([&] { return p.gone; }, 90 * kSec)) << "a client's connection never ended";
  EXPECT_EQ(holdings().upstreams, holdings().upstreams_idle) << "upstream connections that nobody uses and that are not idle";
  publisher_.publish([&] {
    auto empty = std::make_shared<tables::Snapshot>();
    empty->generation = publisher_.load() == nullptr ? 1 : publisher_.load()->generation + 1;
    return empty;
  }());
  const auto baseline = [&] {
    if (holdings() != worker::Holdings{}) return false;
    for (Host* h : {&client, &origins})
      if (h->tcp->streams() != 0 || h->tcp->time_wait_entries() != 0 || h->pool.held() != 0) return false;
    return true;
  };
  const bool all = until(baseline, 200 * kSec);
  const worker::Holdings h = holdings();
  EXPECT_TRUE(all) << "left: downstreams " << h.downstreams << " exchanges " << h.exchanges << " pairs " << h.pairs << " upstreams "
                   << h.upstreams << " (idle " << h.upstreams_idle << ") streams " << h.tcp_streams << " connections " << h.tcp_connections
                   << " syn " << h.syn_entries << " time-wait " << h.time_wait << " timers " << h.timers << " waiting " << h.waiting
                   << " arena chunks " << h.arena_chunks << " mbufs " << h.mbufs << " circuit units " << h.circuit_units
                   << "; client streams " << client.tcp->streams() << ", origin streams " << origins.tcp->streams();
  for (auto& w : workers) {
    EXPECT_EQ(w->proxy_counters().requests_active.get(), 0u);
    EXPECT_EQ(w->proxy_counters().connections_active.get(), 0u);
    EXPECT_EQ(w->proxy_counters().pairs_active.get(), 0u);
    for (uint32_t e = 0; e < 64; e++)
      if (const upstream::EndpointState* s = w->endpoints().find(e)) {
        EXPECT_EQ(s->active_requests.get(), 0u) << "endpoint " << e;
        EXPECT_EQ(s->active_connections.get(), 0u) << "endpoint " << e;
      }
  }
  if (options.mbufs_held >= 1000) {
    for (const Spin& s : spin_) EXPECT_LT(s.most, kSpinMax) << "turns on end that were called useful and moved no frame";
  }
  pass(5 * kSec);  // frames on the wires come to rest
  std::vector<MbufPool*> all_pools = pools_;
  all_pools.push_back(&client.pool);
  all_pools.push_back(&origins.pool);
  for (const MbufPool* p : all_pools) EXPECT_EQ(p->available(), p->size()) << "mbufs lost";
  for (const Line& l : log_) ADD_FAILURE() << "a log line that nobody expected: " << l.summary() << " " << l.path;
}

}  // namespace sluice::world
