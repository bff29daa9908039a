#include <algorithm>

#include "ctrl/plane/translate.h"

namespace sluice::plane {
namespace {

json string_match(const Yaml* m, bool ignore_case = false) {
  json out;
  if (const Yaml* y = get(m, "exact")) out = {{"exact", y->text}};
  else if (const Yaml* y2 = get(m, "prefix")) out = {{"prefix", y2->text}};
  else if (const Yaml* y3 = get(m, "regex")) out = {{"safeRegex", {{"regex", y3->text}}}};
  if (ignore_case) out["ignoreCase"] = true;
  return out;
}
bool is_presence(const Yaml* m) {
  const Yaml* regex = get(m, "regex");
  return (get(m, "exact") == nullptr && get(m, "prefix") == nullptr && regex == nullptr) || (regex != nullptr && regex->text == "*");
}

// Duration as protojson prints it.
std::string duration(const Yaml* y) {
  const long ms = y == nullptr ? 0 : milliseconds(y->text);
  if (ms % 1000 == 0) return std::to_string(ms / 1000) + "s";
  char text[32];
  std::snprintf(text, sizeof text, "%ld.%03lds", ms / 1000, ms % 1000);
  return text;
}

std::vector<std::pair<std::string, const Yaml*>> sorted(const Yaml* map) {
  std::vector<std::pair<std::string, const Yaml*>> out;
  if (map != nullptr)
    for (size_t i = 0; i < map->keys.size(); i++) out.emplace_back(map->keys[i].text, &map->items[i]);
  std::ranges::sort(out, {}, [](const auto& p) { return p.first; });
  return out;
}

json match_of(const Yaml* m) {
  if (m == nullptr) return {{"prefix", "/"}};
  json out;
  const Yaml* uri = get(m, "uri");
  if (const Yaml* y = get(uri, "exact")) out["path"] = y->text;
  else if (const Yaml* y2 = get(uri, "regex")) out["safeRegex"] = {{"regex", y2->text}};
  else out["prefix"] = text(get(uri, "prefix"), "/");
  out["caseSensitive"] = !truth(get(m, "ignoreUriCase"));
  json headers = json::array();
  for (const auto& [name, v] : sorted(get(m, "headers"))) {
    json h = {{"name", name}};
    if (is_presence(v)) h["presentMatch"] = true;
    else h["stringMatch"] = string_match(v);
    headers.push_back(std::move(h));
  }
  for (const auto& [name, v] : sorted(get(m, "withoutHeaders"))) {
    json h = {{"name", name}, {"invertMatch", true}};
    if (is_presence(v)) h["presentMatch"] = true;
    else h["stringMatch"] = string_match(v), h["treatMissingHeaderAsEmpty"] = true;
    headers.push_back(std::move(h));
  }
  for (const char* pseudo : {"method", "authority", "scheme"})
    if (const Yaml* v = get(m, pseudo)) headers.push_back({{"name", std::string(":") + pseudo}, {"stringMatch", string_match(v)}});
  if (!headers.empty()) out["headers"] = std::move(headers);
  json query = json::array();
  for (const auto& [name, v] : sorted(get(m, "queryParams"))) {
    json q = {{"name", name}};
    if (is_presence(v)) q["presentMatch"] = true;
    else q["stringMatch"] = string_match(v);
    query.push_back(std::move(q));
  }
  if (!query.empty()) out["queryParameters"] = std::move(query);
  return out;
}

// header operations of a route or of a weighted destination; a set of the authority becomes a host rewrite.
void operations(const Yaml* headers, json& out, json* action) {
  for (const char* side : {"request", "response"}) {
    const Yaml* ops = get(headers, side);
    json add = json::array();
    for (const auto& [name, v] : sorted(get(ops, "set"))) {
      if (std::string_view(side) == "request" && (name == "host" || name == ":authority" || name == "Host")) {
        (action != nullptr ? *action : out)["hostRewriteLiteral"] = v->text;
        continue;
      }
      add.push_back({{"header", {{"key", name}, {"value", v->text}}}, {"appendAction", "OVERWRITE_IF_EXISTS_OR_ADD"}});
    }
    for (const auto& [name, v] : sorted(get(ops, "add"))) add.push_back({{"header", {{"key", name}, {"value", v->text}}}});
    if (!add.empty()) out[std::string(side) + "HeadersToAdd"] = std::move(add);
    if (const auto remove = texts(get(ops, "remove")); !remove.empty()) out[std::string(side) + "HeadersToRemove"] = remove;
  }
}

json retry_policy(const Yaml* r) {
  json p;
  std::string on = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
  long attempts = 2;
  json codes = json::array();
  if (r != nullptr) {
    attempts = number(get(r, "attempts"), 2);
    if (attempts == 0) return nullptr;
    if (const Yaml* given = get(r, "retryOn")) {
      std::string words;
      bool names_codes = false;
      for (size_t at = 0; at <= given->text.size();) {
        const size_t end = std::min(given->text.find(',', at), given->text.size());
        std::string word = given->text.substr(at, end - at);
        std::erase(word, ' ');
        at = end + 1;
        if (word.empty()) continue;
        if (std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; })) codes.push_back(std::stol(word));
        else words += (words.empty() ? "" : ",") + word, names_codes |= word == "retriable-status-codes";
      }
      if (!codes.empty() && !names_codes) words += (words.empty() ? "" : ",") + std::string("retriable-status-codes");
      on = words;
    }
  }
  p["retryOn"] = on;
  p["numRetries"] = attempts;
  if (get(r, "perTryTimeout") != nullptr) p["perTryTimeout"] = duration(get(r, "perTryTimeout"));
  p["retryHostPredicate"] = json::array({{{"name", "envoy.retry_host_predicates.previous_hosts"},
                                          {"typedConfig", {{"@type", "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}}}});
  p["hostSelectionRetryMaxAttempts"] = "5";
  if (!codes.empty()) p["retriableStatusCodes"] = codes;
  if (get(r, "backoff") != nullptr) p["retryBackOff"] = {{"baseInterval", duration(get(r, "backoff"))}};
  return p;
}

// A route that takes everything comes after all others (istiod's SortVHostRoutes).
bool is_catch_all(const json& route) {
  const json& m = route["match"];
  if (m.contains("headers") || m.contains("queryParameters")) return false;
  return m.value("prefix", "") == "/" || (m.contains("safeRegex") && m["safeRegex"]["regex"] == ".*");
}

// What a delegate's match becomes under a match of its root: both must hold; null when they cannot.
std::optional<Yaml> merged(const Yaml* root, const Yaml* leaf) {
  if (root == nullptr) return leaf == nullptr ? std::optional<Yaml>(Yaml{}) : *leaf;
  if (leaf == nullptr) return *root;
  Yaml out = *leaf;
  for (size_t i = 0; i < root->keys.size(); i++) {
    const std::string& key = root->keys[i].text;
    if (key == "name") continue;
    Yaml* mine = nullptr;
    for (size_t k = 0; k < out.keys.size(); k++)
      if (out.keys[k].text == key) mine = &out.items[k];
    if (mine == nullptr) {
      out.keys.push_back(root->keys[i]);
      out.items.push_back(root->items[i]);
    } else if (key == "uri") {
      const Yaml* wide = get(root->items[i], "prefix");
      const std::string narrow = text(get(*mine, "prefix"), text(get(*mine, "exact")));
      if (wide == nullptr || !narrow.starts_with(wide->text)) return std::nullopt;
    } else if (key == "headers" || key == "withoutHeaders" || key == "queryParams") {
      for (size_t k = 0; k < root->items[i].keys.size(); k++) {
        if (get(*mine, root->items[i].keys[k].text) != nullptr) return std::nullopt;
        mine->keys.push_back(root->items[i].keys[k]);
        mine->items.push_back(root->items[i].items[k]);
      }
    } else if (agent::to_json(*mine) != agent::to_json(root->items[i])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

// The routes of one VirtualService on one gateway and port, in its order.
json Translation::http_routes(const Object& vs, const Object& gateway, long port) const {
  json out = json::array();
  auto applies = [&](const Yaml* m) {
    if (const Yaml* p = get(m, "port"); p != nullptr && number(p) != port) return false;
    const auto names = texts(get(m, "gateways"));
    return names.empty() || std::ranges::any_of(names, [&](const std::string& n) { return n == gateway.name || n == gateway.ns + "/" + gateway.name; });
  };
  auto route = [&](const Yaml& r, const Yaml* m, const std::string& base_name, const std::string& ns) {
    json x;
    std::string name = base_name;
    if (const Yaml* n = get(m, "name")) name += (name.empty() ? "" : ".") + n->text;
    if (!name.empty()) x["name"] = name;
    x["match"] = match_of(m);
    x["metadata"] = {{"filterMetadata", {{"istio", {{"config", object_path(vs)}}}}}};
    std::string operation = vs.name + ":" + std::to_string(port);
    if (const Yaml* to = get(r, "redirect")) {
      json d = {{"pathRedirect", text(get(to, "uri"))}};
      if (const Yaml* a = get(to, "authority")) d["hostRedirect"] = a->text;
      if (const Yaml* s = get(to, "scheme")) d["schemeRedirect"] = s->text;
      if (const Yaml* p = get(to, "port")) d["portRedirect"] = number(p);
      switch (number(get(to, "redirectCode"), 301)) {
        case 302: d["responseCode"] = "FOUND"; break;
        case 303: d["responseCode"] = "SEE_OTHER"; break;
        case 307: d["responseCode"] = "TEMPORARY_REDIRECT"; break;
        case 308: d["responseCode"] = "PERMANENT_REDIRECT"; break;
        default: break;
      }
      x["redirect"] = std::move(d);
    } else if (const Yaml* direct = get(r, "directResponse")) {
      json d = {{"status", number(get(direct, "status"))}};
      if (const Yaml* body = get(direct, "body")) d["body"] = {{"inlineString", text(get(body, "string"))}};
      x["directResponse"] = std::move(d);
    } else {
      json a = {{"timeout", duration(get(r, "timeout"))}, {"maxGrpcTimeout", duration(get(r, "timeout"))}};
      if (json retries = retry_policy(get(r, "retries")); !retries.is_null()) a["retryPolicy"] = std::move(retries);
      const Yaml* rewrite = get(r, "rewrite");
      if (const Yaml* uri = get(rewrite, "uri")) a["prefixRewrite"] = uri->text;
      if (const Yaml* authority = get(rewrite, "authority")) a["hostRewriteLiteral"] = authority->text;
      if (const Yaml* regex = get(rewrite, "uriRegexRewrite")) a["regexRewrite"] = {{"pattern", {{"regex", text(get(regex, "match"))}}}, {"substitution", text(get(regex, "rewrite"))}};
      const Yaml* to = get(r, "route");
      if (to->items.size() == 1) {
        const std::string cluster = cluster_name(get(to->items[0], "destination"), ns, port);
        a["cluster"] = cluster;
        const size_t bar = cluster.find('|'), next = cluster.find('|', bar + 1);
        operation = cluster.substr(cluster.rfind('|') + 1) + ":" + cluster.substr(bar + 1, next - bar - 1);
        operations(get(to->items[0], "headers"), x, &a);
      } else {
        json clusters = json::array();
        for (const Yaml& d : to->items) {
          if (number(get(d, "weight"), 0) == 0) continue;
          json w = {{"name", cluster_name(get(d, "destination"), ns, port)}, {"weight", number(get(d, "weight"))}};
          operations(get(d, "headers"), w, nullptr);
          clusters.push_back(std::move(w));
        }
        a["weightedClusters"] = {{"clusters", std::move(clusters)}};
      }
      operations(get(r, "headers"), x, &a);
      x["route"] = std::move(a);
    }
    if (!x.contains("route")) operations(get(r, "headers"), x, nullptr);
    const json& made = x["match"];
    x["decorator"] = {{"operation", operation + (made.contains("path")        ? made["path"].get<std::string>()
                                                 : made.contains("safeRegex") ? made["safeRegex"]["regex"].get<std::string>()
                                                                              : made["prefix"].get<std::string>() + "*")}};
    out.push_back(std::move(x));
  };
  auto each_match = [&](const Yaml* list, auto&& f) {
    if (list == nullptr || list->items.empty()) f(nullptr);
    else
      for (const Yaml& m : list->items) f(&m);
  };
  for (const Yaml& r : items(get(vs.spec, "http"))) {
    const Yaml* delegate = get(r, "delegate");
    each_match(get(r, "match"), [&](const Yaml* m) {
      if (!applies(m)) return;
      if (delegate == nullptr) {
        route(r, m, text(get(r, "name")), vs.ns);
        return;
      }
      for (const Object* target : world.of("VirtualService")) {
        if (target->name != text(get(delegate, "name")) || target->ns != text(get(delegate, "namespace"), vs.ns) || get(target->spec, "hosts") != nullptr) continue;
        for (const Yaml& leaf : items(get(target->spec, "http")))
          each_match(get(leaf, "match"), [&](const Yaml* lm) {
            const auto both = merged(m, lm);
            if (!both || !applies(&*both)) return;
            std::string name = text(get(r, "name"));
            if (const Yaml* n = get(leaf, "name")) name += (name.empty() ? "" : "-") + n->text;
            route(leaf, both->kind == Yaml::Kind::kMapping ? &*both : nullptr, name, target->ns);
          });
      }
    });
  }
  return out;
}

void Translation::route_configuration(Resources& out, const std::string& name, long port, const std::vector<std::pair<const Object*, const Yaml*>>& servers) const {
  struct Host {
    json routes = json::array();
    bool redirect = false;
  };
  std::map<std::string, Host> hosts;
  for (const auto& [gateway, server] : servers)
    for (const Object* vs : services_of_gateway(*gateway)) {
      std::set<std::string> mine;
      for (std::string entry : texts(get(server, "hosts"))) {
        const size_t slash = entry.find('/');
        if (slash != std::string::npos) {
          const std::string ns = entry.substr(0, slash);
          if (ns != "*" && !(ns == "." ? vs->ns == gateway->ns : vs->ns == ns)) continue;
          entry = entry.substr(slash + 1);
        }
        for (const std::string& h : texts(get(vs->spec, "hosts")))
          if (const std::string both = intersect_hosts(entry, full_host(h, vs->ns)); !both.empty()) mine.insert(both);
      }
      if (mine.empty()) continue;
      const json routes = http_routes(*vs, *gateway, port);
      for (const std::string& h : mine) {
        Host& host = hosts[h];
        for (const json& r : routes)
          if (std::ranges::find(host.routes, r) == host.routes.end()) host.routes.push_back(r);
        host.redirect |= truth(get(get(server, "tls"), "httpsRedirect"));
      }
    }
  // Hosts with the same routes share a virtual host, named by the most specific of them.
  std::vector<std::string> order;
  for (auto& [h, host] : hosts) {
    order.push_back(h);
    std::ranges::stable_partition(host.routes, [](const json& r) { return !is_catch_all(r); });
  }
  std::ranges::sort(order, [](const std::string& a, const std::string& b) {
    if ((a[0] == '*') != (b[0] == '*')) return b[0] == '*';
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  std::vector<json> virtual_hosts;
  for (const std::string& h : order) {
    const Host& host = hosts[h];
    auto same = std::ranges::find_if(virtual_hosts, [&](const json& v) { return v["routes"] == host.routes && v.contains("requireTls") == host.redirect; });
    if (same != virtual_hosts.end()) {
      (*same)["domains"].push_back(h);
      continue;
    }
    json v = {{"name", h + ":" + std::to_string(port)}, {"domains", json::array({h})}, {"routes", host.routes}, {"includeRequestAttemptCount", true}};
    if (host.redirect) v["requireTls"] = "ALL";
    virtual_hosts.push_back(std::move(v));
  }
  std::ranges::sort(virtual_hosts, {}, [](const json& v) { return v["name"].get<std::string>(); });
  if (virtual_hosts.empty()) virtual_hosts.push_back({{"name", "blackhole:" + std::to_string(port)}, {"domains", {"*"}}});
  out.rds.push_back({{"@type", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"},
                     {"name", name},
                     {"virtualHosts", virtual_hosts},
                     {"validateClusters", false},
                     {"maxDirectResponseBodySizeBytes", 1048576},
                     {"ignorePortInHostMatching", true}});
}

}  // namespace sluice::plane
