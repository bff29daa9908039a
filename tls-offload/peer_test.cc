// A misbehaving peer: a true handshake by libssl, then records of our own making under the client's keys. Each row of RFC 8446 5 and 4.6.3
// that a peer can break, and what is allowed though odd.
#include "tls-offload/record.h"
#include "tls-offload/test_world.h"

namespace sluice::tls::test {
namespace {

std::shared_ptr<const ServerPolicy> server_policy() {
  static const Issued ca = make_ca("ca"), server = issue(&ca, {.common_name = "server", .sans = {}});
  static const auto p = *ServerPolicy::make({.certificates = {server.pair()}});
  return p;
}

// The client's traffic secret, from its own key log.
std::array<uint8_t, 48> g_secret;
void note_secret(const SSL*, const char* line) {
  const std::string_view text(line);
  if (!text.starts_with("CLIENT_TRAFFIC_SECRET_0 ")) return;
  const std::string_view hex = text.substr(text.rfind(' ') + 1);
  for (size_t i = 0; i < hex.size() / 2; i++) g_secret[i] = uint8_t(std::stoul(std::string(hex.substr(2 * i, 2)), nullptr, 16));
}

struct Peer : World {
  Peer() : World(server_policy(), {.suite = "TLS_AES_128_GCM_SHA256"}) {
    SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(client.ssl.get()), note_secret);
    open();
    keys.secret = g_secret;
    EXPECT_TRUE(expand_secret(Suite::kAes128Gcm, Hash::kSha256, keys) &&
                key.set(Suite::kAes128Gcm, Bytes(keys.key).first(16), AeadKey::Engine::kEvp));
  }
  // A TLS 1.3 record with any inside: content, type and padding are the caller's.
  std::string record(std::string inner, uint8_t outer = 23) {
    const size_t n = inner.size() + 16;
    std::string r{char(outer), 3, 3, char(n >> 8), char(n)};
    uint8_t nonce[12], tag[16];
    std::memcpy(nonce, keys.iv.data(), 12);
    for (int i = 0; i < 8; i++) nonce[4 + i] ^= uint8_t(sequence >> (56 - 8 * i));
    sequence++;
    EXPECT_TRUE(key.seal(nonce, as_bytes(r), {reinterpret_cast<uint8_t*>(inner.data()), inner.size()}, tag));
    return r + inner + std::string(reinterpret_cast<char*>(tag), 16);
  }
  void say(const std::string& records) {
    lower.arrive(below, records, piece);
    crank();
  }
  std::string data(const std::string& s) { return record(s + '\x17'); }

