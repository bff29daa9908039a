#include "drivers/port_spec.h"

#include <net/if.h>

#include <algorithm>

namespace sluice::drivers {
namespace {

constexpr std::string_view kForms =
    "write auto:IFACE, af_xdp:IFACE, af_packet:IFACE, tap:NAME, memif:role=server,socket=PATH, ring:NAME, a DPDK vdev (net_null0,size=64) "
    "or a PCI address "
    "(0000:03:00.0)";

std::unexpected<std::string> refuse(std::string_view text, std::string_view why) {
  return std::unexpected("port '" + std::string(text) + "': " + std::string(why) + "; " + std::string(kForms));
}

// What the kernel takes as an interface name, without what would break out of a list of device arguments.
bool is_netdev_name(std::string_view name) {
  return !name.empty() && name.size() < IFNAMSIZ && name != "." && name != ".." &&
         std::ranges::none_of(
             name, [](char c) { return c <= ' ' || c == '/' || c == ':' || c == ',' || c == '=' || c == '[' || c == ']'; });
}

bool is_hex(std::string_view s, size_t digits) {
  return s.size() == digits &&
         std::ranges::all_of(s, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
}

// Device arguments differ from one memif or ring to the next; their device names must too. FNV-1a of the text is stable and readable
// enough.
std::string tag_of(std::string_view text) {
  uint32_t h = 2166136261u;
  for (char c : text) h = (h ^ uint8_t(c)) * 16777619u;
  return std::to_string(h);
}

}  // namespace

bool is_pci_address(std::string_view t) {
  if (t.size() == 12 && t[4] == ':' && is_hex(t.substr(0, 4), 4)) t.remove_prefix(5);
  return t.size() == 7 && t[2] == ':' && t[5] == '.' && is_hex(t.substr(0, 2), 2) && is_hex(t.substr(3, 2), 2) && t[6] >= '0' &&
         t[6] <= '7';
}

std::expected<PortSpec, std::string> parse_port_spec(std::string_view text) {
  using Kind = PortSpec::Kind;
  if (text.empty()) return refuse(text, "is empty");
  if (is_pci_address(text.substr(0, text.find(',')))) {
    const size_t comma = text.find(',');
    return PortSpec{Kind::kPci, "", std::string(text.substr(0, comma)), comma == text.npos ? "" : std::string(text.substr(comma + 1))};
  }
  if (text.starts_with("net_") || text.starts_with("eth_") || text.starts_with("virtio_user")) {
    const size_t comma = text.find(',');
    return PortSpec{Kind::kVdev, "", std::string(text.substr(0, comma)), comma == text.npos ? "" : std::string(text.substr(comma + 1))};
  }
  const size_t colon = text.find(':');
  if (colon == text.npos) return refuse(text, "is no port");
  const std::string_view kind = text.substr(0, colon);
  const std::string rest(text.substr(colon + 1));
  if (kind == "af_xdp" || kind == "af_packet" || kind == "auto" || kind == "tap") {
    if (!is_netdev_name(rest)) return refuse(text, "'" + rest + "' is no interface name (1 to 15 characters)");
    if (kind == "af_xdp") return PortSpec{Kind::kAfXdp, rest, "net_af_xdp_" + rest, "iface=" + rest};
    if (kind == "af_packet") return PortSpec{Kind::kAfPacket, rest, "net_af_packet_" + rest, "iface=" + rest};
    if (kind == "tap") return PortSpec{Kind::kTap, rest, "net_tap_" + rest, "iface=" + rest};
    return PortSpec{Kind::kAuto, rest, "", ""};
  }
  if (kind == "memif") {
    if (rest.find("role=") == rest.npos) return refuse(text, "memif needs role=server or role=client");
    return PortSpec{Kind::kMemif, "", "net_memif" + tag_of(rest), rest};
  }
  if (kind == "ring") {
    if (!is_netdev_name(rest)) return refuse(text, "'" + rest + "' is no ring name");
    return PortSpec{Kind::kRing, "", "net_ring_" + rest, ""};
  }
  return refuse(text, "'" + std::string(kind) + "' is no kind of port");
}

}  // namespace sluice::drivers
