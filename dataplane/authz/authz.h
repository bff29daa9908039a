// RBAC (config.rbac.v3) as a program: an Rbac copied, its URI templates compiled, evaluated against one request or connection. ALLOW without a
// matching policy denies, DENY with a matching policy denies, LOG always allows. Within a policy any permission and any principal suffice.
// What cannot be known (no certificate, no header, no server name) does not match; at layer 4 there is no head and HTTP matchers see no
// headers, as in Envoy's network filter. Immutable, shared by all workers; evaluate() allocates nothing.
#pragma once
#include <expected>
#include <memory>
#include <string>
#include <unordered_map>

#include "dataplane/tables/tables.h"

namespace sluice::authz {

struct Request {
  const http::RequestHead* head = nullptr;         // canonical path; null at layer 4
  const http::ConnectionFacts* facts = nullptr;    // never null
  IpAddress remote_ip;                             // the trusted client's (x-forwarded-for); facts->remote is the direct peer
  std::string_view sni;                            // lower-case; empty: none
};

enum class Verdict : uint8_t { kAllow, kDeny, kPending };

struct Decision {
  Verdict verdict = Verdict::kDeny;
  std::string_view policy;  // the policy that matched; empty: none did
};

class Program {
 public:
  // The error names the policy and what is wrong with it.
  static std::expected<std::shared_ptr<const Program>, std::string> compile(const tables::Rbac& rbac);
  Decision evaluate(const Request& request) const;

 private:
  Program() = default;
  std::expected<void, std::string> prepare(const tables::Permission& p, const std::string& policy);
  bool matches(const tables::Permission& p, const Request& r) const;
  bool matches(const tables::Principal& p, const Request& r) const;
  tables::Rbac rbac_;
  std::unordered_map<const tables::Permission*, std::shared_ptr<const tables::Regex>> templates_;  // of rbac_'s own nodes
};

// Sets program and shadow_program from rules and shadow_rules.
std::expected<void, std::string> build_rbac_filter(tables::RbacFilter& filter);

// Envoy's URI template ("/a/{*}/b/{**}", names as in {id=*}) as a regular expression; the error says where it is wrong.
std::expected<std::string, std::string> regex_of_uri_template(std::string_view text);

}  // namespace sluice::authz
