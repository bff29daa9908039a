// What must hold between the fields of an object and between objects, as Istio's validation has it (the table of
// golden/istiod-invalid), each refusal at its place with a remedy. Thread: any.
#pragma once
#include "ctrl/plane/world.h"

namespace sluice::plane {

// REQUIRES: the schema found nothing wrong.
void check_rules(const Config& c, std::vector<Issue>& issues);
// Warnings about what leads nowhere: names of what is not there, unreachable routes, hosts that no Gateway serves, selectors and policies
// that match nothing, certificates that are not good (known.h has the parts). REQUIRES: no errors.
void check_references(const World& w, std::vector<Issue>& issues, const CheckOptions& options = {});
bool is_cipher_suite(std::string_view name);  // that Istio knows

}  // namespace sluice::plane
