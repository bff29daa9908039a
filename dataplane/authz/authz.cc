// The trees stay trees: a policy is a handful of nodes, and walking them in the order of the configuration is what Envoy does. What makes
// a thousand policies cheap is not asking most of them. For each policy compile() looks for a necessary condition that can be looked up:
//
//   1. every principal demands one of some exact names            -> by_name   (hash of names)
//   2. every permission demands one of some exact or prefix paths -> by_path   (trie)
//   3. neither                                                    -> always
//
// A condition comes from a leaf, from any child of an AND, from all children of an OR, never from a NOT. evaluate() asks the policies that
// the peer's names and the path propose, and those that are always asked; the tree decides, the lowest index wins, so the answer is the
// linear one as long as the conditions are necessary.
#include "dataplane/authz/authz.h"

#include <algorithm>
#include <unordered_map>

#include "dataplane/authz/uri_template.h"
#include "dataplane/route/path_trie.h"
#include "dataplane/route/route.h"

namespace sluice::authz {
namespace {

using tables::Permission;
using tables::Principal;
using tables::StringMatch;
using Ids = std::vector<uint32_t>;

constexpr uint32_t kNone = ~0u;

struct NameHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};

// ---- matching

struct Facts {
  const Request& request;
  std::string_view path;  // without query and fragment; empty at L4 and for CONNECT, where no path rule holds
};

// Calls f(name) for each name that Envoy's AuthenticatedMatcher tries, until it answers true: URI SANs, DNS SANs, subject.
// INTERPRETATION(deviate): a peer without a verified certificate has no name. Envoy tries "" as its subject and lets a nameless
// `authenticated` pass for any TLS peer; both would let a stranger pass for somebody.
template <class F>
bool any_name(const http::ClientCertificate& certificate, F&& f) {
  if (!certificate.presented) return false;
  for (const auto* names : {certificate.uris, certificate.dns})
    if (names != nullptr && std::ranges::any_of(*names, f)) return true;
  return f(certificate.subject);
}

bool path_holds(const StringMatch& match, const Facts& facts) { return !facts.path.empty() && match.matches(facts.path); }

bool holds(const Permission& p, const Facts& facts) {
  using Kind = Permission::Kind;
  const Request& r = facts.request;
  const auto child = [&](const Permission& c) { return holds(c, facts); };
  switch (p.kind) {
    case Kind::kAny: return true;
    case Kind::kAnd: return std::ranges::all_of(p.children, child);
    case Kind::kOr: return std::ranges::any_of(p.children, child);
    case Kind::kNot: return !holds(p.children[0], facts);
    case Kind::kHeader: return route::matches(p.header, r.head);
    case Kind::kUrlPath:
    case Kind::kUriTemplate: return path_holds(p.string, facts);  // compile() made the template a regex in `string`
    case Kind::kDestinationIp: return p.ip.contains(r.facts->local.ip);
    case Kind::kDestinationPort: return r.facts->local.port >= p.port_start && r.facts->local.port < p.port_end;
    case Kind::kRequestedServerName: return p.string.matches(r.sni);
  }
  return false;
}

bool holds(const Principal& p, const Facts& facts) {
  using Kind = Principal::Kind;
  const Request& r = facts.request;
  const auto child = [&](const Principal& c) { return holds(c, facts); };
  switch (p.kind) {
    case Kind::kAny: return true;
    case Kind::kAnd: return std::ranges::all_of(p.children, child);
    case Kind::kOr: return std::ranges::any_of(p.children, child);
    case Kind::kNot: return !holds(p.children[0], facts);
    case Kind::kAuthenticated:
      return p.principal_name ? any_name(r.facts->certificate, [&](std::string_view name) { return p.principal_name->matches(name); })
                              : r.facts->certificate.presented;
    case Kind::kDirectRemoteIp: return p.ip.contains(r.facts->remote.ip);
    case Kind::kRemoteIp: return p.ip.contains(r.remote_ip);
    case Kind::kHeader: return route::matches(p.header, r.head);
    case Kind::kUrlPath: return path_holds(p.string, facts);
  }
  return false;
}

// ---- necessary conditions

using Conditions = std::vector<const StringMatch*>;  // one of these holds whenever the node holds

const StringMatch* condition(const Principal& p) {
  const bool exact = p.kind == Principal::Kind::kAuthenticated && p.principal_name && p.principal_name->kind == StringMatch::Kind::kExact &&
                     !p.principal_name->ignore_case;
  return exact ? &*p.principal_name : nullptr;
}
const StringMatch* condition(const Permission& p) {
  const bool literal =
      p.kind == Permission::Kind::kUrlPath && (p.string.kind == StringMatch::Kind::kExact || p.string.kind == StringMatch::Kind::kPrefix);
  return literal ? &p.string : nullptr;
}

template <class Node>
std::optional<Conditions> of_all(const std::vector<Node>& any);

template <class Node>
std::optional<Conditions> of(const Node& node) {
  if (const StringMatch* leaf = condition(node)) return Conditions{leaf};
  if (node.kind == Node::Kind::kOr) return of_all(node.children);
  if (node.kind == Node::Kind::kAnd)
    for (const Node& child : node.children)
      if (auto found = of(child)) return found;
  return std::nullopt;
}

template <class Node>
std::optional<Conditions> of_all(const std::vector<Node>& any) {
  Conditions all;
  for (const Node& node : any) {
    const auto found = of(node);
    if (!found) return std::nullopt;
    all.insert(all.end(), found->begin(), found->end());
  }
  return all;  // of nothing: nothing can hold, and the policy is asked for nothing
}

// ---- checks that only wrong compilers fail, but whose failure would be a crash or a hole

std::string check_match(const StringMatch& match) {
  return match.kind == StringMatch::Kind::kRegex && match.regex == nullptr ? "a regex matcher without its regex" : "";
}

template <class Node>
std::string check(Node& node) {
  if (node.kind == Node::Kind::kNot && node.children.size() != 1) return "a NOT needs exactly one rule";
  if ((node.kind == Node::Kind::kAnd || node.kind == Node::Kind::kOr) && node.children.empty()) return "an AND or OR of nothing";
  if (node.kind == Node::Kind::kHeader && node.header.name.empty()) return "a header matcher without a name";
  if (node.kind == Node::Kind::kHeader)
    if (auto error = check_match(node.header.string); !error.empty()) return error;
  if (auto error = check_match(node.string); !error.empty()) return error;
  if constexpr (std::is_same_v<Node, Permission>) {
    if (node.kind == Node::Kind::kUriTemplate) {
      const auto pattern = regex_of_uri_template(node.uri_template);
      if (!pattern) return pattern.error();
      auto regex = tables::Regex::compile(*pattern);
      if (!regex) return regex.error();
      node.string = {};
      node.string.kind = StringMatch::Kind::kRegex;
      node.string.regex = std::move(*regex);
    }
  } else if (node.principal_name) {
    if (auto error = check_match(*node.principal_name); !error.empty()) return error;
  }
  for (Node& child : node.children)
    if (auto error = check(child); !error.empty()) return error;
  return "";
}

}  // namespace

