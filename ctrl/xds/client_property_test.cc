// 10^5 generated schedules of a client, a model server and two FIFO wires. A schedule is one seed: SLUICE_XDS_SEED=N runs that one alone,
// SLUICE_XDS_SCHEDULES=N runs as many.
//
// Faults drawn: streams that end at any moment (with late events of the old one), changes of the world between any two messages, resources
// that are bad, doubled, both sent and removed, of a wrong type, unsolicited endpoints and types, listeners before clusters, empty route
// configurations for unknown names, an empty world first, servers that re-send everything on reconnect (istiod) and such that trust the
// versions they are told.
//
// Three judges, none of which shares code with the client:
//   Server   is strict about what it receives (order, ACKs without subscription changes, no empty first list, no name twice, NACK texts)
//   Expected what the sink must hold, from the bytes delivered alone, compared after every response
//   the end  faults off, world healed, everything delivered: the sink equals the world as far as it is wanted
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>

#include "ctrl/xds/client.h"

namespace sluice::xds {
namespace {

using Names = std::set<std::string>;
using Contents = std::map<std::string, std::string>;
using World = std::array<Contents, kTypes>;
constexpr Type kAll[] = {Type::kCluster, Type::kEndpoint, Type::kListener, Type::kRoute};

// Content: "VERSION|name,name" where the names are what the resource refers to; "!..." is bad.
Names references(const std::string& content) {
  Names out;
  size_t at = content.find('|') + 1;
  while (at < content.size()) {
    const size_t end = std::min(content.find(',', at), content.size());
    out.insert(content.substr(at, end - at));
    at = end + 1;
  }
  return out;
}
bool is_bad(const std::string& content) { return content.starts_with('!'); }

struct Failure {
  std::string what;
};
void must(bool ok, const char* what) {
  if (!ok) throw Failure{what};
}

struct StoreSink final : Sink {
  World store;
  std::expected<void, std::string> apply(Type t, const std::string& name, const std::string&, const std::string& bytes) override {
    if (is_bad(bytes)) return std::unexpected("because");
    store[size_t(t)][name] = bytes;
    return {};
  }
  void remove(Type t, const std::string& name) override { must(store[size_t(t)].erase(name) == 1, "remove of what was never applied"); }
};

class Server {
 public:
  explicit Server(Rng& rng) : rng_(rng) {}
  World world;
  uint64_t version = 0;

  void new_session() {
    for (auto& t : session_) t = {};
    trusts_versions_ = rng_.chance(0.5);
  }

  void receive(const Request& r) {
    const auto type = type_of(r.type_url);
    must(type.has_value(), "request of an unknown type");
    OfType& t = session_[size_t(*type)];
    if (!r.response_nonce.empty()) {
      must(r.subscribe.empty() && r.unsubscribe.empty() && r.initial_resource_versions.empty(), "a subscription change rides on an ACK");
      must(t.opened, "ACK of a type that was not opened");
      must(!t.unanswered.empty() && t.unanswered.front().nonce == r.response_nonce, "ACK out of order, or twice");
      const Sent& sent = t.unanswered.front();
      must(r.error.empty() == sent.bad.empty(), "ACK where NACK is due, or the other way");
      for (const auto& name : sent.bad) must(r.error.find("'" + name + "'") != std::string::npos, "the NACK does not name a bad resource");
      for (const auto& name : sent.good) must(r.error.find("'" + name + "'") == std::string::npos, "the NACK names a good resource");
      t.unanswered.pop_front();
      return;
    }
    must(r.error.empty(), "an error without a nonce");
    if (!t.opened) {
      must(!r.subscribe.empty(), "a type is opened with an empty list");
      must(r.unsubscribe.empty(), "unsubscribe in the first request");
      must(*type == Type::kCluster || session_[0].opened, "something is asked before clusters");
      t.opened = t.answer_due = true;
      for (const auto& [name, v] : r.initial_resource_versions) t.sent[name] = trusts_versions_ ? v : "?";
    } else {
      must(r.initial_resource_versions.empty(), "initial versions after the first request");
      must(!r.subscribe.empty() || !r.unsubscribe.empty(), "a request that says nothing");
    }
    for (const auto& name : r.subscribe) {
      must(is_wildcard(*type) == (name == "*"), "wildcard by name, or name as wildcard");
      must(t.subscribed.insert(name).second, "subscribed twice");
      if (!trusts_versions_ || !r.initial_resource_versions.contains(name)) t.sent.try_emplace(name, "?");
    }
    for (const auto& name : r.unsubscribe) {
      must(t.subscribed.erase(name) == 1, "unsubscribe of what was not subscribed");
      t.sent.erase(name);
    }
  }

