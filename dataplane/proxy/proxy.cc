#include "dataplane/proxy/proxy.h"

#include <unordered_map>

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

uint64_t Proxy::waiting() const {
  uint64_t n = 0;
  for (const auto& c : clusters_)
    if (c != nullptr) n += c->waiting.size();
  return n;
}

int64_t Proxy::circuit_units() const {
  int64_t n = 0;
  for (const auto& c : clusters_)
    for (size_t r = 0; c != nullptr && r < size_t(upstream::Resource::kCount); r++) n += c->lease.used(upstream::Resource(r));
  return n;
}

// A connection ends with a push only when its listener or chain is gone, its client-certificate rule became stricter or its root was
// removed.
void Proxy::adopt() {
  const tables::Snapshot& t = *c_.tables;
  generation_ = t.generation;
  listeners_ = t.listeners;
  std::vector<std::pair<DownstreamId, DrainReason>> gone;
  downstreams_.for_each([&](DownstreamId id, Downstream& d) {
    if (d.ready_probe) return;
    const auto listener = find_listener(d.local);
    if (d.chain == nullptr) {  // inspect() will look in the new listener
      if (listener == nullptr) gone.emplace_back(id, DrainReason::kChainGone);
      return;
    }
    const auto* chain = listener == nullptr ? nullptr : find_chain(d, *listener);
    if (const auto why = not_served(d, chain == nullptr ? nullptr : chain->get())) gone.emplace_back(id, *why);
  });
  for (const auto& [id, why] : gone) drain_connection(id, why);

  // By address too: an id may be another endpoint's by now.
  std::unordered_map<tables::ClusterId, std::unordered_map<uint32_t, SocketAddress>> live;
  c_.connections.sweep([&](const upstream::Connection& connection) {
    auto [it, fresh] = live.try_emplace(connection.cluster);
    if (const tables::Cluster* c = t.cluster(connection.cluster); fresh && c != nullptr)
      for (const tables::Endpoint& e : c->endpoints->endpoints) it->second.emplace(e.id, e.address);
    const auto endpoint = it->second.find(connection.endpoint);
    return endpoint != it->second.end() && endpoint->second == connection.remote;
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
  for (DownstreamId id : all) drain_connection(id, DrainReason::kShutdown);
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
