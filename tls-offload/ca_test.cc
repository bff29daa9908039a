// The authority against CSRs that OpenSSL makes here: good ones of each kind, and one wrong thing at a time.
#include "tls-offload/ca.h"

#include <gtest/gtest.h>
#include <openssl/rsa.h>

#include "tls-offload/test_pki.h"

namespace sluice::tls::test {
namespace {

constexpr int64_t kSec_us = 1'000'000, kNow = 1'800'000'000 * kSec_us, kDay = 86400;
const std::string kCaller = "spiffe://cluster.local/ns/shop/sa/gateway";
constexpr SerialBytes kSerial{0xff, 0xee, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};

struct CsrOptions {
  std::vector<San> sans{{GEN_URI, kCaller}};
  std::vector<std::pair<int, std::string>> extensions;  // {nid, as openssl.cnf writes it}
  const EVP_MD* digest = EVP_sha256();
  std::string common_name;
  int lists = 1;
};

std::string text_of(BIO* bio) {
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio, &p);
  return {p, size_t(n)};
}

std::string csr(EVP_PKEY* key, const CsrOptions& o, EVP_PKEY* signer = nullptr) {
  X509_REQ* r = X509_REQ_new();
  X509_REQ_set_version(r, 0);
  X509_REQ_set_pubkey(r, key);
  if (!o.common_name.empty())
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(o.common_name.c_str()), -1, -1, 0);
  STACK_OF(X509_EXTENSION)* list = sk_X509_EXTENSION_new_null();
  if (!o.sans.empty()) {
    GENERAL_NAMES* names = GENERAL_NAMES_new();
    for (const San& san : o.sans) {
      GENERAL_NAME* g = GENERAL_NAME_new();
      ASN1_IA5STRING* s = ASN1_IA5STRING_new();
      ASN1_STRING_set(s, san.text.data(), int(san.text.size()));
      GENERAL_NAME_set0_value(g, san.type, s);
      sk_GENERAL_NAME_push(names, g);
    }
    sk_X509_EXTENSION_push(list, X509V3_EXT_i2d(NID_subject_alt_name, 1, names));
    GENERAL_NAMES_free(names);
  }
  X509V3_CTX context;
  X509V3_set_ctx(&context, nullptr, nullptr, nullptr, nullptr, 0);
  X509V3_set_ctx_nodb(&context);
  for (const auto& [nid, value] : o.extensions) {
    X509_EXTENSION* e = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    SLUICE_ASSERT(e != nullptr);
    sk_X509_EXTENSION_push(list, e);
  }
  for (int i = 0; i < o.lists; i++) X509_REQ_add_extensions(r, list);
  sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
  X509_REQ_sign(r, signer == nullptr ? key : signer, o.digest);
  BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(bio.get(), r);
  X509_REQ_free(r);
  return text_of(bio.get());
}

struct CaTest : testing::Test {
  KeyPtr key{EVP_EC_gen("P-256")};
  KeyAndCertificate root;
  std::shared_ptr<const Issuer> issuer;
  void SetUp() override {
    auto r = make_root("cluster.local", KeyKind::kP256, 3650 * kDay, kNow, {1});
    ASSERT_TRUE(r) << r.error();
    root = *r;
    auto i = Issuer::make({root.certificate_pem, root.key_pem, "", ""}, kNow);
    ASSERT_TRUE(i) << i.error();
    issuer = *i;
  }
  std::expected<Issuer::Signed, CaError> sign(const std::string& pem) { return issuer->sign(pem, kCaller, kDay, kNow, kSerial); }
  // The name and reason of the refusal; "signed" if there is none.
  std::string refused(const std::string& pem) {
    const auto s = sign(pem);
    return s ? "signed" : std::string(name_of(s.error().refusal)) + ": " + s.error().reason;
  }
};

