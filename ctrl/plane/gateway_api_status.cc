// Status: the gateways' own part, which depends on who acknowledged, and the form in which all of it is written.
#include <arpa/inet.h>

#include <algorithm>

#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

bool is_ip(const std::string& s) {
  uint8_t out[16];
  return inet_pton(AF_INET, s.c_str(), out) == 1 || inet_pton(AF_INET6, s.c_str(), out) == 1;
}

// Where the gateway is reached, as Istio resolves it from services: every service with every port of a listener.
struct Resolved {
  std::set<std::string> internal, internal_ips, external, warnings;
  std::set<std::string> hosts;  // without those whose address is pending
  bool usable = true;
};

Resolved resolve(const ApiWorld& w, const ApiGateway& g) {
  Resolved r;
  std::set<int64_t> ports;
  for (const ApiListener& l : g.listeners) ports.insert(l.parent.port);
  for (const std::string& host : g.services) {
    const ApiService* s = w.service(host, g.object->ns);
    if (s == nullptr) {
      std::string others;
      for (const std::string& ns : w.namespaces_of(host)) others += (others.empty() ? "" : ", ") + go_quoted(ns);
      r.warnings.insert(
          "hostname " + go_quoted(host) + " not found" +
          (others.empty() ? "" : " in namespace " + go_quoted(g.object->ns) + ", but it was found in namespace(s) " + others));
      r.usable = false;
      continue;
    }
    for (const int64_t port : ports) {
      if (std::ranges::any_of(s->ports, [&](const auto& p) { return p.number == port; })) {
        r.internal.insert(host + ":" + std::to_string(port));
        r.internal_ips.insert(s->internal.begin(), s->internal.end());
        r.external.insert(s->external.begin(), s->external.end());
        if (s->external.empty() && s->load_balancer) r.warnings.insert("address pending for hostname " + go_quoted(host));
        else r.hosts.insert(host);
        continue;
      }
      std::set<std::string> hints;
      for (const auto& p : s->ports)
        if (p.target == port) hints.insert(std::to_string(p.number));
      std::string hint;
      for (const std::string& h : hints) hint += (hint.empty() ? "" : " ") + h;
      r.warnings.insert(
          "port " + std::to_string(port) + " not found for hostname " + go_quoted(host) +
          (hint.empty()
               ? ""
               : " (hint: the service port should be specified, not the workload port. Did you mean one of these ports: [" + hint + "]?)"));
      r.usable = false;
    }
  }
  return r;
}

std::string joined_by(const std::set<std::string>& words, const char* by) {
  std::string out;
  for (const std::string& s : words) out += (out.empty() ? "" : by) + s;
  return out;
}

Conditions gateway_conditions(const ApiGateway& g, const Resolved& r, size_t acknowledged) {
  Conditions c{{"Accepted", true, "Accepted", "Resource accepted"}, {"Programmed", true, "Programmed", "Resource programmed"}};
  if (g.address_error) set_error(c, "Accepted", *g.address_error);
  const std::vector<std::string> internal(r.internal.begin(), r.internal.end());
  if (!internal.empty()) c[1].message = "Resource programmed, assigned to service(s) " + human_join(internal);
  // A gateway that Istio would have deployed and that somebody else has: it serves, so its Service is not missed.
  const bool served = g.managed && acknowledged > 0 && internal.empty() && !r.usable;
  if (g.services.empty()) {
    set_error(c, "Programmed", {"UnsupportedAddress", "Failed to assign to any requested addresses"});
  } else if (!r.warnings.empty() && !served) {
    const std::string why = joined_by(r.warnings, "; ");
    set_error(c, "Programmed",
              {r.usable ? "AddressNotAssigned" : "AddressNotUsable",
               internal.empty()
                   ? "Failed to assign to any requested addresses: " + why
                   : "Assigned to service(s) " + human_join(internal) + ", but failed to assign to all requested addresses: " + why});
  } else if (acknowledged == 0) {
    set_error(c, "Programmed", {"Pending", "Waiting for a gateway to acknowledge this version"});
  } else if (served) {
    c[1].message = "Resource programmed, acknowledged by " + std::to_string(acknowledged) + " gateway(s)";
  }
  return c;
}

