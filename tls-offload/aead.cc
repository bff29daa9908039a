// ipsec-mb's direct GCM functions take everything as arguments and keep nothing in the manager, so one manager, made at first use, serves
// all threads; only its table of function pointers is read. (The job API would need a manager per thread.)
#include "tls-offload/aead.h"

#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace sluice::tls {
namespace {

struct GcmFunctions {
  aes_gcm_pre_t expand;
  aes_gcm_enc_dec_t seal;
  aes_gcm_init_t begin;
  aes_gcm_enc_dec_update_t open_update;
  aes_gcm_enc_dec_finalize_t open_end;
};
struct Gcm {
  bool usable = false;
  GcmFunctions f[2];
  Gcm() {
    IMB_MGR* m = alloc_mb_mgr(0);
    if (m == nullptr) return;
    init_mb_mgr_auto(m, nullptr);
    usable = imb_get_errno(m) == 0 && (m->features & IMB_FEATURE_SELF_TEST) != 0 && (m->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
    f[0] = {m->gcm128_pre, m->gcm128_enc, m->gcm128_init, m->gcm128_dec_update, m->gcm128_dec_finalize};
    f[1] = {m->gcm256_pre, m->gcm256_enc, m->gcm256_init, m->gcm256_dec_update, m->gcm256_dec_finalize};
    free_mb_mgr(m);
  }
};
const Gcm& gcm() {
  static const Gcm g;
  return g;
}
const GcmFunctions& functions(Suite s) { return gcm().f[s == Suite::kAes256Gcm]; }

const EVP_CIPHER* evp_cipher(Suite s) {
  static EVP_CIPHER* const ciphers[] = {EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr),
                                        EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr),
                                        EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr)};
  return ciphers[size_t(s)];
}

}  // namespace

AeadKey::Engine AeadKey::best(Suite suite) { return suite != Suite::kChaCha20Poly1305 && gcm().usable ? Engine::kIpsecMb : Engine::kEvp; }

std::string AeadKey::engine_name(Suite suite) {
  return best(suite) == Engine::kIpsecMb ? std::string("ipsec-mb ") + imb_get_version_str() : OpenSSL_version(OPENSSL_VERSION);
}

AeadKey::~AeadKey() {
  wipe(expanded_, sizeof expanded_);
  wipe(context_, sizeof context_);
  EVP_CIPHER_CTX_free(evp_);
}

bool AeadKey::set(Suite suite, Bytes key, Engine engine) {
  static_assert(sizeof(gcm_key_data) <= kExpandedBytes && alignof(gcm_key_data) <= 64 && sizeof(gcm_context_data) <= kContextBytes);
  suite_ = suite;
  engine_ = engine;
  if (key.size() != key_bytes(suite)) return false;
  if (engine == Engine::kIpsecMb) {
    if (suite == Suite::kChaCha20Poly1305 || !gcm().usable) return false;
    functions(suite).expand(key.data(), reinterpret_cast<gcm_key_data*>(expanded_));
    return true;
  }
  if (evp_ == nullptr) evp_ = EVP_CIPHER_CTX_new();
  // The key is kept in the context; each record then sets only direction and nonce. All three suites have 12-byte nonces by default.
  return evp_ != nullptr && evp_cipher(suite) != nullptr && EVP_EncryptInit_ex2(evp_, evp_cipher(suite), key.data(), nullptr, nullptr) > 0;
}

bool AeadKey::seal(const uint8_t* nonce, Bytes aad, MutBytes data, uint8_t* tag) {
  if (engine_ == Engine::kIpsecMb) {
    functions(suite_).seal(reinterpret_cast<gcm_key_data*>(expanded_), reinterpret_cast<gcm_context_data*>(context_), data.data(),
                           data.data(), data.size(), nonce, aad.data(), aad.size(), tag, kTagBytes);
    return true;
  }
  int n = 0;
  return EVP_EncryptInit_ex2(evp_, nullptr, nullptr, nonce, nullptr) > 0 &&
         EVP_EncryptUpdate(evp_, nullptr, &n, aad.data(), int(aad.size())) > 0 &&
         (data.empty() || EVP_EncryptUpdate(evp_, data.data(), &n, data.data(), int(data.size())) > 0) &&
         EVP_EncryptFinal_ex(evp_, tag, &n) > 0 && EVP_CIPHER_CTX_ctrl(evp_, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) > 0;
}

bool AeadKey::open_begin(const uint8_t* nonce, Bytes aad) {
  if (engine_ == Engine::kIpsecMb) {
    functions(suite_).begin(reinterpret_cast<gcm_key_data*>(expanded_), reinterpret_cast<gcm_context_data*>(context_), nonce, aad.data(),
                            aad.size());
    return true;
  }
  int n = 0;
  return EVP_DecryptInit_ex2(evp_, nullptr, nullptr, nonce, nullptr) > 0 &&
         EVP_DecryptUpdate(evp_, nullptr, &n, aad.data(), int(aad.size())) > 0;
}

bool AeadKey::open_update(Bytes in, uint8_t* out) {
  if (in.empty()) return true;
  if (engine_ == Engine::kIpsecMb) {
    functions(suite_).open_update(reinterpret_cast<gcm_key_data*>(expanded_), reinterpret_cast<gcm_context_data*>(context_), out, in.data(),
                                  in.size());
    return true;
  }
  int n = 0;
  return EVP_DecryptUpdate(evp_, out, &n, in.data(), int(in.size())) > 0 && size_t(n) == in.size();
}

bool AeadKey::open_end(const uint8_t* tag) {
  if (engine_ == Engine::kIpsecMb) {
    uint8_t computed[kTagBytes];
    functions(suite_).open_end(reinterpret_cast<gcm_key_data*>(expanded_), reinterpret_cast<gcm_context_data*>(context_), computed,
                               kTagBytes);
    return CRYPTO_memcmp(computed, tag, kTagBytes) == 0;
  }
  int n = 0;
  uint8_t none[kTagBytes];
  return EVP_CIPHER_CTX_ctrl(evp_, EVP_CTRL_AEAD_SET_TAG, kTagBytes, const_cast<uint8_t*>(tag)) > 0 &&
         EVP_DecryptFinal_ex(evp_, none, &n) > 0;
}

}  // namespace sluice::tls