TEST_F(CaTest, AGoodCsrGetsAWorkloadsCertificate) {
  const auto s = sign(csr(key.get(), {}));
  ASSERT_TRUE(s) << s.error().reason;
  EXPECT_EQ(s->serial, "7fee0102030405060708090a0b0c0d0e");
  EXPECT_EQ(s->not_before_us, kNow - kClockSkewS * kSec_us);
  EXPECT_EQ(s->not_after_us, kNow + kDay * kSec_us);
  ASSERT_EQ(s->chain.size(), 1u);
  const auto f = certificate_facts(s->chain[0]);
  ASSERT_TRUE(f);
  EXPECT_EQ(f->serial, s->serial);
  EXPECT_EQ(f->uri_sans, std::vector{kCaller});
  EXPECT_EQ(f->not_after_us, s->not_after_us);
  BioPtr bio(BIO_new_mem_buf(s->chain[0].data(), int(s->chain[0].size())));
  const X509Ptr x(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  EXPECT_EQ(X509_check_ca(x.get()), 0);
  EXPECT_EQ(X509_get_key_usage(x.get()), uint32_t(KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT));
  EXPECT_EQ(X509_get_extended_key_usage(x.get()), uint32_t(XKU_SSL_SERVER | XKU_SSL_CLIENT));
  EXPECT_EQ(X509_NAME_entry_count(X509_get_subject_name(x.get())), 0);
  EXPECT_NE(X509_get0_authority_key_id(x.get()), nullptr);
  const int at = X509_get_ext_by_NID(x.get(), NID_subject_alt_name, -1);
  EXPECT_EQ(X509_EXTENSION_get_critical(X509_get_ext(x.get(), at)), 1);  // the subject is empty
  EXPECT_EQ(issuer->root_pem(), root.certificate_pem);
}

TEST_F(CaTest, KeysThatAreStrongEnoughAreSigned) {
  for (const char* curve : {"P-256", "P-384"}) EXPECT_EQ(refused(csr(KeyPtr(EVP_EC_gen(curve)).get(), {})), "signed") << curve;
  for (const unsigned bits : {2048u, 3072u}) EXPECT_EQ(refused(csr(KeyPtr(EVP_RSA_gen(bits)).get(), {})), "signed") << bits;
}

TEST_F(CaTest, WeakKeysAreRefused) {
  EXPECT_EQ(refused(csr(KeyPtr(EVP_RSA_gen(1024)).get(), {})),
            "weak_key: an RSA key of 1024 bits is too weak; at least 2048, or P-256");
  for (const char* curve : {"P-224", "secp256k1", "P-521"}) EXPECT_TRUE(refused(csr(KeyPtr(EVP_EC_gen(curve)).get(), {})).starts_with("weak_key: curve")) << curve;
  KeyPtr ed(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  EXPECT_TRUE(refused(csr(ed.get(), {.digest = nullptr})).starts_with("weak_key: this kind"));
  EVP_PKEY* raw = nullptr;
  EVP_PKEY_CTX* c = EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr);
  BIGNUM* three = BN_new();
  BN_set_word(three, 3);
  EVP_PKEY_keygen_init(c);
  EVP_PKEY_CTX_set_rsa_keygen_bits(c, 2048);
  EVP_PKEY_CTX_set1_rsa_keygen_pubexp(c, three);
  EVP_PKEY_keygen(c, &raw);
  EXPECT_TRUE(refused(csr(KeyPtr(raw).get(), {})).find("public exponent") != std::string::npos);
  BN_free(three);
  EVP_PKEY_CTX_free(c);
}

TEST_F(CaTest, AnotherIdentityThanTheCallersIsRefused) {
  EXPECT_EQ(refused(csr(key.get(), {.sans = {uri("spiffe://cluster.local/ns/bank/sa/root")}})),
            "identity: the CSR asks for spiffe://cluster.local/ns/bank/sa/root, its caller is " + kCaller);
  EXPECT_TRUE(refused(csr(key.get(), {.sans = {uri(kCaller), uri("spiffe://cluster.local/ns/bank/sa/root")}})).starts_with("identity:"));
  EXPECT_TRUE(refused(csr(key.get(), {.sans = {uri("spiffe://cluster.local/ns/shop/sa/gateway2")}})).starts_with("identity:"));
}

TEST_F(CaTest, NamesThatAreNoSpiffeIdentityAreRefused) {
  for (const San& san : {dns("shop.example.com"), San{GEN_EMAIL, "a@b"}, uri("https://shop"), uri("spiffe://cluster.local"),
                         uri(kCaller + std::string("\0.evil", 6)), uri("spiffe://cluster.local/ns/../sa/x"), uri("SPIFFE://cluster.local/ns/shop/sa/gateway")})
    EXPECT_TRUE(refused(csr(key.get(), {.sans = {san}})).starts_with("names:")) << san.text;
  EXPECT_TRUE(refused(csr(key.get(), {.sans = {uri(kCaller), dns("x")}})).starts_with("names:"));
  EXPECT_TRUE(refused(csr(key.get(), {.sans = {uri(kCaller), uri(kCaller)}})).starts_with("names:"));
}

TEST_F(CaTest, ACsrWithoutNamesIsForItsCaller) {
  const auto s = sign(csr(key.get(), {.sans = {}, .common_name = "root of all"}));
  ASSERT_TRUE(s) << s.error().reason;
  EXPECT_EQ(certificate_facts(s->chain[0])->uri_sans, std::vector{kCaller});
  EXPECT_EQ(refused(csr(key.get(), {.sans = {}, .lists = 0})), "signed");
}

TEST_F(CaTest, WhatAWorkloadMayAskForIsTaken) {
  EXPECT_EQ(refused(csr(key.get(), {.extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                                                   {NID_key_usage, "critical,digitalSignature,keyEncipherment,keyAgreement"},
                                                   {NID_ext_key_usage, "serverAuth,clientAuth"}}})),
            "signed");
}

