#include "dataplane/route/route.h"

#include <algorithm>

#include "ctrl/compile/translate.h"
#include "dataplane/http/format.h"

namespace sluice::compile {

namespace rt = envoy::config::route::v3;

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = char(c + 32);
  return out;
}

Usec usec_of(const google::protobuf::Duration& d) {
  if (d.seconds() < 0 || d.nanos() < 0) throw Refused("a negative duration");
  return Usec(d.seconds()) * kSec + Usec(d.nanos()) / 1000;
}

namespace {

std::shared_ptr<const tables::Regex> regex_of(const std::string& pattern) {
  auto r = tables::Regex::compile(pattern);
  if (!r) throw Refused(r.error());
  return *r;
}

}  // namespace

tables::StringMatch string_match_of(const envoy::type::matcher::v3::StringMatcher& m) {
  using M = envoy::type::matcher::v3::StringMatcher;
  using Kind = tables::StringMatch::Kind;
  tables::StringMatch out;
  out.ignore_case = m.ignore_case();
  switch (m.match_pattern_case()) {
    case M::kExact: out.kind = Kind::kExact, out.value = m.exact(); break;
    case M::kPrefix: out.kind = Kind::kPrefix, out.value = m.prefix(); break;
    case M::kSuffix: out.kind = Kind::kSuffix, out.value = m.suffix(); break;
    case M::kContains: out.kind = Kind::kContains, out.value = m.contains(); break;
    case M::kSafeRegex:
      out.kind = Kind::kRegex;
      out.ignore_case = false;  // Envoy: no effect on a regex
      out.value = m.safe_regex().regex();
      out.regex = regex_of(out.value);
      break;
    default: throw Refused("a string matcher without a pattern that this gateway knows");
  }
  if (out.ignore_case) out.value = lower(out.value);
  return out;
}

tables::HeaderMatch header_match_of(const rt::HeaderMatcher& m) {
  using Kind = tables::HeaderMatch::Kind;
  tables::HeaderMatch out;
  out.name = lower(m.name());
  out.invert = m.invert_match();
  out.treat_missing_as_empty = m.treat_missing_header_as_empty();
  out.kind = Kind::kString;
  auto plain = [&](tables::StringMatch::Kind kind, const std::string& value) {
    out.string.kind = kind;
    out.string.value = value;
  };
  switch (m.header_match_specifier_case()) {
    case rt::HeaderMatcher::kExactMatch: plain(tables::StringMatch::Kind::kExact, m.exact_match()); break;
    case rt::HeaderMatcher::kPrefixMatch: plain(tables::StringMatch::Kind::kPrefix, m.prefix_match()); break;
    case rt::HeaderMatcher::kSuffixMatch: plain(tables::StringMatch::Kind::kSuffix, m.suffix_match()); break;
    case rt::HeaderMatcher::kContainsMatch: plain(tables::StringMatch::Kind::kContains, m.contains_match()); break;
    case rt::HeaderMatcher::kSafeRegexMatch:
      plain(tables::StringMatch::Kind::kRegex, m.safe_regex_match().regex());
      out.string.regex = regex_of(out.string.value);
      break;
    case rt::HeaderMatcher::kStringMatch: out.string = string_match_of(m.string_match()); break;
    case rt::HeaderMatcher::kRangeMatch:
      out.kind = Kind::kRange;
      out.range_start = m.range_match().start();
      out.range_end = m.range_match().end();
      break;
    case rt::HeaderMatcher::kPresentMatch:
      out.kind = Kind::kPresent;
      out.present = m.present_match();
      break;
    case rt::HeaderMatcher::HEADER_MATCH_SPECIFIER_NOT_SET: out.kind = Kind::kPresent; break;  // Envoy: the header is there
    default: throw Refused("header matcher \"" + m.name() + "\" has no rule that this gateway knows");
  }
  return out;
}

