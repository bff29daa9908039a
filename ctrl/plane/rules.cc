// One function a kind, in the order of Istio's validation.go. Types, ranges and enumerations are the schema's; here is what it cannot say.
#include "ctrl/plane/rules.h"

#include <arpa/inet.h>
#include <re2/re2.h>

#include <algorithm>
#include <set>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

struct Checker {
  std::vector<Issue>& issues;
  void refuse(const Node& at, std::string message, std::string remedy = {}) {
    issues.push_back(issue_at(at, std::move(message), std::move(remedy)));
  }
  void warn(const Node& at, std::string message, std::string remedy = {}) {
    issues.push_back(issue_at(at, std::move(message), std::move(remedy), Severity::kWarning));
  }
};

// RFC 1123 labels; a leading "*" label where wildcards are allowed.
bool valid_host(std::string_view h, bool wildcard = true) {
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
    c.refuse(match, what + ": only one of exact, prefix and regex can be set");
  if (r.null() || r.str() == "*") return;
  const re2::RE2 compiled(r.str(), re2::RE2::Quiet);
  if (!compiled.ok())
    c.refuse(r, what + ": '" + r.str() + "' is no RE2 expression: " + compiled.error(), "see https://github.com/google/re2/wiki/Syntax");
}

void check_duration(Checker& c, const Node& d, const std::string& what, int64_t least_ns = 1'000'000) {
  if (d && *parse_duration(d.str()) < least_ns) c.refuse(d, what + ": the duration must be at least 1ms");
}
void check_percent(Checker& c, const Node& p, const std::string& what) {
  const Node& v = p["value"];
  if (v && (v.number() < 0 || v.number() > 100 || (v.number() > 0 && v.number() < 0.0001)))
    c.refuse(v, what + ": the percentage must be 0, or from 0.0001 to 100");
}

