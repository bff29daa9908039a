// Generated schedules of an ADS stream, delta and SotW, with a model client and two FIFO wires. A schedule is one seed: SLUICE_ADS_SEED=N
// runs that one alone, SLUICE_ADS_SCHEDULES=N as many.
//
// Drawn: changes of the world between any two messages, pushes that are late or gathered (the known change is given, an older one, or
// none), names and wildcards asked for, given up and asked again, resources that the client refuses, streams that end at any moment and go
// on at another instance with what the client has.
//
// Judges, none of which shares code with the stream:
//   the push      order, nonces, whole worlds of SotW, nothing sent or removed that was not due
//   acknowledged  when the stream says so and no request is under way, the client has all of it and refuses none
//   the end       the world healed and everything delivered: the client has what it asks for, no more, and the stream says acknowledged
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <iostream>

#include "ctrl/plane/stream.h"
#include "dataplane/base/rng.h"

namespace sluice::plane {
namespace {

using Names = std::set<std::string>;
using Versions = std::map<std::string, std::string>;
enum { kCluster, kEndpoint, kListener, kRoute };
std::string url(int type) { return std::string(kTypePrefix) + std::string(kTypeNames[type]); }
bool full(int type) { return type == kCluster || type == kListener; }
// Version "!..." is one that the client refuses.
bool bad(const std::string& version) { return version.starts_with('!'); }

struct Failure {
  std::string what;
};
void must(bool ok, const std::string& what) {
  if (!ok) throw Failure{what};
}

struct Message {
  int type;
  std::string nonce;
  Versions resources;
  std::vector<std::string> removed;
  bool gathered;  // SotW: old and new clusters together
};

class Schedule {
 public:
  explicit Schedule(uint64_t seed) : rng_(seed), delta_(rng_.chance(0.5)) {}
  void run() {
    for (int i = 0; i < 8; i++) change();
    publish();
    connect();
    const uint32_t steps = 30 + rng_.below(60);
    for (uint32_t i = 0; i < steps; i++) step();
    settle();
  }

 private:
  struct OfType {  // the client's
    bool asked = false, wildcard = false, had_names = false;
    Names names, refused;
    Versions held;
    std::string nonce;  // SotW: of the last answer that came
    bool covers(const std::string& n) const { return wildcard || names.contains(n); }
  };
  struct Known {                                          // what the stream was told and what it told, as the judge reads the messages
    bool wildcard = false, asked = false, again = false;  // again: the wildcard was taken again; a removal too many does no harm
    Names names, due_again;
    Versions told;
    std::string nonce;  // of the newest answer
  };

  void step() {
    switch (rng_.below(12)) {
      case 0:
      case 1: change(); break;
      case 2: publish(); break;
      case 3:
        if (rng_.chance(0.2)) connect();
        break;
      case 4:
      case 5: subscribe(int(rng_.below(4))); break;
      case 6:
      case 7:
      case 8: to_server(); break;
      default: to_client(); break;
    }
    if (rng_.chance(0.3)) push();
    judge_acknowledged();
  }

  // -- the world
  void change() {
    const int t = int(rng_.below(4));
    const std::string name = (t < 2 ? "c" : t == 2 ? "l" : "r") + std::to_string(rng_.below(4));
    if (rng_.chance(0.3)) world_[t].erase(name);
    else world_[t][name] = (rng_.chance(0.15) ? "!" : "") + std::to_string(rng_.chance(0.3) ? rng_.below(3) : ++version_);
  }
  void publish() {
    Resources r;
    for (int t = 0; t < kTypes; t++)
      for (const auto& [n, v] : world_[t]) r.of[t].set(n, {v, std::string("bytes")});
    r.seal();
    auto next = std::make_shared<const Resources>(std::move(r));
    current_.change = nullptr;
    if (current_.resources != nullptr && rng_.chance(0.7))
      current_.change = std::make_shared<const Change>(difference(current_.resources, *next));
    current_.resources = std::move(next);
  }

