#include <re2/re2.h>

#include <algorithm>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
namespace {

void check_destination(Checker& c, const Node& d) {
  if (!valid_host(d["host"].str()))
    c.refuse(d["host"], "'" + d["host"].str() + "' is no host name", "for example web.shop.svc.cluster.local");
  if (d["subset"] && !valid_label(d["subset"].str()))
    c.refuse(d["subset"], "'" + d["subset"].str() + "' is no subset name", "letters, digits and '-' within, for example v1");
}

void check_weights(Checker& c, const Node& routes) {
  int64_t sum = 0;
  for (const Node& r : routes.items) {
    check_destination(c, r["destination"]);
    if (r["weight"].integer() < 0) c.refuse(r["weight"], "the weight must not be negative", "0 takes no traffic");
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
        if (name.empty()) c.refuse(k, "a header name cannot be empty", "write name: value");
        else if (!std::ranges::all_of(k.text, [](char ch) {
                   return std::isalnum(uint8_t(ch)) || std::string_view("!#$%&'*+-.^_`|~:").find(ch) != std::string_view::npos;
                 }))
          c.refuse(k, "'" + k.text + "' is no header name", "letters, digits and '-', without spaces (RFC 9110 5.6.2)");
        if ((name == "HOST" || name == ":AUTHORITY") && side == std::string_view("request")) {
          if (op == std::string_view("add")) c.refuse(k, "the authority cannot be added to; use set", "move it to request.set");
          if (authority != nullptr) c.refuse(k, "the authority is set twice", "remove one of the two");
          authority = &k;
        }
      }
    }
}

void check_match(Checker& c, const Node& m) {
  for (const char* f : {"uri", "scheme", "method", "authority"})
    if (m[f]) check_regex(c, m[f], f);
  if (m["uri"]["prefix"] && m["uri"]["prefix"].str().empty())
    c.warn(m["uri"]["prefix"], "an empty prefix takes every path", "write prefix: / where that is meant");
  const auto cased = [](const std::string& s, int (*other)(int)) {
    return std::ranges::any_of(s, [&](char ch) { return other(uint8_t(ch)) != 0; });
  };
  for (const char* op : {"exact", "prefix"}) {
    if (const Node& v = m["method"][op]; cased(v.str(), std::islower))
      c.warn(v, "methods are compared with their case: '" + v.str() + "' is not '" + upper(v.str()) + "'", "write " + upper(v.str()));
    if (const Node& v = m["scheme"][op]; cased(v.str(), std::isupper))
      c.warn(v, "a scheme is in lower case: '" + v.str() + "' never matches", "write http or https");
  }
  for (const char* f : {"headers", "withoutHeaders", "queryParams"})
    for (size_t i = 0; i < m[f].keys.size(); i++) {
      if (m[f].keys[i].text.empty()) c.refuse(m[f].keys[i], std::string(f) + ": the name cannot be empty", "write name: {exact: value}");
      check_regex(c, m[f].items[i], m[f].keys[i].text);
    }
}

void check_retries(Checker& c, const Node& r) {
  if (r["attempts"].integer() < 0) c.refuse(r["attempts"], "attempts cannot be negative", "0 turns retries off");
  if (r["attempts"].integer() == 0)
    for (const char* f : {"perTryTimeout", "retryOn", "retryRemoteLocalities"})
      if (r[f]) c.refuse(*r.key_of(f), std::string(f) + " is set, but retries are off without attempts", "set attempts, for example 2");
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
    c.refuse(r["retryOn"], "'" + word + "' is not a valid retryOn policy" + (near.empty() ? "" : "; did you mean '" + near + "'?"),
             "for example 5xx, gateway-error, connect-failure, retriable-4xx, or a status");
  }
}

