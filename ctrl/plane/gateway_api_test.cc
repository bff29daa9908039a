// Istio's own Gateway API triples (golden/istio-gateway-api: objects in, Istio objects out, status): all of it must be equal, names and order
// included. Then what the triples do not show: refusals at their places, what is derived for a node, conflicts, acknowledgement, files.
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "ctrl/plane/gateway_api_world.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

fs::path golden() {
  const char* g = std::getenv("SLUICE_GOLDEN");
  for (const fs::path& p : {fs::path(g != nullptr ? g : ""), fs::path(SLUICE_SOURCE_ROOT) / "../../shared/golden", fs::path(SLUICE_SOURCE_ROOT) / "../shared/golden"})
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
  return "---\napiVersion: v1\nkind: " + std::string(kind) + "\nmetadata: {name: " + name + (ns.empty() ? "" : ", namespace: " + ns) + "}\n" + rest;
}
std::string secret(const std::string& name, const std::string& ns, bool root = false) {
  return object("Secret", name, ns, "type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n" + pair().certificate + "  tls.key: |\n" + pair().key + (root ? "  ca.crt: |\n" + pair().certificate : ""));
}
std::string map(const std::string& name, const std::string& ns, const std::string& data) { return object("ConfigMap", name, ns, "data:\n" + data); }
std::string service(const std::string& name, const std::string& ns, const std::string& more = "") {
  return object("Service", name, ns, "spec:\n  selector: {app: " + name + "}\n  ports:\n  - {name: http, port: 80, targetPort: 8080}\n  - {name: tcp, port: 34000}\n  - {name: tcp-other, port: 34001}\n" + more);
}

// What stands around the triples: golden/README.md, "What stands around the Gateway API triples".
std::string surroundings(const std::string& input) {
  std::string s;
  for (const char* name : {"httpbin", "httpbin-second", "httpbin-wildcard", "foo-svc", "httpbin-other", "example", "echo", "httpbin-zero", "httpbin-mirror", "httpbin-foo", "httpbin-alt",
                           "httpbin-bad", "echo-1", "echo-2", "echo-port", "not-found", "svc4"})
    s += service(name, "default");
  for (const auto& [name, ns] : {std::pair("httpbin-apple", "apple"), {"httpbin-banana", "banana"}, {"httpbin", "cert"}, {"my-svc", "service"}, {"a-example", "allowed-1"}, {"svc1", "allowed-1"},
                                 {"svc2", "allowed-1"}, {"b-example", "allowed-1"}, {"a-example", "allowed-2"}, {"svc2", "allowed-2"}, {"svc3", "allowed-2"}, {"httpbin", "group-namespace1"},
                                 {"httpbin", "group-namespace2"}, {"httpbin", "istio-system"}, {"istiod", "istio-system"}, {"echo", "istio-system"}})
    s += service(name, ns);
  s += service("istio-ingressgateway", "istio-system", "  - {name: https, port: 443}\nstatus: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}\n");
  for (const auto& [host, ns] : {std::pair("example.com", "istio-system"), {"google.com", "default"}})
    s += std::string("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ") + (host[0] == 'e' ? "e" : "g") + ", namespace: " + ns + "}\nspec:\n  hosts: [" + host +
         "]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}, {number: 34000, name: tcp, protocol: TCP}, {number: 34001, name: tcp-other, protocol: TCP}]\n";
  s += secret("my-cert-http", "istio-system", true) + secret("my-cert-http2", "istio-system") + secret("cert", "cert");
  for (const char* n : {"2", "3", "4"}) s += secret("ns" + std::string(n) + "-cert", "ns" + std::string(n));
  s += object("Secret", "malformed", "istio-system", "stringData: {tls.crt: SGVsbG8gd29ybGQK, tls.key: SGVsbG8gd29ybGQK}\n");
  s += map("my-cert-http", "istio-system", "  ca.crt: |\n" + pair().certificate) + map("auth-cert", "default", "  ca.crt: |\n" + pair().certificate);
  s += map("malformed-trustbundle", "istio-system", "  ca.crt: hello\n") + map("malformed", "istio-system", "  not-ca.crt: x\n") + map("malformed", "default", "  not-ca.crt: x\n");
  // Istio's harness makes the namespaces of the input, each with the part before its first dash as a label.
  for (const char* ns : {"default", "istio-system", "group-namespace1", "group-namespace2", "allowed-1", "allowed-2", "cert"})
    if (input.find("namespace: " + std::string(ns) + "\n") != std::string::npos)
      s += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + std::string(ns) + ", labels: {istio.io/test-name-part: " + std::string(ns).substr(0, std::string(ns).find('-')) + "}}\n";
  // And it gives two of the four InferencePools a Service of the usual ports.
  if (input.find("InferencePool") != std::string::npos) s += service("infpool-model1-ip-aaaaf2d6", "default") + service("infpool-model2-ip-f857bff9", "default");
  return s;
}

Loaded load(const std::string& input) {
  Loaded l = load_text(input + surroundings(input), "in.yaml");
  l.world.mesh.domain = "domain.suffix";
  // ServiceEntries of resolution DNS stand in one triple; whether the translation can serve them is not asked here.
  std::erase_if(l.issues, [](const Issue& i) { return i.severity == Severity::kWarning || i.message.find("resolution DNS") != std::string::npos; });
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
const NodeInfo kIngress{.id = "router~10.0.0.1~a.istio-system~istio-system.svc", .ns = "istio-system", .labels = {{"app", "istio-ingressgateway"}}};

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

}  // namespace
}  // namespace sluice::plane
