#include "tls-offload/jws.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <vector>

#include "tls-offload/policy_state.h"

namespace sluice::tls {
namespace {

using NumberPtr = std::unique_ptr<BIGNUM, Freer<BN_free>>;

NumberPtr number(std::string_view bytes) {
  return NumberPtr(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), int(bytes.size()), nullptr));
}

KeyPtr from_params(const char* type, OSSL_PARAM_BLD* build) {
  OSSL_PARAM* params = OSSL_PARAM_BLD_to_param(build);
  EVP_PKEY_CTX* c = EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr);
  EVP_PKEY* key = nullptr;
  if (params != nullptr && c != nullptr && EVP_PKEY_fromdata_init(c) == 1) (void)EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, params);
  EVP_PKEY_CTX_free(c);
  OSSL_PARAM_free(params);
  ERR_clear_error();
  return KeyPtr(key);
}

bool is_p256(EVP_PKEY* key) {
  char group[64] = "";
  size_t n = 0;
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
         std::string_view(group) == SN_X9_62_prime256v1;
}
bool is_rsa(EVP_PKEY* key) {
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 8192;
}

// RFC 7518 3.4: r and s, 32 bytes each, instead of DER.
std::string der_of(std::string_view raw) {
  ECDSA_SIG* sig = ECDSA_SIG_new();
  NumberPtr r = number(raw.substr(0, 32)), s = number(raw.substr(32));
  unsigned char* der = nullptr;
  std::string out;
  if (sig != nullptr && r != nullptr && s != nullptr && ECDSA_SIG_set0(sig, r.get(), s.get()) == 1) {
    (void)r.release(), (void)s.release();
    if (const int n = i2d_ECDSA_SIG(sig, &der); n > 0) out.assign(reinterpret_cast<char*>(der), size_t(n));
  }
  OPENSSL_free(der);
  ECDSA_SIG_free(sig);
  return out;
}

bool verify_one(EVP_PKEY* key, std::string_view input, std::string_view signature) {
  EVP_MD_CTX* c = EVP_MD_CTX_new();
  const bool good =
      c != nullptr && EVP_DigestVerifyInit(c, nullptr, EVP_sha256(), nullptr, key) == 1 &&
      EVP_DigestVerify(c, reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                       reinterpret_cast<const unsigned char*>(input.data()), input.size()) == 1;
  EVP_MD_CTX_free(c);
  ERR_clear_error();
  return good;
}

}  // namespace

std::optional<std::string> from_base64url(std::string_view text) {
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  uint32_t bits = 0;
  int n = 0;
  for (const char c : text) {
    const int v = c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52 : c == '-' ? 62 : c == '_' ? 63 : -1;
    if (v < 0) return std::nullopt;
    bits = bits << 6 | uint32_t(v);
    if ((n += 6) >= 8) out += char(bits >> (n -= 8));
  }
  if ((bits & ((1u << n) - 1)) != 0) return std::nullopt;  // one text for one value
  return out;
}

struct JwsKeys::State {
  struct Key {
    std::string id;
    KeyPtr key;
  };
  std::vector<Key> keys;
  std::expected<void, std::string> add(std::string id, KeyPtr key) {
    if (key == nullptr || !(is_p256(key.get()) || is_rsa(key.get())))
      return std::unexpected("a key is neither P-256 nor RSA of 2048 to 8192 bits");
    if (keys.size() == kJwsKeysMax) return std::unexpected("more than " + std::to_string(kJwsKeysMax) + " keys");
    keys.push_back({std::move(id), std::move(key)});
    return {};
  }
};

JwsKeys::JwsKeys() : s_(std::make_unique<State>()) {}
JwsKeys::~JwsKeys() = default;
JwsKeys::JwsKeys(JwsKeys&&) noexcept = default;
size_t JwsKeys::size() const { return s_->keys.size(); }

std::expected<void, std::string> JwsKeys::add_pem(std::string_view pem) {
  constexpr std::string_view kBegin = "-----BEGIN PUBLIC KEY-----";
  const size_t before = size();
  for (size_t at = pem.find(kBegin); at != pem.npos; at = pem.find(kBegin, at + 1)) {
    const BioPtr bio(BIO_new_mem_buf(pem.data() + at, int(pem.size() - at)));
    KeyPtr key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
    ERR_clear_error();
    if (key == nullptr) return std::unexpected("a PUBLIC KEY does not parse");
    if (auto ok = s_->add("", std::move(key)); !ok) return ok;
  }
  if (size() == before) return std::unexpected("holds no PUBLIC KEY");
  return {};
}

std::expected<void, std::string> JwsKeys::add_rsa(std::string id, std::string_view n, std::string_view e) {
  OSSL_PARAM_BLD* b = OSSL_PARAM_BLD_new();
  const NumberPtr modulus = number(n), exponent = number(e);
  KeyPtr key;
  if (b != nullptr && n.size() <= 1024 && e.size() <= 8 && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, modulus.get()) == 1 &&
      OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, exponent.get()) == 1)
    key = from_params("RSA", b);
  OSSL_PARAM_BLD_free(b);
  return s_->add(std::move(id), std::move(key));
}

std::expected<void, std::string> JwsKeys::add_p256(std::string id, std::string_view x, std::string_view y) {
  if (x.size() != 32 || y.size() != 32) return std::unexpected("a P-256 key has coordinates of 32 bytes");
  const std::string point = "\x04" + std::string(x) + std::string(y);
  OSSL_PARAM_BLD* b = OSSL_PARAM_BLD_new();
  KeyPtr key;
  if (b != nullptr && OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, SN_X9_62_prime256v1, 0) == 1 &&
      OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) == 1)
    key = from_params("EC", b);
  OSSL_PARAM_BLD_free(b);
  return s_->add(std::move(id), std::move(key));
}

bool JwsKeys::verify(std::string_view algorithm, std::string_view id, std::string_view input, std::string_view signature) const {
  const bool es = algorithm == "ES256";
  if (!es && algorithm != "RS256") return false;
  if (es && signature.size() != 64) return false;
  const std::string der = es ? der_of(signature) : std::string(signature);
  for (const State::Key& k : s_->keys) {
    if (!k.id.empty() && k.id != id) continue;
    if (es == is_p256(k.key.get()) && verify_one(k.key.get(), input, der)) return true;
  }
  return false;
}

}  // namespace sluice::tls
