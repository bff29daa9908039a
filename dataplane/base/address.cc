#include "dataplane/base/address.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstdio>
#include <cstring>

namespace sluice {

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  char z[INET6_ADDRSTRLEN + 1];
  if (text.size() >= sizeof z || text.find('\0') != text.npos) return std::nullopt;
  std::memcpy(z, text.data(), text.size());
  z[text.size()] = 0;
  in_addr v4;
  if (inet_pton(AF_INET, z, &v4) == 1) return IpAddress(Ipv4{ntohl(v4.s_addr)});
  std::array<uint8_t, 16> v6;
  if (inet_pton(AF_INET6, z, v6.data()) == 1) return IpAddress::v6(v6);
  return std::nullopt;
}

std::string IpAddress::to_string() const {
  char z[INET6_ADDRSTRLEN];
  return inet_ntop(is_v4_ ? AF_INET : AF_INET6, is_v4_ ? b_.data() + 12 : b_.data(), z, sizeof z);
}

bool IpPrefix::contains(const IpAddress& a) const {
  if (a.is_v4() != address.is_v4()) return false;
  const unsigned bits = length + (address.is_v4() ? 96u : 0u), whole = bits / 8, part = bits % 8;
  if (std::memcmp(a.bytes().data(), address.bytes().data(), whole) != 0) return false;
  return part == 0 || ((a.bytes()[whole] ^ address.bytes()[whole]) >> (8 - part)) == 0;
}

std::optional<IpPrefix> IpPrefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const auto ip = IpAddress::parse(text.substr(0, slash));
  if (!ip) return std::nullopt;
  const unsigned most = ip->is_v4() ? 32 : 128;
  unsigned length = most;
  if (slash != text.npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (error != std::errc() || end != digits.data() + digits.size() || length > most) return std::nullopt;
  }
  return IpPrefix{*ip, uint8_t(length)};
}

std::string SocketAddress::to_string() const {
  const std::string host = ip.to_string();
  return (ip.is_v4() ? host : "[" + host + "]") + ":" + std::to_string(port);
}

std::string MacAddress::to_string() const {
  char z[18];
  std::snprintf(z, sizeof z, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
  return z;
}

}  // namespace sluice
