// The route configurations of one kind of Node, kept from one version of the world to the next (translation.h). Three levels: which virtual
// hosts there are and whose routes they hold (a plan, made anew when a host, a gateway or a binding changes), the bytes of each virtual
// host (when its routes change), the bytes of all. Inside of ctrl/plane. Thread: one at a time.
#pragma once
#include "ctrl/plane/messages.h"
#include "ctrl/plane/routes.h"

namespace sluice::plane {

class KeptRoutes {
 public:
  // One of them. `patches`: the EnvoyFilters of routes, and their fingerprint; an entry of `before` that says the same is taken.
  std::expected<ResourceTable::Shared, std::string> update(const View& v, const std::string& name,
                                                           const std::vector<const Server*>& servers, const std::vector<Patch>& patches,
                                                           const Fingerprint& of_patches, const ResourceTable& before);
  void end_round();  // after one update() for each of the world's

 private:
  // Of a VirtualService on the servers of a Gateway. Its routes are there while somebody needs them.
  struct List : RouteList {
    Fingerprint of;
    bool empty = true;
    uint64_t update = 0;  // that looked at it last
    const Virtual* virtual_service = nullptr;
    const Server* server = nullptr;
  };
  using Bytes = Memo<std::string>;
  struct Host {
    PlannedHost planned;
    Fingerprint of;  // without its routes
    Bytes::Slot* bytes = nullptr;
  };
  List& list_of(const View& v, const std::string& name, const Virtual& x, const Server& s);
  std::vector<Host> plan(const View& v, const std::string& name, const std::vector<const Server*>& servers);
  static List& own(const RouteList* list) { return const_cast<List&>(static_cast<const List&>(*list)); }  // all are ours

  uint64_t updates_ = 0;
  Memo<List> lists_;
  Memo<std::vector<Host>> plans_;
  Bytes hosts_;  // VirtualHosts, serialized
  Memo<ResourceTable::Shared> whole_;
};

}  // namespace sluice::plane
