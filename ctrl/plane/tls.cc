// Secrets by name and the TLS contexts that use them. Files and the workload's identity come from the gateway's own agent (cluster
// sds-grpc); the identity is waited for, files have Envoy's 15 s. A credentialName is asked of the control plane (ADS).
#include <algorithm>

#include "ctrl/plane/view.h"

namespace sluice::plane {
namespace {

constexpr std::string_view kTls = "envoy.extensions.transport_sockets.tls.v3.";

Json exact_names(const std::vector<std::string>& names) {
  Array out;
  for (const std::string& n : names) out.add(Object{{"exact", n}});
  return out;
}

Json combined(const Object& check, const Json& secret) {
  return Object{{"defaultValidationContext", check}, {"validationContextSdsSecretConfig", secret}};
}

Object identity_check(const std::vector<std::string>& names) {
  Object check;
  return check.set_if(!names.empty(), "matchSubjectAltNames", exact_names(names));
}

Object server_params(const Node& tls) {
  Object params;
  for (const auto& [from, to] :
       {std::pair("minProtocolVersion", "tlsMinimumProtocolVersion"), std::pair("maxProtocolVersion", "tlsMaximumProtocolVersion")})
    if (tls[from] && tls[from].str() != "TLS_AUTO") params.set(to, "TLSv" + tls[from].str().substr(4));
  std::vector<std::string> suites;
  for (const std::string& s : tls["cipherSuites"].list())
    if (std::find(suites.begin(), suites.end(), s) == suites.end()) suites.push_back(s);
  return params.set_if(!suites.empty(), "cipherSuites", strings(suites));
}

// Certificates and client validation by credentialName(s).
void add_credentials(const Node& tls, bool mutual, Object& common) {
  std::vector<std::string> names = tls["credentialNames"].list();
  if (names.empty()) names = {tls["credentialName"].str()};
  Array certificates;
  for (const std::string& n : names) certificates.add(credential_secret(n));
  common.set("tlsCertificateSdsSecretConfigs", certificates);
  Object check = identity_check(tls["subjectAltNames"].list());
  if (mutual) {
    for (const char* f : {"verifyCertificateSpki", "verifyCertificateHash"})
      if (!tls[f].items.empty()) check.set(f, strings(tls[f].list()));
    common.set("combinedValidationContext",
               combined(check, credential_secret(tls["caCertCredentialName"] ? tls["caCertCredentialName"].str() : names[0] + "-cacert")));
  } else if (!check.empty()) {
    common.set("validationContext", check);
  }
}

void add_files(const Node& tls, bool istio, bool validate, Object& common) {
  Array certificates;
  if (istio) certificates.add(secret("default"));
  else if (tls["tlsCertificates"].items.empty())
    certificates.add(secret("file-cert:" + tls["serverCertificate"].str() + "~" + tls["privateKey"].str()));
  else
    for (const Node& c : tls["tlsCertificates"].items)
      certificates.add(secret("file-cert:" + c["serverCertificate"].str() + "~" + c["privateKey"].str()));
  common.set("tlsCertificateSdsSecretConfigs", certificates);
  if (!validate) return;
  Object check = identity_check(tls["subjectAltNames"].list());
  if (tls["caCrl"]) check.set("crl", Object{{"filename", tls["caCrl"].str()}});
  const bool root = istio || tls["caCertificates"].str().empty();
  common.set("combinedValidationContext", combined(check, secret(root ? "ROOTCA" : "file-root:" + tls["caCertificates"].str())));
}

}  // namespace

Json secret(const std::string& name) {
  Object config{{"apiConfigSource", Object{{"apiType", "GRPC"},
                                           {"transportApiVersion", "V3"},
                                           {"grpcServices", Array{Object{{"envoyGrpc", Object{{"clusterName", "sds-grpc"}}}}}},
                                           {"setNodeOnFirstMessageOnly", true}}}};
  config.set_if(name == "default" || name == "ROOTCA", "initialFetchTimeout", "0s").set("resourceApiVersion", "V3");
  return Object{{"name", name}, {"sdsConfig", config}};
}

Json credential_secret(const std::string& name) {
  if (name == "builtin://") return secret("default");
  if (name == "builtin://-cacert") return secret("ROOTCA");
  const bool full = name.find("://") != std::string::npos;
  return Object{{"name", full ? name : "kubernetes://" + name}, {"sdsConfig", Object{{"ads", Object{}}, {"resourceApiVersion", "V3"}}}};
}

Json downstream_tls(const Server& s) {
  const Node& tls = (*s.node)["tls"];
  const bool istio = s.tls_mode == "ISTIO_MUTUAL", mutual = s.tls_mode == "MUTUAL" || s.tls_mode == "OPTIONAL_MUTUAL";
  const Object params = istio ? Object{} : server_params(tls);
  Object common;
  common.set_if(!params.empty(), "tlsParams", params);
  if (!istio && (tls["credentialName"] || !tls["credentialNames"].items.empty())) add_credentials(tls, mutual, common);
  else add_files(tls, istio, istio || mutual, common);
  Array alpn;
  if (istio && s.protocol == "TLS") alpn.add("istio-peer-exchange");
  common.set("alpnProtocols", alpn.add("h2").add("http/1.1"));
  return extension("envoy.transport_sockets.tls", std::string(kTls) + "DownstreamTlsContext",
                   {{"commonTlsContext", common}, {"requireClientCertificate", istio || s.tls_mode == "MUTUAL"}});
}

Json istio_mutual_tls(const std::string& sni, const std::vector<std::string>& names, bool http2) {
  Array alpn{"istio-peer-exchange", "istio"};
  if (http2) alpn.add("h2");
  const Object common{{"tlsParams", Object{{"tlsMinimumProtocolVersion", "TLSv1_2"}, {"tlsMaximumProtocolVersion", "TLSv1_3"}}},
                      {"tlsCertificateSdsSecretConfigs", Array{secret("default")}},
                      {"combinedValidationContext", combined(identity_check(names), secret("ROOTCA"))},
                      {"alpnProtocols", alpn}};
  return extension("envoy.transport_sockets.tls", std::string(kTls) + "UpstreamTlsContext", {{"commonTlsContext", common}, {"sni", sni}});
}

Json originated_tls(const Node& tls, const std::vector<std::string>& service_names, bool http2) {
  const auto names = tls["subjectAltNames"].items.empty() ? service_names : tls["subjectAltNames"].list();
  const bool mutual = tls["mode"].str() == "MUTUAL", trusting = tls["insecureSkipVerify"].boolean();
  Object common{{"tlsParams", Object{{"tlsMinimumProtocolVersion", "TLSv1_2"}, {"tlsMaximumProtocolVersion", "TLSv1_3"}}}};
  Object check = identity_check(names);
  if (const std::string& credential = tls["credentialName"].str(); !credential.empty()) {
    common.set("tlsCertificateSdsSecretConfigs", Array{credential_secret(credential)});
    if (!trusting) common.set("combinedValidationContext", combined(check, credential_secret(credential + "-cacert")));
  } else {
    if (mutual)
      common.set("tlsCertificateSdsSecretConfigs",
                 Array{secret("file-cert:" + tls["clientCertificate"].str() + "~" + tls["privateKey"].str())});
    if (tls["caCrl"]) check.set("crl", Object{{"filename", tls["caCrl"].str()}});
    const std::string& ca = tls["caCertificates"].str();
    if (!trusting) common.set("combinedValidationContext", combined(check, secret("file-root:" + (ca.empty() ? "system" : ca))));
  }
  common.set_if(http2, "alpnProtocols", Array{"h2"});
  Object context{{"commonTlsContext", common}};
  if (!tls["sni"].str().empty()) context.set("sni", tls["sni"].str());
  return extension("envoy.transport_sockets.tls", std::string(kTls) + "UpstreamTlsContext", context);
}

}  // namespace sluice::plane
