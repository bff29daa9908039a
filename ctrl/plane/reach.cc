// Routes that no request reaches: another one, which is asked before, takes all of theirs; or nothing meets their conditions. A match is a
// list of conditions, all of which must hold; an earlier one takes all that a later one would if the later one's conditions imply each of
// the earlier one's. To compare each with few others, a match is filed under one of its conditions, and looked for under what a condition
// that implies it must have: the same text, or a beginning of it.
#include <algorithm>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/known.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {
using Op = TextCondition::Op;

constexpr size_t kCandidatesMax = 256;  // of one match: a bound on the work, not a promise

struct Condition {
  std::string field;  // "uri", "header x-a"
  TextCondition text;
  bool negated = false;  // the field is absent, or its text is not so
};
struct Match {
  std::vector<Condition> conditions;
  std::vector<std::string> gateways;  // empty: all of its VirtualService
  const Node* at = nullptr;
  const Config* of = nullptr;
  bool catch_all() const { return conditions.empty() && gateways.empty(); }
};

TextCondition text_of(const Node& m, bool ignore_case = false) {
  if (m["exact"]) return TextCondition::of(Op::kExact, m["exact"].str(), ignore_case);
  if (m["prefix"]) return TextCondition::of(Op::kPrefix, m["prefix"].str(), ignore_case);
  if (m["regex"] && m["regex"].str() != "*") return TextCondition::of(Op::kRegex, m["regex"].str());
  return {};
}
bool every_path(const TextCondition& c) {
  return c.op == Op::kAny || (c.op == Op::kPrefix && (c.text.empty() || c.text == "/")) ||
         (c.op == Op::kRegex && (c.text == ".*" || c.text == "/.*"));
}
std::string header_field(const std::string& name) {
  return "header " + (name.starts_with("@") ? name : lower(name));  // claims have case
}

Match match_of(const Node& m, const Config& c) {
  Match out{.conditions = {}, .gateways = {}, .at = &m, .of = &c};
  for (const Node& g : m["gateways"].items) out.gateways.push_back(g.str() == "mesh" ? "mesh" : full_gateway(g.str(), c.ns));
  const auto add = [&](std::string field, TextCondition t, bool negated = false) {
    out.conditions.push_back({std::move(field), std::move(t), negated});
  };
  if (m["uri"])
    if (TextCondition t = text_of(m["uri"], m["ignoreUriCase"].boolean()); !every_path(t)) add("uri", std::move(t));
  for (const char* f : {"scheme", "method", "authority"})
    if (m[f])
      if (TextCondition t = text_of(m[f]); t.op != Op::kAny && !(t.op == Op::kPrefix && t.text.empty())) add(f, std::move(t));
  for (const auto& [map, negated] : {std::pair("headers", false), std::pair("withoutHeaders", true)})
    for (size_t i = 0; i < m[map].keys.size(); i++) add(header_field(m[map].keys[i].text), text_of(m[map].items[i]), negated);
  for (size_t i = 0; i < m["queryParams"].keys.size(); i++)
    add("query " + m["queryParams"].keys[i].text, text_of(m["queryParams"].items[i]));
  if (m["port"]) add("port", TextCondition::of(Op::kExact, m["port"].str()));
  for (size_t i = 0; i < m["sourceLabels"].keys.size(); i++)
    add("label " + m["sourceLabels"].keys[i].text, TextCondition::of(Op::kExact, m["sourceLabels"].items[i].text));
  if (m["sourceNamespace"]) add("namespace", TextCondition::of(Op::kExact, m["sourceNamespace"].str()));
  return out;
}
// Of a TCP route: a gateway looks at port and gateways only.
Match l4_match_of(const Node& m, const Config& c) {
  Match out{.conditions = {}, .gateways = {}, .at = &m, .of = &c};
  for (const Node& g : m["gateways"].items) out.gateways.push_back(full_gateway(g.str(), c.ns));
  if (m["port"]) out.conditions.push_back({"port", TextCondition::of(Op::kExact, m["port"].str())});
  return out;
}

bool implies(const Match& narrow, const Condition& wide) {
  return std::ranges::any_of(narrow.conditions, [&](const Condition& n) {
    if (n.field != wide.field) return false;
    if (!wide.negated) return !n.negated && implies(n.text, wide.text);
    return n.negated ? implies(wide.text, n.text) : excludes(n.text, wide.text);
  });
}
bool implies(const Match& narrow, const Match& wide) {
  if (!wide.gateways.empty() && (narrow.gateways.empty() || !std::ranges::all_of(narrow.gateways, [&](const std::string& g) {
                                   return std::ranges::find(wide.gateways, g) != wide.gateways.end();
                                 })))
    return false;
  return std::ranges::all_of(wide.conditions, [&](const Condition& w) { return implies(narrow, w); });
}

