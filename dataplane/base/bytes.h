// Byte views and the one bounds-checked reader. No ownership here: who made the bytes frees them.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "dataplane/base/be.h"

namespace sluice {

using Bytes = std::span<const uint8_t>;
using MutBytes = std::span<uint8_t>;

inline Bytes as_bytes(std::string_view s) { return {reinterpret_cast<const uint8_t*>(s.data()), s.size()}; }
inline std::string_view as_text(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

// A wire header laid over the front of `b`, or nullptr when `b` is too short. T is a struct of Be<> and uint8_t members.
template <class T>
const T* view_as(Bytes b) {
  static_assert(alignof(T) == 1 && std::is_trivially_copyable_v<T>);
  return b.size() < sizeof(T) ? nullptr : reinterpret_cast<const T*>(b.data());
}
template <class T>
T* view_as_mut(MutBytes b) {
  static_assert(alignof(T) == 1 && std::is_trivially_copyable_v<T>);
  return b.size() < sizeof(T) ? nullptr : reinterpret_cast<T*>(b.data());
}

// Reads big-endian fields front to back. After the first read past the end every read gives 0 / empty and ok() is false,
// so a parser may read a whole structure and ask once.
class ByteReader {
 public:
  explicit ByteReader(Bytes b) : rest_(b) {}
  bool ok() const { return ok_; }
  size_t left() const { return rest_.size(); }
  Bytes rest() const { return rest_; }
  uint8_t u8() { return read<uint8_t>(); }
  uint16_t u16() { return read<uint16_t>(); }
  uint32_t u24() {
    Bytes b = take(3);
    return b.empty() ? 0 : uint32_t(b[0]) << 16 | uint32_t(b[1]) << 8 | b[2];
  }
  uint32_t u32() { return read<uint32_t>(); }
  Bytes take(size_t n) {
    if (n > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    Bytes b = rest_.first(n);
    rest_ = rest_.subspan(n);
    return b;
  }

 private:
  template <class T>
  T read() {
    Bytes b = take(sizeof(T));
    if (b.empty()) return 0;
    Be<T> v;
    std::memcpy(&v, b.data(), sizeof(T));
    return v;
  }
  Bytes rest_;
  bool ok_ = true;
};

}  // namespace sluice