void check_http_route(Checker& c, const Node& r, bool delegate) {
  const int actions = !r["route"].items.empty() + !r["redirect"].null() + !r["directResponse"].null() + !r["delegate"].null();
  if (actions == 0)
    c.refuse(r, "a route needs one of route, redirect, directResponse and delegate", "add route: [{destination: {host: ...}}]");
  if (actions > 1)
    c.refuse(r, "a route cannot have more than one of route, redirect, directResponse and delegate", "keep one, or make two routes");
  if (delegate && r["delegate"]) c.refuse(r["delegate"], "a delegate cannot delegate again", "let the root delegate to both");
  if (r["delegate"])
    for (const Node& m : r["match"].items)
      if (m["uri"]["regex"])
        c.refuse(m["uri"]["regex"], "a route that delegates cannot match by regex", "use prefix or exact, and the regex in the delegate");
  for (const Node& m : r["match"].items) check_match(c, m);
  check_weights(c, r["route"]);
  for (const Node& d : r["route"].items) check_headers(c, d["headers"]);
  check_headers(c, r["headers"]);
  if (r["rewrite"]["authority"])
    for (const Node& k : r["headers"]["request"]["set"].keys)
      if (upper(k.text) == "HOST" || k.text == ":authority")
        c.refuse(k, "the authority is set twice: rewrite.authority sets it as well", "remove one of the two");
  check_duration(c, r["timeout"], "timeout", r["timeout"].str() == "0s" || r["timeout"].str() == "0" ? 0 : 1'000'000);
  if (r["retries"]) check_retries(c, r["retries"]);
  if (const Node& d = r["redirect"]) {
    const Node& code = d["redirectCode"];
    if (code && (code.integer() < 300 || code.integer() > 399))
      c.refuse(code, "the redirect code must be 3xx", "301, 302, 303, 307 or 308");
    else if (code && code.integer() != 301 && code.integer() != 302 && code.integer() != 303 && code.integer() != 307 &&
             code.integer() != 308)
      c.refuse(code, "Envoy redirects with 301, 302, 303, 307 or 308 only", "307 keeps the method, 301 is for good");
    if (d["uri"].null() && d["authority"].null() && d["scheme"].null() && d["port"].null() && d["derivePort"].null())
      c.refuse(d, "the redirect changes nothing", "add uri, authority, scheme or port");
  }
  if (const Node& s = r["directResponse"]["status"]; s && (s.integer() < 200 || s.integer() > 599))
    c.refuse(s, "the HTTP status must be in the range 200..599", "for example 503");
  if (const Node& f = r["fault"]) {
    check_percent(c, f["delay"]["percentage"], "fault.delay");
    check_percent(c, f["abort"]["percentage"], "fault.abort");
    if (f["delay"] && f["delay"]["fixedDelay"].null()) c.refuse(f["delay"], "fault.delay needs fixedDelay", "add fixedDelay: 1s");
    check_duration(c, f["delay"]["fixedDelay"], "fixedDelay");
    const Node &http = f["abort"]["httpStatus"], &grpc = f["abort"]["grpcStatus"];
    if (f["abort"] && http.null() == grpc.null())
      c.refuse(f["abort"], "fault.abort needs one of httpStatus and grpcStatus", "add httpStatus: 503");
    if (http && (http.integer() < 200 || http.integer() > 599))
      c.refuse(http, "the HTTP status must be in the range 200..599", "for example 503");
  }
  check_percent(c, r["mirrorPercentage"], "mirrorPercentage");
  for (const Node& m : r["mirrors"].items) check_percent(c, m["percentage"], "mirrors.percentage"), check_destination(c, m["destination"]);
  if (r["mirror"]) check_destination(c, r["mirror"]);
  for (const Node& o : r["corsPolicy"]["allowOrigins"].items) check_regex(c, o, "corsPolicy.allowOrigins");
  if (const Node& w = r["rewrite"]; w["uri"] && w["uriRegexRewrite"])
    c.refuse(w, "a rewrite has one of uri and uriRegexRewrite", "remove one of the two");
  if (const Node& x = r["rewrite"]["uriRegexRewrite"]["match"]) {
    const re2::RE2 compiled(x.str(), re2::RE2::Quiet);
    if (!compiled.ok())
      c.refuse(x, "'" + x.str() + "' is no RE2 expression: " + compiled.error(), "see https://github.com/google/re2/wiki/Syntax");
  }
}

}  // namespace

void check_virtual_service(Checker& c, const Config& v) {
  const Node &s = v.spec(), &hosts = s["hosts"];
  const bool delegate = hosts.items.empty();
  if (delegate && !s["gateways"].items.empty())
    return c.refuse(s["gateways"], "a virtual service without hosts is a delegate and must not name gateways", "add spec.hosts");
  if (s["http"].items.empty() && s["tls"].items.empty() && s["tcp"].items.empty())
    c.refuse(v.at(), "http, tls or tcp must be there", "add spec.http");
  if (delegate && (!s["tls"].items.empty() || !s["tcp"].items.empty()))
    c.refuse(v.at(), "a delegate has http routes only", "add spec.hosts, or remove tls and tcp");
  for (size_t i = 0; i < hosts.items.size(); i++) {
    const Node& h = hosts.items[i];
    if (!valid_host(h.str()) && !valid_ip(h.str()))
      c.refuse(h, "'" + h.str() + "' is no host name", "for example shop.example.com or *.example.com");
    for (size_t j = 0; j < i; j++) {
      const std::string& other = hosts.items[j].str();
      if (other != h.str() && upper(other) == upper(h.str()))
        c.warn(h, "the host " + h.str() + " is there twice: names have no case", "remove one of the two");
      if (other == h.str()) c.refuse(h, "the host " + h.str() + " is there twice", "remove one of the two");
      else if (host_within(h.str(), other) || host_within(other, h.str()))
        c.refuse(h, "hosts overlap: " + other + " and " + h.str(), "keep the wider one");
    }
  }
  for (const Node& r : s["http"].items) check_http_route(c, r, delegate);  // whether it can be reached: reach.cc
  for (const Node& r : s["tls"].items) {
    if (r["match"].items.empty()) c.refuse(r, "a TLS route must have at least one match", "add match: [{sniHosts: [shop.example.com]}]");
    for (const Node& m : r["match"].items) {
      if (m["sniHosts"].items.empty()) c.refuse(m, "a TLS match must have at least one SNI host", "add sniHosts");
      for (const Node& n : m["sniHosts"].items)
        if (std::ranges::none_of(hosts.items, [&](const Node& h) { return host_within(n.str(), h.str()); }))
          c.refuse(n, "the SNI host '" + n.str() + "' is none of the virtual service's hosts", "add it to spec.hosts");
      for (const Node& n : m["destinationSubnets"].items)
        if (!valid_cidr(n.str())) c.refuse(n, n.str() + " is not a valid CIDR block", "for example 10.0.0.0/8");
    }
    check_weights(c, r["route"]);
  }
  for (const Node& r : s["tcp"].items) {
    for (const Node& m : r["match"].items)
      for (const Node& n : m["destinationSubnets"].items)
        if (!valid_cidr(n.str())) c.refuse(n, n.str() + " is not a valid CIDR block", "for example 10.0.0.0/8");
    check_weights(c, r["route"]);
  }
}

}  // namespace sluice::plane
