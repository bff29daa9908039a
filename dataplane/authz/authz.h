// Authorization: a compiled config.rbac.v3.RBAC. Pure: facts in, decision out. Compiled on the control thread, evaluated by any worker
// without a lock; the only allocation is the joined value of a repeated header, once per name, in the head's arena.
//
// ALLOW with no matching policy denies, DENY with a matching policy denies, LOG never denies. Within a policy any permission and any
// principal suffice. The policy that is named is the first in the Rbac's order (the compiler sorts by name, as Envoy's map does).
//
// At L4 (`head` null) Envoy's network filter evaluates the same tree over an empty header map: a header rule finds no header (so only
// "must be absent" holds), a path rule never holds, and a not_rule around either holds. The same here.
//
// Fails closed: when the head's arena is exhausted, what a repeated header says cannot be known, and the request is denied.
#pragma once
#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "dataplane/http/headers_policy.h"
#include "dataplane/tables/tables.h"

namespace sluice::authz {

struct Request {
  const http::RequestHead* head = nullptr;       // canonical path; null at L4
  const http::ConnectionFacts* facts = nullptr;  // never null; destination address and port are facts->local
  IpAddress remote_ip;                           // the trusted client (mutate_request's answer); at L4 the peer
  std::string_view sni;                          // requested server name, lower-case; "" when none
};

enum class Verdict : uint8_t { kAllow, kDeny, kPending };  // kPending: for later filters that ask elsewhere; a Program never says it

struct Decision {
  Verdict verdict = Verdict::kDeny;
  std::string_view policy;  // the policy that matched, empty when none; lives as long as the Program
};

class Program {
 public:
  // The error names the policy and what is wrong with it.
  static std::expected<std::shared_ptr<const Program>, std::string> compile(const tables::Rbac& rbac);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  Decision evaluate(const Request& request) const;

 private:
  Program();
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Compiles rules and shadow_rules into program and shadow_program; null where the optional is empty.
std::expected<void, std::string> build_rbac_filter(tables::RbacFilter& filter);

}  // namespace sluice::authz
