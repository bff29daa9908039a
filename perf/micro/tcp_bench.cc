// TCP between two stacks in memory: cycles per full segment in and out of the sender and the receiver, and per connection opened and
// closed. The wire is a loop that finishes checksums in software, as drivers/ does for a port without offloads; its cycles are not counted.
#include <rte_eal.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/packet/checksum.h"
#include "dataplane/tcp/stack.h"
#include "perf/micro/bench.h"

namespace sluice {
namespace {

struct Side {
  std::unique_ptr<MbufPool> pool;
  DropCounters drops;
  std::unique_ptr<tcp::Stack> stack;
};

struct Wire {
  Side a, b;
  Now now{.mono_us = 1'000'000, .wall_us = 0};
  unsigned long long out_cycles = 0, in_cycles = 0;
  uint64_t segments = 0;

  Wire() {
    int n = 0;
    for (Side* s : {&a, &b}) {
      auto pool = MbufPool::create("bench" + std::to_string(n) + std::to_string(reinterpret_cast<uintptr_t>(this) >> 4 & 0xffff), 8192,
                                   6000, SOCKET_ID_ANY);
      SLUICE_ASSERT(pool.has_value());
      s->pool = std::make_unique<MbufPool>(std::move(*pool));
      tcp::Config c;
      c.connections_max = 1024;
      c.syn_max = c.time_wait_max = 1024;
      c.time_wait = 1 * kMs;
      s->stack = std::make_unique<tcp::Stack>(
          c, *s->pool, s->drops, tcp::Secrets{.isn = {1, uint64_t(n)}, .table = {2, 3}, .ports = {4, 5}, .timestamps = {6, 7}}, now);
      n++;
    }
    (void)b.stack->listen({{}, 80});
  }
  bool carry(Side& from, Side& to) {
    L4Packet packets[64];
    auto t0 = __rdtsc();
    const unsigned n = from.stack->output(packets, now);
    out_cycles += __rdtsc() - t0;
    segments += n;
    unsigned m = 0;
    for (unsigned i = 0; i < n; i++) {
      rte_mbuf* copy = to.pool->alloc_control();
      SLUICE_ASSERT(copy != nullptr);
      const Bytes bytes = bytes_of(static_cast<const rte_mbuf*>(packets[i].m));
      uint8_t* p = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(copy, uint16_t(bytes.size())));
      std::memcpy(p, bytes.data(), bytes.size());
      const uint16_t sum = uint16_t(~checksum_fold(checksum_add({p, bytes.size()})));
      std::memcpy(p + 16, &sum, 2);
      rte_pktmbuf_free(packets[i].m);
      packets[m++].m = copy;
    }
    t0 = __rdtsc();
    to.stack->input({packets, m}, now);
    in_cycles += __rdtsc() - t0;
    return n > 0;
  }
  void turn() {
    now.mono_us += 10;
    a.stack->advance(now);
    b.stack->advance(now);
    while (carry(a, b) | carry(b, a)) {
    }
  }
};

StreamId opened(Side& s) {
  ReadyStream r[16];
  StreamId id;
  while (const unsigned n = s.stack->poll_events(r))
    for (unsigned i = 0; i < n; i++)
      if (r[i].events & kOpened) id = r[i].id;
  return id;
}

const SocketAddress kClient{*IpAddress::parse("10.0.0.1"), 0}, kServer{*IpAddress::parse("10.0.0.2"), 80};

void Transfer(benchmark::State& state) {
  Wire w;
  const StreamId c = w.a.stack->connect(kClient, kServer, 0, w.now);
  for (int i = 0; i < 4; i++) w.turn();
  const StreamId s = opened(w.b);
  std::vector<uint8_t> data(64 * 1024, 'x');
  for (int i = 0; i < 50; i++) {  // out of slow start
    Chain chain;
    (void)w.a.pool->append_copy(chain, data, w.a.stack->segment_bytes(c));
    w.a.stack->send(c, std::move(chain));
    w.turn();
    while (const uint32_t n = w.b.stack->readable(s).bytes) w.b.stack->consume(s, n);
  }
  w.out_cycles = w.in_cycles = w.segments = 0;
  uint64_t bytes = 0;
  for (auto _ : state) {
    Chain chain;
    (void)w.a.pool->append_copy(chain, data, w.a.stack->segment_bytes(c));
    w.a.stack->send(c, std::move(chain));
    w.turn();
    while (const uint32_t n = w.b.stack->readable(s).bytes) w.b.stack->consume(s, n);
    bytes += data.size();
  }
  state.SetBytesProcessed(int64_t(bytes));
  state.counters["tsc_output_per_segment"] = double(w.out_cycles) / double(w.segments);
  state.counters["tsc_input_per_segment"] = double(w.in_cycles) / double(w.segments);
}
BENCHMARK(Transfer);

void OpenAndClose(benchmark::State& state) {
  Wire w;
  const bench::Tsc tsc(state);
  for (auto _ : state) {
    const StreamId c = w.a.stack->connect(kClient, kServer, 0, w.now);
    for (int i = 0; i < 3; i++) w.turn();
    const StreamId s = opened(w.b);
    w.a.stack->close(c);
    w.turn();
    w.b.stack->close(s);
    w.now.mono_us += 2 * kMs;
    w.turn();
  }
}
BENCHMARK(OpenAndClose);

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const std::string prefix = "--file-prefix=sluice-bench-" + std::to_string(getpid());
  const char* eal[] = {argv[0],       "--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--log-level=error", "--lcores=0@(0-1)",
                       prefix.c_str()};
  if (rte_eal_init(int(std::size(eal)), const_cast<char**>(eal)) < 0) return 1;
  benchmark::RunSpecifiedBenchmarks();
  const std::filesystem::path own = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  std::error_code ignored;
  std::filesystem::remove_all(own, ignored);
  return 0;
}