  DirectionKeys keys;
  AeadKey key;
  uint64_t sequence = 0;
};
// In order: the operands of + have none.
std::string in_order(std::initializer_list<std::string> parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}
const std::string kUpdate("\x18\0\0\1\0", 5);

void expect_failure(const std::function<std::string(Peer&)>& make, Alert alert, Drop reason, const char* text) {
  SCOPED_TRACE(text);
  Peer p;
  p.say(p.data("before"));
  p.say(make(p));
  EXPECT_EQ(p.received, "before");
  EXPECT_TRUE(p.seen & kClosed);
  EXPECT_EQ(p.layer.info(p.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(p.drops.get(reason), 1u);
  EXPECT_NE(p.layer.error_text(p.id).find(text), std::string::npos) << p.layer.error_text(p.id);
  const std::string number = "alert number " + std::to_string(int(alert)) + ")";
  EXPECT_NE(p.client.error.find(number), std::string::npos) << p.client.error;
}

TEST(TlsPeer, RecordsThatMustNotBeAreRefusedWithTheAlertOfTheRfc) {
  using P = Peer&;
  const auto unexpected = [](auto make, const char* text) { expect_failure(make, Alert::kUnexpectedMessage, Drop::kTlsUnexpected, text); };
  unexpected([](P p) { return p.record(std::string(100, '\0')); }, "padding only");
  unexpected([](P p) { return p.record("x\x63"); }, "unknown type");
  unexpected([](P p) { return p.record(std::string("\x01\x14", 2)); }, "unknown type");  // a change_cipher_spec inside
  unexpected([](P) { return std::string("\x14\x03\x03\x00\x01\x01", 6); }, "unexpected record type");
  unexpected([](P) { return std::string("\x15\x03\x03\x00\x02\x01\x00", 7); }, "unexpected record type");
  unexpected([](P p) { return p.record("\x16"); }, "empty handshake record");
  unexpected([](P p) { return p.record(kUpdate + "x\x16"); }, "behind a KeyUpdate");
  unexpected([](P p) { return p.record(kUpdate + kUpdate + "\x16"); }, "behind a KeyUpdate");
  unexpected([](P p) { return in_order({p.record(kUpdate.substr(0, 3) + "\x16"), p.data("between")}); }, "within a handshake message");
  unexpected([](P p) { return p.record(std::string("\x04\0\0\1\0\x16", 6)); }, "no KeyUpdate");  // a ticket from a client
  unexpected([](P p) { return p.record(std::string("\x18\0\0\2\0\0\x16", 7)); }, "no KeyUpdate");
  expect_failure([](P p) { return p.record(std::string("\x18\0\0\1\2\x16", 6)); }, Alert::kIllegalParameter, Drop::kTlsUnexpected,
                 "unknown request");
  expect_failure([](P p) { return p.record(std::string("\x01\x15", 2)); }, Alert::kDecodeError, Drop::kTlsUnexpected, "wrong length");
  expect_failure([](P p) { return p.record("\x15"); }, Alert::kDecodeError, Drop::kTlsUnexpected, "wrong length");
  expect_failure([](P p) { return p.record(std::string("\1\0\1\0\x15", 5)); }, Alert::kDecodeError, Drop::kTlsUnexpected, "wrong length");
  expect_failure([](P p) { return p.record(std::string(kPlaintextMax + 1, 'x') + "\x17"); }, Alert::kRecordOverflow,
                 Drop::kTlsRecordOverflow, "too long");
  expect_failure([](P) { return std::string("\x17\x03\x03\x41\x01", 5); }, Alert::kRecordOverflow, Drop::kTlsRecordOverflow, "too long");
  expect_failure(
      [](P p) {
        std::string all;
        for (int i = 0; i <= kIdleRecordsMax; i++) all += p.data("");
        return all;
      },
      Alert::kUnexpectedMessage, Drop::kTlsUnexpected, "without data");
}

TEST(TlsPeer, PaddingIsStrippedAndTheLargestRecordIsTaken) {
  Peer p;
  p.say(p.record("padded" + std::string(1, '\x17') + std::string(200, '\0')));
  EXPECT_EQ(p.received, "padded");
  p.received.clear();
  const std::string whole(kPlaintextMax, 'y');
  p.say(p.data(whole));
  EXPECT_TRUE(p.received == whole);
  p.received.clear();
  p.say(p.record(std::string(kPlaintextMax - 100, 'z') + '\x17' + std::string(100, '\0')));
  EXPECT_EQ(p.received.size(), kPlaintextMax - 100);
  EXPECT_EQ(p.layer.info(p.id).end, StreamEnd::kOpen);
}

TEST(TlsPeer, EmptyRecordsBetweenDataAreLegal) {
  Peer p;
  for (int round = 0; round < 3; round++) {
    std::string all;
    for (int i = 0; i < kIdleRecordsMax; i++) all += p.data("");
    p.say(all + p.data("d"));
  }
  EXPECT_EQ(p.received, "ddd");
}

TEST(TlsPeer, AKeyUpdateSplitOverRecordsIsFollowed) {
  Peer p;
  std::string all = in_order({p.record(kUpdate.substr(0, 2) + "\x16"), p.record(kUpdate.substr(2) + "\x16")});
  ASSERT_TRUE(next_secret(Suite::kAes128Gcm, Hash::kSha256, p.keys) &&
              p.key.set(Suite::kAes128Gcm, Bytes(p.keys.key).first(16), AeadKey::Engine::kEvp));
  p.sequence = 0;
  p.say(all + p.data("under the new key"));  // in one burst with the update
  EXPECT_EQ(p.received, "under the new key");
}

TEST(TlsPeer, DataBehindCloseNotifyIsThrownAway) {
  Peer p;
  p.say(in_order({p.data("a"), p.record(std::string("\1\0\x15", 3)), p.data("b")}));
  EXPECT_EQ(p.received, "a");
  EXPECT_TRUE(p.seen & kPeerFinished);
  EXPECT_FALSE(p.seen & kClosed);
  EXPECT_EQ(p.lower.readable(p.below).bytes, 0u);
  p.send("still open");
  p.crank();
  EXPECT_EQ(p.client.received, "still open");
}

TEST(TlsPeer, UserCanceledIsPassedOverAndAnyOtherAlertIsFatal) {
  Peer p;
  p.say(in_order({p.record(std::string("\1\x5a\x15", 3)), p.data("a")}));
  EXPECT_EQ(p.received, "a");
  p.say(p.record(std::string("\1\x2a\x15", 3)));  // bad_certificate, called a warning
  EXPECT_EQ(p.layer.info(p.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(p.layer.error_text(p.id), "TLS_error: the peer sent alert 42");
  EXPECT_EQ(p.drops.get(Drop::kTlsAlert), 1u);
}

TEST(TlsPeer, ARecordThatIsPlayedTwiceIsRefused) {
  Peer p;
  const std::string r = p.data("once");
  p.say(r + r);
  EXPECT_EQ(p.received, "once");
  EXPECT_EQ(p.drops.get(Drop::kTlsBadRecord), 1u);
}

}  // namespace
}  // namespace sluice::tls::test
