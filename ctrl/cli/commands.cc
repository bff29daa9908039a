#include "ctrl/cli/commands.h"

#include <algorithm>
#include <iostream>
#include <sstream>

#include "ctrl/admin/server.h"
#include "ctrl/explain/diff.h"
#include "ctrl/plane/resource.h"

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

namespace {

using Answer = std::expected<admin::HttpResponse, std::string>;

Answer ask(const Asked& whom, const std::string& target, bool json) {
  if (whom.socket.empty()) return std::unexpected("nobody is asked");
  auto r =
      admin::ask_unix(whom.socket.starts_with("unix:") ? whom.socket.substr(5) : whom.socket, "GET", target + (json ? "?format=json" : ""));
  if (r && r->status != 200) return std::unexpected(target + ": " + std::to_string(r->status) + " " + r->body);
  return r;
}

}  // namespace

int status(const Asked& gateway, const Asked& control, bool json, Streams s) {
  const Answer own = ask(gateway, "/status", json), api = ask(control, "/gateway-api", json);
  const bool wanted = gateway.named && !gateway.socket.empty(), control_wanted = control.named && !control.socket.empty();
  bool failed = false;
  for (const auto& [answer, must] : {std::pair(&own, wanted || !api), std::pair(&api, control_wanted)}) {
    if (*answer || !must) continue;
    s.err << "sluicectl: " << answer->error() << "\n";
    failed = true;
  }
  std::string body = own ? own->body : json ? "{}\n" : "";
  if (api && json) {  // one more field
    body.erase(body.find_last_of('}'));
    body += (body.find_first_not_of("{ \n") == std::string::npos ? "" : ",") + std::string("\"gateway_api\":") + api->body + "}\n";
  } else if (api) {
    body += api->body;
  }
  if (own || api) s.out << body;
  if (failed) return kFailed;
  const auto state = own ? own->headers.find("x-sluice-status") : api->headers.end();
  return own && state != own->headers.end() && state->second == "refused" ? kSecurityRefused : kOk;
}

int nodes(const std::string& socket, bool json, Streams s) {
  const auto r = admin::ask_unix(socket.starts_with("unix:") ? socket.substr(5) : socket, "GET", json ? "/nodes?format=json" : "/nodes");
  if (!r || r->status != 200) {
    s.err << "sluicectl: "
          << (r ? "/nodes: " + std::to_string(r->status) + " " + r->body : r.error() + " (sluice-control run --admin unix:PATH)") << "\n";
    return kFailed;
  }
  s.out << r->body;
  const auto state = r->headers.find("x-sluice-status");
  return state != r->headers.end() && state->second == "refused" ? kSecurityRefused : kOk;
}

int check(const std::string& dir, const std::string& mesh, Streams s) {
  plane::Loaded l;
  if (dir == "-") {
    std::ostringstream text;
    text << std::cin.rdbuf();
    l = plane::load_text(text.str(), "stdin");
  } else {
    l = plane::load_directory(dir, mesh);
  }
  plane::check_patches(l);
  s.err << plane::render(l.issues);
  const auto errors = size_t(std::ranges::count_if(l.issues, [](const plane::Issue& i) { return i.severity == plane::Severity::kError; }));
  s.out << l.world.written() << " objects, " << errors << " errors, " << l.issues.size() - errors << " warnings\n";
  return errors == 0 ? kOk : kFailed;
}

int explain(const std::string& socket, const explain::Question& question, const OfflineOptions& directory, bool json, Streams s) {
  if (directory.dir.empty())
    return print(
        socket, "GET",
        std::string("/explain?format=") + (json ? "json" : "text") + "&question=" + admin::encoded(explain::write_question(question)), s);
  const auto offline = load_offline(directory);
  if (!offline) {
    s.err << offline.error();
    return kFailed;
  }
  s.err << offline->refused;
  const auto answer = explain::explain(*offline->tables, question);
  if (!answer) {
    s.err << "sluicectl: " << answer.error() << "\n";
    return kFailed;
  }
  const auto place = [&](const explain::Origin& o) { return offline->place_of(o); };
  s.out << (json ? explain::render_json(*answer, place) : explain::render_text(*answer, place));
  return kOk;
}

int diff(const std::string& socket, const OfflineOptions& from, const OfflineOptions& to, Streams s) {
  const auto after = load_offline(to);
  if (!after) {
    s.err << after.error();
    return kFailed;
  }
  const auto before = from.dir.empty() ? load_running(socket) : load_offline(from);
  if (!before) {
    s.err << before.error();
    return kFailed;
  }
  s.err << after->refused;
  s.out << explain::render_text(explain::diff(*before->tables, *after->tables), [&](const explain::Origin& o) {
    const std::string at = after->place_of(o);
    return at.empty() ? before->place_of(o) : at;
  });
  return kOk;
}

}  // namespace sluice::cli
