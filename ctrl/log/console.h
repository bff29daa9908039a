// The gateway's own words: one line per event of the control plane's life, never of the data path (that is the access
// log and counters). Levels can be changed while it runs (admin /logging). Threads: any; a line is one write().
#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::log {

enum class Level : uint8_t { kDebug, kInfo, kWarning, kError, kOff };
std::string_view name_of(Level level);  // "debug", "info", "warning", "error", "off"
std::optional<Level> level_of(std::string_view name);

class Console {
 public:
  explicit Console(int fd) : fd_(fd) {}
  // "sluice: LINE", or "sluice: warning: LINE" above info. Control bytes in the line (names come from the control plane) become '?'.
  void say(Level level, std::string_view line) const;
  void set_level(Level level) { level_.store(level, std::memory_order_relaxed); }
  Level level() const { return level_.load(std::memory_order_relaxed); }

 private:
  const int fd_;
  std::atomic<Level> level_{Level::kInfo};
};

}  // namespace sluice::log
