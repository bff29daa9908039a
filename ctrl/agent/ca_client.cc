#include "ctrl/agent/ca_client.h"

#include <algorithm>

#include "ctrl/agent/sds.h"
#include "dataplane/base/check.h"

namespace sluice::agent {

constexpr Usec kLookAgain = 60 * kSec;  // at the wall clock

Usec CaClient::backoff(Usec& d) {
  d = d == 0 ? options_.backoff_first : std::min(d * 2, options_.backoff_max);
  return d / 2 + rng_.below(uint32_t(d / 2 + 1));
}

bool CaClient::is_due(Now now) const {
  return now.mono_us >= retry_at_ && (!certificate_ || now.wall_us >= renew_at_us_ || now.mono_us >= resign_at_);
}

std::optional<CaClient::Request> CaClient::take_request(Now now) {
  if (asked_ != 0 || !is_due(now)) return std::nullopt;
  auto made = tls::make_csr(options_.identity);
  if (!made) {
    s_.failed++;
    s_.last_error = made.error();
    retry_at_ = now.mono_us + backoff(backoff_);
    return std::nullopt;
  }
  resign_at_ = kNever;
  asked_ = ++number_;
  asked_key_ = std::move(made->key_pem);
  return Request{asked_, std::move(made->csr_pem), options_.ttl_s};
}

void CaClient::failed(uint64_t number, std::string reason, Now now) {
  if (number != asked_ || asked_ == 0) return;
  asked_ = 0;
  asked_key_.clear();
  s_.failed++;
  s_.last_error = std::move(reason);
  retry_at_ = now.mono_us + backoff(backoff_);
  // What was asked out of turn is asked again then, though the certificate's own time has not come.
  if (certificate_ && now.wall_us < renew_at_us_) resign_at_ = retry_at_;
}

void CaClient::answer(uint64_t number, const std::vector<std::string>& chain, Now now) {
  if (number != asked_ || asked_ == 0) return;
  auto issued = tls::check_issued(chain, asked_key_, options_.identity, now.wall_us);
  if (!issued) return failed(number, issued.error(), now);
  asked_ = 0;
  backoff_ = 0;
  retry_at_ = 0;
  s_.issued++;
  s_.last_error.clear();
  if (!roots_ || !watch_spoke_) {  // revocations that were pushed before stay until they are pushed anew
    compile::Secret roots = roots_.value_or(compile::Secret{.name = "ROOTCA"});
    roots.trusted_ca_pem = issued->root_pem;
    if (!roots_ || *roots_ != roots) roots_ = std::move(roots), changes_++;
  }
  install(std::exchange(asked_key_, {}), std::move(*issued), now.wall_us);
}

// `from_us`: when it was issued. Its not_before says less: CAs set it back for clocks that are late.
void CaClient::install(const std::string& key_pem, tls::IssuedCertificate issued, int64_t from_us) {
  const int64_t life = issued.not_after_us - from_us;
  // Istio rotates at half of the life, give or take 1 %, so that a fleet does not ask at once.
  renew_at_us_ = from_us + life / 2 - life / 100 + int64_t(double(rng_.below(1'000'001)) / 1e6 * double(life / 50));
  issued_ = std::move(issued);
  certificate_ = compile::Secret{.name = "default", .cert_chain_pem = issued_.chain_pem, .private_key_pem = key_pem};
  changes_++;
}

bool CaClient::restore(const compile::Secret& certificate, const compile::Secret& roots, Now now) {
  SLUICE_ASSERT(number_ == 0);
  auto issued =
      tls::check_issued({certificate.cert_chain_pem, roots.trusted_ca_pem}, certificate.private_key_pem, options_.identity, now.wall_us);
  if (!issued) return false;
  roots_ = roots;
  const int64_t from_us = std::min(issued->not_before_us + tls::kClockSkewS * 1'000'000, now.wall_us);
  install(certificate.private_key_pem, std::move(*issued), from_us);
  return true;
}

uint64_t CaClient::take_watch(Now now) {
  if (watch_ != 0 || now.mono_us < watch_at_) return 0;
  watch_spoke_ = false;
  return watch_ = ++number_;
}

std::expected<void, std::string> CaClient::watch_said(uint64_t number, const std::string& secret_bytes, Now now) {
  if (number != watch_ || watch_ == 0) return {};
  auto secret = parse_secret("ROOTCA", secret_bytes);
  if (!secret) return std::unexpected(secret.error());
  const auto all = tls::split_certificates(secret->trusted_ca_pem);
  if (!all) return std::unexpected("trusted_ca " + all.error());
  watch_spoke_ = true;
  watch_backoff_ = 0;
  s_.watch_error.clear();
  s_.pushed++;
  if (!roots_ || *roots_ != *secret) roots_ = std::move(*secret), changes_++;
  if (certificate_ && all->front() != issued_.first_root_pem && all->front() != resigned_for_) {
    resigned_for_ = all->front();
    resign_at_ = now.mono_us + rng_.below(uint32_t(options_.resign_spread + 1));
  }
  return {};
}

void CaClient::watch_closed(uint64_t number, std::string reason, bool unsupported, Now now) {
  if (number != watch_ || watch_ == 0) return;
  watch_ = 0;
  watch_spoke_ = false;
  s_.watch_error = unsupported ? "this CA pushes no secrets; revocations do not reach us by it" : std::move(reason);
  watch_at_ = now.mono_us + (unsupported ? options_.unsupported_again : backoff(watch_backoff_));
}

Usec CaClient::next_deadline(Now now) const {
  Usec next = now.mono_us + kLookAgain;
  if (watch_ == 0) next = std::min(next, watch_at_);
  if (asked_ != 0) return next;
  if (!certificate_) return std::min(next, retry_at_);
  const int64_t left = std::max<int64_t>(renew_at_us_ - now.wall_us, 0);
  return std::min(next, std::max(retry_at_, std::min(resign_at_, now.mono_us + Usec(left))));
}

const compile::Secret* CaClient::find(std::string_view name) const {
  if (name == "default" && certificate_) return &*certificate_;
  if (name == "ROOTCA" && roots_) return &*roots_;
  return nullptr;
}

CaStatus CaClient::status() const {
  CaStatus s = s_;
  s.watching = watch_spoke_;
  if (!certificate_) return s;
  s.serial = issued_.serial;
  s.not_after_us = issued_.not_after_us;
  s.renew_at_us = renew_at_us_;
  return s;
}

}  // namespace sluice::agent
