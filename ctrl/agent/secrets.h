// Secrets from files: the certificates, keys and trust roots that istiod's configuration names but never sends (its cluster `sds-grpc` is
// us).
//   file-cert:CERT~KEY              the two files                     file-root:CA   the file; "file-root:system": Debian's bundle
//   default                         DIR/cert-chain.pem, DIR/key.pem   ROOTCA         DIR/root-cert.pem
//   kubernetes://NAME               DIR/NAME/tls.crt, tls.key and, when there, ca.crt (trusted) and ca.crl
//   kubernetes://NAME-cacert        DIR/NAME-cacert/ca.crt, else DIR/NAME/ca.crt
//   kubernetes-gateway://NS/NAME, configmap://NS/NAME   DIR/NS/NAME/..., else DIR/NAME/...
// A prefix of `file-*` paths can be mapped to another folder (bootstrap secrets.paths), for machines that keep them elsewhere.
// find() reads at first use and remembers; poll() looks at the files again (stat) and rereads what changed. What cannot be read is nullptr,
// with the reason under problems(). A secret that was good stays until its files are readable again: half of a rotation is no reason to
// lose a listener. Thread: control. Limits: kSecretFileBytesMax per file. A pointer from find() is good until the next poll() or find().
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ctrl/compile/compile.h"

namespace sluice::agent {

constexpr size_t kSecretFileBytesMax = 1 << 20;

using compile::Secret;

class FileSecrets final : public compile::SecretSource {
 public:
  // dir: bootstrap secrets.dir. paths: {prefix, folder}; the first prefix that fits a path is replaced.
  explicit FileSecrets(std::string dir, std::vector<std::pair<std::string, std::string>> paths = {})
      : dir_(std::move(dir)), paths_(std::move(paths)) {}

  const Secret* find(std::string_view name) override;
  // What find() last gave, without reading or marking it as used.
  const Secret* held(std::string_view name) const;
  // Names whose secret changed, came or became unreadable for the first time.
  std::vector<std::string> poll();
  // Secrets that nobody has asked for since the last forget_unused() are dropped, so that removed listeners do not keep keys in memory.
  void forget_unused();
  std::map<std::string, std::string> problems() const;  // name -> why it cannot be had (or not be refreshed)

 private:
  enum class Part : uint8_t { kCert, kKey, kCa, kCrl };
  struct Stamp {
    int64_t mtime_ns = -1, size = -1;
    uint64_t inode = 0;
    bool operator==(const Stamp&) const = default;
  };
  struct File {
    Part part;
    bool required;
    std::string path;
    Stamp stamp;
  };
  struct Entry {
    std::vector<File> files;
    Secret secret;
    bool good = false, used = true;
    std::string problem;
  };
  static Stamp stamp_of(const std::string& path);
  void locate(std::string_view name, Entry& e) const;
  void read(std::string_view name, Entry& e) const;
  std::string mapped(std::string_view path) const;

  const std::string dir_;
  const std::vector<std::pair<std::string, std::string>> paths_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace sluice::agent
