// The fuzz target on the demo's files and istiod's inputs, whole and mutated from a printed seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::plane {
namespace {

TEST(Fuzz, MutatedYamlIsRefusedOrTranslated) {
  std::vector<std::string> corpus;
  const char* golden = std::getenv("SLUICE_GOLDEN");
  std::vector<std::string> roots;
  if (golden != nullptr)
    for (const char* folder : {"/istiod", "/istiod-invalid", "/istio-gateway-api"}) roots.push_back(std::string(golden) + folder);
  for (const char* root : {"/configs/demo/istio", "/tests/fuzz/corpus/istio", "/../shared/golden/istiod", "/../../shared/golden/istiod",
                           "/../shared/golden/istiod-invalid", "/../../shared/golden/istiod-invalid", "/../shared/golden/istio-gateway-api",
                           "/../../shared/golden/istio-gateway-api"})
    roots.push_back(SLUICE_SOURCE_ROOT + std::string(root));
  for (const std::string& root : roots) {
    std::error_code e;
    for (const auto& f : std::filesystem::recursive_directory_iterator(root, e)) {
      if (f.path().extension() != ".yaml") continue;
      std::ifstream in(f.path());
      corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
  }
  ASSERT_FALSE(corpus.empty());
  for (const std::string& c : corpus) LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(c.data()), c.size());
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 rng(seed);
  // Words that sit at the edges of the rules.
  static constexpr const char* kWords[] = {"*",
                                           "\"\"",
                                           "null",
                                           "-1",
                                           "0",
                                           "4294967296",
                                           "{}",
                                           "[]",
                                           "&a",
                                           "*a",
                                           "0s",
                                           "-5s",
                                           "99999999h",
                                           "a/b/c",
                                           "{**}",
                                           "::/129",
                                           "..",
                                           "~",
                                           "|\n",
                                           "exact",
                                           "regex: '('",
                                           "group: \"\"",
                                           "RegularExpression",
                                           "Selector",
                                           "Passthrough",
                                           "../../etc"};
  for (int i = 0; i < 3000; i++) {
    std::string s = corpus[rng() % corpus.size()];
    for (unsigned n = 1 + rng() % 4; n > 0 && !s.empty(); n--) {
      const size_t at = rng() % s.size();
      switch (rng() % 4) {
        case 0: s[at] = char(rng()); break;
        case 1: s.erase(at, 1 + rng() % 12); break;
        case 2: s.insert(at, kWords[rng() % std::size(kWords)]); break;
        default: {  // a value is replaced
          const size_t colon = s.find(": ", at);
          if (colon == std::string::npos) break;
          const size_t end = s.find_first_of(",}\n]", colon + 2);
          s.replace(colon + 2, end == std::string::npos ? std::string::npos : end - colon - 2, kWords[rng() % std::size(kWords)]);
        }
      }
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(s.data()), s.size());
  }
}

}  // namespace
}  // namespace sluice::plane
