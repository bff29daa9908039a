#include "dataplane/metrics.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <tuple>

#include "ctrl/admin/endpoints.h"
#include "ctrl/agent/dump.h"

namespace sluice {
namespace {

using admin::MetricsText;
using Labels = MetricsText::Labels;

// "outbound|8080|v1|web.shop.svc.cluster.local" -> the service's host; else the cluster's own name.
std::string service_of(std::string_view cluster) {
  if (!cluster.starts_with("outbound")) return std::string(cluster.empty() ? "unknown" : cluster);
  const size_t bar = cluster.rfind('|');
  if (bar != cluster.npos) return std::string(cluster.substr(bar + 1));
  const size_t mark = cluster.rfind("._.");
  return std::string(mark == cluster.npos ? cluster : cluster.substr(mark + 3));
}

// One row over all workers.
struct Row {
  uint64_t count = 0, received = 0, sent = 0;
  Histogram duration_us, request_bytes, response_bytes;
};
struct RowKey {
  std::string service, principal, code, flags, security;
  bool tcp;
  auto operator<=>(const RowKey&) const = default;
};

constexpr uint64_t kDurationBucketsMs[] = {1,    5,    10,     25,     50,     100,     250,     500,       1000,
                                           2500, 5000, 10'000, 30'000, 60'000, 300'000, 600'000, 1'800'000, 3'600'000};
constexpr uint64_t kSizeBuckets[] = {1,    5,    10,     25,     50,     100,     250,     500,       1000,
                                     2500, 5000, 10'000, 30'000, 60'000, 300'000, 600'000, 1'800'000, 3'600'000};

Labels labels_of(const RowKey& k) {
  Labels l{{"reporter", "source"},
           {"source_principal", k.principal},
           {"destination_service", k.service},
           {"destination_service_name", k.service},
           {"request_protocol", k.tcp ? "tcp" : "http"},
           {"response_flags", k.flags},
           {"connection_security_policy", k.security}};
  if (!k.tcp) l.emplace_back("response_code", k.code);
  return l;
}

void histogram(MetricsText& m, const std::string& name, const Labels& labels, const Histogram& h, std::span<const uint64_t> buckets,
               uint64_t scale) {
  const std::string bucket = name + "_bucket";
  for (uint64_t b : buckets) {
    Labels l = labels;
    const std::string le = std::to_string(b);
    l.emplace_back("le", le);
    m.sample(bucket, l, h.count_at_most(b * scale));
  }
  Labels l = labels;
  l.emplace_back("le", "+Inf");
  m.sample(bucket, l, h.count());
  m.sample(name + "_sum", labels, h.sum() / scale);
  m.sample(name + "_count", labels, h.count());
}

template <class F>
uint64_t sum(const GatewayView& v, F&& f) {
  uint64_t n = 0;
  for (const worker::Worker* w : v.workers) n += f(*w);
  return n;
}

}  // namespace

std::string prometheus_text(const GatewayView& v) {
  MetricsText m;
  std::map<RowKey, Row> rows;
  for (const worker::Worker* w : v.workers)
    for (uint32_t i = 0; i < w->series().size(); i++) {
      const proxy::Series& s = w->series().at(i);
      const std::string principal = s.source_principal.empty() ? "unknown" : s.source_principal;
      Row& r = rows[{service_of(s.cluster), principal, std::to_string(s.key.response_code),
                     proxy::Flags::from_packed(s.key.response_flags).text(), s.key.mutual_tls ? "mutual_tls" : "unknown", s.key.tcp}];
      r.count += s.count.get();
      r.received += s.bytes_received.get();
      r.sent += s.bytes_sent.get();
      r.duration_us.merge(s.duration_us);
      r.request_bytes.merge(s.request_bytes);
      r.response_bytes.merge(s.response_bytes);
    }
  auto each = [&](bool tcp, auto&& f) {
    for (const auto& [key, row] : rows)
      if (key.tcp == tcp) f(labels_of(key), row);
  };
  m.family("istio_requests_total", "counter", "Requests by what became of them.");
  each(false, [&](const Labels& l, const Row& r) { m.sample("istio_requests_total", l, r.count); });
  m.family("istio_request_duration_milliseconds", "histogram", "From the first byte of the request to the last of the answer.");
  each(false, [&](const Labels& l, const Row& r) {
    histogram(m, "istio_request_duration_milliseconds", l, r.duration_us, kDurationBucketsMs, 1000);
  });
  m.family("istio_request_bytes", "histogram", "Body bytes from the client.");
  each(false, [&](const Labels& l, const Row& r) { histogram(m, "istio_request_bytes", l, r.request_bytes, kSizeBuckets, 1); });
  m.family("istio_response_bytes", "histogram", "Body bytes to the client.");
  each(false, [&](const Labels& l, const Row& r) { histogram(m, "istio_response_bytes", l, r.response_bytes, kSizeBuckets, 1); });
  m.family("istio_tcp_connections_closed_total", "counter", "Raw connections that ended.");
  each(true, [&](const Labels& l, const Row& r) { m.sample("istio_tcp_connections_closed_total", l, r.count); });
  m.family("istio_tcp_received_bytes_total", "counter", "Bytes from downstream over raw connections that ended.");
  each(true, [&](const Labels& l, const Row& r) { m.sample("istio_tcp_received_bytes_total", l, r.received); });
  m.family("istio_tcp_sent_bytes_total", "counter", "Bytes to downstream over raw connections that ended.");
  each(true, [&](const Labels& l, const Row& r) { m.sample("istio_tcp_sent_bytes_total", l, r.sent); });

  auto per_worker = [&](std::string_view name, std::string_view type, std::string_view help, auto&& value) {
    m.family(name, type, help);
    for (size_t i = 0; i < v.workers.size(); i++) {
      const std::string w = std::to_string(i);
      m.sample(name, {{"worker", w}}, uint64_t(value(*v.workers[i])));
    }
  };
  using W = const worker::Worker&;
  per_worker("sluice_worker_useful_cycles_total", "counter", "TSC cycles of turns that did something.",
             [](W w) { return w.counters().useful_cycles.get(); });
  per_worker("sluice_worker_idle_cycles_total", "counter", "TSC cycles of turns that found nothing, sleep excluded.",
             [](W w) { return w.counters().idle_cycles.get(); });
  per_worker("sluice_worker_turns_total", "counter", "Turns.", [](W w) { return w.counters().turns.get(); });
  per_worker("sluice_worker_rx_bursts_total", "counter", "Receive bursts that were not empty.",
             [](W w) { return w.counters().rx_bursts.get(); });
  per_worker("sluice_worker_rx_frames_total", "counter", "Frames received.", [](W w) { return w.counters().rx_frames.get(); });
  per_worker("sluice_worker_held_mbufs", "gauge", "mbufs that connections hold.", [](W w) { return w.pool().held(); });
  per_worker("sluice_connections_active", "gauge", "Downstream connections.",
             [](W w) { return w.proxy_counters().connections_active.get(); });
  m.family("sluice_connections_drained_total", "counter", "Downstream connections that were told to end, by reason.");
  for (size_t r = 0; r < size_t(proxy::DrainReason::kCount); r++)
    m.sample("sluice_connections_drained_total", {{"reason", proxy::kDrainReasonNames[r]}},
             sum(v, [r](W w) { return w.proxy_counters().connections_drained[r].get(); }));
  per_worker("sluice_requests_active", "gauge", "Requests in flight.", [](W w) { return w.proxy_counters().requests_active.get(); });
  per_worker("sluice_upstream_retries_total", "counter", "Further attempts.", [](W w) { return w.proxy_counters().retries.get(); });
  per_worker("sluice_access_log_dropped_total", "counter", "Access-log lines lost because the ring was full.",
             [](W w) { return w.proxy_counters().log_dropped.get(); });
  per_worker("sluice_tables_generation", "gauge", "Generation of the tables in use.", [](W w) { return w.adopted_generation(); });
  m.family("sluice_worker_stage_cycles_total", "counter", "TSC cycles of useful turns by stage.");
  for (size_t i = 0; i < v.workers.size(); i++)
    for (size_t s = 0; s < size_t(worker::Stage::kCount); s++) {
      const std::string w = std::to_string(i);
      m.sample("sluice_worker_stage_cycles_total", {{"worker", w}, {"stage", worker::kStageNames[s]}},
               v.workers[i]->counters().stage_cycles[s].get());
    }
  m.family("sluice_drops_total", "counter", "Discarded packets, records, connections and lines by reason.");
  for (size_t d = 0; d < size_t(Drop::kCount); d++) {
    uint64_t n = sum(v, [&](W w) { return w.drops().get(Drop(d)); });
    for (const drivers::Port* p : v.ports)
      for (unsigned w = 0; w < v.workers.size(); w++) n += p->counters(w).drops.get(Drop(d));
    m.sample("sluice_drops_total", {{"reason", name_of(Drop(d))}}, n);
  }
  m.family("sluice_rbac_total", "counter", "RBAC verdicts.");
  m.sample("sluice_rbac_total", {{"verdict", "allowed"}}, sum(v, [](W w) { return w.proxy_counters().rbac_allowed.get(); }));
  m.sample("sluice_rbac_total", {{"verdict", "denied"}}, sum(v, [](W w) { return w.proxy_counters().rbac_denied.get(); }));
  m.sample("sluice_rbac_total", {{"verdict", "shadow_allowed"}}, sum(v, [](W w) { return w.proxy_counters().rbac_shadow_allowed.get(); }));
  m.sample("sluice_rbac_total", {{"verdict", "shadow_denied"}}, sum(v, [](W w) { return w.proxy_counters().rbac_shadow_denied.get(); }));
  m.family("sluice_tls_handshakes_total", "counter", "TLS handshakes by outcome.");
  auto tls = [&](Counter tls::LayerCounters::* c) {
    return sum(v, [c](W w) { return w.tls_counters() == nullptr ? 0 : (w.tls_counters()->*c).get(); });
  };
  m.sample("sluice_tls_handshakes_total", {{"outcome", "done"}}, tls(&tls::LayerCounters::handshakes_done));
  m.sample("sluice_tls_handshakes_total", {{"outcome", "failed"}}, tls(&tls::LayerCounters::handshakes_failed));
  m.sample("sluice_tls_handshakes_total", {{"outcome", "refused"}}, tls(&tls::LayerCounters::handshakes_refused));
  m.family("sluice_handshake_cpu_microseconds_total", "counter", "CPU time of the handshake threads.");
  m.sample("sluice_handshake_cpu_microseconds_total", {}, v.handshake_cpu_us);
  m.family("sluice_tcp_segments_total", "counter", "TCP segments.");
  m.sample("sluice_tcp_segments_total", {{"direction", "in"}}, sum(v, [](W w) { return w.tcp_counters().segments_in.get(); }));
  m.sample("sluice_tcp_segments_total", {{"direction", "out"}}, sum(v, [](W w) { return w.tcp_counters().segments_out.get(); }));
  m.family("sluice_tcp_retransmits_total", "counter", "Segments sent again.");
  m.sample("sluice_tcp_retransmits_total", {}, sum(v, [](W w) { return w.tcp_counters().retransmits.get(); }));
  m.family("sluice_tcp_events_total", "counter", "What TCP did that an operator may ask about.");
  using T = tcp::StackCounters;
  for (const auto& [event, c] : {std::pair{"rto", &T::rtos},
                                 {"fast_retransmit", &T::fast_retransmits},
                                 {"reset_in", &T::resets_in},
                                 {"reset_out", &T::resets_out},
                                 {"challenge_ack", &T::challenge_acks},
                                 {"time_wait_evicted", &T::time_wait_evicted},
                                 {"no_mbuf_to_send", &T::output_no_mbuf}})
    m.sample("sluice_tcp_events_total", {{"event", event}}, sum(v, [c](W w) { return (w.tcp_counters().*c).get(); }));
  m.family("sluice_net_events_total", "counter", "What the network said of us, or was not told.");
  using N = net::StackCounters;
  for (const auto& [event, c] : {std::pair{"address_conflict", &N::address_conflicts}, {"icmp_error_limited", &N::icmp_errors_limited}})
    m.sample("sluice_net_events_total", {{"event", event}}, sum(v, [c](W w) { return (w.net_counters().*c).get(); }));
  m.family("sluice_port_frames_total", "counter", "Frames by port and direction.");
  for (const drivers::Port* p : v.ports) {
    uint64_t rx = 0, tx = 0;
    for (unsigned w = 0; w < v.workers.size(); w++) rx += p->counters(w).rx_frames.get(), tx += p->counters(w).tx_frames.get();
    m.sample("sluice_port_frames_total", {{"port", p->info().name}, {"direction", "rx"}}, rx);
    m.sample("sluice_port_frames_total", {{"port", p->info().name}, {"direction", "tx"}}, tx);
  }
  return m.text();
}

std::string status_text(const agent::AgentStatus& s, const GatewayView& v) {
  std::string out = agent::status_text(s);
  for (size_t i = 0; i < v.workers.size(); i++)
    out += "worker " + std::to_string(i) + "       generation " + std::to_string(v.workers[i]->adopted_generation()) + "\n";
  return out;
}

std::string status_json(const agent::AgentStatus& s, const GatewayView& v) {
  std::string out = agent::status_json(s);
  out.resize(out.rfind('}'));
  out += ",\"workers\":[";
  for (size_t i = 0; i < v.workers.size(); i++) out += (i == 0 ? "" : ",") + std::to_string(v.workers[i]->adopted_generation());
  return out + "]}\n";
}

// Envoy's /clusters, with one line more: why an endpoint is unusable.
std::string clusters_text(const tables::Snapshot* snapshot, const GatewayView& v) {
  std::string out;
  if (snapshot == nullptr) return out;
  for (const auto& c : snapshot->clusters) {
    if (c == nullptr) continue;
    for (const tables::Endpoint& e : c->endpoints->endpoints) {
      const std::string at = c->name + "::" + e.address.to_string() + "::";
      auto total = [&](Counter upstream::EndpointState::* member) {
        uint64_t n = 0;
        for (const worker::Worker* w : v.workers)
          if (const upstream::EndpointState* s = w->endpoints().find(e.id)) n += (s->*member).get();
        return std::to_string(n);
      };
      out += at + "cx_active::" + total(&upstream::EndpointState::active_connections) + "\n";
      out += at + "cx_connect_fail::" + total(&upstream::EndpointState::connect_failures) + "\n";
      out += at + "cx_total::" + total(&upstream::EndpointState::connections) + "\n";
      out += at + "rq_active::" + total(&upstream::EndpointState::active_requests) + "\n";
      out += at + "rq_error::" + total(&upstream::EndpointState::request_errors) + "\n";
      out += at + "rq_total::" + total(&upstream::EndpointState::requests) + "\n";
      out += at + "health_flags::" + (e.healthy ? "healthy" : "/failed_eds_health") + "\n";
      out += at + "weight::" + std::to_string(e.weight) + "\n";
      if (e.tls) out += at + "unusable::its transport socket is TLS, which this gateway does not originate yet\n";
      if (c->http2) out += at + "unusable::its cluster asks for HTTP/2, which this gateway does not speak yet\n";
    }
  }
  return out;
}

}  // namespace sluice
