#include "ctrl/cli/commands.h"

#include "ctrl/admin/server.h"

namespace sluice::cli {

int print(const std::string& socket, const std::string& method, const std::string& target, Streams s) {
  const auto r = admin::ask_unix(socket, method, target);
  if (!r) {
    s.err << "sluicectl: " << r.error() << "\n";
    return kFailed;
  }
  if (r->status != 200) {
    s.err << "sluicectl: " << method << " " << target << ": " << r->status << " " << r->body;
    return kFailed;
  }
  s.out << r->body;
  if (!r->body.ends_with('\n')) s.out << "\n";
  return kOk;
}

int status(const std::string& socket, bool json, Streams s) {
  const auto r = admin::ask_unix(socket, "GET", json ? "/status?format=json" : "/status");
  if (!r) {
    s.err << "sluicectl: " << r.error() << "\n";
    return kFailed;
  }
  if (r->status != 200) {
    s.err << "sluicectl: /status: " << r->status << " " << r->body;
    return kFailed;
  }
  s.out << r->body;
  const auto state = r->headers.find("x-sluice-status");
  return state != r->headers.end() && state->second == "refused" ? kSecurityRefused : kOk;
}

}  // namespace sluice::cli
