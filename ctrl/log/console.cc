#include "ctrl/log/console.h"

#include <unistd.h>

#include <algorithm>
#include <string>

namespace sluice::log {
namespace {
constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "off"};
}

std::string_view name_of(Level level) { return kNames[size_t(level)]; }

std::optional<Level> level_of(std::string_view name) {
  const auto* it = std::ranges::find(kNames, name);
  if (it == std::end(kNames)) return std::nullopt;
  return Level(it - kNames);
}

void Console::say(Level level, std::string_view line) const {
  if (level < this->level() || level == Level::kOff) return;
  std::string out = "sluice: ";
  if (level != Level::kInfo) out.append(name_of(level)).append(": ");
  for (const char c : line) out += uint8_t(c) < 0x20 || c == 0x7f ? '?' : c;
  out += '\n';
  (void)!::write(fd_, out.data(), out.size());
}

}  // namespace sluice::log
