// The same requests over the wire: each directory's tables in a worker between a client and its origins (tests/world), each request sent as
// bytes, and what came of it beside what explain::decide() says of it. Commands in $SLUICE_ORACLE_COMMANDS, answers in $..._ANSWERS:
//
//   load DIR MESH deny|allow           a new world with the directory's tables
//   ask FROM PORT HEAD? BYTES QUESTION   BYTES is the request with \r\n as \x1f; QUESTION as for batch.cc, after a \x1e
//
// An answer: {"explain": as batch.cc writes it, "status", "details", "cluster", "route" (the access log), "location" (the client saw),
// "start", "host" (the origin saw)}.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "ctrl/cli/offline.h"
#include "tests/oracle/answer.h"
#include "tests/world/world.h"

namespace sluice::oracle {
namespace {

using world::Message;

struct Stage {
  cli::Offline directory;
  std::unique_ptr<world::World> world = std::make_unique<world::World>();
  std::map<std::pair<std::string, uint16_t>, world::Peer*> connections;
  std::string start, host;  // what an origin saw last

  explicit Stage(cli::Offline d) : directory(std::move(d)) {
    for (unsigned last = 2; last <= 4; last++)
      for (const uint16_t port : {8080, 9090}) world->origins.listen(world::World::origin(last, port));
    world->origins.on_turn = [this](world::Peer& p) {
      while (const auto request = p.take()) {
        start = request->start, host = request->field("host");
        p.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      }
    };
    world->push(directory.tables);
  }
  ~Stage() {
    world->origins.on_turn = nullptr;
    world->settle();
  }

  world::Peer& connection(const std::string& from, uint16_t port) {
    world::Peer*& p = connections[{from, port}];
    if (p == nullptr || p->gone || p->peer_finished) p = &world->connect_from(*IpAddress::parse(from), port);
    return *p;
  }

  std::string ask(const std::string& from, uint16_t port, bool head, const std::string& bytes, const std::string& question) {
    start.clear(), host.clear();
    world::Peer& c = connection(from, port);
    c.send(bytes);
    const Message answer = world->message(c, head);
    const world::Line l = world->line();
    const auto q = explain::parse_question(question_text(question));
    if (!q) return error(q.error());
    const auto e = explain::decide(*directory.tables, *q);
    if (!e) return error(e.error());
    return "{\"explain\":" + json_of(*e) + ",\"status\":" + json_quoted(l.status) + ",\"seen\":" + std::to_string(answer.status()) +
           ",\"details\":" + json_quoted(l.details) + ",\"cluster\":" + json_quoted(l.cluster) + ",\"route\":" + json_quoted(l.route) +
           ",\"location\":" + json_quoted(answer.field("location")) + ",\"start\":" + json_quoted(start) +
           ",\"host\":" + json_quoted(host) + "}";
  }
};

TEST(Oracle, Traffic) {
  const char *commands = getenv("SLUICE_ORACLE_COMMANDS"), *answers = getenv("SLUICE_ORACLE_ANSWERS");
  if (commands == nullptr || answers == nullptr) GTEST_SKIP() << "tests/oracle/traffic_test.py runs this";
  std::ifstream in(commands);
  std::ofstream out(answers);
  std::unique_ptr<Stage> stage;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "load") {
      cli::OfflineOptions o;
      std::string mode;
      words >> o.dir >> o.mesh >> mode;
      o.deny_by_default = mode == "deny";
      stage.reset();
      auto loaded = cli::load_offline(o);
      const std::string wrong = loaded ? loaded->refused : loaded.error();
      if (wrong.empty()) stage = std::make_unique<Stage>(std::move(*loaded));
      out << (wrong.empty() ? "{}" : error(wrong)) << "\n";
      continue;
    }
    std::string from, bytes, question;
    uint16_t port = 0;
    bool head = false;
    words >> from >> port >> head;
    words.get();
    std::getline(words, bytes, '\x1e');
    std::getline(words, question);
    std::string wire;
    for (const char c : bytes)
      if (c == '\x1f') wire += "\r\n";
      else wire += c;
    out << (stage == nullptr ? error("no tables") : stage->ask(from, port, head, wire, question)) << "\n";
    ASSERT_FALSE(testing::Test::HasFailure()) << line;
  }
}

}  // namespace
}  // namespace sluice::oracle
