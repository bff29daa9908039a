// TCP between two stacks in memory: cycles per full segment and per ACK, out of the one that sends it and into the other; and per
// connection opened and closed. The wire is a loop that finishes checksums in software, as drivers/ does for a port without offloads; its
// cycles are not counted. output() calls that give nothing and advance() are not counted either.
// And the look-up of a connection by its four-tuple, of those that are there and those that are not: "warm", the same 64 again and again;
// "cold", 64 others after the caches were filled with something else; the median of the batches of 64, since a batch is a microsecond.
#include <rte_eal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/rng.h"
#include "dataplane/packet/checksum.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/table.h"
#include "dataplane/tcp/tcb.h"
#include "perf/micro/bench.h"

namespace sluice {
namespace {

struct Side {
  std::unique_ptr<MbufPool> pool;
  DropCounters drops;
  std::unique_ptr<tcp::Stack> stack;
  unsigned long long output_cycles = 0, arrival_cycles = 0;  // of what this side sent: here, and at the other
  uint64_t segments = 0;
};

struct Wire {
  Side a, b;
  Now now{.mono_us = 1'000'000, .wall_us = 0};

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
    if (n == 0) return false;
    from.output_cycles += __rdtsc() - t0;
    from.segments += n;
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
    from.arrival_cycles += __rdtsc() - t0;
    return true;
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
  for (Side* side : {&w.a, &w.b}) side->output_cycles = side->arrival_cycles = side->segments = 0;
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
  for (const auto& [side, what] : {std::pair{&w.a, "segment"}, std::pair{&w.b, "ack"}}) {
    state.counters[std::string("tsc_output_per_") + what] = double(side->output_cycles) / double(side->segments);
    state.counters[std::string("tsc_input_per_") + what] = double(side->arrival_cycles) / double(side->segments);
  }
}
BENCHMARK(Transfer);

void OpenAndClose(benchmark::State& state) {
  Wire w;
  const bench::Tsc tsc(state);
  for (auto _ : state) {
    const StreamId c = w.a.stack->connect(kClient, kServer, 0, w.now);
    for (int i = 0; i < 3; i++) w.turn();
    const StreamId s = opened(w.b);
    SLUICE_ASSERT(c && s);
    w.a.stack->close(c);
    w.turn();
    w.b.stack->close(s);
    w.now.mono_us += 2 * kMs;
    w.turn();
  }
}
BENCHMARK(OpenAndClose);

// The connection table as Stack has it: as many buckets as connections may be, kTcpConnectionsMax.
struct Connections {
  struct Entries {
    tcp::TcbSlab& slab;
    const tcp::TupleKey& key(uint32_t i) const { return slab.at(i)->key; }
    uint32_t& hash_next(uint32_t i) const { return slab.at(i)->hash_next; }
  };
  tcp::TcbSlab slab{kTcpConnectionsMax};
  Entries entries{slab};
  tcp::TupleTable<Entries> table{kTcpConnectionsMax, {1, 2}, entries};

  static tcp::TupleKey key(uint32_t i) {
    return tcp::key_of({{*IpAddress::parse("10.0.0.2"), 80}, {Ipv4{0x0a000000 + i / 32'768}, uint16_t(10'000 + i % 32'768)}});
  }
  explicit Connections(uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
      const StreamId id = slab.alloc();
      slab.get(id)->key = key(i);
      table.insert(id.index);
    }
  }
  ~Connections() {
    slab.for_each([this](StreamId id, tcp::Tcb&) { slab.free(id); });
  }
};

void fill_caches() {
  static std::vector<uint64_t> other(128 * 1024 * 1024 / 8, 1);
  for (size_t i = 0; i < other.size(); i += 8) other[i]++;
}

void LookUp(benchmark::State& state, bool hit, bool cold) {
  const uint32_t n = uint32_t(state.range(0));
  Connections c(n);
  Rng rng(1);
  tcp::TupleKey keys[64];
  std::vector<unsigned long long> batches;
  int64_t found = 0;
  bool first = true;
  for (auto _ : state) {
    if (cold || first) {
      for (auto& k : keys) k = Connections::key(rng.below(n) + (hit ? 0 : 1 << 24));
      first = false;
    }
    if (cold) fill_caches();
    benchmark::DoNotOptimize(keys);
    const auto t0 = __rdtsc();
    for (const auto& k : keys) found += c.table.find(k) != tcp::kNoIndex;
    batches.push_back(__rdtsc() - t0);
  }
  SLUICE_ASSERT(found == (hit ? 64 * state.iterations() : 0));
  std::ranges::nth_element(batches, batches.begin() + ptrdiff_t(batches.size() / 2));
  state.counters["tsc"] = double(batches[batches.size() / 2]) / 64;
}
BENCHMARK_CAPTURE(LookUp, hit_warm, true, false)->Arg(1024)->Arg(65'536)->Iterations(20'000);
BENCHMARK_CAPTURE(LookUp, miss_warm, false, false)->Arg(1024)->Arg(65'536)->Iterations(20'000);
BENCHMARK_CAPTURE(LookUp, hit_cold, true, true)->Arg(1024)->Arg(65'536)->Iterations(50);
BENCHMARK_CAPTURE(LookUp, miss_cold, false, true)->Arg(1024)->Arg(65'536)->Iterations(50);

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
