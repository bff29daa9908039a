// AuthorizationPolicies that ask for what no request at their gateways has: a path of no route, a host of no Gateway, a port that none
// opens; and those that ask for HTTP where there is none.
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/known.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {
using Op = TextCondition::Op;

constexpr size_t kSelectionsMax = 256;  // distinct ones; a bound on the work
constexpr size_t kCompareMax = 2000;    // conditions that are looked at one by one, a value

// "*", "a*", "*a", "a"; a template of paths.
TextCondition value_of(const std::string& s, bool path) {
  if (s == "*") return {};
  if (path && s.find('{') != s.npos) {
    std::string regex;
    for (size_t i = 0; i < s.size(); i++) {
      if (s.compare(i, 4, "{**}") == 0) regex += ".*", i += 3;
      else if (s.compare(i, 3, "{*}") == 0) regex += "[^/]+", i += 2;
      else {
        if (std::string_view("\\.+*?()|[]{}^$").find(s[i]) != std::string_view::npos) regex += '\\';
        regex += s[i];
      }
    }
    return TextCondition::of(Op::kRegex, regex);
  }
  if (s.starts_with('*')) return TextCondition::of(Op::kSuffix, s.substr(1), !path);
  if (s.ends_with('*')) return TextCondition::of(Op::kPrefix, s.substr(0, s.size() - 1), !path);
  return TextCondition::of(Op::kExact, s, !path);
}

// The paths that some routes take.
struct Paths {
  bool every = false;
  std::set<std::string, std::less<>> exact, prefixes;
  std::vector<TextCondition> others;

  void add(TextCondition c) {
    if (c.op == Op::kAny || (c.op == Op::kPrefix && c.text.size() <= 1) || (c.op == Op::kRegex && (c.text == ".*" || c.text == "/.*")))
      every = true;
    else if (c.op == Op::kExact && !c.ignore_case) exact.insert(std::move(c.text));
    else if (c.op == Op::kPrefix && !c.ignore_case) prefixes.insert(std::move(c.text));
    else others.push_back(std::move(c));
  }
  bool meet(const TextCondition& v) const {
    if (every || v.op == Op::kAny) return true;
    const auto begins = [&](const auto& set) {
      const auto at = set.lower_bound(v.text);
      return at != set.end() && at->starts_with(v.text);
    };
    if (v.op == Op::kExact && exact.contains(v.text)) return true;
    if (v.op == Op::kPrefix && (begins(exact) || begins(prefixes))) return true;
    if (v.op == Op::kSuffix && !prefixes.empty()) return true;
    if (v.op != Op::kSuffix && v.op != Op::kRegex)
      for (size_t n = 0; n <= v.text.size(); n++)
        if (prefixes.contains(std::string_view(v.text).substr(0, n))) return true;
    size_t left = kCompareMax;
    const auto may = [&](const TextCondition& c) { return left-- == 0 || !excludes(c, v); };
    if (std::ranges::any_of(others, may)) return true;
    if (v.op != Op::kSuffix && v.op != Op::kRegex) return false;
    return std::ranges::any_of(exact, [&](const std::string& s) { return left-- == 0 || v.takes(s); }) ||
           std::ranges::any_of(prefixes, [&](const std::string& s) { return may(TextCondition::of(Op::kPrefix, s)); });
  }
};

TextCondition path_of(const Node& match) {
  const Node& uri = match["uri"];
  const bool fold = match["ignoreUriCase"].boolean();
  if (uri["exact"]) return TextCondition::of(Op::kExact, uri["exact"].str(), fold);
  if (uri["prefix"]) return TextCondition::of(Op::kPrefix, uri["prefix"].str(), fold);
  if (uri["regex"] && uri["regex"].str() != "*") return TextCondition::of(Op::kRegex, uri["regex"].str());
  return {};
}

// What the Gateways that a policy may select serve.
struct Served {
  Selection selection;
  HostSet hosts;
  std::set<uint32_t> http, tcp, all, sure_http, sure_tcp;
  Paths paths;
  std::map<std::string, Paths> by_host;  // of VirtualServices, as they say it, lower case
  bool routes_known = true;

  void add_virtual(const Known& k, const Config& v) {
    Paths own;
    for (const Node& r : v.spec()["http"].items) {
      const Config* c = nullptr;
      if (const Node& d = r["delegate"]; d) {
        const auto at = k.virtuals.find((d["namespace"].str().empty() ? v.ns : d["namespace"].str()) + "/" + d["name"].str());
        if (at == k.virtuals.end()) continue;
        c = at->second;
      }
      // Of a delegate the routes' own paths, or the root's where they have none: more than are there, never fewer.
      const auto add = [&](const Node& route, bool last) {
        if (route["match"].items.empty() && last) own.add({});
        for (const Node& m : route["match"].items) own.add(path_of(m));
      };
      add(r, c == nullptr);
      if (c != nullptr)
        for (const Node& leaf : c->spec()["http"].items) add(leaf, r["match"].items.empty());
    }
    for (const std::string& h : hosts_of(v)) {
      Paths& p = by_host[lower(h)];
      p.every |= own.every, paths.every |= own.every;
      for (Paths* to : {&p, &paths}) {
        to->exact.insert(own.exact.begin(), own.exact.end());
        to->prefixes.insert(own.prefixes.begin(), own.prefixes.end());
        to->others.insert(to->others.end(), own.others.begin(), own.others.end());
      }
    }
  }
  std::vector<const Paths*> paths_for(const std::string& host) const {  // exact or "*.suffix"
    std::vector<const Paths*> out;
    const std::string h = lower(host);
    if (h.find('*') == h.npos) {
      for (const std::string& name : {h, std::string("*")})
        if (const auto at = by_host.find(name); at != by_host.end()) out.push_back(&at->second);
      for (size_t at = h.find('.'); at != h.npos; at = h.find('.', at + 1))
        if (const auto found = by_host.find("*" + h.substr(at)); found != by_host.end()) out.push_back(&found->second);
      return out;
    }
    const TextCondition wanted = value_of(h, false);
    for (const auto& [name, p] : by_host)
      if (!excludes(value_of(name, false), wanted)) out.push_back(&p);
    return out;
  }
};

Served served_by(const Known& k, const Config& policy) {
  Served s{.selection = selection_of(k, policy),
           .hosts = {},
           .http = {},
           .tcp = {},
           .all = {},
           .sure_http = {},
           .sure_tcp = {},
           .paths = {},
           .by_host = {}};
  std::set<const Config*> seen;
  for (const KnownGateway* g : s.selection.possible) {
    for (size_t i = 0; i < kServes; i++) {
      s.all.insert(g->ports[i].begin(), g->ports[i].end());
      if (Serves(i) == Serves::kHttp) s.http.insert(g->ports[i].begin(), g->ports[i].end());
      else if (Serves(i) != Serves::kAuto) s.tcp.insert(g->ports[i].begin(), g->ports[i].end());
    }
    for (const KnownServer& server : g->servers)
      if (server.serves == Serves::kHttp)
        for (const auto& [ns, name] : server.hosts) s.hosts.add(name);
    for (const Config* v : g->bound)
      if (seen.insert(v).second) s.add_virtual(k, *v);
  }
  for (const KnownGateway* g : s.selection.sure) {
    s.sure_http.insert(g->ports[size_t(Serves::kHttp)].begin(), g->ports[size_t(Serves::kHttp)].end());
    for (const Serves how : {Serves::kTcp, Serves::kTls}) s.sure_tcp.insert(g->ports[size_t(how)].begin(), g->ports[size_t(how)].end());
  }
  s.routes_known = !k.routes_patched && !s.by_host.empty();
  return s;
}

std::string names_of(const Served& s) {
  std::string out;
  for (size_t i = 0; i < s.selection.possible.size() && i < 3; i++) out += (i == 0 ? "Gateway " : ", ") + s.selection.possible[i]->name;
  return out + (s.selection.possible.size() > 3 ? " and others" : "");
}
std::string list_of(const std::set<uint32_t>& ports) {
  std::string out;
  for (const uint32_t p : ports) out += (out.empty() ? "" : ", ") + std::to_string(p);
  return out;
}
std::string host_part(const std::string& value) { return value.substr(0, value.find(':')); }

struct PolicyCheck {
  const Known& k;
  const Config& c;
  const Served& s;
  Warnings& out;

  void ports(const Node& list) const {
    for (const Node& p : list.items)
      if (!s.all.contains(uint32_t(p.integer())))
        out.add(c, p, "unreachable-policy", "no server of " + names_of(s) + " has the port " + p.str() + ": this value never matches",
                "its servers have " + list_of(s.all));
  }
  void hosts(const Node& list) const {
    if (s.http.empty()) return;
    for (const Node& h : list.items) {
      const std::string host = host_part(h.str());
      if (host.empty() || (host.find('*') != host.npos && !host.starts_with("*."))) continue;
      if (!s.hosts.overlaps(host))
        out.add(c, h, "unserved-host", "no server of " + names_of(s) + " has the host " + host + ": this value never matches",
                "compare with the hosts of its servers");
    }
  }
  void paths(const Node& op, const char* field) const {
    for (const Node& p : op[field].items) {
      const TextCondition value = value_of(p.str(), true);
      if (const std::string why = impossible_path(value); !why.empty()) {
        out.add(c, p, "unreachable-policy", "this value never matches: " + why,
                "write the path as it is after normalization, with / in front");
        continue;
      }
      if (!s.routes_known || s.http.empty()) continue;
      std::vector<const Paths*> among;
      for (const Node& h : op["hosts"].items)
        for (const Paths* x : s.paths_for(host_part(h.str()))) among.push_back(x);
      const bool by_host = !op["hosts"].items.empty();
      if (by_host && among.empty()) continue;  // said of the hosts, or no route is there yet
      if (!by_host) among.push_back(&s.paths);
      if (std::ranges::none_of(among, [&](const Paths* x) { return x->meet(value); }))
        out.add(c, p, "unreachable-policy",
                "no route of " + names_of(s) + (by_host ? " for these hosts" : "") + " takes a path that is " + p.str() +
                    ": this value never matches",
                "compare with the paths of the VirtualServices; policies see the path before it is rewritten");
    }
  }

  const Node* http_field(const Node& rule, const Node& op) const {
    for (const char* f : {"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"})
      if (op[f]) return op.key_of(f);
    for (const Node& from : rule["from"].items)
      for (const char* f : {"requestPrincipals", "notRequestPrincipals"})
        if (from["source"][f]) return from["source"].key_of(f);
    for (const Node& w : rule["when"].items)
      if (w["key"].str().starts_with("request.")) return &w["key"];
    return nullptr;
  }
  void http_on_tcp(const Node& rule, const Node& op) const {
    const Node* field = http_field(rule, op);
    if (field == nullptr || s.sure_tcp.empty()) return;
    const std::string action = c.spec()["action"].null() ? "ALLOW" : c.spec()["action"].str();
    const std::string then = action == "ALLOW"    ? "the rule allows nothing there"
                             : action == "DENY"   ? "the rule denies there whatever else of it matches"
                             : action == "CUSTOM" ? "the rule asks the provider there whatever else of it matches"
                                                  : "the rule is looked at without it there";
    std::set<uint32_t> named;
    for (const Node& p : op["ports"].items) named.insert(uint32_t(p.integer()));
    for (const Node& w : rule["when"].items)
      if (w["key"].str() == "destination.port")
        for (const Node& p : w["values"].items) named.insert(uint32_t(p.integer()));
    std::set<uint32_t> tcp;
    for (const uint32_t p : s.sure_tcp)
      if (!s.sure_http.contains(p) && (named.empty() || named.contains(p))) tcp.insert(p);
    if (tcp.empty()) return;
    const bool narrow = action == "ALLOW" || action == "AUDIT";
    if (named.empty() && narrow && !s.sure_http.empty()) return;  // it is for the HTTP ports
    out.add(c, *field, "http-on-tcp",
            field->str() + " is of HTTP, and port " + list_of(tcp) + " of " + s.selection.sure[0]->name + " carries TCP: " + then,
            s.sure_http.empty() ? "use ports, principals, namespaces, ipBlocks or connection.sni"
                                : "add ports: [" + list_of(s.sure_http) + "]");
  }

  void check() const {
    for (const Node& rule : c.spec()["rules"].items) {
      for (const Node& to : rule["to"].items) {
        const Node& op = to["operation"];
        http_on_tcp(rule, op);
        if (s.selection.others) continue;
        ports(op["ports"]);
        hosts(op["hosts"]);
        paths(op, "paths");
        paths(op, "notPaths");
      }
      if (rule["to"].items.empty()) http_on_tcp(rule, null_node());
      for (const Node& w : rule["when"].items)
        if (w["key"].str() == "destination.port" && !s.selection.others) ports(w["values"]);
    }
  }
};

}  // namespace

