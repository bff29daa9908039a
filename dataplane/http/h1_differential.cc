#include "dataplane/http/h1_differential.h"

#include <llhttp.h>

#include <algorithm>
#include <vector>

#include "dataplane/http/h1_parser.h"

namespace sluice::http {
namespace {

struct Seen {
  bool refused = false, complete = false, upgrade = false, framing_in_trailer = false;
  size_t end = 0;  // bytes up to the end of the message, when complete
  std::string why, method, target, body;
  unsigned status = 0;
  std::vector<std::pair<std::string, std::string>> fields;  // lower-case name, trimmed value
};

ArenaPool& pool() {
  static ArenaPool p(10'000);
  return p;
}

template <class Parser>
void run_ours(Parser& parser, std::string_view message, size_t step, Seen& seen) {
  size_t at = 0, given = 0;
  while (given < message.size() && !parser.complete()) {
    given = std::min(message.size(), step == 0 ? message.size() : given + step);
    while (at < given && !parser.complete()) {
      const Fed fed = parser.feed(as_bytes(message.substr(at, given - at)));
      at += fed.consumed;
      seen.body += as_text(fed.body);
      if (fed.event == Event::kRefused) {
        seen.refused = true;
        seen.why = details_of(parser.refusal());
        return;
      }
    }
  }
  seen.complete = parser.complete();
  seen.end = at;
}

void copy_fields(const FieldList& fields, Seen& seen) {
  for (const Field& f : fields.all()) seen.fields.emplace_back(f.name, f.value);
}

Seen ours(std::string_view message, const Differential& how) {
  Seen seen;
  Arena arena(pool());
  if (how.response) {
    ResponseHead head(arena);
    ResponseParser parser(head, how.answer_to_head);
    run_ours(parser, message, how.step, seen);
    if (!seen.refused && !seen.complete && parser.end_of_stream()) seen.complete = true;
    seen.status = head.status;
    copy_fields(head.fields, seen);
    seen.upgrade = head.status == 101;
  } else {
    RequestHead head(arena);
    RequestParser parser(head, true);
    run_ours(parser, message, how.step, seen);
    seen.method = head.method;
    seen.target = head.target;
    copy_fields(head.fields, seen);
    seen.upgrade = head.method == "CONNECT" || head.fields.has("upgrade");
  }
  return seen;
}

struct Theirs {
  Seen seen;
  std::string name, value;
  bool to_head = false, head_done = false;
};

Seen theirs(std::string_view message, const Differential& how) {
  const auto at = [](llhttp_t* p) { return static_cast<Theirs*>(p->data); };
  static auto get = at;
  llhttp_settings_t settings;
  llhttp_settings_init(&settings);
  settings.on_url = [](llhttp_t* p, const char* s, size_t n) { return get(p)->seen.target.append(s, n), 0; };
  settings.on_method = [](llhttp_t* p, const char* s, size_t n) { return get(p)->seen.method.append(s, n), 0; };
  settings.on_header_field = [](llhttp_t* p, const char* s, size_t n) { return get(p)->name.append(s, n), 0; };
  settings.on_header_value = [](llhttp_t* p, const char* s, size_t n) { return get(p)->value.append(s, n), 0; };
  settings.on_body = [](llhttp_t* p, const char* s, size_t n) { return get(p)->seen.body.append(s, n), 0; };
  settings.on_header_value_complete = [](llhttp_t* p) {
    Theirs& t = *get(p);
    for (char& c : t.name) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
    t.seen.fields.emplace_back(std::move(t.name), trim(t.value));
    t.name.clear();
    t.value.clear();
    return 0;
  };
  settings.on_headers_complete = [](llhttp_t* p) {
    get(p)->head_done = true;
    return get(p)->to_head || llhttp_get_status_code(p) == 304 ? 1 : 0;  // RFC 9112 6.3: no body; llhttp leaves that to its user
  };
  settings.on_message_complete = [](llhttp_t* p) {
    get(p)->seen.complete = true;
    return int(HPE_PAUSED);
  };
  Theirs t;
  t.to_head = how.response && how.answer_to_head;
  llhttp_t parser;
  llhttp_init(&parser, how.response ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
  parser.data = &t;
  const llhttp_errno_t verdict = llhttp_execute(&parser, message.data(), message.size());
  Seen& seen = t.seen;
  seen.upgrade = parser.upgrade != 0 || verdict == HPE_PAUSED_UPGRADE;
  seen.status = unsigned(llhttp_get_status_code(&parser));
  if (seen.complete) {
    seen.end = verdict == HPE_OK ? message.size() : size_t(llhttp_get_error_pos(&parser) - message.data());
  } else if (verdict == HPE_OK) {
    llhttp_finish(&parser);  // completes a body that lasts until the end
    seen.end = message.size();
  } else if (verdict != HPE_PAUSED_UPGRADE) {
    seen.refused = true;
    seen.why = llhttp_get_error_reason(&parser);
    seen.framing_in_trailer =
        t.head_done && (seen.why.find("Content-Length") != seen.why.npos || seen.why.find("Transfer-Encoding") != seen.why.npos);
  }
  return seen;
}

std::string quoted(std::string_view s) {
  std::string out;
  for (const char c : s)
    if (c >= 0x20 && c < 0x7f) out += c;
    else
      out += c == '\r'   ? "\\r"
             : c == '\n' ? "\\n"
                         : "\\x" + std::string(1, "0123456789abcdef"[uint8_t(c) >> 4]) + "0123456789abcdef"[uint8_t(c) & 15];
  return out;
}

}  // namespace

Compared compare(std::string_view message, const Differential& how) {
  const Seen a = ours(message, how), b = theirs(message, how);
  const auto differ = [&](const std::string& what) {
    return Compared{Outcome::kNotCompared, what + " (llhttp: " +
                                               (b.refused    ? b.why
                                                : b.complete ? "complete"
                                                             : "unfinished") +
                                               "; ours: " +
                                               (a.refused    ? a.why
                                                : a.complete ? "complete"
                                                             : "unfinished") +
                                               ") of " + quoted(message)};
  };
  if (a.refused) return {b.refused ? Outcome::kBothRefuse : Outcome::kWeRefuse, ""};
  if (a.upgrade || b.upgrade) return {};
  if (!a.complete) {
    if (b.complete) return differ("llhttp sees an end where we wait for more");
    return {Outcome::kUnfinished, ""};
  }
  // llhttp reads trailers as if they framed the message; we check their form and drop them.
  if (b.framing_in_trailer) return {};
  // llhttp 8.1 refuses a second extension (";a=b;c=d") and a quoted pair (";a=\"\\\"\""), which RFC 9112 7.1.1 allows.
  if (b.why == "Invalid character in chunk size" && message.find(';') != message.npos) return {};
  if (b.why == "Invalid character in chunk extensions quoted value" && message.find('\\') != message.npos) return {};
  if (b.refused) return differ("we take what llhttp refuses");
  if (!b.complete) return differ("we see an end where llhttp waits for more");
  if (a.end != b.end)
    return differ("the message ends at " + std::to_string(a.end) + " for us, at " + std::to_string(b.end) + " for llhttp");
  if (how.response && a.status != b.status) return differ("status");
  if (!how.response && (a.method != b.method || a.target != b.target)) return differ("method or target");
  if (a.body != b.body) return differ("body \"" + quoted(a.body) + "\" and \"" + quoted(b.body) + "\"");
  size_t i = 0;
  for (const auto& field : a.fields) {
    while (!how.response && i < b.fields.size() && b.fields[i].first == "host" && field.first != "host") i++;  // ours is the authority
    if (i >= b.fields.size() || b.fields[i] != field) return differ("field " + quoted(field.first));
    i++;
  }
  return {Outcome::kBothTake, ""};
}

}  // namespace sluice::http
