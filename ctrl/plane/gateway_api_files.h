// The status of Gateway API objects as files, one an object: written to the side and renamed, only when it has changed, removed with its
// object. lastTransitionTime is the time at which the condition was seen to become what it is; a process that finds files of its like goes
// on from them, and removes those whose object is gone. Thread: one.
#pragma once
#include <expected>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "ctrl/plane/gateway_api.h"

namespace sluice::plane {

class StatusFiles {
 public:
  explicit StatusFiles(std::string dir) : dir_(std::move(dir)) {}
  // The folder is made if it is not there; it must not lie inside of the watched one, which would read it.
  static std::expected<void, std::string> usable(const std::string& dir, const std::string& watched);
  // Writes what differs from last time. Cheap when neither the world nor the set of acknowledging gateways has changed. Returns what went
  // wrong, or "".
  std::string update(const std::shared_ptr<const World>& world, std::span<const NodeInfo> acknowledged);

 private:
  void take_over();
  const std::string dir_;
  std::shared_ptr<const World> world_;
  std::string acknowledged_;                                          // keys of the nodes of the last update
  std::map<std::string, std::string> written_;                        // file -> text without times
  std::map<std::string, std::pair<std::string, std::string>> since_;  // file and condition -> its status and since when
};

}  // namespace sluice::plane
