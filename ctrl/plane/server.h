// The xDS server: ADS, delta and state of the world (envoy.service.discovery.v3), over gRPC for gateways, from a World that may be replaced
// at any time. What a stream says is stream.h's; here are its transport, identity, limits and threads. With mutual TLS a Node whose
// namespace or service account is not its certificate's is refused (PERMISSION_DENIED). Nodes that say the same of themselves share one
// translation, and the bytes of it.
//
// When a change is sent. At rest at once. After a push the changes of the next debounce_ms go together, when that time is over: no change
// waits longer than that, and a storm of edits costs a node one push per debounce_ms. What a slow client has not taken yet is replaced by
// what is newer; it delays nobody but itself, and one that takes nothing for stall_ms is cut off.
//
// Thread: replace(), drain(), nodes(), acknowledged(), counters() from any. Streams live on gRPC's threads, each under its own lock; a
// thread of the server's translates what is new and pushes it.
// Limits: streams_max (RESOURCE_EXHAUSTED), kNamesPerStreamMax (RESOURCE_EXHAUSTED), kRequestBytesMax of one request (gRPC ends the
// stream), kIdleKindsMax translations that nobody uses.
#pragma once
#include <array>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>

#include "ctrl/plane/stream.h"

namespace grpc {
class ServerBuilder;
}

namespace sluice::plane {

constexpr int kRequestBytesMax = 16 << 20;
constexpr size_t kIdleKindsMax = 16;

struct ServerOptions {
  std::string listen;                 // "unix:PATH" or "IP:PORT"
  std::string ca, cert, key;          // PEM files: mutual TLS; empty: plain
  bool certificate_optional = false;  // TLS without a client certificate is let in, for `more` to judge; xDS is not served to it
  std::function<void(grpc::ServerBuilder&)> more;  // registers further services on the same address
  TranslateOptions translation;
  size_t streams_max = 4096;
  int debounce_ms = 20;
  int stall_ms = 60'000;
};

// A connected Node, as `sluicectl nodes` shows it.
struct NodeStatus {
  NodeInfo node;
  std::string identity;  // SPIFFE, of its certificate; "" without TLS
  std::string peer;      // its address, as gRPC says it
  bool delta = true;
  int64_t connected_ms = 0, last_nack_ms = 0;  // of the wall clock; 0: never
  int64_t writing_ms = 0;                      // for how long it has not taken what is sent; 0: it has
  bool acknowledged = false;                   // the newest world, all that it asked for
  std::array<TypeReport, kTypes> types;
};

enum class Refusal : uint8_t { kNoNode, kNotAnAdsMessage, kIdentity, kStreamsMax, kNamesMax, kDraining, kStalled };
constexpr int kRefusals = 7;
std::string_view name_of(Refusal r);  // "no_node"

struct ServerCounters {
  uint64_t streams = 0;                       // opened
  std::array<uint64_t, kRefusals> refused{};  // streams that we ended
  std::array<uint64_t, kTypes> answers{}, acks{}, nacks{};
  uint64_t pushes = 0;        // to a node, of a changed world
  uint64_t worlds = 0;        // replace()
  uint64_t translations = 0;  // kinds of Nodes times worlds
  int64_t translate_us = 0;   // the last one, with its protobuf
};

class Server {
 public:
  using Log = std::function<void(const std::string&)>;
  Server(ServerOptions options, std::shared_ptr<const World> world, Log log);
  ~Server();
  Server(const Server&) = delete;
  std::expected<void, std::string> start();
  void replace(std::shared_ptr<const World> world);  // every stream gets what changed for it
  // No new streams (UNAVAILABLE), the old ones end so too when what is queued for them is out, connections get a GOAWAY: clients go to a
  // stand-by. Returns when all are gone, at the latest after deadline_ms.
  void drain(int deadline_ms);

  std::vector<NodeStatus> nodes() const;
  ServerCounters counters() const;
  // Of the connected Nodes that `which` selects: how many there are, and how many have acknowledged all that they asked for of the world
  // last given to replace(). For the Gateway API's `Programmed`.
  struct Acknowledged {
    size_t nodes = 0, acknowledged = 0;
    bool any() const { return acknowledged > 0; }
    bool all() const { return nodes > 0 && acknowledged == nodes; }
  };
  Acknowledged acknowledged(const std::function<bool(const NodeInfo&)>& which) const;
  std::vector<NodeInfo> acknowledged() const;  // those that have
  // Called, on some thread and under no lock, when an acknowledgement or a refusal came: the time to ask acknowledged() again.
  // REQUIRES: set before start().
  void on_acknowledgement(std::function<void()> f);

 private:
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace sluice::plane
