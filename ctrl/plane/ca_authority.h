// The CA without its transport: a directory of roots, who is revoked, and the answer to one request for a certificate.
//
//   DIR/NAME/ca-cert.pem ca-key.pem   a root, or an intermediate with its root-cert.pem and, where it has one, cert-chain.pem (Istio's
//   names).
//                                     Without a key it is trusted and signs nothing (root-cert.pem or ca-cert.pem).
//   DIR/signing                       the name of the folder that signs. Every folder is trusted.
//   DIR/revoked.yaml                  serials: [HEX...]   identities: [spiffe://...]
//
// A directory without a folder gets one, root-1, at start. Rotation in three steps, each one edit: a second folder appears (both are
// trusted), `signing` names it (gateways ask again), the first is removed. Keys are 0600 and ours, or nothing is loaded. A directory that
// became wrong changes nothing: the last good state stays and the reason is said. revoked.yaml that vanishes revokes nobody less until the
// next start.
//
// Certificates are for the caller's own identity, of the trust domain, for as long as was asked within [ttl_min_s, ttl_max_s]. Limits:
// kCallsPerSecond over all callers, kIdentityCallsPerSecond for one. Thread: start() and reload() on one; the rest from any.
#pragma once
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "ctrl/plane/ca_token.h"
#include "dataplane/base/now.h"
#include "tls-offload/ca.h"

namespace sluice::plane {

constexpr double kCallsPerSecond = 200, kCallsBurst = 1000;  // a thousand gateways may ask at once
constexpr double kIdentityCallsPerSecond = 1, kIdentityCallsBurst = 10;
constexpr size_t kIdentitiesLimitedMax = 10'000;  // buckets that are not full; beyond it the oldest callers' limits are forgotten
constexpr size_t kRootsMax = 16;

struct CaOptions {
  std::string dir, trust_domain = "cluster.local";
  int64_t ttl_min_s = 600, ttl_default_s = 86'400, ttl_max_s = 90 * 86'400;
  std::optional<TokenOptions> token;  // none: only certificates prove who calls
};

// What verifiers are told. Immutable.
struct CaState {
  std::string signing;  // folder
  std::shared_ptr<const tls::Issuer> issuer;
  std::string roots_pem;                     // the one that signs first
  std::string crl_pem;                       // of every folder with a key; empty when no serial is revoked
  std::map<std::string, std::string> lists;  // its parts, by folder
  std::set<std::string, std::less<>> serials, identities;
  std::string version;  // of what verifiers are told and of who signs
};

struct CaRefusal {
  enum class Kind : uint8_t { kUnauthenticated, kDenied, kInvalid, kLimited, kUnavailable };
  Kind kind;
  std::string reason;
};
constexpr size_t kCaRefusalKinds = 5;

// Of one caller: `rate` a second on average, `burst` at once.
class RateLimit {
 public:
  RateLimit(double rate, double burst) : rate_(rate), burst_(burst), left_(burst) {}
  bool take(Usec now) {
    if (at_ != 0 && now > at_) left_ = std::min(burst_, left_ + double(now - at_) * rate_ / double(kSec));
    at_ = now;
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
  }
  bool is_full(Usec now) const { return left_ + double(std::max(now, at_) - at_) * rate_ / double(kSec) >= burst_; }

 private:
  double rate_, burst_, left_;
  Usec at_ = 0;
};

class CaAuthority {
 public:
  static std::expected<std::unique_ptr<CaAuthority>, std::string> start(CaOptions options, int64_t wall_us);
  // Reads the directory again. True: the state is another one.
  std::expected<bool, std::string> reload(int64_t wall_us);
  std::shared_ptr<const CaState> state() const;

  // Who calls. `certificate_pem`: verified by the transport, or empty; `authorization`: the header's value, or empty.
  std::expected<std::string, CaRefusal> authenticate(std::string_view certificate_pem, std::string_view authorization, Now now);
  struct Request {
    std::string csr_pem;
    int64_t ttl_s = 0;  // 0: the default
  };
  struct Answer {
    std::vector<std::string> chain;  // leaf, intermediates, and last all roots
    std::string serial;
    int64_t not_after_us = 0;
  };
  // REQUIRES: `identity` is what authenticate() gave.
  std::expected<Answer, CaRefusal> issue(const std::string& identity, const Request& request, Now now);

  struct Counters {
    uint64_t issued = 0;
    std::array<uint64_t, kCaRefusalKinds> refused{};
    std::array<uint64_t, tls::kRefusals> csr{};  // refused CSRs by what is wrong with them
  };
  Counters counters() const;
  const CaOptions& options() const { return options_; }

 private:
  explicit CaAuthority(CaOptions options) : options_(std::move(options)) {}
  std::expected<std::shared_ptr<const CaState>, std::string> load(int64_t wall_us) const;
  std::unexpected<CaRefusal> refuse(CaRefusal::Kind kind, std::string reason);
  bool within_limit(const std::string& identity, Usec now);

  const CaOptions options_;
  std::optional<TokenVerifier> tokens_;
  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const CaState> state_;
  RateLimit all_{kCallsPerSecond, kCallsBurst};
  std::map<std::string, RateLimit> by_identity_;
  Counters counters_;
};

// A new root in DIR/NAME, 0600: the first step of a rotation. An error if the folder exists.
std::expected<void, std::string> add_root(const std::string& dir, const std::string& name, const std::string& trust_domain,
                                          tls::KeyKind kind, int64_t wall_us);
tls::SerialBytes random_serial();

}  // namespace sluice::plane
