#include "ctrl/plane/nodes.h"

#include <algorithm>

#include "ctrl/admin/endpoints.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kShort[kTypes] = {"CDS", "EDS", "LDS", "RDS"};

bool refuses(const TypeReport& t) { return !t.nack_reason.empty(); }

std::string state_of(const NodeStatus& n) {
  if (std::ranges::any_of(n.types, refuses)) return "refused";
  if (n.acknowledged) return "acknowledged";
  return n.writing_ms > 1000 ? "slow" : "pending";
}

std::string one_line(std::string s) {
  std::ranges::replace(s, '\n', ' ');
  return s;
}

}  // namespace

bool any_refuses(std::span<const NodeStatus> nodes) {
  return std::ranges::any_of(nodes, [](const NodeStatus& n) { return std::ranges::any_of(n.types, refuses); });
}

std::string nodes_text(std::span<const NodeStatus> nodes, int64_t now_ms) {
  std::string out = std::to_string(nodes.size()) + " nodes, " +
                    std::to_string(std::ranges::count_if(nodes, [](const NodeStatus& n) { return n.acknowledged; })) +
                    " have acknowledged the newest version\n";
  for (const NodeStatus& n : nodes) {
    out += n.node.id + "  " + state_of(n) + "  " + (n.delta ? "delta" : "sotw") + ", connected " +
           std::to_string((now_ms - n.connected_ms) / 1000) + " s";
    if (!n.identity.empty()) out += ", " + n.identity;
    if (n.writing_ms > 0) out += ", takes nothing for " + std::to_string(n.writing_ms) + " ms";
    out += "\n";
    for (int t = 0; t < kTypes; t++) {
      const TypeReport& r = n.types[size_t(t)];
      if (!r.asked) continue;
      out += "  " + std::string(kShort[t]) + "  " + (r.wildcard ? "*" : std::to_string(r.names) + " names") + "  sent " +
             (r.sent_version.empty() ? "-" : r.sent_version) + "  acknowledged " +
             (r.acknowledged_version.empty() ? "-" : r.acknowledged_version);
      if (r.pending != 0) out += "  " + std::to_string(r.pending) + " pending";
      if (refuses(r)) out += "\n       refused " + r.nack_version + ": " + one_line(r.nack_reason);
      out += "\n";
    }
  }
  return out;
}

std::string nodes_json(std::span<const NodeStatus> nodes, int64_t now_ms) {
  Array list;
  for (const NodeStatus& n : nodes) {
    Object types;
    for (int t = 0; t < kTypes; t++) {
      const TypeReport& r = n.types[size_t(t)];
      if (!r.asked) continue;
      Object o{{"wildcard", r.wildcard},
               {"names", r.names},
               {"sent_version", r.sent_version},
               {"sent_nonce", r.sent_nonce},
               {"acknowledged_version", r.acknowledged_version},
               {"pending", r.pending},
               {"answers", r.answers},
               {"acks", r.acks},
               {"nacks", r.nacks}};
      if (refuses(r)) o.set("nack", Object{{"version", r.nack_version}, {"reason", r.nack_reason}});
      types.set(kShort[t], o);
    }
    list.add(Object{{"id", n.node.id},
                    {"namespace", n.node.ns},
                    {"identity", n.identity},
                    {"peer", n.peer},
                    {"variant", n.delta ? "delta" : "sotw"},
                    {"state", state_of(n)},
                    {"acknowledged", n.acknowledged},
                    {"connected_seconds", (now_ms - n.connected_ms) / 1000},
                    {"last_nack_unix_ms", n.last_nack_ms},
                    {"types", types}});
  }
  return Json(Object{{"nodes", list}}).text + "\n";
}

std::string control_metrics(std::span<const NodeStatus> nodes, const ServerCounters& c) {
  admin::MetricsText m;
  const auto count = [&](auto f) { return uint64_t(std::ranges::count_if(nodes, f)); };
  m.family("sluice_control_nodes", "gauge", "Connected nodes by what they said to the newest version");
  for (const char* s : {"acknowledged", "pending", "slow", "refused"})
    m.sample("sluice_control_nodes", {{"state", s}}, count([&](const NodeStatus& n) { return state_of(n) == s; }));
  m.family("sluice_control_streams_total", "counter", "ADS streams opened");
  m.sample("sluice_control_streams_total", {}, c.streams);
  m.family("sluice_control_refused_streams_total", "counter", "ADS streams that we ended, by reason");
  for (int r = 0; r < kRefusals; r++)
    m.sample("sluice_control_refused_streams_total", {{"reason", name_of(Refusal(r))}}, c.refused[size_t(r)]);
  const auto by_type = [&](std::string_view name, std::string_view help, const std::array<uint64_t, kTypes>& values) {
    m.family(name, "counter", help);
    for (int t = 0; t < kTypes; t++) m.sample(name, {{"type", kShort[t]}}, values[size_t(t)]);
  };
  by_type("sluice_control_answers_total", "Discovery responses sent", c.answers);
  by_type("sluice_control_acks_total", "Responses that nodes accepted", c.acks);
  by_type("sluice_control_nacks_total", "Responses that nodes refused", c.nacks);
  m.family("sluice_control_pushes_total", "counter", "Changes sent to a node");
  m.sample("sluice_control_pushes_total", {}, c.pushes);
  m.family("sluice_control_worlds_total", "counter", "Good versions of the directory since the start");
  m.sample("sluice_control_worlds_total", {}, c.worlds);
  m.family("sluice_control_translations_total", "counter", "Translations: versions times kinds of nodes");
  m.sample("sluice_control_translations_total", {}, c.translations);
  m.family("sluice_control_translate_seconds", "gauge", "How long the last translation took");
  m.sample("sluice_control_translate_seconds", {}, double(c.translate_us) / 1e6);
  return m.text();
}

}  // namespace sluice::plane
