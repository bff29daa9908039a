// Fuzz target: any text through YAML, schema, rules and references; what is found good is translated for two Nodes and turned into
// protobuf, which must never fail: a translation that is no valid message would be our error.
#include <cstdlib>

#include "ctrl/plane/resource.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::plane;
  if (size > 64 << 10) return 0;
  Loaded l = load_text({reinterpret_cast<const char*>(data), size}, "fuzz.yaml");
  check_patches(l);
  for (const Issue& i : l.issues)
    if (i.message.empty() || render(i).empty()) std::abort();
  if (has_errors(l.issues)) return 0;
  for (const char* kind : {"ingressgateway", "eastwestgateway"}) {
    const NodeInfo node{.id = "router~10.0.0.1~a.shop~shop.svc",
                        .ns = "shop",
                        .cluster_id = "Kubernetes",
                        .locality = "eu/eu-1/a",
                        .labels = {{"istio", kind}}};
    const auto r = to_resources(translate(l.world, node, {}));
    if (!r) {
      std::fprintf(stderr, "%s\n", r.error().c_str());
      std::abort();
    }
  }
  return 0;
}