  // -- the client
  void connect() {
    stream_ = delta_ ? std::unique_ptr<AdsStream>(std::make_unique<DeltaStream>()) : std::make_unique<SotwStream>();
    up_.clear(), down_.clear(), nonces_.clear();
    for (Known& k : known_) k = {};
    for (int t = 0; t < kTypes; t++) {
      OfType& c = client_[t];
      c.nonce.clear(), c.refused.clear();
      if (!c.asked) continue;
      if (!c.wildcard && c.names.empty()) {
        c.asked = false;
        continue;
      }
      StreamRequest r{.type_url = url(t)};
      r.subscribe = {c.names.begin(), c.names.end()};
      if (delta_) {
        if (c.wildcard) r.subscribe.push_back("*");
        r.initial_versions = c.held;
      } else if (c.wildcard && c.had_names) {
        r.subscribe.push_back("*");
      }
      if (!c.wildcard) std::erase_if(c.held, [&](const auto& h) { return !c.names.contains(h.first); });
      up_.push_back(std::move(r));
    }
  }
  void subscribe(int t) {
    OfType& c = client_[t];
    StreamRequest r{.type_url = url(t), .nonce = {}};
    if (!c.asked) {
      c.asked = true;
      if (full(t) && rng_.chance(0.6)) c.wildcard = true;
      else c.names.insert(name(t));
      c.had_names = !c.wildcard;
      if (delta_)
        r.subscribe =
            c.wildcard ? std::vector<std::string>{rng_.chance(0.5) ? "*" : ""} : std::vector<std::string>(c.names.begin(), c.names.end());
      if (delta_ && c.wildcard && r.subscribe[0].empty()) r.subscribe.clear();
      if (!delta_) r.subscribe = {c.names.begin(), c.names.end()};
      up_.push_back(std::move(r));
      return;
    }
    const std::string n = name(t);
    if (delta_) {
      if (rng_.chance(0.6)) {
        c.names.insert(n), r.subscribe.push_back(n);
      } else if (full(t) && rng_.chance(0.3)) {
        // The wildcard given up, or taken. Giving up and taking again while an answer is under way leaves a client with what it does not
        // know to be gone: a race of the protocol, not of the server.
        if (!c.wildcard && (!up_.empty() || !down_.empty())) return;
        c.wildcard = !c.wildcard;
        (c.wildcard ? r.subscribe : r.unsubscribe).push_back("*");
        if (!c.wildcard) {
          std::erase_if(c.held, [&](const auto& h) { return !c.names.contains(h.first); });
          std::erase_if(c.refused, [&](const std::string& x) { return !c.names.contains(x); });
        }
      } else if (c.names.erase(n) != 0) {
        r.unsubscribe.push_back(n);
        c.held.erase(n), c.refused.erase(n);
      } else {
        return;
      }
      up_.push_back(std::move(r));
      return;
    }
    if (c.wildcard) return;
    if (rng_.chance(0.6)) c.names.insert(n);
    else c.names.erase(n), c.held.erase(n), c.refused.erase(n);
    c.had_names |= !c.names.empty();
    r.nonce = c.nonce;
    r.subscribe = {c.names.begin(), c.names.end()};
    up_.push_back(std::move(r));
  }
  std::string name(int t) { return (t < 2 ? "c" : t == 2 ? "l" : "r") + std::to_string(rng_.below(5)); }
  bool to_client() {
    if (down_.empty()) return false;
    const Message m = std::move(down_.front());
    down_.pop_front();
    OfType& c = client_[m.type];
    std::string error;
    if (!delta_ && full(m.type)) {
      std::erase_if(c.held, [&](const auto& h) { return !m.resources.contains(h.first); });
      c.refused.clear();
    }
    for (const auto& [n, v] : m.resources) {
      if (!c.covers(n)) continue;
      if (bad(v)) c.refused.insert(n), error += "'" + n + "': no\n";
      else c.held[n] = v, c.refused.erase(n);
    }
    for (const std::string& n : m.removed) c.held.erase(n), c.refused.erase(n);
    StreamRequest ack{.type_url = url(m.type), .nonce = m.nonce, .error = error};
    if (!delta_) {
      c.nonce = m.nonce;
      ack.subscribe = {c.names.begin(), c.names.end()};
      if (c.wildcard && c.had_names) ack.subscribe.push_back("*");
    }
    up_.push_back(std::move(ack));
    return true;
  }

