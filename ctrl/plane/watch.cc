#include "ctrl/plane/watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

namespace sluice::plane {

Watch::Watch(std::vector<std::string> paths) : paths_(std::move(paths)), fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) { add_all(); }
Watch::~Watch() { close(fd_); }

// Folders are watched, not files: editors and git replace files by renaming. A watch that is there already stays as it is.
void Watch::add_all() {
  constexpr uint32_t kWhat = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF;
  std::error_code error;
  for (const std::string& path : paths_) {
    if (path.empty()) continue;
    const std::filesystem::path p(path);
    inotify_add_watch(fd_,
                      (std::filesystem::is_directory(p, error) ? p
                       : p.has_parent_path()                   ? p.parent_path()
                                                               : std::filesystem::path("."))
                          .c_str(),
                      kWhat);
    for (auto it = std::filesystem::recursive_directory_iterator(p, error); !error && it != std::filesystem::recursive_directory_iterator();
         it.increment(error))
      if (it->is_directory(error)) inotify_add_watch(fd_, it->path().c_str(), kWhat);
  }
}

bool Watch::drain() {
  char events[4096];
  bool any = false;
  while (read(fd_, events, sizeof events) > 0) any = true;
  return any;
}

bool Watch::changed(int wait_ms) {
  pollfd p{fd_, POLLIN, 0};
  if (poll(&p, 1, wait_ms) <= 0 || !drain()) return false;
  const auto first = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - first < std::chrono::milliseconds(kQuietMaxMs) && poll(&p, 1, kQuietMs) > 0) drain();
  add_all();
  return true;
}

}  // namespace sluice::plane
