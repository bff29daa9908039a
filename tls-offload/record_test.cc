// Records without streams: what ipsec-mb sealed EVP opens and vice versa, at random sizes and in random pieces; what was changed is
// refused.
#include "tls-offload/record.h"

#include <gtest/gtest.h>

#include <random>

#include "tls-offload/self_test.h"

namespace sluice::tls {
namespace {

using Engine = AeadKey::Engine;

struct Case {
  bool tls13;
  Suite suite;
};
constexpr Case kCases[] = {{true, Suite::kAes128Gcm},  {true, Suite::kAes256Gcm},  {true, Suite::kChaCha20Poly1305},
                           {false, Suite::kAes128Gcm}, {false, Suite::kAes256Gcm}, {false, Suite::kChaCha20Poly1305}};

DirectionKeys random_keys(std::mt19937_64& rng) {
  DirectionKeys k;
  for (auto& b : k.key) b = uint8_t(rng());
  for (auto& b : k.iv) b = uint8_t(rng());
  k.sequence = rng() & 0xffff'ffff;
  k.explicit_nonce = rng();
  return k;
}

std::vector<uint8_t> seal(Sealer& sealer, ContentType type, Bytes text) {
  std::vector<uint8_t> record(sealer.overhead() + text.size());
  std::copy(text.begin(), text.end(), record.begin() + sealer.header_bytes());
  EXPECT_TRUE(sealer.seal(type, record.data(), uint32_t(text.size())));
  return record;
}

// Feeds in pieces of 1..`piece` bytes into rooms of 1..`piece` bytes; the plaintext without the inner type, or nothing.
std::optional<std::vector<uint8_t>> open(Opener& opener, Bytes record, bool tls13, uint32_t piece, std::mt19937_64& rng) {
  std::vector<uint8_t> text;
  size_t given = 0;
  for (Bytes in = record.first(0);;) {
    if (in.empty()) {
      if (given == record.size()) return std::nullopt;
      const size_t n = std::min<size_t>(record.size() - given, 1 + rng() % piece);
      in = record.subspan(given, n);
      given += n;
    }
    std::vector<uint8_t> room(rng() % (piece + 1));
    const auto r = opener.feed(in, room);
    text.insert(text.end(), room.begin(), room.begin() + r.written);
    in = in.subspan(r.taken);
    if (r.status == Opener::Status::kFailed) return std::nullopt;
    if (r.status != Opener::Status::kRecord) continue;
    EXPECT_EQ(in.size() + record.size() - given, 0u);
    if (!tls13) return text;
    while (!text.empty() && text.back() == 0) text.pop_back();
    if (text.empty()) return std::nullopt;
    text.pop_back();
    return text;
  }
}

TEST(TlsRecord, EitherEngineOpensWhatTheOtherSealedAtRandomSizesAndPieces) {
  const uint64_t seed = std::random_device{}();
  std::printf("seed %lu\n", seed);
  std::mt19937_64 rng(seed);
  for (const Case& c : kCases)
    for (const Engine from : {Engine::kIpsecMb, Engine::kEvp})
      for (const Engine to : {Engine::kIpsecMb, Engine::kEvp}) {
        if (c.suite == Suite::kChaCha20Poly1305 && (from == Engine::kIpsecMb || to == Engine::kIpsecMb)) continue;
        const DirectionKeys keys = random_keys(rng);
        Sealer sealer;
        Opener opener;
        ASSERT_TRUE(sealer.install(c.tls13, c.suite, keys, from));
        ASSERT_TRUE(opener.install(c.tls13, c.suite, keys, to));
        for (int i = 0; i < 60; i++) {
          std::vector<uint8_t> text(i == 0 ? 0 : i == 1 ? kPlaintextMax : i < 20 ? rng() % 100 : rng() % 3000);
          for (auto& b : text) b = uint8_t(rng());
          const auto record = seal(sealer, ContentType::kApplicationData, text);
          const auto got = open(opener, record, c.tls13, i % 2 == 0 ? 1 + uint32_t(rng() % 50) : 20000, rng);
          ASSERT_TRUE(got.has_value()) << "tls13 " << c.tls13 << " suite " << int(c.suite) << " bytes " << text.size();
          ASSERT_EQ(*got, text);
        }
        EXPECT_EQ(opener.sequence(), sealer.sequence());
      }
}

TEST(TlsRecord, EveryChangedByteIsRefused) {
  std::mt19937_64 rng(7);
  for (const Case& c : kCases)
    for (const Engine engine : {AeadKey::best(c.suite), Engine::kEvp}) {
      const DirectionKeys keys = random_keys(rng);
      Sealer sealer;
      ASSERT_TRUE(sealer.install(c.tls13, c.suite, keys, engine));
      const auto record = seal(sealer, ContentType::kApplicationData, as_bytes("the quick brown fox"));
      for (size_t at = 0; at < record.size(); at++) {
        Opener opener;
        ASSERT_TRUE(opener.install(c.tls13, c.suite, keys, engine));
        auto changed = record;
        changed[at] ^= uint8_t(1 << (at % 8));
        changed.resize(changed.size() + 300);  // a longer length field finds bytes
        Opener::Result r = opener.feed(changed, {});
        std::vector<uint8_t> room(20000);
        if (r.status == Opener::Status::kNeedRoom) r = opener.feed(Bytes(changed).subspan(r.taken), room);
        EXPECT_NE(r.status, Opener::Status::kRecord) << "byte " << at;
        if (at >= 5) {
          EXPECT_EQ(opener.failure().alert, Alert::kBadRecordMac);
        }
      }
    }
}

TEST(TlsRecord, ARecordOutOfOrderIsRefused) {
  std::mt19937_64 rng(8);
  for (const Case& c : kCases) {
    const DirectionKeys keys = random_keys(rng);
    Sealer sealer;
    Opener opener;
    ASSERT_TRUE(sealer.install(c.tls13, c.suite, keys, AeadKey::best(c.suite)) &&
                opener.install(c.tls13, c.suite, keys, AeadKey::best(c.suite)));
    (void)seal(sealer, ContentType::kApplicationData, as_bytes("first"));
    const auto second = seal(sealer, ContentType::kApplicationData, as_bytes("second"));
    EXPECT_FALSE(open(opener, second, c.tls13, 100, rng).has_value());
    EXPECT_EQ(opener.failure().alert, Alert::kBadRecordMac);
  }
}

TEST(TlsRecord, HeadersThatCannotBeAreRefusedByName) {
  struct Row {
    bool tls13;
    std::array<uint8_t, 5> header;
    Alert alert;
  };
  constexpr Row rows[] = {
      {true, {23, 3, 3, 0x41, 0x01}, Alert::kRecordOverflow},   // 16384 + 257
      {false, {23, 3, 3, 0x48, 0x01}, Alert::kRecordOverflow},  // 16384 + 2049
      {false, {23, 3, 3, 0x40, 0x19}, Alert::kRecordOverflow},  // plaintext of 16385
      {true, {20, 3, 3, 0, 1}, Alert::kUnexpectedMessage},      // change_cipher_spec after the handshake
      {true, {21, 3, 3, 0, 2}, Alert::kUnexpectedMessage},      // an alert in the clear
      {false, {20, 3, 3, 0, 30}, Alert::kUnexpectedMessage},    //
      {false, {24, 3, 3, 0, 30}, Alert::kUnexpectedMessage},    // heartbeat
      {true, {23, 3, 1, 0, 30}, Alert::kProtocolVersion},       //
      {true, {23, 3, 3, 0, 15}, Alert::kBadRecordMac},          // no room for a tag
      {false, {23, 3, 3, 0, 23}, Alert::kBadRecordMac},         // nor for the explicit nonce
  };
  for (const Row& row : rows) {
    Opener opener;
    ASSERT_TRUE(opener.install(row.tls13, Suite::kAes128Gcm, DirectionKeys{}, AeadKey::best(Suite::kAes128Gcm)));
    EXPECT_EQ(opener.feed(row.header, {}).status, Opener::Status::kFailed);
    EXPECT_EQ(opener.failure().alert, row.alert) << int(row.header[0]) << " " << int(row.header[3]) << " " << int(row.header[4]);
    EXPECT_EQ(opener.feed(row.header, {}).status, Opener::Status::kFailed);
  }
}

TEST(TlsRecord, IpsecMbIsTheEngineForAesGcmOnThisMachine) {
  EXPECT_EQ(AeadKey::best(Suite::kAes128Gcm), Engine::kIpsecMb);
  EXPECT_EQ(AeadKey::best(Suite::kAes256Gcm), Engine::kIpsecMb);
  EXPECT_EQ(AeadKey::best(Suite::kChaCha20Poly1305), Engine::kEvp);
}

TEST(TlsSelfTest, PassesHereAndNamesItsEngines) {
  const auto result = self_test({1, int64_t(time(nullptr)) * 1'000'000});
  EXPECT_TRUE(result.has_value()) << result.error();
  EXPECT_NE(engines().find("ipsec-mb"), std::string::npos) << engines();
}

}  // namespace
}  // namespace sluice::tls
