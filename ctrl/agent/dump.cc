#include "ctrl/agent/dump.h"

#include <google/protobuf/util/json_util.h>

#include "ctrl/admin/endpoints.h"
#include "dataplane/base/json.h"
#include "envoy/admin/v3/config_dump.pb.h"
#include "tls-offload/certificate_info.h"

namespace sluice::agent {
namespace {
namespace admin = envoy::admin::v3;

std::string seconds(Usec age) {
  if (age == kNever) return "never";
  const uint64_t s = age / kSec;
  if (s < 120) return std::to_string(s) + "s ago";
  if (s < 7200) return std::to_string(s / 60) + "m ago";
  return std::to_string(s / 3600) + "h ago";
}

void set_time(google::protobuf::Timestamp* t, int64_t wall_us) {
  t->set_seconds(wall_us / 1'000'000);
  t->set_nanos(int32_t(wall_us % 1'000'000) * 1000);
}
void set_any(google::protobuf::Any* a, const DumpedResource& r) {
  a->set_type_url(std::string(xds::type_url(r.type)));
  a->set_value(r.bytes);
}
template <class Dynamic>
void set_failure(Dynamic* d, const DumpedRefusal& r) {
  d->mutable_error_state()->set_details(r.reason);
  d->set_client_status(admin::NACKED);
}

// One config of the dump, as JSON with its "@type". A resource that cannot be printed (an extension type that is not linked) is named
// instead.
std::string print(const google::protobuf::Message& m) {
  google::protobuf::Any any;
  any.PackFrom(m);
  std::string out;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (const auto ok = google::protobuf::util::MessageToJsonString(any, &out, options); !ok.ok()) return "";
  return out;
}

// Adds what print() takes; else the resource by name with the reason.
template <class Config, class Add>
std::string print_all(const std::vector<DumpedResource>& resources, const std::vector<DumpedRefusal>& refused, xds::Type type, Add add) {
  Config whole;
  for (const DumpedResource& r : resources) {
    if (r.type != type) continue;
    Config one;
    add(one, &r, nullptr);
    if (print(one).empty()) {
      const DumpedRefusal unprintable{type, r.name, "in force; holds an extension that this dump cannot print"};
      add(whole, nullptr, &unprintable);
    } else {
      whole.MergeFrom(one);
    }
  }
  for (const DumpedRefusal& r : refused)
    if (r.type == type) add(whole, nullptr, &r);
  return print(whole);
}

std::string utc(int64_t wall_us) {
  const time_t t = time_t(wall_us / 1'000'000);
  tm parts{};
  char text[32];
  gmtime_r(&t, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

std::string status_text(const AgentStatus& s) {
  std::string out = "node           " + s.node + "\n";
  if (s.control_plane == "files") out += "configuration  from files\n";
  else {
    out += "control plane  " + s.control_plane + (s.connected ? ", connected " : ", NOT connected, state since ") + seconds(s.state_age) +
           ", " + std::to_string(s.streams) + " streams\n";
    if (!s.connected && !s.last_error.empty()) out += "               last: " + s.last_error + "\n";
  }
  out += "snapshot       generation " + std::to_string(s.generation) + ", published " + seconds(s.published_age) + ", " +
         std::to_string(s.published) + " times\n";
  if (!s.kept_from.empty()) out += "kept           started from " + s.kept_from + "\n";
  if (s.kept_age != kNever) out += "kept           saved " + seconds(s.kept_age) + "\n";
  if (!s.kept_error.empty()) out += "kept           NOT saved: " + s.kept_error + "\n";
  if (!s.ca.empty()) {
    const CaStatus& c = s.certificate_of_ca;
    out += "ca             " + s.ca + ": " +
           (c.serial.empty() ? "NO certificate yet"
                             : "certificate " + c.serial + ", renewed at " + utc(c.renew_at_us) + ", ends " + utc(c.not_after_us)) +
           (c.watching ? ", trust is pushed" : ", trust is NOT pushed") + "\n";
    for (const std::string& e : {c.last_error, c.watch_error})
      if (!e.empty()) out += "               last: " + e + "\n";
  }
  out += "\ntype  held  wanted  missing  refused  acks  nacks  last response  version\n";
  for (const auto& t : s.types) {
    if (t.s.held == 0 && t.s.responses == 0 && t.s.wanted == 0) continue;
    char line[160];
    std::snprintf(line, sizeof line, "%-4s %5zu %7zu %8zu %8zu %5llu %6llu  %-13s  ", t.name.c_str(), t.s.held, t.s.wanted,
                  t.s.missing.size(), t.s.refused.size(), static_cast<unsigned long long>(t.s.acks),
                  static_cast<unsigned long long>(t.s.nacks), seconds(t.last_response_age).c_str());
    out += line + t.s.version + "\n";
  }
  for (const auto& t : s.types)
    for (const auto& name : t.s.missing) out += "missing        " + t.name + " " + name + "\n";
  if (!s.refused.empty()) out += "\n";
  for (const auto& r : s.refused)
    out += std::string(r.security ? "REFUSED (security) " : "REFUSED ") + r.type + " " + r.name + ": " + r.reason + "\n";
  for (const auto& [listener, waits] : s.shut)
    for (const auto& what : waits) out += "SHUT           listener " + listener + " waits for " + what + "\n";
  for (const auto& u : s.unusable) out += "UNUSABLE       " + u + "\n";
  for (const auto& [name, why] : s.secrets_missing) out += "secret         " + name + " " + why + "\n";
  for (const auto& c : s.certificates)
    out += (c.trusted ? "trust root     " : "certificate    ") + c.secret + " " + c.subject +
           (c.days_left < 0 ? ": EXPIRED" : ": " + std::to_string(c.days_left) + " days left") + "\n";
  for (const auto& [type, times] : s.ignored) out += "ignored        " + type + " x" + std::to_string(times) + "\n";
  return out;
}

std::string status_json(const AgentStatus& s) {
  auto age = [](Usec a) { return a == kNever ? std::string("null") : std::to_string(a / kMs); };
  std::string out = "{\"node\":" + json_quoted(s.node) + ",\"control_plane\":{\"address\":" + json_quoted(s.control_plane) +
                    ",\"connected\":" + (s.connected ? "true" : "false") + ",\"state_age_ms\":" + age(s.state_age) +
                    ",\"streams\":" + std::to_string(s.streams) + ",\"last_error\":" + json_quoted(s.last_error) + "}";
  out += ",\"snapshot\":{\"generation\":" + std::to_string(s.generation) + ",\"published\":" + std::to_string(s.published) +
         ",\"age_ms\":" + age(s.published_age) + "}";
  out += ",\"kept\":{\"from\":" + json_quoted(s.kept_from) + ",\"age_ms\":" + age(s.kept_age) + ",\"error\":" + json_quoted(s.kept_error) +
         "}";
  if (!s.ca.empty()) {
    const CaStatus& c = s.certificate_of_ca;
    out += ",\"ca\":{\"address\":" + json_quoted(s.ca) + ",\"serial\":" + json_quoted(c.serial) +
           ",\"not_after_us\":" + std::to_string(c.not_after_us) + ",\"renew_at_us\":" + std::to_string(c.renew_at_us) +
           ",\"issued\":" + std::to_string(c.issued) + ",\"failed\":" + std::to_string(c.failed) +
           ",\"pushed\":" + std::to_string(c.pushed) + ",\"watching\":" + (c.watching ? "true" : "false") +
           ",\"last_error\":" + json_quoted(c.last_error) + ",\"watch_error\":" + json_quoted(c.watch_error) + "}";
  }
  out += ",\"types\":{";
  const char* separator = "";
  for (const auto& t : s.types) {
    out += separator + json_quoted(t.name) + ":{\"held\":" + std::to_string(t.s.held) + ",\"wanted\":" + std::to_string(t.s.wanted) +
           ",\"missing\":[";
    for (size_t i = 0; i < t.s.missing.size(); i++) out += (i == 0 ? "" : ",") + json_quoted(t.s.missing[i]);
    out += "],\"acks\":" + std::to_string(t.s.acks) + ",\"nacks\":" + std::to_string(t.s.nacks) +
           ",\"applied\":" + std::to_string(t.s.applied) + ",\"unchanged\":" + std::to_string(t.s.unchanged) +
           ",\"last_response_age_ms\":" + age(t.last_response_age) + ",\"version\":" + json_quoted(t.s.version) + "}";
    separator = ",";
  }
  out += "},\"refused\":[";
  separator = "";
  for (const auto& r : s.refused) {
    out += separator + std::string("{\"type\":") + json_quoted(r.type) + ",\"name\":" + json_quoted(r.name) +
           ",\"reason\":" + json_quoted(r.reason) + ",\"security\":" + (r.security ? "true" : "false") + "}";
    separator = ",";
  }
  auto object = [&](const auto& map, auto value) {
    out += "{";
    const char* comma = "";
    for (const auto& [k, v] : map) {
      out += comma + json_quoted(k) + ":" + value(v);
      comma = ",";
    }
    out += "}";
  };
  out += "],\"certificates\":[";
  separator = "";
  for (const auto& c : s.certificates) {
    out += separator + std::string("{\"secret\":") + json_quoted(c.secret) + ",\"subject\":" + json_quoted(c.subject) +
           ",\"trusted\":" + (c.trusted ? "true" : "false") + ",\"days_left\":" + std::to_string(c.days_left) + "}";
    separator = ",";
  }
  out += "],\"unusable\":[";
  for (size_t i = 0; i < s.unusable.size(); i++) out += (i == 0 ? "" : ",") + json_quoted(s.unusable[i]);
  out += "],\"shut\":";
  object(s.shut, [](const std::vector<std::string>& waits) {
    std::string list = "[";
    for (size_t i = 0; i < waits.size(); i++) list += (i == 0 ? "" : ",") + json_quoted(waits[i]);
    return list + "]";
  });
  out += ",\"secrets_missing\":";
  object(s.secrets_missing, [](const std::string& why) { return json_quoted(why); });
  out += ",\"ignored\":";
  object(s.ignored, [](unsigned n) { return std::to_string(n); });
  return out + ",\"security_refused\":" + (s.security_refused() ? "true" : "false") + "}\n";
}

std::string certs_json(const std::vector<const compile::Secret*>& secrets, int64_t wall_us) {
  auto time = [](int64_t us) {
    const time_t t = time_t(us / 1'000'000);
    tm parts{};
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&t, &parts));
    return json_quoted(text);
  };
  std::string out = "{\"certificates\":[";
  const char* separator = "";
  for (const compile::Secret* s : secrets) {
    out += separator + std::string("{\"secret\":") + json_quoted(s->name);
    for (const bool trusted : {true, false}) {
      out += trusted ? ",\"ca_cert\":[" : ",\"cert_chain\":[";
      const auto infos = tls::certificates_of(trusted ? s->trusted_ca_pem : s->cert_chain_pem);
      const char* comma = "";
      for (const auto& c : infos ? *infos : std::vector<tls::CertificateInfo>{}) {
        const int64_t left = c.not_after_us - wall_us;
        out += comma + std::string("{\"subject\":") + json_quoted(c.subject) + ",\"serial_number\":" + json_quoted(c.serial) +
               ",\"subject_alt_names\":[";
        const char* san_comma = "";
        for (const auto& [kind, names] : {std::pair{"uri", &c.uri}, std::pair{"dns", &c.dns}})
          for (const auto& name : *names) {
            out += san_comma + std::string("{\"") + kind + "\":" + json_quoted(name) + "}";
            san_comma = ",";
          }
        out += "],\"days_until_expiration\":\"" + std::to_string(left < 0 ? 0 : left / 86'400'000'000) +
               "\",\"valid_from\":" + time(c.not_before_us) + ",\"expiration_time\":" + time(c.not_after_us) + "}";
        comma = ",";
      }
      out += "]";
    }
    out += "}";
    separator = ",";
  }
  return out + "]}\n";
}

std::string metrics_text(const AgentStatus& s) {
  sluice::admin::MetricsText m;
  auto one = [&m](std::string_view name, std::string_view type, std::string_view help, uint64_t value) {
    m.family(name, type, help);
    m.sample(name, {}, value);
  };
  auto of = [&s](xds::Type t) -> const xds::TypeStatus& { return s.types[size_t(t)].s; };
  one("envoy_control_plane_connected_state", "gauge", "1: the control plane has spoken on the open stream", s.connected ? 1 : 0);
  one("envoy_cluster_manager_cds_update_success", "counter", "CDS responses accepted", of(xds::Type::kCluster).acks);
  one("envoy_cluster_manager_cds_update_rejected", "counter", "CDS responses refused in part", of(xds::Type::kCluster).nacks);
  one("envoy_listener_manager_lds_update_success", "counter", "LDS responses accepted", of(xds::Type::kListener).acks);
  one("envoy_listener_manager_lds_update_rejected", "counter", "LDS responses refused in part", of(xds::Type::kListener).nacks);
  m.family("sluice_xds_resources", "gauge", "Resources by type and state");
  for (const auto& t : s.types) {
    m.sample("sluice_xds_resources", {{"type", t.name}, {"state", "held"}}, uint64_t(t.s.held));
    m.sample("sluice_xds_resources", {{"type", t.name}, {"state", "missing"}}, uint64_t(t.s.missing.size()));
    m.sample("sluice_xds_resources", {{"type", t.name}, {"state", "refused"}}, uint64_t(t.s.refused.size()));
  }
  m.family("sluice_xds_responses_total", "counter", "Responses by type and verdict");
  for (const auto& t : s.types) {
    m.sample("sluice_xds_responses_total", {{"type", t.name}, {"verdict", "ack"}}, t.s.acks);
    m.sample("sluice_xds_responses_total", {{"type", t.name}, {"verdict", "nack"}}, t.s.nacks);
  }
  one("sluice_xds_unsolicited_total", "counter", "Responses of types that were not asked for", s.unsolicited);
  one("sluice_xds_streams_total", "counter", "Streams opened to the control plane", s.streams);
  one("sluice_xds_security_refused", "gauge", "1: a security resource is refused, the last good one serves", s.security_refused() ? 1 : 0);
  m.family("xds_ignored_extension", "gauge", "Extensions accepted without effect, by type");
  for (const auto& [type, times] : s.ignored) m.sample("xds_ignored_extension", {{"type", type}}, uint64_t(times));
  one("sluice_snapshot_generation", "gauge", "Generation of the tables in force", s.generation);
  one("sluice_snapshots_published_total", "counter", "Snapshots published", s.published);
  one("sluice_listeners_shut", "gauge", "Listeners with chains that wait for a secret", s.shut.size());
  one("sluice_secrets_missing", "gauge", "Secrets that cannot be had", s.secrets_missing.size());
  m.family("sluice_certificate_expiration_timestamp_seconds", "gauge", "When the first of a secret's certificates ends");
  std::map<std::string, int64_t> first;
  for (const auto& c : s.certificates) {
    const auto it = first.try_emplace(c.secret, c.not_after_us).first;
    it->second = std::min(it->second, c.not_after_us);
  }
  for (const auto& [secret, us] : first)
    m.sample("sluice_certificate_expiration_timestamp_seconds", {{"secret", secret}}, uint64_t(us / 1'000'000));
  return m.text();
}

std::string config_dump(const std::vector<DumpedResource>& resources, const std::vector<DumpedRefusal>& refused, const DumpedSelf& self) {
  const std::string configs[] = {
      bootstrap_dump(self),
      print_all<admin::ClustersConfigDump>(resources, refused, xds::Type::kCluster,
                                           [](auto& config, const DumpedResource* r, const DumpedRefusal* f) {
                                             auto* d = config.add_dynamic_active_clusters();
                                             if (f != nullptr) return set_failure(d, *f);
                                             d->set_version_info(r->version);
                                             set_any(d->mutable_cluster(), *r);
                                             set_time(d->mutable_last_updated(), r->wall_us);
                                           }),
      print_all<admin::ListenersConfigDump>(resources, refused, xds::Type::kListener,
                                            [](auto& config, const DumpedResource* r, const DumpedRefusal* f) {
                                              auto* d = config.add_dynamic_listeners();
                                              d->set_name(f != nullptr ? f->name : r->name);
                                              if (f != nullptr) return set_failure(d, *f);
                                              d->mutable_active_state()->set_version_info(r->version);
                                              set_any(d->mutable_active_state()->mutable_listener(), *r);
                                              set_time(d->mutable_active_state()->mutable_last_updated(), r->wall_us);
                                            }),
      print_all<admin::RoutesConfigDump>(resources, refused, xds::Type::kRoute,
                                         [](auto& config, const DumpedResource* r, const DumpedRefusal* f) {
                                           auto* d = config.add_dynamic_route_configs();
                                           if (f != nullptr) return set_failure(d, *f);
                                           d->set_version_info(r->version);
                                           set_any(d->mutable_route_config(), *r);
                                           set_time(d->mutable_last_updated(), r->wall_us);
                                         }),
      print_all<admin::EndpointsConfigDump>(resources, refused, xds::Type::kEndpoint,
                                            [](auto& config, const DumpedResource* r, const DumpedRefusal* f) {
                                              auto* d = config.add_dynamic_endpoint_configs();
                                              if (f != nullptr) return set_failure(d, *f);
                                              d->set_version_info(r->version);
                                              set_any(d->mutable_endpoint_config(), *r);
                                              set_time(d->mutable_last_updated(), r->wall_us);
                                            }),
      secrets_dump(self),
  };
  std::string out = "{\"configs\":[";
  const char* separator = "";
  for (const auto& c : configs) {
    if (c.empty()) continue;
    out += separator + c;
    separator = ",";
  }
  return out + "]}\n";
}

}  // namespace sluice::agent
