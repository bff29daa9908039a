#include <algorithm>

#include "ctrl/compile/translate.h"
#include "dataplane/authz/authz.h"
#include "dataplane/http/format.h"
#include "dataplane/tables/filter_chain_index.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb.h"
#include "envoy/extensions/filters/http/rbac/v3/rbac.pb.h"
#include "envoy/extensions/filters/http/router/v3/router.pb.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/rbac/v3/rbac.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"

namespace sluice::compile {

IpPrefix prefix_of(const core::CidrRange& range) {
  const auto address = IpAddress::parse(range.address_prefix());
  const uint32_t length = range.prefix_len().value();
  if (!address || length > (address->is_v4() ? 32u : 128u))
    throw Refused("\"" + range.address_prefix() + "/" + std::to_string(length) + "\" is no CIDR block");
  return {*address, uint8_t(length)};
}

SocketAddress address_of(const core::Address& a) {
  const auto& s = a.socket_address();
  const auto ip = IpAddress::parse(s.address());
  if (!ip) throw Refused("address \"" + s.address() + "\" is not an IP address (names are not resolved)");
  if (s.protocol() != core::SocketAddress::TCP) throw Refused("address " + s.address() + ": protocol UDP is not supported");
  if (s.port_value() == 0 || s.port_value() > 65535) throw Refused("address " + s.address() + ": port " + std::to_string(s.port_value()));
  return {*ip, uint16_t(s.port_value())};
}

namespace {

namespace ls = envoy::config::listener::v3;
namespace nf = envoy::extensions::filters::network;
namespace ts = envoy::extensions::transport_sockets::tls::v3;
using envoy::config::accesslog::v3::AccessLog;

// What has no effect as judge() lets it pass. A type that it knows from another place is none here: passed over, an RBAC filter in the
// wrong list would allow everybody.
constexpr std::string_view kInertHttpFilters[] = {"envoy.extensions.filters.http.cors.v3.Cors",
                                                  "envoy.extensions.filters.http.fault.v3.HTTPFault",
                                                  "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
                                                  "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
                                                  "stats.PluginConfig",
                                                  "udpa.type.v1.TypedStruct",
                                                  "xds.type.v3.TypedStruct"};
constexpr std::string_view kInertNetworkFilters[] = {"envoy.tcp.metadataexchange.config.MetadataExchange", "stats.PluginConfig",
                                                     "udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"};
bool one_of(const google::protobuf::Any& any, std::span<const std::string_view> types) {
  return std::ranges::find(types, std::string_view(any.type_url()).substr(any.type_url().rfind('/') + 1)) != types.end();
}

// Istio's default format, for a file logger without one of its own.
constexpr std::string_view kEnvoyDefaultFormat =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% "
    "%BYTES_SENT% "
    "%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "
    "\"%REQ(:AUTHORITY)%\" "
    "\"%UPSTREAM_HOST%\"\n";

std::vector<std::shared_ptr<const tables::AccessLog>> logs_of(const google::protobuf::RepeatedPtrField<AccessLog>& logs) {
  std::vector<std::shared_ptr<const tables::AccessLog>> out;
  for (const AccessLog& l : logs) {
    const auto file = unpacked<envoy::extensions::access_loggers::file::v3::FileAccessLog>(l.typed_config());
    auto log = std::make_shared<tables::AccessLog>();
    log->path = file.path();
    if (l.has_filter()) {
      log->filter_present = true;
      for (const auto& f : l.filter().response_flag_filter().flags()) log->only_flags.push_back(f);
    }
    std::expected<std::shared_ptr<const http::Format>, std::string> format;
    if (file.log_format().has_json_format()) {
      std::vector<std::pair<std::string, std::string>> fields;
      for (const auto& [key, value] : file.log_format().json_format().fields()) {
        if (value.kind_case() != google::protobuf::Value::kStringValue)
          throw Refused("access log " + file.path() + ": json_format." + key + " is not a string");
        fields.emplace_back(key, value.string_value());
      }
      std::ranges::sort(fields);
      format = http::Format::compile_json(fields);
    } else {
      const auto& f = file.log_format();
      const std::string text = f.has_text_format_source() ? f.text_format_source().inline_string() + f.text_format_source().inline_bytes()
                               : !f.text_format().empty() ? f.text_format()
                               : !file.format().empty()   ? file.format()
                                                          : std::string(kEnvoyDefaultFormat);
      format = http::Format::compile(text);
    }
    if (!format) throw Refused("access log " + file.path() + ": " + format.error());
    log->format = *format;
    out.push_back(std::move(log));
  }
  return out;
}

template <class Config>
tables::RbacFilter rbac_filter_of(const Config& c) {
  tables::RbacFilter f;
  if (c.has_rules()) f.rules = rbac_of(c.rules());
  if (c.has_shadow_rules()) f.shadow_rules = rbac_of(c.shadow_rules());
  f.shadow_rules_stat_prefix = c.shadow_rules_stat_prefix();
  if (auto built = authz::build_rbac_filter(f); !built) throw Refused(built.error());
  return f;
}

std::shared_ptr<const tables::Hcm> hcm_of(const nf::http_connection_manager::v3::HttpConnectionManager& m, Interned& ids,
                                          std::set<std::string>& route_configs) {
  using M = nf::http_connection_manager::v3::HttpConnectionManager;
  auto out = std::make_shared<tables::Hcm>();
  if (m.codec_type() == M::HTTP2 || m.codec_type() == M::HTTP3)
    throw Refused("codec_type " + M::CodecType_Name(m.codec_type()) + " is not supported");
  out->stat_prefix = m.stat_prefix();
  if (m.has_rds()) {
    out->route_config_name = m.rds().route_config_name();
    out->route_config = ids.route_configs.of(out->route_config_name);
    route_configs.insert(out->route_config_name);
  } else if (m.has_route_config()) {
    out->inline_routes = routes_of(m.route_config(), ids);
  } else {
    throw Refused("http_connection_manager without rds or route_config");
  }
  for (int i = 0; i < m.http_filters_size(); i++) {
    const auto& f = m.http_filters(i);
    const auto& any = f.typed_config();
    const bool last = i + 1 == m.http_filters_size();
    const bool router = any.Is<envoy::extensions::filters::http::router::v3::Router>();
    if (router != last) throw Refused("http_filters: \"" + f.name() + "\": the router must be the last filter and only it");
    if (router) {
      out->filters.push_back({tables::HttpFilter::Kind::kRouter, f.name(), {}});
    } else if (any.Is<envoy::extensions::filters::http::rbac::v3::RBAC>()) {
      out->filters.push_back(
          {tables::HttpFilter::Kind::kRbac, f.name(), rbac_filter_of(unpacked<envoy::extensions::filters::http::rbac::v3::RBAC>(any))});
    } else if (!one_of(any, kInertHttpFilters)) {
      throw Refused("http_filters: \"" + f.name() + "\" is no HTTP filter of this gateway (" + any.type_url() + ")");
    }
  }
  if (out->filters.empty()) throw Refused("http_connection_manager without a router");
  out->access_logs = logs_of(m.access_log());
  if (!m.server_name().empty()) out->server_name = m.server_name();
  using Server = tables::Hcm::ServerHeader;
  out->server_header = m.server_header_transformation() == M::APPEND_IF_ABSENT ? Server::kAppendIfAbsent
                       : m.server_header_transformation() == M::PASS_THROUGH   ? Server::kPassThrough
                                                                               : Server::kOverwrite;
  http::ForwardingOptions& fw = out->forwarding;
  fw.use_remote_address = m.use_remote_address().value();
  fw.xff_trusted_hops = m.xff_num_trusted_hops();
  fw.skip_xff_append = m.skip_xff_append();
  fw.append_x_forwarded_port = m.append_x_forwarded_port();
  fw.generate_request_id = !m.has_generate_request_id() || m.generate_request_id().value();
  fw.preserve_external_request_id = m.preserve_external_request_id();
  switch (m.forward_client_cert_details()) {
    case M::SANITIZE: fw.forward_client_cert = http::ForwardClientCert::kSanitize; break;
    case M::FORWARD_ONLY: fw.forward_client_cert = http::ForwardClientCert::kForwardOnly; break;
    case M::APPEND_FORWARD: fw.forward_client_cert = http::ForwardClientCert::kAppendForward; break;
    case M::SANITIZE_SET: fw.forward_client_cert = http::ForwardClientCert::kSanitizeSet; break;
    case M::ALWAYS_FORWARD_ONLY: fw.forward_client_cert = http::ForwardClientCert::kAlwaysForwardOnly; break;
    default: throw Refused("forward_client_cert_details " + std::to_string(m.forward_client_cert_details()) + " is not known");
  }
  const auto& details = m.set_current_client_cert_details();
  fw.cert_subject = details.subject().value();
  fw.cert_pem = details.cert();
  fw.cert_chain = details.chain();
  fw.cert_dns = details.dns();
  fw.cert_uri = details.uri();
  out->path.normalize = m.normalize_path().value();
  out->path.merge_slashes = m.merge_slashes();
  switch (m.path_with_escaped_slashes_action()) {
    case M::IMPLEMENTATION_SPECIFIC_DEFAULT:
    case M::KEEP_UNCHANGED: out->path.escaped_slashes = http::EscapedSlashes::kKeep; break;
    case M::REJECT_REQUEST: out->path.escaped_slashes = http::EscapedSlashes::kReject; break;
    case M::UNESCAPE_AND_REDIRECT: out->path.escaped_slashes = http::EscapedSlashes::kUnescapeAndRedirect; break;
    case M::UNESCAPE_AND_FORWARD: out->path.escaped_slashes = http::EscapedSlashes::kUnescapeAndForward; break;
    default: throw Refused("path_with_escaped_slashes_action is not known");
  }
  out->proxy_100_continue = m.proxy_100_continue();
  out->always_set_request_id_in_response = m.always_set_request_id_in_response();
  for (const auto& u : m.upgrade_configs()) {
    if (lower(u.upgrade_type()) != "websocket")
      throw Refused("upgrade_configs: \"" + u.upgrade_type() + "\" is not supported (websocket is)");
    out->websocket = !u.has_enabled() || u.enabled().value();
  }
  if (m.http_protocol_options().accept_http_10()) throw Refused("http_protocol_options.accept_http_10 is not supported");
  out->enable_trailers = m.http_protocol_options().enable_trailers();
  if (m.http_protocol_options().has_allow_absolute_url() && !m.http_protocol_options().allow_absolute_url().value())
    throw Refused("http_protocol_options.allow_absolute_url: false is not supported");
  if (m.has_max_request_headers_kb()) out->headers_bytes_max = m.max_request_headers_kb().value() * 1024;
  const auto& common = m.common_http_protocol_options();
  if (common.has_max_headers_count()) out->headers_count_max = common.max_headers_count().value();
  if (common.has_idle_timeout()) out->idle_timeout = usec_of(common.idle_timeout());
  if (common.has_max_connection_duration()) out->max_connection_duration = usec_of(common.max_connection_duration());
  if (m.has_stream_idle_timeout()) out->stream_idle_timeout = usec_of(m.stream_idle_timeout());
  if (m.has_request_timeout()) out->request_timeout = usec_of(m.request_timeout());
  if (m.has_request_headers_timeout()) out->request_headers_timeout = usec_of(m.request_headers_timeout());
  return out;
}

std::shared_ptr<const tables::TcpProxy> tcp_proxy_of(const nf::tcp_proxy::v3::TcpProxy& t, Interned& ids) {
  auto out = std::make_shared<tables::TcpProxy>();
  out->stat_prefix = t.stat_prefix();
  auto add = [&](const std::string& name, uint32_t weight) {
    tables::WeightedCluster& w = out->clusters.emplace_back();
    w.name = name;
    w.cluster = ids.clusters.of(name);
    w.weight = weight;
  };
  if (t.has_weighted_clusters()) {
    uint64_t total = 0;
    for (const auto& c : t.weighted_clusters().clusters()) {
      add(c.name(), c.weight());
      total += c.weight();
    }
    if (total == 0 || total > UINT32_MAX) throw Refused("tcp_proxy: the sum of the weights is " + std::to_string(total));
    out->total_weight = uint32_t(total);
  } else if (!t.cluster().empty()) {
    add(t.cluster(), 1);
  } else {
    throw Refused("tcp_proxy without a cluster");
  }
  out->access_logs = logs_of(t.access_log());
  if (t.has_idle_timeout()) out->idle_timeout = usec_of(t.idle_timeout());
  if (t.has_max_downstream_connection_duration()) out->max_connection_duration = usec_of(t.max_downstream_connection_duration());
  return out;
}

std::function<bool(tls::SanType, std::string_view)> san_matcher(std::optional<tls::SanType> type,
                                                                const envoy::type::matcher::v3::StringMatcher& m) {
  return [type, match = string_match_of(m)](tls::SanType t, std::string_view san) {
    if (type && *type != t) return false;
    // As in Envoy, an exact DNS name is met in the way of DNS names.
    if (t == tls::SanType::kDns && match.kind == tables::StringMatch::Kind::kExact) return tls::dns_name_covers(san, match.value);
    return match.matches(san);
  };
}

// SPIFFE's rule (X509-SVID 2): where the context is the mesh's own (ROOTCA), or nothing but SPIFFE names is asked for, a peer has exactly
// one SPIFFE identity.
bool names_spiffe(const envoy::type::matcher::v3::StringMatcher& m) {
  return m.exact().starts_with("spiffe://") || m.prefix().starts_with("spiffe://");
}

void validation_of(const ts::CertificateValidationContext& v, TlsTemplate& out) {
  bool others = false;  // names that are no SPIFFE ids
  for (const auto& m : v.match_subject_alt_names()) {
    out.options.san_matchers.push_back(san_matcher(std::nullopt, m));
    others |= !names_spiffe(m);
  }
  for (const auto& m : v.match_typed_subject_alt_names()) {
    using S = ts::SubjectAltNameMatcher;
    if (m.san_type() != S::URI && m.san_type() != S::DNS && m.san_type() != S::EMAIL)
      throw Refused("match_typed_subject_alt_names: san_type " + S::SanType_Name(m.san_type()) + " is not supported");
    const auto type = m.san_type() == S::URI ? tls::SanType::kUri : m.san_type() == S::DNS ? tls::SanType::kDns : tls::SanType::kEmail;
    out.options.san_matchers.push_back(san_matcher(type, m.matcher()));
    others |= !names_spiffe(m.matcher());
  }
  out.spiffe_required |= !out.options.san_matchers.empty() && !others;
  if (v.has_trusted_ca()) out.options.trusted_ca_pem = v.trusted_ca().inline_string() + v.trusted_ca().inline_bytes();
  if (v.has_crl()) out.options.crl_pem = v.crl().inline_string() + v.crl().inline_bytes();
}

tls::TlsVersion version_of(ts::TlsParameters::TlsProtocol p) {
  switch (p) {
    case ts::TlsParameters::TLSv1_0: return tls::TlsVersion::k10;
    case ts::TlsParameters::TLSv1_1: return tls::TlsVersion::k11;
    case ts::TlsParameters::TLSv1_2: return tls::TlsVersion::k12;
    case ts::TlsParameters::TLSv1_3: return tls::TlsVersion::k13;
    default: return tls::TlsVersion::kAuto;
  }
}

TlsTemplate tls_of(const ts::DownstreamTlsContext& t) {
  TlsTemplate out;
  const auto& c = t.common_tls_context();
  for (const auto& s : c.tls_certificate_sds_secret_configs()) out.certificates.push_back(s.name());
  if (out.certificates.empty()) throw Refused("transport_socket: no certificate is named");
  switch (c.validation_context_type_case()) {
    case ts::CommonTlsContext::kValidationContext: validation_of(c.validation_context(), out); break;
    case ts::CommonTlsContext::kValidationContextSdsSecretConfig: out.trusted_ca = c.validation_context_sds_secret_config().name(); break;
    case ts::CommonTlsContext::kCombinedValidationContext:
      validation_of(c.combined_validation_context().default_validation_context(), out);
      out.trusted_ca = c.combined_validation_context().validation_context_sds_secret_config().name();
      break;
    default: break;
  }
  const bool validates = !out.trusted_ca.empty() || !out.options.trusted_ca_pem.empty();
  if (t.require_client_certificate().value() && !validates)
    throw Refused("transport_socket: a client certificate is required but nothing says whom to trust");
  out.options.client_cert = t.require_client_certificate().value() ? tls::ClientCert::kRequired
                            : validates                            ? tls::ClientCert::kOptional
                                                                   : tls::ClientCert::kNone;
  out.spiffe_required |= out.trusted_ca == "ROOTCA";
  out.options.require_one_spiffe_uri = out.spiffe_required;
  // Offered: the configured protocols that we have codecs for. "istio" names are for the peer's sidecar and cost nothing.
  for (const auto& p : c.alpn_protocols())
    if (p != "h2" && p != "istio-h2" && p != "h3") out.options.alpn.push_back(p);
  out.options.min_version = version_of(c.tls_params().tls_minimum_protocol_version());
  out.options.max_version = version_of(c.tls_params().tls_maximum_protocol_version());
  for (const auto& s : c.tls_params().cipher_suites()) out.options.cipher_suites.push_back(s);
  for (const auto& s : c.tls_params().ecdh_curves()) out.options.ecdh_curves.push_back(s);
  return out;
}

std::vector<IpPrefix> prefixes_of(const google::protobuf::RepeatedPtrField<core::CidrRange>& ranges) {
  std::vector<IpPrefix> out;
  for (const auto& r : ranges) out.push_back(prefix_of(r));
  return out;
}

std::shared_ptr<tables::FilterChain> chain_of(const ls::FilterChain& c, Interned& ids, std::optional<TlsTemplate>& tls,
                                              std::set<std::string>& route_configs) {
  auto out = std::make_shared<tables::FilterChain>();
  out->name = c.name();
  const auto& m = c.filter_chain_match();
  if (m.has_destination_port()) out->match.destination_port = uint16_t(m.destination_port().value());
  out->match.destination = prefixes_of(m.prefix_ranges());
  out->match.source = prefixes_of(m.source_prefix_ranges());
  out->match.direct_source = prefixes_of(m.direct_source_prefix_ranges());
  for (const auto& n : m.server_names()) out->match.server_names.push_back(lower(n));
  out->match.transport_protocol = m.transport_protocol();
  out->match.application_protocols = {m.application_protocols().begin(), m.application_protocols().end()};
  for (uint32_t p : m.source_ports()) out->match.source_ports.push_back(uint16_t(p));
  if (c.has_transport_socket_connect_timeout()) out->transport_socket_connect_timeout = usec_of(c.transport_socket_connect_timeout());
  if (c.has_transport_socket()) {
    const auto& any = c.transport_socket().typed_config();
    if (any.Is<ts::DownstreamTlsContext>()) {
      tls = tls_of(unpacked<ts::DownstreamTlsContext>(any));
      out->tls_required = true;
      out->client_certificate_asked = tls->options.client_cert != tls::ClientCert::kNone;
      out->client_certificate_required = tls->options.client_cert == tls::ClientCert::kRequired;
    } else if (!any.Is<envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer>()) {
      throw Refused("transport_socket \"" + c.transport_socket().name() + "\": " + any.type_url() + " is not supported");
    }
  }
  for (int i = 0; i < c.filters_size(); i++) {
    const auto& any = c.filters(i).typed_config();
    const bool last = i + 1 == c.filters_size();
    if (any.Is<nf::rbac::v3::RBAC>() && !last) {
      out->network_rbac.push_back(rbac_filter_of(unpacked<nf::rbac::v3::RBAC>(any)));
    } else if (any.Is<nf::http_connection_manager::v3::HttpConnectionManager>() && last) {
      out->http = hcm_of(unpacked<nf::http_connection_manager::v3::HttpConnectionManager>(any), ids, route_configs);
    } else if (any.Is<nf::tcp_proxy::v3::TcpProxy>() && last) {
      out->tcp = tcp_proxy_of(unpacked<nf::tcp_proxy::v3::TcpProxy>(any), ids);
    } else if (last || any.Is<nf::http_connection_manager::v3::HttpConnectionManager>() || any.Is<nf::tcp_proxy::v3::TcpProxy>()) {
      throw Refused("filters: \"" + c.filters(i).name() + "\" cannot stand at place " + std::to_string(i));
    } else if (!one_of(any, kInertNetworkFilters)) {
      throw Refused("filters: \"" + c.filters(i).name() + "\" is no network filter of this gateway (" + any.type_url() + ")");
    }
  }
  if (out->http == nullptr && out->tcp == nullptr) throw Refused("filters: no http_connection_manager and no tcp_proxy");
  return out;
}

}  // namespace

ListenerTemplate listener_of(const ls::Listener& l, Interned& ids) {
  ListenerTemplate out;
  out.listener.name = l.name();
  out.listener.address = address_of(l.address());
  for (int i = 0; i < l.filter_chains_size(); i++) {
    try {
      out.tls.emplace_back();
      out.chains.push_back(chain_of(l.filter_chains(i), ids, out.tls.back(), out.route_configs));
    } catch (const Refused& e) {
      throw Refused("filter_chains[" + std::to_string(i) + "]: " + e.what());
    }
  }
  if (l.has_default_filter_chain()) out.default_chain = chain_of(l.default_filter_chain(), ids, out.default_tls, out.route_configs);
  if (out.chains.empty() && out.default_chain == nullptr) throw Refused("no filter chain");
  const std::vector<std::shared_ptr<const tables::FilterChain>> chains(out.chains.begin(), out.chains.end());
  if (const std::string bad = tables::clash(chains); !bad.empty()) throw Refused(bad);
  for (const auto& f : l.listener_filters()) {
    if (!f.typed_config().Is<envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector>())
      throw Refused("listener_filters: \"" + f.name() + "\" is not supported (tls_inspector is)");
    out.listener.tls_inspector = true;
  }
  // Envoy adds the inspector by itself where a chain cannot be found without it.
  for (const auto& c : out.chains)
    out.listener.tls_inspector |= c->tls_required || !c->match.server_names.empty() || !c->match.application_protocols.empty() ||
                                  c->match.transport_protocol == "tls";
  if (l.has_listener_filters_timeout()) out.listener.listener_filters_timeout = usec_of(l.listener_filters_timeout());
  out.listener.continue_on_listener_filters_timeout = l.continue_on_listener_filters_timeout();
  out.listener.access_logs = logs_of(l.access_log());
  return out;
}

}  // namespace sluice::compile
