// Tokens made here with OpenSSL, right and wrong by one thing each.
#include "ctrl/plane/ca_token.h"

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

namespace sluice::plane {
namespace {

constexpr int64_t kWall = 1'800'000'000'000'000;

std::string base64url(const std::string& in) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  uint32_t bits = 0;
  int n = 0;
  for (const char c : in) {
    bits = bits << 8 | uint8_t(c);
    n += 8;
    while (n >= 6) out += kDigits[bits >> (n -= 6) & 63];
  }
  if (n > 0) out += kDigits[bits << (6 - n) & 63];
  return out;
}

struct Signer {
  EVP_PKEY* key;
  explicit Signer(bool rsa) : key(rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256")) {}
  ~Signer() { EVP_PKEY_free(key); }
  bool is_rsa() const { return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA; }
  std::string sign(const std::string& input) const {
    EVP_MD_CTX* c = EVP_MD_CTX_new();
    size_t n = 1024;
    std::string sig(n, 0);
    EVP_DigestSignInit(c, nullptr, EVP_sha256(), nullptr, key);
    EVP_DigestSign(c, reinterpret_cast<unsigned char*>(sig.data()), &n, reinterpret_cast<const unsigned char*>(input.data()), input.size());
    EVP_MD_CTX_free(c);
    sig.resize(n);
    if (is_rsa()) return sig;
    const auto* p = reinterpret_cast<const unsigned char*>(sig.data());
    ECDSA_SIG* s = d2i_ECDSA_SIG(nullptr, &p, long(n));
    std::string raw(64, 0);
    BN_bn2binpad(ECDSA_SIG_get0_r(s), reinterpret_cast<unsigned char*>(raw.data()), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(s), reinterpret_cast<unsigned char*>(raw.data()) + 32, 32);
    ECDSA_SIG_free(s);
    return raw;
  }
  std::string token(const std::string& claims, std::string header = "") const {
    if (header.empty()) header = std::string(R"({"typ":"JWT","kid":"k1","alg":")") + (is_rsa() ? "RS256" : "ES256") + "\"}";
    const std::string input = base64url(header) + "." + base64url(claims);
    return input + "." + base64url(sign(input));
  }
  std::string number(const char* name) const {
    BIGNUM* n = nullptr;
    EVP_PKEY_get_bn_param(key, name, &n);
    std::string out(size_t(BN_num_bytes(n)), 0);
    BN_bn2bin(n, reinterpret_cast<unsigned char*>(out.data()));
    BN_free(n);
    return base64url(is_rsa() ? out : std::string(32 - out.size(), 0) + out);
  }
  std::string jwk(const std::string& id) const {
    return is_rsa() ? R"({"kty":"RSA","use":"sig","kid":")" + id + R"(","n":")" + number(OSSL_PKEY_PARAM_RSA_N) + R"(","e":")" +
                          number(OSSL_PKEY_PARAM_RSA_E) + "\"}"
                    : R"({"kty":"EC","crv":"P-256","kid":")" + id + R"(","x":")" + number(OSSL_PKEY_PARAM_EC_PUB_X) + R"(","y":")" +
                          number(OSSL_PKEY_PARAM_EC_PUB_Y) + "\"}";
  }
  std::string pem() const {
    BIO* b = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(b, key);
    char* p = nullptr;
    const long n = BIO_get_mem_data(b, &p);
    const std::string out(p, size_t(n));
    BIO_free(b);
    return out;
  }
};

std::string claims(const std::string& sub = "system:serviceaccount:shop:gateway", const std::string& more = R"("exp":1800003600)",
                   const std::string& aud = R"(["istio-ca","other"])", const std::string& iss = "https://issuer") {
  return R"({"iss":")" + iss + R"(","aud":)" + aud + R"(,"sub":")" + sub + "\"" + (more.empty() ? "" : "," + more) + "}";
}
TokenVerifier verifier(const std::string& keys) {
  auto v = TokenVerifier::make({keys, "https://issuer", "istio-ca", "cluster.local"});
  EXPECT_TRUE(v) << v.error();
  return std::move(*v);
}
std::string why(const TokenVerifier& v, const std::string& token) {
  const auto r = v.verify(token, kWall);
  return r ? "" : r.error();
}

