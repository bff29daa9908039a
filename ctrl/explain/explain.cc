// The request is written as it would come over the wire and read by the data path's own parser, so that what the codec refuses is refused
// here too. Why a policy misses is found by asking authz::Program about one node of its tree at a time: nothing here decides.
#include "ctrl/explain/explain.h"

#include <algorithm>
#include <charconv>

#include "ctrl/explain/words.h"
#include "dataplane/authz/authz.h"
#include "dataplane/base/json.h"
#include "dataplane/http/h1_parser.h"
#include "dataplane/route/route.h"
#include "dataplane/tables/filter_chain_index.h"

namespace sluice::explain {
namespace {

using tables::HeaderMatch;
using tables::Permission;
using tables::Policy;
using tables::Principal;
using tables::StringMatch;

constexpr size_t kMissedRoutesMax = 12, kMissedPoliciesMax = 20;

// ---- words

std::string value_of(const http::RequestHead& head, const HeaderMatch& m) {
  if (m.name == ":method") return quoted(head.method);
  if (m.name == ":path") return quoted(head.path);
  if (m.name == ":authority") return quoted(head.authority);
  if (m.name == ":scheme") return quoted(head.scheme);
  const auto value = head.fields.joined(m.name);
  return value ? quoted(*value) : "absent";
}

// Why a route does not take the request: the first condition that fails; empty when all hold.
std::string why_not(const tables::RouteMatch& m, const http::RequestHead& head) {
  tables::RouteMatch path_only = m;
  path_only.headers.clear(), path_only.query.clear(), path_only.grpc = false;
  if (!route::route_matches(path_only, head)) return "the path " + quoted(route::matched_path(head.path)) + " is not " + words(m);
  for (const HeaderMatch& h : m.headers)
    if (!route::matches(h, head)) return "wants " + words(h) + "; it is " + value_of(head, h);
  for (const tables::QueryMatch& q : m.query) {
    const auto value = http::query_parameter(head.path, q.name);
    if (!value || (!q.present_only && !q.string.matches(*value)))
      return "wants the query parameter " + quoted(q.name) + (q.present_only ? "" : ", which " + words(q.string)) + "; it is " +
             (value ? quoted(*value) : "absent");
  }
  if (m.grpc && !route::route_matches(m, head)) return "wants gRPC";
  return {};
}

// ---- policies

class Policies {
 public:
  Policies(const authz::Request& request, std::string_view principal) : request_(request), principal_(principal) {}

  bool holds(const Policy& p) const {
    tables::Rbac rbac;
    rbac.policies = {p};
    const auto program = authz::Program::compile(rbac);
    return program && (*program)->evaluate(request_).verdict == authz::Verdict::kAllow;
  }
  bool holds(const Permission& p) const { return holds(Policy{.name = "p", .permissions = {p}, .principals = {Principal{}}}); }
  bool holds(const Principal& p) const { return holds(Policy{.name = "p", .permissions = {Permission{}}, .principals = {p}}); }

  // Why none of these holds.
  template <class Node>
  std::string why_none(const std::vector<Node>& any) const {
    if (any.empty()) return "there is none";
    std::string out;
    for (size_t i = 0; i < any.size() && i < 3; i++) out += (i > 0 ? "; nor: " : "") + why_not(any[i]);
    return any.size() > 3 ? out + "; nor " + std::to_string(any.size() - 3) + " more" : out;
  }

