// RequestAuthentication as one jwt_authn filter: a provider for each rule of every policy that selects the node; a request without a token
// passes (AuthorizationPolicy decides), one with a wrong token does not.
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

Json provider(const Node& r) {
  Object p{{"issuer", r["issuer"].str()}};
  if (!r["audiences"].items.empty()) p.set("audiences", strings(r["audiences"].list()));
  if (r["jwks"]) p.set("localJwks", Object{{"inlineString", r["jwks"].str()}});
  p.set_if(r["forwardOriginalToken"].boolean(), "forward", true);
  Array headers;
  for (const Node& h : r["fromHeaders"].items) {
    Object o{{"name", h["name"].str()}};
    headers.add(o.set_if(!h["prefix"].str().empty(), "valuePrefix", h["prefix"].str()));
  }
  p.set_if(!headers.empty(), "fromHeaders", headers);
  for (const char* f : {"fromParams", "fromCookies"})
    if (!r[f].items.empty()) p.set(f, strings(r[f].list()));
  if (!r["outputPayloadToHeader"].str().empty()) p.set("forwardPayloadHeader", r["outputPayloadToHeader"].str());
  std::set<std::string> spaced{"permission", "scope"};
  for (const std::string& c : r["spaceDelimitedClaims"].list()) spaced.insert(c);
  p.set("payloadInMetadata", "payload").set("normalizePayloadInMetadata", Object{{"spaceDelimitedClaims", strings(spaced)}});
  Array claims;
  for (const Node& c : r["outputClaimToHeaders"].items)
    claims.add(Object{{"headerName", c["header"].str()}, {"claimName", c["claim"].str()}});
  p.set_if(!claims.empty(), "claimToHeaders", claims);
  return p.set("clearRouteCache", true);
}

Json any_of(const Array& requirements) { return Object{{"requiresAny", Object{{"requirements", requirements}}}}; }

}  // namespace

Array jwt_authn(const View& v) {
  std::vector<const Node*> rules;
  for (const Config* c : v.world.of_kind("RequestAuthentication"))
    if (policy_selects(*c, v))
      for (const Node& r : c->spec()["jwtRules"].items) rules.push_back(&r);
  if (rules.empty()) return {};
  std::ranges::stable_sort(rules, {}, [](const Node* r) { return (*r)["issuer"].str(); });
  Object providers;
  Array each, any;
  for (size_t i = 0; i < rules.size(); i++) {
    const std::string name = "origins-" + std::to_string(i);
    providers.set(name, provider(*rules[i]));
    const Json one = Object{{"providerName", name}};
    any.add(one);
    each.add(any_of(Array{one, Object{{"allowMissing", Object{}}}}));
  }
  // One: its token or none. Several: a token of one, or each token that is there is right (they may share a place).
  any.add(Object{{"requiresAll", Object{{"requirements", each}}}});
  const Json all = rules.size() == 1 ? Json::raw(Json(each).text.substr(1, Json(each).text.size() - 2)) : any_of(any);
  return Array{extension("envoy.filters.http.jwt_authn", "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                         {{"providers", providers},
                          {"rules", Array{Object{{"match", Object{{"prefix", "/"}}}, {"requires", all}}}},
                          {"bypassCorsPreflight", true}})};
}

}  // namespace sluice::plane
