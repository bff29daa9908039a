// The routes of one VirtualService: actions, headers, retries, mirrors, faults, CORS.
#include "ctrl/plane/routes.h"

#include <re2/re2.h>

#include <algorithm>

#include "ctrl/plane/gateway_api.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kPreviousPriorities =
    R"({"name":"envoy.retry_priorities.previous_priorities","typedConfig":{
"@type":"type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig","updateFrequency":2}})";
constexpr std::string_view kRetryOn = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

bool match_applies(const Node& m, const Virtual& x, const Server& s, const NodeInfo& node) {
  if (m["port"] && m["port"].integer() != s.service_port) return false;
  if (!m["gateways"].items.empty())
    return std::ranges::any_of(m["gateways"].list(),
                               [&](const std::string& g) { return full_gateway(g, x.config->ns) == s.gateway_name(); });
  return labels_within(m["sourceLabels"], node.labels) && (m["sourceNamespace"].null() || m["sourceNamespace"].str() == node.ns);
}

bool names_authority(const std::string& header) { return upper(header) == ":AUTHORITY" || upper(header) == "HOST"; }
// Istio leaves them out of every list.
bool not_settable(const std::string& header) { return header.starts_with(':') || upper(header) == "HOST"; }

// Header operations of a route and of its only destination, in this order; set before add, each by name. An authority that is set becomes
// the action's host rewrite.
struct HeaderOperations {
  Array add[2];
  Array remove[2];
  std::string authority;

  void take(const Node& headers) {
    std::string wanted;
    for (const int side : {0, 1}) {
      const Node& ops = headers[side == 0 ? "request" : "response"];
      for (const bool set : {true, false})
        for (const auto& [name, value] : sorted(ops[set ? "set" : "add"])) {
          if (side == 0 && names_authority(name) && wanted.empty()) wanted = value->str();
          if (not_settable(name)) continue;
          Object o{{"header", Object{{"key", name}, {"value", value->str()}}}};
          add[side].add(o.set_if(set, "appendAction", "OVERWRITE_IF_EXISTS_OR_ADD"));
        }
      for (const std::string& name : ops["remove"].list())
        if (!not_settable(name)) remove[side].add(name);
    }
    if (authority.empty()) authority = wanted;
  }
  void put(Object& out) const {
    out.set_if(!add[0].empty(), "requestHeadersToAdd", add[0]).set_if(!remove[0].empty(), "requestHeadersToRemove", remove[0]);
    out.set_if(!add[1].empty(), "responseHeadersToAdd", add[1]).set_if(!remove[1].empty(), "responseHeadersToRemove", remove[1]);
  }
};

// The consistent hash of a destination: the subset's port, the subset, the rule's port, the rule.
const Node& consistent_hash(const View& v, const Node& destination, const std::string& ns) {
  const Service* s = v.service(full_host(destination["host"].str(), ns));
  const Config* rule = s == nullptr ? nullptr : v.destination_rule(*s);
  if (rule == nullptr) return null_node();
  const auto of_port = [&](const Node& policy) -> const Node& {
    if (destination["port"])
      for (const Node& p : policy["portLevelSettings"].items)
        if (p["port"]["number"].integer() == destination["port"]["number"].integer()) return p["loadBalancer"]["consistentHash"];
    return null_node();
  };
  const Node& policy = rule->spec()["trafficPolicy"];
  for (const Node& subset : rule->spec()["subsets"].items) {
    if (subset["name"].str() != destination["subset"].str()) continue;
    if (const Node& h = of_port(subset["trafficPolicy"])) return h;
    if (const Node& h = subset["trafficPolicy"]["loadBalancer"]["consistentHash"]) return h;
    break;
  }
  if (const Node& h = of_port(policy)) return h;
  return policy["loadBalancer"]["consistentHash"];
}

void add_hash_policy(const Node& h, Array& out) {
  if (h["httpHeaderName"]) out.add(Object{{"header", Object{{"headerName", h["httpHeaderName"].str()}}}});
  if (const Node& c = h["httpCookie"]) {
    Object cookie{{"name", c["name"].str()}};
    if (c["ttl"]) cookie.set("ttl", duration_json(*parse_duration(c["ttl"].str())));
    cookie.set_if(!c["path"].str().empty(), "path", c["path"].str());
    out.add(Object{{"cookie", cookie}});
  }
  if (h["useSourceIp"]) {
    Object properties;
    out.add(Object{{"connectionProperties", properties.set_if(h["useSourceIp"].boolean(), "sourceIp", true)}});
  }
  if (h["httpQueryParameterName"]) out.add(Object{{"queryParameter", Object{{"name", h["httpQueryParameterName"].str()}}}});
}

