// What the rules of all kinds share: where problems go, and what names look like. Inside of ctrl/plane.
#pragma once
#include "ctrl/plane/rules.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {

struct Checker {
  std::vector<Issue>& issues;
  void refuse(const Node& at, std::string message, std::string remedy = {}) {
    issues.push_back(issue_at(at, std::move(message), std::move(remedy)));
  }
  void warn(const Node& at, std::string message, std::string remedy = {}) {
    issues.push_back(issue_at(at, std::move(message), std::move(remedy), Severity::kWarning));
  }
};

bool valid_host(std::string_view h, bool wildcard = true);  // RFC 1123 labels; a leading "*" label where wildcards are allowed
bool valid_label(std::string_view s);
bool valid_ip(const std::string& s);
bool valid_cidr(const std::string& s);

void check_regex(Checker& c, const Node& match, const std::string& what);
void check_duration(Checker& c, const Node& d, const std::string& what, int64_t least_ns = 1'000'000);
void check_percent(Checker& c, const Node& p, const std::string& what);

// One file a subject: rules_gateway.cc, rules_routes.cc, rules_destination.cc, rules_services.cc, rules_security.cc, rules_workloads.cc,
// rules_mesh.cc.
void check_gateway(Checker& c, const Config& g);
void check_virtual_service(Checker& c, const Config& v);
void check_destination_rule(Checker& c, const Config& d);
void check_service_entry(Checker& c, const Config& e);
void check_workload_entry(Checker& c, const Config& w);
void check_authorization(Checker& c, const Config& a);
void check_peer_authentication(Checker& c, const Config& p);
void check_request_authentication(Checker& c, const Config& r);
void check_envoy_filter(Checker& c, const Config& e);
void check_sidecar(Checker& c, const Config& s);
void check_workload_group(Checker& c, const Config& w);
void check_proxy_config(Checker& c, const Config& p);
void check_telemetry(Checker& c, const Config& t);
void check_mesh_config(Checker& c, const Node& mesh);

}  // namespace sluice::plane
