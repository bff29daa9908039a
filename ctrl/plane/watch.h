// Watch: tells what changed under some paths (inotify on each folder), as it comes and without waiting for more: gather() does that.
// Thread: one.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "ctrl/plane/directory.h"

namespace sluice::plane {

constexpr int kQuietMs = 15, kQuietMaxMs = 60;

class Watch {
 public:
  explicit Watch(std::vector<std::string> paths);  // files or folders; empty strings are ignored
  ~Watch();
  Watch(const Watch&) = delete;
  // Waits at most wait_ms for a first change. A file of YAML that was written whole (closed, or renamed to where it is) is named; of
  // anything else `all` is said. Files whose name begins with one dot are nobody's.
  Changes changes(int wait_ms);
  // More of them, until it has been quiet for kQuietMs, at most kQuietMaxMs: what belongs together goes together.
  Changes gather();
  bool changed(int wait_ms);  // both, for who reads all again whatever it was

 private:
  void add(const std::string& folder);
  void add_all();
  void drain(Changes& into);
  const std::vector<std::string> paths_;
  int fd_ = -1;
  bool here_ = true;                    // the first path
  std::map<int, std::string> folders_;  // by watch descriptor
};

}  // namespace sluice::plane
