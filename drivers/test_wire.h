// For tests that need root: a network namespace of their own (gone with the process), shell commands, and the other end of a kernel netdev
// as a raw socket.
#pragma once
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace sluice::test {

// Empty, or why these tests cannot run here. Call before EAL starts its threads.
inline std::string enter_private_netns() {
  if (geteuid() != 0) return "needs root (network namespaces, AF_XDP, AF_PACKET)";
  if (unshare(CLONE_NEWNET) != 0) return "the kernel gives no network namespace (unshare: CAP_SYS_ADMIN)";
  if (std::system("ip link set lo up") != 0) return "`ip` is missing (apt install iproute2)";
  return {};
}

inline bool shell(const std::string& command) { return std::system(("( " + command + " ) >/dev/null 2>&1").c_str()) == 0; }

// A veth pair a-b ready for a port on `a` and a kernel on `b`.
inline bool make_veth(const std::string& a, const std::string& b) {
  return shell("ip link add " + a + " type veth peer name " + b) && shell("sysctl -w net.ipv6.conf." + a + ".disable_ipv6=1") &&
         shell("sysctl -w net.ipv6.conf." + b + ".disable_ipv6=1") && shell("ethtool -K " + b + " tx off tso off gso off") &&
         shell("ip link set " + a + " up") && shell("ip link set " + b + " up");
}

// Frames out of and into a kernel netdev, whole.
class Wire {
 public:
  explicit Wire(const std::string& netdev) : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x0003))) {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_protocol = htons(0x0003);  // ETH_P_ALL
    to.sll_ifindex = int(if_nametoindex(netdev.c_str()));
    const int big = 64 << 20, on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
    setsockopt(fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
    setsockopt(fd_, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << netdev;
  }
  ~Wire() { close(fd_); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  bool send(const std::vector<uint8_t>& frame) { return ::send(fd_, frame.data(), frame.size(), 0) == ssize_t(frame.size()); }
  // The next frame of `ether_type` (others are passed over), or nothing within `ms`.
  std::optional<std::vector<uint8_t>> receive(uint16_t ether_type, int ms = 1000) {
    for (;;) {
      pollfd p{fd_, POLLIN, 0};
      if (poll(&p, 1, ms) <= 0) return std::nullopt;
      std::vector<uint8_t> frame(65536);
      const ssize_t n = recv(fd_, frame.data(), frame.size(), 0);
      if (n < 14 || (frame[12] << 8 | frame[13]) != ether_type) continue;
      frame.resize(size_t(n));
      return frame;
    }
  }

 private:
  int fd_;
};

}  // namespace sluice::test