  // -- the stream
  bool to_server() {
    if (up_.empty()) return false;
    const StreamRequest r = std::move(up_.front());
    up_.pop_front();
    const int t = type_of_url(r.type_url);
    Known& k = known_[t];
    const bool first = !std::exchange(k.asked, true);
    const auto star = [](const auto& l) { return std::ranges::find(l, "*") != l.end(); };
    if (delta_) {
      if (first) k.told = r.initial_versions;
      if (star(r.subscribe) || (first && r.subscribe.empty())) {
        k.again |= !first;
        if (!first)
          for (auto& [n, v] : k.told) v = "?";
        k.wildcard = true;
      }
      if (star(r.unsubscribe)) k.wildcard = false;
      for (const std::string& n : r.subscribe)
        if (n != "*" && (k.names.insert(n), !first || !r.initial_versions.contains(n))) k.due_again.insert(n);
      for (const std::string& n : r.unsubscribe)
        if (n != "*") k.names.erase(n), k.due_again.insert(n);
    } else {
      Names now{r.subscribe.begin(), r.subscribe.end()};
      if (!first && !r.nonce.empty() && r.nonce != k.nonce)
        std::erase_if(now, [&](const std::string& n) { return !k.names.contains(n); });  // stale
      for (const std::string& n : now)
        if (!k.names.contains(n)) k.due_again.insert(n);
      k.names = now;
      k.wildcard = full(t) && (now.contains("*") || (r.subscribe.empty() && client_[t].wildcard));
    }
    must(stream_->take(r), "a request within the limits ends the stream");
    if (rng_.chance(0.6)) push();
    return true;
  }
  void push() {
    int last = -1;
    bool tail = false;
    Names clusters;
    for (const StreamAnswer& a : stream_->answers(current_)) {
      Message m{a.type, a.nonce, {}, a.removed, a.version.ends_with("+")};
      must(nonces_.insert(a.nonce).second, "a nonce twice");
      for (const Item& i : a.resources) {
        must(m.resources.emplace(std::string(i.name), i.resource->version).second, "a name twice");
        must(std::ranges::find(a.removed, i.name) == a.removed.end(), "sent and removed");
      }
      if (a.type <= last) tail = true;
      must(!tail || a.type <= kEndpoint, "listeners or routes behind the removals");
      must(!tail || !delta_ || a.resources.empty(), "resources behind the routes");
      last = a.type;
      if (a.type == kCluster)
        for (const auto& [n, v] : m.resources) clusters.insert(n);
      judge(m, clusters);
      down_.push_back(std::move(m));
    }
    for (int t = 0; t < kTypes; t++) {
      Known& k = known_[t];
      if (k.asked) k.due_again.clear(), k.again = false;
      if (!delta_ && !full(t))
        std::erase_if(k.told, [&](const auto& x) { return !current_.resources->of[t].contains(x.first); });  // in silence
    }
  }
  void judge(const Message& m, const Names& clusters) {
    Known& k = known_[m.type];
    const auto& now = current_.resources->of[m.type];
    k.nonce = m.nonce;
    must(k.asked, "an answer of a type that was not asked for");
    const auto covers = [&](const std::string& n) { return k.wildcard || k.names.contains(n); };
    for (const auto& [n, v] : m.resources) {
      const auto it = now.find(n);
      if (m.gathered && it == now.end()) continue;
      must(it != now.end() && it->second.version == v, "not the newest of " + n);
      must(covers(n) || (!delta_ && !full(m.type)), "not asked for: " + n);
      const auto told = k.told.find(n);
      const bool due = told == k.told.end() || told->second != v || k.due_again.contains(n) || (!delta_ && full(m.type)) ||
                       (m.type == kEndpoint && (clusters.contains(n) || cluster_resent_.contains(n)));
      must(due, std::string(delta_ ? "delta " : "sotw ") + std::to_string(m.type) + ": sent though the client has it: " + n + " " + v);
      k.told[n] = v;
    }
    if (m.type == kCluster && delta_) cluster_resent_.insert(clusters.begin(), clusters.end());
    for (const std::string& n : m.removed) {
      must(!now.contains(n), "removed though it is there: " + n);
      must(k.again || k.told.contains(n) || k.due_again.contains(n), "removed though the client never had it: " + n);
      k.told.erase(n);
    }
    if (!delta_ && full(m.type))
      for (const auto& [n, r] : now) must(!covers(n) || m.resources.contains(n), "a whole world without " + n);
    if (!delta_ && full(m.type) && !m.gathered) std::erase_if(k.told, [&](const auto& t) { return !m.resources.contains(t.first); });
  }
  bool has_all(int t) {
    const OfType& c = client_[t];
    for (const std::string& n : c.refused)
      if (current_.resources->of[t].contains(n)) return false;
    for (const auto& [n, r] : current_.resources->of[t]) {
      if (!c.covers(n)) continue;
      const auto it = c.held.find(n);
      if (it == c.held.end() || it->second != r.version) return false;
    }
    for (const auto& [n, v] : c.held)
      if (!current_.resources->of[t].contains(n) && (delta_ || full(t))) return false;
    return true;
  }
  void judge_acknowledged() {
    if (!up_.empty() || !stream_->acknowledged(*current_.resources)) return;
    for (int t = 0; t < kTypes; t++) must(!client_[t].asked || has_all(t), "acknowledged, but the client has not got all of " + url(t));
  }
  void settle() {
    for (auto& t : world_)
      for (auto& [n, v] : t) v = std::to_string(++version_);
    publish();
    for (int turns = 0; turns < 100; turns++) {
      bool busy = false;
      while (to_server()) busy = true;
      push();
      while (to_client()) busy = true;
      if (!busy) break;
    }
    must(up_.empty() && down_.empty(), "no end of talking");
    for (int t = 0; t < kTypes; t++) must(!client_[t].asked || has_all(t), "at the end the client has not got all of " + url(t));
    must(stream_->acknowledged(*current_.resources), "at the end not acknowledged");
    // A move to a stand-by that has the same world, made anew.
    if (!delta_) return;
    Current other{current_.resources, nullptr};
    current_.change = nullptr, current_.resources = nullptr;
    publish();
    for (int t = 0; t < kTypes; t++)
      must(current_.resources->version[t] == other.resources->version[t], "another version of the same world");
    for (OfType& c : client_) std::erase_if(c.names, [&](const std::string& n) { return !c.held.contains(n); });
    connect();
    while (!up_.empty()) {
      must(stream_->take(up_.front()), "the stand-by ends the stream");
      up_.pop_front();
      for (const StreamAnswer& a : stream_->answers(current_)) must(a.resources.empty() && a.removed.empty(), "the stand-by sends again");
    }
  }

