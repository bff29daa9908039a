// While it lives, DPDK's log goes into memory, so that an error can carry the line in which EAL or a PMD said why. Control thread; one at a
// time.
#pragma once
#include <rte_log.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace sluice::drivers {

class LogCapture {
 public:
  LogCapture() : file_(open_memstream(&text_, &size_)) {
    if (file_ != nullptr) rte_openlog_stream(file_);
  }
  ~LogCapture() {
    rte_openlog_stream(nullptr);
    if (file_ != nullptr) std::fclose(file_);
    std::free(text_);
  }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  // The first line logged (what follows are the consequences), or "".
  std::string first() const {
    if (file_ == nullptr) return {};
    std::fflush(file_);
    const std::string all(text_ != nullptr ? text_ : "", size_);
    return all.substr(0, all.find('\n'));
  }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  FILE* file_;
};

}  // namespace sluice::drivers
