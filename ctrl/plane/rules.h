// What must hold between the fields of an object and between objects, as Istio's validation has it (the table of
// golden/istiod-invalid), each refusal at its place with a remedy. Thread: any.
#pragma once
#include "ctrl/plane/world.h"

namespace sluice::plane {

// REQUIRES: the schema found nothing wrong.
void check_rules(const Config& c, std::vector<Issue>& issues);
// Warnings about what leads nowhere: a destination that no ServiceEntry has, a missing subset, an unserved host, an unknown gateway.
void check_references(const World& w, std::vector<Issue>& issues);
bool is_cipher_suite(std::string_view name);  // that Istio knows

}  // namespace sluice::plane