void check_gateway(Checker& c, const Config& g) {
  const Node& servers = g.spec()["servers"];
  if (servers.items.empty()) return c.refuse(g.at(), "a gateway must have at least one server");
  std::set<std::string> names;
  if (g.spec()["selector"].null()) c.warn(g.at(), "without a selector this Gateway is served by every gateway", "add spec.selector");
  for (const Node& s : servers.items) {
    const Node &port = s["port"], &tls = s["tls"];
    const std::string protocol = upper(port["protocol"].str());
    static const std::vector<std::string_view> kProtocols = {"HTTP", "HTTPS", "TLS", "TCP", "HTTP2", "GRPC", "GRPC-WEB"};
    if (std::ranges::find(kProtocols, protocol) == kProtocols.end()) {
      const std::string near = nearest(protocol, kProtocols);
      c.refuse(port["protocol"],
               "protocol '" + port["protocol"].str() + "' is not known" + (near.empty() ? "" : "; did you mean '" + near + "'?"),
               "HTTP, HTTPS, TLS, TCP, HTTP2, GRPC or GRPC-WEB; MONGO, REDIS, MYSQL and UDP are not translated");
    }
    if (port["name"].str().empty()) c.refuse(port, "the port has no name");
    else if (!names.insert(port["name"].str()).second)
      c.refuse(port["name"], "the port name '" + port["name"].str() + "' is there twice; names must be unique within a gateway");
    if (s["hosts"].items.empty()) c.refuse(s, "a server must have at least one host");
    for (const Node& h : s["hosts"].items) {
      const std::string& text = h.str();
      const size_t slash = text.find('/');
      const std::string ns = slash == std::string::npos ? "*" : text.substr(0, slash), name = text.substr(slash + 1);
      if (!valid_host(name)) c.refuse(h, "'" + text + "' is no host name", "for example shop.example.com, *.example.com, *, or ns/host");
      if (ns != "*" && ns != "." && !valid_label(ns)) c.refuse(h, "'" + ns + "' is no namespace");
    }
    if (s["bind"] && !valid_ip(s["bind"].str())) c.refuse(s["bind"], "'" + s["bind"].str() + "' is no IP address");
    const bool needs_tls = protocol == "HTTPS" || protocol == "TLS";
    if (needs_tls && tls.null())
      c.refuse(s, "a server of protocol " + protocol + " needs tls settings",
               "add tls: {mode: SIMPLE, serverCertificate: ..., privateKey: ...}");
    if (!needs_tls && tls && !(protocol == "HTTP" && tls.keys.size() == 1 && tls["httpsRedirect"]))
      c.refuse(tls, "a plain " + protocol + " server cannot have tls settings",
               "only httpsRedirect is possible; for TLS the protocol is HTTPS");
    if (!needs_tls || tls.null()) continue;
    if (tls["httpsRedirect"].boolean()) c.refuse(tls["httpsRedirect"], "httpsRedirect is for plain HTTP servers");
    const std::string mode = tls["mode"].str();
    const bool own = mode == "SIMPLE" || mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL";
    if (own && tls["serverCertificate"].null())
      c.refuse(tls, mode + " TLS requires a server certificate", "set serverCertificate to a PEM file");
    if (own && tls["privateKey"].null()) c.refuse(tls, mode + " TLS requires a private key", "set privateKey to a PEM file");
    if ((mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL") && tls["caCertificates"].null())
      c.refuse(tls, mode + " TLS requires a client CA bundle", "set caCertificates to a PEM file");
    if (mode == "ISTIO_MUTUAL" && (tls["serverCertificate"] || tls["privateKey"] || tls["caCertificates"]))
      c.refuse(tls, "ISTIO_MUTUAL uses the workload's identity and takes no files");
    if (mode.ends_with("PASSTHROUGH") && tls["serverCertificate"])
      c.refuse(tls["serverCertificate"], mode + " does not end the handshake and takes no certificate");
    if (tls["minProtocolVersion"] && tls["maxProtocolVersion"].str().starts_with("TLSV") &&
        tls["minProtocolVersion"].str() > tls["maxProtocolVersion"].str() && tls["minProtocolVersion"].str() != "TLS_AUTO")
      c.refuse(tls["minProtocolVersion"], "minProtocolVersion is above maxProtocolVersion");
    static constexpr std::string_view kCiphers[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                                    "ECDHE-RSA-AES128-GCM-SHA256",
                                                    "ECDHE-ECDSA-AES256-GCM-SHA384",
                                                    "ECDHE-RSA-AES256-GCM-SHA384",
                                                    "ECDHE-ECDSA-CHACHA20-POLY1305",
                                                    "ECDHE-RSA-CHACHA20-POLY1305",
                                                    "ECDHE-ECDSA-AES128-SHA",
                                                    "ECDHE-RSA-AES128-SHA",
                                                    "ECDHE-ECDSA-AES256-SHA",
                                                    "ECDHE-RSA-AES256-SHA",
                                                    "AES128-GCM-SHA256",
                                                    "AES256-GCM-SHA384",
                                                    "AES128-SHA",
                                                    "AES256-SHA",
                                                    "DES-CBC3-SHA"};
    for (const Node& suite : tls["cipherSuites"].items)
      if (std::ranges::find(kCiphers, suite.str()) == std::end(kCiphers))
        c.refuse(suite, "'" + suite.str() + "' is no cipher suite that Istio knows");
  }
}

void check_destination(Checker& c, const Node& d) {
  if (!valid_host(d["host"].str())) c.refuse(d["host"], "'" + d["host"].str() + "' is no host name");
  if (d["subset"] && !valid_label(d["subset"].str())) c.refuse(d["subset"], "'" + d["subset"].str() + "' is no subset name");
}

void check_weights(Checker& c, const Node& routes) {
  int64_t sum = 0;
  for (const Node& r : routes.items) {
    check_destination(c, r["destination"]);
    if (r["weight"].integer() < 0) c.refuse(r["weight"], "the weight must not be negative");
    sum += r["weight"].integer();
  }
  if (routes.items.size() > 1 && sum == 0)
    c.refuse(routes, "the total weight is 0", "give the destinations weights, for example 90 and 10");
}

void check_headers(Checker& c, const Node& headers) {
  const Node* authority = nullptr;
  for (const char* side : {"request", "response"})
    for (const char* op : {"set", "add"}) {
      const Node& map = headers[side][op];
      for (const Node& k : map.keys) {
        const std::string name = upper(k.text);
        if (name.empty()) c.refuse(k, "a header name cannot be empty");
        else if (!std::ranges::all_of(k.text, [](char ch) {
                   return std::isalnum(uint8_t(ch)) || std::string_view("!#$%&'*+-.^_`|~:").find(ch) != std::string_view::npos;
                 }))
          c.refuse(k, "'" + k.text + "' is no header name");
        if ((name == "HOST" || name == ":AUTHORITY") && side == std::string_view("request")) {
          if (op == std::string_view("add")) c.refuse(k, "the authority cannot be added to; use set");
          if (authority != nullptr) c.refuse(k, "the authority is set twice");
          authority = &k;
        }
      }
    }
}

void check_match(Checker& c, const Node& m) {
  for (const char* f : {"uri", "scheme", "method", "authority"})
    if (m[f]) check_regex(c, m[f], f);
  for (const char* f : {"headers", "withoutHeaders", "queryParams"})
    for (size_t i = 0; i < m[f].keys.size(); i++) {
      if (m[f].keys[i].text.empty()) c.refuse(m[f].keys[i], std::string(f) + ": the name cannot be empty");
      check_regex(c, m[f].items[i], m[f].keys[i].text);
    }
}

void check_retries(Checker& c, const Node& r) {
  if (r["attempts"].integer() < 0) c.refuse(r["attempts"], "attempts cannot be negative");
  check_duration(c, r["perTryTimeout"], "perTryTimeout", 0);
  static const std::vector<std::string_view> kPolicies = {"5xx",
                                                          "gateway-error",
                                                          "reset",
                                                          "reset-before-request",
                                                          "connect-failure",
                                                          "envoy-ratelimited",
                                                          "retriable-4xx",
                                                          "refused-stream",
                                                          "retriable-status-codes",
                                                          "retriable-headers",
                                                          "http3-post-connect-failure",
                                                          "cancelled",
                                                          "deadline-exceeded",
                                                          "internal",
                                                          "resource-exhausted",
                                                          "unavailable"};
  const std::string on = r["retryOn"].str() + ",";
  for (size_t at = 0; r["retryOn"] && at < on.size();) {
    const size_t end = on.find(',', at);
    std::string word = on.substr(at, end - at);
    at = end + 1;
    const bool status =
        word.size() == 3 && word[0] >= '1' && word[0] <= '5' && std::ranges::all_of(word, [](char ch) { return ch >= '0' && ch <= '9'; });
    if (word.empty() || status || std::ranges::find(kPolicies, word) != kPolicies.end()) continue;
    const std::string near = nearest(word, kPolicies);
    c.refuse(r["retryOn"], "'" + word + "' is not a valid retryOn policy" + (near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
}

void check_http_route(Checker& c, const Node& r, bool delegate) {
  const int actions = !r["route"].items.empty() + !r["redirect"].null() + !r["directResponse"].null() + !r["delegate"].null();
  if (actions == 0) c.refuse(r, "a route needs one of route, redirect, directResponse and delegate");
  if (actions > 1) c.refuse(r, "a route cannot have more than one of route, redirect, directResponse and delegate");
  if (delegate && r["delegate"]) c.refuse(r["delegate"], "a delegate cannot delegate again");
  if (r["delegate"])
    for (const Node& m : r["match"].items)
      if (m["uri"]["regex"]) c.refuse(m["uri"]["regex"], "a route that delegates cannot match by regex");
  for (const Node& m : r["match"].items) check_match(c, m);
  check_weights(c, r["route"]);
  for (const Node& d : r["route"].items) check_headers(c, d["headers"]);
  check_headers(c, r["headers"]);
  if (r["rewrite"]["authority"])
    for (const Node& k : r["headers"]["request"]["set"].keys)
      if (upper(k.text) == "HOST" || k.text == ":authority") c.refuse(k, "the authority is set twice: rewrite.authority sets it as well");
  check_duration(c, r["timeout"], "timeout", r["timeout"].str() == "0s" || r["timeout"].str() == "0" ? 0 : 1'000'000);
  if (r["retries"]) check_retries(c, r["retries"]);
  if (const Node& d = r["redirect"]) {
    const Node& code = d["redirectCode"];
    if (code && (code.integer() < 300 || code.integer() > 399)) c.refuse(code, "the redirect code must be 3xx");
    else if (code && code.integer() != 301 && code.integer() != 302 && code.integer() != 303 && code.integer() != 307 &&
             code.integer() != 308)
      c.refuse(code, "Envoy redirects with 301, 302, 303, 307 or 308 only");
    if (d["uri"].null() && d["authority"].null() && d["scheme"].null() && d["port"].null() && d["derivePort"].null())
      c.refuse(d, "the redirect changes nothing");
  }
  if (const Node& s = r["directResponse"]["status"]; s && (s.integer() < 200 || s.integer() > 599))
    c.refuse(s, "the HTTP status must be in the range 200..599");
  if (const Node& f = r["fault"]) {
    check_percent(c, f["delay"]["percentage"], "fault.delay");
    check_percent(c, f["abort"]["percentage"], "fault.abort");
    if (f["delay"] && f["delay"]["fixedDelay"].null()) c.refuse(f["delay"], "fault.delay needs fixedDelay");
    check_duration(c, f["delay"]["fixedDelay"], "fixedDelay");
    const Node &http = f["abort"]["httpStatus"], &grpc = f["abort"]["grpcStatus"];
    if (f["abort"] && http.null() == grpc.null()) c.refuse(f["abort"], "fault.abort needs one of httpStatus and grpcStatus");
    if (http && (http.integer() < 200 || http.integer() > 599)) c.refuse(http, "the HTTP status must be in the range 200..599");
  }
  check_percent(c, r["mirrorPercentage"], "mirrorPercentage");
  for (const Node& m : r["mirrors"].items) check_percent(c, m["percentage"], "mirrors.percentage"), check_destination(c, m["destination"]);
  if (r["mirror"]) check_destination(c, r["mirror"]);
  for (const Node& o : r["corsPolicy"]["allowOrigins"].items) check_regex(c, o, "corsPolicy.allowOrigins");
  if (const Node& w = r["rewrite"]; w["uri"] && w["uriRegexRewrite"]) c.refuse(w, "a rewrite has one of uri and uriRegexRewrite");
  if (const Node& x = r["rewrite"]["uriRegexRewrite"]["match"]) {
    const re2::RE2 compiled(x.str(), re2::RE2::Quiet);
    if (!compiled.ok()) c.refuse(x, "'" + x.str() + "' is no RE2 expression: " + compiled.error());
  }
}

void check_virtual_service(Checker& c, const Config& v) {
  const Node &s = v.spec(), &hosts = s["hosts"];
  const bool delegate = hosts.items.empty();
  if (delegate && !s["gateways"].items.empty())
    return c.refuse(s["gateways"], "a virtual service without hosts is a delegate and must not name gateways", "add spec.hosts");
  if (s["http"].items.empty() && s["tls"].items.empty() && s["tcp"].items.empty()) c.refuse(v.at(), "http, tls or tcp must be there");
  if (delegate && (!s["tls"].items.empty() || !s["tcp"].items.empty())) c.refuse(v.at(), "a delegate has http routes only");
  for (size_t i = 0; i < hosts.items.size(); i++) {
    const Node& h = hosts.items[i];
    if (!valid_host(h.str()) && !valid_ip(h.str())) c.refuse(h, "'" + h.str() + "' is no host name");
    for (size_t j = 0; j < i; j++) {
      const std::string& other = hosts.items[j].str();
      if (other == h.str()) c.refuse(h, "the host " + h.str() + " is there twice");
      else if (host_within(h.str(), other) || host_within(other, h.str()))
        c.refuse(h, "hosts overlap: " + other + " and " + h.str(), "keep the wider one");
    }
  }
  bool all_taken = false;
  for (const Node& r : s["http"].items) {
    if (all_taken) c.warn(r, "this route cannot be reached: one before it takes every request");
    check_http_route(c, r, delegate);
    all_taken |= r["match"].items.empty() && !delegate;
  }
  for (const Node& r : s["tls"].items) {
    if (r["match"].items.empty()) c.refuse(r, "a TLS route must have at least one match");
    for (const Node& m : r["match"].items) {
      if (m["sniHosts"].items.empty()) c.refuse(m, "a TLS match must have at least one SNI host");
      for (const Node& n : m["sniHosts"].items)
        if (std::ranges::none_of(hosts.items, [&](const Node& h) { return host_within(n.str(), h.str()); }))
          c.refuse(n, "the SNI host '" + n.str() + "' is none of the virtual service's hosts", "add it to spec.hosts");
      for (const Node& n : m["destinationSubnets"].items)
        if (!valid_cidr(n.str())) c.refuse(n, n.str() + " is not a valid CIDR block");
    }
    check_weights(c, r["route"]);
  }
  for (const Node& r : s["tcp"].items) {
    for (const Node& m : r["match"].items)
      for (const Node& n : m["destinationSubnets"].items)
        if (!valid_cidr(n.str())) c.refuse(n, n.str() + " is not a valid CIDR block");
    check_weights(c, r["route"]);
  }
}

void check_policy(Checker& c, const Node& p) {
  for (const auto& [part, fields] : {std::pair<const char*, std::vector<const char*>>("tcp", {"maxConnections"}),
                                     {"http", {"http1MaxPendingRequests", "http2MaxRequests", "maxRetries"}}})
    for (const char* f : fields)
      if (const Node& n = p["connectionPool"][part][f]; n.integer() < 0) c.refuse(n, std::string(f) + " must not be negative");
  check_duration(c, p["connectionPool"]["tcp"]["connectTimeout"], "connectTimeout");
  const Node& lb = p["loadBalancer"];
  if (lb["simple"].str() == "PASSTHROUGH") c.refuse(lb["simple"], "PASSTHROUGH is not translated: a gateway has no original destination");
  if (lb["simple"] && lb["consistentHash"]) c.refuse(lb["consistentHash"], "a load balancer is simple or consistentHash, not both");
  if (const Node& h = lb["consistentHash"]) {
    if (h["httpHeaderName"].null() + h["httpCookie"].null() + h["useSourceIp"].null() + h["httpQueryParameterName"].null() != 3)
      c.refuse(h, "consistentHash needs one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName");
    if (h["maglev"] && (h["ringHash"] || h["minimumRingSize"])) c.refuse(h, "one of maglev and ringHash");
    if (const Node& size = h["maglev"]["tableSize"]; size) {
      bool prime = size.integer() > 1;
      for (int64_t d = 2; d * d <= size.integer() && prime; d++) prime = size.integer() % d != 0;
      if (!prime) c.refuse(size, "tableSize must be a prime number for maglev", "for example 65537");
    }
  }
  const Node& locality = lb["localityLbSetting"];
  for (const Node& d : locality["distribute"].items) {
    int64_t sum = 0;
    for (const Node& w : d["to"].items) sum += w.integer();
    if (sum != 100) c.refuse(d["to"], "the locality weights sum to " + std::to_string(sum) + ", not 100");
  }
  for (const Node& f : locality["failover"].items) {
    if (f["from"].str() == f["to"].str()) c.refuse(f, "failover must name two different regions");
    for (const char* side : {"from", "to"})
      if (f[side].str().find_first_of("/*") != std::string::npos) c.refuse(f[side], "failover names regions only");
  }
  if (locality["distribute"] && locality["failover"]) c.refuse(locality, "one of distribute and failover");
  const Node& o = p["outlierDetection"];
  for (const char* f : {"maxEjectionPercent", "minHealthPercent"})
    if (o[f].integer() < 0 || o[f].integer() > 100) c.refuse(o[f], std::string(f) + " must be in the range 0..100");
  for (const char* f : {"interval", "baseEjectionTime"}) check_duration(c, o[f], f);
}

void check_destination_rule(Checker& c, const Config& d) {
  const Node& s = d.spec();
  if (s["host"].str().empty()) c.refuse(d.at(), "spec.host is missing");
  else if (!valid_host(s["host"].str())) c.refuse(s["host"], "'" + s["host"].str() + "' is no host name");
  check_policy(c, s["trafficPolicy"]);
  std::set<std::string> names;
  for (const Node& n : s["subsets"].items) {
    if (!valid_label(n["name"].str())) c.refuse(n["name"], "'" + n["name"].str() + "' is no subset name");
    if (!names.insert(n["name"].str()).second) c.refuse(n["name"], "the subset '" + n["name"].str() + "' is there twice");
    check_policy(c, n["trafficPolicy"]);
  }
}

void check_endpoint(Checker& c, const Node& e, const Node& at, bool ip_only) {
  const std::string& a = e["address"].str();
  if (a.empty()) c.refuse(e.null() ? at : e, "the endpoint has no address");
  else if (ip_only && !valid_ip(a)) c.refuse(e["address"], "the endpoint address '" + a + "' is not a valid IP address");
}

void check_service_entry(Checker& c, const Config& e) {
  const Node& s = e.spec();
  if (s["hosts"].items.empty()) c.refuse(e.at(), "a service entry must have at least one host");
  const std::string resolution = s["resolution"].null() ? "NONE" : s["resolution"].str();
  if (resolution == "NONE" && !s["endpoints"].items.empty())
    c.refuse(s["endpoints"], "no endpoints can be given for resolution NONE", "set resolution: STATIC");
  if (s["ports"].items.empty()) c.refuse(e.at(), "the service entry has no ports and so cannot be reached", "add spec.ports");
  for (const Node& h : s["hosts"].items) {
    if (!valid_host(h.str()) || h.str() == "*") c.refuse(h, "'" + h.str() + "' is no host name");
    if (resolution.ends_with("DNS") && h.str().starts_with('*') && s["endpoints"].items.empty())
      c.refuse(h, "hosts must be full names for resolution DNS without endpoints");
  }
  if (resolution == "DYNAMIC_DNS") c.refuse(s["resolution"], "resolution DYNAMIC_DNS is not translated", "use DNS with full host names");
  for (const Node& a : s["addresses"].items)
    if (!valid_cidr(a.str())) c.refuse(a, a.str() + " is not a valid CIDR block");
  std::set<std::string> names, numbers;
  for (const Node& p : s["ports"].items) {
    if (!names.insert(p["name"].str()).second) c.refuse(p["name"], "the port name '" + p["name"].str() + "' is there twice");
    if (!numbers.insert(p["number"].str()).second) c.refuse(p["number"], "port " + p["number"].str() + " is already defined");
    static const std::vector<std::string_view> kProtocols = {"HTTP", "HTTPS", "TLS", "TCP", "HTTP2", "GRPC", ""};
    if (const std::string protocol = upper(p["protocol"].str()); std::ranges::find(kProtocols, protocol) == kProtocols.end())
      c.refuse(p["protocol"], "protocol '" + p["protocol"].str() + "' is not known, or not translated",
               "HTTP, HTTPS, TLS, TCP, HTTP2 or GRPC");
  }
  if (s["workloadSelector"] && !s["endpoints"].items.empty())
    c.refuse(s["workloadSelector"], "only one of workloadSelector and endpoints is allowed");
  for (const Node& x : s["endpoints"].items) {
    check_endpoint(c, x, s["endpoints"], resolution == "STATIC");
    for (const Node& k : x["ports"].keys)
      if (!names.contains(k.text)) c.refuse(k, "the endpoint port '" + k.text + "' is not defined by the service entry");
  }
}

constexpr std::string_view kWhenKeys[] = {
    "source.ip",      "remote.ip",        "source.namespace", "source.principal",       "source.serviceAccount",  "destination.ip",
    "destination.port", "connection.sni", "request.auth.principal", "request.auth.audiences", "request.auth.presenter"};

void check_values(Checker& c, const Node& list, const std::string& field) {
  const bool ip = field.ends_with("pBlocks") || field.ends_with(".ip"), port = field.ends_with("orts") || field == "destination.port";
  for (const Node& v : list.items) {
    const std::string& s = v.str();
    if (s.empty()) c.refuse(v, "an empty value is not allowed in " + field);
    else if (ip && !valid_cidr(s)) c.refuse(v, s + " is no IP address and no CIDR block");
    else if (port && (s.size() > 5 || !std::ranges::all_of(s, [](char ch) { return ch >= '0' && ch <= '9'; }) || std::stoi(s) > 65535 ||
                      std::stoi(s) < 1))
      c.refuse(v, "bad port " + s, "a number in the range 1..65535");
    else if (field.ends_with("aths") && s.find_first_of("{}") != std::string::npos) {
      // A template: whole segments {*} or {**}, nothing else with braces or stars.
      bool ok = s.starts_with('/');
      size_t deep = 0;
      for (size_t at = 0; at < s.size() && ok;) {
        const size_t end = std::min(s.find('/', at), s.size());
        const std::string segment = s.substr(at, end - at);
        if (segment == "{**}") ok = ++deep == 1;
        else if (segment == "{*}") ok = deep == 0 || end == s.size() || ok;
        else ok = segment.find_first_of("{}*") == std::string::npos;
        at = end + 1;
      }
      if (!ok) c.refuse(v, "'" + s + "' is no path template", "a template begins with / and has {*} or one {**} as whole segments");
    }
  }
}

void check_authorization(Checker& c, const Config& a) {
  const Node& s = a.spec();
  const std::string action = s["action"].str();
  if (action == "CUSTOM" && s["provider"]["name"].str().empty()) c.refuse(s["action"], "`provider.name` must not be empty");
  if (action != "CUSTOM" && s["provider"]) c.refuse(s["provider"], "a provider is for action CUSTOM");
  for (const Node& k : s["selector"]["matchLabels"].keys) {
    if (k.text.empty()) c.refuse(k, "an empty key is not supported in a selector");
    if (k.text.find('*') != std::string::npos) c.refuse(k, "a wildcard is not supported in a selector");
  }
  for (const Node& v : s["selector"]["matchLabels"].items)
    if (v.str().find('*') != std::string::npos) c.refuse(v, "a wildcard is not supported in a selector");
  if ((action == "DENY" || action == "AUDIT") && s["rules"].items.empty())
    c.refuse(s["action"], action + " without rules is meaningless: it will never be triggered",
             "add an empty rule {} to trigger it for every request");
  for (const Node& r : s["rules"].items) {
    for (const char* part : {"from", "to", "when"})
      if (r.has(part) && r[part].items.empty())
        c.refuse(*r.key_of(part), std::string(part) + " is empty", "remove it or give it an element");
    for (const Node& f : r["from"].items) {
      const Node& src = f["source"];
      if (src.keys.empty()) c.refuse(f, "`from.source` must not be empty");
      for (size_t i = 0; i < src.keys.size(); i++) check_values(c, src.items[i], src.keys[i].text);
      if ((src["serviceAccounts"] || src["notServiceAccounts"]) &&
          (src["namespaces"] || src["notNamespaces"] || src["principals"] || src["notPrincipals"]))
        c.refuse(src, "cannot set serviceAccounts with namespaces or principals");
    }
    for (const Node& t : r["to"].items) {
      const Node& op = t["operation"];
      if (op.keys.empty()) c.refuse(t, "`to.operation` must not be empty");
      for (size_t i = 0; i < op.keys.size(); i++) check_values(c, op.items[i], op.keys[i].text);
    }
    for (const Node& w : r["when"].items) {
      const std::string& key = w["key"].str();
      const auto bracketed = [&](std::string_view head) {
        return key.starts_with(head) && key.ends_with("]") && key.size() > head.size() + 1;
      };
      const bool header = bracketed("request.headers[") || bracketed("request.auth.claims[") ||
                          (key.starts_with("experimental.envoy.filters.") && key.ends_with("]") && key.find('[') != std::string::npos);
      if (!header && std::ranges::find(kWhenKeys, key) == std::end(kWhenKeys)) {
        const std::string near = nearest(key, {std::begin(kWhenKeys), std::end(kWhenKeys)});
        c.refuse(w["key"],
                 "the attribute " + key + " is not known, or not translated yet" + (near.empty() ? "" : "; did you mean '" + near + "'?"),
                 "request.headers[NAME], request.auth.claims[NAME], request.auth.principal, request.auth.audiences, request.auth.presenter, "
                 "source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, destination.port or "
                 "connection.sni");
      }
      if (w["values"].items.empty() && w["notValues"].items.empty()) c.refuse(w, "at least one of values and notValues must be set");
      for (const char* f : {"values", "notValues"}) check_values(c, w[f], key);
    }
  }
}

}  // namespace

void check_rules(const Config& config, std::vector<Issue>& issues) {
  Checker c{issues};
  if (config.kind == "Gateway") check_gateway(c, config);
  else if (config.kind == "VirtualService") check_virtual_service(c, config);
  else if (config.kind == "DestinationRule") check_destination_rule(c, config);
  else if (config.kind == "ServiceEntry") check_service_entry(c, config);
  else if (config.kind == "WorkloadEntry") check_endpoint(c, config.spec(), config.at(), true);
  else if (config.kind == "AuthorizationPolicy") check_authorization(c, config);
}

}  // namespace sluice::plane
