#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "ctrl/log/console.h"
#include "ctrl/log/writer.h"
#include "dataplane/base/rng.h"

namespace sluice::log {
namespace {
namespace fs = std::filesystem;
using worker::LogRing;

struct TempDir {
  fs::path path;
  TempDir() {
    char name[] = "/tmp/sluice-log-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~TempDir() { fs::remove_all(path); }
};

std::string read(const fs::path& p) {
  std::ifstream in(p);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

TEST(LogRing, GivesBackEveryRecordInOrderAcrossManyWraps) {
  LogRing ring(4096);
  Rng rng(7);
  uint32_t written = 0, seen = 0;
  for (int round = 0; round < 2000; round++) {
    while (true) {
      const std::string line = std::to_string(written) + std::string(rng.below(300), 'x');
      if (!ring.write("p" + std::to_string(written % 3), line)) break;
      written++;
      if (rng.chance(0.2)) break;
    }
    ring.drain([&](std::string_view path, std::string_view line) {
      ASSERT_EQ(path, "p" + std::to_string(seen % 3));
      ASSERT_EQ(std::string(line.substr(0, line.find('x'))), std::to_string(seen));
      seen++;
    });
  }
  EXPECT_EQ(seen, written);
  EXPECT_GT(written, 3000u);
}

TEST(LogRing, RefusesWhatDoesNotFitAndCountsIt) {
  LogRing ring(4096);
  EXPECT_FALSE(ring.write("p", std::string(2000, 'x')));  // more than a quarter
  EXPECT_FALSE(ring.write(std::string(1025, 'p'), "x"));  // path over its limit
  EXPECT_EQ(ring.dropped(), 2u);
  int fit = 0;
  while (ring.write("p", std::string(500, 'x'))) fit++;
  EXPECT_EQ(fit, 8);
  EXPECT_EQ(ring.dropped(), 3u);
  EXPECT_EQ(ring.drain([](auto, auto) {}), 8u);
  EXPECT_TRUE(ring.write("p", std::string(500, 'x')));
}

TEST(LogRing, TwoThreadsLoseNothingThatWasAccepted) {
  LogRing ring(4096);
  constexpr uint32_t kLines = 200'000;
  uint64_t expected = 0, seen = 0, accepted = 0, got = 0;
  std::atomic<bool> end{false};
  std::thread reader([&] {
    bool last = false;
    while (true) {
      got += ring.drain([&](std::string_view, std::string_view line) { seen = seen * 31 + std::stoul(std::string(line)); });
      if (last) return;
      last = end.load();
    }
  });
  for (uint32_t i = 0; i < kLines; i++)
    if (ring.write("f", std::to_string(i))) expected = expected * 31 + i, accepted++;
  end = true;
  reader.join();
  EXPECT_EQ(got, accepted);
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(accepted + ring.dropped(), kLines);
}

TEST(LogWriter, WritesLinesOfSeveralRingsToTheirFiles) {
  TempDir d;
  LogRing a, b;
  Writer w(d.path);
  w.add(&a);
  w.add(&b);
  w.start();
  ASSERT_TRUE(a.write("one.log", "a1\n"));
  ASSERT_TRUE(a.write((d.path / "two.log").string(), "a2\n"));
  ASSERT_TRUE(b.write("one.log", "b1\n"));
  w.flush();
  EXPECT_EQ(read(d.path / "one.log"), "a1\nb1\n");
  EXPECT_EQ(read(d.path / "two.log"), "a2\n");
  EXPECT_EQ(w.stats().lines, 3u);
  EXPECT_EQ(w.stats().bytes, 9u);
  struct stat st;
  ASSERT_EQ(::stat((d.path / "one.log").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777 & ~0640u, 0u);
}

TEST(LogWriter, ReopenFollowsARotatedFile) {
  TempDir d;
  LogRing a;
  Writer w(d.path);
  w.add(&a);
  w.start();
  a.write("x.log", "before\n");
  w.flush();
  fs::rename(d.path / "x.log", d.path / "x.log.1");
  a.write("x.log", "still the old file\n");
  w.flush();
  w.reopen();
  a.write("x.log", "after\n");
  w.flush();
  EXPECT_EQ(read(d.path / "x.log.1"), "before\nstill the old file\n");
  EXPECT_EQ(read(d.path / "x.log"), "after\n");
}

TEST(LogWriter, AFileThatCannotBeOpenedCostsItsLinesAndNoOthers) {
  TempDir d;
  LogRing a;
  Writer w(d.path);
  w.add(&a);
  w.start();
  a.write("no/such/folder/x.log", "lost\n");
  a.write("good.log", "kept\n");
  w.flush();
  EXPECT_EQ(read(d.path / "good.log"), "kept\n");
  EXPECT_EQ(w.stats().failed, 1u);
  EXPECT_EQ(w.stats().lines, 1u);
}

TEST(LogWriter, AFullDeviceIsCountedAsFailed) {
  LogRing a;
  Writer w;
  w.add(&a);
  w.start();
  a.write("/dev/full", "lost\n");
  w.flush();
  EXPECT_EQ(w.stats().failed, 1u);
  EXPECT_EQ(w.stats().lines, 0u);
}

TEST(LogWriter, OverridePathTakesEveryLine) {
  TempDir d;
  LogRing a;
  Writer w({}, d.path / "all.log");
  w.add(&a);
  w.start();
  a.write("/dev/stdout", "1\n");
  a.write("/var/log/istio/access.log", "2\n");
  w.flush();
  EXPECT_EQ(read(d.path / "all.log"), "1\n2\n");
}

TEST(LogWriter, MorePathsThanItsLimitAreCountedAsFailed) {
  TempDir d;
  LogRing a;
  Writer w(d.path);
  w.add(&a);
  w.start();
  for (size_t i = 0; i < kFilesMax + 5; i++) a.write("f" + std::to_string(i), "x\n");
  w.flush();
  EXPECT_EQ(w.stats().lines, kFilesMax);
  EXPECT_EQ(w.stats().failed, 5u);
}

TEST(LogWriter, TheDestructorWritesWhatIsStillInTheRings) {
  TempDir d;
  LogRing a;
  {
    Writer w(d.path);
    w.add(&a);
    w.start();
    a.write("x.log", "last words\n");
  }
  EXPECT_EQ(read(d.path / "x.log"), "last words\n");
}

TEST(Console, SaysWhatItsLevelLetsThroughOnOneCleanLine) {
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  Console c(fds[1]);
  c.say(Level::kDebug, "not now");
  c.say(Level::kInfo, "ready");
  c.say(Level::kWarning, "name with\nnewline\x1b[2J");
  c.set_level(Level::kOff);
  c.say(Level::kError, "nobody hears");
  ::close(fds[1]);
  char text[256];
  const ssize_t n = ::read(fds[0], text, sizeof text);
  EXPECT_EQ(std::string(text, size_t(n)), "sluice: ready\nsluice: warning: name with?newline?[2J\n");
  ::close(fds[0]);
  EXPECT_EQ(level_of("warning"), Level::kWarning);
  EXPECT_FALSE(level_of("loud"));
}

}  // namespace
}  // namespace sluice::log
