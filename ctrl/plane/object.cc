// One document as an object: its kind, name and fields checked.
#include "ctrl/plane/object.h"

#include <algorithm>

#include "ctrl/plane/checker.h"
#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/rules.h"
#include "ctrl/plane/schema.h"

namespace sluice::plane {
namespace {

// By name: the group of its API.
constexpr std::pair<std::string_view, std::string_view> kKinds[] = {
    {"Gateway", "networking.istio.io/"},          {"VirtualService", "networking.istio.io/"},
    {"DestinationRule", "networking.istio.io/"},  {"ServiceEntry", "networking.istio.io/"},
    {"WorkloadEntry", "networking.istio.io/"},    {"AuthorizationPolicy", "security.istio.io/"},
    {"PeerAuthentication", "security.istio.io/"}, {"RequestAuthentication", "security.istio.io/"},
    {"Telemetry", "telemetry.istio.io/"},         {"EnvoyFilter", "networking.istio.io/"},
    {"WorkloadGroup", "networking.istio.io/"},    {"Sidecar", "networking.istio.io/"},
    {"ProxyConfig", "networking.istio.io/"}};
constexpr std::string_view kLater[] = {"WasmPlugin"};

// Takes the document if it becomes an object.
std::shared_ptr<Config> read_istio(Node&& document, std::vector<Issue>& issues) {
  if (document.kind != Node::Kind::kMapping) {
    issues.push_back(issue_at(document, "a document must be a mapping with apiVersion, kind, metadata and spec",
                              "begin documents with apiVersion: and part them with ---"));
    return nullptr;
  }
  static const std::vector<std::string_view> kTop = {"apiVersion", "kind", "metadata", "spec", "status"};
  for (const Node& key : document.keys)
    if (std::ranges::find(kTop, key.text) == kTop.end()) {
      const std::string near = nearest(key.text, kTop);
      issues.push_back(issue_at(key, "unknown field " + key.text + (near.empty() ? "" : "; did you mean '" + near + "'?"),
                                near.empty() ? "fields of an object stand under spec" : "write " + near));
    }
  auto made = std::make_shared<Config>();
  Config& c = *made;
  c.kind = document["kind"].str();
  const auto known = std::ranges::find(kKinds, c.kind, &std::pair<std::string_view, std::string_view>::first);
  if (known == std::end(kKinds)) {
    const bool later = std::ranges::find(kLater, c.kind) != std::end(kLater);
    std::vector<std::string_view> names;
    std::string list;
    for (const auto& [name, group] : kKinds) names.push_back(name), list += (list.empty() ? "one of " : ", ") + std::string(name);
    const std::string near = nearest(c.kind, names);
    const Node& at = document["kind"].null() ? document : document["kind"];
    issues.push_back(issue_at(at,
                              c.kind.empty() ? "'kind' is missing"
                              : later        ? c.kind + " is not translated yet"
                                             : "unknown kind " + c.kind + (near.empty() ? "" : "; did you mean '" + near + "'?"),
                              later ? "remove it; see docs/limits.md" : list));
    return nullptr;
  }
  const std::string group(known->second);
  const std::string& version = document["apiVersion"].str();
  if (version != group + "v1" && version != group + "v1beta1" && (version != group + "v1alpha3" || group[0] == 's'))
    issues.push_back(issue_at(document["apiVersion"].null() ? document : document["apiVersion"],
                              "unknown apiVersion '" + version + "' for " + c.kind, "write " + group + "v1"));
  const Node& metadata = document["metadata"];
  c.name = metadata["name"].str();
  c.ns = metadata["namespace"].null() ? "default" : metadata["namespace"].str();
  if (c.name.empty())
    issues.push_back(
        issue_at(metadata.null() ? document : metadata, c.kind + " without metadata.name", "add metadata: {name: ..., namespace: ...}"));
  const size_t before = issues.size();
  for (size_t i = 0; i < document.keys.size(); i++)
    if (document.keys[i].text == "spec") check_schema(document.items[i], c.kind, "spec", issues);
  c.document = std::move(document);
  if (issues.size() == before) check_rules(c, issues);  // rules rely on types
  return made;
}

}  // namespace

void settle(Config& c) {
  const std::string& made_at = c.document["metadata"]["creationTimestamp"].str();  // RFC 3339 in UTC: text order is time order
  c.order = made_at.empty() ? "1" + c.ns + "/" + c.name : "0" + made_at + '\0' + c.name + '\0' + c.ns;
  c.export_to = c.spec()["exportTo"].list();
  c.delegates = c.kind == "VirtualService" && std::ranges::any_of(c.spec()["http"].items, [](const Node& r) { return r.has("delegate"); });
}

std::shared_ptr<Config> read_object(Node document, std::shared_ptr<const Source> source, std::vector<Issue>& issues) {
  const size_t before = issues.size();
  auto c = is_gateway_api(document) ? read_gateway_api(std::move(document), issues) : read_istio(std::move(document), issues);
  name_fields(c != nullptr ? c->document : document, std::span(issues).subspan(before), "invalid");
  for (size_t i = before; i < issues.size(); i++)  // the API's own messages say what is wanted
    if (issues[i].remedy.empty()) issues[i].remedy = "see docs/gateway-api.md, or the reference of the kind, for what the field may be";
  if (c != nullptr) settle(*c), c->source = std::move(source);
  return c;
}

Mesh read_mesh(Node document, std::shared_ptr<const Source> source, std::vector<Issue>& issues) {
  Mesh m;
  const size_t before = issues.size();
  check_schema(document, "MeshConfig", "", issues);
  if (Checker c{issues}; issues.size() == before) check_mesh_config(c, document);
  name_fields(document, std::span(issues).subspan(before), "invalid");
  if (document["accessLogFile"]) m.access_log_file = document["accessLogFile"].str();
  if (document["accessLogFormat"]) m.access_log_format = document["accessLogFormat"].str();
  if (document["trustDomain"]) m.trust_domain = document["trustDomain"].str();
  if (document["rootNamespace"]) m.root_namespace = document["rootNamespace"].str();
  m.trust_domain_aliases = document["trustDomainAliases"].list();
  m.service_exports = document["defaultServiceExportTo"].list();
  m.virtual_exports = document["defaultVirtualServiceExportTo"].list();
  m.rule_exports = document["defaultDestinationRuleExportTo"].list();
  m.config = std::move(document);
  m.source = std::move(source);
  return m;
}

}  // namespace sluice::plane