Node gateway_status(const ApiWorld& w, const ApiGateway& g, std::span<const NodeInfo> nodes) {
  const Resolved r = resolve(w, g);
  const auto acknowledged = size_t(std::ranges::count_if(nodes, [&](const NodeInfo& n) { return selects(g.selection, n); }));
  Node status = map_node();
  std::vector<std::string> addresses(r.external.begin(), r.external.end());
  if (addresses.empty()) {  // those of the cluster: names, or as the annotation says
    const Node& type = g.object->document["metadata"]["annotations"]["networking.istio.io/address-type"];
    if (type && type.text != "Hostname") addresses.assign(r.internal_ips.begin(), r.internal_ips.end());
    if (type.text != "IPAddress") addresses.insert(addresses.end(), r.hosts.begin(), r.hosts.end());
  }
  if (!addresses.empty()) {
    Node list = list_node();
    for (const std::string& a : addresses)
      list.items.push_back(map_node({{"type", text_node(is_ip(a) ? "IPAddress" : "Hostname")}, {"value", text_node(a)}}));
    put(status, "addresses", std::move(list));
  }
  put(status, "conditions", conditions_node(gateway_conditions(g, r, acknowledged)));
  Node listeners = list_node();
  for (const ApiListener& l : g.listeners) {
    Conditions c = l.conditions;
    if (l.valid && acknowledged == 0 && r.usable)
      set_error(c, "Programmed", {"Pending", "Waiting for a gateway to acknowledge this version"});
    Node kinds = list_node();
    for (const std::string& k : l.kinds) kinds.items.push_back(map_node({{"group", text_node(kGatewayGroup)}, {"kind", text_node(k)}}));
    listeners.items.push_back(map_node({{"attachedRoutes", number_node(int64_t(l.attached))},
                                        {"conditions", conditions_node(c)},
                                        {"name", text_node(l.parent.section)},
                                        {"supportedKinds", std::move(kinds)}}));
  }
  if (!listeners.items.empty()) put(status, "listeners", std::move(listeners));
  return status;
}

ObjectStatus object_status(const Config& c, Node status) {
  return {c.document["apiVersion"].text, c.kind == kKubernetesGateway ? "Gateway" : c.kind, c.name, c.ns, std::move(status)};
}

bool plain_word(const std::string& s) {
  if (s.empty() || s.size() > 200 || s == "true" || s == "false" || s == "null" || s == "~" || s == "True" || s == "False" || s == "yes" ||
      s == "no")
    return false;
  if (!std::isalpha(uint8_t(s[0])) && s[0] != '/') return false;
  return std::ranges::all_of(
      s, [](char c) { return std::isalnum(uint8_t(c)) || std::string_view("-_./~").find(c) != std::string_view::npos; });
}

void write(const Node& n, size_t indent, std::string& out) {
  const std::string margin(indent, ' ');
  switch (n.kind) {
    case Node::Kind::kNull: out += " null\n"; break;
    case Node::Kind::kScalar: out += " " + (n.plain || plain_word(n.text) ? n.text : json_quoted(n.text)) + "\n"; break;
    case Node::Kind::kSequence:
      if (n.items.empty()) out += " []\n";
      else {
        out += "\n";
        for (const Node& i : n.items) {
          std::string item;
          write(i, indent + 2, item);
          // "- " and the first line of the item behind it
          const size_t text = item.find_first_not_of(" \n");
          out += margin + "- " + (text == std::string::npos ? "\"\"\n" : item.substr(text));
        }
      }
      break;
    case Node::Kind::kMapping:
      if (n.keys.empty()) out += " {}\n";
      else {
        out += "\n";
        for (size_t i = 0; i < n.keys.size(); i++) {
          out += margin + (plain_word(n.keys[i].text) ? n.keys[i].text : json_quoted(n.keys[i].text)) + ":";
          write(n.items[i], n.items[i].kind == Node::Kind::kSequence ? indent : indent + 2, out);
        }
      }
      break;
  }
}

}  // namespace

