// What was made of something, kept for the next version of the world: a value by the fingerprint of all that it was made of. A round asks
// for what it needs, and what no round asked for is dropped at the end of one. Thread: one at a time.
#pragma once
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace sluice::plane {

// 128 bits over a sequence of ids and texts. The ids are ours (world.h) and the texts are the operator's own: nobody gains by a collision.
class Fingerprint {
 public:
  Fingerprint& add(uint64_t v) {
    a_ = mix(a_ ^ v, 0x9e3779b97f4a7c15), b_ = mix(b_ + v, 0xc2b2ae3d27d4eb4f);
    return *this;
  }
  Fingerprint& add(std::string_view s) {
    add(s.size());
    for (size_t at = 0; at < s.size(); at += 8) {
      uint64_t word = 0;
      s.substr(at, 8).copy(reinterpret_cast<char*>(&word), 8);
      add(word);
    }
    return *this;
  }
  uint64_t word() const { return a_ ^ b_; }
  bool operator==(const Fingerprint&) const = default;
  struct Hash {
    size_t operator()(const Fingerprint& f) const { return f.a_; }
  };

 private:
  static uint64_t mix(uint64_t x, uint64_t by) {
    x = (x ^ (x >> 32)) * by;
    return x ^ (x >> 29);
  }
  uint64_t a_ = 0x243f6a8885a308d3, b_ = 0x13198a2e03707344;
};

template <class Value>
class Memo {
 public:
  // The value of `of`, made by make() if it is not there. Stays where it is as long as each round asks for it.
  Value& get(const Fingerprint& of, auto&& make) {
    if (Value* v = find(of)) return *v;
    return values_.emplace(of, Slot{make(), round_}).first->second.value;
  }
  Value* find(const Fingerprint& of) {
    const auto at = values_.find(of);
    if (at == values_.end()) return nullptr;
    at->second.round = round_;
    return &at->second.value;
  }
  void end_round() {
    std::erase_if(values_, [&](const auto& v) { return v.second.round != round_; });
    round_++;
  }

 private:
  struct Slot {
    Value value;
    uint64_t round;
  };
  std::unordered_map<Fingerprint, Slot, Fingerprint::Hash> values_;
  uint64_t round_ = 0;
};

}  // namespace sluice::plane
