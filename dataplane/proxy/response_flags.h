// Response flags: the letters operators debug by (%RESPONSE_FLAGS%). A record may carry several; the text lists them in the order in which
// they were set, joined by commas ("URX,UF"), "-" when none, as Envoy does.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::proxy {

// clang-format off
#define SLUICE_RESPONSE_FLAGS(X) \
  X(kNoHealthyUpstream, "UH", "NoHealthyUpstream") X(kUpstreamConnectionFailure, "UF", "UpstreamConnectionFailure") \
  X(kUpstreamOverflow, "UO", "UpstreamOverflow") X(kNoRoute, "NR", "NoRouteFound") \
  X(kRetryLimitExceeded, "URX", "UpstreamRetryLimitExceeded") X(kNoCluster, "NC", "NoClusterFound") \
  X(kDurationTimeout, "DT", "DurationTimeout") X(kDownstreamTermination, "DC", "DownstreamConnectionTermination") \
  X(kUpstreamTimeout, "UT", "UpstreamRequestTimeout") X(kLocalReset, "LR", "LocalReset") X(kUpstreamRemoteReset, "UR", "UpstreamRemoteReset") \
  X(kUpstreamTermination, "UC", "UpstreamConnectionTermination") X(kStreamIdleTimeout, "SI", "StreamIdleTimeout") \
  X(kDownstreamProtocolError, "DPE", "DownstreamProtocolError") X(kUpstreamProtocolError, "UPE", "UpstreamProtocolError") \
  X(kOverload, "OM", "OverloadManagerTerminated")
// clang-format on

enum class Flag : uint8_t {
  kUnset,
#define X(id, text, long_text) id,
  SLUICE_RESPONSE_FLAGS(X)
#undef X
};
constexpr std::string_view kFlagTexts[] = {"",
#define X(id, text, long_text) text,
                                           SLUICE_RESPONSE_FLAGS(X)
#undef X
};

constexpr std::string_view kFlagLongTexts[] = {"",
#define X(id, text, long_text) long_text,
                                               SLUICE_RESPONSE_FLAGS(X)
#undef X
};

// At most 12 flags, 5 bits each, first set lowest; a value, so it can be a key.
class Flags {
 public:
  void set(Flag f) {
    unsigned i = 0;
    for (; at(i) != Flag::kUnset; i++)
      if (at(i) == f) return;
    if (i < kMost) packed_ |= uint64_t(f) << (5 * i);
  }
  bool has(Flag f) const {
    for (unsigned i = 0; at(i) != Flag::kUnset; i++)
      if (at(i) == f) return true;
    return false;
  }
  // Envoy's response_flag_filter: one of `names`, or any flag where none are named.
  bool any_of(const std::vector<std::string>& names) const {
    if (names.empty()) return !none();
    for (unsigned i = 0; at(i) != Flag::kUnset; i++)
      for (const std::string& n : names)
        if (n == kFlagTexts[size_t(at(i))]) return true;
    return false;
  }
  bool none() const { return packed_ == 0; }
  uint64_t packed() const { return packed_; }
  static Flags from_packed(uint64_t p) {
    Flags f;
    f.packed_ = p;
    return f;
  }
  std::string text() const { return join(kFlagTexts); }
  std::string long_text() const { return join(kFlagLongTexts); }

 private:
  static constexpr unsigned kMost = 12;
  std::string join(const std::string_view* names) const {
    std::string s;
    for (unsigned i = 0; at(i) != Flag::kUnset; i++) s.append(s.empty() ? "" : ",").append(names[size_t(at(i))]);
    return s.empty() ? "-" : s;
  }
  Flag at(unsigned i) const { return i < kMost ? Flag(packed_ >> (5 * i) & 31) : Flag::kUnset; }
  uint64_t packed_ = 0;
};

}  // namespace sluice::proxy
