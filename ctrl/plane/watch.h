// Watch: tells when something under some paths changed (inotify on each folder). Changes are gathered until it has been quiet for kQuietMs,
// at most kQuietMaxMs after the first. Thread: one.
#pragma once
#include <string>
#include <vector>

namespace sluice::plane {

constexpr int kQuietMs = 15, kQuietMaxMs = 60;

class Watch {
 public:
  explicit Watch(std::vector<std::string> paths);  // files or folders; empty strings are ignored
  ~Watch();
  Watch(const Watch&) = delete;
  bool changed(int wait_ms);  // waits at most wait_ms for a first change

 private:
  void add_all();
  bool drain();
  const std::vector<std::string> paths_;
  int fd_ = -1;
};

}  // namespace sluice::plane
