// What MeshConfig, Telemetry, ProxyConfig, Sidecar and WorkloadGroup do to a gateway's answer, branch by branch as istiod 1.29 has them (no
// recorded answer shows these).
#include <gtest/gtest.h>

#include "ctrl/plane/resource.h"
#include "ctrl/plane/translation.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

const NodeInfo kNode{.id = "router~10.0.0.1~a.shop~shop.svc.cluster.local",
                     .ns = "shop",
                     .cluster_id = "Kubernetes",
                     .labels = {{"istio", "gw"}},
                     .addresses = {"10.0.0.1"},
                     .cluster = "gw.shop"};

std::string object(const std::string& group, const std::string& kind, const std::string& name, const std::string& spec,
                   const std::string& ns = "shop") {
  return "---\napiVersion: " + group + ".istio.io/v1\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: " + ns +
         "}\nspec: " + spec + "\n";
}
std::string networking(const std::string& kind, const std::string& name, const std::string& spec, const std::string& ns = "shop") {
  return object("networking", kind, name, spec, ns);
}
std::string telemetry(const std::string& spec, const std::string& ns = "shop", const std::string& name = "t") {
  return object("telemetry", "Telemetry", name, spec, ns);
}
std::string service(const std::string& host, const std::string& protocol = "HTTP", const std::string& ns = "shop") {
  return networking("ServiceEntry", host.substr(0, host.find('.')),
                    "{hosts: [" + host + "], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: p, protocol: " +
                        protocol + "}], endpoints: [{address: 10.0.0.2}]}",
                    ns);
}
const std::string kEdge =
    networking("Gateway", "g", "{selector: {istio: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}");
const std::string kRoute =
    networking("VirtualService", "v", "{hosts: [a.example], gateways: [g], http: [{route: [{destination: {host: web.example}}]}]}");
const std::string kWorld = kEdge + service("web.example") + service("zipkin.example") + kRoute;
const std::string kZipkin = "extensionProviders: [{name: z, zipkin: {service: zipkin.example, port: 80, maxTagLength: 100}}]\n";

struct Translated {
  Loaded loaded;
  Answer answer;
  explicit Translated(const std::string& yaml, const std::string& mesh = {}, const NodeInfo& node = kNode)
      : loaded(load_text(yaml, "in.yaml", mesh)), answer(translate(loaded.world, node, {.deny_by_default = false})) {
    EXPECT_FALSE(has_errors(loaded.issues)) << render(loaded.issues);
    const auto r = to_resources(answer);  // every word of it is one that Envoy's protobuf has
    EXPECT_TRUE(r.has_value()) << r.error();
  }
  std::string listener(const std::string& name = "0.0.0.0_80") { return answer.listeners[name].text; }
  std::string cluster(const std::string& name = "outbound|80||web.example") { return answer.clusters[name].text; }
  std::string routes(const std::string& name = "http.80") { return answer.routes[name].text; }
};
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) n++;
  return n;
}
std::string refusal(const std::string& yaml, const std::string& mesh = {}) {
  std::string out;
  for (const Issue& i : load_text(yaml, "in.yaml", mesh).issues)
    if (i.severity == Severity::kError) out += i.place() + ": " + i.message + "\n";
  return out;
}

// ---- kinds that no gateway is told of

TEST(Sidecar, ChangesNothingForAGateway) {
  const std::string narrow = networking("Sidecar", "default", "{egress: [{hosts: ['./nothing.example']}]}");
  EXPECT_EQ(Translated(kWorld + narrow).answer.clusters.size(), Translated(kWorld).answer.clusters.size());
  EXPECT_TRUE(has(Translated(kWorld + narrow).cluster(), "web.example"));
}

