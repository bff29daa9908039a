// The state of a type is three sets: wanted (ours), subscribed (what the server was told on this stream) and held (what the sink has).
// flush() turns the difference of the first two into one request per type; a response moves the third. A closed stream empties `subscribed`
// and `opened` and nothing else, so a reconnect is the same code as a first connect.
//
//            begin_connect           connected
//   waiting ---------------> connecting -----> open          stream_closed from either: waiting, until the backoff has passed
#include "ctrl/xds/client.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "dataplane/base/check.h"
#include "dataplane/base/siphash.h"

namespace sluice::xds {
namespace {

constexpr std::array<std::string_view, kTypes> kUrls{
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
};
constexpr std::array<std::string_view, kTypes> kShort{"CDS", "EDS", "LDS", "RDS", "SDS", "ECDS"};
constexpr size_t kReasonMax = 1024;

void hash_of(std::string_view bytes, uint64_t (&h)[2]) {
  const Bytes b = as_bytes(bytes);
  h[0] = siphash24({0x736c75696365, 0x786473}, b);
  h[1] = siphash24({0x617070726f76, 0x656421}, b);
}

std::string nack_text(size_t total, const std::vector<std::pair<std::string, std::string>>& bad, size_t reasons_max) {
  std::string text = std::to_string(bad.size()) + " of " + std::to_string(total) + " resources refused";
  size_t reasons = 0;
  const char* separator = ": ";
  for (const auto& [name, reason] : bad) {
    text.append(separator).append("'").append(name).append("'");
    if (reasons + std::min(reason.size(), kReasonMax) <= reasons_max) {
      text.append(": ").append(reason, 0, kReasonMax);
      reasons += std::min(reason.size(), kReasonMax);
    }
    separator = "; ";
  }
  return text;
}

}  // namespace

std::string_view type_url(Type t) { return kUrls[size_t(t)]; }
std::string_view short_name(Type t) { return kShort[size_t(t)]; }
std::optional<Type> type_of(std::string_view url) {
  const auto it = std::ranges::find(kUrls, url);
  if (it == kUrls.end()) return std::nullopt;
  return Type(it - kUrls.begin());
}

uint64_t Client::begin_connect() {
  SLUICE_ASSERT(state_ == State::kWaiting);
  state_ = State::kConnecting;
  streams_++;
  return ++stream_;
}

void Client::connected(uint64_t stream, Usec now) {
  if (stream != stream_ || state_ != State::kConnecting) return;
  state_ = State::kOpen;
  answered_ = false;
  since_ = now;
  listeners_at_ = now + options_.initial_fetch_timeout;
  flush();
}

void Client::stream_closed(uint64_t stream, std::string reason, Usec now) {
  if (stream != stream_ || state_ == State::kWaiting) return;
  state_ = State::kWaiting;
  since_ = now;
  last_error_ = std::move(reason);
  out_.clear();
  for (OfType& t : types_) {
    t.opened = t.answered = false;
    t.subscribed.clear();
  }
  backoff_ = backoff_ == 0 ? options_.backoff_first : std::min(backoff_ * 2, options_.backoff_max);
  connect_at_ = now + backoff_ / 2 + rng_.below(uint32_t(backoff_ / 2 + 1));
}

void Client::advance(Usec now) {
  if (state_ == State::kOpen && listeners_wait_ && now >= listeners_at_) {
    listeners_wait_ = false;
    flush();
  }
}

std::vector<Request> Client::take_requests() {
  flush();
  return std::exchange(out_, {});
}

void Client::restore(Type type, const std::string& name, const std::string& bytes) {
  SLUICE_ASSERT(streams_ == 0);
  Held h{.version = {}, .bytes = bytes.size()};
  hash_of(bytes, h.hash);
  of(type).held.insert_or_assign(name, std::move(h));
}

void Client::want(Type type, std::set<std::string> names) {
  SLUICE_ASSERT(!is_wildcard(type));
  OfType& t = of(type);
  for (auto it = t.held.begin(); it != t.held.end();) {
    if (names.contains(it->first)) {
      ++it;
      continue;
    }
    sink_.remove(type, it->first);
    it = t.held.erase(it);
  }
  std::erase_if(t.refused, [&](const auto& r) { return !names.contains(r.first); });
  t.wanted = std::move(names);
  flush();
}

void Client::flush() {
  if (state_ != State::kOpen) return;
  for (size_t i = 0; i < kTypes; i++) flush_type(Type(i));
}

void Client::flush_type(Type type) {
  OfType& t = of(type);
  Request r;
  if (is_wildcard(type)) {
    if (t.opened || (type == Type::kListener && listeners_wait_)) return;
    r.subscribe.push_back("*");
  } else {
    std::ranges::set_difference(t.wanted, t.subscribed, std::back_inserter(r.subscribe));
    std::ranges::set_difference(t.subscribed, t.wanted, std::back_inserter(r.unsubscribe));
    if (r.subscribe.empty() && r.unsubscribe.empty()) return;
    t.subscribed = t.wanted;
  }
  r.type_url = type_url(type);
  if (!t.opened)
    for (const auto& [name, held] : t.held) r.initial_resource_versions.emplace(name, held.version);
  t.opened = true;
  out_.push_back(std::move(r));
}

// nullopt: accepted (or nothing to do); else why not.
std::optional<std::string> Client::apply_one(Type type, const Resource& r) {
  OfType& t = of(type);
  if (!is_wildcard(type) && !t.wanted.contains(r.name)) {  // unsolicited, or no longer wanted
    t.s.ignored++;
    return std::nullopt;
  }
  if (!r.has_body) return std::nullopt;
  if (r.type_url != type_url(type)) return "its body is a " + r.type_url + ", not the type of the response";
  Held h{.version = r.version, .bytes = r.bytes.size()};
  hash_of(r.bytes, h.hash);
  if (const auto it = t.held.find(r.name);
      it != t.held.end() && it->second.bytes == h.bytes && std::ranges::equal(it->second.hash, h.hash)) {
    it->second.version = r.version;
    t.refused.erase(r.name);
    t.s.unchanged++;
    return std::nullopt;
  }
  if (auto ok = sink_.apply(type, r.name, r.version, r.bytes); !ok) {
    t.refused.insert_or_assign(r.name, ok.error());
    return std::move(ok.error());
  }
  t.refused.erase(r.name);
  t.held.insert_or_assign(r.name, std::move(h));
  t.s.applied++;
  return std::nullopt;
}

void Client::response(uint64_t stream, const Response& r, Usec now) {
  if (stream != stream_ || state_ != State::kOpen) return;
  answered_ = true;
  const auto type = type_of(r.type_url);
  if (!type || !of(*type).opened) {  // an ACK would be the type's first request, which subscribes
    unsolicited_++;
    return;
  }
  OfType& t = of(*type);
  backoff_ = 0;
  // A refused resource that went away between two streams is in neither answer: the server was not told of it. What is still bad comes
  // again.
  if (!std::exchange(t.answered, true)) t.refused.clear();
  t.s.responses++;
  t.s.last_response = now;
  t.s.version = r.version;

  std::unordered_map<std::string_view, int> count;  // E-doc: a name twice in one response is refused
  for (const Resource& x : r.resources) count[x.name]++;
  std::set<std::string_view> removed_names(r.removed.begin(), r.removed.end());
  std::vector<std::pair<std::string, std::string>> bad;
  for (const Resource& x : r.resources) {
    int& n = count[x.name];
    if (n == -1) continue;  // named already
    if (n > 1 || removed_names.contains(x.name)) {
      bad.emplace_back(x.name,
                       n > 1 ? "comes " + std::to_string(n) + " times in one response" : "is both sent and removed in one response");
      if (is_wildcard(*type) || t.wanted.contains(x.name)) t.refused.insert_or_assign(x.name, bad.back().second);
      n = -1;
    } else if (auto why = apply_one(*type, x)) {
      bad.emplace_back(x.name, std::move(*why));
    }
  }
  for (const auto& name : removed_names) {
    if (count.contains(name)) continue;
    const std::string key(name);
    t.refused.erase(key);
    if (t.held.erase(key) == 0) continue;
    sink_.remove(*type, key);
    t.s.removed++;
  }

  Request ack{.type_url = r.type_url, .response_nonce = r.nonce};
  if (!bad.empty()) ack.error = nack_text(r.resources.size(), bad, options_.error_bytes_max);
  (bad.empty() ? t.s.acks : t.s.nacks)++;
  out_.push_back(std::move(ack));
  if (*type == Type::kCluster) listeners_wait_ = false;
}

TypeStatus Client::status(Type type) const {
  const OfType& t = of(type);
  TypeStatus s = t.s;
  s.wanted = t.wanted.size();
  s.held = t.held.size();
  for (const auto& name : t.wanted)
    if (!t.held.contains(name)) s.missing.push_back(name);
  s.refused = t.refused;
  return s;
}

}  // namespace sluice::xds
