#include "ctrl/plane/stream.h"

#include <algorithm>

namespace sluice::plane {
namespace {

enum { kCluster, kEndpoint, kListener, kRoute };

bool deferred(int type) { return type == kCluster || type == kEndpoint; }

}  // namespace

bool AdsStream::acknowledged(const Resources& current) const {
  return std::ranges::all_of(types_, [&](const Subscription& s) { return !s.asked() || (s.base() == &current && s.settled()); });
}

size_t AdsStream::unacknowledged() const {
  size_t n = 0;
  for (const Subscription& s : types_) n += s.pending();
  return n;
}

uint64_t AdsStream::nacks() const {
  uint64_t n = 0;
  for (const Subscription& s : types_) n += s.nacks();
  return n;
}

bool AdsStream::within_limits() const {
  size_t n = 0;
  for (const Subscription& s : types_) n += s.names();
  return n <= kNamesPerStreamMax;
}

StreamAnswer& AdsStream::answer(std::vector<StreamAnswer>& out, int type, const Resources& current, std::vector<Item> items,
                                std::vector<std::string> removed) {
  StreamAnswer a{.type = type, .nonce = std::to_string(++nonce_), .version = current.version[type]};
  types_[size_t(type)].sent(a.nonce, a.version, items);
  a.all = items.size() == current.of[type].size();
  a.resources = std::move(items), a.removed = std::move(removed);
  out.push_back(std::move(a));
  return out.back();
}

bool DeltaStream::take(const StreamRequest& r) {
  const int type = type_of_url(r.type_url);
  if (type < 0) return true;
  if (r.subscribe.size() + r.unsubscribe.size() + r.initial_versions.size() > kNamesPerStreamMax) return false;
  Subscription& t = types_[size_t(type)];
  if (!r.nonce.empty()) {
    if (r.error.empty()) t.acknowledged(r.nonce);
    else t.refused(r.nonce, r.error, type);
  }
  const bool star = std::ranges::find(r.subscribe, "*") != r.subscribe.end();
  if (!t.asked()) {
    t.open(r.initial_versions);
    // The first request of a type without names, or with "*", asks for all of it.
    if (star || r.subscribe.empty()) t.set_wildcard(true, type);
  } else if (star) {
    t.set_wildcard(true, type);
  }
  // The protocol has subscriptions taken even from a request whose nonce is stale.
  if (!r.subscribe.empty()) t.add(r.subscribe);
  if (std::ranges::find(r.unsubscribe, "*") != r.unsubscribe.end()) t.set_wildcard(false, type);
  if (!r.unsubscribe.empty()) t.drop(r.unsubscribe);
  return within_limits();
}

std::vector<StreamAnswer> DeltaStream::answers(const Current& current) {
  std::vector<StreamAnswer> out;
  std::array<std::vector<std::string>, kTypes> later;  // removals
  std::array<Due, kTypes> due;
  for (int type = 0; type < kTypes; type++) {
    Subscription& t = types_[size_t(type)];
    if (!t.asked()) continue;
    due[size_t(type)] = t.due(current, type);
    if (type == kCluster && (!due[kCluster].first || due[kCluster].resumed))
      for (const Item& i : due[kCluster].changed) types_[kEndpoint].again(i.name);
  }
  const bool parents = !due[kListener].nothing() || !due[kRoute].nothing();
  for (int type = 0; type < kTypes; type++) {
    if (!types_[size_t(type)].asked()) continue;
    Due& d = due[size_t(type)];
    if (deferred(type) && parents) later[size_t(type)] = std::exchange(d.gone, {});
    // A name that does not exist is answered too, or its asker would wait for ever; an empty world is said once to who asks for all of it.
    if (d.nothing() && !(d.first && types_[size_t(type)].wildcard())) continue;
    d.gone.insert(d.gone.end(), d.missing.begin(), d.missing.end());
    if (d.changed.empty() && d.gone.empty() && !later[size_t(type)].empty()) continue;
    answer(out, type, *current.resources, std::move(d.changed), std::move(d.gone));
  }
  for (const int type : {kCluster, kEndpoint})
    if (!later[size_t(type)].empty()) answer(out, type, *current.resources, {}, std::move(later[size_t(type)]));
  return out;
}

bool SotwStream::take(const StreamRequest& r) {
  const int type = type_of_url(r.type_url);
  if (type < 0) return true;
  if (r.subscribe.size() > kNamesPerStreamMax) return false;
  Subscription& t = types_[size_t(type)];
  if (!r.nonce.empty() && t.asked()) {
    const bool newest = r.nonce == t.sent_nonce();
    if (r.error.empty()) t.acknowledged(r.nonce);
    else t.refused(r.nonce, r.error, type);
    if (!newest) {
      // Stale: a newer answer is on its way, and this is not answered. INTERPRETATION(missing): a refusal is noted, and names that the
      // client has given up are given up, or it would not get them back when it asks again with its next ACK.
      t.narrow(r.subscribe);
      return true;
    }
    t.forget_older();
  }
  const bool full = type == kCluster || type == kListener;
  if (!t.asked()) t.open();
  had_names_[size_t(type)] = had_names_[size_t(type)] || !r.subscribe.empty();
  const bool wild = full && (std::ranges::find(r.subscribe, "*") != r.subscribe.end() || !had_names_[size_t(type)]);
  if (wild != t.wildcard()) t.set_wildcard(wild, type);
  t.replace(r.subscribe);
  return within_limits();
}

std::vector<StreamAnswer> SotwStream::answers(const Current& current) {
  std::vector<StreamAnswer> out;
  std::array<Due, kTypes> due;
  had_ = std::exchange(before_, current.resources);
  for (int type = 0; type < kTypes; type++) {
    Subscription& t = types_[size_t(type)];
    if (!t.asked()) continue;
    due[size_t(type)] = t.due(current, type);
    if (type == kCluster && (!due[kCluster].first || due[kCluster].resumed))
      for (const Item& i : due[kCluster].changed) types_[kEndpoint].again(i.name);
  }
  const auto speak = [&](int type) {
    Subscription& t = types_[size_t(type)];
    Due& d = due[size_t(type)];
    const bool full = type == kCluster || type == kListener;
    const bool nobody = !t.wildcard() && t.names() == 0;
    if (full) {
      if (d.nothing() && !d.first) return;
      if (nobody && d.first) return;
      answer(out, type, *current.resources, t.whole(*current.resources, type), {});
    } else if (!nobody && (d.first || !d.changed.empty() || !d.missing.empty())) {
      answer(out, type, *current.resources, std::move(d.changed), {});
    }
  };
  // A cluster that is gone may still be named by the routes that the client has: those first.
  const bool parents = !due[kListener].nothing() || !due[kRoute].nothing();
  const bool cluster_last = parents && !due[kCluster].gone.empty();
  if (cluster_last && !due[kCluster].changed.empty() && had_ != nullptr) {
    // What is new is needed before, what is gone until after: both in one.
    std::vector<Item> both = types_[kCluster].whole(*current.resources, kCluster);
    for (const std::string& n : due[kCluster].gone)
      if (const auto it = had_->of[kCluster].find(n); it != had_->of[kCluster].end()) both.push_back({it->first, &it->second});
    std::ranges::sort(both, {}, &Item::name);
    answer(out, kCluster, *current.resources, std::move(both), {}).all = false;
    out.back().version += "+";
  } else if (!cluster_last) {
    speak(kCluster);
  }
  for (const int type : {kEndpoint, kListener, kRoute}) speak(type);
  if (cluster_last) speak(kCluster);
  return out;
}

}  // namespace sluice::plane