  Rng rng_;
  const bool delta_;
  std::array<Versions, kTypes> world_;
  uint64_t version_ = 10;
  Current current_;
  std::unique_ptr<AdsStream> stream_;
  std::array<OfType, kTypes> client_;
  std::array<Known, kTypes> known_;
  Names nonces_, cluster_resent_;
  std::deque<StreamRequest> up_;
  std::deque<Message> down_;
};

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* s = std::getenv(variable);
  return s != nullptr ? std::strtoull(s, nullptr, 10) : otherwise;
}

TEST(AdsStreamProperty, SurvivesGeneratedSchedules) {
  const uint64_t only = number_from("SLUICE_ADS_SEED", 0);
  const uint64_t first = only != 0 ? only : uint64_t(std::chrono::system_clock::now().time_since_epoch().count()) % 1'000'000'000 + 1;
  const uint64_t count = only != 0 ? 1 : number_from("SLUICE_ADS_SCHEDULES", 20'000);
  std::cout << count << " schedules, first seed " << first << "\n";
  for (uint64_t seed = first; seed < first + count; seed++) {
    Schedule s(seed);
    try {
      s.run();
    } catch (const Failure& f) {
      FAIL() << f.what << "; SLUICE_ADS_SEED=" << seed << " repeats it";
    }
  }
}

}  // namespace
}  // namespace sluice::plane
