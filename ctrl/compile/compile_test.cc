#include "ctrl/compile/compile.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "ctrl/compile/translate.h"
#include "dataplane/route/route.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb.h"
#include "tls-offload/ca.h"

namespace sluice::compile {
namespace {

struct NoSecrets : SecretSource {
  const Secret* find(std::string_view) override { return nullptr; }
};

// The recorded answers of istiod stand beside the project (or at SLUICE_GOLDEN).
std::string golden() {
  if (const char* set = std::getenv("SLUICE_GOLDEN")) return set;
  return (std::filesystem::path(SLUICE_SOURCE_ROOT).parent_path() / "shared/golden").string();
}
#define NEED_GOLDEN() \
  if (!std::filesystem::exists(golden() + "/istiod")) GTEST_SKIP() << golden() << "/istiod is not there (SLUICE_GOLDEN)"

std::shared_ptr<const tables::Snapshot> snapshot_of(Compiler& c, const std::string& input) {
  const auto resources = load_golden(golden() + "/istiod/" + input);
  EXPECT_TRUE(resources) << (resources ? "" : resources.error());
  for (const Resource& r : *resources) {
    const auto taken = c.apply(r.type_url, r.name, r.bytes);
    EXPECT_TRUE(taken) << input << " " << r.name << ": " << (taken ? "" : taken.error());
  }
  NoSecrets none;
  return c.build(none, 0);
}

class Golden : public testing::TestWithParam<const char*> {};
TEST_P(Golden, IsTakenWhole) {
  NEED_GOLDEN();
  Compiler c;
  const auto s = snapshot_of(c, GetParam());
  EXPECT_FALSE(s->listeners.empty());
  for (const auto& name : c.wanted(kRouteType)) {
    bool there = false;
    for (const auto& r : s->route_configs) there |= r != nullptr && r->name == name;
    EXPECT_TRUE(there) << name;
  }
}
INSTANTIATE_TEST_SUITE_P(Istiod, Golden,
                         testing::Values("01-http", "02-tls-simple", "03-tls-mutual", "04-tls-optional-mutual", "05-tls-istio-mutual",
                                         "06-https-redirect", "07-passthrough", "08-auto-passthrough", "09-tcp", "10-canary", "11-matches",
                                         "22-authz-default-deny", "23-authz-sources", "26-hosts-merge"));

TEST(EveryGolden, GetsAVerdictWithAReason) {
  NEED_GOLDEN();
  unsigned inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden() + "/istiod")) {
    if (!entry.is_directory()) continue;
    inputs++;
    Compiler c;
    const auto resources = load_golden(entry.path().string());
    ASSERT_TRUE(resources) << resources.error();
    for (const Resource& r : *resources)
      if (const auto taken = c.apply(r.type_url, r.name, r.bytes); !taken) EXPECT_FALSE(taken.error().empty()) << r.name;
  }
  EXPECT_EQ(inputs, 31u);
}

TEST(Http, ThePlainListenerOfIstiodBecomesAnHcmWithItsDefaults) {
  NEED_GOLDEN();
  Compiler c;
  const auto s = snapshot_of(c, "01-http");
  ASSERT_EQ(s->listeners.size(), 1u);
  const tables::Listener& l = *s->listeners[0];
  EXPECT_EQ(l.address.to_string(), "0.0.0.0:80");
  ASSERT_EQ(l.chains.size(), 1u);
  const tables::Hcm& h = *l.chains[0]->http;
  EXPECT_EQ(h.server_name, "istio-envoy");
  EXPECT_TRUE(h.forwarding.use_remote_address);
  EXPECT_TRUE(h.proxy_100_continue);
  EXPECT_TRUE(h.websocket);
  EXPECT_EQ(h.stream_idle_timeout, 0u) << "an explicit 0 is off";
  EXPECT_EQ(h.idle_timeout, 3600 * kSec) << "an absent field has Envoy's default";
  const tables::RouteConfiguration* routes = s->routes(h.route_config);
  ASSERT_NE(routes, nullptr);
  EXPECT_TRUE(routes->ignore_port);
  const tables::Route& r = routes->virtual_hosts[0]->routes[0];
  EXPECT_EQ(r.forward.timeout, 0u);
  EXPECT_EQ(r.forward.retry->num_retries, 2u);
  EXPECT_TRUE(r.forward.retry->previous_hosts);
  EXPECT_EQ(r.source, "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/web");
  const tables::Cluster* cluster = s->cluster(r.forward.clusters[0].cluster);
  ASSERT_NE(cluster, nullptr);
  EXPECT_EQ(cluster->lb, tables::LbPolicy::kLeastRequest);
  EXPECT_EQ(cluster->connect_timeout, 10 * kSec);
  ASSERT_EQ(cluster->endpoints->endpoints.size(), 2u);
  EXPECT_FALSE(cluster->endpoints->endpoints[0].tls);
}