TEST(Sidecar, NarrowsWhatAGrpcClientSees) {
  NodeInfo client = kNode;
  client.metadata["GENERATOR"] = "grpc";
  const std::string world = service("web.example", "GRPC") + service("other.example", "GRPC", "other");
  const auto sees = [&](const std::string& sidecars) {
    std::set<std::string> out;
    for (const auto& [name, json] : Translated(world + sidecars, {}, client).answer.clusters) out.insert(name.substr(name.rfind('|') + 1));
    return out;
  };
  const auto sidecar = [](const std::string& name, const std::string& hosts, const std::string& selector = "",
                          const std::string& ns = "shop") {
    return networking("Sidecar", name, "{" + selector + "egress: [{hosts: " + hosts + "}]}", ns);
  };
  using Names = std::set<std::string>;
  EXPECT_EQ(sees(""), (Names{"web.example", "other.example"}));
  EXPECT_EQ(sees(sidecar("a", "['./*']")), Names{"web.example"});
  EXPECT_EQ(sees(sidecar("a", "['other/*.example']")), Names{"other.example"});
  EXPECT_EQ(sees(sidecar("a", "['~/*']")), Names{});
  EXPECT_EQ(sees(sidecar("a", "['./*']", "", "istio-system")), Names{"web.example"});
  EXPECT_EQ(sees(sidecar("a", "['./*']", "", "elsewhere")).size(), 2u);
  EXPECT_EQ(sees(sidecar("a", "['./*']") + sidecar("b", "['other/*']", "workloadSelector: {labels: {istio: gw}}, ")),
            Names{"other.example"});
}

TEST(Sidecar, IsHeldToIstiosRules) {
  const auto wrong = [](const std::string& spec) { return refusal(networking("Sidecar", "s", spec)); };
  EXPECT_EQ(wrong("{egress: [{port: {number: 80, protocol: HTTP, name: p}, hosts: ['./*', 'istio-system/*', '~/*']}, {hosts: ['*/*']}]}"),
            "");
  EXPECT_EQ(wrong("{ingress: [{port: {number: 80, protocol: HTTP, name: p}, defaultEndpoint: '127.0.0.1:8080'}]}"), "");
  EXPECT_EQ(wrong("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"), "");
  for (const auto& [spec, why] : {
           std::pair("{}", "an empty sidecar configuration"),
           {"{egress: [{hosts: []}]}", "at least one host"},
           {"{egress: [{hosts: [web.example]}]}", "NAMESPACE/NAME"},
           {"{egress: [{hosts: ['./web']}]}", "short names"},
           {"{egress: [{hosts: ['*/*']}, {hosts: ['*/*']}]}", "should be the last one"},
           {"{egress: [{port: {number: 0, protocol: HTTP, name: p}, hosts: ['*/*']}]}", "unix domain socket"},
           {"{egress: [{port: {number: 80, protocol: HTTP, name: p}, bind: nowhere, hosts: ['*/*']}]}", "no IP address"},
           {"{ingress: [{port: {number: 80, protocol: HTTP, name: p}, defaultEndpoint: '10.0.0.1:8080'}]}", "defaultEndpoint must be"},
           {"{ingress: [{port: {number: 80, protocol: HTTP, name: p}}, {port: {number: 80, protocol: HTTP, name: q}}]}", "must be unique"},
           {"{ingress: [{port: {number: 80, protocol: HTTP, name: p, targetPort: 81}}]}", "targetPort has no impact"},
           {"{ingress: [{port: {number: 80, protocol: HTTP, name: p}, tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}]}",
            "HTTPS and TLS"},
           {"{ingress: [{port: {number: 443, protocol: HTTPS, name: p}, tls: {mode: ISTIO_MUTUAL}}]}", "cannot have mode"},
           {"{inboundConnectionPool: {}}", "connection pool is empty"},
           {"{outboundTrafficPolicy: {egressProxy: {host: a.example, port: {number: 80}}}}", "ALLOW_ANY"},
           {"{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.example}}}", "needs a port"},
       })
    EXPECT_TRUE(has(wrong(spec), why)) << spec << "\n" << wrong(spec);
}

TEST(WorkloadGroup, IsATemplateAndNoEndpoint) {
  const std::string group =
      networking("WorkloadGroup", "w", "{metadata: {labels: {app: web}}, template: {serviceAccount: web, ports: {http: 8080}}}");
  EXPECT_EQ(Translated(kWorld + group).answer.endpoints.size(), Translated(kWorld).answer.endpoints.size());
  const auto wrong = [](const std::string& spec) { return refusal(networking("WorkloadGroup", "w", spec)); };
  EXPECT_TRUE(has(wrong("{metadata: {labels: {a: b}}}"), "'template' is missing"));
  EXPECT_TRUE(has(wrong("{template: {}, probe: {periodSeconds: 5}}"), "one of httpGet"));
  EXPECT_TRUE(has(wrong("{template: {}, probe: {httpGet: {port: 0}}}"), "needs a port"));
  EXPECT_TRUE(has(wrong("{template: {}, probe: {httpGet: {port: 80, scheme: ftp}}}"), "HTTP or HTTPS"));
  EXPECT_TRUE(has(wrong("{template: {}, probe: {exec: {command: []}}}"), "needs a command"));
  EXPECT_TRUE(has(wrong("{template: {}, probe: {httpGet: {port: 80}, tcpSocket: {port: 80}}}"), "one of httpGet"));
}

