// Port specs as users write them, turned into what DPDK wants. Pure text.
#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace sluice::drivers {

struct PortSpec {
  enum class Kind : uint8_t { kAfXdp, kAfPacket, kAuto, kTap, kMemif, kRing, kVdev, kPci } kind;
  std::string netdev;  // AF_XDP, AF_PACKET, auto: the kernel interface that becomes the port; TAP: the one that appears
  std::string device;  // DPDK's device name: "net_af_xdp_veth0", "0000:03:00.0"
  std::string args;    // its arguments, without the ones that depend on the number of queues
};

// "af_xdp:veth0" -> {kAfXdp, "veth0", "net_af_xdp_veth0", "iface=veth0"}. Errors name the spec and list the forms.
std::expected<PortSpec, std::string> parse_port_spec(std::string_view text);
bool is_pci_address(std::string_view text);  // "0000:03:00.0" or "03:00.0"

}  // namespace sluice::drivers
