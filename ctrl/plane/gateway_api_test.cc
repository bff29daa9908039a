// Istio's own Gateway API triples (golden/istio-gateway-api: objects in, Istio objects out, status): all of it must be equal, names and
// order included. Then what the triples do not show: refusals at their places, what is derived for a node, conflicts, acknowledgement,
// files.
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "ctrl/plane/gateway_api_files.h"
#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/resource.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

fs::path golden() {
  const char* g = std::getenv("SLUICE_GOLDEN");
  for (const fs::path& p : {fs::path(g != nullptr ? g : ""), fs::path(SLUICE_SOURCE_ROOT) / "../../shared/golden",
                            fs::path(SLUICE_SOURCE_ROOT) / "../shared/golden"})
    if (fs::exists(p / "istio-gateway-api/http.yaml")) return p / "istio-gateway-api";
  return {};
}
std::string slurp(const fs::path& p) {
  std::ifstream in(p);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

// A self-signed certificate and its key, indented for a YAML block.
struct Pair {
  std::string certificate, key;
};
std::string text_of(BIO* b, const char* margin) {
  char* data = nullptr;
  const long n = BIO_get_mem_data(b, &data);
  std::istringstream lines(std::string(data, size_t(n)));
  std::string out;
  for (std::string line; std::getline(lines, line);) out += margin + line + "\n";
  BIO_free(b);
  return out;
}
const Pair& pair() {
  static const Pair made = [] {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* c = X509_new();
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), 1);
    X509_gmtime_adj(X509_getm_notBefore(c), 0);
    X509_gmtime_adj(X509_getm_notAfter(c), 3600);
    X509_set_pubkey(c, key);
    X509_sign(c, key, EVP_sha256());
    BIO *cert = BIO_new(BIO_s_mem()), *priv = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(cert, c);
    PEM_write_bio_PrivateKey(priv, key, nullptr, nullptr, 0, nullptr, nullptr);
    X509_free(c);
    EVP_PKEY_free(key);
    return Pair{text_of(cert, "    "), text_of(priv, "    ")};
  }();
  return made;
}

std::string object(const char* kind, const std::string& name, const std::string& ns, const std::string& rest) {
  return "---\napiVersion: v1\nkind: " + std::string(kind) + "\nmetadata: {name: " + name + (ns.empty() ? "" : ", namespace: " + ns) +
         "}\n" + rest;
}
std::string secret(const std::string& name, const std::string& ns, bool root = false) {
  return object("Secret", name, ns,
                "type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n" + pair().certificate + "  tls.key: |\n" + pair().key +
                    (root ? "  ca.crt: |\n" + pair().certificate : ""));
}
std::string map(const std::string& name, const std::string& ns, const std::string& data) {
  return object("ConfigMap", name, ns, "data:\n" + data);
}
std::string service(const std::string& name, const std::string& ns, const std::string& more = "") {
  return object(
      "Service", name, ns,
      "spec:\n  selector: {app: " + name +
          "}\n  ports:\n  - {name: http, port: 80, targetPort: 8080}\n  - {name: tcp, port: 34000}\n  - {name: tcp-other, port: 34001}\n" +
          more);
}

// What stands around the triples: golden/README.md, "What stands around the Gateway API triples".
std::string surroundings(const std::string& input) {
  std::string s;
  for (const char* name :
       {"httpbin", "httpbin-second", "httpbin-wildcard", "foo-svc", "httpbin-other", "example", "echo", "httpbin-zero", "httpbin-mirror",
        "httpbin-foo", "httpbin-alt", "httpbin-bad", "echo-1", "echo-2", "echo-port", "not-found", "svc4"})
    s += service(name, "default");
  for (const auto& [name, ns] : {std::pair("httpbin-apple", "apple"),
                                 {"httpbin-banana", "banana"},
                                 {"httpbin", "cert"},
                                 {"my-svc", "service"},
                                 {"a-example", "allowed-1"},
                                 {"svc1", "allowed-1"},
                                 {"svc2", "allowed-1"},
                                 {"b-example", "allowed-1"},
                                 {"a-example", "allowed-2"},
                                 {"svc2", "allowed-2"},
                                 {"svc3", "allowed-2"},
                                 {"httpbin", "group-namespace1"},
                                 {"httpbin", "group-namespace2"},
                                 {"httpbin", "istio-system"},
                                 {"istiod", "istio-system"},
                                 {"echo", "istio-system"}})
    s += service(name, ns);
  s +=
      service("istio-ingressgateway", "istio-system", "  - {name: https, port: 443}\nstatus: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}\n");
  for (const auto& [host, ns] : {std::pair("example.com", "istio-system"), {"google.com", "default"}})
    s += std::string("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ") + (host[0] == 'e' ? "e" : "g") +
         ", namespace: " + ns + "}\nspec:\n  hosts: [" + host +
         "]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}, {number: 34000, name: tcp, protocol: TCP}, {number: "
         "34001, name: tcp-other, protocol: TCP}]\n";
  s += secret("my-cert-http", "istio-system", true) + secret("my-cert-http2", "istio-system") + secret("cert", "cert");
  for (const char* n : {"2", "3", "4"}) s += secret("ns" + std::string(n) + "-cert", "ns" + std::string(n));
  s += object("Secret", "malformed", "istio-system", "stringData: {tls.crt: SGVsbG8gd29ybGQK, tls.key: SGVsbG8gd29ybGQK}\n");
  s += map("my-cert-http", "istio-system", "  ca.crt: |\n" + pair().certificate) +
       map("auth-cert", "default", "  ca.crt: |\n" + pair().certificate);
  s += map("malformed-trustbundle", "istio-system", "  ca.crt: hello\n") + map("malformed", "istio-system", "  not-ca.crt: x\n") +
       map("malformed", "default", "  not-ca.crt: x\n");
  // Istio's harness makes the namespaces of the input, each with the part before its first dash as a label.
  for (const char* ns : {"default", "istio-system", "group-namespace1", "group-namespace2", "allowed-1", "allowed-2", "cert"})
    if (input.find("namespace: " + std::string(ns) + "\n") != std::string::npos)
      s += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + std::string(ns) +
           ", labels: {istio.io/test-name-part: " + std::string(ns).substr(0, std::string(ns).find('-')) + "}}\n";
  // And it gives two of the four InferencePools a Service of the usual ports.
  if (input.find("InferencePool") != std::string::npos)
    s += service("infpool-model1-ip-aaaaf2d6", "default") + service("infpool-model2-ip-f857bff9", "default");
  return s;
}

