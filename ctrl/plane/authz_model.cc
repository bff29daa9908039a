// A permission for each `to`, a principal for each `from`; `when` joins all of one side, behind the fields of the operation or source.
#include "ctrl/plane/authz_model.h"

#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

std::string quoted_regex(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (std::string_view("\\.+*?()|[]{}^$").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}
std::string replace(std::string s, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = s.find(from, at)) != std::string::npos; at += to.size()) s.replace(at, from.size(), to);
  return s;
}

Object regex(const std::string& r) { return {{"safeRegex", Object{{"regex", r}}}}; }

Object string_matcher(const std::string& v, const std::string& prefix = {}) {
  if (v == "*") return regex(".+");
  if (v.starts_with('*')) return prefix.empty() ? Object{{"suffix", v.substr(1)}} : regex(prefix + ".*" + quoted_regex(v.substr(1)));
  if (v.ends_with('*')) return {{"prefix", prefix + v.substr(0, v.size() - 1)}};
  return {{"exact", prefix + v}};
}

Json header(const std::string& name, const std::string& v, bool ignore_case = false) {
  Object h{{"name", name}};
  if (v == "*") return Object{{"header", h.set("presentMatch", true)}};
  Object m = string_matcher(v);
  m.set_if(ignore_case, "ignoreCase", true);
  return Object{{"header", h.set("stringMatch", m)}};
}

// One of the values of a list with commas, as `request.experimental.inline.headers` looks into it: without a thought for spaces.
Json inline_header(const std::string& name, const std::string& v) {
  if (v == "*") return header(name, v);
  const bool suffix = v.starts_with('*'), prefix = !suffix && v.ends_with('*');
  const std::string text = quoted_regex(suffix ? v.substr(1) : prefix ? v.substr(0, v.size() - 1) : v);
  const std::string one = (suffix ? ".*" : "") + text + (prefix ? ".*" : "");
  return Object{
      {"header",
       Object{{"name", name}, {"safeRegexMatch", Object{{"regex", "^" + one + "$|^" + one + ",.*|.*," + one + ",.*|.*," + one + "$"}}}}}};
}

Json cidr(const char* field, const std::string& v) {
  const size_t slash = v.find('/');
  const std::string address = v.substr(0, slash);
  const int whole = address.find(':') == std::string::npos ? 32 : 128;
  return Object{
      {field, Object{{"addressPrefix", address}, {"prefixLen", slash == std::string::npos ? whole : std::stoi(v.substr(slash + 1))}}}};
}

Json authenticated(const Object& matcher) { return Object{{"authenticated", Object{{"principalName", matcher}}}}; }

