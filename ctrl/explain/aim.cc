#include "ctrl/explain/aim.h"

#include <algorithm>

#include "ctrl/explain/words.h"

namespace sluice::explain {
namespace {

using tables::HeaderMatch;
using tables::Permission;
using tables::Principal;
using tables::StringMatch;

// ---- a text of a regex

// Reads the pattern from left to right and writes a plain text of it: of alternatives as it is told, of a class its first character.
// What it does not know it gives up; the caller asks the regex itself whether the text matches.
class Sampler {
 public:
  enum class Take { kShortest, kFirst, kLongest };
  Sampler(std::string_view pattern, Shape shape, Take take) : p_(pattern), shape_(shape), take_(take) {}
  std::optional<std::string> run() {
    auto out = alternatives();
    return at_ == p_.size() ? out : std::nullopt;
  }

 private:
  std::optional<std::string> alternatives() {
    std::optional<std::string> best;
    for (;;) {
      auto one = sequence();
      if (!one) return std::nullopt;
      if (!best || (take_ == Take::kShortest && one->size() < best->size()) || (take_ == Take::kLongest && one->size() > best->size()))
        best = std::move(one);
      if (at_ == p_.size() || p_[at_] != '|') return best;
      at_++;
    }
  }
  std::optional<std::string> sequence() {
    std::string out;
    while (at_ < p_.size() && p_[at_] != '|' && p_[at_] != ')') {
      const bool any = p_[at_] == '.', first = at_ == 0;
      auto one = atom();
      if (!one) return std::nullopt;
      if (at_ < p_.size() && (p_[at_] == '*' || p_[at_] == '+')) {
        at_++;
        out += any ? filler(first, at_ == p_.size()) : *one;
      } else if (at_ < p_.size() && p_[at_] == '?') {
        at_++;
      } else if (at_ < p_.size() && p_[at_] == '{') {
        return std::nullopt;
      } else {
        out += *one;
      }
    }
    return out;
  }
  std::optional<std::string> atom() {
    const char c = p_[at_++];
    if (c == '^' || c == '$') return "";
    if (c == '.') return "z";
    if (c == '*' || c == '+' || c == '?' || c == '{') return std::nullopt;
    if (c == '\\') {
      if (at_ == p_.size()) return std::nullopt;
      const char e = p_[at_++];
      if (e == 'd') return "1";
      if (e == 'w') return "z";
      if (std::isalnum(uint8_t(e))) return std::nullopt;
      return std::string(1, e);
    }
    if (c == '[') {
      const size_t end = p_.find(']', at_ + 1);
      if (end == p_.npos || p_[at_] == '\\') return std::nullopt;
      const bool negated = p_[at_] == '^';
      const char first = p_[at_];
      at_ = end + 1;
      return std::string(1, negated ? 'z' : first);
    }
    if (c == '(') {
      if (p_.substr(at_).starts_with("?:")) at_ += 2;
      auto out = alternatives();
      if (!out || at_ == p_.size() || p_[at_] != ')') return std::nullopt;
      at_++;
      return out;
    }
    return std::string(1, c);
  }
  std::string filler(bool first, bool last) const {
    if (shape_ == Shape::kPath) return first ? "/zz" : "zz";
    if (shape_ == Shape::kText) return "zz";
    return first ? "spiffe://cluster.local" : last ? "sa/zz" : "zz";
  }

  const std::string_view p_;
  const Shape shape_;
  const Take take_;
  size_t at_ = 0;
};

// The beginning of a principal with the rest that Istio's have: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.
std::string completed(const std::string& prefix) {
  constexpr std::string_view kScheme = "spiffe://";
  if (!prefix.starts_with(kScheme)) return prefix;
  std::string parts[] = {"cluster.local", "ns", "zz", "sa", "zz"};
  std::string_view rest = std::string_view(prefix).substr(kScheme.size());
  for (size_t i = 0; i < std::size(parts); i++) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    const bool fixed = i == 1 || i == 3, last = slash == rest.npos;
    if (!fixed && !part.empty()) parts[i] = part;
    if (last) break;
    rest.remove_prefix(slash + 1);
  }
  std::string out(kScheme);
  for (size_t i = 0; i < std::size(parts); i++) out += (i > 0 ? "/" : "") + parts[i];
  return out.starts_with(prefix) ? out : prefix;
}

// ---- rules

using Aims = std::vector<Aim>;

struct Builder {
  std::set<std::string>& unknown;