Loaded load(const std::string& input) {
  Loaded l = load_text(input + surroundings(input), "in.yaml");
  l.world.mesh.domain = "domain.suffix";
  // ServiceEntries of resolution DNS stand in one triple; whether the translation can serve them is not asked here.
  std::erase_if(l.issues,
                [](const Issue& i) { return i.severity == Severity::kWarning || i.message.find("resolution DNS") != std::string::npos; });
  return l;
}

// The only normalisation: keys of mappings in alphabetic order; of a status the time and the empty spec left out.
std::string canonical(const Node& n, const std::string& margin = "") {
  std::string out;
  if (n.kind == Node::Kind::kScalar) return n.text + "\n";
  if (n.items.empty()) return n.kind == Node::Kind::kSequence ? "[]\n" : n.null() ? "null\n" : "{}\n";
  out = "\n";
  if (n.kind == Node::Kind::kSequence) {
    for (const Node& i : n.items) out += margin + "- " + canonical(i, margin + "  ");
    return out;
  }
  std::map<std::string, const Node*> sorted;
  for (size_t i = 0; i < n.keys.size(); i++) sorted[n.keys[i].text] = &n.items[i];
  for (const auto& [k, v] : sorted)
    if (k != "lastTransitionTime" && !(k == "spec" && v->null())) out += margin + k + ": " + canonical(*v, margin + "  ");
  return out;
}

using Objects = std::map<std::string, std::string>;  // kind ns/name -> canonical text
Objects read(const fs::path& file) {
  Objects out;
  static std::vector<std::unique_ptr<Source>> sources;
  sources.push_back(std::make_unique<Source>(Source{file.string(), slurp(file)}));
  std::vector<Issue> issues;
  for (const Node& d : load_yaml(*sources.back(), issues))
    out[d["kind"].text + " " + d["metadata"]["namespace"].text + "/" + d["metadata"]["name"].text] = canonical(d);
  EXPECT_TRUE(issues.empty()) << render(issues);
  return out;
}

std::string difference(const Objects& want, const Objects& got) {
  std::string out;
  for (const auto& [k, v] : want) {
    const auto it = got.find(k);
    if (it == got.end()) out += "missing: " + k + "\n";
    else if (it->second != v) out += "differs: " + k + "\nwant:" + v + "got:" + it->second;
  }
  for (const auto& [k, v] : got)
    if (!want.contains(k)) out += "not wanted: " + k + v;
  return out;
}

Objects istio_objects(const World& w) {
  Objects out;
  for (const Config& c : translate_gateway_api(w).configs) {
    Node d = map_node();
    for (const char* k : {"apiVersion", "kind", "metadata", "spec"}) put(d, k, c.document[k]);
    EXPECT_TRUE(out.emplace(c.kind + " " + c.ns + "/" + c.name, canonical(d)).second) << c.kind << " " << c.name;
  }
  return out;
}

// The gateway that Istio's harness takes for there: the workload of istio-ingressgateway, which has acknowledged.
const NodeInfo kIngress{
    .id = "router~10.0.0.1~a.istio-system~istio-system.svc", .ns = "istio-system", .labels = {{"app", "istio-ingressgateway"}}};

Objects statuses(const World& w) {
  Objects out;
  for (const ObjectStatus& s : gateway_api_status(w, std::array{kIngress})) {
    static std::vector<std::unique_ptr<Source>> sources;  // through the text that is written
    sources.push_back(std::make_unique<Source>(Source{s.file_name(), s.yaml()}));
    std::vector<Issue> issues;
    const auto docs = load_yaml(*sources.back(), issues);
    EXPECT_TRUE(issues.empty() && docs.size() == 1) << render(issues) << s.yaml();
    if (!docs.empty()) out[s.kind + " " + s.ns + "/" + s.name] = canonical(docs[0]);
  }
  return out;
}

