// One resource at a time: first what is removed or merged at its level, then the level below, then what is added, as istiod does. Durations
// and wrapped values are replaced by a merge, lists are appended to.
#include "ctrl/plane/patches_apply.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <functional>

#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"

namespace sluice::plane {
namespace {
namespace pb = google::protobuf;
using envoy::config::cluster::v3::Cluster;
using envoy::config::listener::v3::Filter;
using envoy::config::listener::v3::FilterChain;
using envoy::config::listener::v3::Listener;
using envoy::config::listener::v3::ListenerFilter;
using envoy::config::route::v3::Route;
using envoy::config::route::v3::RouteConfiguration;
using envoy::config::route::v3::VirtualHost;
using envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
using envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

constexpr std::string_view kHcm = "envoy.filters.network.http_connection_manager";

// JSON to protobuf writes what is said even where it is the default; inside of an Any that would stay. Parsed and written again it does
// not.
void repack(pb::Message& m) {
  const auto* reflection = m.GetReflection();
  if (auto* any = dynamic_cast<pb::Any*>(&m)) {
    const auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName(any->type_url().substr(any->type_url().rfind('/') + 1));
    if (d == nullptr) return;
    const std::unique_ptr<pb::Message> inner(pb::MessageFactory::generated_factory()->GetPrototype(d)->New());
    if (!inner->ParseFromString(any->value())) return;
    repack(*inner);
    any->set_value(inner->SerializeAsString());
    return;
  }
  std::vector<const pb::FieldDescriptor*> fields;
  reflection->ListFields(m, &fields);
  for (const auto* f : fields) {
    if (f->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!f->is_repeated()) repack(*reflection->MutableMessage(&m, f));
    else
      for (int i = 0; i < reflection->FieldSize(m, f); i++) repack(*reflection->MutableRepeatedMessage(&m, f, i));
  }
}

template <class T>
T value_of(const Patch& p) {
  T out;
  if (p.value.text != "null") (void)pb::util::JsonStringToMessage(p.value.text, &out);  // wrong_value looked before
  repack(out);
  return out;
}

bool replaced_whole(const pb::Descriptor* d) {
  return d->file()->name() == "google/protobuf/wrappers.proto" || d->full_name() == "google.protobuf.Duration" ||
         d->full_name() == "google.protobuf.Any";
}

void merge(const pb::Message& from, pb::Message& to) {
  const auto* reflection = from.GetReflection();
  std::vector<const pb::FieldDescriptor*> fields;
  reflection->ListFields(from, &fields);
  for (const auto* f : fields) {
    if (!f->is_repeated() && f->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      const pb::Message& part = reflection->GetMessage(from, f);
      pb::Message* into = to.GetReflection()->MutableMessage(&to, f);
      if (replaced_whole(part.GetDescriptor())) into->CopyFrom(part);
      else merge(part, *into);
      continue;
    }
    const std::unique_ptr<pb::Message> only(from.New());  // lists are appended, maps set, values set
    only->CopyFrom(from);
    for (const auto* other : fields)
      if (other != f) reflection->ClearField(only.get(), other);
    to.MergeFrom(*only);
  }
}

// The Any's message merged as a message; the name of the target's type stands.
void merge_any(const pb::Any& from, pb::Any& to) {
  const std::string name = to.type_url().substr(to.type_url().rfind('/') + 1);
  const auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName(name);
  if (d == nullptr) return;
  const auto* prototype = pb::MessageFactory::generated_factory()->GetPrototype(d);
  const std::unique_ptr<pb::Message> a(prototype->New()), b(prototype->New());
  if (!a->ParseFromString(to.value()) || !b->ParseFromString(from.value())) return;
  merge(*b, *a);
  to.set_value(a->SerializeAsString());
}

template <class F>
void merge_filter(const F& from, F& to) {
  if (!from.name().empty()) to.set_name(from.name());
  if (from.has_typed_config() && to.has_typed_config()) merge_any(from.typed_config(), *to.mutable_typed_config());
}

template <class T>
void merge_with_socket(const T& from, T& to) {
  if (from.has_transport_socket() && to.has_transport_socket() && from.transport_socket().name() == to.transport_socket().name())
    merge_any(from.transport_socket().typed_config(), *to.mutable_transport_socket()->mutable_typed_config());
  else merge(from, to);
}

template <class T>
void insert(pb::RepeatedPtrField<T>& list, int at, const T& item) {
  *list.Add() = item;
  for (int i = list.size() - 1; i > at; i--) list.SwapElements(i, i - 1);
}

// ADD, INSERT_*, REPLACE of one list: where `named`, beside the first that fits, else at an end.
template <class T>
void place(const Patch& p, pb::RepeatedPtrField<T>& list, bool named, const std::function<bool(const T&)>& fits) {
  const T item = value_of<T>(p);
  int found = -1;
  for (int i = 0; i < list.size() && found < 0; i++)
    if (fits(list[i])) found = i;
  if (p.operation == "ADD") insert(list, list.size(), item);
  else if (p.operation == "INSERT_FIRST") insert(list, 0, item);
  else if (p.operation == "INSERT_BEFORE" && !named) insert(list, 0, item);
  else if (p.operation == "INSERT_AFTER" && !named) insert(list, list.size(), item);
  else if (!named || found < 0) return;
  else if (p.operation == "INSERT_BEFORE") insert(list, found, item);
  else if (p.operation == "INSERT_AFTER") insert(list, found + 1, item);
  else if (p.operation == "REPLACE") list[found] = item;
}

template <class T>
void remove_if(pb::RepeatedPtrField<T>& list, const std::function<bool(const T&)>& gone) {
  for (int i = list.size() - 1; i >= 0; i--)
    if (gone(list[i])) list.DeleteSubrange(i, 1);
}

bool same_or_any(const Node& want, const std::string& have) { return want.str().empty() || want.str() == have; }

bool listener_fits(const Patch& p, const Listener& l) {
  const Node& m = p.match["listener"];
  return same_or_any(m["name"], l.name()) &&
         (m["portNumber"].integer() == 0 || m["portNumber"].integer() == l.address().socket_address().port_value());
}

bool chain_fits(const Patch& p, const FilterChain& c) {
  const Node& m = p.match["listener"]["filterChain"];
  const auto& match = c.filter_chain_match();
  const auto has = [](const auto& list, const std::string& x) { return std::find(list.begin(), list.end(), x) != list.end(); };
  if (!same_or_any(m["name"], c.name()) || !same_or_any(m["transportProtocol"], match.transport_protocol())) return false;
  if (!m["sni"].str().empty() && !has(match.server_names(), m["sni"].str())) return false;
  const std::string protocols = m["applicationProtocols"].str() + ",";
  for (size_t at = 0, end; (end = protocols.find(',', at)) != std::string::npos; at = end + 1)
    if (end > at && !has(match.application_protocols(), protocols.substr(at, end - at))) return false;
  return m["destinationPort"].integer() == 0 || m["destinationPort"].integer() == match.destination_port().value();
}

struct Patches {
  const std::vector<Patch>& all;
  template <class Do>
  void each(std::string_view apply_to, Do what) const {
    for (const Patch& p : all)
      if (p.apply_to == apply_to) what(p);
  }
};

void patch_http_filters(const Patches& patches, const Listener& l, const FilterChain& c, Filter& hcm_filter) {
  HttpConnectionManager hcm;
  if (!hcm_filter.typed_config().UnpackTo(&hcm)) return;
  bool any = false;
  const auto selected = [&](const Patch& p) {
    const Node& name = p.match["listener"]["filterChain"]["filter"]["name"];
    return listener_fits(p, l) && chain_fits(p, c) && same_or_any(name, hcm_filter.name());
  };
  const auto sub = [](const Patch& p) -> const Node& { return p.match["listener"]["filterChain"]["filter"]["subFilter"]; };
  patches.each("HTTP_FILTER", [&](const Patch& p) {
    if (!selected(p)) return;
    any = true;
    place<HttpFilter>(p, *hcm.mutable_http_filters(), !sub(p).null(),
                      [&](const HttpFilter& f) { return sub(p)["name"].str() == f.name(); });
  });
  patches.each("HTTP_FILTER", [&](const Patch& p) {
    if (!selected(p)) return;
    const auto fits = [&](const HttpFilter& f) { return sub(p).null() || sub(p)["name"].str() == f.name(); };
    if (p.operation == "REMOVE") remove_if<HttpFilter>(*hcm.mutable_http_filters(), fits);
    if (p.operation == "MERGE")
      for (HttpFilter& f : *hcm.mutable_http_filters())
        if (fits(f)) merge_filter(value_of<HttpFilter>(p), f);
  });
  if (any) hcm_filter.mutable_typed_config()->set_value(hcm.SerializeAsString());
}

void patch_chain(const Patches& patches, const Listener& l, FilterChain& c) {
  const auto named = [](const Patch& p) -> const Node& { return p.match["listener"]["filterChain"]["filter"]; };
  patches.each("NETWORK_FILTER", [&](const Patch& p) {
    if (listener_fits(p, l) && chain_fits(p, c))
      place<Filter>(p, *c.mutable_filters(), !named(p).null(), [&](const Filter& f) { return named(p)["name"].str() == f.name(); });
  });
  patches.each("NETWORK_FILTER", [&](const Patch& p) {
    if (!listener_fits(p, l) || !chain_fits(p, c)) return;
    const auto fits = [&](const Filter& f) { return named(p).null() || named(p)["name"].str() == f.name(); };
    if (p.operation == "REMOVE") remove_if<Filter>(*c.mutable_filters(), fits);
    if (p.operation == "MERGE")
      for (Filter& f : *c.mutable_filters())
        if (fits(f)) merge_filter(value_of<Filter>(p), f);
  });
  for (Filter& f : *c.mutable_filters())
    if (f.name() == kHcm) patch_http_filters(patches, l, c, f);
}

// False: the listener is removed.
bool patch_listener(const Patches& patches, Listener& l) {
  bool removed = false;
  patches.each("LISTENER", [&](const Patch& p) {
    if (!listener_fits(p, l)) return;
    removed |= p.operation == "REMOVE";
    if (p.operation == "MERGE") merge(value_of<Listener>(p), l);
  });
  if (removed) return false;
  patches.each("FILTER_CHAIN", [&](const Patch& p) {
    if (!listener_fits(p, l)) return;
    const auto fits = [&](const FilterChain& c) { return chain_fits(p, c); };
    if (p.operation == "REMOVE") remove_if<FilterChain>(*l.mutable_filter_chains(), fits);
    if (p.operation == "MERGE")
      for (FilterChain& c : *l.mutable_filter_chains())
        if (fits(c)) merge_with_socket(value_of<FilterChain>(p), c);
  });
  for (FilterChain& c : *l.mutable_filter_chains()) patch_chain(patches, l, c);
  patches.each("FILTER_CHAIN", [&](const Patch& p) {
    if (p.operation == "ADD" && listener_fits(p, l)) *l.add_filter_chains() = value_of<FilterChain>(p);
  });
  patches.each("LISTENER_FILTER", [&](const Patch& p) {
    if (!listener_fits(p, l)) return;
    const std::string& name = p.match["listener"]["listenerFilter"].str();
    const auto fits = [&](const ListenerFilter& f) { return name == f.name(); };
    if (p.operation == "REMOVE") remove_if<ListenerFilter>(*l.mutable_listener_filters(), fits);
    else place<ListenerFilter>(p, *l.mutable_listener_filters(), !name.empty(), fits);
  });
  return true;
}

// "https.PORT.NAME.GATEWAY.NAMESPACE" or "http.PORT".
struct RouteName {
  int64_t port = 0;
  std::string port_name, gateway;
  explicit RouteName(const std::string& name) {
    std::vector<std::string> parts;
    for (size_t at = 0; at <= name.size();) {
      const size_t end = std::min(name.find('.', at), name.size());
      parts.push_back(name.substr(at, end - at));
      at = end + 1;
    }
    if (parts.size() > 1) port = std::strtoll(parts[1].c_str(), nullptr, 10);
    if (parts.size() == 5) port_name = parts[2], gateway = parts[4] + "/" + parts[3];
  }
};

bool routes_fit(const Patch& p, const RouteConfiguration& rc) {
  const Node& m = p.match["routeConfiguration"];
  const RouteName name(rc.name());
  return same_or_any(m["name"], rc.name()) && (m["portNumber"].integer() == 0 || m["portNumber"].integer() == name.port) &&
         same_or_any(m["portName"], name.port_name) && same_or_any(m["gateway"], name.gateway);
}

bool host_fits(const Patch& p, const VirtualHost& h) {
  const Node& m = p.match["routeConfiguration"]["vhost"];
  const std::string& domain = m["domainName"].str();
  return same_or_any(m["name"], h.name()) &&
         (domain.empty() || std::find(h.domains().begin(), h.domains().end(), domain) != h.domains().end());
}

bool route_fits(const Patch& p, const Route& r) {
  const Node& m = p.match["routeConfiguration"]["vhost"]["route"];
  const std::string& action = m["action"].str();
  return same_or_any(m["name"], r.name()) &&
         (action.empty() || action == "ANY" || (action == "ROUTE" && r.has_route()) || (action == "REDIRECT" && r.has_redirect()) ||
          (action == "DIRECT_RESPONSE" && r.has_direct_response()));
}

void patch_host(const Patches& patches, const RouteConfiguration& rc, VirtualHost& h) {
  patches.each("HTTP_ROUTE", [&](const Patch& p) {
    if (!routes_fit(p, rc) || !host_fits(p, h)) return;
    const auto fits = [&](const Route& r) { return route_fits(p, r); };
    const bool named = !p.match["routeConfiguration"]["vhost"]["route"].null();
    if (p.operation == "REMOVE") remove_if<Route>(*h.mutable_routes(), fits);
    else if (p.operation == "REPLACE") return;
    else if (p.operation != "MERGE") place<Route>(p, *h.mutable_routes(), named, fits);
    else
      for (Route& r : *h.mutable_routes())
        if (fits(r)) merge(value_of<Route>(p), r);
  });
}

void patch_routes(const Patches& patches, RouteConfiguration& rc) {
  patches.each("ROUTE_CONFIGURATION", [&](const Patch& p) {
    if (p.operation == "MERGE" && routes_fit(p, rc)) merge(value_of<RouteConfiguration>(p), rc);
  });
  patches.each("VIRTUAL_HOST", [&](const Patch& p) {
    if (!routes_fit(p, rc)) return;
    const auto fits = [&](const VirtualHost& h) { return host_fits(p, h); };
    if (p.operation == "REMOVE") remove_if<VirtualHost>(*rc.mutable_virtual_hosts(), fits);
    if (p.operation == "MERGE")
      for (VirtualHost& h : *rc.mutable_virtual_hosts())
        if (fits(h)) merge(value_of<VirtualHost>(p), h);
  });
  for (VirtualHost& h : *rc.mutable_virtual_hosts()) patch_host(patches, rc, h);
  patches.each("VIRTUAL_HOST", [&](const Patch& p) {
    if (p.operation == "ADD" && routes_fit(p, rc)) *rc.add_virtual_hosts() = value_of<VirtualHost>(p);
  });
}

bool cluster_fits(const Patch& p, const Cluster& c) {
  const Node& m = p.match["cluster"];
  if (m.null()) return true;
  if (!m["name"].str().empty()) return m["name"].str() == c.name();
  std::vector<std::string> parts;  // outbound|PORT|SUBSET|HOST
  for (size_t at = 0; at <= c.name().size();) {
    const size_t end = std::min(c.name().find('|', at), c.name().size());
    parts.push_back(c.name().substr(at, end - at));
    at = end + 1;
  }
  parts.resize(4);
  return same_or_any(m["subset"], parts[2]) && same_or_any(m["service"], parts[3]) &&
         (m["portNumber"].integer() == 0 || std::to_string(m["portNumber"].integer()) == parts[1]);
}

void patch_clusters(const Patches& patches, Messages& clusters) {
  patches.each("CLUSTER", [&](const Patch& p) {
    std::erase_if(clusters, [&](const auto& c) { return p.operation == "REMOVE" && cluster_fits(p, static_cast<Cluster&>(*c.second)); });
  });
  for (auto& [name, c] : clusters)
    patches.each("CLUSTER", [&](const Patch& p) {
      if (p.operation == "MERGE" && cluster_fits(p, static_cast<Cluster&>(*c)))
        merge_with_socket(value_of<Cluster>(p), static_cast<Cluster&>(*c));
    });
  patches.each("CLUSTER", [&](const Patch& p) {
    if (p.operation != "ADD") return;
    auto added = std::make_unique<Cluster>(value_of<Cluster>(p));
    clusters.try_emplace(added->name(), std::move(added));
  });
}

std::unique_ptr<pb::Message> message_for(const std::string& apply_to) {
  if (apply_to == "LISTENER") return std::make_unique<Listener>();
  if (apply_to == "FILTER_CHAIN") return std::make_unique<FilterChain>();
  if (apply_to == "NETWORK_FILTER") return std::make_unique<Filter>();
  if (apply_to == "HTTP_FILTER") return std::make_unique<HttpFilter>();
  if (apply_to == "LISTENER_FILTER") return std::make_unique<ListenerFilter>();
  if (apply_to == "ROUTE_CONFIGURATION") return std::make_unique<RouteConfiguration>();
  if (apply_to == "VIRTUAL_HOST") return std::make_unique<VirtualHost>();
  if (apply_to == "HTTP_ROUTE") return std::make_unique<Route>();
  return std::make_unique<Cluster>();
}

}  // namespace

std::string wrong_value(const Patch& p) {
  if (p.operation == "REMOVE" || p.value.text == "null") return {};
  const auto status = pb::util::JsonStringToMessage(p.value.text, message_for(p.apply_to).get());
  return status.ok() ? "" : std::string(status.message());
}

std::expected<void, std::string> apply_patches(const std::vector<Patch>& all, Messages& clusters, Messages& listeners, Messages& routes) {
  if (all.empty()) return {};
  for (const Patch& p : all)
    if (const std::string wrong = wrong_value(p); !wrong.empty()) return std::unexpected("EnvoyFilter, " + p.apply_to + ": " + wrong);
  const Patches patches{all};
  std::erase_if(listeners, [&](auto& l) { return !patch_listener(patches, static_cast<Listener&>(*l.second)); });
  patches.each("LISTENER", [&](const Patch& p) {
    if (p.operation != "ADD") return;
    auto added = std::make_unique<Listener>(value_of<Listener>(p));
    listeners.try_emplace(added->name(), std::move(added));
  });
  for (auto& [name, rc] : routes) patch_routes(patches, static_cast<RouteConfiguration&>(*rc));
  patch_clusters(patches, clusters);
  return {};
}

}  // namespace sluice::plane
