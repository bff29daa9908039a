// rtnetlink tells flags, master, kind and the veth peer's {ifindex, nsid}; getifaddrs the addresses; /proc/sys/net IPv6; the old ethtool
// ioctls the offloads (their netlink successor cannot reach into another namespace either, so setns on a throw-away thread serves both).
#include "drivers/netdev.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

namespace sluice::drivers {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

// One request, one answer; calls `each` for every attribute of it. False when the kernel refused.
bool netlink_ask(nlmsghdr* request, size_t header_bytes, const std::function<void(const void* header)>& head,
                 const std::function<void(const rtattr&)>& each) {
  Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (s < 0 || send(s, request, request->nlmsg_len, 0) < 0) return false;
  alignas(nlmsghdr) char answer[16384];
  const ssize_t n = recv(s, answer, sizeof answer, 0);
  auto* m = reinterpret_cast<nlmsghdr*>(answer);
  if (n <= 0 || !NLMSG_OK(m, unsigned(n)) || m->nlmsg_type == NLMSG_ERROR) return false;
  if (head) head(NLMSG_DATA(m));
  auto* a = reinterpret_cast<rtattr*>(static_cast<char*>(NLMSG_DATA(m)) + NLMSG_ALIGN(header_bytes));
  for (int left = int(m->nlmsg_len - NLMSG_LENGTH(header_bytes)); RTA_OK(a, left); a = RTA_NEXT(a, left)) each(*a);
  return true;
}

struct Link {
  std::string name;
  unsigned flags = 0, mtu = 0, master = 0, peer_index = 0;
  int peer_nsid = -1;  // -1: the peer is in this namespace
  bool veth = false;
};

std::optional<Link> link_of(unsigned index) {
  struct {
    nlmsghdr h;
    ifinfomsg i;
  } request{};
  request.h = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST};
  request.i.ifi_index = int(index);
  Link link;
  const bool ok = netlink_ask(
      &request.h, sizeof(ifinfomsg), [&](const void* h) { link.flags = static_cast<const ifinfomsg*>(h)->ifi_flags; },
      [&](const rtattr& a) {
        const void* data = RTA_DATA(&a);
        const auto number = [&] {
          uint32_t v = 0;
          std::memcpy(&v, data, std::min<size_t>(sizeof v, RTA_PAYLOAD(&a)));
          return v;
        };
        switch (a.rta_type & NLA_TYPE_MASK) {
          case IFLA_IFNAME: link.name = static_cast<const char*>(data); break;
          case IFLA_MTU: link.mtu = number(); break;
          case IFLA_MASTER: link.master = number(); break;
          case IFLA_LINK: link.peer_index = number(); break;
          case IFLA_LINK_NETNSID: link.peer_nsid = std::bit_cast<int>(number()); break;
          case IFLA_LINKINFO: {
            auto* info = static_cast<const rtattr*>(data);
            for (int left = int(RTA_PAYLOAD(&a)); RTA_OK(info, left); info = RTA_NEXT(info, left))
              if (info->rta_type == IFLA_INFO_KIND) link.veth = std::strcmp(static_cast<const char*>(RTA_DATA(info)), "veth") == 0;
            break;
          }
          default: break;
        }
      });
  if (!ok) return std::nullopt;
  return link;
}

template <class T>
bool ethtool(const std::string& name, T& command) {
  Fd s(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq r{};
  std::strncpy(r.ifr_name, name.c_str(), IFNAMSIZ - 1);
  r.ifr_data = reinterpret_cast<char*>(&command);
  return s >= 0 && ioctl(s, SIOCETHTOOL, &r) == 0;
}
uint32_t ethtool_get(const std::string& name, uint32_t what) {
  struct ::ethtool_value v{.cmd = what};
  return ethtool(name, v) ? v.data : 0;
}

NetdevOffloads offloads_of(const std::string& name) {
  return {.tx_checksum = ethtool_get(name, ETHTOOL_GTXCSUM) != 0,
          .tso = ethtool_get(name, ETHTOOL_GTSO) != 0,
          .gso = ethtool_get(name, ETHTOOL_GGSO) != 0};
}

// The named namespace that this one knows as `nsid`; empty when it has no name.
std::string netns_of(int nsid) {
  DIR* dir = opendir("/run/netns");
  if (dir == nullptr) return {};
  std::string found;
  while (const dirent* e = readdir(dir)) {
    if (e->d_name[0] == '.') continue;
    Fd ns(open((std::string("/run/netns/") + e->d_name).c_str(), O_RDONLY | O_CLOEXEC));
    if (ns < 0) continue;
    struct {
      nlmsghdr h;
      rtgenmsg g;
      alignas(4) rtattr a;
      uint32_t fd;
    } request{};
    request.h = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETNSID, .nlmsg_flags = NLM_F_REQUEST};
    request.a = {.rta_len = RTA_LENGTH(4), .rta_type = NETNSA_FD};
    request.fd = uint32_t(int(ns));
    netlink_ask(&request.h, sizeof(rtgenmsg), nullptr, [&](const rtattr& a) {
      int id = -1;
      if (a.rta_type == NETNSA_NSID) std::memcpy(&id, RTA_DATA(&a), sizeof id);
      if (a.rta_type == NETNSA_NSID && id == nsid) found = e->d_name;
    });
    if (!found.empty()) break;
  }
  closedir(dir);
  return found;
}