 private:
  template <class Node>
  std::string why_not(const Node& n) const {
    switch (n.kind) {
      case Node::Kind::kAnd:
        for (const Node& c : n.children)
          if (!holds(c)) return why_not(c);
        return {};
      case Node::Kind::kOr: return why_none(n.children);
      case Node::Kind::kNot:
        if (n.children[0].kind == Node::Kind::kAny) return "it is written to match nothing";
        return "excluded: " + leaf(n.children[0]);
      default: return "wants " + leaf(n);
    }
  }
  std::string header(const HeaderMatch& m) const {
    return words(m) + (request_.head == nullptr ? std::string() : "; it is " + value_of(*request_.head, m));
  }
  std::string path() const { return request_.head == nullptr ? "no path at this layer" : quoted(route::matched_path(request_.head->path)); }
  std::string leaf(const Permission& p) const {
    switch (p.kind) {
      case Permission::Kind::kHeader: return header(p.header);
      case Permission::Kind::kUrlPath: return "a path that " + words(p.string) + "; it is " + path();
      case Permission::Kind::kUriTemplate: return "a path of the form " + quoted(p.uri_template) + "; it is " + path();
      case Permission::Kind::kDestinationIp:
        return "an address of ours in " + p.ip.address.to_string() + "/" + std::to_string(p.ip.length) + "; it is " +
               request_.facts->local.ip.to_string();
      case Permission::Kind::kDestinationPort:
        return "port " + std::to_string(p.port_start) + "; it is " + std::to_string(request_.facts->local.port);
      case Permission::Kind::kRequestedServerName: return "a server name that " + words(p.string) + "; it is " + quoted(request_.sni);
      case Permission::Kind::kAny: return "anything";
      case Permission::Kind::kAnd:
      case Permission::Kind::kOr:
        if (!p.children.empty())
          return leaf(p.children[0]) + (p.children.size() > 1 ? " (and " + std::to_string(p.children.size() - 1) + " more)" : "");
        return {};
      case Permission::Kind::kNot: return "not: " + leaf(p.children[0]);
    }
    return {};
  }
  std::string leaf(const Principal& p) const {
    const auto address = [&](const IpAddress& is) {
      return p.ip.address.to_string() + "/" + std::to_string(p.ip.length) + "; it is " + is.to_string();
    };
    switch (p.kind) {
      case Principal::Kind::kAuthenticated: {
        const std::string who = principal_.empty() ? "a peer without a certificate" : quoted(principal_);
        return (p.principal_name ? "a principal that " + words(*p.principal_name) : std::string("any verified certificate")) + "; it is " +
               who;
      }
      case Principal::Kind::kDirectRemoteIp: return "a peer in " + address(request_.facts->remote.ip);
      case Principal::Kind::kRemoteIp: return "a client in " + address(request_.remote_ip);
      case Principal::Kind::kHeader: return header(p.header);
      case Principal::Kind::kUrlPath: return "a path that " + words(p.string) + "; it is " + path();
      case Principal::Kind::kAny: return "anybody";
      case Principal::Kind::kAnd:
      case Principal::Kind::kOr:
        if (!p.children.empty())
          return leaf(p.children[0]) + (p.children.size() > 1 ? " (and " + std::to_string(p.children.size() - 1) + " more)" : "");
        return {};
      case Principal::Kind::kNot: return "not: " + leaf(p.children[0]);
    }
    return {};
  }

