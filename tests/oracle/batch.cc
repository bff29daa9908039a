// What the product says of many requests, for tests that ask a hundred thousand of them: `sluicectl explain` and `sluicectl diff` without
// a process for each. One command a line, one line of JSON an answer:
//
//   load NAME DIR MESH deny|allow   the directory as the gateway would serve it, kept as NAME; MESH "-": none
//   ask NAME QUESTION               explain::decide() of it; QUESTION is parse_question()'s text with tabs for line ends
//   diff BEFORE AFTER MAX           explain::diff(), with at most MAX requests
//
// The tables are load_offline()'s, the decisions those of the data path's own matchers; nothing here decides.
#include <iostream>
#include <map>
#include <sstream>

#include "ctrl/cli/offline.h"
#include "ctrl/explain/diff.h"
#include "tests/oracle/answer.h"

namespace {

using namespace sluice;
using namespace sluice::oracle;
using Directories = std::map<std::string, cli::Offline>;

std::string load(std::istringstream& words, Directories& directories) {
  std::string name, mode;
  cli::OfflineOptions o;
  words >> name >> o.dir >> o.mesh >> mode;
  if (o.mesh == "-") o.mesh.clear();
  o.deny_by_default = mode == "deny";
  auto loaded = cli::load_offline(o);
  if (!loaded) return error(loaded.error());
  if (!loaded->refused.empty()) return error("refused: " + loaded->refused);
  directories.insert_or_assign(name, std::move(*loaded));
  return "{}";
}

std::string ask(std::istringstream& words, const Directories& directories) {
  std::string name, text;
  words >> name;
  words.get();
  std::getline(words, text);
  const auto q = explain::parse_question(question_text(text));
  if (!q) return error(q.error());
  const auto at = directories.find(name);
  if (at == directories.end()) return error("'" + name + "' is not loaded");
  const auto e = explain::decide(*at->second.tables, *q);
  return e ? json_of(*e) : error(e.error());
}

std::string list_of(const std::vector<std::string>& list) {
  std::string out = "[";
  for (const std::string& s : list) out += (out.size() > 1 ? "," : "") + json_quoted(s);
  return out + "]";
}

std::string diff(std::istringstream& words, const Directories& directories) {
  std::string before, after;
  size_t most = explain::kAskedMax;
  words >> before >> after >> most;
  if (!directories.contains(before) || !directories.contains(after)) return error("not loaded");
  const explain::Diff d = explain::diff(*directories.at(before).tables, *directories.at(after).tables, most);
  std::string out = "{\"asked\":" + std::to_string(d.asked) + ",\"lines\":" + list_of(d.lines) + ",\"undecided\":" + list_of(d.undecided) +
                    ",\"flips\":[";
  for (size_t i = 0; i < d.flips.size(); i++)
    out += std::string(i > 0 ? "," : "") + "{\"question\":" + json_quoted(explain::write_question(d.flips[i].witness)) +
           ",\"before\":" + json_quoted(d.flips[i].before) + ",\"after\":" + json_quoted(d.flips[i].after) + "}";
  return out + "]}";
}

}  // namespace

int main() {
  Directories directories;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "load") std::cout << load(words, directories);
    else if (command == "ask") std::cout << ask(words, directories);
    else if (command == "diff") std::cout << diff(words, directories);
    else std::cout << error("'" + command + "' is no command");
    std::cout << "\n";
  }
}