TEST_F(CaTest, ExtensionsOfAnAuthorityAreRefused) {
  const std::vector<std::pair<int, std::string>> bad{{NID_basic_constraints, "critical,CA:TRUE"},
                                                     {NID_basic_constraints, "CA:TRUE,pathlen:0"},
                                                     {NID_key_usage, "keyCertSign"},
                                                     {NID_key_usage, "digitalSignature,cRLSign"},
                                                     {NID_ext_key_usage, "clientAuth,codeSigning"},
                                                     {NID_ext_key_usage, "anyExtendedKeyUsage"},
                                                     {NID_name_constraints, "permitted;DNS:.example.com"},
                                                     {NID_issuer_alt_name, "DNS:x"},
                                                     {NID_netscape_comment, "hello"}};
  for (const auto& e : bad) EXPECT_TRUE(refused(csr(key.get(), {.extensions = {e}})).starts_with("extension:")) << e.second;
}

TEST_F(CaTest, AnExtensionTwiceIsRefused) {
  EXPECT_TRUE(refused(csr(key.get(), {.extensions = {{NID_key_usage, "digitalSignature"}, {NID_key_usage, "digitalSignature"}}}))
                  .starts_with("malformed: the CSR has extension"));
}

TEST_F(CaTest, ASignatureOfAnotherKeyOrAnOldDigestIsRefused) {
  const KeyPtr other(EVP_EC_gen("P-256"));
  EXPECT_EQ(refused(csr(key.get(), {}, other.get())), "bad_signature: the CSR is not signed by its own key");
  EXPECT_TRUE(refused(csr(key.get(), {.digest = EVP_sha1()})).starts_with("bad_signature: the CSR is not signed with SHA-256"));
}

TEST_F(CaTest, WhatIsNoCsrIsRefused) {
  const std::string good = csr(key.get(), {});
  EXPECT_TRUE(refused("").starts_with("malformed:"));
  EXPECT_TRUE(refused("hello").starts_with("malformed:"));
  EXPECT_TRUE(refused(root.certificate_pem).starts_with("malformed: the PEM block is no CERTIFICATE REQUEST"));
  EXPECT_TRUE(refused(good + good).starts_with("malformed: there is something behind"));
  EXPECT_TRUE(refused(good.substr(0, good.size() / 2)).starts_with("malformed:"));
  EXPECT_TRUE(refused(std::string(kCsrBytesMax + 1, 'x')).starts_with("too_large:"));
  std::string headers = good;
  headers.insert(headers.find('\n') + 1, "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00000000000000000000000000000000\n\n");
  EXPECT_TRUE(refused(headers).starts_with("malformed:"));
  EXPECT_EQ(refused(good + "\n \r\n"), "signed");
}

TEST_F(CaTest, ACertificateDoesNotOutliveItsAuthority) {
  const int64_t late = kNow + (3650 * kDay - 3600) * kSec_us;
  const auto s = issuer->sign(csr(key.get(), {}), kCaller, kDay, late, kSerial);
  ASSERT_TRUE(s) << s.error().reason;
  EXPECT_EQ(s->not_after_us, issuer->not_after_us());
  const auto after = issuer->sign(csr(key.get(), {}), kCaller, kDay, late + kDay * kSec_us, kSerial);
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().refusal, Refusal::kAuthority);
}

TEST_F(CaTest, ARsaRootWorksToo) {
  const auto r = make_root("cluster.local", KeyKind::kRsa2048, kDay, kNow, {1});
  ASSERT_TRUE(r);
  const auto i = Issuer::make({r->certificate_pem, r->key_pem, "", ""}, kNow);
  ASSERT_TRUE(i) << i.error();
  EXPECT_TRUE((*i)->sign(csr(key.get(), {}), kCaller, 60, kNow, kSerial));
}

// test_pki's certificates live by the machine's clock.
struct IntermediateTest : testing::Test {
  int64_t now = int64_t(time(nullptr)) * kSec_us;
  Issued root = make_ca("root"), middle = issue(&root, {.common_name = "middle", .ca = true});
  static std::string why(const AuthorityPem& pem, int64_t at) {
    const auto i = Issuer::make(pem, at);
    return i ? "" : i.error();
  }
};

