#include "dataplane/authz/authz.h"

#include <algorithm>

#include "dataplane/route/route.h"

namespace sluice::authz {
namespace {

using tables::Permission;
using tables::Principal;

std::string_view plain_path(const http::RequestHead& head) {
  const std::string_view path = http::path_of(head.path);
  return path.substr(0, path.find('#'));
}

// Envoy's AuthenticatedMatcher: any URI SAN; a certificate without one is known by its DNS SANs, one without either by its subject.
bool authenticated(const std::optional<tables::StringMatch>& name, const http::ClientCertificate& c) {
  if (!c.presented) return false;
  if (!name) return true;
  auto any = [&](const std::vector<std::string>& names) { return std::ranges::any_of(names, [&](const std::string& n) { return name->matches(n); }); };
  if (c.uris != nullptr && !c.uris->empty()) return any(*c.uris);
  if (c.dns != nullptr && !c.dns->empty()) return any(*c.dns);
  return name->matches(c.subject);
}

}  // namespace

// A segment is one or more pchar, "**" any number of pchar and "/" (Envoy: uri_template_lib; RFC 3986 pchar).
std::expected<std::string, std::string> regex_of_uri_template(std::string_view text) {
  constexpr std::string_view kSegment = "[-a-zA-Z0-9._~%!$&'()+,;:@=]+", kRest = "[-a-zA-Z0-9._~%!$&'()+,;:@=/]*";
  if (!text.starts_with('/')) return std::unexpected("URI template \"" + std::string(text) + "\" does not begin with \"/\"");
  std::string out;
  bool rest_seen = false;
  for (size_t i = 0; i < text.size();) {
    std::string_view operand;
    if (text[i] == '{') {
      const size_t end = text.find('}', i);
      if (end == text.npos) return std::unexpected("URI template \"" + std::string(text) + "\": \"{\" at " + std::to_string(i) + " is not closed");
      operand = text.substr(i + 1, end - i - 1);
      if (const size_t equal = operand.find('='); equal != operand.npos) operand = operand.substr(equal + 1);
      else if (operand != "*" && operand != "**") operand = "*";  // {name}: one segment
      i = end + 1;
    } else if (text[i] == '*') {
      operand = text.substr(i, text.substr(i).starts_with("**") ? 2 : 1);
      i += operand.size();
    }
    if (operand.empty()) {
      if (std::string_view(".\\+*?()|[]{}^$").find(text[i]) != std::string_view::npos) out += '\\';
      out += text[i++];
    } else if (operand == "*") {
      out += kSegment;
    } else if (operand == "**" && !rest_seen) {
      rest_seen = true;
      out += kRest;
    } else {
      return std::unexpected("URI template \"" + std::string(text) + "\": \"" + std::string(operand) + "\" is not \"*\", or a second \"**\"");
    }
  }
  return out;
}

std::expected<void, std::string> Program::prepare(const Permission& p, const std::string& policy) {
  if (p.kind == Permission::Kind::kUriTemplate) {
    auto pattern = regex_of_uri_template(p.uri_template);
    if (!pattern) return std::unexpected("policy \"" + policy + "\": " + pattern.error());
    auto regex = tables::Regex::compile(*pattern);
    if (!regex) return std::unexpected("policy \"" + policy + "\": " + regex.error());
    templates_.emplace(&p, *regex);
  }
  for (const Permission& child : p.children)
    if (auto r = prepare(child, policy); !r) return r;
  return {};
}

std::expected<std::shared_ptr<const Program>, std::string> Program::compile(const tables::Rbac& rbac) {
  std::shared_ptr<Program> program(new Program);
  program->rbac_ = rbac;
  for (const tables::Policy& policy : program->rbac_.policies)
    for (const Permission& p : policy.permissions)
      if (auto r = program->prepare(p, policy.name); !r) return std::unexpected(r.error());
  return program;
}

bool Program::matches(const Permission& p, const Request& r) const {
  using Kind = Permission::Kind;
  switch (p.kind) {
    case Kind::kAny: return true;
    case Kind::kAnd: return std::ranges::all_of(p.children, [&](const auto& c) { return matches(c, r); });
    case Kind::kOr: return std::ranges::any_of(p.children, [&](const auto& c) { return matches(c, r); });
    case Kind::kNot: return !matches(p.children.front(), r);
    case Kind::kHeader: return route::matches(p.header, r.head);
    case Kind::kUrlPath: return r.head != nullptr && p.string.matches(plain_path(*r.head));
    case Kind::kUriTemplate: return r.head != nullptr && templates_.at(&p)->full_match(plain_path(*r.head));
    case Kind::kDestinationIp: return p.ip.contains(r.facts->local.ip);
    case Kind::kDestinationPort: return r.facts->local.port >= p.port_start && r.facts->local.port < p.port_end;
    case Kind::kRequestedServerName: return p.string.matches(r.sni);
  }
  return false;
}

bool Program::matches(const Principal& p, const Request& r) const {
  using Kind = Principal::Kind;
  switch (p.kind) {
    case Kind::kAny: return true;
    case Kind::kAnd: return std::ranges::all_of(p.children, [&](const auto& c) { return matches(c, r); });
    case Kind::kOr: return std::ranges::any_of(p.children, [&](const auto& c) { return matches(c, r); });
    case Kind::kNot: return !matches(p.children.front(), r);
    case Kind::kAuthenticated: return authenticated(p.principal_name, r.facts->certificate);
    case Kind::kDirectRemoteIp: return p.ip.contains(r.facts->remote.ip);
    case Kind::kRemoteIp: return p.ip.contains(r.remote_ip);
    case Kind::kHeader: return route::matches(p.header, r.head);
    case Kind::kUrlPath: return r.head != nullptr && p.string.matches(plain_path(*r.head));
  }
  return false;
}

Decision Program::evaluate(const Request& r) const {
  using Action = tables::Rbac::Action;
  const bool deny = rbac_.action == Action::kDeny;
  for (const tables::Policy& policy : rbac_.policies) {
    const bool hit = std::ranges::any_of(policy.permissions, [&](const auto& p) { return matches(p, r); }) &&
                     std::ranges::any_of(policy.principals, [&](const auto& p) { return matches(p, r); });
    if (hit) return {deny ? Verdict::kDeny : Verdict::kAllow, policy.name};
  }
  return {rbac_.action == Action::kAllow ? Verdict::kDeny : Verdict::kAllow, {}};
}

std::expected<void, std::string> build_rbac_filter(tables::RbacFilter& filter) {
  auto build = [](const std::optional<tables::Rbac>& rules, std::shared_ptr<const Program>& program) -> std::expected<void, std::string> {
    program.reset();
    if (!rules) return {};
    auto compiled = Program::compile(*rules);
    if (!compiled) return std::unexpected(compiled.error());
    program = *compiled;
    return {};
  };
  if (auto r = build(filter.rules, filter.program); !r) return r;
  return build(filter.shadow_rules, filter.shadow_program);
}

}  // namespace sluice::authz
