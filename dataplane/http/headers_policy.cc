#include "dataplane/http/headers_policy.h"

#include <algorithm>

#include "dataplane/http/h1_parser.h"

namespace sluice::http {
namespace {

// Of an external request: what would let a stranger steer the proxy or pass for it (Envoy: ConnectionManagerUtility::cleanInternalHeaders
// and its kin; compared with Envoy 1.37 name by name). At the edge, where use_remote_address says that the peer is the client, more goes.
constexpr std::string_view kNotFromStrangers[] = {"x-envoy-internal",
                                                  "x-envoy-retriable-status-codes",
                                                  "x-envoy-retriable-header-names",
                                                  "x-envoy-retry-on",
                                                  "x-envoy-retry-grpc-on",
                                                  "x-envoy-max-retries",
                                                  "x-envoy-upstream-alt-stat-name",
                                                  "x-envoy-upstream-rq-timeout-ms",
                                                  "x-envoy-upstream-rq-per-try-timeout-ms",
                                                  "x-envoy-upstream-rq-timeout-alt-response",
                                                  "x-envoy-upstream-stream-duration-ms",
                                                  "x-envoy-expected-rq-timeout-ms",
                                                  "x-envoy-force-trace",
                                                  "x-envoy-ip-tags",
                                                  "x-envoy-original-url",
                                                  "x-envoy-hedge-on-per-try-timeout"};
constexpr std::string_view kNotAtTheEdge[] = {"x-envoy-decorator-operation", "x-envoy-downstream-service-cluster",
                                              "x-envoy-downstream-service-node", "x-envoy-original-path", "x-envoy-original-host"};

// Compared with Envoy 1.37 name by name: its O(1) headers of a request.
constexpr std::string_view kHeldAsOne[] = {"accept",
                                           "accept-encoding",
                                           "access-control-request-headers",
                                           "access-control-request-method",
                                           "access-control-request-private-network",
                                           "authentication",
                                           "authorization",
                                           "cache-control",
                                           "cdn-loop",
                                           "connection",
                                           "content-encoding",
                                           "content-type",
                                           "expect",
                                           "grpc-accept-encoding",
                                           "grpc-timeout",
                                           "if-match",
                                           "if-modified-since",
                                           "if-none-match",
                                           "if-range",
                                           "if-unmodified-since",
                                           "keep-alive",
                                           "origin",
                                           "pragma",
                                           "proxy-connection",
                                           "proxy-status",
                                           "referer",
                                           "te",
                                           "upgrade",
                                           "user-agent",
                                           "via",
                                           "x-client-trace-id",
                                           "x-envoy-is-timeout-retry",
                                           "x-forwarded-client-cert",
                                           "x-forwarded-for",
                                           "x-forwarded-host",
                                           "x-forwarded-port",
                                           "x-forwarded-proto",
                                           "x-request-id"};

// The address that the last `hops` proxies in front of us saw: the hops-th from the right of x-forwarded-for, before we append to it. An
// empty element counts, or a stranger's comma would move the place that is trusted.
std::optional<IpAddress> from_xff(const FieldList& fields, uint32_t hops) {
  const auto value = fields.joined("x-forwarded-for");
  if (!value) return std::nullopt;
  std::string_view rest = *value;
  for (;; hops--) {
    const size_t comma = rest.rfind(',');
    if (hops <= 1) return IpAddress::parse(trim(rest.substr(comma == rest.npos ? 0 : comma + 1)));
    if (comma == rest.npos) return std::nullopt;
    rest = rest.substr(0, comma);
  }
}

// RFC 9110 10.1.3: no fragment and no userinfo; Envoy removes such a referer, one without a valid host, and a relative one that could be
// taken for a scheme.
bool referer_stands(std::string_view referer) {
  if (std::ranges::any_of(referer, [](char c) { return uint8_t(c) <= 0x20 || uint8_t(c) >= 0x7f || c == '#'; })) return false;
  const size_t scheme = referer.find("://");
  if (scheme == referer.npos || referer.find('/') < scheme) return referer.substr(0, referer.find('/')).find(':') == referer.npos;
  const char first = char(referer.front() | 0x20);
  const std::string_view rest = referer.substr(scheme + 3), authority = rest.substr(0, rest.find_first_of("/?"));
  std::string_view host;
  return first >= 'a' && first <= 'z' && authority.find('@') == authority.npos && split_authority(authority, host);
}

void client_certificate(RequestHead& head, const ForwardingOptions& o, const ConnectionFacts& facts) {
  using Mode = ForwardClientCert;
  const Mode mode = o.forward_client_cert;
  if (mode == Mode::kAlwaysForwardOnly) return;
  const ClientCertificate& c = facts.certificate;
  if (mode == Mode::kSanitize || !c.presented) {
    head.fields.remove("x-forwarded-client-cert");
    return;
  }
  if (mode == Mode::kForwardOnly) return;
  std::string element;
  auto part = [&](std::string_view key, std::string_view value, bool quoted) {
    if (!element.empty()) element += ';';
    ((element += key) += '=') += quoted ? "\"" + std::string(value) + "\"" : std::string(value);
  };
  if (!c.local_uri.empty()) part("By", c.local_uri, false);
  if (!c.sha256_hex.empty()) part("Hash", c.sha256_hex, false);
  if (o.cert_pem && !c.pem_escaped.empty()) part("Cert", c.pem_escaped, true);
  if (o.cert_chain && !c.chain_escaped.empty()) part("Chain", c.chain_escaped, true);
  if (o.cert_subject) part("Subject", c.subject, true);  // RFC 2253 already escapes quotes and backslashes in it
  if (o.cert_uri) {
    if (c.uris == nullptr || c.uris->empty()) part("URI", "", false);
    else
      for (const auto& u : *c.uris) part("URI", u, false);
  }
  if (o.cert_dns && c.dns != nullptr)
    for (const auto& d : *c.dns) part("DNS", d, false);
  if (mode == Mode::kAppendForward) head.fields.append("x-forwarded-client-cert", element);
  else head.fields.set("x-forwarded-client-cert", element);
}

}  // namespace

std::string uuid(Rng& rng) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string s(36, '-');
  uint64_t bits = 0;
  for (size_t i = 0, n = 0; i < 36; i++) {
    if (i == 8 || i == 13 || i == 18 || i == 23) continue;
    if (n % 16 == 0) bits = rng.next();
    s[i] = kHex[i == 14 ? 4 : i == 19 ? 8 | (bits & 3) : bits & 15];
    bits >>= 4;
    n++;
  }
  return s;
}

