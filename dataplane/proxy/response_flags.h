// Response flags: the letters operators debug by (Envoy, access_log substitution %RESPONSE_FLAGS%). A record may carry several; the text lists them
// in Envoy's order, joined by commas, "-" when none.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::proxy {

// In the order in which Envoy prints them.
#define SLUICE_RESPONSE_FLAGS(X)                                                                                                     \
  X(kNoHealthyUpstream, "UH") X(kUpstreamConnectionFailure, "UF") X(kUpstreamOverflow, "UO") X(kNoRoute, "NR")                       \
  X(kRetryLimitExceeded, "URX") X(kNoCluster, "NC") X(kDurationTimeout, "DT") X(kDownstreamTermination, "DC")                        \
  X(kUpstreamTimeout, "UT") X(kLocalReset, "LR") X(kUpstreamRemoteReset, "UR") X(kUpstreamTermination, "UC")                         \
  X(kStreamIdleTimeout, "SI") X(kDownstreamProtocolError, "DPE") X(kUpstreamProtocolError, "UPE") X(kOverloadManager, "OM")

enum class Flag : uint8_t {
#define X(id, text) id,
  SLUICE_RESPONSE_FLAGS(X)
#undef X
      kCount
};
constexpr std::string_view kFlagTexts[] = {
#define X(id, text) text,
    SLUICE_RESPONSE_FLAGS(X)
#undef X
};

class Flags {
 public:
  void set(Flag f) { bits_ |= 1u << unsigned(f); }
  void clear(Flag f) { bits_ &= ~(1u << unsigned(f)); }
  bool has(Flag f) const { return bits_ >> unsigned(f) & 1; }
  bool none() const { return bits_ == 0; }
  uint32_t bits() const { return bits_; }
  static Flags from_bits(uint32_t b) {
    Flags f;
    f.bits_ = b;
    return f;
  }
  std::string text() const {
    std::string s;
    for (unsigned i = 0; i < unsigned(Flag::kCount); i++)
      if (bits_ >> i & 1) s.append(s.empty() ? "" : ",").append(kFlagTexts[i]);
    return s.empty() ? "-" : s;
  }

 private:
  uint32_t bits_ = 0;
};

}  // namespace sluice::proxy
