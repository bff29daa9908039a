#include "ctrl/explain/diff.h"

#include <algorithm>
#include <map>
#include <set>

#include "dataplane/http/message.h"

namespace sluice::explain {
namespace {

using tables::HeaderMatch;
using tables::Permission;
using tables::Principal;
using tables::StringMatch;
using Words = std::set<std::string>;

// ---- the inventory: what is there, as lines that can be compared

void add_routes(const tables::RouteConfiguration& c, Words& out) {
  for (const auto& host : c.virtual_hosts) {
    for (const std::string& d : host->domains) out.insert("host " + d + " of " + c.name);
    for (const tables::Route& r : host->routes) {
      std::string line = "route " + host->name + " of " + c.name + ": " +
                         (r.match.kind == tables::RouteMatch::Path::kExact   ? "path "
                          : r.match.kind == tables::RouteMatch::Path::kRegex ? "regex "
                                                                             : "prefix ") +
                         r.match.path;
      for (const HeaderMatch& h : r.match.headers) line += ", " + h.name + (h.invert ? " not " : " ") + h.string.value;
      for (const tables::QueryMatch& q : r.match.query) line += ", ?" + q.name + "=" + q.string.value;
      switch (r.kind) {
        case tables::Route::Kind::kForward:
          line += " ->";
          for (const auto& w : r.forward.clusters)
            line += " " + w.name + (r.forward.clusters.size() > 1 ? " (" + std::to_string(w.weight) + ")" : "");
          break;
        case tables::Route::Kind::kRedirect: line += " -> redirect " + std::to_string(r.redirect.code); break;
        case tables::Route::Kind::kDirectResponse: line += " -> answer " + std::to_string(r.direct.status); break;
      }
      out.insert(std::move(line));
    }
  }
}

Words inventory(const tables::Snapshot& t) {
  Words out;
  for (const auto& l : t.listeners) {
    out.insert("listener " + l->name + " " + l->address.to_string());
    const auto chain = [&](const tables::FilterChain& c) {
      std::string names;
      for (const std::string& n : c.match.server_names) names += " " + n;
      std::string line = "chain of " + l->name + ":" + (names.empty() ? " any server name" : names) + (c.tls_required ? ", TLS" : "");
      if (c.client_certificate_required) line += ", client certificate required";
      out.insert(line);
      if (!c.tls_missing.empty())
        out.insert("certificate of " + l->name + ":" + names + ": " + c.tls_missing.substr(0, c.tls_missing.find(": ")));
      if (c.http != nullptr && c.http->inline_routes != nullptr) add_routes(*c.http->inline_routes, out);
    };
    for (const auto& c : l->chains) chain(*c);
    if (l->default_chain != nullptr) chain(*l->default_chain);
  }
  for (const auto& r : t.route_configs)
    if (r != nullptr) add_routes(*r, out);
  for (const auto& c : t.clusters) {
    if (c == nullptr) continue;
    out.insert("cluster " + c->name);
    for (const tables::Endpoint& e : c->endpoints->endpoints)
      out.insert("endpoint " + e.address.to_string() + " of " + c->name + (e.healthy ? "" : ", unhealthy") +
                 (e.weight != 1 ? ", weight " + std::to_string(e.weight) : ""));
  }
  return out;
}

// ---- constants of the matchers

struct Constants {
  Words paths{"/", "/zz-none"}, methods{"GET"}, principals{"", "spiffe://cluster.local/ns/zz/sa/zz"}, hosts, server_names, queries{""},
      undecided;
  std::map<std::string, Words> headers;  // name -> values that matter
  std::set<IpAddress> addresses{IpAddress(Ipv4{0xc000020a})};

