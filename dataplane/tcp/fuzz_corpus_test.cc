// The corpora of this folder's fuzz targets, replayed and mutated (segment_fuzz.cc and ethernet_to_tcp_fuzz.cc have the oracles).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "dataplane/base/bytes.h"
#include "dataplane/base/rng.h"

namespace sluice::tcp {

int fuzz_segment(Bytes input);
int fuzz_ethernet_to_tcp(Bytes input);

namespace {

using Target = int (*)(Bytes);
using Input = std::vector<uint8_t>;

std::vector<std::pair<std::string, Input>> corpus(const std::string& name) {
  std::vector<std::pair<std::string, Input>> all;
  for (const auto& entry : std::filesystem::directory_iterator(FUZZ_CORPUS "/" + name)) {
    std::ifstream f(entry.path(), std::ios::binary);
    all.emplace_back(entry.path().filename().string(), Input{std::istreambuf_iterator<char>(f), {}});
  }
  std::ranges::sort(all);
  return all;
}

void replay(const std::string& name, Target target, unsigned files_min) {
  const auto all = corpus(name);
  EXPECT_GE(all.size(), files_min);
  for (const auto& [file, bytes] : all) {
    SCOPED_TRACE(file);
    target(bytes);
  }
}

// Bytes changed, cut out and doubled.
void mutate(const std::string& name, Target target, int rounds) {
  const uint64_t seed = 5;
  Rng rng(seed);
  for (const auto& [file, bytes] : corpus(name))
    for (int round = 0; round < rounds; round++) {
      SCOPED_TRACE(file + " seed " + std::to_string(seed) + " round " + std::to_string(round));
      Input mutant = bytes;
      for (uint32_t n = 1 + rng.below(4); n > 0 && !mutant.empty(); n--) {
        const uint32_t at = rng.below(uint32_t(mutant.size())), run = 1 + rng.below(uint32_t(mutant.size()) - at);
        switch (rng.below(6)) {
          case 0: mutant.erase(mutant.begin() + at, mutant.begin() + at + std::min(run, 8u)); break;
          case 1: {
            const Input part(mutant.begin() + at, mutant.begin() + at + run);
            mutant.insert(mutant.begin() + at, part.begin(), part.end());
            break;
          }
          default: mutant[at] = uint8_t(rng.next()); break;
        }
      }
      target(mutant);
    }
}

TEST(SegmentFuzz, TheCorpusRunsWithoutAFailure) { replay("segment", fuzz_segment, 15); }
TEST(SegmentFuzz, MutationsOfTheCorpusKeepTheOracles) { mutate("segment", fuzz_segment, 300); }
TEST(EthernetToTcpFuzz, TheCorpusRunsWithoutAFailure) { replay("ethernet_to_tcp", fuzz_ethernet_to_tcp, 15); }
TEST(EthernetToTcpFuzz, MutationsOfTheCorpusKeepTheOracles) { mutate("ethernet_to_tcp", fuzz_ethernet_to_tcp, 100); }

}  // namespace
}  // namespace sluice::tcp
