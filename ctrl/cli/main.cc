// sluicectl: the operator's command line. Subcommands that ask a running gateway go through its admin socket; `check` reads a folder of
// Istio YAML and needs no gateway.
#include <CLI/CLI.hpp>
#include <iostream>

#include "ctrl/cli/commands.h"

int main(int argc, char** argv) {
  using namespace sluice::cli;
  CLI::App app{"sluicectl: look at and steer a Sluice gateway"};
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 good, 1 it could not be done, 2 wrong usage, 3 status: a security resource is refused; nodes: one refuses what it was "
      "sent");
  std::string socket = "/run/sluice/admin.sock";
  auto* socket_option =
      app.add_option("-s,--socket", socket, "the gateway's admin socket")->envname("SLUICE_ADMIN_SOCKET")->capture_default_str();
  const Streams streams{std::cout, std::cerr};
  int code = kOk;

  bool json = false;
  auto* status_command =
      app.add_subcommand("status",
                         "versions, ages, refusals, secrets, endpoints; exit code 3 while a security resource is refused; and the "
                         "status of Gateway API objects, from sluice-control");
  std::string control = "/run/sluice/control.sock";
  const auto control_option = [&](CLI::App* c) {
    return c->add_option("-c,--control", control, "the admin socket of sluice-control (its --admin)")
        ->envname("SLUICE_CONTROL_SOCKET")
        ->capture_default_str();
  };
  auto* status_control = control_option(status_command);
  status_command->add_flag("--json", json, "as JSON");
  status_command->callback(
      [&] { code = status({socket, socket_option->count() > 0}, {control, status_control->count() > 0}, json, streams); });

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

  auto* nodes = app.add_subcommand(
      "nodes", "the gateways of a sluice-control: what each was sent, acknowledged and refused; exit code 3 while one refuses");
  control_option(nodes);
  nodes->add_flag("--json", json, "as JSON");
  nodes->callback([&] { code = sluice::cli::nodes(control, json, streams); });

  std::string folder, mesh;
  auto* check_command =
      app.add_subcommand("check", "everything that is wrong with a folder of Istio YAML, at its place; no gateway is asked");
  check_command->add_option("dir", folder, "the folder, a file, or - for stdin")->required();
  check_command->add_option("--mesh", mesh, "MeshConfig, a file");
  check_command->callback([&] { code = check(folder, mesh, streams); });

  sluice::explain::Question question;
  OfflineOptions directory;
  std::vector<std::string> headers, labels;
  std::string from, to, sni, other, authorization = "deny";
  // What a directory needs to be translated as the gateway would get it.
  const auto for_node = [&](CLI::App* c) {
    c->add_option("--mesh", directory.mesh, "MeshConfig of the folder, a file");
    c->add_option("--label", labels, "the gateway's labels, KEY=VALUE; default: what the folder's Gateways select")->take_all();
    c->add_option("--namespace", directory.ns, "the gateway's namespace; default: that of the folder's Gateways");
    c->add_option("--authorization-default", authorization, "as sluice-control has it: deny or allow")
        ->check(CLI::IsMember({"deny", "allow"}))
        ->capture_default_str();
  };
  const auto take_node = [&] {
    for (const std::string& l : labels) directory.labels[l.substr(0, l.find('='))] = l.find('=') == l.npos ? "" : l.substr(l.find('=') + 1);
    directory.deny_by_default = authorization == "deny";
  };
  auto* explain_command = app.add_subcommand(
      "explain",
      "what would become of a request: each step, each policy that matched or just missed, by the running tables or a folder (-d)");
  explain_command->add_option("method", question.method, "GET, POST, ...")->required();
  explain_command->add_option("url", question.url, "http://HOST[:PORT]/PATH or https://...")->required();
  explain_command->add_option("-H,--header", headers, "'name: value', repeatable")->take_all();
  explain_command->add_option("--principal", question.principal, "the client's verified identity, spiffe://...");
  auto* sni_option = explain_command->add_option("--sni", sni, "server name of the handshake; default: the URL's host");
  explain_command->add_option("--from", from, "the client's address")->capture_default_str();
  explain_command->add_option("--to", to, "which of the gateway's addresses was asked");
  explain_command->add_flag("--json", json, "as JSON");
  explain_command->add_option("-d,--dir,--directory", directory.dir, "a folder of Istio YAML instead of the gateway");
  for_node(explain_command);
  explain_command->callback([&] {
    if (*sni_option) question.sni = sni;
    std::string text = sluice::explain::write_question(question);
    for (const std::string& h : headers) text += "header " + h + "\n";
    if (!from.empty()) text += "from " + from + "\n";
    if (!to.empty()) text += "to " + to + "\n";
    take_node();
    if (const auto whole = sluice::explain::parse_question(text)) {
      code = sluice::cli::explain(socket, *whole, directory, json, streams);
    } else {
      std::cerr << "sluicectl: " << whole.error() << "\n";
      code = kUsage;
    }
  });

  auto* diff_command = app.add_subcommand("diff",
                                          "what a folder would change against the running gateway, or one folder against another; requests "
                                          "that flip, each with one that shows it");
  diff_command->add_option("dir", directory.dir, "the folder of Istio YAML; with a second one: the old state")->required();
  diff_command->add_option("dir2", other, "the new state");
  for_node(diff_command);
  diff_command->callback([&] {
    take_node();
    OfflineOptions after = directory;
    if (other.empty()) directory.dir.clear();
    else after.dir = other;
    code = sluice::cli::diff(socket, directory, after, streams);
  });

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
