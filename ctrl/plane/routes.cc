// RDS: the virtual hosts of a route configuration, as istiod merges servers, VirtualServices and hosts.
#include <re2/re2.h>

#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

struct Route {
  Json json;
  bool catch_all = false;
};
struct VirtualHost {
  std::vector<Route> routes;
  bool tls_only = false;
};

constexpr std::string_view kRetryOn = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

Object string_match(const Node& m) {
  if (m["exact"]) return {{"exact", m["exact"].str()}};
  if (m["prefix"]) return {{"prefix", m["prefix"].str()}};
  return {{"safeRegex", Object{{"regex", m["regex"].str()}}}};
}
bool any_string(const Node& m) { return (!m["exact"] && !m["prefix"] && !m["regex"]) || m["regex"].str() == "*"; }

std::map<std::string, const Node*> sorted(const Node& map) {
  std::map<std::string, const Node*> out;
  for (size_t i = 0; i < map.keys.size(); i++) out[map.keys[i].text] = &map.items[i];
  return out;
}

Object header_match(const std::string& name, const Node& m, bool without) {
  Object h{{"name", name}};
  if (any_string(m)) h.set("presentMatch", true);
  else h.set("stringMatch", string_match(m));
  if (without) h.set("invertMatch", true).set_if(!any_string(m), "treatMissingHeaderAsEmpty", true);
  return h;
}

struct Match {
  Json json;
  std::string operation;  // the decorator's tail
  bool catch_all = false;
};

Match match_json(const Node& m, bool by_segment) {
  if (m.null()) return {Object{{"prefix", "/"}}, "/*", true};
  const Node& uri = m["uri"];
  Object o;
  std::string operation = "/*";
  bool all_paths = false;
  if (uri["exact"]) {
    o.set("path", operation = uri["exact"].str());
  } else if (uri["prefix"]) {
    o.set(by_segment && uri["prefix"].str() != "/" ? "pathSeparatedPrefix" : "prefix", uri["prefix"].str());
    operation = uri["prefix"].str() + "*";
    all_paths = uri["prefix"].str() == "/";
  } else if (uri["regex"]) {
    o.set("safeRegex", Object{{"regex", operation = uri["regex"].str()}});
    all_paths = operation == "*";
  } else {
    o.set("prefix", "/");
    all_paths = true;
  }
  o.set("caseSensitive", !m["ignoreUriCase"].boolean());
  Array headers, query;
  for (const auto& [name, h] : sorted(m["headers"])) headers.add(header_match(name, *h, false));
  for (const auto& [name, h] : sorted(m["withoutHeaders"])) headers.add(header_match(name, *h, true));
  for (const char* pseudo : {"method", "authority", "scheme"})
    if (m[pseudo]) headers.add(header_match(":" + std::string(pseudo), m[pseudo], false));
  for (const auto& [name, q] : sorted(m["queryParams"])) {
    Object p{{"name", name}};
    if (any_string(*q)) p.set("presentMatch", true);
    else p.set("stringMatch", string_match(*q));
    query.add(p);
  }
  o.set_if(!headers.empty(), "headers", headers).set_if(!query.empty(), "queryParameters", query);
  return {o, operation, all_paths && headers.empty() && query.empty()};
}

bool match_applies(const Node& m, const Virtual& x, const Server& s, const NodeInfo& node) {
  if (m["port"] && m["port"].integer() != s.port) return false;
  if (!m["gateways"].items.empty())
    return std::ranges::any_of(m["gateways"].list(), [&](const std::string& g) {
      return (g.find('/') == std::string::npos ? x.config->ns + "/" + g : g) == s.gateway_name();
    });
  return labels_within(m["sourceLabels"], node.labels) && (m["sourceNamespace"].null() || m["sourceNamespace"].str() == node.ns);
}

bool names_authority(const std::string& header) { return header == ":authority" || upper(header) == "HOST"; }

// Header operations of a route and of its only destination, in this order; set before add, each by name. An authority that is set becomes
// the action's host rewrite.
struct HeaderOperations {
  Array add[2];
  Array remove[2];
  std::string authority;