  Aims text(const StringMatch& m, const std::string& what, const auto& set, Shape shape = Shape::kText) {
    const auto found = sample(m, "", shape);
    if (!found) {
      unknown.insert("the regex '" + m.regex->pattern() + "' (" + what + "): no request was made for it");
      return {Aim{}};
    }
    Aim a;
    set(a, *found);
    return {a};
  }
  Aims path(const StringMatch& m) {
    return text(m, "a path", [](Aim& a, const std::string& v) { a.path = v.starts_with('/') ? v : "/" + v; }, Shape::kPath);
  }
  Aims header(const HeaderMatch& h) {
    Aim a;
    const std::string value = h.kind == HeaderMatch::Kind::kRange ? std::to_string(h.range_start) : "zz";
    if (h.kind != HeaderMatch::Kind::kString) {
      if (!h.name.starts_with(':') && h.present) a.headers[h.name] = value;
      return h.invert ? Aims{Aim{}, a} : Aims{a};
    }
    const Shape shape = h.name == ":method" ? Shape::kMethod : Shape::kText;
    Aims out = h.name == ":path" ? path(h.string)
                                 : text(
                                       h.string, h.name,
                                       [&](Aim& to, const std::string& v) {
                                         if (h.name == ":method") to.method = v;
                                         else if (h.name == ":authority" || h.name == "host") to.host = v;
                                         else if (!h.name.starts_with(':')) to.headers[h.name] = v;
                                       },
                                       shape);
    if (h.invert) out.insert(out.begin(), Aim{});
    return out;
  }
  Aims leaf(const Permission& p) {
    switch (p.kind) {
      case Permission::Kind::kHeader: return header(p.header);
      case Permission::Kind::kUrlPath: return path(p.string);
      case Permission::Kind::kUriTemplate: return {Aim{.path = sample_of_template(p.uri_template)}};
      case Permission::Kind::kDestinationIp: return {Aim{.to = p.ip.address}};
      case Permission::Kind::kRequestedServerName: return text(p.string, "a server name", [](Aim& a, const std::string& v) { a.sni = v; });
      default: return {Aim{}};
    }
  }
  Aims leaf(const Principal& p) {
    switch (p.kind) {
      case Principal::Kind::kAuthenticated:
        if (!p.principal_name) return {Aim{.principal = "spiffe://cluster.local/ns/zz/sa/zz"}};
        return text(*p.principal_name, "a principal", [](Aim& a, const std::string& v) { a.principal = v; }, Shape::kPrincipal);
      case Principal::Kind::kDirectRemoteIp:
      case Principal::Kind::kRemoteIp: return {Aim{.from = p.ip.address}};
      case Principal::Kind::kHeader: return header(p.header);
      case Principal::Kind::kUrlPath: return path(p.string);
      default: return {Aim{}};
    }
  }
  template <class Node>
  Aims of(const Node& n) {
    switch (n.kind) {
      case Node::Kind::kAnd: {
        Aims all{Aim{}};
        for (const Node& c : n.children) all = both(all, of(c));
        return all;
      }
      case Node::Kind::kOr: return any(n.children);
      case Node::Kind::kNot: {
        Aims out = of(n.children[0]);
        out.insert(out.begin(), Aim{});
        return out;
      }
      default: return leaf(n);
    }
  }
  template <class Node>
  Aims any(const std::vector<Node>& nodes) {
    Aims out;
    for (const Node& c : nodes) {
      const Aims more = of(c);
      out.insert(out.end(), more.begin(), more.end());
    }
    return out;
  }
  static Aims both(const Aims& a, const Aims& b) {
    Aims out;
    for (const Aim& x : a)
      for (const Aim& y : b)
        if (const auto z = x.with(y); z && out.size() < kAimsMax) out.push_back(*z);
    return out;
  }
};

template <class T>
bool join(std::optional<T>& mine, const std::optional<T>& other) {
  if (!mine) mine = other;
  return !other || *mine == *other;
}
bool join(std::map<std::string, std::string>& mine, const std::map<std::string, std::string>& other) {
  return std::ranges::all_of(other, [&](const auto& entry) { return mine.insert(entry).first->second == entry.second; });
}

}  // namespace

