#include "ctrl/plane/world.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/rules.h"
#include "ctrl/plane/schema.h"

namespace sluice::plane {
namespace fs = std::filesystem;
namespace {

constexpr size_t kFilesMax = 20'000;

// By name: the group of its API.
constexpr std::pair<std::string_view, std::string_view> kKinds[] = {
    {"Gateway", "networking.istio.io/"},          {"VirtualService", "networking.istio.io/"},
    {"DestinationRule", "networking.istio.io/"},  {"ServiceEntry", "networking.istio.io/"},
    {"WorkloadEntry", "networking.istio.io/"},    {"AuthorizationPolicy", "security.istio.io/"},
    {"PeerAuthentication", "security.istio.io/"}, {"RequestAuthentication", "security.istio.io/"},
    {"Telemetry", "telemetry.istio.io/"},         {"EnvoyFilter", "networking.istio.io/"}};
constexpr std::string_view kLater[] = {"Sidecar", "WorkloadGroup", "ProxyConfig", "WasmPlugin"};

void add_document(Node document, World& world, std::vector<Issue>& issues) {
  if (document.kind != Node::Kind::kMapping) {
    issues.push_back(issue_at(document, "a document must be a mapping with apiVersion, kind, metadata and spec"));
    return;
  }
  static const std::vector<std::string_view> kTop = {"apiVersion", "kind", "metadata", "spec", "status"};
  for (const Node& key : document.keys)
    if (std::ranges::find(kTop, key.text) == kTop.end()) {
      const std::string near = nearest(key.text, kTop);
      issues.push_back(issue_at(key, "unknown field " + key.text + (near.empty() ? "" : "; did you mean '" + near + "'?")));
    }
  Config c;
  c.kind = document["kind"].str();
  const auto known = std::ranges::find(kKinds, c.kind, &std::pair<std::string_view, std::string_view>::first);
  if (known == std::end(kKinds)) {
    const bool later = std::ranges::find(kLater, c.kind) != std::end(kLater);
    std::vector<std::string_view> names;
    std::string list;
    for (const auto& [name, group] : kKinds) names.push_back(name), list += (list.empty() ? "one of " : ", ") + std::string(name);
    const std::string near = nearest(c.kind, names);
    const Node& at = document["kind"].null() ? document : document["kind"];
    issues.push_back(issue_at(at,
                              c.kind.empty() ? "'kind' is missing"
                              : later        ? c.kind + " is not translated yet"
                                             : "unknown kind " + c.kind + (near.empty() ? "" : "; did you mean '" + near + "'?"),
                              later ? "remove it; see docs/limits.md" : list));
    return;
  }
  const std::string group(known->second);
  const std::string& version = document["apiVersion"].str();
  if (version != group + "v1" && version != group + "v1beta1" && (version != group + "v1alpha3" || group[0] == 's'))
    issues.push_back(issue_at(document["apiVersion"].null() ? document : document["apiVersion"],
                              "unknown apiVersion '" + version + "' for " + c.kind, "write " + group + "v1"));
  const Node& metadata = document["metadata"];
  c.name = metadata["name"].str();
  c.ns = metadata["namespace"].null() ? "default" : metadata["namespace"].str();
  if (c.name.empty()) issues.push_back(issue_at(metadata.null() ? document : metadata, c.kind + " without metadata.name"));
  const size_t before = issues.size();
  for (size_t i = 0; i < document.keys.size(); i++)
    if (document.keys[i].text == "spec") check_schema(document.items[i], c.kind, "spec", issues);
  c.document = std::move(document);
  if (issues.size() == before) check_rules(c, issues);  // rules rely on types
  world.configs.push_back(std::move(c));
}

void add_source(std::string file, std::string text, World& world, std::vector<Issue>& issues) {
  world.sources.push_back(std::make_unique<Source>(Source{std::move(file), std::move(text)}));
  for (Node& d : load_yaml(*world.sources.back(), issues)) {
    if (is_gateway_api(d)) add_gateway_api(std::move(d), world, issues);
    else add_document(std::move(d), world, issues);
  }
}

void read_mesh(std::string file, std::string text, World& world, std::vector<Issue>& issues) {
  world.sources.push_back(std::make_unique<Source>(Source{std::move(file), std::move(text)}));
  for (Node& d : load_yaml(*world.sources.back(), issues)) {
    check_schema(d, "MeshConfig", "", issues);
    Mesh& m = world.mesh;
    if (d["accessLogFile"]) m.access_log_file = d["accessLogFile"].str();
    if (d["accessLogFormat"]) m.access_log_format = d["accessLogFormat"].str();
    if (d["trustDomain"]) m.trust_domain = d["trustDomain"].str();
    if (d["rootNamespace"]) m.root_namespace = d["rootNamespace"].str();
    m.trust_domain_aliases = d["trustDomainAliases"].list();
    m.config = std::move(d);
  }
}

std::optional<std::string> slurp(const fs::path& p) {
  std::ifstream in(p, std::ios::binary);
  if (!in) return {};
  std::string text(kYamlBytesMax + 1, '\0');
  in.read(text.data(), std::streamsize(text.size()));
  text.resize(size_t(in.gcount()));
  return text;
}

void sort_objects(World& w) {
  std::ranges::stable_sort(w.configs, {}, [](const Config& c) {
    const std::string& at = c.document["metadata"]["creationTimestamp"].str();  // RFC 3339 in UTC: text order is time order
    return at.empty() ? std::tuple(true, at, c.ns + "/" + c.name, c.ns) : std::tuple(false, at, c.name, c.ns);
  });
}

void finish(Loaded& l) {
  std::map<std::tuple<std::string, std::string, std::string>, const Config*> seen;
  for (const Config& c : l.world.configs) {
    const auto [at, is_new] = seen.try_emplace({c.kind, c.ns, c.name}, &c);
    if (!is_new && !c.name.empty())
      l.issues.push_back(issue_at(c.at(), c.kind + " " + c.ns + "/" + c.name + " is there twice",
                                  "the other is at " + issue_at(at->second->at(), "").place()));
  }
  sort_objects(l.world);
  if (!has_errors(l.issues)) {
    const size_t written = l.world.configs.size();
    add_services(l.world, l.issues);
    check_references(l.world, l.issues);
    add_gateway_api_objects(l.world, l.issues);
    if (l.world.configs.size() != written) sort_objects(l.world);
  }
  std::ranges::stable_sort(l.issues, {}, [](const Issue& i) { return std::tie(i.file, i.line, i.column); });
}

}  // namespace

std::vector<const Config*> World::of_kind(std::string_view kind) const {
  std::vector<const Config*> out;
  for (const Config& c : configs)
    if (c.kind == kind) out.push_back(&c);
  return out;
}

size_t World::written() const { return size_t(std::ranges::count(configs, false, &Config::derived)); }

Loaded load_text(std::string text, std::string file, std::string mesh) {
  Loaded l;
  if (!mesh.empty()) read_mesh("mesh.yaml", std::move(mesh), l.world, l.issues);
  add_source(std::move(file), std::move(text), l.world, l.issues);
  finish(l);
  return l;
}

Loaded load_directory(const fs::path& dir, const fs::path& mesh_file) {
  Loaded l;
  std::error_code e;
  const fs::path root = fs::canonical(dir, e);
  if (!e && fs::is_regular_file(root, e)) {
    if (auto text = slurp(root)) add_source(dir.string(), std::move(*text), l.world, l.issues);
    else l.issues.push_back({.file = dir.string(), .message = "cannot be read"});
  } else if (e || !fs::is_directory(root, e)) {
    l.issues.push_back({.file = dir.string(), .message = "no such directory", .remedy = "name a directory of Istio YAML with -d"});
    return l;
  }
  std::vector<fs::path> files;
  for (auto it = fs::is_directory(root) ? fs::recursive_directory_iterator(root, e) : fs::recursive_directory_iterator();
       !e && it != fs::recursive_directory_iterator(); it.increment(e)) {
    const auto extension = it->path().extension();
    if ((extension != ".yaml" && extension != ".yml") || it->path().filename().string().starts_with('.')) continue;
    files.push_back(it->path());
    if (files.size() > kFilesMax) {
      l.issues.push_back({.file = dir.string(), .message = "more than " + std::to_string(kFilesMax) + " files"});
      break;
    }
  }
  if (e) l.issues.push_back({.file = dir.string(), .message = "cannot be read: " + e.message()});
  std::ranges::sort(files);
  for (const fs::path& f : files) {
    const std::string shown = (dir / fs::relative(f, root, e)).string();
    const fs::path real = fs::canonical(f, e);
    if (e || !std::ranges::equal(
                 root, std::ranges::subrange(real.begin(), std::next(real.begin(), std::min(std::distance(root.begin(), root.end()),
                                                                                            std::distance(real.begin(), real.end())))))) {
      l.issues.push_back({.file = shown, .message = "a symbolic link that leads out of the directory", .remedy = "copy the file into it"});
      continue;
    }
    if (!fs::is_regular_file(real, e)) continue;
    if (auto text = slurp(real)) add_source(shown, std::move(*text), l.world, l.issues);
    else l.issues.push_back({.file = shown, .message = "cannot be read"});
  }
  if (!mesh_file.empty()) {
    if (auto text = slurp(mesh_file)) read_mesh(mesh_file.string(), std::move(*text), l.world, l.issues);
    else l.issues.push_back({.file = mesh_file.string(), .message = "cannot be read", .remedy = "give the mesh configuration with --mesh"});
  }
  finish(l);
  return l;
}

}  // namespace sluice::plane