TEST(ProxyConfig, IsForInjectionAndChecked) {
  const std::string config =
      networking("ProxyConfig", "p", "{selector: {matchLabels: {istio: gw}}, concurrency: 4, image: {imageType: distroless}}");
  EXPECT_EQ(Translated(kWorld + config).listener(), Translated(kWorld).listener());
  EXPECT_TRUE(has(refusal(networking("ProxyConfig", "p", "{concurrency: -1}")), "in.yaml:5:21: concurrency must be 0 or more"));
}

// ---- DestinationRule

std::string rule(const std::string& policy) {
  return networking("DestinationRule", "d", "{host: web.example, trafficPolicy: " + policy + "}");
}

TEST(DestinationRules, PassthroughGoesWhereTheClientWasGoing) {
  const std::string text = Translated(kWorld + rule("{loadBalancer: {simple: PASSTHROUGH}}")).cluster();
  EXPECT_TRUE(has(text, R"("type":"ORIGINAL_DST")")) << text;
  EXPECT_TRUE(has(text, R"("lbPolicy":"CLUSTER_PROVIDED")"));
  EXPECT_FALSE(has(text, "loadAssignment"));
}

TEST(DestinationRules, TheProxyHeaderStandsBeforeEachSocket) {
  const std::string automatic = Translated(kWorld + rule("{proxyProtocol: {version: V2}}")).cluster();
  EXPECT_EQ(count(automatic, "ProxyProtocolUpstreamTransport"), 2u) << automatic;
  EXPECT_TRUE(has(automatic, R"("config":{"version":"V2"})"));
  const std::string plain = Translated(kWorld + rule("{proxyProtocol: {}, tls: {mode: DISABLE}}")).cluster();
  EXPECT_TRUE(has(plain, R"("transportSocket":{"name":"envoy.transport_sockets.upstream_proxy_protocol")")) << plain;
  EXPECT_TRUE(has(plain, R"("config":{})"));
  const std::string tls = Translated(kWorld + rule("{proxyProtocol: {}, tls: {mode: SIMPLE}}")).cluster();
  EXPECT_LT(tls.find("ProxyProtocolUpstreamTransport"), tls.find("UpstreamTlsContext"));
}

TEST(DestinationRules, ATunnelIsOfRawTcpAndASubsetHasItsOwn) {
  const std::string tcp =
      networking("Gateway", "g", "{selector: {istio: gw}, servers: [{port: {number: 5432, name: x, protocol: TCP}, hosts: ['*']}]}") +
      service("web.example", "TCP");
  const auto to = [](const std::string& subset) {
    return networking("VirtualService", "v",
                      "{hosts: ['*'], gateways: [g], tcp: [{route: [{destination: {host: web.example" + subset + "}}]}]}");
  };
  const std::string tunnel =
      networking("DestinationRule", "d",
                 "{host: web.example, trafficPolicy: {tunnel: {protocol: POST, targetHost: db.example, targetPort: 5432}}, "
                 "subsets: [{name: v1}]}");
  EXPECT_TRUE(has(Translated(tcp + to("") + tunnel).listener("0.0.0.0_5432"),
                  R"("tunnelingConfig":{"hostname":"db.example:5432","usePost":true})"));
  EXPECT_FALSE(has(Translated(tcp + to(", subset: v1") + tunnel).listener("0.0.0.0_5432"), "tunnelingConfig"));
  EXPECT_TRUE(has(refusal(rule("{tunnel: {targetHost: a.example, targetPort: 1}, proxyProtocol: {}}")), "must not be set together"));
  EXPECT_TRUE(has(refusal(rule("{tunnel: {protocol: GET, targetHost: a.example, targetPort: 1}}")), "CONNECT or POST"));
}

TEST(DestinationRules, ACookieHasAttributes) {
  const std::string text =
      Translated(kWorld +
                 rule("{loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s, attributes: [{name: SameSite, value: Strict}]}}}}"))
          .routes();
  EXPECT_TRUE(has(text, R"("attributes":[{"name":"SameSite","value":"Strict"}])")) << text;
}

