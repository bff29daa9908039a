// The xDS server: delta ADS (envoy.service.discovery.v3) for gateways, from a World that may be replaced at any time. Versions are content
// hashes, so several servers on the same directory answer alike and a gateway that reconnects gets only what it does not have.
//
// Subscriptions (pure, no gRPC): what one stream asked for, what it was sent, what it owes. `answer` gives the next response of a type, in the
// order CDS, EDS, LDS, RDS, or nothing.
// Thread: replace() any; streams on gRPC's threads, each under its own lock.
#pragma once
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ctrl/plane/translate.h"

namespace sluice::plane {

struct Encoded {
  std::string version, bytes;  // bytes of the resource's Any
};
using EncodedSet = std::map<std::string, std::map<std::string, Encoded>>;  // type URL -> name -> resource

// Resources as messages. Errors are ours (a translation that is no valid message) and name the resource.
std::expected<EncodedSet, std::string> encode(const Resources& resources);

class Subscriptions {
 public:
  struct Request {
    std::string type_url, nonce, error;
    std::vector<std::string> subscribe, unsubscribe;
    std::map<std::string, std::string> initial_versions;
  };
  struct Answer {
    std::string type_url, nonce;
    std::vector<std::pair<std::string, Encoded>> resources;
    std::vector<std::string> removed;
  };
  // A NACK is returned as its text.
  std::optional<std::string> take(const Request& request);
  std::vector<Answer> answers(const EncodedSet& current);

 private:
  struct Type {
    bool wildcard = false, asked = false, answered = false;
    std::set<std::string> names, fresh;          // fresh: subscribed since the last answer
    std::map<std::string, std::string> sent;     // name -> version
  };
  std::map<std::string, Type> types_;
  uint64_t nonce_ = 0;
};

struct ServerOptions {
  std::string listen;                // "unix:PATH" or "IP:PORT"
  std::string ca, cert, key;         // PEM files: mutual TLS; empty: plain
  Options translation;
};

class Server {
 public:
  using Log = std::function<void(const std::string&)>;
  Server(ServerOptions options, std::shared_ptr<const World> world, Log log);
  ~Server();
  Server(const Server&) = delete;
  std::expected<void, std::string> start();
  void replace(std::shared_ptr<const World> world);  // every stream gets what changed for it

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::plane
