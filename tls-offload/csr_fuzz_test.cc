// The corpus of csr_fuzz.cc and mutations of it, in the ordinary test run.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "dataplane/base/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::tls {
namespace {

TEST(CsrFuzz, TheCorpusAndItsMutationsKeepTheOracles) {
  const uint64_t seed = 11;
  Rng rng(seed);
  unsigned files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/csr")) {
    std::ifstream f(entry.path(), std::ios::binary);
    const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(f), {}};
    for (int round = 0; round < 200; round++) {
      SCOPED_TRACE(entry.path().string() + " seed " + std::to_string(seed) + " round " + std::to_string(round));
      std::vector<uint8_t> mutant = bytes;
      for (uint32_t n = round == 0 ? 0 : 1 + rng.below(4); n > 0 && mutant.size() > 1; n--) {
        const uint32_t at = 1 + rng.below(uint32_t(mutant.size() - 1));
        if (rng.chance(0.8)) mutant[at] = uint8_t(rng.next());
        else mutant.erase(mutant.begin() + at);
      }
      LLVMFuzzerTestOneInput(mutant.data(), mutant.size());
    }
    files++;
  }
  EXPECT_GE(files, 10u);
}

}  // namespace
}  // namespace sluice::tls