TEST(GatewayApi, IstiosTriplesAreEqual) {
  const fs::path dir = golden();
  if (dir.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  int all = 0, routes = 0, status = 0;
  size_t objects = 0;
  for (const auto& e : fs::directory_iterator(dir)) {
    const std::string file = e.path().filename().string();
    if (!file.ends_with(".yaml")) continue;
    const std::string name = file.substr(0, file.size() - 5);
    const Loaded l = load(slurp(e.path()));
    EXPECT_TRUE(l.issues.empty()) << name << "\n" << render(l.issues);
    const Objects want = read(dir / (file + ".golden")), want_status = read(dir / (name + ".status.yaml.golden"));
    objects += want.size() + want_status.size();
    const std::string a = difference(want, istio_objects(l.world)), b = difference(want_status, statuses(l.world));
    EXPECT_EQ(a, "") << name << ": Istio objects";
    EXPECT_EQ(b, "") << name << ": status";
    all++, routes += a.empty(), status += b.empty();
  }
  std::printf("of %d triples (%zu objects and statuses): Istio objects of %d equal, status of %d equal\n", all, objects, routes, status);
  EXPECT_EQ(all, 14);
}

// ---- beside the triples ----

const std::string kService =
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: in, namespace: edge}\nspec:\n  selector: {app: in}\n  ports: [{name: http, port: "
    "80, targetPort: 8080}, {name: https, port: 443}]\n";
const std::string kGateway =
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: edge}\nspec:\n  gatewayClassName: "
    "istio\n  addresses: [{type: Hostname, value: in}]\n  listeners:\n"
    "  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}\n";
std::string route(const std::string& rules) {
  return "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec:\n  parentRefs: "
         "[{name: g, namespace: edge}]\n  rules:\n" +
         rules;
}
const std::string kWeb =
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, ports: [{name: http, port: "
    "80, targetPort: 8000}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, namespace: shop}\nspec: {address: 10.0.0.7, labels: "
    "{app: web}}\n";
const NodeInfo kEdge{.id = "router~10.0.0.1~a.edge~edge.svc", .ns = "edge", .labels = {{"app", "in"}}};

Answer answer(const std::string& yaml, const NodeInfo& node = kEdge) {
  const Loaded l = load_text(yaml, "f.yaml");
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  Answer a = translate(l.world, node, {});
  const auto r = to_resources(a);
  EXPECT_TRUE(r) << r.error();
  return a;
}
bool holds(const Json& j, const std::string& text) { return j.text.find(text) != std::string::npos; }

TEST(GatewayApi, IsServedByTheWorkloadsOfItsServiceOnTheirPorts) {
  const std::string yaml =
      kService + kGateway + kWeb + route("  - matches: [{path: {value: /a/}}]\n    backendRefs: [{name: web, port: 80}]\n");
  const Answer a = answer(yaml);
  ASSERT_TRUE(a.listeners.contains("0.0.0.0_8080"));
  ASSERT_TRUE(a.routes.contains("http.8080"));
  const Json& r = a.routes.at("http.8080");
  EXPECT_TRUE(holds(r, "\"pathSeparatedPrefix\":\"/a\"")) << r.text;
  EXPECT_TRUE(holds(r, "\"cluster\":\"outbound|80||web.shop.svc.cluster.local\""));
  EXPECT_TRUE(holds(r, "\"clusterNotFoundResponseCode\":\"INTERNAL_SERVER_ERROR\""));
  ASSERT_TRUE(a.endpoints.contains("outbound|80||web.shop.svc.cluster.local"));
  EXPECT_TRUE(holds(a.endpoints.at("outbound|80||web.shop.svc.cluster.local"), "\"address\":\"10.0.0.7\",\"portValue\":8000"));
  NodeInfo other = kEdge;
  other.labels = {{"app", "other"}};
  EXPECT_TRUE(answer(yaml, other).listeners.empty());
  other = kEdge;
  other.ns = "shop";
  EXPECT_TRUE(answer(yaml, other).listeners.empty());
}

TEST(GatewayApi, WithoutAnAddressIsServedByTheGatewayOfItsName) {
  std::string yaml = kGateway;
  yaml.erase(yaml.find("  addresses"), yaml.find("  listeners") - yaml.find("  addresses"));
  const NodeInfo node{.ns = "edge", .labels = {{"gateway.networking.k8s.io/gateway-name", "g"}}};
  EXPECT_TRUE(answer(yaml, node).listeners.contains("0.0.0.0_80"));
  EXPECT_TRUE(answer(yaml).listeners.empty());
  const Loaded l = load_text(yaml, "f.yaml");
  const auto said = [&](std::span<const NodeInfo> nodes) { return gateway_api_status(l.world, nodes)[0].yaml(); };
  EXPECT_NE(said({}).find("AddressNotUsable"), std::string::npos) << said({});
  EXPECT_NE(said(std::span(&node, 1)).find("acknowledged by 1 gateway"), std::string::npos) << said(std::span(&node, 1));
}

TEST(GatewayApi, ABackendThatIsNotAllowedOrNotThereIsA500AndAWarningAtItsPlace) {
  const std::string yaml = kService + kGateway +
                           route(
                               "  - backendRefs: [{name: web, namespace: other, port: 80}]\n  - matches: [{path: {value: /b}}]\n    "
                               "backendRefs: [{name: nowhere, port: 80}]\n");
  const Loaded l = load_text(yaml, "f.yaml");
  ASSERT_EQ(l.issues.size(), 2u) << render(l.issues);
  EXPECT_NE(l.issues[0].message.find("missing a ReferenceGrant?"), std::string::npos);
  EXPECT_EQ(l.issues[1].message, "backend(nowhere.shop.svc.cluster.local) not found");
  EXPECT_EQ(l.issues[1].source_line.substr(l.issues[1].column - 1, 7), "nowhere");
  EXPECT_TRUE(holds(answer(yaml).routes.at("http.8080"), "\"cluster\":\"UnknownService\""));
}

TEST(GatewayApi, ALateOrNarrowerRuleDoesNotHideAnother) {
  const Answer a =
      answer(kService + kGateway + kWeb +
             route("  - backendRefs: [{name: web, port: 80}]\n  - matches: [{path: {type: Exact, value: /x}}]\n    filters: [{type: "
                   "RequestRedirect, requestRedirect: {hostname: h.example}}]\n"
                   "  - matches: [{path: {value: /rm}}]\n    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, "
                   "replacePrefixMatch: /}}}]\n    backendRefs: [{name: web, port: 80}]\n"
                   "  - matches: [{path: {value: /no}}]\n    backendRefs: [{name: web, port: 80}]\n    retry: {attempts: 0}\n"));
  const std::string& r = a.routes.at("http.8080").text;
  const size_t x = r.find("\"path\":\"/x\""), rm = r.find("\"pathSeparatedPrefix\":\"/rm\""), all = r.find("\"prefix\":\"/\"");
  ASSERT_NE(x, std::string::npos);
  EXPECT_TRUE(x < rm && rm < all && all != std::string::npos) << r;
  EXPECT_NE(r.find("\"responseCode\":\"FOUND\""), std::string::npos) << "302 is the API's default";
  EXPECT_NE(r.find("(/?)(.*)"), std::string::npos);
  const size_t no = r.find("\"pathSeparatedPrefix\":\"/no\"");
  EXPECT_EQ(r.substr(no, r.find("clusterNotFoundResponseCode", no) - no).find("retryPolicy"), std::string::npos);
}

TEST(GatewayApi, CertificatesAreNamedForTheGatewaysSecrets) {
  const std::string secret_yaml = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: edge}\nstringData:\n  tls.crt: |\n" +
                                  pair().certificate + "  tls.key: |\n" + pair().key;
  std::string g = kGateway;
  g.replace(g.find("  listeners:\n"), 13,
            "  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}}}}\n  listeners:\n  "
            "- {name: s, port: 443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: [{name: c}]}}\n");
  const std::string ca =
      "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: edge}\ndata:\n  ca.crt: |\n" + pair().certificate;
  const Json l = answer(kService + g + secret_yaml + ca).listeners.at("0.0.0.0_443");
  EXPECT_TRUE(holds(l, "{\"name\":\"kubernetes-gateway://edge/c\",\"sdsConfig\":{\"ads\":{}")) << l.text;
  EXPECT_TRUE(holds(l, "\"configmap://edge/ca-cacert\""));
  EXPECT_TRUE(holds(l, "\"requireClientCertificate\":true"));
  EXPECT_FALSE(answer(kService + g + secret_yaml).listeners.contains("0.0.0.0_443")) << "without its root the listener stays shut";
}

TEST(GatewayApi, ABackendTlsPolicyIsNotLostBehindADestinationRule) {
  const std::string policy =
      "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  targetRefs: "
      "[{group: \"\", kind: Service, name: web}]\n"
      "  validation: {hostname: web.example, wellKnownCACertificates: System}\n---\napiVersion: networking.istio.io/v1\nkind: "
      "DestinationRule\nmetadata: {name: a, namespace: shop}\nspec:\n"
      "  host: web\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n";
  const Json c = answer(kService + kGateway + kWeb + policy + route("  - backendRefs: [{name: web, port: 80}]\n"))
                     .clusters.at("outbound|80||web.shop.svc.cluster.local");
  EXPECT_TRUE(holds(c, "\"sni\":\"web.example\"")) << c.text;
  EXPECT_TRUE(holds(c, "\"file-root:system\""));
  EXPECT_TRUE(holds(c, "\"matchSubjectAltNames\":[{\"exact\":\"web.example\"}]"));
  EXPECT_TRUE(holds(c, "RANDOM"));
}

TEST(GatewayApi, TheEarlierOfTwoListenersKeepsThePort) {
  const std::string yaml = kService + kGateway +
                           "  - {name: same, port: 80, protocol: HTTP}\n  - {name: tcp, port: 80, protocol: TCP}\n  - {name: fine, port: "
                           "80, protocol: HTTP, hostname: a.example}\n";
  const Loaded l = load_text(yaml, "f.yaml");
  EXPECT_EQ(l.issues.size(), 2u) << render(l.issues);
  const Node status = gateway_api_status(l.world, std::array{kEdge})[0].status;
  const auto said = [&](size_t i) { return status["listeners"].items[i]["conditions"].items[1]["reason"].text; };
  EXPECT_EQ(said(0), "NoConflicts");
  EXPECT_EQ(said(1), "HostnameConflict");
  EXPECT_EQ(said(2), "ProtocolConflict");
  EXPECT_EQ(said(3), "NoConflicts");
}

TEST(GatewayApi, WhatTheApiRefusesIsRefusedAtItsPlace) {
  const struct {
    std::string yaml, place, message;
  } kCases[] = {
      {kGateway + "  - {name: x, port: 81, protocol: HTTP, hostnam: a.example}\n", "f.yaml:10:41",
       "unknown field spec.listeners[1].hostnam; did you mean 'hostname'?"},
      {kGateway + "  - {name: http, port: 81, protocol: HTTP}\n", "f.yaml:10:12", "listener http is there twice"},
      {kGateway + "  - {name: s, port: 443, protocol: HTTPS}\n", "f.yaml:10:6", "a listener of protocol HTTPS needs tls"},
      {kGateway + "  - {name: s, port: 443, protocol: HTTP, tls: {}}\n", "", "a listener of protocol HTTP cannot have tls"},
      {kGateway + "  - {name: s, port: 82, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}\n", "",
       "from: Selector needs a selector"},
      {kGateway + "  - {name: s, port: 82, protocol: HTTP, hostname: UPPER.example}\n", "", "'UPPER.example' is no host name"},
      {route("  - macthes: []\n"), "f.yaml:8:5", "unknown field spec.rules[0].macthes; did you mean 'matches'?"},
      {route("  - matches: [{path: {value: a}}]\n"), "f.yaml:8:30", "a path begins with /"},
      {route("  - matches: [{path: {type: RegularExpression, value: '('}}]\n"), "", "is no RE2 expression"},
      {route("  - matches: [{path: {type: Prefix, value: /}}]\n"), "f.yaml:8:29", "unknown value 'Prefix'"},
      {route("  - filters: [{type: URLRewrite}]\n"), "", "urlRewrite is missing"},
      {route("  - filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]\n"), "",
       "one of the filters"},
      {route("  - backendRefs: [{name: web}]\n"), "", "needs a port"},
      {route("  - timeouts: {request: 1s, backendRequest: 2s}\n"), "", "backendRequest is longer than request"},
      {route("  - sessionPersistence: {}\n"), "f.yaml:8:5", "does not translate it yet"},
      {"apiVersion: gateway.networking.k8s.io/v1\nkind: UDPRoute\nmetadata: {name: u}\n", "f.yaml:2:7", "UDPRoute is not translated"},
      {"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRout\nmetadata: {name: u}\n", "f.yaml:2:7", "did you mean 'HTTPRoute'?"},
      {"apiVersion: gateway.networking.k8s.io/v7\nkind: HTTPRoute\nmetadata: {name: u}\nspec: {}\n", "f.yaml:1:13", "unknown apiVersion"},
      {"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: ../u}\nspec: {}\n", "f.yaml:3:18",
       "is no name of an object"},
      {"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: [a]\n", "", "a mapping is expected"},
  };
  for (const auto& c : kCases) {
    const Loaded l = load_text(c.yaml, "f.yaml");
    const auto i = std::ranges::find_if(
        l.issues, [&](const Issue& x) { return x.severity == Severity::kError && x.message.find(c.message) != std::string::npos; });
    ASSERT_NE(i, l.issues.end()) << c.yaml << render(l.issues);
    if (!c.place.empty()) {
      EXPECT_EQ(i->place(), c.place) << render(*i);
    }
    EXPECT_NE(i->source_line, "");
  }
}

TEST(GatewayApi, AVersionThatIstioDoesNotReadIsSaidAndHasNoEffect) {
  std::string yaml = kService + kGateway;
  yaml.replace(yaml.find("k8s.io/v1\n"), 9, "k8s.io/v1beta1");
  const Loaded l = load_text(yaml, "f.yaml");
  ASSERT_EQ(l.issues.size(), 1u) << render(l.issues);
  EXPECT_EQ(l.issues[0].severity, Severity::kWarning);
  EXPECT_EQ(l.issues[0].remedy, "write gateway.networking.k8s.io/v1");
  EXPECT_TRUE(answer(yaml).listeners.empty());
}

TEST(GatewayApi, StatusFilesFollowAcknowledgementAndObjects) {
  char name[] = "/tmp/sluice-status-XXXXXX";
  const fs::path dir = ::mkdtemp(name);
  EXPECT_FALSE(StatusFiles::usable((dir / "status").string(), dir.string())) << "it would be read as configuration";
  StatusFiles files(dir.string());
  const auto world = [](const std::string& yaml) { return std::make_shared<const World>(load_text(yaml, "f.yaml").world); };
  const auto text = [&](const char* file) { return slurp(dir / file); };
  const auto both = world(kService + kGateway + route("  - {}\n"));
  EXPECT_EQ(files.update(both, {}), "");
  EXPECT_NE(text("Gateway.edge.g.yaml").find("Waiting for a gateway to acknowledge"), std::string::npos) << text("Gateway.edge.g.yaml");
  EXPECT_NE(text("HTTPRoute.shop.r.yaml").find("Route was valid"), std::string::npos);
  EXPECT_NE(text("HTTPRoute.shop.r.yaml").find("lastTransitionTime"), std::string::npos);
  EXPECT_EQ(files.update(both, std::array{kEdge}), "");
  EXPECT_EQ(text("Gateway.edge.g.yaml").find("Pending"), std::string::npos);
  EXPECT_NE(text("Gateway.edge.g.yaml").find("Resource programmed, assigned to service(s) in.edge.svc.cluster.local:80"),
            std::string::npos);
  EXPECT_EQ(files.update(world(kService + kGateway), {}), "");
  EXPECT_FALSE(fs::exists(dir / "HTTPRoute.shop.r.yaml"));
  size_t n = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator(dir)) n++;
  EXPECT_EQ(n, 1u) << "nothing is left aside";
  fs::remove_all(dir);
}

// ---- after Istio's rules ----

std::string convert(const std::string& yaml) {
  const Loaded l = load_text(yaml, "f.yaml");
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  std::string out;
  for (const Config& c : translate_gateway_api(l.world).configs) out += "---\n" + object_yaml(c);
  return out;
}
Node status_of(const std::string& yaml, const std::string& kind, const std::string& name, std::span<const NodeInfo> nodes = {}) {
  const Loaded l = load_text(yaml, "f.yaml");
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  for (ObjectStatus& s : gateway_api_status(l.world, nodes))
    if (s.kind == kind && s.name == name) return s.status;
  ADD_FAILURE() << "no status of " << kind << " " << name;
  return {};
}
// "Accepted True Accepted, ..." of conditions.
std::string said(const Node& conditions) {
  std::string out;
  for (const Node& c : conditions.items) out += c["type"].text + " " + c["status"].text + " " + c["reason"].text + "; ";
  return out;
}
size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) n++;
  return n;
}
std::string grpc(const std::string& rules) {
  std::string s = route(rules);
  s.replace(s.find("HTTPRoute"), 9, "GRPCRoute");
  s.replace(s.find("name: r,"), 8, "name: gr,");
  return s;
}
std::string tls_route(const std::string& hosts, const std::string& parent, const std::string& backends = "[{name: web, port: 80}]") {
  return "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TLSRoute\nmetadata: {name: t, namespace: shop}\nspec:\n  parentRefs: "
         "[" +
         parent + "]\n" + (hosts.empty() ? "" : "  hostnames: " + hosts + "\n") + "  rules: [{backendRefs: " + backends + "}]\n";
}

