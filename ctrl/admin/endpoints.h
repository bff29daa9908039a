// The endpoints of a gateway, wired by whoever has the state (dataplane/gateway.cc): each provider is called on the server's thread.
//   admin   GET  /status[?format=json]   text for people; header x-sluice-status: ok | refused (a security resource is refused)
//           GET  /config_dump            Envoy's shape    GET /clusters   GET /certs
//           GET  /logging                the level        POST /logging?level=LEVEL
//           GET  /explain?question=...&format=text|json   what would become of a request (ctrl/explain)
//           POST /drain_listeners        stop accepting, finish what is in flight
//   stats   GET  /stats/prometheus       GET /healthz/ready
#pragma once
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ctrl/admin/server.h"

namespace sluice::admin {

constexpr std::string_view kLogLevels[] = {"debug", "info", "warning", "error", "off"};

struct AdminProviders {
  std::function<std::string()> status_text, status_json;
  std::function<bool()> security_refused;
  std::function<std::string()> config_dump_json, clusters_text, certs_json;
  std::function<std::expected<std::string, std::string>(const std::string& question, bool json)> explain;
  std::function<std::string()> log_level;
  std::function<void(std::string_view)> set_log_level;  // one of kLogLevels
  std::function<void()> drain;
};
// A provider that is not set answers 503.
void add_admin(Server& server, AdminProviders providers);
void add_stats(Server& server, std::function<std::string()> prometheus, std::function<bool()> ready);

// Prometheus text exposition format 0.0.4. A family's samples stand together under its TYPE line, in the order given.
class MetricsText {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string_view>>;
  void family(std::string_view name, std::string_view type, std::string_view help);
  void sample(std::string_view name, const Labels& labels, uint64_t value);
  void sample(std::string_view name, const Labels& labels, double value);
  const std::string& text() const { return out_; }

 private:
  void head(std::string_view name, const Labels& labels);
  std::string out_;
};

}  // namespace sluice::admin
