// A directory of Istio YAML, read, checked and indexed: the input of the translation. Immutable once loaded; one per version of the
// directory. Order everywhere is istiod's: by creationTimestamp where there is one, the others behind, by namespace and name (its file mode
// makes them in that order).
#pragma once
#include <filesystem>
#include <memory>

#include "ctrl/plane/yaml.h"

namespace sluice::plane {

struct Config {
  std::string kind, name, ns;
  Node document;
  bool derived = false;  // made of the Gateway API (gateway_api.h), not read
  const Node& spec() const { return document["spec"]; }
  const Node& labels() const { return document["metadata"]["labels"]; }
  const Node& at() const { return document["metadata"]["name"]; }
};

struct Mesh {
  std::string access_log_file, access_log_format, trust_domain = "cluster.local", domain = "cluster.local", root_namespace = "istio-system";
  std::vector<std::string> trust_domain_aliases;
  Node config;  // all of it
  const std::vector<Node>& providers() const { return config["extensionProviders"].items; }
};

struct World {
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<Config> configs;  // in Istio's order
  Mesh mesh;
  std::vector<const Config*> of_kind(std::string_view kind) const;
  size_t written() const;  // objects that are not derived
};

struct Loaded {
  World world;
  std::vector<Issue> issues;  // all of them; with an error the world is not to be served
};

// Every *.yaml and *.yml under `dir`, recursively; links that lead out of it are refused.
Loaded load_directory(const std::filesystem::path& dir, const std::filesystem::path& mesh_file = {});
// The same for text at hand (tests, stdin).
Loaded load_text(std::string text, std::string file, std::string mesh = {});

}  // namespace sluice::plane
