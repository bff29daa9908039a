// Istio's rules one by one: small YAML in, the fragment of the answer out. Each is a branch of istiod that no recorded answer shows.
#include <gtest/gtest.h>

#include "ctrl/plane/resource.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

const NodeInfo kNode{.id = "router~10.0.0.1~a.shop~shop.svc.cluster.local",
                     .ns = "shop",
                     .cluster_id = "Kubernetes",
                     .locality = "eu/eu-1/a",
                     .labels = {{"istio", "gw"}},
                     .addresses = {"10.0.0.1"}};

std::string object(const std::string& kind, const std::string& name, const std::string& spec, const std::string& ns = "shop") {
  const std::string group = kind == "AuthorizationPolicy" || kind == "PeerAuthentication" ? "security"
                            : kind == "Telemetry"                                         ? "telemetry"
                                                                                          : "networking";
  return "---\napiVersion: " + group + ".istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: " + ns +
         "}\nspec: " + spec + "\n";
}
std::string gateway(const std::string& name, const std::string& servers, const std::string& ns = "shop") {
  return object("Gateway", name, "{selector: {istio: gw}, servers: " + servers + "}", ns);
}
std::string web(const std::string& more = "location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.2}]") {
  return object("ServiceEntry", "web", "{hosts: [web.example], ports: [{number: 80, name: http, protocol: HTTP}], " + more + "}");
}
std::string routes(const std::string& http, const std::string& hosts = "[a.example]", const std::string& gateways = "[g]") {
  return object("VirtualService", "v", "{hosts: " + hosts + ", gateways: " + gateways + ", http: " + http + "}");
}
const std::string kPlain = gateway("g", "[{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]");
const std::string kToWeb = "{route: [{destination: {host: web.example}}]}";

struct Translated {
  Loaded loaded;
  Answer answer;
  explicit Translated(const std::string& yaml, const std::string& mesh = {}, const NodeInfo& node = kNode)
      : loaded(load_text(yaml, "in.yaml", mesh)), answer(translate(loaded.world, node, {.deny_by_default = false})) {
    EXPECT_FALSE(has_errors(loaded.issues)) << render(loaded.issues);
    const auto r = to_resources(answer);
    EXPECT_TRUE(r.has_value()) << r.error();
  }
  std::string listener(const std::string& name) { return answer.listeners[name].text; }
  std::string routes(const std::string& name) { return answer.routes[name].text; }
  std::string cluster(const std::string& name) { return answer.clusters[name].text; }
  std::string endpoints(const std::string& name) { return answer.endpoints[name].text; }
};
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) n++;
  return n;
}

const std::string kFiles = "serverCertificate: /c.pem, privateKey: /k.pem";

TEST(Gateways, AServerWithATakenTlsHostGivesWayWhole) {
  Translated t(gateway("a", "[{port: {number: 443, name: x, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, " + kFiles + "}}]") +
               gateway("b", "[{port: {number: 443, name: x, protocol: HTTPS}, hosts: [b.example, a.example], tls: {mode: SIMPLE, " +
                                kFiles + "}}]"));
  EXPECT_EQ(count(t.listener("0.0.0.0_443"), "serverNames"), 1u);
  EXPECT_FALSE(t.answer.routes.contains("https.443.x.b.shop"));
}

TEST(Gateways, OtherBindsAreOtherListenersAndRoutes) {
  Translated t(gateway("a",
                       "[{port: {number: 80, name: x, protocol: HTTP}, bind: 10.1.1.1, hosts: ['*']}, {port: {number: 80, name: y, "
                       "protocol: HTTP}, hosts: ['*']}]"));
  EXPECT_TRUE(t.answer.listeners.contains("10.1.1.1_80") && t.answer.listeners.contains("0.0.0.0_80"));
  EXPECT_TRUE(t.answer.routes.contains("http.80.10.1.1.1") && t.answer.routes.contains("http.80"));
}

TEST(Gateways, HttpKindsShareAPortAndRawTcpDoesNotJoinThem) {
  Translated t(gateway("a",
                       "[{port: {number: 80, name: x, protocol: HTTP}, hosts: [a.example]}, {port: {number: 80, name: y, protocol: GRPC}, "
                       "hosts: [b.example]}, {port: {number: 80, name: z, protocol: TCP}, hosts: ['*']}]"));
  EXPECT_EQ(count(t.listener("0.0.0.0_80"), "transportSocketConnectTimeout"), 1u);
}

