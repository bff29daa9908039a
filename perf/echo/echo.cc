// sluice-echo: the ceiling of a port. Every frame received goes back with its MAC addresses swapped; nothing else happens between rx and
// tx, so what a gateway can do on this port on one core is below this figure.
//   sluice-echo PORT [SECONDS] [CPU]      e.g. sluice-echo auto:veth0 10 1
// Prints one line per second and a summary: frames each way, TSC cycles per echoed frame in turns that had frames, drops.
#include <rte_cycles.h>

#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "drivers/eal.h"
#include "drivers/port.h"

using namespace sluice;

namespace {
volatile std::sig_atomic_t stopped = 0;

int fail(const std::string& why) {
  std::fprintf(stderr, "sluice-echo: %s\n", why.c_str());
  return 1;
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return fail("usage: sluice-echo PORT [SECONDS] [CPU]");
  const uint64_t seconds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 10;
  const std::string cpu = argc > 3 ? argv[3] : "0";
  auto eal = drivers::Eal::start({.memory_mib = 128, .lcores = "0@" + cpu, .ports = {argv[1]}});
  if (!eal) return fail(eal.error());
  auto pool = MbufPool::create("echo", 16 * 1024, 1024, SOCKET_ID_ANY);
  if (!pool) return fail(pool.error());
  auto opened = drivers::open_port({.spec = argv[1], .pools = {&*pool}});
  if (!opened) return fail(opened.error());
  drivers::Port& port = **opened;
  std::printf("%s is %s (%s) on CPU %s; memory: %s\n", argv[1], port.info().device.c_str(), port.info().note.c_str(), cpu.c_str(),
              eal->summary().c_str());
  std::fflush(stdout);
  std::signal(SIGINT, [](int) { stopped = 1; });
  std::signal(SIGTERM, [](int) { stopped = 1; });

  const uint64_t hz = rte_get_tsc_hz(), start = rte_rdtsc();
  uint64_t next_line = start + hz, busy = 0, echoed = 0, before = 0;
  rte_mbuf* burst[kRxBurst];
  while (!stopped) {
    const uint64_t begin = rte_rdtsc();
    const unsigned got = port.rx(0, burst, kRxBurst);
    for (unsigned i = 0; i < got; i++) {
      auto* mac = rte_pktmbuf_mtod(burst[i], uint8_t*);
      uint8_t other[6];
      std::memcpy(other, mac, 6);
      std::memcpy(mac, mac + 6, 6);
      std::memcpy(mac + 6, other, 6);
    }
    unsigned taken = 0;
    for (unsigned tries = 0; taken < got && tries < 100; tries++) taken += port.tx(0, burst + taken, got - taken);
    for (unsigned i = taken; i < got; i++) rte_pktmbuf_free(burst[i]);
    echoed += taken;
    const uint64_t end = rte_rdtsc();
    if (got > 0) busy += end - begin;
    if (end >= next_line) {
      std::printf("%.0f frames/s\n", double(echoed - before));
      std::fflush(stdout);
      before = echoed;
      next_line += hz;
    }
    if (end - start >= seconds * hz) break;
  }
  const double elapsed = double(rte_rdtsc() - start) / double(hz);
  const auto& c = port.counters(0);
  std::printf("echoed %" PRIu64 " frames in %.1f s (%.0f/s), %.0f TSC cycles a frame, received %" PRIu64 ", refused %" PRIu64
              ", dropped %" PRIu64 "\n",
              echoed, elapsed, double(echoed) / elapsed, echoed ? double(busy) / double(echoed) : 0.0, c.rx_frames.get(),
              c.tx_refused.get(), c.drops.total());
  opened->reset();
}
