// sluice: the gateway. Options here, the work in gateway.h and dev.h.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "dataplane/gateway.h"

int main(int argc, char** argv) {
  CLI::App app{"sluice: the gateway"};
  app.require_subcommand(1);
  std::string file, authorization = "deny";
  bool with_control = false;
  sluice::DevOptions dev;
  auto* run = app.add_subcommand("run", "start the gateway");
  run->add_option("-c,--config", file, "the bootstrap (configs/sluice.yaml shows every key)");
  auto* dev_flag =
      run->add_flag("--dev", with_control,
                    "host the control plane too: sluice-control's library on a folder of Istio YAML; without -c on a TAP of its own");
  auto* dir = run->add_option("-d,--dir,--directory", dev.dir, "with --dev: folder (or file) of Istio YAML")->needs(dev_flag);
  run->add_option("--mesh", dev.mesh, "with --dev: MeshConfig, a file")->needs(dev_flag);
  run->add_option("--authorization-default", authorization, "with --dev: deny: what no policy allows is denied; allow: as istiod")
      ->needs(dev_flag)
      ->check(CLI::IsMember({"deny", "allow"}))
      ->capture_default_str();
  dev_flag->needs(dir);
  auto* check = app.add_subcommand("check", "read the bootstrap and say what is wrong with it");
  check->add_option("-c,--config", file, "the bootstrap")->required();
  try {
    app.parse(argc, argv);
    if (file.empty() && !with_control) throw CLI::RequiredError("-c FILE (or --dev -d DIR)");
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  const auto bootstrap =
      file.empty() ? sluice::agent::parse_bootstrap(sluice::dev_bootstrap(), "--dev") : sluice::agent::load_bootstrap(file);
  if (!bootstrap) {
    for (const std::string& error : bootstrap.error()) std::fprintf(stderr, "%s\n", error.c_str());
    return 1;
  }
  if (check->parsed()) return 0;
  dev.own_tap = file.empty();
  dev.deny_by_default = authorization == "deny";
  if (auto ok = sluice::run_gateway(*bootstrap, with_control ? std::optional(dev) : std::nullopt); !ok) {
    std::fprintf(stderr, "sluice: %s\n", ok.error().c_str());
    return 1;
  }
  return 0;
}