TEST(GatewayApi, HttpAndGrpcRoutesOfOneHostAreOneListInOneOrder) {
  const std::string yaml = kService + kGateway + kWeb +
                           route("  - matches: [{path: {value: /a.B}}]\n    backendRefs: [{name: web, port: 80}]\n") +
                           grpc("  - matches: [{method: {service: a.B, method: C}}]\n    backendRefs: [{name: web, port: 80}]\n");
  EXPECT_EQ(count(convert(yaml), "kind: VirtualService"), 1u);
  const Json r = answer(yaml).routes.at("http.8080");
  EXPECT_LT(r.text.find("\"path\":\"/a.B/C\""), r.text.find("\"pathSeparatedPrefix\":\"/a.B\"")) << r.text;
}

TEST(GatewayApi, ATlsRouteIsNarrowedToTheListenersHostname) {
  const std::string listener =
      "  - {name: p, port: 443, protocol: TLS, hostname: '*.shop.example', tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: "
      "All}}}\n";
  const std::string yaml =
      kService + kGateway + listener + kWeb + tls_route("['*.example', x.other]", "{name: g, namespace: edge, sectionName: p}");
  const Json l = answer(yaml).listeners.at("0.0.0.0_443");
  EXPECT_TRUE(holds(l, "\"serverNames\":[\"*.shop.example\"]")) << l.text;
  EXPECT_FALSE(holds(l, "other")) << l.text;
}

