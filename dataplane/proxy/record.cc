#include "dataplane/proxy/record.h"

#include <algorithm>

namespace sluice::proxy {
namespace {

bool text(std::string_view s, std::string& out) {
  out += s;
  return !s.empty();
}
// Envoy's StringUtil::sanitizeInvalidHostname: a stranger's bytes stay out of the log.
bool server_name(std::string_view s, std::string& out) {
  const auto odd = [](char c) {
    return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_');
  };
  if (std::ranges::any_of(s, odd)) out += "invalid:";
  for (char c : s) out += odd(c) ? '_' : c;
  return !s.empty();
}
bool number(uint64_t n, std::string& out) {
  out += std::to_string(n);
  return true;
}
bool address(const SocketAddress& a, std::string& out) {
  if (a.port == 0) return false;
  out += a.to_string();
  return true;
}
// Milliseconds from `from` to `to`; unset while either has not happened.
bool since(Usec from, Usec to, std::string& out) { return from != 0 && to != 0 && number((to - from) / kMs, out); }
bool joined(const std::vector<std::string>& list, std::string& out) {
  for (size_t i = 0; i < list.size(); i++) out.append(i == 0 ? "" : ",").append(list[i]);
  return !list.empty();
}

}  // namespace

bool RecordSource::request_field(std::string_view name, std::string& out) const {
  if (request_ == nullptr || name.empty()) return false;
  if (name == ":method") return text(request_->method, out);
  if (name == ":path") return text(request_->path, out);
  if (name == ":authority" || name == "host") {
    if (request_->has_authority) out += request_->authority;
    return request_->has_authority;
  }
  if (name == ":scheme") return text(request_->scheme, out);
  const auto value = request_->fields.joined(name);
  if (!value) return false;
  out += *value;
  return true;
}

bool RecordSource::append(const http::Piece& piece, std::string& out) const {
  using http::Op;
  switch (piece.op) {
    case Op::kStartTime: http::append_time(r_.start_wall_us, piece.a, out); return true;
    case Op::kReq: return request_field(piece.a, out) || request_field(piece.b, out);
    case Op::kResp: {
      if (response_ == nullptr) return false;
      for (std::string_view name : {std::string_view(piece.a), std::string_view(piece.b)}) {
        if (name.empty()) continue;
        if (name == ":status") return number(response_->status, out);
        if (const auto v = response_->fields.joined(name)) return text(*v, out);
      }
      return false;
    }
    case Op::kTrailer: return false;
    case Op::kProtocol: return r_.http && text("HTTP/1.1", out);
    case Op::kResponseCode: return number(r_.status, out);
    case Op::kResponseFlags: out += r_.flags.text(); return true;
    case Op::kResponseFlagsLong: out += r_.flags.long_text(); return true;
    case Op::kResponseCodeDetails: return text(r_.details, out);
    case Op::kConnectionTerminationDetails: return text(r_.termination_details, out);
    case Op::kUpstreamTransportFailureReason:
      for (char c : r_.transport_failure) out += c == ' ' ? '_' : c;
      return !r_.transport_failure.empty();
    case Op::kBytesReceived: return number(r_.bytes_received, out);
    case Op::kBytesSent: return number(r_.bytes_sent, out);
    case Op::kDuration: return since(r_.start_us, r_.end_us, out);
    case Op::kRequestDuration: return since(r_.start_us, r_.request_end_us, out);
    case Op::kResponseDuration: return since(r_.start_us, r_.first_upstream_byte_us, out);
    case Op::kResponseTxDuration: return since(r_.first_upstream_byte_us, r_.end_us, out);
    case Op::kUpstreamHost:
    case Op::kUpstreamRemoteAddress: return address(r_.upstream_host, out);
    case Op::kUpstreamLocalAddress: return address(r_.upstream_local, out);
    case Op::kUpstreamCluster:
    case Op::kUpstreamClusterRaw: return text(r_.cluster, out);
    case Op::kDownstreamLocalAddress: return address(r_.local, out);
    case Op::kDownstreamLocalAddressWithoutPort: return text(r_.local.ip.to_string(), out);
    case Op::kDownstreamLocalPort: return number(r_.local.port, out);
    // The trusted client has a port only where it is the peer itself (Envoy prints 0 for an address from x-forwarded-for).
    case Op::kDownstreamRemoteAddress:
      return text(SocketAddress{r_.client, r_.client == r_.peer.ip ? r_.peer.port : uint16_t{0}}.to_string(), out);
    case Op::kDownstreamRemoteAddressWithoutPort: return text(r_.client.to_string(), out);
    case Op::kDownstreamDirectRemoteAddress: return address(r_.peer, out);
    case Op::kDownstreamDirectRemoteAddressWithoutPort: return text(r_.peer.ip.to_string(), out);
    case Op::kRequestedServerName: return server_name(r_.sni, out);
    case Op::kRouteName: return text(r_.route_name, out);
    case Op::kDownstreamPeerUriSan: return r_.tls != nullptr && joined(r_.tls->uri_sans, out);
    case Op::kDownstreamPeerSubject: return r_.tls != nullptr && text(r_.tls->subject, out);
    case Op::kDownstreamPeerFingerprint: return r_.tls != nullptr && text(r_.tls->sha256_hex, out);
    case Op::kDownstreamTlsVersion: return r_.tls != nullptr && text(r_.tls->version, out);
    case Op::kDownstreamTlsCipher: return r_.tls != nullptr && text(r_.tls->cipher, out);
    case Op::kConnectionId: return number(r_.connection_id, out);
    case Op::kUpstreamRequestAttemptCount: return number(r_.attempts, out);
    case Op::kGrpcStatusNumber:
    case Op::kGrpcStatus: {
      const auto v = response_ == nullptr ? std::nullopt : response_->fields.first("grpc-status");
      return v && text(*v, out);
    }
    case Op::kLiteral:
    case Op::kHostname:
    case Op::kVirtualClusterName:
    case Op::kDynamicMetadata:
    case Op::kFilterState: return false;
  }
  return false;
}

}  // namespace sluice::proxy
