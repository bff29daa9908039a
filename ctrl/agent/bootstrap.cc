// sections() is the grammar's list of keys: Section refuses what is not in it, and bootstrap_keys() prints it. Each section has one
// function, in the order of configs/sluice.yaml; a value that cannot be read reports itself and leaves the default, so that one run finds
// every error.
#include "ctrl/agent/bootstrap.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "ctrl/agent/yaml.h"
#include "dataplane/base/check.h"
#include "tls-offload/ca.h"

namespace sluice::agent {
namespace {

struct Keys {
  std::string_view section;
  std::vector<std::string_view> keys;
};
const std::vector<Keys>& sections() {
  static const std::vector<Keys> all{
      {"",
       {"node", "ports", "routes", "workers", "idle", "memory", "xds", "resources", "ca", "secrets", "kept", "log", "admin", "ready",
        "stats", "drain", "limits"}},
      {"node", {"id", "cluster", "locality", "metadata"}},
      {"node.locality", {"region", "zone", "sub_zone"}},
      {"ports", {"name", "devargs", "address", "mac", "vlan"}},
      {"routes", {"to", "via"}},
      {"memory", {"mbufs", "hugepages"}},
      {"xds", {"address", "tls", "server_name"}},
      {"xds.tls", {"ca", "cert", "key"}},
      {"resources", {"golden", "json"}},
      {"ca", {"address", "tls", "server_name", "token", "identity", "ttl", "keep"}},
      {"ca.tls", {"ca", "cert", "key"}},
      {"secrets", {"dir", "paths"}},
      {"kept", {"dir"}},
      {"log", {"dir", "stdout"}},
      {"admin", {"socket"}},
      {"ready", {"port"}},
      {"stats", {"address"}},
      {"drain", {"deadline"}},
      {"limits", {"connections", "exchanges", "request_headers_timeout", "send_stall_timeout"}},
  };
  return all;
}

class Parser {
 public:
  explicit Parser(const std::string& file) : file_(file) {}
  std::vector<std::string> errors;

  void error(const Yaml& at, std::string what) { errors.push_back(place(file_, at) + std::move(what)); }

  void root(const Yaml& y, Bootstrap& b);

 private:
  // A mapping whose keys are those of one entry of sections(). `name` is what messages call it ("ports[1]").
  struct Section {
    Parser& p;
    const Yaml& y;
    std::string_view section;
    std::string name;

