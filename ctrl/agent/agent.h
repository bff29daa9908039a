// The agent: the control thread's loop. It joins the bootstrap, the xDS client, the compiler, the kept resources and the secrets, and
// publishes snapshots.
//
//   control plane --> Client --> Agent (Sink) --> Compiler --build--> publish(snapshot)
//                                  |  ^                ^
//                     kept files <-+  +- wanted names  +- secrets (files, SDS)
//
// Publishing: what changed is built and published when the stream has been quiet for kSettle, at the latest kSettleMax after the first
// change, so that one push of the control plane (CDS, EDS, LDS, RDS within milliseconds) becomes one snapshot. While endpoints or routes
// that the new resources name are still on their way the publishing waits for them, at most kWarmMax per name: what serves goes on serving.
//
// Kept: when nothing has changed for kKeepDelay (kKeepDelayMax at the latest) the accepted resources, not secrets, are saved, on a thread
// of its own: the disk's sync must not hold up a push. At start they are applied and published before the control plane is asked. Secrets
// are looked at every kSecretsEvery.
//
// With `ca` in the bootstrap the secrets `default` and `ROOTCA` are the CA's as soon as it has answered, before that the files'.
//
// Thread: everything runs on the control thread (the one that calls run() or turn()), except post(), ask() and stop(), which are for any
// thread.
//
// Errors: start() fails only for what makes no sense to run with (resources that cannot be read); everything later is in the status and
// the log.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ctrl/agent/bootstrap.h"
#include "ctrl/agent/ca_client.h"
#include "ctrl/agent/kept.h"
#include "ctrl/agent/secrets.h"
#include "ctrl/compile/compile.h"
#include "ctrl/log/console.h"
#include "ctrl/xds/client.h"

namespace sluice::xds {
class GrpcTransport;
}

namespace sluice::agent {

class CaTransport;

constexpr Usec kSettle = 10 * kMs, kSettleMax = 100 * kMs;
constexpr Usec kWarmMax = 2 * kSec;
constexpr Usec kKeepDelay = 1 * kSec, kKeepDelayMax = 10 * kSec;  // quiet for so long; at the latest
constexpr Usec kSecretsEvery = 1 * kSec;

struct AgentStatus {
  std::string node, control_plane;  // address, or "files"
  bool connected = false;           // the control plane has spoken on the open stream
  Usec state_age = 0;
  std::string last_error;
  uint64_t streams = 0, unsolicited = 0;
  struct OfType {
    std::string name;  // "CDS"
    xds::TypeStatus s;
    Usec last_response_age = kNever;
  };
  std::vector<OfType> types;
  struct Refusal {
    std::string type, name, reason;
    bool security = false;
  };
  std::vector<Refusal> refused;
  std::map<std::string, unsigned> ignored;               // extension type -> how often
  std::map<std::string, std::string> secrets_missing;    // name -> why
  std::map<std::string, std::vector<std::string>> shut;  // listener -> what its shut chains wait for
  struct Certificate {
    std::string secret, subject;
    bool trusted = false;  // a trust root, not ours
    int64_t not_after_us = 0;
    int64_t days_left = 0;  // below 0: expired
  };
  std::vector<Certificate> certificates;  // of the secrets in use
  std::vector<std::string> unusable;      // "CLUSTER ENDPOINT: why", or "CLUSTER: why"
  uint64_t generation = 0, published = 0;
  Usec published_age = kNever;
  std::string kept_from, kept_error;
  Usec kept_age = kNever;
  std::string ca;  // address; empty: none
  CaStatus certificate_of_ca;
  bool security_refused() const;
};

class Agent final : private xds::Sink, private compile::SecretSource {
 public:
  using Publish = std::function<void(std::shared_ptr<const tables::Snapshot>)>;
  using Log = std::function<void(log::Level level, const std::string& line)>;
  Agent(Bootstrap bootstrap, Publish publish, Log log);
  ~Agent() override;

