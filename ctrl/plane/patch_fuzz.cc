// Fuzz target: any list of patches, in an EnvoyFilter of a world with HTTP, TLS and passthrough. It is refused at its place or it patches;
// what comes of it are messages whatever the patches were.
#include <cstdlib>

#include "ctrl/plane/resource.h"

namespace {
constexpr const char* kWorld = R"(apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1, labels: {v: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec:
  host: a.example
  subsets: [{name: v1, labels: {v: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example]
  gateways: [edge]
  http:
  - {name: one, match: [{uri: {prefix: /x}}], redirect: {uri: /y}}
  - route: [{destination: {host: a.example, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: EnvoyFilter
metadata: {name: f, namespace: shop}
spec:
  configPatches: )";
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::plane;
  if (size > 16 << 10) return 0;
  Loaded l = load_text(kWorld + std::string(reinterpret_cast<const char*>(data), size) + "\n", "fuzz.yaml");
  if (!has_errors(l.issues)) check_patches(l);
  for (const Issue& i : l.issues)
    if (i.message.empty() || i.line == 0) std::abort();
  if (has_errors(l.issues)) return 0;
  const NodeInfo node{
      .id = "router~10.0.0.1~a.shop~shop.svc", .ns = "shop", .cluster_id = "Kubernetes", .labels = {{"istio", "ingressgateway"}}};
  const auto r = to_resources(translate(l.world, node, {}));
  if (!r) {
    std::fprintf(stderr, "%s\n", r.error().c_str());
    std::abort();
  }
  for (int t = 0; t < kTypes; t++)
    for (const auto& [name, x] : r->of[t])
      if (to_json(kTypeNames[t], x.value).size() < 3) std::abort();
  return 0;
}
