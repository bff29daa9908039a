// Which patches of which EnvoyFilters reach the node: a gateway's context, its labels, version and metadata.
#include <re2/re2.h>

#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

bool reaches(const Node& patch, const NodeInfo& node) {
  const Node& match = patch["match"];
  const std::string& context = match["context"].str();
  if (!context.empty() && context != "ANY" && context != "GATEWAY") return false;
  const Node& proxy = match["proxy"];
  if (const std::string& version = proxy["proxyVersion"].str(); !version.empty() && !re2::RE2::PartialMatch(node.version, version))
    return false;
  for (size_t i = 0; i < proxy["metadata"].keys.size(); i++) {
    const auto at = node.metadata.find(proxy["metadata"].keys[i].text);
    if (at == node.metadata.end() || at->second != proxy["metadata"].items[i].text) return false;
  }
  return true;
}

}  // namespace

std::vector<Patch> patches_of(const View& v) {
  std::vector<const Config*> filters;
  for (const Config* c : v.world.of_kind("EnvoyFilter"))
    if (c->spec()["targetRefs"].items.empty() ? (c->ns == v.node.ns || c->ns == v.world.mesh.root_namespace) &&
                                                    labels_within(c->spec()["workloadSelector"]["labels"], v.node.labels)
                                              : policy_selects(*c, v))
      filters.push_back(c);
  std::ranges::stable_sort(
      filters, {}, [&](const Config* c) { return std::pair(c->spec()["priority"].integer(), c->ns != v.world.mesh.root_namespace); });
  std::vector<Patch> out;
  for (const Config* c : filters)
    for (const Node& p : c->spec()["configPatches"].items)
      if (reaches(p, v.node) && p["applyTo"].str() != "BOOTSTRAP")
        out.push_back({p["applyTo"].str(), p["patch"]["operation"].str(), p["match"], json_of(p["patch"]["value"])});
  return out;
}

}  // namespace sluice::plane
