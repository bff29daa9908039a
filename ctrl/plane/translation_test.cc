// Translation against to_resources(translate()) of the same world: byte for byte, after every edit of random sequences.
#include "ctrl/plane/translation.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "ctrl/plane/directory.h"
#include "dataplane/base/rng.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;

std::string difference_of(const Resources& got, const Resources& want) {
  for (int t = 0; t < kTypes; t++) {
    for (const auto& [name, r] : want.of[t]) {
      const auto at = got.of[t].find(name);
      if (at == got.of[t].end()) return "missing: " + name;
      if (at->second.value.str() != r.value.str())
        return name + " is\n" + to_json(kTypeNames[t], at->second.value) + "\nand should be\n" + to_json(kTypeNames[t], r.value);
      if (at->second.version != r.version) return "version of " + name;
    }
    for (const auto& [name, r] : got.of[t])
      if (!want.of[t].contains(name)) return "too much: " + name;
    if (got.version[t] != want.version[t]) return "version of type " + std::to_string(t);
  }
  return {};
}

// A small world in which everything hangs together: few names, so that edits meet.
class Scribe {
 public:
  Scribe(Rng& rng, std::string dir) : rng_(rng), dir_(std::move(dir)) { fs::create_directories(dir_); }
  std::string mesh() const { return dir_ + ".mesh.yaml"; }  // beside it
  // Writes, changes or removes one file; its path.
  std::string edit() {
    if (edits_ == 0 || rng_.below(12) == 0) write_mesh();
    const uint32_t number = edits_++ == 0 ? 0 : rng_.below(12);  // the first: that with the gateway
    const std::string file = "f" + std::to_string(number) + ".yaml", path = dir_ + "/" + file;
    if (rng_.below(number == 0 ? 40 : 8) == 0 && fs::exists(path)) {
      fs::remove(path);
      return path;
    }
    std::string text = read(path);
    const uint32_t what = rng_.below(10);
    if (what < 3 && !text.empty()) {
      text = endpoints_of(text);
    } else if (what < 4 && !text.empty()) {
      text = "# a line\n" + text;  // everything moves, nothing changes
    } else {
      text.clear();
      for (uint32_t n = 1 + rng_.below(3); n > 0; n--) text += object(file.substr(0, file.size() - 5) + char('a' + n)) + "---\n";
    }
    std::ofstream(dir_ + "/.new") << text;
    fs::rename(dir_ + "/.new", path);
    return path;
  }

