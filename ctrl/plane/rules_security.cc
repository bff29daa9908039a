#include <algorithm>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kWhenKeys[] = {
    "source.ip",        "remote.ip",      "source.namespace",       "source.principal",       "source.serviceAccount", "destination.ip",
    "destination.port", "connection.sni", "request.auth.principal", "request.auth.audiences", "request.auth.presenter"};

// A JSON Web Key Set (RFC 7517): a list of keys, each with what its type needs.
void check_jwks(Checker& c, const Node& jwks) {
  const Source source{"jwks", jwks.str()};
  std::vector<Issue> wrong;
  const auto documents = load_yaml(source, wrong);  // JSON is YAML
  if (!wrong.empty() || documents.size() != 1 || documents[0]["keys"].items.empty())
    return c.refuse(jwks, "jwks is no key set: " + (wrong.empty() ? std::string("it has no 'keys'") : wrong[0].message),
                    "{\"keys\": [{\"kty\": ...}]}");
  static const std::map<std::string, std::vector<const char*>> kNeeds = {
      {"RSA", {"n", "e"}}, {"EC", {"crv", "x", "y"}}, {"OKP", {"crv", "x"}}, {"oct", {"k"}}};
  for (const Node& key : documents[0]["keys"].items) {
    const auto needs = kNeeds.find(key["kty"].str());
    if (needs == kNeeds.end()) return c.refuse(jwks, "jwks: a key has the type '" + key["kty"].str() + "'", "kty is RSA, EC, OKP or oct");
    for (const char* field : needs->second)
      if (key[field].str().empty())
        return c.refuse(jwks, "jwks: a key of type " + needs->first + " has no '" + field + "'", "take the issuer's key set as it is");
  }
}

