// Test only. Our parser beside llhttp (strict build, Debian's node-llhttp), message by message.
//
// The property: what we take, llhttp takes and sees the same (method, target, fields in order, body, and where the message ends); and where
// llhttp says a message has ended, we do not wait for more. We may refuse what llhttp takes. A disagreement is how requests are smuggled.
// INTERPRETATION(deviate): compared are single messages without an upgrade; what follows an upgrade is not HTTP for llhttp.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::http {

struct Differential {
  bool response = false;
  bool answer_to_head = false;  // response
  size_t step = 0;              // our parser gets pieces of so many bytes; 0: all at once
};

enum class Outcome : uint8_t { kBothTake, kWeRefuse, kBothRefuse, kUnfinished, kNotCompared };

// `disagreement` empty: the property holds.
struct Compared {
  Outcome outcome = Outcome::kNotCompared;
  std::string disagreement;
};
Compared compare(std::string_view message, const Differential& how);

}  // namespace sluice::http
