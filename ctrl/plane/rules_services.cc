#include <algorithm>
#include <set>

#include "ctrl/plane/checker.h"

namespace sluice::plane {
namespace {

void check_endpoint(Checker& c, const Node& e, const Node& at, bool ip_only) {
  const std::string& a = e["address"].str();
  if (a.empty()) c.refuse(e.null() ? at : e, "the endpoint has no address", "add address: an IP address, or a name with resolution DNS");
  else if (ip_only && !valid_ip(a) && !a.starts_with("unix://"))
    c.refuse(e["address"], "the endpoint address '" + a + "' is not a valid IP address", "write an IP address; names need resolution DNS");
}

}  // namespace

void check_service_entry(Checker& c, const Config& e) {
  const Node& s = e.spec();
  if (s["hosts"].items.empty()) c.refuse(e.at(), "a service entry must have at least one host", "add spec.hosts");
  const std::string resolution = s["resolution"].null() ? "NONE" : s["resolution"].str();
  if (resolution == "NONE" && !s["endpoints"].items.empty())
    c.refuse(s["endpoints"], "no endpoints can be given for resolution NONE", "set resolution: STATIC");
  if (s["ports"].items.empty()) c.refuse(e.at(), "the service entry has no ports and so cannot be reached", "add spec.ports");
  for (const Node& h : s["hosts"].items) {
    if (!valid_host(h.str()) || h.str() == "*")
      c.refuse(h, "'" + h.str() + "' is no host name", "for example api.example.com or *.example.com");
    if (resolution.starts_with("DNS") && h.str().starts_with('*') && s["endpoints"].items.empty())
      c.refuse(h, "hosts must be full names for resolution DNS without endpoints", "write a full name, or add endpoints");
  }
  if (resolution == "DNS_ROUND_ROBIN" && s["endpoints"].items.size() > 1)
    c.refuse(s["endpoints"], "resolution DNS_ROUND_ROBIN takes at most one endpoint", "use resolution DNS");
  if (resolution == "DYNAMIC_DNS") c.refuse(s["resolution"], "resolution DYNAMIC_DNS is not translated", "use DNS with full host names");
  for (const Node& a : s["addresses"].items)
    if (!valid_cidr(a.str())) c.refuse(a, a.str() + " is not a valid CIDR block", "for example 10.0.0.0/8 or 192.0.2.1");
  std::set<std::string> names, numbers;
  for (const Node& p : s["ports"].items) {
    if (!names.insert(p["name"].str()).second)
      c.refuse(p["name"], "the port name '" + p["name"].str() + "' is there twice", "rename one of them");
    if (!numbers.insert(p["number"].str()).second)
      c.refuse(p["number"], "port " + p["number"].str() + " is already defined", "remove one of the two");
    static const std::vector<std::string_view> kProtocols = {"HTTP",     "HTTPS", "TLS",   "TCP",   "HTTP2", "GRPC",
                                                             "GRPC-WEB", "MONGO", "REDIS", "MYSQL", "UDP",   ""};
    if (const std::string protocol = upper(p["protocol"].str()); std::ranges::find(kProtocols, protocol) == kProtocols.end())
      c.refuse(p["protocol"], "protocol '" + p["protocol"].str() + "' is not known, or not translated",
               "HTTP, HTTPS, TLS, TCP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL or UDP");
  }
  if (s["workloadSelector"] && !s["endpoints"].items.empty())
    c.refuse(s["workloadSelector"], "only one of workloadSelector and endpoints is allowed",
             "keep one; WorkloadEntries are selected, endpoints are written here");
  for (const Node& x : s["endpoints"].items) {
    check_endpoint(c, x, s["endpoints"], resolution == "STATIC");
    for (const Node& k : x["ports"].keys)
      if (!names.contains(k.text))
        c.refuse(k, "the endpoint port '" + k.text + "' is not defined by the service entry", "write the name of one of spec.ports");
  }
}

void check_workload_entry(Checker& c, const Config& w) { check_endpoint(c, w.spec(), w.at(), true); }

}  // namespace sluice::plane
