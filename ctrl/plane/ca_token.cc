#include "ctrl/plane/ca_token.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "tls-offload/ca.h"

namespace sluice::plane {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;
std::unexpected<std::string> no(std::string why) { return std::unexpected(std::move(why)); }

std::expected<Struct, std::string> object_of(const std::string& json) {
  Struct s;
  if (!google::protobuf::util::JsonStringToMessage(json, &s).ok()) return no("is no JSON object");
  return s;
}
const Value& at(const Struct& s, const std::string& key) {
  const auto it = s.fields().find(key);
  return it == s.fields().end() ? Value::default_instance() : it->second;
}
std::string text(const Struct& s, const std::string& key) { return at(s, key).string_value(); }

std::expected<void, std::string> add_jwks(const Struct& set, tls::JwsKeys& keys) {
  for (const Value& v : at(set, "keys").list_value().values()) {
    const Struct& k = v.struct_value();
    if (const std::string use = text(k, "use"); !use.empty() && use != "sig") continue;
    const auto number = [&](const char* name) { return tls::from_base64url(text(k, name)).value_or(""); };
    const std::string type = text(k, "kty");
    std::expected<void, std::string> ok;
    if (type == "RSA") ok = keys.add_rsa(text(k, "kid"), number("n"), number("e"));
    else if (type == "EC" && text(k, "crv") == "P-256") ok = keys.add_p256(text(k, "kid"), number("x"), number("y"));
    if (!ok) return no("key '" + text(k, "kid") + "': " + ok.error());
  }
  if (keys.size() == 0) return no("holds no RSA or P-256 key");
  return {};
}

}  // namespace

std::expected<TokenVerifier, std::string> TokenVerifier::make(TokenOptions options) {
  if (options.issuer.empty() || options.audience.empty()) return no("tokens need an issuer and an audience that they must name");
  tls::JwsKeys keys;
  std::expected<void, std::string> ok;
  if (options.keys.find("-----BEGIN") != std::string::npos) {
    ok = keys.add_pem(options.keys);
  } else {
    const auto set = object_of(options.keys);
    ok = set ? add_jwks(*set, keys) : no("is neither a JWKS nor PEM");
  }
  if (!ok) return no(ok.error());
  return TokenVerifier(std::move(options), std::move(keys));
}

std::expected<std::string, std::string> TokenVerifier::verify(std::string_view token, int64_t wall_us) const {
  if (token.size() > kTokenBytesMax) return no("the token is larger than 16 KiB");
  const size_t one = token.find('.'), two = one == token.npos ? token.npos : token.find('.', one + 1);
  if (two == token.npos || token.find('.', two + 1) != token.npos) return no("the token is no JWT in compact form");
  const auto head = tls::from_base64url(token.substr(0, one)), body = tls::from_base64url(token.substr(one + 1, two - one - 1)),
             signature = tls::from_base64url(token.substr(two + 1));
  if (!head || !body || !signature) return no("the token is no JWT: base64url does not decode");
  const auto header = object_of(*head);
  if (!header) return no("the token's header " + header.error());
  if (header->fields().contains("crit")) return no("the token asks for extensions (crit) that are not known");  // RFC 7515 4.1.11
  if (!keys_.verify(text(*header, "alg"), text(*header, "kid"), token.substr(0, two), *signature))
    return no("the token is not signed by a key that is configured");
  const auto claims = object_of(*body);
  if (!claims) return no("the token's claims " + claims.error());
  if (text(*claims, "iss") != options_.issuer) return no("the token is of another issuer");
  const Value& aud = at(*claims, "aud");
  if (aud.string_value() != options_.audience &&
      std::ranges::none_of(aud.list_value().values(), [&](const Value& v) { return v.string_value() == options_.audience; }))
    return no("the token is for another audience");
  const double now_s = double(wall_us) / 1e6;
  const Value &exp = at(*claims, "exp"), &nbf = at(*claims, "nbf");
  if (exp.kind_case() != Value::kNumberValue) return no("the token says no end of its life (exp)");
  if (exp.number_value() + double(kTokenLeewayS) < now_s) return no("the token has expired");
  if (nbf.kind_case() != Value::KIND_NOT_SET &&
      (nbf.kind_case() != Value::kNumberValue || nbf.number_value() - double(kTokenLeewayS) > now_s))
    return no("the token is not valid yet");
  const std::string sub = text(*claims, "sub"), domain = "spiffe://" + options_.trust_domain + "/";
  constexpr std::string_view kAccount = "system:serviceaccount:";
  std::string identity;
  if (sub.starts_with(kAccount)) {
    const std::string rest = sub.substr(kAccount.size());
    const size_t colon = rest.find(':');
    if (colon != std::string::npos && rest.find_first_of(":/", colon + 1) == std::string::npos && rest.find('/') == std::string::npos)
      identity = domain + "ns/" + rest.substr(0, colon) + "/sa/" + rest.substr(colon + 1);
  } else if (sub.starts_with(domain)) {
    identity = sub;
  }
  if (!tls::is_spiffe_id(identity))
    return no("the token's subject is neither a service account nor an identity of " + options_.trust_domain);
  return identity;
}

}  // namespace sluice::plane
