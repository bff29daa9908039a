// Routes of one VirtualService on one server, and the parts that they are made of. Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/view.h"

namespace sluice::plane {

struct Route {
  Json json;
  bool catch_all = false;
};
// In their order, up to the first that takes every request.
std::vector<Route> routes_of(const View& v, const Virtual& x, const Server& s);

struct Match {
  Json json;
  std::string operation;  // the decorator's tail
  bool catch_all = false;
};
Match match_json(const Node& m, bool by_segment = false);  // by_segment: a prefix ends where a segment does
Object string_match(const Node& m);
std::map<std::string, const Node*> sorted(const Node& map);  // by key

}  // namespace sluice::plane
