// Matchers, rules and actions in words: for the reader of `explain`, and to tell whether two of them are the same (`diff`). Pure.
#pragma once
#include <string>
#include <string_view>

#include "dataplane/tables/tables.h"

namespace sluice::explain {

std::string quoted(std::string_view s);
std::string words(const tables::StringMatch& m);  // "begins with '/api'"
std::string words(const tables::HeaderMatch& m);
std::string words(const tables::RouteMatch& m);       // the path only
std::string conditions(const tables::RouteMatch& m);  // ", x-tier is 'gold', query v is present": what is asked besides the path
std::string words(const tables::Permission& p);       // the whole tree
std::string words(const tables::Principal& p);
std::string action_words(const tables::Route& r);  // where it goes, with what is rewritten

}  // namespace sluice::explain
