// An entry is located (name -> files) anew at every read, so that a folder that appears later is found; it is read whole or not at all.
#include "ctrl/agent/secrets.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <expected>

namespace sluice::agent {
namespace {

constexpr std::string_view kSystemRoots = "/etc/ssl/certs/ca-certificates.crt";

std::expected<std::string, std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::unexpected("'" + path + "': " + std::strerror(errno));
  struct stat st;
  std::string out;
  std::string bad;
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) bad = "is no file";
  else if (size_t(st.st_size) > kSecretFileBytesMax) bad = "is larger than 1 MiB";
  else if (st.st_size == 0) bad = "is empty";
  else {
    out.resize(size_t(st.st_size));
    const ssize_t n = ::read(fd, out.data(), out.size());
    if (n != st.st_size) bad = "changed while it was read";
  }
  ::close(fd);
  if (!bad.empty()) return std::unexpected("'" + path + "' " + bad);
  return out;
}

// NAME or NS/NAME of Kubernetes: no way out of the folder.
bool is_safe(std::string_view s) {
  if (s.empty() || s.starts_with('/') || s.ends_with('/') || s.find("//") != s.npos) return false;
  for (size_t at = 0; at < s.size();) {
    const size_t end = std::min(s.find('/', at), s.size());
    if (s[at] == '.') return false;
    at = end + 1;
  }
  return std::ranges::all_of(s, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '/';
  });
}

bool is_folder(const std::string& path) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

}  // namespace

FileSecrets::Stamp FileSecrets::stamp_of(const std::string& path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return {};
  return {int64_t(st.st_mtim.tv_sec) * 1'000'000'000 + st.st_mtim.tv_nsec, int64_t(st.st_size), st.st_ino};
}

std::string FileSecrets::mapped(std::string_view path) const {
  for (const auto& [prefix, folder] : paths_)
    if (path.starts_with(prefix) && (path.size() == prefix.size() || prefix.ends_with('/') || path[prefix.size()] == '/'))
      return folder + std::string(path.substr(prefix.size() - (prefix.ends_with('/') ? 1 : 0)));
  return std::string(path);
}

void FileSecrets::locate(std::string_view name, Entry& e) const {
  e.files.clear();
  e.problem.clear();
  auto add = [&](Part part, bool required, std::string path) { e.files.push_back({part, required, std::move(path), {}}); };
  auto after = [&](std::string_view prefix) { return name.substr(prefix.size()); };
  if (name == "default") {
    add(Part::kCert, true, dir_ + "/cert-chain.pem");
    add(Part::kKey, true, dir_ + "/key.pem");
  } else if (name == "ROOTCA") {
    add(Part::kCa, true, dir_ + "/root-cert.pem");
  } else if (name.starts_with("file-cert:")) {
    const auto pair = after("file-cert:");
    const size_t tilde = pair.find('~');
    if (tilde == pair.npos || tilde == 0 || tilde + 1 == pair.size()) {
      e.problem = "must be file-cert:CERT~KEY";
      return;
    }
    add(Part::kCert, true, mapped(pair.substr(0, tilde)));
    add(Part::kKey, true, mapped(pair.substr(tilde + 1)));
  } else if (name.starts_with("file-root:")) {
    const auto path = after("file-root:");
    add(Part::kCa, true, path == "system" ? std::string(kSystemRoots) : mapped(path));
  } else {
    std::string_view object;
    for (const std::string_view scheme : {"kubernetes://", "kubernetes-gateway://", "configmap://"})
      if (name.starts_with(scheme)) object = after(scheme);
    if (object.empty()) {
      e.problem = "is no kind of secret that files give (file-cert:, file-root:, default, ROOTCA, kubernetes://NAME)";
      return;
    }
    if (!is_safe(object)) {
      e.problem = "is no name of a Kubernetes object";
      return;
    }
    std::string folder = dir_ + "/" + std::string(object);
    if (const size_t slash = object.rfind('/'); !is_folder(folder) && slash != object.npos) {
      const std::string without_namespace = dir_ + "/" + std::string(object.substr(slash + 1));
      if (is_folder(without_namespace) || object.ends_with("-cacert")) folder = without_namespace;
    }
    if (name.starts_with("configmap://") || object.ends_with("-cacert")) {
      if (!is_folder(folder) && folder.ends_with("-cacert")) folder.resize(folder.size() - 7);
      add(Part::kCa, true, folder + "/ca.crt");
      add(Part::kCrl, false, folder + "/ca.crl");
    } else {
      add(Part::kCert, true, folder + "/tls.crt");
      add(Part::kKey, true, folder + "/tls.key");
      add(Part::kCa, false, folder + "/ca.crt");
      add(Part::kCrl, false, folder + "/ca.crl");
    }
  }
}

void FileSecrets::read(std::string_view name, Entry& e) const {
  locate(name, e);
  if (!e.problem.empty()) return;
  Secret fresh{.name = std::string(name)};
  for (File& f : e.files) {
    f.stamp = stamp_of(f.path);  // before the read: a change in between shows at the next poll
    if (!f.required && f.stamp == Stamp{}) continue;
    auto bytes = read_file(f.path);
    if (!bytes) {
      if (e.problem.empty()) e.problem = bytes.error();
      continue;
    }
    (f.part == Part::kCert  ? fresh.cert_chain_pem
     : f.part == Part::kKey ? fresh.private_key_pem
     : f.part == Part::kCa  ? fresh.trusted_ca_pem
                            : fresh.crl_pem) = std::move(*bytes);
  }
  if (!e.problem.empty()) return;
  e.secret = std::move(fresh);
  e.good = true;
}

const Secret* FileSecrets::find(std::string_view name) {
  auto it = entries_.find(name);
  if (it == entries_.end()) {
    it = entries_.emplace(std::string(name), Entry{}).first;
    read(name, it->second);
  }
  it->second.used = true;
  return it->second.good ? &it->second.secret : nullptr;
}

const Secret* FileSecrets::held(std::string_view name) const {
  const auto it = entries_.find(name);
  return it != entries_.end() && it->second.good ? &it->second.secret : nullptr;
}

std::vector<std::string> FileSecrets::poll() {
  std::vector<std::string> changed;
  for (auto& [name, e] : entries_) {
    const bool same = e.problem.empty() && std::ranges::all_of(e.files, [](const File& f) { return stamp_of(f.path) == f.stamp; });
    if (same) continue;
    const Secret before = e.secret;
    const bool was_good = e.good;
    const std::string problem_before = e.problem;
    read(name, e);
    if (e.good != was_good || e.secret != before || (e.problem != problem_before && problem_before.empty())) changed.push_back(name);
  }
  return changed;
}

void FileSecrets::forget_unused() {
  std::erase_if(entries_, [](const auto& e) { return !e.second.used; });
  for (auto& [name, e] : entries_) e.used = false;
}

std::map<std::string, std::string> FileSecrets::problems() const {
  std::map<std::string, std::string> out;
  for (const auto& [name, e] : entries_)
    if (!e.problem.empty()) out.emplace(name, e.problem);
  return out;
}

}  // namespace sluice::agent