TEST(Tls, AChainWhoseSecretIsMissingStaysShutAndIsNamed) {
  NEED_GOLDEN();
  Compiler c;
  const auto s = snapshot_of(c, "03-tls-mutual");
  bool seen = false;
  for (const auto& l : s->listeners)
    for (const auto& chain : l->chains) {
      if (!chain->tls_required) continue;
      seen = true;
      EXPECT_EQ(chain->tls, nullptr);
      EXPECT_FALSE(chain->tls_missing.empty());
      EXPECT_TRUE(chain->client_certificate_required);
    }
  EXPECT_TRUE(seen);
  EXPECT_TRUE(c.wanted("secret").contains("file-root:/etc/sluice/pki/ca.pem"));
}

// ---- by hand

envoy::config::cluster::v3::Cluster plain_cluster(const std::string& name) {
  envoy::config::cluster::v3::Cluster c;
  c.set_name(name);
  c.set_type(envoy::config::cluster::v3::Cluster::EDS);
  c.mutable_eds_cluster_config()->set_service_name(name);
  return c;
}
envoy::config::route::v3::RouteConfiguration plain_routes(const std::string& cluster) {
  envoy::config::route::v3::RouteConfiguration r;
  r.set_name("r");
  auto* v = r.add_virtual_hosts();
  v->set_name("v");
  v->add_domains("*");
  auto* route = v->add_routes();
  route->mutable_match()->set_prefix("/");
  route->mutable_route()->set_cluster(cluster);
  return r;
}
envoy::config::endpoint::v3::ClusterLoadAssignment assignment(const std::string& name, const std::string& address) {
  envoy::config::endpoint::v3::ClusterLoadAssignment a;
  a.set_cluster_name(name);
  auto* s = a.add_endpoints()->add_lb_endpoints()->mutable_endpoint()->mutable_address()->mutable_socket_address();
  s->set_address(address);
  s->set_port_value(80);
  return a;
}

// What subjectAltNames of a MUTUAL server become (istiod writes the untyped form).
TlsTemplate tls_with_names(std::initializer_list<const char*> names, const char* trusted = "file-root:/ca.pem") {
  envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext t;
  auto* c = t.mutable_common_tls_context();
  c->add_tls_certificate_sds_secret_configs()->set_name("file-cert:/a.pem~/a-key.pem");
  auto* combined = c->mutable_combined_validation_context();
  combined->mutable_validation_context_sds_secret_config()->set_name(trusted);
  auto* validation = combined->mutable_default_validation_context();
  for (const char* n : names) validation->add_match_subject_alt_names()->set_exact(n);
  t.mutable_require_client_certificate()->set_value(true);
  envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy proxy;
  proxy.set_cluster("c");
  envoy::config::listener::v3::Listener l;
  l.set_name("l");
  l.mutable_address()->mutable_socket_address()->set_address("0.0.0.0");
  l.mutable_address()->mutable_socket_address()->set_port_value(443);
  auto* chain = l.add_filter_chains();
  chain->mutable_transport_socket()->mutable_typed_config()->PackFrom(t);
  chain->add_filters()->mutable_typed_config()->PackFrom(proxy);
  Interned ids;
  return *listener_of(l, ids).tls[0];
}