namespace {

template <class Message>
tables::HeaderOperations operations_of(const Message& m) {
  tables::HeaderOperations out;
  auto add = [](const auto& from, std::vector<tables::HeaderOperation>& to) {
    for (const auto& o : from) {
      tables::HeaderOperation& h = to.emplace_back();
      h.name = lower(o.header().key());
      if (h.name.empty()) throw Refused("a header operation without a name");
      auto value = http::Format::compile(o.header().value());
      if (!value) throw Refused("header " + h.name + ": " + value.error());
      h.value = *value;
      using A = tables::HeaderOperation::Action;
      switch (o.append_action()) {
        case core::HeaderValueOption::APPEND_IF_EXISTS_OR_ADD:
          h.action = o.has_append() && !o.append().value() ? A::kOverwriteIfExistsOrAdd : A::kAppendIfExistsOrAdd;
          break;
        case core::HeaderValueOption::ADD_IF_ABSENT: h.action = A::kAddIfAbsent; break;
        case core::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD: h.action = A::kOverwriteIfExistsOrAdd; break;
        case core::HeaderValueOption::OVERWRITE_IF_EXISTS: h.action = A::kOverwriteIfExists; break;
        default: throw Refused("header " + h.name + ": append_action " + std::to_string(o.append_action()) + " is not known");
      }
      h.keep_empty = o.keep_empty_value();
    }
  };
  add(m.request_headers_to_add(), out.request_add);
  add(m.response_headers_to_add(), out.response_add);
  for (const auto& n : m.request_headers_to_remove()) out.request_remove.push_back(lower(n));
  for (const auto& n : m.response_headers_to_remove()) out.response_remove.push_back(lower(n));
  return out;
}

tables::RouteMatch match_of(const rt::RouteMatch& m) {
  using Path = tables::RouteMatch::Path;
  tables::RouteMatch out;
  switch (m.path_specifier_case()) {
    case rt::RouteMatch::kPrefix: out.kind = Path::kPrefix, out.path = m.prefix(); break;
    case rt::RouteMatch::kPath: out.kind = Path::kExact, out.path = m.path(); break;
    case rt::RouteMatch::kPathSeparatedPrefix: out.kind = Path::kSeparatedPrefix, out.path = m.path_separated_prefix(); break;
    case rt::RouteMatch::kSafeRegex:
      out.kind = Path::kRegex;
      out.path = m.safe_regex().regex();
      out.regex = regex_of(out.path);
      break;
    default: throw Refused("match: no path rule that this gateway knows");
  }
  out.case_sensitive = !m.has_case_sensitive() || m.case_sensitive().value();
  for (const auto& h : m.headers()) out.headers.push_back(header_match_of(h));
  for (const auto& q : m.query_parameters()) {
    tables::QueryMatch& x = out.query.emplace_back();
    x.name = q.name();
    x.present_only = !q.has_string_match();
    if (q.query_parameter_match_specifier_case() == rt::QueryParameterMatcher::kPresentMatch && !q.present_match())
      throw Refused("query parameter \"" + q.name() + "\": present_match false is not supported");
    if (!x.present_only) x.string = string_match_of(q.string_match());
  }
  out.grpc = m.has_grpc();
  if (m.has_runtime_fraction()) {
    const auto& f = m.runtime_fraction().default_value();
    const uint32_t scale = f.denominator() == envoy::type::v3::FractionalPercent::HUNDRED        ? 10'000
                           : f.denominator() == envoy::type::v3::FractionalPercent::TEN_THOUSAND ? 100
                                                                                                 : 1;
    out.fraction_of_million = f.numerator() * scale;
  }
  return out;
}

constexpr std::pair<std::string_view, uint32_t> kRetryConditions[] = {
    {"5xx", tables::kRetry5xx},
    {"gateway-error", tables::kRetryGatewayError},
    {"reset", tables::kRetryReset},
    {"reset-before-request", tables::kRetryResetBeforeRequest},
    {"connect-failure", tables::kRetryConnectFailure},
    {"refused-stream", tables::kRetryRefusedStream},
    {"retriable-4xx", tables::kRetryRetriable4xx},
    {"retriable-status-codes", tables::kRetryRetriableStatusCodes},
    {"envoy-ratelimited", tables::kRetryEnvoyRateLimited},
    {"cancelled", tables::kRetryGrpcCancelled},
    {"unavailable", tables::kRetryGrpcUnavailable},
    {"deadline-exceeded", tables::kRetryGrpcDeadline},
    {"internal", tables::kRetryGrpcInternal},
    {"resource-exhausted", tables::kRetryGrpcExhausted},
};

tables::RetryPolicy retry_of(const rt::RetryPolicy& p) {
  tables::RetryPolicy out;
  http::each_token(p.retry_on(), [&](std::string_view word) {
    const auto* found = std::ranges::find(kRetryConditions, word, &std::pair<std::string_view, uint32_t>::first);
    if (found == std::end(kRetryConditions)) throw Refused("retry_on: \"" + std::string(word) + "\" is not supported");
    out.retry_on |= found->second;
  });
  if (p.has_num_retries()) out.num_retries = p.num_retries().value();
  if (p.has_per_try_timeout()) out.per_try_timeout = usec_of(p.per_try_timeout());
  for (uint32_t code : p.retriable_status_codes()) out.retriable_status_codes.push_back(uint16_t(code));
  out.previous_hosts = !p.retry_host_predicate().empty();
  out.host_selection_attempts_max = std::max<uint32_t>(1, uint32_t(std::clamp<int64_t>(p.host_selection_retry_max_attempts(), 0, 100)));
  if (p.has_retry_back_off()) {
    out.back_off_base = usec_of(p.retry_back_off().base_interval());
    out.back_off_max = p.retry_back_off().has_max_interval() ? usec_of(p.retry_back_off().max_interval()) : 10 * out.back_off_base;
  }
  return out;
}

tables::RouteAction action_of(const rt::RouteAction& a, Interned& ids) {
  tables::RouteAction out;
  switch (a.cluster_specifier_case()) {
    case rt::RouteAction::kCluster: {
      tables::WeightedCluster& w = out.clusters.emplace_back();
      w.name = a.cluster();
      w.cluster = ids.clusters.of(w.name);
      w.weight = 1;
      break;
    }
    case rt::RouteAction::kWeightedClusters: {
      uint64_t total = 0;
      for (const auto& c : a.weighted_clusters().clusters()) {
        tables::WeightedCluster& w = out.clusters.emplace_back();
        w.name = c.name();
        w.cluster = ids.clusters.of(w.name);
        w.weight = c.weight().value();
        w.headers = operations_of(c);
        w.host_rewrite = c.host_rewrite_literal();
        total += w.weight;
      }
      if (total == 0 || total > UINT32_MAX) throw Refused("weighted_clusters: the sum of the weights is " + std::to_string(total));
      out.total_weight = uint32_t(total);
      break;
    }
    default: throw Refused("route: no cluster rule that this gateway knows");
  }
  out.prefix_rewrite = a.prefix_rewrite();
  if (a.has_regex_rewrite()) {
    out.regex_rewrite = regex_of(a.regex_rewrite().pattern().regex());
    out.regex_substitution = a.regex_rewrite().substitution();
  }
  out.host_rewrite = a.host_rewrite_literal();
  out.append_x_forwarded_host = a.append_x_forwarded_host();
  if (a.has_timeout()) out.timeout = usec_of(a.timeout());
  if (a.has_max_grpc_timeout()) out.max_grpc_timeout = usec_of(a.max_grpc_timeout());
  if (a.has_idle_timeout()) out.idle_timeout = usec_of(a.idle_timeout());
  if (a.has_retry_policy()) out.retry = retry_of(a.retry_policy());
  if (a.cluster_not_found_response_code() == rt::RouteAction::NOT_FOUND) out.cluster_not_found_code = 404;
  if (a.cluster_not_found_response_code() == rt::RouteAction::INTERNAL_SERVER_ERROR) out.cluster_not_found_code = 500;
  return out;
}

tables::Redirect redirect_of(const rt::RedirectAction& r) {
  tables::Redirect out;
  out.https = r.https_redirect();
  out.scheme = lower(r.scheme_redirect());
  out.host = r.host_redirect();
  if (r.port_redirect() != 0) out.port = r.port_redirect();
  if (!r.path_redirect().empty()) out.path = r.path_redirect();
  if (r.path_rewrite_specifier_case() == rt::RedirectAction::kPrefixRewrite) out.prefix_rewrite = r.prefix_rewrite();
  if (r.has_regex_rewrite()) {
    out.regex_rewrite = regex_of(r.regex_rewrite().pattern().regex());
    out.regex_substitution = r.regex_rewrite().substitution();
  }
  out.strip_query = r.strip_query();
  constexpr uint16_t kCodes[] = {301, 302, 303, 307, 308};
  if (r.response_code() < 0 || size_t(r.response_code()) >= std::size(kCodes))
    throw Refused("redirect: response_code " + std::to_string(r.response_code()) + " is not known");
  out.code = kCodes[r.response_code()];
  return out;
}

tables::Route route_of(const rt::Route& r, Interned& ids) {
  tables::Route out;
  out.name = r.name();
  out.match = match_of(r.match());
  out.headers = operations_of(r);
  out.decorator_operation = r.decorator().operation();
  out.decorator_propagate = !r.decorator().has_propagate() || r.decorator().propagate().value();
  if (const auto istio = r.metadata().filter_metadata().find("istio"); istio != r.metadata().filter_metadata().end())
    if (const auto config = istio->second.fields().find("config"); config != istio->second.fields().end())
      out.source = config->second.string_value();
  switch (r.action_case()) {
    case rt::Route::kRoute:
      out.kind = tables::Route::Kind::kForward;
      out.forward = action_of(r.route(), ids);
      break;
    case rt::Route::kRedirect:
      out.kind = tables::Route::Kind::kRedirect;
      out.redirect = redirect_of(r.redirect());
      break;
    case rt::Route::kDirectResponse:
      out.kind = tables::Route::Kind::kDirectResponse;
      out.direct.status = uint16_t(r.direct_response().status());
      if (out.direct.status < 200 || out.direct.status > 599)
        throw Refused("direct_response: status " + std::to_string(r.direct_response().status()));
      out.direct.body = r.direct_response().body().inline_string() + r.direct_response().body().inline_bytes();
      break;
    default: throw Refused("no action that this gateway knows");
  }
  return out;
}

}  // namespace

