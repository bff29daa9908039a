// A kernel netdev that is to become an AF_XDP or AF_PACKET port belongs to us alone: the kernel must not answer beside us (addresses, IPv6,
// a bridge), nor hand us frames that never were on a wire (GRO; on veth the peer's partial checksums and super-frames). This looks, and
// names the commands that cure it.
//
// The peer of a veth may live in another namespace: it is found by its nsid among the named ones (/run/netns) and asked there on a thread
// of its own; a peer in a namespace without a name cannot be asked, which is said in netdev_note() (frames with bad checksums are then
// dropped and counted, tcp_bad_checksum). Thread: control. Reads only; changes nothing.
#pragma once
#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace sluice::drivers {

struct NetdevOffloads {
  bool tx_checksum = false, tso = false, gso = false;
};

struct Netdev {
  std::string name;
  bool up = false, ipv6_enabled = false, gro = false, lro = false, veth = false;
  std::string master;                  // bridge or bond that owns it; empty: none
  std::vector<std::string> addresses;  // "10.0.0.1/24"
  unsigned mtu = 0, combined_channels = 0;
  struct Peer {
    std::string name, netns;  // netns empty: ours
    bool up = false;
    NetdevOffloads offloads;
  };
  std::optional<Peer> peer;  // of a veth, when it can be asked
};

// Errors: no such interface, no permission.
std::expected<Netdev, std::string> inspect_netdev(const std::string& name);

// Empty when the netdev may become a port; else one line: what the kernel does with it and the commands that end it, joined by " && ".
// Pure.
std::string netdev_refusal(const Netdev& dev);

// What could not be looked at; empty when nothing. Pure.
std::string netdev_note(const Netdev& dev);

}  // namespace sluice::drivers
