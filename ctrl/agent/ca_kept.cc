// The file: a first line with the format's version, then fields as LENGTH\nBYTES: chain, key, roots, CRL, "1" if it is about leaves only,
// and each denied identity.
#include "ctrl/agent/ca_kept.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

namespace sluice::agent {
namespace {

constexpr std::string_view kFirstLine = "sluice ca-identity 1\n";
constexpr size_t kBytesMax = 16 << 20;

std::string path_in(const std::string& folder) { return folder + "/ca-identity"; }

}  // namespace

std::expected<void, std::string> save_ca_kept(const std::string& folder, const CaKept& k) {
  std::string out(kFirstLine);
  const auto put = [&](const std::string& field) { out += std::to_string(field.size()) + "\n" + field; };
  for (const std::string* f : {&k.certificate.cert_chain_pem, &k.certificate.private_key_pem, &k.roots.trusted_ca_pem, &k.roots.crl_pem})
    put(*f);
  put(k.roots.crl_leaf_only ? "1" : "");
  for (const std::string& i : k.roots.denied_identities) put(i);
  (void)::mkdir(folder.c_str(), 0700);
  const std::string path = path_in(folder), aside = path + ".new";
  (void)::unlink(aside.c_str());
  const int fd = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool good = fd >= 0 && ::write(fd, out.data(), out.size()) == ssize_t(out.size());
  if (fd >= 0) ::close(fd);
  good = good && ::rename(aside.c_str(), path.c_str()) == 0;
  if (!good) return std::unexpected(path + " cannot be written: " + std::strerror(errno));
  return {};
}

std::expected<std::optional<CaKept>, std::string> load_ca_kept(const std::string& folder) {
  const std::string path = path_in(folder);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return std::nullopt;
  if (fd < 0) return std::unexpected(path + ": " + std::strerror(errno));
  struct stat st;
  std::string text, bad;
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || size_t(st.st_size) > kBytesMax) bad = "is no file of ours";
  else if ((st.st_mode & 077) != 0 || st.st_uid != ::geteuid()) bad = "is not ours alone (0600); it is not used";
  else {
    text.resize(size_t(st.st_size));
    if (::read(fd, text.data(), text.size()) != st.st_size) bad = "cannot be read";
  }
  ::close(fd);
  std::vector<std::string> fields;
  std::string_view rest = text;
  if (bad.empty() && !rest.starts_with(kFirstLine)) bad = "is no file of ours";
  if (bad.empty()) rest.remove_prefix(kFirstLine.size());
  while (bad.empty() && !rest.empty()) {
    size_t n = 0;
    const auto [at, e] = std::from_chars(rest.data(), rest.data() + rest.size(), n);
    const size_t head = size_t(at - rest.data()) + 1;
    if (e != std::errc{} || head > rest.size() || *at != '\n' || n > rest.size() - head) bad = "is not whole";
    else fields.emplace_back(rest.substr(head, n)), rest.remove_prefix(head + n);
  }
  if (bad.empty() && fields.size() < 5) bad = "is not whole";
  if (!bad.empty()) return std::unexpected(path + " " + bad);
  CaKept k{{.name = "default", .cert_chain_pem = fields[0], .private_key_pem = fields[1]},
           {.name = "ROOTCA", .trusted_ca_pem = fields[2], .crl_pem = fields[3], .crl_leaf_only = fields[4] == "1"}};
  k.roots.denied_identities.assign(fields.begin() + 5, fields.end());
  return k;
}

}  // namespace sluice::agent