Json path(const std::string& v) {
  if (v.find("{*}") == std::string::npos && v.find("{**}") == std::string::npos)
    return Object{{"urlPath", Object{{"path", string_matcher(v)}}}};
  return Object{{"uriTemplate", extension("uri-template", "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                                          {{"pathTemplate", replace(replace(v, "{**}", "**"), "{*}", "*")}})}};
}

Json service_account(const std::string& v, const std::string& own_ns) {
  const size_t slash = v.find('/');
  const std::string ns = slash == std::string::npos ? own_ns : v.substr(0, slash);
  return authenticated(regex("spiffe://.+/ns/" + quoted_regex(ns) + "/(.+/|)sa/" + quoted_regex(v.substr(slash + 1)) + "(/.+)?"));
}

Object metadata(const std::string& filter, const std::vector<std::string>& keys, const Json& value) {
  Array path;
  for (const std::string& k : keys) path.add(Object{{"key", k}});
  return {{"filter", filter}, {"path", path}, {"value", value}};
}
Json claim(const char* name, const Object& string_match) {
  return Object{{"metadata", metadata("envoy.filters.http.jwt_authn", {"payload", name}, Object{{"stringMatch", string_match}})}};
}
Json any_value(const Array& values, size_t n) {
  return n == 1 ? Json(values) : Json(Object{{"orMatch", Object{{"valueMatchers", values}}}});
}

// "ISSUER/SUBJECT", each with a wildcard at its outer end.
Json request_principal(const std::string& v) {
  const size_t slash = v.rfind('/');
  const bool parts = slash != std::string::npos;
  const std::string iss = v.substr(0, slash), sub = parts ? v.substr(slash + 1) : "";
  const auto exact = [](const std::string& s) { return Object{{"exact", s}}; };
  const Object any = regex(".+");
  Object i = exact(iss), s = exact(sub);
  if (v == "*") i = any, s = any;
  else if (v.starts_with('*') && parts) i = iss == "*" ? any : Object{{"suffix", iss.substr(1)}};
  else if (v.starts_with('*')) i = any, s = {{"suffix", v.substr(1)}};
  else if (v.ends_with('*') && parts) s = sub == "*" ? any : Object{{"prefix", sub.substr(0, sub.size() - 1)}};
  else if (v.ends_with('*')) i = {{"prefix", v.substr(0, v.size() - 1)}}, s = any;
  return Object{{"andIds", Object{{"ids", Array{claim("iss", i), claim("sub", s)}}}}};
}

Json claims(const std::vector<std::string>& keys, const std::vector<std::string>& values) {
  Array matchers;
  for (const std::string& v : values) matchers.add(Object{{"stringMatch", string_matcher(v)}});
  const Json one = values.size() == 1 ? Json(Object{{"stringMatch", string_matcher(values[0])}}) : any_value(matchers, 2);
  std::vector<std::string> path{"payload"};
  path.insert(path.end(), keys.begin(), keys.end());
  const Json list = Object{{"listMatch", Object{{"oneOf", one}}}};
  return Object{{"metadata", metadata("envoy.filters.http.jwt_authn", path, any_value(Array{list, one}, 2))}};
}

// "a][b" of "request.auth.claims[a][b]".
std::vector<std::string> bracketed(std::string_view s) {
  std::vector<std::string> out;
  for (size_t at = 0; at < s.size();) {
    const size_t end = std::min(s.find("][", at), s.size());
    out.emplace_back(s.substr(at, end - at));
    at = end + 2;
  }
  return out;
}

// "experimental.envoy.filters.F[KEY]": any metadata of another filter; a value in brackets is an element of a list.
Json filter_metadata(const std::string& key, const std::vector<std::string>& values) {
  const size_t open = key.find('[');
  constexpr size_t kHead = std::string_view("experimental.").size();
  Array matchers;
  Json last;
  for (const std::string& v : values) {
    const bool list = v.starts_with('[') && v.ends_with(']');
    const Json m = Object{{"stringMatch", string_matcher(list ? v.substr(1, v.size() - 2) : v)}};
    last = list ? Json(Object{{"listMatch", Object{{"oneOf", m}}}}) : m;
    matchers.add(last);
  }
  return Object{{"metadata", metadata(key.substr(kHead, open - kHead), {key.substr(open + 1, key.size() - open - 2)},
                                      values.size() == 1 ? last : any_value(matchers, 2))}};
}

// With aliases of the trust domain a principal of one of them stands for all. "cluster.local" always means the own one.
std::vector<std::string> with_aliases(const std::vector<std::string>& principals, const Mesh& mesh) {
  std::vector<std::string> domains{mesh.trust_domain};
  domains.insert(domains.end(), mesh.trust_domain_aliases.begin(), mesh.trust_domain_aliases.end());
  std::vector<std::string> out;
  for (const std::string& p : principals) {
    const std::string td = p.substr(0, p.find('/'));
    const auto suffix = [&](const std::string& d) { return td.starts_with('*') && d.ends_with(td.substr(1)); };
    const auto ours = [&](const std::string& d) {
      return d == td || suffix(d) || (td.ends_with('*') && d.starts_with(td.substr(0, td.size() - 1)));
    };
    if (std::ranges::count(p, '/') != 4 || !(td == "cluster.local" || std::ranges::any_of(domains, ours))) {
      out.push_back(p);
      continue;
    }
    std::vector<std::string> all;
    for (const std::string& d : domains) {
      const std::string name = suffix(d) ? p : d + p.substr(td.size());
      if (std::ranges::find(all, name) == all.end()) all.push_back(name);
    }
    out.insert(out.end(), all.begin(), all.end());
  }
  return out;
}

struct Group {  // one andRules / andIds under construction
  bool permission;
  Wire wire;
  Array parts;
  bool lost = false;

  template <class One>
  void add_each(const Node& values, const Node& not_values, bool http_only, One one) {
    add(values, not_values, http_only, [&](const std::vector<std::string>& list) -> Json {
      Array a;
      for (const std::string& v : list) a.add(one(v));
      return permission ? Object{{"orRules", Object{{"rules", a}}}} : Object{{"orIds", Object{{"ids", a}}}};
    });
  }
  template <class All>
  void add(const Node& values, const Node& not_values, bool http_only, All all) {
    if (values.items.empty() && not_values.items.empty()) return;
    if (http_only && wire == Wire::kTcp) {
      lost = true;
      return;
    }
    if (!values.items.empty()) parts.add(all(values.list()));
    if (!not_values.items.empty()) parts.add(Object{{permission ? "notRule" : "notId", all(not_values.list())}});
  }
  Json json() const {
    const Json all = parts.empty() ? Json(Array{Object{{"any", true}}}) : Json(parts);
    return permission ? Object{{"andRules", Object{{"rules", all}}}} : Object{{"andIds", Object{{"ids", all}}}};
  }
};

struct Rule {
  const Node& rule;
  const std::string& ns;
  const Mesh& mesh;
  Wire wire;

  void principals(const Node& values, const Node& not_values, Group& g) const {
    g.add(values, not_values, false, [&](const std::vector<std::string>& list) -> Json {
      Array a;
      for (const std::string& v : with_aliases(list, mesh)) a.add(authenticated(string_matcher(v, "spiffe://")));
      return Object{{"orIds", Object{{"ids", a}}}};
    });
  }
  static void request_principals(const Node& values, const Node& not_values, Group& g) {
    g.add(values, not_values, true, [](const std::vector<std::string>& list) -> Json {
      if (list.size() == 1) return request_principal(list[0]);
      Array a;
      for (const std::string& v : list) a.add(request_principal(v));
      return Object{{"orIds", Object{{"ids", a}}}};
    });
  }
  static Json namespace_of(const std::string& v) { return authenticated(regex(".*/ns/" + replace(quoted_regex(v), "\\*", ".*") + "/.*")); }

  Group permission(const Node& op) const {
    Group g{.permission = true, .wire = wire, .parts = {}};
    g.add_each(op["hosts"], op["notHosts"], true, [](const std::string& v) { return header(":authority", v, true); });
    g.add_each(op["methods"], op["notMethods"], true, [](const std::string& v) { return header(":method", v); });
    g.add_each(op["paths"], op["notPaths"], true, path);
    g.add_each(op["ports"], op["notPorts"], false, port);
    for (const Node& w : rule["when"].items) {
      const std::string& key = w["key"].str();
      const Node &yes = w["values"], &no = w["notValues"];
      if (key == "destination.ip") g.add_each(yes, no, false, [](const std::string& v) { return cidr("destinationIp", v); });
      else if (key == "destination.port") g.add_each(yes, no, false, port);
      else if (key == "connection.sni")
        g.add_each(yes, no, false, [](const std::string& v) { return Object{{"requestedServerName", string_matcher(v)}}; });
      else if (key.starts_with("experimental.envoy.filters."))
        g.add(yes, no, false, [&](const std::vector<std::string>& list) { return filter_metadata(key, list); });
    }
    return g;
  }
  static Json port(const std::string& v) { return Object{{"destinationPort", std::stoi(v)}}; }

  Group principal(const Node& s) const {
    const auto account = [&](const std::string& v) { return service_account(v, ns); };
    const auto direct = [](const std::string& v) { return cidr("directRemoteIp", v); };
    const auto remote = [](const std::string& v) { return cidr("remoteIp", v); };
    Group g{.permission = false, .wire = wire, .parts = {}};
    principals(s["principals"], s["notPrincipals"], g);
    request_principals(s["requestPrincipals"], s["notRequestPrincipals"], g);
    g.add_each(s["serviceAccounts"], s["notServiceAccounts"], false, account);
    g.add_each(s["namespaces"], s["notNamespaces"], false, namespace_of);
    g.add_each(s["remoteIpBlocks"], s["notRemoteIpBlocks"], false, remote);
    g.add_each(s["ipBlocks"], s["notIpBlocks"], false, direct);
    for (const Node& w : rule["when"].items) {
      const std::string& key = w["key"].str();
      const Node &yes = w["values"], &no = w["notValues"];
      constexpr std::string_view kHeaders = "request.headers[", kClaims = "request.auth.claims[",
                                 kInline = "request.experimental.inline.headers[";
      const auto inner = [&](std::string_view head) { return key.substr(head.size(), key.size() - head.size() - 1); };
      const auto claim_list = [&](std::vector<std::string> path) {
        g.add(yes, no, true, [&](const std::vector<std::string>& list) { return claims(path, list); });
      };
      if (key == "source.ip") g.add_each(yes, no, false, direct);
      else if (key == "remote.ip") g.add_each(yes, no, false, remote);
      else if (key == "source.namespace") g.add_each(yes, no, false, namespace_of);
      else if (key == "source.serviceAccount") g.add_each(yes, no, false, account);
      else if (key == "source.principal") principals(yes, no, g);
      else if (key == "request.auth.principal") request_principals(yes, no, g);
      else if (key == "request.auth.audiences") claim_list({"aud"});
      else if (key == "request.auth.presenter") claim_list({"azp"});
      else if (key.starts_with(kClaims)) claim_list(bracketed(inner(kClaims)));
      else if (key.starts_with(kHeaders)) g.add_each(yes, no, true, [&](const std::string& v) { return header(inner(kHeaders), v); });
      else if (key.starts_with(kInline)) g.add_each(yes, no, true, [&](const std::string& v) { return inline_header(inner(kInline), v); });
    }
    return g;
  }
};

}  // namespace

std::optional<Json> rbac_policy(const Node& rule, const std::string& ns, const Mesh& mesh, Wire wire, bool narrow) {
  const Rule r{rule, ns, mesh, wire};
  bool lost = false;
  Array permissions, principals;
  const auto add = [&](const Group& g, Array& to) {
    lost |= g.lost;
    to.add(g.json());
  };
  for (const Node& t : rule["to"].items) add(r.permission(t["operation"]), permissions);
  if (rule["to"].items.empty()) add(r.permission(null_node()), permissions);
  for (const Node& f : rule["from"].items) add(r.principal(f["source"]), principals);
  if (rule["from"].items.empty()) add(r.principal(null_node()), principals);
  if (lost && narrow) return {};
  return Object{{"permissions", permissions}, {"principals", principals}};
}

Json never_matches() {
  return Object{{"permissions", Array{Object{{"notRule", Object{{"any", true}}}}}},
                {"principals", Array{Object{{"notId", Object{{"any", true}}}}}}};
}

Object claims_matcher(const std::vector<std::string>& path, const Json& string_match) {
  std::vector<std::string> keys{"payload"};
  keys.insert(keys.end(), path.begin(), path.end());
  const Json one = Object{{"stringMatch", string_match}}, list = Object{{"listMatch", Object{{"oneOf", one}}}};
  return metadata("envoy.filters.http.jwt_authn", keys, any_value(Array{list, one}, 2));
}

}  // namespace sluice::plane
