// What the product says, as lines of JSON for the Python side (product.py). One place for those who write it.
#pragma once
#include <string>

#include "ctrl/explain/explain.h"
#include "dataplane/base/json.h"

namespace sluice::oracle {

inline std::string error(const std::string& why) { return "{\"error\":" + json_quoted(why) + "}"; }

// parse_question()'s text, with tabs for line ends.
inline std::string question_text(std::string line) {
  for (char& c : line)
    if (c == '\t') c = '\n';
  return line;
}

inline std::string json_of(const explain::Explanation& e) {
  std::string verdict, route, source, path;  // path: what it becomes, empty where it stays
  for (const explain::Step& s : e.steps) {
    if (s.what == "verdict") verdict = s.text;
    if (s.what == "path") path = s.text.substr(s.text.find('\'') + 1, s.text.rfind('\'') - s.text.find('\'') - 1);
    if (s.what == "route") route = s.text, source = s.origin.ns + "/" + s.origin.name;
  }
  std::string out = "{\"status\":" + std::to_string(e.status) + ",\"details\":" + json_quoted(e.details) +
                    ",\"verdict\":" + json_quoted(verdict) + ",\"route\":" + json_quoted(route) + ",\"source\":" + json_quoted(source) +
                    ",\"path\":" + json_quoted(path) + ",\"clusters\":[";
  for (size_t i = 0; i < e.clusters.size(); i++)
    out += (i > 0 ? ",[" : "[") + json_quoted(e.clusters[i].first) + "," + std::to_string(e.clusters[i].second) + "]";
  return out + "]}";
}

}  // namespace sluice::oracle
