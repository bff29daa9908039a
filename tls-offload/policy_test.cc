// Who is let in, who is not and why; which certificate answers; what make() refuses. Through real handshakes.
#include "tls-offload/test_world.h"

namespace sluice::tls::test {
namespace {

const Issued& ca() {
  static const Issued c = make_ca("ca");
  return c;
}
const Issued& server() {
  static const Issued s =
      issue(&ca(), {.common_name = "server", .sans = {dns("shop.example.com"), uri("spiffe://cluster.local/ns/gw/sa/gw")}});
  return s;
}
ServerPolicyOptions mutual(ClientCert mode = ClientCert::kRequired) {
  return {.certificates = {server().pair()}, .trusted_ca_pem = ca().pem(), .client_cert = mode};
}

struct Outcome {
  bool open = false;
  PeerInfo peer;
  std::string server_error, client_error;
  uint64_t failed = 0;
};
Outcome shake(const ServerPolicyOptions& o, const ClientOptions& c) {
  auto policy = ServerPolicy::make(o);
  EXPECT_TRUE(policy.has_value()) << policy.error();
  World w(*policy, c);
  w.accept();
  w.crank();
  Outcome out;
  out.open = (w.seen & kOpened) != 0;
  if (const PeerInfo* p = w.layer.peer(w.id)) out.peer = *p;
  out.server_error = w.layer.error_text(w.id);
  out.client_error = w.client.error;
  out.failed = w.drops.get(Drop::kTlsHandshakeFailed);
  if (!out.open) {
    EXPECT_TRUE(w.seen & kClosed);
    EXPECT_EQ(w.layer.info(w.id).end, StreamEnd::kTlsFailed);
    EXPECT_EQ(out.failed, 1u);
  }
  return out;
}
// Refused in both versions, the server naming `why` and the client being told `alert`.
void refused(const ServerPolicyOptions& o, const Issued* certificate, const std::string& why, const std::string& alert) {
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    const Outcome r = shake(o, {.version = version, .certificate = certificate});
    EXPECT_FALSE(r.open) << why;
    EXPECT_NE(r.server_error.find(why), std::string::npos) << r.server_error;
    EXPECT_NE(r.client_error.find(alert), std::string::npos) << r.client_error;
  }
}
Outcome accepted(const ServerPolicyOptions& o, const Issued* certificate) {
  Outcome r = shake(o, {.certificate = certificate});
  EXPECT_TRUE(r.open) << r.server_error;
  EXPECT_EQ(r.peer.certificate, certificate != nullptr);
  return r;
}

TEST(TlsClientCertificate, AVerifiedOneBecomesPeerInfoAsEnvoyWritesIt) {
  const Issued c = issue(&ca(), {.common_name = "client", .sans = {uri("spiffe://cluster.local/ns/shop/sa/client"), dns("c.example.com")}});
  const PeerInfo p = accepted(mutual(), &c).peer;
  EXPECT_EQ(p.principal, "spiffe://cluster.local/ns/shop/sa/client");
  EXPECT_EQ(p.uri_sans, std::vector<std::string>{"spiffe://cluster.local/ns/shop/sa/client"});
  EXPECT_EQ(p.dns_sans, std::vector<std::string>{"c.example.com"});
  EXPECT_EQ(p.subject, "CN=client,O=cluster.local");
  EXPECT_EQ(p.serial, "1a2b");
  EXPECT_EQ(p.sha256_hex.size(), 64u);
  EXPECT_EQ(p.local_uri_san, "spiffe://cluster.local/ns/gw/sa/gw");
  EXPECT_TRUE(p.pem_escaped.starts_with("-----BEGIN%20CERTIFICATE-----%0A"));
  EXPECT_EQ(p.pem_escaped.find_first_of("\n +/="), std::string::npos);
  EXPECT_EQ(p.chain_escaped, p.pem_escaped);
}

TEST(TlsClientCertificate, ThePrincipalIsUriElseDnsElseSubject) {
  const Issued with_dns = issue(&ca(), {.common_name = "x", .sans = {dns("a.example.com"), dns("b.example.com")}});
  EXPECT_EQ(accepted(mutual(), &with_dns).peer.principal, "a.example.com");
  const Issued bare = issue(&ca(), {.common_name = "only", .sans = {}});
  EXPECT_EQ(accepted(mutual(), &bare).peer.principal, "CN=only,O=cluster.local");
}

TEST(TlsClientCertificate, NoneIsRefusedWhereOneIsRequiredAndTakenWhereItIsOptional) {
  refused(mutual(), nullptr, "peer did not return a certificate", "alert");
  EXPECT_FALSE(accepted(mutual(ClientCert::kOptional), nullptr).peer.certificate);
}

TEST(TlsClientCertificate, OfAnotherCaIsRefusedAlsoWhereItIsOptional) {
  const Issued other = make_ca("other"), c = issue(&other, {.common_name = "client", .sans = {}});
  refused(mutual(), &c, "unable to get local issuer certificate", "unknown ca");
  refused(mutual(ClientCert::kOptional), &c, "unable to get local issuer certificate", "unknown ca");
  const Issued self = issue(nullptr, {.common_name = "self", .sans = {}});
  refused(mutual(ClientCert::kOptional), &self, "self-signed certificate", "unknown ca");
}

TEST(TlsClientCertificate, IsNotAskedForWithoutAPolicyForIt) {
  const Issued c = issue(&ca(), {.common_name = "client", .sans = {}});
  const Outcome r = shake({.certificates = {server().pair()}}, {.certificate = &c});
  EXPECT_TRUE(r.open);
  EXPECT_FALSE(r.peer.certificate);
}

TEST(TlsClientCertificate, ExpiredOrNotYetValidIsRefusedByTheClockThatIsGiven) {
  const Issued old = issue(&ca(), {.common_name = "old", .sans = {}, .from_s = -7200, .to_s = -60});
  refused(mutual(), &old, "certificate has expired", "certificate expired");
  const Issued early = issue(&ca(), {.common_name = "early", .sans = {}, .from_s = 3600, .to_s = 7200});
  refused(mutual(), &early, "certificate is not yet valid", "bad certificate");
  auto policy = ServerPolicy::make(mutual());
  World w(*policy, {.certificate = &old});
  w.now.wall_us -= 3600ll * 1'000'000;  // an hour ago it was good
  w.accept();
  w.crank();
  EXPECT_TRUE(w.seen & kOpened) << w.layer.error_text(w.id);
}

TEST(TlsClientCertificate, ANulInAnySanIsRefused) {
  for (const San& san : {dns(std::string("good.example.com\0.evil.com", 26)), uri(std::string("spiffe://td/a\0b", 15)),
                         San{GEN_EMAIL, std::string("a@b\0c", 5)}}) {
    const Issued c = issue(&ca(), {.common_name = "client", .sans = {uri("spiffe://td/ok"), san}});
    refused(mutual(), &c, "NUL byte", "certificate unknown");
  }
}

TEST(TlsClientCertificate, ExactlyOneSpiffeIdIsDemandedWhereThePolicySaysSo) {
  ServerPolicyOptions o = mutual();
  o.require_one_spiffe_uri = true;
  const Issued one = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/a"), dns("x.example.com")}});
  accepted(o, &one);
  const Issued none = issue(&ca(), {.common_name = "c", .sans = {dns("x.example.com")}});
  refused(o, &none, "has 0 URI SANs", "certificate unknown");
  const Issued two = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/a"), uri("spiffe://td/b")}});
  refused(o, &two, "has 2 URI SANs", "certificate unknown");
  const Issued web = issue(&ca(), {.common_name = "c", .sans = {uri("https://td/a")}});
  refused(o, &web, "not a SPIFFE id", "certificate unknown");
  const Issued empty = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe:///a")}});
  refused(o, &empty, "not a SPIFFE id", "certificate unknown");
  accepted(mutual(), &two);  // elsewhere any number is good
}

TEST(TlsClientCertificate, OneSanMustMatchOneMatcher) {
  ServerPolicyOptions o = mutual();
  o.san_matchers = {[](SanType t, std::string_view s) { return t == SanType::kUri && s == "spiffe://td/a"; },
                    [](SanType t, std::string_view s) { return t == SanType::kDns && s.ends_with(".example.com"); }};
  const Issued by_uri = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/a")}});
  const Issued by_dns = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/b"), dns("x.example.com")}});
  const Issued neither = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/b"), dns("spiffe://td/a")}});
  const Issued bare = issue(&ca(), {.common_name = "spiffe://td/a", .sans = {}});
  accepted(o, &by_uri);
  accepted(o, &by_dns);
  refused(o, &neither, "SAN matcher", "certificate unknown");
  refused(o, &bare, "SAN matcher", "certificate unknown");
}

TEST(TlsClientCertificate, ADeniedIdentityIsRefusedAndItsNeighbourIsNot) {
  ServerPolicyOptions o = mutual();
  o.denied_uris = {"spiffe://td/bad"};
  const Issued bad = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/bad")}}),
               also = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/good"), uri("spiffe://td/bad")}}),
               good = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/good")}});
  refused(o, &bad, "spiffe://td/bad is revoked", "certificate unknown");
  refused(o, &also, "spiffe://td/bad is revoked", "certificate unknown");
  accepted(o, &good);
}

// The root has no list of its own issuer here: only an intermediate's.
TEST(TlsClientCertificate, AListAboutLeavesOnlyNeedsNoneOfTheRoot) {
  const Issued middle = issue(&ca(), {.common_name = "middle", .ca = true});
  Issued bad = issue(&middle, {.common_name = "bad", .sans = {}, .serial = 66}),
         good = issue(&middle, {.common_name = "good", .sans = {}, .serial = 67});
  ServerPolicyOptions o = mutual();
  o.trusted_ca_pem += middle.pem();
  o.crl_pem = revoke(middle, bad.certificate.get());
  o.crl_leaf_only = true;
  refused(o, &bad, "certificate revoked", "certificate revoked");
  accepted(o, &good);
}

TEST(TlsClientCertificate, APeerIsTrustedAsLongAsItsOwnAnchorAndItselfAre) {
  const Issued other = make_ca("other"), peer = issue(&ca(), {.common_name = "c", .sans = {uri("spiffe://td/a")}, .serial = 0x1c8});
  const auto answer = shake(mutual(), {.certificate = &peer});
  ASSERT_TRUE(answer.open);
  const auto trusts = [&](const ServerPolicyOptions& o) { return (*ServerPolicy::make(o))->still_trusts(answer.peer); };
  ServerPolicyOptions o = mutual();
  EXPECT_TRUE(trusts(o));
  o.trusted_ca_pem = other.pem() + o.trusted_ca_pem;
  EXPECT_TRUE(trusts(o));
  o.trusted_ca_pem = other.pem();
  EXPECT_FALSE(trusts(o));
  o = mutual();
  o.denied_uris = {"spiffe://td/b"};
  EXPECT_TRUE(trusts(o));
  o.denied_uris.push_back("spiffe://td/a");
  EXPECT_FALSE(trusts(o));
  o = mutual();
  o.crl_pem = revoke(ca(), other.certificate.get());
  EXPECT_TRUE(trusts(o));
  o.crl_pem = revoke(ca(), peer.certificate.get());
  EXPECT_FALSE(trusts(o));
}

TEST(TlsClientCertificate, RevokedIsRefusedAndItsNeighbourIsNot) {
  const Issued bad = issue(&ca(), {.common_name = "bad", .sans = {}, .serial = 66}),
               good = issue(&ca(), {.common_name = "good", .sans = {}, .serial = 67});
  ServerPolicyOptions o = mutual();
  o.crl_pem = revoke(ca(), bad.certificate.get());
  refused(o, &bad, "certificate revoked", "certificate revoked");
  accepted(o, &good);
}

TEST(TlsClientCertificate, ACaCertificateMayNotStandAsALeafOfTheWrongPurpose) {
  const Issued c = issue(&ca(), {.common_name = "signer", .sans = {}, .ca = true});
  const Outcome r = shake(mutual(), {.certificate = &c});
  EXPECT_FALSE(r.open);
}

// A connection outlives the policy that admitted it: what its peer proved is held against the newest one.
TEST(TlsClientCertificate, OfAnEarlierPolicyStandsUntilItsOwnRootIsRemovedOrItsNamesAreRefused) {
  const Issued second = make_ca("second");
  const Issued client =
      issue(&ca(), {.common_name = "client", .sans = {uri("spiffe://cluster.local/ns/shop/sa/client"), dns("c.example.com")}});
  const Issued stranger = issue(&second, {.common_name = "stranger", .sans = {{GEN_EMAIL, "s@example.com"}}});
  auto with = [](const std::string& roots, auto... matcher) {
    ServerPolicyOptions o = mutual();
    o.trusted_ca_pem = roots;
    (o.san_matchers.push_back(matcher), ...);
    auto policy = ServerPolicy::make(o);
    EXPECT_TRUE(policy.has_value()) << policy.error();
    return *policy;
  };
  const std::string both = ca().pem() + second.pem();
  ServerPolicyOptions admitting = mutual();
  admitting.trusted_ca_pem = both;
  const PeerInfo peer = accepted(admitting, &client).peer, other = accepted(admitting, &stranger).peer;

  EXPECT_TRUE(with(both)->still_trusts(peer));
  EXPECT_TRUE(with(second.pem() + ca().pem())->still_trusts(peer));  // order is nothing
  EXPECT_TRUE(with(ca().pem())->still_trusts(peer));                 // somebody else's root went
  EXPECT_FALSE(with(ca().pem())->still_trusts(other));
  EXPECT_FALSE(with(second.pem())->still_trusts(peer));
  EXPECT_FALSE(with(make_ca("ca").pem())->still_trusts(peer));  // the same name, another key
  EXPECT_FALSE(with(both)->still_trusts(PeerInfo{}));

  const auto only = [](SanType type, std::string text) {
    return [=](SanType t, std::string_view san) { return t == type && san == text; };
  };
  EXPECT_EQ(with(both)->refuses(peer), "");
  EXPECT_EQ(with(both, only(SanType::kDns, "c.example.com"))->refuses(peer), "");
  EXPECT_NE(with(both, only(SanType::kDns, "d.example.com"))->refuses(peer), "");
  EXPECT_EQ(with(both, only(SanType::kEmail, "s@example.com"))->refuses(other), "");
  EXPECT_NE(with(both, only(SanType::kEmail, "s@example.com"))->refuses(peer), "");
  ServerPolicyOptions spiffe = mutual();
  spiffe.require_one_spiffe_uri = true;
  const auto strict = ServerPolicy::make(spiffe);
  EXPECT_EQ((*strict)->refuses(peer), "");
  EXPECT_NE((*strict)->refuses(other), "");
}

// The root is the trusted certificate that the chain ended at, also where that is an intermediate.
TEST(TlsClientCertificate, AnIntermediateThatIsTrustedIsTheAnchor) {
  const Issued middle = issue(&ca(), {.common_name = "middle", .sans = {}, .ca = true});
  const Issued client = issue(&middle, {.common_name = "client", .sans = {dns("c.example.com")}});
  ServerPolicyOptions o = mutual();
  o.trusted_ca_pem = middle.pem();
  const PeerInfo peer = accepted(o, &client).peer;
  EXPECT_TRUE((*ServerPolicy::make(o))->still_trusts(peer));
  EXPECT_FALSE((*ServerPolicy::make(mutual()))->still_trusts(peer));
}

std::string answered_by(const ServerPolicyOptions& o, const std::string& sni, const char* suite = nullptr, int version = TLS1_3_VERSION) {
  auto policy = ServerPolicy::make(o);
  EXPECT_TRUE(policy.has_value()) << policy.error();
  World w(*policy, {.version = version, .suite = suite, .sni = sni});
  w.open();
  X509Ptr x(SSL_get1_peer_certificate(w.client.ssl.get()));
  char cn[100] = "";
  X509_NAME_get_text_by_NID(X509_get_subject_name(x.get()), NID_commonName, cn, sizeof cn);
  return cn;
}

TEST(TlsCertificateChoice, IsExactNameThenWildcardThenTheFirst) {
  ServerPolicyOptions o;
  for (const auto& [cn, san] : std::vector<std::pair<std::string, std::string>>{
           {"first", "first.example.com"}, {"wild", "*.example.com"}, {"exact", "Shop.Example.com"}, {"deep", "*.a.example.com"}})
    o.certificates.push_back(issue(&ca(), {.common_name = cn, .sans = {dns(san)}}).pair());
  o.certificates.push_back(issue(&ca(), {.common_name = "cn.example.org", .sans = {}}).pair());
  EXPECT_EQ(answered_by(o, "shop.example.com"), "exact");
  EXPECT_EQ(answered_by(o, "SHOP.example.COM"), "exact");
  EXPECT_EQ(answered_by(o, "cart.example.com"), "wild");
  EXPECT_EQ(answered_by(o, "x.a.example.com"), "deep");
  EXPECT_EQ(answered_by(o, "x.y.a.example.com"), "first");  // a wildcard is one label
  EXPECT_EQ(answered_by(o, "example.com"), "first");
  EXPECT_EQ(answered_by(o, "cn.example.org"), "cn.example.org");
  EXPECT_EQ(answered_by(o, ""), "first");
}

TEST(TlsCertificateChoice, RsaAndEcdsaOfOneNameStandSideBySide) {
  ServerPolicyOptions o;
  o.certificates = {issue(&ca(), {.common_name = "rsa", .sans = {dns("a.example.com")}, .rsa = true}).pair(),
                    issue(&ca(), {.common_name = "ec", .sans = {dns("a.example.com")}}).pair()};
  for (const char* sni : {"a.example.com", "else.example.com"}) {
    EXPECT_EQ(answered_by(o, sni, "ECDHE-RSA-AES128-GCM-SHA256", TLS1_2_VERSION), "rsa");
    EXPECT_EQ(answered_by(o, sni, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION), "ec");
  }
}

TEST(TlsAlpn, OurPreferenceDecidesAndNoCommonOneIsNoError) {
  ServerPolicyOptions o{.certificates = {server().pair()}, .alpn = {"h2", "http/1.1"}};
  EXPECT_EQ(shake(o, {.alpn_wire = "\x08http/1.1\x02h2"}).peer.alpn, "h2");
  EXPECT_EQ(shake(o, {.alpn_wire = "\x05istio\x08http/1.1"}).peer.alpn, "http/1.1");
  const Outcome none = shake(o, {.alpn_wire = "\x03"
                                              "foo"});
  EXPECT_TRUE(none.open);
  EXPECT_EQ(none.peer.alpn, "");
}

TEST(TlsVersions, OutsideTheConfiguredRangeAreRefused) {
  ServerPolicyOptions o{.certificates = {server().pair()}, .min_version = TlsVersion::k13};
  EXPECT_FALSE(shake(o, {.version = TLS1_2_VERSION}).open);
  o.min_version = TlsVersion::kAuto;
  o.max_version = TlsVersion::k12;
  EXPECT_TRUE(shake(o, {.version = TLS1_2_VERSION}).open);
  EXPECT_FALSE(shake(o, {.version = TLS1_3_VERSION}).open);
  o.min_version = TlsVersion::k10;  // narrowed
  o.max_version = TlsVersion::kAuto;
  EXPECT_TRUE(shake(o, {.version = TLS1_2_VERSION}).open);
}

TEST(TlsVersions, AnUnsharedGroupOfTheFirstHelloIsRetried) {
  ServerPolicyOptions o{.certificates = {server().pair()}, .ecdh_curves = {"P-384"}};
  EXPECT_TRUE(shake(o, {.groups = "X25519:P-384"}).open);  // HelloRetryRequest
  EXPECT_FALSE(shake(o, {.groups = "X25519"}).open);
}

std::string refusal(const ServerPolicyOptions& o) {
  const auto p = ServerPolicy::make(o);
  return p.has_value() ? "accepted" : p.error();
}
void expect_refusal(const ServerPolicyOptions& o, const std::string& says) {
  EXPECT_NE(refusal(o).find(says), std::string::npos) << refusal(o);
}

TEST(TlsPolicy, NamesWhatIsWrongWithItsConfiguration) {
  const Issued other = issue(&ca(), {.common_name = "other", .sans = {}});
  expect_refusal({}, "no certificate");
  expect_refusal({.certificates = {{"nonsense", server().key_pem()}}}, "no certificate in it");
  expect_refusal({.certificates = {{server().pem(), "nonsense"}}}, "private key is not valid PEM");
  expect_refusal({.certificates = {{server().pem(), other.key_pem()}}}, "private key does not match");
  std::string broken = server().pem();
  broken[100] = broken[100] == 'A' ? 'B' : 'A';
  broken.replace(200, 4, "!!!!");
  expect_refusal({.certificates = {{broken, server().key_pem()}}}, "not valid PEM");
  expect_refusal({.certificates = {server().pair(), {"", ""}}}, "certificate 2: no certificate");
  const Issued old = issue(&ca(), {.common_name = "old", .sans = {}, .from_s = -7200, .to_s = -60});
  const int64_t now_us = int64_t(time(nullptr)) * 1'000'000;
  expect_refusal({.certificates = {old.pair()}, .wall_us = now_us}, "expired");
  EXPECT_EQ(refusal({.certificates = {old.pair()}}), "accepted");
  expect_refusal({.certificates = {server().pair()}, .wall_us = now_us - 86'400ll * 1'000'000}, "not valid before");
  expect_refusal({.certificates = {server().pair()}, .client_cert = ClientCert::kRequired}, "no trusted CA");
  ServerPolicyOptions o = mutual();
  o.trusted_ca_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  expect_refusal(o, "trusted CA");
  o = mutual();
  o.crl_pem = "nothing";
  expect_refusal(o, "no revocation list");
  o.crl_pem = revoke(ca(), nullptr) + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
  expect_refusal(o, "revocation list 2 is not valid PEM");
  const std::string whole = revoke(ca(), nullptr);
  o.crl_pem = whole + whole.substr(0, whole.size() / 2);
  expect_refusal(o, "revocation list 2 is not valid PEM");
  o.crl_pem = whole + "\n# and a remark\n";
  EXPECT_EQ(refusal(o), "accepted");
  o.trusted_ca_pem = ca().pem() + ca().pem().substr(0, 200);
  expect_refusal(o, "certificate 2 is not valid PEM");
  o = mutual();
  o.cipher_suites = {"NO-SUCH-SUITE"};
  expect_refusal(o, "cipher suite NO-SUCH-SUITE is unknown");
  o.cipher_suites = {"AES128-SHA"};
  EXPECT_EQ(refusal(o), "accepted");  // TLS 1.3 remains
  o.max_version = TlsVersion::k12;
  expect_refusal(o, "none of those configured");
  o = mutual();
  o.ecdh_curves = {"P-257"};
  expect_refusal(o, "ECDH curves P-257");
  o = mutual();
  o.min_version = TlsVersion::k13, o.max_version = TlsVersion::k12;
  expect_refusal(o, "minimum is above the maximum");
  const Issued nul = issue(&ca(), {.common_name = "n", .sans = {dns(std::string("a\0b", 3))}});
  expect_refusal({.certificates = {nul.pair()}}, "NUL byte");
}

TEST(TlsPolicy, SuitesInEnvoysGroupsAreUnderstoodAndStaticOnesLeftOut) {
  ServerPolicyOptions o{.certificates = {server().pair()}, .max_version = TlsVersion::k12};
  o.cipher_suites = {"[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-ECDSA-CHACHA20-POLY1305]", "ECDHE-RSA-AES128-SHA", "AES128-GCM-SHA256"};
  EXPECT_TRUE(shake(o, {.version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES256-GCM-SHA384"}).open);
  EXPECT_FALSE(shake(o, {.version = TLS1_2_VERSION, .suite = "ECDHE-ECDSA-AES128-GCM-SHA256"}).open);
}

TEST(TlsPolicy, KnowsWhenTheFirstCertificateEnds) {
  const Issued soon = issue(&ca(), {.common_name = "soon", .sans = {}, .to_s = 600});
  const auto p = ServerPolicy::make({.certificates = {server().pair(), soon.pair()}});
  const int64_t left_s = (*p)->certificates_expire_us() / 1'000'000 - time(nullptr);
  EXPECT_GT(left_s, 500);
  EXPECT_LE(left_s, 600);
}

TEST(TlsPolicy, OffersNoResumption) {
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    const auto p = ServerPolicy::make({.certificates = {server().pair()}});
    World w(*p, {.version = version});
    w.open();
    w.send("x");
    w.crank();
    SSL_SESSION* s = SSL_get_session(w.client.ssl.get());
    EXPECT_FALSE(SSL_SESSION_has_ticket(s));
    EXPECT_FALSE(SSL_SESSION_is_resumable(s));
  }
}

}  // namespace
}  // namespace sluice::tls::test