  void take(const Node& headers) {
    for (const int side : {0, 1}) {
      const Node& ops = headers[side == 0 ? "request" : "response"];
      for (const auto& [name, value] : sorted(ops["set"])) {
        if (side == 0 && names_authority(name)) authority = value->str();
        else
          add[side].add(Object{{"header", Object{{"key", name}, {"value", value->str()}}}, {"appendAction", "OVERWRITE_IF_EXISTS_OR_ADD"}});
      }
      for (const auto& [name, value] : sorted(ops["add"]))
        add[side].add(Object{{"header", Object{{"key", name}, {"value", value->str()}}}});
      for (const std::string& name : ops["remove"].list()) remove[side].add(name);
    }
  }
  void put(Object& out) const {
    out.set_if(!add[0].empty(), "requestHeadersToAdd", add[0]).set_if(!remove[0].empty(), "requestHeadersToRemove", remove[0]);
    out.set_if(!add[1].empty(), "responseHeadersToAdd", add[1]).set_if(!remove[1].empty(), "responseHeadersToRemove", remove[1]);
  }
};

// The consistent hash of a destination's rule, subset before rule.
const Node& consistent_hash(const View& v, const Node& destination, const std::string& ns) {
  const Service* s = v.service(full_host(destination["host"].str(), ns));
  const Config* rule = s == nullptr ? nullptr : v.destination_rule(*s);
  if (rule == nullptr) return null_node();
  for (const Node& subset : rule->spec()["subsets"].items)
    if (subset["name"].str() == destination["subset"].str() && subset["trafficPolicy"]["loadBalancer"])
      return subset["trafficPolicy"]["loadBalancer"]["consistentHash"];
  return rule->spec()["trafficPolicy"]["loadBalancer"]["consistentHash"];
}

void add_hash_policy(const Node& h, Array& out) {
  if (h["httpHeaderName"]) out.add(Object{{"header", Object{{"headerName", h["httpHeaderName"].str()}}}});
  if (const Node& c = h["httpCookie"]) {
    Object cookie{{"name", c["name"].str()}};
    if (c["ttl"]) cookie.set("ttl", duration_json(*parse_duration(c["ttl"].str())));
    cookie.set_if(!c["path"].str().empty(), "path", c["path"].str());
    out.add(Object{{"cookie", cookie}});
  }
  if (h["useSourceIp"].boolean()) out.add(Object{{"connectionProperties", Object{{"sourceIp", true}}}});
  if (h["httpQueryParameterName"]) out.add(Object{{"queryParameter", Object{{"name", h["httpQueryParameterName"].str()}}}});
}

// A consistent hash is to find the same host again, so a retry does not avoid it.
Json retry_policy(const Node& r, bool hashed) {
  Object o;
  std::string on(kRetryOn);
  Array codes;
  if (r["retryOn"]) {
    on.clear();
    bool numbers = false, said = false;
    const std::string list = r["retryOn"].str() + ",";
    for (size_t at = 0; at < list.size();) {
      const size_t end = list.find(',', at);
      std::string word = list.substr(at, end - at);
      at = end + 1;
      if (word.empty()) continue;
      if (std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; })) {
        codes.add(std::stoi(word));
        numbers = true;
      } else {
        on += (on.empty() ? "" : ",") + word;
        said |= word == "retriable-status-codes";
      }
    }
    if (numbers && !said) on += on.empty() ? "retriable-status-codes" : ",retriable-status-codes";
  }
  o.set("retryOn", on).set("numRetries", r["attempts"] && r["attempts"].integer() > 0 ? r["attempts"].integer() : 2);
  if (r["perTryTimeout"]) o.set("perTryTimeout", duration_json(*parse_duration(r["perTryTimeout"].str())));
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
    fraction = Object{{"numerator", whole.integer()}};
  }
  out.add(Object{{"cluster", destination_cluster(v, destination, ns, port)},
                 {"runtimeFraction", Object{{"defaultValue", fraction}}},
                 {"traceSampled", false},
                 {"disableShadowHostSuffixAppend", true}});
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
  else if (gateway_api && w["uri"].str() == "/" && match["uri"]["prefix"])  // the prefix is removed, and what follows begins with one slash
    a.set("regexRewrite", Object{{"pattern", Object{{"regex", "^" + re2::RE2::QuoteMeta(match["uri"]["prefix"].str()) + "(/?)(.*)"}}},
                                 {"substitution", "/\\2"}});
  else if (w["uri"]) a.set("prefixRewrite", w["uri"].str());
  const std::string& authority = w["authority"] ? w["authority"].str() : head.authority;
  a.set_if(!authority.empty(), "hostRewriteLiteral", authority);
  Array hashes;
  for (const Node* d : targets) add_hash_policy(consistent_hash(v, (*d)["destination"], x.config->ns), hashes);
  const std::string timeout = r["timeout"] ? duration_json(*parse_duration(r["timeout"].str())) : "0s";
  a.set("timeout", timeout);
  const Node& attempts = r["retries"]["attempts"];
  if (r["retries"].null() || (attempts.null() ? !gateway_api : attempts.integer() != 0))
    a.set("retryPolicy", retry_policy(r["retries"], !hashes.empty()));
  a.set_if(!hashes.empty(), "hashPolicy", hashes);
  Array mirrors;
  if (r["mirror"]) add_mirror(v, r["mirror"], r["mirrorPercentage"], r["mirrorPercent"], x.config->ns, port, mirrors);
  for (const Node& m : r["mirrors"].items) add_mirror(v, m["destination"], m["percentage"], null_node(), x.config->ns, port, mirrors);
  a.set_if(!mirrors.empty(), "requestMirrorPolicies", mirrors);
  a.set("maxGrpcTimeout", timeout);
  a.set_if(gateway_api, "clusterNotFoundResponseCode", "INTERNAL_SERVER_ERROR");
  return a;
}

