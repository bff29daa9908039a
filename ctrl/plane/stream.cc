#include "ctrl/plane/stream.h"

#include <algorithm>

namespace sluice::plane {

bool DeltaStream::take(const StreamRequest& r) {
  const std::string_view url = r.type_url;
  if (!url.starts_with(kTypePrefix)) return true;
  const auto* known = std::ranges::find(kTypeNames, url.substr(kTypePrefix.size()));
  if (known == std::end(kTypeNames)) return true;
  Type& t = types_[known - std::begin(kTypeNames)];
  if (!r.nonce.empty()) {
    pending_.erase(r.nonce);
    if (!r.error.empty()) nack_ = Nack{std::string(*known), r.nonce, r.error}, nacks_++;
    else if (nack_ && nack_->type == *known) nack_.reset();
  }
  if (!t.asked) {
    t.asked = true;
    // The first request of a type without names, or with "*", asks for all of it.
    t.wildcard = r.subscribe.empty();
    t.sent = r.initial_versions;
  }
  // The protocol has subscriptions taken even from a request whose nonce is stale.
  for (const std::string& n : r.subscribe) {
    if (n == "*") t.wildcard = true;
    else t.names.insert(n), t.fresh.insert(n);
  }
  for (const std::string& n : r.unsubscribe) {
    if (n == "*") t.wildcard = false;
    t.names.erase(n);
    t.fresh.erase(n);
    if (!t.wildcard) t.sent.erase(n);
  }
  return t.names.size() <= kNamesPerStreamMax && t.sent.size() <= kNamesPerStreamMax;
}

std::vector<StreamAnswer> DeltaStream::answers(const Resources& current) {
  std::vector<StreamAnswer> out;
  for (int type = 0; type < 4; type++) {
    Type& t = types_[type];
    if (!t.asked) continue;
    const auto& all = current.of[type];
    StreamAnswer a{.type = type};
    const auto consider = [&](const std::string& name, const Resource& r) {
      const auto had = t.sent.find(name);
      if (had != t.sent.end() && had->second == r.version && !t.fresh.contains(name)) return;
      a.resources.emplace_back(name, &r);
      t.sent[name] = r.version;
    };
    if (t.wildcard) {
      for (const auto& [name, r] : all) consider(name, r);
    } else {
      for (const std::string& name : t.names)
        if (const auto it = all.find(name); it != all.end()) consider(name, it->second);
    }
    for (auto it = t.sent.begin(); it != t.sent.end();) {
      const bool wanted = t.wildcard || t.names.contains(it->first);
      if (wanted && all.contains(it->first)) {
        ++it;
        continue;
      }
      if (wanted) a.removed.push_back(it->first), t.fresh.erase(it->first);
      it = t.sent.erase(it);
    }
    // A name that does not exist is answered too, or its asker would wait for ever.
    for (const std::string& n : t.fresh)
      if (!all.contains(n)) a.removed.push_back(n);
    t.fresh.clear();
    // An empty world is said once to who asks for all of it.
    if (a.resources.empty() && a.removed.empty() && (t.answered || !t.wildcard)) continue;
    t.answered = true;
    a.nonce = std::to_string(++nonce_);
    pending_.insert(a.nonce);
    out.push_back(std::move(a));
  }
  return out;
}

}  // namespace sluice::plane
