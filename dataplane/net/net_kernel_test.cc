// net against Linux: the kernel resolves us, pings us, is refused by us, over TAP, AF_PACKET and AF_XDP ports. Needs root; a namespace of
// its own.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "dataplane/net/stack.h"
#include "dataplane/packet/checksum.h"
#include "drivers/eal.h"
#include "drivers/port.h"
#include "drivers/test_wire.h"

namespace sluice::net {
namespace {

using test::make_veth;
using test::shell;

std::string skip_reason;

Now clock_now() {
  using namespace std::chrono;
  return {.mono_us = Usec(duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count()), .wall_us = 0};
}

// A worker with a port and a Stack on 10.99.0.1/24; the kernel is 10.99.0.2. TCP that arrives is answered with RST.
class Machine {
 public:
  Machine(const std::string& spec, std::optional<uint16_t> vlan = std::nullopt) {
    auto made = MbufPool::create("net_kernel", 8192, 2048, SOCKET_ID_ANY);
    EXPECT_TRUE(made.has_value()) << made.error();
    pool.emplace(std::move(*made));
    auto opened = drivers::open_port({.spec = spec, .pools = {&*pool}});
    EXPECT_TRUE(opened.has_value()) << opened.error();
    if (!opened) return;
    port = std::move(*opened);
    config = {.interfaces = {{.port = 0, .mac = port->info().mac, .vlan = vlan, .addresses = {*IpPrefix::parse("10.99.0.1/24")}}},
              .ports = 1};
  }
  ~Machine() {
    stop = true;
    if (thread.joinable()) thread.join();
    stack.reset();
  }
  void run() {
    stack = std::make_unique<Stack>(config, 0, neighbours, *pool, drops);
    thread = std::thread([this] {
      while (!stop) turn();
    });
    // The TAP driver learns of frames by a real-time signal to the process; let it interrupt the worker and not our system calls.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
  }
  // One worker turn.
  void turn() {
    rte_mbuf* frames[kRxBurst];
    L4Packet packets[kRxBurst];
    const Now now = clock_now();
    const unsigned got = port->rx(0, frames, kRxBurst);
    const unsigned n = stack->input(0, {frames, got}, now, packets);
    for (unsigned i = 0; i < n; i++) reset(packets[i], now);
    stack->advance(now);
    const auto out = stack->frames(0);
    stack->sent(0, port->tx(0, out.data(), unsigned(std::min<size_t>(out.size(), kTxBurst))));
    if (got == 0) usleep(20);
  }
  void reset(L4Packet& p, Now now) {
    Bytes in = bytes_of(static_cast<const rte_mbuf*>(p.m));
    const uint64_t sum = checksum_add(in, checksum_pseudo(p.src.v4(), p.dst.v4(), 6, uint16_t(in.size())));
    const bool proven = (p.m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    (proven || checksum_fold(sum) == 0xffff ? tcp_good : tcp_bad)++;
    ByteReader r(in);
    const uint16_t from = r.u16(), to = r.u16();
    const uint32_t seq = r.u32();
    rte_pktmbuf_free(p.m);
    rte_mbuf* m = pool->alloc_control();
    std::array<uint8_t, 20> b{};
    const auto put = [&b](unsigned at, auto value) { std::memcpy(&b[at], &value, sizeof value); };
    put(0, Be<uint16_t>(to)), put(2, Be<uint16_t>(from)), put(8, Be<uint32_t>(seq + 1));
    b[12] = 0x50, b[13] = 0x14;  // RST, ACK
    put(16, checksum_fold(checksum_pseudo(p.dst.v4(), p.src.v4(), 6, 20)));
    std::copy(b.begin(), b.end(), reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, 20)));
    m->ol_flags = RTE_MBUF_F_TX_TCP_CKSUM;
    m->l4_len = 20;
    stack->send({m, p.dst, p.src}, now);
  }