    // nullptr when the key is not there.
    const Yaml* get(std::string_view key) const {
      for (size_t i = 0; i < y.keys.size(); i++)
        if (y.keys[i].text == key) return &y.items[i];
      return nullptr;
    }
    std::string full(std::string_view key) const { return name.empty() ? std::string(key) : name + "." + std::string(key); }
    bool text(std::string_view key, std::string& out) const {
      const Yaml* v = get(key);
      if (v == nullptr) return false;
      if (v->kind != Yaml::Kind::kScalar || v->text.empty()) {
        p.error(*v, "'" + full(key) + "' must be a text");
        return false;
      }
      out = v->text;
      return true;
    }
    template <class Int>
    void number(std::string_view key, Int& out, uint64_t low, uint64_t high) const {
      const Yaml* v = get(key);
      if (v == nullptr) return;
      uint64_t n = 0;
      const char* end = v->text.data() + v->text.size();
      const auto [at, e] = std::from_chars(v->text.data(), end, n);
      if (v->kind != Yaml::Kind::kScalar || e != std::errc{} || at != end || n < low || n > high) {
        p.error(*v, "'" + full(key) + "' must be a number from " + std::to_string(low) + " to " + std::to_string(high));
        return;
      }
      out = Int(n);
    }
    void duration(std::string_view key, Usec& out, Usec low, Usec high) const {
      const Yaml* v = get(key);
      if (v == nullptr) return;
      uint64_t n = 0;
      const auto [at, e] = std::from_chars(v->text.data(), v->text.data() + v->text.size(), n);
      const std::string_view unit(at, size_t(v->text.data() + v->text.size() - at));
      const Usec scale = unit == "ms" ? kMs : unit == "s" ? kSec : unit == "m" ? 60 * kSec : unit == "h" ? 3600 * kSec : 0;
      if (v->kind != Yaml::Kind::kScalar || e != std::errc{} || scale == 0 || n > high / scale || n * scale < low) {
        p.error(*v, "'" + full(key) + "' must be a duration from " + std::to_string(low / kMs) + "ms to " + std::to_string(high / kSec) +
                        "s, such as 45s or 500ms");
        return;
      }
      out = n * scale;
    }
    template <class Enum>
    void choice(std::string_view key, Enum& out, const std::vector<std::pair<std::string_view, Enum>>& values) const {
      std::string s;
      if (!text(key, s)) return;
      std::vector<std::string_view> names;
      for (const auto& [name_of, value] : values) {
        if (s == name_of) {
          out = value;
          return;
        }
        names.push_back(name_of);
      }
      std::string list;
      for (const auto n : names) (list += list.empty() ? "" : ", ") += n;
      const std::string near = nearest(s, names);
      p.error(*get(key),
              "'" + full(key) + "' is '" + s + "'; it must be one of " + list + (near.empty() ? "" : " (did you mean '" + near + "'?)"));
    }
    Section sub(std::string_view key, const Yaml& v) const {
      return p.section(v, section.empty() ? key : lasting(section, key), full(key));
    }
    static std::string_view lasting(std::string_view section, std::string_view key) {
      for (const Keys& k : sections())
        if (k.section.size() == section.size() + 1 + key.size() && k.section.starts_with(section) && k.section.ends_with(key))
          return k.section;
      SLUICE_ASSERT(false);
      return {};
    }
  };

  Section section(const Yaml& y, std::string_view section, std::string name) {
    if (y.kind != Yaml::Kind::kMapping) {
      error(y, (name.empty() ? "the bootstrap" : "'" + name + "'") + " must be a mapping");
      static const Yaml kNothing;
      return {*this, kNothing, section, std::move(name)};
    }
    const auto known = std::ranges::find(sections(), section, &Keys::section);
    SLUICE_ASSERT(known != sections().end());
    for (const Yaml& key : y.keys) {
      if (std::ranges::find(known->keys, key.text) != known->keys.end()) continue;
      const std::string near = nearest(key.text, known->keys);
      std::string list;
      for (const auto k : known->keys) (list += list.empty() ? "" : ", ") += k;
      error(key, "unknown key '" + (name.empty() ? "" : name + ".") + key.text + "'; " +
                     (near.empty() ? "known here: " + list : "did you mean '" + near + "'?"));
    }
    return {*this, y, section, std::move(name)};
  }

  // A list of mappings, or of texts: f(item, name).
  template <class F>
  void list(const Section& s, std::string_view key, F&& f) {
    const Yaml* v = s.get(key);
    if (v == nullptr || v->kind == Yaml::Kind::kNull) return;
    if (v->kind != Yaml::Kind::kSequence) return error(*v, "'" + s.full(key) + "' must be a list");
    for (size_t i = 0; i < v->items.size(); i++) f(v->items[i], s.full(key) + "[" + std::to_string(i) + "]");
  }

  void node(const Section& s, NodeConfig& n);
  void port(const Yaml& y, const std::string& name, size_t index, Bootstrap& b);
  void route(const Yaml& y, const std::string& name, Bootstrap& b);
  void xds(const Section& s, XdsConfig& x);
  void resources(const Section& s, ResourcesConfig& r);
  void ca(const Section& s, const Yaml* metadata, CaConfig& c);
  bool address(const Section& s, std::string& out);
  void tls(const Section& s, std::optional<TlsFiles>& out);

