// Traffic keys and where they come from: TLS 1.3 by HKDF-Expand-Label from the traffic secrets of the key log (RFC 8446 7.1 to 7.3),
// TLS 1.2 from the master secret and the two randoms (RFC 5246 6.3). Internal to tls-offload. Pure; a wiped copy remains nowhere: every
// struct here cleanses itself.
#pragma once
#include <array>
#include <cstdint>

#include "dataplane/base/bytes.h"

namespace sluice::tls {

enum class Suite : uint8_t { kAes128Gcm, kAes256Gcm, kChaCha20Poly1305 };
enum class Hash : uint8_t { kSha256, kSha384 };
constexpr uint32_t key_bytes(Suite s) { return s == Suite::kAes128Gcm ? 16 : 32; }
constexpr uint32_t hash_bytes(Hash h) { return h == Hash::kSha256 ? 32 : 48; }

void wipe(void* p, size_t bytes);

// One direction. `iv` is 12 bytes, but 4 (the salt) for AES-GCM in TLS 1.2, whose other 8 travel in each record: explicit_nonce is the
// next.
struct DirectionKeys {
  std::array<uint8_t, 32> key{};
  std::array<uint8_t, 12> iv{};
  std::array<uint8_t, 48> secret{};  // TLS 1.3: the traffic secret, for the next key update
  uint64_t sequence = 0;             // of the next record
  uint64_t explicit_nonce = 0;
  ~DirectionKeys() { wipe(this, sizeof *this); }
};

// What is left of a handshake. The holder of these is the only one who may seal or open from here on.
struct SessionKeys {
  bool tls13 = true;
  Suite suite = Suite::kAes128Gcm;
  Hash hash = Hash::kSha256;
  uint32_t fragment_max = 16384;  // plaintext of a record of ours; less where the client asked (RFC 6066 4)
  DirectionKeys tx, rx;
};

// TLS 1.3: key and iv from `d.secret`; sequence becomes 0.
[[nodiscard]] bool expand_secret(Suite suite, Hash hash, DirectionKeys& d);
// RFC 8446 7.2: d.secret becomes application_traffic_secret_N+1, then expand_secret.
[[nodiscard]] bool next_secret(Suite suite, Hash hash, DirectionKeys& d);
// TLS 1.2, server side: client_write is rx. Sequence numbers and the explicit nonce are the caller's to set.
[[nodiscard]] bool expand_master_secret(Bytes master, Bytes client_random, Bytes server_random, SessionKeys& k);

}  // namespace sluice::tls
