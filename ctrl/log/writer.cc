// One turn: take every ring's records, append each to its file's pending bytes, write each file once. Between turns the thread waits
// kLogPollUs on a condition variable (flush and stop wake it; a worker never does, a wake-up would be a system call on its path).
#include "ctrl/log/writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

namespace sluice::log {
namespace {
constexpr size_t kPendingMax = 4 << 20;  // bytes gathered for one file before it is written

uint64_t now_us() {
  return uint64_t(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}
}  // namespace

Writer::Writer(std::string dir, std::string override_path) : dir_(std::move(dir)), override_path_(std::move(override_path)) {}

Writer::~Writer() {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  close_all();
}

void Writer::add(worker::LogRing* ring) {
  std::lock_guard lock(mutex_);
  rings_.push_back(ring);
}

void Writer::start() {
  SLUICE_ASSERT(!thread_.joinable());
  thread_ = std::thread([this] { run(); });
}

void Writer::reopen() {
  std::lock_guard lock(mutex_);
  reopen_ = true;
}

void Writer::flush() {
  std::unique_lock lock(mutex_);
  const uint64_t mine = ++asked_;
  wake_.notify_all();
  done_.wait(lock, [&] { return served_ >= mine || stop_; });
}

WriterStats Writer::stats() const {
  return {lines_.load(std::memory_order_relaxed), bytes_.load(std::memory_order_relaxed), failed_.load(std::memory_order_relaxed)};
}

void Writer::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const bool last = stop_;
    const uint64_t ticket = asked_;
    const bool close_first = std::exchange(reopen_, false);
    const std::vector<worker::LogRing*> rings = rings_;
    lock.unlock();
    if (close_first) close_all();
    for (auto* ring : rings) {
      ring->drain([&](std::string_view path, std::string_view line) {
        if (!override_path_.empty()) path = override_path_;
        auto it = files_.find(path);
        if (it == files_.end()) {
          if (files_.size() >= kFilesMax) {
            failed_.fetch_add(1, std::memory_order_relaxed);
            return;
          }
          it = files_.emplace(std::string(path), File{}).first;
        }
        File& f = it->second;
        f.pending += line;
        f.lines++;
        if (f.pending.size() >= kPendingMax) write_out(it->first, f);
      });
    }
    for (auto& [path, f] : files_)
      if (f.lines != 0) write_out(path, f);
    lock.lock();
    served_ = ticket;
    done_.notify_all();
    if (last) return;
    if (!stop_ && asked_ == served_)
      wake_.wait_for(lock, std::chrono::microseconds(worker::kLogPollUs), [&] { return stop_ || asked_ != served_; });
  }
}

bool Writer::open(const std::string& path, File& f) {
  if (f.fd >= 0) return true;
  const uint64_t now = now_us();
  if (now < f.retry_at_us) return false;
  if (path == "/dev/stdout") f.fd = ::dup(STDOUT_FILENO);  // opening the device anew fails when stdout is a socket (systemd)
  else if (path == "/dev/stderr") f.fd = ::dup(STDERR_FILENO);
  else
    f.fd =
        ::open((path.starts_with('/') || dir_.empty() ? path : dir_ + "/" + path).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (f.fd >= 0) return true;
  f.retry_at_us = now + kOpenRetryUs;
  if (!std::exchange(f.complained, true))
    std::fprintf(stderr, "access log: cannot open '%s': %s; its lines are counted as failed until it can be opened\n", path.c_str(),
                 std::strerror(errno));
  return false;
}

void Writer::write_out(const std::string& path, File& f) {
  bool ok = open(path, f);
  size_t done = 0;
  while (ok && done < f.pending.size()) {
    const ssize_t n = ::write(f.fd, f.pending.data() + done, f.pending.size() - done);
    if (n > 0) {
      done += size_t(n);
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      ok = false;
      if (!std::exchange(f.complained, true))
        std::fprintf(stderr, "access log: cannot write '%s': %s; its lines are counted as failed\n", path.c_str(),
                     n < 0 ? std::strerror(errno) : "0 bytes taken");
    }
  }
  (ok ? lines_ : failed_).fetch_add(f.lines, std::memory_order_relaxed);
  bytes_.fetch_add(done, std::memory_order_relaxed);
  f.pending.clear();
  f.lines = 0;
}

void Writer::close_all() {
  for (auto& [path, f] : files_)
    if (f.fd >= 0) ::close(f.fd);
  files_.clear();
}

}  // namespace sluice::log
