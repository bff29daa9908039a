// AuthorizationPolicy to config.rbac.v3, as istiod's security/authz/model does it: per action one filter; a policy's rule becomes one RBAC
// policy "ns[NS]-policy[NAME]-rule[I]"; each field is an OR of its values and a NOT of its notValues, all fields AND.
#include <algorithm>

#include "ctrl/plane/translate.h"

namespace sluice::plane {
namespace {

json string_match(const std::string& v, bool ignore_case = false) {
  json m;
  if (v == "*") m = {{"safeRegex", {{"regex", ".+"}}}};
  else if (v.starts_with('*')) m = {{"suffix", v.substr(1)}};
  else if (v.ends_with('*')) m = {{"prefix", v.substr(0, v.size() - 1)}};
  else m = {{"exact", v}};
  if (ignore_case) m["ignoreCase"] = true;
  return m;
}

json header_match(const std::string& name, const std::string& v, bool ignore_case = false) {
  if (v == "*") return {{"header", {{"name", name}, {"presentMatch", true}}}};
  return {{"header", {{"name", name}, {"stringMatch", string_match(v, ignore_case)}}}};
}

json block(const std::string& v) {
  const size_t slash = v.find('/');
  const bool v6 = v.find(':') != std::string::npos;
  return {{"addressPrefix", v.substr(0, slash)}, {"prefixLen", slash == std::string::npos ? (v6 ? 128 : 32) : std::stol(v.substr(slash + 1))}};
}

std::string quoted(std::string_view s, std::string_view star) {
  std::string out;
  for (char c : s) {
    if (c == '*') out += star;
    else {
      if (std::string_view(".+()[]{}^$|\\?").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

json principal_name(json match) { return {{"authenticated", {{"principalName", std::move(match)}}}}; }

json principal(const std::string& v) {
  if (v == "*") return principal_name({{"safeRegex", {{"regex", ".+"}}}});
  if (v.starts_with('*')) return principal_name({{"safeRegex", {{"regex", "spiffe://.*" + quoted(v.substr(1), ".*")}}}});
  if (v.ends_with('*')) return principal_name({{"prefix", "spiffe://" + v.substr(0, v.size() - 1)}});
  return principal_name({{"exact", "spiffe://" + v}});
}
json source_namespace(const std::string& v) { return principal_name({{"safeRegex", {{"regex", ".*/ns/" + quoted(v, ".*") + "/.*"}}}}); }
json service_account(const std::string& v, const std::string& policy_ns) {
  const size_t slash = v.find('/');
  const std::string ns = slash == std::string::npos ? policy_ns : v.substr(0, slash), name = slash == std::string::npos ? v : v.substr(slash + 1);
  return principal_name({{"safeRegex", {{"regex", "spiffe://.+/ns/" + quoted(ns, ".*") + "/(.+/|)sa/" + quoted(name, ".*") + "(/.+)?"}}}});
}

json path(const std::string& v) {
  if (v.find('{') != std::string::npos) {
    std::string plain;
    for (char c : v)
      if (c != '{' && c != '}') plain += c;
    return {{"uriTemplate",
             {{"name", "uri-template"}, {"typedConfig", {{"@type", "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"}, {"pathTemplate", plain}}}}}};
  }
  return {{"urlPath", {{"path", string_match(v)}}}};
}

// One side of a rule: fields that must all hold.
class Conditions {
 public:
  Conditions(const char* any_of, const char* list, const char* none_of) : or_(any_of), list_(list), not_(none_of) {}
  template <class F>
  void add(const Yaml* values, const Yaml* not_values, F&& f) {
    // istiod: what must not be comes before what must be only in the order of the fields; within one field values come first.
    if (!items(values).empty()) all_.push_back(group(values, f));
    if (!items(not_values).empty()) all_.push_back({{not_, group(not_values, f)}});
  }
  // true when nothing was asked.
  bool empty() const { return all_.empty(); }
  json take(const char* and_of) const {
    json all = all_;
    if (all.empty()) all.push_back({{"any", true}});
    return {{and_of, {{list_, std::move(all)}}}};
  }

 private:
  template <class F>
  json group(const Yaml* values, F&& f) {
    json any = json::array();
    for (const Yaml& v : items(values)) any.push_back(f(v.text));
    return {{or_, {{list_, std::move(any)}}}};
  }
  const char *or_, *list_, *not_;
  json all_ = json::array();
};

// A rule's RBAC policy; null when the rule cannot be expressed for raw TCP and must not allow (ALLOW), or has nothing left to deny.
json policy(const Yaml& rule, const Object& object, bool tcp, bool deny) {
  json permissions = json::array(), principals = json::array();
  bool http_only = false;
  auto when = [&](Conditions& permission, Conditions& principal_conditions, bool of_permission) {
    for (const Yaml& w : items(get(rule, "when"))) {
      const std::string key = text(get(w, "key"));
      const Yaml *v = get(w, "values"), *n = get(w, "notValues");
      const bool header = key.starts_with("request.headers[");
      if (header && tcp) {
        http_only = true;
        continue;
      }
      if (of_permission) {
        if (key == "destination.ip") permission.add(v, n, [](const std::string& x) { return json{{"destinationIp", block(x)}}; });
        if (key == "destination.port") permission.add(v, n, [](const std::string& x) { return json{{"destinationPort", std::stol(x)}}; });
        if (key == "connection.sni") permission.add(v, n, [](const std::string& x) { return json{{"requestedServerName", string_match(x)}}; });
      } else {
        if (header) {
          const std::string name = key.substr(16, key.size() - 17);
          principal_conditions.add(v, n, [&](const std::string& x) { return header_match(name, x); });
        }
        if (key == "source.ip") principal_conditions.add(v, n, [](const std::string& x) { return json{{"directRemoteIp", block(x)}}; });
        if (key == "remote.ip") principal_conditions.add(v, n, [](const std::string& x) { return json{{"remoteIp", block(x)}}; });
        if (key == "source.namespace") principal_conditions.add(v, n, source_namespace);
        if (key == "source.serviceAccount") principal_conditions.add(v, n, [&](const std::string& x) { return service_account(x, object.ns); });
        if (key == "source.principal") principal_conditions.add(v, n, principal);
      }
    }
  };
  auto permission_of = [&](const Yaml* op) {
    Conditions c("orRules", "rules", "notRule"), unused("orIds", "ids", "notId");
    for (const char* f : {"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"}) http_only |= tcp && !items(get(op, f)).empty();
    if (!tcp) {
      c.add(get(op, "hosts"), get(op, "notHosts"), [](const std::string& x) { return header_match(":authority", x, true); });
      c.add(get(op, "methods"), get(op, "notMethods"), [](const std::string& x) { return header_match(":method", x); });
      c.add(get(op, "paths"), get(op, "notPaths"), path);
    }
    c.add(get(op, "ports"), get(op, "notPorts"), [](const std::string& x) { return json{{"destinationPort", std::stol(x)}}; });
    when(c, unused, true);
    permissions.push_back(c.take("andRules"));
  };
  auto principal_of = [&](const Yaml* s) {
    Conditions c("orIds", "ids", "notId"), unused("orRules", "rules", "notRule");
    c.add(get(s, "principals"), get(s, "notPrincipals"), principal);
    c.add(get(s, "serviceAccounts"), get(s, "notServiceAccounts"), [&](const std::string& x) { return service_account(x, object.ns); });
    c.add(get(s, "namespaces"), get(s, "notNamespaces"), source_namespace);
    c.add(get(s, "remoteIpBlocks"), get(s, "notRemoteIpBlocks"), [](const std::string& x) { return json{{"remoteIp", block(x)}}; });
    c.add(get(s, "ipBlocks"), get(s, "notIpBlocks"), [](const std::string& x) { return json{{"directRemoteIp", block(x)}}; });
    when(unused, c, false);
    principals.push_back(c.take("andIds"));
  };
  if (items(get(rule, "to")).empty()) permission_of(nullptr);
  for (const Yaml& t : items(get(rule, "to"))) permission_of(get(t, "operation"));
  if (items(get(rule, "from")).empty()) principal_of(nullptr);
  for (const Yaml& f : items(get(rule, "from"))) principal_of(get(f, "source"));
  if (http_only && !deny) return nullptr;  // raw TCP cannot show what the rule asks for: it allows nothing
  return {{"permissions", std::move(permissions)}, {"principals", std::move(principals)}};
}

const json kNothing = {{"permissions", json::array({{{"notRule", {{"any", true}}}}})}, {"principals", json::array({{{"notId", {{"any", true}}}}})}};

}  // namespace

std::vector<json> Translation::authorization(bool tcp) const {
  std::map<std::string, std::vector<const Object*>> by_action;
  for (const Object* p : world.of("AuthorizationPolicy")) {
    if (p->ns != node.ns && p->ns != world.root_namespace) continue;
    if (!matches_labels(labels(get(get(p->spec, "selector"), "matchLabels")), node.labels)) continue;
    by_action[text(get(p->spec, "action"), "ALLOW")].push_back(p);
  }
  std::vector<json> out;
  for (const auto& [action, name] : {std::pair("AUDIT", "LOG"), std::pair("DENY", "DENY"), std::pair("ALLOW", "")}) {
    const std::string a(action);
    json policies = json::object();
    bool present = false;
    // istiod puts the root namespace's before the namespace's own; in a map by name the order does not show.
    for (const Object* p : by_action[a]) {
      present = true;
      const auto& rules = items(get(p->spec, "rules"));
      const std::string prefix = "ns[" + p->ns + "]-policy[" + p->name + "]-rule[";
      if (rules.empty() && a == "ALLOW") policies[prefix + "0]"] = kNothing;
      for (size_t i = 0; i < rules.size(); i++)
        if (json made = policy(rules[i], *p, tcp, a == "DENY"); !made.is_null()) policies[prefix + std::to_string(i) + "]"] = std::move(made);
    }
    if (a == "ALLOW" && options.deny_by_default) {
      present = true;
      policies["ns[" + world.root_namespace + "]-policy[default-deny]-rule[0]"] = kNothing;
    }
    if (!present) continue;
    json rules = json::object();
    if (*name != 0) rules["action"] = name;
    if (!policies.empty()) rules["policies"] = std::move(policies);
    json config = {{"@type", std::string("type.googleapis.com/envoy.extensions.filters.") + (tcp ? "network" : "http") + ".rbac.v3.RBAC"},
                   {"rules", std::move(rules)},
                   {"shadowRulesStatPrefix", "istio_dry_run_allow_"}};
    if (tcp) config["statPrefix"] = "tcp.";
    out.push_back({{"name", tcp ? "envoy.filters.network.rbac" : "envoy.filters.http.rbac"}, {"typedConfig", std::move(config)}});
  }
  return out;
}

}  // namespace sluice::plane
