// What one kind of Node gets, kept from one version of the world to the next: a change makes anew what depends on it. A part is known by
// the fingerprint of all that it is made of (memo.h):
//   clusters and endpoints of a service   its ServiceEntries, DestinationRule, WorkloadEntries and PeerAuthentications
//   a virtual host                        its VirtualServices, and the services and rules that these name
//   a route configuration                 its virtual hosts: their bytes, one after the other
// Listeners are made anew each time: they are few, and depend on most kinds. Where nothing but endpoints changed (World::shape) only the
// services that have them are looked at. The answer is that of to_resources(translate()), byte for byte (translation_test.cc).
// Thread: one at a time; a whole update has a second one while it lasts.
#pragma once
#include "ctrl/plane/resource.h"

namespace sluice::plane {

class Translation {
 public:
  Translation(NodeInfo node, TranslateOptions options);
  ~Translation();
  // The same pointer as before if nothing changed for the node. An error is one of ours, as to_resources says it; the next update is whole.
  std::expected<std::shared_ptr<const Resources>, std::string> update(std::shared_ptr<const World> world);

 private:
  struct State;
  const NodeInfo node_;
  const TranslateOptions options_;
  std::unique_ptr<State> state_;
  std::shared_ptr<const Resources> last_;
};

}  // namespace sluice::plane
