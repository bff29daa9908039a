#include "ctrl/plane/directory.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include "ctrl/plane/gateway_api.h"
#include "ctrl/plane/object.h"
#include "ctrl/plane/rules.h"

namespace sluice::plane {
namespace fs = std::filesystem;
namespace {

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

constexpr int64_t kTickNs = 100'000'000;  // of a file system's clock, and more

std::optional<std::string> slurp(const fs::path& p) {
  std::ifstream in(p, std::ios::binary | std::ios::ate);
  if (!in) return {};
  std::string text(std::min(size_t(std::max<std::streamoff>(in.tellg(), 0)), kYamlBytesMax + 1), '\0');
  in.seekg(0);
  in.read(text.data(), std::streamsize(text.size()));
  text.resize(size_t(in.gcount()));
  return text;
}

void stamp_of(const fs::path& p, int64_t (&out)[4]) {
  struct stat s{};
  if (stat(p.c_str(), &s) != 0) s = {};
  out[0] = s.st_mtim.tv_sec * 1'000'000'000 + s.st_mtim.tv_nsec, out[1] = s.st_ctim.tv_sec * 1'000'000'000 + s.st_ctim.tv_nsec;
  out[2] = s.st_size, out[3] = int64_t(s.st_ino);
}

bool is_yaml(const fs::path& p) { return (p.extension() == ".yaml" || p.extension() == ".yml") && !p.filename().string().starts_with('.'); }

bool within(const fs::path& real, const fs::path& root) { return std::ranges::mismatch(root, real).in1 == root.end(); }

// At the lines that begin a document. A file with directives or explicit ends is one part: what they mean goes beyond a line.
std::vector<std::pair<size_t, uint32_t>> cuts_of(std::string_view text) {
  std::vector<std::pair<size_t, uint32_t>> out{{0, 1}};
  uint32_t line = 1;
  for (size_t at = 0; at < text.size(); line++) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view l = text.substr(at, end - at);
    if (l.starts_with('%') || l.starts_with("...")) return {{0, 1}};
    if (at != 0 && l.starts_with("---") && (l.size() == 3 || l[3] == ' ' || l[3] == '\t' || l[3] == '\r')) out.emplace_back(at, line);
    at = end + 1;
  }
  return out;
}

std::string name_of(const Config& c) { return c.kind + " " + c.ns + "/" + c.name; }

bool same_but_endpoints(const Node& a, const Node& b) {
  const auto of = [](const Node& document, std::string_view without) {
    std::vector<std::pair<const std::string*, const Node*>> out;
    for (size_t i = 0; i < document.keys.size(); i++)
      if (document.keys[i].text != without) out.emplace_back(&document.keys[i].text, &document.items[i]);
    return out;
  };
  const auto same = [](const auto& x, const auto& y) { return *x.first == *y.first && same_content(*x.second, *y.second); };
  // Whether there are any is a part of the shape: without endpoints a DNS entry stands for itself.
  return a["spec"]["endpoints"].items.empty() == b["spec"]["endpoints"].items.empty() &&
         std::ranges::equal(of(a, "spec"), of(b, "spec"), same) &&
         std::ranges::equal(of(a["spec"], "endpoints"), of(b["spec"], "endpoints"), same);
}

}  // namespace

// A document (or a whole file that was not cut), with what it holds.
struct Directory::Part {
  std::shared_ptr<const Source> source;
  std::vector<std::shared_ptr<const Config>> configs;
  std::vector<Issue> issues;
  size_t nodes = 0;
};
// A file.
struct Directory::Parts {
  std::vector<std::shared_ptr<const Part>> parts;
  std::vector<Issue> issues;  // of the file itself
  bool any_issues = false;    // of its parts
};

Directory::Directory(fs::path dir, fs::path mesh_file) : dir_(std::move(dir)), mesh_file_(std::move(mesh_file)) {}

std::shared_ptr<const Directory::Parts> Directory::parse(std::string shown, std::string text, const Parts* before) {
  auto out = std::make_shared<Parts>();
  std::unordered_map<std::string_view, std::shared_ptr<const Part>> known;  // the same text at the same line
  if (before != nullptr)
    for (const auto& p : before->parts) known.emplace(p->source->text, p);
  const auto cuts = text.size() > kYamlBytesMax ? decltype(cuts_of(text)){{0, 1}} : cuts_of(text);
  size_t nodes = 0;
  for (size_t i = 0; i < cuts.size() && nodes <= kYamlNodesMax; i++) {
    const size_t end = i + 1 < cuts.size() ? cuts[i + 1].first : text.size();
    std::string piece = text.substr(cuts[i].first, end - cuts[i].first);
    if (const auto same = known.find(piece); same != known.end() && same->second->source->first_line == cuts[i].second) {
      nodes += same->second->nodes;
      out->any_issues |= !same->second->issues.empty();
      out->parts.push_back(same->second);
      continue;
    }
    auto part = std::make_shared<Part>();
    Source source{shown, std::move(piece), cuts[i].second};
    index_lines(source);
    part->source = std::make_shared<const Source>(std::move(source));
    const size_t nodes_before = nodes;
    for (Node& d : load_yaml(*part->source, part->issues, &nodes)) {
      const auto c = read_object(std::move(d), part->source, part->issues);
      if (c == nullptr) continue;
      c->id = next_id();
      c->shape = c->id;
      const auto old = by_name_.find(name_of(*c));
      if (old != by_name_.end() && old->second.size() == 1) {
        const Config& o = *old->second[0];
        if (same_content(o.document, c->document)) c->id = o.id, c->shape = o.shape;
        else if (c->kind == "ServiceEntry" && same_but_endpoints(o.document, c->document)) c->shape = o.shape;
      }
      part->configs.push_back(c);
    }
    part->nodes = nodes - nodes_before;
    out->any_issues |= !part->issues.empty();
    out->parts.push_back(std::move(part));
  }
  return out;
}