TEST(GatewayApi, ATlsRouteOfTheMeshIsEachHostsOwn) {
  const std::string entry =
      "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\nspec:\n  hosts: [a.example, "
      "b.example]\n  resolution: STATIC\n  ports: [{number: 443, name: tls, protocol: TLS}]\n";
  const std::string parent = "{group: networking.istio.io, kind: ServiceEntry, name: e, port: 443}";
  std::string out = convert(entry + kWeb + tls_route("", parent));
  EXPECT_EQ(count(out, "    - sniHosts:\n      - a.example\n      port: 443\n"), 1u) << out;
  EXPECT_EQ(count(out, "    - sniHosts:\n      - b.example\n      port: 443\n"), 1u) << out;
  // One that closes the connection has no match, and gets none from the port.
  out = convert(entry + kWeb + tls_route("", parent, "[{name: web, port: 80, weight: 0}]"));
  EXPECT_EQ(count(out, "zero-weight"), 2u) << out;
  EXPECT_EQ(count(out, "port: 443"), 0u) << out;
}

TEST(GatewayApi, ARouteThatCannotBeMadeLeavesAServiceWithoutRoutes) {
  const std::string out =
      convert(kService + kGateway + "  - {name: t, port: 90, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}\n" +
              "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: t, namespace: shop}\nspec:\n  "
              "parentRefs: [{name: g, namespace: edge, sectionName: t}]\n  rules: [{backendRefs: [{name: a.b, port: 80}]}]\n");
  EXPECT_EQ(count(out, "kind: VirtualService"), 1u) << out;
  EXPECT_EQ(count(out, "tcp:"), 0u) << out;
}

