// The headers of L2 and L3 as they lie on the wire, and the numbers in them.
#pragma once
#include "dataplane/base/address.h"
#include "dataplane/base/bytes.h"

namespace sluice::net {

constexpr MacAddress kBroadcastMac{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
inline bool is_group(const MacAddress& m) { return m.b[0] & 1; }  // multicast or broadcast

constexpr uint16_t kTypeIpv4 = 0x0800, kTypeArp = 0x0806, kTypeVlan = 0x8100, kTypeIpv6 = 0x86dd;

struct EthernetHeader {
  MacAddress dst, src;
  Be<uint16_t> type;
};
static_assert(sizeof(EthernetHeader) == 14 && alignof(EthernetHeader) == 1);

struct VlanTag {
  Be<uint16_t> control;  // priority 3, drop eligible 1, id 12
  Be<uint16_t> type;
};
static_assert(sizeof(VlanTag) == 4);

struct ArpPacket {  // RFC 826, Ethernet and IPv4
  Be<uint16_t> hardware, protocol;
  uint8_t hardware_bytes, protocol_bytes;
  Be<uint16_t> operation;
  MacAddress sender_mac;
  Be<uint32_t> sender_ip;
  MacAddress target_mac;
  Be<uint32_t> target_ip;
};
static_assert(sizeof(ArpPacket) == 28 && alignof(ArpPacket) == 1);
constexpr uint16_t kArpRequest = 1, kArpReply = 2;

struct Ipv4Header {  // RFC 791
  uint8_t version_ihl, tos;
  Be<uint16_t> total_length, id, fragment;
  uint8_t ttl, protocol;
  uint8_t checksum[2];  // as it lies in memory (packet/checksum.h)
  Be<uint32_t> src, dst;
};
static_assert(sizeof(Ipv4Header) == 20 && alignof(Ipv4Header) == 1);
constexpr uint16_t kDontFragment = 0x4000, kMoreFragments = 0x2000, kFragmentOffset = 0x1fff;
constexpr uint8_t kTtl = 64, kIpProtocolUdp = 17;

struct IcmpHeader {  // RFC 792
  uint8_t type, code;
  uint8_t checksum[2];
  Be<uint16_t> a, b;  // echo: id, sequence; fragmentation needed: 0, MTU of the next hop (RFC 1191)
};
static_assert(sizeof(IcmpHeader) == 8);
constexpr uint8_t kIcmpEchoReply = 0, kIcmpUnreachable = 3, kIcmpEcho = 8, kIcmpTimeExceeded = 11;
constexpr uint8_t kIcmpProtocolUnreachable = 2, kIcmpPortUnreachable = 3;

}  // namespace sluice::net
