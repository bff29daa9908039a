#include "ctrl/agent/secrets.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace sluice::agent {
namespace {
namespace fs = std::filesystem;

struct FileSecretsTest : testing::Test {
  fs::path dir;
  void SetUp() override {
    char name[] = "/tmp/sluice-secrets-XXXXXX";
    dir = ::mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(dir); }
  void write(const std::string& f, const std::string& text) {
    fs::create_directories((dir / f).parent_path());
    std::ofstream(dir / f, std::ios::trunc) << text;
  }
  std::string why(FileSecrets& s, const std::string& name) { return s.problems().contains(name) ? s.problems().at(name) : ""; }
};

TEST_F(FileSecretsTest, FindsEachKindOfName) {
  write("cert-chain.pem", "chain");
  write("key.pem", "key");
  write("root-cert.pem", "root");
  write("shop/tls.crt", "c");
  write("shop/tls.key", "k");
  write("shop/ca.crt", "ca");
  write("plain/tls.crt", "c2");
  write("plain/tls.key", "k2");
  write("other-cacert/ca.crt", "ca3");
  FileSecrets s(dir);
  const std::string d = dir;
  EXPECT_EQ(*s.find("default"), (Secret{"default", "chain", "key", "", ""}));
  EXPECT_EQ(*s.find("ROOTCA"), (Secret{"ROOTCA", "", "", "root", ""}));
  EXPECT_EQ(s.find("file-cert:" + d + "/shop/tls.crt~" + d + "/shop/tls.key")->private_key_pem, "k");
  EXPECT_EQ(s.find("file-root:" + d + "/shop/ca.crt")->trusted_ca_pem, "ca");
  EXPECT_EQ(*s.find("kubernetes://shop"), (Secret{"kubernetes://shop", "c", "k", "ca", ""}));
  EXPECT_EQ(*s.find("kubernetes://plain"), (Secret{"kubernetes://plain", "c2", "k2", "", ""}));
  EXPECT_EQ(s.find("kubernetes://shop-cacert")->trusted_ca_pem, "ca");
  EXPECT_EQ(s.find("kubernetes://other-cacert")->trusted_ca_pem, "ca3");
  EXPECT_EQ(s.find("kubernetes-gateway://ns/shop")->cert_chain_pem, "c");
  EXPECT_EQ(s.find("kubernetes-gateway://ns/shop-cacert")->trusted_ca_pem, "ca");
  EXPECT_TRUE(s.problems().empty());
}

TEST_F(FileSecretsTest, PathsOfFilesAreMappedByWholePrefix) {
  write("a.pem", "a");
  FileSecrets s("/none", {{"/etc/sluice/pki", dir}});
  EXPECT_EQ(s.find("file-root:/etc/sluice/pki/a.pem")->trusted_ca_pem, "a");
  EXPECT_EQ(s.find("file-root:/etc/sluice/pkix/a.pem"), nullptr);
}

TEST_F(FileSecretsTest, WhatIsNotThereHasAReason) {
  FileSecrets s(dir);
  EXPECT_EQ(s.find("default"), nullptr);
  EXPECT_NE(why(s, "default").find("cert-chain.pem': No such file"), std::string::npos) << why(s, "default");
  EXPECT_EQ(s.find("kubernetes://nothing"), nullptr);
  EXPECT_NE(why(s, "kubernetes://nothing").find("tls.crt"), std::string::npos);
  EXPECT_EQ(s.find("file-cert:/only-one"), nullptr);
  EXPECT_EQ(why(s, "file-cert:/only-one"), "must be file-cert:CERT~KEY");
  EXPECT_EQ(s.find("what"), nullptr);
  EXPECT_NE(why(s, "what").find("no kind of secret"), std::string::npos);
}

TEST_F(FileSecretsTest, NamesDoNotLeaveTheFolder) {
  write("key/tls.crt", "x");
  write("key/tls.key", "x");
  FileSecrets s(dir / "sub");
  fs::create_directories(dir / "sub");
  for (const char* name : {"kubernetes://../key", "kubernetes:///etc", "kubernetes://a/../../key", "kubernetes://.", "kubernetes://a//b",
                           "kubernetes://a/", "kubernetes://a b"}) {
    EXPECT_EQ(s.find(name), nullptr) << name;
    EXPECT_EQ(why(s, name), "is no name of a Kubernetes object") << name;
  }
}

TEST_F(FileSecretsTest, EmptyHugeAndOddFilesAreRefused) {
  write("root-cert.pem", "");
  FileSecrets s(dir);
  EXPECT_EQ(s.find("ROOTCA"), nullptr);
  EXPECT_NE(why(s, "ROOTCA").find("is empty"), std::string::npos);
  write("huge", std::string(kSecretFileBytesMax + 1, 'x'));
  EXPECT_EQ(s.find("file-root:" + (dir / "huge").string()), nullptr);
  EXPECT_EQ(s.find("file-root:" + dir.string()), nullptr);
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(s.find("file-root:" + (dir / "pipe").string()), nullptr);  // and does not wait for a writer
}

TEST_F(FileSecretsTest, PollSeesChangesAndOnlyThem) {
  write("root-cert.pem", "one");
  FileSecrets s(dir);
  ASSERT_NE(s.find("ROOTCA"), nullptr);
  EXPECT_EQ(s.find("default"), nullptr);
  EXPECT_TRUE(s.poll().empty());
  write("root-cert.pem", "three");
  EXPECT_EQ(s.poll(), std::vector<std::string>{"ROOTCA"});
  EXPECT_EQ(s.find("ROOTCA")->trusted_ca_pem, "three");
  EXPECT_TRUE(s.poll().empty());
  write("cert-chain.pem", "c");
  EXPECT_TRUE(s.poll().empty());  // half of it
  write("key.pem", "k");
  EXPECT_EQ(s.poll(), std::vector<std::string>{"default"});
  EXPECT_NE(s.find("default"), nullptr);
}

TEST_F(FileSecretsTest, AGoodSecretStaysWhileItsFilesAreAway) {
  write("root-cert.pem", "one");
  FileSecrets s(dir);
  s.find("ROOTCA");
  fs::remove(dir / "root-cert.pem");
  EXPECT_EQ(s.poll(), std::vector<std::string>{"ROOTCA"});  // told once, so that status can say it
  EXPECT_EQ(s.find("ROOTCA")->trusted_ca_pem, "one");
  EXPECT_FALSE(why(s, "ROOTCA").empty());
  EXPECT_TRUE(s.poll().empty());
  write("root-cert.pem", "two!");
  EXPECT_EQ(s.poll(), std::vector<std::string>{"ROOTCA"});
  EXPECT_TRUE(s.problems().empty());
}

// Kubernetes mounts a secret as links into ..data, which is a link that is exchanged.
TEST_F(FileSecretsTest, FollowsTheLinksOfAKubernetesVolume) {
  write("vol/..1/tls.crt", "c1");
  write("vol/..1/tls.key", "k1");
  write("vol/..2/tls.crt", "c2");
  write("vol/..2/tls.key", "k2");
  fs::create_directory_symlink("..1", dir / "vol/..data");
  fs::create_symlink("..data/tls.crt", dir / "vol/tls.crt");
  fs::create_symlink("..data/tls.key", dir / "vol/tls.key");
  FileSecrets s(dir);
  EXPECT_EQ(s.find("kubernetes://vol")->cert_chain_pem, "c1");
  fs::create_directory_symlink("..2", dir / "vol/..data_tmp");
  fs::rename(dir / "vol/..data_tmp", dir / "vol/..data");
  EXPECT_EQ(s.poll(), std::vector<std::string>{"kubernetes://vol"});
  EXPECT_EQ(s.find("kubernetes://vol")->private_key_pem, "k2");
}

TEST_F(FileSecretsTest, ForgetsWhatNobodyAsksFor) {
  write("root-cert.pem", "one");
  FileSecrets s(dir);
  s.find("ROOTCA");
  s.find("default");
  s.forget_unused();
  s.find("ROOTCA");
  s.forget_unused();
  EXPECT_TRUE(s.problems().empty());  // "default" is gone, with its reason
}

}  // namespace
}  // namespace sluice::agent
