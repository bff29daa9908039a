#include "ctrl/agent/kept.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "dataplane/base/siphash.h"

namespace sluice::agent {
namespace {

constexpr std::string_view kMagic = "SLUICEK1";

void put_u32(std::string& out, uint32_t v) {
  for (int i = 0; i < 4; i++) out += char(v >> (8 * i));
}
void put_text(std::string& out, std::string_view s) {
  put_u32(out, uint32_t(s.size()));
  out += s;
}
// Reads fail by emptying what is left and clearing ok.
struct Reader {
  std::string_view rest;
  bool ok = true;
  std::string_view take(size_t n) {
    if (n > rest.size()) {
      ok = false;
      rest = {};
      return {};
    }
    const auto out = rest.substr(0, n);
    rest.remove_prefix(n);
    return out;
  }
  uint32_t u32() {
    const auto b = take(4);
    if (b.size() != 4) return 0;
    return uint32_t(uint8_t(b[0])) | uint32_t(uint8_t(b[1])) << 8 | uint32_t(uint8_t(b[2])) << 16 | uint32_t(uint8_t(b[3])) << 24;
  }
  std::string_view text() { return take(u32()); }
};

std::string why(const char* what, const std::string& path) { return std::string(what) + " '" + path + "': " + std::strerror(errno); }

std::expected<void, std::string> write_whole(const std::string& path, std::string_view bytes) {
  ::unlink(path.c_str());  // what a crash has left
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return std::unexpected(why("cannot make", path));
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      auto e = std::unexpected(why("cannot write", path));
      ::close(fd);
      ::unlink(path.c_str());
      return e;
    }
    bytes.remove_prefix(size_t(n));
  }
  const bool synced = ::fsync(fd) == 0;
  auto e = std::unexpected(synced ? std::string() : why("cannot sync", path));
  ::close(fd);
  if (synced) return {};
  return e;
}

std::expected<std::string, std::string> read_whole(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::unexpected(std::string(errno == ENOENT ? "" : std::strerror(errno)));
  std::string out;
  char buffer[1 << 16];
  ssize_t n;
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0 && out.size() <= kKeptBytesMax) out.append(buffer, size_t(n));
  const int e = errno;
  ::close(fd);
  if (n < 0) return std::unexpected(std::string(std::strerror(e)));
  return out;
}

}  // namespace

std::string kept_checksum(std::string_view bytes) {
  std::string out;
  for (const SipKey key : {SipKey{0x6b657074, 1}, SipKey{0x6b657074, 2}}) {
    const uint64_t h = siphash24(key, as_bytes(bytes));
    put_u32(out, uint32_t(h));
    put_u32(out, uint32_t(h >> 32));
  }
  return out;
}

std::string encode_kept(std::string_view owner, const std::vector<KeptResource>& resources) {
  std::string out(kMagic);
  put_text(out, owner);
  put_u32(out, uint32_t(resources.size()));
  for (const KeptResource& r : resources) {
    out += char(r.type);
    put_text(out, r.name);
    put_text(out, r.version);
    put_text(out, r.bytes);
  }
  out += kept_checksum(out);
  return out;
}

std::expected<std::vector<KeptResource>, std::string> decode_kept(std::string_view file, std::string_view owner) {
  if (file.size() < kMagic.size() + kKeptChecksumBytes || !file.starts_with(kMagic))
    return std::unexpected("is no file of kept resources, or is cut short");
  if (file.size() > kKeptBytesMax) return std::unexpected("is larger than 1 GiB");
  const auto body = file.substr(0, file.size() - kKeptChecksumBytes);
  if (kept_checksum(body) != file.substr(body.size())) return std::unexpected("is damaged (its checksum differs)");
  Reader in{body.substr(kMagic.size())};
  if (const auto whose = in.text(); whose != owner) return std::unexpected("belongs to the node '" + std::string(whose) + "'");
  const uint32_t count = in.u32();
  std::vector<KeptResource> out;
  for (uint32_t i = 0; i < count && in.ok; i++) {
    const auto type = in.take(1);
    if (!in.ok || uint8_t(type[0]) >= xds::kTypes) return std::unexpected("holds a resource of an unknown type");
    KeptResource r{xds::Type(type[0]), std::string(in.text()), std::string(in.text()), std::string(in.text())};
    out.push_back(std::move(r));
  }
  if (!in.ok || !in.rest.empty()) return std::unexpected("does not hold what it says");
  return out;
}

std::expected<void, std::string> Kept::save(const std::vector<KeptResource>& resources) const {
  std::error_code e;
  if (std::filesystem::create_directories(dir_, e); e) return std::unexpected("cannot make the folder '" + dir_ + "': " + e.message());
  ::chmod(dir_.c_str(), 0700);
  const std::string next = dir_ + "/resources.new", newest = dir_ + "/resources.1", older = dir_ + "/resources.2";
  const std::string bytes = encode_kept(owner_, resources);
  if (bytes.size() > kKeptBytesMax) return std::unexpected("kept resources would be larger than 1 GiB");
  if (auto ok = write_whole(next, bytes); !ok) return ok;
  // Between the two renames only the older generation is there, and it is good.
  if (::rename(newest.c_str(), older.c_str()) != 0 && errno != ENOENT) return std::unexpected(why("cannot rename", newest));
  if (::rename(next.c_str(), newest.c_str()) != 0) return std::unexpected(why("cannot rename", next));
  const int fd = ::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || ::fsync(fd) != 0) {
    auto bad = std::unexpected(why("cannot sync", dir_));
    if (fd >= 0) ::close(fd);
    return bad;
  }
  ::close(fd);
  return {};
}

Kept::Loaded Kept::load() const {
  Loaded out;
  for (const char* generation : {"/resources.1", "/resources.2"}) {
    const std::string path = dir_ + generation;
    auto file = read_whole(path);
    if (!file) {
      if (!file.error().empty()) out.problems.push_back("'" + path + "' cannot be read: " + file.error());
      continue;
    }
    auto resources = decode_kept(*file, owner_);
    if (!resources) {
      out.problems.push_back("'" + path + "' " + resources.error());
      continue;
    }
    out.resources = std::move(*resources);
    out.from = path;
    break;
  }
  return out;
}

}  // namespace sluice::agent
