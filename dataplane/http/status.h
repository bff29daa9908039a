// Reason phrases as Envoy prints them.
#pragma once
#include <cstdint>
#include <string_view>

namespace sluice::http {
std::string_view reason_of(uint16_t status);
}