  // Values on both sides of the matcher; false where that is not known.
  static bool samples(const StringMatch& m, const std::string& filler, Words& out) {
    switch (m.kind) {
      case StringMatch::Kind::kExact: out.insert({m.value, m.value + filler}); return true;
      case StringMatch::Kind::kPrefix: out.insert({m.value, m.value + filler}); return true;
      case StringMatch::Kind::kSuffix: out.insert({m.value, filler + m.value}); return true;
      case StringMatch::Kind::kContains: out.insert({m.value, filler + m.value + filler}); return true;
      case StringMatch::Kind::kRegex: break;
    }
    // ".*LITERAL.*" and its halves, which Istio makes of namespaces and wildcards, are prefix, suffix and contains in other words.
    std::string_view p = m.regex->pattern();
    const bool open_left = p.starts_with(".*"), open_right = p.ends_with(".*") || p.ends_with(".+");
    if (open_left) p.remove_prefix(2);
    if (open_right) p.remove_suffix(2);
    std::string literal;
    for (size_t i = 0; i < p.size(); i++) {
      if (p[i] == '\\' && i + 1 < p.size() && !std::isalnum(uint8_t(p[i + 1]))) literal += p[++i];
      else if (std::string_view(".*+?()[]{}|^$\\").find(p[i]) != std::string_view::npos) return false;
      else literal += p[i];
    }
    out.insert((open_left ? filler : "") + literal + (open_right ? filler : ""));
    return true;
  }
  void want(const StringMatch& m, const std::string& filler, Words& out, const std::string& what) {
    if (!samples(m, filler, out)) undecided.insert("the regex '" + m.regex->pattern() + "' (" + what + "): no request was made for it");
  }
  void path(const StringMatch& m) {
    Words found;
    want(m, "zz", found, "a path");
    for (std::string p : found) paths.insert(p.starts_with('/') ? p : "/" + p);
  }
  void header(const HeaderMatch& h) {
    if (h.name == ":method") return want(h.string, "", methods, "a method");
    if (h.name == ":authority") return want(h.string, "zz", hosts, "a host");
    if (h.name == ":path") return path(h.string);
    if (h.name.starts_with(':')) return;
    Words& values = headers[h.name];
    switch (h.kind) {
      case HeaderMatch::Kind::kPresent: values.insert("zz"); break;
      case HeaderMatch::Kind::kString: want(h.string, "zz", values, "header " + h.name); break;
      case HeaderMatch::Kind::kRange: values.insert({std::to_string(h.range_start), std::to_string(h.range_end)}); break;
    }
  }
  void address(const IpPrefix& p) { addresses.insert(p.address); }
  void add(const Permission& p) {
    switch (p.kind) {
      case Permission::Kind::kHeader: header(p.header); break;
      case Permission::Kind::kUrlPath: path(p.string); break;
      case Permission::Kind::kUriTemplate: {
        std::string text = p.uri_template;
        for (const auto& [variable, value] : {std::pair<std::string, std::string>{"{**}", "zz/zz"}, {"{*}", "zz"}})
          for (size_t at; (at = text.find(variable)) != std::string::npos;) text.replace(at, variable.size(), value);
        paths.insert({text, text + "/zz"});
        break;
      }
      case Permission::Kind::kRequestedServerName: want(p.string, "zz", server_names, "a server name"); break;
      default: break;
    }
    for (const Permission& c : p.children) add(c);
  }
  void add(const Principal& p) {
    if (p.principal_name) want(*p.principal_name, "zz", principals, "a principal");
    switch (p.kind) {
      case Principal::Kind::kHeader: header(p.header); break;
      case Principal::Kind::kUrlPath: path(p.string); break;
      case Principal::Kind::kDirectRemoteIp:
      case Principal::Kind::kRemoteIp: address(p.ip); break;
      default: break;
    }
    for (const Principal& c : p.children) add(c);
  }
  void add(const tables::RbacFilter& f) {
    if (!f.rules) return;
    for (const tables::Policy& p : f.rules->policies) {
      for (const Permission& x : p.permissions) add(x);
      for (const Principal& x : p.principals) add(x);
    }
  }
  static std::string host_of(const std::string& domain) {
    if (domain == "*") return "zz.invalid";
    if (domain.starts_with('*')) return "zz" + domain.substr(1);
    if (domain.ends_with('*')) return domain.substr(0, domain.size() - 1) + "zz";
    return domain;
  }
  void add(const tables::RouteConfiguration& c) {
    hosts.insert("zz.invalid");
    for (const auto& host : c.virtual_hosts) {
      for (const std::string& d : host->domains) hosts.insert(host_of(d));
      for (const tables::Route& r : host->routes) {
        switch (r.match.kind) {
          case tables::RouteMatch::Path::kPrefix: paths.insert({r.match.path, r.match.path + "zz"}); break;
          case tables::RouteMatch::Path::kExact: paths.insert({r.match.path, r.match.path + "/zz"}); break;
          case tables::RouteMatch::Path::kSeparatedPrefix: paths.insert({r.match.path, r.match.path + "/zz", r.match.path + "zz"}); break;
          case tables::RouteMatch::Path::kRegex: path({.kind = StringMatch::Kind::kRegex, .regex = r.match.regex}); break;
        }
        for (const HeaderMatch& h : r.match.headers) header(h);
        for (const tables::QueryMatch& q : r.match.query) {
          Words values;
          if (q.present_only) values.insert("zz");
          else want(q.string, "zz", values, "query " + q.name);
          for (const std::string& v : values) queries.insert("?" + q.name + "=" + v);
        }
      }
    }
  }
};

// ---- asking both

std::string outcome(const Explanation& e) {
  if (e.status != 0) return std::to_string(e.status) + " " + e.details;
  if (e.clusters.empty()) return "closed: " + e.details;
  std::string out = "to";
  for (const auto& [name, weight] : e.clusters) out += " " + name + (e.clusters.size() > 1 ? " (" + std::to_string(weight) + ")" : "");
  return out;
}

Origin origin_of(const Explanation& e, std::string_view what) {
  for (auto s = e.steps.rbegin(); s != e.steps.rend(); ++s)
    if (s->decisive && s->what == what && !s->origin.kind.empty()) return s->origin;
  return {};
}

// What made the difference: the policy on the side that has one to name when the verdict changed, else the route.
Origin cause_of(const Explanation& was, const Explanation& is) {
  const char* what = (was.status == 403) != (is.status == 403) ? "verdict" : "route";
  for (const Explanation* e : {&is, &was})
    if (Origin o = origin_of(*e, what); !o.kind.empty()) return o;
  return {};
}

// The handshake asks for another name than the URL: a possible witness, but not the plainest.
bool foreign_name(const Question& q) { return q.sni && q.url.find("//" + *q.sni + ":") == std::string::npos; }

class Search {
 public:
  Search(const tables::Snapshot& before, const tables::Snapshot& after, Diff& out) : before_(before), after_(after), out_(out) {}