std::shared_ptr<const tables::RouteConfiguration> routes_of(const rt::RouteConfiguration& r, Interned& ids) {
  auto out = std::make_shared<tables::RouteConfiguration>();
  out->name = r.name();
  out->ignore_port = r.ignore_port_in_host_matching();
  out->headers = operations_of(r);
  std::set<std::string> domains;
  for (const auto& v : r.virtual_hosts()) {
    auto host = std::make_shared<tables::VirtualHost>();
    host->name = v.name();
    for (const auto& d : v.domains()) {
      host->domains.push_back(lower(d));
      if (!domains.insert(host->domains.back()).second)
        throw Refused("virtual host \"" + v.name() + "\": domain \"" + d + "\" is another's too");
    }
    if (host->domains.empty()) throw Refused("virtual host \"" + v.name() + "\" has no domain");
    for (int i = 0; i < v.routes_size(); i++) {
      try {
        host->routes.push_back(route_of(v.routes(i), ids));
      } catch (const Refused& e) {
        throw Refused("virtual host \"" + v.name() + "\", route " + std::to_string(i) + ": " + e.what());
      }
    }
    if (v.require_tls() == rt::VirtualHost::EXTERNAL_ONLY || v.require_tls() == rt::VirtualHost::ALL) host->require_tls = true;
    host->include_request_attempt_count = v.include_request_attempt_count();
    if (v.has_retry_policy()) host->retry = retry_of(v.retry_policy());
    host->headers = operations_of(v);
    host->index = route::VirtualHostIndex::build(*host);
    out->virtual_hosts.push_back(std::move(host));
  }
  out->index = route::DomainIndex::build(out->virtual_hosts);
  return out;
}

}  // namespace sluice::compile
