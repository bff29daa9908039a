#include "ctrl/plane/json.h"

namespace sluice::plane {

Json typed(std::string_view type, const Object& config) {
  const std::string fields = Json(config).text;
  const std::string head = "{\"@type\":" + json_quoted("type.googleapis.com/" + std::string(type));
  return Json::raw(config.empty() ? head + "}" : head + "," + fields.substr(1));
}

Json extension(std::string_view name, std::string_view type, const Object& config) {
  return Object{{"name", name}, {"typedConfig", typed(type, config)}};
}

}  // namespace sluice::plane
