// Istio objects as they were written: one tree per object, with the place of every value, checked against the schema of what can be
// translated. A directory is loaded and checked whole; all problems come at once, each at its FILE:LINE:COL with the remedy. What the schema
// does not name is refused, never dropped: an Istio field that is not translated says so, a misspelt one is answered with the nearest.
// Thread: any; pure but for reading files. Limits: kFileBytesMax, kObjectsMax.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ctrl/agent/yaml.h"

namespace sluice::plane {

using agent::Yaml;

constexpr size_t kFileBytesMax = 16 << 20, kObjectsMax = 50'000;

// The value of a key, or null.
const Yaml* get(const Yaml& y, std::string_view key);
const Yaml* get(const Yaml* y, std::string_view key);
std::string text(const Yaml* y, std::string_view otherwise = {});
long number(const Yaml* y, long otherwise = 0);
bool truth(const Yaml* y, bool otherwise = false);
inline const std::vector<Yaml>& items(const Yaml* y) {
  static const std::vector<Yaml> kNone;
  return y == nullptr ? kNone : y->items;
}
std::vector<std::string> texts(const Yaml* y);
std::map<std::string, std::string> labels(const Yaml* y);
// "1h", "1.5s", "100ms" in milliseconds; -1 when it is none.
long milliseconds(std::string_view duration);

struct Object {
  std::string kind, name, ns, file;
  Yaml spec, metadata;
  int line = 1;
};

struct World {
  std::vector<Object> objects;  // sorted by kind, then namespace and name
  // What MeshConfig says, as far as it is used.
  std::string root_namespace = "istio-system", trust_domain = "cluster.local", access_log_file;
  std::vector<const Object*> of(std::string_view kind) const;
};

// Problems are whole lines, each with its caret: "FILE:LINE:COL: what; remedy\n  source line\n  ^". Empty: the world is good.
struct Loaded {
  World world;
  std::vector<std::string> problems;
};
Loaded load_directory(const std::string& directory, const std::string& mesh_file = {});
// One file's text, for tests and fuzzing.
Loaded load_text(std::string_view text, const std::string& file);

}  // namespace sluice::plane
