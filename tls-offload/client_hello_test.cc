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

TEST(ClientHello, RefusesWhatIsNoHelloOrTooLong) {
  ClientHello h;
  const uint8_t server_hello[] = {22, 3, 1, 0, 4, 2, 0, 0, 0};
  EXPECT_EQ(int(peek(server_hello, h)), int(HelloStatus::kMalformed));
  const uint8_t empty_record[] = {22, 3, 1, 0, 0};
  EXPECT_EQ(int(peek(empty_record, h)), int(HelloStatus::kMalformed));
  const uint8_t huge[] = {22, 3, 1, 0x40, 0, 1, 1, 0, 0};
  EXPECT_EQ(int(peek(huge, h)), int(HelloStatus::kTooLong));
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
