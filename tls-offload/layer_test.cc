// A stock libssl client talks to Layer over a stream in memory.
#include <random>

#include "tls-offload/session.h"
#include "tls-offload/test_world.h"

namespace sluice::tls::test {
namespace {

struct Pki {
  Issued ca = make_ca("ca"), other_ca = make_ca("other");
  Issued server = issue(&ca, {.common_name = "server", .sans = {dns("shop.example.com"), uri("spiffe://cluster.local/ns/gw/sa/gw")}});
  Issued rsa_server = issue(&ca, {.common_name = "server", .sans = {dns("shop.example.com")}, .rsa = true});
  Issued client = issue(&ca, {.common_name = "client", .sans = {uri("spiffe://cluster.local/ns/shop/sa/client")}});
};
const Pki& pki() {
  static const Pki p;
  return p;
}

std::shared_ptr<const ServerPolicy> make_policy(const ServerPolicyOptions& o) {
  auto p = ServerPolicy::make(o);
  SLUICE_ASSERT(p.has_value());
  return *p;
}
std::shared_ptr<const ServerPolicy> plain_policy() {
  return make_policy({.certificates = {pki().server.pair(), pki().rsa_server.pair()}, .alpn = {"h2", "http/1.1"}});
}
ServerPolicyOptions mutual(ClientCert mode = ClientCert::kRequired) {
  return {.certificates = {pki().server.pair()}, .trusted_ca_pem = pki().ca.pem(), .client_cert = mode};
}

std::string pattern(size_t n, uint32_t seed = 1) {
  std::string s(n, 0);
  std::mt19937 rng(seed);
  for (char& c : s) c = char(rng());
  return s;
}

struct SuiteCase {
  int version;
  const char* name;
};
constexpr SuiteCase kSuiteCases[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},        {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},  {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"}, {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256"},   {TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384"},
    {TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305"},
};

TEST(TlsLayer, EverySuiteCarriesBytesBothWaysAndEndsCleanly) {
  for (const SuiteCase& c : kSuiteCases) {
    SCOPED_TRACE(c.name);
    World w(plain_policy(), {.version = c.version, .suite = c.name, .sni = "SHOP.example.com", .alpn_wire = "\x08http/1.1"});
    w.open();
    const PeerInfo* peer = w.layer.peer(w.id);
    ASSERT_NE(peer, nullptr);
    EXPECT_EQ(peer->cipher, c.name);
    EXPECT_EQ(peer->version, c.version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    EXPECT_EQ(peer->sni, "shop.example.com");
    EXPECT_EQ(peer->alpn, "http/1.1");
    EXPECT_FALSE(peer->certificate);
    const std::string up = pattern(300'000, 2), down = pattern(300'000, 3);
    for (size_t at = 0; at < up.size(); at += 50'000) {
      w.client.write(std::string_view(up).substr(at, 50'000));
      w.crank();
    }
    EXPECT_TRUE(w.received == up);
    w.send(down);
    w.crank();
    EXPECT_TRUE(w.client.received == down) << w.client.error;
    EXPECT_LE(w.lower.largest_mbuf, 1448u);
    EXPECT_EQ(w.layer.info(w.id).bytes_in, up.size());
    EXPECT_EQ(w.layer.info(w.id).bytes_out, down.size());
    SSL_shutdown(w.client.ssl.get());
    w.crank();
    EXPECT_TRUE(w.seen & kPeerFinished);
    EXPECT_FALSE(w.seen & kClosed);
    w.send("half-closed");  // the other direction goes on
    w.crank();
    w.layer.finish(w.id);
    w.crank();
    EXPECT_TRUE(w.client.closed) << w.client.error;
    EXPECT_TRUE(w.lower.at(w.below).finished);
    w.lower.peer_fin(w.below);
    w.crank();
    EXPECT_TRUE(w.seen & kClosed);
    EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kFinished);
    EXPECT_EQ(w.drops.total(), 0u);
    w.layer.abort(w.id);
    EXPECT_EQ(w.layer.sessions(), 0u);
    EXPECT_EQ(w.handshakes.in_flight(), 0u);
  }
  EXPECT_EQ(test_pool().held(), 0u);
}

TEST(TlsLayer, WorksWhenTheLowerStreamComesByteByByte) {
  for (const SuiteCase& c : {kSuiteCases[0], kSuiteCases[3], kSuiteCases[5]}) {
    SCOPED_TRACE(c.name);
    World w(make_policy(mutual()), {.version = c.version, .suite = c.name, .certificate = &pki().client});
    w.piece = 1;
    w.open();
    const std::string up = pattern(5'000);  // one record of 5,000 mbufs: far more than a ReadView shows
    w.client.write(up);
    w.crank();
    EXPECT_TRUE(w.received == up);
  }
  EXPECT_EQ(test_pool().held(), 0u);
}

TEST(TlsLayer, FollowsTheClientsKeyUpdatesAndAnswersWhenAsked) {
  for (const SuiteCase& c : {kSuiteCases[0], kSuiteCases[1], kSuiteCases[2]}) {
    SCOPED_TRACE(c.name);
    World w(plain_policy(), {.suite = c.name});
    w.open();
    for (int i = 0; i < 5; i++) {
      SSL_key_update(w.client.ssl.get(), i % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
      SSL_do_handshake(w.client.ssl.get());
      w.client.write("after update " + std::to_string(i) + ";");
      w.crank();
      w.send("answer;");
      w.crank();
    }
    EXPECT_EQ(w.received, "after update 0;after update 1;after update 2;after update 3;after update 4;");
    EXPECT_EQ(w.client.received, "answer;answer;answer;answer;answer;") << w.client.error;
    EXPECT_EQ(w.layer.counters().key_updates_in.get(), 5u);
    EXPECT_EQ(w.layer.counters().key_updates_out.get(), 3u);
  }
}

TEST(TlsLayer, UpdatesItsOwnKeysAfterTheConfiguredNumberOfRecords) {
  World w(plain_policy(), {}, {.sessions_max = 4, .rekey_records = 10});
  w.open();
  const std::string down = pattern(200'000);
  for (size_t at = 0; at < down.size(); at += 10'000) {
    w.send(std::string_view(down).substr(at, 10'000));
    w.crank();
  }
  EXPECT_TRUE(w.client.received == down) << w.client.error;
  EXPECT_GE(w.layer.counters().key_updates_out.get(), 9u);
}

TEST(TlsLayer, FinWithoutCloseNotifyIsATruncationAndNotACleanEnd) {
  World w(plain_policy());
  w.open();
  w.client.write("partial");
  w.crank();
  w.lower.peer_fin(w.below);
  w.crank();
  EXPECT_EQ(w.received, "partial");
  EXPECT_FALSE(w.seen & kPeerFinished);
  EXPECT_TRUE(w.seen & kClosed);
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTruncated);
  EXPECT_EQ(w.drops.get(Drop::kTlsTruncated), 1u);
}

TEST(TlsLayer, FinWithinARecordIsATruncation) {
  World w(plain_policy());
  w.open();
  w.client.write("never whole");
  std::string record = w.client.take();
  record.pop_back();
  w.lower.arrive(w.below, record, 1448);
  w.lower.peer_fin(w.below);
  w.crank();
  EXPECT_EQ(w.received, "");
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTruncated);
}

TEST(TlsLayer, AResetIsAResetAndNoTruncation) {
  World w(plain_policy());
  w.open();
  w.lower.ended(w.below, StreamEnd::kReset);
  w.crank();
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kReset);
  EXPECT_EQ(w.drops.total(), 0u);
}

TEST(TlsLayer, ABadTagGetsTheAlertBadRecordMacAndNoByteIsShown) {
  for (const SuiteCase& c : {kSuiteCases[0], kSuiteCases[2], kSuiteCases[4]}) {
    SCOPED_TRACE(c.name);
    World w(plain_policy(), {.version = c.version, .suite = c.name});
    w.open();
    w.client.write("good");
    w.crank();
    w.client.write("bad bad bad");
    std::string record = w.client.take();
    record[record.size() - 20] ^= 1;
    w.lower.arrive(w.below, record, 1448);
    w.crank();
    EXPECT_EQ(w.received, "good");
    EXPECT_TRUE(w.seen & kClosed);
    EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
    EXPECT_EQ(w.drops.get(Drop::kTlsBadRecord), 1u);
    EXPECT_NE(w.client.error.find("bad record mac"), std::string::npos) << w.client.error;
    EXPECT_TRUE(w.lower.at(w.below).closed);
  }
}

TEST(TlsLayer, AFatalAlertOfThePeerEndsTheStreamByName) {
  World w(plain_policy());
  w.open();
  // The client's libssl sends a fatal alert when our records do not verify.
  w.client.give(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x'));
  w.client.turn();
  w.crank();
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.drops.get(Drop::kTlsAlert), 1u);
  EXPECT_EQ(w.layer.error_text(w.id), "TLS_error: the peer sent alert 20");
}

TEST(TlsLayer, RenegotiationInTls12IsRefused) {
  World w(plain_policy(), {.version = TLS1_2_VERSION});
  w.open();
  SSL_renegotiate(w.client.ssl.get());
  SSL_do_handshake(w.client.ssl.get());
  w.crank();
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.drops.get(Drop::kTlsUnexpected), 1u);
}

TEST(TlsLayer, AFloodOfKeyUpdatesEndsTheStream) {
  World w(plain_policy());
  w.open();
  for (int i = 0; i < 40; i++) {
    SSL_key_update(w.client.ssl.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_do_handshake(w.client.ssl.get());
  }
  w.crank();
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.drops.get(Drop::kTlsUnexpected), 1u);
}

TEST(TlsLayer, AnUnreadStreamHoldsABoundedAmountAndLosesNothing) {
  World w(plain_policy());
  w.open();
  w.auto_read = false;
  const std::string up = pattern(400'000);
  for (size_t at = 0; at < up.size(); at += 16'384) w.client.write(std::string_view(up).substr(at, 16'384));
  w.crank();
  uint32_t held = 0;
  while (const uint32_t n = w.layer.readable(w.id).bytes) {
    const ReadView v = w.layer.readable(w.id);
    for (unsigned i = 0; i < v.count; i++) w.received += as_text(v.span[i]);
    held = std::max(held, n);
    EXPECT_LE(uint64_t(w.layer.info(w.id).bytes_in) - (w.received.size() - n), kPlaintextHeldMax + kPlaintextMax);
    w.layer.consume(w.id, n);
  }
  EXPECT_TRUE(w.received == up);
}

TEST(TlsLayer, WithoutMbufsRecordsWaitAndNothingIsLost) {
  World w(plain_policy());
  w.open();
  w.client.write(pattern(10'000));
  w.lower.arrive(w.below, w.client.take(), 1448);
  Chain hoard;
  while (rte_mbuf* m = test_pool().alloc_held()) hoard.append(m);
  w.events();
  EXPECT_EQ(w.received, "");
  EXPECT_GT(w.drops.get(Drop::kTlsNoMbuf), 0u);
  EXPECT_FALSE(w.seen & kClosed);
  hoard.clear();
  w.now.mono_us += 10 * kMs;
  w.layer.advance(w.now);
  w.crank();
  EXPECT_TRUE(w.received == pattern(10'000));
}

TEST(TlsLayer, BudgetLeavesRoomForTheOverheadOfWhateverChainIsSent) {
  std::mt19937 rng(11);
  for (const SuiteCase& c : {kSuiteCases[0], kSuiteCases[3]}) {
    World w(plain_policy(), {.version = c.version, .suite = c.name});
    w.open();
    std::string all;
    for (int i = 0; i < 300; i++) {
      w.lower.at(w.below).budget_max = 1 + rng() % 9000;
      const uint32_t budget = w.layer.budget(w.id);
      if (budget > 0) {
        Chain chain;
        std::string text = pattern(1 + rng() % budget, uint32_t(i));
        ASSERT_TRUE(test_pool().append_copy(chain, as_bytes(text), 1 + rng() % (i % 2 == 0 ? 40 : 2000)));
        w.layer.send(w.id, std::move(chain));  // FakeLower asserts its own budget
        all += text;
        ASSERT_EQ(w.layer.info(w.id).end, StreamEnd::kOpen) << w.layer.error_text(w.id);
      }
      w.crank();
    }
    EXPECT_TRUE(w.client.received == all) << w.client.error;
  }
  EXPECT_EQ(test_pool().held(), 0u);
}

// RFC 6066 4: libssl agrees to it in the handshake, so the records must keep it. (Envoy's library does not know the extension.)
TEST(TlsLayer, RecordsAreNoLongerThanTheMaxFragmentLengthOfTheClient) {
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION})
    for (uint8_t code : {TLSEXT_max_fragment_length_512, TLSEXT_max_fragment_length_1024, TLSEXT_max_fragment_length_4096}) {
      World w(plain_policy(), {.version = version, .max_fragment = code});
      w.open();
      EXPECT_LE(w.layer.segment_bytes(w.id), 256u << code);
      Chain large;  // of mbufs that hold more than one record may
      ASSERT_TRUE(test_pool().append_copy(large, as_bytes(pattern(1900)), 1900));
      w.layer.send(w.id, std::move(large));
      w.crank();
      EXPECT_TRUE(w.client.received == pattern(1900)) << version << " " << int(code) << " " << w.client.error;
      w.client.received.clear();
      w.send(pattern(20'000));
      w.crank();
      EXPECT_TRUE(w.client.received == pattern(20'000)) << version << " " << int(code) << " " << w.client.error;
    }
  EXPECT_EQ(test_pool().held(), 0u);
}

TEST(TlsLayer, ASharedMbufIsCopiedNotEncryptedInPlace) {
  World w(plain_policy());
  w.open();
  rte_mbuf* m = test_pool().alloc_control();
  std::memcpy(rte_pktmbuf_mtod(m, char*), "shared", 6);
  m->data_len = 6;
  rte_mbuf_refcnt_update(m, 1);
  w.layer.send(w.id, Chain(m));
  w.crank();
  EXPECT_EQ(w.client.received, "shared");
  EXPECT_EQ(as_text(bytes_of(m)), "shared");
  EXPECT_EQ(w.layer.counters().sealed_copied.get(), 1u);
  free_mbuf(m);
}

TEST(TlsLayer, CloseLingersUntilCloseNotifyCouldLeave) {
  World w(plain_policy());
  w.open();
  w.lower.at(w.below).budget_max = 0;
  w.layer.close(w.id);
  EXPECT_EQ(w.layer.sessions(), 1u);
  EXPECT_EQ(w.layer.budget(w.id), 0u);
  EXPECT_FALSE(w.lower.at(w.below).closed);
  w.lower.at(w.below).budget_max = 100'000;
  w.lower.at(w.below).events |= kWritable;
  w.crank();
  EXPECT_TRUE(w.client.closed);
  EXPECT_EQ(w.layer.sessions(), 0u);
  EXPECT_TRUE(w.lower.at(w.below).closed);
}

TEST(TlsLayer, CloseThatCannotLeaveIsResetAfterTheLinger) {
  World w(plain_policy());
  w.open();
  w.lower.at(w.below).budget_max = 0;
  w.layer.close(w.id);
  w.now.mono_us += kLinger + 10 * kMs;
  w.layer.advance(w.now);
  EXPECT_TRUE(w.lower.at(w.below).aborted);
  EXPECT_EQ(w.layer.sessions(), 0u);
}

TEST(TlsLayer, ASilentHandshakeIsEndedAfterItsTimeout) {
  World w(plain_policy(), {}, {.sessions_max = 4, .handshake_timeout = 5 * kSec});
  w.below = w.lower.open();
  w.id = w.layer.accept(w.below, w.policy, w.now);
  w.layer.set_cookie(w.id, 77);
  EXPECT_EQ(w.layer.handshaking(), 1u);
  w.now.mono_us += 4 * kSec;
  w.layer.advance(w.now);
  w.events();
  EXPECT_FALSE(w.seen & kClosed);
  w.now.mono_us += 2 * kSec;
  w.layer.advance(w.now);
  w.events();
  EXPECT_TRUE(w.seen & kClosed);
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.drops.get(Drop::kTlsHandshakeTimeout), 1u);
  EXPECT_TRUE(w.lower.at(w.below).closed);
  EXPECT_EQ(w.handshakes.in_flight(), 0u);
}

TEST(TlsLayer, AClientThatVanishesMidHandshakeLeavesNothing) {
  World w(plain_policy());
  w.accept();
  w.lower.peer_fin(w.below);
  w.events();
  w.events();
  EXPECT_TRUE(w.seen & kClosed);
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.handshakes.in_flight(), 0u);
}

TEST(TlsLayer, GarbageInsteadOfAHelloFailsTheHandshake) {
  World w(plain_policy());
  w.below = w.lower.open();
  w.lower.arrive(w.below, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1448);
  w.id = w.layer.accept(w.below, w.policy, w.now);
  w.layer.set_cookie(w.id, 77);
  w.events();
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.drops.get(Drop::kTlsHandshakeFailed), 1u);
}

TEST(TlsLayer, BeyondItsSessionsItRefusesAndCounts) {
  World w(plain_policy(), {}, {.sessions_max = 1});
  w.open();
  EXPECT_FALSE(bool(w.layer.accept(w.lower.open(), w.policy, w.now)));
  EXPECT_EQ(w.drops.get(Drop::kTlsQueueFull), 1u);
}

TEST(TlsLayer, AStaleIdIsHarmlessEverywhere) {
  World w(plain_policy());
  w.open();
  const StreamId old = w.id;
  w.layer.abort(old);
  w.id = {};
  EXPECT_EQ(w.layer.readable(old).bytes, 0u);
  EXPECT_EQ(w.layer.budget(old), 0u);
  w.layer.consume(old, 5);
  w.layer.finish(old);
  w.layer.close(old);
  w.layer.abort(old);
  w.layer.send(old, Chain());
  EXPECT_EQ(w.layer.peer(old), nullptr);
  EXPECT_EQ(w.layer.info(old).end, StreamEnd::kAborted);
  EXPECT_TRUE(w.lower.at(w.below).aborted);
}

TEST(TlsLayer, BytesThatComeRightBehindTheFinishedAreApplicationData) {
  for (const SuiteCase& c : {kSuiteCases[0], kSuiteCases[3]}) {
    World w(plain_policy(), {.version = c.version, .suite = c.name});
    w.accept();
    w.events();
    w.client.give(w.lower.take(w.below));
    w.client.turn();
    if (c.version == TLS1_2_VERSION) {  // the client's Finished is answered before it may write
      w.lower.arrive(w.below, w.client.take(), w.piece);
      w.events();
      w.client.give(w.lower.take(w.below));
      w.client.turn();
    }
    w.client.write("with the Finished");
    SSL_shutdown(w.client.ssl.get());
    w.lower.arrive(w.below, w.client.take(), w.piece);
    w.lower.peer_fin(w.below);
    w.crank();
    EXPECT_EQ(w.received, "with the Finished") << w.layer.error_text(w.id);
    EXPECT_TRUE(w.seen & kOpened);
    EXPECT_TRUE(w.seen & kPeerFinished);
    EXPECT_FALSE(w.seen & kClosed);
  }
}

TEST(TlsLayer, AResetDuringTheHandshakeIsAFailedHandshake) {
  World w(plain_policy());
  w.accept();
  w.lower.ended(w.below, StreamEnd::kReset);
  w.events();
  w.events();
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.drops.get(Drop::kTlsHandshakeFailed), 1u);
  EXPECT_EQ(w.drops.total(), 1u);
  EXPECT_EQ(w.handshakes.in_flight(), 0u);
}

TEST(TlsLayer, AHandshakeThatNeverEndsIsEndedByItsBytes) {
  World w(plain_policy());
  w.below = w.lower.open();
  w.id = w.layer.accept(w.below, w.policy, w.now);
  w.layer.set_cookie(w.id, 77);
  std::string hello("\x01\x01\xff\xf0", 4);  // a ClientHello of 131,056 bytes
  for (int i = 0; i < 40 && !(w.seen & kClosed); i++) {
    hello.resize(4096);
    w.lower.arrive(w.below, std::string("\x16\x03\x01\x10\x00", 5) + hello, 1448);
    w.events();
    hello.clear();
  }
  EXPECT_TRUE(w.seen & kClosed);
  EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
  EXPECT_EQ(w.handshakes.in_flight(), 0u);
}

TEST(TlsLayer, AKeyUpdateThatFindsNoRoomWaitsAndThenLeavesFirst) {
  World w(plain_policy());
  w.open();
  w.lower.at(w.below).budget_max = 10;
  SSL_key_update(w.client.ssl.get(), SSL_KEY_UPDATE_REQUESTED);
  SSL_do_handshake(w.client.ssl.get());
  w.client.write("x");
  w.crank();
  EXPECT_EQ(w.layer.counters().key_updates_out.get(), 0u);
  w.lower.at(w.below).budget_max = 100'000;
  w.lower.at(w.below).events |= kWritable;
  w.crank();
  EXPECT_EQ(w.layer.counters().key_updates_out.get(), 1u);
  w.send("after");
  w.crank();
  EXPECT_EQ(w.client.received, "after") << w.client.error;
}

}  // namespace
}  // namespace sluice::tls::test