  // What is due of this type, with the faults asked for; nothing: nullopt.
  std::optional<Response> push(Type type, bool faults) {
    OfType& t = session_[size_t(type)];
    if (!t.opened) return std::nullopt;
    Response r{.type_url = std::string(type_url(type))};
    const Contents& here = world[size_t(type)];
    auto send = [&](const std::string& name, const std::string& content) {
      r.resources.push_back({name, content, r.type_url, content});
      t.sent[name] = content;
    };
    for (const auto& [name, content] : here) {
      if (!is_wildcard(type) && !t.subscribed.contains(name)) continue;
      const auto it = t.sent.find(name);
      if (it == t.sent.end() || it->second != content) send(name, content);
    }
    for (auto it = t.sent.begin(); it != t.sent.end();) {
      if (it->first == "*" || here.contains(it->first)) {
        ++it;
        continue;
      }
      if (type == Type::kRoute && rng_.chance(0.5)) {  // istiod: an empty RouteConfiguration for an unknown name
        if (it->second != "0|") send(it->first, "0|");
        ++it;
        continue;
      }
      if (type == Type::kRoute && it->second == "0|") {
        ++it;
        continue;
      }
      r.removed.push_back(it->first);
      it = t.sent.erase(it);
    }
    if (faults) add_faults(type, t, r);
    if (r.resources.empty() && r.removed.empty() && !t.answer_due) return std::nullopt;
    t.answer_due = false;
    r.nonce = std::to_string(++nonce_);
    t.unanswered.push_back({r.nonce, {}, {}});
    return r;
  }
  // What the client has to say to a response depends on what it wanted when it came: the harness tells, at delivery.
  void expect(Type type, const std::string& nonce, Names bad, Names good) {
    for (auto& sent : session_[size_t(type)].unanswered)
      if (sent.nonce == nonce) sent.bad = std::move(bad), sent.good = std::move(good);
  }
  bool all_answered() const {
    for (const auto& t : session_)
      if (!t.unanswered.empty()) return false;
    return true;
  }

 private:
  struct Sent {
    std::string nonce;
    Names bad, good;
  };
  struct OfType {
    bool opened = false, answer_due = false;
    Names subscribed;
    Contents sent;  // name -> content that the client is believed to have
    std::deque<Sent> unanswered;
  };
  static bool ignorable(Type type, const OfType& t, const std::string& name) { return !is_wildcard(type) && !t.subscribed.contains(name); }

  void add_faults(Type type, OfType& t, Response& r) {
    if (type == Type::kEndpoint && rng_.chance(0.2)) {
      const std::string name = "s" + std::to_string(rng_.below(3));
      r.resources.push_back({name, "", r.type_url, rng_.chance(0.5) ? "!x" : "9|"});
      if (t.subscribed.contains(name)) t.sent[name] = "?";
    }
    if (r.resources.empty()) return;
    const Resource victim = r.resources[rng_.below(uint32_t(r.resources.size()))];
    switch (rng_.below(12)) {
      case 0: r.resources.push_back(victim); break;
      case 1: r.resources.push_back({victim.name, "", r.type_url, "7|"}); break;
      case 2: r.removed.push_back(victim.name); break;
      case 3: r.resources[0].type_url = "type.googleapis.com/other"; break;
      case 4: r.removed.push_back("never"); break;
      case 5: r.resources[0].has_body = false; break;
      default: return;
    }
    for (const auto& x : r.resources) t.sent[x.name] = "?";  // who knows what the client made of it: send again later
    std::erase_if(t.sent, [&](const auto& s) { return ignorable(type, t, s.first); });
  }

