// One delta ADS stream as a pure state machine (docs: xDS protocol, reference/xds.md 1.3): what the client asked for, what it was sent,
// what it owes. Requests in, answers out, no gRPC, no clock, no lock. Order of the answers: CDS, EDS, LDS, RDS. A version is the resource's
// content, so a client that comes back with initial_resource_versions gets only what it does not have.
#pragma once
#include <set>

#include "ctrl/plane/resource.h"

namespace sluice::plane {

constexpr size_t kNamesPerStreamMax = 200'000;

struct StreamRequest {
  std::string type_url, nonce, error;  // error: of a NACK
  std::vector<std::string> subscribe, unsubscribe;
  std::map<std::string, std::string> initial_versions;
};
struct StreamAnswer {
  int type = 0;  // of kTypeNames
  std::string nonce;
  std::vector<std::pair<std::string, const Resource*>> resources;  // of the Resources given to answers()
  std::vector<std::string> removed;
};

class DeltaStream {
 public:
  // False: the request breaks a limit and the stream should end. A type that is not ours is ignored.
  [[nodiscard]] bool take(const StreamRequest& r);
  // All that the client is owed of `current`, as soon as it is known. REQUIRES: `current` outlives the answers.
  std::vector<StreamAnswer> answers(const Resources& current);
  struct Nack {
    std::string type, nonce, reason;
  };
  const std::optional<Nack>& last_nack() const { return nack_; }  // of a type until its next ACK
  uint64_t nacks() const { return nacks_; }
  bool answered(int type) const { return types_[type].answered; }
  // Nonces that were sent and not acknowledged.
  size_t unacknowledged() const { return pending_.size(); }

 private:
  struct Type {
    bool wildcard = false, asked = false, answered = false;
    std::set<std::string> names, fresh;       // fresh: subscribed since the last answer
    std::map<std::string, std::string> sent;  // name -> version
  };
  Type types_[4];
  std::set<std::string> pending_;
  std::optional<Nack> nack_;
  uint64_t nonce_ = 0, nacks_ = 0;
};

}  // namespace sluice::plane