  const authz::Request& request_;
  const std::string_view principal_;
};

// "https.443.NAME.GATEWAY.NAMESPACE" (istiod's route name of a TLS server).
Origin gateway_origin(std::string_view route_config) {
  if (!route_config.starts_with("https.")) return {};
  const size_t ns = route_config.rfind('.'), gateway = ns == 0 ? ns : route_config.rfind('.', ns - 1);
  if (ns == route_config.npos || gateway == route_config.npos) return {};
  return {.kind = "Gateway",
          .ns = std::string(route_config.substr(ns + 1)),
          .name = std::string(route_config.substr(gateway + 1, ns - gateway - 1))};
}

Origin cluster_origin(std::string_view cluster) {  // outbound|PORT|SUBSET|HOST
  Origin o;
  const size_t bar = cluster.rfind('|');
  if (bar == cluster.npos) return o;
  o.kind = "Service";
  o.host = cluster.substr(bar + 1);
  const size_t subset = cluster.rfind('|', bar - 1);
  if (subset != cluster.npos) o.name = cluster.substr(subset + 1, bar - subset - 1);
  return o;
}

// ---- the walk

struct Url {
  bool tls = false;
  std::string authority, host, target;
  uint16_t port = 0;
};
std::expected<Url, std::string> parse_url(const std::string& url) {
  Url u;
  std::string_view rest = url;
  if (rest.starts_with("https://")) u.tls = true, rest.remove_prefix(8);
  else if (rest.starts_with("http://")) rest.remove_prefix(7);
  else return std::unexpected("'" + url + "': write http://HOST/PATH or https://HOST:PORT/PATH");
  const size_t end = rest.find_first_of("/?#");
  u.authority = rest.substr(0, end);
  u.target = end == rest.npos ? "/" : std::string(rest.substr(end, rest.find('#', end) - end));
  if (!u.target.starts_with('/')) u.target.insert(0, "/");
  u.port = u.tls ? 443 : 80;
  u.host = u.authority;
  if (const size_t colon = u.authority.rfind(':'); colon != std::string::npos && u.authority.find(']', colon) == std::string::npos) {
    const std::string text = u.authority.substr(colon + 1);
    if (std::from_chars(text.data(), text.data() + text.size(), u.port).ptr != text.data() + text.size() || text.empty())
      return std::unexpected("'" + text + "' is no port");
    u.host.resize(colon);
  }
  if (u.host.empty()) return std::unexpected("'" + url + "' has no host");
  std::ranges::transform(u.host, u.host.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
  return u;
}

class Walk {
 public:
  Walk(const tables::Snapshot& tables, const Question& q, Url url, bool terse)
      : t_(tables),
        terse_(terse),
        q_(q),
        url_(std::move(url)),
        sni_(q.sni      ? *q.sni
             : url_.tls ? url_.host
                        : std::string()),
        head_(arena_) {
    if (!q.principal.empty()) uris_.push_back(q.principal);
  }

  std::expected<Explanation, std::string> run() {
    const tables::Listener* l = listener();
    if (l == nullptr) return std::move(e_);
    const tables::FilterChain* chain = filter_chain(*l);
    if (chain == nullptr) return std::move(e_);
    if (!layer4(*chain)) return std::move(e_);
    if (chain->http == nullptr) {
      forward(chain->tcp->clusters, chain->tcp->total_weight);
      return std::move(e_);
    }
    const tables::Hcm& hcm = *chain->http;
    if (auto ok = read_request(hcm); !ok) return std::unexpected(ok.error());
    if (e_.status != 0 || !path(hcm)) return std::move(e_);
    find_route(hcm);
    if (authorize(hcm)) act();
    return std::move(e_);
  }

 private:
  Step& say(std::string what, std::string text, Origin origin = {}, bool decisive = true) {
    e_.steps.push_back({std::move(what), std::move(text), std::move(origin), decisive});
    return e_.steps.back();
  }
  void answer(uint16_t status, std::string details) {
    e_.status = status;
    e_.details = std::move(details);
    say("answer", std::to_string(status) + " " + e_.details);
  }
  void closed(std::string details) {
    e_.details = std::move(details);
    say("answer", "the connection is closed: " + e_.details);
  }

  const tables::Listener* listener() {
    const tables::Listener* found = nullptr;
    for (const auto& l : t_.listeners) {
      if (l->address.port != url_.port) continue;
      if (q_.to ? l->address.ip == *q_.to : !l->address.ip.is_unspecified()) {
        found = l.get();
        break;
      }
      if (l->address.ip.is_unspecified()) found = l.get();
    }
    if (found == nullptr) {
      std::string ports;
      for (const auto& l : t_.listeners) ports += (ports.empty() ? "" : ", ") + l->address.to_string();
      closed("no listener on port " + std::to_string(url_.port) + "; there are: " + (ports.empty() ? "none" : ports));
      return nullptr;
    }
    local_ = {q_.to ? *q_.to : found->address.ip.is_unspecified() ? IpAddress(Ipv4{0x0a000001}) : found->address.ip, url_.port};
    say("listener", found->name + " (" + found->address.to_string() + ")");
    return found;
  }

  const tables::FilterChain* filter_chain(const tables::Listener& l) {
    const std::string_view alpn = "http/1.1";
    const bool seen = url_.tls && l.tls_inspector;  // else nobody looks into the ClientHello: it is bytes, without a name
    if (!seen) sni_.clear();
    const tables::ConnectionView view{local_, {q_.from, 40000}, sni_, seen ? "tls" : "raw_buffer", {&alpn, seen ? size_t{1} : size_t{0}}};
    const auto* found = l.index->find(view);
    if (found == nullptr && l.default_chain != nullptr) found = &l.default_chain;
    if (found == nullptr) {
      closed("filter_chain_not_found: no chain of " + l.name + " takes " +
             (url_.tls ? "TLS for " + quoted(sni_) : std::string("plain text")));
      return nullptr;
    }
    const tables::FilterChain& chain = **found;
    std::string text = chain.name.empty() ? "the listener's chain" : chain.name;
    if (!chain.match.server_names.empty()) {
      text += ", for server names";
      for (const std::string& n : chain.match.server_names) text += " " + n;
    }
    if (chain.tls_required != url_.tls && chain.http != nullptr) {
      closed(chain.tls_required ? "the chain speaks TLS, the URL does not" : "the chain speaks plain text, the URL TLS");
      return nullptr;
    }
    if (chain.client_certificate_required) text += "; a client certificate is required";
    say("chain", text, chain.http != nullptr ? gateway_origin(chain.http->route_config_name) : Origin{});
    if (chain.tls_required && !chain.tls_missing.empty()) say("chain", "stays shut: " + chain.tls_missing, {}, false);
    if (chain.client_certificate_required && q_.principal.empty()) {
      closed("refused in the handshake: a client certificate is required (give --principal)");
      return nullptr;
    }
    facts_.local = local_;
    facts_.remote = {q_.from, 40000};
    facts_.tls = url_.tls;
    if (!uris_.empty() && chain.client_certificate_asked) facts_.certificate.presented = true, facts_.certificate.uris = &uris_;
    if (!uris_.empty() && !chain.client_certificate_asked)
      say("chain",
          std::string("the principal is not looked at: ") +
              (url_.tls ? "nobody asks for a certificate in this handshake" : "plain text proves nothing"),
          {}, false);
    return &chain;
  }

  bool layer4(const tables::FilterChain& chain) {
    for (const tables::RbacFilter& f : chain.network_rbac)
      if (!rbac(f, {.head = nullptr, .facts = &facts_, .remote_ip = q_.from, .sni = sni_})) {
        closed("rbac_access_denied: " + e_.details);
        return false;
      }
    return true;
  }

  // The request as it would come over the wire, read as the data path reads it.
  std::expected<void, std::string> read_request(const tables::Hcm& hcm) {
    std::string wire = q_.method + " " + url_.target + " HTTP/1.1\r\nhost: " + url_.authority + "\r\n";
    for (const auto& [name, value] : q_.headers) {
      if (http::equals_ignore_case(name, "host")) wire.replace(wire.find("host: "), 6 + url_.authority.size(), "host: " + value);
      else wire += name + ": " + value + "\r\n";
    }
    wire += "\r\n";
    http::RequestParser parser(head_, url_.tls, hcm.headers_bytes_max, hcm.headers_count_max);
    const http::Fed fed = parser.feed({reinterpret_cast<const uint8_t*>(wire.data()), wire.size()});
    if (fed.event == http::Event::kRefused) {
      answer(http::status_of(parser.refusal()), std::string(http::details_of(parser.refusal())));
    } else if (fed.event != http::Event::kHead) {
      return std::unexpected("the headers do not make one request");
    } else if (!head_.has_authority) {
      answer(400, "missing_host_header");
    }
    return {};
  }

  bool path(const tables::Hcm& hcm) {
    if (head_.method != "CONNECT") {
      const http::CanonicalPath canonical = http::canonicalize(head_.path, hcm.path, arena_);
      if (canonical.verdict != http::CanonicalPath::Verdict::kOk) {
        answer(canonical.verdict == http::CanonicalPath::Verdict::kRedirect ? 307 : 400, "path_normalization_failed");
        return false;
      }
      if (canonical.path != head_.path) say("path", "becomes " + quoted(canonical.path) + " for routes, policies, log and origin");
      head_.path = canonical.path;
    }
    http::strip_hop_by_hop_request(head_.fields);
    client_ = http::mutate_request(head_, hcm.forwarding, facts_, rng_);
    return true;
  }

  void find_route(const tables::Hcm& hcm) {
    routes_ = hcm.inline_routes != nullptr ? hcm.inline_routes.get() : t_.routes(hcm.route_config);
    if (routes_ == nullptr) {
      say("host", "the route configuration " + hcm.route_config_name + " has not come");
      return;
    }
    if (head_.method == "CONNECT") {
      say("host", "CONNECT has no route");
      return;
    }
    const auto& host = route::find_virtual_host(*routes_, head_.authority);
    if (host == nullptr) {
      std::string known;
      for (size_t i = 0; i < routes_->virtual_hosts.size() && i < 8; i++)
        for (const std::string& d : routes_->virtual_hosts[i]->domains) known += " " + d;
      say("host",
          "no virtual host of " + routes_->name + " takes " + quoted(head_.authority) + "; it has" + (known.empty() ? " none" : known));
      return;
    }
    host_ = host.get();
    std::string domains;
    for (const std::string& d : host_->domains) domains += " " + d;
    say("host", host_->name + " of " + routes_->name + ", for" + domains);
    route_ = route::find_route(*host_, head_, scratch_, rng_);
    size_t missed = 0;
    for (size_t i = 0; i < host_->routes.size(); i++) {
      const tables::Route& r = host_->routes[i];
      if (&r == route_) {
        say("route", number(i) + words(r.match) + conditions(r.match), route_origin(routes_->name, *host_, r));
        return;
      }
      if (++missed <= kMissedRoutesMax && !terse_) {
        const std::string why = why_not(r.match, head_);
        say("missed", number(i) + (why.empty() ? "only for a share of the requests" : why), route_origin(routes_->name, *host_, r), false);
      }
    }
    if (missed > kMissedRoutesMax && !terse_) say("missed", std::to_string(missed - kMissedRoutesMax) + " more", {}, false);
    say("route", "none");
  }
  std::string number(size_t i) const {
    const std::string& name = host_->routes[i].name;
    return "route " + std::to_string(i) + (name.empty() ? "" : " " + quoted(name)) + ": ";
  }

  bool authorize(const tables::Hcm& hcm) {
    bool asked = false;
    for (const tables::HttpFilter& f : hcm.filters) {
      if (f.kind != tables::HttpFilter::Kind::kRbac) continue;
      asked |= f.rbac.rules.has_value();
      if (!rbac(f.rbac, {.head = &head_, .facts = &facts_, .remote_ip = client_, .sni = sni_})) {
        std::string details = "rbac_access_denied_matched_policy[" + (e_.details.empty() ? "none" : e_.details) + "]";
        std::ranges::replace(details, ' ', '_');
        answer(403, std::move(details));
        return false;
      }
    }
    if (!asked) say("verdict", "allowed: no policy is asked");
    return true;
  }

  static std::string kind_of(tables::Rbac::Action a) {
    return a == tables::Rbac::Action::kAllow ? "ALLOW" : a == tables::Rbac::Action::kDeny ? "DENY" : "LOG";
  }

  // One filter: its policies, its verdict. On denial e_.details is the policy that matched.
  bool rbac(const tables::RbacFilter& f, const authz::Request& request) {
    if (!f.rules) return true;
    if (!terse_) policies(f, request);
    const authz::Decision d = f.program != nullptr ? f.program->evaluate(request) : authz::Decision{};
    const bool allowed = d.verdict == authz::Verdict::kAllow;
    const std::string kind = kind_of(f.rules->action);
    std::string by = d.policy.empty() ? "no " + kind + " policy matches" : kind + " " + std::string(d.policy);
    if (f.rules->action == tables::Rbac::Action::kAllow && f.rules->policies.empty()) by = "an ALLOW filter without policies denies all";
    say("verdict", (allowed ? "allowed: " : "denied: ") + by,
        f.rules->action == tables::Rbac::Action::kLog ? Origin{} : policy_origin(d.policy));  // LOG decides nothing
    if (!allowed) e_.details = d.policy;
    return allowed;
  }

  void policies(const tables::RbacFilter& f, const authz::Request& request) {
    const std::string kind = kind_of(f.rules->action);
    const Policies policies(request, q_.principal);
    size_t missed = 0;
    for (const Policy& p : f.rules->policies) {
      if (policies.holds(p)) {
        say("policy", kind + " " + p.name + ": matches", policy_origin(p.name));
        continue;
      }
      const bool what = std::ranges::any_of(p.permissions, [&](const Permission& x) { return policies.holds(x); });
      const bool who = std::ranges::any_of(p.principals, [&](const Principal& x) { return policies.holds(x); });
      if (++missed > kMissedPoliciesMax) continue;
      // A rule that misses on one side only is the likely mistake; both sides are said for it alone.
      std::string why = !what ? policies.why_none(p.permissions) : "";
      if (!who) why += (why.empty() ? "" : "; and ") + policies.why_none(p.principals);
      say("policy", kind + " " + p.name + (what || who ? ": just missed: " : ": does not match: ") + why, policy_origin(p.name), false);
    }
    if (missed > kMissedPoliciesMax) say("policy", std::to_string(missed - kMissedPoliciesMax) + " more that do not match", {}, false);
  }

  void act() {
    if (host_ != nullptr && host_->require_tls && head_.scheme != "https") return answer(301, "to https (the virtual host requires TLS)");
    if (route_ == nullptr) return answer(404, "route_not_found");
    switch (route_->kind) {
      case tables::Route::Kind::kRedirect: return answer(route_->redirect.code, "redirect");
      case tables::Route::Kind::kDirectResponse: return answer(route_->direct.status, "direct_response");
      case tables::Route::Kind::kForward: break;
    }
    forward(route_->forward.clusters, route_->forward.total_weight);
  }

  void forward(const std::vector<tables::WeightedCluster>& clusters, uint32_t total) {
    for (const tables::WeightedCluster& w : clusters) {
      e_.clusters.emplace_back(w.name, w.weight);
      const std::string share = clusters.size() > 1 ? ", " + std::to_string(w.weight) + " of " + std::to_string(total) : "";
      const tables::Cluster* c = t_.cluster(w.cluster);
      if (c == nullptr) {
        const int code = route_ != nullptr ? route_->forward.cluster_not_found_code : 503;
        say("cluster", w.name + share + ": is not there (" + std::to_string(code) + " NC cluster_not_found)", cluster_origin(w.name));
        continue;
      }
      say("cluster", w.name + share, cluster_origin(w.name));
      if (c->endpoints->endpoints.empty()) say("endpoint", "none (503 UH)");
      for (const tables::Endpoint& p : c->endpoints->endpoints) {
        const char* why = !p.healthy ? "unhealthy"
                          : p.tls    ? "wants TLS, which is not spoken upstream yet"
                          : c->http2 ? "wants HTTP/2, which is not spoken yet"
                                     : "";
        say("endpoint", p.address.to_string() + (*why != '\0' ? std::string(": unusable: ") + why : ": could serve"), {}, *why == '\0');
      }
    }
  }

  const tables::Snapshot& t_;
  const bool terse_;  // decide(): nothing is said of what was passed over
  const Question& q_;
  const Url url_;
  std::string sni_;
  ArenaPool pool_{4096};
  Arena arena_{pool_};
  http::RequestHead head_;
  Rng rng_{1};
  route::Scratch scratch_;
  std::vector<std::string> uris_;
  SocketAddress local_;
  http::ConnectionFacts facts_;
  IpAddress client_;
  const tables::RouteConfiguration* routes_ = nullptr;
  const tables::VirtualHost* host_ = nullptr;
  const tables::Route* route_ = nullptr;
  Explanation e_;
};

}  // namespace

// "ns[shop]-policy[read]-rule[0]" (istiod's name of a rule).
Origin policy_origin(std::string_view name) {
  const auto between = [&](std::string_view open) -> std::string {
    const size_t at = name.find(open);
    if (at == name.npos) return {};
    const size_t begin = at + open.size(), end = name.find(']', begin);
    return std::string(name.substr(begin, end == name.npos ? end : end - begin));
  };
  Origin o{.kind = "AuthorizationPolicy", .ns = between("ns["), .name = between("policy[")};
  unsigned rule = 0;
  if (const std::string n = between("rule["); std::from_chars(n.data(), n.data() + n.size(), rule).ec == std::errc()) o.rule = rule;
  return o.name.empty() ? Origin{} : o;
}

// "/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME" (istiod's metadata).
Origin route_origin(const std::string& table, const tables::VirtualHost& host, const tables::Route& r) {
  const std::string_view source = r.source;
  constexpr std::string_view kBefore = "/namespaces/", kBetween = "/virtual-service/";
  const size_t ns = source.find(kBefore), kind = source.find(kBetween);
  if (ns == source.npos || kind == source.npos) return {};
  return {.kind = "VirtualService",
          .ns = std::string(source.substr(ns + kBefore.size(), kind - ns - kBefore.size())),
          .name = std::string(source.substr(kind + kBetween.size())),
          .route = r.name,
          .table = table,
          .virtual_host = host.name,
          .index = unsigned(&r - host.routes.data())};
}

std::expected<Explanation, std::string> explain(const tables::Snapshot& tables, const Question& question) {
  auto url = parse_url(question.url);
  if (!url) return std::unexpected(url.error());
  return Walk(tables, question, std::move(*url), false).run();
}

std::expected<Explanation, std::string> decide(const tables::Snapshot& tables, const Question& question) {
  auto url = parse_url(question.url);
  if (!url) return std::unexpected(url.error());
  return Walk(tables, question, std::move(*url), true).run();
}

std::string render_text(const Explanation& e, const Place& place) {
  std::string out;
  for (const Step& s : e.steps) {
    std::string line = s.what;
    line.resize(std::max<size_t>(line.size() + 1, 10), ' ');
    line += (s.decisive ? "" : "- ") + s.text;
    if (!s.origin.kind.empty()) {
      const std::string at = place(s.origin);
      const std::string object = s.origin.host.empty() ? s.origin.kind + " " + s.origin.ns + "/" + s.origin.name : "";
      if (!at.empty() || !object.empty()) line += "  [" + object + (object.empty() || at.empty() ? "" : " ") + at + "]";
    }
    out += line + "\n";
  }
  return out;
}

std::string render_json(const Explanation& e, const Place& place) {
  std::string out = "{\"steps\":[";
  for (const Step& s : e.steps) {
    if (out.back() == '}') out += ',';
    out += "{\"what\":" + json_quoted(s.what) + ",\"text\":" + json_quoted(s.text) + ",\"decisive\":" + (s.decisive ? "true" : "false");
    if (!s.origin.kind.empty()) {
      out += ",\"kind\":" + json_quoted(s.origin.kind) + ",\"namespace\":" + json_quoted(s.origin.ns) +
             ",\"name\":" + json_quoted(s.origin.name);
      if (const std::string at = place(s.origin); !at.empty()) out += ",\"place\":" + json_quoted(at);
    }
    out += "}";
  }
  out += "],\"status\":" + std::to_string(e.status) + ",\"details\":" + json_quoted(e.details) + ",\"clusters\":[";
  for (size_t i = 0; i < e.clusters.size(); i++)
    out += std::string(i > 0 ? "," : "") + "{\"name\":" + json_quoted(e.clusters[i].first) +
           ",\"weight\":" + std::to_string(e.clusters[i].second) + "}";
  return out + "]}\n";
}

std::string write_question(const Question& q) {
  std::string out = "method " + q.method + "\nurl " + q.url + "\nfrom " + q.from.to_string() + "\n";
  for (const auto& [name, value] : q.headers) out += "header " + name + ": " + value + "\n";
  if (!q.principal.empty()) out += "principal " + q.principal + "\n";
  if (q.sni) out += "sni " + *q.sni + "\n";
  if (q.to) out += "to " + q.to->to_string() + "\n";
  return out;
}

std::expected<Question, std::string> parse_question(std::string_view text) {
  Question q;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == text.npos ? std::string_view{} : text.substr(end + 1);
    const size_t space = line.find(' ');
    const std::string_view word = line.substr(0, space);
    const std::string value(space == line.npos ? std::string_view{} : line.substr(space + 1));
    const auto address = [&]() -> std::expected<IpAddress, std::string> {
      const auto ip = IpAddress::parse(value);
      if (!ip) return std::unexpected("'" + value + "' is no IP address");
      return *ip;
    };
    if (word == "method") q.method = value;
    else if (word == "url") q.url = value;
    else if (word == "principal") q.principal = value;
    else if (word == "sni") q.sni = value;
    else if (word == "header") {
      const size_t colon = value.find(':');
      if (colon == 0 || colon == std::string::npos) return std::unexpected("'" + value + "' is no header; write 'name: value'");
      q.headers.emplace_back(value.substr(0, colon), std::string(http::trim(std::string_view(value).substr(colon + 1))));
    } else if (word == "from" || word == "to") {
      const auto ip = address();
      if (!ip) return std::unexpected(ip.error());
      if (word == "from") q.from = *ip;
      else q.to = *ip;
    } else if (!line.empty()) {
      return std::unexpected("'" + std::string(word) + "' is not known here");
    }
  }
  return q;
}

}  // namespace sluice::explain