// The objects of a file take the place of those that it had.
void Directory::put(const fs::path& path, std::shared_ptr<const Parts> parts) {
  const auto at = files_.find(path);
  std::set<const Part*> fresh;
  if (parts != nullptr)
    for (const auto& p : parts->parts) fresh.insert(p.get());
  if (at != files_.end() && at->second.parts != nullptr)
    for (const auto& p : at->second.parts->parts) {
      if (fresh.erase(p.get()) > 0) continue;
      for (const auto& c : p->configs) gone_.push_back(c.get());
    }
  for (const Part* p : fresh)
    for (const auto& c : p->configs) come_.push_back(c.get());
  if (parts == nullptr) files_.erase(path);
  else files_[path].parts = std::move(parts);
}

void Directory::look_at(const fs::path& path, bool again, std::set<fs::path>& seen) {
  std::error_code e;
  const std::string shown = path == root_ ? dir_.string() : (dir_ / fs::relative(path, root_, e)).string();
  const auto wrong = [&](const char* message, const char* remedy) {
    auto parts = std::make_shared<Parts>();
    parts->issues.push_back({.file = shown, .message = message, .remedy = remedy});
    put(path, std::move(parts));
  };
  const fs::path real = fs::canonical(path, e);
  if (e && !fs::is_symlink(path, e)) return put(path, nullptr);
  seen.insert(path);
  if (real.empty() || !within(real, root_)) return wrong("a symbolic link that leads out of the directory", "copy the file into it");
  if (!fs::is_regular_file(real, e)) return put(path, nullptr);
  Known& known = files_[path];
  int64_t stamp[4];
  stamp_of(real, stamp);
  if (!again && !known.hasty && known.parts != nullptr && std::ranges::equal(stamp, known.stamp)) return;
  std::ranges::copy(stamp, known.stamp);
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  known.hasty = now.tv_sec * 1'000'000'000 + now.tv_nsec - std::max(stamp[0], stamp[1]) < kTickNs;
  if (auto text = slurp(real)) put(path, parse(shown, std::move(*text), known.parts.get()));
  else wrong("cannot be read", "");
}

void Directory::look_at_all(const std::set<fs::path>& again, std::set<fs::path>& seen) {
  std::error_code e;
  own_issues_.clear();
  root_ = fs::canonical(dir_, e);
  if (!e && fs::is_regular_file(root_, e)) return look_at(root_, again.contains(root_), seen);
  if (e || !fs::is_directory(root_, e)) {
    own_issues_.push_back({.file = dir_.string(), .message = "no such directory", .remedy = "name a directory of Istio YAML with -d"});
    return;
  }
  std::vector<fs::path> found;
  for (auto it = fs::recursive_directory_iterator(root_, e); !e && it != fs::recursive_directory_iterator(); it.increment(e)) {
    if (it->path().filename().string().starts_with('.')) it.disable_recursion_pending();  // a mounted ConfigMap's ..data
    if (!is_yaml(it->path())) continue;
    found.push_back(it->path());
    if (found.size() > kFilesMax) {
      own_issues_.push_back({.file = dir_.string(), .message = "more than " + std::to_string(kFilesMax) + " files"});
      break;
    }
  }
  if (e) own_issues_.push_back({.file = dir_.string(), .message = "cannot be read: " + e.message()});
  std::ranges::sort(found);
  for (const fs::path& f : found) look_at(f, again.contains(f), seen);
}

void Directory::read_mesh() {
  mesh_issues_.clear();
  auto text = slurp(mesh_file_);
  if (!text) {
    mesh_issues_.push_back({.file = mesh_file_.string(), .message = "cannot be read", .remedy = "give the mesh configuration with --mesh"});
    return;
  }
  const auto source = std::make_shared<const Source>(Source{mesh_file_.string(), std::move(*text)});
  Mesh mesh;
  for (Node& d : load_yaml(*source, mesh_issues_)) mesh = plane::read_mesh(std::move(d), source, mesh_issues_);
  if (same_content(mesh.config, world_.mesh.config)) mesh.id = world_.mesh.id;
  else mesh.id = next_id(), shape_changed_ = true;
  world_.mesh = std::move(mesh);
}

