// The CA's directory and decisions, with a clock of the test's own.
#include "ctrl/plane/ca_authority.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kDay = 86'400;
const std::string kGateway = "spiffe://cluster.local/ns/shop/sa/gateway";

struct CaAuthorityTest : testing::Test {
  fs::path top, dir;
  Now now{kSec, 1'800'000'000'000'000};
  std::unique_ptr<CaAuthority> ca;
  void SetUp() override {
    char name[] = "/tmp/sluice-ca-XXXXXX";
    top = ::mkdtemp(name);
    dir = top / "ca";
  }
  void TearDown() override { fs::remove_all(top); }
  void start(CaOptions o = {}) {
    o.dir = dir;
    auto made = CaAuthority::start(o, now.wall_us);
    ASSERT_TRUE(made) << made.error();
    ca = std::move(*made);
  }
  std::string start_error(CaOptions o = {}) {
    o.dir = dir;
    const auto made = CaAuthority::start(o, now.wall_us);
    return made ? "" : made.error();
  }
  void write(const std::string& file, const std::string& text, mode_t mode = 0600) {
    fs::create_directories((dir / file).parent_path());
    std::ofstream(dir / file, std::ios::trunc) << text;
    ::chmod((dir / file).c_str(), mode);
  }
  std::string reload() {
    const auto r = ca->reload(now.wall_us);
    return !r ? r.error() : *r ? "changed" : "same";
  }
  static std::string mode_of(const fs::path& p) {
    struct stat st;
    ::stat(p.c_str(), &st);
    char text[8];
    std::snprintf(text, sizeof text, "%04o", st.st_mode & 07777);
    return text;
  }
  std::expected<CaAuthority::Answer, CaRefusal> issue(const std::string& identity, int64_t ttl_s = 0) {
    const auto csr = tls::make_csr(identity);
    return ca->issue(identity, {csr->csr_pem, ttl_s}, now);
  }
};

TEST_F(CaAuthorityTest, AnEmptyFolderGetsARootOfItsOwnAndKeepsIt) {
  start();
  EXPECT_EQ(mode_of(dir), "0700");
  EXPECT_EQ(mode_of(dir / "root-1"), "0700");
  EXPECT_EQ(mode_of(dir / "root-1/ca-key.pem"), "0600");
  const std::string roots = ca->state()->roots_pem, version = ca->state()->version;
  EXPECT_EQ(ca->state()->signing, "root-1");
  EXPECT_EQ(ca->state()->crl_pem, "");
  start();
  EXPECT_EQ(ca->state()->roots_pem, roots);
  EXPECT_EQ(ca->state()->version, version);
}

TEST_F(CaAuthorityTest, KeysThatOthersMayReadAreRefused) {
  start();
  ::chmod((dir / "root-1/ca-key.pem").c_str(), 0640);
  EXPECT_NE(start_error().find("ca-key.pem: may be read by others"), std::string::npos) << start_error();
  EXPECT_NE(reload().find("chmod 0600"), std::string::npos);
  EXPECT_TRUE(issue(kGateway));  // the last good state stays
  ::chmod((dir / "root-1/ca-key.pem").c_str(), 0600);
  ::chmod(dir.c_str(), 0777);
  EXPECT_NE(start_error().find("may be written by others"), std::string::npos);
}

TEST_F(CaAuthorityTest, ACertificateIsForTheCallerAndItsTimeIsWithinBounds) {
  start();
  const auto seconds = [&](int64_t asked) { return (issue(kGateway, asked)->not_after_us - now.wall_us) / 1'000'000; };
  EXPECT_EQ(seconds(0), kDay);
  EXPECT_EQ(seconds(3600), 3600);
  EXPECT_EQ(seconds(1), 600);
  EXPECT_EQ(seconds(INT64_MAX), 90 * kDay);
  EXPECT_EQ(seconds(-5), kDay);
  const auto csr = tls::make_csr(kGateway);
  const auto a = ca->issue(kGateway, {csr->csr_pem, 0}, now);
  ASSERT_TRUE(a);
  const auto ok = tls::check_issued(a->chain, csr->key_pem, kGateway, now.wall_us);
  ASSERT_TRUE(ok) << ok.error();
  EXPECT_EQ(ok->root_pem, ca->state()->roots_pem);
  EXPECT_EQ(ca->counters().issued, 6u);
}

TEST_F(CaAuthorityTest, ACsrForAnotherIsDeniedAndCounted) {
  start();
  const auto csr = tls::make_csr("spiffe://cluster.local/ns/bank/sa/root");
  const auto a = ca->issue(kGateway, {csr->csr_pem, 0}, now);
  ASSERT_FALSE(a);
  EXPECT_EQ(a.error().kind, CaRefusal::Kind::kDenied);
  const auto b = ca->issue(kGateway, {"nonsense", 0}, now);
  EXPECT_EQ(b.error().kind, CaRefusal::Kind::kInvalid);
  EXPECT_EQ(ca->counters().csr[size_t(tls::Refusal::kIdentity)], 1u);
  EXPECT_EQ(ca->counters().csr[size_t(tls::Refusal::kMalformed)], 1u);
  EXPECT_EQ(ca->counters().refused[size_t(CaRefusal::Kind::kDenied)], 1u);
}

TEST_F(CaAuthorityTest, TheCertificateSaysWhoCallsOrItIsNobody) {
  start();
  const auto a = issue(kGateway);
  const auto who = [&](const std::string& pem, const std::string& header = "") { return ca->authenticate(pem, header, now); };
  EXPECT_EQ(who(a->chain[0]).value(), kGateway);
  EXPECT_EQ(who("").error().kind, CaRefusal::Kind::kUnauthenticated);
  EXPECT_EQ(who("nonsense").error().kind, CaRefusal::Kind::kUnauthenticated);
  EXPECT_EQ(who(ca->state()->roots_pem).error().kind, CaRefusal::Kind::kUnauthenticated);  // no identity in it
  EXPECT_NE(who("", "Bearer x.y.z").error().reason.find("tokens are not taken"), std::string::npos);
  const auto csr = tls::make_csr("spiffe://other/ns/a/sa/b");
  const auto foreign = ca->state()->issuer->sign(csr->csr_pem, "spiffe://other/ns/a/sa/b", 60, now.wall_us, {});
  EXPECT_EQ(who(foreign->chain[0]).error().kind, CaRefusal::Kind::kDenied);
}

TEST_F(CaAuthorityTest, WhoIsRevokedGetsNothingAndVerifiersAreTold) {
  start();
  const auto a = issue(kGateway), b = issue("spiffe://cluster.local/ns/shop/sa/other");
  const std::string before = ca->state()->version;
  write("revoked.yaml", "serials: ['" + a->serial + "']\nidentities: [spiffe://cluster.local/ns/shop/sa/other]\n");
  EXPECT_EQ(reload(), "changed");
  const auto s = ca->state();
  EXPECT_NE(s->version, before);
  EXPECT_TRUE(s->issuer->is_list_of(s->crl_pem, {a->serial}));
  EXPECT_TRUE(s->identities.contains("spiffe://cluster.local/ns/shop/sa/other"));
  EXPECT_NE(ca->authenticate(a->chain[0], "", now).error().reason.find("is revoked"), std::string::npos);
  EXPECT_NE(ca->authenticate(b->chain[0], "", now).error().reason.find("is revoked"), std::string::npos);
  EXPECT_EQ(reload(), "same");  // the list is signed once
  fs::remove(dir / "revoked.yaml");
  EXPECT_EQ(reload(), "same");  // a file that vanishes sets nobody free
  write("revoked.yaml", "serials: []\n");
  EXPECT_EQ(reload(), "changed");
  EXPECT_EQ(ca->state()->crl_pem, "");
  EXPECT_TRUE(ca->authenticate(b->chain[0], "", now));
}

TEST_F(CaAuthorityTest, AWrongRevokedFileIsNamedAtItsPlaceAndChangesNothing) {
  start();
  write("revoked.yaml", "identities: [spiffe://cluster.local/ns/a/sa/b]\n");
  EXPECT_EQ(reload(), "changed");
  const auto says = [&](const std::string& text, const std::string& what) {
    write("revoked.yaml", text);
    const std::string why = reload();
    EXPECT_NE(why.find(what), std::string::npos) << why;
    EXPECT_EQ(ca->state()->identities.size(), 1u);
  };
  says("serials: [xyz]\n", "revoked.yaml:1:11");
  says("identities:\n- shop\n", "revoked.yaml:2:3");
  says("serails: []\n", "unknown key 'serails'");
  says("serials: 12\n", "must be a list");
  says("- a\n", "must be a mapping");
  says("serials: [", "revoked.yaml");
  EXPECT_NE(start_error(), "");
}

TEST_F(CaAuthorityTest, ARootRotatesInThreeSteps) {
  start();
  const std::string one = ca->state()->roots_pem;
  const auto old = issue(kGateway);
  ASSERT_TRUE(add_root(dir, "root-2", "cluster.local", tls::KeyKind::kP256, now.wall_us));
  EXPECT_EQ(reload(), "changed");  // 1: both are trusted, the old one signs
  const std::string both = ca->state()->roots_pem;
  EXPECT_TRUE(both.starts_with(one) && both.size() > one.size());
  EXPECT_EQ(issue(kGateway)->chain.back(), both);
  const std::string two = both.substr(one.size());
  write("signing", "root-2\n");
  EXPECT_EQ(reload(), "changed");  // 2: the new one signs, and stands first
  EXPECT_EQ(ca->state()->roots_pem, two + one);
  const auto csr = tls::make_csr(kGateway);
  const auto fresh = ca->issue(kGateway, {csr->csr_pem, 0}, now);
  EXPECT_TRUE(tls::check_issued({fresh->chain[0], two}, csr->key_pem, kGateway, now.wall_us));
  EXPECT_FALSE(tls::check_issued({fresh->chain[0], one}, csr->key_pem, kGateway, now.wall_us));
  fs::remove_all(dir / "root-1");
  EXPECT_EQ(reload(), "changed");  // 3
  EXPECT_EQ(ca->state()->roots_pem, two);
}

TEST_F(CaAuthorityTest, WhileTwoRootsAreTrustedBothHaveAList) {
  start();
  ASSERT_TRUE(add_root(dir, "root-2", "cluster.local", tls::KeyKind::kRsa2048, now.wall_us));
  write("revoked.yaml", "serials: [1a2b]\n");
  EXPECT_EQ(reload(), "changed");
  EXPECT_EQ(ca->state()->lists.size(), 2u);
  EXPECT_EQ(ca->state()->crl_pem, ca->state()->lists.at("root-1") + ca->state()->lists.at("root-2"));
}

TEST_F(CaAuthorityTest, AHalfMadeRotationChangesNothing) {
  start();
  const std::string version = ca->state()->version;
  write("signing", "root-2\n");
  EXPECT_NE(reload().find("names 'root-2', which is no folder"), std::string::npos);
  write("signing", "root-1\n");
  fs::create_directory(dir / "root-2");
  EXPECT_NE(reload().find("root-2/: holds neither"), std::string::npos);
  fs::copy(dir / "root-1/ca-cert.pem", dir / "root-2/ca-cert.pem");
  EXPECT_EQ(reload(), "same");  // trusted already
  write("root-2/ca-key.pem", "half a key");
  EXPECT_NE(reload().find("the CA's key is no PEM"), std::string::npos);
  fs::rename(dir, top / "gone");
  EXPECT_NE(reload().find("is no folder"), std::string::npos);
  EXPECT_EQ(ca->state()->version, version);
  EXPECT_TRUE(issue(kGateway));
}

TEST_F(CaAuthorityTest, AFloodIsLimitedPerCallerAndOverAll) {
  start();
  const auto csr = tls::make_csr(kGateway);
  unsigned good = 0;
  for (int i = 0; i < 50; i++) {
    const auto a = ca->issue(kGateway, {csr->csr_pem, 0}, now);
    if (a) good++;
    else EXPECT_EQ(a.error().kind, CaRefusal::Kind::kLimited);
  }
  EXPECT_EQ(good, unsigned(kIdentityCallsBurst));
  EXPECT_EQ(ca->counters().refused[size_t(CaRefusal::Kind::kLimited)], 40u);
  EXPECT_TRUE(issue("spiffe://cluster.local/ns/shop/sa/other"));  // nobody else pays
  now.mono_us += 2 * kSec;
  EXPECT_TRUE(issue(kGateway));
  unsigned limited = 0;
  for (int i = 0; i < 3000; i++) {
    const auto who = ca->authenticate("", "", now);
    limited += who.error().kind == CaRefusal::Kind::kLimited;
  }
  EXPECT_EQ(limited, 2000u);
  now.mono_us += kSec;
  EXPECT_EQ(ca->authenticate("", "", now).error().kind, CaRefusal::Kind::kUnauthenticated);
}

TEST_F(CaAuthorityTest, WrongOptionsAreRefused) {
  EXPECT_NE(start_error({.ttl_min_s = 10, .ttl_default_s = 5}).find("TTL"), std::string::npos);
  EXPECT_NE(start_error({.trust_domain = "NO DOMAIN"}).find("trust domain"), std::string::npos);
  EXPECT_NE(start_error({.token = TokenOptions{.keys = "x", .issuer = "i", .audience = "a"}}).find("keys of tokens"), std::string::npos);
  EXPECT_FALSE(add_root(top, "../x", "cluster.local", tls::KeyKind::kP256, now.wall_us));
}

}  // namespace
}  // namespace sluice::plane