TEST(Gateways, MongoIsCountedOnItsWayToTheProxy) {
  const std::string mongo =
      networking("Gateway", "g", "{selector: {istio: gw}, servers: [{port: {number: 27017, name: x, protocol: MONGO}, hosts: ['*']}]}") +
      service("web.example", "MONGO") +
      networking("VirtualService", "v", "{hosts: ['*'], gateways: [g], tcp: [{route: [{destination: {host: web.example}}]}]}");
  const std::string text = Translated(mongo).listener("0.0.0.0_27017");
  EXPECT_TRUE(has(
      text,
      R"({"name":"envoy.filters.network.mongo_proxy","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy",)"
      R"("statPrefix":"outbound|80||web.example"}},{"name":"envoy.filters.network.tcp_proxy")"))
      << text;
}

// ---- tracing

TEST(Tracing, WithoutTelemetryEnableTracingDecides) {
  EXPECT_TRUE(has(Translated(kWorld).listener(), R"("randomSampling":{"value":1})"));
  EXPECT_FALSE(has(Translated(kWorld, "enableTracing: false\n").listener(), "randomSampling"));
}

TEST(Tracing, AProviderIsAskedAndItsClusterIsSent) {
  Translated t(
      kWorld + telemetry("{tracing: [{providers: [{name: Z}], randomSamplingPercentage: 12.5, useRequestIdForTraceSampling: false}]}"),
      kZipkin);
  const std::string text = t.listener();
  EXPECT_TRUE(has(text, R"("provider":{"name":"envoy.tracers.zipkin")")) << text;
  EXPECT_TRUE(
      has(text, R"("httpUri":{"uri":"http://zipkin.example/api/v2/spans","cluster":"outbound|80||zipkin.example","timeout":"5s"})"));
  for (const char* part : {R"("spawnUpstreamSpan":true)", R"("randomSampling":{"value":12.5})", R"("maxPathTagLength":100)",
                           R"("traceId128bit":true)", R"("useRequestIdForTraceSampling":false)"})
    EXPECT_TRUE(has(text, part)) << part;
  EXPECT_TRUE(t.answer.clusters.contains("outbound|80||zipkin.example"));
}

TEST(Tracing, AnUnknownProviderOrServiceTracesNothing) {
  EXPECT_FALSE(has(Translated(kWorld + telemetry("{tracing: [{providers: [{name: other}]}]}"), kZipkin).listener(), "randomSampling"));
  EXPECT_FALSE(
      has(Translated(kEdge + service("web.example") + kRoute + telemetry("{tracing: [{providers: [{name: z}]}]}"), kZipkin).listener(),
          "randomSampling"));
  EXPECT_FALSE(
      has(Translated(kWorld + telemetry("{tracing: [{disableSpanReporting: true}]}"), kZipkin + "defaultProviders: {tracing: [z]}\n")
              .listener(),
          "randomSampling"));
  EXPECT_TRUE(has(Translated(kWorld, kZipkin + "defaultProviders: {tracing: [z]}\n").listener(), "envoy.tracers.zipkin"));
}

TEST(Tracing, ServersTracingIsNotAGateways) {
  const std::string text = Translated(kWorld + telemetry("{tracing: [{match: {mode: SERVER}, disableSpanReporting: true}]}"),
                                      kZipkin + "defaultProviders: {tracing: [z]}\n")
                               .listener();
  EXPECT_TRUE(has(text, "envoy.tracers.zipkin")) << text;
}

TEST(Tracing, TagsAreInTheOrderOfTheirNames) {
  const std::string spec =
      "{tracing: [{providers: [{name: z}], enableIstioTags: false, customTags: {z: {literal: {value: x}}, b: {header: {name: h, "
      "defaultValue: d}}, "
      "a: {environment: {name: E}}, f: {formatter: {value: '%REQ(x)%'}}}}]}";
  const std::string text = Translated(kWorld + telemetry(spec), kZipkin).listener();
  EXPECT_TRUE(has(text,
                  R"("customTags":[{"tag":"a","environment":{"name":"E"}},{"tag":"b","requestHeader":{"name":"h","defaultValue":"d"}},)"
                  R"({"tag":"f","value":"%REQ(x)%"},{"tag":"z","literal":{"value":"x"}}])"))
      << text;
  const std::string mesh =
      "defaultConfig: {tracing: {sampling: 50, maxPathTagLength: 99, enableIstioTags: false, customTags: {a: {literal: {value: x}}}}}\n";
  const std::string own = Translated(kWorld, mesh).listener();
  EXPECT_TRUE(has(own, R"("customTags":[{"tag":"a","literal":{"value":"x"}}],"maxPathTagLength":99)")) << own;
  EXPECT_TRUE(has(own, R"("randomSampling":{"value":50})"));
}

TEST(Tracing, EachProviderHasItsWords) {
  const auto with = [](const std::string& provider) {
    return Translated(kWorld, "extensionProviders: [{name: z, " + provider + "}]\ndefaultProviders: {tracing: [z]}\n").listener();
  };
  const std::string at = "{service: shop/zipkin.example, port: 80";
  EXPECT_TRUE(has(
      with("opentelemetry: " + at + ", grpc: {timeout: 2s, initialMetadata: [{name: k, value: v}]}}"),
      R"("serviceName":"gw.shop","grpcService":{"envoyGrpc":{"clusterName":"outbound|80||zipkin.example","authority":"zipkin.example"},)"
      R"("timeout":"2s","initialMetadata":[{"key":"k","value":"v"}]})"));
  EXPECT_TRUE(has(with("opentelemetry: " + at +
                       ", http: {path: /v1/traces, timeout: 3s, headers: [{name: k, value: v}]}, resourceDetectors: {environment: {}}}"),
                  R"("httpUri":{"uri":"zipkin.example/v1/traces","cluster":"outbound|80||zipkin.example","timeout":"3s"})"));
  EXPECT_TRUE(has(with("datadog: " + at + "}"),
                  R"("collectorCluster":"outbound|80||zipkin.example","collectorHostname":"zipkin.example","serviceName":"gw.shop")"));
  EXPECT_TRUE(has(with("skywalking: " + at + "}"), "envoy.config.trace.v3.SkyWalkingConfig"));
  EXPECT_TRUE(has(with("zipkin: " + at + ", traceContextOption: USE_B3_WITH_W3C_PROPAGATION, timeout: 1s, path: /x}"),
                  R"("uri":"http://zipkin.example/x")"));
}

// ---- metrics and logs

const std::string kMetrics = "defaultProviders: {metrics: [prometheus]}\n";

TEST(Metrics, AnOverrideBecomesTheFiltersMetric) {
  const std::string spec =
      "{metrics: [{providers: [{name: prometheus}], reportingInterval: 5s, overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, "
      "tagOverrides: {b: {operation: REMOVE}, a: {value: request.host}}}, {match: {customMetric: mine}, disabled: true}, "
      "{match: {metric: REQUEST_SIZE, mode: SERVER}, disabled: true}]}]}";
  const std::string text = Translated(kWorld + telemetry(spec)).listener();
  EXPECT_TRUE(has(
      text,
      R"("disableHostHeaderFallback":true,"tcpReportingDuration":"5s","metrics":[{"dimensions":{"a":"request.host"},"name":"requests_total",)"
      R"("tagsToRemove":["b"]},{"name":"mine","drop":true}])"))
      << text;
}

TEST(Metrics, AllOffDropsTheFilterUntilALaterOverride) {
  const std::string off = "{overrides: [{match: {metric: ALL_METRICS}, disabled: true}]}";
  EXPECT_FALSE(has(Translated(kWorld + telemetry("{metrics: [" + off + "]}"), kMetrics).listener(), "istio.stats"));
  EXPECT_FALSE(has(Translated(kWorld + telemetry("{metrics: [{overrides: [{disabled: true}]}]}"), kMetrics).listener(), "istio.stats"));
  const std::string again = "{overrides: [{match: {metric: REQUEST_COUNT}, disabled: false}]}";
  const std::string text =
      Translated(kWorld + telemetry("{metrics: [" + off + "]}", "istio-system") + telemetry("{metrics: [" + again + "]}"), kMetrics)
          .listener();
  EXPECT_TRUE(has(text, R"("metrics":[{"name":"requests_total"}])")) << text;
}

TEST(Metrics, EveryMetricIsNamedWhereAllAreMeant) {
  const std::string text =
      Translated(kWorld + telemetry("{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE}}}]}]}"), kMetrics).listener();
  EXPECT_EQ(count(text, R"("tagsToRemove":["a"])"), 10u) << text;
}

TEST(Metrics, AProviderIsOneByWhatItIsNotByItsName) {
  const std::string mesh = "extensionProviders: [{name: mine, prometheus: {}}]\n";
  EXPECT_TRUE(has(Translated(kWorld + telemetry("{metrics: [{providers: [{name: mine}]}]}"), mesh).listener(), "istio.stats"));
  EXPECT_FALSE(has(Translated(kWorld + telemetry("{metrics: [{providers: [{name: z}]}]}"), kZipkin).listener(), "istio.stats"));
}

TEST(Logs, TheNarrowerObjectsProvidersReplaceTheWiders) {
  const std::string mesh = "extensionProviders: [{name: a, envoyFileAccessLog: {path: /a}}, {name: b, envoyFileAccessLog: {path: /b}}]\n";
  const std::string text = Translated(kWorld + telemetry("{accessLogging: [{providers: [{name: a}]}]}", "istio-system") +
                                          telemetry("{accessLogging: [{providers: [{name: b}]}]}"),
                                      mesh)
                               .listener();
  EXPECT_FALSE(has(text, R"("path":"/a")")) << text;
  EXPECT_TRUE(has(text, R"("path":"/b")"));
}

TEST(Logs, TheListenersOwnCanBeSwitchedOff) {
  EXPECT_TRUE(has(Translated(kWorld, "accessLogFile: /dev/stdout\n").listener(), "responseFlagFilter"));
  EXPECT_FALSE(has(Translated(kWorld, "accessLogFile: /dev/stdout\ndisableEnvoyListenerLog: true\n").listener(), "responseFlagFilter"));
}

TEST(TelemetryObjects, ATargetIsTheGatewayByItsName) {
  NodeInfo node = kNode;
  node.labels["gateway.networking.k8s.io/gateway-name"] = "edge";
  const auto to = [](const std::string& name) {
    return telemetry("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: " + name +
                     "}], metrics: [{overrides: [{disabled: true}]}]}");
  };
  EXPECT_FALSE(has(Translated(kWorld + to("edge"), kMetrics, node).listener(), "istio.stats"));
  EXPECT_TRUE(has(Translated(kWorld + to("other"), kMetrics, node).listener(), "istio.stats"));
}

TEST(TelemetryObjects, AreHeldToIstiosRules) {
  const auto wrong = [](const std::string& spec) { return refusal(telemetry(spec)); };
  EXPECT_TRUE(has(wrong("{tracing: [{randomSamplingPercentage: 101}]}"), "0..100"));
  EXPECT_TRUE(has(wrong("{tracing: [{customTags: {a: {literal: {value: ''}}}}]}"), "empty"));
  EXPECT_TRUE(has(wrong("{tracing: [{customTags: {a: {}}}]}"), "one of literal"));
  EXPECT_TRUE(has(wrong("{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}"), "UPSERT needs a value"));
  EXPECT_TRUE(has(wrong("{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: x}}}]}]}"), "UPSERT only"));
  EXPECT_TRUE(has(wrong("{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Gateway, name: x}]}"), "one of selector and targetRefs"));
}

// ---- MeshConfig and the node's own ProxyConfig

TEST(MeshConfig, PathsAreNormalizedAsItSays) {
  const auto with = [](const std::string& n) { return Translated(kWorld, "pathNormalization: {normalization: " + n + "}\n").listener(); };
  EXPECT_TRUE(has(with("NONE"), R"("normalizePath":false)"));
  EXPECT_FALSE(has(with("BASE"), "mergeSlashes"));
  EXPECT_TRUE(has(with("MERGE_SLASHES"), R"("mergeSlashes":true)") && has(with("MERGE_SLASHES"), "KEEP_UNCHANGED"));
  EXPECT_TRUE(has(with("DECODE_AND_MERGE_SLASHES"), R"("mergeSlashes":true,"pathWithEscapedSlashesAction":"UNESCAPE_AND_FORWARD")"));
}

TEST(MeshConfig, ItsRetriesHoldWhereARouteHasNone) {
  const std::string mesh = "defaultHttpRetryPolicy: {attempts: 7}\n";
  EXPECT_TRUE(has(Translated(kWorld, mesh).routes(), R"("numRetries":7)"));
  EXPECT_FALSE(has(Translated(kWorld, "defaultHttpRetryPolicy: {attempts: 0}\n").routes(), "retryPolicy"));
  const std::string own =
      networking("VirtualService", "v",
                 "{hosts: [a.example], gateways: [g], http: [{retries: {attempts: 3}, route: [{destination: {host: web.example}}]}]}");
  EXPECT_TRUE(has(Translated(kEdge + service("web.example") + own, mesh).routes(), R"("numRetries":3)"));
}

TEST(MeshConfig, ItsExportsHoldWhereAnObjectHasNone) {
  const std::string other = kEdge + kRoute + service("web.example", "HTTP", "other");
  EXPECT_TRUE(Translated(other).answer.clusters.contains("outbound|80||web.example"));
  EXPECT_FALSE(Translated(other, "defaultServiceExportTo: ['.']\n").answer.clusters.contains("outbound|80||web.example"));
  const std::string elsewhere =
      networking("VirtualService", "v", "{hosts: [a.example], gateways: [shop/g], http: [{directResponse: {status: 200}}]}", "other");
  EXPECT_TRUE(has(Translated(kEdge + elsewhere).routes(), "a.example"));
  EXPECT_FALSE(has(Translated(kEdge + elsewhere, "defaultVirtualServiceExportTo: ['.']\n").routes(), "a.example"));
  const std::string rules =
      kEdge + kRoute + service("web.example", "HTTP", "other") +
      networking("DestinationRule", "d", "{host: web.example, trafficPolicy: {loadBalancer: {simple: RANDOM}}}", "other");
  EXPECT_TRUE(has(Translated(rules).cluster(), "RANDOM"));
  EXPECT_FALSE(has(Translated(rules, "defaultDestinationRuleExportTo: ['.']\n").cluster(), "RANDOM"));
}

TEST(MeshConfig, TlsDefaultsAreForServersAndOriginatedTls) {
  const std::string mesh = "tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256], cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}\n";
  const auto edge = [](const std::string& more) {
    return networking("Gateway", "g",
                      "{selector: {istio: gw}, servers: [{port: {number: 443, name: x, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, "
                      "serverCertificate: /c, privateKey: /k" +
                          more + "}}]}");
  };
  const std::string all = Translated(edge(""), mesh).listener("0.0.0.0_443");
  EXPECT_TRUE(has(
      all, R"("tlsParams":{"tlsMinimumProtocolVersion":"TLSv1_3","cipherSuites":["ECDHE-RSA-AES128-GCM-SHA256"],"ecdhCurves":["P-256"]})"))
      << all;
  const std::string own = Translated(edge(", minProtocolVersion: TLSV1_2, cipherSuites: [AES128-SHA]"), mesh).listener("0.0.0.0_443");
  EXPECT_TRUE(has(own, R"("tlsParams":{"tlsMinimumProtocolVersion":"TLSv1_2","cipherSuites":["AES128-SHA"],"ecdhCurves":["P-256"]})"))
      << own;
  EXPECT_TRUE(has(Translated(kWorld + rule("{tls: {mode: SIMPLE}}"), mesh).cluster(), R"("ecdhCurves":["P-256"])"));
  EXPECT_FALSE(has(Translated(kWorld, mesh).cluster(), "ecdhCurves"));
}

TEST(MeshConfig, TheTopologyBeforeTheGatewayAndItsHeaders) {
  const std::string plain = Translated(kWorld).listener();
  EXPECT_TRUE(has(plain, R"("forwardClientCertDetails":"SANITIZE_SET")") && has(plain, R"("serverName":"istio-envoy")"));
  const std::string mesh =
      "defaultConfig: {gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: FORWARD_ONLY, proxyProtocol: {}}, proxyHeaders: "
      "{server: {value: mine}, "
      "requestId: {disabled: true}, attemptCount: {disabled: true}, envoyDebugHeaders: {disabled: true}, metadataExchangeHeaders: {mode: "
      "IN_MESH}, "
      "xForwardedPort: {enabled: true}}}\n";
  Translated t(kWorld, mesh);
  const std::string text = t.listener();
  for (const char* part : {R"("xffNumTrustedHops":2)", R"("forwardClientCertDetails":"FORWARD_ONLY")", R"("serverName":"mine")",
                           R"("generateRequestId":false)", R"("appendXForwardedPort":true)", R"("suppressEnvoyHeaders":true)",
                           R"("skip_external_clusters":true)", "envoy.filters.listener.proxy_protocol"})
    EXPECT_TRUE(has(text, part)) << part << "\n" << text;
  EXPECT_FALSE(has(text, "setCurrentClientCertDetails"));
  EXPECT_FALSE(has(t.routes(), "includeRequestAttemptCount"));
  EXPECT_TRUE(has(Translated(kWorld, "defaultConfig: {proxyHeaders: {server: {disabled: true}}}\n").listener(),
                  R"("serverHeaderTransformation":"PASS_THROUGH")"));
}

TEST(MeshConfig, WhatTheNodeSaysOfItselfComesFirst) {
  const auto node = node_from_json(
      R"({"id": "router~10.0.0.1~a.shop~shop.svc.cluster.local", "cluster": "gw.shop", "metadata": {"NAMESPACE": "shop", "LABELS": {"istio": "gw"}, "INSTANCE_IPS": "10.0.0.1",
          "PROXY_CONFIG": {"gatewayTopology": {"numTrustedProxies": 3}}}})");
  ASSERT_TRUE(node.has_value()) << node.error();
  EXPECT_EQ(node->cluster, "gw.shop");
  const std::string text = Translated(kWorld, "defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}\n", *node).listener();
  EXPECT_TRUE(has(text, R"("xffNumTrustedHops":3)")) << text;
  EXPECT_NE(node->key(), kNode.key());
}

// What is kept from one version to the next (translation.h) is made anew where it hangs on MeshConfig or Telemetry.
TEST(MeshConfig, AChangeReachesWhatIsKept) {
  const std::string world = networking("Gateway", "g",
                                       "{selector: {istio: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: "
                                       "[a.example, b.example], tls: {httpsRedirect: true}}]}") +
                            service("web.example") + service("zipkin.example") + kRoute;
  const std::pair<std::string, std::string> versions[] = {
      {world, ""},
      {world, "defaultConfig: {proxyHeaders: {attemptCount: {disabled: true}}, gatewayTopology: {numTrustedProxies: 1}}\n"},
      {world, "defaultServiceExportTo: ['~']\n"},
      {world, kZipkin + "defaultHttpRetryPolicy: {attempts: 9}\n"},
      {world + telemetry("{tracing: [{providers: [{name: z}]}]}"), kZipkin},
      {world + rule("{proxyProtocol: {}}"), kZipkin + "tlsDefaults: {ecdhCurves: [P-256]}\n"}};
  Translation kept(kNode, {.deny_by_default = false});
  for (const auto& [yaml, mesh] : versions) {
    const Loaded l = load_text(yaml, "in.yaml", mesh);
    ASSERT_FALSE(has_errors(l.issues)) << render(l.issues);
    const auto got = kept.update(std::make_shared<const World>(l.world));
    const auto want = to_resources(translate(l.world, kNode, {.deny_by_default = false}));
    ASSERT_TRUE(got && want);
    for (int t = 0; t < kTypes; t++) EXPECT_EQ((*got)->version[t], want->version[t]) << kTypeNames[t] << " with " << mesh;
  }
}

TEST(MeshConfig, IsCheckedAtItsLine) {
  EXPECT_TRUE(has(refusal(kEdge, "extensionProviders: [{name: a}]\n"), "says not what it is"));
  EXPECT_TRUE(
      has(refusal(kEdge, "extensionProviders: [{name: a, prometheus: {}, zipkin: {service: s, port: 1}}]\n"), "a provider is one thing"));
  EXPECT_TRUE(has(refusal(kEdge, "extensionProviders: [{name: a, prometheus: {}}, {name: a, prometheus: {}}]\n"), "is there twice"));
  EXPECT_TRUE(
      has(refusal(kEdge, "enableEnvoyAccessLogService: true\n"), "mesh.yaml:1:1: enableEnvoyAccessLogService: Istio has this field"));
  EXPECT_EQ(refusal(kEdge,
                    "meshMTLS: {minProtocolVersion: TLSV1_3}\nenablePrometheusMerge: true\noutboundTrafficPolicy: {mode: "
                    "REGISTRY_ONLY}\ndefaultConfig: {holdApplicationUntilProxyStarts: true}\n"),
            "");
}

TEST(EnvoyFilters, ATargetIsTheGatewayByItsName) {
  const std::string filter = networking("EnvoyFilter", "f",
                                        "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], configPatches: "
                                        "[{applyTo: CLUSTER, patch: {operation: REMOVE}}]}");
  NodeInfo node = kNode;
  EXPECT_TRUE(Translated(kWorld + filter, {}, node).answer.patches.empty());
  node.labels["gateway.networking.k8s.io/gateway-name"] = "edge";
  EXPECT_EQ(Translated(kWorld + filter, {}, node).answer.patches.size(), 1u);
}

}  // namespace
}  // namespace sluice::plane