void check_values(Checker& c, const Node& list, const std::string& field) {
  const bool ip = field.ends_with("pBlocks") || field.ends_with(".ip"), port = field.ends_with("orts") || field == "destination.port";
  for (const Node& v : list.items) {
    const std::string& s = v.str();
    if (s.empty()) c.refuse(v, "an empty value is not allowed in " + field, "write a value, * for any, or remove it");
    else if (ip && !valid_cidr(s))
      c.refuse(v, s + " is no IP address and no CIDR block", "for example 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32");
    else if (port && (s.size() > 5 || !std::ranges::all_of(s, [](char ch) { return ch >= '0' && ch <= '9'; }) || std::stoi(s) > 65535 ||
                      std::stoi(s) < 1))
      c.refuse(v, "bad port " + s, "a number in the range 1..65535");
    else if ((field == "principals" || field == "notPrincipals" || field == "source.principal") && s.starts_with("spiffe://"))
      c.warn(v, "a principal is written without spiffe://: '" + s + "' never matches", "write " + s.substr(9));
    else if (field.ends_with("ethods") && std::ranges::any_of(s, [](char ch) { return ch >= 'a' && ch <= 'z'; }))
      c.warn(v, "methods are compared with their case: '" + s + "' is not '" + upper(s) + "'", "write " + upper(s));
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

}  // namespace

void check_authorization(Checker& c, const Config& a) {
  const Node& s = a.spec();
  const std::string action = s["action"].str();
  if (action == "CUSTOM" && s["provider"]["name"].str().empty())
    c.refuse(s["action"], "`provider.name` must not be empty", "add provider: {name: NAME}, one of MeshConfig's extensionProviders");
  if (action != "CUSTOM" && s["provider"]) c.refuse(s["provider"], "a provider is for action CUSTOM", "write action: CUSTOM, or remove it");
  for (const Node& k : s["selector"]["matchLabels"].keys) {
    if (k.text.empty()) c.refuse(k, "an empty key is not supported in a selector", "write label: value");
    if (k.text.find('*') != std::string::npos)
      c.refuse(k, "a wildcard is not supported in a selector", "write the whole label, or leave the selector out");
  }
  for (const Node& v : s["selector"]["matchLabels"].items)
    if (v.str().find('*') != std::string::npos)
      c.refuse(v, "a wildcard is not supported in a selector", "write the whole value, or leave the label out");
  if ((action == "DENY" || action == "AUDIT") && s["rules"].items.empty())
    c.refuse(s["action"], action + " without rules is meaningless: it will never be triggered",
             "add an empty rule {} to trigger it for every request");
  for (const Node& r : s["rules"].items) {
    for (const char* part : {"from", "to", "when"})
      if (r.has(part) && r[part].items.empty())
        c.refuse(*r.key_of(part), std::string(part) + " is empty", "remove it or give it an element");
    for (const Node& f : r["from"].items) {
      const Node& src = f["source"];
      if (src.keys.empty()) c.refuse(f, "`from.source` must not be empty", "give it principals, namespaces or ipBlocks, or remove it");
      for (size_t i = 0; i < src.keys.size(); i++) check_values(c, src.items[i], src.keys[i].text);
      if ((src["serviceAccounts"] || src["notServiceAccounts"]) &&
          (src["namespaces"] || src["notNamespaces"] || src["principals"] || src["notPrincipals"]))
        c.refuse(src, "cannot set serviceAccounts with namespaces or principals", "keep one of them; a service account is NAMESPACE/NAME");
    }
    for (const Node& t : r["to"].items) {
      const Node& op = t["operation"];
      if (op.keys.empty()) c.refuse(t, "`to.operation` must not be empty", "give it hosts, methods, paths or ports, or remove it");
      for (size_t i = 0; i < op.keys.size(); i++) check_values(c, op.items[i], op.keys[i].text);
    }
    for (const Node& w : r["when"].items) {
      const std::string& key = w["key"].str();
      const auto bracketed = [&](std::string_view head) {
        return key.starts_with(head) && key.ends_with("]") && key.size() > head.size() + 1;
      };
      const bool header = bracketed("request.headers[") || bracketed("request.experimental.inline.headers[") ||
                          bracketed("request.auth.claims[") ||
                          (key.starts_with("experimental.envoy.filters.") && key.ends_with("]") && key.find('[') != std::string::npos);
      if (!header && std::ranges::find(kWhenKeys, key) == std::end(kWhenKeys)) {
        const std::string near = nearest(key, {std::begin(kWhenKeys), std::end(kWhenKeys)});
        c.refuse(
            w["key"],
            "the attribute " + key + " is not known, or not translated yet" + (near.empty() ? "" : "; did you mean '" + near + "'?"),
            "request.headers[NAME], request.auth.claims[NAME], request.auth.principal, request.auth.audiences, request.auth.presenter, "
            "source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, destination.port or "
            "connection.sni");
      }
      if (w["values"].items.empty() && w["notValues"].items.empty())
        c.refuse(w, "at least one of values and notValues must be set", "add values: [...]");
      for (const char* f : {"values", "notValues"}) check_values(c, w[f], key);
    }
  }
}

void check_peer_authentication(Checker& c, const Config& p) {
  const Node& ports = p.spec()["portLevelMtls"];
  if (!ports.keys.empty() && p.spec()["selector"]["matchLabels"].keys.empty())
    c.refuse(ports, "a policy of a namespace or of the mesh cannot have port-level mTLS", "add spec.selector.matchLabels");
  for (const Node& k : ports.keys)
    if (k.text.empty() || k.text.size() > 5 || !std::ranges::all_of(k.text, [](char ch) { return ch >= '0' && ch <= '9'; }) ||
        std::stoi(k.text) < 1 || std::stoi(k.text) > 65535)
      c.refuse(k, "bad port " + k.text, "a number in the range 1..65535");
}

void check_request_authentication(Checker& c, const Config& r) {
  for (const Node& rule : r.spec()["jwtRules"].items) {
    if (rule["issuer"].str().empty()) c.refuse(rule, "the rule has no issuer", "add issuer, as the tokens' iss says it");
    for (const char* f : {"audiences", "fromParams", "fromCookies"})
      for (const Node& v : rule[f].items)
        if (v.str().empty()) c.refuse(v, std::string(f) + ": an empty value is not allowed", "write a value, or remove it");
    for (const Node& h : rule["fromHeaders"].items)
      if (h["name"].str().empty()) c.refuse(h, "the header has no name", "add name, for example x-token");
    if (rule["jwks"] && rule["jwksUri"]) c.refuse(rule["jwksUri"], "one of jwks and jwksUri", "remove jwksUri");
    else if (rule["jwks"]) check_jwks(c, rule["jwks"]);
    else
      c.refuse(rule["jwksUri"] ? rule["jwksUri"] : rule, "the rule has no keys: sluice-control fetches none itself",
               "put the key set into jwks");
  }
}

namespace {
// istiod passes over the others in silence.
bool has_effect(const std::string& apply_to, const std::string& operation) {
  if (apply_to == "EXTENSION_CONFIG" || apply_to == "BOOTSTRAP") return true;  // these have words of their own
  if (apply_to == "ROUTE_CONFIGURATION") return operation == "MERGE";
  if (operation == "ADD" || operation == "REMOVE") return true;
  if (operation == "MERGE") return apply_to != "LISTENER_FILTER";
  if (operation == "REPLACE") return apply_to.ends_with("_FILTER");
  return apply_to.ends_with("_FILTER") || apply_to == "HTTP_ROUTE";
}
}  // namespace

// What a value must be is checked where protobuf is (check_patches of resource.h).
void check_envoy_filter(Checker& c, const Config& e) {
  for (const Node& p : e.spec()["configPatches"].items) {
    const Node &to = p["applyTo"], &patch = p["patch"];
    if (to.str() == "EXTENSION_CONFIG")
      c.refuse(to, "EXTENSION_CONFIG is not translated yet: extension configurations are not served",
               "put the filter itself into the patch; see docs/limits.md");
    if (to.str() == "BOOTSTRAP") c.warn(to, "a gateway of ours takes no bootstrap from here: the patch changes nothing", "remove it");
    if (patch["operation"].null() || patch["operation"].str() == "INVALID")
      c.refuse(patch.null() ? p : patch, "the patch has no operation", "add operation: MERGE, for example");
    else if (!has_effect(to.str(), patch["operation"].str()))
      c.warn(patch["operation"], patch["operation"].str() + " of a " + to.str() + " changes nothing, in istiod neither",
             "see docs/istio.md");
    else if (patch["operation"].str() != "REMOVE" && patch["value"].null())
      c.refuse(patch, patch["operation"].str() + " needs a value", "add value, or use operation REMOVE");
  }
}

}  // namespace sluice::plane
