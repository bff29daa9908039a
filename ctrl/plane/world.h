// Istio YAML, read, checked and indexed: the input of the translation. Everything here is immutable once made and shared between versions
// of the world: an object that did not change is the same object, or one of the same id. Order everywhere is istiod's: by
// creationTimestamp where there is one, the others behind, by namespace and name (its file mode makes them in that order).
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <span>

#include "ctrl/plane/yaml.h"

namespace sluice::plane {

struct Config : std::enable_shared_from_this<Config> {
  std::string kind, name, ns;
  Node document;
  bool derived = false;                // made of the Gateway API (gateway_api.h), not read
  std::shared_ptr<const void> source;  // keeps what the document's nodes point to
  uint64_t id = 0;                     // of its content, wherever it stands; never given to another content
  uint64_t shape = 0;                  // of a ServiceEntry: the same without its endpoints; else the id
  // What each translation asks of each object, out of the document (object.h, settle()).
  std::string order;                   // Istio's order of objects of one kind, as text
  std::vector<std::string> export_to;  // spec.exportTo
  bool delegates = false;              // a VirtualService that does
  const Node& spec() const { return document["spec"]; }
  const Node& labels() const { return document["metadata"]["labels"]; }
  const Node& at() const { return document["metadata"]["name"]; }
};

struct Mesh {
  std::string access_log_file, access_log_format, trust_domain = "cluster.local", domain = "cluster.local", root_namespace = "istio-system";
  std::vector<std::string> trust_domain_aliases;
  std::vector<std::string> service_exports, virtual_exports, rule_exports;  // of objects that say no exportTo
  Node config;                                                              // all of it
  std::shared_ptr<const Source> source;
  uint64_t id = 0;  // of its content
  const std::vector<Node>& providers() const { return config["extensionProviders"].items; }
};

class World {
 public:
  Mesh mesh;
  uint64_t shape = 0;  // worlds of one shape differ in nothing but endpoints of ServiceEntries
  const std::vector<const Config*>& of_kind(std::string_view kind) const;  // in Istio's order
  std::vector<const Config*> all() const;                                  // likewise
  size_t written() const;                                                  // how many that are not derived
  // For its makers: what leaves and what comes, and who owns what is there then.
  void change(const std::vector<const Config*>& gone, const std::vector<const Config*>& come,
              std::vector<std::shared_ptr<const void>> owners);
  void add(std::span<const std::shared_ptr<const Config>> more);  // derived ones

 private:
  std::map<std::string, std::vector<const Config*>, std::less<>> by_kind_;
  std::vector<std::shared_ptr<const void>> owners_;
  size_t derived_ = 0;
};

// What the check of a whole directory (check_references of rules.h) is told besides the directory.
struct CheckOptions {
  std::vector<std::map<std::string, std::string>> gateways;  // labels of those that run; empty: not known
  std::string secrets_dir;                                   // a gateway's secrets.dir; empty: not there
  int64_t now_us = 0;                                        // Unix microseconds; 0: the clock
};

struct Loaded {
  World world;
  std::vector<Issue> issues;    // with an error the world is not to be served
  bool endpoints_only = false;  // nothing but endpoints differs from what was loaded before (Directory)
};

// Every *.yaml and *.yml under `dir`, recursively, with the warnings of check_references; links that lead out of it are refused.
Loaded load_directory(const std::filesystem::path& dir, const std::filesystem::path& mesh_file = {}, const CheckOptions& options = {});
// The same for text at hand (tests, stdin).
Loaded load_text(std::string text, std::string file, std::string mesh = {}, const CheckOptions& options = {});

}  // namespace sluice::plane
