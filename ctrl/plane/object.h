// One YAML document as an object of the world, checked by itself: schema (schema.h) and rules (rules.h). Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/world.h"

namespace sluice::plane {

// Of Istio's kinds or the Gateway API's (gateway_api.h). Nothing: it is none that we know; the issues say so. Without ids: they are
// Directory's to give.
std::shared_ptr<Config> read_object(Node document, std::shared_ptr<const Source> source, std::vector<Issue>& issues);
void settle(Config& c);  // fills in what is derived of the document
Mesh read_mesh(Node document, std::shared_ptr<const Source> source, std::vector<Issue>& issues);

}  // namespace sluice::plane