TEST(Tls, OneSpiffeIdIsDemandedOfTheMeshAndWhereNothingElseIsAskedFor) {
  const char *spiffe = "spiffe://cluster.local/ns/shop/sa/client", *name = "client.example.com";
  EXPECT_FALSE(tls_with_names({}).spiffe_required);
  EXPECT_TRUE(tls_with_names({}, "ROOTCA").spiffe_required);
  EXPECT_TRUE(tls_with_names({spiffe}).spiffe_required);
  EXPECT_FALSE(tls_with_names({name}).spiffe_required);
  EXPECT_FALSE(tls_with_names({spiffe, name}).spiffe_required);  // or nobody could come by the name
}

// Compared with Envoy 1.37: DNS SANs are met as DNS names, the others byte by byte.
TEST(Tls, AnExactNameIsMetByADnsSanWithoutCaseAndByItsWildcard) {
  using tls::SanType;
  const TlsTemplate t = tls_with_names({"client.example.com"});
  const struct {
    SanType type;
    const char* san;
    bool met;
  } rows[] = {{SanType::kDns, "client.example.com", true},
              {SanType::kDns, "CLIENT.example.com", true},
              {SanType::kDns, "*.example.com", true},
              {SanType::kDns, "*.com", false},
              {SanType::kDns, "*", false},
              {SanType::kDns, "c*.example.com", false},
              {SanType::kDns, "*.client.example.com", false},
              {SanType::kDns, "*.*.com", false},
              {SanType::kDns, "a.example.com", false},
              {SanType::kUri, "client.example.com", true},
              {SanType::kUri, "CLIENT.example.com", false},
              {SanType::kUri, "*.example.com", false},
              {SanType::kEmail, "*.example.com", false}};
  for (const auto& row : rows) EXPECT_EQ(t.options.san_matchers[0](row.type, row.san), row.met) << int(row.type) << " " << row.san;
}

TEST(Refusal, AFieldThatIsNotObeyedIsNamedByItsPathAndTheLastGoodVersionStays) {
  Compiler c;
  NoSecrets none;
  ASSERT_TRUE(c.apply(kRouteType, "r", plain_routes("a").SerializeAsString()));
  auto bad = plain_routes("b");
  bad.mutable_virtual_hosts(0)->mutable_routes(0)->mutable_route()->add_request_mirror_policies()->set_cluster("m");
  const auto taken = c.apply(kRouteType, "r", bad.SerializeAsString());
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().find("virtual_hosts[0].routes[0].route.request_mirror_policies"), std::string::npos) << taken.error();
  const auto s = c.build(none, 0);
  ASSERT_EQ(s->route_configs.size(), 1u);
  EXPECT_EQ(s->route_configs[0]->virtual_hosts[0]->routes[0].forward.clusters[0].name, "a");
  ASSERT_EQ(c.status().size(), 1u);
  EXPECT_FALSE(c.status()[0].refused.empty());
  ASSERT_TRUE(c.apply(kRouteType, "r", plain_routes("b").SerializeAsString()));
  EXPECT_TRUE(c.status()[0].refused.empty());
}