  const std::string& file_;
};

std::optional<MacAddress> parse_mac(std::string_view s) {
  MacAddress m;
  if (s.size() != 17) return std::nullopt;
  for (size_t i = 0; i < 6; i++) {
    const auto [end, e] = std::from_chars(s.data() + 3 * i, s.data() + 3 * i + 2, m.b[i], 16);
    if (e != std::errc{} || end != s.data() + 3 * i + 2 || (i < 5 && s[3 * i + 2] != ':')) return std::nullopt;
  }
  return m;
}

// "HOST:PORT", "[V6]:PORT"; the host is not looked up.
bool is_host_port(std::string_view s) {
  const size_t colon = s.rfind(':');
  uint16_t port = 0;
  if (colon == s.npos || colon == 0) return false;
  const auto [end, e] = std::from_chars(s.data() + colon + 1, s.data() + s.size(), port);
  return e == std::errc{} && end == s.data() + s.size() && port != 0 && s.find('/') == s.npos &&
         (s[0] == '[' ? s[colon - 1] == ']' : s.find(':') == colon);
}

// Where plain text does not leave the machine.
void Parser::node(const Section& s, NodeConfig& n) {
  if (!s.text("id", n.id)) {
    if (s.get("id") == nullptr) error(s.y, "'node.id' is missing; write router~IP~NAME.NAMESPACE~NAMESPACE.svc.cluster.local");
  } else {
    std::vector<std::string> parts;
    std::stringstream in(n.id);
    for (std::string part; std::getline(in, part, '~');) parts.push_back(part);
    if (parts.size() != 4 || parts[0] != "router" || !IpAddress::parse(parts[1]) || parts[2].find('.') == std::string::npos ||
        parts[3].empty())
      error(*s.get("id"), "'node.id' must be router~IP~NAME.NAMESPACE~NAMESPACE.svc.cluster.local (four parts, a valid address)");
    else if (n.cluster.empty()) n.cluster = parts[2];
  }
  s.text("cluster", n.cluster);
  if (const Yaml* v = s.get("locality")) {
    const Section l = s.sub("locality", *v);
    l.text("region", n.region);
    l.text("zone", n.zone);
    l.text("sub_zone", n.sub_zone);
  }
  if (const Yaml* v = s.get("metadata")) {
    if (v->kind == Yaml::Kind::kMapping) n.metadata_json = to_json(*v);
    else error(*v, "'node.metadata' must be a mapping");
  }
}

void Parser::port(const Yaml& y, const std::string& name, size_t index, Bootstrap& b) {
  const Section s = section(y, "ports", name);
  PortConfig p;
  p.name = "port" + std::to_string(index);
  s.text("name", p.name);
  if (!s.text("devargs", p.devargs) && s.get("devargs") == nullptr && y.kind == Yaml::Kind::kMapping)
    error(y, "'" + name + ".devargs' is missing; write auto:IFACE or a DPDK device");
  auto address = [&](const Yaml& v) {
    const auto parsed = v.kind == Yaml::Kind::kScalar ? IpPrefix::parse(v.text) : std::nullopt;
    if (!parsed || v.text.find('/') == std::string::npos)
      error(v, "'" + name + ".address' must be an address with the length of its network, such as 10.10.0.1/24");
    else if (!parsed->address.is_v4()) error(v, "'" + name + ".address' is IPv6, which is not there yet; give an IPv4 address");
    else p.addresses.push_back(*parsed);
  };
  if (const Yaml* v = s.get("address"); v == nullptr) {
    if (y.kind == Yaml::Kind::kMapping)
      error(y, "'" + name + ".address' is missing; give an address with the length of its network, such as 10.10.0.1/24");
  } else if (v->kind == Yaml::Kind::kSequence) {
    for (const Yaml& item : v->items) address(item);
    if (v->items.empty()) error(*v, "'" + name + ".address' is empty");
  } else {
    address(*v);
  }
  if (std::string mac; s.text("mac", mac)) {
    p.mac = parse_mac(mac);
    if (!p.mac) error(*s.get("mac"), "'" + name + ".mac' must be six hexadecimal bytes, such as 02:00:00:00:00:01");
    else if (p.mac->b[0] & 1) error(*s.get("mac"), "'" + name + ".mac' is a multicast address");
  }
  if (s.get("vlan") != nullptr) {
    uint16_t vlan = 0;
    s.number("vlan", vlan, 1, 4094);
    p.vlan = vlan;
  }
  for (const PortConfig& other : b.ports) {
    if (other.name == p.name) error(y, "two ports are named '" + p.name + "'");
    if (other.devargs == p.devargs && !p.devargs.empty() && other.vlan == p.vlan) error(y, "two ports use '" + p.devargs + "'");
    for (const IpPrefix& a : other.addresses)
      for (const IpPrefix& mine : p.addresses)
        if (a.address == mine.address) error(y, "the address " + mine.address.to_string() + " is on two ports");
  }
  b.ports.push_back(std::move(p));
}

void Parser::route(const Yaml& y, const std::string& name, Bootstrap& b) {
  const Section s = section(y, "routes", name);
  std::string to, via;
  if (!s.text("to", to) || !s.text("via", via)) {
    if (y.kind == Yaml::Kind::kMapping && (s.get("to") == nullptr || s.get("via") == nullptr))
      error(y, "'" + name + "' needs 'to' (a network) and 'via' (a gateway)");
    return;
  }
  const auto prefix = IpPrefix::parse(to);
  const auto gateway = IpAddress::parse(via);
  if (!prefix) return error(*s.get("to"), "'" + name + ".to' must be a network, such as 0.0.0.0/0");
  if (!gateway) return error(*s.get("via"), "'" + name + ".via' must be an address");
  const bool connected = std::ranges::any_of(b.ports, [&](const PortConfig& p) {
    return std::ranges::any_of(p.addresses, [&](const IpPrefix& a) { return a.contains(*gateway); });
  });
  if (!connected) error(*s.get("via"), "'" + name + ".via' is in no network of a port");
  b.routes.push_back({*prefix, *gateway});
}

void Parser::xds(const Section& s, XdsConfig& x) {
  address(s, x.address);
  s.text("server_name", x.server_name);
  tls(s, x.tls);
}

bool Parser::address(const Section& s, std::string& out) {
  if (s.text("address", out)) {
    const bool unix_socket = out.starts_with("unix:") && out.size() > 5;
    if (unix_socket || is_host_port(out)) return true;
    error(*s.get("address"), "'" + s.full("address") + "' must be unix:PATH or HOST:PORT");
  } else if (s.get("address") == nullptr && s.y.kind == Yaml::Kind::kMapping) {
    error(s.y, "'" + s.full("address") + "' is missing; write unix:PATH or HOST:PORT");
  }
  return false;
}

void Parser::tls(const Section& s, std::optional<TlsFiles>& out) {
  const Yaml* v = s.get("tls");
  if (v == nullptr) return;
  const Section t = s.sub("tls", *v);
  out.emplace();
  if (!t.text("ca", out->ca) && t.get("ca") == nullptr)
    error(*v, "'" + t.full("ca") + "' is missing; without it the server cannot be verified");
  t.text("cert", out->cert);
  t.text("key", out->key);
  if (out->cert.empty() != out->key.empty()) error(*v, "'" + s.full("tls") + "' needs cert and key together");
}

void Parser::ca(const Section& s, const Yaml* metadata, CaConfig& c) {
  const bool good_address = address(s, c.address);
  s.text("server_name", c.server_name);
  tls(s, c.tls);
  if (good_address && !c.tls && !is_local(c.address))
    error(*s.get("address"), "'ca.address' is on a network and 'ca.tls' is missing; in plain text anybody on the way could sign for us");
  s.text("token", c.token);
  if (c.token.empty() && (!c.tls || c.tls->cert.empty()) && s.y.kind == Yaml::Kind::kMapping)
    error(s.y, "'ca' needs 'token' (a file), or 'ca.tls' with cert and key; the CA must know who asks");
  const auto of_node = [&](std::string_view key) {
    for (size_t i = 0; metadata != nullptr && i < metadata->keys.size(); i++)
      if (metadata->keys[i].text == key && metadata->items[i].kind == Yaml::Kind::kScalar) return metadata->items[i].text;
    return std::string();
  };
  const std::string ns = of_node("NAMESPACE"), account = of_node("SERVICE_ACCOUNT");
  c.cluster_id = of_node("CLUSTER_ID");
  if (!ns.empty() && !account.empty()) c.identity = "spiffe://cluster.local/ns/" + ns + "/sa/" + account;
  s.text("identity", c.identity);
  if (c.identity.empty() && s.get("identity") == nullptr)
    error(s.y, "'ca.identity' is missing; write it, or NAMESPACE and SERVICE_ACCOUNT in node.metadata");
  else if (!tls::is_spiffe_id(c.identity))
    error(s.get("identity") != nullptr ? *s.get("identity") : s.y,
          "'" + c.identity + "' is no SPIFFE identity; spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT is meant");
  s.duration("ttl", c.ttl, 60 * kSec, 90 * 86'400 * kSec);
  s.text("keep", c.keep);
}

void Parser::resources(const Section& s, ResourcesConfig& r) {
  s.text("golden", r.golden);
  s.text("json", r.json);
  if (r.golden.empty() == r.json.empty()) error(s.y, "'resources' needs exactly one of 'golden' and 'json'");
}

void Parser::root(const Yaml& y, Bootstrap& b) {
  const Section s = section(y, "", "");
  if (y.kind != Yaml::Kind::kMapping) return;
  if (const Yaml* v = s.get("node")) node(s.sub("node", *v), b.node);
  else error(y, "'node' is missing");
  size_t index = 0;
  list(s, "ports", [&](const Yaml& item, const std::string& name) { port(item, name, index++, b); });
  if (index == 0) error(s.get("ports") != nullptr ? *s.get("ports") : y, "'ports' is missing or empty; a gateway needs at least one");
  list(s, "routes", [&](const Yaml& item, const std::string& name) { route(item, name, b); });
  s.number("workers", b.workers, 1, kWorkersMax);
  s.choice<IdleProfile>("idle", b.idle,
                        {{"latency", IdleProfile::kLatency}, {"balanced", IdleProfile::kBalanced}, {"dev", IdleProfile::kDev}});
  if (const Yaml* v = s.get("memory")) {
    const Section m = s.sub("memory", *v);
    if (const Yaml* mbufs = m.get("mbufs"); mbufs != nullptr && mbufs->text != "auto")
      m.number("mbufs", b.mbufs_per_worker, 4096, 16 << 20);
    m.choice<Hugepages>("hugepages", b.hugepages, {{"auto", Hugepages::kAuto}, {"yes", Hugepages::kYes}, {"no", Hugepages::kNo}});
  }
  if (const Yaml* v = s.get("xds")) xds(s.sub("xds", *v), b.xds.emplace());
  if (const Yaml* v = s.get("resources")) resources(s.sub("resources", *v), b.resources.emplace());
  if (b.xds.has_value() == b.resources.has_value()) error(y, "give exactly one of 'xds' (a control plane) and 'resources' (files)");
  if (const Yaml* v = s.get("ca")) {
    const Yaml* n = s.get("node");
    const Yaml* metadata = nullptr;
    for (size_t i = 0; n != nullptr && i < n->keys.size(); i++)
      if (n->keys[i].text == "metadata") metadata = &n->items[i];
    ca(s.sub("ca", *v), metadata, b.ca.emplace());
  }
  if (const Yaml* v = s.get("secrets")) {
    const Section k = s.sub("secrets", *v);
    k.text("dir", b.secrets_dir);
    if (const Yaml* paths = k.get("paths"); paths != nullptr && paths->kind != Yaml::Kind::kNull) {
      if (paths->kind != Yaml::Kind::kMapping) error(*paths, "'secrets.paths' must be a mapping of path prefixes to folders");
      for (size_t i = 0; i < paths->keys.size(); i++) {
        if (paths->items[i].kind != Yaml::Kind::kScalar || paths->items[i].text.empty())
          error(paths->items[i], "'secrets.paths' must name a folder");
        else b.secrets_paths.emplace_back(paths->keys[i].text, paths->items[i].text);
      }
    }
  }
  if (const Yaml* v = s.get("kept")) s.sub("kept", *v).text("dir", b.kept_dir);
  if (const Yaml* v = s.get("log")) {
    const Section l = s.sub("log", *v);
    l.text("dir", b.log_dir);
    l.choice<bool>("stdout", b.log_stdout, {{"true", true}, {"false", false}});
  }
  if (const Yaml* v = s.get("admin")) {
    const Section a = s.sub("admin", *v);
    if (a.text("socket", b.admin_socket) && b.admin_socket.size() > 107) error(*a.get("socket"), "'admin.socket' is longer than 107 bytes");
  }
  if (const Yaml* v = s.get("ready")) s.sub("ready", *v).number("port", b.ready_port, 0, 65535);
  if (const Yaml* v = s.get("stats")) {
    const Section t = s.sub("stats", *v);
    if (t.text("address", b.stats_address) && b.stats_address != "off") {
      const size_t colon = b.stats_address.rfind(':');
      const auto ip = colon == std::string::npos ? std::nullopt : IpAddress::parse(b.stats_address.substr(0, colon));
      if (!is_host_port(b.stats_address) || !ip || !ip->is_v4() || ip->v4().v >> 24 != 127)
        error(*t.get("address"), "'stats.address' must be a loopback address and port such as 127.0.0.1:15090, or off");
    }
  }
  if (const Yaml* v = s.get("drain")) s.sub("drain", *v).duration("deadline", b.drain_deadline, 0, 3600 * kSec);
  if (const Yaml* v = s.get("limits")) {
    const Section l = s.sub("limits", *v);
    l.number("connections", b.limits.connections, 16, kConnectionsMax);
    l.number("exchanges", b.limits.exchanges, 16, kExchangesMax);
    l.duration("request_headers_timeout", b.limits.request_headers_timeout, 100 * kMs, 3600 * kSec);
    l.duration("send_stall_timeout", b.limits.send_stall_timeout, 100 * kMs, 3600 * kSec);
  }
}

}  // namespace

// Not by its beginning: 127.example.com is a name.
bool is_local(std::string_view address) {
  if (address.starts_with("unix:") || address.starts_with("localhost:") || address.starts_with("[::1]:")) return true;
  const auto ip = IpAddress::parse(address.substr(0, address.rfind(':')));
  return ip && ip->is_v4() && ip->v4().v >> 24 == 127;
}

std::vector<std::string> bootstrap_keys() {
  std::vector<std::string> out;
  for (const Keys& k : sections())
    for (const auto key : k.keys) out.push_back(k.section.empty() ? std::string(key) : std::string(k.section) + "." + std::string(key));
  return out;
}

std::expected<Bootstrap, std::vector<std::string>> parse_bootstrap(std::string_view text, const std::string& file) {
  auto yaml = parse_yaml(text, file);
  if (!yaml) return std::unexpected(std::move(yaml.error()));
  Bootstrap b;
  Parser p(file);
  p.root(*yaml, b);
  if (!p.errors.empty()) return std::unexpected(std::move(p.errors));
  return b;
}

std::expected<Bootstrap, std::vector<std::string>> load_bootstrap(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  if (!in) return std::unexpected(std::vector{file + ": cannot be read: " + std::strerror(errno) + "; give the bootstrap with -c FILE"});
  text << in.rdbuf();
  return parse_bootstrap(text.str(), file);
}

}  // namespace sluice::agent
