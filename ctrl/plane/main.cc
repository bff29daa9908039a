// sluice-control: the management plane.
#include <CLI/CLI.hpp>

#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "ctrl/plane/server.h"
#include "ctrl/plane/watch.h"

namespace {

void say(const std::string& line) {
  std::printf("sluice-control: %s\n", line.c_str());
  std::fflush(stdout);
}

// Serves until SIGTERM or SIGINT. A directory that is wrong changes nothing and says why.
int serve(const std::string& directory, const std::string& mesh, sluice::plane::ServerOptions options, sluice::plane::World first) {
  using namespace sluice::plane;
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGTERM, SIGINT}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const std::string listen = options.listen;
  Watch watch({directory, mesh});
  const size_t objects = first.objects.size();
  Server server(std::move(options), std::make_shared<const World>(std::move(first)), say);
  if (auto ok = server.start(); !ok) return std::fprintf(stderr, "%s\n", ok.error().c_str()), 1;
  say(std::to_string(objects) + " objects; serving on " + listen);
  for (;;) {
    if (watch.changed(50)) {
      Loaded loaded = load_directory(directory, mesh);
      for (const std::string& p : loaded.problems) std::fprintf(stderr, "%s\n", p.c_str());
      if (!loaded.problems.empty()) {
        say("refused: " + std::to_string(loaded.problems.size()) + " problem(s) in " + directory + "; the last good version stays");
      } else {
        const size_t n = loaded.world.objects.size();
        server.replace(std::make_shared<const World>(std::move(loaded.world)));
        say("pushed: " + std::to_string(n) + " objects");
      }
    }
    const timespec none{};
    if (sigtimedwait(&signals, nullptr, &none) > 0) return say("stopped"), 0;
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sluice::plane;
  CLI::App app{"sluice-control: Istio YAML in, xDS out"};
  app.require_subcommand(1);
  std::string directory, mesh, node_file, out, authorization = "deny";
  auto* dump = app.add_subcommand("translate", "write what a Node would be sent: cds.json eds.json lds.json rds.json");
  dump->add_option("-d,--directory", directory, "folder (or file) of Istio YAML")->required();
  dump->add_option("--mesh", mesh, "MeshConfig file");
  dump->add_option("--node", node_file, "Node as JSON")->required();
  dump->add_option("--out", out, "folder to write to")->required();
  dump->add_option("--authorization-default", authorization, "deny: what no policy allows is denied; allow: as istiod")->check(CLI::IsMember({"deny", "allow"}));
  auto* check = app.add_subcommand("check", "say everything that is wrong with a folder; exit 1 if anything is");
  check->add_option("directory", directory, "folder (or file) of Istio YAML")->required();
  check->add_option("--mesh", mesh, "MeshConfig file");
  ServerOptions options;
  auto* run = app.add_subcommand("run", "watch a folder and serve xDS");
  run->add_option("-d,--directory", directory, "folder (or file) of Istio YAML")->required();
  run->add_option("--mesh", mesh, "MeshConfig file");
  run->add_option("--listen", options.listen, "unix:PATH or IP:PORT")->required();
  run->add_option("--tls-ca", options.ca, "CA of the gateways' certificates (PEM); with --tls-cert and --tls-key: mutual TLS");
  run->add_option("--tls-cert", options.cert, "our certificate chain (PEM)");
  run->add_option("--tls-key", options.key, "its key (PEM)");
  run->add_option("--authorization-default", authorization, "deny: what no policy allows is denied; allow: as istiod")->check(CLI::IsMember({"deny", "allow"}));
  CLI11_PARSE(app, argc, argv);
  if ((options.ca.empty() || options.cert.empty() || options.key.empty()) && !(options.ca.empty() && options.cert.empty() && options.key.empty()))
    return std::fprintf(stderr, "--tls-ca, --tls-cert and --tls-key belong together\n"), 2;

  Loaded loaded = load_directory(directory, mesh);
  for (const std::string& p : loaded.problems) std::fprintf(stderr, "%s\n", p.c_str());
  if (!loaded.problems.empty()) return 1;
  if (check->parsed()) return 0;
  options.translation.deny_by_default = authorization == "deny";
  if (run->parsed()) return serve(directory, mesh, std::move(options), std::move(loaded.world));
  std::ifstream in(node_file);
  const json node = json::parse(in, nullptr, false);
  if (node.is_discarded()) return std::fprintf(stderr, "%s: is no JSON\n", node_file.c_str()), 1;
  const Resources r = translate(loaded.world, node_of(node), options.translation);
  std::filesystem::create_directories(out);
  const std::pair<const char*, const std::vector<json>*> kinds[] = {{"cds", &r.cds}, {"eds", &r.eds}, {"lds", &r.lds}, {"rds", &r.rds}};
  for (const auto& [kind, list] : kinds) {
    if (list->empty()) continue;
    std::ofstream f(std::filesystem::path(out) / (std::string(kind) + ".json"));
    f << json(*list).dump(1) << "\n";
  }
  return 0;
}