std::optional<Aim> Aim::with(const Aim& o) const {
  Aim out = *this;
  if (join(out.method, o.method) && join(out.path, o.path) && join(out.host, o.host) && join(out.sni, o.sni) &&
      join(out.principal, o.principal) && join(out.from, o.from) && join(out.to, o.to) && join(out.headers, o.headers) &&
      join(out.query, o.query))
    return out;
  return std::nullopt;
}

Aim Aim::under(const Aim& other) const {
  Aim out = other;
  join(out.method, method), join(out.path, path), join(out.host, host), join(out.sni, sni), join(out.principal, principal);
  join(out.from, from), join(out.to, to);
  out.headers.insert(headers.begin(), headers.end());
  out.query.insert(query.begin(), query.end());
  return out;
}

std::vector<Aim> Aim::but_one() const {
  std::vector<Aim> out;
  const auto without = [&](auto Aim::* what) {
    if (!(this->*what)) return;
    (out.emplace_back(*this).*what).reset();
  };
  without(&Aim::method), without(&Aim::path), without(&Aim::host), without(&Aim::sni), without(&Aim::principal);
  without(&Aim::from), without(&Aim::to);
  for (const auto& [name, value] : headers) out.emplace_back(*this).headers.erase(name);
  for (const auto& [name, value] : query) out.emplace_back(*this).query.erase(name);
  return out;
}

std::optional<std::string> sample(const StringMatch& m, const std::string& filler, Shape shape) {
  if (shape == Shape::kMethod)  // "HE*" is for HEAD; HE is none
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})
      if (m.matches(method)) return method;
  switch (m.kind) {
    case StringMatch::Kind::kExact: return m.value;
    case StringMatch::Kind::kPrefix: return shape == Shape::kPrincipal ? completed(m.value + filler) : m.value + filler;
    case StringMatch::Kind::kSuffix: return (filler.empty() ? "zz" : filler) + m.value;
    case StringMatch::Kind::kContains: return filler + m.value + filler;
    case StringMatch::Kind::kRegex: break;
  }
  for (const auto take : {Sampler::Take::kShortest, Sampler::Take::kFirst, Sampler::Take::kLongest}) {
    const auto found = Sampler(m.regex->pattern(), shape, take).run();
    if (!found) continue;
    constexpr std::string_view kStranger = "spiffe://zz/";
    if (shape == Shape::kPrincipal && found->starts_with(kStranger)) {
      const std::string own = "spiffe://cluster.local/" + found->substr(kStranger.size());
      if (m.regex->full_match(own)) return own;
    }
    if (shape == Shape::kPath && !found->starts_with('/')) continue;
    if (m.regex->full_match(*found)) return found;
  }
  return std::nullopt;
}

std::string sample_of_template(std::string text) {
  for (const auto& [variable, value] : {std::pair<std::string, std::string>{"{**}", "**"}, {"{*}", "*"}, {"**", "zz/zz"}, {"*", "zz"}})
    for (size_t at; (at = text.find(variable)) != std::string::npos;) text.replace(at, variable.size(), value);
  return text;
}

std::string host_of(const std::string& domain) {
  if (domain == "*") return "zz.invalid";
  if (domain.starts_with('*')) return "zz" + domain.substr(1);
  if (domain.ends_with('*')) return domain.substr(0, domain.size() - 1) + "zz";
  return domain;
}

Aims aims_of(const tables::Policy& policy, std::set<std::string>& unknown) {
  Builder b{unknown};
  return Builder::both(b.any(policy.permissions), b.any(policy.principals));
}

Aims aims_of(const tables::Route& route, std::set<std::string>& unknown) {
  Builder b{unknown};
  const tables::RouteMatch& m = route.match;
  Aims out{Aim{}};
  if (m.kind == tables::RouteMatch::Path::kRegex) out = b.path({.kind = StringMatch::Kind::kRegex, .regex = m.regex});
  else out[0].path = m.path.empty() ? "/" : m.path;
  for (const HeaderMatch& h : m.headers) out = Builder::both(out, b.header(h));
  for (const tables::QueryMatch& q : m.query)
    out = Builder::both(out, q.present_only
                                 ? Aims{Aim{.query = {{q.name, "zz"}}}}
                                 : b.text(q.string, "query " + q.name, [&](Aim& a, const std::string& v) { a.query[q.name] = v; }));
  return out;
}

}  // namespace sluice::explain
