// Explain: what the gateway would do with a request, step by step, from the tables that the workers use: listener, filter chain, path,
// virtual host, route, every policy that matched or just missed and why, verdict, cluster, endpoints. Each step is decided by the code of
// the data path (FilterChainIndex, canonicalize, find_route, authz::Program); only the words are made here. The order is
// proxy/request.cc's.
//
// A principal counts only where the chain asks its clients for a certificate.
// What cannot be known without a connection is said, not guessed: whether a handshake would succeed, which weighted cluster or endpoint the
// dice choose. Pure; allocates as it likes. Thread: any that may hold the snapshot.
#pragma once
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/tables/tables.h"

namespace sluice::explain {

struct Question {
  std::string method = "GET";
  std::string url;  // scheme://authority[/path]; the scheme is http or https, the port is the listener's
  std::vector<std::pair<std::string, std::string>> headers;
  std::string principal;              // a URI SAN of the client's verified certificate; empty: it has none
  std::optional<std::string> sni;     // default: the host of an https URL
  IpAddress from = Ipv4{0xc000020a};  // 192.0.2.10 (RFC 5737)
  std::optional<IpAddress> to;        // the address asked; default: one that the listener has
};

// The object of the configuration that caused a step.
struct Origin {
  std::string kind, ns, name;                 // "VirtualService"; empty: none known
  std::optional<unsigned> rule;               // AuthorizationPolicy: which of spec.rules
  std::string host;                           // Cluster: the service's host, with its subset
  std::string route = {};                     // VirtualService: the name of its route
  std::string table = {}, virtual_host = {};  // and which of the tables it is
  unsigned index = 0;
};

Origin policy_origin(std::string_view rule);  // by istiod's name of a rule: "ns[shop]-policy[read]-rule[0]"
Origin route_origin(const std::string& table, const tables::VirtualHost& host, const tables::Route& r);

struct Step {
  std::string what;  // "listener", "chain", "path", "host", "route", "missed", "policy", "verdict", "cluster", "endpoint", "answer"
  std::string text;
  Origin origin;
  bool decisive = true;  // false: looked at, and passed over
};

struct Explanation {
  std::vector<Step> steps;
  // What comes of it. status 0: no HTTP answer of ours (closed, or the origin's); `details` as the access log has it.
  uint16_t status = 0;
  std::string details;
  std::vector<std::pair<std::string, uint32_t>> clusters;  // forwarded: candidates with their weights
};

// The error says what is wrong with the question.
std::expected<Explanation, std::string> explain(const tables::Snapshot& tables, const Question& question);
// The same without what was passed over: as quick as the data path's own decision, for asking many questions.
std::expected<Explanation, std::string> decide(const tables::Snapshot& tables, const Question& question);

// One line per step, or JSON. What knows the YAML says "FILE:LINE:COL" of an object; else "".
using Place = std::function<std::string(const Origin&)>;
std::string render_text(const Explanation& e, const Place& place);
std::string render_json(const Explanation& e, const Place& place);

// A question as text, for the admin socket: one word and its value per line ("method GET", "header name: value").
std::expected<Question, std::string> parse_question(std::string_view text);
std::string write_question(const Question& question);

}  // namespace sluice::explain