  Rng& rng_;
  std::array<OfType, kTypes> session_;
  bool trusts_versions_ = false;
  uint64_t nonce_ = 0;
};

class Schedule {
 public:
  explicit Schedule(uint64_t seed) : rng_(seed), client_({}, sink_, rng_), server_(rng_) {}

  void run() {
    const bool empty_first = rng_.chance(0.25);
    if (!empty_first)
      for (int i = 0; i < 6; i++) change_world();
    const uint32_t steps = 20 + rng_.below(40);
    for (uint32_t i = 0; i < steps; i++) step();
    settle();
  }

 private:
  void step() {
    now_ += rng_.below(400) * kMs;
    switch (rng_.below(10)) {
      case 0: change_world(); break;
      case 1:
        if (rng_.chance(0.15)) close();
        break;
      case 2: client_.advance(now_); break;
      case 3:
        if (open_ && rng_.chance(0.1))
          to_client_.push_back({stream_, {"type.googleapis.com/istio.networking.nds.v1.NameTable", "x", "", {}, {}}});
        break;
      case 4:
      case 5: push(kAll[rng_.below(4)], true); break;
      case 6:
      case 7: deliver_to_server(); break;
      default: deliver_to_client(); break;
    }
    connect();
    pump();
  }

  void connect() {
    if (open_ || client_.connect_at() > now_) return;
    stream_ = client_.begin_connect();
    if (rng_.chance(0.1)) {
      client_.stream_closed(stream_, "refused", now_);
      return;
    }
    client_.connected(stream_, now_);
    server_.new_session();
    open_ = true;
  }
  void close() {
    if (!open_) return;
    open_ = false;
    to_server_.clear();
    client_.stream_closed(stream_, "reset", now_);
    if (rng_.chance(0.5)) to_client_.clear();  // else they come late, with the old stream's number
  }
  void pump() {
    for (auto& r : client_.take_requests()) {
      must(open_, "a request without a stream");
      to_server_.push_back(std::move(r));
    }
  }
  void push(Type t, bool faults) {
    if (!open_) return;
    if (auto r = server_.push(t, faults)) to_client_.push_back({stream_, std::move(*r)});
  }
  bool deliver_to_server() {
    if (to_server_.empty()) return false;
    server_.receive(to_server_.front());
    to_server_.pop_front();
    return true;
  }
  bool deliver_to_client() {
    if (to_client_.empty()) return false;
    const auto [stream, r] = std::move(to_client_.front());
    to_client_.pop_front();
    if (open_ && stream == stream_) expect(r);
    client_.response(stream, r, now_);
    must(sink_.store == expected_, "the sink does not hold what was delivered");
    interest();
    pump();
    return true;
  }

  // The literal reading of the rules, applied to what is delivered.
  void expect(const Response& r) {
    const auto type = type_of(r.type_url);
    if (!type) return;
    Contents& held = expected_[size_t(*type)];
    std::map<std::string, int> times;
    for (const auto& x : r.resources) times[x.name]++;
    for (const auto& n : r.removed)
      if (times.contains(n)) times[n] += 100;
    Names bad, good;
    for (const auto& x : r.resources) {
      const bool wanted = is_wildcard(*type) || wanted_[size_t(*type)].contains(x.name);
      if (times[x.name] > 1) {
        bad.insert(x.name);
      } else if (!wanted || !x.has_body) {
        good.insert(x.name);
      } else if (x.type_url != r.type_url || is_bad(x.bytes)) {
        bad.insert(x.name);
      } else {
        good.insert(x.name);
        held[x.name] = x.bytes;
      }
    }
    for (const auto& n : r.removed)
      if (!times.contains(n)) held.erase(n);
    server_.expect(*type, r.nonce, bad, good);
  }

