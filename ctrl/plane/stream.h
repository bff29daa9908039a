// One ADS stream as a pure state machine, delta and state of the world (docs: xDS protocol; reference/xds.md 1.2 to 1.4): what the client
// asked for, what it was sent, what it owes. Requests in, answers out, no gRPC, no clock, no lock. A version is the content's hash, so that
// every instance on one directory says the same, and a client that comes back by delta gets only what it does not have.
//
// Of both: order of the answers CDS, EDS, LDS, RDS; a cluster that is sent again brings its endpoints with it, changed or not (a client
// that warms the cluster waits for them); clusters and endpoints that are gone are said after the listeners and routes of the same push. A
// NACK is noted, and nothing is sent for it until the content changes. Types that are not ours are ignored.
#pragma once
#include <array>

#include "ctrl/plane/subscription.h"

namespace sluice::plane {

struct StreamRequest {
  std::string type_url, nonce, error;               // error: of a NACK
  std::vector<std::string> subscribe, unsubscribe;  // SotW: all names are in subscribe
  std::map<std::string, std::string> initial_versions;
};
struct StreamAnswer {
  int type = 0;  // of kTypeNames
  std::string nonce, version;
  std::vector<Item> resources;  // of the Resources given to answers(), or (SotW, before a removal) of those before
  bool all = false;             // resources are all that there are of the type, in order
  std::vector<std::string> removed;
};

class AdsStream {
 public:
  virtual ~AdsStream() = default;
  // False: the request breaks a limit and the stream should end.
  [[nodiscard]] virtual bool take(const StreamRequest& r) = 0;
  // All that the client is owed of `current`, as soon as it is known. REQUIRES: `current` and the one before it outlive the answers.
  virtual std::vector<StreamAnswer> answers(const Current& current) = 0;
  // Everything it asked for of `current` was sent and acknowledged.
  bool acknowledged(const Resources& current) const;
  size_t unacknowledged() const;  // answers
  uint64_t nacks() const;
  TypeReport report(int type) const { return types_[size_t(type)].report(); }

 protected:
  bool within_limits() const;
  StreamAnswer& answer(std::vector<StreamAnswer>& out, int type, const Resources& current, std::vector<Item> items,
                       std::vector<std::string> removed);
  std::array<Subscription, kTypes> types_;
  uint64_t nonce_ = 0;
};

class DeltaStream final : public AdsStream {
 public:
  [[nodiscard]] bool take(const StreamRequest& r) override;
  std::vector<StreamAnswer> answers(const Current& current) override;
};

// Clusters and listeners: every answer is the whole of what was asked for, and what is not in it is gone. Endpoints and routes: what
// changed or was asked for; they go with their parents, nothing is said. An empty list of names: the first time a wildcard (clusters,
// listeners), after names, or of endpoints and routes, nothing any more. A request whose nonce is not that of the newest answer is stale
// and not answered.
class SotwStream final : public AdsStream {
 public:
  [[nodiscard]] bool take(const StreamRequest& r) override;
  std::vector<StreamAnswer> answers(const Current& current) override;

 private:
  std::array<bool, kTypes> had_names_{};
  std::shared_ptr<const Resources> before_, had_;  // the last push, and the one before it: the answers may name its clusters
};

}  // namespace sluice::plane
