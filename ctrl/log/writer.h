// The log writer: one thread that empties every worker's LogRing into files, /dev/stdout or /dev/stderr.
// Ownership: the rings belong to the caller and outlive the writer. Threads: add(), reopen(), flush() and stats() may be called from any
// thread; the rings are read by the writer thread alone, the workers never meet it. Files are opened at their first line (O_APPEND, 0640;
// the folder must exist). reopen() (SIGHUP, log rotation) closes them all, the next line opens anew. A file that cannot be opened or
// written costs its lines: they are counted by reason, the reason is printed once per path and reopen, and the open is tried again every
// kOpenRetryUs. At most kFilesMax paths are open; lines for further ones are counted as failed. Batching: everything found in one look goes
// out in one write() per file.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/worker/log_ring.h"

namespace sluice::log {

constexpr size_t kFilesMax = 64;
constexpr uint64_t kOpenRetryUs = 1'000'000;

struct WriterStats {
  uint64_t lines = 0, bytes = 0;  // written
  uint64_t failed = 0;            // lines lost because a file could not be opened or written
};

class Writer {
 public:
  // `dir` is put before relative paths; `override_path`, when not empty, takes every line whatever path it names (bootstrap log.stdout).
  explicit Writer(std::string dir = {}, std::string override_path = {});
  ~Writer();  // drains what is there, then ends the thread
  Writer(const Writer&) = delete;

  void add(worker::LogRing* ring);  // before or after the thread has started
  void start();
  void reopen();
  void flush();  // returns when everything written to the rings before the call has been handed to the kernel
  WriterStats stats() const;

 private:
  struct File {
    int fd = -1;
    bool complained = false;
    uint64_t retry_at_us = 0;
    uint64_t lines = 0;  // in pending
    std::string pending;
  };
  void run();
  void write_out(const std::string& path, File& f);
  bool open(const std::string& path, File& f);
  void close_all();

  const std::string dir_, override_path_;
  mutable std::mutex mutex_;  // guards what follows up to files_
  std::condition_variable wake_, done_;
  std::vector<worker::LogRing*> rings_;
  bool stop_ = false, reopen_ = false;
  uint64_t asked_ = 0, served_ = 0;                 // flush tickets
  std::map<std::string, File, std::less<>> files_;  // the writer thread's alone
  std::atomic<uint64_t> lines_{0}, bytes_{0}, failed_{0};
  std::thread thread_;
};

}  // namespace sluice::log
