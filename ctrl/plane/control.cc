#include "ctrl/plane/control.h"

namespace sluice::plane {
namespace {
std::string count(const World& w) { return std::to_string(w.configs.size()) + " objects"; }
}  // namespace

Control::Control(ControlOptions options, std::shared_ptr<const World> world)
    : options_(std::move(options)),
      watch_({options_.dir, options_.mesh}),
      world_(std::move(world)),
      server_(options_.server, world_, options_.say),
      status_(options_.status_dir) {}

std::expected<std::unique_ptr<Control>, std::string> Control::start(ControlOptions options) {
  Loaded loaded = load_directory(options.dir, options.mesh);
  options.problems(render(loaded.issues));
  if (has_errors(loaded.issues)) return std::unexpected(options.dir + " is not served before its errors are mended");
  const std::string what = count(loaded.world);
  if (auto ok = StatusFiles::usable(options.status_dir, options.dir); !ok) return std::unexpected(ok.error());
  std::unique_ptr<Control> control(new Control(std::move(options), std::make_shared<const World>(std::move(loaded.world))));
  if (auto ok = control->server_.start(); !ok) return std::unexpected(ok.error());
  control->options_.say(what + "; serving on " + control->options_.server.listen);
  return control;
}

void Control::poll(int wait_ms) {
  const bool changed = watch_.changed(wait_ms);
  if (changed) reload();
  if (options_.status_dir.empty()) return;
  if (const std::string wrong = status_.update(world_, server_.acknowledged()); !wrong.empty()) options_.problems(wrong + "\n");
}

void Control::reload() {
  Loaded loaded = load_directory(options_.dir, options_.mesh);
  options_.problems(render(loaded.issues));
  if (has_errors(loaded.issues))
    return options_.say("refused: " + std::to_string(loaded.issues.size()) + " problem(s) in " + options_.dir +
                        "; the last good version stays");
  const std::string what = count(loaded.world);
  world_ = std::make_shared<const World>(std::move(loaded.world));
  server_.replace(world_);
  options_.say("pushed: " + what);
}

}  // namespace sluice::plane