Json redirect(const Node& d, uint32_t port) {
  Object o;
  if (d["authority"]) o.set("hostRedirect", d["authority"].str());
  if (d["scheme"]) o.set("schemeRedirect", d["scheme"].str());
  const std::string& scheme = d["scheme"].str();
  if (d["port"]) o.set("portRedirect", d["port"].integer());
  else if (d["derivePort"].str() == "FROM_REQUEST_PORT") o.set("portRedirect", port);
  else if (d["derivePort"].str() == "FROM_PROTOCOL_DEFAULT" && !scheme.empty()) o.set("portRedirect", scheme == "https" ? 443 : 80);
  const std::string& uri = d["uri"].str();
  constexpr std::string_view kPrefix = "%PREFIX()%";
  if (uri.starts_with(kPrefix)) o.set("prefixRewrite", uri.substr(kPrefix.size()));
  else o.set("pathRedirect", uri);
  const char* code = nullptr;
  switch (d["redirectCode"].integer()) {
    case 302: code = "FOUND"; break;
    case 303: code = "SEE_OTHER"; break;
    case 307: code = "TEMPORARY_REDIRECT"; break;
    case 308: code = "PERMANENT_REDIRECT"; break;
    default: break;
  }
  if (code != nullptr) o.set("responseCode", code);
  return o;
}