  void run() {
    std::set<SocketAddress> addresses;
    for (const tables::Snapshot* t : {&before_, &after_})
      for (const auto& l : t->listeners) addresses.insert(l->address);
    for (const SocketAddress& a : addresses) listener(a);
    if (skipped_ > 0)
      out_.undecided.push_back(std::to_string(skipped_) + " combinations of the matchers' values were not asked (at most " +
                               std::to_string(kAskedMax) + ")");
    for (auto& [key, flip] : flips_) out_.flips.push_back(std::move(flip));
    std::ranges::stable_sort(out_.flips, {}, [](const Flip& f) { return f.witness.url; });
  }

 private:
  // Everything that a connection to this address may meet, from both sides.
  void listener(const SocketAddress& address) {
    Constants c;
    std::set<bool> tls;
    for (const tables::Snapshot* t : {&before_, &after_})
      for (const auto& l : t->listeners) {
        if (!(l->address == address)) continue;
        const auto chain = [&](const tables::FilterChain& f) {
          tls.insert(f.tls_required || f.match.transport_protocol == "tls" || !f.match.server_names.empty());
          for (const std::string& n : f.match.server_names) c.server_names.insert(Constants::host_of(n));
          for (const tables::RbacFilter& r : f.network_rbac) c.add(r);
          if (f.http == nullptr) return;
          for (const tables::HttpFilter& h : f.http->filters) c.add(h.rbac);
          const tables::RouteConfiguration* routes =
              f.http->inline_routes != nullptr ? f.http->inline_routes.get() : t->routes(f.http->route_config);
          if (routes != nullptr) c.add(*routes);
        };
        for (const auto& f : l->chains) chain(*f);
        if (l->default_chain != nullptr) chain(*l->default_chain);
      }
    out_.undecided.insert(out_.undecided.end(), c.undecided.begin(), c.undecided.end());
    for (const bool secure : tls) hosts(address, secure, c);
  }

