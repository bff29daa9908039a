// The CA whole: its directory watched on a thread of its own (an edit of revoked.yaml must not wait behind a translation), its services for
// the xDS server (ServerOptions::more). Thread: any one; destroyed after the server.
#pragma once
#include <thread>

#include "ctrl/plane/ca_service.h"
#include "ctrl/plane/watch.h"

namespace sluice::plane {

class Ca {
 public:
  static std::expected<std::unique_ptr<Ca>, std::string> start(CaOptions options, CaService::Log log);
  void add_to(grpc::ServerBuilder& builder) { service_.add_to(builder); }

 private:
  Ca(std::unique_ptr<CaAuthority> authority, CaService::Log log);
  void watch(const std::stop_token& stop);
  const CaService::Log log_;
  const std::unique_ptr<CaAuthority> authority_;
  CaService service_;
  Watch watch_;
  std::jthread thread_;
};

}  // namespace sluice::plane
