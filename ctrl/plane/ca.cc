#include "ctrl/plane/ca.h"

#include <chrono>

namespace sluice::plane {
namespace {
int64_t wall_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}
std::string summary(const CaState& s) {
  return "signs with " + s.signing + ", " + std::to_string(s.serials.size()) + " serials and " + std::to_string(s.identities.size()) +
         " identities revoked, version " + s.version;
}
}  // namespace

std::expected<std::unique_ptr<Ca>, std::string> Ca::start(CaOptions options, CaService::Log log) {
  auto authority = CaAuthority::start(std::move(options), wall_us());
  if (!authority) return std::unexpected("ca: " + authority.error());
  return std::unique_ptr<Ca>(new Ca(std::move(*authority), std::move(log)));
}

Ca::Ca(std::unique_ptr<CaAuthority> authority, CaService::Log log)
    : log_(std::move(log)),
      authority_(std::move(authority)),
      service_(*authority_, log_),
      watch_({authority_->options().dir}),
      thread_([this](const std::stop_token& stop) { watch(stop); }) {
  log_("ca: " + summary(*authority_->state()));
}

void Ca::watch(const std::stop_token& stop) {
  for (bool first = true; !stop.stop_requested(); first = false) {
    if (!first && !watch_.changed(50)) continue;  // first: what was edited before the watch stood
    const auto changed = authority_->reload(wall_us());
    if (!changed) {
      log_("ca: " + changed.error() + "; the last good state stays");
    } else if (*changed) {
      service_.push();
      log_("ca: pushed: " + summary(*authority_->state()));
    }
  }
}

}  // namespace sluice::plane