// The status codes that have a name in HTTP; other numbers stay words.
bool named_status(int code) {
  static constexpr int kLast[] = {103, 208, 308, 451, 511};
  if (code == 226) return true;
  if (code < 100 || code > 511 || code > kLast[code / 100 - 1]) return false;
  return !(code == 306 || (code > 418 && code < 421) || code == 427 || code == 430 || (code > 431 && code < 451) || code == 509);
}

// A consistent hash is to find the same host again, so a retry does not avoid it.
Json retry_policy(const Node& r, bool hashed) {
  Object o;
  std::string on(kRetryOn);
  Array codes;
  if (!r["retryOn"].str().empty()) {
    on.clear();
    const std::string list = r["retryOn"].str() + ",";
    for (size_t at = 0, end; (end = list.find(',', at)) != std::string::npos; at = end + 1) {
      std::string word = list.substr(at, end - at);
      while (word.starts_with(' ')) word.erase(0, 1);
      while (word.ends_with(' ')) word.pop_back();
      if (word.empty()) continue;
      const bool number = word.size() == 3 && std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; });
      if (number && named_status(std::stoi(word))) codes.add(std::stoi(word));
      else on += (on.empty() ? "" : ",") + word;
    }
    if (!codes.empty() && on.find("retriable-status-codes") == std::string::npos) on += ",retriable-status-codes";
  }
  o.set_if(!on.empty(), "retryOn", on).set("numRetries", r.null() ? 2 : r["attempts"].integer());
  if (r["perTryTimeout"]) o.set("perTryTimeout", duration_json(*parse_duration(r["perTryTimeout"].str())));
  if (r["retryRemoteLocalities"].boolean()) o.set("retryPriority", Json::raw(std::string(kPreviousPriorities)));
  if (r["retryIgnorePreviousHosts"] ? r["retryIgnorePreviousHosts"].boolean() : !hashed)
    o.set("retryHostPredicate", Array{extension("envoy.retry_host_predicates.previous_hosts",
                                                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")});
  o.set("hostSelectionRetryMaxAttempts", "5");
  o.set_if(!codes.empty(), "retriableStatusCodes", codes);
  if (r["backoff"]) o.set("retryBackOff", Object{{"baseInterval", duration_json(*parse_duration(r["backoff"].str()))}});
  return o;
}

Json per_million(const Node& percent) {
  return Object{{"numerator", int64_t(percent["value"].number() * 10000)}, {"denominator", "MILLION"}};
}

void add_mirror(const View& v, const Node& destination, const Node& percent, const Node& whole, const std::string& ns, uint32_t port,
                Array& out) {
  Json fraction = Object{{"numerator", 100}};
  if (percent) {
    if (percent["value"].number() <= 0) return;
    fraction = per_million(percent);
  } else if (whole) {
    if (whole.integer() <= 0) return;
    fraction = Object{{"numerator", whole.integer()}};
  }
  out.add(Object{{"cluster", destination_cluster(v, destination, ns, port)},
                 {"runtimeFraction", Object{{"defaultValue", fraction}}},
                 {"traceSampled", false},
                 {"disableShadowHostSuffixAppend", true}});
}

// ReplacePrefixMatch: the matched segments are replaced, and what follows begins with one slash, whatever stands at the ends of both.
void replace_prefix(const Node& match, std::string by, Object& o) {
  const std::string prefix = match["uri"]["prefix"].str() == "/" ? "" : match["uri"]["prefix"].str();
  if (by.ends_with('/')) by.pop_back();
  if (by.empty())
    o.set("regexRewrite", Object{{"pattern", Object{{"regex", "^" + re2::RE2::QuoteMeta(prefix) + "(/?)(.*)"}}}, {"substitution", "/\\2"}});
  else o.set("prefixRewrite", prefix.empty() ? by + "/" : by);
}

// The action of a route that forwards. `head` takes the header operations of a single destination.
Json forward(const View& v, const Node& r, const Node& match, const Virtual& x, uint32_t port, HeaderOperations& head,
             std::string& first_cluster) {
  const bool gateway_api = has_gateway_semantics(*x.config);
  Object a;
  std::vector<const Node*> targets;
  for (const Node& d : r["route"].items)
    if (r["route"].items.size() == 1 || d["weight"].integer() != 0) targets.push_back(&d);
  if (r["route"].items.size() == 1) {
    const Node& d = *targets[0];
    first_cluster = destination_cluster(v, d["destination"], x.config->ns, port);
    a.set("cluster", first_cluster);
    head.take(d["headers"]);
  } else {
    Array clusters;
    for (const Node* d : targets) {
      Object c{{"name", destination_cluster(v, (*d)["destination"], x.config->ns, port)}, {"weight", (*d)["weight"].integer()}};
      HeaderOperations own;
      own.take((*d)["headers"]);
      own.put(c);
      c.set_if(!own.authority.empty(), "hostRewriteLiteral", own.authority);
      clusters.add(c);
    }
    a.set("weightedClusters", Object{{"clusters", clusters}});
  }
  const Node& w = r["rewrite"];
  if (w["uriRegexRewrite"])
    a.set("regexRewrite", Object{{"pattern", Object{{"regex", w["uriRegexRewrite"]["match"].str()}}},
                                 {"substitution", w["uriRegexRewrite"]["rewrite"].str()}});
  else if (gateway_api && !w["uri"].str().empty()) replace_prefix(match, w["uri"].str(), a);
  else if (!w["uri"].str().empty()) a.set("prefixRewrite", w["uri"].str());
  const std::string& authority = w["authority"].str().empty() ? head.authority : w["authority"].str();
  a.set_if(!authority.empty(), "hostRewriteLiteral", authority);
  Array hashes;
  for (const Node* d : targets) add_hash_policy(consistent_hash(v, (*d)["destination"], x.config->ns), hashes);
  const std::string timeout = r["timeout"] ? duration_json(*parse_duration(r["timeout"].str())) : "0s";
  a.set("timeout", timeout);
  if (r["retries"].null() || r["retries"]["attempts"].integer() > 0)
    a.set("retryPolicy", retry_policy(r["retries"], !hashes.empty() && r["route"].items.size() == 1));
  a.set_if(!hashes.empty(), "hashPolicy", hashes);
  Array mirrors;
  if (r["mirror"]) add_mirror(v, r["mirror"], r["mirrorPercentage"], r["mirrorPercent"], x.config->ns, port, mirrors);
  for (const Node& m : r["mirrors"].items) add_mirror(v, m["destination"], m["percentage"], null_node(), x.config->ns, port, mirrors);
  a.set_if(!mirrors.empty(), "requestMirrorPolicies", mirrors);
  a.set("maxGrpcTimeout", timeout);
  a.set_if(gateway_api, "clusterNotFoundResponseCode", "INTERNAL_SERVER_ERROR");
  return a;
}

// The Gateway API's defaults are not VirtualService's: 302, and a preflight is kept for 5 s. (An API server fills them in for Istio.)
Json redirect(const Node& d, const Node& match, uint32_t port, bool tls, bool gateway_api) {
  Object o;
  if (!d["authority"].str().empty()) o.set("hostRedirect", d["authority"].str());
  std::string scheme = d["scheme"].str();
  if (!scheme.empty()) o.set("schemeRedirect", scheme);
  int64_t to = d["port"] ? d["port"].integer() : d["derivePort"].str() == "FROM_REQUEST_PORT" ? port : 0;
  if (scheme.empty()) scheme = tls ? "https" : "http";
  if ((to == 80 && scheme == "http") || (to == 443 && scheme == "https")) to = 0;  // not said where it is the scheme's own
  if (to != 0) o.set("portRedirect", to);
  constexpr std::string_view kPrefix = "%PREFIX()%";  // Istio's word for the Gateway API's ReplacePrefixMatch
  const std::string& path = d["uri"].str();
  if (gateway_api && path.starts_with(kPrefix)) replace_prefix(match, path.substr(kPrefix.size()), o);
  else o.set("pathRedirect", path);
  const char* code = nullptr;
  switch (d["redirectCode"] || !gateway_api ? d["redirectCode"].integer() : 302) {
    case 302: code = "FOUND"; break;
    case 303: code = "SEE_OTHER"; break;
    case 307: code = "TEMPORARY_REDIRECT"; break;
    case 308: code = "PERMANENT_REDIRECT"; break;
    default: break;
  }
  if (code != nullptr) o.set("responseCode", code);
  return o;
}

Json cors(const Node& c, bool gateway_api) {
  Object o;
  Array origins;
  for (const Node& m : c["allowOrigins"].items) origins.add(string_match(m));
  if (origins.empty())
    for (const std::string& s : c["allowOrigin"].list()) origins.add(Object{{"exact", s}});
  o.set_if(!origins.empty(), "allowOriginStringMatch", origins);
  const auto joined = [&](const char* field) {
    std::string out;
    for (const std::string& s : c[field].list()) out += (out.empty() ? "" : ",") + s;
    return out;
  };
  for (const char* f : {"allowMethods", "allowHeaders", "exposeHeaders"})
    if (!c[f].items.empty()) o.set(f, joined(f));
  if (c["maxAge"]) o.set("maxAge", std::to_string(*parse_duration(c["maxAge"].str()) / 1'000'000'000));
  else if (gateway_api) o.set("maxAge", "5");
  if (c["allowCredentials"]) o.set("allowCredentials", c["allowCredentials"].boolean());
  o.set("filterEnabled", Object{{"defaultValue", Object{{"numerator", 100}}}});
  o.set("forwardNotMatchingPreflights", c["unmatchedPreflights"].str() != "IGNORE");
  return typed("envoy.extensions.filters.http.cors.v3.CorsPolicy", o);
}

int grpc_code(const std::string& name) {
  static constexpr const char* kCodes[] = {"OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
                                           "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
                                           "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
                                           "DATA_LOSS", "UNAUTHENTICATED"};
  for (int i = 0; i < 17; i++)
    if (name == kCodes[i]) return i;
  return 2;
}

Json fault(const Node& f) {
  Object o;
  if (const Node& d = f["delay"]; d["fixedDelay"]) {
    const Json share = d["percentage"] ? per_million(d["percentage"]) : Json(Object{{"numerator", d["percent"].integer()}});
    o.set("delay", Object{{"fixedDelay", duration_json(*parse_duration(d["fixedDelay"].str()))}, {"percentage", share}});
  }
  if (const Node& a = f["abort"]; a["grpcStatus"] || a["httpStatus"]) {
    Object out;
    if (a["grpcStatus"]) out.set("grpcStatus", grpc_code(a["grpcStatus"].str()));
    else out.set("httpStatus", a["httpStatus"].integer());
    if (a["percentage"]) out.set("percentage", per_million(a["percentage"]));
    o.set("abort", out);
  }
  return typed("envoy.extensions.filters.http.fault.v3.HTTPFault", o);
}

Route route_json(const View& v, const Node& r, const Node& m, const Virtual& x, const Server& s) {
  const bool gateway_api = has_gateway_semantics(*x.config);
  const Match match = match_json(m, gateway_api);
  HeaderOperations head;
  head.take(r["headers"]);
  std::string name = r["name"].str(), cluster;
  if (m["name"]) name += "." + m["name"].str();
  Object o;
  o.set_if(!name.empty(), "name", name).set("match", match.json);
  if (!m["statPrefix"].str().empty()) o.set("statPrefix", m["statPrefix"].str());
  if (r["redirect"]) {
    o.set("redirect", redirect(r["redirect"], m, s.service_port, s.has_tls(), gateway_api));
  } else if (r["directResponse"]) {
    Object d{{"status", r["directResponse"]["status"].integer()}};
    const Node& body = r["directResponse"]["body"];
    if (body["bytes"]) d.set("body", Object{{"inlineBytes", body["bytes"].str()}});
    else if (body["string"]) d.set("body", Object{{"inlineString", body["string"].str()}});
    o.set("directResponse", d);
  } else {
    o.set("route", forward(v, r, m, x, s.service_port, head, cluster));
  }
  o.set("metadata", Object{{"filterMetadata", Object{{"istio", Object{{"config", config_path(*x.config)}}}}}});
  std::string operation = x.config->name + ":" + std::to_string(s.service_port);
  if (!cluster.empty()) {
    const size_t port = cluster.find('|') + 1, subset = cluster.find('|', port), host = cluster.rfind('|') + 1;
    operation = cluster.substr(host) + ":" + cluster.substr(port, subset - port);
  }
  o.set("decorator", Object{{"operation", operation + match.operation}});
  head.put(o);
  Object per_filter;
  if (r["fault"]) per_filter.set("envoy.filters.http.fault", fault(r["fault"]));
  if (r["corsPolicy"]) per_filter.set("envoy.filters.http.cors", cors(r["corsPolicy"], gateway_api));
  o.set_if(!per_filter.empty(), "typedPerFilterConfig", per_filter);
  return {o, match.catch_all, m.null() ? &r : &m};
}

}  // namespace

std::vector<Route> routes_of(const View& v, const Virtual& x, const Server& s) {
  std::vector<Route> out;
  for (const Node* route : x.http) {
    const Node& r = *route;
    if (r["match"].items.empty()) {
      out.push_back(route_json(v, r, null_node(), x, s));
      return out;  // nothing behind it can be reached
    }
    for (const Node& m : r["match"].items) {
      if (!match_applies(m, x, s, v.node)) continue;
      out.push_back(route_json(v, r, m, x, s));
      if (out.back().catch_all) return out;
    }
  }
  return out;
}

}  // namespace sluice::plane