void check_policies(const Known& k, Warnings& out) {
  for (const Config* c : k.world.of_kind("RequestAuthentication")) {
    const Selection s = selection_of(k, *c);
    const bool http = std::ranges::any_of(s.possible, [](const KnownGateway* g) { return g->serves_any(Serves::kHttp); });
    if (!s.sure.empty() && !http && !s.others)
      out.add(*c, c->at(), "http-on-tcp", "no server of Gateway " + s.sure[0]->name + " sees HTTP: no token is ever looked at",
              "it is for HTTP and HTTPS servers");
  }
  std::map<std::tuple<std::string, Labels, std::string>, Served> known;
  for (const Config* c : k.world.of_kind("AuthorizationPolicy")) {
    std::string targets;
    for (const Node& t : c->spec()["targetRefs"].items) targets += t["name"].str() + " ";
    targets += c->spec()["targetRef"]["name"].str();
    const auto key = std::tuple(c->ns == k.world.mesh.root_namespace ? std::string() : c->ns, labels_of(selector_of(*c)), targets);
    auto at = known.find(key);
    if (at == known.end()) {
      if (known.size() == kSelectionsMax) continue;
      at = known.emplace(key, served_by(k, *c)).first;
    }
    if (!at->second.selection.possible.empty()) PolicyCheck{k, *c, at->second, out}.check();
  }
}

}  // namespace sluice::plane