TEST(GatewayApi, AHeaderValueThatNoMessageCanCarryIsAnInvalidFilter) {
  const std::string yaml =
      kService + kGateway + kWeb +
      route(
          "  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: \"a\\nb\"}]}}]\n    "
          "backendRefs: [{name: web, port: 80}]\n");
  EXPECT_EQ(said(status_of(yaml, "HTTPRoute", "r")["parents"].items[0]["conditions"]),
            "Accepted True Accepted; ResolvedRefs False InvalidFilter; ");
  EXPECT_EQ(count(convert(yaml), "VirtualService"), 0u);
}

TEST(GatewayApi, WhatIsZeroOrEmptyIsNotSaid) {
  const std::string out = convert(
      kService + kGateway + kWeb +
      route("  - filters: [{type: RequestMirror, requestMirror: {percent: 0, backendRef: {name: web, port: 80}}}, {type: CORS, cors: "
            "{allowOrigins: ['http://localhost:*', 'https://*.example']}}]\n    backendRefs: [{name: web, port: 80}]\n"
            "  - matches: [{path: {value: /r}}]\n    filters: [{type: RequestRedirect, requestRedirect: {hostname: h.example}}]\n"));
  EXPECT_EQ(count(out, "percentage: {}"), 1u) << out;
  EXPECT_EQ(count(out, "- prefix: \"http://localhost:\""), 1u) << out;
  EXPECT_EQ(count(out, "redirectCode"), 0u) << out;
}

