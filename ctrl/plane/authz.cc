// AuthorizationPolicy to Envoy's RBAC. A rule is one policy of the filter: a permission for each `to`, a principal for each `from`; `when`
// joins all of one side. On TCP chains HTTP attributes cannot be seen: a DENY rule forgets them (denies more), an ALLOW rule with them is
// left out (allows less).
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

enum class Value : uint8_t {
  kHost,
  kMethod,
  kPath,
  kPort,
  kSni,
  kDestinationIp,
  kSourceIp,
  kRemoteIp,
  kPrincipal,
  kNamespace,
  kServiceAccount,
  kHeader
};

bool permission_side(Value v) { return v <= Value::kDestinationIp; }
bool http_only(Value v) { return v == Value::kHost || v == Value::kMethod || v == Value::kPath || v == Value::kHeader; }

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

Json cidr(const char* field, const std::string& v) {
  const size_t slash = v.find('/');
  const std::string address = v.substr(0, slash);
  const int whole = address.find(':') == std::string::npos ? 32 : 128;
  return Object{
      {field, Object{{"addressPrefix", address}, {"prefixLen", slash == std::string::npos ? whole : std::stoi(v.substr(slash + 1))}}}};
}

Json authenticated(const Object& matcher) { return Object{{"authenticated", Object{{"principalName", matcher}}}}; }

