#include "dataplane/upstream/pool.h"

#include <vector>

namespace sluice::upstream {

Pool::Pool(StreamLayer& streams, Connector& connector, TimerWheel& wheel, EndpointStates& states, uint32_t connections_max,
           uint8_t timer_kind, uint64_t (*cookie_of)(ConnectionId))
    : streams_(streams),
      connector_(connector),
      wheel_(wheel),
      states_(states),
      slab_(connections_max),
      timer_kind_(timer_kind),
      cookie_of_(cookie_of) {}

Pool::~Pool() {
  slab_.for_each([this](ConnectionId, Connection& c) { wheel_.cancel(c.timer); });
}

ConnectionId Pool::open(const tables::Cluster& cluster, const tables::Endpoint& endpoint, uint64_t user, const Now& now) {
  const ConnectionId id = slab_.alloc(timer_kind_);
  Connection* c = slab_.get(id);
  if (c == nullptr) return {};
  c->stream = connector_.connect(endpoint.address, cluster.connect_timeout, now);
  if (!c->stream) {
    slab_.free(id);
    return {};
  }
  streams_.set_cookie(c->stream, cookie_of_(id));
  c->remote = endpoint.address;
  c->cluster = cluster.id;
  c->endpoint = endpoint.id;
  c->user = user;
  c->requests = 1;
  c->idle_timeout = cluster.idle_timeout;
  c->timer.cookie = id.bits();
  EndpointState& s = states_.of(endpoint.id);
  s.connections.add();
  s.active_connections.add();
  return id;
}

ConnectionId Pool::take_idle(uint32_t endpoint, uint64_t user) {
  const uint32_t index = states_.of(endpoint).idle_head;
  if (index == ~0u) return {};
  Connection& c = *slab_.at(index);
  unlink_idle(c);
  c.user = user;
  c.requests++;
  return slab_.handle_of(c);
}

void Pool::give_idle(ConnectionId id, const Now& now) {
  Connection* c = slab_.get(id);
  if (c == nullptr) return;
  if (c->retired) return close(id, true);
  EndpointState& s = states_.of(c->endpoint);
  c->user = 0;
  c->idle = true;
  c->idle_prev = ~0u;
  c->idle_next = s.idle_head;
  if (s.idle_head != ~0u) slab_.at(s.idle_head)->idle_prev = id.index;
  s.idle_head = id.index;
  idle_count_++;
  if (c->idle_timeout != 0) wheel_.arm(c->timer, now.mono_us + c->idle_timeout);
}

void Pool::unlink_idle(Connection& c) {
  if (!c.idle) return;
  if (c.idle_prev != ~0u) slab_.at(c.idle_prev)->idle_next = c.idle_next;
  else states_.of(c.endpoint).idle_head = c.idle_next;
  if (c.idle_next != ~0u) slab_.at(c.idle_next)->idle_prev = c.idle_prev;
  c.idle = false;
  idle_count_--;
  wheel_.cancel(c.timer);
}

void Pool::close(ConnectionId id, bool graceful) {
  Connection* c = slab_.get(id);
  if (c == nullptr) return;
  graceful |= c->idle;
  unlink_idle(*c);
  states_.of(c->endpoint).active_connections.sub();
  if (on_gone) on_gone(*c);
  const StreamId stream = c->stream;
  slab_.free(id);
  if (graceful) streams_.close(stream);
  else streams_.abort(stream);
}

void Pool::sweep(const std::function<bool(const Connection&)>& keep) {
  std::vector<ConnectionId> gone;
  slab_.for_each([&](ConnectionId id, Connection& c) {
    if (c.retired || keep(c)) return;
    c.retired = true;
    if (c.idle) gone.push_back(id);
  });
  for (ConnectionId id : gone) close(id);
}

}  // namespace sluice::upstream
