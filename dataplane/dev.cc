#include "dataplane/dev.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

namespace sluice {
namespace {

constexpr const char* kTap = "sluice0";
constexpr const char* kKernelAddress = "10.10.0.2";  // the gateway's is in dev_bootstrap()
constexpr const char* kNetmask = "255.255.255.0";

// The kernel's end of the TAP: no IPv6, an address, up.
std::expected<void, std::string> dress_tap() {
  std::ofstream(std::string("/proc/sys/net/ipv6/conf/") + kTap + "/disable_ipv6") << "1";
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq r{};
  std::strncpy(r.ifr_name, kTap, IFNAMSIZ - 1);
  const auto set = [&](unsigned long request, const char* address) {
    auto* in = reinterpret_cast<sockaddr_in*>(&r.ifr_addr);
    *in = {};
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address, &in->sin_addr);
    return ioctl(fd, request, &r) == 0;
  };
  bool good = fd >= 0 && set(SIOCSIFADDR, kKernelAddress) && set(SIOCSIFNETMASK, kNetmask) && ioctl(fd, SIOCGIFFLAGS, &r) == 0;
  if (good) {
    r.ifr_flags |= IFF_UP;
    good = ioctl(fd, SIOCSIFFLAGS, &r) == 0;
  }
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!good)
    return std::unexpected(std::string(kTap) + " gets no address: " + std::strerror(error) +
                           "; run as root, or with a bootstrap of your own (-c FILE)");
  return {};
}

}  // namespace

std::string_view dev_bootstrap() {
  return R"(node:
  id: router~10.10.0.1~sluice-dev.default~default.svc.cluster.local
  metadata: {NAMESPACE: default, SERVICE_ACCOUNT: sluice, LABELS: {istio: ingressgateway}}
ports:
  - {name: dev, devargs: "tap:sluice0", address: 10.10.0.1/24}
idle: dev
xds: {address: "unix:/run/sluice/dev-xds.sock"}
kept: {dir: off}
log: {stdout: true}
)";
}

Dev::Dev(std::unique_ptr<plane::Control> control)
    : control_(std::move(control)), thread_([this](const std::stop_token& stop) {
        while (!stop.stop_requested()) control_->poll(50);
      }) {}

std::expected<std::unique_ptr<Dev>, std::string> Dev::start(const DevOptions& options, const agent::Bootstrap& bootstrap,
                                                            log::Console& console) {
  const std::string address = bootstrap.xds ? bootstrap.xds->address : "";
  if (!address.starts_with("unix:"))
    return std::unexpected("--dev serves the control plane on the bootstrap's xds.address, which must be unix:PATH");
  std::error_code ignored;  // the server says what is wrong with its path
  std::filesystem::create_directories(std::filesystem::path(address.substr(5)).parent_path(), ignored);
  plane::ControlOptions control{.dir = options.dir, .mesh = options.mesh};
  control.server.listen = address;
  control.server.translation.deny_by_default = options.deny_by_default;
  control.say = [&console](const std::string& line) { console.say(log::Level::kInfo, "control: " + line); };
  control.problems = [](const std::string& text) { std::fputs(text.c_str(), stderr); };
  auto started = plane::Control::start(std::move(control));
  if (!started) return std::unexpected("control: " + started.error());
  if (options.own_tap) {
    if (auto ok = dress_tap(); !ok) return std::unexpected(ok.error());
    console.say(log::Level::kInfo, std::string("dev: the gateway is 10.10.0.1 on ") + kTap + ", this machine " + kKernelAddress +
                                       ": origins go there, and `curl http://10.10.0.1/` asks the gateway");
  }
  return std::unique_ptr<Dev>(new Dev(std::move(*started)));
}

}  // namespace sluice
