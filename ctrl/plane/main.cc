// sluice-control: the management plane. Options here, the work in the library.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>

#include "ctrl/plane/ca.h"
#include "ctrl/plane/control.h"

namespace {
using namespace sluice::plane;

void say(const std::string& line) {
  std::printf("sluice-control: %s\n", line.c_str());
  std::fflush(stdout);
}

int64_t wall_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

int complain(const std::string& why) {
  std::cerr << "sluice-control: " << why << "\n";
  return 1;
}

// Serves until SIGTERM or SIGINT; then streams are ended, so that their clients go to a stand-by.
int serve(ControlOptions options, CaOptions ca_options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  (void)setpriority(PRIO_PROCESS, 0, -5);  // an edit must not wait behind the machine's load; without root it may
  std::unique_ptr<Ca> ca;                  // goes after the server that it is registered with
  if (!ca_options.dir.empty()) {
    auto started = Ca::start(std::move(ca_options), say);
    if (!started) return complain(started.error());
    ca = std::move(*started);
    options.server.more = [&ca](grpc::ServerBuilder& b) { ca->add_to(b); };
  }
  const auto control = Control::start(std::move(options));
  if (!control) return complain(control.error());
  const timespec none{};
  while (sigtimedwait(&signals, nullptr, &none) <= 0) (*control)->poll(50);
  (*control)->drain(5'000);
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
  return complain(out_dir + ": cannot be written");
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

// A key and its certificate by the operator's own hand, without the server: OUT-key.pem (0600) and OUT.pem (the chain).
int write_certificate(const CaOptions& options, const std::string& identity, int64_t ttl_s, const std::string& out) {
  if (!sluice::tls::is_spiffe_id(identity))
    return complain("'" + identity + "' is no SPIFFE identity; spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT is meant");
  const auto ca = CaAuthority::start(options, wall_us());
  if (!ca) return complain(ca.error());
  if ((*ca)->state()->identities.contains(identity)) return complain(identity + " is revoked");
  const auto csr = sluice::tls::make_csr(identity);
  if (!csr) return complain(csr.error());
  const auto made = (*ca)->issue(identity, {csr->csr_pem, ttl_s}, {1, wall_us()});
  if (!made) return complain(made.error().reason);
  (void)unlink((out + "-key.pem").c_str());  // it may be there, and readable
  const auto old_mask = umask(077);
  std::ofstream(out + "-key.pem", std::ios::trunc) << csr->key_pem;
  umask(old_mask);
  std::ofstream chain(out + ".pem", std::ios::trunc);
  for (size_t i = 0; i + 1 < made->chain.size(); i++) chain << made->chain[i];
  std::ofstream(out + "-root.pem", std::ios::trunc) << made->chain.back();
  if (!chain.flush()) return complain(out + ".pem: cannot be written");
  std::printf("%s\n", made->serial.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"sluice-control: Istio YAML in, xDS out"};
  app.require_subcommand(1);
  std::string dir, mesh, node, out, admin, status, domain = "cluster.local", authorization = "deny";
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
  run->add_option("--admin", admin, "unix:PATH: nodes and what they acknowledged (sluicectl nodes), metrics");
  run->add_option("--max-streams", options.streams_max, "ADS streams at once; further ones are refused")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  run->add_option("--debounce", options.debounce_ms, "ms: the changes of so long after a push to a node go together")
      ->check(CLI::Range(0, 60'000))
      ->capture_default_str();
  run->add_option("--status-dir", status, "folder for the status of Gateway API objects, a file each; not inside of the watched one");
  auto* convert = app.add_subcommand("convert", "write what Gateway API objects become: istio.yaml, and status.yaml");
  convert->add_option("-d,--dir,--directory", dir, "folder (or file) of YAML")->required();
  convert->add_option("--mesh", mesh, "MeshConfig, a file");
  convert->add_option("--domain", domain, "the cluster's domain")->capture_default_str();
  convert->add_option("--node", node, "a gateway that has acknowledged, proto3 JSON; none: nothing is programmed yet");
  convert->add_option("--out", out, "folder to write to")->required();
  CaOptions ca;
  TokenOptions token{.audience = "istio-ca"};
  std::string token_keys, root_name, identity;
  int64_t ttl_s = 0;
  bool rsa = false;
  const auto ca_common = [&](CLI::App* c) {
    c->add_option("--ca-trust-domain", ca.trust_domain, "identities are spiffe://THIS/...")->capture_default_str();
    c->add_option("--ca-ttl-min", ca.ttl_min_s, "seconds; less is not given")->capture_default_str();
    c->add_option("--ca-ttl-default", ca.ttl_default_s, "seconds; to who does not say")->capture_default_str();
    c->add_option("--ca-ttl-max", ca.ttl_max_s, "seconds; more is not given")->capture_default_str();
  };
  run->add_option("--ca-dir", ca.dir, "be a CA: roots, revoked.yaml (docs/runbook/certificates.md); made with a root if it is empty");
  ca_common(run);
  run->add_option("--ca-token-keys", token_keys, "callers may prove themselves by tokens: a JWKS, or PEM with PUBLIC KEY blocks");
  run->add_option("--ca-token-issuer", token.issuer, "what the tokens' iss must be");
  run->add_option("--ca-token-audience", token.audience, "what their aud must hold")->capture_default_str();
  auto* root = app.add_subcommand("root", "make a further root in a CA's folder: the first step of a rotation");
  root->add_option("--ca-dir", ca.dir, "the CA's folder")->required();
  root->add_option("--ca-trust-domain", ca.trust_domain, "its organization")->capture_default_str();
  root->add_option("name", root_name, "the new root's folder")->required();
  root->add_flag("--rsa", rsa, "RSA 3072 instead of P-256");
  auto* certificate = app.add_subcommand("certificate", "make a key and its certificate with a CA's folder, without the server");
  certificate->add_option("--ca-dir", ca.dir, "the CA's folder")->required();
  ca_common(certificate);
  certificate->add_option("--identity", identity, "spiffe://...")->required();
  certificate->add_option("--ttl", ttl_s, "seconds; 0: the default")->capture_default_str();
  certificate->add_option("--out", out, "writes OUT.pem, OUT-key.pem, OUT-root.pem; prints the serial")->required();
  CLI11_PARSE(app, argc, argv);
  if (root->parsed()) {
    using sluice::tls::KeyKind;
    const auto ok = add_root(ca.dir, root_name, ca.trust_domain, rsa ? KeyKind::kRsa3072 : KeyKind::kP256, wall_us());
    return ok ? 0 : complain(ok.error());
  }
  if (certificate->parsed()) return write_certificate(ca, identity, ttl_s, out);
  if (!token_keys.empty() || !token.issuer.empty()) {
    if (ca.dir.empty() || token_keys.empty() || token.issuer.empty()) {
      std::cerr << "--ca-dir, --ca-token-keys and --ca-token-issuer belong together\n";
      return 2;
    }
    std::ifstream in(token_keys);
    std::stringstream text;
    text << in.rdbuf();
    if (!in) return complain(token_keys + ": cannot be read");
    token.keys = text.str();
    token.trust_domain = ca.trust_domain;
    ca.token = token;
    options.certificate_optional = true;
  }
  const int files = !options.ca.empty() + !options.cert.empty() + !options.key.empty();
  if (files != 0 && files != 3) {
    std::cerr << "--tls-ca, --tls-cert and --tls-key belong together\n";
    return 2;
  }
  options.translation.deny_by_default = authorization == "deny";
  const auto problems = [](const std::string& text) { std::cerr << text << std::flush; };
  if (run->parsed())
    return serve(
        {.dir = dir, .mesh = mesh, .status_dir = status, .server = std::move(options), .admin = admin, .say = say, .problems = problems},
        std::move(ca));
  Loaded loaded = load_directory(dir, mesh);
  check_patches(loaded);
  problems(render(loaded.issues));
  if (has_errors(loaded.issues)) return 1;
  if (check->parsed()) return 0;
  if (convert->parsed()) {
    loaded.world.mesh.domain = domain;
    return write_converted(loaded.world, node, out);
  }
  return write_answers(loaded.world, node, out, options.translation);
}