 private:
  // Fields that reach clusters, endpoints, listeners, routes and who sees what.
  void write_mesh() {
    std::string text = "trustDomain: " + pick({"cluster.local", "cluster.local", "other.local"}) + "\n";
    if (rng_.below(3) == 0) text += "connectTimeout: " + number(9) + "s\n";
    if (rng_.below(4) == 0) text += "enableAutoMtls: false\n";
    if (rng_.below(4) == 0) text += "defaultHttpRetryPolicy: {attempts: " + number(4) + "}\n";
    if (rng_.below(4) == 0) text += "defaultServiceExportTo: ['" + pick({".", "*"}) + "']\n";
    if (rng_.below(4) == 0) text += "defaultVirtualServiceExportTo: ['" + pick({".", "*"}) + "']\n";
    if (rng_.below(4) == 0) text += "defaultDestinationRuleExportTo: ['" + pick({".", "*"}) + "']\n";
    if (rng_.below(4) == 0) text += "defaultConfig: {proxyHeaders: {attemptCount: {disabled: " + pick({"true", "false"}) + "}}}\n";
    if (rng_.below(4) == 0) text += "accessLogFile: /dev/stdout\n";
    std::ofstream(mesh()) << text;
  }
  static std::string read(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string pick(std::initializer_list<const char*> of) { return of.begin()[rng_.below(uint32_t(of.size()))]; }
  std::string number(uint32_t below) { return std::to_string(rng_.below(below)); }
  std::string host() { return pick({"a.example", "b.example", "c.example", "web", "*.wild.example"}); }
  std::string ns() { return pick({"shop", "shop", "istio-system", "other"}); }
  std::string address() { return "10.0." + number(3) + "." + number(250); }
  std::string endpoints_of(std::string text) {
    for (size_t at = 0; (at = text.find("address: 10.", at)) != std::string::npos; at += 9)
      if (rng_.below(2) == 0) text.replace(at, text.find_first_of(",}", at) - at, "address: " + address());
    return text;
  }
  std::string head(const char* group, const char* kind, const std::string& name) {
    std::string out = std::string("apiVersion: ") + group + "/v1\nkind: " + kind + "\nmetadata: {name: " + name +
                      ", namespace: " + (name == "edge" || name == "inner" ? "shop" : ns());
    if (rng_.below(4) == 0) out += ", creationTimestamp: '2026-01-0" + std::to_string(1 + rng_.below(3)) + "T00:00:00Z'";
    return out + "}\nspec:\n";
  }
  // Each of the names that VirtualServices bind to has its document, or there would be two of it.
  static std::string gateway(const std::string& name) { return name == "f0b" ? "edge" : name == "f1b" ? "inner" : name; }
  std::string object(const std::string& name) {
    const std::string net = "networking.istio.io", security = "security.istio.io";
    switch (name == "f0b" || name == "f1b" ? 0 : 2 + rng_.below(12)) {
      case 0: {
        std::string out =
            head(net.c_str(), "Gateway", gateway(name)) + "  selector: {istio: " + pick({"gw", "gw", "gw", "none"}) + "}\n  servers:\n";
        const std::string port = pick({"80", "81"});
        out += "  - {port: {number: " + port + ", name: http, protocol: HTTP}, hosts: ['" + pick({"*", "./*", "*.example", "a.example"}) +
               "']" + (rng_.below(5) == 0 ? ", tls: {httpsRedirect: true}" : "") + "}\n";
        if (rng_.below(2) == 0)
          out += "  - {port: {number: 443, name: tls, protocol: " + pick({"TLS", "HTTPS"}) +
                 "}, hosts: ['*.example'], tls: {mode: " + pick({"AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "PASSTHROUGH"}) + "}}\n";
        return out;
      }
      case 2:
      case 3:
      case 4: {
        std::string out = head(net.c_str(), "VirtualService", name) + "  hosts: ['" + host() + "'" +
                          (rng_.below(3) == 0 ? ", 'more.example'" : "") + "]\n  gateways: [" +
                          pick({"edge", "shop/edge", "shop/edge", "shop/inner"}) + "]\n  http:\n";
        for (uint32_t n = rng_.below(3); n > 0; n--)
          out += "  - match: [{uri: {prefix: /" + number(4) + "}}]\n    " +
                 pick({"redirect: {uri: /x}", "directResponse: {status: 404}",
                       "fault: {abort: {percentage: {value: 5}, httpStatus: 503}}\n    route: [{destination: {host: a.example}}]"}) +
                 "\n";
        out += "  - route: [{destination: {host: '" + pick({"a.example", "b.example", "c.example", "web", "gone.example"}) + "'" +
               (rng_.below(4) == 0 ? ", subset: v1" : "") + (rng_.below(4) == 0 ? ", port: {number: 8080}" : "") + "}}]\n";
        if (rng_.below(3) == 0 && out.find("more.example") != std::string::npos)
          out += "  tls:\n  - match: [{port: 443, sniHosts: [more.example]}]\n    route: [{destination: {host: " +
                 pick({"a.example", "b.example"}) + "}}]\n";
        return out;
      }
      case 5:
        return head(net.c_str(), "VirtualService", name) + "  hosts: ['" + host() +
               "']\n  gateways: [shop/edge]\n  http:\n  - {match: [{uri: {prefix: /d}}], delegate: {name: " + pick({"f1b", "f2b", "f3c"}) +
               ", namespace: shop}}\n";
      case 6:
      case 7:
      case 8: {
        std::string out = head(net.c_str(), "ServiceEntry", name) + "  hosts: ['" +
                          pick({"a.example", "b.example", "c.example", "web.shop.svc.cluster.local"}) +
                          "']\n  location: " + pick({"MESH_INTERNAL", "MESH_EXTERNAL"}) +
                          "\n  resolution: " + pick({"STATIC", "STATIC", "DNS"}) + "\n  ports: [{number: " + pick({"80", "8080"}) +
                          ", name: http, protocol: " + pick({"HTTP", "HTTP2", "TCP"}) + "}]\n";
        if (rng_.below(4) == 0) return out + "  workloadSelector: {labels: {app: " + pick({"x", "y"}) + "}}\n";
        out += "  endpoints:\n";
        for (uint32_t n = 1 + rng_.below(2); n > 0; n--)
          out += "  - {address: " + address() + (rng_.below(3) == 0 ? ", serviceAccount: sa" : "") +
                 (rng_.below(3) == 0 ? ", labels: {v: v1}" : "") + (rng_.below(4) == 0 ? ", locality: eu/eu-1" : "") + "}\n";
        return out;
      }
      case 9:
        return head(net.c_str(), "WorkloadEntry", name) + "  address: " + address() + "\n  labels: {app: " + pick({"x", "y"}) +
               ", v: v1}\n" + (rng_.below(2) == 0 ? "  serviceAccount: sa\n" : "");
      case 10: {
        std::string out =
            head(net.c_str(), "DestinationRule", name) + "  host: '" + pick({"a.example", "b.example", "*.example", "web"}) + "'\n";
        if (rng_.below(2) == 0) out += "  subsets: [{name: v1, labels: {v: v1}}]\n";
        if (rng_.below(2) == 0)
          out += "  trafficPolicy: {" +
                 pick({"tls: {mode: ISTIO_MUTUAL}", "tls: {mode: DISABLE}", "loadBalancer: {simple: RANDOM}",
                       "loadBalancer: {consistentHash: {httpHeaderName: x}}", "outlierDetection: {consecutive5xxErrors: 3}"}) +
                 "}\n";
        else out += "  exportTo: ['" + pick({"*", "."}) + "']\n";
        return out;
      }
      case 11:
        return head(security.c_str(), "PeerAuthentication", name) + "  mtls: {mode: " + pick({"STRICT", "DISABLE", "PERMISSIVE"}) + "}\n";
      case 12:
        return head(security.c_str(), "AuthorizationPolicy", name) + "  action: " + pick({"ALLOW", "DENY"}) +
               "\n  rules: [{to: [{operation: {paths: [/" + number(3) + "]}}]}]\n";
      default:
        return head(net.c_str(), "EnvoyFilter", name) + "  configPatches:\n  - " +
               pick({"{applyTo: CLUSTER, match: {context: GATEWAY}, patch: {operation: MERGE, value: {connect_timeout: 7s}}}",
                     "{applyTo: CLUSTER, match: {context: GATEWAY, cluster: {service: a.example}}, patch: {operation: REMOVE}}",
                     "{applyTo: CLUSTER, patch: {operation: ADD, value: {name: added, connect_timeout: 3s}}}",
                     "{applyTo: HTTP_ROUTE, match: {context: GATEWAY, routeConfiguration: {vhost: {name: 'a.example:80'}}}, patch: "
                     "{operation: MERGE, value: {response_headers_to_remove: [x]}}}",
                     "{applyTo: VIRTUAL_HOST, match: {context: GATEWAY}, patch: {operation: ADD, value: {name: v, domains: [v.example]}}}",
                     "{applyTo: LISTENER, match: {context: GATEWAY}, patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: "
                     "99}}}"}) +
               "\n";
    }
  }
  Rng& rng_;
  const std::string dir_;
  int edits_ = 0;
};

TEST(Translation, IsThatOfAFreshStartAfterAnyEdits) {
  const char* given = std::getenv("SLUICE_EDIT_SEQUENCES");
  const char* first_given = std::getenv("SLUICE_EDIT_FIRST_SEED");
  const uint64_t sequences = given == nullptr ? 400 : std::strtoull(given, nullptr, 10),
                 first = first_given == nullptr ? 1 : std::strtoull(first_given, nullptr, 10);
  char name[] = "/tmp/sluice-translation-XXXXXX";
  const std::string root = ::mkdtemp(name);
  size_t compared = 0, served = 0, only_endpoints = 0, clusters = 0, hosts = 0;
  for (uint64_t seed = first; seed < first + sequences && !testing::Test::HasFailure(); seed++) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " (SLUICE_EDIT_FIRST_SEED)");
    Rng rng(seed);
    const std::string dir = root + "/" + std::to_string(seed);
    Scribe scribe(rng, dir);
    const NodeInfo node{.id = "router~10.0.0.1~gw.shop~shop.svc.cluster.local",
                        .ns = "shop",
                        .cluster_id = "Kubernetes",
                        .labels = {{"istio", "gw"}},
                        .addresses = {"10.0.0.1"}};
    Directory directory(dir, scribe.mesh());
    Translation translation(node, {});
    for (int edit = 0; edit < 25 && !testing::Test::HasFailure(); edit++) {
      Changes changes;
      for (uint32_t n = 1 + rng.below(edit == 0 ? 12 : 2); n > 0; n--) changes.files.insert(scribe.edit());
      changes.all = rng.below(4) == 0;
      const Loaded kept = directory.load(changes), fresh = load_directory(dir, scribe.mesh());
      ASSERT_EQ(has_errors(kept.issues), has_errors(fresh.issues)) << render(kept.issues) << render(fresh.issues);
      served += !has_errors(kept.issues);
      if (has_errors(kept.issues)) continue;  // not served; the next version is translated all the same
      only_endpoints += kept.endpoints_only;
      const auto got = translation.update(std::make_shared<const World>(kept.world));
      const auto want = to_resources(translate(fresh.world, node, {}));
      ASSERT_EQ(got.has_value(), want.has_value()) << (got ? want.error() : got.error());
      if (!got) continue;
      EXPECT_EQ(difference_of(**got, *want), "") << "edit " << edit << " in " << dir << (kept.endpoints_only ? ", of endpoints only" : "");
      compared++, clusters += want->of[0].size();
      for (const auto& [n, r] : want->of[3]) hosts += r.value.size();
    }
    fs::remove_all(dir);
  }
  fs::remove_all(root);
  std::cout << sequences << " sequences, first seed " << first << ": " << compared << " versions equal, " << only_endpoints
            << " of endpoints only; " << clusters << " clusters, " << hosts << " bytes of routes\n";
  EXPECT_GT(compared * 2, served);
  if (sequences >= 400) {
    EXPECT_GT(only_endpoints, 500u);
  }
}

}  // namespace
}  // namespace sluice::plane
