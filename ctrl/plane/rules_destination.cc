#include <algorithm>
#include <set>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
namespace {

void check_client_tls(Checker& c, const Node& tls) {
  if (tls.null()) return;
  const std::string& mode = tls["mode"].str();
  const bool files = tls["clientCertificate"] || tls["privateKey"] || tls["caCertificates"];
  if (tls["credentialName"] && files) c.refuse(tls["credentialName"], "credentialName and files cannot both be set", "keep one of the two");
  if (tls["credentialName"])
    c.warn(tls["credentialName"], "sluice-control has no store of secrets: the cluster waits until someone sends the gateway the secret",
           "use files");
  if (mode == "ISTIO_MUTUAL" && files)
    c.refuse(tls, "ISTIO_MUTUAL uses the workload's identity and takes no files", "remove them, or use mode MUTUAL");
  if (mode != "MUTUAL" || tls["credentialName"]) return;
  if (tls["clientCertificate"].null()) c.refuse(tls, "mode MUTUAL needs a client certificate", "set clientCertificate to a PEM file");
  if (tls["privateKey"].null()) c.refuse(tls, "mode MUTUAL needs a private key", "set privateKey to a PEM file");
}

void check_tunnel(Checker& c, const Node& p) {
  const Node& t = p["tunnel"];
  if (t.null()) return;
  if (p["proxyProtocol"]) c.refuse(p["proxyProtocol"], "tunnel and proxyProtocol must not be set together");
  if (const std::string& s = t["protocol"].str(); !s.empty() && s != "CONNECT" && s != "POST")
    c.refuse(t["protocol"], "a tunnel's protocol is CONNECT or POST");
  if (const std::string& h = t["targetHost"].str(); !valid_host(h, false) && !valid_ip(h))
    c.refuse(t["targetHost"].null() ? t : t["targetHost"], "'" + h + "' is no full host name and no IP address");
}

void check_policy(Checker& c, const Node& p) {
  check_client_tls(c, p["tls"]);
  check_tunnel(c, p);
  for (const Node& port : p["portLevelSettings"].items) {
    if (port["port"]["number"].integer() < 1) c.refuse(port, "the settings name no port", "add port: {number: 8080}");
    check_policy(c, port);
  }
  if (const Node& w = p["loadBalancer"]["warmup"]; w["minimumPercent"].number() < 0 || w["minimumPercent"].number() > 100)
    c.refuse(w["minimumPercent"], "minimumPercent must be in the range 0..100", "for example 10");
  else if (w["aggression"] && w["aggression"].number() < 1)
    c.refuse(w["aggression"], "aggression must be 1 or more", "1 is a straight line");
  for (const auto& [part, fields] : {std::pair<const char*, std::vector<const char*>>("tcp", {"maxConnections"}),
                                     {"http", {"http1MaxPendingRequests", "http2MaxRequests", "maxRetries"}}})
    for (const char* f : fields)
      if (const Node& n = p["connectionPool"][part][f]; n.integer() < 0)
        c.refuse(n, std::string(f) + " must not be negative", "leave it out for no limit");
  check_duration(c, p["connectionPool"]["tcp"]["connectTimeout"], "connectTimeout");
  const Node& lb = p["loadBalancer"];
  if (lb["simple"].str() == "PASSTHROUGH")
    c.warn(lb["simple"], "a gateway has no original destination: what goes to this service fails", "ROUND_ROBIN, LEAST_REQUEST or RANDOM");
  if (lb["simple"] && lb["consistentHash"])
    c.refuse(lb["consistentHash"], "a load balancer is simple or consistentHash, not both", "remove one of the two");
  if (const Node& h = lb["consistentHash"]) {
    if (h["httpHeaderName"].null() + h["httpCookie"].null() + h["useSourceIp"].null() + h["httpQueryParameterName"].null() != 3)
      c.refuse(h, "consistentHash needs one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName", "keep exactly one");
    if (h["httpCookie"] && h["httpCookie"]["ttl"].null())
      c.warn(h["httpCookie"], "without ttl the gateway makes no cookie itself: clients that bring none are spread at random",
             "add ttl, for example 0s for a session cookie");
    if (h["maglev"] && (h["ringHash"] || h["minimumRingSize"]))
      c.refuse(h, "one of maglev and ringHash", "remove one of the two; minimumRingSize is of ringHash");
    if (const Node& size = h["maglev"]["tableSize"]; size) {
      bool prime = size.integer() > 1;
      for (int64_t d = 2; d * d <= size.integer() && prime; d++) prime = size.integer() % d != 0;
      if (!prime) c.refuse(size, "tableSize must be a prime number for maglev", "for example 65537");
    }
  }
  const Node& locality = lb["localityLbSetting"];
  for (const Node& d : locality["distribute"].items) {
    int64_t sum = 0;
    for (const Node& w : d["to"].items) sum += w.integer();
    if (sum != 100) c.refuse(d["to"], "the locality weights sum to " + std::to_string(sum) + ", not 100", "make them sum to 100");
  }
  for (const Node& f : locality["failover"].items) {
    if (f["from"].str() == f["to"].str())
      c.refuse(f, "failover must name two different regions", "say where the load of `from` goes when it fails");
    for (const char* side : {"from", "to"})
      if (f[side].str().find_first_of("/*") != std::string::npos)
        c.refuse(f[side], "failover names regions only", "write the part before the first /");
  }
  if (locality["distribute"] && (locality["failover"] || locality["failoverPriority"]))
    c.refuse(locality, "distribute cannot stand beside failover or failoverPriority", "keep one of them");
  const Node& o = p["outlierDetection"];
  for (const char* f : {"maxEjectionPercent", "minHealthPercent"})
    if (o[f].integer() < 0 || o[f].integer() > 100)
      c.refuse(o[f], std::string(f) + " must be in the range 0..100", "it is a percentage: for example 50");
  for (const char* f : {"interval", "baseEjectionTime"}) check_duration(c, o[f], f);
}

}  // namespace

void check_destination_rule(Checker& c, const Config& d) {
  const Node& s = d.spec();
  if (s["host"].str().empty()) c.refuse(d.at(), "spec.host is missing", "add host: the service that the rule is for");
  else if (!valid_host(s["host"].str()))
    c.refuse(s["host"], "'" + s["host"].str() + "' is no host name", "for example web.shop.svc.cluster.local");
  check_policy(c, s["trafficPolicy"]);
  std::set<std::string> names;
  for (const Node& n : s["subsets"].items) {
    if (!valid_label(n["name"].str()))
      c.refuse(n["name"], "'" + n["name"].str() + "' is no subset name", "letters, digits and '-' within, for example v1");
    if (!names.insert(n["name"].str()).second)
      c.refuse(n["name"], "the subset '" + n["name"].str() + "' is there twice", "rename or remove one of them");
    check_policy(c, n["trafficPolicy"]);
  }
}

}  // namespace sluice::plane