Json one(Value kind, const std::string& name, const std::string& v, const std::string& ns) {
  switch (kind) {
    case Value::kHost: return header(":authority", v, true);
    case Value::kMethod: return header(":method", v);
    case Value::kHeader: return header(name, v);
    case Value::kPath:
      if (v.find("{*}") != std::string::npos || v.find("{**}") != std::string::npos)
        return Object{{"uriTemplate", extension("uri-template", "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                                                {{"pathTemplate", replace(replace(v, "{**}", "**"), "{*}", "*")}})}};
      return Object{{"urlPath", Object{{"path", string_matcher(v)}}}};
    case Value::kPort: return Object{{"destinationPort", std::stoi(v)}};
    case Value::kSni: return Object{{"requestedServerName", string_matcher(v)}};
    case Value::kDestinationIp: return cidr("destinationIp", v);
    case Value::kSourceIp: return cidr("directRemoteIp", v);
    case Value::kRemoteIp: return cidr("remoteIp", v);
    case Value::kPrincipal: return authenticated(string_matcher(v, "spiffe://"));
    case Value::kNamespace: return authenticated(regex(".*/ns/" + replace(quoted_regex(v), "\\*", ".*") + "/.*"));
    case Value::kServiceAccount: {
      const size_t slash = v.find('/');
      const std::string account_ns = slash == std::string::npos ? ns : v.substr(0, slash);
      return authenticated(
          regex("spiffe://.+/ns/" + quoted_regex(account_ns) + "/(.+/|)sa/" + quoted_regex(v.substr(slash + 1)) + "(/.+)?"));
    }
  }
  return {};
}

struct Group {  // one andRules / andIds under construction
  Array parts;
  bool lost_http = false;

  void add(Value kind, const std::string& name, const Node& values, const Node& not_values, const std::string& ns, bool tcp) {
    if (values.items.empty() && not_values.items.empty()) return;
    if (tcp && http_only(kind)) {
      lost_http = true;
      return;
    }
    const bool permission = permission_side(kind);
    const auto any_of = [&](const Node& list) -> Json {
      Array a;
      for (const std::string& v : list.list()) a.add(one(kind, name, v, ns));
      return permission ? Object{{"orRules", Object{{"rules", a}}}} : Object{{"orIds", Object{{"ids", a}}}};
    };
    if (!values.items.empty()) parts.add(any_of(values));
    if (!not_values.items.empty()) parts.add(Object{{permission ? "notRule" : "notId", any_of(not_values)}});
  }
  Json json(bool permission) const {
    const Json all = parts.empty() ? Json(Array{Object{{"any", true}}}) : Json(parts);
    return permission ? Object{{"andRules", Object{{"rules", all}}}} : Object{{"andIds", Object{{"ids", all}}}};
  }
};

void add_conditions(const Node& rule, bool permission, const std::string& ns, bool tcp, Group& g) {
  for (const Node& w : rule["when"].items) {
    const std::string& key = w["key"].str();
    std::string name;
    Value kind;
    if (key.starts_with("request.headers[")) kind = Value::kHeader, name = key.substr(16, key.size() - 17);
    else if (key == "source.ip") kind = Value::kSourceIp;
    else if (key == "remote.ip") kind = Value::kRemoteIp;
    else if (key == "source.namespace") kind = Value::kNamespace;
    else if (key == "source.principal") kind = Value::kPrincipal;
    else if (key == "source.serviceAccount") kind = Value::kServiceAccount;
    else if (key == "destination.ip") kind = Value::kDestinationIp;
    else if (key == "destination.port") kind = Value::kPort;
    else kind = Value::kSni;  // rules.cc admits no other
    if (permission_side(kind) == permission) g.add(kind, name, w["values"], w["notValues"], ns, tcp);
  }
}

// The policy of one rule; nothing where an ALLOW rule needs what TCP cannot see.
std::optional<Json> rule_policy(const Node& rule, const std::string& ns, bool tcp, bool deny) {
  bool lost = false;
  Array permissions, principals;
  const auto permission = [&](const Node& op) {
    Group g;
    g.add(Value::kHost, {}, op["hosts"], op["notHosts"], ns, tcp);
    g.add(Value::kMethod, {}, op["methods"], op["notMethods"], ns, tcp);
    g.add(Value::kPath, {}, op["paths"], op["notPaths"], ns, tcp);
    g.add(Value::kPort, {}, op["ports"], op["notPorts"], ns, tcp);
    add_conditions(rule, true, ns, tcp, g);
    lost |= g.lost_http;
    permissions.add(g.json(true));
  };
  const auto principal = [&](const Node& s) {
    Group g;
    g.add(Value::kPrincipal, {}, s["principals"], s["notPrincipals"], ns, tcp);
    g.add(Value::kServiceAccount, {}, s["serviceAccounts"], s["notServiceAccounts"], ns, tcp);
    g.add(Value::kNamespace, {}, s["namespaces"], s["notNamespaces"], ns, tcp);
    g.add(Value::kRemoteIp, {}, s["remoteIpBlocks"], s["notRemoteIpBlocks"], ns, tcp);
    g.add(Value::kSourceIp, {}, s["ipBlocks"], s["notIpBlocks"], ns, tcp);
    add_conditions(rule, false, ns, tcp, g);
    lost |= g.lost_http;
    principals.add(g.json(false));
  };
  for (const Node& t : rule["to"].items) permission(t["operation"]);
  if (rule["to"].items.empty()) permission(null_node());
  for (const Node& f : rule["from"].items) principal(f["source"]);
  if (rule["from"].items.empty()) principal(null_node());
  if (lost && !deny) return {};
  return Object{{"permissions", permissions}, {"principals", principals}};
}

Array rbac(const View& v, bool tcp) {
  Array filters;
  const auto all = v.world.of_kind("AuthorizationPolicy");
  const Json nothing = Object{{"permissions", Array{Object{{"notRule", Object{{"any", true}}}}}},
                              {"principals", Array{Object{{"notId", Object{{"any", true}}}}}}};
  for (const std::string_view action : {"AUDIT", "DENY", "ALLOW"}) {
    Object policies;
    bool any = false;
    for (const Config* c : all) {
      const std::string own = c->spec()["action"].null() ? "ALLOW" : c->spec()["action"].str();
      if (own != action || (c->ns != v.node.ns && c->ns != v.world.mesh.root_namespace)) continue;
      if (!labels_within(c->spec()["selector"]["matchLabels"], v.node.labels)) continue;
      any = true;
      const std::string name = "ns[" + c->ns + "]-policy[" + c->name + "]-rule[";
      const auto& rules = c->spec()["rules"].items;
      if (rules.empty())  // selects, and matches nothing
        policies.set(name + "0]", nothing);
      for (size_t i = 0; i < rules.size(); i++)
        if (auto p = rule_policy(rules[i], c->ns, tcp, action == "DENY")) policies.set(name + std::to_string(i) + "]", *p);
    }
    if (action == "ALLOW" && v.options.deny_by_default) {
      any = true;
      policies.set("ns[" + v.world.mesh.root_namespace + "]-policy[sluice-default-deny]-rule[0]", nothing);
    }
    if (!any) continue;
    Object out;
    if (action != "ALLOW") out.set("action", action == "AUDIT" ? "LOG" : "DENY");
    out.set_if(!policies.empty(), "policies", policies);
    Object config{{"rules", out}, {"shadowRulesStatPrefix", "istio_dry_run_allow_"}};
    config.set_if(tcp, "statPrefix", "tcp.");
    filters.add(tcp ? extension("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", config)
                    : extension("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", config));
  }
  return filters;
}

}  // namespace

Array http_rbac(const View& v) { return rbac(v, false); }
Array tcp_rbac(const View& v) { return rbac(v, true); }

}  // namespace sluice::plane
