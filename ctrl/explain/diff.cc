#include "ctrl/explain/diff.h"

#include <algorithm>
#include <map>
#include <set>

#include "ctrl/explain/aim.h"
#include "ctrl/explain/words.h"

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
      out.insert("route " + host->name + " of " + c.name + ": " + words(r.match) + conditions(r.match) + " " + action_words(r));
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

// What differs has changed: all that the tables say of an object, as text.
using Object = std::pair<std::string, std::string>;  // kind, "ns/name"
using Objects = std::map<Object, std::string>;

// ---- constants of the matchers

struct Constants {
  Words paths{"/", "/zz-none"}, methods{"GET"}, principals{"", "spiffe://cluster.local/ns/zz/sa/zz"}, hosts, server_names, queries{""},
      undecided;
  std::map<std::string, Words> headers;  // name -> values that matter
  std::set<IpAddress> addresses{IpAddress(Ipv4{0xc000020a})};
  std::set<bool> tls;
  std::map<Object, std::set<Aim>> policies, routes;

  // A value that the matcher takes, and one that is longer.
  void want(const StringMatch& m, const std::string& filler, Words& out, const std::string& what, Shape shape = Shape::kText) {
    const auto plain = sample(m, "", shape), longer = sample(m, filler, shape);
    if (!plain) undecided.insert("the regex '" + m.regex->pattern() + "' (" + what + "): no request was made for it");
    else out.insert({*plain, m.kind == StringMatch::Kind::kExact ? *plain + filler : *longer});
  }
  void path(const StringMatch& m) {
    Words found;
    want(m, "zz", found, "a path", Shape::kPath);
    for (std::string p : found) paths.insert(p.starts_with('/') ? p : "/" + p);
  }
  void header(const HeaderMatch& h) {
    if (h.name == ":method") return want(h.string, "", methods, "a method", Shape::kMethod);
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
        const std::string text = sample_of_template(p.uri_template);
        paths.insert({text, text + "/zz"});
        break;
      }
      case Permission::Kind::kRequestedServerName: want(p.string, "zz", server_names, "a server name"); break;
      default: break;
    }
    for (const Permission& c : p.children) add(c);
  }
  void add(const Principal& p) {
    if (p.principal_name) want(*p.principal_name, "zz", principals, "a principal", Shape::kPrincipal);
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
bool foreign_name(const Question& q) {
  return q.sni && q.url.find("//" + *q.sni + ":") == std::string::npos && q.url.find("//" + *q.sni + "/") == std::string::npos;
}

// As clients write it: without the port that is the scheme's own.
std::string origin(bool secure, const std::string& host, uint16_t port) {
  return std::string(secure ? "https://" : "http://") + host + (port == (secure ? 443 : 80) ? "" : ":" + std::to_string(port));
}

constexpr size_t kServersAimedAt = 16;

class Search {
 public:
  Search(const tables::Snapshot& before, const tables::Snapshot& after, size_t asked_max, Diff& out)
      : before_(before), after_(after), asked_max_(asked_max), out_(out) {}

  void run() {
    std::set<SocketAddress> addresses;
    for (const tables::Snapshot* t : {&before_, &after_})
      for (const auto& l : t->listeners) addresses.insert(l->address);
    std::map<SocketAddress, Constants> constants;
    for (const SocketAddress& a : addresses) collect(a, constants[a]);
    for (const auto& [mine, theirs] : {std::pair(&was_, &is_), std::pair(&is_, &was_)})
      for (const auto& [object, text] : *mine)
        if (const auto at = theirs->find(object); at == theirs->end() || at->second != text) changed_.insert(object);
    // Aims first: they are few, and each is for something that changed.
    for (const bool one_less : {false, true})
      for (const SocketAddress& a : addresses) aimed(a, constants[a], one_less);
    for (const SocketAddress& a : addresses) {
      out_.undecided.insert(out_.undecided.end(), constants[a].undecided.begin(), constants[a].undecided.end());
      for (const bool secure : constants[a].tls) hosts(a, secure, constants[a]);
    }
    if (skipped_ > 0)
      out_.undecided.push_back(std::to_string(skipped_) + " combinations of the matchers' values were not asked (at most " +
                               std::to_string(asked_max_) + ")");
    for (auto& [key, flip] : flips_) out_.flips.push_back(std::move(flip));
    std::ranges::stable_sort(out_.flips, {}, [](const Flip& f) { return f.witness.url; });
    unexplained();
  }

 private:
  // Everything that a connection to this address may meet, from both sides.
  void collect(const SocketAddress& address, Constants& c) {
    for (const tables::Snapshot* t : {&before_, &after_})
      for (const auto& l : t->listeners) {
        if (!(l->address == address)) continue;
        Objects& objects = t == &before_ ? was_ : is_;
        const auto chain = [&](const tables::FilterChain& f) {
          c.tls.insert(f.tls_required || f.match.transport_protocol == "tls" || !f.match.server_names.empty());
          for (const std::string& n : f.match.server_names) c.server_names.insert(host_of(n));
          for (const tables::RbacFilter& r : f.network_rbac) add(r, c, objects);
          if (f.http == nullptr) return;
          for (const tables::HttpFilter& h : f.http->filters) add(h.rbac, c, objects);
          const tables::RouteConfiguration* routes =
              f.http->inline_routes != nullptr ? f.http->inline_routes.get() : t->routes(f.http->route_config);
          if (routes != nullptr) add(*routes, c, objects);
        };
        for (const auto& f : l->chains) chain(*f);
        if (l->default_chain != nullptr) chain(*l->default_chain);
      }
  }
  void add(const tables::RbacFilter& f, Constants& c, Objects& objects) {
    c.add(f);
    if (!f.rules || f.rules->action == tables::Rbac::Action::kLog) return;
    for (const tables::Policy& p : f.rules->policies) {
      std::string text = std::to_string(int(f.rules->action)) + p.name;
      for (const Permission& x : p.permissions) text += "\n" + words(x);
      for (const Principal& x : p.principals) text += "\n" + words(x);
      const Origin o = policy_origin(p.name);
      const Object object{"AuthorizationPolicy", o.ns + "/" + o.name};
      objects[object] += text;
      const std::vector<Aim> aims = aims_of(p, c.undecided);
      c.policies[object].insert(aims.begin(), aims.end());
    }
  }
  void add(const tables::RouteConfiguration& routes, Constants& c, Objects& objects) {
    c.add(routes);
    for (const auto& host : routes.virtual_hosts)
      for (const tables::Route& r : host->routes) {
        const Origin o = route_origin(routes.name, *host, r);
        const Object object{"VirtualService", o.ns + "/" + o.name};
        objects[object] += host->domains[0] + words(r.match) + conditions(r.match) + action_words(r) + "\n";
        for (const Aim& a : aims_of(r, c.undecided))
          for (const std::string& d : host->domains) {  // the host that a matcher wants may be none of the virtual host's
            Aim served = a;
            served.host = host_of(d);
            c.routes[object].insert(served);
            if (a.host) c.routes[object].insert(a);
          }
      }
  }

  // What a changed object demands, alone and with what else a request needs to come so far: a route, a rule that allows it. `one_less`:
  // with one demand less, which is a miss of that one.
  void aimed(const SocketAddress& address, const Constants& c, bool one_less) {
    std::set<Aim> asked;
    const auto one = [&](const Aim& a) {
      if (!asked.insert(a).second) return;
      for (const bool secure : c.tls) {
        Question q = question(address, secure, a, c);
        ask(q);
        if (!secure || a.principal) continue;
        q.principal = "spiffe://cluster.local/ns/zz/sa/zz";  // where a certificate is required
        ask(q);
      }
    };
    // Also a host that nobody serves, at each server: policies come before routes.
    std::set<Aim> all_routes{Aim{}, Aim{.host = "zz.invalid"}}, all_policies{Aim{}};
    for (const std::string& name : c.server_names)
      if (all_routes.size() < kServersAimedAt) all_routes.insert(Aim{.host = "zz.invalid", .sni = name});
    for (const auto& [object, aims] : c.routes) all_routes.insert(aims.begin(), aims.end());
    for (const auto& [object, aims] : c.policies) all_policies.insert(aims.begin(), aims.end());
    const auto each = [&](const std::map<Object, std::set<Aim>>& of, const auto& ask_with) {
      for (const auto& [object, aims] : of) {
        if (!changed_.contains(object)) continue;
        for (const Aim& a : aims) {
          if (!one_less) ask_with(a);
          else
            for (const Aim& less : a.but_one()) ask_with(less);
        }
      }
    };
    each(c.policies, [&](const Aim& a) {
      for (const Aim& r : all_routes) one(r.under(a));
    });
    each(c.routes, [&](const Aim& a) {
      for (const Aim& p : all_policies) one(p.under(a));
    });
    each(c.policies, [&](const Aim& a) {
      for (const Aim& p : all_policies)
        if (const auto both = a.with(p); both && a != p)
          for (const Aim& r : all_routes) one(r.under(*both));
    });
  }
  static Question question(const SocketAddress& address, bool secure, const Aim& a, const Constants& c) {
    Question q;
    const std::string host = a.host ? *a.host : c.hosts.empty() ? "zz.invalid" : *c.hosts.begin();
    std::string query;
    for (const auto& [name, value] : a.query) query += (query.empty() ? "?" : "&") + name + "=" + value;
    q.url = origin(secure, host, address.port) + a.path.value_or("/") + query;
    if (a.method) q.method = *a.method;
    if (a.principal && secure) q.principal = *a.principal;
    if (a.from) q.from = *a.from;
    if (secure) q.sni = a.sni ? *a.sni : host;
    if (!address.ip.is_unspecified()) q.to = address.ip;
    else if (a.to) q.to = *a.to;
    q.headers.assign(a.headers.begin(), a.headers.end());
    return q;
  }

  // Objects that are not what they were and of which no flip was found.
  void unexplained() {
    std::set<Object> changed = changed_;
    for (const Flip& f : out_.flips) changed.erase({f.cause.kind, f.cause.ns + "/" + f.cause.name});
    for (const auto& [kind, name] : changed)
      out_.undecided.push_back(kind + " " + name + " is not what it was, and no request was found that it makes a difference to");
  }

  void hosts(const SocketAddress& address, bool secure, const Constants& c) {
    Question q;
    if (!address.ip.is_unspecified()) q.to = address.ip;
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
            q.url = origin(secure, host, address.port) + path + query;
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
    if (out_.asked >= asked_max_) {
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
  const size_t asked_max_;
  Diff& out_;
  std::map<std::string, Flip> flips_;
  Objects was_, is_;
  std::set<Object> changed_;
  size_t skipped_ = 0;
};

}  // namespace

Diff diff(const tables::Snapshot& before, const tables::Snapshot& after, size_t asked_max) {
  Diff out;
  const Words was = inventory(before), is = inventory(after);
  for (const std::string& line : was)
    if (!is.contains(line)) out.lines.push_back("- " + line);
  for (const std::string& line : is)
    if (!was.contains(line)) out.lines.push_back("+ " + line);
  std::ranges::stable_sort(out.lines, {}, [](const std::string& s) { return s.substr(2); });
  Search(before, after, asked_max, out).run();
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
