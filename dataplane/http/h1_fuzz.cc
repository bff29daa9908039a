// Fuzz target: requests and responses beside llhttp (h1_differential.h). The first byte says which: bit 0 response, bit 1 answer to HEAD,
// the rest the size of the pieces our parser gets (0: all at once).
#include <cstdio>

#include "dataplane/base/check.h"
#include "dataplane/http/h1_differential.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const sluice::http::Differential how{.response = (data[0] & 1) != 0, .answer_to_head = (data[0] & 2) != 0, .step = size_t(data[0] >> 2)};
  const auto compared = sluice::http::compare({reinterpret_cast<const char*>(data + 1), size - 1}, how);
  if (!compared.disagreement.empty()) std::fprintf(stderr, "%s\n", compared.disagreement.c_str());
  SLUICE_ASSERT(compared.disagreement.empty());
  return 0;
}
