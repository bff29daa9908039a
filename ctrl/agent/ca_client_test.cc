// The CA's client with a clock of the test's own, against an authority in the test.
#include "ctrl/agent/ca_client.h"

#include <google/protobuf/struct.pb.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "ctrl/agent/ca_kept.h"
#include "ctrl/agent/sds.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"

namespace sluice::agent {
namespace {

constexpr int64_t kHourUs = 3'600'000'000;
const std::string kMe = "spiffe://cluster.local/ns/shop/sa/gateway";

struct CaClientTest : testing::Test {
  Rng rng{7};
  Now now{kSec, 1'800'000'000'000'000};
  uint8_t serials = 1;
  struct Root {
    std::string pem;
    std::shared_ptr<const tls::Issuer> issuer;
  };
  Root root(uint8_t serial) {
    const auto r = tls::make_root("cluster.local", tls::KeyKind::kP256, 400 * 86'400, now.wall_us, {serial});
    return {r->certificate_pem, *tls::Issuer::make({r->certificate_pem, r->key_pem, "", ""}, now.wall_us)};
  }
  Root one = root(101), two = root(102);
  CaClient client{{.identity = kMe}, rng};

  void wait(Usec us) { now.mono_us += us, now.wall_us += int64_t(us); }
  std::vector<std::string> sign(const Root& by, const CaClient::Request& r, const std::string& bundle) {
    const auto s = by.issuer->sign(r.csr_pem, kMe, r.ttl_s, now.wall_us, {serials++});
    EXPECT_TRUE(s) << s.error().reason;
    return {s->chain[0], bundle};
  }
  // Waits for the next request as an owner would: by the deadlines.
  CaClient::Request next_request(Usec most = 48 * 3600 * kSec) {
    for (const Usec end = now.mono_us + most; now.mono_us < end;) {
      if (auto r = client.take_request(now)) return *r;
      wait(std::max(client.next_deadline(now), now.mono_us + 50 * kMs) - now.mono_us);  // a watch that nobody opens is due all the time
    }
    return {};
  }
  static std::string secret(const std::string& roots, const std::string& crl = "", const std::vector<std::string>& denied = {}) {
    envoy::extensions::transport_sockets::tls::v3::Secret s;
    s.set_name("ROOTCA");
    auto* v = s.mutable_validation_context();
    v->mutable_trusted_ca()->set_inline_bytes(roots);
    if (!crl.empty()) v->mutable_crl()->set_inline_bytes(crl), v->set_only_verify_leaf_cert_crl(true);
    if (!denied.empty()) {
      google::protobuf::Struct d;
      for (const auto& i : denied) (*d.mutable_fields())["denied"].mutable_list_value()->add_values()->set_string_value(i);
      v->mutable_custom_validator_config()->set_name(std::string(kDeniedIdentities));
      v->mutable_custom_validator_config()->mutable_typed_config()->PackFrom(d);
    }
    return s.SerializeAsString();
  }
};

TEST_F(CaClientTest, TheFirstCertificateIsAskedForAtOnceAndInstalledWithItsRoot) {
  EXPECT_EQ(client.find("default"), nullptr);
  const auto r = client.take_request(now);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->ttl_s, 86'400);
  EXPECT_FALSE(client.take_request(now));  // one at a time
  client.answer(r->number, sign(one, *r, one.pem), now);
  ASSERT_NE(client.find("default"), nullptr);
  EXPECT_NE(client.find("default")->private_key_pem.find("PRIVATE KEY"), std::string::npos);
  EXPECT_EQ(client.find("ROOTCA")->trusted_ca_pem, one.pem);
  EXPECT_EQ(client.find("other"), nullptr);
  EXPECT_EQ(client.changes(), 2u);
  EXPECT_EQ(client.status().issued, 1u);
}

TEST_F(CaClientTest, ItIsRenewedAtHalfOfItsLifeWithAnotherKey) {
  auto r = next_request();
  client.answer(r.number, sign(one, r, one.pem), now);
  const auto first = *client.find("default");
  const int64_t from = now.wall_us;
  r = next_request();
  EXPECT_NEAR(double(now.wall_us - from), 12.0 * kHourUs, 0.3 * kHourUs);
  EXPECT_EQ(*client.find("default"), first);  // until the new one is there
  client.answer(r.number, sign(one, r, one.pem), now);
  EXPECT_NE(client.find("default")->private_key_pem, first.private_key_pem);
  EXPECT_NE(client.find("default")->cert_chain_pem, first.cert_chain_pem);
}

// A not_before two minutes back must not make a short life look half over.
TEST_F(CaClientTest, AShortLifeIsRenewedAtHalfOfWhatIsLeft) {
  CaClient brief{{.identity = kMe, .ttl_s = 40}, rng};
  const auto r = brief.take_request(now);
  brief.answer(r->number, sign(one, *r, one.pem), now);
  wait(19 * kSec);
  EXPECT_FALSE(brief.take_request(now));
  wait(2 * kSec);
  EXPECT_TRUE(brief.take_request(now));
}

TEST_F(CaClientTest, WhileTheCaIsAwayWhatIsHeldServesAndTheWaitIsBounded) {
  auto r = next_request();
  client.answer(r.number, sign(one, r, one.pem), now);
  const auto held = *client.find("default");
  unsigned asked = 0;
  const Usec from = now.mono_us;
  for (r = next_request(); now.mono_us - from < 23 * 3600 * kSec; r = next_request()) {
    const Usec before = now.mono_us;
    client.failed(r.number, "gRPC status 14: away", now);
    asked++;
    const auto again = next_request();
    EXPECT_LE(now.mono_us - before, 60 * kSec);
    client.failed(again.number, "gRPC status 14: away", now);
  }
  EXPECT_EQ(*client.find("default"), held);
  EXPECT_LT(asked, 1500u);  // it does not spin
  EXPECT_EQ(client.status().last_error, "gRPC status 14: away");
  client.answer(r.number, sign(one, r, one.pem), now);
  EXPECT_EQ(client.status().last_error, "");
  EXPECT_NE(*client.find("default"), held);
}

TEST_F(CaClientTest, AWrongAnswerIsAFailureAndAnOldOneIsNothing) {
  auto r = next_request();
  const auto good = sign(one, r, one.pem);
  client.answer(r.number + 5, good, now);
  EXPECT_EQ(client.find("default"), nullptr);
  client.answer(r.number, {good[0], two.pem}, now);
  EXPECT_EQ(client.find("default"), nullptr);
  EXPECT_NE(client.status().last_error.find("does not lead to its root"), std::string::npos);
  client.answer(r.number, good, now);  // too late: its request has ended
  EXPECT_EQ(client.find("default"), nullptr);
  const auto again = next_request();
  client.answer(again.number, good, now);  // for the key before
  EXPECT_NE(client.status().last_error.find("not for our key"), std::string::npos);
  const auto third = next_request();
  client.answer(third.number, {}, now);
  EXPECT_EQ(client.status().failed, 3u);
}

TEST_F(CaClientTest, ThePushedRootsHaveTheLastWordWhileTheirStreamIsOpen) {
  auto r = next_request();
  client.answer(r.number, sign(one, r, one.pem), now);
  const uint64_t w = client.take_watch(now);
  ASSERT_NE(w, 0u);
  EXPECT_EQ(client.take_watch(now), 0u);
  ASSERT_TRUE(client.watch_said(w, secret(one.pem, "CRL", {"spiffe://td/bad"}), now));
  EXPECT_EQ(client.find("ROOTCA")->crl_pem, "CRL");
  EXPECT_TRUE(client.find("ROOTCA")->crl_leaf_only);
  EXPECT_EQ(client.find("ROOTCA")->denied_identities, std::vector<std::string>{"spiffe://td/bad"});
  const uint64_t changes = client.changes();
  ASSERT_TRUE(client.watch_said(w, secret(one.pem, "CRL", {"spiffe://td/bad"}), now));
  EXPECT_EQ(client.changes(), changes);  // the same again
  EXPECT_FALSE(client.watch_said(w, "\xff", now));
  EXPECT_FALSE(client.watch_said(w, secret("no certificate"), now));
  EXPECT_EQ(client.find("ROOTCA")->crl_pem, "CRL");
  // The stream is gone: an answer's roots are newer, but nobody who was revoked comes back.
  client.watch_closed(w, "gone", false, now);
  r = next_request();
  client.answer(r.number, sign(one, r, one.pem + two.pem), now);
  EXPECT_EQ(client.find("ROOTCA")->trusted_ca_pem, one.pem + two.pem);
  EXPECT_EQ(client.find("ROOTCA")->crl_pem, "CRL");
}

TEST_F(CaClientTest, AnotherSigningRootIsAnsweredByANewCertificateOnce) {
  auto r = next_request();
  client.answer(r.number, sign(one, r, one.pem), now);
  const uint64_t w = client.take_watch(now);
  ASSERT_TRUE(client.watch_said(w, secret(one.pem + two.pem), now));  // step 1: both are trusted
  EXPECT_FALSE(client.take_request(now));
  wait(10 * kSec);
  EXPECT_FALSE(client.take_request(now));
  ASSERT_TRUE(client.watch_said(w, secret(two.pem + one.pem), now));  // step 2: the other signs
  const Usec from = now.mono_us;
  r = next_request();
  EXPECT_LE(now.mono_us - from, 2 * kSec);
  client.failed(r.number, "away", now);
  r = next_request();
  EXPECT_LE(now.mono_us - from, 4 * kSec);
  client.answer(r.number, sign(two, r, two.pem + one.pem), now);
  ASSERT_TRUE(client.watch_said(w, secret(two.pem + one.pem), now));
  wait(10 * kSec);
  EXPECT_FALSE(client.take_request(now));
  ASSERT_TRUE(client.watch_said(w, secret(two.pem), now));  // step 3
  wait(10 * kSec);
  EXPECT_FALSE(client.take_request(now));
  EXPECT_EQ(client.find("ROOTCA")->trusted_ca_pem, two.pem);
  EXPECT_EQ(client.status().issued, 2u);
}

TEST_F(CaClientTest, ACaWithoutSecretsIsAskedForThemSeldom) {
  const uint64_t w = client.take_watch(now);
  client.watch_closed(w, "gRPC status 12: ", true, now);
  wait(60 * kSec);
  EXPECT_EQ(client.take_watch(now), 0u);
  EXPECT_NE(client.status().watch_error.find("pushes no secrets"), std::string::npos);
  wait(600 * kSec);
  EXPECT_NE(client.take_watch(now), 0u);
}

TEST_F(CaClientTest, WhatWasKeptServesAtOnceIfItIsStillGood) {
  auto r = next_request();
  client.answer(r.number, sign(one, r, one.pem), now);
  const CaKept kept{*client.find("default"), *client.find("ROOTCA")};
  CaClient again{{.identity = kMe}, rng}, late{{.identity = kMe}, rng}, other{{.identity = kMe + "x"}, rng};
  EXPECT_TRUE(again.restore(kept.certificate, kept.roots, now));
  EXPECT_EQ(*again.find("default"), kept.certificate);
  EXPECT_FALSE(again.take_request(now));
  EXPECT_FALSE(other.restore(kept.certificate, kept.roots, now));
  wait(25 * 3600 * kSec);
  EXPECT_FALSE(late.restore(kept.certificate, kept.roots, now));
  EXPECT_TRUE(late.take_request(now));
}

TEST(CaKept, IsReadAsItWasWrittenAndIsOursAlone) {
  char name[] = "/tmp/sluice-kept-XXXXXX";
  const std::string top = ::mkdtemp(name), dir = top + "/ca";
  EXPECT_FALSE(load_ca_kept(dir).value());
  const CaKept k{{.name = "default", .cert_chain_pem = "chain", .private_key_pem = "key\n"},
                 {.name = "ROOTCA", .trusted_ca_pem = "roots", .crl_pem = "crl", .crl_leaf_only = true, .denied_identities = {"a", "b"}}};
  ASSERT_TRUE(save_ca_kept(dir, k));
  struct stat st;
  ASSERT_EQ(::stat((dir + "/ca-identity").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  const auto back = load_ca_kept(dir);
  ASSERT_TRUE(back && *back);
  EXPECT_EQ((*back)->certificate, k.certificate);
  EXPECT_EQ((*back)->roots, k.roots);
  ::chmod((dir + "/ca-identity").c_str(), 0644);
  EXPECT_NE(load_ca_kept(dir).error().find("not ours alone"), std::string::npos);
  ::chmod((dir + "/ca-identity").c_str(), 0600);
  std::filesystem::resize_file(dir + "/ca-identity", 40);
  EXPECT_FALSE(load_ca_kept(dir));
  std::ofstream(dir + "/ca-identity") << "hello";
  EXPECT_FALSE(load_ca_kept(dir));
  EXPECT_FALSE(save_ca_kept("/proc/nowhere", k));
  std::filesystem::remove_all(top);
}

}  // namespace
}  // namespace sluice::agent
