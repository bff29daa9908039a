// Certificates that have ended, have not begun, are for other hosts or have another key; the clock is the test's.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <fstream>
#include <sstream>

#include "ctrl/plane/world.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kDay = 86'400'000'000;

std::string slurp(const fs::path& p) {
  std::stringstream s;
  s << std::ifstream(p).rdbuf();
  return s.str();
}

struct Certificates : testing::Test {
  inline static fs::path dir;
  static void SetUpTestSuite() {
    char name[] = "/tmp/sluice-cert-XXXXXX";
    dir = ::mkdtemp(name);
    fs::create_directories(dir / "secrets/shop/edge-tls");
    for (const char* n : {"a", "other"}) {
      const std::string at = (dir / n).string();
      const std::string command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + std::string(n) +
                                  " -addext 'subjectAltName=DNS:a.example.com,DNS:*.b.example.com' -days 10 -keyout " + at + ".key -out " +
                                  at + ".crt 2>/dev/null";
      ASSERT_EQ(std::system(command.c_str()), 0);
    }
    fs::copy(dir / "a.crt", dir / "secrets/shop/edge-tls/tls.crt");
  }
  static void TearDownTestSuite() { fs::remove_all(dir); }

  static std::string rules_of(const std::string& text, int64_t days = 0, const std::string& secrets = {}) {
    const int64_t now = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    const Loaded l = load_text(text, "f.yaml", {}, {.gateways = {}, .secrets_dir = secrets, .now_us = now + kDay * days + 60'000'000});
    EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
    std::string out;
    for (const Issue& i : l.issues)
      if (i.rule.find("certificate") != i.rule.npos || i.rule == "unknown-secret") {
        out += i.rule + " " + i.field + "\n";
        EXPECT_FALSE(i.remedy.empty() || i.source_line.empty() || i.object.empty()) << render(i);
      }
    return out;
  }
  static std::string gateway(const std::string& tls, const std::string& hosts = "a.example.com, x.b.example.com, '*.b.example.com'") {
    return "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec:\n  selector: {a: b}\n  "
           "servers:\n"
           "  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [" +
           hosts + "], tls: " + tls + "}\n---\n";
  }
  static std::string files(const std::string& key = "a") {
    return "{mode: SIMPLE, serverCertificate: " + (dir / "a.crt").string() + ", privateKey: " + (dir / key).string() + ".key}";
  }
  static std::string secret(const std::string& name = "edge-tls") {
    const auto block = [](const std::string& pem) {
      std::string out = "|\n";
      std::istringstream lines(pem);
      for (std::string l; std::getline(lines, l);) out += "    " + l + "\n";
      return out;
    };
    return "apiVersion: v1\nkind: Secret\nmetadata: {name: " + name +
           ", namespace: shop}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: " + block(slurp(dir / "a.crt")) +
           "  tls.key: " + block(slurp(dir / "a.key")) + "---\n";
  }
};

TEST_F(Certificates, FilesThatAGatewayNames) {
  EXPECT_EQ(rules_of(gateway(files())), "");
  EXPECT_EQ(rules_of(gateway(files()), 11), "expired-certificate spec.servers[0].tls.serverCertificate\n");
  EXPECT_EQ(rules_of(gateway(files()), -1), "certificate-not-yet-valid spec.servers[0].tls.serverCertificate\n");
  EXPECT_EQ(rules_of(gateway(files(), "c.example.com, y.x.b.example.com, '*.example.com'")),
            "certificate-for-other-host spec.servers[0].hosts[0]\ncertificate-for-other-host spec.servers[0].hosts[1]\n"
            "certificate-for-other-host spec.servers[0].hosts[2]\n");
  EXPECT_EQ(rules_of(gateway(files("other"))), "bad-certificate spec.servers[0].tls.privateKey\n");
  EXPECT_EQ(rules_of(gateway("{mode: SIMPLE, serverCertificate: /no/such/file, privateKey: /no/such/key}"), 11), "")
      << "it may be on the gateway";
  EXPECT_EQ(rules_of(gateway("{mode: MUTUAL, serverCertificate: /no/such/file, privateKey: /no/such/key, caCertificates: " +
                             (dir / "a.crt").string() + "}"),
                     11),
            "expired-certificate spec.servers[0].tls.caCertificates\n");
  EXPECT_EQ(rules_of(gateway("{mode: SIMPLE, serverCertificate: " + (dir / "a.key").string() + ", privateKey: " + (dir / "a.key").string() +
                             "}")),
            "bad-certificate spec.servers[0].tls.serverCertificate\n");
}

TEST_F(Certificates, SecretsOfTheDirectory) {
  const std::string named = gateway("{mode: SIMPLE, credentialName: edge-tls}");
  EXPECT_EQ(rules_of(secret() + named), "");
  EXPECT_EQ(rules_of(secret() + named, 11), "expired-certificate stringData.tls.crt\n");
  EXPECT_EQ(rules_of(secret() + gateway("{mode: SIMPLE, credentialName: edge-tls}", "c.example.com")),
            "certificate-for-other-host spec.servers[0].hosts[0]\n");
  const std::string kubernetes =
      "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: k, namespace: shop}\nspec:\n  gatewayClassName: istio\n"
      "  listeners: [{name: l, port: 443, protocol: HTTPS, hostname: c.example.com, tls: {certificateRefs: [{name: edge-tls}]}}]\n";
  EXPECT_EQ(rules_of(secret() + kubernetes), "certificate-for-other-host spec.listeners[0].hostname\n");
}

TEST_F(Certificates, SecretsOfAFolderThatWasNamed) {
  const std::string secrets = (dir / "secrets").string();
  EXPECT_EQ(rules_of(gateway("{mode: SIMPLE, credentialName: edge-tls}"), 0, secrets), "");
  EXPECT_EQ(rules_of(gateway("{mode: SIMPLE, credentialName: edge-tls}"), 11, secrets),
            "expired-certificate spec.servers[0].tls.credentialName\n");
  EXPECT_EQ(rules_of(gateway("{mode: SIMPLE, credentialName: none}"), 0, secrets), "unknown-secret spec.servers[0].tls.credentialName\n");
  EXPECT_EQ(rules_of(gateway("{mode: SIMPLE, credentialName: none}")), "");
}

}  // namespace
}  // namespace sluice::plane
