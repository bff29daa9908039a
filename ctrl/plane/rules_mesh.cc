// Telemetry and MeshConfig.
#include <set>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
namespace {

void check_custom_tags(Checker& c, const Node& tags) {
  for (size_t i = 0; i < tags.keys.size(); i++) {
    const Node& t = tags.items[i];
    if (t["literal"].null() + t["environment"].null() + t["header"].null() + t["formatter"].null() != 3)
      c.refuse(tags.keys[i], "a custom tag has one of literal, environment, header and formatter");
    for (const char* kind : {"literal", "formatter"})
      if (t[kind] && t[kind]["value"].str().empty()) c.refuse(t[kind], "the tag's value is empty");
    for (const char* kind : {"environment", "header"})
      if (t[kind] && t[kind]["name"].str().empty()) c.refuse(t[kind], "the tag's source has no name");
  }
}

void check_percentage(Checker& c, const Node& p, const char* name) {
  if (p && (p.number() < 0 || p.number() > 100)) c.refuse(p, std::string(name) + " must be in the range 0..100");
}

void check_overrides(Checker& c, const Node& metrics) {
  for (const Node& o : metrics["overrides"].items) {
    if (o["match"]["metric"] && o["match"]["customMetric"]) c.refuse(o["match"], "one of metric and customMetric");
    const Node& tags = o["tagOverrides"];
    for (size_t i = 0; i < tags.keys.size(); i++) {
      const bool remove = tags.items[i]["operation"].str() == "REMOVE", value = !tags.items[i]["value"].str().empty();
      if (remove && value) c.refuse(tags.items[i]["value"], "a value is for operation UPSERT only");
      if (!remove && !value) c.refuse(tags.keys[i], "operation UPSERT needs a value", "value: a CEL expression, for example request.host");
    }
  }
}

}  // namespace

void check_telemetry(Checker& c, const Config& t) {
  const Node& s = t.spec();
  if (s["selector"] && (s["targetRef"] || !s["targetRefs"].items.empty())) c.refuse(s["selector"], "one of selector and targetRefs");
  for (const Node& item : s["tracing"].items) {
    if (item["providers"].items.size() > 1) c.warn(item["providers"].items[1], "one provider traces: the others are not used", "remove it");
    check_percentage(c, item["randomSamplingPercentage"], "randomSamplingPercentage");
    check_custom_tags(c, item["customTags"]);
  }
  for (const Node& item : s["metrics"].items) {
    check_overrides(c, item);
    check_duration(c, item["reportingInterval"], "reportingInterval");
  }
}

void check_mesh_config(Checker& c, const Node& mesh) {
  std::set<std::string> names;
  for (const Node& p : mesh["extensionProviders"].items) {
    if (!p["name"].str().empty() && !names.insert(p["name"].str()).second)
      c.refuse(p["name"], "the provider " + p["name"].str() + " is there twice");
    const size_t kinds = p.keys.size() - size_t(p.has("name"));
    if (kinds == 0) c.refuse(p, "the provider says not what it is", "for example prometheus: {}");
    for (size_t i = 0, seen = 0; i < p.keys.size(); i++)
      if (p.keys[i].text != "name" && ++seen > 1) c.refuse(p.keys[i], "a provider is one thing", "write a second provider");
    if (p["opentelemetry"]["http"] && p["opentelemetry"]["grpc"]) c.refuse(p["opentelemetry"]["grpc"], "one of http and grpc");
  }
  check_duration(c, mesh["connectTimeout"], "connectTimeout");
  const Node& tracing = mesh["defaultConfig"]["tracing"];
  check_percentage(c, tracing["sampling"], "sampling");
  check_custom_tags(c, tracing["customTags"]);
}

}  // namespace sluice::plane