TEST(CaToken, AServiceAccountsTokenIsItsSpiffeIdentity) {
  for (const bool rsa : {true, false}) {
    const Signer s(rsa), other(rsa);
    const std::string set = R"({"keys":[)" + other.jwk("k0") + "," + s.jwk("k1") + R"(,{"kty":"oct","k":"AAAA"}]})";
    for (const std::string& keys : {set, s.pem(), other.pem() + s.pem()}) {
      const auto v = verifier(keys);
      EXPECT_EQ(v.verify(s.token(claims()), kWall), "spiffe://cluster.local/ns/shop/sa/gateway") << why(v, s.token(claims()));
      EXPECT_EQ(v.verify(s.token(claims("spiffe://cluster.local/ns/a/sa/b", R"("exp":1800003600,"nbf":1)", R"("istio-ca")")), kWall),
                "spiffe://cluster.local/ns/a/sa/b");
    }
  }
}

TEST(CaToken, AWrongClaimIsRefusedByName) {
  const Signer s(false);
  const auto v = verifier(s.pem());
  const std::string sub = "system:serviceaccount:shop:gateway", ok = R"("exp":1800003600)";
  EXPECT_NE(why(v, s.token(claims(sub, ""))).find("no end of its life"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(sub, R"("exp":"1800003600")"))).find("no end of its life"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(sub, R"("exp":1799999900)"))).find("expired"), std::string::npos);
  EXPECT_EQ(why(v, s.token(claims(sub, R"("exp":1799999990)"))), "");  // leeway
  EXPECT_NE(why(v, s.token(claims(sub, ok + R"(,"nbf":1800000100)"))).find("not valid yet"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(sub, ok + R"(,"nbf":"1")"))).find("not valid yet"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(sub, ok, R"(["other"])"))).find("audience"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(sub, ok, R"({"istio-ca":"istio-ca"})"))).find("audience"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(sub, ok, R"("istio-ca")", "https://evil"))).find("issuer"), std::string::npos);
  for (const char* subject : {"", "somebody", "spiffe://other/ns/a/sa/b", "system:serviceaccount:shop", "system:serviceaccount:a/../b:c",
                              "system:serviceaccount:a:b:c", "system:serviceaccount:a:b/c", "spiffe://cluster.local/../x"})
    EXPECT_NE(why(v, s.token(claims(subject))).find("subject"), std::string::npos) << subject;
}

TEST(CaToken, AForgedOrTwistedTokenIsRefused) {
  const Signer s(false), stranger(false), rsa(true);
  const auto v = verifier(s.pem());
  const std::string good = s.token(claims());
  EXPECT_NE(why(v, stranger.token(claims())).find("not signed by"), std::string::npos);
  EXPECT_NE(why(v, rsa.token(claims())).find("not signed by"), std::string::npos);
  std::string twisted = good;
  twisted[good.find('.') + 5] ^= 1;
  EXPECT_FALSE(v.verify(twisted, kWall));
  const std::string none = base64url(R"({"alg":"none"})") + "." + base64url(claims()) + ".";
  EXPECT_NE(why(v, none).find("not signed by"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(), R"({"alg":"HS256"})")).find("not signed by"), std::string::npos);
  EXPECT_NE(why(v, s.token(claims(), R"({"alg":"ES256","crit":["x"]})")).find("crit"), std::string::npos);
  for (const std::string& text : {std::string(), std::string("a"), std::string("a.b"), good + ".x", good.substr(0, good.size() - 1) + "=",
                                  std::string(kTokenBytesMax + 1, 'a')})
    EXPECT_FALSE(v.verify(text, kWall)) << text.substr(0, 80);
}

TEST(CaToken, AKeyOfAnotherIdIsNotTried) {
  const Signer s(false);
  const auto v = verifier(R"({"keys":[)" + s.jwk("k2") + "]}");
  EXPECT_NE(why(v, s.token(claims())).find("not signed by"), std::string::npos);
}

TEST(CaToken, WhatCannotVerifyIsRefusedAtStart) {
  const Signer s(false);
  EXPECT_FALSE(TokenVerifier::make({s.pem(), "", "istio-ca", "cluster.local"}));
  EXPECT_FALSE(TokenVerifier::make({s.pem(), "i", "", "cluster.local"}));
  for (const char* keys :
       {"", "nonsense", "{}", R"({"keys":[]})", R"({"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]})",
        R"({"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]})", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"})
    EXPECT_FALSE(TokenVerifier::make({keys, "i", "a", "cluster.local"})) << keys;
}

}  // namespace
}  // namespace sluice::plane
