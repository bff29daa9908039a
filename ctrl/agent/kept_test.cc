#include "ctrl/agent/kept.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "dataplane/base/rng.h"

namespace sluice::agent {
namespace {
namespace fs = std::filesystem;

struct KeptFiles : testing::Test {
  fs::path dir;
  void SetUp() override {
    char name[] = "/tmp/sluice-kept-XXXXXX";
    dir = ::mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(dir); }
  std::string read(const char* f) {
    std::ifstream in(dir / f, std::ios::binary);
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
  }
  void write(const char* f, const std::string& bytes) { std::ofstream(dir / f, std::ios::binary | std::ios::trunc) << bytes; }
};

std::vector<KeptResource> world(int n) {
  return {{xds::Type::kCluster, "c" + std::to_string(n), "v", std::string("\0\x01\xff", 3)},
          {xds::Type::kRoute, "", "", ""},
          {xds::Type::kEndpoint, "e", "", std::string(1000, 'e')}};
}

TEST_F(KeptFiles, WhatIsSavedIsLoaded) {
  const Kept kept(dir / "sub", "me");
  ASSERT_TRUE(kept.save(world(1)));
  const auto loaded = kept.load();
  EXPECT_EQ(loaded.resources, world(1));
  EXPECT_TRUE(loaded.problems.empty());
  struct stat st;
  ASSERT_EQ(::stat(loaded.from.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat((dir / "sub").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
}

TEST_F(KeptFiles, NothingKeptIsNoProblem) {
  const auto loaded = Kept(dir, "me").load();
  EXPECT_TRUE(loaded.from.empty());
  EXPECT_TRUE(loaded.problems.empty());
}

TEST_F(KeptFiles, TheOlderGenerationServesWhenTheNewestIsDamaged) {
  const Kept kept(dir, "me");
  ASSERT_TRUE(kept.save(world(1)));
  ASSERT_TRUE(kept.save(world(2)));
  ASSERT_TRUE(kept.save(world(3)));
  EXPECT_EQ(kept.load().resources, world(3));
  const std::string good = read("resources.1");
  write("resources.1", good.substr(0, good.size() / 2));
  auto loaded = kept.load();
  EXPECT_EQ(loaded.resources, world(2));
  ASSERT_EQ(loaded.problems.size(), 1u);
  EXPECT_NE(loaded.problems[0].find("resources.1' is damaged"), std::string::npos) << loaded.problems[0];
  fs::remove(dir / "resources.1");  // a crash between the two renames
  loaded = kept.load();
  EXPECT_EQ(loaded.resources, world(2));
  EXPECT_TRUE(loaded.problems.empty());
}

TEST_F(KeptFiles, BothDamagedIsAnEmptyWorldWithTwoReasons) {
  const Kept kept(dir, "me");
  ASSERT_TRUE(kept.save(world(1)));
  ASSERT_TRUE(kept.save(world(2)));
  write("resources.1", "");
  write("resources.2", "nonsense");
  const auto loaded = kept.load();
  EXPECT_TRUE(loaded.from.empty());
  EXPECT_TRUE(loaded.resources.empty());
  EXPECT_EQ(loaded.problems.size(), 2u);
}

TEST_F(KeptFiles, EveryTruncationAndEveryBitFlipIsFound) {
  const std::string file = encode_kept("me", world(1));
  for (size_t n = 0; n < file.size(); n++) ASSERT_FALSE(decode_kept(file.substr(0, n), "me")) << n;
  for (size_t bit = 0; bit < file.size() * 8; bit++) {
    std::string flipped = file;
    flipped[bit / 8] = char(uint8_t(flipped[bit / 8]) ^ (1u << (bit % 8)));
    ASSERT_FALSE(decode_kept(flipped, "me")) << bit;
  }
  ASSERT_FALSE(decode_kept(file + "x", "me"));
  ASSERT_TRUE(decode_kept(file, "me"));
}

// A forged file: its checksum is right, its lengths lie. The reader must not leave its bounds (the sanitizer build watches).
TEST_F(KeptFiles, LengthsThatLieUnderARightChecksumStayInBounds) {
  Rng rng(20261124);
  const std::string file = encode_kept("me", world(1));
  int refused = 0;
  for (int i = 0; i < 20000; i++) {
    std::string body = file.substr(0, file.size() - kKeptChecksumBytes);
    for (uint32_t n = 1 + rng.below(4); n > 0; n--) body[8 + rng.below(uint32_t(body.size() - 8))] = char(rng.next());
    refused += !decode_kept(body + kept_checksum(body), "me");
  }
  EXPECT_GT(refused, 100);
}

TEST_F(KeptFiles, AnotherNodesFileIsNotUsed) {
  ASSERT_TRUE(Kept(dir, "me").save(world(1)));
  const auto loaded = Kept(dir, "you").load();
  EXPECT_TRUE(loaded.from.empty());
  EXPECT_EQ(loaded.problems.size(), 1u);
}

TEST_F(KeptFiles, AFolderThatCannotBeMadeIsAnErrorAndLeftoversOfACrashAreNot) {
  write("file", "x");
  const auto bad = Kept(dir / "file" / "sub", "me").save(world(1));
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().find("cannot make the folder"), std::string::npos);
  write("resources.new", "half a file");
  EXPECT_TRUE(Kept(dir, "me").save(world(1)));
  EXPECT_EQ(Kept(dir, "me").load().resources, world(1));
}

}  // namespace
}  // namespace sluice::agent
