// Fuzz target: any text through YAML, schema, rules and references; what is found good is translated for two Nodes and turned into
// protobuf, which must never fail: a translation that is no valid message would be our error.
#include <cstdlib>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/resource.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::plane;
  if (size > 64 << 10) return 0;
  Loaded l = load_text({reinterpret_cast<const char*>(data), size}, "fuzz.yaml");
  check_patches(l);
  for (const Issue& i : l.issues)
    if (i.message.empty() || render(i).empty()) std::abort();
  if (has_errors(l.issues)) return 0;
  for (const auto& [ns, kind] : {std::pair("shop", "ingressgateway"), {"shop", "eastwestgateway"}, {"istio-system", "ingressgateway"}}) {
    const NodeInfo node{.id = "router~10.0.0.1~a.shop~shop.svc",
                        .ns = ns,
                        .cluster_id = "Kubernetes",
                        .locality = "eu/eu-1/a",
                        .labels = {{"istio", kind}, {"gateway.networking.k8s.io/gateway-name", "gateway"}}};
    for (const ObjectStatus& s : gateway_api_status(l.world, std::span(&node, 1))) {
      const Loaded again = load_text(s.yaml(), "status.yaml");  // what is written can be read
      for (const Issue& i : again.issues)
        if (i.message.find("without spec") == std::string::npos && i.message.find("has no effect") == std::string::npos) {
          std::fprintf(stderr, "%s%s", s.yaml().c_str(), render(i).c_str());
          std::abort();
        }
    }
    const auto r = to_resources(translate(l.world, node, {}));
    if (!r) {
      std::fprintf(stderr, "%s\n", r.error().c_str());
      std::abort();
    }
  }
  return 0;
}
