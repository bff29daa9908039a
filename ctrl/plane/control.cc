#include "ctrl/plane/control.h"

#include <chrono>

#include "ctrl/admin/endpoints.h"
#include "ctrl/plane/nodes.h"
#include "ctrl/plane/rules.h"

namespace sluice::plane {
namespace {
constexpr std::chrono::milliseconds kUnhurried{500};  // after a push warnings are looked for: an edit that comes then waits for them
std::string count(const World& w) { return std::to_string(w.written()) + " objects"; }
int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}
}  // namespace

Control::Control(ControlOptions options, std::unique_ptr<Watch> watch, std::unique_ptr<Directory> directory,
                 std::shared_ptr<const World> world)
    : options_(std::move(options)),
      watch_(std::move(watch)),
      directory_(std::move(directory)),
      world_(std::move(world)),
      server_(options_.server, world_, options_.say),
      status_(options_.status_dir) {}

std::expected<std::unique_ptr<Control>, std::string> Control::start(ControlOptions options) {
  auto watch = std::make_unique<Watch>(std::vector{options.dir, options.mesh});  // first: no edit falls between
  auto directory = std::make_unique<Directory>(options.dir, options.mesh);
  Loaded loaded = directory->load();
  check_patches(loaded);
  if (!has_errors(loaded.issues)) check_references(loaded.world, loaded.issues);
  sort(loaded.issues);
  options.problems(render(loaded.issues));
  if (has_errors(loaded.issues)) return std::unexpected(options.dir + " is not served before its errors are mended");
  const std::string what = count(loaded.world);
  if (auto ok = StatusFiles::usable(options.status_dir, options.dir); !ok) return std::unexpected(ok.error());
  std::unique_ptr<Control> control(
      new Control(std::move(options), std::move(watch), std::move(directory), std::make_shared<const World>(std::move(loaded.world))));
  control->server_.on_acknowledgement([c = control.get()] { c->heard_ = true; });
  if (auto ok = control->server_.start(); !ok) return std::unexpected(ok.error());
  if (auto ok = control->open_admin(); !ok) return std::unexpected(ok.error());
  control->options_.say(what + "; serving on " + control->options_.server.listen);
  return control;
}

std::expected<void, std::string> Control::open_admin() {
  if (options_.admin.empty()) return {};
  constexpr std::string_view kUnix = "unix:";
  if (!options_.admin.starts_with(kUnix)) return std::unexpected(options_.admin + ": --admin takes unix:PATH");
  admin_.route("GET", "/nodes", [this](const admin::HttpRequest& r) {
    const auto nodes = server_.nodes();
    const auto format = r.query.find("format");
    const bool json = format != r.query.end() && format->second == "json";
    admin::HttpResponse out{.content_type = json ? "application/json" : "text/plain; charset=UTF-8"};
    out.body = json ? nodes_json(nodes, wall_ms()) : nodes_text(nodes, wall_ms());
    out.headers["x-sluice-status"] = any_refuses(nodes) ? "refused" : "ok";
    return out;
  });
  admin_.route("GET", "/gateway-api", [this](const admin::HttpRequest& r) {
    const auto status = gateway_api_status(*world(), server_.acknowledged());
    const auto format = r.query.find("format");
    const bool json = format != r.query.end() && format->second == "json";
    admin::HttpResponse out{.content_type = json ? "application/json" : "text/plain; charset=UTF-8"};
    out.body = json ? gateway_api_json(status) + "\n" : gateway_api_text(status);
    return out;
  });
  admin::add_stats(
      admin_,
      [this] {
        admin::MetricsText m;
        m.family("sluice_control_directory_refused_total", "counter", "Versions of the directory that were refused");
        m.sample("sluice_control_directory_refused_total", {}, refused_.load());
        return m.text() + control_metrics(server_.nodes(), server_.counters());
      },
      [] { return true; });
  if (auto ok = admin_.listen_unix(options_.admin.substr(kUnix.size())); !ok) return ok;
  admin_.start();
  return {};
}

std::shared_ptr<const World> Control::world() const {
  const std::lock_guard lock(world_mutex_);
  return world_;
}

void Control::poll(int wait_ms) {
  const Changes changes = watch_->changes(wait_ms);
  const bool changed = !changes.none();
  if (changed) reload(changes);
  else if (unsaid_ && std::chrono::steady_clock::now() - pushed_at_ > kUnhurried) warn();
  if (options_.status_dir.empty()) return;
  // A gateway that went away says nothing: so each second, too.
  const auto now = std::chrono::steady_clock::now();
  if (!heard_.exchange(false) && !changed && now < status_at_ + std::chrono::seconds(1)) return;
  status_at_ = now;
  if (const std::string wrong = status_.update(world_, server_.acknowledged()); !wrong.empty()) options_.problems(wrong + "\n");
}

// Endpoints that moved are pushed at once: each is right by itself. Of anything else more may follow that belongs to it (a commit, a copy
// of a folder), and a wrong directory may be one that is half written.
void Control::reload(const Changes& changes) {
  Loaded loaded = directory_->load(changes);
  const bool at_once = loaded.endpoints_only && !changes.all && !has_errors(loaded.issues);
  if (!at_once) {
    if (const Changes more = watch_->gather(); !more.none()) loaded = directory_->load(more);
    check_patches(loaded);
  }
  if (has_errors(loaded.issues)) {
    sort(loaded.issues);
    options_.problems(render(loaded.issues));
    refused_++;
    return options_.say("refused: " + std::to_string(loaded.issues.size()) + " problem(s) in " + options_.dir +
                        "; the last good version stays");
  }
  const std::string what = count(loaded.world);
  auto world = std::make_shared<const World>(std::move(loaded.world));
  {
    const std::lock_guard lock(world_mutex_);
    world_ = world;
  }
  server_.replace(world);
  options_.say("pushed: " + what);
  if (!at_once) unsaid_ = std::move(loaded.issues), pushed_at_ = std::chrono::steady_clock::now();
}

void Control::warn() {
  std::vector<Issue> issues = std::move(*unsaid_);
  unsaid_.reset();
  check_references(*world_, issues);
  sort(issues);
  options_.problems(render(issues));
}

}  // namespace sluice::plane
