// A directory of Istio YAML that is read again and again: only what changed is parsed, checked and placed anew. A file is cut at its "---"
// lines; a document whose text and place are as before is not looked at, one whose content is as before keeps its id (world.h).
// Thread: one. Limits: kFilesMax files, kYamlBytesMax a file.
#pragma once
#include <set>
#include <unordered_map>

#include "ctrl/plane/world.h"

namespace sluice::plane {

constexpr size_t kFilesMax = 20'000;

// What may have changed, as Watch says it.
struct Changes {
  bool all = false;                       // anything
  std::set<std::filesystem::path> files;  // these
  bool none() const { return !all && files.empty(); }
};

class Directory {
 public:
  explicit Directory(std::filesystem::path dir, std::filesystem::path mesh_file = {});  // dir: or one file
  // The world as it is now; the warnings about what leads nowhere are check_references' (rules.h).
  Loaded load(const Changes& changes = {.all = true});

 private:
  struct Part;
  struct Parts;
  struct Known {
    std::shared_ptr<const Parts> parts;
    int64_t stamp[4] = {};  // what stat() says: while it is the same, the file is
    bool hasty = false;     // it was read so soon after it was written that the next write may leave the stamp as it is
  };
  void look_at(const std::filesystem::path& path, bool again, std::set<std::filesystem::path>& seen);
  void look_at_all(const std::set<std::filesystem::path>& again, std::set<std::filesystem::path>& seen);
  void put(const std::filesystem::path& path, std::shared_ptr<const Parts> parts);
  void read_mesh();
  Loaded finish();  // what was put takes effect
  void derive(const std::shared_ptr<const void>& sources);
  std::shared_ptr<const Parts> parse(std::string shown, std::string text, const Parts* before);
  friend Loaded load_text(std::string, std::string, std::string);

  const std::filesystem::path dir_, mesh_file_;
  std::filesystem::path root_;
  std::map<std::filesystem::path, Known> files_;
  std::unordered_map<std::string, std::vector<const Config*>> by_name_;  // "kind ns/name"
  std::set<std::string> twice_;
  std::vector<Issue> own_issues_, mesh_issues_;
  std::vector<const Config*> gone_, come_;
  World world_;                                         // what is written
  std::vector<std::shared_ptr<const Config>> derived_;  // what is made of it (gateway_api.h)
  std::vector<Issue> derived_issues_;
  bool shape_changed_ = false, derive_ = false;
};

}  // namespace sluice::plane
