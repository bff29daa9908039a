#include "dataplane/net/config.h"

#include "dataplane/net/wire.h"

namespace sluice::net {
namespace {

using Verdict = std::expected<void, std::string>;

Verdict check_interface(const Config& config, size_t index) {
  const Interface& i = config.interfaces[index];
  const std::string place = "interface " + std::to_string(index) + " (port " + std::to_string(i.port) + "): ";
  if (i.port >= config.ports) return std::unexpected(place + "there is no such port; ports are 0 to " + std::to_string(config.ports - 1));
  if (i.mac == MacAddress{} || is_group(i.mac)) return std::unexpected(place + "MAC " + i.mac.to_string() + " is no unicast address");
  if (i.vlan && (*i.vlan < 1 || *i.vlan > 4094)) return std::unexpected(place + "VLAN " + std::to_string(*i.vlan) + " is not 1..4094");
  if (i.mtu < 576 || i.mtu > kMtu) return std::unexpected(place + "MTU " + std::to_string(i.mtu) + " is not 576.." + std::to_string(kMtu));
  if (i.addresses.empty()) return std::unexpected(place + "has no address; give it one, as 10.10.0.1/24");
  for (const IpPrefix& a : i.addresses) {
    const std::string text = a.address.to_string() + "/" + std::to_string(a.length);
    if (!a.address.is_v4()) return std::unexpected(place + text + ": IPv6 has no packet path yet; use an IPv4 address");
    const uint32_t v = a.address.v4().v, host = a.length >= 32 ? 0 : ~0u >> a.length;
    if (v >> 24 == 0 || v >> 24 == 127 || v >> 28 >= 14) return std::unexpected(place + text + " is no unicast host address");
    if (a.length == 0 || a.length > 32) return std::unexpected(place + text + ": the network's length must be 1..32");
    if (a.length < 31 && ((v & host) == 0 || (v & host) == host))
      return std::unexpected(place + text + " is the network's own or its broadcast address");
    for (size_t j = 0; j <= index; j++)
      for (const IpPrefix& other : config.interfaces[j].addresses)
        if (&other != &a && other.address == a.address)
          return std::unexpected(place + text + " is given twice (also to interface " + std::to_string(j) + ")");
  }
  for (size_t j = 0; j < index; j++)
    if (config.interfaces[j].port == i.port && config.interfaces[j].vlan == i.vlan)
      return std::unexpected(place + "is the same port and VLAN as interface " + std::to_string(j) +
                             "; give both addresses to one interface");
  return {};
}

}  // namespace

Verdict validate(const Config& config) {
  if (config.interfaces.empty()) return std::unexpected("no interface; give each port one with an address");
  if (config.interfaces.size() > kInterfacesMax) return std::unexpected("more than " + std::to_string(kInterfacesMax) + " interfaces");
  if (config.routes.size() > kRoutesMax) return std::unexpected("more than " + std::to_string(kRoutesMax) + " routes");
  size_t addresses = 0;
  for (size_t i = 0; i < config.interfaces.size(); i++) {
    if (const auto v = check_interface(config, i); !v) return v;
    addresses += config.interfaces[i].addresses.size();
  }
  if (addresses > kAddressesMax) return std::unexpected("more than " + std::to_string(kAddressesMax) + " addresses");
  for (const Route& r : config.routes) {
    const std::string text =
        "route " + r.prefix.address.to_string() + "/" + std::to_string(r.prefix.length) + " via " + r.gateway.to_string() + ": ";
    if (!r.prefix.address.is_v4() || !r.gateway.is_v4()) return std::unexpected(text + "IPv6 has no packet path yet");
    bool connected = false;
    for (const Interface& i : config.interfaces)
      for (const IpPrefix& a : i.addresses) {
        connected |= a.contains(r.gateway);
        if (a.address == r.gateway) return std::unexpected(text + "the gateway is our own address");
      }
    if (!connected) return std::unexpected(text + "the gateway is in no connected network");
  }
  return {};
}

}  // namespace sluice::net