TEST(GatewayApi, TheApisDefaultsAndPortsHoldForWhatIsServed) {
  const std::string r =
      answer(kService + kGateway + kWeb +
             route("  - matches: [{path: {value: /full}}]\n    filters: [{type: RequestRedirect, requestRedirect: {path: {type: "
                   "ReplaceFullPath, replaceFullPath: /x}}}]\n"
                   "  - matches: [{path: {value: /foo}}]\n    filters: [{type: RequestRedirect, requestRedirect: {path: {type: "
                   "ReplacePrefixMatch, replacePrefixMatch: /bar/}}}]\n"
                   "  - matches: [{path: {value: /gone}}]\n    filters: [{type: RequestRedirect, requestRedirect: {path: {type: "
                   "ReplacePrefixMatch, replacePrefixMatch: /}}}]\n"
                   "  - matches: [{path: {value: /}}]\n    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, "
                   "replacePrefixMatch: /under}}}]\n    backendRefs: [{name: web, port: 80}]\n"))
          .routes.at("http.8080")
          .text;
  EXPECT_EQ(count(r, "\"responseCode\":\"FOUND\""), 3u) << r;
  EXPECT_EQ(count(r, "portRedirect"), 0u) << "80 is what clients name; 8080 is the node's own\n" << r;
  EXPECT_EQ(count(r, "\"name\":\"*:80\""), 1u) << r;
  EXPECT_EQ(count(r, "\"prefixRewrite\":\"/bar\""), 1u) << r;
  EXPECT_EQ(count(r, R"x("regexRewrite":{"pattern":{"regex":"^\\/gone(/?)(.*)"},"substitution":"/\\2"})x"), 1u) << r;
  EXPECT_EQ(count(r, "\"prefixRewrite\":\"/under/\""), 1u) << r;
  EXPECT_EQ(count(r, "PREFIX()"), 0u) << r;
}

TEST(GatewayApi, OneGoodCertificateOfTwoIsEnoughAndTheOtherIsWarnedOf) {
  const std::string good = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: edge}\nstringData:\n  tls.crt: |\n" +
                           pair().certificate + "  tls.key: |\n" + pair().key;
  const std::string yaml =
      kService + kGateway + "  - {name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}, {name: none}]}}\n" + good;
  EXPECT_EQ(said(status_of(yaml, "Gateway", "g", std::array{kEdge})["listeners"].items[1]["conditions"]),
            "Accepted True Accepted; Conflicted False NoConflicts; Programmed True Programmed; ResolvedRefs True ResolvedRefs; ");
  const Loaded l = load_text(yaml, "f.yaml");
  ASSERT_EQ(l.issues.size(), 1u) << render(l.issues);
  EXPECT_NE(l.issues[0].message.find("secret edge/none not found"), std::string::npos);
}

TEST(GatewayApi, ARemoteGatewayIsAcceptedAndNotServed) {
  std::string yaml = kService + kGateway;
  yaml.replace(yaml.find("gatewayClassName: istio"), 23, "gatewayClassName: istio-remote");
  const Node s = status_of(yaml, "Gateway", "g");
  EXPECT_EQ(said(s["conditions"]), "Accepted True Accepted; Programmed True Programmed; ");
  EXPECT_EQ(s["addresses"].items[0]["value"].text, "in");
  EXPECT_TRUE(answer(yaml).listeners.empty());
}

TEST(GatewayApi, AnAddressThatIsPendingIsNotReportedAndTheClustersAreOnDemand) {
  std::string yaml = kService + kGateway;
  yaml.replace(yaml.find("  selector: {app: in}"), 21, "  selector: {app: in}\n  type: LoadBalancer\n  clusterIP: 10.9.9.9");
  Node s = status_of(yaml, "Gateway", "g", std::array{kEdge});
  EXPECT_TRUE(s["addresses"].null());
  EXPECT_EQ(said(s["conditions"]), "Accepted True Accepted; Programmed False AddressNotAssigned; ");
  yaml.replace(yaml.find("  type: LoadBalancer\n"), 21, "");
  yaml.replace(yaml.find("{name: g, namespace: edge}"), 26,
               "{name: g, namespace: edge, annotations: {networking.istio.io/address-type: IPAddress}}");
  s = status_of(yaml, "Gateway", "g", std::array{kEdge});
  ASSERT_EQ(s["addresses"].items.size(), 1u);
  EXPECT_EQ(s["addresses"].items[0]["value"].text, "10.9.9.9");
}

