// The gateway's side of the CA as a pure state machine: when to ask for a certificate, what to do with the answer, whom to trust. Events
// come in by calls, requests go out by take_request() and take_watch(); no gRPC, no clock, no files. ctrl/agent/ca_transport binds it.
//
//   certificate   none --due--> asked --answer, checked--> held --half of its life (+- 1 %), or another root signs--> asked ...
//                                 |                                                                                    |
//                                 +--refused, lost, wrong: backoff, doubling to backoff_max; what is held goes on serving
//   roots         the last element of each answer; and, where the CA serves secrets (sluice-control; istiod does not), the pushed secret
//                 ROOTCA with its CRL and denied identities, which has the last word while its stream is open
//
// Every request has a fresh key; a key leaves this object only inside of the secret `default`. An answer is used only if it is for our key
// and identity and leads to its root (tls::check_issued). When the first of the pushed roots is not the one that ours came under, another
// root signs now: a certificate is asked for at once, spread over resign_spread, once per root. Thread: one (control).
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "ctrl/compile/compile.h"
#include "dataplane/base/now.h"
#include "dataplane/base/rng.h"
#include "tls-offload/ca.h"

namespace sluice::agent {

struct CaClientOptions {
  std::string identity;
  int64_t ttl_s = 86'400;
  Usec backoff_first = 500 * kMs, backoff_max = 60 * kSec;  // delay is uniform in [d/2, d]
  Usec resign_spread = 2 * kSec;
  Usec unsupported_again = 600 * kSec;  // a CA that serves no secrets is asked again after so long
};

struct CaStatus {
  std::string serial, last_error, watch_error;  // errors: until the next success
  int64_t not_after_us = 0, renew_at_us = 0;    // 0: there is no certificate
  uint64_t issued = 0, failed = 0, pushed = 0;
  bool watching = false;
};

class CaClient {
 public:
  // Pass a certificate that was kept, or nothing, before the first take_request().
  CaClient(CaClientOptions options, Rng& rng) : options_(std::move(options)), rng_(rng) {}
  // False: it is not (or no longer) good; nothing changes.
  bool restore(const compile::Secret& certificate, const compile::Secret& roots, Now now);

  struct Request {
    uint64_t number = 0;
    std::string csr_pem;
    int64_t ttl_s = 0;
  };
  // A CSR with a new key, when one is due and none is under way.
  std::optional<Request> take_request(Now now);
  void answer(uint64_t number, const std::vector<std::string>& chain, Now now);
  void failed(uint64_t number, std::string reason, Now now);

  // The number of a stream of secrets to open now, or 0.
  uint64_t take_watch(Now now);
  std::expected<void, std::string> watch_said(uint64_t number, const std::string& secret_bytes, Now now);
  void watch_closed(uint64_t number, std::string reason, bool unsupported, Now now);

  // Monotonic time of the next take_request() or take_watch() that may give something. Wall time may jump: looked at once a minute anyway.
  Usec next_deadline(Now now) const;
  const compile::Secret* find(std::string_view name) const;  // "default", "ROOTCA"
  uint64_t changes() const { return changes_; }              // of what find() gives
  CaStatus status() const;

 private:
  void install(const std::string& key_pem, tls::IssuedCertificate issued, int64_t from_us);
  Usec backoff(Usec& d);
  bool is_due(Now now) const;

  const CaClientOptions options_;
  Rng& rng_;
  std::optional<compile::Secret> certificate_, roots_;
  tls::IssuedCertificate issued_;
  std::string resigned_for_;  // the root for whose sake we asked out of turn
  std::string asked_key_;     // of the request under way
  uint64_t number_ = 0, asked_ = 0, watch_ = 0, changes_ = 0;
  Usec retry_at_ = 0, resign_at_ = kNever, watch_at_ = 0, backoff_ = 0, watch_backoff_ = 0;
  int64_t renew_at_us_ = 0;
  bool watch_spoke_ = false;  // on the open stream
  CaStatus s_;
};

}  // namespace sluice::agent
