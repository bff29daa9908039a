#include "tls-offload/certificate_info.h"

#include <gtest/gtest.h>

#include "tls-offload/test_pki.h"

namespace sluice::tls::test {
namespace {

TEST(CertificateInfo, TellsEachCertificateOfAChainInOrder) {
  const Issued ca = make_ca("root");
  const Issued leaf = issue(&ca, {.common_name = "leaf", .sans = {dns("shop.example.com"), uri("spiffe://cluster.local/ns/a/sa/b")}});
  const auto c = certificates_of(leaf.pem() + leaf.key_pem() + ca.pem());
  ASSERT_TRUE(c) << c.error();
  ASSERT_EQ(c->size(), 2u);
  EXPECT_NE((*c)[0].subject.find("CN=leaf"), std::string::npos);
  EXPECT_EQ((*c)[0].issuer, (*c)[1].subject);
  EXPECT_EQ((*c)[0].dns, std::vector<std::string>{"shop.example.com"});
  EXPECT_EQ((*c)[0].uri, std::vector<std::string>{"spiffe://cluster.local/ns/a/sa/b"});
  EXPECT_LT((*c)[0].not_before_us, (*c)[0].not_after_us);
  EXPECT_FALSE((*c)[0].serial.empty());
}

TEST(CertificateInfo, RefusesWhatHoldsNone) {
  const Issued ca = make_ca("root");
  EXPECT_EQ(certificates_of("").error(), "holds no certificate");
  EXPECT_EQ(certificates_of(ca.key_pem()).error(), "holds no certificate");
  EXPECT_EQ(certificates_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").error(),
            "holds a certificate that does not parse");
  const std::string pem = ca.pem();
  EXPECT_FALSE(certificates_of(pem + pem.substr(0, pem.size() / 2)));
}

}  // namespace
}  // namespace sluice::tls::test