void join_repeated(FieldList& fields) {
  const auto all = fields.all();
  for (size_t i = 0; i < all.size(); i++)
    for (size_t j = i + 1; j < all.size(); j++) {
      if (all[i].name != all[j].name || !std::ranges::binary_search(kHeldAsOne, all[i].name)) continue;
      const std::string_view name = all[i].name;
      std::string joined;
      for (const Field& f : all)
        if (f.name == name && !f.value.empty()) joined.append(joined.empty() ? "" : ",").append(f.value);
      fields.set(name, joined);
      join_repeated(fields);  // the list is another one now
      return;
    }
}

UpgradeRequest strip_hop_by_hop_request(FieldList& fields) {
  UpgradeRequest up;
  const bool asks = fields.has_token("connection", "upgrade");
  const auto protocol = fields.first("upgrade");
  if (asks && protocol) {
    up.websocket = equals_ignore_case(*protocol, "websocket");
    up.other = !up.websocket && !equals_ignore_case(*protocol, "h2c");
  }
  const bool keep = up.websocket || up.other, h2c = asks && protocol && !keep;
  const std::string_view connection = fields.first("connection").value_or("");
  std::vector<std::string_view> named;
  each_token(connection, [&](std::string_view t) { named.push_back(t); });
  const auto names = [&](std::string_view name) {
    return std::ranges::any_of(named, [&](std::string_view t) { return equals_ignore_case(t, name); });
  };
  // "trailers" is Envoy's to the letter, but for a TE that Connection names; an empty TE that it does not name stays.
  const auto te = fields.first("te");
  const bool te_named = names("te"), te_empty = te && te->empty() && !te_named;
  bool trailers = false;
  each_token(te.value_or(""), [&](std::string_view t) { trailers |= te_named ? equals_ignore_case(t, "trailers") : t == "trailers"; });
  fields.remove_if([&](const Field& f) {
    if (f.name == "te") return !te_empty;
    if (f.name == "connection" || f.name == "keep-alive" || f.name == "proxy-connection" || f.name == "transfer-encoding") return true;
    if (f.name == "upgrade") return !keep;
    if (f.name == "http2-settings") return h2c;
    return names(f.name);
  });
  if (trailers) fields.add("te", "trailers");
  if (keep)
    fields.add("connection",
               std::ranges::all_of(
                   named, [](std::string_view t) { return equals_ignore_case(t, "upgrade") || equals_ignore_case(t, "keep-alive"); })
                   ? connection
                   : "upgrade");
  return up;
}

void strip_hop_by_hop_response(FieldList& fields) {
  fields.remove_if([](const Field& f) {
    return f.name == "connection" || f.name == "keep-alive" || f.name == "proxy-connection" || f.name == "upgrade";
  });
}

IpAddress mutate_request(RequestHead& head, const ForwardingOptions& o, const ConnectionFacts& facts, Rng& rng) {
  FieldList& f = head.fields;
  IpAddress client = facts.remote.ip;
  bool edge = false;
  const std::string_view proto = facts.tls ? "https" : "http";
  if (o.use_remote_address) {
    if (o.xff_trusted_hops > 0) {
      if (const auto a = from_xff(f, o.xff_trusted_hops)) client = *a;
    }
    edge = true;  // istiod sets no internal addresses, so every caller is external
    if (!o.skip_xff_append) {
      const auto before = f.joined("x-forwarded-for").value_or("");  // one field, however many came
      f.set("x-forwarded-for", (before.empty() ? "" : std::string(before) + ",") + facts.remote.ip.to_string());
    }
    if (o.xff_trusted_hops == 0 || !f.has("x-forwarded-proto")) f.set("x-forwarded-proto", proto);
    if (o.append_x_forwarded_port && (o.xff_trusted_hops == 0 || !f.has("x-forwarded-port")))
      f.set("x-forwarded-port", std::to_string(facts.local.port));
  } else {
    if (const auto a = from_xff(f, o.xff_trusted_hops + 1)) client = *a;
    if (!f.has("x-forwarded-proto")) f.set("x-forwarded-proto", proto);
  }
  f.remove_if([&](const Field& x) {
    if (x.name == "referer") return !referer_stands(x.value);
    const auto in = [&](const auto& names) { return std::ranges::find(names, x.name) != std::end(names); };
    return x.name.starts_with("x-envoy-") && (in(kNotFromStrangers) || (edge && in(kNotAtTheEdge)));
  });
  if (edge) f.set("x-envoy-external-address", client.to_string());
  if (o.generate_request_id && ((edge && !o.preserve_external_request_id) || !f.has("x-request-id"))) f.set("x-request-id", uuid(rng));
  client_certificate(head, o, facts);
  return client;
}

}  // namespace sluice::http
