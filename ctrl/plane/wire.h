// ADS messages as gRPC's bytes. Requests are parsed by protobuf; answers are put together by hand, so that the resources in them are
// references to the bytes that the world's version holds and not copies: a thousand nodes that are sent the same 10 MB share them. Inside
// of server.cc.
#pragma once
#include <grpcpp/support/byte_buffer.h>

#include <mutex>

#include "ctrl/plane/stream.h"

namespace sluice::plane {

constexpr size_t kCopyBytesMax = 4096;  // a smaller resource is copied into the message: a reference costs more

struct WireRequest {
  StreamRequest request;
  std::string node;  // envoy.config.core.v3.Node, serialized; "" if there is none
};
// False: no such message.
bool parse(const grpc::ByteBuffer& bytes, bool delta, WireRequest& out);

// "All of a type" of one version, encoded once for all who are sent it. Thread: any.
class Wholes {
 public:
  std::shared_ptr<const std::string> get(const StreamAnswer& all, bool delta);

 private:
  std::mutex mutex_;
  std::shared_ptr<const std::string> made_[2][kTypes];
};

grpc::ByteBuffer encode(const StreamAnswer& a, bool delta, Wholes& wholes);

}  // namespace sluice::plane
