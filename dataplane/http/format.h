// Envoy's substitution formats (access logs, header values), compiled once on the control thread to a list of pieces and rendered with a
// Source that knows the request. Unset values print as "-" in text and null in JSON, where lone numeric operators stay numbers.
//   text:  [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%" ...     %% is a percent sign
//   JSON:  a flat list of key -> text format, one object per line, keys in sorted order as Envoy prints them
// Errors name the operator and its place in the format.
#pragma once
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

// An operator: its Envoy name, and whether a JSON log prints it as a number.
// clang-format off
#define SLUICE_FORMAT_OPERATORS(X) \
  X(kStartTime, "START_TIME", false) X(kReq, "REQ", false) X(kResp, "RESP", false) X(kTrailer, "TRAILER", false) \
  X(kProtocol, "PROTOCOL", false) X(kResponseCode, "RESPONSE_CODE", true) X(kResponseFlags, "RESPONSE_FLAGS", false) \
  X(kResponseFlagsLong, "RESPONSE_FLAGS_LONG", false) X(kResponseCodeDetails, "RESPONSE_CODE_DETAILS", false) \
  X(kConnectionTerminationDetails, "CONNECTION_TERMINATION_DETAILS", false) \
  X(kUpstreamTransportFailureReason, "UPSTREAM_TRANSPORT_FAILURE_REASON", false) X(kBytesReceived, "BYTES_RECEIVED", true) \
  X(kBytesSent, "BYTES_SENT", true) X(kDuration, "DURATION", true) X(kRequestDuration, "REQUEST_DURATION", true) \
  X(kResponseDuration, "RESPONSE_DURATION", true) X(kResponseTxDuration, "RESPONSE_TX_DURATION", true) \
  X(kUpstreamHost, "UPSTREAM_HOST", false) X(kUpstreamCluster, "UPSTREAM_CLUSTER", false) \
  X(kUpstreamClusterRaw, "UPSTREAM_CLUSTER_RAW", false) X(kUpstreamLocalAddress, "UPSTREAM_LOCAL_ADDRESS", false) \
  X(kUpstreamRemoteAddress, "UPSTREAM_REMOTE_ADDRESS", false) X(kDownstreamLocalAddress, "DOWNSTREAM_LOCAL_ADDRESS", false) \
  X(kDownstreamLocalAddressWithoutPort, "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false) \
  X(kDownstreamLocalPort, "DOWNSTREAM_LOCAL_PORT", true) X(kDownstreamRemoteAddress, "DOWNSTREAM_REMOTE_ADDRESS", false) \
  X(kDownstreamRemoteAddressWithoutPort, "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", false) \
  X(kDownstreamDirectRemoteAddress, "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", false) \
  X(kDownstreamDirectRemoteAddressWithoutPort, "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", false) \
  X(kRequestedServerName, "REQUESTED_SERVER_NAME", false) X(kRouteName, "ROUTE_NAME", false) \
  X(kDownstreamPeerUriSan, "DOWNSTREAM_PEER_URI_SAN", false) X(kDownstreamPeerSubject, "DOWNSTREAM_PEER_SUBJECT", false) \
  X(kDownstreamPeerFingerprint, "DOWNSTREAM_PEER_FINGERPRINT_256", false) X(kDownstreamTlsVersion, "DOWNSTREAM_TLS_VERSION", false) \
  X(kDownstreamTlsCipher, "DOWNSTREAM_TLS_CIPHER", false) X(kHostname, "HOSTNAME", false) X(kConnectionId, "CONNECTION_ID", true) \
  X(kUpstreamRequestAttemptCount, "UPSTREAM_REQUEST_ATTEMPT_COUNT", true) X(kVirtualClusterName, "VIRTUAL_CLUSTER_NAME", false) \
  X(kDynamicMetadata, "DYNAMIC_METADATA", false) X(kFilterState, "FILTER_STATE", false) X(kGrpcStatus, "GRPC_STATUS", false) \
  X(kGrpcStatusNumber, "GRPC_STATUS_NUMBER", true)
// clang-format on

enum class Op : uint8_t {
  kLiteral,
#define X(id, name, number) id,
  SLUICE_FORMAT_OPERATORS(X)
#undef X
};

struct Piece {
  Op op = Op::kLiteral;
  std::string text;       // kLiteral
  std::string a, b;       // REQ(A?B): field names, lower-case; START_TIME(a): its format
  size_t length_max = 0;  // :Z, 0: unbounded
};

class Source {
 public:
  virtual ~Source() = default;
  // Appends the value; false (and nothing appended) when unset.
  virtual bool append(const Piece& piece, std::string& out) const = 0;
};

class Format {
 public:
  static std::expected<std::shared_ptr<const Format>, std::string> compile(std::string_view text);
  static std::expected<std::shared_ptr<const Format>, std::string> compile_json(
      std::span<const std::pair<std::string, std::string>> fields);
  void render(const Source& source, std::string& out) const;
  // Header values: an unset operator makes an empty string, not "-".
  void render_value(const Source& source, std::string& out) const;
  bool is_literal() const { return !json_ && pieces_.size() <= 1 && (pieces_.empty() || pieces_[0].op == Op::kLiteral); }

 private:
  static std::expected<std::vector<Piece>, std::string> parse(std::string_view text);
  bool json_ = false;
  std::vector<Piece> pieces_;
  std::vector<std::pair<std::string, std::vector<Piece>>> fields_;
};

// %START_TIME(format)%: strftime plus %3f %6f %9f and %s; the default is ISO 8601 with milliseconds, UTC.
void append_time(int64_t wall_us, std::string_view format, std::string& out);

}  // namespace sluice::http
