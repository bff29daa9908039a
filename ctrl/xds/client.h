// The xDS client: delta ADS (envoy.service.discovery.v3, incremental) as a pure state machine. Events come in by calls, requests go out by
// take_requests(); no gRPC, no protobuf, no clock. ctrl/xds/grpc_transport binds it to a stream. Reference: E-doc xds_protocol "Incremental
// xDS".
//
// What it holds true (each has its property in client_test.cc):
//   * One ACK or NACK per response, in the order of the responses; it carries nothing else (istiod drops a subscription change that rides
//   on an ACK).
//   * A NACK names every bad resource with its reason; the good resources of the same response are applied.
//   * Clusters and listeners are wildcard subscriptions, the other types by name; a type by name is never opened with an empty list (that
//   would
//     be read as a wildcard), and an unsolicited response of a type that was not opened is counted and not answered (an ACK would open it).
//   * On a new stream each type's first request carries all wanted names and initial_resource_versions of what is held.
//   * Content decides: a resource equal byte for byte to what is held is not applied again (istiod sends no versions and re-sends
//   everything).
//   * Order of requests: CDS, EDS, LDS, RDS, SDS, ECDS. Before the first world is complete LDS waits for the first CDS answer
//   (kInitialFetchTimeout
//     at most), so that a listener does not come before its clusters. Servers may send in any order all the same.
//   * A resource that is no longer wanted is given back to the sink at once; a late response naming it is accepted and ignored.
// Thread: one (control). The sink is called from response() and want() and may not call back into the client.
#pragma once
#include <array>
#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/now.h"
#include "dataplane/base/rng.h"

namespace sluice::xds {

enum class Type : uint8_t { kCluster, kEndpoint, kListener, kRoute, kSecret, kExtension };  // the order of requests
constexpr size_t kTypes = 6;
std::string_view type_url(Type);    // "type.googleapis.com/envoy.config.cluster.v3.Cluster"
std::string_view short_name(Type);  // "CDS"
std::optional<Type> type_of(std::string_view url);
constexpr bool is_wildcard(Type t) { return t == Type::kCluster || t == Type::kListener; }

struct Resource {
  std::string name, version;  // istiod leaves the version empty
  std::string type_url;       // of the Any
  std::string bytes;          // value of the Any
  bool has_body = true;       // false: a heartbeat of a resource with a TTL; nothing changes
};
struct Response {
  std::string type_url, nonce, version;  // version: system_version_info, for people only
  std::vector<Resource> resources;
  std::vector<std::string> removed;
};
struct Request {
  std::string type_url;
  std::vector<std::string> subscribe, unsubscribe;
  std::map<std::string, std::string> initial_resource_versions;  // name -> version
  std::string response_nonce;                                    // set: this is an ACK, or a NACK when error is set
  std::string error;
};

// Where accepted resources go. apply says no with a reason a person can act on; the sink then keeps what it had under that name.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual std::expected<void, std::string> apply(Type type, const std::string& name, const std::string& version,
                                                 const std::string& bytes) = 0;
  virtual void remove(Type type, const std::string& name) = 0;
};

struct ClientOptions {
  Usec backoff_first = 200 * kMs, backoff_max = 30 * kSec;  // delay is uniform in [d/2, d], d doubles; a response resets it
  Usec initial_fetch_timeout = 15 * kSec;                   // how long LDS waits for the first CDS answer
  size_t error_bytes_max = 64 * 1024;                       // of reasons in one NACK; names are always all there
};

struct TypeStatus {
  size_t wanted = 0, held = 0;                 // wanted: 0 for wildcard types
  std::vector<std::string> missing;            // wanted, not held
  std::map<std::string, std::string> refused;  // name -> reason, until a good one comes or it is removed
  std::string version;                         // system_version_info of the last response
  Usec last_response = 0;
  uint64_t responses = 0, acks = 0, nacks = 0;
  uint64_t applied = 0, unchanged = 0, ignored = 0, removed = 0;  // resources
};

class Client {
 public:
  Client(ClientOptions options, Sink& sink, Rng& rng) : options_(options), sink_(sink), rng_(rng) {}

  // -- the stream. The transport asks connect_at() (kNever: nothing to do), and when that has come calls begin_connect(), opens a stream
  // and reports
  //    its end by stream_closed with the number it got. Events of another stream than the newest are ignored.
  Usec connect_at() const { return state_ == State::kWaiting ? connect_at_ : kNever; }
  uint64_t begin_connect();
  void connected(uint64_t stream, Usec now);
  void stream_closed(uint64_t stream, std::string reason, Usec now);
  void response(uint64_t stream, const Response& r, Usec now);
  // The whole set of names wanted of a type that is asked by name. What is no longer wanted is removed from the sink.
  void want(Type type, std::set<std::string> names);
  // Time has come to next_deadline(), or past it.
  void advance(Usec now);
  Usec next_deadline() const { return state_ == State::kOpen && listeners_wait_ ? listeners_at_ : kNever; }
  // Requests to send on the open stream, in order. Empty when there is none. Tell what is wanted now (want) between response() and this, so
  // that endpoints are asked for before listeners.
  std::vector<Request> take_requests();

  // A resource that the sink already has (from the kept files). Before the first connect. Its version is not trusted: the server sends it
  // again, and only removals are learnt from its name.
  void restore(Type type, const std::string& name, const std::string& bytes);

  TypeStatus status(Type type) const;
  bool is_connected() const { return state_ == State::kOpen; }
  bool is_answered() const { return state_ == State::kOpen && answered_; }  // the server has spoken on this stream
  Usec state_since() const { return since_; }
  const std::string& last_error() const { return last_error_; }  // why the last stream ended
  uint64_t streams() const { return streams_; }
  uint64_t unsolicited() const { return unsolicited_; }  // responses of types that were not opened or are not known
  bool holds(Type type, const std::string& name) const { return of(type).held.contains(name); }

 private:
  enum class State : uint8_t { kWaiting, kConnecting, kOpen };
  struct Held {
    std::string version;
    uint64_t hash[2];  // of the bytes; two keyed hashes, so that a forged collision does not hide a change
    size_t bytes;
  };
  struct OfType {
    bool opened = false;               // the first request of this stream was sent
    bool answered = false;             // a response came on this stream
    std::set<std::string> wanted;      // by name
    std::set<std::string> subscribed;  // the server has been told, on this stream
    std::map<std::string, Held> held;  // accepted
    std::map<std::string, std::string> refused;
    TypeStatus s;  // the counters
  };
  OfType& of(Type t) { return types_[size_t(t)]; }
  const OfType& of(Type t) const { return types_[size_t(t)]; }
  void flush();
  void flush_type(Type t);
  std::optional<std::string> apply_one(Type t, const Resource& r);

  const ClientOptions options_;
  Sink& sink_;
  Rng& rng_;
  std::array<OfType, kTypes> types_;
  std::vector<Request> out_;
  State state_ = State::kWaiting;
  uint64_t stream_ = 0, streams_ = 0, unsolicited_ = 0;
  Usec connect_at_ = 0, backoff_ = 0, since_ = 0;
  bool listeners_wait_ = true;  // no CDS answer yet in this process
  Usec listeners_at_ = kNever;
  bool answered_ = false;
  std::string last_error_;
};

}  // namespace sluice::xds
