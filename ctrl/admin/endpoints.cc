#include "ctrl/admin/endpoints.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace sluice::admin {
namespace {
constexpr const char* kJson = "application/json";

template <class F>
void get(Server& server, const char* path, F provider, const char* type) {
  server.route("GET", path, [provider = std::move(provider), type](const HttpRequest&) -> HttpResponse {
    if (!provider) return {.status = 503, .body = "not available\n"};
    return {.content_type = type, .body = provider()};
  });
}
}  // namespace

void add_admin(Server& server, AdminProviders p) {
  server.route("GET", "/status",
               [text = p.status_text, json = p.status_json, refused = p.security_refused](const HttpRequest& r) -> HttpResponse {
                 const bool as_json = r.query.contains("format") && r.query.at("format") == "json";
                 const auto& provider = as_json ? json : text;
                 if (!provider) return {.status = 503, .body = "not available\n"};
                 return {.content_type = as_json ? kJson : "text/plain; charset=UTF-8",
                         .body = provider(),
                         .headers = {{"x-sluice-status", refused && refused() ? "refused" : "ok"}}};
               });
  get(server, "/config_dump", p.config_dump_json, kJson);
  get(server, "/clusters", p.clusters_text, "text/plain; charset=UTF-8");
  get(server, "/certs", p.certs_json, kJson);
  server.route("GET", "/explain", [explain = p.explain](const HttpRequest& r) -> HttpResponse {
    if (!explain) return {.status = 503, .body = "not available\n"};
    const auto question = r.query.find("question"), format = r.query.find("format");
    if (question == r.query.end()) return {.status = 400, .body = "say question=...\n"};
    const bool json = format != r.query.end() && format->second == "json";
    const auto answer = explain(question->second, json);
    if (!answer) return {.status = 400, .body = answer.error() + "\n"};
    return {.content_type = json ? kJson : "text/plain; charset=UTF-8", .body = *answer};
  });
  get(server, "/logging", p.log_level, "text/plain; charset=UTF-8");
  server.route("POST", "/logging", [set = p.set_log_level](const HttpRequest& r) -> HttpResponse {
    const auto level = r.query.find("level");
    if (level == r.query.end() || std::ranges::find(kLogLevels, level->second) == std::end(kLogLevels))
      return {.status = 400, .body = "say level=debug, info, warning, error or off\n"};
    if (!set) return {.status = 503, .body = "not available\n"};
    set(level->second);
    return {.body = level->second + "\n"};
  });
  server.route("POST", "/drain_listeners", [drain = p.drain](const HttpRequest&) -> HttpResponse {
    if (!drain) return {.status = 503, .body = "not available\n"};
    drain();
    return {.body = "OK\n"};
  });
}

void add_stats(Server& server, std::function<std::string()> prometheus, std::function<bool()> ready) {
  get(server, "/stats/prometheus", std::move(prometheus), "text/plain; version=0.0.4; charset=utf-8");
  server.route("GET", "/healthz/ready", [ready = std::move(ready)](const HttpRequest&) -> HttpResponse {
    const bool yes = ready && ready();
    return {.status = yes ? 200 : 503, .body = yes ? "ready\n" : "not ready\n"};
  });
}

void MetricsText::family(std::string_view name, std::string_view type, std::string_view help) {
  out_.append("# HELP ").append(name).append(" ");
  for (const char c : help) {
    if (c == '\\') out_ += "\\\\";
    else if (c == '\n') out_ += "\\n";
    else out_ += c;
  }
  out_.append("\n# TYPE ").append(name).append(" ").append(type).append("\n");
}

void MetricsText::head(std::string_view name, const Labels& labels) {
  out_ += name;
  if (labels.empty()) return;
  char separator = '{';
  for (const auto& [label, value] : labels) {
    out_ += separator;
    out_.append(label).append("=\"");
    for (const char c : value) {
      if (c == '\\' || c == '"') (out_ += '\\') += c;
      else if (c == '\n') out_ += "\\n";
      else out_ += c;
    }
    out_ += '"';
    separator = ',';
  }
  out_ += '}';
}

void MetricsText::sample(std::string_view name, const Labels& labels, uint64_t value) {
  head(name, labels);
  out_.append(" ").append(std::to_string(value)).append("\n");
}

void MetricsText::sample(std::string_view name, const Labels& labels, double value) {
  head(name, labels);
  char text[40];
  if (std::isinf(value)) std::snprintf(text, sizeof text, "%s", value > 0 ? "+Inf" : "-Inf");
  else std::snprintf(text, sizeof text, "%.9g", value);
  out_.append(" ").append(text).append("\n");
}

}  // namespace sluice::admin
