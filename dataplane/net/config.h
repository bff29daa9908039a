// What net is told: interfaces with their addresses, and routes. Plain data; validate() is the control thread's gate before a Stack sees
// it.
#pragma once
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/address.h"
#include "dataplane/base/limits.h"

namespace sluice::net {

struct Interface {
  unsigned port = 0;  // index of the worker's ports
  MacAddress mac;
  std::optional<uint16_t> vlan;     // 802.1Q id 1..4094; absent: untagged frames of the port
  std::vector<IpPrefix> addresses;  // "10.10.0.1/24": the address we answer on and the network it is connected to
  uint16_t mtu = kMtu;
};

struct Route {
  IpPrefix prefix;
  IpAddress gateway;  // must lie in a connected network
};

struct Config {
  std::vector<Interface> interfaces;
  std::vector<Route> routes;
  unsigned ports = 1;
};

constexpr unsigned kInterfacesMax = 64, kAddressesMax = 64, kRoutesMax = 256;

// The first thing that is wrong, with its place and the remedy: "interface 1 (port 0): VLAN 5000 is not 1..4094".
std::expected<void, std::string> validate(const Config& config);

}  // namespace sluice::net