TEST(Http, TrailersAreEnabledForEachSideAlone) {
  Compiler c;
  envoy::config::cluster::v3::Cluster cluster = plain_cluster("c");
  envoy::extensions::upstreams::http::v3::HttpProtocolOptions options;
  options.mutable_explicit_http_config()->mutable_http_protocol_options()->set_enable_trailers(true);
  auto& any = (*cluster.mutable_typed_extension_protocol_options())["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
  any.PackFrom(options);
  ASSERT_TRUE(c.apply(kClusterType, "c", cluster.SerializeAsString()));
  ASSERT_TRUE(c.apply(kClusterType, "plain", plain_cluster("plain").SerializeAsString()));
  envoy::config::listener::v3::Listener listener;
  listener.set_name("l");
  listener.mutable_address()->mutable_socket_address()->set_address("0.0.0.0");
  listener.mutable_address()->mutable_socket_address()->set_port_value(80);
  envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager hcm;
  *hcm.mutable_route_config() = plain_routes("c");
  hcm.mutable_http_protocol_options()->set_enable_trailers(true);
  auto* router = hcm.add_http_filters();
  router->set_name("envoy.filters.http.router");
  router->mutable_typed_config()->PackFrom(envoy::extensions::filters::http::router::v3::Router());
  auto* filter = listener.add_filter_chains()->add_filters();
  filter->set_name("envoy.filters.network.http_connection_manager");
  filter->mutable_typed_config()->PackFrom(hcm);
  ASSERT_TRUE(c.apply(kListenerType, "l", listener.SerializeAsString()));
  NoSecrets none;
  const auto s = c.build(none, 0);
  ASSERT_EQ(s->listeners.size(), 1u);
  EXPECT_TRUE(s->listeners[0]->chains[0]->http->enable_trailers);
  for (const auto& x : s->clusters)
    if (x != nullptr) EXPECT_EQ(x->enable_trailers, x->name == "c");
  options.mutable_explicit_http_config()->mutable_http_protocol_options()->set_accept_http_10(true);
  any.PackFrom(options);
  EXPECT_FALSE(c.apply(kClusterType, "c", cluster.SerializeAsString()));
}

TEST(Refusal, AnUnknownFieldIsRefusedAndSoIsAFirstVersion) {
  Compiler c;
  NoSecrets none;
  auto r = plain_routes("a");
  r.GetReflection()->MutableUnknownFields(&r)->AddVarint(4000, 1);
  EXPECT_FALSE(c.apply(kRouteType, "r", r.SerializeAsString()));
  EXPECT_TRUE(c.build(none, 0)->route_configs.empty());
}

TEST(Refusal, ARegexThatDoesNotCompileAndADomainOfTwoHosts) {
  Compiler c;
  auto r = plain_routes("a");
  r.mutable_virtual_hosts(0)->mutable_routes(0)->mutable_match()->mutable_safe_regex()->set_regex("(");
  EXPECT_FALSE(c.check(kRouteType, "r", r.SerializeAsString()));
  r = plain_routes("a");
  *r.add_virtual_hosts() = r.virtual_hosts(0);
  EXPECT_FALSE(c.check(kRouteType, "r", r.SerializeAsString()));
}

// A listener whose chains are `chains`, as JSON; why it is refused, "" when it is not.
std::string listener_refused(const std::string& chains) {
  const auto parsed = parse_json(R"([{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l", "address":
    {"socket_address": {"address": "0.0.0.0", "port_value": 80}}, "filter_chains": [)" +
                                     chains + "]}]",
                                 "test");
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error());
  Compiler c;
  const auto taken = c.apply(kListenerType, "l", parsed->front().bytes);
  return taken ? "" : taken.error();
}
std::string typed(const std::string& type, const std::string& fields = "") {
  return R"({"name": "x", "typed_config": {"@type": "type.googleapis.com/)" + type + "\"" + (fields.empty() ? "" : ", " + fields) + "}}";
}
const std::string kDenyAll =
    R"("rules": {"action": "DENY", "policies": {"p": {"permissions": [{"any": true}], "principals": [{"any": true}]}}})";
const std::string kTcp = typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", R"("stat_prefix": "t", "cluster": "c")");
std::string http_chain(const std::string& filter) {
  return R"({"filters": [)" +
         typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               R"("stat_prefix": "h", "rds": {"route_config_name": "r"}, "http_filters": [)" + filter + ", " +
                   typed("envoy.extensions.filters.http.router.v3.Router") + "]") +
         "]}";
}
std::string tcp_chain(const std::string& filter, const std::string& match = "") {
  return R"({"filter_chain_match": {)" + match + R"(}, "filters": [)" + filter + ", " + kTcp + "]}";
}

