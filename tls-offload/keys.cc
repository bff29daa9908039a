// HKDF-Expand with an output of at most one hash is a single HMAC (RFC 5869 2.3: T(1) = HMAC(PRK, info | 1)). All that TLS 1.3 expands here
// is that short (keys <= 32 bytes, secrets = one hash), so no KDF object is needed.
#include "tls-offload/keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "dataplane/base/check.h"

namespace sluice::tls {
namespace {

// RFC 8446 7.1: HkdfLabel { uint16 length; opaque label<7..255> = "tls13 " + Label; opaque context<0..255> = "" }
bool expand_label(Hash hash, Bytes secret, std::string_view label, MutBytes out) {
  SLUICE_ASSERT(out.size() <= hash_bytes(hash) && label.size() <= 16);
  uint8_t info[32];
  size_t n = 0;
  info[n++] = 0;
  info[n++] = uint8_t(out.size());
  info[n++] = uint8_t(6 + label.size());
  for (char c : std::string_view("tls13 ")) info[n++] = uint8_t(c);
  for (char c : label) info[n++] = uint8_t(c);
  info[n++] = 0;
  info[n++] = 1;  // the counter of T(1)
  uint8_t block[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  const EVP_MD* md = hash == Hash::kSha256 ? EVP_sha256() : EVP_sha384();
  if (HMAC(md, secret.data(), int(secret.size()), info, n, block, &length) == nullptr) return false;
  std::copy_n(block, out.size(), out.data());
  wipe(block, sizeof block);
  return true;
}

Bytes secret_of(const DirectionKeys& d, Hash hash) { return Bytes(d.secret).first(hash_bytes(hash)); }

}  // namespace

void wipe(void* p, size_t bytes) { OPENSSL_cleanse(p, bytes); }

bool expand_secret(Suite suite, Hash hash, DirectionKeys& d) {
  d.sequence = 0;
  return expand_label(hash, secret_of(d, hash), "key", MutBytes(d.key).first(key_bytes(suite))) &&
         expand_label(hash, secret_of(d, hash), "iv", d.iv);
}

bool next_secret(Suite suite, Hash hash, DirectionKeys& d) {
  std::array<uint8_t, 48> next{};
  if (!expand_label(hash, secret_of(d, hash), "traffic upd", MutBytes(next).first(hash_bytes(hash)))) return false;
  d.secret = next;
  wipe(next.data(), next.size());
  return expand_secret(suite, hash, d);
}

bool expand_master_secret(Bytes master, Bytes client_random, Bytes server_random, SessionKeys& k) {
  const size_t kl = key_bytes(k.suite), il = k.suite == Suite::kChaCha20Poly1305 ? 12 : 4;
  uint8_t block[2 * 32 + 2 * 12];
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "TLS1-PRF", nullptr);
  EVP_KDF_CTX* ctx = kdf == nullptr ? nullptr : EVP_KDF_CTX_new(kdf);
  EVP_KDF_free(kdf);
  if (ctx == nullptr) return false;
  // key_block = PRF(master, "key expansion", server_random + client_random); each seed parameter is appended to the ones before.
  char digest[] = "SHA384", label[] = "key expansion";
  if (k.hash == Hash::kSha256) std::copy_n("SHA256", 7, digest);
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, const_cast<uint8_t*>(master.data()), master.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, label, sizeof label - 1),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, const_cast<uint8_t*>(server_random.data()), server_random.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, const_cast<uint8_t*>(client_random.data()), client_random.size()),
      OSSL_PARAM_construct_end()};
  const bool ok = EVP_KDF_derive(ctx, block, 2 * kl + 2 * il, params) > 0;
  EVP_KDF_CTX_free(ctx);
  const uint8_t* p = block;
  auto take = [&](auto& to, size_t n) { std::copy_n(std::exchange(p, p + n), n, to.begin()); };
  if (ok) take(k.rx.key, kl), take(k.tx.key, kl), take(k.rx.iv, il), take(k.tx.iv, il);
  wipe(block, sizeof block);
  return ok;
}

}  // namespace sluice::tls