TEST_F(IntermediateTest, APluggedInIntermediateSignsAndItsChainIsSent) {
  for (const std::string& chain : {std::string(), middle.pem(), middle.pem() + root.pem()}) {
    const auto i = Issuer::make({middle.pem(), middle.key_pem(), chain, root.pem()}, now);
    ASSERT_TRUE(i) << i.error();
    const auto made = make_csr(kCaller);
    const auto s = (*i)->sign(made->csr_pem, kCaller, 3600, now, kSerial);
    ASSERT_TRUE(s) << s.error().reason;
    ASSERT_EQ(s->chain.size(), 2u);
    EXPECT_EQ(s->chain[1], middle.pem());
    auto answer = s->chain;
    answer.push_back((*i)->root_pem());
    const auto ok = check_issued(answer, made->key_pem, kCaller, now);
    ASSERT_TRUE(ok) << ok.error();
    EXPECT_EQ(ok->root_pem, root.pem());
  }
}

TEST_F(IntermediateTest, WhatCannotSignIsRefusedWithItsReason) {
  const Issued other = make_ca("other"), leaf = issue(&root, {.common_name = "leaf"});
  const Issued expired = issue(&root, {.common_name = "old", .ca = true, .from_s = -7200, .to_s = -3600});
  EXPECT_NE(why({middle.pem(), middle.key_pem(), "", ""}, now).find("intermediate; give the root"), std::string::npos);
  EXPECT_NE(why({middle.pem(), middle.key_pem(), "", other.pem()}, now).find("does not lead to its root"), std::string::npos);
  EXPECT_NE(why({middle.pem(), other.key_pem(), "", root.pem()}, now).find("not its certificate's"), std::string::npos);
  EXPECT_NE(why({leaf.pem(), leaf.key_pem(), "", root.pem()}, now).find("no CA certificate"), std::string::npos);
  EXPECT_NE(why({expired.pem(), expired.key_pem(), "", root.pem()}, now).find("expired"), std::string::npos);
  EXPECT_NE(why({"", middle.key_pem(), "", root.pem()}, now).find("holds no certificate"), std::string::npos);
  EXPECT_NE(why({middle.pem() + root.pem(), middle.key_pem(), "", root.pem()}, now).find("must be one"), std::string::npos);
  EXPECT_NE(why({root.pem(), "nonsense", "", ""}, now).find("key is no PEM"), std::string::npos);
  EXPECT_NE(why({root.pem(), root.key_pem(), "", ""}, now - 30 * kDay * kSec_us).find("not valid yet"), std::string::npos);
}

TEST_F(CaTest, ARevocationListIsOursAndListsExactlyItsSerials) {
  const auto s = sign(csr(key.get(), {}));
  const auto crl = issuer->revocation_list({s->serial, "0A:0b"}, 7, kNow);
  ASSERT_TRUE(crl) << crl.error();
  EXPECT_TRUE(issuer->is_list_of(*crl, {"a0b", s->serial}));
  EXPECT_FALSE(issuer->is_list_of(*crl, {s->serial}));
  EXPECT_FALSE(issuer->is_list_of("", {}));
  const auto other = make_root("cluster.local", KeyKind::kP256, kDay, kNow, {2});
  EXPECT_FALSE((*Issuer::make({other->certificate_pem, other->key_pem, "", ""}, kNow))->is_list_of(*crl, {"a0b", s->serial}));
  EXPECT_NE(issuer->revocation_list({"12g"}, 1, kNow).error().find("'12g'"), std::string::npos);
  EXPECT_TRUE(issuer->is_list_of(*issuer->revocation_list({}, 1, kNow), {}));
}