// The context that comes by SDS is laid over the listener's own, as Envoy merges them: a list that the secret does not bring stands.
TEST(Tls, TheListenersRevocationListStandsUnlessTheSecretHasOne) {
  const auto root = tls::make_root("test", tls::KeyKind::kP256, 3600, int64_t(time(nullptr)) * 1'000'000, {1});
  ASSERT_TRUE(root) << root.error();
  const auto issuer = tls::Issuer::make({.certificate = root->certificate_pem, .key = root->key_pem}, int64_t(time(nullptr)) * 1'000'000);
  ASSERT_TRUE(issuer) << issuer.error();
  struct Secrets : SecretSource {
    Secret server{.name = "server"}, ca{.name = "ca"};
    const Secret* find(std::string_view name) override { return name == "server" ? &server : &ca; }
  } secrets;
  secrets.server.cert_chain_pem = secrets.ca.trusted_ca_pem = root->certificate_pem;
  secrets.server.private_key_pem = root->key_pem;
  const auto parsed = parse_json(R"([{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l", "address":
    {"socket_address": {"address": "0.0.0.0", "port_value": 80}}, "filter_chains": [{"filters": [)" +
                                     kTcp + R"(], "transport_socket": )" +
                                     typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                                           R"("require_client_certificate": true, "common_tls_context": {
      "tls_certificate_sds_secret_configs": [{"name": "server"}], "combined_validation_context": {
        "default_validation_context": {"crl": {"inline_string": "no list"}}, "validation_context_sds_secret_config": {"name": "ca"}}})") +
                                     "}]}]",
                                 "test");
  ASSERT_TRUE(parsed) << parsed.error();
  Compiler c;
  ASSERT_TRUE(c.apply(kListenerType, "l", parsed->front().bytes));
  auto s = c.build(secrets, 0);
  EXPECT_EQ(s->listeners[0]->chains[0]->tls, nullptr);
  EXPECT_NE(s->listeners[0]->chains[0]->tls_missing.find("CRL: no revocation list"), std::string::npos);
  secrets.ca.crl_pem = *(*issuer)->revocation_list({}, 1, int64_t(time(nullptr)) * 1'000'000);
  s = c.build(secrets, 0);
  EXPECT_NE(s->listeners[0]->chains[0]->tls, nullptr) << s->listeners[0]->chains[0]->tls_missing;
}

// Passed over, it would deny nobody. Envoy refuses each of these listeners too.
TEST(Refusal, AFilterInTheWrongListOrWithoutAConfigurationIsNotPassedOver) {
  const std::string http_rbac = typed("envoy.extensions.filters.http.rbac.v3.RBAC", kDenyAll),
                    network_rbac = typed("envoy.extensions.filters.network.rbac.v3.RBAC", R"("stat_prefix": "s", )" + kDenyAll);
  EXPECT_EQ(listener_refused(http_chain(http_rbac)), "");
  EXPECT_EQ(listener_refused(tcp_chain(network_rbac)), "");
  EXPECT_NE(listener_refused(http_chain(network_rbac)).find("is no HTTP filter"), std::string::npos);
  EXPECT_NE(listener_refused(tcp_chain(http_rbac)).find("is no network filter"), std::string::npos);
  for (const char* name : {"envoy.filters.http.rbac", "envoy.filters.network.rbac"}) {
    const std::string bare = std::string(R"({"name": ")") + name + "\"}";
    EXPECT_NE(listener_refused(http_chain(bare)).find("is no HTTP filter"), std::string::npos) << name;
    EXPECT_NE(listener_refused(tcp_chain(bare)).find("is no network filter"), std::string::npos) << name;
  }
  EXPECT_NE(listener_refused(http_chain(typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))), "");
  EXPECT_NE(listener_refused(tcp_chain(typed("envoy.extensions.filters.http.cors.v3.Cors"))), "");
  EXPECT_EQ(listener_refused(http_chain(typed("envoy.extensions.filters.http.cors.v3.Cors"))), "");
  EXPECT_EQ(listener_refused(http_chain(typed("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"))), "");
  EXPECT_EQ(
      listener_refused(tcp_chain(typed("envoy.tcp.metadataexchange.config.MetadataExchange", R"("protocol": "istio-peer-exchange")"))), "");
}

TEST(Refusal, ChainsThatMatchTheSameConnections) {
  const std::string nothing = typed("stats.PluginConfig");
  EXPECT_NE(listener_refused(tcp_chain(nothing) + ", " + tcp_chain(nothing)).find("match the same connections"), std::string::npos);
  EXPECT_EQ(listener_refused(tcp_chain(nothing, R"("server_names": ["a"])") + ", " + tcp_chain(nothing, R"("server_names": ["b"])")), "");
}

