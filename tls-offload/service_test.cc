// The threaded service against stock clients: many at once, from several workers, given up half-way, and stopped in the middle.
#include <chrono>
#include <random>
#include <thread>

#include "tls-offload/test_world.h"

namespace sluice::tls::test {
namespace {

std::shared_ptr<const ServerPolicy> policy() {
  static const Issued ca = make_ca("ca"), server = issue(&ca, {.common_name = "server", .sans = {dns("a.example.com")}});
  static const auto p = *ServerPolicy::make({.certificates = {server.pair()}});
  return p;
}
Now wall() { return {1, int64_t(time(nullptr)) * 1'000'000}; }

// A worker: `count` clients at once, a share of them given up at a random step. Returns how many were done.
unsigned work(Handshakes& port, unsigned count, uint32_t seed, double give_up) {
  struct One {
    std::unique_ptr<Client> client;
    HandshakeId id;
    bool over = false;
  };
  std::mt19937 rng(seed);
  std::vector<One> all(count);
  unsigned left = count, done = 0;
  for (unsigned i = 0; i < count; i++) {
    all[i].client = std::make_unique<Client>(ClientOptions{.version = i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION});
    all[i].id = port.begin(policy(), i);
    EXPECT_TRUE(bool(all[i].id));
    all[i].client->turn();
    port.step(all[i].id, as_bytes(all[i].client->take()), wall());
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (left > 0 && std::chrono::steady_clock::now() < deadline) {
    HandshakeAnswer a;
    if (!port.poll(a)) {
      std::this_thread::yield();
      continue;
    }
    One& one = all[a.cookie];
    EXPECT_FALSE(one.over);
    if (!a.send.empty()) one.client->give(as_text(a.send));
    one.client->turn();
    if (a.kind == HandshakeAnswer::Kind::kMore) {
      const bool first = rng() % 2 == 0;
      if (rng() % 100 < give_up * 100) {  // before, or with a step out
        if (!first) port.step(one.id, as_bytes(one.client->take()), wall());
        port.end(one.id);
        one.over = true;
        left--;
        continue;
      }
      port.step(one.id, as_bytes(one.client->take()), wall());
      continue;
    }
    EXPECT_EQ(a.kind, HandshakeAnswer::Kind::kDone) << a.error;
    EXPECT_TRUE(one.client->open());
    one.over = true;
    left--, done++;
  }
  EXPECT_EQ(left, 0u);
  return done;
}

void drain(Handshakes& port, const HandshakeService& service, unsigned worker) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  HandshakeAnswer a;
  while (service.in_flight(worker) > 0 && std::chrono::steady_clock::now() < deadline) {
    EXPECT_FALSE(port.poll(a));
    std::this_thread::yield();
  }
  EXPECT_EQ(service.in_flight(worker), 0u);
}

TEST(TlsHandshakeService, FinishesManyHandshakesOfSeveralWorkersAtOnce) {
  HandshakeService service({.threads = 2, .workers = 2, .handshakes_max = 64});
  unsigned done = 0;
  std::thread other([&] { done = work(service.port(1), 40, 1, 0); });
  EXPECT_EQ(work(service.port(0), 40, 2, 0), 40u);
  other.join();
  EXPECT_EQ(done, 40u);
  EXPECT_EQ(service.in_flight(0), 0u);
  EXPECT_GE(service.steps(), 160u);
  EXPECT_GT(service.cpu_time_us(), 0u);
}

TEST(TlsHandshakeService, GivesBackWhatIsGivenUpAtAnyStep) {
  HandshakeService service({.threads = 2, .workers = 1, .handshakes_max = 50});
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  for (uint32_t round = 0; round < 3; round++) {
    work(service.port(0), 50, seed + round, 0.6);
    drain(service.port(0), service, 0);
  }
  EXPECT_EQ(work(service.port(0), 50, 3, 0), 50u);  // every slot is there again
}

TEST(TlsHandshakeService, RefusesBeyondItsLimitAndForgetsStaleIds) {
  HandshakeService service({.threads = 1, .workers = 1, .handshakes_max = 3});
  Handshakes& port = service.port(0);
  HandshakeId ids[3];
  for (auto& id : ids) id = port.begin(policy(), 0);
  EXPECT_TRUE(bool(ids[2]));
  EXPECT_FALSE(bool(port.begin(policy(), 0)));
  port.end(ids[1]);
  port.end(ids[1]);
  port.step(ids[1], as_bytes("x"), wall());
  const HandshakeId again = port.begin(policy(), 0);
  EXPECT_TRUE(bool(again));
  EXPECT_FALSE(again == ids[1]);
  HandshakeAnswer a;
  EXPECT_FALSE(port.poll(a));
  EXPECT_EQ(service.in_flight(0), 3u);
}

TEST(TlsHandshakeService, StopsWithHandshakesInWork) {
  for (int i = 0; i < 5; i++) {
    HandshakeService service({.threads = 2, .workers = 1, .handshakes_max = 32});
    std::vector<std::unique_ptr<Client>> clients;
    for (int n = 0; n < 32; n++) {
      clients.push_back(std::make_unique<Client>(ClientOptions{}));
      clients.back()->turn();
      service.port(0).step(service.port(0).begin(policy(), 0), as_bytes(clients.back()->take()), wall());
    }
  }
}

TEST(TlsHandshakeService, CarriesALayer) {
  HandshakeService service({});
  FakeLower lower(test_pool());
  DropCounters drops;
  const Now now = wall();
  Layer layer(lower, test_pool(), service.port(0), drops, {.sessions_max = 4}, now);
  Client client({});
  const StreamId below = lower.open();
  client.turn();
  lower.arrive(below, client.take(), 1448);
  const StreamId id = layer.accept(below, policy(), now);
  bool opened = false;
  for (int i = 0; i < 5000 && !opened; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ReadyStream ready[4];
    for (unsigned n = lower.poll_events(ready), k = 0; k < n; k++) layer.on_lower(ready[k], now);
    layer.poll_handshakes(now);
    client.give(lower.take(below));
    client.turn();
    lower.arrive(below, client.take(), 1448);
    for (unsigned n = layer.poll_events(ready), k = 0; k < n; k++) opened |= (ready[k].events & kOpened) != 0;
  }
  EXPECT_TRUE(opened) << layer.error_text(id);
  layer.abort(id);
}

}  // namespace
}  // namespace sluice::tls::test
