// main() of every test that needs mbufs: brings EAL up without hugepages, ports or a shared name, then runs gtest.
#include <gtest/gtest.h>
#include <rte_eal.h>
#include <unistd.h>

#include <filesystem>
#include <string>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string prefix = "--file-prefix=sluice-test-" + std::to_string(getpid());
  const std::string lcores = "--lcores=0@(0-" + std::to_string(sysconf(_SC_NPROCESSORS_ONLN) - 1) + ")";  // not all tests on one CPU
  const char* eal[] = {argv[0],          "--no-huge",         "-m",           "512",         "--no-pci",
                       "--no-telemetry", "--log-level=error", lcores.c_str(), prefix.c_str()};
  if (rte_eal_init(int(std::size(eal)), const_cast<char**>(eal)) < 0) {
    std::fprintf(stderr, "EAL does not start; run as a user that may write /var/run/dpdk\n");
    return 1;
  }
  const int result = RUN_ALL_TESTS();
  const std::filesystem::path own = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  std::error_code ignored;
  std::filesystem::remove_all(own, ignored);
  return result;
}