  // What the compiler would want: endpoints of clusters, routes of listeners.
  void interest() {
    for (const auto& [parent, child] : {std::pair{Type::kCluster, Type::kEndpoint}, std::pair{Type::kListener, Type::kRoute}}) {
      Names names;
      for (const auto& [name, content] : sink_.store[size_t(parent)]) names.merge(references(content));
      if (names == wanted_[size_t(child)]) continue;
      std::erase_if(expected_[size_t(child)], [&](const auto& e) { return !names.contains(e.first); });
      wanted_[size_t(child)] = names;
      client_.want(child, names);
    }
    must(sink_.store == expected_, "the sink keeps what is not wanted");
  }

  void change_world() {
    const Type t = kAll[rng_.below(4)];
    static constexpr const char* kNames[kTypes][4] = {
        {"c0", "c1", "c2", "c3"}, {"s0", "s1", "s2", "s3"}, {"l0", "l1", "l2", "l3"}, {"r0", "r1", "r2", "r3"}, {}, {}};
    const std::string name = kNames[size_t(t)][rng_.below(4)];
    Contents& c = server_.world[size_t(t)];
    if (rng_.chance(0.25)) {
      c.erase(name);
      return;
    }
    std::string content = (rng_.chance(0.15) ? "!" : "") + std::to_string(rng_.chance(0.3) ? rng_.below(3) : ++server_.version) + "|";
    if (t == Type::kCluster && rng_.chance(0.8)) content += "s" + std::to_string(rng_.below(4));
    if (t == Type::kListener)
      for (uint32_t i = rng_.below(3); i > 0; i--) content += "r" + std::to_string(rng_.below(4)) + ",";
    c[name] = content;
  }

  void settle() {
    for (Contents& c : server_.world)
      for (auto& [name, content] : c) content = std::to_string(++server_.version) + content.substr(content.find('|'));
    for (int turns = 0; turns < 200; turns++) {
      if (!open_) now_ = std::max(now_, client_.connect_at());
      connect();
      pump();
      bool busy = !open_;
      while (deliver_to_server()) busy = true;
      for (Type t : kAll) push(t, false);
      while (deliver_to_client()) busy = true;
      if (!busy && server_.all_answered()) return finish();
    }
    must(false, "no end of talking");
  }
  void finish() {
    for (Type t : kAll) {
      Contents want = server_.world[size_t(t)];
      if (!is_wildcard(t)) std::erase_if(want, [&](const auto& e) { return !wanted_[size_t(t)].contains(e.first); });
      Contents have = sink_.store[size_t(t)];
      std::erase_if(have, [](const auto& e) { return e.second == "0|"; });
      if (want != have) {
        for (const auto& [name, content] : want) std::cout << short_name(t) << " due  " << name << " = " << content << "\n";
        for (const auto& [name, content] : have) std::cout << short_name(t) << " held " << name << " = " << content << "\n";
      }
      must(want == have, "the sink differs from the world at the end");
      must(client_.status(t).refused.empty(), "a reason is left though everything is good");
    }
  }

  Rng rng_;
  StoreSink sink_;
  Client client_;
  Server server_;
  World expected_;
  std::array<Names, kTypes> wanted_;
  std::deque<Request> to_server_;
  std::deque<std::pair<uint64_t, Response>> to_client_;
  Usec now_ = 1;
  uint64_t stream_ = 0;
  bool open_ = false;
};

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* s = std::getenv(variable);
  return s != nullptr ? std::strtoull(s, nullptr, 10) : otherwise;
}

TEST(XdsClientProperty, SurvivesGeneratedSchedules) {
  const uint64_t only = number_from("SLUICE_XDS_SEED", 0);
  const uint64_t first = only != 0 ? only : uint64_t(std::chrono::system_clock::now().time_since_epoch().count()) % 1'000'000'000 + 1;
  const uint64_t count = only != 0 ? 1 : number_from("SLUICE_XDS_SCHEDULES", 100'000);
  std::cout << count << " schedules, first seed " << first << "\n";
  for (uint64_t seed = first; seed < first + count; seed++) {
    Schedule s(seed);
    try {
      s.run();
    } catch (const Failure& f) {
      FAIL() << f.what << "; SLUICE_XDS_SEED=" << seed << " repeats it";
    }
  }
}

}  // namespace
}  // namespace sluice::xds