// Matches that were asked before.
class Earlier {
 public:
  void add(const Match& m) {
    std::vector<const Match*>* best = nullptr;
    for (const Condition& c : m.conditions) {
      if (c.negated) continue;
      auto& filed = by_key_[key_of(c)];
      if (best == nullptr || filed.size() < best->size()) best = &filed;
    }
    (best == nullptr ? rest_ : *best).push_back(&m);
  }
  const Match* taker(const Match& m, const auto& wanted) const {
    size_t left = kCandidatesMax;
    const auto among = [&](const std::vector<const Match*>& list) -> const Match* {
      for (const Match* earlier : list) {
        if (left == 0) return nullptr;
        left--;
        if (wanted(*earlier) && implies(m, *earlier)) return earlier;
      }
      return nullptr;
    };
    if (const Match* found = among(rest_)) return found;
    for (const Condition& c : m.conditions) {
      if (c.negated) continue;
      for (const std::string& key : keys_for(c))
        if (const auto at = by_key_.find(key); at != by_key_.end())
          if (const Match* found = among(at->second)) return found;
    }
    return nullptr;
  }

 private:
  static std::string key_of(const Condition& c) {
    const char* sign = c.text.op == Op::kExact ? "=" : c.text.op == Op::kPrefix ? "^" : "~";
    return c.field + (c.text.ignore_case ? "i" : "") + sign + (*sign == '~' ? "" : c.text.text);
  }
  static std::vector<std::string> keys_for(const Condition& c) {
    std::vector<std::string> out;
    std::string text = c.text.text;
    if (c.text.op == Op::kRegex) {
      const auto end = c.text.low <= c.text.high ? std::ranges::mismatch(c.text.low, c.text.high).in1 : c.text.low.begin();
      text.assign(c.text.low.begin(), end);
    }
    for (const bool fold : {false, true}) {
      const std::string t = fold ? lower(text) : text, head = c.field + (fold ? "i" : "");
      if (c.text.op == Op::kExact) out.push_back(head + "=" + t);
      if (c.text.op == Op::kAny || c.text.op == Op::kSuffix) continue;
      for (size_t n = 0; n <= std::min<size_t>(t.size(), 512); n++) out.push_back(head + "^" + t.substr(0, n));
    }
    out.push_back(c.field + "~");
    return out;
  }
  std::unordered_map<std::string, std::vector<const Match*>> by_key_;
  std::vector<const Match*> rest_;
};

// Why nothing meets the match, and where; "" if something may.
std::pair<std::string, const Node*> impossible(const Node& m, const Match& x, const Config& c, const Known& k) {
  for (const Condition& a : x.conditions) {
    if (a.field == "uri")
      if (std::string why = impossible_path(a.text); !why.empty()) {
        const Node& uri = m["uri"];
        return {why, uri["exact"] ? &uri["exact"] : uri["prefix"] ? &uri["prefix"] : &uri["regex"]};
      }
    for (const Condition& b : x.conditions)
      if (a.field == b.field && !a.negated && b.negated && implies(a.text, b.text))
        return {"headers and withoutHeaders ask for opposites of " + a.field.substr(a.field.find(' ') + 1), &m["withoutHeaders"]};
  }
  const auto gateways = gateways_of(c);
  for (const Node& g : m["gateways"].items)
    if (const std::string name = g.str() == "mesh" ? "mesh" : full_gateway(g.str(), c.ns);
        name == "mesh" ? !names_mesh(c) : std::ranges::find(gateways, name) == gateways.end())
      if (m["gateways"].items.size() == 1) return {"the VirtualService is not bound to Gateway " + name, &g};
  if (gateways.empty() || names_mesh(c)) return {};
  if (const Node& port = m["port"]; port) {
    bool opened = false;
    for (const std::string& g : gateways) {
      const auto at = k.gateways.find(g);
      if (at == k.gateways.end()) return {};
      opened |= std::ranges::any_of(at->second.servers, [&](const KnownServer& s) { return std::to_string(s.port) == port.str(); });
    }
    if (!opened) return {"no Gateway of this VirtualService has the port " + port.str(), &port};
  }
  if (const Node& exact = m["authority"]["exact"]; exact) {
    const std::string host = lower(exact.str().substr(0, exact.str().find(':')));
    const auto hosts = hosts_of(c);
    if (std::ranges::none_of(hosts, [&](const std::string& h) { return host_within(host, lower(h)); }) && !hosts.empty())
      return {"'" + exact.str() + "' is none of this VirtualService's hosts", &exact};
  }
  return {};
}

