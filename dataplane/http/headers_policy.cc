#include "dataplane/http/headers_policy.h"

#include <algorithm>

namespace sluice::http {
namespace {

// Of an external request: what would let a stranger steer the proxy or pass for it (Envoy: ConnectionManagerUtility::cleanInternalHeaders
// and its kin).
constexpr std::string_view kNotFromStrangers[] = {"x-envoy-internal",
                                                  "x-envoy-decorator-operation",
                                                  "x-envoy-downstream-service-cluster",
                                                  "x-envoy-downstream-service-node",
                                                  "x-envoy-original-path",
                                                  "x-envoy-original-host",
                                                  "x-envoy-retriable-status-codes",
                                                  "x-envoy-retriable-header-names",
                                                  "x-envoy-retry-on",
                                                  "x-envoy-retry-grpc-on",
                                                  "x-envoy-max-retries",
                                                  "x-envoy-upstream-alt-stat-name",
                                                  "x-envoy-upstream-rq-timeout-ms",
                                                  "x-envoy-upstream-rq-per-try-timeout-ms",
                                                  "x-envoy-upstream-rq-timeout-alt-response",
                                                  "x-envoy-expected-rq-timeout-ms",
                                                  "x-envoy-force-trace",
                                                  "x-envoy-ip-tags",
                                                  "x-envoy-original-url",
                                                  "x-envoy-hedge-on-per-try-timeout",
                                                  "x-envoy-attempt-count"};

// The address that the last `hops` proxies in front of us saw: the hops-th from the right of x-forwarded-for, before we append to it.
std::optional<IpAddress> from_xff(const FieldList& fields, uint32_t hops) {
  const auto value = fields.joined("x-forwarded-for");
  if (!value) return std::nullopt;
  std::vector<std::string_view> parts;
  each_token(*value, [&](std::string_view t) { parts.push_back(t); });
  return parts.size() < hops ? std::nullopt : IpAddress::parse(parts[parts.size() - hops]);
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
  if (o.cert_subject) {
    std::string escaped;
    for (char ch : c.subject) {
      if (ch == '"' || ch == '\\') escaped += '\\';
      escaped += ch;
    }
    part("Subject", escaped, true);
  }
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

UpgradeRequest strip_hop_by_hop_request(FieldList& fields) {
  UpgradeRequest up;
  const bool asks = fields.has_token("connection", "upgrade");
  const auto protocol = fields.first("upgrade");
  if (asks && protocol) {
    up.websocket = equals_ignore_case(*protocol, "websocket");
    up.other = !up.websocket && !equals_ignore_case(*protocol, "h2c");
  }
  const bool keep = up.websocket || up.other;
  const bool trailers = fields.has_token("te", "trailers");
  std::vector<std::string_view> named;
  for (const Field& f : fields.all())
    if (f.name == "connection") each_token(f.value, [&](std::string_view t) { named.push_back(t); });
  fields.remove_if([&](const Field& f) {
    if (f.name == "te") return true;
    if (f.name == "connection" || f.name == "keep-alive" || f.name == "proxy-connection" || f.name == "transfer-encoding" ||
        f.name == "http2-settings")
      return true;
    if (f.name == "upgrade") return !keep;
    return std::ranges::any_of(named, [&](std::string_view t) { return equals_ignore_case(t, f.name); });
  });
  if (trailers) fields.add("te", "trailers");
  if (keep) fields.add("connection", "upgrade");
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
      const auto before = f.joined("x-forwarded-for");  // one field, however many came
      f.set("x-forwarded-for", (before ? std::string(*before) + "," : "") + facts.remote.ip.to_string());
    }
    if (o.xff_trusted_hops == 0 || !f.has("x-forwarded-proto")) f.set("x-forwarded-proto", proto);
    if (o.append_x_forwarded_port && (o.xff_trusted_hops == 0 || !f.has("x-forwarded-port")))
      f.set("x-forwarded-port", std::to_string(facts.local.port));
  } else {
    if (const auto a = from_xff(f, o.xff_trusted_hops + 1)) client = *a;
    if (!f.has("x-forwarded-proto")) f.set("x-forwarded-proto", proto);
  }
  if (edge) {
    f.remove_if([](const Field& x) {
      return x.name.starts_with("x-envoy-") && std::ranges::find(kNotFromStrangers, x.name) != std::end(kNotFromStrangers);
    });
    f.set("x-envoy-external-address", client.to_string());
  }
  if (o.generate_request_id && ((edge && !o.preserve_external_request_id) || !f.has("x-request-id"))) f.set("x-request-id", uuid(rng));
  client_certificate(head, o, facts);
  return client;
}

}  // namespace sluice::http
