// tcp_sim --seeds N --first-seed S [-v]: one world per seed (tcp_world.h). Prints every seed that fails; the last line is the count; exit 0
// only if all pass.
#include <rte_eal.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "tests/sim/tcp_world.h"

namespace {

volatile uint64_t seed_now = 0;

// A failed assertion says which seed it was.
void say_seed(int) {
  std::fprintf(stderr, "seed %lu FAILED by an assertion\n  again: tcp_sim --seeds 1 --first-seed %lu\n", seed_now, seed_now);
  std::signal(SIGABRT, SIG_DFL);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seeds = 300, first = 1;
  bool verbose = false;
  for (int i = 1; i < argc; i++) {
    const std::string a = argv[i];
    if (a == "-v") verbose = true;
    else if (a == "--seeds" && i + 1 < argc) seeds = std::strtoull(argv[++i], nullptr, 10);
    else if (a == "--first-seed" && i + 1 < argc) first = std::strtoull(argv[++i], nullptr, 10);
    else return std::fprintf(stderr, "usage: tcp_sim [--seeds N] [--first-seed S] [-v]\n"), 2;
  }
  if (seeds == 0) return std::fprintf(stderr, "tcp_sim: --seeds is not a number above 0\n"), 2;
  const std::string prefix = "--file-prefix=sluice-sim-" + std::to_string(getpid());
  const char* eal[] = {argv[0],       "--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--log-level=error", "--lcores=0@(0-1)",
                       prefix.c_str()};
  if (rte_eal_init(int(std::size(eal)), const_cast<char**>(eal)) < 0) return std::fprintf(stderr, "EAL does not start\n"), 2;
  std::signal(SIGABRT, say_seed);
  uint64_t failed = 0, segments = 0, bytes = 0;
  {
    auto a = sluice::MbufPool::create("sim-a", 16 * 1024, 12 * 1024, 0), b = sluice::MbufPool::create("sim-b", 16 * 1024, 12 * 1024, 0);
    if (!a || !b) return std::fprintf(stderr, "%s\n", (!a ? a.error() : b.error()).c_str()), 2;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
      seed_now = seed;
      const auto r = sluice::sim::run_tcp_world(seed, *a, *b);
      segments += r.segments;
      bytes += r.bytes;
      if (verbose && r.ok) std::printf("seed %lu: %lu bytes, %lu segments, %lu us\n", seed, r.bytes, r.segments, r.virtual_us);
      if (r.ok) continue;
      failed++;
      std::printf("seed %lu FAILED: %s\n  again: tcp_sim --seeds 1 --first-seed %lu\n", seed, r.what.c_str(), seed);
      if (a->available() != a->size() || b->available() != b->size()) {
        std::printf("  the pools are not whole after it; the remaining seeds are not run\n");
        failed += first + seeds - 1 - seed;
        break;
      }
    }
  }
  const std::filesystem::path own = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  std::error_code ignored;
  std::filesystem::remove_all(own, ignored);
  std::printf("%lu bytes in %lu segments from seed %lu\n%lu passed, %lu failed\n", bytes, segments, first, seeds - failed, failed);
  return failed == 0 ? 0 : 1;
}
