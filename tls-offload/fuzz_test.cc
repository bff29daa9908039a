// The corpus of tls_fuzz.cc and mutations of it, in the ordinary test run.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "dataplane/base/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::tls {
namespace {

TEST(TlsFuzz, TheCorpusAndItsMutationsKeepTheOracles) {
  const uint64_t seed = 9;
  Rng rng(seed);
  unsigned files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/tls")) {
    std::ifstream f(entry.path(), std::ios::binary);
    const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(f), {}};
    for (int round = 0; round < 60; round++) {
      SCOPED_TRACE(entry.path().string() + " seed " + std::to_string(seed) + " round " + std::to_string(round));
      std::vector<uint8_t> mutant = bytes;
      for (uint32_t n = round == 0 ? 0 : 1 + rng.below(4); n > 0; n--) mutant[rng.below(uint32_t(mutant.size()))] = uint8_t(rng.next());
      LLVMFuzzerTestOneInput(mutant.data(), mutant.size());
    }
    files++;
  }
  EXPECT_GE(files, 10u);
}

}  // namespace
}  // namespace sluice::tls
