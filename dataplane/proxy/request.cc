// A request from its first byte to its action. Head checks, normalization and header mutation come in the order of Envoy's connection
// manager; then the route is looked up, the RBAC filters speak, and only then does anything that routing decided take effect.
#include <algorithm>
#include <charconv>

#include "dataplane/http/status.h"
#include "dataplane/proxy/header_operations.h"
#include "dataplane/proxy/proxy.h"

namespace sluice::proxy {

// Moves a connection on as far as it goes: its exchange, then the next request, until something must be waited for.
void Proxy::serve(DownstreamId id) {
  for (uint32_t begun = 0;;) {
    Downstream* d = downstreams_.get(id);
    if (d == nullptr || d->phase != Downstream::Phase::kHttp) return;
    if (!d->exchange) {
      if (d->draining) {
        close_downstream(id, true);
        return;
      }
      if (d->wire.readable().bytes == 0) {
        const StreamInfo info = d->wire.info();
        if (info.peer_finished || info.end != StreamEnd::kOpen) close_downstream(id, true);
        return;
      }
      const uint64_t seen = d->generation;
      if (!refresh_chain(*d) || (d->generation != seen && !network_allowed(*d))) {
        close_downstream(id, true);
        return;
      }
      if (begun++ == kRequestsPerTurnMax) {
        again(id);
        return;
      }
      if (!begin_exchange(id, *d)) {
        close_downstream(id, false);
        return;
      }
    }
    const ExchangeId xid = d->exchange;
    Exchange& x = *exchanges_.get(xid);
    switch (x.state) {
      case Exchange::State::kHead: read_request(xid); break;
      case Exchange::State::kBackoff:
        if (x.backoff_until <= c_.now.mono_us) attempt(xid);
        break;
      case Exchange::State::kForwarding:
        pump_request(xid);
        if (exchanges_.get(xid) != nullptr) pump_response(xid);
        break;
      case Exchange::State::kReplying: answer_ready(xid); break;
      case Exchange::State::kWaiting:
      case Exchange::State::kTunnel: break;
    }
    d = downstreams_.get(id);
    if (d == nullptr || d->phase != Downstream::Phase::kHttp) return;
    if (d->exchange != xid) continue;
    // Still under way. As Envoy has it, a client that ends its side has gone, whatever is in flight.
    const Exchange& still = *exchanges_.get(xid);
    const StreamInfo info = d->wire.info();
    const bool whole = still.request_complete || d->wire.readable().bytes == 0;
    if (info.peer_finished && whole && still.state != Exchange::State::kReplying) {
      client_gone(xid);
      close_downstream(id, true);
    }
    return;
  }
}

bool Proxy::begin_exchange(DownstreamId id, Downstream& d) {
  const ExchangeId xid = exchanges_.alloc(c_.arenas, id);
  Exchange* x = exchanges_.get(xid);
  if (x == nullptr) {
    c_.drops.add(Drop::kExchangeFull);
    return false;
  }
  const tables::Hcm& hcm = *d.chain->http;
  x->timer.cookie = xid.bits();
  x->hcm = d.chain->http;
  x->record.start(d.local, d.remote, d.hello.server_name, c_.now);
  x->record.http = true;
  x->record.tls = d.peer;
  x->record.connection_id = d.number;
  x->parser.emplace(x->request, d.facts.tls, hcm.headers_bytes_max, hcm.headers_count_max);
  if (hcm.enable_trailers) x->parser->keep_trailers(x->request_trailers);
  const Usec now = c_.now.mono_us;
  x->head_deadline = now + (hcm.request_headers_timeout != 0 ? hcm.request_headers_timeout : c_.config.request_headers_timeout);
  if (hcm.request_timeout != 0) x->request_deadline = now + hcm.request_timeout;
  touch(*x);
  c_.counters.requests.add();
  c_.counters.requests_active.add();
  d.exchange = xid;
  arm_connection(d);
  arm(*x);
  return true;
}

void Proxy::read_request(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const Wire from = downstreams_.get(x.downstream)->wire;
  for (;;) {
    const ReadView view = from.readable();
    if (view.bytes == 0) return;
    const http::Fed fed = x.parser->feed(view.span[0]);
    from.consume(fed.consumed);
    if (fed.event == http::Event::kRefused) {
      request_refused(id);
      return;
    }
    if (fed.event == http::Event::kHead) {
      x.request_complete = x.parser->complete();
      if (x.request_complete) request_whole(x);
      x.head_deadline = kNever;
      start(id);
      return;
    }
  }
}

void Proxy::request_whole(Exchange& x) {
  x.request_complete = true;
  x.request_deadline = kNever;
  x.record.request_end_us = c_.now.mono_us;
}

// The codec refused: in the head nothing of the request is believed (nor logged); in the body the origin's side ends with it.
void Proxy::request_refused(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  c_.drops.add(Drop::kHttpRefused);
  const http::Refusal refusal = x.parser->refusal();
  const uint16_t status = http::status_of(refusal);
  x.close_downstream = true;
  if (x.state == Exchange::State::kHead) {
    x.request.method = x.request.path = {};
    x.request.has_authority = false;
    x.request.fields.clear();
  }
  x.record.flags.set(refusal == http::Refusal::kNoMemory ? Flag::kOverload : Flag::kDownstreamProtocolError);
  if (x.response_started) {
    x.record.details = http::details_of(refusal);
    cut_short(id);
    return;
  }
  local_reply(id, status, http::reason_of(status), http::details_of(refusal));
}

// The head is whole.
void Proxy::start(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  Downstream& d = *downstreams_.get(x.downstream);
  http::RequestHead& r = x.request;
  x.head_request = r.method == "HEAD";
  x.close_downstream |= x.parser->wants_close();
  if (d.ready_probe) {
    if (r.path == "/healthz/ready") local_reply(id, ready ? 200 : 503, "", "ready");
    else local_reply(id, 404, "", "route_not_found");
    return;
  }
  http::join_repeated(r.fields);
  if (!check_head(id)) return;
  const http::UpgradeRequest upgrade = http::strip_hop_by_hop_request(r.fields);
  x.upgrade = upgrade.websocket && x.hcm->websocket;
  x.unsupported_upgrade = upgrade.other || (upgrade.websocket && !x.hcm->websocket);
  x.record.client = http::mutate_request(r, x.hcm->forwarding, d.facts, c_.rng);
  if (r.fields.failed()) {
    x.record.flags.set(Flag::kOverload);
    local_reply(id, 503, "", "overload");
    return;
  }

  const tables::Snapshot& t = *c_.tables;
  x.routes = x.hcm->inline_routes != nullptr                ? x.hcm->inline_routes
             : x.hcm->route_config < t.route_configs.size() ? t.route_configs[x.hcm->route_config]
                                                            : nullptr;
  if (x.routes != nullptr) {
    x.host = route::find_virtual_host(*x.routes, r.authority);
    if (x.host != nullptr && r.method != "CONNECT") x.route = route::find_route(*x.host, r, scratch_, c_.rng);
  }
  if (x.route != nullptr) {
    x.record.route_name = x.route->name;
    if (x.route->kind == tables::Route::Kind::kForward) {
      const tables::RouteAction& action = x.route->forward;
      uint32_t at = c_.rng.below(std::max(1u, action.total_weight));
      for (const tables::WeightedCluster& w : action.clusters) {
        x.target = &w;
        if (at < w.weight) break;
        at -= w.weight;
      }
      if (x.target != nullptr) {
        x.cluster = x.target->cluster;
        if (t.cluster(x.cluster) != nullptr) x.record.cluster = x.target->name;
      }
      x.retry = action.retry ? &*action.retry : x.host->retry ? &*x.host->retry : nullptr;
      if (action.idle_timeout) touch(x);
    }
  }
  if (authorize(id)) act(id);
}

// What Envoy's connection manager refuses before any filter sees it.
bool Proxy::check_head(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  http::RequestHead& r = x.request;
  if (!r.has_authority) {
    x.close_downstream = true;
    local_reply(id, 400, "", "missing_host_header");
    return false;
  }
  if (r.method == "CONNECT") {  // no route takes it, and its "body" would never end
    x.close_downstream = true;
    return true;
  }
  if (!r.path.starts_with('/')) {
    local_reply(id, 404, "", "absolute_path_rejected");
    return false;
  }
  const http::CanonicalPath canonical = http::canonicalize(r.path, x.hcm->path, x.arena);
  switch (canonical.verdict) {
    case http::CanonicalPath::Verdict::kOk: r.path = canonical.path; return true;
    case http::CanonicalPath::Verdict::kRefused:
      x.close_downstream = true;
      local_reply(id, 400, "", "path_normalization_failed");
      return false;
    case http::CanonicalPath::Verdict::kRedirect: local_reply(id, 307, "", "path_normalization_failed", canonical.path); return false;
  }
  return false;
}

Proxy::RbacVerdict Proxy::rbac(const tables::RbacFilter& filter, const authz::Request& request) {
  if (filter.shadow_program != nullptr)
    (filter.shadow_program->evaluate(request).verdict == authz::Verdict::kAllow ? c_.counters.rbac_shadow_allowed
                                                                                : c_.counters.rbac_shadow_denied)
        .add();
  if (filter.program == nullptr) {
    // Rules without a program cannot be: the compiler refuses them. Should they be, they deny.
    if (!filter.rules) return {true, {}};
    c_.counters.rbac_denied.add();
    return {false, {}};
  }
  const authz::Decision decision = filter.program->evaluate(request);
  const bool allowed = decision.verdict == authz::Verdict::kAllow;
  (allowed ? c_.counters.rbac_allowed : c_.counters.rbac_denied).add();
  return {allowed, decision.policy};
}

bool Proxy::authorize(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const Downstream& d = *downstreams_.get(x.downstream);
  for (const tables::HttpFilter& filter : x.hcm->filters) {
    if (filter.kind != tables::HttpFilter::Kind::kRbac) continue;
    const RbacVerdict v =
        rbac(filter.rbac, {.head = &x.request, .facts = &d.facts, .remote_ip = x.record.client, .sni = d.hello.server_name});
    if (v.allowed) continue;
    std::string details = "rbac_access_denied_matched_policy[" + std::string(v.policy.empty() ? "none" : v.policy) + "]";
    std::ranges::replace(details, ' ', '_');
    local_reply(id, 403, "RBAC: access denied", keep(x, details));
    return false;
  }
  return true;
}

void Proxy::act(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const bool to_https = x.host != nullptr && x.host->require_tls && x.request.scheme != "https";
  // Envoy refuses an upgrade for any route that it finds, whatever that would do; CONNECT is one.
  if ((x.unsupported_upgrade && (x.route != nullptr || to_https)) || (x.request.method == "CONNECT" && to_https)) {
    x.close_downstream = true;
    if (to_https) x.record.cluster = {};
    local_reply(id, 403, "", "upgrade_failed");
    return;
  }
  if (to_https) {
    std::string location = "https://";
    location.append(x.request.authority).append(x.request.path);
    x.record.cluster = {};  // the route was never taken
    local_reply(id, 301, "", "direct_response", location);
    return;
  }
  if (x.route == nullptr) {
    x.record.flags.set(Flag::kNoRoute);
    local_reply(id, 404, "", "route_not_found");
    return;
  }
  switch (x.route->kind) {
    case tables::Route::Kind::kRedirect: redirect(id); return;
    case tables::Route::Kind::kDirectResponse: local_reply(id, x.route->direct.status, x.route->direct.body, "direct_response"); return;
    case tables::Route::Kind::kForward: break;
  }
  if (x.target == nullptr || c_.tables->cluster(x.cluster) == nullptr) {
    x.record.flags.set(Flag::kNoCluster);
    local_reply(id, x.route->forward.cluster_not_found_code, "", "cluster_not_found");
    return;
  }
  prepare_upstream_request(x);
  if (x.request.fields.failed()) {
    x.record.flags.set(Flag::kOverload);
    local_reply(id, 503, "", "overload");
    return;
  }
  attempt(id);
}

namespace {

// The path after its rewrite by a route that matched it, query kept (config.route.v3.RouteAction.prefix_rewrite).
std::string rewritten(const tables::RouteMatch& match, std::string_view path_and_query, std::string_view rewrite) {
  const std::string_view path = http::path_of(path_and_query), query = path_and_query.substr(path.size());
  const bool prefix = match.kind == tables::RouteMatch::Path::kPrefix || match.kind == tables::RouteMatch::Path::kSeparatedPrefix;
  return std::string(rewrite).append(prefix ? path.substr(std::min(match.path.size(), path.size())) : std::string_view{}).append(query);
}

// Host and port of an authority; the port is empty where there is none. "[::1]:80" keeps its brackets.
std::pair<std::string_view, std::string_view> split_port(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  if (colon == authority.npos || authority.find(']', colon) != authority.npos) return {authority, {}};
  return {authority.substr(0, colon), authority.substr(colon + 1)};
}

}  // namespace

// config.route.v3.RedirectAction, with Envoy's rules for the port and the query.
void Proxy::redirect(ExchangeId id) {
  Exchange& x = *exchanges_.get(id);
  const tables::Redirect& to = x.route->redirect;
  const std::string_view scheme = to.https ? "https" : !to.scheme.empty() ? std::string_view(to.scheme) : x.request.scheme;
  std::string location(scheme);
  location += "://";
  if (!to.host.empty()) {
    location += to.host;
  } else {
    const auto [host, port] = split_port(x.request.authority);
    const bool default_port = (x.request.scheme == "http" && port == "80" && scheme == "https") ||
                              (x.request.scheme == "https" && port == "443" && scheme == "http");
    location += to.port || default_port ? host : x.request.authority;
  }
  if (to.port) location.append(":").append(std::to_string(*to.port));

  std::string path(x.request.path);
  if (to.path) {
    path = to.path->find('?') != std::string::npos ? *to.path : *to.path + path.substr(http::path_of(path).size());
  } else if (to.prefix_rewrite) {
    path = rewritten(x.route->match, path, *to.prefix_rewrite);
  } else if (to.regex_rewrite != nullptr) {
    const std::string_view plain = http::path_of(x.request.path);
    path = to.regex_rewrite->replace(plain, to.regex_substitution).append(x.request.path.substr(plain.size()));
  }
  if (to.strip_query && !(to.path && to.path->find('?') != std::string::npos)) path.resize(http::path_of(path).size());
  location += path;
  local_reply(id, to.code, "", "direct_response", location);
}

namespace {

// gRPC's "TimeoutValue TimeoutUnit" (at most 8 digits), in milliseconds rounded up; nullopt: none that counts.
std::optional<uint64_t> grpc_timeout_ms(std::string_view text) {
  uint64_t n = 0;
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size() - 1, n);
  if (error != std::errc{} || end != text.data() + text.size() - 1) return std::nullopt;
  switch (text.back()) {
    case 'H': return n * 3'600'000;
    case 'M': return n * 60'000;
    case 'S': return n * 1000;
    case 'm': return n;
    case 'u': return (n + 999) / 1000;
    case 'n': return (n + 999'999) / 1'000'000;
    default: return std::nullopt;
  }
}

// In the finest unit that leaves at most 8 digits.
std::string grpc_timeout_text(uint64_t ms) {
  constexpr std::pair<char, uint64_t> kUnits[] = {{'m', 1000}, {'S', 60}, {'M', 60}, {'H', 1}};
  for (const auto& [unit, next] : kUnits) {
    if (ms <= 99'999'999) return std::to_string(ms) + unit;
    ms /= next;
  }
  return "99999999H";
}

}  // namespace

// How long the origin has, and what it is told of it: the try's time, else the request's. A gRPC client sets its own where the route says
// how much it may (max_grpc_timeout, 0: any); then the route's timeout does not count (Envoy: FilterUtility::finalTimeout).
void Proxy::set_timeouts(Exchange& x) {
  const tables::RouteAction& action = x.route->forward;
  http::FieldList& fields = x.request.fields;
  x.timeout = action.timeout;
  const bool grpc = http::is_grpc(fields);
  if (grpc && action.max_grpc_timeout) {
    x.timeout = Usec(grpc_timeout_ms(fields.first("grpc-timeout").value_or("")).value_or(0)) * kMs;
    if (const Usec most = *action.max_grpc_timeout; most != 0 && (x.timeout == 0 || x.timeout > most)) x.timeout = most;
  }
  const Usec per_try = x.retry != nullptr ? x.retry->per_try_timeout : 0;
  const Usec expected = per_try != 0 && (x.timeout == 0 || per_try < x.timeout) ? per_try : x.timeout;
  if (expected == 0) return;
  fields.set("x-envoy-expected-rq-timeout-ms", std::to_string(expected / kMs));
  if (grpc) fields.set("grpc-timeout", grpc_timeout_text(uint64_t(expected / kMs)));
}

// Once per request, whatever the attempts: operations of each level, rewrites, framing.
void Proxy::prepare_upstream_request(Exchange& x) {
  http::RequestHead& r = x.request;
  const tables::RouteAction& action = x.route->forward;
  for (const tables::HeaderOperations* ops : {&x.target->headers, &x.route->headers, &x.host->headers, &x.routes->headers})
    apply_request(*ops, r, x.record, text_);

  const std::string& host = !x.target->host_rewrite.empty() ? x.target->host_rewrite : action.host_rewrite;
  if (!host.empty()) {
    if (action.append_x_forwarded_host) r.fields.append("x-forwarded-host", r.authority);
    r.fields.set("x-envoy-original-host", r.authority);
    r.authority = keep(x, host);
  }
  std::string path;
  if (!action.prefix_rewrite.empty()) {
    path = rewritten(x.route->match, r.path, action.prefix_rewrite);
  } else if (action.regex_rewrite != nullptr) {
    const std::string_view plain = http::path_of(r.path);
    path = action.regex_rewrite->replace(plain, action.regex_substitution).append(r.path.substr(plain.size()));
  }
  if (!path.empty()) {
    r.fields.set("x-envoy-original-path", r.path);
    r.path = keep(x, path);
  }
  if (!x.route->decorator_operation.empty() && x.route->decorator_propagate)
    r.fields.set("x-envoy-decorator-operation", x.route->decorator_operation);

  set_timeouts(x);

  // The framing is ours, whatever `Connection: content-length` or the route's operations made of the head: a length that is gone becomes
  // chunks (as in Envoy), or the body would be the origin's next request.
  const http::Framing framing = x.parser->framing();
  x.request_chunked = framing == http::Framing::kChunked ||
                      (framing == http::Framing::kLength && x.parser->content_length() > 0 && !r.fields.has("content-length"));
  if (framing != http::Framing::kLength || x.request_chunked) r.fields.remove("content-length");
  else r.fields.set("content-length", std::to_string(x.parser->content_length()));
  r.fields.remove("transfer-encoding");
  if (x.request_chunked) r.fields.set("transfer-encoding", "chunked");
  else if (framing == http::Framing::kNone && !x.upgrade && r.method != "GET" && r.method != "HEAD" && r.method != "DELETE" &&
           r.method != "TRACE")
    r.fields.set("content-length", "0");

  const auto expect = r.fields.first("expect");
  if (expect && http::equals_ignore_case(*expect, "100-continue") && !x.hcm->proxy_100_continue) {
    r.fields.remove("expect");
    if (!x.request_complete) x.out = "HTTP/1.1 100 Continue\r\n\r\n";
  }
}

// The answer is whole in `out`.
void Proxy::answer_ready(ExchangeId id) {
  if (flush(id)) response_done(id);
}

}  // namespace sluice::proxy
