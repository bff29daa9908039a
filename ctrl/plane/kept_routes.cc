#include "ctrl/plane/kept_routes.h"

#include <google/protobuf/io/coded_stream.h>

#include "envoy/config/route/v3/route.pb.h"

namespace sluice::plane {
namespace {

using envoy::config::route::v3::RouteConfiguration;
constexpr int kRoute = 3;  // of kTypeNames

// All that routes_of() looks at.
Fingerprint print_of(const View& v, const Virtual& x, const Server& s) {
  Fingerprint f;
  f.add(v.world.mesh.id).add(x.id).add(s.service_port).add(s.has_tls());
  const auto add = [&](const Service* to) { f.add(to == nullptr ? 0 : to->entry->shape); };
  for (const std::string& host : x.destinations) {
    const Service* to = v.service(host);
    add(to), add(v.service(host, x.config->ns));
    const Config* rule = to == nullptr ? nullptr : v.destination_rule(*to);
    f.add(rule == nullptr ? 0 : rule->id);
  }
  return f;
}

// A RouteConfiguration as it is serialized: its name is field 1, its virtual hosts are field 2, the rest comes behind.
std::expected<std::string, std::string> join(const std::string& name, const std::vector<const std::string*>& hosts) {
  const Json json = route_configuration(name, {});
  const auto frame = parse_all(std::array{NamedJson{kRoute, &name, &json}});
  if (!frame) return std::unexpected(frame.error());
  auto& rest = static_cast<RouteConfiguration&>(*(*frame)[0]);
  RouteConfiguration head;
  head.set_name(name);
  rest.clear_name();
  std::string out = serialized(head);
  const std::string tail = serialized(rest);
  size_t size = out.size() + tail.size();
  for (const std::string* h : hosts) size += h->size() + 6;
  out.reserve(size);
  constexpr char kTag = 2 << 3 | 2;
  for (const std::string* h : hosts) {
    out += kTag;
    uint8_t length[5];
    const uint8_t* end = google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(uint32_t(h->size()), length);
    out.append(reinterpret_cast<const char*>(length), size_t(end - length));
    out += *h;
  }
  return std::move(out.append(tail));
}

std::expected<std::string, std::string> patched(const std::string& bytes, const std::vector<Patch>& patches) {
  Messages routes, none, also_none;
  auto rc = std::make_unique<RouteConfiguration>();
  if (!rc->ParseFromString(bytes)) return std::unexpected("cannot be parsed");
  routes.emplace("", std::move(rc));
  if (auto ok = apply_patches(patches, none, also_none, routes); !ok) return std::unexpected(ok.error());
  return serialized(*routes.at(""));
}

// Turns what is asked of it into bytes, in batches.
class Converter {
 public:
  std::expected<void, std::string> add(const PlannedHost& h, std::string& into) {
    into_.push_back(&into), json_.push_back(virtual_host(h));
    size_ += json_.back().text.size();
    return size_ < kBatchBytes ? std::expected<void, std::string>() : flush();
  }
  std::expected<void, std::string> flush() {
    auto made = host_bytes(json_);
    if (!made) return std::unexpected(made.error());
    for (size_t i = 0; i < into_.size(); i++) *into_[i] = std::move((*made)[i]);
    into_.clear(), json_.clear(), size_ = 0;
    return {};
  }

 private:
  std::vector<std::string*> into_;
  std::vector<Json> json_;
  size_t size_ = 0;
};

}  // namespace

KeptRoutes::List& KeptRoutes::list_of(const View& v, const std::string& name, const Virtual& x, const Server& s) {
  auto& slot = lists_.slot(name + "|" + s.gateway_name() + "|" + memo_name(*x.config));
  List& list = slot.value;
  if (list.update == updates_) return list;  // another server of the Gateway: the first one's routes are for all
  list.update = updates_, list.virtual_service = &x, list.server = &s;
  if (const Fingerprint f = print_of(v, x, s); slot.of != f) {
    slot.of = list.of = f;
    list.routes = routes_of(v, x, s);
    list.empty = list.routes.empty();
  }
  return list;
}

std::vector<KeptRoutes::Host> KeptRoutes::plan(const View& v, const std::string& name, const std::vector<const Server*>& servers) {
  std::vector<Host> out;
  for (PlannedHost& h : plan_hosts(v, servers, [&](const Virtual& x, const Server& s) -> const RouteList* {
         const List& list = list_of(v, name, x, s);
         return list.empty ? nullptr : &list;
       })) {
    Fingerprint f;
    f.add(h.tls_only).add(h.blackhole).add(h.domains.size());
    for (const std::string& d : h.domains) f.add(d);
    auto& bytes = hosts_.slot(name + "|" + h.name);
    out.push_back({std::move(h), f, &bytes});
  }
  return out;
}

std::expected<ResourceTable::Shared, std::string> KeptRoutes::update(const View& v, const std::string& name,
                                                                     const std::vector<const Server*>& servers,
                                                                     const std::vector<Patch>& patches, const Fingerprint& of_patches,
                                                                     const ResourceTable& before) {
  updates_++;
  Fingerprint structure;  // all that plan_hosts() looks at
  for (const Server* s : servers) {
    structure.add(s->gateway_name()).add(s->service_port).add((*s->node)["tls"]["httpsRedirect"].boolean()).add(s->hosts.size());
    for (const std::string& h : s->hosts) structure.add(h);
    for (const Virtual* x : v.bound_to(*s)) {
      const List& list = list_of(v, name, *x, *s);
      structure.add(x->of_hosts).add(list.empty).add(reinterpret_cast<uintptr_t>(&list));
    }
  }
  auto& hosts = plans_.slot(name);
  if (hosts.of != structure) hosts.value = plan(v, name, servers), hosts.of = structure;

  Converter converter;
  Fingerprint all;
  all.add(of_patches);
  std::vector<const std::string*> bytes;
  bytes.reserve(hosts.value.size());
  for (Host& h : hosts.value) {
    Fingerprint f = h.of;
    for (const RouteList* list : h.planned.lists) f.add(own(list).of);
    hosts_.touch(*h.bytes);
    if (h.bytes->of != f) {
      for (const RouteList* list : h.planned.lists)
        if (List& l = own(list); l.routes.empty()) l.routes = routes_of(v, *l.virtual_service, *l.server);
      h.bytes->of = f;
      if (auto ok = converter.add(h.planned, h.bytes->value); !ok) return std::unexpected(ok.error());
    }
    all.add(h.planned.name).add(f);
    bytes.push_back(&h.bytes->value);
  }
  if (auto ok = converter.flush(); !ok) return std::unexpected(ok.error());
  for (Host& h : hosts.value)
    for (const RouteList* list : h.planned.lists) own(list).routes = {};

  auto& whole = whole_.slot(name);
  if (whole.of != all) {
    auto joined = join(name, bytes);
    if (joined && !patches.empty()) joined = patched(*joined, patches);
    if (!joined) return std::unexpected(joined.error());
    whole.of = all, whole.value = entry_of(name, std::move(*joined), &before);
  }
  return whole.value;
}

void KeptRoutes::end_round() { lists_.end_round(), plans_.end_round(), hosts_.end_round(), whole_.end_round(); }

}  // namespace sluice::plane
