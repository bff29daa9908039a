// BackendTLSPolicy: one DestinationRule a Service (or host of a ServiceEntry) with the TLS that every policy asks for it, and the policies'
// status by target and by the Gateways whose routes name the target.
#include <algorithm>

#include "ctrl/plane/gateway_api_world.h"

namespace sluice::plane {
namespace {

struct Setting {
  const Config* policy = nullptr;
  std::string section;  // of the target; "" for all ports
  Node tls;
};
struct Target {
  ApiRef ref;
  std::vector<Setting> settings;
};
using Targets = std::map<std::string, Target>;

// By target and section: the policy that has it, the oldest, of one age the first by namespace and name.
using Owners = std::map<std::pair<std::string, std::string>, const Config*>;

std::tuple<std::string, std::string, std::string> rank(const Config& policy) {
  return {policy.document["metadata"]["creationTimestamp"].text, policy.ns, policy.name};
}

std::string ref_key(const ApiRef& r) { return r.kind + "/" + r.ns + "/" + r.name; }

struct Policy {
  const ApiWorld& w;
  const Config& object;
  GatewayApi& out;
  const Node& spec() const { return object.spec(); }
  const Node& validation() const { return spec()["validation"]; }
  void warn(const Node& at, const std::string& message) const {
    out.warnings.push_back(issue_at(at, message, "see the object's conditions (sluicectl status)", Severity::kWarning));
  }

  // The secret that verifies the backend, "" for the system's roots; a root that is not there is "invalid://": nothing gets through.
  std::string credential(Conditions& c) const {
    if (const Node& known = validation()["wellKnownCACertificates"]) {
      if (known.text != "System") {
        set_error(c, "Accepted", {"Invalid", "Unknown wellKnownCACertificates: " + known.text});
        warn(known, "only System is known");
      }
      return {};
    }
    const auto& refs = validation()["caCertificateRefs"].items;
    if (refs.empty()) return {};
    if (refs.size() > 1)
      c[0].message += "; warning: only the first caCertificateRefs will be used",
          warn(refs[1], "only the first of caCertificateRefs is used");
    const ApiRef to = api_ref(refs[0], "", "ConfigMap", object.ns);
    std::string error, reason = "InvalidCACertificateRef", said = "Certificate reference not found: ";
    if (to.is("", "Secret")) {
      error = "unsupported reference kind: Secret", reason = "InvalidKind", said = "Certificate reference invalid: ";
    } else if (!to.is("", "ConfigMap")) {
      error = "unsupported kind " + to.kind, reason = "InvalidKind", said = "Certificate reference not supported: ";
    } else if (const Config* map = w.object("ConfigMap", to.ns, to.name); map == nullptr) {
      error = "reference " + to.ns + "/" + to.name + " (of kind ConfigMap) not found";
    } else if (const auto why = root_error(*map)) {
      error = *why, said = "Certificate invalid: ";
    } else {
      return "configmap://" + to.ns + "/" + to.name;
    }
    set_error(c, "ResolvedRefs", {reason, said + error});
    set_error(c, "Accepted", {"NoValidCACertificate", "Certificate reference invalid: " + error});
    warn(refs[0]["name"], error);
    return "invalid://";
  }

  Node tls(Conditions& c) const {
    Node t = map_node();
    const std::string name = credential(c);
    if (!name.empty()) put(t, "credentialName", text_node(name, &validation()));
    put(t, "mode", text_node("SIMPLE"));
    put(t, "sni", text_node(validation()["hostname"].text, &validation()["hostname"]));
    std::vector<std::string> names;
    for (const Node& n : validation()["subjectAltNames"].items)
      names.push_back(n["type"].text == "URI" ? n["uri"].text : n["hostname"].text);
    if (!names.empty()) put(t, "subjectAltNames", text_list(names));
    return t;
  }

  // Why the target cannot have the policy, or nothing.
  std::optional<std::string> target_error(const ApiRef& to, const Node& target) const {
    const bool service = to.is("", "Service");
    if (!service && !to.is(kIstioGroup, "ServiceEntry")) return "unsupported kind " + to.kind;
    const Config* found = w.object(to.kind, to.ns, to.name);
    if (service && found == nullptr)
      if (const ApiService* s = w.kube_service(to.ns, to.name)) found = s->object;
    if (found == nullptr) return "reference " + to.ns + "/" + to.name + " (of kind " + to.kind + ") not found";
    const std::string& section = target["sectionName"].text;
    if (section.empty() || std::ranges::any_of(found->spec()["ports"].items, [&](const Node& p) { return p["name"].text == section; }))
      return {};
    return "sectionName " + go_quoted(section) + " does not exist in " + to.kind + " " + to.ns + "/" + to.name;
  }

  static Node ancestor(Node ref, const Conditions& c, std::string_view controller) {
    return map_node({{"ancestorRef", std::move(ref)}, {"conditions", conditions_node(c)}, {"controllerName", text_node(controller)}});
  }

