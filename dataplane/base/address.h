// Network addresses. IpAddress holds IPv4 or IPv6 (IPv6 is stored and compared; the packet path is a later issue's).
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

struct Ipv4 {
  uint32_t v = 0;  // host order: 10.0.0.1 is 0x0a000001
  friend constexpr auto operator<=>(const Ipv4&, const Ipv4&) = default;
};

class IpAddress {
 public:
  constexpr IpAddress() = default;  // 0.0.0.0
  constexpr IpAddress(Ipv4 a)
      : b_{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, uint8_t(a.v >> 24), uint8_t(a.v >> 16), uint8_t(a.v >> 8), uint8_t(a.v)} {}
  static constexpr IpAddress v6(const std::array<uint8_t, 16>& b) {
    IpAddress a;
    a.b_ = b;
    a.is_v4_ = false;
    return a;
  }
  // "10.0.0.1", "2001:db8::1"; nullopt for anything else (no ports, no scopes, no octal or short forms).
  static std::optional<IpAddress> parse(std::string_view text);

  constexpr bool is_v4() const { return is_v4_; }
  constexpr Ipv4 v4() const { return {uint32_t(b_[12]) << 24 | uint32_t(b_[13]) << 16 | uint32_t(b_[14]) << 8 | b_[15]}; }
  constexpr const std::array<uint8_t, 16>& bytes() const { return b_; }  // IPv4 as ::ffff:a.b.c.d
  constexpr bool is_unspecified() const { return is_v4_ ? v4().v == 0 : b_ == std::array<uint8_t, 16>{}; }
  std::string to_string() const;
  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  std::array<uint8_t, 16> b_{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
  bool is_v4_ = true;
};

// A CIDR block. Bits past the length are ignored when matching; an IPv4 block never contains an IPv6 address.
struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;  // bits of the family: 0..32 or 0..128
  bool contains(const IpAddress& a) const;
  static std::optional<IpPrefix> parse(std::string_view text);  // "10.0.0.0/8", "10.0.0.1" (a host)
  friend bool operator==(const IpPrefix&, const IpPrefix&) = default;
};

struct SocketAddress {
  IpAddress ip;
  uint16_t port = 0;
  std::string to_string() const;  // "10.0.0.1:80", "[2001:db8::1]:80"
  friend constexpr auto operator<=>(const SocketAddress&, const SocketAddress&) = default;
};

struct MacAddress {
  std::array<uint8_t, 6> b{};
  std::string to_string() const;
  friend constexpr auto operator<=>(const MacAddress&, const MacAddress&) = default;
};

// The four-tuple of a connection as this machine sees it.
struct FourTuple {
  SocketAddress local, remote;
  friend constexpr auto operator<=>(const FourTuple&, const FourTuple&) = default;
};

}  // namespace sluice
