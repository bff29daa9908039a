// sluicectl: the operator's command line. Subcommands that ask a running gateway go through its admin socket; `check` reads a folder of
// Istio YAML and needs no gateway.
#include <CLI/CLI.hpp>
#include <iostream>

#include "ctrl/cli/commands.h"

int main(int argc, char** argv) {
  using namespace sluice::cli;
  CLI::App app{"sluicectl: look at and steer a Sluice gateway"};
  app.require_subcommand(1);
  app.footer("Exit codes: 0 good, 1 it could not be done, 2 wrong usage, 3 status: a security resource is refused; nodes: one refuses what it was sent");
  std::string socket = "/run/sluice/admin.sock";
  app.add_option("-s,--socket", socket, "the gateway's admin socket")->envname("SLUICE_ADMIN_SOCKET")->capture_default_str();
  const Streams streams{std::cout, std::cerr};
  int code = kOk;

  bool json = false;
  auto* status_command =
      app.add_subcommand("status", "versions, ages, refusals, secrets, endpoints; exit code 3 while a security resource is refused");
  status_command->add_flag("--json", json, "as JSON");
  status_command->callback([&] { code = status(socket, json, streams); });

  auto* config = app.add_subcommand("config", "the configuration in force")->require_subcommand(1);
  config->add_subcommand("dump", "all of it, in Envoy's config_dump shape")->callback([&] {
    code = print(socket, "GET", "/config_dump", streams);
  });

  app.add_subcommand("clusters", "clusters and their endpoints")->callback([&] { code = print(socket, "GET", "/clusters", streams); });
  app.add_subcommand("certs", "certificates and the days they have left")->callback([&] {
    code = print(socket, "GET", "/certs", streams);
  });
  app.add_subcommand("drain", "stop accepting, finish what is in flight")->callback([&] {
    code = print(socket, "POST", "/drain_listeners", streams);
  });

  std::string control = "/run/sluice/control.sock";
  auto* nodes = app.add_subcommand("nodes", "the gateways of a sluice-control: what each was sent, acknowledged and refused; exit code 3 while one refuses");
  nodes->add_option("-c,--control", control, "the admin socket of sluice-control (its --admin)")->envname("SLUICE_CONTROL_SOCKET")->capture_default_str();
  nodes->add_flag("--json", json, "as JSON");
  nodes->callback([&] { code = sluice::cli::nodes(control, json, streams); });

  std::string folder, mesh;
  auto* check_command =
      app.add_subcommand("check", "everything that is wrong with a folder of Istio YAML, at its place; no gateway is asked");
  check_command->add_option("dir", folder, "the folder, a file, or - for stdin")->required();
  check_command->add_option("--mesh", mesh, "MeshConfig, a file");
  check_command->callback([&] { code = check(folder, mesh, streams); });

  std::string level;
  auto* logging = app.add_subcommand("logging", "show or set the log level");
  logging->add_option("level", level, "debug, info, warning, error or off");
  logging->callback([&] {
    code = level.empty() ? print(socket, "GET", "/logging", streams) : print(socket, "POST", "/logging?level=" + level, streams);
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kOk : kUsage;
  }
  return code;
}