Json cors(const Node& c) {
  Object o;
  Array origins;
  for (const Node& m : c["allowOrigins"].items) origins.add(string_match(m));
  for (const std::string& s : c["allowOrigin"].list()) origins.add(Object{{"exact", s}});
  o.set_if(!origins.empty(), "allowOriginStringMatch", origins);
  const auto joined = [&](const char* field) {
    std::string out;
    for (const std::string& s : c[field].list()) out += (out.empty() ? "" : ",") + s;
    return out;
  };
  for (const char* f : {"allowMethods", "allowHeaders", "exposeHeaders"})
    if (c[f]) o.set(f, joined(f));
  if (c["maxAge"]) o.set("maxAge", std::to_string(*parse_duration(c["maxAge"].str()) / 1'000'000'000));
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
  const auto share = [](const Node& n) -> Json {
    if (n["percentage"]) return per_million(n["percentage"]);
    return n["percent"] ? Object{{"numerator", n["percent"].integer()}} : Object{{"numerator", 100}};
  };
  if (const Node& d = f["delay"])
    o.set("delay", Object{{"fixedDelay", duration_json(*parse_duration(d["fixedDelay"].str()))}, {"percentage", share(d)}});
  if (const Node& a = f["abort"]) {
    Object out;
    if (a["grpcStatus"]) out.set("grpcStatus", grpc_code(a["grpcStatus"].str()));
    else out.set("httpStatus", a["httpStatus"].integer());
    o.set("abort", out.set("percentage", share(a)));
  }
  return typed("envoy.extensions.filters.http.fault.v3.HTTPFault", o);
}

Route route_json(const View& v, const Node& r, const Node& m, const Virtual& x, const Server& s) {
  const Match match = match_json(m, has_gateway_semantics(*x.config));
  HeaderOperations head;
  head.take(r["headers"]);
  std::string name = r["name"].str(), cluster;
  if (m["name"]) name += "." + m["name"].str();
  Object o;
  o.set_if(!name.empty(), "name", name).set("match", match.json);
  if (r["redirect"]) {
    o.set("redirect", redirect(r["redirect"], s.port));
  } else if (r["directResponse"]) {
    Object d{{"status", r["directResponse"]["status"].integer()}};
    if (r["directResponse"]["body"]) d.set("body", Object{{"inlineString", r["directResponse"]["body"]["string"].str()}});
    o.set("directResponse", d);
  } else {
    o.set("route", forward(v, r, m, x, s.port, head, cluster));
  }
  o.set("metadata", Object{{"filterMetadata", Object{{"istio", Object{{"config", config_path(*x.config)}}}}}});
  std::string operation = x.config->name + ":" + std::to_string(s.port);
  if (!cluster.empty()) {
    const size_t port = cluster.find('|') + 1, subset = cluster.find('|', port), host = cluster.rfind('|') + 1;
    operation = cluster.substr(host) + ":" + cluster.substr(port, subset - port);
  }
  o.set("decorator", Object{{"operation", operation + match.operation}});
  head.put(o);
  Object per_filter;
  if (r["fault"]) per_filter.set("envoy.filters.http.fault", fault(r["fault"]));
  if (r["corsPolicy"]) per_filter.set("envoy.filters.http.cors", cors(r["corsPolicy"]));
  o.set_if(!per_filter.empty(), "typedPerFilterConfig", per_filter);
  return {o, match.catch_all};
}

std::vector<Route> routes_of(const View& v, const Virtual& x, const Server& s) {
  std::vector<Route> out;
  for (const Node& r : x.http) {
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

// istiod sends hosts with the very same routes as one virtual host, named after the first: exact before wildcard, longer before shorter.
bool more_specific(const std::string& a, const std::string& b) {
  const bool wa = a.starts_with('*'), wb = b.starts_with('*');
  if (wa != wb) return wb;
  if (wa && a.size() != b.size()) return a.size() > b.size();
  return a < b;
}

}  // namespace

Json route_configuration(const View& v, const std::string& name, const std::vector<const Server*>& servers) {
  std::map<std::string, VirtualHost> hosts;
  for (const Server* s : servers) {
    const bool tls_only = (*s->node)["tls"]["httpsRedirect"].boolean();
    for (const Virtual& x : v.virtuals) {
      if (std::ranges::find(x.gateways, s->gateway_name()) == x.gateways.end()) continue;
      const auto both = intersection(hosts_for(*s, x.config->ns), x.hosts);
      if (both.empty()) continue;
      const auto routes = routes_of(v, x, *s);
      if (routes.empty()) continue;
      for (const std::string& h : both) {
        VirtualHost& host = hosts[h];
        host.routes.insert(host.routes.end(), routes.begin(), routes.end());
        host.tls_only |= tls_only;
      }
    }
    if (tls_only)
      for (const std::string& h : s->hosts) hosts[h.substr(h.find('/') + 1)].tls_only = true;
  }
  const uint32_t port = servers[0]->port;
  if (hosts.empty()) hosts["*"];
  std::vector<std::string> order;
  for (const auto& [h, host] : hosts) order.push_back(h);
  std::ranges::sort(order, more_specific);
  struct Merged {
    std::vector<std::string> domains;
    Json routes;
    bool tls_only;
  };
  std::vector<Merged> merged;
  for (const std::string& h : order) {
    VirtualHost& host = hosts[h];
    std::ranges::stable_sort(host.routes, {}, &Route::catch_all);
    Array routes;
    for (const Route& r : host.routes) routes.add(r.json);
    const Json text = routes;
    const auto same = std::ranges::find_if(
        merged, [&](const Merged& m) { return m.routes.text == text.text && m.tls_only == host.tls_only && !routes.empty(); });
    if (same != merged.end()) same->domains.push_back(h);
    else merged.push_back({{h}, text, host.tls_only});
  }
  const bool blackhole =
      hosts.size() == 1 && hosts.begin()->first == "*" && hosts.begin()->second.routes.empty() && !hosts.begin()->second.tls_only;
  std::ranges::sort(merged, {}, [](const Merged& m) { return m.domains[0]; });
  Array out;
  for (const Merged& m : merged) {
    Object o{{"name", (blackhole ? "blackhole" : m.domains[0]) + ":" + std::to_string(port)}, {"domains", strings(m.domains)}};
    o.set_if(m.routes.text != "[]", "routes", m.routes)
        .set_if(m.tls_only, "requireTls", "ALL")
        .set_if(!blackhole, "includeRequestAttemptCount", true);
    out.add(o);
  }
  return typed("envoy.config.route.v3.RouteConfiguration", {{"name", name},
                                                            {"virtualHosts", out},
                                                            {"validateClusters", false},
                                                            {"maxDirectResponseBodySizeBytes", 1048576},
                                                            {"ignorePortInHostMatching", true}});
}

}  // namespace sluice::plane
