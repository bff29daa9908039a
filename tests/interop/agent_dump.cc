// The config_dump of a gateway's agent without a data plane: agent_dump ADDRESS SECRETS prints it when the agent that follows the control
// plane at ADDRESS has published tables with a listener (or when 10 s have passed). SECRETS is read instead of /etc/sluice/pki.
#include <poll.h>

#include <chrono>
#include <cstdio>

#include "ctrl/agent/agent.h"

int main(int argc, char** argv) {
  using namespace sluice;
  if (argc != 3) return 2;
  agent::Bootstrap b;
  b.node = {.id = "router~10.10.0.1~sluice-0.shop~shop.svc.cluster.local",
            .cluster = "sluice.shop",
            .region = "eu",
            .zone = "eu-1",
            .sub_zone = "a"};
  b.node.metadata_json =
      R"({"NAMESPACE":"shop","INSTANCE_IPS":"10.10.0.1","LABELS":{"app":"sluice","istio":"ingressgateway"},"ISTIO_VERSION":"1.29.6","CLUSTER_ID":"Kubernetes"})";
  b.xds = agent::XdsConfig{.address = argv[1]};
  b.secrets_paths = {{"/etc/sluice/pki", argv[2]}};
  b.kept_dir = "off";
  agent::Agent a(b, [](auto) {}, [](log::Level, const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
  const auto now = [] {
    return Usec(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
  };
  const Usec end = now() + 10 * kSec;
  if (auto ok = a.start(now()); !ok) {
    std::fprintf(stderr, "%s\n", ok.error().c_str());
    return 1;
  }
  while (now() < end && (a.snapshot() == nullptr || a.snapshot()->listeners.empty())) {
    a.turn(now());
    ::poll(nullptr, 0, 5);
  }
  std::fputs(a.config_dump_json().c_str(), stdout);
  return 0;
}
