// Binds the xDS client to gRPC: one delta ADS stream at a time, over a Unix socket or TCP, with TLS where the bootstrap says so.
// Thread: everything here is the control thread's. gRPC's own threads only put events into a queue and call `wake`, which must be safe from
// any thread and quick (an eventfd write); the owner then calls turn(). Also call turn() when next_deadline() has come. Backpressure: the
// next response is read from the network when the one before has been applied, so at most one waits in memory. TLS files are read again at
// every connect, so that a rotated certificate is used by the next stream. Keepalive: 30 s ping, 10 s timeout; responses may have any size
// (reference/xds.md 1.5).
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ctrl/xds/client.h"

namespace sluice::xds {

struct TransportOptions {
  std::string address;  // "unix:PATH" or "HOST:PORT"
  bool tls = false;
  std::string ca_file, cert_file, key_file, server_name;  // cert and key, server_name may be empty
  // The Node (envoy.config.core.v3.Node) of the first request of every stream.
  std::string node_id, node_cluster, region, zone, sub_zone;
  std::string metadata_json = "{}";
  std::string version;  // user_agent_version
};

class GrpcTransport {
 public:
  // `applied` is called in turn() after each response, before requests are sent: the place to tell the client what is wanted now (may be
  // empty). An error: metadata that is no JSON object.
  static std::expected<std::unique_ptr<GrpcTransport>, std::string> make(TransportOptions options, Client& client,
                                                                         std::function<void()> wake, std::function<void()> applied = {});
  ~GrpcTransport();  // ends the stream and waits until gRPC has let go of it
  GrpcTransport(const GrpcTransport&) = delete;

  void turn(Usec now);
  Usec next_deadline() const;

 private:
  struct Node;
  class Stream;
  GrpcTransport(TransportOptions options, std::unique_ptr<Node> node, Client& client, std::function<void()> wake,
                std::function<void()> applied);
  std::expected<void, std::string> open(uint64_t number);
  void send_requests();

  const TransportOptions options_;
  std::unique_ptr<Node> node_;
  Client& client_;
  std::function<void()> wake_, applied_;
  std::unique_ptr<Stream> stream_;
  uint64_t number_ = 0;
  bool first_request_ = true;
};

}  // namespace sluice::xds
