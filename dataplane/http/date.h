// The Date field (RFC 9110 5.6.7), made once per second and worker.
#pragma once
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string_view>

namespace sluice::http {

class Date {
 public:
  std::string_view at(int64_t wall_us) {
    const int64_t second = wall_us / 1'000'000;
    if (second != second_) {
      second_ = second;
      const std::time_t t = second;
      std::tm tm;
      gmtime_r(&t, &tm);
      static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
      static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
      length_ = size_t(std::snprintf(text_, sizeof text_, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[tm.tm_wday], tm.tm_mday,
                                     kMonths[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec));
    }
    return {text_, length_};
  }

 private:
  int64_t second_ = -1;
  char text_[64];
  size_t length_ = 0;
};

}  // namespace sluice::http
