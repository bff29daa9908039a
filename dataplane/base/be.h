// Be<T>: an integer as it lies on the wire (network byte order). Reading and writing convert; nothing else in the tree swaps or casts.
// Trivially copyable and alignment 1, so wire headers are plain structs of Be members laid over bytes.
#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace sluice {

template <class T>
class Be {
  static_assert(std::is_unsigned_v<T>);

 public:
  Be() = default;
  constexpr Be(T host) { set(host); }
  constexpr operator T() const {
    T v = 0;
    for (unsigned i = 0; i < sizeof(T); i++) v = T(v << (sizeof(T) > 1 ? 8 : 0)) | raw_[i];
    return v;
  }
  constexpr Be& operator=(T host) {
    set(host);
    return *this;
  }
  friend constexpr bool operator==(const Be&, const Be&) = default;
  friend constexpr bool operator==(const Be& a, std::unsigned_integral auto b) { return T(a) == b; }

 private:
  constexpr void set(T host) {
    for (unsigned i = 0; i < sizeof(T); i++) raw_[i] = uint8_t(host >> (8 * (sizeof(T) - 1 - i)));
  }
  uint8_t raw_[sizeof(T)];
};

static_assert(sizeof(Be<uint16_t>) == 2 && alignof(Be<uint32_t>) == 1 && std::is_trivially_copyable_v<Be<uint64_t>>);

}  // namespace sluice
