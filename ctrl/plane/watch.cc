#include "ctrl/plane/watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>

namespace sluice::plane {
namespace fs = std::filesystem;

Watch::Watch(std::vector<std::string> paths) : paths_(std::move(paths)), fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) { add_all(); }
Watch::~Watch() { close(fd_); }

// Folders are watched, not files: editors and git replace files by renaming. A watch that is there already stays as it is.
void Watch::add(const std::string& folder) {
  constexpr uint32_t kWhat = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF;
  if (const int watch = inotify_add_watch(fd_, folder.c_str(), kWhat); watch >= 0) folders_[watch] = folder;
}

void Watch::add_all() {
  std::error_code error;
  for (const std::string& path : paths_) {
    if (path.empty()) continue;
    const fs::path p(path);
    add(fs::is_directory(p, error) ? path : p.has_parent_path() ? p.parent_path().string() : ".");
    for (auto it = fs::recursive_directory_iterator(p, error); !error && it != fs::recursive_directory_iterator(); it.increment(error))
      if (it->is_directory(error)) add(it->path().string());
  }
}

void Watch::drain(Changes& into) {
  alignas(inotify_event) char events[16384];
  for (ssize_t size; (size = read(fd_, events, sizeof events)) > 0;) {
    for (ssize_t at = 0; at < size;) {
      inotify_event e;
      std::memcpy(&e, events + at, sizeof e);
      const std::string name = e.len > 0 ? events + at + sizeof e : "";
      at += ssize_t(sizeof e + e.len);
      const auto folder = folders_.find(e.wd);
      const bool is_folder = (e.mask & IN_ISDIR) != 0, yaml = name.ends_with(".yaml") || name.ends_with(".yml");
      if ((e.mask & IN_IGNORED) != 0 || (!is_folder && name.starts_with('.') && !name.starts_with(".."))) continue;
      const bool whole = (e.mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0;
      if (whole && yaml && !is_folder && folder != folders_.end()) into.files.insert(fs::path(folder->second) / name);
      else into.all = true;
    }
  }
}

Changes Watch::changes(int wait_ms) {
  Changes out;
  pollfd p{fd_, POLLIN, 0};
  if (poll(&p, 1, wait_ms) > 0) drain(out);
  if (out.all) add_all();
  return out;
}

Changes Watch::gather() {
  Changes out;
  pollfd p{fd_, POLLIN, 0};
  const auto first = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - first < std::chrono::milliseconds(kQuietMaxMs) && poll(&p, 1, kQuietMs) > 0) drain(out);
  if (out.all) add_all();
  return out;
}

bool Watch::changed(int wait_ms) {
  if (changes(wait_ms).none()) return false;
  (void)gather();
  return true;
}

}  // namespace sluice::plane