  std::expected<void, std::string> start(Usec now);
  // One round: events, deadlines, publishing, keeping. Returns when to call again at the latest.
  Usec turn(Usec now);
  // Rounds until stop(); `each` is called once per round, at least every 100 ms (reclaim of old snapshots, signals).
  void run(const std::function<void(Usec)>& each);
  void stop();

  void post(std::function<void()> f) { (void)try_post(std::move(f)); }  // runs f on the control thread, soon; not after the loop has ended
  // Runs f there and waits for its answer; nothing when the loop has ended or does not come within 5 s. f may run later even then: what it
  // refers to must live as long as the agent.
  template <class F>
  auto ask(F f) -> std::optional<decltype(f())> {
    auto answer = std::make_shared<std::promise<std::optional<decltype(f())>>>();
    auto future = answer->get_future();
    const bool taken = try_post([answer, f = std::move(f)]() mutable { answer->set_value(f()); });
    if (!taken || future.wait_for(std::chrono::seconds(5)) != std::future_status::ready) return std::nullopt;
    return future.get();
  }

  // Control thread.
  AgentStatus status(Usec now) const;
  std::string config_dump_json() const;  // Envoy's shape
  std::string certs_json() const;        // Envoy's /certs: certificates of the secrets in use, without keys
  std::shared_ptr<const tables::Snapshot> snapshot() const { return snapshot_; }

 private:
  using Key = std::pair<xds::Type, std::string>;
  struct Accepted {
    std::string version, bytes;
    int64_t wall_us = 0;
  };
  std::expected<void, std::string> apply(xds::Type type, const std::string& name, const std::string& version,
                                         const std::string& bytes) override;
  void remove(xds::Type type, const std::string& name) override;
  const compile::Secret* find(std::string_view name) override;
  std::expected<void, std::string> load_files();
  void load_kept();
  void start_ca();
  void turn_ca(Usec now);
  const compile::Secret* held_secret(const std::string& name) const;
  void tell_interest();
  void say_connection();
  bool try_post(std::function<void()> f);
  void wake();
  void change(Usec now);
  bool is_warm(Usec now);
  void publish(Usec now);
  void keep(Usec now);
  void kept_done(bool wait);
  std::vector<KeptResource> to_keep() const;
  std::vector<const compile::Secret*> secrets_in_use() const;  // that the last build asked for

  const Bootstrap bootstrap_;
  Publish publish_;
  Log log_;
  Rng rng_;
  compile::Compiler compiler_;
  FileSecrets files_;
  std::map<std::string, compile::Secret, std::less<>> remote_secrets_;
  std::set<std::string> secrets_asked_;  // since the last build
  Kept kept_;
  xds::Client client_;
  std::unique_ptr<xds::GrpcTransport> transport_;
  std::optional<CaClient> ca_;
  std::unique_ptr<CaTransport> ca_transport_;
  uint64_t ca_seen_ = 0;
  std::string ca_said_;  // errors of the CA that were logged

  std::map<Key, Accepted> accepted_;          // without secrets
  std::map<Key, std::string> file_refusals_;  // resources mode: what the compiler refused
  std::map<Key, Usec> missing_since_;         // wanted, not there
  std::shared_ptr<const tables::Snapshot> snapshot_;
  bool dirty_ = false, keep_dirty_ = false, was_answered_ = false;
  std::string said_error_;  // last_error that was logged
  Usec first_change_ = 0, last_change_ = 0, keep_at_ = kNever, keep_latest_ = kNever, secrets_at_ = 0, published_at_ = 0, kept_at_ = 0,
       now_ = 0;
  uint64_t published_ = 0;
  std::future<std::expected<void, std::string>> keeping_;  // a save under way
  std::string kept_from_, kept_error_;

  int wake_fd_ = -1;
  std::mutex mutex_;  // guards posted_ and closed_
  std::vector<std::function<void()>> posted_;
  bool closed_ = false;  // run() has returned
  std::atomic<bool> stop_{false};
};

}  // namespace sluice::agent
