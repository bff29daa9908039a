// Certificates that the directory holds (Secrets) or names (files, where they can be read): ended, not begun, for other hosts, without
// their key. What cannot be read is not known, and no reason for a warning, but in a secrets.dir that was named.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "ctrl/plane/gateway_api_world.h"
#include "ctrl/plane/known.h"
#include "ctrl/plane/view.h"
#include "tls-offload/pem_pair.h"

namespace sluice::plane {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;  // as the gateway's agent has it
constexpr size_t kFilesReadMax = 10'000;

std::optional<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // no waiting for a FIFO's other end
  if (fd < 0) return {};
  struct stat st;
  std::optional<std::string> out;
  if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && size_t(st.st_size) <= kFileBytesMax) {
    out.emplace(size_t(st.st_size), '\0');
    const ssize_t n = ::read(fd, out->data(), out->size());
    if (n < 0) out.reset();
    else out->resize(size_t(n));
  }
  ::close(fd);
  return out;
}

std::string time_text(int64_t us) {
  const time_t t = time_t(us / 1'000'000);
  tm parts{};
  char text[32];
  gmtime_r(&t, &parts);
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

// RFC 6125 6.4.3: a wildcard stands for one whole label. A wildcard host needs the same wildcard.
bool is_for(const std::vector<std::string>& names, const std::string& host) {
  const std::string h = lower(host), behind = h.find('.') == h.npos ? "" : h.substr(h.find('.'));
  return std::ranges::any_of(names, [&](const std::string& n) {
    const std::string name = lower(n);
    return name == h || (name.starts_with("*.") && name.substr(1) == behind);
  });
}

struct CertificateCheck {
  const Known& k;
  Warnings& out;
  int64_t now_us;
  std::map<std::string, const Config*> secrets = {};  // by "ns/name"
  std::map<std::string, std::vector<const Config*>> secrets_by_name = {};
  std::map<std::string, std::optional<std::string>> files = {};

  const std::optional<std::string>& file(const std::string& path) {
    static const std::optional<std::string> kNone;
    const auto at = files.find(path);
    if (at != files.end()) return at->second;
    if (files.size() >= kFilesReadMax || path.empty()) return kNone;
    return files[path] = read_file(path);
  }

  void times(const Config& c, const Node& at, const std::string& what, const std::string& pem) {
    const auto all = tls::pem_certificates(pem);
    if (!all) return out.add(c, at, "bad-certificate", what + " " + all.error(), "PEM, the certificate first, then its chain");
    for (size_t i = 0; i < all->size(); i++) {
      const tls::PemCertificate& x = (*all)[i];
      const std::string which = i == 0 ? what : what + ": certificate " + std::to_string(i + 1) + " of the chain, " + x.subject + ",";
      if (x.not_after_us < now_us)
        out.add(c, at, "expired-certificate", which + " has expired: it ended at " + time_text(x.not_after_us), "renew it");
      else if (x.not_before_us > now_us)
        out.add(c, at, "certificate-not-yet-valid", which + " is not yet valid: it begins at " + time_text(x.not_before_us),
                "look at the clock of who signed it, or wait");
    }
  }
  // Of a trust bundle one that is good is enough: roots overlap while they are changed.
  void roots(const Config& c, const Node& at, const std::string& what, const std::string& pem) {
    const auto all = tls::pem_certificates(pem);
    if (!all) return out.add(c, at, "bad-certificate", what + " " + all.error(), "PEM, one or more certificates");
    const auto good = [&](const tls::PemCertificate& x) { return x.not_before_us <= now_us && now_us <= x.not_after_us; };
    if (std::ranges::none_of(*all, good))
      out.add(c, at, "expired-certificate",
              what + ": none of its roots is valid now; the first ended at " + time_text((*all)[0].not_after_us), "renew it");
  }
  void names(const Config& c, const Node& at, const std::string& host, const std::string& what, const std::string& pem) {
    const auto all = tls::pem_certificates(pem);
    if (!all || host == "*" || host.empty() || is_for((*all)[0].dns, host)) return;
    std::string has;
    for (size_t i = 0; i < (*all)[0].dns.size() && i < 5; i++) has += (i == 0 ? "" : ", ") + (*all)[0].dns[i];
    out.add(c, at, "certificate-for-other-host",
            what + " is not for " + host + ": it is for " + (has.empty() ? "no host name (it has no DNS SAN)" : has),
            "take a certificate with the SAN " + host + ", or other hosts");
  }

  // The hosts of an Istio server, each at its place.
  void hosts(const Config& c, const Node& server, const std::string& what, const std::string& pem) {
    for (const Node& h : server["hosts"].items) names(c, h, h.str().substr(h.str().find('/') + 1), what, pem);
  }
  void pair(const Config& c, const Node& server, const Node& tls, const char* cert_field, const char* key_field) {
    const Node &cert = tls[cert_field], &key = tls[key_field];
    const auto& pem = file(cert.str());
    if (!pem) return;
    const std::string what = "the certificate in " + cert.str();
    times(c, cert, what, *pem);
    if (!tls::pem_certificates(*pem)) return;
    hosts(c, server, what, *pem);
    if (const auto& key_pem = file(key.str()); key_pem)
      if (const auto wrong = tls::pair_error(*pem, *key_pem))
        out.add(c, key, "bad-certificate", "the key in " + key.str() + " is not that of " + cert.str() + ": " + *wrong,
                "name the key that belongs to the certificate");
  }
  void root_file(const Config& c, const Node& ca) {
    if (const auto& pem = file(ca.str()); pem) roots(c, ca, "the bundle " + ca.str(), *pem);
  }

  static std::string certificate_in(const Config& secret) {
    const auto data = data_of(secret);
    for (const char* key : {"tls.crt", "cert"})
      if (const auto at = data.find(key); at != data.end()) return at->second;
    return {};
  }
  const Config* secret(const std::string& ns, const std::string& name) const {
    const auto at = secrets.find(ns + "/" + name);
    return at == secrets.end() ? nullptr : at->second;
  }
  // The certificate of a Secret by its name: the directory's, else that of secrets.dir.
  std::optional<std::string> by_name(const Config& c, const Node& at, const std::string& ns, const std::string& name,
                                     const Config* in_world, std::string& what) {
    if (in_world != nullptr) {
      what = "the certificate of Secret " + in_world->ns + "/" + in_world->name;
      const std::string pem = certificate_in(*in_world);
      return pem.empty() ? std::nullopt : std::optional(pem);
    }
    if (k.options.secrets_dir.empty() || name.find("..") != name.npos || ns.find("..") != ns.npos || name.find('/') != name.npos) return {};
    for (const std::string& folder : {k.options.secrets_dir + "/" + ns + "/" + name, k.options.secrets_dir + "/" + name})
      if (const auto& pem = file(folder + "/tls.crt"); pem) {
        what = "the certificate in " + folder + "/tls.crt";
        times(c, at, what, *pem);
        return pem;
      }
    out.add(c, at, "unknown-secret", "there is no " + name + "/tls.crt in " + k.options.secrets_dir + ": this listener stays shut",
            "put tls.crt and tls.key there");
    return {};
  }

  void istio_gateway(const Config& g) {
    for (const Node& s : g.spec()["servers"].items) {
      const Node& tls = s["tls"];
      if (tls.null()) continue;
      std::vector<const Node*> names_of_secrets;
      if (tls["credentialName"]) names_of_secrets.push_back(&tls["credentialName"]);
      for (const Node& n : tls["credentialNames"].items) names_of_secrets.push_back(&n);
      for (const Node* n : names_of_secrets) {
        const Config* found = secret(g.ns, n->str());
        if (found == nullptr) found = secret(k.world.mesh.root_namespace, n->str());
        if (const auto all = secrets_by_name.find(n->str()); found == nullptr && all != secrets_by_name.end() && all->second.size() == 1)
          found = all->second[0];
        std::string what;
        if (const auto pem = by_name(g, *n, g.ns, n->str(), found, what)) hosts(g, s, what, *pem);
        if (found != nullptr)
          if (const auto wrong = certificate_error(*found))
            out.add(g, *n, "bad-certificate", "Secret " + found->ns + "/" + found->name + ": " + *wrong,
                    "a Secret of type kubernetes.io/tls");
      }
      if (!names_of_secrets.empty()) continue;
      if (tls["serverCertificate"]) pair(g, s, tls, "serverCertificate", "privateKey");
      for (const Node& p : tls["tlsCertificates"].items) pair(g, s, p, "serverCertificate", "privateKey");
      if (tls["caCertificates"]) root_file(g, tls["caCertificates"]);
    }
  }
  void kubernetes_gateway(const Config& g) {
    for (const Node& l : g.spec()["listeners"].items)
      for (const Node& ref : l["tls"]["certificateRefs"].items) {
        const ApiRef r = api_ref(ref, "", "Secret", g.ns);
        if (!r.is("", "Secret")) continue;
        std::string what;
        if (const auto pem = by_name(g, ref["name"], r.ns, r.name, secret(r.ns, r.name), what))
          if (l["hostname"]) names(g, l["hostname"], l["hostname"].str(), what, *pem);
      }
  }
  void client(const Config& c, const Node& tls) {
    if (tls.null()) return;
    if (tls["clientCertificate"]) pair(c, null_node(), tls, "clientCertificate", "privateKey");
    if (tls["caCertificates"]) root_file(c, tls["caCertificates"]);
  }
  void rule(const Config& d) {
    const auto policy = [&](const Node& p) {
      client(d, p["tls"]);
      for (const Node& port : p["portLevelSettings"].items) client(d, port["tls"]);
    };
    policy(d.spec()["trafficPolicy"]);
    for (const Node& s : d.spec()["subsets"].items) policy(s["trafficPolicy"]);
  }
};

}  // namespace

void check_certificates(const Known& k, Warnings& out) {
  using namespace std::chrono;
  const int64_t now =
      k.options.now_us != 0 ? k.options.now_us : duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
  CertificateCheck check{.k = k, .out = out, .now_us = now};
  for (const Config* s : k.world.of_kind("Secret")) {
    check.secrets[s->ns + "/" + s->name] = s;
    check.secrets_by_name[s->name].push_back(s);
    const std::string pem = CertificateCheck::certificate_in(*s);
    if (pem.find("-----BEGIN CERTIFICATE-----") == pem.npos) continue;  // no TLS, or the Gateway that names it says what is wrong
    for (const char* map : {"data", "stringData"})
      for (const char* key : {"tls.crt", "cert"})
        if (const Node& at = s->document[map][key]; at) {
          check.times(*s, at, "the certificate", pem);
          break;
        }
  }
  for (const Config* g : k.world.of_kind("Gateway"))
    if (!g->derived) check.istio_gateway(*g);
  for (const Config* g : k.world.of_kind(kKubernetesGateway)) check.kubernetes_gateway(*g);
  for (const Config* d : k.world.of_kind("DestinationRule"))
    if (!d->derived) check.rule(*d);
}

}  // namespace sluice::plane