std::string to_yaml(const Node& n) {
  std::string out;
  write(n, 0, out);
  return out.substr(out.find_first_not_of('\n'));
}

std::string object_yaml(const Config& c) {
  Node out = map_node();
  for (const char* k : {"apiVersion", "kind", "metadata", "spec"}) put(out, k, c.document[k]);
  return to_yaml(out);
}

std::string ObjectStatus::file_name() const { return kind + "." + (ns.empty() ? "" : ns + ".") + name + ".yaml"; }

std::string ObjectStatus::yaml() const {
  Node metadata = map_node({{"name", text_node(name)}});
  if (!ns.empty()) put(metadata, "namespace", text_node(ns));
  return to_yaml(
      map_node({{"apiVersion", text_node(api_version)}, {"kind", text_node(kind)}, {"metadata", std::move(metadata)}, {"status", status}}));
}

namespace {

// "Accepted, not ResolvedRefs (BackendNotFound: ...)"; a condition that one wishes away is named when it is there.
std::string said(const Node& conditions) {
  std::string out;
  for (const Node& c : conditions.items) {
    const bool holds = c["status"].text == "True", bad = c["type"].text == "Conflicted";
    if (bad && !holds) continue;
    out += (out.empty() ? "" : ", ") + std::string(holds ? "" : "not ") + c["type"].text;
    if (holds == bad) out += " (" + c["reason"].text + ": " + c["message"].text + ")";
  }
  return out;
}

std::string reference(const Node& r) {
  std::string out = text_or(r["kind"], "Gateway") + " " + (r["namespace"] ? r["namespace"].text + "/" : "") + r["name"].text;
  if (r["sectionName"]) out += "/" + r["sectionName"].text;
  if (r["port"]) out += ":" + r["port"].text;
  return out;
}

}  // namespace

std::string gateway_api_text(std::span<const ObjectStatus> all) {
  std::string out;
  for (const ObjectStatus& o : all) {
    const std::string own = said(o.status["conditions"]);
    out += o.kind + " " + (o.ns.empty() ? "" : o.ns + "/") + o.name + (own.empty() ? "" : ": " + own) + "\n";
    for (const Node& l : o.status["listeners"].items) {
      const std::string& routes = l["attachedRoutes"].text;
      out += "  listener " + l["name"].text + ": " + routes + (routes == "1" ? " route, " : " routes, ") + said(l["conditions"]) + "\n";
    }
    for (const auto& [list, ref] : {std::pair("parents", "parentRef"), std::pair("ancestors", "ancestorRef")})
      for (const Node& p : o.status[list].items) out += "  " + reference(p[ref]) + ": " + said(p["conditions"]) + "\n";
  }
  return out;
}

std::string gateway_api_json(std::span<const ObjectStatus> all) {
  Array list;
  for (const ObjectStatus& o : all) {
    Object metadata{{"name", o.name}};
    metadata.set_if(!o.ns.empty(), "namespace", o.ns);
    list.add(Object{{"apiVersion", o.api_version}, {"kind", o.kind}, {"metadata", metadata}, {"status", json_of(o.status)}});
  }
  return Json(list).text;
}

std::vector<ObjectStatus> gateway_api_status(const World& world, std::span<const NodeInfo> acknowledged) {
  const ApiWorld w(world);
  const ApiOutput out = translate_all(world);
  std::vector<ObjectStatus> all;
  for (const ApiGateway& g : out.gateways) all.push_back(object_status(*g.object, gateway_status(w, g, acknowledged)));
  for (const auto& [object, status] : out.statuses) all.push_back(object_status(*object, status));
  std::ranges::sort(all, {}, [](const ObjectStatus& s) { return std::tie(s.kind, s.ns, s.name); });
  return all;
}

}  // namespace sluice::plane
