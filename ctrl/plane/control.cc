#include "ctrl/plane/control.h"

namespace sluice::plane {
namespace {
std::string count(const World& w) { return std::to_string(w.configs.size()) + " objects"; }
}  // namespace

Control::Control(ControlOptions options, World world)
    : options_(std::move(options)),
      watch_({options_.dir, options_.mesh}),
      server_(options_.server, std::make_shared<const World>(std::move(world)), options_.say) {}

std::expected<std::unique_ptr<Control>, std::string> Control::start(ControlOptions options) {
  Loaded loaded = load_directory(options.dir, options.mesh);
  check_patches(loaded);
  options.problems(render(loaded.issues));
  if (has_errors(loaded.issues)) return std::unexpected(options.dir + " is not served before its errors are mended");
  const std::string what = count(loaded.world);
  std::unique_ptr<Control> control(new Control(std::move(options), std::move(loaded.world)));
  if (auto ok = control->server_.start(); !ok) return std::unexpected(ok.error());
  control->options_.say(what + "; serving on " + control->options_.server.listen);
  return control;
}

void Control::poll(int wait_ms) {
  if (!watch_.changed(wait_ms)) return;
  Loaded loaded = load_directory(options_.dir, options_.mesh);
  check_patches(loaded);
  options_.problems(render(loaded.issues));
  if (has_errors(loaded.issues))
    return options_.say("refused: " + std::to_string(loaded.issues.size()) + " problem(s) in " + options_.dir +
                        "; the last good version stays");
  const std::string what = count(loaded.world);
  server_.replace(std::make_shared<const World>(std::move(loaded.world)));
  options_.say("pushed: " + what);
}

}  // namespace sluice::plane
