// LLVMFuzzerInitialize of every fuzz target that needs mbufs: EAL without hugepages, ports or a shared name.
#include <rte_eal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const std::string prefix = "--file-prefix=sluice-fuzz-" + std::to_string(getpid());
  const char* eal[] = {"fuzz", "--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level=error", prefix.c_str()};
  if (rte_eal_init(int(std::size(eal)), const_cast<char**>(eal)) >= 0) return 0;
  std::fprintf(stderr, "EAL does not start; run as a user that may write /var/run/dpdk\n");
  std::exit(1);
}
