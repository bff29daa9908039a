#include "dataplane/tables/filter_chain_index.h"

#include <gtest/gtest.h>

namespace sluice::tables {
namespace {

std::shared_ptr<const FilterChain> chain(std::string name, FilterChainMatch match) {
  FilterChain c;
  c.name = std::move(name);
  c.match = std::move(match);
  return std::make_shared<const FilterChain>(std::move(c));
}

struct Ask {
  std::string_view sni, transport = "tls";
  std::vector<std::string_view> alpn;
  std::string remote = "10.10.0.2";
  uint16_t port = 443;
};
std::string found(const FilterChainIndex& index, const Ask& a) {
  ConnectionView c{{*IpAddress::parse("10.10.0.1"), a.port}, {*IpAddress::parse(a.remote), 40000}, a.sni, a.transport, a.alpn};
  const auto* f = index.find(c);
  return f == nullptr ? "none" : (*f)->name;
}

TEST(FilterChainIndex, TheMostSpecificServerNameWins) {
  const std::vector chains{chain("any", {}), chain("wide", {.server_names = {"*.com"}}),
                           chain("suffix", {.server_names = {"*.example.com"}}), chain("exact", {.server_names = {"shop.example.com"}})};
  FilterChainIndex index(chains);
  EXPECT_EQ(found(index, {"shop.example.com"}), "exact");
  EXPECT_EQ(found(index, {"a.example.com"}), "suffix");
  EXPECT_EQ(found(index, {"a.b.example.com"}), "suffix");
  EXPECT_EQ(found(index, {"example.com"}), "wide");
  EXPECT_EQ(found(index, {"example.org"}), "any");
  EXPECT_EQ(found(index, {""}), "any");
  EXPECT_EQ(found(index, {"com"}), "any");
}

TEST(FilterChainIndex, NeverComesBackFromAMoreSpecificName) {
  const std::vector chains{chain("exact", {.server_names = {"a.example.com"}, .application_protocols = {"istio", "istio-h2"}}),
                           chain("suffix", {.server_names = {"*.example.com"}})};
  FilterChainIndex index(chains);
  EXPECT_EQ(found(index, {"a.example.com", "tls", {"http/1.1", "istio"}}), "exact");
  EXPECT_EQ(found(index, {"a.example.com", "tls", {"http/1.1"}}),
            "none");  // AUTO_PASSTHROUGH: the ALPN does not match, the connection closes
  EXPECT_EQ(found(index, {"b.example.com", "tls", {"http/1.1"}}), "suffix");
}

TEST(FilterChainIndex, NarrowsByTransportThenAlpnInTheClientsOrder) {
  const std::vector chains{
      chain("plain", {.transport_protocol = "raw_buffer"}), chain("h2", {.transport_protocol = "tls", .application_protocols = {"h2"}}),
      chain("h1", {.transport_protocol = "tls", .application_protocols = {"http/1.1"}}), chain("tls", {.transport_protocol = "tls"})};
  FilterChainIndex index(chains);
  EXPECT_EQ(found(index, {"", "raw_buffer"}), "plain");
  EXPECT_EQ(found(index, {"", "tls", {"http/1.1", "h2"}}), "h1");
  EXPECT_EQ(found(index, {"", "tls", {"h2", "http/1.1"}}), "h2");
  EXPECT_EQ(found(index, {"", "tls", {"foo"}}), "tls");
}

TEST(FilterChainIndex, PortAndAddressesNarrowToo) {
  const std::vector chains{chain("port", {.destination_port = 443}), chain("net", {.source = {*IpPrefix::parse("10.10.0.0/24")}}),
                           chain("host", {.source = {*IpPrefix::parse("10.10.0.66")}}), chain("rest", {})};
  FilterChainIndex index(chains);
  EXPECT_EQ(found(index, {""}), "port");
  EXPECT_EQ(found(index, {.sni = "", .port = 80}), "net");
  EXPECT_EQ(found(index, {.sni = "", .remote = "10.10.0.66", .port = 80}), "host");
  EXPECT_EQ(found(index, {.sni = "", .remote = "192.0.2.1", .port = 80}), "rest");
}

// However many chains share a name (one per source network, as a policy per branch office would have it).
TEST(FilterChainIndex, TheLastOfAThousandChainsOfOneNameIsFound) {
  std::vector<std::shared_ptr<const FilterChain>> chains;
  for (uint32_t i = 0; i < 1000; i++)
    chains.push_back(chain(std::to_string(i), {.source = {{Ipv4{0x0a000000 + i * 256}, 24}}, .server_names = {"a.example.com"}}));
  EXPECT_EQ(clash(chains), "");
  FilterChainIndex index(chains);
  EXPECT_EQ(found(index, {.sni = "a.example.com", .remote = "10.0.0.9"}), "0");
  EXPECT_EQ(found(index, {.sni = "a.example.com", .remote = "10.0.64.9"}), "64");
  EXPECT_EQ(found(index, {.sni = "a.example.com", .remote = "10.3.231.9"}), "999");
  EXPECT_EQ(found(index, {.sni = "a.example.com", .remote = "10.3.232.9"}), "none");
}

// What is narrowed away at one step does not come back at the next.
TEST(FilterChainIndex, AStepThatNobodyPassesEndsTheSearch) {
  const std::vector chains{chain("tls h2", {.transport_protocol = "tls", .application_protocols = {"h2"}}), chain("any", {})};
  FilterChainIndex index(chains);
  EXPECT_EQ(found(index, {"", "tls", {"h2"}}), "tls h2");
  EXPECT_EQ(found(index, {"", "tls", {"http/1.1"}}), "none");
  EXPECT_EQ(found(index, {"", "raw_buffer"}), "any");
}

// Each row was asked of Envoy 1.37 (`--mode validate`).
TEST(FilterChainClash, ChainsThatMatchTheSameAreRefusedAsInEnvoy) {
  const auto block = [](const char* text) { return *IpPrefix::parse(text); };
  const auto clash_of = [](FilterChainMatch a, FilterChainMatch b) {
    return clash(std::vector{chain("one", std::move(a)), chain("two", std::move(b))});
  };
  EXPECT_EQ(clash_of({}, {}), "filter chains \"one\" and \"two\" match the same connections");
  EXPECT_NE(clash_of({.server_names = {"a", "b"}}, {.server_names = {"b", "c"}}), "");
  EXPECT_NE(clash_of({.destination = {block("10.0.0.5/8")}}, {.destination = {block("10.0.0.0/8")}}), "");
  EXPECT_NE(clash_of({.source = {block("10.0.0.5/8")}}, {.source = {block("10.0.0.0/8")}}), "");
  EXPECT_NE(clash_of({.server_names = {"a", "a"}}, {.server_names = {"b"}}), "");
  EXPECT_EQ(clash_of({.server_names = {"a"}}, {.server_names = {"b"}}), "");
  EXPECT_EQ(clash_of({.source = {block("10.0.0.0/8")}}, {.source = {block("10.0.0.0/9")}}), "");
  EXPECT_EQ(clash_of({.source = {block("0.0.0.0/0")}}, {}), "");
  EXPECT_EQ(clash_of({.server_names = {"a"}, .application_protocols = {"istio"}}, {.server_names = {"a"}}), "");
  EXPECT_EQ(clash_of({.destination_port = 80}, {.source_ports = {80}}), "");
  for (const char* name : {"*", "*com", "f*.com"}) EXPECT_NE(clash_of({.server_names = {name}}, {.server_names = {"x"}}), "") << name;
  EXPECT_EQ(clash_of({.server_names = {"*.com"}}, {.server_names = {"com"}}), "");
}

}  // namespace
}  // namespace sluice::tables