std::string place_of(const Node& n) { return "line " + std::to_string(n.line) + (n.source != nullptr ? " of " + n.source->file : ""); }

// The lists of one VirtualService, in their order. `all`: their matches, for the comparison with other VirtualServices.
struct Routes {
  const Node* node = nullptr;
  std::vector<const Match*> matches;  // empty: none can be met
  bool dead = false;                  // warned
};
struct Lists {
  std::deque<Match> matches;
  std::vector<Routes> http;
};

void check_list(const Known& k, const Config& c, const std::vector<Routes>& routes, const char* what, Warnings& out) {
  Earlier earlier;
  const auto any = [](const Match&) { return true; };
  for (const Routes& r : routes) {
    std::vector<std::pair<const Match*, const Match*>> taken;
    for (const Match* m : r.matches)
      if (const Match* by = earlier.taker(*m, any)) taken.emplace_back(m, by);
    const auto all_of = [](const Match& by) { return by.catch_all() ? "takes every request" : "takes all that it would"; };
    if (!taken.empty() && taken.size() == r.matches.size() && !r.dead) {
      out.add(c, *r.node, "unreachable-route",
              std::string("this ") + what + " cannot be reached: one before it (" + place_of(*taken[0].second->at) + ") " +
                  all_of(*taken[0].second),
              "move it before the other, or make the other's match narrower");
      const_cast<Routes&>(r).dead = true;
    } else {
      for (const auto& [m, by] : taken)
        out.add(c, *m->at, "unreachable-route", "this match cannot be reached: one before it (" + place_of(*by->at) + ") " + all_of(*by),
                "remove it, or move it forward");
    }
    for (const Match* m : r.matches) earlier.add(*m);
  }
  (void)k;
}

Routes routes_of(const Known& k, const Config& c, const Node& route, const Node& shown, Lists& lists, Warnings* out) {
  Routes r{.node = &shown, .matches = {}};
  if (route["match"].items.empty())
    r.matches.push_back(&lists.matches.emplace_back(Match{.conditions = {}, .gateways = {}, .at = &shown, .of = &c}));
  size_t never = 0;
  for (const Node& m : route["match"].items) {
    Match x = match_of(m, c);
    x.at = m.source != nullptr ? &m : &shown;
    if (auto [why, at] = impossible(m, x, c, k); !why.empty()) {
      never++;
      if (out != nullptr) out->add(c, *at, "unreachable-route", "this match cannot be reached: " + why, "correct it, or remove the match");
      continue;
    }
    r.matches.push_back(&lists.matches.emplace_back(std::move(x)));
  }
  r.dead = never > 0 && r.matches.empty();
  return r;
}

void check_http(const Known& k, const Config& c, Lists& lists, std::deque<Virtual>& merged, Warnings& out) {
  const auto& written = c.spec()["http"].items;
  if (std::ranges::none_of(written, [](const Node& r) { return r.has("delegate"); })) {
    for (const Node& r : written) lists.http.push_back(routes_of(k, c, r, r, lists, &out));
  } else {
    // Delegates' routes stand where the root's route stands; what is dead in the delegate itself is said there.
    std::vector<const Config*> delegates;
    for (const Node& r : written)
      if (const Node& d = r["delegate"]; d)
        if (const auto at = k.virtuals.find((d["namespace"].str().empty() ? c.ns : d["namespace"].str()) + "/" + d["name"].str());
            at != k.virtuals.end() && std::ranges::find(delegates, at->second) == delegates.end())
          delegates.push_back(at->second);
    Virtual& x = merged.emplace_back();
    x.config = c.shared_from_this();
    add_http_routes(delegates_of(c, delegates, k.world.mesh), x);
    for (const Node* r : x.http) {
      const bool own = std::ranges::any_of(written, [&](const Node& w) { return &w == r; });
      lists.http.push_back(routes_of(k, c, *r, own ? *r : c.at(), lists, own ? &out : nullptr));
      lists.http.back().dead |= !own;
    }
  }
  check_list(k, c, lists.http, "route", out);
}