  Node status(const Owners& owners, Targets& targets,
              const std::map<std::string, std::set<std::pair<std::string, std::string>>>& gateways_of) const {
    Conditions good{{"Accepted", true, "Accepted", "Configuration is valid"},
                    {"ResolvedRefs", true, "ResolvedRefs", "Configuration is valid"}};
    const Node setting = tls(good);
    Node ancestors = list_node();
    for (const Node& a : object.document["status"]["ancestors"].items)
      if (a["controllerName"].text != kGatewayController && a["controllerName"].text != kMeshController) ancestors.items.push_back(a);
    std::set<std::pair<std::string, std::string>> gateways;
    Conditions last = good;
    for (const Node& t : spec()["targetRefs"].items) {
      const ApiRef to = api_ref(t, "", "Service", object.ns);
      last = good;
      if (const auto why = target_error(to, t)) {
        set_error(last, "Accepted", {"TargetNotFound", "targetRefs invalid: " + *why});
        warn(t["name"], *why);
      } else {
        Target& target = targets[ref_key(to)];
        target.ref = to;
        target.settings.push_back({&object, t["sectionName"].text, setting});
        if (const Config& owner = *owners.at({ref_key(to), t["sectionName"].text}); &owner != &object) {
          // INTERPRETATION(deviate): Gateway API 1.4 says so; Istio 1.29 takes the older policy too, but tells nobody.
          set_error(last, "Accepted", {"Conflicted", "BackendTLSPolicy " + owner.ns + "/" + owner.name + " has this target already"});
          warn(t["name"], "BackendTLSPolicy " + owner.ns + "/" + owner.name + " has this target already: this one is not used for it");
        }
        if (const auto it = gateways_of.find(ref_key(to)); it != gateways_of.end()) gateways.insert(it->second.begin(), it->second.end());
      }
      ancestors.items.push_back(ancestor(t, last, kMeshController));
    }
    for (const auto& [ns, name] : gateways)
      ancestors.items.push_back(
          ancestor(map_node({{"group", text_node(kGatewayGroup)}, {"kind", text_node("Gateway")}, {"name", text_node(name)}}), last,
                   kGatewayController));
    return map_node({{"ancestors", std::move(ancestors)}});
  }
};

// The first policy (by age, then name) has a port or the rest of the ports.
void add_rule(const ApiWorld& w, Target& t, GatewayApi& out) {
  std::ranges::stable_sort(t.settings, {}, [](const Setting& s) { return rank(*s.policy); });
  const Config* object = w.object(t.ref.kind, t.ref.ns, t.ref.name);
  if (object == nullptr) object = w.kube_service(t.ref.ns, t.ref.name)->object;
  Node policy = map_node(), ports = list_node();
  std::set<std::string> seen;
  std::string parents;
  for (const Setting& s : t.settings) {
    const std::string parent = "BackendTLSPolicy/" + s.policy->ns + "." + s.policy->name;
    if (("," + parents + ",").find("," + parent + ",") == std::string::npos) parents += (parents.empty() ? "" : ",") + parent;
    if (!seen.insert(s.section).second) continue;
    if (s.section.empty()) {
      put(policy, "tls", s.tls);
      continue;
    }
    for (const Node& p : object->spec()["ports"].items)
      if (p["name"].text == s.section)
        ports.items.push_back(map_node(
            {{"port",
              map_node({{"number", number_node(p[t.ref.kind == "Service" && object->kind == "Service" ? "port" : "number"].integer())}})},
             {"tls", s.tls}}));
  }
  if (!ports.items.empty()) put(policy, "portLevelSettings", std::move(ports));
  const auto add = [&](const std::string& name, const std::string& host) {
    out.configs.push_back(derived_config("DestinationRule", name + "~" + std::string(kAutogenerated), t.ref.ns,
                                         map_node({{"internal.istio.io/parents", text_node(parents)}}),
                                         map_node({{"host", text_node(host)}, {"trafficPolicy", policy}}), *t.settings[0].policy));
  };
  if (t.ref.kind == "Service") return add(t.ref.name, w.service_host(t.ref.name, t.ref.ns));
  for (const std::string& host : object->spec()["hosts"].list()) {
    std::string dashed = host;
    std::ranges::replace(dashed, '.', '-');
    add(t.ref.name + "~" + dashed, host);
  }
}

}  // namespace

void translate_policies(const ApiWorld& w, ApiOutput& out) {
  // Which Gateways a backend can be reached by, as the routes say it.
  std::map<std::string, std::set<std::pair<std::string, std::string>>> gateways_of;
  for (const std::string_view kind : kRouteKinds)
    for (const Config* c : w.world.of_kind(kind))
      for (const Node& p : c->spec()["parentRefs"].items)
        if (const ApiRef g = api_ref(p, kGatewayGroup, "Gateway", c->ns); g.is(kGatewayGroup, "Gateway"))
          for (const Node& rule : c->spec()["rules"].items)
            for (const Node& b : rule["backendRefs"].items) gateways_of[ref_key(api_ref(b, "", "Service", c->ns))].insert({g.ns, g.name});
  Owners owners;
  for (const Config* c : w.world.of_kind("BackendTLSPolicy"))
    for (const Node& t : c->spec()["targetRefs"].items) {
      const Config*& owner = owners[{ref_key(api_ref(t, "", "Service", c->ns)), t["sectionName"].text}];
      if (owner == nullptr || rank(*c) < rank(*owner)) owner = c;
    }
  Targets targets;
  for (const Config* c : w.world.of_kind("BackendTLSPolicy"))
    out.statuses[c] = Policy{w, *c, out.result}.status(owners, targets, gateways_of);
  for (auto& [key, t] : targets) add_rule(w, t, out.result);
}

}  // namespace sluice::plane
