#include "ctrl/agent/bootstrap.h"

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <sstream>

#include "ctrl/agent/yaml.h"

namespace sluice::agent {
namespace {

constexpr std::string_view kSmallest =
    "node: {id: router~10.10.0.1~gw-0.shop~shop.svc.cluster.local}\n"
    "ports: [{devargs: 'auto:veth0', address: 10.10.0.1/24}]\n"
    "xds: {address: 'unix:/run/x.sock'}\n";

std::string shipped() {
  std::ifstream in(std::string(SLUICE_SOURCE_ROOT) + "/configs/sluice.yaml");
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

// The errors of the smallest bootstrap with `extra` after it, joined.
std::string errors_of(const std::string& text) {
  const auto b = parse_bootstrap(text, "f.yaml");
  if (b) return "";
  std::string all;
  for (const auto& e : b.error()) all += e + "\n";
  return all;
}
std::string errors_with(const std::string& extra) { return errors_of(std::string(kSmallest) + extra); }

TEST(Bootstrap, TheSmallestOneHasEveryDefault) {
  const auto b = parse_bootstrap(kSmallest, "f.yaml");
  ASSERT_TRUE(b) << b.error()[0];
  Bootstrap want;
  want.node.id = "router~10.10.0.1~gw-0.shop~shop.svc.cluster.local";
  want.node.cluster = "gw-0.shop";
  want.ports = {{"port0", "auto:veth0", {*IpPrefix::parse("10.10.0.1/24")}, {}, {}}};
  want.xds = XdsConfig{.address = "unix:/run/x.sock"};
  EXPECT_EQ(*b, want);
}

TEST(Bootstrap, TheShippedFileParsesAndSaysTheDefaults) {
  const auto b = parse_bootstrap(shipped(), "configs/sluice.yaml");
  ASSERT_TRUE(b) << b.error()[0];
  Bootstrap want;  // what is required has no default and is taken over
  want.node = b->node;
  want.ports = b->ports;
  want.xds = b->xds;
  EXPECT_EQ(*b, want);
  EXPECT_EQ(b->ports[0].name, "port0");
  EXPECT_EQ(b->node.cluster, "sluice-0.default");
  EXPECT_FALSE(b->xds->tls);
}

TEST(Bootstrap, TheShippedFileShowsEveryKey) {
  const std::string text = shipped();
  for (const std::string& key : bootstrap_keys()) {
    const std::string last = key.substr(key.rfind('.') + 1);
    EXPECT_TRUE(std::regex_search(text, std::regex("(^|[\\s{,(:-])" + last + "\\b"))) << key;
  }
}

TEST(Bootstrap, TheCaMustKnowWhoAsksAndNobodyOnTheWayMayAnswer) {
  const auto with = [](const std::string& ca) { return errors_with("ca: {identity: 'spiffe://td/ns/a/sa/b', " + ca + "}\n"); };
  EXPECT_EQ(with("address: 'unix:/s', token: /t"), "");
  EXPECT_EQ(with("address: 'ca:15012', token: /t, tls: {ca: /c}, ttl: 48h, keep: /var/lib/sluice"), "");
  EXPECT_EQ(with("address: 'ca:15012', tls: {ca: /c, cert: /d, key: /e}"), "");
  EXPECT_NE(with("address: 'unix:/s'").find("must know who asks"), std::string::npos);
  EXPECT_NE(with("address: 'ca:15012', tls: {ca: /c}").find("must know who asks"), std::string::npos);
  EXPECT_NE(with("address: 'ca:15012', token: /t").find("in plain text anybody"), std::string::npos);
  EXPECT_NE(with("address: 'nowhere', token: /t").find("'ca.address' must be unix:PATH"), std::string::npos);
  EXPECT_NE(with("address: 'unix:/s', token: /t, ttl: 5s").find("'ca.ttl' must be a duration"), std::string::npos);
  EXPECT_NE(with("address: '127.example.com:15012', token: /t").find("in plain text anybody"), std::string::npos);  // a name, not loopback
  EXPECT_EQ(with("address: '127.0.0.1:15012', token: /t").find("in plain text anybody"), std::string::npos);
  EXPECT_NE(errors_with("ca: {address: 'unix:/s', token: /t}\n").find("'ca.identity' is missing"), std::string::npos);
  EXPECT_NE(errors_with("ca: {address: 'unix:/s', token: /t, identity: shop}\n").find("is no SPIFFE identity"), std::string::npos);
  const auto b = parse_bootstrap(
      "node: {id: router~10.10.0.1~gw-0.shop~shop.svc, metadata: {NAMESPACE: shop, SERVICE_ACCOUNT: gw}}\n"
      "ports: [{devargs: 'auto:veth0', address: 10.10.0.1/24}]\nxds: {address: 'unix:/run/x.sock'}\n"
      "ca: {address: 'unix:/run/x.sock', token: /t}\n",
      "f.yaml");
  ASSERT_TRUE(b) << b.error()[0];
  EXPECT_EQ(b->ca->identity, "spiffe://cluster.local/ns/shop/sa/gw");
}

TEST(Bootstrap, TheKeysWithoutDefaultsOfTheShippedFileAreRight) {
  std::string text = std::regex_replace(shipped(), std::regex("\n#:  mac"), "\n    mac");
  text = std::regex_replace(text, std::regex("\n#:  vlan"), "\n    vlan");
  text = std::regex_replace(text, std::regex("\n#:resources[^\n]*"), "");
  text = std::regex_replace(text, std::regex("\n#:ca:"), "\nca:");
  text = std::regex_replace(text, std::regex("\n#:"), "\n  ");
  const auto b = parse_bootstrap(text, "f.yaml");
  ASSERT_TRUE(b) << b.error()[0];
  EXPECT_EQ(b->ports[0].vlan, 100);
  EXPECT_EQ(b->ports[0].mac->to_string(), "02:00:00:00:00:01");
  EXPECT_EQ(b->xds->tls->key, "/etc/sluice/xds/key.pem");
  ASSERT_TRUE(b->ca);
  EXPECT_EQ(b->ca->tls->cert, "/etc/sluice/ca/cert.pem");
  EXPECT_EQ(b->ca->identity, "spiffe://cluster.local/ns/default/sa/sluice");
  EXPECT_EQ(b->ca->cluster_id, "Kubernetes");
  CaConfig defaults;
  EXPECT_EQ(b->ca->ttl, defaults.ttl);
  EXPECT_EQ(b->ca->keep, defaults.keep);
  EXPECT_EQ(b->node.sub_zone, "a");
}

TEST(Bootstrap, ReadsEveryValue) {
  const auto b = parse_bootstrap(R"(
node: {id: router~10.10.0.1~gw-0.shop~shop.svc.cluster.local, cluster: gw.shop, metadata: {A: '1', B: 2, C: {d: true}, E: [x, ~]}}
ports:
  - {devargs: 'memif:role=server,socket=/tmp/a', address: [10.10.0.1/24, 10.11.0.1/16], name: outer}
  - {devargs: 'auto:veth1', address: 10.20.0.1/24, vlan: 7}
routes: [{to: 0.0.0.0/0, via: 10.20.0.254}]
workers: 3
idle: dev
memory: {mbufs: 32768, hugepages: no}
resources: {golden: /g}
secrets: {dir: /s, paths: {/etc/pki: /p}}
kept: {dir: off}
log: {dir: /l, stdout: true}
admin: {socket: /a.sock}
ready: {port: 0}
stats: {address: 'off'}
drain: {deadline: 500ms}
limits: {connections: 100, exchanges: 50, request_headers_timeout: 1m, send_stall_timeout: 2s}
)",
                                 "f.yaml");
  ASSERT_TRUE(b) << b.error()[0];
  EXPECT_EQ(b->node.metadata_json, R"({"A":"1","B":2,"C":{"d":true},"E":["x",null]})");
  EXPECT_EQ(b->ports[0].addresses.size(), 2u);
  EXPECT_EQ(b->ports[1].name, "port1");
  EXPECT_EQ(b->ports[1].vlan, 7);
  EXPECT_EQ(b->routes[0].via, *IpAddress::parse("10.20.0.254"));
  EXPECT_EQ(b->workers, 3u);
  EXPECT_EQ(b->idle, IdleProfile::kDev);
  EXPECT_EQ(b->hugepages, Hugepages::kNo);
  EXPECT_EQ(b->resources->golden, "/g");
  EXPECT_EQ(b->secrets_paths, (std::vector<std::pair<std::string, std::string>>{{"/etc/pki", "/p"}}));
  EXPECT_EQ(b->kept_dir, "off");
  EXPECT_EQ(b->drain_deadline, 500 * kMs);
  EXPECT_EQ(b->limits.request_headers_timeout, 60 * kSec);
}

TEST(Bootstrap, AnUnknownKeyIsRefusedAtItsPlaceWithASuggestion) {
  EXPECT_EQ(errors_with("admin:\n  sokcet: /x\n"), "f.yaml:5:3: unknown key 'admin.sokcet'; did you mean 'socket'?\n");
  EXPECT_EQ(errors_with("wrokers: 2\n"), "f.yaml:4:1: unknown key 'wrokers'; did you mean 'workers'?\n");
  EXPECT_NE(errors_with("zzz: 2\n").find("known here: node, ports"), std::string::npos);
}

TEST(Bootstrap, AllErrorsComeAtOnce) {
  const std::string all =
      errors_with("workers: none\nidle: fast\nstats: {address: '0.0.0.0:15090'}\ndrain: {deadline: 45}\nready: {port: 70000}\n");
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 5) << all;
  EXPECT_NE(all.find("f.yaml:4:10: 'workers' must be a number from 1 to 64"), std::string::npos) << all;
  EXPECT_NE(all.find("f.yaml:5:7: 'idle' is 'fast'"), std::string::npos) << all;
  EXPECT_NE(all.find("loopback"), std::string::npos);
  EXPECT_NE(all.find("such as 45s"), std::string::npos);
}

struct Wrong {
  const char* name;
  const char* text;
  const char* error;
};
class BootstrapWrong : public testing::TestWithParam<Wrong> {};
TEST_P(BootstrapWrong, IsRefused) {
  const std::string all = errors_of(GetParam().text);
  EXPECT_NE(all.find(GetParam().error), std::string::npos) << all;
}
#define NODE "node: {id: router~10.10.0.1~gw-0.shop~shop.svc.cluster.local}\n"
#define PORTS "ports: [{devargs: 'auto:veth0', address: 10.10.0.1/24}]\n"
#define XDS "xds: {address: 'unix:/run/x.sock'}\n"
constexpr Wrong kWrong[] = {
    {"Empty", "", "holds no YAML document"},
    {"AList", "[1]", "the bootstrap must be a mapping"},
    {"Syntax", "node: {id: x\n", "f.yaml:"},
    {"DuplicateKey", NODE PORTS XDS "workers: 1\nworkers: 2\n", "f.yaml:5:1"},
    {"NoNode", PORTS XDS, "'node' is missing"},
    {"NoNodeId", "node: {}\n" PORTS XDS, "'node.id' is missing"},
    {"NodeIdOfASidecar", "node: {id: sidecar~10.0.0.1~a.b~b.svc}\n" PORTS XDS, "'node.id' must be router~"},
    {"NodeIdWithoutAddress", "node: {id: router~x~a.b~b.svc}\n" PORTS XDS, "'node.id' must be router~"},
    {"NodeIdOfThreeParts", "node: {id: router~10.0.0.1~a.b}\n" PORTS XDS, "'node.id' must be router~"},
    {"MetadataList", "node: {id: router~10.10.0.1~gw-0.shop~shop.svc, metadata: [1]}\n" PORTS XDS, "'node.metadata' must be a mapping"},
    {"NoPorts", NODE XDS, "'ports' is missing or empty"},
    {"EmptyPorts", NODE "ports: []\n" XDS, "'ports' is missing or empty"},
    {"PortsNoList", NODE "ports: x\n" XDS, "'ports' must be a list"},
    {"PortText", NODE "ports: [eth0]\n" XDS, "'ports[0]' must be a mapping"},
    {"PortWithoutDevice", NODE "ports: [{address: 10.10.0.1/24}]\n" XDS, "'ports[0].devargs' is missing"},
    {"PortWithoutAddress", NODE "ports: [{devargs: 'auto:x'}]\n" XDS, "'ports[0].address' is missing"},
    {"PortAddressWithoutLength", NODE "ports: [{devargs: 'auto:x', address: 10.10.0.1}]\n" XDS, "with the length of its network"},
    {"PortAddressIpv6", NODE "ports: [{devargs: 'auto:x', address: 'fd00::1/64'}]\n" XDS, "IPv6"},
    {"PortMac", NODE "ports: [{devargs: 'auto:x', address: 10.10.0.1/24, mac: 02-00}]\n" XDS, "six hexadecimal bytes"},
    {"PortMacMulticast", NODE "ports: [{devargs: 'auto:x', address: 10.10.0.1/24, mac: '01:00:00:00:00:01'}]\n" XDS, "multicast"},
    {"PortVlan", NODE "ports: [{devargs: 'auto:x', address: 10.10.0.1/24, vlan: 4095}]\n" XDS, "1 to 4094"},
    {"PortTwice", NODE "ports: [{devargs: 'auto:x', address: 10.10.0.1/24}, {devargs: 'auto:x', address: 10.11.0.1/24}]\n" XDS,
     "two ports use"},
    {"AddressTwice", NODE "ports: [{devargs: 'auto:x', address: 10.10.0.1/24}, {devargs: 'auto:y', address: 10.10.0.1/24}]\n" XDS,
     "is on two ports"},
    {"RouteNowhere", NODE PORTS XDS "routes: [{to: 0.0.0.0/0, via: 10.99.0.1}]\n", "in no network of a port"},
    {"RouteWithoutGateway", NODE PORTS XDS "routes: [{to: 0.0.0.0/0}]\n", "needs 'to'"},
    {"NeitherXdsNorFiles", NODE PORTS, "exactly one of 'xds'"},
    {"XdsAndFiles", NODE PORTS XDS "resources: {golden: /g}\n", "exactly one of 'xds'"},
    {"GoldenAndJson", NODE PORTS "resources: {golden: /g, json: /j}\n", "exactly one of 'golden'"},
    {"XdsWithoutPort", NODE PORTS "xds: {address: istiod}\n", "unix:PATH or HOST:PORT"},
    {"XdsTlsWithoutCa", NODE PORTS "xds: {address: 'h:1', tls: {cert: c, key: k}}\n", "'xds.tls.ca' is missing"},
    {"XdsCertWithoutKey", NODE PORTS "xds: {address: 'h:1', tls: {ca: a, cert: c}}\n", "cert and key together"},
    {"TooManyWorkers", NODE PORTS XDS "workers: 65\n", "1 to 64"},
    {"NegativeWorkers", NODE PORTS XDS "workers: -1\n", "1 to 64"},
    {"FewMbufs", NODE PORTS XDS "memory: {mbufs: 10}\n", "'memory.mbufs' must be a number from 4096"},
    {"LongSocket",
     NODE PORTS XDS
     "admin: {socket: /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}\n",
     "longer than 107"},
    {"DurationOverflow", NODE PORTS XDS "drain: {deadline: 99999999999999999h}\n", "must be a duration"},
    {"ScalarSection", NODE PORTS XDS "memory: 5\n", "'memory' must be a mapping"},
};
INSTANTIATE_TEST_SUITE_P(Each, BootstrapWrong, testing::ValuesIn(kWrong), [](const auto& i) { return i.param.name; });

TEST(Bootstrap, AFileThatIsNotThereSaysHowToGiveOne) {
  const auto b = load_bootstrap("/no/such/file");
  ASSERT_FALSE(b);
  EXPECT_EQ(b.error()[0], "/no/such/file: cannot be read: No such file or directory; give the bootstrap with -c FILE");
}

TEST(Yaml, RefusesNulDepthAndSize) {
  EXPECT_FALSE(parse_yaml(std::string_view("a: b\0c", 6), "f"));
  EXPECT_FALSE(parse_yaml(std::string(100, '[') + std::string(100, ']'), "f"));
  EXPECT_FALSE(parse_yaml(std::string(kYamlBytesMax + 1, ' '), "f"));
}

TEST(Yaml, NearestFindsTyposAndNothingFarAway) {
  EXPECT_EQ(nearest("adress", {"address", "mac"}), "address");
  EXPECT_EQ(nearest("xyz", {"address", "mac"}), "");
  EXPECT_EQ(nearest("", {"a"}), "");
}

}  // namespace
}  // namespace sluice::agent
