#include "dataplane/proxy/proxy.h"

#include <unordered_map>
#include <unordered_set>

namespace sluice::proxy {
namespace {

std::shared_ptr<const tables::FilterChain> make_ready_chain() {
  auto hcm = std::make_shared<tables::Hcm>();
  hcm->stat_prefix = "ready";
  hcm->server_name = "envoy";
  auto chain = std::make_shared<tables::FilterChain>();
  chain->name = "ready";
  chain->http = std::move(hcm);
  return chain;
}

}  // namespace

std::string_view transport_failure_text(StreamEnd end) {
  switch (end) {
    case StreamEnd::kRefused: return "delayed connect error: Connection refused";
    case StreamEnd::kUnreachable: return "delayed connect error: No route to host";
    case StreamEnd::kReset: return "delayed connect error: Connection reset by peer";
    default: return "";
  }
}

Proxy::Proxy(Context& context, tls::Terminator* tls)
    : c_(context),
      tls_(tls),
      downstreams_(context.config.connections_max),
      exchanges_(context.config.exchanges_max),
      pairs_(context.config.connections_max),
      ready_chain_(make_ready_chain()) {
  c_.connections.on_gone = [this](const upstream::Connection& c) {
    cluster_state(c.cluster).lease.give(c_.budgets.of(c.cluster), upstream::Resource::kConnections);
  };
}

// The streams belong to their layers, which outlive the proxy and free what is left.
Proxy::~Proxy() {
  downstreams_.for_each([this](DownstreamId, Downstream& d) { c_.wheel.cancel(d.timer); });
  exchanges_.for_each([this](ExchangeId, Exchange& x) { c_.wheel.cancel(x.timer); });
  pairs_.for_each([this](PairId, Pair& p) { c_.wheel.cancel(p.timer); });
  c_.connections.on_gone = nullptr;
}

Proxy::ClusterState& Proxy::cluster_state(tables::ClusterId id) {
  if (id >= clusters_.size()) clusters_.resize(id + 1);
  if (clusters_[id] == nullptr) clusters_[id] = std::make_unique<ClusterState>();
  return *clusters_[id];
}

// A connection ends with a push only when its listener or chain is gone, its client-certificate rule became stricter, or what
// vouched for its peer is trusted no more.
void Proxy::adopt() {
  const tables::Snapshot& t = *c_.tables;
  generation_ = t.generation;
  listeners_ = t.listeners;
  std::vector<DownstreamId> gone;
  downstreams_.for_each([&](DownstreamId id, Downstream& d) {
    if (d.ready_probe || d.chain == nullptr) return;
    const auto listener = find_listener(d.local);
    const auto* chain = listener == nullptr ? nullptr : find_chain(d, *listener);
    if (chain == nullptr || !still_served(d, **chain)) gone.push_back(id);
  });
  for (DownstreamId id : gone) drain_connection(id);

  std::unordered_map<tables::ClusterId, std::unordered_set<uint32_t>> live;
  c_.connections.sweep([&](tables::ClusterId cluster, uint32_t endpoint) {
    auto [it, fresh] = live.try_emplace(cluster);
    if (const tables::Cluster* c = t.cluster(cluster); fresh && c != nullptr)
      for (const tables::Endpoint& e : c->endpoints->endpoints) it->second.insert(e.id);
    return it->second.contains(endpoint);
  });
}

void Proxy::on_event(StreamLayer& layer, const ReadyStream& ready) {
  switch (kind_of(ready.cookie)) {
    case CookieKind::kNone:
      if (ready.events & kOpened) accept(layer, ready);
      else layer.abort(ready.id);
      return;
    case CookieKind::kDownstream: downstream_event(handle_of<Downstream>(ready.cookie), ready.events); return;
    case CookieKind::kUpstream: connection_event(handle_of<upstream::Connection>(ready.cookie), ready.events); return;
    case CookieKind::kTls:
    case CookieKind::kPair: return;
  }
}

void Proxy::on_timer(TimerNode& node) {
  switch (node.kind) {
    case kDownstreamTimer: downstream_timer(DownstreamId::from_bits(node.cookie)); return;
    case kExchangeTimer: exchange_timer(ExchangeId::from_bits(node.cookie)); return;
    case kPairTimer: pair_timer(PairId::from_bits(node.cookie)); return;
    case kUpstreamTimer: c_.connections.on_timer(node); return;
  }
}

void Proxy::run_again() {
  again_now_.swap(again_);
  for (DownstreamId id : again_now_) {
    const Downstream* d = downstreams_.get(id);
    if (d == nullptr) continue;
    if (d->phase == Downstream::Phase::kHttp) serve(id);
    else if (d->phase == Downstream::Phase::kTunnel) run_pair(d->pair);
  }
  again_now_.clear();
}

void Proxy::drain() {
  draining_ = true;
  ready = false;
  std::vector<DownstreamId> all;
  downstreams_.for_each([&](DownstreamId id, Downstream& d) {
    if (!d.ready_probe) all.push_back(id);
  });
  for (DownstreamId id : all) drain_connection(id);
}

void Proxy::write_log(const std::vector<std::shared_ptr<const tables::AccessLog>>& logs, const RecordSource& source, Flags flags) {
  for (const auto& log : logs) {
    if (log->filter_present && !flags.any_of(log->only_flags)) continue;
    line_.clear();
    log->format->render(source, line_);
    if (line_.empty() || line_.back() != '\n') line_ += '\n';
    if (c_.log.write(log->path, line_)) {
      c_.counters.log_lines.add();
    } else {
      c_.counters.log_dropped.add();
      c_.drops.add(Drop::kLogRingFull);
    }
  }
}

}  // namespace sluice::proxy