void check_l4(const Known& k, const Config& c, Lists& lists, Warnings& out) {
  if (names_mesh(c)) return;  // sidecars look at more conditions
  std::vector<Routes> tcp;
  for (const Node& r : c.spec()["tcp"].items) {
    Routes x{.node = &r, .matches = {}};
    if (r["match"].items.empty())
      x.matches.push_back(&lists.matches.emplace_back(Match{.conditions = {}, .gateways = {}, .at = &r, .of = &c}));
    for (const Node& m : r["match"].items) {
      Match one = l4_match_of(m, c);
      if (auto [why, at] = impossible(m, one, c, k); !why.empty())
        out.add(c, *at, "unreachable-route", "this match cannot be reached: " + why, "correct it, or remove the match");
      else x.matches.push_back(&lists.matches.emplace_back(std::move(one)));
    }
    x.dead = x.matches.empty();
    tcp.push_back(std::move(x));
  }
  check_list(k, c, tcp, "route", out);
  // Of two matches with one server name the first has it, and the other is left out whole.
  std::unordered_map<std::string, std::vector<Match>> names;
  for (const Node& r : c.spec()["tls"].items)
    for (const Node& m : r["match"].items) {
      Match own = l4_match_of(m, c);
      if (auto [why, at] = impossible(m, own, c, k); !why.empty()) {
        out.add(c, *at, "unreachable-route", "this match cannot be reached: " + why, "correct it, or remove the match");
        continue;
      }
      for (const Node& h : m["sniHosts"].items) {
        auto& before = names[lower(h.str())];
        const auto by = std::ranges::find_if(before, [&](const Match& e) { return e.at != &m && implies(own, e); });
        if (by != before.end()) {
          out.add(c, h, "unreachable-route", "this match cannot be reached: one before it (" + place_of(*by->at) + ") has " + h.str(),
                  "a server name belongs to one match");
          break;
        }
        if (before.size() < kCandidatesMax) before.push_back(own);
      }
    }
}

// VirtualServices of one host and Gateway are one list, in Istio's order; those matches that take everything stand behind all others.
void check_together(const Known& k, std::map<const Config*, Lists>& lists, Warnings& out) {
  using Pair = std::pair<std::string, std::string>;
  std::map<Pair, std::vector<const Config*>> by_pair;
  std::map<const Config*, std::vector<Pair>> pairs_of;
  for (const Config* c : k.world.of_kind("VirtualService"))
    if (!c->derived && !c->spec()["http"].items.empty())
      for (const std::string& g : gateways_of(*c))
        for (const std::string& h : hosts_of(*c)) {
          if (const auto at = k.gateways.find(g); at == k.gateways.end() || !at->second.serves_host(h, c->ns, Serves::kHttp)) continue;
          by_pair[{g, lower(h)}].push_back(c);
          pairs_of[c].emplace_back(g, lower(h));
        }
  std::map<Pair, Earlier> earlier;
  for (const Config* c : k.world.of_kind("VirtualService")) {
    const auto pairs = pairs_of.find(c);
    if (pairs == pairs_of.end()) continue;
    const bool shared = std::ranges::any_of(pairs->second, [&](const Pair& p) { return by_pair[p].size() > 1; });
    if (!shared) continue;
    for (Routes& r : lists[c].http) {
      const Match* by = nullptr;
      const auto taken = [&](const Match* m) {
        return std::ranges::all_of(pairs->second, [&](const Pair& p) {
          const auto at = earlier.find(p);
          const Match* t =
              at == earlier.end() ? nullptr : at->second.taker(*m, [&](const Match& e) { return m->catch_all() || !e.catch_all(); });
          if (t != nullptr) by = t;
          return t != nullptr;
        });
      };
      if (r.dead || r.matches.empty() || !std::ranges::all_of(r.matches, taken)) continue;
      out.add(*c, *r.node, "unreachable-route",
              "this route cannot be reached: VirtualService " + by->of->ns + "/" + by->of->name + " (" + place_of(*by->at) +
                  ") has the same host and Gateway, comes before it and takes all that it would",
              "make one VirtualService of the two, or a narrower match; Istio orders them by age, then by namespace and name");
    }
    for (const Pair& p : pairs->second)
      if (by_pair[p].size() > 1)
        for (const Routes& r : lists[c].http)
          for (const Match* m : r.matches) earlier[p].add(*m);
  }
}

}  // namespace

void check_reach(const Known& k, Warnings& out) {
  std::map<const Config*, Lists> lists;
  std::deque<Virtual> merged;
  for (const Config* c : k.world.of_kind("VirtualService")) {
    if (c->derived) continue;
    Lists& own = lists[c];
    check_http(k, *c, own, merged, out);
    check_l4(k, *c, own, out);
  }
  check_together(k, lists, out);
}

}  // namespace sluice::plane
