#include <algorithm>

#include "ctrl/compile/translate.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb.h"

namespace sluice::compile {
namespace {

namespace cl = envoy::config::cluster::v3;

bool is_raw(const core::TransportSocket& s) {
  return !s.has_typed_config() ? s.name() == "envoy.transport_sockets.raw_buffer"
                               : s.typed_config().Is<envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer>();
}

// Envoy's TransportSocketMatcher: the first whose `match` is all in the endpoint's metadata "envoy.transport_socket_match"; else the
// cluster's own.
bool uses_tls(const cl::Cluster& c, const core::Metadata& metadata) {
  const auto found = metadata.filter_metadata().find("envoy.transport_socket_match");
  for (const auto& m : c.transport_socket_matches()) {
    const bool all = std::ranges::all_of(m.match().fields(), [&](const auto& want) {
      if (found == metadata.filter_metadata().end()) return false;
      const auto has = found->second.fields().find(want.first);
      return has != found->second.fields().end() && has->second.SerializeAsString() == want.second.SerializeAsString();
    });
    if (all) return !is_raw(m.transport_socket());
  }
  return c.has_transport_socket() && !is_raw(c.transport_socket());
}

}  // namespace

tables::Cluster cluster_of(const cl::Cluster& c, Interned& ids) {
  tables::Cluster out;
  out.name = c.name();
  out.id = ids.clusters.of(c.name());
  out.endpoints = std::make_shared<tables::EndpointTable>();
  switch (c.type()) {
    case cl::Cluster::EDS:
    case cl::Cluster::STATIC: break;
    default: throw Refused("type: " + cl::Cluster::DiscoveryType_Name(c.type()) + " is not supported (EDS and STATIC are)");
  }
  switch (c.lb_policy()) {
    case cl::Cluster::ROUND_ROBIN: out.lb = tables::LbPolicy::kRoundRobin; break;
    case cl::Cluster::LEAST_REQUEST: out.lb = tables::LbPolicy::kLeastRequest; break;
    case cl::Cluster::RANDOM: out.lb = tables::LbPolicy::kRandom; break;
    default:
      throw Refused("lb_policy: " + cl::Cluster::LbPolicy_Name(c.lb_policy()) +
                    " is not supported (ROUND_ROBIN, LEAST_REQUEST and RANDOM are)");
  }
  if (c.least_request_lb_config().has_choice_count()) out.choice_count = std::max(2u, c.least_request_lb_config().choice_count().value());
  if (c.has_connect_timeout()) out.connect_timeout = usec_of(c.connect_timeout());
  for (const auto& t : c.circuit_breakers().thresholds()) {
    if (t.priority() != core::DEFAULT) continue;  // no route asks for HIGH: RouteAction.priority is refused
    if (t.has_max_connections()) out.circuit.connections_max = t.max_connections().value();
    if (t.has_max_pending_requests()) out.circuit.pending_max = t.max_pending_requests().value();
    if (t.has_max_requests()) out.circuit.requests_max = t.max_requests().value();
    if (t.has_max_retries()) out.circuit.retries_max = t.max_retries().value();
  }
  for (const auto& [name, any] : c.typed_extension_protocol_options()) {
    const auto http = unpacked<envoy::extensions::upstreams::http::v3::HttpProtocolOptions>(any);
    if (http.common_http_protocol_options().has_idle_timeout())
      out.idle_timeout = usec_of(http.common_http_protocol_options().idle_timeout());
    out.requests_per_connection_max = http.common_http_protocol_options().max_requests_per_connection().value();
    out.enable_trailers = http.explicit_http_config().http_protocol_options().enable_trailers();
    if (http.explicit_http_config().http_protocol_options().accept_http_10())
      throw Refused("explicit_http_config.http_protocol_options.accept_http_10 is not supported");
    out.http2 = http.explicit_http_config().has_http2_protocol_options();
  }
  return out;
}

std::string endpoint_name(const std::string& cluster, const SocketAddress& address) { return cluster + " " + address.to_string(); }

std::shared_ptr<const tables::EndpointTable> endpoints_of(const envoy::config::endpoint::v3::ClusterLoadAssignment& a,
                                                          const cl::Cluster& cluster, Interned& ids) {
  auto out = std::make_shared<tables::EndpointTable>();
  for (const auto& group : a.endpoints()) {
    if (group.priority() > 128) throw Refused("priority " + std::to_string(group.priority()) + " is over 128");  // Envoy's bound
    tables::Locality& l = out->localities.emplace_back();
    l.region = group.locality().region();
    l.zone = group.locality().zone();
    l.sub_zone = group.locality().sub_zone();
    l.weight = group.load_balancing_weight().value();
    l.priority = group.priority();
    for (const auto& e : group.lb_endpoints()) {
      tables::Endpoint& x = out->endpoints.emplace_back();
      x.address = address_of(e.endpoint().address());
      x.id = ids.endpoints.of(endpoint_name(cluster.name(), x.address));
      x.weight = e.has_load_balancing_weight() ? std::max(1u, e.load_balancing_weight().value()) : 1;
      x.priority = group.priority();
      x.locality = uint32_t(out->localities.size() - 1);
      x.healthy = e.health_status() == core::UNKNOWN || e.health_status() == core::HEALTHY;
      x.tls = uses_tls(cluster, e.metadata());
      x.hostname = e.endpoint().hostname();
    }
  }
  return out;
}

}  // namespace sluice::compile
