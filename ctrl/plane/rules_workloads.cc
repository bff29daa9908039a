// Sidecar, WorkloadGroup, ProxyConfig: what Istio's validation asks of them. A gateway is none of what they are for: istiod gives a Router
// the whole mesh whatever Sidecars say (getSidecarScope), a WorkloadGroup is a template for the machines that register, a ProxyConfig is
// read where pods are injected. So they are checked, kept and change no answer.
#include <algorithm>
#include <set>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
namespace {

void check_port(Checker& c, const Node& port) {
  static const std::vector<std::string_view> kProtocols = {"HTTP",     "HTTPS", "TLS",   "TCP",   "HTTP2", "GRPC",
                                                           "GRPC-WEB", "MONGO", "REDIS", "MYSQL", "UDP",   ""};
  if (const std::string protocol = upper(port["protocol"].str()); std::ranges::find(kProtocols, protocol) == kProtocols.end())
    c.refuse(port["protocol"], "protocol '" + port["protocol"].str() + "' is not known",
             "HTTP, HTTPS, TLS, TCP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL or UDP");
  if (port["targetPort"].integer() > 0) c.refuse(port["targetPort"], "targetPort has no impact on Sidecars", "remove it");
  if (port["name"] && !valid_label(port["name"].str())) c.refuse(port["name"], "'" + port["name"].str() + "' is no port name");
}

void check_pool(Checker& c, const Node& pool) {
  if (pool && pool["tcp"].null() && pool["http"].null()) c.refuse(pool, "the connection pool is empty", "set tcp or http");
}

// 127.0.0.1:8080, :8080, [::1]:8080 or unix:///path.
bool valid_default_endpoint(std::string_view s) {
  if (s.starts_with("unix://")) return s.size() > 7;
  const size_t colon = s.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view host = s.substr(0, colon), port = s.substr(colon + 1);
  static constexpr std::string_view kHosts[] = {"", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"};
  if (std::ranges::find(kHosts, host) == std::end(kHosts) || port.empty() || port.size() > 5) return false;
  return std::ranges::all_of(port, [](char ch) { return ch >= '0' && ch <= '9'; }) && std::stoi(std::string(port)) > 0 &&
         std::stoi(std::string(port)) < 65536;
}

void check_ingress(Checker& c, const Node& i, std::set<int64_t>& ports) {
  const Node &port = i["port"], &tls = i["tls"];
  if (port.null()) return;  // the schema says so
  check_port(c, port);
  if (port["number"].integer() == 0) c.refuse(port, "the port has no number", "a number in the range 1..65535");
  else if (!ports.insert(port["number"].integer()).second) c.refuse(port["number"], "ports on IP bound listeners must be unique");
  if (i["bind"] && !valid_ip(i["bind"].str())) c.refuse(i["bind"], "'" + i["bind"].str() + "' is no IP address");
  if (const Node& e = i["defaultEndpoint"]; e && !valid_default_endpoint(e.str()))
    c.refuse(e, "defaultEndpoint must be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH");
  check_pool(c, i["connectionPool"]);
  if (tls.null()) return;
  for (const char* f : {"subjectAltNames", "httpsRedirect", "credentialName", "credentialNames", "tlsCertificates"})
    if (tls[f] && tls[f].text != "false") c.refuse(tls[f], std::string(f) + " is not supported in a sidecar's ingress");
  const std::string &mode = tls["mode"].str(), protocol = upper(port["protocol"].str());
  if (mode == "ISTIO_MUTUAL" || mode == "AUTO_PASSTHROUGH") c.refuse(tls["mode"], "a sidecar's ingress cannot have mode " + mode);
  if (protocol != "HTTPS" && protocol != "TLS") c.refuse(tls, "tls settings are for HTTPS and TLS ports");
  if (mode == "SIMPLE" || mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL")
    for (const char* f : {"serverCertificate", "privateKey"})
      if (tls[f].str().empty()) c.refuse(tls, mode + " TLS requires " + f);
}

void check_egress(Checker& c, const Node& e, bool last, std::set<std::string>& taken) {
  const Node &port = e["port"], &bind = e["bind"];
  if (port.null()) {
    if (!last) c.refuse(e, "the egress listener without a port should be the last one in the list");
  } else {
    check_port(c, port);
    const bool socket = port["number"].integer() == 0;
    if (socket && !bind.str().starts_with("unix://"))
      c.refuse(bind.null() ? port : bind, "a port of 0 needs a unix domain socket to bind to", "bind: unix:///path");
    if (socket && e["captureMode"].str() == "IPTABLES")
      c.refuse(e["captureMode"], "captureMode must be DEFAULT or NONE for unix domain sockets");
    if (!socket && bind && !valid_ip(bind.str())) c.refuse(bind, "'" + bind.str() + "' is no IP address");
    if (!taken.insert(socket ? bind.str() : port["number"].str()).second) c.refuse(port, "ports and sockets of listeners must be unique");
  }
  if (e["hosts"].items.empty())
    c.refuse(e, "an egress listener must contain at least one host", "for example hosts: ['./*', 'istio-system/*']");
  for (const Node& h : e["hosts"].items) {
    const std::string& text = h.str();
    const size_t slash = text.find('/');
    if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) {
      c.refuse(h, "'" + text + "': a host must be of form NAMESPACE/NAME", "for example ./*, */web.example.com, shop/*");
      continue;
    }
    const std::string ns = text.substr(0, slash), name = text.substr(slash + 1);
    if (ns != "*" && ns != "." && ns != "~" && !valid_label(ns)) c.refuse(h, "'" + ns + "' is no namespace");
    if (!valid_host(name)) c.refuse(h, "'" + name + "' is no host name");
    else if (name != "*" && name.find('.') == std::string::npos) c.refuse(h, "'" + name + "': short names are not allowed here");
  }
}

}  // namespace

void check_sidecar(Checker& c, const Config& config) {
  const Node& s = config.spec();
  if (s["egress"].items.empty() && s["ingress"].items.empty() && s["outboundTrafficPolicy"].null() && s["inboundConnectionPool"].null())
    return c.refuse(config.at(), "an empty sidecar configuration", "set ingress, egress, outboundTrafficPolicy or inboundConnectionPool");
  std::set<int64_t> ports;
  for (const Node& i : s["ingress"].items) check_ingress(c, i, ports);
  check_pool(c, s["inboundConnectionPool"]);
  std::set<std::string> taken;
  for (const Node& e : s["egress"].items) check_egress(c, e, &e == &s["egress"].items.back(), taken);
  if (const Node& proxy = s["outboundTrafficPolicy"]["egressProxy"]) {
    if (s["outboundTrafficPolicy"]["mode"].str() != "ALLOW_ANY") c.refuse(proxy, "egressProxy is for mode ALLOW_ANY only");
    if (!valid_host(proxy["host"].str(), false))
      c.refuse(proxy["host"].null() ? proxy : proxy["host"], "the egress proxy needs a full host name");
    if (proxy["port"].null()) c.refuse(proxy, "the egress proxy needs a port", "add port: {number: 8080}");
  }
}

void check_workload_group(Checker& c, const Config& config) {
  const Node& s = config.spec();
  for (const Node* labels : {&s["metadata"]["labels"], &s["template"]["labels"]})
    for (size_t i = 0; i < labels->keys.size(); i++)
      if (labels->keys[i].text.empty() || labels->items[i].text.size() > 63)
        c.refuse(labels->keys[i], "no label: a key, and a value of at most 63 bytes");
  const Node& probe = s["probe"];
  if (probe.null()) return;
  const int methods = 4 - int(probe["httpGet"].null() + probe["tcpSocket"].null() + probe["exec"].null() + probe["grpc"].null());
  if (methods != 1) c.refuse(probe, "a probe has one of httpGet, tcpSocket, exec and grpc");
  for (const char* f : {"httpGet", "tcpSocket"})
    if (probe[f] && probe[f]["port"].integer() < 1) c.refuse(probe[f], std::string(f) + " needs a port");
  if (const Node& scheme = probe["httpGet"]["scheme"]; scheme && upper(scheme.str()) != "HTTP" && upper(scheme.str()) != "HTTPS")
    c.refuse(scheme, "the scheme is HTTP or HTTPS");
  if (const Node& path = probe["httpGet"]["path"]; path && !path.str().starts_with('/')) c.refuse(path, "the path begins with /");
  if (probe["exec"] && probe["exec"]["command"].items.empty()) c.refuse(probe["exec"], "exec needs a command");
}

void check_proxy_config(Checker& c, const Config& config) {
  if (const Node& n = config.spec()["concurrency"]; n.integer() < 0) c.refuse(n, "concurrency must be 0 or more");
}

}  // namespace sluice::plane