struct Program::Parts {
  tables::Rbac rbac;
  std::unordered_map<std::string, Ids, NameHash, std::equal_to<>> by_name;
  route::PathTrie by_path;
  Ids always;
};

Program::Program() : parts_(std::make_unique<Parts>()) {}
Program::~Program() = default;

std::expected<std::shared_ptr<const Program>, std::string> Program::compile(const tables::Rbac& rbac) {
  auto program = std::shared_ptr<Program>(new Program);
  Parts& parts = *program->parts_;
  parts.rbac = rbac;
  std::vector<route::PathTrie::Entry> paths;
  for (uint32_t id = 0; id < parts.rbac.policies.size(); id++) {
    tables::Policy& policy = parts.rbac.policies[id];
    const auto refuse = [&](const std::string& why) { return std::unexpected("policy \"" + policy.name + "\": " + why); };
    for (Permission& permission : policy.permissions)
      if (const auto error = check(permission); !error.empty()) return refuse(error);
    for (Principal& principal : policy.principals)
      if (const auto error = check(principal); !error.empty()) return refuse(error);
    if (const auto names = of_all(policy.principals)) {
      for (const StringMatch* name : *names) {
        Ids& ids = parts.by_name[name->value];
        if (ids.empty() || ids.back() != id) ids.push_back(id);
      }
    } else if (const auto literals = of_all(policy.permissions)) {
      for (const StringMatch* path : *literals) paths.push_back({path->value, id, path->kind == StringMatch::Kind::kExact});
    } else {
      parts.always.push_back(id);
    }
  }
  parts.by_path.build(std::move(paths));
  return program;
}

Decision Program::evaluate(const Request& request) const {
  using Action = tables::Rbac::Action;
  const Parts& parts = *parts_;
  const Facts facts{request, request.head == nullptr ? std::string_view{} : route::matched_path(request.head->path)};
  uint32_t best = kNone;
  const auto ask = [&](std::span<const uint32_t> ids) {
    for (const uint32_t id : ids) {
      if (id >= best) return;
      const tables::Policy& policy = parts.rbac.policies[id];
      const auto one_holds = [&](const auto& rule) { return holds(rule, facts); };
      if (std::ranges::any_of(policy.permissions, one_holds) && std::ranges::any_of(policy.principals, one_holds)) best = id;
    }
  };
  ask(parts.always);
  if (!parts.by_name.empty())
    any_name(request.facts->certificate, [&](std::string_view name) {
      if (const auto hit = parts.by_name.find(name); hit != parts.by_name.end()) ask(hit->second);
      return false;
    });
  if (!facts.path.empty()) parts.by_path.walk(facts.path, ask);

  const Action action = parts.rbac.action;
  if (action != Action::kLog && request.head != nullptr && request.head->fields.failed()) return {Verdict::kDeny, {}};
  const bool matched = best != kNone;
  const bool allowed = action == Action::kLog || (action == Action::kAllow) == matched;
  return {allowed ? Verdict::kAllow : Verdict::kDeny, matched ? std::string_view(parts.rbac.policies[best].name) : std::string_view{}};
}

std::expected<void, std::string> build_rbac_filter(tables::RbacFilter& filter) {
  const auto build = [](const std::optional<tables::Rbac>& rules,
                        std::shared_ptr<const Program>& program) -> std::expected<void, std::string> {
    program = nullptr;
    if (!rules) return {};
    auto compiled = Program::compile(*rules);
    if (!compiled) return std::unexpected(compiled.error());
    program = std::move(*compiled);
    return {};
  };
  if (auto built = build(filter.rules, filter.program); !built) return built;
  return build(filter.shadow_rules, filter.shadow_program);
}

}  // namespace sluice::authz
