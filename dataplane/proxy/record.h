// Record: what one access-log line says, gathered while a request (or a raw connection) lives. Text is viewed, not owned: it lies in the
// exchange's arena, in parts of the tables that the exchange holds, in the connection, or is a literal.
// RecordSource resolves Envoy's format operators against it.
#pragma once
#include <string>
#include <string_view>

#include "dataplane/base/address.h"
#include "dataplane/base/now.h"
#include "dataplane/http/format.h"
#include "dataplane/http/message.h"
#include "dataplane/proxy/response_flags.h"
#include "tls-offload/terminator.h"

namespace sluice::proxy {

struct Record {
  int64_t start_wall_us = 0;
  Usec start_us = 0, end_us = 0;    // first byte of the request (connection: accepted); last byte or end
  Usec request_end_us = 0;          // 0: not whole
  Usec upstream_sent_us = 0;        // head to the origin, last attempt
  Usec first_upstream_byte_us = 0;  // 0: none
  SocketAddress local, peer;        // of the downstream connection
  IpAddress client;                 // trusted client (x-forwarded-for)
  std::string_view sni;
  const tls::PeerInfo* tls = nullptr;
  bool http = false;  // a request, as far as it came
  uint16_t status = 0;
  Flags flags;
  std::string_view details, termination_details, transport_failure;
  uint64_t bytes_received = 0, bytes_sent = 0;
  std::string_view cluster, route_name;
  SocketAddress upstream_host, upstream_local;  // port 0: none
  uint32_t attempts = 0;
  uint64_t connection_id = 0;

  void start(const SocketAddress& local_address, const SocketAddress& peer_address, std::string_view server_name, const Now& now) {
    local = local_address;
    peer = peer_address;
    client = peer.ip;
    sni = server_name;
    start_us = now.mono_us;
    start_wall_us = now.wall_us;
  }
};

class RecordSource final : public http::Source {
 public:
  // Heads may be null: not there (yet).
  RecordSource(const Record& r, const http::RequestHead* request, const http::ResponseHead* response)
      : r_(r), request_(request), response_(response) {}
  bool append(const http::Piece& piece, std::string& out) const override;

 private:
  bool request_field(std::string_view name, std::string& out) const;
  const Record& r_;
  const http::RequestHead* request_;
  const http::ResponseHead* response_;
};

}  // namespace sluice::proxy
