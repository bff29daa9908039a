// Binds the CA's client to gRPC: CreateCertificate as Istio's agent calls it, and a stream of the secret ROOTCA. Thread: as GrpcTransport's
// (ctrl/xds/grpc_transport.h): everything is the control thread's, gRPC's threads only leave events and call `wake`. Files (TLS, token) are
// read at each call, so that what was rotated is used by the next. The token goes out as `authorization: Bearer`, over TLS or a Unix socket
// or loopback only (the bootstrap refuses else).
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "ctrl/agent/ca_client.h"

namespace sluice::agent {

constexpr int kCaAnswerSeconds = 15;

struct CaTransportOptions {
  std::string address;  // "unix:PATH" or "HOST:PORT"
  bool tls = false;
  std::string ca_file, cert_file, key_file, server_name, token_file;  // may be empty, but not ca_file where tls
  std::string node_id, cluster_id;
};

class CaTransport {
 public:
  CaTransport(CaTransportOptions options, CaClient& client, std::function<void()> wake);
  ~CaTransport();  // ends what is under way and waits until gRPC has let go of it
  CaTransport(const CaTransport&) = delete;
  void turn(Now now);

 private:
  struct Call;
  class Watch;
  struct Shared;
  const CaTransportOptions options_;
  CaClient& client_;
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<Call> call_;
  std::unique_ptr<Watch> watch_;
  uint64_t call_number_ = 0, watch_number_ = 0;
};

}  // namespace sluice::agent
