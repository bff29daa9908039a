// The answer of `sluicectl check` in the form that was asked for. Pure.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ctrl/plane/issue.h"

namespace sluice::cli {

enum class Format : uint8_t { kText, kJson, kSarif, kGithub };
std::optional<Format> format_of(std::string_view name);

// kJson: {"objects", "errors": [...], "warnings": [...]}. kSarif: SARIF 2.1.0, as GitHub's code scanning takes it (ruleId, level, message,
// one physical location with line and column, at most kSarifResultsMax results). kGithub: a workflow command a line, errors first.
// kText: what a person reads, errors first.
constexpr size_t kSarifResultsMax = 25'000;  // GitHub refuses more in one run
std::string report(Format f, std::vector<plane::Issue> issues, size_t objects);

}  // namespace sluice::cli