Loaded Directory::load(const Changes& changes) {
  const bool first = root_.empty();
  gone_.clear(), come_.clear(), shape_changed_ = first;
  std::set<fs::path> named, seen;
  for (const fs::path& f : changes.files) {
    std::error_code e;
    const fs::path path = fs::canonical(f.parent_path().empty() ? fs::path(".") : f.parent_path(), e) / f.filename();
    if (!e && (path == root_ || (is_yaml(path) && within(path, root_)))) named.insert(path);
  }
  if (changes.all || first) {
    look_at_all(named, seen);
    for (auto it = files_.begin(); it != files_.end();) {
      const fs::path path = (it++)->first;
      if (!seen.contains(path)) put(path, nullptr);
    }
  }
  for (const fs::path& path : named)
    if (!seen.contains(path)) look_at(path, true, seen);
  if (!mesh_file_.empty()) read_mesh();
  return finish();
}

Loaded Directory::finish() {
  std::map<std::string, std::pair<uint64_t, int>> shapes;  // of what changed: before, and how many more there are
  for (const Config* c : gone_) {
    const std::string name = name_of(*c);
    auto& list = by_name_[name];
    std::erase(list, c);
    shapes[name] = {c->shape, -1};
    if (list.size() < 2) twice_.erase(name);
    if (list.empty()) by_name_.erase(name);
  }
  for (const Config* c : come_) {
    const std::string name = name_of(*c);
    auto& list = by_name_[name];
    list.push_back(c);
    if (list.size() > 1 && !c->name.empty()) twice_.insert(name);
    const auto was = shapes.find(name);
    shape_changed_ |= was == shapes.end() || was->second.first != c->shape;
    if (was != shapes.end()) was->second.second++;
  }
  for (const auto& [name, was] : shapes) shape_changed_ |= was.second != 0;
  std::vector<std::shared_ptr<const void>> owners;
  Loaded out{.issues = own_issues_, .endpoints_only = !shape_changed_};
  const auto add = [&](const std::vector<Issue>& more) { out.issues.insert(out.issues.end(), more.begin(), more.end()); };
  add(mesh_issues_);
  for (const auto& [path, known] : files_) {
    if (known.parts == nullptr) continue;
    owners.push_back(known.parts);
    add(known.parts->issues);
    if (!known.parts->any_issues) continue;
    for (const auto& p : known.parts->parts) add(p->issues);
  }
  const auto moved = [](const Config* c) { return c->kind != "ServiceEntry"; };  // places that the derived ones tell
  if (shape_changed_ || std::ranges::any_of(come_, moved)) derive_ = true;
  const auto sources = std::make_shared<const std::vector<std::shared_ptr<const void>>>(owners);
  world_.change(gone_, come_, std::move(owners));
  for (const std::string& name : twice_) {
    auto list = by_name_[name];
    std::ranges::sort(list, {}, [](const Config* c) { return std::tie(c->at().source->file, c->at().line); });
    for (size_t i = 1; i < list.size(); i++) {
      out.issues.push_back(issue_at(list[i]->at(), name + " is there twice", "the other is at " + issue_at(list[0]->at(), "").place()));
      name_fields(list[i]->document, std::span(&out.issues.back(), 1), "duplicate-object");
    }
  }
  if (shape_changed_) world_.shape = next_id();
  out.world = world_;
  if (!has_errors(out.issues)) {
    if (std::exchange(derive_, false)) derive(sources);
    out.world.add(derived_);
    add(derived_issues_);
  }
  sort(out.issues);
  return out;
}

// What Services and the Gateway API become.
void Directory::derive(const std::shared_ptr<const void>& sources) {
  std::unordered_map<std::string, std::shared_ptr<const Config>> before;
  for (const auto& c : derived_) before.emplace(name_of(*c), c);
  derived_.clear(), derived_issues_.clear();
  World world = world_;
  const auto adopt = [&](GatewayApi made) {
    const size_t from = derived_.size();
    for (Config& c : made.configs) {
      settle(c), c.source = sources;
      const auto old = before.find(name_of(c));
      c.id = old != before.end() && same_content(old->second->document, c.document) ? old->second->id : next_id();
      c.shape = c.id;
      derived_.push_back(std::make_shared<const Config>(std::move(c)));
    }
    world.add(std::span(derived_).subspan(from));
    std::ranges::move(made.warnings, std::back_inserter(derived_issues_));
  };
  adopt(translate_services(world));
  adopt(translate_gateway_api(world));
}

Loaded load_text(std::string text, std::string file, std::string mesh, const CheckOptions& options) {
  Directory d(file);
  d.root_ = file, d.shape_changed_ = true;
  if (!mesh.empty()) {
    const auto source = std::make_shared<const Source>(Source{"mesh.yaml", std::move(mesh)});
    for (Node& m : load_yaml(*source, d.mesh_issues_)) d.world_.mesh = plane::read_mesh(std::move(m), source, d.mesh_issues_);
    d.world_.mesh.id = next_id();
  }
  d.put(file, d.parse(file, std::move(text), nullptr));
  Loaded l = d.finish();
  if (!has_errors(l.issues)) check_references(l.world, l.issues, options);
  sort(l.issues);
  return l;
}

}  // namespace sluice::plane
