// sluice-control: the management plane. Options here, the work in the library.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <sstream>

#include "ctrl/plane/control.h"

namespace {
using namespace sluice::plane;

void say(const std::string& line) {
  std::printf("sluice-control: %s\n", line.c_str());
  std::fflush(stdout);
}

// Serves until SIGTERM or SIGINT.
int serve(ControlOptions options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  (void)setpriority(PRIO_PROCESS, 0, -5);  // an edit must not wait behind the machine's load; without root it may
  const auto control = Control::start(std::move(options));
  if (!control) {
    std::cerr << "sluice-control: " << control.error() << "\n";
    return 1;
  }
  const timespec none{};
  while (sigtimedwait(&signals, nullptr, &none) <= 0) (*control)->poll(50);
  say("stopped");
  return 0;
}

std::optional<NodeInfo> read_node(const std::string& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  auto node = node_from_json(text.str());
  if (in && node) return std::move(*node);
  std::cerr << file << ": " << (in ? node.error() : "cannot be read") << "\n";
  return {};
}

int write_converted(const World& world, const std::string& node_file, const std::string& out_dir) {
  std::vector<NodeInfo> nodes;
  if (!node_file.empty()) {
    auto node = read_node(node_file);
    if (!node) return 1;
    nodes.push_back(std::move(*node));
  }
  std::filesystem::create_directories(out_dir);
  std::ofstream objects(out_dir + "/istio.yaml"), status(out_dir + "/status.yaml");
  for (const Config& c : translate_gateway_api(world).configs) objects << "---\n" << object_yaml(c);
  for (const ObjectStatus& s : gateway_api_status(world, nodes)) status << "---\n" << s.yaml();
  if (objects && status) return 0;
  std::cerr << out_dir << ": cannot be written\n";
  return 1;
}

int write_answers(const World& world, const std::string& node_file, const std::string& out_dir, const TranslateOptions& options) {
  const auto node = read_node(node_file);
  if (!node) return 1;
  const auto resources = to_resources(translate(world, *node, options));
  if (!resources) {
    std::cerr << "sluice-control: " << resources.error() << "\n";
    return 1;
  }
  std::filesystem::create_directories(out_dir);
  static constexpr const char* kFiles[] = {"cds.json", "eds.json", "lds.json", "rds.json"};
  for (int t = 0; t < 4; t++) {
    std::ofstream out(out_dir + "/" + kFiles[t]);
    out << "[\n";
    size_t i = 0;
    for (const auto& [name, r] : resources->of[t]) out << (i++ != 0 ? ",\n" : "") << to_json(kTypeNames[t], r.value);
    out << "]\n";
    if (!out) {
      std::cerr << out_dir << "/" << kFiles[t] << ": cannot be written\n";
      return 1;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"sluice-control: Istio YAML in, xDS out"};
  app.require_subcommand(1);
  std::string dir, mesh, node, out, status, domain = "cluster.local", authorization = "deny";
  ServerOptions options;
  const auto common = [&](CLI::App* c) {
    c->add_option("-d,--dir,--directory", dir, "folder (or file) of Istio YAML")->required();
    c->add_option("--mesh", mesh, "MeshConfig, a file");
    c->add_option("--authorization-default", authorization, "deny: what no policy allows is denied; allow: as istiod")
        ->check(CLI::IsMember({"deny", "allow"}))
        ->capture_default_str();
  };
  auto* t = app.add_subcommand("translate", "write what a Node would be sent: cds.json eds.json lds.json rds.json");
  common(t);
  t->add_option("--node", node, "the Node that asks, proto3 JSON")->required();
  t->add_option("--out", out, "folder to write to")->required();
  auto* check = app.add_subcommand("check", "say everything that is wrong with a folder; exit 1 if there is an error");
  check->add_option("dir", dir, "folder (or file) of Istio YAML")->required();
  check->add_option("--mesh", mesh, "MeshConfig, a file");
  auto* run = app.add_subcommand("run", "watch a folder and serve xDS");
  common(run);
  run->add_option("--listen", options.listen, "unix:PATH or IP:PORT")->required();
  run->add_option("--tls-ca", options.ca, "CA of the gateways' certificates (PEM); with --tls-cert and --tls-key: mutual TLS");
  run->add_option("--tls-cert", options.cert, "our certificate chain (PEM)");
  run->add_option("--tls-key", options.key, "its key (PEM)");
  run->add_option("--status-dir", status, "folder for the status of Gateway API objects, a file each; not inside of the watched one");
  auto* convert = app.add_subcommand("convert", "write what Gateway API objects become: istio.yaml, and status.yaml");
  convert->add_option("-d,--dir,--directory", dir, "folder (or file) of YAML")->required();
  convert->add_option("--mesh", mesh, "MeshConfig, a file");
  convert->add_option("--domain", domain, "the cluster's domain")->capture_default_str();
  convert->add_option("--node", node, "a gateway that has acknowledged, proto3 JSON; none: nothing is programmed yet");
  convert->add_option("--out", out, "folder to write to")->required();
  CLI11_PARSE(app, argc, argv);
  const int files = !options.ca.empty() + !options.cert.empty() + !options.key.empty();
  if (files != 0 && files != 3) {
    std::cerr << "--tls-ca, --tls-cert and --tls-key belong together\n";
    return 2;
  }
  options.translation.deny_by_default = authorization == "deny";
  const auto problems = [](const std::string& text) { std::cerr << text << std::flush; };
  if (run->parsed())
    return serve({.dir = dir, .mesh = mesh, .status_dir = status, .server = std::move(options), .say = say, .problems = problems});
  Loaded loaded = load_directory(dir, mesh);
  problems(render(loaded.issues));
  if (has_errors(loaded.issues)) return 1;
  if (check->parsed()) return 0;
  if (convert->parsed()) {
    loaded.world.mesh.domain = domain;
    return write_converted(loaded.world, node, out);
  }
  return write_answers(loaded.world, node, out, options.translation);
}
