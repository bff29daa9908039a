#include "dataplane/metrics.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "ctrl/agent/dump.h"

namespace sluice {
namespace {

// What a scraper gets in one answer: the workers' part and the agent's.
std::string scraped(const GatewayView& view) {
  agent::AgentStatus s;
  for (size_t i = 0; i < xds::kTypes; i++) s.types.push_back({std::string(xds::short_name(xds::Type(i))), {}, kNever});
  s.ignored["a"] = 1;
  s.certificates.push_back({.secret = "default"});
  return prometheus_text(view) + agent::metrics_text(s);
}

TEST(Metrics, LogLinesThatNoFileTookAreToldFromThoseWritten) {
  const std::string text = prometheus_text({.log = {.lines = 7, .failed = 3}});
  EXPECT_NE(text.find("\nsluice_access_log_lines_total{outcome=\"written\"} 7\n"), text.npos) << text;
  EXPECT_NE(text.find("\nsluice_access_log_lines_total{outcome=\"failed\"} 3\n"), text.npos) << text;
}

// Prometheus refuses a whole scrape whose family is announced twice, or whose samples do not stand under their family.
TEST(Metrics, EachSampleStandsUnderItsFamilyAndEachFamilyIsAnnouncedOnce) {
  std::istringstream lines(scraped({}));
  std::set<std::string> announced;
  std::string family;
  size_t samples = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, kind, name;
    if (line.starts_with("# HELP ")) {
      words >> hash >> kind >> family;
      EXPECT_TRUE(announced.insert(family).second) << family;
    } else if (!line.starts_with("#")) {
      samples++;
      EXPECT_TRUE(line.starts_with(family)) << line << " under " << family;
    }
  }
  EXPECT_GT(samples, 50u);
}

TEST(Metrics, EveryDropReasonHasItsLineFromTheStart) {
  const std::string text = prometheus_text({});
  for (const std::string_view name : kDropNames)
    EXPECT_NE(text.find("sluice_drops_total{reason=\"" + std::string(name) + "\"} 0\n"), text.npos) << name;
}

}  // namespace
}  // namespace sluice
