// JSON that others wrote, such as an engine: nlohmann's library throws when it is asked for a type
// that is not there, so each value is asked for its type first. Included by .cc files alone.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace portfwd {

/// @return a value of no type if it is no JSON; without what lies deeper than eight levels, as
/// depth without end would cost memory
[[nodiscard]] nlohmann::json parse_json(std::string_view text);

/// @return null unless `object` is one and has it; lives as long as `object`
[[nodiscard]] const nlohmann::json& member(const nlohmann::json& object, const char* key);

/// @return "" unless it is there and a text
[[nodiscard]] std::string text_in(const nlohmann::json& object, const char* key);

}  // namespace portfwd
