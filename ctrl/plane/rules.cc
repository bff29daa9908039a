// What the rules of all kinds share, and the way to each. In the order of Istio's validation.go; types, ranges and enumerations are the
// schema's.
#include <arpa/inet.h>
#include <re2/re2.h>

#include <algorithm>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
bool valid_host(std::string_view h, bool wildcard) {
  if (wildcard && h == "*") return true;
  if (wildcard && h.starts_with("*.")) h.remove_prefix(2);
  if (h.empty() || h.size() > 255) return false;
  if (h.ends_with('.')) h.remove_suffix(1);
  for (size_t at = 0; at <= h.size();) {
    const size_t end = std::min(h.find('.', at), h.size());
    const std::string_view label = h.substr(at, end - at);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
    if (!std::ranges::all_of(label, [](char c) { return std::isalnum(uint8_t(c)) || c == '-'; })) return false;
    at = end + 1;
  }
  return true;
}
bool valid_label(std::string_view s) {
  return !s.empty() && s.size() <= 63 && std::isalnum(uint8_t(s.front())) && std::isalnum(uint8_t(s.back())) &&
         std::ranges::all_of(s, [](char c) { return std::isalnum(uint8_t(c)) || c == '-'; });
}
bool valid_ip(const std::string& s) {
  uint8_t out[16];
  return inet_pton(AF_INET, s.c_str(), out) == 1 || inet_pton(AF_INET6, s.c_str(), out) == 1;
}
bool valid_cidr(const std::string& s) {
  const size_t slash = s.find('/');
  const std::string address = s.substr(0, slash);
  if (!valid_ip(address)) return false;
  if (slash == std::string::npos) return true;
  const std::string bits = s.substr(slash + 1);
  return !bits.empty() && bits.size() <= 3 && std::ranges::all_of(bits, [](char c) { return c >= '0' && c <= '9'; }) &&
         std::stoi(bits) <= (address.find(':') == std::string::npos ? 32 : 128);
}

void check_regex(Checker& c, const Node& match, const std::string& what) {
  const Node& r = match["regex"];
  if (match["exact"].null() + match["prefix"].null() + r.null() < 2)
    c.refuse(match, what + ": only one of exact, prefix and regex can be set", "keep one");
  if (r.null() || r.str() == "*") return;
  const re2::RE2 compiled(r.str(), re2::RE2::Quiet);
  if (!compiled.ok())
    c.refuse(r, what + ": '" + r.str() + "' is no RE2 expression: " + compiled.error(), "see https://github.com/google/re2/wiki/Syntax");
}

void check_duration(Checker& c, const Node& d, const std::string& what, int64_t least_ns) {
  if (d && *parse_duration(d.str()) < least_ns) c.refuse(d, what + ": the duration must be at least 1ms", "for example 3s, 250ms, 1h30m");
}
void check_percent(Checker& c, const Node& p, const std::string& what) {
  const Node& v = p["value"];
  if (v && (v.number() < 0 || v.number() > 100 || (v.number() > 0 && v.number() < 0.0001)))
    c.refuse(v, what + ": the percentage must be 0, or from 0.0001 to 100", "for example {value: 10}");
}

void check_rules(const Config& config, std::vector<Issue>& issues) {
  Checker c{issues};
  if (config.kind == "Gateway") check_gateway(c, config);
  else if (config.kind == "VirtualService") check_virtual_service(c, config);
  else if (config.kind == "DestinationRule") check_destination_rule(c, config);
  else if (config.kind == "ServiceEntry") check_service_entry(c, config);
  else if (config.kind == "WorkloadEntry") check_workload_entry(c, config);
  else if (config.kind == "AuthorizationPolicy") check_authorization(c, config);
  else if (config.kind == "PeerAuthentication") check_peer_authentication(c, config);
  else if (config.kind == "RequestAuthentication") check_request_authentication(c, config);
  else if (config.kind == "EnvoyFilter") check_envoy_filter(c, config);
  else if (config.kind == "Sidecar") check_sidecar(c, config);
  else if (config.kind == "WorkloadGroup") check_workload_group(c, config);
  else if (config.kind == "ProxyConfig") check_proxy_config(c, config);
  else if (config.kind == "Telemetry") check_telemetry(c, config);
}

}  // namespace sluice::plane