std::optional<Netdev::Peer> peer_of(const Link& link) {
  std::optional<Netdev::Peer> peer;
  const auto look = [&](std::string netns) {
    const auto other = link_of(link.peer_index);
    if (other) peer = Netdev::Peer{other->name, std::move(netns), (other->flags & IFF_UP) != 0, offloads_of(other->name)};
  };
  if (link.peer_nsid < 0) {
    look("");
    return peer;
  }
  const std::string netns = netns_of(link.peer_nsid);
  if (netns.empty()) return std::nullopt;
  std::thread([&] {  // the namespace belongs to the thread, so it goes with it
    Fd ns(open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC));
    if (ns >= 0 && setns(ns, CLONE_NEWNET) == 0) look(netns);
  })
      .join();
  return peer;
}

std::vector<std::string> addresses_of(const std::string& name) {
  std::vector<std::string> out;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return out;
  for (const ifaddrs* a = all; a != nullptr; a = a->ifa_next) {
    if (a->ifa_addr == nullptr || name != a->ifa_name || (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6))
      continue;
    const bool v4 = a->ifa_addr->sa_family == AF_INET;
    const auto raw = [v4](const sockaddr* s) -> const uint8_t* {
      return v4 ? reinterpret_cast<const uint8_t*>(&reinterpret_cast<const sockaddr_in*>(s)->sin_addr)
                : reinterpret_cast<const uint8_t*>(&reinterpret_cast<const sockaddr_in6*>(s)->sin6_addr);
    };
    char text[INET6_ADDRSTRLEN];
    inet_ntop(a->ifa_addr->sa_family, raw(a->ifa_addr), text, sizeof text);
    unsigned length = 0;
    if (a->ifa_netmask != nullptr)
      for (unsigned i = 0; i < (v4 ? 4u : 16u); i++) length += unsigned(std::popcount(raw(a->ifa_netmask)[i]));
    out.push_back(std::string(text) + "/" + std::to_string(length));
  }
  freeifaddrs(all);
  return out;
}

}  // namespace

std::expected<Netdev, std::string> inspect_netdev(const std::string& name) {
  const unsigned index = if_nametoindex(name.c_str());
  const auto link = index == 0 ? std::nullopt : link_of(index);
  if (!link) return std::unexpected("interface " + name + " does not exist in this network namespace; `ip link show` lists those that do");
  Netdev dev{.name = name, .up = (link->flags & IFF_UP) != 0, .veth = link->veth, .mtu = link->mtu};
  dev.addresses = addresses_of(name);
  std::ifstream ipv6("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6");
  if (int disabled = 0; ipv6 >> disabled) dev.ipv6_enabled = disabled == 0;
  dev.gro = ethtool_get(name, ETHTOOL_GGRO) != 0;
  dev.lro = (ethtool_get(name, ETHTOOL_GFLAGS) & ETH_FLAG_LRO) != 0;
  ethtool_channels channels{.cmd = ETHTOOL_GCHANNELS};
  if (ethtool(name, channels)) dev.combined_channels = channels.combined_count;
  if (link->master != 0) {
    char master[IFNAMSIZ] = "?";
    if_indextoname(link->master, master);
    dev.master = master;
  }
  if (dev.veth) dev.peer = peer_of(*link);
  return dev;
}

std::string netdev_refusal(const Netdev& dev) {
  std::string what, commands;
  const auto add = [&](const std::string& fault, const std::string& command) {
    what += (what.empty() ? "" : ", ") + fault;
    commands += (commands.empty() ? "" : " && ") + command;
  };
  if (!dev.master.empty()) add("belongs to " + dev.master, "ip link set " + dev.name + " nomaster");
  if (!dev.addresses.empty()) {
    std::string list;
    for (const auto& a : dev.addresses) list += (list.empty() ? "" : " ") + a;
    add("has kernel addresses (" + list + ")", "ip addr flush dev " + dev.name);
  }
  if (dev.ipv6_enabled) add("has IPv6 in the kernel", "sysctl -w net.ipv6.conf." + dev.name + ".disable_ipv6=1");
  if (dev.gro || dev.lro)
    add("merges received frames", "ethtool -K " + dev.name + (dev.gro ? " gro off" : "") + (dev.lro ? " lro off" : ""));
  if (!dev.up) add("is down", "ip link set " + dev.name + " up");
  if (dev.peer) {
    const auto& o = dev.peer->offloads;
    const std::string in = dev.peer->netns.empty() ? "" : "ip netns exec " + dev.peer->netns + " ";
    std::string off;
    if (o.tx_checksum) off += " tx off";
    if (o.tso) off += " tso off";
    if (o.gso) off += " gso off";
    if (!off.empty())
      add("has a veth peer " + dev.peer->name + " that leaves checksums or segmentation to hardware that is not there",
          in + "ethtool -K " + dev.peer->name + off);
    if (!dev.peer->up) add("has a veth peer " + dev.peer->name + " that is down", in + "ip link set " + dev.peer->name + " up");
  }
  return what.empty() ? "" : "the kernel also uses " + dev.name + ": it " + what + "; run: " + commands;
}

std::string netdev_note(const Netdev& dev) {
  if (!dev.veth || dev.peer) return "";
  return "the veth peer of " + dev.name +
         " is in a network namespace without a name, so its offloads cannot be seen; there: ethtool -K PEER tx off tso off gso off";
}

}  // namespace sluice::drivers
