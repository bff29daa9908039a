// Header operations of routes, virtual hosts and route configurations (config.core.v3.HeaderValueOption), applied to a head.
// Envoy's order: the most specific first, each level's removals before its additions, so the least specific has the last word.
#pragma once
#include "dataplane/proxy/record.h"
#include "dataplane/tables/tables.h"

namespace sluice::proxy {

// request: `:authority`, `host` and `:path` are the pseudo-headers. `scratch` is reused for rendering.
void apply_request(const tables::HeaderOperations& ops, http::RequestHead& head, const Record& record, std::string& scratch);
void apply_response(const tables::HeaderOperations& ops, http::ResponseHead& head, const http::RequestHead& request, const Record& record,
                    std::string& scratch);

}  // namespace sluice::proxy
