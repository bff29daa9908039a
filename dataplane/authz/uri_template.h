// Envoy's URI templates (extensions.path.match.uri_template.v3), as RBAC's uri_template uses them and istiod writes them.
//
//   template = "/" *( segment "/" ) [ segment ] [ suffix ]
//   segment  = literal / operator / "{" name [ "=" var *( "/" var ) ] "}" / "{" operator "}"       ({*}, {**}: Istio's spelling)
//   operator = "*" (one segment, not empty) / "**" (any rest, "/" included)
//
// At most 5 variables, names of at most 16 characters, none twice; no glob after "**". The path is matched without query and fragment,
// whole, and only where a glob's part is of RFC 3986's pchar: Envoy's alphabet (its code says "without * and ="; asked, 1.37 takes both).
#pragma once
#include <expected>
#include <string>
#include <string_view>

namespace sluice::authz {

// The template as a regular expression for a full match, or what is wrong with it and where.
std::expected<std::string, std::string> regex_of_uri_template(std::string_view text);

}  // namespace sluice::authz