TEST(GatewayApi, TheOlderOfTwoBackendTlsPoliciesHasTheTarget) {
  const auto policy = [](const char* name, const char* created, const char* host) {
    return std::string("---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: ") + name +
           ", namespace: shop, creationTimestamp: '" + created +
           "'}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: web}]\n  validation: {hostname: " + host +
           ", wellKnownCACertificates: System}\n";
  };
  const std::string yaml =
      kWeb + policy("a", "2026-02-01T00:00:00Z", "late.example") + policy("b", "2026-01-01T00:00:00Z", "early.example");
  EXPECT_EQ(said(status_of(yaml, "BackendTLSPolicy", "a")["ancestors"].items[0]["conditions"]),
            "Accepted False Conflicted; ResolvedRefs True ResolvedRefs; ");
  EXPECT_EQ(said(status_of(yaml, "BackendTLSPolicy", "b")["ancestors"].items[0]["conditions"]),
            "Accepted True Accepted; ResolvedRefs True ResolvedRefs; ");
  const std::string out = convert(yaml);
  EXPECT_EQ(count(out, "sni: early.example"), 1u) << out;
  EXPECT_EQ(count(out, "late.example"), 0u) << out;
}

TEST(GatewayApi, OfTwoGatewaysTheOlderKeepsATlsHost) {
  const std::string secret_yaml = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: edge}\nstringData:\n  tls.crt: |\n" +
                                  pair().certificate + "  tls.key: |\n" + pair().key;
  const auto gateway = [](const char* name, const char* created) {
    return std::string("---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: ") + name +
           ", namespace: edge, creationTimestamp: '" + created +
           "'}\nspec:\n  gatewayClassName: istio\n  addresses: [{type: Hostname, value: in}]\n  listeners:\n  - {name: s, port: 443, "
           "protocol: "
           "HTTPS, hostname: a.example, tls: {certificateRefs: [{name: c}]}}\n";
  };
  const Answer a = answer(kService + secret_yaml + gateway("a", "2026-02-01T00:00:00Z") + gateway("b", "2026-01-01T00:00:00Z"));
  EXPECT_TRUE(a.routes.contains("https.443.default.b~istio-autogenerated-k8s-gateway~s.edge"));
  EXPECT_EQ(a.routes.size(), 1u);
}

TEST(GatewayApi, StatusIsALineAnObjectListenerAndParentForPeople) {
  const Loaded l = load_text(kService + kGateway + route("  - backendRefs: [{name: none, port: 80}]\n"), "f.yaml");
  EXPECT_EQ(
      gateway_api_text(gateway_api_status(l.world, {})),
      "Gateway edge/g: Accepted, not Programmed (Pending: Waiting for a gateway to acknowledge this version)\n"
      "  listener http: 1 route, Accepted, not Programmed (Pending: Waiting for a gateway to acknowledge this version), ResolvedRefs\n"
      "HTTPRoute shop/r\n"
      "  Gateway edge/g: Accepted, not ResolvedRefs (BackendNotFound: backend(none.shop.svc.cluster.local) not found)\n");
  const std::string json = gateway_api_json(gateway_api_status(l.world, {}));
  EXPECT_NE(json.find(R"("attachedRoutes":1)"), std::string::npos) << json;
  EXPECT_EQ(gateway_api_text({}), "");
}

TEST(GatewayApi, StatusFilesAreTakenOverAfterARestart) {
  char name[] = "/tmp/sluice-status-XXXXXX";
  const fs::path dir = ::mkdtemp(name);
  const auto world = [](const std::string& yaml) { return std::make_shared<const World>(load_text(yaml, "f.yaml").world); };
  const auto both = world(kService + kGateway + route("  - {}\n"));
  EXPECT_EQ(StatusFiles(dir.string()).update(both, {}), "");
  std::string text = slurp(dir / "Gateway.edge.g.yaml");
  const std::string now = text.substr(text.find("lastTransitionTime: ") + 21, 20);
  for (size_t at; (at = text.find(now)) != std::string::npos;) text.replace(at, 20, "2001-02-03T04:05:06Z");
  std::ofstream(dir / "Gateway.edge.g.yaml") << text;
  std::ofstream(dir / "mine.yaml") << "x";
  StatusFiles files(dir.string());
  EXPECT_EQ(files.update(world(kService + kGateway), std::array{kEdge}), "");
  EXPECT_FALSE(fs::exists(dir / "HTTPRoute.shop.r.yaml")) << "its object is gone";
  EXPECT_TRUE(fs::exists(dir / "mine.yaml"));
  text = slurp(dir / "Gateway.edge.g.yaml");
  EXPECT_EQ(count(text, "2001-02-03T04:05:06Z"), 4u) << "Accepted twice, Conflicted, ResolvedRefs; Programmed is new\n" << text;
  fs::remove_all(dir);
}

}  // namespace
}  // namespace sluice::plane
