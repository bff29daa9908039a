// AeadKey: the one seam between records and ciphers. AES-GCM is ipsec-mb's direct API; ChaCha20-Poly1305, and AES-GCM where ipsec-mb does
// not start, is OpenSSL EVP, which is also the oracle that opens what the other sealed (record_test.cc).
//
// One key, one direction, one thread. Opening is incremental: a record is decrypted as its bytes come and nothing of it may be shown before
// open_end() said true: ipsec-mb only computes the tag, the comparison (constant time) is ours. One record at a time: open_begin, updates,
// open_end. Measured: about 25 ns a record (ipsec-mb), 200 ns (EVP), besides the bytes. Internal to tls-offload.
#pragma once
#include <cstdint>
#include <string>

#include "dataplane/base/bytes.h"
#include "tls-offload/keys.h"

struct evp_cipher_ctx_st;

namespace sluice::tls {

constexpr uint32_t kTagBytes = 16, kNonceBytes = 12;

class AeadKey {
 public:
  enum class Engine : uint8_t { kIpsecMb, kEvp };
  static Engine best(Suite suite);  // ipsec-mb where it has the suite and passed its own self-test

  static std::string engine_name(Suite suite);  // of best(), with its version

  AeadKey() = default;
  ~AeadKey();  // wipes
  AeadKey(const AeadKey&) = delete;
  AeadKey& operator=(const AeadKey&) = delete;

  // Sets or replaces the key (not within a record). False: the engine does not have the suite, or OpenSSL has no memory.
  [[nodiscard]] bool set(Suite suite, Bytes key, Engine engine);

  [[nodiscard]] bool seal(const uint8_t* nonce, Bytes aad, MutBytes in_place, uint8_t* tag);

  [[nodiscard]] bool open_begin(const uint8_t* nonce, Bytes aad);
  [[nodiscard]] bool open_update(Bytes in, uint8_t* out);  // out: in.size() bytes; may be in.data()
  [[nodiscard]] bool open_end(const uint8_t* tag);

 private:
  static constexpr uint32_t kExpandedBytes = 1024, kContextBytes = 128;  // of ipsec-mb; checked in the .cc
  alignas(64) uint8_t expanded_[kExpandedBytes];
  alignas(64) uint8_t context_[kContextBytes];
  evp_cipher_ctx_st* evp_ = nullptr;
  Suite suite_ = Suite::kAes128Gcm;
  Engine engine_ = Engine::kEvp;
};

}  // namespace sluice::tls