  std::optional<MbufPool> pool;
  std::unique_ptr<drivers::Port> port;
  Config config;
  Neighbours neighbours;
  DropCounters drops;
  std::unique_ptr<Stack> stack;
  std::thread thread;
  std::atomic<bool> stop = false;
  std::atomic<int> tcp_good = 0, tcp_bad = 0;
};

sockaddr_in us(uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  inet_pton(AF_INET, "10.99.0.1", &a.sin_addr);
  return a;
}

// The kernel's ping: `count` echo requests with `bytes` of payload; how many came back with the same payload.
int ping(int count, size_t bytes) {
  const int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
  const timeval patience{2, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const sockaddr_in to = us(0);
  int good = 0;
  for (int i = 0; i < count; i++) {
    std::vector<uint8_t> message(8 + bytes);
    for (size_t k = 8; k < message.size(); k++) message[k] = uint8_t(k * 7 + size_t(i));
    message[0] = ICMP_ECHO;
    message[4] = 0x77, message[7] = uint8_t(i);
    const uint16_t sum = uint16_t(~checksum_fold(checksum_add(message)));
    std::memcpy(&message[2], &sum, 2);
    sendto(fd, message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    std::vector<uint8_t> answer(2048);
    for (ssize_t n = 0; (n = recv(fd, answer.data(), answer.size(), 0)) > 0;) {
      if (answer[20] != ICMP_ECHOREPLY) continue;
      good += size_t(n) == 20 + message.size() && std::equal(message.begin() + 4, message.end(), answer.begin() + 24);
      break;
    }
  }
  close(fd);
  return good;
}

int connect_error(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{3, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const sockaddr_in to = us(port);
  const int error = connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
  close(fd);
  return error;
}

int udp_error() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const timeval patience{3, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const sockaddr_in to = us(53);
  char byte = 'x';
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 || send(fd, &byte, 1, 0) != 1) return -1;
  const int error = recv(fd, &byte, 1, 0) < 0 ? errno : 0;
  close(fd);
  return error;
}

bool file_has(const char* path, const std::string& text) {
  std::ifstream f(path);
  for (std::string line; std::getline(f, line);)
    if (line.find(text) != line.npos && line.find("00:00:00:00:00:00") == line.npos) return true;
  return false;
}

class NetKernelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!skip_reason.empty()) GTEST_SKIP() << skip_reason;
  }
  void TearDown() override { shell("ip link del nv0"); }
  void talk(Machine& m) {
    m.run();
    EXPECT_EQ(ping(5, 56), 5);
    EXPECT_EQ(ping(2, 1472), 2);  // a full frame
    EXPECT_EQ(ping(2, 1), 2);     // an odd length, padded
    EXPECT_EQ(udp_error(), ECONNREFUSED) << "port unreachable";
    EXPECT_EQ(connect_error(80), ECONNREFUSED) << "our RST, by route, ARP and checksums of ours";
    EXPECT_TRUE(file_has("/proc/net/arp", "10.99.0.1"));
    EXPECT_EQ(m.tcp_good, 1);
    EXPECT_EQ(m.tcp_bad, 0);
    EXPECT_EQ(m.neighbours.size(), 1u);
    EXPECT_GE(m.stack->counters().echo_replies.get(), 9u);
    EXPECT_EQ(m.drops.get(Drop::kIpBadChecksum), 0u);
    EXPECT_EQ(m.drops.get(Drop::kIpBadLength), 0u);
  }
};

TEST_F(NetKernelTest, TalksToLinuxOverTap) {
  Machine m("tap:ntap0");
  ASSERT_NE(m.port, nullptr);
  // TAP's netdev has the MAC that the driver calls its own; the two ends need their own.
  m.config.interfaces[0].mac.b[5] ^= 1;
  ASSERT_TRUE(shell("ip addr add 10.99.0.2/24 dev ntap0 && ip link set ntap0 up"));
  talk(m);
}

TEST_F(NetKernelTest, TalksToLinuxOverAfPacket) {
  ASSERT_TRUE(make_veth("nv0", "nv1") && shell("ip addr add 10.99.0.2/24 dev nv1"));
  Machine m("af_packet:nv0");
  ASSERT_NE(m.port, nullptr);
  talk(m);
}

TEST_F(NetKernelTest, TalksToLinuxOverAfXdp) {
  ASSERT_TRUE(make_veth("nv0", "nv1") && shell("ip addr add 10.99.0.2/24 dev nv1"));
  Machine m("af_xdp:nv0");
  ASSERT_NE(m.port, nullptr);
  talk(m);
}

TEST_F(NetKernelTest, TalksToLinuxOverAVlan) {
  ASSERT_TRUE(make_veth("nv0", "nv1"));
  if (!shell("ip link add link nv1 name nv1.7 type vlan id 7")) GTEST_SKIP() << "this kernel has no VLAN interfaces (8021q)";
  ASSERT_TRUE(shell("ip addr add 10.99.0.2/24 dev nv1.7 && ip link set nv1.7 up"));
  Machine m("af_packet:nv0", 7);
  ASSERT_NE(m.port, nullptr);
  talk(m);
}

}  // namespace
}  // namespace sluice::net

int main(int argc, char** argv) {
  using namespace sluice;
  testing::InitGoogleTest(&argc, argv);
  net::skip_reason = test::enter_private_netns();
  std::optional<drivers::Eal> eal;
  if (net::skip_reason.empty()) {
    auto started = drivers::Eal::start({.memory = drivers::EalMemory::kNoHuge, .memory_mib = 128});
    if (!started) {
      std::fprintf(stderr, "%s\n", started.error().c_str());
      return 1;
    }
    eal.emplace(std::move(*started));
  } else {
    std::printf("skipped: %s\n", net::skip_reason.c_str());
  }
  return RUN_ALL_TESTS();
}