TEST(Gateways, ANamedTlsServerNamesItsStatistics) {
  Translated t(gateway(
      "a", "[{name: front, port: {number: 443, name: x, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, " + kFiles + "}}]"));
  EXPECT_TRUE(has(t.listener("0.0.0.0_443"), R"("statPrefix":"front")"));
}

TEST(Gateways, SpkiAndHashAreForCredentialsOnly) {
  const std::string tls = "tls: {mode: MUTUAL, caCertificates: /ca.pem, verifyCertificateHash: [x], caCrl: /crl.pem, " + kFiles + "}";
  Translated t(gateway("a", "[{port: {number: 443, name: x, protocol: HTTPS}, hosts: [a.example], " + tls + "}]"));
  EXPECT_FALSE(has(t.listener("0.0.0.0_443"), "verifyCertificateHash"));
  EXPECT_TRUE(has(t.listener("0.0.0.0_443"), R"("crl":{"filename":"/crl.pem"})"));
}

TEST(Gateways, ACredentialNameIsAskedOfTheControlPlane) {
  Translated t(
      gateway("a", "[{port: {number: 443, name: x, protocol: HTTPS}, hosts: [a.example], tls: {mode: MUTUAL, credentialName: c}}]"));
  EXPECT_TRUE(has(t.listener("0.0.0.0_443"), R"({"name":"kubernetes://c","sdsConfig":{"ads":{},"resourceApiVersion":"V3"}})"));
  EXPECT_TRUE(has(t.listener("0.0.0.0_443"), "kubernetes://c-cacert"));
}

TEST(Gateways, AnUnprivilegedNodeOpensNoLowPort) {
  NodeInfo node = kNode;
  node.unprivileged = true;
  EXPECT_TRUE(Translated(kPlain, {}, node).answer.listeners.empty());
}

TEST(L4, OnlyPortAndGatewayOfAMatchCount) {
  Translated t(gateway("g", "[{port: {number: 5432, name: x, protocol: TCP}, hosts: ['*']}]") + web() +
               object("VirtualService", "v",
                      "{hosts: ['*'], gateways: [g], tcp: [{match: [{port: 5432, destinationSubnets: [10.0.0.0/8], "
                      "sourceLabels: {a: b}}], route: [{destination: {host: web.example}}]}]}"));
  EXPECT_TRUE(has(t.listener("0.0.0.0_5432"), R"("cluster":"outbound|80||web.example")"));
  EXPECT_FALSE(has(t.listener("0.0.0.0_5432"), "prefixRanges"));
}

TEST(L4, PassthroughTakesTheSniOfTheMatchAndTheFirstKeepsIt) {
  const std::string match = "{match: [{sniHosts: [b.example, a.example]}], route: [{destination: {host: web.example}}]}";
  Translated t(gateway("g", "[{port: {number: 443, name: x, protocol: TLS}, hosts: ['*.example'], tls: {mode: PASSTHROUGH}}]") + web() +
               object("VirtualService", "v", "{hosts: ['*.example'], gateways: [g], tls: [" + match + ", " + match + "]}"));
  EXPECT_EQ(count(t.listener("0.0.0.0_443"), R"("serverNames":["a.example","b.example"])"), 1u);
}

TEST(L4, ThePoolOfTheFirstDestinationSetsTheProxysTimeouts) {
  Translated t(gateway("g", "[{port: {number: 5432, name: x, protocol: TCP}, hosts: ['*']}]") + web() +
               object("DestinationRule", "d",
                      "{host: web.example, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 5s, maxConnectionDuration: "
                      "1h}}, loadBalancer: {consistentHash: {useSourceIp: true}}}}") +
               object("VirtualService", "v", "{hosts: ['*'], gateways: [g], tcp: [{route: [{destination: {host: web.example}}]}]}"));
  for (const char* part : {R"("idleTimeout":"5s")", R"("maxDownstreamConnectionDuration":"3600s")", R"("hashPolicy":[{"sourceIp":{}}])"})
    EXPECT_TRUE(has(t.listener("0.0.0.0_5432"), part)) << part;
}

TEST(Routes, ARedirectDoesNotNameTheSchemesOwnPort) {
  EXPECT_FALSE(has(Translated(kPlain + routes("[{redirect: {scheme: https, port: 443}}]")).routes("http.80"), "portRedirect"));
  EXPECT_FALSE(
      has(Translated(kPlain + routes("[{redirect: {uri: /x, derivePort: FROM_REQUEST_PORT}}]")).routes("http.80"), "portRedirect"));
  EXPECT_TRUE(has(Translated(kPlain + routes("[{redirect: {scheme: https, port: 8443}}]")).routes("http.80"), R"("portRedirect":8443)"));
}

TEST(Routes, RetriesWithoutAttemptsAreOff) {
  EXPECT_FALSE(has(Translated(kPlain + web() + routes("[{retries: {}, route: [{destination: {host: web.example}}]}]")).routes("http.80"),
                   "retryPolicy"));
  const std::string some = Translated(kPlain + web() +
                                      routes("[{retries: {attempts: 3, retryOn: '503,404', retryRemoteLocalities: true}, route: "
                                             "[{destination: {host: web.example}}]}]"))
                               .routes("http.80");
  EXPECT_TRUE(has(some, R"("retryOn":",retriable-status-codes")")) << some;
  EXPECT_TRUE(has(some, R"("retriableStatusCodes":[503,404])"));
  EXPECT_TRUE(has(some, "envoy.retry_priorities.previous_priorities"));
}

TEST(Routes, PseudoHeadersAreNotSetAndTheRoutesAuthorityComesFirst) {
  const std::string text = Translated(kPlain + web() +
                                      routes("[{headers: {request: {set: {Host: a.test}, remove: [':path']}}, route: [{destination: "
                                             "{host: web.example}, headers: {request: {set: {':authority': b.test}}}}]}]"))
                               .routes("http.80");
  EXPECT_TRUE(has(text, R"("hostRewriteLiteral":"a.test")")) << text;
  EXPECT_FALSE(has(text, "requestHeadersTo"));
}

TEST(Routes, HeadersWithAndWithoutAreInOneOrderAndClaimsAreMetadata) {
  const std::string text =
      Translated(kPlain + web() +
                 routes("[{match: [{headers: {z: {exact: x}, '@request.auth.claims[a][b]': {exact: y}}, withoutHeaders: {m: {}}}], route: "
                        "[{destination: {host: web.example}}]}]"))
          .routes("http.80");
  EXPECT_LT(text.find(R"("name":"m")"), text.find(R"("name":"z")"));
  EXPECT_TRUE(has(text, R"("path":[{"key":"payload"},{"key":"a"},{"key":"b"}])")) << text;
}

TEST(Routes, ACatchAllRegexEndsTheList) {
  const std::string text =
      Translated(kPlain + routes("[{match: [{uri: {regex: '.*'}}], directResponse: {status: 200}}, {directResponse: {status: 201}}]"))
          .routes("http.80");
  EXPECT_TRUE(has(text, R"("status":200)"));
  EXPECT_FALSE(has(text, R"("status":201)"));
}

TEST(Routes, AFaultWithoutAShareHitsNothing) {
  const std::string text =
      Translated(kPlain + web() + routes("[{fault: {abort: {httpStatus: 503}}, route: [{destination: {host: web.example}}]}]"))
          .routes("http.80");
  EXPECT_TRUE(has(text, R"("abort":{"httpStatus":503})")) << text;
}

TEST(Routes, AMirrorOfZeroPercentIsNone) {
  EXPECT_FALSE(has(
      Translated(kPlain + web() + routes("[{mirror: {host: web.example}, mirrorPercent: 0, route: [{destination: {host: web.example}}]}]"))
          .routes("http.80"),
      "requestMirrorPolicies"));
}

TEST(Hosts, TheSameRoutesOfTwoGatewaysAreTwoVirtualHosts) {
  const std::string two = gateway("g", "[{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}]") +
                          gateway("h", "[{port: {number: 80, name: http, protocol: HTTP}, hosts: [b.example]}]");
  EXPECT_EQ(
      count(Translated(two + web() + routes("[" + kToWeb + "]", "[a.example, b.example]", "[g, h]")).routes("http.80"), "\"domains\""), 2u);
}

TEST(Hosts, TheLongestHostGivesTheName) {
  const std::string text = Translated(kPlain + web() + routes("[" + kToWeb + "]", "[a.example, longer.example]")).routes("http.80");
  EXPECT_TRUE(has(text, R"("name":"longer.example:80","domains":["longer.example","a.example"])")) << text;
}

TEST(Hosts, ARedirectServerKeepsTheNamespaceOfItsHost) {
  const std::string text =
      Translated(
          gateway("g",
                  "[{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop/b.example, a.example], tls: {httpsRedirect: true}}]"))
          .routes("http.80");
  EXPECT_TRUE(has(text, R"("domains":["shop/b.example","a.example"],"requireTls":"ALL")")) << text;
}

TEST(Order, TheOlderIsFirstAndTheOthersGoByNamespaceAndName) {
  const auto named = [](const std::string& name, const std::string& ns, const std::string& at) {
    return "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + ", namespace: " + ns +
           (at.empty() ? "" : ", creationTimestamp: \"" + at + "\"") +
           "}\nspec: {hosts: [a.example], gateways: [shop/g], http: [{match: [{uri: {prefix: /x}}], name: " + name +
           ", directResponse: {status: 200}}]}\n";
  };
  const std::string text =
      Translated(kPlain + named("a", "zone", "") + named("b", "shop", "") + named("c", "shop", "2020-01-01T00:00:00Z")).routes("http.80");
  EXPECT_LT(text.find(R"("name":"c")"), text.find(R"("name":"b")"));
  EXPECT_LT(text.find(R"("name":"b")"), text.find(R"("name":"a")"));
}

TEST(Delegates, EachMatchMustFitIntoOneOfTheRootsAndHeadersAreNotMixed) {
  const auto delegate = [](const std::string& http) {
    return "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: d, namespace: shop}\nspec: {http: " + http +
           "}\n";
  };
  const std::string root = routes("[{match: [{uri: {prefix: /a}}], headers: {request: {set: {r: x}}}, delegate: {name: d}}]");
  const std::string to = "route: [{destination: {host: web.example}}]";
  EXPECT_FALSE(has(
      Translated(kPlain + web() + root + delegate("[{match: [{uri: {prefix: /a/1}}, {uri: {prefix: /b}}], " + to + "}]")).routes("http.80"),
      "/a/1"));
  const std::string text =
      Translated(kPlain + web() + root + delegate("[{match: [{uri: {prefix: /a/1}}], headers: {request: {set: {d: y}}}, " + to + "}]"))
          .routes("http.80");
  EXPECT_TRUE(has(text, R"("key":"d")")) << text;
  EXPECT_FALSE(has(text, R"("key":"r")"));
}

TEST(Clusters, AnExternalServiceHasNoIdentityOfTheMesh) {
  Translated t(kPlain + web("resolution: STATIC, endpoints: [{address: 10.0.0.2}]") + routes("[" + kToWeb + "]"));
  EXPECT_FALSE(has(t.cluster("outbound|80||web.example"), "transportSocketMatches"));
  EXPECT_TRUE(has(t.cluster("outbound|80||web.example"), R"("external":true)"));
}

TEST(Clusters, IdentitiesOfEndpointsAreExpected) {
  Translated t(kPlain + web("location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.2, serviceAccount: w}]") +
                   routes("[" + kToWeb + "]"),
               "trustDomain: td\ntrustDomainAliases: [old]\n");
  EXPECT_TRUE(
      has(t.cluster("outbound|80||web.example"), R"([{"exact":"spiffe://old/ns/shop/sa/w"},{"exact":"spiffe://td/ns/shop/sa/w"}])"));
  EXPECT_TRUE(has(t.endpoints("outbound|80||web.example"), R"("tlsMode":"istio")"));
}

TEST(Clusters, PeerAuthenticationDisableEndsAutomaticMtls) {
  Translated t(kPlain + web() + routes("[" + kToWeb + "]") + object("PeerAuthentication", "p", "{mtls: {mode: DISABLE}}"));
  EXPECT_FALSE(has(t.cluster("outbound|80||web.example"), "transportSocketMatches"));
}

TEST(Clusters, RulesOfOneHostAreJoined) {
  Translated t(
      kPlain + web() + routes("[" + kToWeb + "]") +
      object("DestinationRule", "a", "{host: web.example, subsets: [{name: s1, labels: {v: '1'}}]}") +
      object("DestinationRule", "b", "{host: web.example, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: s2}]}"));
  EXPECT_TRUE(t.answer.clusters.contains("outbound|80|s1|web.example") && t.answer.clusters.contains("outbound|80|s2|web.example"));
  EXPECT_TRUE(has(t.cluster("outbound|80||web.example"), R"("lbPolicy":"RANDOM")"));
  EXPECT_TRUE(has(t.cluster("outbound|80||web.example"), "destination-rule/a"));
}

TEST(Clusters, APortsSettingsReplaceTheWholePolicy) {
  Translated t(kPlain + web() + routes("[" + kToWeb + "]") +
               object("DestinationRule", "a",
                      "{host: web.example, trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: "
                      "80}, connectionPool: {http: {maxRetries: 7}}}]}}"));
  EXPECT_TRUE(has(t.cluster("outbound|80||web.example"), R"("lbPolicy":"LEAST_REQUEST")"));
  EXPECT_TRUE(has(t.cluster("outbound|80||web.example"), R"("maxRetries":7)"));
}

TEST(Clusters, ARuleForOtherWorkloadsIsNotTaken) {
  Translated t(
      kPlain + web() + routes("[" + kToWeb + "]") +
      object("DestinationRule", "a",
             "{host: web.example, workloadSelector: {matchLabels: {istio: other}}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"));
  EXPECT_FALSE(has(t.cluster("outbound|80||web.example"), "RANDOM"));
}

TEST(Clusters, OriginatedTlsTakesSniAndNamesFromTheRequestWhereNoneAreSaid) {
  Translated t(kPlain + web() + routes("[" + kToWeb + "]") +
               object("DestinationRule", "a", "{host: web.example, trafficPolicy: {tls: {mode: SIMPLE}}}"));
  const std::string c = t.cluster("outbound|80||web.example");
  EXPECT_TRUE(has(c, R"("upstreamHttpProtocolOptions":{"autoSni":true,"autoSanValidation":true})")) << c;
  EXPECT_TRUE(has(c, "file-root:system"));
}

TEST(Clusters, AUnresolvedNameHasNoClusterAndAWildcardNone) {
  Translated t(kPlain +
               object("ServiceEntry", "web",
                      "{hosts: [web.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS_ROUND_ROBIN}") +
               routes("[" + kToWeb + "]"));
  EXPECT_TRUE(has(t.cluster("outbound|80||web.example"), R"("type":"LOGICAL_DNS")"));
  EXPECT_FALSE(t.answer.endpoints.contains("outbound|80||web.example"));
}

TEST(Endpoints, FailoverPriorityGoesByLabels) {
  Translated t(kPlain +
               web("location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.2, labels: {rack: x}}, {address: 10.0.0.3, "
                   "labels: {rack: y}}]") +
               routes("[" + kToWeb + "]") +
               object("DestinationRule", "a",
                      "{host: web.example, trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: "
                      "['rack=y']}}}}"));
  const std::string e = t.endpoints("outbound|80||web.example");
  EXPECT_LT(e.find("10.0.0.3"), e.find("10.0.0.2")) << e;
  EXPECT_TRUE(has(e, R"("priority":1)"));
}

TEST(Endpoints, LabelsOfAWorkloadsMetadataCount) {
  const std::string entry =
      "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, namespace: shop, labels: {app: web}}\nspec: "
      "{address: 10.0.0.9}\n";
  Translated t(kPlain + web("location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {labels: {app: web}}") + entry +
               routes("[" + kToWeb + "]"));
  EXPECT_TRUE(has(t.endpoints("outbound|80||web.example"), R"("workload":"w;shop;web;;Kubernetes")"));
}

TEST(Services, AServiceThatIsExportedElsewhereIsNotSeen) {
  Translated t(kPlain +
               object("ServiceEntry", "x",
                      "{hosts: [web.example], exportTo: [other], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, "
                      "endpoints: [{address: 10.0.0.2}]}",
                      "far") +
               routes("[" + kToWeb + "]"));
  EXPECT_FALSE(t.answer.clusters.contains("outbound|80||web.example"));
}

TEST(Telemetry, ALogThatIsSwitchedOffIsNotWritten) {
  Translated t(kPlain + object("Telemetry", "t", "{accessLogging: [{providers: [{name: envoy}], disabled: true}]}"),
               "accessLogFile: /dev/stdout\n");
  EXPECT_FALSE(has(t.listener("0.0.0.0_80"), "accessLog"));
}

TEST(Telemetry, AProvidersOwnFormatIsUsedAndATextEndsItsLine) {
  Translated t(kPlain + object("Telemetry", "t", "{accessLogging: [{providers: [{name: mine}]}]}"),
               "extensionProviders: [{name: mine, envoyFileAccessLog: {path: /tmp/l, logFormat: {text: 'x'}}}]\n");
  EXPECT_TRUE(has(t.listener("0.0.0.0_80"), R"("path":"/tmp/l","logFormat":{"textFormatSource":{"inlineString":"x\n"}})"))
      << t.listener("0.0.0.0_80");
}

std::string patched(const std::string& patch, const std::string& more = {}) {
  Loaded l = load_text(kPlain + web() + routes("[" + kToWeb + "]") + more +
                           "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: e, namespace: shop}\nspec: "
                           "{configPatches: [" +
                           patch + "]}\n",
                       "in.yaml");
  check_patches(l);
  EXPECT_FALSE(has_errors(l.issues)) << render(l.issues);
  const auto r = to_resources(translate(l.world, kNode, {.deny_by_default = false}));
  std::string out;
  for (int t = 0; t < 4; t++)
    for (const auto& [name, x] : r->of[t]) out += to_json(kTypeNames[t], x.value);
  std::erase_if(out, [](char c) { return c == ' ' || c == '\n'; });
  return out;
}

TEST(EnvoyFilters, EachKindOfPatchReachesItsPlace) {
  const std::string lua = "{name: my.lua, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}";
  const std::string before_router = patched(
      "{applyTo: HTTP_FILTER, match: {context: GATEWAY, listener: {filterChain: {filter: {name: "
      "envoy.filters.network.http_connection_manager, "
      "subFilter: {name: envoy.filters.http.router}}}}}, patch: {operation: INSERT_BEFORE, value: " +
      lua + "}}");
  EXPECT_GT(before_router.find("my.lua"), before_router.find("envoy.filters.http.cors\""));
  EXPECT_LT(before_router.find("my.lua"), before_router.find("envoy.filters.http.router\""));
  EXPECT_TRUE(has(
      patched(
          "{applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}, "
          "patch: {operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network."
          "http_connection_manager.v3.HttpConnectionManager, stream_idle_timeout: 7s}}}}"),
      R"("streamIdleTimeout":"7s")"));
  EXPECT_TRUE(
      has(patched("{applyTo: CLUSTER, match: {cluster: {service: web.example}}, patch: {operation: MERGE, value: {connect_timeout: 3s}}}"),
          R"("connectTimeout":"3s")"));
  EXPECT_FALSE(has(patched("{applyTo: CLUSTER, match: {cluster: {name: 'outbound|80||web.example'}}, patch: {operation: REMOVE}}"),
                   "\"altStatName\":\"outbound"));
  EXPECT_TRUE(
      has(patched("{applyTo: VIRTUAL_HOST, match: {routeConfiguration: {vhost: {name: 'a.example:80'}}}, patch: {operation: MERGE, value: "
                  "{response_headers_to_add: [{header: {key: k, value: v}}]}}}"),
          "responseHeadersToAdd"));
  EXPECT_TRUE(has(patched("{applyTo: LISTENER, match: {listener: {portNumber: 80}}, patch: {operation: MERGE, value: "
                          "{per_connection_buffer_limit_bytes: 9}}}"),
                  R"("perConnectionBufferLimitBytes":9)"));
  EXPECT_TRUE(has(patched("{applyTo: LISTENER, match: {context: SIDECAR_INBOUND}, patch: {operation: REMOVE}}"), "0.0.0.0_80"));
}

TEST(EnvoyFilters, AValueThatIsNoneOfItsTypeIsRefusedAtItsPlace) {
  Loaded l = load_text(
      "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: e, namespace: shop}\nspec:\n  configPatches:\n  - "
      "applyTo: CLUSTER\n    "
      "patch:\n      operation: MERGE\n      value: {conect_timeout: 3s}\n",
      "f.yaml");
  check_patches(l);
  ASSERT_EQ(l.issues.size(), 1u) << render(l.issues);
  EXPECT_EQ(l.issues[0].line, 9u);
  EXPECT_TRUE(has(l.issues[0].message, "conect_timeout")) << l.issues[0].message;
}

}  // namespace
}  // namespace sluice::plane
