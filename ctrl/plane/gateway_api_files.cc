#include "ctrl/plane/gateway_api_files.h"

#include <algorithm>
#include <ctime>
#include <fstream>

#include "ctrl/plane/gateway_api_node.h"

namespace sluice::plane {
namespace fs = std::filesystem;
namespace {

std::string now() {
  const std::time_t t = std::time(nullptr);
  std::tm utc{};
  char text[32];
  return {text, std::strftime(text, sizeof text, "%FT%TZ", gmtime_r(&t, &utc))};
}

std::string part(const Node& n, size_t i, const std::string& path) {
  const bool named = n.kind == Node::Kind::kSequence && n.items[i].has("name");
  return path + "/" + (n.kind == Node::Kind::kMapping ? n.keys[i].text : named ? n.items[i]["name"].text : std::to_string(i));
}

// Gives every condition (a mapping with type and status) the time that `since` tells for its place.
template <class Since>
void add_times(Node& n, const std::string& path, const Since& since) {
  if (n.has("type") && n.has("status") && n.has("reason"))
    put(n, "lastTransitionTime", text_node(since(path + "/" + n["type"].text, n["status"].text)));
  else
    for (size_t i = 0; i < n.items.size(); i++) add_times(n.items[i], part(n, i, path), since);
}

// The conditions of a file that is there already, with their times.
template <class Found>
void find_times(const Node& n, const std::string& path, const Found& found) {
  if (n.has("type") && n.has("status") && n.has("reason"))
    return found(path + "/" + n["type"].text, n["status"].text, n["lastTransitionTime"].text);
  for (size_t i = 0; i < n.items.size(); i++) find_times(n.items[i], part(n, i, path), found);
}

}  // namespace

std::expected<void, std::string> StatusFiles::usable(const std::string& dir, const std::string& watched) {
  if (dir.empty()) return {};
  std::error_code e;
  const fs::path real = fs::weakly_canonical(fs::absolute(dir), e), root = fs::canonical(watched, e);
  if (!e && std::ranges::mismatch(root, real).in1 == root.end())
    return std::unexpected("--status-dir " + dir + " lies inside of the watched " + watched + ", which would read it");
  e.clear();
  fs::create_directories(real, e);
  if (e) return std::unexpected("--status-dir " + dir + ": " + e.message());
  return {};
}

void StatusFiles::take_over() {
  std::error_code e;
  for (auto it = fs::directory_iterator(dir_, e); !e && it != fs::directory_iterator(); it.increment(e)) {
    const std::string name = it->path().filename().string();
    const bool ours =
        std::ranges::any_of(std::to_array<std::string_view>({"GatewayClass.", "Gateway.", "HTTPRoute.", "GRPCRoute.", "TLSRoute.",
                                                             "TCPRoute.", "BackendTLSPolicy.", "InferencePool."}),
                            [&](std::string_view kind) { return name.starts_with(kind) && name.ends_with(".yaml"); });
    if (!ours || !it->is_regular_file(e)) continue;
    std::ifstream in(it->path());
    Source source{name, {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}};
    std::vector<Issue> issues;
    written_[name] = "";  // written again, or removed
    for (const Node& d : load_yaml(source, issues))
      find_times(d["status"], name,
                 [&](const std::string& place, const std::string& status, const std::string& when) { since_[place] = {status, when}; });
  }
}

std::string StatusFiles::update(const std::shared_ptr<const World>& world, std::span<const NodeInfo> acknowledged) {
  std::vector<std::string> keys;
  for (const NodeInfo& n : acknowledged) keys.push_back(n.key());
  std::ranges::sort(keys);
  std::string all;
  for (const std::string& k : keys) all += k + "\n\n";
  if (world == world_ && all == acknowledged_) return {};
  if (world_ == nullptr && written_.empty()) take_over();
  std::map<std::string, std::string> old;
  old.swap(written_);
  std::string wrong;
  for (ObjectStatus& s : gateway_api_status(*world, acknowledged)) {
    const std::string name = s.file_name(), text = s.yaml();
    if (const auto it = old.find(name); it != old.end() && it->second == text) {
      written_[name] = text;
      continue;
    }
    add_times(s.status, name, [&](const std::string& place, const std::string& status) {
      auto& [was, when] = since_[place];
      if (was != status || when.empty()) was = status, when = now();
      return when;
    });
    const fs::path file = fs::path(dir_) / name, aside = fs::path(dir_) / ("." + name + ".new");
    std::ofstream out(aside, std::ios::trunc);
    out << s.yaml();
    out.close();
    std::error_code e;
    if (out) fs::rename(aside, file, e);
    if (!out || e) wrong = file.string() + ": cannot be written";
    written_[name] = out && !e ? text : "";  // "": to be tried again
  }
  for (const auto& [name, text] : old) {
    if (written_.contains(name)) continue;
    std::error_code e;
    fs::remove(fs::path(dir_) / name, e);
    std::erase_if(since_, [&](const auto& x) { return x.first.starts_with(name + "/"); });
  }
  if (wrong.empty()) world_ = world, acknowledged_ = all;  // else it is tried again
  return wrong;
}

}  // namespace sluice::plane
