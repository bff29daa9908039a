// AuthorizationPolicy to RBAC: Istio's own pairs (golden/istio-authz), and what they do not show.
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ctrl/plane/view.h"
#include "envoy/config/listener/v3/listener_components.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"

namespace sluice::plane {
namespace {
namespace fs = std::filesystem;
namespace pb = google::protobuf;

fs::path pairs() {
  const char* g = std::getenv("SLUICE_GOLDEN");
  for (const fs::path& p : {g != nullptr ? fs::path(g) : fs::path(), fs::path(SLUICE_SOURCE_ROOT) / "../../shared/golden",
                            fs::path(SLUICE_SOURCE_ROOT) / "../shared/golden"})
    if (!p.empty() && fs::exists(p / "istio-authz")) return p / "istio-authz";
  return {};
}
std::string slurp(const fs::path& p) {
  std::ifstream in(p);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

template <class Filter>
void expect_same(const Array& got, const std::vector<fs::path>& want, const std::string& name) {
  pb::ListValue list;
  ASSERT_TRUE(pb::util::JsonStringToMessage(Json(got).text, &list).ok()) << Json(got).text;
  ASSERT_EQ(size_t(list.values_size()), want.size()) << name << ": " << Json(got).text;
  for (size_t i = 0; i < want.size(); i++) {
    const Source source{want[i].string(), slurp(want[i])};
    std::vector<Issue> issues;
    Filter expected, actual;
    std::string text;
    ASSERT_TRUE(pb::util::JsonStringToMessage(json_of(load_yaml(source, issues).at(0)).text, &expected).ok()) << want[i];
    ASSERT_TRUE(pb::util::MessageToJsonString(list.values(int(i)), &text).ok());
    const auto status = pb::util::JsonStringToMessage(text, &actual);
    ASSERT_TRUE(status.ok()) << status.message();
    pb::util::MessageDifferencer differ;
    std::string why;
    differ.ReportDifferencesToString(&why);
    EXPECT_TRUE(differ.Compare(expected, actual)) << name << "\n" << why.substr(0, 2000);
  }
}

struct Views {
  Loaded loaded;
  NodeInfo node;
  View view;
  explicit Views(const std::string& yaml, const std::string& mesh = {})
      : loaded(load_text(yaml, "in.yaml", mesh)),
        node{.id = "router~1.2.3.4~a.foo~foo.svc.cluster.local", .ns = "foo", .labels = {{"app", "httpbin"}, {"version", "v1"}}},
        view(view_of(loaded.world, node)) {
    view.options.deny_by_default = false;
    EXPECT_FALSE(has_errors(loaded.issues)) << render(loaded.issues);
  }
};

TEST(Authz, IstiosOwnPairsAreTranslatedAlike) {
  const fs::path root = pairs();
  if (root.empty()) GTEST_SKIP() << "the golden data is not there: set SLUICE_GOLDEN";
  int n = 0;
  for (const bool tcp : {false, true})
    for (const auto& e : fs::directory_iterator(root / (tcp ? "tcp" : "http"))) {
      const std::string file = e.path().filename().string();
      if (!file.ends_with("-in.yaml")) continue;
      const std::string stem = file.substr(0, file.size() - 8);
      std::vector<fs::path> want;
      for (const char* tail : {"-out.yaml", "-out1.yaml", "-out2.yaml"})
        if (fs::exists(e.path().parent_path() / (stem + tail))) want.push_back(e.path().parent_path() / (stem + tail));
      const bool aliases = stem.ends_with("td-aliases");
      const Views v(slurp(e.path()), aliases ? "trustDomain: td1\ntrustDomainAliases: [cluster.local]\n" : "");
      if (tcp) expect_same<envoy::config::listener::v3::Filter>(tcp_rbac(v.view), want, file);
      else expect_same<envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter>(http_rbac(v.view), want, file);
      n++;
    }
  EXPECT_GE(n, 11);
}

const std::string kHead = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nspec:\n";
const std::string kService =
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: foo}\nspec: {hosts: [authz.foo.example], "
    "location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 9000, name: grpc, protocol: GRPC}], endpoints: [{address: 10.0.0.9}]}\n";
const std::string kMesh =
    "extensionProviders:\n- name: g\n  envoyExtAuthzGrpc: {service: authz.foo.example, port: 9000, failOpen: true}\n"
    "- name: h\n  envoyExtAuthzHttp: {service: foo/authz.foo.example, port: 9000, pathPrefix: /check, headersToUpstreamOnAllow: [x-*]}\n";

TEST(Authz, ACustomPolicyMarksForItsProviderOnBothWires) {
  const Views v(kHead + "  action: CUSTOM\n  provider: {name: g}\n  rules: [{to: [{operation: {ports: [\"80\"]}}]}]\n" + kService, kMesh);
  const std::string http = Json(http_custom_authz(v.view)).text, tcp = Json(tcp_rbac(v.view)).text;
  EXPECT_NE(http.find(R"("envoyGrpc":{"clusterName":"outbound|9000||authz.foo.example","authority":"authz.foo.example"},"timeout":"600s")"),
            std::string::npos)
      << http;
  EXPECT_NE(http.find(R"("failureModeAllow":true)"), std::string::npos);
  EXPECT_NE(tcp.find("envoy.filters.network.ext_authz"), std::string::npos) << tcp;
}

TEST(Authz, AnHttpProviderHasNoSayOnTcp) {
  const Views v(kHead + "  action: CUSTOM\n  provider: {name: h}\n  rules: [{}]\n" + kService, kMesh);
  EXPECT_TRUE(tcp_rbac(v.view).empty());
  const std::string http = Json(http_custom_authz(v.view)).text;
  EXPECT_NE(http.find(R"("pathPrefix":"/check")"), std::string::npos) << http;
  EXPECT_NE(http.find(R"("allowedUpstreamHeaders":{"patterns":[{"prefix":"x-","ignoreCase":true}]})"), std::string::npos) << http;
}

TEST(Authz, AnUnknownProviderRefusesWhatTheRulesMatch) {
  const Views v(kHead + "  action: CUSTOM\n  provider: {name: nobody}\n  rules: [{to: [{operation: {paths: [/a]}}]}]\n", kMesh);
  const std::string http = Json(http_custom_authz(v.view)).text;
  EXPECT_NE(http.find(R"("action":"DENY")"), std::string::npos) << http;
  EXPECT_NE(http.find("-deny-due-to-bad-CUSTOM-action"), std::string::npos) << http;
}

TEST(Authz, ATargetRefIsForTheKubernetesGatewayOfThatNameOnly) {
  const Views v(kHead + "  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]\n  rules: [{}]\n");
  EXPECT_TRUE(http_rbac(v.view).empty());
}

TEST(Authz, AnInlineHeaderIsOneOfItsList) {
  const auto regex = [](const std::string& value) {
    const Views v(kHead + "  rules: [{when: [{key: 'request.experimental.inline.headers[x-a]', values: [\"" + value + "\"]}]}]\n");
    const std::string http = Json(http_rbac(v.view)).text;
    const size_t at = http.find("\"regex\":\"");
    return at == std::string::npos ? http : http.substr(at + 9, http.find('"', at + 9) - at - 9);
  };
  EXPECT_EQ(regex("foo"), "^foo$|^foo,.*|.*,foo,.*|.*,foo$");
  EXPECT_EQ(regex("/a*"), "^/a.*$|^/a.*,.*|.*,/a.*,.*|.*,/a.*$");
  EXPECT_EQ(regex("*foo"), "^.*foo$|^.*foo,.*|.*,.*foo,.*|.*,.*foo$");
  EXPECT_NE(regex("*").find(R"("name":"x-a","presentMatch":true)"), std::string::npos);
}

TEST(Authz, PoliciesOfOtherNamespacesDoNotSelect) {
  const Views v("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: bar}\nspec: {rules: [{}]}\n");
  EXPECT_TRUE(http_rbac(v.view).empty());
}

}  // namespace
}  // namespace sluice::plane
