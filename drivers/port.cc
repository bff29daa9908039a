// open_port: spec -> netdev checks -> device -> W queue pairs.
#include "drivers/port.h"

#include "drivers/device_port.h"
#include "drivers/fan_port.h"
#include "drivers/netdev.h"
#include "drivers/port_spec.h"

namespace sluice::drivers {
namespace {

using Opened = std::expected<std::unique_ptr<Port>, std::string>;

// AF_XDP where the kernel gives it, else AF_PACKET; says which and why.
Opened open_auto(const PortSpec& spec, const PortOptions& options, std::string& note) {
  auto port = open_device(*parse_port_spec("af_xdp:" + spec.netdev), options);
  if (port) {
    note = "AF_XDP";
    return port;
  }
  note = "AF_PACKET, for AF_XDP does not open: " + port.error();
  auto fallback = open_device(*parse_port_spec("af_packet:" + spec.netdev), options);
  if (!fallback) return std::unexpected(fallback.error() + "; before that: " + port.error());
  return fallback;
}

}  // namespace

Opened open_port(const PortOptions& options) {
  const auto workers = unsigned(options.pools.size());
  SLUICE_ASSERT(workers >= 1 && (workers == 1 || options.owner.workers() == workers));
  const auto spec = parse_port_spec(options.spec);
  if (!spec) return std::unexpected(spec.error());
  if (options.mtu < 576 || options.mtu > kMtu)
    return std::unexpected("port " + options.spec + ": MTU " + std::to_string(options.mtu) + " is not 576.." + std::to_string(kMtu));

  std::string note;
  using Kind = PortSpec::Kind;
  const bool kernel_netdev = spec->kind == Kind::kAfXdp || spec->kind == Kind::kAfPacket || spec->kind == Kind::kAuto;
  if (kernel_netdev && !options.unsafe_netdev) {
    const auto dev = inspect_netdev(spec->netdev);
    if (!dev) return std::unexpected("port " + options.spec + ": " + dev.error());
    if (const std::string why = netdev_refusal(*dev); !why.empty()) return std::unexpected("port " + options.spec + ": " + why);
    note = netdev_note(*dev);
  }
  std::string chosen;
  auto device = spec->kind == Kind::kAuto ? open_auto(*spec, options, chosen) : open_device(*spec, options);
  if (!device) return device;
  (*device)->note(chosen + (chosen.empty() || note.empty() ? "" : "; ") + note);
  return fan(std::move(*device), options.owner, options.pools);
}

}  // namespace sluice::drivers
