// The ceiling of a port: what a gateway can do on it on one core is below these figures.
//   sluice-echo echo PORT [SECONDS] [CPU]          every frame received goes back with its MAC addresses swapped; nothing else happens
//   sluice-echo blast PORT BYTES [SECONDS] [CPU]   the other side: sends frames of BYTES, at most kOutstanding ahead of what comes back
// e.g. echo auto:veth0 10 1, and blast auto:veth1 64 9 0 on the peer. Each prints one line per second and a summary: frames, and TSC cycles
// a frame in turns that had frames.
#include <rte_cycles.h>

#include <algorithm>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "drivers/eal.h"
#include "drivers/port.h"

using namespace sluice;

namespace {

constexpr unsigned kOutstanding = 512;   // below the rings of every port, so that nothing is lost for want of a descriptor
constexpr uint16_t kEtherType = 0x88b5;  // IEEE: local experimental
volatile std::sig_atomic_t stopped = 0;

int fail(const std::string& why) {
  std::fprintf(stderr, "sluice-echo: %s\n", why.c_str());
  return 1;
}

// A turn of the echo: frames returned.
unsigned echo(drivers::Port& port) {
  rte_mbuf* burst[kRxBurst];
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
  return taken;
}

class Blast {
 public:
  Blast(drivers::Port& port, MbufPool& pool, unsigned bytes) : port_(port), pool_(pool), bytes_(bytes) {}
  // A turn: frames that came back. What has not come back within 20 ms is taken for lost.
  unsigned turn(uint64_t now, uint64_t hz) {
    rte_mbuf* burst[kRxBurst];
    const unsigned got = port_.rx(0, burst, kRxBurst);
    for (unsigned i = 0; i < got; i++) rte_pktmbuf_free(burst[i]);
    outstanding_ -= std::min(got, outstanding_);
    if (got > 0) heard_ = now;
    if (now - heard_ > hz / 50) outstanding_ = 0, heard_ = now;
    unsigned n = 0;
    for (; n < kRxBurst && outstanding_ + n < kOutstanding; n++) {
      if ((burst[n] = pool_.alloc_control()) == nullptr) break;
      auto* p = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(burst[n], uint16_t(bytes_)));
      std::memset(p, 0, bytes_);
      p[0] = p[6] = 2, p[11] = 1;  // locally administered addresses
      p[12] = kEtherType >> 8, p[13] = kEtherType & 0xff;
    }
    const unsigned taken = n > 0 ? port_.tx(0, burst, n) : 0;
    for (unsigned i = taken; i < n; i++) rte_pktmbuf_free(burst[i]);
    outstanding_ += taken;
    return got;
  }

 private:
  drivers::Port& port_;
  MbufPool& pool_;
  const unsigned bytes_;
  unsigned outstanding_ = 0;
  uint64_t heard_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  const bool blasts = verb == "blast";
  if ((!blasts && verb != "echo") || argc < (blasts ? 4 : 3))
    return fail("usage: sluice-echo echo PORT [SECONDS] [CPU]   or   sluice-echo blast PORT BYTES [SECONDS] [CPU]");
  const unsigned bytes = blasts ? unsigned(std::strtoul(argv[3], nullptr, 10)) : 0;
  if (blasts && (bytes < 60 || bytes > 1514)) return fail("BYTES is 60 to 1514, without the frame check sequence");
  const int more = blasts ? 4 : 3;
  const uint64_t seconds = argc > more ? std::strtoull(argv[more], nullptr, 10) : 10;
  const std::string cpu = argc > more + 1 ? argv[more + 1] : "0";
  auto eal = drivers::Eal::start({.memory_mib = 128, .lcores = "0@" + cpu, .ports = {argv[2]}});
  if (!eal) return fail(eal.error());
  auto pool = MbufPool::create("echo", 16 * 1024, 1024, SOCKET_ID_ANY);
  if (!pool) return fail(pool.error());
  auto opened = drivers::open_port({.spec = argv[2], .pools = {&*pool}});
  if (!opened) return fail(opened.error());
  drivers::Port& port = **opened;
  std::printf("%s is %s (%s) on CPU %s; memory: %s\n", argv[2], port.info().device.c_str(), port.info().note.c_str(), cpu.c_str(),
              eal->summary().c_str());
  std::fflush(stdout);
  std::signal(SIGINT, [](int) { stopped = 1; });
  std::signal(SIGTERM, [](int) { stopped = 1; });

  Blast blast(port, *pool, bytes);
  const uint64_t hz = rte_get_tsc_hz(), start = rte_rdtsc();
  uint64_t next_line = start + hz, busy = 0, frames = 0, before = 0;
  while (!stopped) {
    const uint64_t begin = rte_rdtsc();
    const unsigned n = blasts ? blast.turn(begin, hz) : echo(port);
    frames += n;
    const uint64_t end = rte_rdtsc();
    if (n > 0) busy += end - begin;
    if (end >= next_line) {
      std::printf("%.0f frames/s\n", double(frames - before));
      std::fflush(stdout);
      before = frames;
      next_line += hz;
    }
    if (end - start >= seconds * hz) break;
  }
  const double elapsed = double(rte_rdtsc() - start) / double(hz);
  const auto& c = port.counters(0);
  std::printf("%s %" PRIu64 " frames in %.1f s (%.0f/s), %.0f TSC cycles a frame, received %" PRIu64 ", refused %" PRIu64
              ", dropped %" PRIu64 "\n",
              blasts ? "came back" : "echoed", frames, elapsed, double(frames) / elapsed, frames ? double(busy) / double(frames) : 0.0,
              c.rx_frames.get(), c.tx_refused.get(), c.drops.total());
  opened->reset();
}
