// The fuzz target patch_fuzz on its corpus, whole and mutated.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "dataplane/base/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::plane {
namespace {

TEST(PatchFuzz, AnyPatchesAreRefusedOrPatch) {
  std::vector<std::string> corpus;
  for (const auto& f : std::filesystem::directory_iterator(std::string(SLUICE_SOURCE_ROOT) + "/tests/fuzz/corpus/envoy_filter")) {
    std::ifstream in(f.path());
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  ASSERT_FALSE(corpus.empty());
  std::ranges::sort(corpus);
  for (const std::string& c : corpus) LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(c.data()), c.size());
  const char* given = std::getenv("SLUICE_FUZZ_SEED");
  const uint64_t seed = given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
  std::printf("seed %llu (SLUICE_FUZZ_SEED)\n", static_cast<unsigned long long>(seed));
  Rng rng(seed);
  const auto below = [&](size_t n) { return rng.below(uint32_t(n)); };
  for (int i = 0; i < 1500; i++) {
    std::string s = corpus[below(corpus.size())];
    const std::string& other = corpus[below(corpus.size())];
    for (uint32_t n = 1 + below(3); n > 0 && !s.empty(); n--) {
      const size_t at = below(s.size());
      switch (below(4)) {
        case 0: s[at] = char(rng.next()); break;
        case 1: s.erase(at, 1 + below(12)); break;
        case 2: s.insert(at, other.substr(below(other.size()), below(40))); break;
        default: {  // the end of another one
          const size_t comma = s.find(", ", at), theirs = other.find(", ", below(other.size()));
          if (comma != std::string::npos && theirs != std::string::npos) s = s.substr(0, comma) + other.substr(theirs);
        }
      }
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(s.data()), s.size());
  }
}

}  // namespace
}  // namespace sluice::plane
