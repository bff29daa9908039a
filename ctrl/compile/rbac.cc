#include <algorithm>

#include "ctrl/compile/translate.h"
#include "envoy/extensions/path/match/uri_template/v3/uri_template_match.pb.h"

namespace sluice::compile {
namespace {

namespace rbac = envoy::config::rbac::v3;

tables::Permission permission_of(const rbac::Permission& p) {
  using Kind = tables::Permission::Kind;
  tables::Permission out;
  switch (p.rule_case()) {
    case rbac::Permission::kAny:
      if (!p.any()) throw Refused("permission any: false is not a rule");
      out.kind = Kind::kAny;
      break;
    case rbac::Permission::kAndRules:
      out.kind = Kind::kAnd;
      for (const auto& r : p.and_rules().rules()) out.children.push_back(permission_of(r));
      break;
    case rbac::Permission::kOrRules:
      out.kind = Kind::kOr;
      for (const auto& r : p.or_rules().rules()) out.children.push_back(permission_of(r));
      break;
    case rbac::Permission::kNotRule:
      out.kind = Kind::kNot;
      out.children.push_back(permission_of(p.not_rule()));
      break;
    case rbac::Permission::kHeader:
      out.kind = Kind::kHeader;
      out.header = header_match_of(p.header());
      break;
    case rbac::Permission::kUrlPath:
      out.kind = Kind::kUrlPath;
      out.string = string_match_of(p.url_path().path());
      break;
    case rbac::Permission::kUriTemplate:
      out.kind = Kind::kUriTemplate;
      out.uri_template = unpacked<envoy::extensions::path::match::uri_template::v3::UriTemplateMatchConfig>(p.uri_template().typed_config())
                             .path_template();
      break;
    case rbac::Permission::kDestinationIp:
      out.kind = Kind::kDestinationIp;
      out.ip = prefix_of(p.destination_ip());
      break;
    case rbac::Permission::kDestinationPort:
      out.kind = Kind::kDestinationPort;
      out.port_start = p.destination_port();
      out.port_end = out.port_start + 1;
      break;
    case rbac::Permission::kDestinationPortRange:
      out.kind = Kind::kDestinationPort;
      out.port_start = uint32_t(std::max(0, p.destination_port_range().start()));
      out.port_end = uint32_t(std::max(0, p.destination_port_range().end()));
      break;
    case rbac::Permission::kRequestedServerName:
      out.kind = Kind::kRequestedServerName;
      out.string = string_match_of(p.requested_server_name());
      break;
    default: throw Refused("a permission without a rule that this gateway knows");
  }
  if ((out.kind == Kind::kAnd || out.kind == Kind::kOr) && out.children.empty()) throw Refused("a permission list without rules");
  return out;
}

tables::Principal principal_of(const rbac::Principal& p) {
  using Kind = tables::Principal::Kind;
  tables::Principal out;
  switch (p.identifier_case()) {
    case rbac::Principal::kAny:
      if (!p.any()) throw Refused("principal any: false is not a rule");
      out.kind = Kind::kAny;
      break;
    case rbac::Principal::kAndIds:
      out.kind = Kind::kAnd;
      for (const auto& i : p.and_ids().ids()) out.children.push_back(principal_of(i));
      break;
    case rbac::Principal::kOrIds:
      out.kind = Kind::kOr;
      for (const auto& i : p.or_ids().ids()) out.children.push_back(principal_of(i));
      break;
    case rbac::Principal::kNotId:
      out.kind = Kind::kNot;
      out.children.push_back(principal_of(p.not_id()));
      break;
    case rbac::Principal::kAuthenticated:
      out.kind = Kind::kAuthenticated;
      if (p.authenticated().has_principal_name()) out.principal_name = string_match_of(p.authenticated().principal_name());
      break;
    case rbac::Principal::kSourceIp:  // deprecated name of direct_remote_ip, as Envoy treats it without a proxy in front
    case rbac::Principal::kDirectRemoteIp:
      out.kind = Kind::kDirectRemoteIp;
      out.ip = prefix_of(p.identifier_case() == rbac::Principal::kSourceIp ? p.source_ip() : p.direct_remote_ip());
      break;
    case rbac::Principal::kRemoteIp:
      out.kind = Kind::kRemoteIp;
      out.ip = prefix_of(p.remote_ip());
      break;
    case rbac::Principal::kHeader:
      out.kind = Kind::kHeader;
      out.header = header_match_of(p.header());
      break;
    case rbac::Principal::kUrlPath:
      out.kind = Kind::kUrlPath;
      out.string = string_match_of(p.url_path().path());
      break;
    default: throw Refused("a principal without an identifier that this gateway knows");
  }
  if ((out.kind == Kind::kAnd || out.kind == Kind::kOr) && out.children.empty()) throw Refused("a principal list without identifiers");
  return out;
}

}  // namespace

tables::Rbac rbac_of(const rbac::RBAC& r) {
  tables::Rbac out;
  switch (r.action()) {
    case rbac::RBAC::ALLOW: out.action = tables::Rbac::Action::kAllow; break;
    case rbac::RBAC::DENY: out.action = tables::Rbac::Action::kDeny; break;
    case rbac::RBAC::LOG: out.action = tables::Rbac::Action::kLog; break;
    default: throw Refused("RBAC action " + std::to_string(r.action()) + " is not known");
  }
  for (const auto& [name, policy] : r.policies()) {
    if (policy.permissions().empty() || policy.principals().empty())
      throw Refused("policy \"" + name + "\" has no permissions or no principals");
    tables::Policy& p = out.policies.emplace_back();
    p.name = name;
    for (const auto& x : policy.permissions()) p.permissions.push_back(permission_of(x));
    for (const auto& x : policy.principals()) p.principals.push_back(principal_of(x));
  }
  std::ranges::sort(out.policies, {}, &tables::Policy::name);
  return out;
}

}  // namespace sluice::compile
