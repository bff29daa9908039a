#include <algorithm>
#include <set>

#include "ctrl/plane/checker.h"

namespace sluice::plane {

void check_gateway(Checker& c, const Config& g) {
  const Node& servers = g.spec()["servers"];
  if (servers.items.empty()) return c.refuse(g.at(), "a gateway must have at least one server", "add spec.servers");
  std::set<std::string> names;
  for (const Node& v : g.spec()["selector"].items)
    if (v.str().find('*') != std::string::npos)
      c.warn(v, "labels are compared as they stand: '*' is no wildcard here", "write the whole value, or leave the label out");
  if (g.spec()["selector"].null()) c.warn(g.at(), "without a selector this Gateway is served by every gateway", "add spec.selector");
  for (const Node& s : servers.items) {
    const Node &port = s["port"], &tls = s["tls"];
    const std::string protocol = upper(port["protocol"].str());
    static const std::vector<std::string_view> kProtocols = {"HTTP", "HTTPS",    "TLS",   "TCP",   "HTTP2",
                                                             "GRPC", "GRPC-WEB", "MYSQL", "REDIS", "MONGO"};
    if (std::ranges::find(kProtocols, protocol) == kProtocols.end()) {
      const std::string near = nearest(protocol, kProtocols);
      c.refuse(port["protocol"],
               "protocol '" + port["protocol"].str() + "' is not known" + (near.empty() ? "" : "; did you mean '" + near + "'?"),
               "HTTP, HTTPS, TLS, TCP, HTTP2, GRPC, GRPC-WEB, MONGO, MYSQL or REDIS; a gateway has no UDP");
    }
    if (port["name"].str().empty()) c.refuse(port, "the port has no name", "add name, for example http");
    else if (!names.insert(port["name"].str()).second)
      c.refuse(port["name"], "the port name '" + port["name"].str() + "' is there twice; names must be unique within a gateway",
               "rename one of them");
    if (s["hosts"].items.empty()) c.refuse(s, "a server must have at least one host", "add hosts: [shop.example.com], or [\"*\"]");
    for (const Node& h : s["hosts"].items) {
      const std::string& text = h.str();
      const size_t slash = text.find('/');
      const std::string ns = slash == std::string::npos ? "*" : text.substr(0, slash), name = text.substr(slash + 1);
      if (!valid_host(name)) c.refuse(h, "'" + text + "' is no host name", "for example shop.example.com, *.example.com, *, or ns/host");
      if (ns != "*" && ns != "." && !valid_label(ns))
        c.refuse(h, "'" + ns + "' is no namespace", "before the / stands a namespace, . or *");
    }
    if (s["bind"] && !valid_ip(s["bind"].str()))
      c.refuse(s["bind"], "'" + s["bind"].str() + "' is no IP address", "for example 10.0.0.1, or leave it out");
    const bool needs_tls = protocol == "HTTPS" || protocol == "TLS";
    if (needs_tls && tls.null())
      c.refuse(s, "a server of protocol " + protocol + " needs tls settings",
               "add tls: {mode: SIMPLE, serverCertificate: ..., privateKey: ...}");
    if (!needs_tls && tls && !(protocol == "HTTP" && tls.keys.size() == 1 && tls["httpsRedirect"]))
      c.refuse(tls, "a plain " + protocol + " server cannot have tls settings",
               "only httpsRedirect is possible; for TLS the protocol is HTTPS");
    if (!needs_tls || tls.null()) continue;
    if (tls["httpsRedirect"].boolean())
      c.refuse(tls["httpsRedirect"], "httpsRedirect is for plain HTTP servers", "put it into the server of port 80");
    const std::string mode = tls["mode"].str();
    const bool credential = tls["credentialName"] || !tls["credentialNames"].items.empty();
    if (credential)
      c.warn(tls["credentialName"] ? tls["credentialName"] : tls["credentialNames"],
             "sluice-control has no store of secrets: the gateway keeps this listener shut until someone sends it the secret",
             "use serverCertificate and privateKey");
    const bool own =
        !credential && tls["tlsCertificates"].items.empty() && (mode == "SIMPLE" || mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL");
    for (const Node& pair : tls["tlsCertificates"].items)
      if (pair["serverCertificate"].str().empty() || pair["privateKey"].str().empty())
        c.refuse(pair, "a pair needs serverCertificate and privateKey", "add the other of the two");
    if (own && tls["serverCertificate"].null())
      c.refuse(tls, mode + " TLS requires a server certificate", "set serverCertificate to a PEM file");
    if (own && tls["privateKey"].null()) c.refuse(tls, mode + " TLS requires a private key", "set privateKey to a PEM file");
    if (!credential && (mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL") && tls["caCertificates"].null())
      c.refuse(tls, mode + " TLS requires a client CA bundle", "set caCertificates to a PEM file");
    if (mode == "ISTIO_MUTUAL" && (tls["serverCertificate"] || tls["privateKey"] || tls["caCertificates"]))
      c.refuse(tls, "ISTIO_MUTUAL uses the workload's identity and takes no files", "remove them, or use mode MUTUAL");
    if (mode.ends_with("PASSTHROUGH") && tls["serverCertificate"])
      c.refuse(tls["serverCertificate"], mode + " does not end the handshake and takes no certificate", "remove it, or use mode SIMPLE");
    if (tls["minProtocolVersion"] && tls["maxProtocolVersion"].str().starts_with("TLSV") &&
        tls["minProtocolVersion"].str() > tls["maxProtocolVersion"].str() && tls["minProtocolVersion"].str() != "TLS_AUTO")
      c.refuse(tls["minProtocolVersion"], "minProtocolVersion is above maxProtocolVersion", "exchange the two");
    for (const Node& suite : tls["cipherSuites"].items)
      if (!is_cipher_suite(suite.str()))
        c.refuse(suite, "'" + suite.str() + "' is no cipher suite that Istio knows",
                 "for example ECDHE-ECDSA-AES128-GCM-SHA256; those of TLS 1.3 cannot be chosen");
  }
}

bool is_cipher_suite(std::string_view name) {
  static constexpr std::string_view kKnown[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                                "ECDHE-RSA-AES128-GCM-SHA256",
                                                "ECDHE-ECDSA-AES256-GCM-SHA384",
                                                "ECDHE-RSA-AES256-GCM-SHA384",
                                                "ECDHE-ECDSA-CHACHA20-POLY1305",
                                                "ECDHE-RSA-CHACHA20-POLY1305",
                                                "ECDHE-ECDSA-AES128-SHA",
                                                "ECDHE-RSA-AES128-SHA",
                                                "ECDHE-ECDSA-AES256-SHA",
                                                "ECDHE-RSA-AES256-SHA",
                                                "AES128-GCM-SHA256",
                                                "AES256-GCM-SHA384",
                                                "AES128-SHA",
                                                "AES256-SHA",
                                                "DES-CBC3-SHA"};
  return std::ranges::find(kKnown, name) != std::end(kKnown);
}

}  // namespace sluice::plane
