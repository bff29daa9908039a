// The fields, as discovery.proto has them (all are length-delimited, and their order on the wire is free):
//   DeltaDiscoveryResponse  system_version_info 1, resources 2 (Resource: version 1, resource 2, name 3), type_url 4, nonce 5,
//                           removed_resources 6, control_plane 7
//   DiscoveryResponse       version_info 1, resources 2 (Any), type_url 4, nonce 5, control_plane 6
//   Any                     type_url 1, value 2          ControlPlane  identifier 1
#include "ctrl/plane/wire.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include "envoy/service/discovery/v3/discovery.pb.h"

namespace sluice::plane {
namespace {

namespace ds = envoy::service::discovery::v3;
constexpr std::string_view kControlPlane = "sluice-control";  // the same of every instance: they answer alike

size_t varint_size(size_t n) {
  size_t bytes = 1;
  for (; n >= 0x80; n >>= 7) bytes++;
  return bytes;
}
void put_varint(std::string& out, size_t n) {
  for (; n >= 0x80; n >>= 7) out += char(n | 0x80);
  out += char(n);
}
void put_head(std::string& out, int field, size_t size) {
  out += char(field << 3 | 2);
  put_varint(out, size);
}
void put(std::string& out, int field, std::string_view value) {
  put_head(out, field, value.size());
  out += value;
}
size_t field_size(size_t value) { return 1 + varint_size(value) + value; }

// A resource up to its value, which is the last of its bytes.
void put_until_value(std::string& out, std::string_view url, const Item& i, bool delta) {
  const size_t value = i.resource->value.size();
  const size_t any = field_size(url.size()) + field_size(value);
  if (delta) {
    put_head(out, 2, field_size(i.resource->version.size()) + field_size(i.name.size()) + field_size(any));
    put(out, 1, i.resource->version);
    put(out, 3, i.name);
  }
  put_head(out, 2, any);
  put(out, 1, url);
  put_head(out, 2, value);
}

grpc::Slice reference(std::shared_ptr<const std::string> bytes) {
  auto* held = new std::shared_ptr<const std::string>(std::move(bytes));
  return {const_cast<char*>((*held)->data()), (*held)->size(), [](void* p) { delete static_cast<std::shared_ptr<const std::string>*>(p); },
          held};
}

std::string url_of(int type) { return std::string(kTypePrefix) + std::string(kTypeNames[type]); }

void fill(WireRequest& out, ds::DeltaDiscoveryRequest& r) {
  out.request.subscribe.assign(std::make_move_iterator(r.mutable_resource_names_subscribe()->begin()),
                               std::make_move_iterator(r.mutable_resource_names_subscribe()->end()));
  out.request.unsubscribe.assign(std::make_move_iterator(r.mutable_resource_names_unsubscribe()->begin()),
                                 std::make_move_iterator(r.mutable_resource_names_unsubscribe()->end()));
  for (auto& [name, version] : *r.mutable_initial_resource_versions()) out.request.initial_versions[name] = std::move(version);
}
void fill(WireRequest& out, ds::DiscoveryRequest& r) {
  out.request.subscribe.assign(std::make_move_iterator(r.mutable_resource_names()->begin()),
                               std::make_move_iterator(r.mutable_resource_names()->end()));
}

template <class Request>
bool parse_as(const grpc::ByteBuffer& bytes, WireRequest& out) {
  Request r;
  grpc::ByteBuffer copy(bytes);  // references; SerializationTraits takes what it reads
  if (!grpc::SerializationTraits<Request>::Deserialize(&copy, &r).ok()) return false;
  out = {};
  out.request.type_url = std::move(*r.mutable_type_url());
  out.request.nonce = std::move(*r.mutable_response_nonce());
  if (r.has_error_detail()) out.request.error = r.error_detail().message().empty() ? "no reason given" : r.error_detail().message();
  if (r.has_node()) out.node = r.node().SerializeAsString();
  fill(out, r);
  return true;
}

}  // namespace

bool parse(const grpc::ByteBuffer& bytes, bool delta, WireRequest& out) {
  return delta ? parse_as<ds::DeltaDiscoveryRequest>(bytes, out) : parse_as<ds::DiscoveryRequest>(bytes, out);
}

std::shared_ptr<const std::string> Wholes::get(const StreamAnswer& all, bool delta) {
  const std::lock_guard lock(mutex_);
  auto& made = made_[delta ? 1 : 0][all.type];
  if (made == nullptr) {
    std::string out;
    const std::string url = url_of(all.type);
    size_t size = 0;
    for (const Item& i : all.resources) size += i.resource->value.size() + i.name.size() + url.size() + 40;
    out.reserve(size);
    for (const Item& i : all.resources) {
      put_until_value(out, url, i, delta);
      out += i.resource->value.str();
    }
    made = std::make_shared<const std::string>(std::move(out));
  }
  return made;
}

grpc::ByteBuffer encode(const StreamAnswer& a, bool delta, Wholes& wholes) {
  std::vector<grpc::Slice> slices;
  const std::string url = url_of(a.type);
  std::string text;
  put(text, 1, a.version);
  put(text, 4, url);
  put(text, 5, a.nonce);
  for (const std::string& name : a.removed) put(text, 6, name);
  std::string control_plane;
  put(control_plane, 1, kControlPlane);
  put(text, delta ? 7 : 6, control_plane);
  const auto flush = [&] {
    if (!text.empty()) slices.emplace_back(text);
    text.clear();
  };
  if (a.all && a.resources.size() > 1) {
    flush();
    slices.push_back(reference(wholes.get(a, delta)));
  } else {
    for (const Item& i : a.resources) {
      put_until_value(text, url, i, delta);
      if (i.resource->value.size() <= kCopyBytesMax) {
        text += i.resource->value.str();
      } else {
        flush();
        slices.push_back(reference(i.resource->value.shared()));
      }
    }
  }
  flush();
  return {slices.data(), slices.size()};
}

}  // namespace sluice::plane