TEST_F(CaTest, OpensslRefusesARevokedCertificateByThisList) {
  const int64_t now = int64_t(time(nullptr)) * kSec_us;
  const auto r = make_root("cluster.local", KeyKind::kP256, kDay, now, {1});
  const auto i = *Issuer::make({r->certificate_pem, r->key_pem, "", ""}, now);
  const auto a = i->sign(csr(key.get(), {}), kCaller, 3600, now, {1}), b = i->sign(csr(key.get(), {}), kCaller, 3600, now, {2});
  const std::string crl = *i->revocation_list({a->serial}, 1, now);
  auto verify = [&](const std::string& leaf) {
    auto read = [](const std::string& pem) {
      BioPtr bio(BIO_new_mem_buf(pem.data(), int(pem.size())));
      return X509Ptr(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    };
    const X509Ptr x = read(leaf), root_x = read(r->certificate_pem);
    X509_STORE* store = X509_STORE_new();
    X509_STORE_add_cert(store, root_x.get());
    BioPtr bio(BIO_new_mem_buf(crl.data(), int(crl.size())));
    X509_CRL* list = PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr);
    X509_STORE_add_crl(store, list);
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    X509_STORE_CTX* c = X509_STORE_CTX_new();
    X509_STORE_CTX_init(c, store, x.get(), nullptr);
    (void)X509_verify_cert(c);
    const int error = X509_STORE_CTX_get_error(c);
    X509_STORE_CTX_free(c);
    X509_CRL_free(list);
    X509_STORE_free(store);
    return error;
  };
  EXPECT_EQ(verify(a->chain[0]), X509_V_ERR_CERT_REVOKED);
  EXPECT_EQ(verify(b->chain[0]), X509_V_OK);
}

TEST_F(CaTest, TheClientTakesOnlyWhatItAskedFor) {
  const auto mine = make_csr(kCaller), other = make_csr(kCaller);
  ASSERT_TRUE(mine && other);
  const auto s = sign(mine->csr_pem);
  ASSERT_TRUE(s) << s.error().reason;
  const std::string second = make_root("cluster.local", KeyKind::kP256, kDay, kNow, {3})->certificate_pem;
  const auto ok = check_issued({s->chain[0], root.certificate_pem + second}, mine->key_pem, kCaller, kNow);
  ASSERT_TRUE(ok) << ok.error();
  EXPECT_EQ(ok->chain_pem, s->chain[0]);
  EXPECT_EQ(ok->root_pem, root.certificate_pem + second);
  EXPECT_EQ(ok->first_root_pem, root.certificate_pem);
  EXPECT_EQ(ok->serial, s->serial);
  auto why = [&](const std::vector<std::string>& chain, const std::string& key_pem, const std::string& identity, int64_t at) {
    const auto c = check_issued(chain, key_pem, identity, at);
    return c ? "" : c.error();
  };
  EXPECT_NE(why({s->chain[0]}, mine->key_pem, kCaller, kNow).find("has 1 certificates"), std::string::npos);
  EXPECT_NE(why({s->chain[0], root.certificate_pem}, other->key_pem, kCaller, kNow).find("not for our key"), std::string::npos);
  EXPECT_NE(why({s->chain[0], root.certificate_pem}, mine->key_pem, kCaller + "x", kNow).find("is for " + kCaller), std::string::npos);
  EXPECT_NE(why({s->chain[0], second}, mine->key_pem, kCaller, kNow).find("does not lead"), std::string::npos);
  EXPECT_NE(why({s->chain[0], root.certificate_pem}, mine->key_pem, kCaller, kNow + 2 * kDay * kSec_us).find("expired"), std::string::npos);
  EXPECT_NE(why({"nonsense", root.certificate_pem}, mine->key_pem, kCaller, kNow).find("certificate 1"), std::string::npos);
  EXPECT_NE(why({s->chain[0], ""}, mine->key_pem, kCaller, kNow).find("the root"), std::string::npos);
}

TEST(Spiffe, IdentitiesAreWhatTheSpecificationSays) {
  for (const char* good : {"spiffe://cluster.local/ns/a/sa/b", "spiffe://a_b-c.1/x", "spiffe://td/A.b-c_d"}) EXPECT_TRUE(is_spiffe_id(good)) << good;
  for (const char* bad : {"", "spiffe://", "spiffe://td", "spiffe://td/", "spiffe:///x", "spiffe://TD/x", "spiffe://td/a//b", "spiffe://td/a/",
                          "spiffe://td/.", "spiffe://td/../x", "spiffe://td/a b", "spiffe://u@td/x", "spiffe://td:1/x", "spiffe://td/x?y",
                          "spiffe://td/x#y", "spiffe://td/%41", "http://td/x"})
    EXPECT_FALSE(is_spiffe_id(bad)) << bad;
  EXPECT_FALSE(is_spiffe_id("spiffe://td/" + std::string(kSpiffeIdBytesMax, 'x')));
}

TEST(Serial, PeoplesWaysOfWritingAreOne) {
  EXPECT_EQ(normal_serial("0A:1B:2c"), "a1b2c");
  EXPECT_EQ(normal_serial("0x00ff"), "ff");
  EXPECT_EQ(normal_serial("xyz"), "");
  EXPECT_EQ(normal_serial("0"), "");
  EXPECT_EQ(normal_serial(std::string(42, 'a')), "");
}

}  // namespace
}  // namespace sluice::tls::test