  void hosts(const SocketAddress& address, bool secure, const Constants& c) {
    Question q;
    if (!address.ip.is_unspecified()) q.to = address.ip;
    const std::string port = ":" + std::to_string(address.port);
    Words names = c.hosts;
    if (names.empty()) names = c.server_names;
    if (names.empty()) names.insert("zz.invalid");
    for (const std::string& host : names) {
      // The server name is the host's, as clients do; and each other name once, so that a mismatch is seen too.
      Words snis{host};
      if (secure && host == *names.begin()) snis.insert(c.server_names.begin(), c.server_names.end());
      for (const std::string& sni : snis) {
        if (secure) q.sni = sni;
        for (const std::string& path : c.paths)
          for (const std::string& query : c.queries) {
            q.url = std::string(secure ? "https://" : "http://") + host + port + path + query;
            requests(q, c);
          }
      }
    }
  }

  void requests(Question& q, const Constants& c) {
    static const Words kNobody{""};
    for (const std::string& method : c.methods)
      for (const std::string& principal : q.url.starts_with("https") ? c.principals : kNobody)
        for (const IpAddress& from : c.addresses) {
          q.method = method, q.principal = principal, q.from = from;
          q.headers.clear();
          ask(q);
          for (const auto& [name, values] : c.headers)
            for (const std::string& value : values) {
              q.headers = {{name, value}};
              ask(q);
            }
        }
  }

  void ask(const Question& q) {
    if (out_.asked >= kAskedMax) {
      skipped_++;
      return;
    }
    out_.asked++;
    const auto a = decide(before_, q), b = decide(after_, q);
    if (!a || !b) return;
    const std::string was = outcome(*a), is = outcome(*b);
    if (was == is) return;
    const Flip f{.witness = q, .before = was, .after = is, .cause = cause_of(*a, *b)};
    const auto [at, is_new] = flips_.try_emplace(was + "\n" + is + "\n" + f.cause.kind + f.cause.ns + "/" + f.cause.name, f);
    if (is_new) return;
    at->second.requests++;
    const auto weight = [](const Question& x) { return std::tuple(foreign_name(x), x.headers.size(), x.principal.size(), x.url.size()); };
    if (weight(q) < weight(at->second.witness)) at->second.witness = q;
  }

  const tables::Snapshot &before_, &after_;
  Diff& out_;
  std::map<std::string, Flip> flips_;
  size_t skipped_ = 0;
};

}  // namespace

Diff diff(const tables::Snapshot& before, const tables::Snapshot& after) {
  Diff out;
  const Words was = inventory(before), is = inventory(after);
  for (const std::string& line : was)
    if (!is.contains(line)) out.lines.push_back("- " + line);
  for (const std::string& line : is)
    if (!was.contains(line)) out.lines.push_back("+ " + line);
  std::ranges::stable_sort(out.lines, {}, [](const std::string& s) { return s.substr(2); });
  Search(before, after, out).run();
  std::ranges::sort(out.undecided);
  out.undecided.erase(std::ranges::unique(out.undecided).begin(), out.undecided.end());
  return out;
}

std::string render_text(const Diff& d, const Place& place) {
  std::string out;
  for (const std::string& line : d.lines) out += line + "\n";
  for (const Flip& f : d.flips) {
    out += "! " + f.witness.method + " " + f.witness.url;
    for (const auto& [name, value] : f.witness.headers) out += " -H '" + name + ": " + value + "'";
    if (!f.witness.principal.empty()) out += " --principal " + f.witness.principal;
    if (foreign_name(f.witness)) out += " --sni " + *f.witness.sni;
    if (f.witness.from != Question{}.from) out += " --from " + f.witness.from.to_string();
    if (f.witness.to) out += " --to " + f.witness.to->to_string();
    out += "\n    was " + f.before + "\n    is  " + f.after;
    if (!f.cause.kind.empty()) {
      const std::string at = place(f.cause);
      out += "\n    by  " + f.cause.kind + " " + f.cause.ns + "/" + f.cause.name + (at.empty() ? "" : " " + at);
    }
    if (f.requests > 1) out += "\n    and " + std::to_string(f.requests - 1) + " more of the requests asked";
    out += "\n";
  }
  for (const std::string& u : d.undecided) out += "? undecided: " + u + "\n";
  out += std::to_string(d.lines.size()) + " changes, " + std::to_string(d.flips.size()) + " kinds of requests flip (" +
         std::to_string(d.asked) + " asked)\n";
  return out;
}

}  // namespace sluice::explain
