// AuthorizationPolicies that select the node, as RBAC filters: AUDIT, DENY, ALLOW, each with what is enforced and what only runs dry
// (shadow), and before them CUSTOM: shadow rules that mark the request for ext_authz.
#include <algorithm>

#include "ctrl/plane/authz_model.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kHttpRbac = "envoy.filters.http.rbac", kTcpRbac = "envoy.filters.network.rbac";

Json filter(Wire wire, Object config) {
  if (wire == Wire::kHttp) return extension(kHttpRbac, "envoy.extensions.filters.http.rbac.v3.RBAC", config);
  return extension(kTcpRbac, "envoy.extensions.filters.network.rbac.v3.RBAC", config.set("statPrefix", "tcp."));
}

// Go's strconv.ParseBool.
bool dry_run(const Config& c) {
  const std::string& s = c.document["metadata"]["annotations"]["istio.io/dry-run"].str();
  static constexpr std::string_view kTrue[] = {"1", "t", "T", "TRUE", "true", "True"};
  return std::ranges::find(kTrue, s) != std::end(kTrue);
}

std::vector<const Config*> policies_of(const View& v, std::string_view action) {
  std::vector<const Config*> out;
  for (const Config* c : v.world.of_kind("AuthorizationPolicy")) {
    const std::string own = c->spec()["action"].null() ? "ALLOW" : c->spec()["action"].str();
    if (own == action && policy_selects(*c, v)) out.push_back(c);
  }
  return out;
}

void add_policies(const Config& c, const View& v, Wire wire, bool narrow, const std::string& prefix, const std::string& suffix,
                  Object& policies) {
  const std::string name = prefix + "ns[" + c.ns + "]-policy[" + c.name + "]-rule[";
  const auto& rules = c.spec()["rules"].items;
  if (rules.empty()) policies.set(name + "0]" + suffix, never_matches());  // selects, and matches nothing
  for (size_t i = 0; i < rules.size(); i++)
    if (auto p = rbac_policy(rules[i], c.ns, v.world.mesh, wire, narrow)) policies.set(name + std::to_string(i) + "]" + suffix, *p);
}

Object rules_json(std::string_view action, const Object& policies) {
  Object out;
  if (action != "ALLOW") out.set("action", action == "AUDIT" ? "LOG" : "DENY");
  return out.set_if(!policies.empty(), "policies", policies);
}

void add_action(const View& v, std::string_view action, Wire wire, Array& filters) {
  Object enforced, shadow;
  bool any = false, any_shadow = false;
  for (const Config* c : policies_of(v, action)) {
    const bool dry = dry_run(*c);
    (dry ? any_shadow : any) = true;
    add_policies(*c, v, wire, action == "ALLOW", {}, {}, dry ? shadow : enforced);
  }
  if (action == "ALLOW" && v.options.deny_by_default) {
    any = true;
    enforced.set("ns[" + v.world.mesh.root_namespace + "]-policy[sluice-default-deny]-rule[0]", never_matches());
  }
  if (!any && !any_shadow) return;
  Object config;
  if (any) config.set("rules", rules_json(action, enforced));
  if (any_shadow) config.set("shadowRules", rules_json(action, shadow));
  if (!any_shadow || action == "ALLOW") config.set("shadowRulesStatPrefix", "istio_dry_run_allow_");
  else if (action == "DENY") config.set("shadowRulesStatPrefix", "istio_dry_run_deny_");
  filters.add(filter(wire, config));
}

// One provider a workload; where that is not so, or it is not there, what the rules match is refused.
void add_custom(const View& v, Wire wire, Array& filters) {
  const auto policies = policies_of(v, "CUSTOM");
  if (policies.empty()) return;
  const std::string& provider = policies[0]->spec()["provider"]["name"].str();
  const bool one = std::ranges::all_of(policies, [&](const Config* c) { return c->spec()["provider"]["name"].str() == provider; });
  const auto ext_authz = one ? ext_authz_filter(v, provider, wire) : std::nullopt;
  Object marks;
  for (const Config* c : policies)
    if (!dry_run(*c)) add_policies(*c, v, wire, false, "istio-ext-authz-", ext_authz ? "" : "-deny-due-to-bad-CUSTOM-action", marks);
  if (!ext_authz) {
    filters.add(filter(wire, {{"rules", rules_json("DENY", marks)}}));
    return;
  }
  if (ext_authz->text.empty()) return;  // an HTTP provider has no say on a TCP chain
  filters.add(filter(wire, {{"shadowRules", rules_json("DENY", marks)}, {"shadowRulesStatPrefix", "istio_ext_authz_"}}));
  filters.add(*ext_authz);
}

Array rbac(const View& v, Wire wire) {
  Array filters;
  for (const std::string_view action : {"AUDIT", "DENY", "ALLOW"}) add_action(v, action, wire, filters);
  return filters;
}

Array custom(const View& v, Wire wire) {
  Array filters;
  add_custom(v, wire, filters);
  return filters;
}

}  // namespace

// Of the node's namespace or the root namespace; by labels, or by the name of the Kubernetes Gateway that the node belongs to.
bool policy_selects(const Config& c, const View& v) {
  if (c.ns != v.node.ns && c.ns != v.world.mesh.root_namespace) return false;
  const Node& spec = c.spec();
  std::vector<const Node*> targets;
  for (const Node& t : spec["targetRefs"].items) targets.push_back(&t);
  if (targets.empty() && spec["targetRef"]) targets.push_back(&spec["targetRef"]);
  if (targets.empty()) return labels_within(spec["selector"]["matchLabels"], v.node.labels);
  const auto name = v.node.labels.find("gateway.networking.k8s.io/gateway-name");
  return name != v.node.labels.end() && c.ns == v.node.ns && std::ranges::any_of(targets, [&](const Node* t) {
           return (*t)["kind"].str() == "Gateway" && (*t)["group"].str() == "gateway.networking.k8s.io" &&
                  (*t)["name"].str() == name->second;
         });
}

Array http_rbac(const View& v) { return rbac(v, Wire::kHttp); }
Array tcp_rbac(const View& v) { return custom(v, Wire::kTcp).add_all(rbac(v, Wire::kTcp)); }
Array http_custom_authz(const View& v) { return custom(v, Wire::kHttp); }

}  // namespace sluice::plane
