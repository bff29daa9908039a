// Frames for tests: built field by field as the RFCs draw them, without a line of the code under test (checksums here are the plain loop of
// RFC 1071).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/address.h"

namespace sluice::net::test {

using Frame = std::vector<uint8_t>;

inline Ipv4 ip(const char* text) { return IpAddress::parse(text)->v4(); }

inline void put16(Frame& f, uint32_t v) { f.insert(f.end(), {uint8_t(v >> 8), uint8_t(v)}); }
inline void put32(Frame& f, uint32_t v) {
  put16(f, v >> 16);
  put16(f, v & 0xffff);
}
inline void put(Frame& f, const Frame& bytes) { f.insert(f.end(), bytes.begin(), bytes.end()); }
inline void set16(Frame& f, size_t at, uint32_t v) {
  f[at] = uint8_t(v >> 8);
  f[at + 1] = uint8_t(v);
}
inline uint16_t get16(const Frame& f, size_t at) { return uint16_t(f[at] << 8 | f[at + 1]); }
inline uint32_t get32(const Frame& f, size_t at) { return uint32_t(get16(f, at)) << 16 | get16(f, at + 2); }

inline uint16_t plain_checksum(const Frame& f, size_t from, size_t to) {
  uint32_t sum = 0;
  for (size_t i = from; i < to; i += 2) sum += uint32_t(f[i] << 8 | (i + 1 < to ? f[i + 1] : 0));
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return uint16_t(~sum);
}

inline Frame ethernet(MacAddress dst, MacAddress src, uint16_t type, const Frame& payload, int vlan = -1) {
  Frame f(dst.b.begin(), dst.b.end());
  f.insert(f.end(), src.b.begin(), src.b.end());
  if (vlan >= 0) {
    put16(f, 0x8100);
    put16(f, uint32_t(vlan));
  }
  put16(f, type);
  put(f, payload);
  return f;
}

inline Frame arp(uint16_t operation, MacAddress sender_mac, Ipv4 sender, MacAddress target_mac, Ipv4 target) {
  Frame f;
  put16(f, 1);
  put16(f, 0x0800);
  put16(f, 0x0604);
  put16(f, operation);
  f.insert(f.end(), sender_mac.b.begin(), sender_mac.b.end());
  put32(f, sender.v);
  f.insert(f.end(), target_mac.b.begin(), target_mac.b.end());
  put32(f, target.v);
  return f;
}

inline void fix_ip_checksum(Frame& packet) {
  set16(packet, 10, 0);
  set16(packet, 10, plain_checksum(packet, 0, size_t(packet[0] & 15) * 4));
}
inline Frame ipv4(Ipv4 src, Ipv4 dst, uint8_t protocol, const Frame& payload, const Frame& options = {}) {
  Frame f;
  put16(f, uint32_t(0x45 + options.size() / 4) << 8);
  put16(f, uint32_t(20 + options.size() + payload.size()));
  put32(f, 0x1234'4000);
  put16(f, uint32_t(64u << 8 | protocol));
  put16(f, 0);
  put32(f, src.v);
  put32(f, dst.v);
  put(f, options);
  put(f, payload);
  fix_ip_checksum(f);
  return f;
}

// A TCP header with `payload`; the checksum is not net's and stays 0.
inline Frame tcp(uint16_t src, uint16_t dst, uint32_t seq, const std::string& payload = "") {
  Frame f;
  put16(f, src);
  put16(f, dst);
  put32(f, seq);
  put32(f, 0);
  put32(f, 0x5002'ffff);
  put32(f, 0);
  f.insert(f.end(), payload.begin(), payload.end());
  return f;
}

inline Frame icmp(uint8_t type, uint8_t code, uint32_t rest, const Frame& payload) {
  Frame f;
  put16(f, uint32_t(type << 8 | code));
  put16(f, 0);
  put32(f, rest);
  put(f, payload);
  set16(f, 2, plain_checksum(f, 0, f.size()));
  return f;
}

}  // namespace sluice::net::test
