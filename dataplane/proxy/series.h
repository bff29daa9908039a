// SeriesTable: the counters behind istio_requests_total and its histograms. A worker finds a series by its label set in one hash look-up
// and adds; the metrics thread walks the table meanwhile. Series are never removed; beyond kSeriesMax new label sets are counted as
// dropped.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "dataplane/base/counters.h"
#include "dataplane/base/histogram.h"

namespace sluice::proxy {

struct SeriesKey {
  std::string_view cluster;           // Envoy's cluster name; the exposition derives destination_service and its kin from it
  std::string_view source_principal;  // empty: "unknown"
  uint16_t response_code = 0;         // 0: a TCP series
  uint64_t response_flags = 0;        // Flags::packed()
  bool mutual_tls = false;
  bool tcp = false;
  friend bool operator==(const SeriesKey&, const SeriesKey&) = default;
};

struct Series {
  explicit Series(const SeriesKey& k) : cluster(k.cluster), source_principal(k.source_principal), key(k) {
    key.cluster = cluster;
    key.source_principal = source_principal;
  }
  Series(const Series&) = delete;
  const std::string cluster, source_principal;
  SeriesKey key;                       // its views are the two strings above
  Counter count;                       // requests; TCP: connections closed
  Counter opened;                      // TCP: connections opened
  Counter bytes_received, bytes_sent;  // from and to the downstream peer
  Histogram duration_us, request_bytes, response_bytes;
};

class SeriesTable {
 public:
  static constexpr uint32_t kSeriesMax = 4096;
  // The worker; null when the table is full (counted).
  Series* find(const SeriesKey& key);
  // Any thread.
  uint32_t size() const { return size_.load(std::memory_order_acquire); }
  const Series& at(uint32_t i) const { return *series_[i]; }
  uint64_t dropped() const { return dropped_.get(); }

 private:
  struct Hash {
    size_t operator()(const SeriesKey& k) const {
      return std::hash<std::string_view>{}(k.cluster) ^ std::hash<std::string_view>{}(k.source_principal) * 31 ^
             (size_t(k.response_code) << 20) ^ k.response_flags * 0x9e3779b97f4a7c15 ^ size_t(k.mutual_tls) << 1 ^ size_t(k.tcp);
    }
  };
  std::unordered_map<SeriesKey, uint32_t, Hash> index_;  // the worker's alone
  std::unique_ptr<Series> series_[kSeriesMax];
  std::atomic<uint32_t> size_{0};
  Counter dropped_;
};

inline Series* SeriesTable::find(const SeriesKey& key) {
  if (const auto it = index_.find(key); it != index_.end()) return series_[it->second].get();
  const uint32_t n = size_.load(std::memory_order_relaxed);
  if (n == kSeriesMax) {
    dropped_.add();
    return nullptr;
  }
  series_[n] = std::make_unique<Series>(key);
  index_.emplace(series_[n]->key, n);
  size_.store(n + 1, std::memory_order_release);
  return series_[n].get();
}

}  // namespace sluice::proxy
