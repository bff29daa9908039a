// load() reads everything anew and gives a state or an error, so that a half-made edit is never half taken.
#include "ctrl/plane/ca_authority.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "ctrl/plane/yaml.h"
#include "dataplane/base/check.h"
#include "dataplane/base/siphash.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kRootTtlS = 10 * 365 * 86'400ll;
constexpr size_t kFileBytesMax = 8 << 20;
std::unexpected<std::string> no(std::string why) { return std::unexpected(std::move(why)); }

// The whole of a regular file; nothing when it is not there. `secret`: it must be ours alone.
std::expected<std::optional<std::string>, std::string> read_file(const std::string& path, bool secret = false) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  if (fd < 0) return no(path + ": " + std::strerror(errno));
  struct stat st;
  std::string bad, out;
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) bad = "is no file";
  else if (secret && (st.st_mode & 077) != 0) bad = "may be read by others than its owner; chmod 0600 it";
  else if (secret && st.st_uid != ::geteuid()) bad = "belongs to another user; chown it to who runs sluice-control";
  else if (size_t(st.st_size) > kFileBytesMax) bad = "is larger than 8 MiB";
  else {
    out.resize(size_t(st.st_size));
    if (::read(fd, out.data(), out.size()) != st.st_size) bad = "changed while it was read";
  }
  ::close(fd);
  if (!bad.empty()) return no(path + ": " + bad);
  return out;
}

// Written aside and renamed, 0600.
std::expected<void, std::string> write_file(const std::string& path, std::string_view text) {
  const std::string aside = path + ".new";
  (void)::unlink(aside.c_str());
  const int fd = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == ssize_t(text.size()) && ::fsync(fd) == 0;
  if (fd >= 0) ::close(fd);
  good = good && ::rename(aside.c_str(), path.c_str()) == 0;
  if (!good) return no(path + ": cannot be written: " + std::strerror(errno));
  return {};
}

