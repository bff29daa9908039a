// What a field of each kind may be: one table (schema.inc), one walk. It tells unknown fields (with the nearest known one), wrong types,
// ranges, missing fields and what is known but not translated, each at its place; and gives every field its camelCase name. What holds
// between fields is in rules.h. Thread: any; the table is built once.
#pragma once
#include "ctrl/plane/yaml.h"

namespace sluice::plane {

bool is_kind(std::string_view kind);
// REQUIRES: is_kind(kind). `name` is what messages call the node ("spec").
void check_schema(Node& node, std::string_view kind, const std::string& path, std::vector<Issue>& issues);

// What sluice-control does with each field of schema.inc, in its order: translated, inert (checked, no effect on a gateway) or refused.
struct FieldVerdict {
  std::string message, field;
  std::string_view verdict;
};
std::vector<FieldVerdict> field_verdicts();

// Go's durations: "1h30m", "250ms", "1.5s". Nanoseconds, or nothing.
std::optional<int64_t> parse_duration(std::string_view s);
// proto3 JSON of a duration: "0.250s", "3s".
std::string duration_json(int64_t ns);

}  // namespace sluice::plane