TEST(Refusal, OfTwoListenersWithOneAddressTheOneThatHasItServes) {
  Compiler c;
  NoSecrets none;
  const auto push = [&](const std::string& name, int port) {
    const auto parsed = parse_json(R"([{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": ")" + name +
                                       R"(", "address": {"socket_address": {"address": "0.0.0.0", "port_value": )" + std::to_string(port) +
                                       R"(}}, "filter_chains": [)" + tcp_chain(typed("stats.PluginConfig")) + "]}]",
                                   "test");
    ASSERT_TRUE(c.apply(kListenerType, name, parsed->front().bytes));
  };
  const auto serving = [&] {
    std::string names;
    const auto s = c.build(none, 0);
    for (const auto& l : s->listeners) names += l->name + " ";
    return names;
  };
  push("b", 80);
  EXPECT_EQ(serving(), "b ");
  push("a", 80);
  EXPECT_EQ(serving(), "b ");
  ASSERT_EQ(c.status().size(), 2u);
  EXPECT_EQ(c.status()[0].refused, "its address 0.0.0.0:80 is listener \"b\"'s");
  EXPECT_EQ(c.status()[1].refused, "");
  c.remove(kListenerType, "b");
  EXPECT_EQ(serving(), "a ");
  EXPECT_EQ(c.status()[0].refused, "");
  push("b", 80);
  push("a", 81);
  EXPECT_EQ(serving(), "b a ");
}

TEST(Refusal, BytesThatAreNoSuchMessage) {
  Compiler c;
  EXPECT_FALSE(c.apply(kRouteType, "r", "\xff\xff"));
  EXPECT_FALSE(c.apply("type.googleapis.com/nothing.Known", "r", ""));
}

TEST(Identity, PartsThatDidNotChangeAreTheSameObjectsAndIdsStay) {
  Compiler c;
  NoSecrets none;
  ASSERT_TRUE(c.apply(kClusterType, "a", plain_cluster("a").SerializeAsString()));
  ASSERT_TRUE(c.apply(kClusterType, "b", plain_cluster("b").SerializeAsString()));
  ASSERT_TRUE(c.apply(kEndpointType, "a", assignment("a", "10.0.0.1").SerializeAsString()));
  ASSERT_TRUE(c.apply(kRouteType, "r", plain_routes("a").SerializeAsString()));
  const auto one = c.build(none, 0);
  ASSERT_TRUE(c.apply(kEndpointType, "a", assignment("a", "10.0.0.2").SerializeAsString()));
  const auto two = c.build(none, 0);
  EXPECT_EQ(one->route_configs, two->route_configs);
  unsigned same = 0, changed = 0;
  for (size_t i = 0; i < one->clusters.size(); i++) (one->clusters[i] == two->clusters[i] ? same : changed)++;
  EXPECT_EQ(same, 1u);
  EXPECT_EQ(changed, 1u);
  ASSERT_TRUE(c.apply(kEndpointType, "a", assignment("a", "10.0.0.1").SerializeAsString()));
  const auto three = c.build(none, 0);
  for (size_t i = 0; i < one->clusters.size(); i++)
    if (!one->clusters[i]->endpoints->endpoints.empty())
      EXPECT_EQ(one->clusters[i]->endpoints->endpoints[0].id, three->clusters[i]->endpoints->endpoints[0].id);
  EXPECT_GT(three->generation, one->generation);
}

// Pods come and go for as long as a gateway lives; a worker's table of endpoints is bounded.
TEST(Identity, IdsOfEndpointsThatWentAreGivenAgainTheOldestFirst) {
  Ids ids("things", Ids::kFreshMin + 2);
  for (uint32_t i = 0; i < Ids::kFreshMin; i++) EXPECT_EQ(ids.of("first " + std::to_string(i)), i);
  ids.release("first 7");
  ids.release("first 3");
  ids.release("first 5");
  ids.release("first 5");
  ids.release("never seen");
  EXPECT_EQ(ids.of("first 7"), 7u) << "it came back before another one needed its id";
  EXPECT_EQ(ids.of("a"), 3u);
  EXPECT_EQ(ids.of("b"), 5u);
  EXPECT_EQ(ids.room(), 2u);
  EXPECT_EQ(ids.of("c"), Ids::kFreshMin);
  EXPECT_EQ(ids.of("first 3"), Ids::kFreshMin + 1);
  EXPECT_EQ(ids.room(), 0u);
  EXPECT_THROW(ids.of("d"), Refused);
  EXPECT_EQ(ids.of("a"), 3u);
  ids.release("c");
  EXPECT_EQ(ids.of("d"), Ids::kFreshMin);
}

TEST(Identity, APodThatRestartsAMillionTimesNeedsNoMillionIds) {
  Compiler c;
  NoSecrets none;
  ASSERT_TRUE(c.apply(kClusterType, "a", plain_cluster("a").SerializeAsString()));
  uint32_t most = 0;
  for (uint32_t i = 0; i < Ids::kFreshMin + 1000; i++) {
    ASSERT_TRUE(c.apply(kEndpointType, "a", assignment("a", IpAddress(Ipv4{0x0a000000 + i}).to_string()).SerializeAsString()));
    const auto s = c.build(none, 0);
    most = std::max(most, s->clusters[0]->endpoints->endpoints[0].id);
  }
  EXPECT_LT(most, Ids::kFreshMin);
}

TEST(Refusal, WhatAClusterBringsItselfIsJudgedWithIt) {
  Compiler c;
  NoSecrets none;
  auto cluster = plain_cluster("a");
  cluster.set_type(envoy::config::cluster::v3::Cluster::STATIC);
  *cluster.mutable_load_assignment() = assignment("a", "origin.example.com");
  EXPECT_FALSE(c.apply(kClusterType, "a", cluster.SerializeAsString()));
  c.build(none, 0);
  *cluster.mutable_load_assignment() = assignment("a", "10.0.0.1");
  EXPECT_TRUE(c.apply(kClusterType, "a", cluster.SerializeAsString()));
  cluster.mutable_load_assignment()->mutable_endpoints(0)->set_priority(4'000'000'000);  // a worker would make that many levels
  EXPECT_FALSE(c.apply(kClusterType, "a", cluster.SerializeAsString()));
}

TEST(Endpoints, TheTransportSocketThatItsMetadataSelectsDecides) {
  auto cluster = plain_cluster("a");
  auto* istio = cluster.add_transport_socket_matches();
  istio->set_name("tlsMode-istio");
  (*istio->mutable_match()->mutable_fields())["tlsMode"].set_string_value("istio");
  istio->mutable_transport_socket()->set_name("envoy.transport_sockets.tls");
  auto* disabled = cluster.add_transport_socket_matches();
  disabled->set_name("tlsMode-disabled");
  disabled->mutable_match();
  disabled->mutable_transport_socket()->set_name("envoy.transport_sockets.raw_buffer");
  for (bool tls : {false, true}) {
    Compiler c;
    NoSecrets none;
    auto a = assignment("a", "10.0.0.1");
    if (tls)
      (*(*a.mutable_endpoints(0)->mutable_lb_endpoints(0)->mutable_metadata()->mutable_filter_metadata())["envoy.transport_socket_match"]
            .mutable_fields())["tlsMode"]
          .set_string_value("istio");
    ASSERT_TRUE(c.apply(kClusterType, "a", cluster.SerializeAsString()));
    ASSERT_TRUE(c.apply(kEndpointType, "a", a.SerializeAsString()));
    EXPECT_EQ(c.build(none, 0)->clusters[0]->endpoints->endpoints[0].tls, tls);
  }
}

TEST(Wanted, NamesOfAssignmentsFollowTheClusters) {
  Compiler c;
  ASSERT_TRUE(c.apply(kClusterType, "a", plain_cluster("a").SerializeAsString()));
  EXPECT_EQ(c.wanted(kEndpointType), std::set<std::string>{"a"});
  c.remove(kClusterType, "a");
  EXPECT_TRUE(c.wanted(kEndpointType).empty());
}

}  // namespace
}  // namespace sluice::compile