bool is_folder_name(std::string_view s) {
  return !s.empty() && s.size() <= 64 && s[0] != '.' && std::ranges::all_of(s, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

std::vector<std::string> folders_of(const std::string& dir) {
  std::vector<std::string> out;
  std::error_code e;
  for (const auto& entry : fs::directory_iterator(dir, e)) {
    const std::string name = entry.path().filename();
    if (is_folder_name(name) && entry.is_directory(e)) out.push_back(name);
  }
  std::ranges::sort(out);
  return out;
}

struct Folder {
  std::string name;
  std::shared_ptr<const tls::Issuer> issuer;  // null: it only is trusted
  std::string roots_pem;
};

std::expected<Folder, std::string> load_folder(const std::string& dir, const std::string& name, int64_t wall_us) {
  const std::string at = dir + "/" + name + "/";
  tls::AuthorityPem pem;
  for (const auto& [file, to] : {std::pair("ca-cert.pem", &pem.certificate), std::pair("cert-chain.pem", &pem.chain),
                                 std::pair("root-cert.pem", &pem.root), std::pair("ca-key.pem", &pem.key)}) {
    auto text = read_file(at + file, to == &pem.key);
    if (!text) return no(text.error());
    *to = text->value_or("");
  }
  Folder f{.name = name};
  if (pem.key.empty()) {
    f.roots_pem = pem.root.empty() ? pem.certificate : pem.root;
    if (f.roots_pem.empty()) return no(at + ": holds neither ca-cert.pem and ca-key.pem nor root-cert.pem");
    return f;
  }
  auto issuer = tls::Issuer::make(pem, wall_us);
  if (!issuer) return no(at + ": " + issuer.error());
  f.issuer = std::move(*issuer);
  f.roots_pem = f.issuer->root_pem();
  return f;
}

// revoked.yaml into `s`. Error: whole lines with their places.
std::expected<void, std::string> load_revoked(const std::string& path, const std::string& text, CaState& s) {
  const Source source{path, text};
  std::vector<Issue> issues;
  const std::vector<Node> documents = load_yaml(source, issues);
  for (const Node& d : documents) {
    if (d.kind != Node::Kind::kMapping) {
      issues.push_back(issue_at(d, "revoked.yaml must be a mapping of 'serials' and 'identities'"));
      continue;
    }
    for (size_t i = 0; i < d.keys.size(); i++) {
      const std::string& key = d.keys[i].text;
      const Node& list = d.items[i];
      if (key != "serials" && key != "identities") {
        issues.push_back(issue_at(d.keys[i], "unknown key '" + key + "'", "known here: serials, identities"));
        continue;
      }
      if (list.null()) continue;
      if (list.kind != Node::Kind::kSequence) {
        issues.push_back(issue_at(list, "'" + key + "' must be a list"));
        continue;
      }
      for (const Node& item : list.items) {
        if (key == "serials") {
          const std::string serial = tls::normal_serial(item.text);
          if (serial.empty())
            issues.push_back(issue_at(item, "'" + item.text + "' is no serial number", "hexadecimal, as openssl x509 -serial prints it"));
          else s.serials.insert(serial);
        } else if (!tls::is_spiffe_id(item.text)) {
          issues.push_back(issue_at(item, "'" + item.text + "' is no SPIFFE identity", "spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT"));
        } else {
          s.identities.insert(item.text);
        }
      }
    }
  }
  if (s.serials.size() > tls::kRevokedMax || s.identities.size() > tls::kRevokedMax)
    return no(path + ": more than " + std::to_string(tls::kRevokedMax) + " entries");
  if (has_errors(issues)) return no(render(issues));
  return {};
}

std::string version_of(const CaState& s) {
  std::string all = s.signing + '\0' + s.roots_pem + '\0' + s.crl_pem;
  for (const std::string& i : s.identities) all += '\0' + i;
  char out[17];
  std::snprintf(
      out, sizeof out, "%016llx",
      static_cast<unsigned long long>(siphash24({0x736c75696365, 0x6361}, {reinterpret_cast<const uint8_t*>(all.data()), all.size()})));
  return out;
}

}  // namespace

tls::SerialBytes random_serial() {
  tls::SerialBytes b;
  SLUICE_ASSERT(::getrandom(b.data(), b.size(), 0) == ssize_t(b.size()));
  return b;
}

std::expected<void, std::string> add_root(const std::string& dir, const std::string& name, const std::string& trust_domain,
                                          tls::KeyKind kind, int64_t wall_us) {
  if (!is_folder_name(name)) return no("'" + name + "' is no name of a folder here ([A-Za-z0-9._-], not beginning with a dot)");
  const std::string to = dir + "/" + name, aside = dir + "/.new-" + name;
  std::error_code e;
  if (fs::exists(to, e)) return no(to + " is there already");
  const auto root = tls::make_root(trust_domain, kind, kRootTtlS, wall_us, random_serial());
  if (!root) return no(root.error());
  fs::remove_all(aside, e);
  if (::mkdir(aside.c_str(), 0700) != 0) return no(aside + ": cannot be made: " + std::strerror(errno));
  if (auto ok = write_file(aside + "/ca-key.pem", root->key_pem); !ok) return ok;
  if (auto ok = write_file(aside + "/ca-cert.pem", root->certificate_pem); !ok) return ok;
  if (::rename(aside.c_str(), to.c_str()) != 0) return no(to + ": cannot be made: " + std::strerror(errno));
  return {};
}

std::expected<std::unique_ptr<CaAuthority>, std::string> CaAuthority::start(CaOptions options, int64_t wall_us) {
  if (options.ttl_min_s < 1 || options.ttl_min_s > options.ttl_default_s || options.ttl_default_s > options.ttl_max_s)
    return no("the CA's TTL bounds contradict each other");
  if (!tls::is_spiffe_id("spiffe://" + options.trust_domain + "/x")) return no("'" + options.trust_domain + "' is no trust domain");
  if (::mkdir(options.dir.c_str(), 0700) != 0 && errno != EEXIST) return no(options.dir + ": cannot be made: " + std::strerror(errno));
  std::unique_ptr<CaAuthority> ca(new CaAuthority(std::move(options)));
  const CaOptions& o = ca->options_;
  if (o.token) {
    auto tokens = TokenVerifier::make(*o.token);
    if (!tokens) return no("the keys of tokens: " + tokens.error());
    ca->tokens_.emplace(std::move(*tokens));
  }
  if (folders_of(o.dir).empty()) {
    if (auto ok = add_root(o.dir, "root-1", o.trust_domain, tls::KeyKind::kP256, wall_us); !ok) return no(ok.error());
    if (auto ok = write_file(o.dir + "/signing", "root-1\n"); !ok) return no(ok.error());
  }
  auto state = ca->load(wall_us);
  if (!state) return no(state.error());
  ca->state_ = std::move(*state);
  return ca;
}

std::expected<std::shared_ptr<const CaState>, std::string> CaAuthority::load(int64_t wall_us) const {
  const std::string& dir = options_.dir;
  struct stat st;
  if (::stat(dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return no(dir + ": is no folder");
  if ((st.st_mode & 022) != 0) return no(dir + ": may be written by others than its owner; chmod 0700 it");
  auto state = std::make_shared<CaState>();
  auto signing = read_file(dir + "/signing");
  if (!signing) return no(signing.error());
  const std::vector<std::string> names = folders_of(dir);
  if (names.size() > kRootsMax) return no(dir + ": more than " + std::to_string(kRootsMax) + " folders");
  state->signing = signing->value_or(names.size() == 1 ? names[0] : "");
  while (!state->signing.empty() && std::isspace(static_cast<unsigned char>(state->signing.back())) != 0) state->signing.pop_back();
  if (std::ranges::find(names, state->signing) == names.end())
    return no(dir + "/signing: names '" + state->signing + "', which is no folder here; write the name of the folder that signs");
  std::vector<Folder> folders;
  for (const std::string& name : names) {
    auto f = load_folder(dir, name, wall_us);
    if (!f) return no(f.error());
    if (f->name == state->signing) {
      if (f->issuer == nullptr) return no(dir + "/" + name + ": signs, but has no ca-key.pem");
      state->issuer = f->issuer;
      folders.insert(folders.begin(), std::move(*f));
    } else {
      folders.push_back(std::move(*f));
    }
  }
  std::string all;
  for (const Folder& f : folders) all += f.roots_pem;
  auto roots = tls::split_certificates(all);
  if (!roots) return no(dir + ": a trusted root " + roots.error());
  for (const std::string& r : *roots) state->roots_pem += r;

  auto revoked = read_file(dir + "/revoked.yaml");
  if (!revoked) return no(revoked.error());
  if (*revoked) {
    if (auto ok = load_revoked(dir + "/revoked.yaml", **revoked, *state); !ok) return no(ok.error());
  } else if (state_ != nullptr) {
    state->serials = state_->serials, state->identities = state_->identities;
  }
  const std::vector<std::string> serials(state->serials.begin(), state->serials.end());
  for (Folder& f : folders) {
    if (serials.empty() || f.issuer == nullptr) continue;
    std::string& list = state->lists[f.name];
    if (state_ != nullptr && state_->lists.contains(f.name)) list = state_->lists.at(f.name);
    if (!f.issuer->is_list_of(list, serials)) {
      auto crl = f.issuer->revocation_list(serials, wall_us, wall_us);
      if (!crl) return no(crl.error());
      list = std::move(*crl);
    }
    state->crl_pem += list;
  }
  state->version = version_of(*state);
  return state;
}

std::expected<bool, std::string> CaAuthority::reload(int64_t wall_us) {
  auto fresh = load(wall_us);
  if (!fresh) return no(fresh.error());
  const std::lock_guard lock(mutex_);
  const bool changed = (*fresh)->version != state_->version;
  state_ = std::move(*fresh);
  return changed;
}

std::shared_ptr<const CaState> CaAuthority::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

CaAuthority::Counters CaAuthority::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::unexpected<CaRefusal> CaAuthority::refuse(CaRefusal::Kind kind, std::string reason) {
  const std::lock_guard lock(mutex_);
  counters_.refused[size_t(kind)]++;
  return std::unexpected(CaRefusal{kind, std::move(reason)});
}

std::expected<std::string, CaRefusal> CaAuthority::authenticate(std::string_view certificate_pem, std::string_view authorization, Now now) {
  using Kind = CaRefusal::Kind;
  {
    std::unique_lock lock(mutex_);
    if (!all_.take(now.mono_us)) {
      lock.unlock();
      return refuse(Kind::kLimited, "the CA answers " + std::to_string(int(kCallsPerSecond)) + " calls a second; ask again later");
    }
  }
  const auto s = state();
  std::string identity, why = "neither a client certificate nor a token was given";
  if (!certificate_pem.empty()) {
    const auto facts = tls::certificate_facts(certificate_pem);
    if (!facts) {
      why = "the client's certificate " + facts.error();
    } else if (s->serials.contains(facts->serial)) {
      return refuse(Kind::kDenied, "the certificate " + facts->serial + " is revoked");
    } else if (facts->uri_sans.size() != 1 || !tls::is_spiffe_id(facts->uri_sans[0])) {
      why = "the client's certificate does not carry exactly one SPIFFE identity";
    } else if (!facts->uri_sans[0].starts_with("spiffe://" + options_.trust_domain + "/")) {
      return refuse(Kind::kDenied, facts->uri_sans[0] + " is not of the trust domain " + options_.trust_domain);
    } else {
      identity = facts->uri_sans[0];
    }
  }
  constexpr std::string_view kBearer = "bearer ";
  const bool bearer = authorization.size() > kBearer.size() && std::ranges::equal(authorization.substr(0, kBearer.size()), kBearer,
                                                                                  [](char a, char b) { return (a | 0x20) == (b | 0x20); });
  if (identity.empty() && bearer) {
    if (!tokens_) return refuse(Kind::kUnauthenticated, "tokens are not taken here (no keys to check them with)");
    auto verified = tokens_->verify(authorization.substr(kBearer.size()), now.wall_us);
    if (!verified) return refuse(Kind::kUnauthenticated, verified.error());
    identity = std::move(*verified);
  }
  if (identity.empty()) return refuse(Kind::kUnauthenticated, why);
  if (s->identities.contains(identity)) return refuse(Kind::kDenied, identity + " is revoked");
  return identity;
}

bool CaAuthority::within_limit(const std::string& identity, Usec now) {
  const std::lock_guard lock(mutex_);
  if (by_identity_.size() >= kIdentitiesLimitedMax) std::erase_if(by_identity_, [&](const auto& l) { return l.second.is_full(now); });
  if (by_identity_.size() >= kIdentitiesLimitedMax) by_identity_.clear();
  return by_identity_.try_emplace(identity, kIdentityCallsPerSecond, kIdentityCallsBurst).first->second.take(now);
}

std::expected<CaAuthority::Answer, CaRefusal> CaAuthority::issue(const std::string& identity, const Request& request, Now now) {
  using Kind = CaRefusal::Kind;
  if (!within_limit(identity, now.mono_us)) return refuse(Kind::kLimited, identity + " asks for certificates too often");
  const int64_t ttl_s = request.ttl_s <= 0 ? options_.ttl_default_s : std::clamp(request.ttl_s, options_.ttl_min_s, options_.ttl_max_s);
  const auto s = state();
  auto made = s->issuer->sign(request.csr_pem, identity, ttl_s, now.wall_us, random_serial());
  if (!made) {
    {
      const std::lock_guard lock(mutex_);
      counters_.csr[size_t(made.error().refusal)]++;
    }
    const tls::Refusal r = made.error().refusal;
    return refuse(r == tls::Refusal::kIdentity    ? Kind::kDenied
                  : r == tls::Refusal::kAuthority ? Kind::kUnavailable
                                                  : Kind::kInvalid,
                  std::move(made.error().reason));
  }
  Answer a{std::move(made->chain), std::move(made->serial), made->not_after_us};
  a.chain.push_back(s->roots_pem);
  const std::lock_guard lock(mutex_);
  counters_.issued++;
  return a;
}

}  // namespace sluice::plane
