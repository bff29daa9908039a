#include "ctrl/explain/words.h"

namespace sluice::explain {

using tables::HeaderMatch;
using tables::Permission;
using tables::Principal;
using tables::StringMatch;

std::string quoted(std::string_view s) { return "'" + std::string(s) + "'"; }

std::string words(const StringMatch& m) {
  const std::string value = quoted(m.kind == StringMatch::Kind::kRegex ? std::string_view(m.regex->pattern()) : std::string_view(m.value));
  switch (m.kind) {
    case StringMatch::Kind::kExact: return "is " + value;
    case StringMatch::Kind::kPrefix: return "begins with " + value;
    case StringMatch::Kind::kSuffix: return "ends with " + value;
    case StringMatch::Kind::kContains: return "contains " + value;
    case StringMatch::Kind::kRegex: return "matches the regex " + value;
  }
  return {};
}

std::string words(const HeaderMatch& m) {
  std::string out = m.name + " ";
  switch (m.kind) {
    case HeaderMatch::Kind::kPresent: out += m.present ? "is present" : "is absent"; break;
    case HeaderMatch::Kind::kString: out += words(m.string); break;
    case HeaderMatch::Kind::kRange: out += "is in [" + std::to_string(m.range_start) + ", " + std::to_string(m.range_end) + ")"; break;
  }
  return m.invert ? "not (" + out + ")" : out;
}

std::string words(const tables::RouteMatch& m) {
  const std::string letters = m.case_sensitive || m.kind == tables::RouteMatch::Path::kRegex ? "" : " in any case";
  switch (m.kind) {
    case tables::RouteMatch::Path::kPrefix: return "prefix " + m.path + letters;
    case tables::RouteMatch::Path::kExact: return "path " + m.path + letters;
    case tables::RouteMatch::Path::kSeparatedPrefix: return "prefix " + m.path + " at a path segment" + letters;
    case tables::RouteMatch::Path::kRegex: return "regex " + m.path;
  }
  return {};
}

std::string conditions(const tables::RouteMatch& m) {
  std::string out;
  for (const HeaderMatch& h : m.headers) out += ", " + words(h);
  for (const tables::QueryMatch& q : m.query) out += ", query " + q.name + (q.present_only ? " is present" : " " + words(q.string));
  if (m.grpc) out += ", gRPC";
  if (m.fraction_of_million) out += ", for " + std::to_string(*m.fraction_of_million) + " of a million requests";
  return out;
}

namespace {

template <class Node>
std::string tree(const Node& n, std::string leaf) {
  switch (n.kind) {
    case Node::Kind::kAny: return "anything";
    case Node::Kind::kAnd:
    case Node::Kind::kOr: {
      std::string out;
      for (const Node& c : n.children) out += (out.empty() ? "" : n.kind == Node::Kind::kAnd ? " and " : " or ") + words(c);
      return "(" + out + ")";
    }
    case Node::Kind::kNot: return "not " + words(n.children[0]);
    default: return leaf;
  }
}

std::string block(const IpPrefix& p) { return p.address.to_string() + "/" + std::to_string(p.length); }

}  // namespace

std::string words(const Permission& p) {
  using Kind = Permission::Kind;
  switch (p.kind) {
    case Kind::kHeader: return words(p.header) + (p.header.string.ignore_case ? " in any case" : "");
    case Kind::kUrlPath: return "path " + words(p.string);
    case Kind::kUriTemplate: return "path of the form " + quoted(p.uri_template);
    case Kind::kDestinationIp: return "an address of ours in " + block(p.ip);
    case Kind::kDestinationPort: return "port " + std::to_string(p.port_start) + ".." + std::to_string(p.port_end);
    case Kind::kRequestedServerName: return "server name " + words(p.string);
    default: return tree(p, {});
  }
}

std::string words(const Principal& p) {
  using Kind = Principal::Kind;
  switch (p.kind) {
    case Kind::kAuthenticated: return p.principal_name ? "principal " + words(*p.principal_name) : "any principal";
    case Kind::kDirectRemoteIp: return "peer in " + block(p.ip);
    case Kind::kRemoteIp: return "client in " + block(p.ip);
    case Kind::kHeader: return words(p.header);
    case Kind::kUrlPath: return "path " + words(p.string);
    default: return tree(p, {});
  }
}

std::string action_words(const tables::Route& r) {
  std::string out = "->";
  switch (r.kind) {
    case tables::Route::Kind::kForward:
      for (const auto& w : r.forward.clusters)
        out += " " + w.name + (r.forward.clusters.size() > 1 ? " (" + std::to_string(w.weight) + ")" : "");
      if (!r.forward.prefix_rewrite.empty()) out += ", as " + r.forward.prefix_rewrite;
      if (r.forward.regex_rewrite != nullptr)
        out += ", " + quoted(r.forward.regex_rewrite->pattern()) + " as " + r.forward.regex_substitution;
      if (!r.forward.host_rewrite.empty()) out += ", host " + r.forward.host_rewrite;
      return out;
    case tables::Route::Kind::kRedirect:
      out += " redirect " + std::to_string(r.redirect.code);
      if (!r.redirect.scheme.empty()) out += ", scheme " + r.redirect.scheme;
      if (!r.redirect.host.empty()) out += ", host " + r.redirect.host;
      if (r.redirect.port) out += ", port " + std::to_string(*r.redirect.port);
      if (r.redirect.path) out += ", path " + *r.redirect.path;
      if (r.redirect.prefix_rewrite) out += ", prefix as " + *r.redirect.prefix_rewrite;
      return out;
    case tables::Route::Kind::kDirectResponse: return out + " answer " + std::to_string(r.direct.status);
  }
  return out;
}

}  // namespace sluice::explain
