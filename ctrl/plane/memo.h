// What was made of something, kept for the next version of the world: a value by its name, with the fingerprint of all that it was made of.
// A round asks for what it needs, and what it did not ask for is dropped at its end. Thread: one at a time.
#pragma once
#include <cstdint>
#include <string>
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
  Fingerprint& add(const Fingerprint& f) { return add(f.a_).add(f.b_); }
  uint64_t word() const { return a_ ^ b_; }
  bool operator==(const Fingerprint&) const = default;

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
  struct Slot {
    Value value{};
    Fingerprint of;  // of a new one: nobody's
    uint64_t round = 0;
  };
  // Whoever finds another fingerprint in it than that of today makes the value anew. It stays where it is until a round ends that did not
  // ask for it.
  Slot& slot(std::string_view name) {
    auto at = values_.find(name);
    if (at == values_.end()) at = values_.emplace(std::string(name), Slot{}).first;
    at->second.round = round_;
    return at->second;
  }
  // The same in one step. REQUIRES: a name is asked for with one fingerprint a round.
  Value& get(std::string_view name, const Fingerprint& of, auto&& make) {
    Slot& s = slot(name);
    if (s.of != of) s.value = make(), s.of = of;
    return s.value;
  }
  void touch(Slot& s) { s.round = round_; }  // as slot() does
  // Between rounds: what is there, or nullptr; not asked for by it.
  Slot* find(std::string_view name) {
    const auto at = values_.find(name);
    return at == values_.end() ? nullptr : &at->second;
  }
  // Drops what this round did not ask for: gone(value) first.
  void end_round(auto&& gone) {
    std::erase_if(values_, [&](const auto& v) {
      if (v.second.round == round_) return false;
      gone(v.second.value);
      return true;
    });
    round_++;
  }
  void end_round() {
    end_round([](const Value&) {});
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, Slot, Hash, std::equal_to<>> values_;
  uint64_t round_ = 1;
};

}  // namespace sluice::plane
