#include "tls-offload/client_hello.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "dataplane/base/rng.h"

namespace sluice::tls {
namespace {

// A real hello, from OpenSSL.
std::vector<uint8_t> hello(const char* sni, std::string_view alpn_wire) {
  SSL_CTX* ctx = SSL_CTX_new(TLS_client_method());
  SSL* ssl = SSL_new(ctx);
  if (sni != nullptr) SSL_set_tlsext_host_name(ssl, sni);
  if (!alpn_wire.empty()) SSL_set_alpn_protos(ssl, reinterpret_cast<const uint8_t*>(alpn_wire.data()), unsigned(alpn_wire.size()));
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
  SSL_set_connect_state(ssl);
  SSL_do_handshake(ssl);
  char* data;
  const long n = BIO_get_mem_data(out, &data);
  std::vector<uint8_t> bytes(data, data + n);
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  return bytes;
}

HelloStatus peek(Bytes bytes, ClientHello& h) {
  const Bytes spans[] = {bytes};
  return peek_client_hello(spans, h);
}

TEST(ClientHello, GivesNameAndProtocolsOfARealHelloHoweverItIsSplit) {
  const auto bytes = hello("Shop.Example.com", std::string_view("\x05istio\x08http/1.1", 15));
  ClientHello h;
  for (size_t n = 0; n < bytes.size(); n++) ASSERT_EQ(int(peek(Bytes(bytes).first(n), h)), int(HelloStatus::kNeedMore)) << n;
  for (size_t cut = 0; cut <= bytes.size(); cut++) {
    const Bytes spans[] = {Bytes(bytes).first(cut), {}, Bytes(bytes).subspan(cut)};
    ASSERT_EQ(int(peek_client_hello(spans, h)), int(HelloStatus::kComplete));
    EXPECT_EQ(h.server_name, "shop.example.com");
    EXPECT_EQ(h.alpn, (std::vector<std::string>{"istio", "http/1.1"}));
  }
  ASSERT_EQ(int(peek(hello(nullptr, {}), h)), int(HelloStatus::kComplete));
  EXPECT_TRUE(h.server_name.empty() && h.alpn.empty());
}

// RFC 8446 5.1: a message may be spread over records as the sender likes.
TEST(ClientHello, MayBeFragmentedOverRecords) {
  const auto bytes = hello("a.example", {});
  for (size_t piece : {1u, 3u, 4u, 5u, 100u}) {
    std::vector<uint8_t> split;
    for (size_t at = 5; at < bytes.size(); at += piece) {
      const size_t n = std::min(piece, bytes.size() - at);
      split.insert(split.end(), {22, 3, 1, uint8_t(n >> 8), uint8_t(n)});
      split.insert(split.end(), bytes.begin() + long(at), bytes.begin() + long(at + n));
    }
    ClientHello h;
    ASSERT_EQ(int(peek(split, h)), int(HelloStatus::kComplete)) << piece;
    EXPECT_EQ(h.server_name, "a.example");
  }
}

TEST(ClientHello, SaysNotTlsWithTheFirstByteThatProvesIt) {
  ClientHello h;
  EXPECT_EQ(int(peek(as_bytes("G"), h)), int(HelloStatus::kNotTls));
  const uint8_t ssl2[] = {22, 2};
  EXPECT_EQ(int(peek(ssl2, h)), int(HelloStatus::kNotTls));
}

using std::string;
string u8(string s) { return string(1, char(s.size())) + s; }
string u16(string s) { return string{char(s.size() >> 8), char(s.size())} + s; }
string extension(int type, string body) { return string{char(type >> 8), char(type)} + u16(std::move(body)); }
string named(string name) { return extension(0, u16('\0' + u16(std::move(name)))); }
string alpn(std::initializer_list<string> names) {
  string list;
  for (const string& n : names) list += u8(n);
  return extension(16, u16(list));
}
string hello_of(const string& extensions, string session = "", string suites = "\x13\x01", string compressions = string(1, '\0')) {
  const string body = "\x03\x03" + string(32, 'r') + u8(session) + u16(suites) + u8(compressions) + u16(extensions);
  const string message = string{1, char(body.size() >> 16)} + u16(body);
  return "\x16\x03\x01" + u16(message);
}

// Each row was asked of Envoy 1.37: kNotTls goes on to the choice of a filter chain, kMalformed and kTooLong close without a word.
TEST(ClientHello, WhatDoesNotParseIsNotTlsAsInEnvoyAndABrokenNameIsMalformed) {
  using S = HelloStatus;
  const string good = named("shop.example.com");
  const struct {
    const char* what;
    string bytes;
    S status;
    string name;
  } rows[] = {
      {"whole", hello_of(good), S::kComplete, "shop.example.com"},
      {"space", hello_of(named("sh op")), S::kComplete, "sh op"},
      {"above ASCII", hello_of(named("SH\xffOP")), S::kComplete, "sh\xffop"},
      {"trailing dot", hello_of(named("a.")), S::kComplete, "a."},
      {"255", hello_of(named(string(255, 'a'))), S::kComplete, string(255, 'a')},
      {"256", hello_of(named(string(256, 'a'))), S::kMalformed, ""},
      {"NUL", hello_of(named(string("a\0b", 3))), S::kMalformed, ""},
      {"empty name", hello_of(named("")), S::kMalformed, ""},
      {"empty list", hello_of(extension(0, u16(""))), S::kMalformed, ""},
      {"another type", hello_of(extension(0, u16('\1' + u16("a")))), S::kMalformed, ""},
      {"two names", hello_of(extension(0, u16('\0' + u16("a") + '\0' + u16("b")))), S::kMalformed, ""},
      {"bytes behind the list", hello_of(extension(0, u16('\0' + u16("a")) + "x")), S::kMalformed, ""},
      {"two name extensions", hello_of(good + good), S::kNotTls, ""},
      {"any extension twice", hello_of(extension(0x5a5a, "") + good + extension(0x5a5a, "")), S::kNotTls, ""},
      {"no protocol", hello_of(good + alpn({})), S::kNotTls, "shop.example.com"},
      {"empty protocol", hello_of(good + alpn({"h2", ""})), S::kNotTls, "shop.example.com"},
      {"a short extension", hello_of(good + string("\0\x0a\0\xff\0", 5)), S::kNotTls, ""},
      {"session id of 33", hello_of(good, string(33, 's')), S::kNotTls, ""},
      {"half a suite", hello_of(good, "", "\x13"), S::kNotTls, ""},
      {"no suite", hello_of(good, "", ""), S::kNotTls, ""},
      {"no compression", hello_of(good, "", "\x13\x01", ""), S::kNotTls, ""},
      {"a ServerHello", string("\x16\x03\x01\0\4\2\0\0\0", 9), S::kNotTls, ""},
      {"no record", string("\x16\x03\x01\0\0", 5), S::kMalformed, ""},
      {"record of 64 KiB", "\x16\x03\x01\xff\xff" + string(40, 'a'), S::kNotTls, ""},
      {"record over 16 KiB", "\x16\x03\x01\x40\x20\1\1" + string(40, 'a'), S::kTooLong, ""},
      {"message of 64 KiB", string("\x16\x03\x01\0\4\1\0\xff\xff", 9), S::kNotTls, ""},
  };
  for (const auto& row : rows) {
    ClientHello h;
    EXPECT_EQ(int(peek(as_bytes(row.bytes), h)), int(row.status)) << row.what;
    if (row.status != S::kMalformed) EXPECT_EQ(h.server_name, row.name) << row.what;
  }
  const string tail(15, 'x');
  string records;
  for (int i = 0; i < 1100; i++) records += "\x16\x03\x01" + u16(i == 0 ? string("\1\0\x40\0", 4) + tail : tail);
  ClientHello h;
  EXPECT_EQ(int(peek(as_bytes(records), h)), int(S::kTooLong));
}

TEST(ClientHello, LooksAtTheFirstProtocolsOnly) {
  string many;
  for (int i = 0; i < 100; i++) many += u8("p" + std::to_string(i));
  ClientHello h;
  ASSERT_EQ(int(peek(as_bytes(hello_of(extension(16, u16(many)))), h)), int(HelloStatus::kComplete));
  EXPECT_EQ(h.alpn.size(), kAlpnMax);
  EXPECT_EQ(h.alpn.back(), "p63");
}

TEST(ClientHello, NoMutationCrashesOrReadsPastTheEnd) {
  const uint64_t seed = 1124;
  SCOPED_TRACE("seed " + std::to_string(seed));
  Rng rng(seed);
  const auto bytes = hello("shop.example.com", std::string_view("\x02h2\x08http/1.1", 12));
  int complete = 0;
  for (int i = 0; i < 20'000; i++) {
    auto m = bytes;
    for (uint32_t n = 1 + rng.below(4); n > 0; n--) m[rng.below(uint32_t(m.size()))] = uint8_t(rng.next());
    m.resize(rng.below(uint32_t(m.size())) + 1);
    m.shrink_to_fit();
    ClientHello h;
    complete += peek(m, h) == HelloStatus::kComplete;
  }
  EXPECT_LT(complete, 20'000);
}

}  // namespace
}  // namespace sluice::tls
